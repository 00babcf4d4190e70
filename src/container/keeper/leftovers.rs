//! Names, and what a dead predecessor or a failed start left under them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};

use super::cgroup::Layout;
use super::disk::{self, Disks};
use super::kept::{self, Found};
use super::settings::Place;
use crate::container::KeeperConfig;
use crate::sys::{clock, netlink};

/// What tells the containers and TAPs of one honeynet from those of others on
/// this machine: a hash of its name and its state directory.
pub fn tag(config: &KeeperConfig) -> String {
    let mut digest = Sha256::new();
    digest.update(&config.name);
    digest.update([0]);
    digest.update(config.state_dir.as_os_str().as_encoded_bytes());
    digest.finalize()[..3].iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The name of container `number` of the honeynet with tag `tag`.
pub fn container_name(tag: &str, number: u32) -> String {
    format!("hw-{tag}-{number}")
}

/// The name of its TAP, which has at most 15 octets.
pub fn tap_name(tag: &str, number: u32) -> String {
    format!("hw{tag}{number:x}")
}

/// The directory of a honeynet's containers.
pub fn containers_dir(config: &KeeperConfig) -> PathBuf {
    config.state_dir.join(&config.name).join("containers")
}

/// Makes that directory and locks it. The users that containers run as may pass
/// through (not list) it, and the way to it as far as it is ours.
///
/// Returns also whether a predecessor has died there without cleaning up.
///
/// # Errors
/// If another keeper has it.
pub fn claim(config: &KeeperConfig) -> io::Result<(File, bool)> {
    let dir = containers_dir(config);
    DirBuilder::new().recursive(true).mode(0o711).create(&dir)?;
    let images = config.state_dir.join("images");
    for ours in [&config.state_dir, &config.state_dir.join(&config.name), &dir, &images] {
        if let Ok(meta) = fs::metadata(ours) {
            let mode = meta.permissions().mode();
            if mode & 0o111 != 0o111 {
                fs::set_permissions(ours, Permissions::from_mode(mode | 0o111))?;
            }
        }
    }
    let follows = dir.join(".lock").exists();
    let lock = File::options().create(true).append(true).open(dir.join(".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok((lock, follows)),
        Err(_) => Err(io::Error::other(format!(
            "another keeper of honeynet `{}` works in {}: end that first",
            config.name,
            config.state_dir.display()
        ))),
    }
}

/// The first directory on the way to `path` that the users of containers may not pass through.
pub fn closed_to_containers(path: &Path) -> Option<PathBuf> {
    let way: Vec<&Path> = path.ancestors().collect();
    let closed = |dir: &&&Path| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0);
    way.iter().rev().find(closed).map(|dir| dir.to_path_buf())
}

/// Ends what a predecessor that died has left and that cannot go on: processes, cgroups, TAPs, and the overlays of those
/// that were nobody's. Waits for them up to `patience` microseconds. Returns the others: what runs, and files that wait for
/// who comes back.
pub fn sweep_all(config: &KeeperConfig, layout: &Layout, patience: i64) -> Vec<Found> {
    let tag = tag(config);
    let prefix = format!("hw-{tag}-");
    let until = clock::monotonic_micros() + patience;
    let dir = containers_dir(config);
    let (mut found, mut nobodys) = (Vec::new(), Vec::new());
    for (path, number) in left_in(&dir, &prefix) {
        match number.zip(kept::read(&path)) {
            Some((number, written)) => {
                let running = kept::running(config, layout, &Place::of(&dir, &tag, number), &written);
                found.push(Found { number, written, running });
            }
            None => nobodys.push(path),
        }
    }
    let goes_on: Vec<String> =
        found.iter().filter(|found| found.running.is_some()).map(|found| container_name(&tag, found.number)).collect();
    let ends = |name: &str| name.starts_with(&prefix) && !goes_on.iter().any(|other| other == name);
    let layout = layout.everywhere();
    while layout.kill_all(ends) + kill_monitored(&dir, ends) > 0 && clock::monotonic_micros() < until {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    end(&layout, ends, until);
    let taps = format!("hw{tag}");
    // Unlike /sys/class/net this is about the process's own network namespace.
    for line in fs::read_to_string("/proc/self/net/dev").unwrap_or_default().lines() {
        let name = line.split(':').next().unwrap_or_default().trim();
        if name.starts_with(&taps) {
            let _ = netlink::delete_link(name);
        }
    }
    for path in nobodys {
        if let Err(error) = disk::remove(&path) {
            tracing::warn!(%error, path = %path.display(), "what a container has left cannot be removed");
        }
    }
    found
}

/// The containers that there is anything of in `dir`, each with its number if it has one of ours.
fn left_in(dir: &Path, prefix: &str) -> BTreeMap<PathBuf, Option<u32>> {
    let mut left = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Beside each directory may be a file of the same name that says what it is for, and another that is its disk.
        let path = entry.path().with_extension("");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("hw-") {
            let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
            left.insert(path, number);
        }
    }
    left
}

/// Ends all containers that are `wanted`, as far as cgroups tell of them, and waits for that until `until`.
pub fn end(layout: &Layout, wanted: impl Fn(&str) -> bool + Copy, until: i64) {
    while layout.kill_all(wanted) + layout.remove_all(wanted) > 0 && clock::monotonic_micros() < until {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Kills containers by the names that liblxc gives to their monitors, and workers
/// by those that they were started with; returns how many there were. Where no cgroups are mounted (`ip netns exec`
/// hides them) nothing else tells whose they are, and a monitor is in none at first.
fn kill_monitored(dir: &Path, wanted: impl Fn(&str) -> bool) -> usize {
    let mut killed = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(monitor) = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !container_of(&String::from_utf8_lossy(&line), dir).is_some_and(&wanted) {
            continue;
        }
        killed += 1;
        let children = fs::read_to_string(entry.path().join(format!("task/{monitor}/children"))).unwrap_or_default();
        // The container's init first: with it everything inside ends.
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).chain([monitor]) {
            // It may have ended since.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    killed
}

/// The container of a monitor or a worker with that command line.
fn container_of<'a>(line: &'a str, dir: &Path) -> Option<&'a str> {
    let monitor = line.strip_prefix("[lxc monitor] ").and_then(|rest| rest.strip_prefix(&*dir.to_string_lossy()));
    let worker = || line.split_once("\0__lxc\0").map(|(_, name)| name);
    monitor.and_then(|rest| rest.strip_prefix(' ')).or_else(worker)?.split('\0').next()
}

/// Removes what is left when the last container is gone: our directory, and the
/// directories that liblxc made for its locks.
pub fn remove_empty(config: &KeeperConfig, layout: &Layout) {
    layout.remove_pivot();
    let dir = containers_dir(config);
    for file in [".lock", "seccomp"] {
        let _ = fs::remove_file(dir.join(file));
    }
    Disks::remove_blanks(&dir);
    let _ = fs::remove_dir(&dir);
    let locks = Path::new("/run/lxc/lock");
    if let Ok(inside) = dir.strip_prefix("/") {
        let mut at = locks.join(inside);
        let _ = fs::remove_dir_all(&at);
        // Only empty ones go: another honeynet's or another user's stay.
        while at.pop() && at.starts_with(locks) && fs::remove_dir(&at).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::keeper::host::tests::config;
    use crate::container::keeper::kept::Written;
    use crate::container::keeper::used::{Used, tests::used};
    use crate::node::LeaseId;

    #[test]
    fn names_tell_honeynets_apart_and_fit() {
        let one = config();
        let two = KeeperConfig { name: "other".into(), ..one.clone() };
        let three = KeeperConfig { state_dir: "/elsewhere".into(), ..one.clone() };
        assert_ne!(tag(&one), tag(&two));
        assert_ne!(tag(&one), tag(&three));
        assert!(tap_name(&tag(&one), 0xfff_ffff).len() <= 15);
    }

    #[test]
    fn containers_are_found_without_cgroups() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let dir = Path::new("/var/lib/honeyweave/x/containers");
        let monitor = |name: &str| {
            let mut command = std::process::Command::new("sleep");
            let title = format!("[lxc monitor] /var/lib/honeyweave/x/containers {name}");
            let child = command.arg0(title).arg("1000").spawn().unwrap();
            // `spawn` returns when the program is being executed, a moment before the kernel can tell its arguments.
            let arguments = format!("/proc/{}/cmdline", child.id());
            let deadline = clock::monotonic_micros() + 5_000_000;
            while fs::read(&arguments).unwrap().is_empty() && clock::monotonic_micros() < deadline {
                std::thread::yield_now();
            }
            child
        };
        let (mut ours, mut other) = (monitor("hw-abcdef-1"), monitor("hw-fedcba-1"));
        assert_eq!(kill_monitored(dir, |name| name.starts_with("hw-abcdef-")), 1);
        assert_eq!(ours.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(other.try_wait().unwrap().is_none(), "another honeynet's goes on");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(kill_monitored(dir, |name| name.starts_with("hw-")), 0);
    }

    #[test]
    fn one_keeper_works_in_a_directory() {
        let state = tempfile::tempdir().unwrap();
        let config = KeeperConfig { state_dir: state.path().to_owned(), ..config() };
        fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_to_containers(state.path()).as_deref(), Some(state.path()));
        let (lock, follows) = claim(&config).unwrap();
        assert!(!follows);
        assert_eq!(closed_to_containers(&containers_dir(&config)), None);
        assert!(claim(&config).unwrap_err().to_string().contains("another keeper"));
        drop(lock);
        assert!(claim(&config).unwrap().1);
        let (tag, dir) = (tag(&config), containers_dir(&config));
        for number in [7, 8] {
            fs::create_dir(dir.join(container_name(&tag, number))).unwrap();
        }
        let of = Written {
            lease: LeaseId(77),
            node: "n".into(),
            host: "10.1.0.5".parse().unwrap(),
            attacker: None,
            image: ("small".into(), "0".into()),
            disk: 1 << 20,
            alive: None,
            boot: "a".into(),
            used: Some(Used { ran: true, ..used() }),
        };
        let text = serde_json::to_vec(&of).unwrap();
        fs::write(dir.join(container_name(&tag, 7)).with_extension("json"), text).unwrap();
        let found = sweep_all(&config, &Layout::none(), 0);
        assert!(matches!(&found[..], [Found { number: 7, written, running: None }] if *written == of), "{found:?}");
        assert!(dir.join(container_name(&tag, 7)).exists() && !dir.join(container_name(&tag, 8)).exists());
        disk::remove(&dir.join(container_name(&tag, 7))).unwrap();
        remove_empty(&config, &Layout::none());
        assert!(!containers_dir(&config).exists());
    }
}
