//! Memory that runs short: the kernel says so ([PSI](https://docs.kernel.org/accounting/psi.html)), and what nobody
//! misses ends, one container at a time, for as long as it does.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::lease::{Container, Rest, Stage};
use super::process::Keeper;

/// Processes have waited for memory for so long within each window, in microseconds. Windows of whole multiples of two
/// seconds need no capability.
const TRIGGER: &[u8] = b"some 200000 2000000\0";

/// A descriptor of which the kernel says `POLLPRI` when memory is short.
#[derive(Debug)]
pub struct Pressure(File);

impl Pressure {
    /// Asks to be told. Kernels without PSI, or where it is off, tell nothing.
    pub fn watch() -> Option<Pressure> {
        let watch = || -> io::Result<File> {
            let mut file = File::options().read(true).write(true).open("/proc/pressure/memory")?;
            file.write_all(TRIGGER)?;
            Ok(file)
        };
        match watch() {
            Ok(file) => Some(Pressure(file)),
            Err(error) => {
                tracing::info!(%error, "the kernel does not tell when memory is short; limits of containers hold all the same");
                None
            }
        }
    }
}

impl AsFd for Pressure {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Keeper {
    /// Ends what is missed least: one that is kept ready, or the oldest that is frozen, its files kept.
    pub(super) fn relieve(&mut self, now: i64) {
        // A container that is at its own limit waits for memory, too, and nobody else has to end for that.
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        if !is_short(&memory) {
            return;
        }
        let Some(number) = least_missed(self.containers.iter()) else { return };
        tracing::warn!(number, "memory is short: a container that nobody speaks to ends");
        let secs = self.keep_secs(number);
        if let Some(container) = self.containers.get_mut(&number) {
            container.keep = secs;
        }
        // No other takes its place while memory is short.
        self.last_lease = now;
        self.end(number, "memory is short", now);
    }
}

/// Whether less than a tenth of the machine's memory is available, going by `/proc/meminfo`.
fn is_short(memory: &str) -> bool {
    let of = |name: &str| -> Option<u64> {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse().ok()
    };
    matches!((of("MemAvailable:"), of("MemTotal:")), (Some(available), Some(total)) if available < total / 10)
}

/// The oldest that is kept ready, else the oldest that is frozen.
fn least_missed<'a>(containers: impl Iterator<Item = (&'a u32, &'a Container)>) -> Option<u32> {
    let ends = containers.filter_map(|(number, container)| match &container.stage {
        Stage::Live(running) if container.why.is_none() && (container.is_spare() || running.rest == Rest::Frozen) => {
            Some((!container.is_spare(), *number))
        }
        _ => None,
    });
    ends.min().map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::lease::Running;
    use super::super::listings::Listed;
    use super::super::settings::{Place, tests::image};
    use super::*;
    use crate::node::NodeIdx;

    fn container(number: u32, rest: Rest, spare: bool, why: Option<&str>) -> (u32, Container) {
        let null = || File::open("/dev/null").unwrap();
        let running = Running { init: null().into(), pid: 1, monitor: 1, since: 0, rest };
        let container = Container {
            lease: None,
            attacker: None,
            host: (!spare).then(|| (NodeIdx(0), "10.0.0.1".parse().unwrap())),
            place: Place::of(Path::new("/c"), "abcdef", number),
            disk: 0,
            image: image(),
            _held: null(),
            tap: None,
            stage: Stage::Live(running),
            why: why.map(str::to_owned),
            keep: None,
            unclaimed: None,
            used: None,
            look: None,
            watched: Vec::new(),
            log: None,
            listed: Listed::Done,
        };
        (number, container)
    }

    #[test]
    fn who_is_missed_least_goes_first() {
        let mut all = BTreeMap::from([
            container(1, Rest::Awake, false, None),
            container(2, Rest::Frozen, false, Some("it ends already")),
            container(3, Rest::Frozen, false, None),
            container(4, Rest::Frozen, false, None),
            container(5, Rest::Frozen, true, None),
        ]);
        let mut order = Vec::new();
        while let Some(number) = least_missed(all.iter()) {
            order.push(number);
            all.remove(&number);
        }
        assert_eq!(order, [5, 3, 4], "who is spoken to stays");
    }

    #[test]
    fn memory_is_short_below_a_tenth() {
        let memory =
            |available: u32| format!("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n");
        assert!(is_short(&memory(99)) && !is_short(&memory(100)) && !is_short("") && !is_short("MemTotal: x kB"));
    }

    #[test]
    fn the_kernel_takes_the_question() {
        // Where there is PSI at all, it must be asked in a way that needs no capability.
        assert_eq!(Pressure::watch().is_some(), Path::new("/proc/pressure/memory").exists());
    }
}
