//! The bounds of a container and the machine that it passes for, as they are written below `backend`.

use super::at::{At, Text};
use super::check::Checker;
use super::raw::mapping;
use super::source::Span;
use super::units::{self, UnitError};
use crate::emulate::{ContainerLimits, Hardware};
use schemars::JsonSchema;
use serde::Deserialize;

/// Less than that and not even the image's own programs start.
const LEAST_MEMORY: u64 = 16 << 20;
const LEAST_DISK: u64 = 16 << 20;
const MOST: u64 = 1 << 50;
const LEAST_PROCESSES: u32 = 16;
/// What 22 bits of process numbers allow.
const MOST_PROCESSES: u32 = 1 << 22;
const MOST_CPUS: u32 = 1024;

mapping! {
    /// What one container may use.
    struct BackendLimits {
        /// Memory, such as `512M` (default), file caches included.
        memory: Text,
        /// Processes and threads (default 512).
        processes: u32,
        /// Processors, such as `0.5` (default 1).
        cpu: f64,
        /// What it may write besides its image, such as `1G` (default).
        disk: Text,
    }
}

mapping! {
    /// The machine that a container passes for (default: a server that fits the template's vendor of MACs).
    struct BackendHardware {
        /// Who made it, such as `Dell Inc.`.
        vendor: Text,
        /// What it is called, such as `PowerEdge R640`.
        model: Text,
        /// Its serial number (default: each host has one of its own).
        serial: Text,
        /// The processors' name, such as `Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz`.
        cpu: Text,
        /// Logical processors (default: those of this machine, which other ways of counting show).
        cpus: u32,
        /// Memory, such as `16G` (default: that of this machine, which other ways of asking show).
        memory: Text,
        /// The disk's size as it is sold, such as `480G`.
        disk: Text,
    }
}

/// The `limits` of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitsLayer {
    memory: Option<u64>,
    processes: Option<u32>,
    cpu_milli: Option<u32>,
    disk: Option<u64>,
}

impl LimitsLayer {
    /// What layers say together, the strongest first.
    pub fn merged<'a>(layers: impl Iterator<Item = &'a LimitsLayer> + Clone) -> ContainerLimits {
        let plain = ContainerLimits::default();
        ContainerLimits {
            memory: layers.clone().find_map(|layer| layer.memory).unwrap_or(plain.memory),
            processes: layers.clone().find_map(|layer| layer.processes).unwrap_or(plain.processes),
            cpu_milli: layers.clone().find_map(|layer| layer.cpu_milli).unwrap_or(plain.cpu_milli),
            disk: layers.clone().find_map(|layer| layer.disk).unwrap_or(plain.disk),
        }
    }
}

/// Reads `limits`.
pub fn limits(c: &mut Checker<'_>, raw: &BackendLimits) -> LimitsLayer {
    LimitsLayer {
        memory: size(c, raw.memory.as_ref(), LEAST_MEMORY),
        processes: raw.processes.as_ref().and_then(|processes| {
            number(c, processes.span, processes.value, LEAST_PROCESSES..=MOST_PROCESSES, "processes")
        }),
        cpu_milli: raw.cpu.as_ref().and_then(|cpu| {
            let milli = (cpu.value * 1000.0).round();
            if !(10.0..=f64::from(MOST_CPUS) * 1000.0).contains(&milli) {
                let help = format!("write a number of processors from 0.01 to {MOST_CPUS}, such as 0.5");
                c.error(cpu.span, format!("a container cannot have {} processors", cpu.value), "here", help);
                return None;
            }
            Some(milli as u32)
        }),
        disk: size(c, raw.disk.as_ref(), LEAST_DISK),
    }
}

/// Reads `hardware`.
pub fn hardware(c: &mut Checker<'_>, raw: &BackendHardware) -> Hardware {
    Hardware {
        vendor: name(c, raw.vendor.as_ref()),
        model: name(c, raw.model.as_ref()),
        serial: name(c, raw.serial.as_ref()),
        cpu: name(c, raw.cpu.as_ref()),
        cpus: raw
            .cpus
            .as_ref()
            .and_then(|cpus| number(c, cpus.span, cpus.value, 1..=MOST_CPUS, "processors"))
            .and_then(|cpus| u16::try_from(cpus).ok()),
        memory: size(c, raw.memory.as_ref(), LEAST_MEMORY),
        // Disks are sold by powers of ten.
        disk: size(c, raw.disk.as_ref(), 1 << 30)
            .map(|octets| (u128::from(octets) * 1_000_000_000 / (1 << 30)) as u64 / 512 * 512),
    }
}

/// Lays what a stronger layer says about hardware over a weaker one.
pub fn over(strong: Hardware, weak: &Hardware) -> Hardware {
    let weak = weak.clone();
    Hardware {
        vendor: strong.vendor.or(weak.vendor),
        model: strong.model.or(weak.model),
        serial: strong.serial.or(weak.serial),
        cpu: strong.cpu.or(weak.cpu),
        cpus: strong.cpus.or(weak.cpus),
        memory: strong.memory.or(weak.memory),
        disk: strong.disk.or(weak.disk),
    }
}

fn size(c: &mut Checker<'_>, text: Option<&At<Text>>, least: u64) -> Option<u64> {
    let text = text?;
    let read = |text: &str| -> Result<u64, UnitError> {
        let octets = units::size_bytes(text)?;
        match octets {
            _ if octets < least => Err((format!("`{text}` is too little"), format!("at least {}M", least >> 20))),
            _ if octets > MOST => Err((format!("`{text}` is too much"), "at most 1024T".to_owned())),
            octets => Ok(octets),
        }
    };
    c.unit(text.span, read(text))
}

fn number(
    c: &mut Checker<'_>,
    span: Span,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    what: &str,
) -> Option<u32> {
    if !range.contains(&value) {
        let help = format!("{} to {} are possible", range.start(), range.end());
        c.error(span, format!("there cannot be {value} {what}"), "here", help);
        return None;
    }
    Some(value)
}

/// A text that becomes a line of a file in the container.
fn name(c: &mut Checker<'_>, text: Option<&At<Text>>) -> Option<String> {
    let text = text?;
    if text.is_empty() || text.len() > 64 || text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        let help = "write 1 to 64 characters of ASCII";
        c.error(text.span, "no machine says that of itself", "here", help);
        return None;
    }
    Some(text.value.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::Backend;
    use crate::node::NodeConfig;
    use crate::topology::{parse, tests::good};

    fn backend(text: &str) -> Backend {
        let NodeConfig::Hosts(hosts) = good(text).nodes.remove(0).config else { panic!("no hosts") };
        hosts.templates[0].backend.clone().unwrap()
    }

    #[test]
    fn layers_are_laid_over_one_another() {
        let one = backend(
            r#"
defaults: {backend: {image: small, limits: {memory: 1G, disk: 64M}, hardware: {vendor: Dell Inc., disk: 480G}}}
templates:
  t: {tcp: {22: container}, backend: {limits: {memory: 256M, cpu: 2}, hardware: {memory: 16G, vendor: HPE}}}
nodes:
  web: {kind: host, address: 10.0.0.1, template: t, backend: {limits: {processes: 99, cpu: 0.25}, no_new_privs: true}}
"#,
        );
        let limits = ContainerLimits { memory: 256 << 20, processes: 99, cpu_milli: 250, disk: 64 << 20 };
        assert_eq!((one.limits, one.no_new_privs), (limits, true));
        assert_eq!((one.hardware.vendor.as_deref(), one.hardware.memory), (Some("HPE"), Some(16 << 30)));
        assert_eq!((one.hardware.disk, one.hardware.serial), (Some(480_000_000_000), None));
        let plain =
            backend("nodes: {web: {kind: host, address: 10.0.0.1, tcp: {22: container}, backend: {image: small}}}");
        assert_eq!(plain.limits, ContainerLimits::default());
        assert_eq!((plain.hardware, plain.no_new_privs), (Hardware::default(), false));
    }

    #[test]
    fn nonsense_is_refused() {
        for (keys, message) in [
            ("limits: {memory: 512}", "has no unit"),
            ("limits: {memory: 1M}", "is too little"),
            ("limits: {disk: 1M}", "is too little"),
            ("limits: {disk: 9999T}", "is too much"),
            ("limits: {processes: 1}", "there cannot be 1 processes"),
            ("limits: {cpu: 0}", "cannot have 0 processors"),
            ("limits: {cpu: -1}", "cannot have -1 processors"),
            ("limits: {cpu: .nan}", "cannot have NaN processors"),
            ("limits: {cpus: 1}", "unknown key `cpus`"),
            ("hardware: {cpus: 0}", "there cannot be 0 processors"),
            ("hardware: {vendor: \"\"}", "no machine says that"),
            ("hardware: {model: \"a\\nb\"}", "no machine says that"),
            ("hardware: {memory: -1}", "not a size"),
        ] {
            let text = format!(
                "nodes: {{web: {{kind: host, address: 10.0.0.1, tcp: {{22: container}}, backend: {{image: small, {keys}}}}}}}"
            );
            let mistakes = parse("t", &text).unwrap_err();
            assert!(mistakes.errors.iter().any(|error| error.message.contains(message)), "{keys}: {mistakes:?}");
        }
    }
}
