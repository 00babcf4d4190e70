//! What a container may use, and the machine that it passes for.

use serde::{Deserialize, Serialize};

/// The bounds of one container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerLimits {
    /// Octets of memory, page cache included.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Octets of files besides the image's.
    pub disk: u64,
}

impl Default for ContainerLimits {
    fn default() -> ContainerLimits {
        ContainerLimits { memory: 512 << 20, processes: 512, cpu_milli: 1000, disk: 1 << 30 }
    }
}

/// What a topology says about the machine that a container passes for; what it does not say is chosen per template.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// Who made it (`sys_vendor` of DMI).
    pub vendor: Option<String>,
    /// What it is called (`product_name` of DMI).
    pub model: Option<String>,
    /// Its serial number; otherwise each host has one of its own.
    pub serial: Option<String>,
    /// The processors' name, as `/proc/cpuinfo` shows it.
    pub cpu: Option<String>,
    /// Logical processors.
    pub cpus: Option<u16>,
    /// Octets of memory.
    pub memory: Option<u64>,
    /// Octets of the disk.
    pub disk: Option<u64>,
}
