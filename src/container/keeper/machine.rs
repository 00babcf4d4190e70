//! The machine that a container passes for: what its topology says about it, and
//! for the rest one that fits the vendor of its MAC, chosen by the installation's
//! secret and the template, so that all hosts of a template are of one kind.

use std::fs;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::host::Host;
use crate::emulate::{Identity, Secret, Template};

/// What is fixed about the machine that all this runs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Here {
    /// `uname -r`
    pub release: String,
    /// What `/proc/version` says.
    pub version: String,
    /// Octets of memory.
    pub memory: u64,
    /// Octets of it that programs and the kernel hold and would not give back.
    pub held: u64,
    /// Logical processors that may be used.
    pub cpus: u16,
    /// `/proc/cpuinfo` of the first processor.
    pub cpuinfo: String,
}

impl Here {
    /// What the kernel says.
    pub fn look() -> Here {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let meminfo = read("/proc/meminfo");
        let of = |name: &str| {
            let figure = |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok();
            meminfo.lines().find_map(figure)
        };
        let total = of("MemTotal:").unwrap_or(1 << 20);
        let cpuinfo = read("/proc/cpuinfo");
        Here {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: read("/proc/version"),
            memory: total << 10,
            held: total.saturating_sub(of("MemAvailable:").unwrap_or(total)) << 10,
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u16),
            cpuinfo: cpuinfo.split("\n\n").next().unwrap_or_default().to_owned(),
        }
    }

    /// A line of `/proc/cpuinfo`.
    pub fn cpu(&self, key: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().is_some_and(|name| name.trim() == key);
        Some(self.cpuinfo.lines().find(named)?.split_once(':')?.1.trim())
    }
}

/// A processor, in the words of `/proc/cpuinfo`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cpu {
    /// `model name`
    pub name: String,
    /// `vendor_id`
    pub maker: String,
    /// `cpu family`
    pub family: u32,
    /// `model`
    pub model: u32,
    /// `stepping`
    pub stepping: u32,
    /// `cpu MHz`
    pub mhz: u32,
    /// `cache size`, in KiB.
    pub cache_kib: u32,
}

/// A kind of machine.
struct Make {
    /// Vendors of MACs that come with it.
    ouis: &'static [[u8; 3]],
    vendor: &'static str,
    models: &'static [&'static str],
    board: [&'static str; 2],
    bios: [&'static str; 3],
    chassis: [&'static str; 2],
    disk: [&'static str; 2],
    serial: Serial,
    is_virtual: bool,
}

#[derive(Clone, Copy)]
enum Serial {
    Vmware,
    /// Letters and digits after a prefix.
    Plain(&'static str, usize),
    Unsaid,
}

const MAKES: [Make; 6] = [
    Make {
        ouis: &[[0xb8, 0xca, 0x3a]],
        vendor: "Dell Inc.",
        models: &["PowerEdge R640", "PowerEdge R740", "PowerEdge R440"],
        board: ["Dell Inc.", "0H28RR"],
        bios: ["Dell Inc.", "2.19.1", "06/04/2023"],
        chassis: ["Dell Inc.", "23"],
        disk: ["DELL", "PERC H730P Mini"],
        serial: Serial::Plain("", 7),
        is_virtual: false,
    },
    Make {
        ouis: &[[0x3c, 0xd9, 0x2b]],
        vendor: "HPE",
        models: &["ProLiant DL360 Gen10", "ProLiant DL380 Gen10"],
        board: ["HPE", "ProLiant DL360 Gen10"],
        bios: ["HPE", "U32", "07/20/2023"],
        chassis: ["HPE", "23"],
        disk: ["HPE", "LOGICAL VOLUME"],
        serial: Serial::Plain("CZJ", 7),
        is_virtual: false,
    },
    Make {
        ouis: &[[0x54, 0xee, 0x75]],
        vendor: "Lenovo",
        models: &["ThinkSystem SR630 -[7X02CTO1WW]-", "ThinkSystem SR650 -[7X06CTO1WW]-"],
        board: ["Lenovo", "-[7X02CTO1WW]-"],
        bios: ["Lenovo", "-[IVE178E-3.10]-", "10/21/2022"],
        chassis: ["Lenovo", "23"],
        disk: ["Lenovo", "RAID 930-8i-2GB"],
        serial: Serial::Plain("J30", 5),
        is_virtual: false,
    },
    Make {
        ouis: &[[0x00, 0x25, 0x90]],
        vendor: "Supermicro",
        models: &["SYS-6019U-TN4RT", "SYS-1029P-WTR"],
        board: ["Supermicro", "X11DPU"],
        bios: ["American Megatrends Inc.", "3.4", "10/30/2020"],
        chassis: ["Supermicro", "1"],
        disk: ["ATA", "INTEL SSDSC2KB48"],
        serial: Serial::Plain("S2", 12),
        is_virtual: false,
    },
    Make {
        ouis: &[[0x52, 0x54, 0x00]],
        vendor: "QEMU",
        models: &["Standard PC (Q35 + ICH9, 2009)"],
        board: ["", ""],
        bios: ["SeaBIOS", "1.16.2-debian-1.16.2-1", "04/01/2014"],
        chassis: ["QEMU", "1"],
        disk: ["ATA", "QEMU HARDDISK"],
        serial: Serial::Unsaid,
        is_virtual: true,
    },
    Make {
        ouis: &[[0x00, 0x0c, 0x29], [0x00, 0x50, 0x56]],
        vendor: "VMware, Inc.",
        models: &["VMware Virtual Platform"],
        board: ["Intel Corporation", "440BX Desktop Reference Platform"],
        bios: ["Phoenix Technologies LTD", "6.00", "11/12/2020"],
        chassis: ["No Enclosure", "1"],
        disk: ["VMware", "Virtual disk"],
        serial: Serial::Vmware,
        is_virtual: true,
    },
];

/// Name, family, model, stepping, MHz, KiB of cache.
type CpuRow = (&'static str, u32, u32, u32, u32, u32);

const INTEL: [CpuRow; 3] = [
    ("Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz", 6, 85, 7, 2200, 14_080),
    ("Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz", 6, 85, 7, 2100, 28_160),
    ("Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz", 6, 79, 1, 2200, 30_720),
];
const AMD: [CpuRow; 2] = [
    ("AMD EPYC 7302 16-Core Processor", 23, 49, 0, 3000, 512),
    ("AMD EPYC 7282 16-Core Processor", 23, 49, 0, 2800, 512),
];

/// Sizes of disks, as they are sold.
const DISKS: [u64; 4] = [240, 480, 600, 960];

/// The machine of one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Who made it.
    pub vendor: String,
    /// What it is called.
    pub product: String,
    /// Its serial number; empty if it tells none.
    pub serial: String,
    /// Of the machine, and of its root file system.
    pub uuids: [String; 2],
    /// Of its boot.
    pub boot_id: String,
    /// Who made it and what it is called.
    pub board: [String; 2],
    /// Who made it, version and date.
    pub bios: [String; 3],
    /// Who made it, and its type in DMI's numbers.
    pub chassis: [String; 2],
    /// Its processors.
    pub cpu: Cpu,
    /// How many there are.
    pub cpus: u16,
    /// Octets, if it is not what this machine has.
    pub memory: Option<u64>,
    /// Octets of its disk, a multiple of 512.
    pub disk: u64,
    /// Who made it and what it is called.
    pub disk_model: [String; 2],
    /// Whether it is a virtual one.
    pub is_virtual: bool,
}

/// What tells these choices from others that follow from the same secret; `emulate` counts from 1.
const MACHINE: u8 = 0x40;
const NOBODY: u8 = 0x41;

impl Machine {
    /// The machine of `host`.
    pub fn of(host: &Host<'_>, secret: Secret, here: &Here) -> Machine {
        Machine::of_template(host.template, host.identity.machine_id(host.ip), secret, here)
    }

    /// The machine of a container of `template` that is made before its host is known, with number `number`.
    pub fn of_nobody(template: &Template, number: u32, secret: Secret, here: &Here) -> Machine {
        let id = [0, 1].map(|half| secret.derive(NOBODY, &[u64::from(number), half]));
        Machine::of_template(template, u128::from(id[0]) << 64 | u128::from(id[1]), secret, here)
    }

    fn of_template(template: &Template, id: u128, secret: Secret, here: &Here) -> Machine {
        let said = template.backend.as_ref().map(|backend| backend.hardware.clone()).unwrap_or_default();
        let name = template.name.bytes().fold(0u64, |hash, octet| hash.wrapping_mul(0x100_0193) ^ u64::from(octet));
        let choose = |what: u64, count: usize| (secret.derive(MACHINE, &[name, what]) % count.max(1) as u64) as usize;
        let make = make(said.vendor.as_deref(), template.oui, choose(0, 4));
        let rows: &[CpuRow] = if here.cpu("vendor_id") == Some("AuthenticAMD") { &AMD } else { &INTEL };
        let uuid = |what: u64| uuid(u128::from(secret.derive(MACHINE, &[id as u64, what])) << 64 | id >> 17);
        Machine {
            product: said.model.unwrap_or_else(|| make.models[choose(1, make.models.len())].to_owned()),
            vendor: said.vendor.unwrap_or_else(|| make.vendor.to_owned()),
            serial: said.serial.unwrap_or_else(|| serial(make.serial, secret.derive(MACHINE, &[id as u64]), id)),
            uuids: [uuid(1), uuid(2)],
            boot_id: uuid(3),
            board: make.board.map(str::to_owned),
            bios: make.bios.map(str::to_owned),
            chassis: make.chassis.map(str::to_owned),
            cpu: said
                .cpu
                .map_or_else(|| cpu_of(rows[choose(2, rows.len())], here), |name| cpu_named(name, rows[0], here)),
            cpus: said.cpus.unwrap_or(here.cpus),
            memory: said.memory.filter(|memory| *memory != here.memory),
            disk: said.disk.unwrap_or(DISKS[choose(3, DISKS.len())] * 1_000_000_000 / 512 * 512),
            disk_model: make.disk.map(str::to_owned),
            is_virtual: make.is_virtual,
        }
    }
}

/// What is settled about a container's past when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// Seconds since its boot at the machine's own boot.
    pub uptime_secs: u64,
    /// The number of a process after which those of sessions begin.
    pub last_pid: u32,
}

impl Age {
    /// That of a host; its time stamps on the wire say the same.
    pub fn of(host: &Host<'_>) -> Age {
        let last_pid = 1200 + (host.identity.machine_id(host.ip) % 20_000) as u32;
        Age { uptime_secs: host.identity.uptime_secs(host.ip), last_pid }
    }

    /// One like it, for container `number`, which is made before its host is known.
    pub fn of_nobody(secret: Secret, number: u32) -> Age {
        let like = Identity::new(secret, "");
        let number = IpAddr::from(number.to_be_bytes());
        Age { uptime_secs: like.uptime_secs(number), last_pid: 1200 + (like.machine_id(number) % 20_000) as u32 }
    }
}

/// The kind of machine by its vendor, or by that of its MAC; otherwise the physical one that was chosen.
fn make(vendor: Option<&str>, oui: [u8; 3], chosen: usize) -> &'static Make {
    let first = |name: &str| name.split([' ', ',']).next().unwrap_or_default().to_lowercase();
    let named = vendor.and_then(|vendor| MAKES.iter().find(|make| first(make.vendor) == first(vendor)));
    named.or_else(|| MAKES.iter().find(|make| make.ouis.contains(&oui))).unwrap_or(&MAKES[chosen])
}

fn cpu_of((name, family, model, stepping, mhz, cache_kib): CpuRow, _here: &Here) -> Cpu {
    let maker = if name.starts_with("AMD") { "AuthenticAMD" } else { "GenuineIntel" };
    Cpu { name: name.to_owned(), maker: maker.to_owned(), family, model, stepping, mhz, cache_kib }
}

/// A processor of which only the name is known: one of ours, or one like ours.
fn cpu_named(name: String, like: CpuRow, here: &Here) -> Cpu {
    if let Some(row) = INTEL.iter().chain(&AMD).find(|row| row.0 == name) {
        return cpu_of(*row, here);
    }
    let like = if name.contains("AMD") {
        AMD[0]
    } else if name.contains("Intel") {
        INTEL[0]
    } else {
        like
    };
    let ghz = name.rsplit_once("@ ").and_then(|(_, text)| text.strip_suffix("GHz")?.trim().parse::<f64>().ok());
    let mhz = ghz.map_or(like.4, |ghz| (ghz * 1000.0) as u32);
    Cpu { name, mhz, ..cpu_of(like, here) }
}

/// A random UUID (RFC 9562 §5.4) made of `bits`.
fn uuid(bits: u128) -> String {
    let bits = bits & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | 0x4000_u128 << 64 | 0x8000_u128 << 48;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn serial(style: Serial, mut seed: u64, id: u128) -> String {
    const SIGNS: &[u8; 32] = b"0123456789BCDFGHJKLMNPQRSTVWXYZ2";
    match style {
        Serial::Unsaid => String::new(),
        Serial::Plain(prefix, count) => {
            let mut text = prefix.to_owned();
            for _ in 0..count {
                text.push(char::from(SIGNS[(seed % 32) as usize]));
                seed /= 32;
            }
            text
        }
        Serial::Vmware => {
            let octets = id.to_be_bytes();
            let half = |part: &[u8]| part.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(" ");
            format!("VMware-56 4d {}-{}", half(&octets[2..8]), half(&octets[8..]))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::container::keeper::host::{self, tests::config};
    use crate::emulate::Hardware;
    use crate::node::{NodeConfig, NodeIdx};

    pub fn here() -> Here {
        Here {
            release: "6.1.0-18-amd64".into(),
            version: "Linux version 6.1.0-18-amd64 (me@here) (gcc 15) #1 SMP Debian 6.1.76-1 (2024-02-01)\n".into(),
            memory: 8 << 30,
            held: 3 << 30,
            cpus: 2,
            cpuinfo: "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse hypervisor\nbugs\t\t: spectre_v1\n".into(),
        }
    }

    fn machine(ip: &str, secret: u8, change: impl Fn(&mut Template)) -> Machine {
        let mut config = config();
        if let NodeConfig::Hosts(hosts) = &mut config.nodes[1].1 {
            change(&mut hosts.templates[0]);
        }
        let host = host::find(&config, NodeIdx(1), ip.parse().unwrap()).unwrap();
        Machine::of(&host, Secret([secret; 16]), &here())
    }

    #[test]
    fn a_template_is_one_kind_of_machine_and_its_hosts_differ() {
        let of_oui = |oui| move |template: &mut Template| template.oui = oui;
        let one = machine("10.1.0.12", 1, of_oui([0xb8, 0xca, 0x3a]));
        let two = machine("10.1.0.13", 1, of_oui([0xb8, 0xca, 0x3a]));
        assert_eq!(one, machine("10.1.0.12", 1, of_oui([0xb8, 0xca, 0x3a])));
        assert_eq!((&one.vendor, &one.product, &one.cpu), (&two.vendor, &two.product, &two.cpu));
        assert_eq!(one.vendor, "Dell Inc.");
        assert!(one.cpu.name.starts_with("AMD"), "as the processor itself would say");
        assert!(one.serial != two.serial && one.uuids != two.uuids && one.boot_id != two.boot_id);
        assert_eq!((one.serial.len(), one.cpus, one.memory), (7, 2, None));
        assert!(machine("10.1.0.12", 1, |_| {}).serial.starts_with("VMware-56 4d "));
        // Of no known vendor: any, but one that exists; and not the same everywhere.
        let kinds: std::collections::HashSet<String> =
            (0..32).map(|secret| machine("10.1.0.12", secret, of_oui([2, 0, 0])).vendor).collect();
        assert!(kinds.len() > 1, "{kinds:?}");
    }

    #[test]
    fn one_that_is_nobodys_yet_is_of_its_templates_kind() {
        let config = config();
        let host = host::find(&config, NodeIdx(1), "10.1.0.12".parse().unwrap()).unwrap();
        let of = |number| Machine::of_nobody(host.template, number, config.secret, &here());
        let hosts = Machine::of(&host, config.secret, &here());
        assert_eq!((&of(1).product, &of(1).cpu, of(1).disk), (&hosts.product, &hosts.cpu, hosts.disk));
        assert_eq!(of(1), of(1));
        assert!(of(1).boot_id != of(2).boot_id && of(1).serial != hosts.serial);
    }

    #[test]
    fn what_the_topology_says_counts() {
        let hardware = Hardware {
            vendor: Some("Dell Inc.".into()),
            model: Some("PowerEdge R999".into()),
            serial: Some("ABC".into()),
            cpu: Some("Intel(R) Xeon(R) Platinum 9000 CPU @ 3.50GHz".into()),
            cpus: Some(64),
            memory: Some(16 << 30),
            disk: Some(480_000_000_000),
        };
        let machine = machine("10.1.0.12", 1, |template| {
            template.backend.as_mut().unwrap().hardware = hardware.clone();
        });
        assert_eq!((machine.product.as_str(), machine.serial.as_str()), ("PowerEdge R999", "ABC"));
        assert_eq!((machine.cpu.mhz, machine.cpu.maker.as_str(), machine.cpu.model), (3500, "GenuineIntel", 85));
        assert_eq!((machine.cpus, machine.memory, machine.disk), (64, Some(16 << 30), 480_000_000_000));
        assert_eq!(machine.bios[0], "Dell Inc.", "although the MAC is VMware's");
    }

    #[test]
    fn uuids_are_random_ones() {
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
    }
}
