//! The things that are looked at.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::packages::{Package, install};
use super::{Check, Verdict};
use crate::container::keeper::{Layout, closed_to_containers};
use crate::container::{self, ID_BASE, ID_COUNT, image};
use crate::control::place;
use crate::sys::{fanotify, inside, packet, privileges, tap, xdp};

/// The index of the loopback in every network namespace.
const LOOPBACK: u32 = 1;

/// Looks at everything, in the order in which it is needed.
pub fn all() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut checks = vec![rights(root)];
    if root {
        checks.extend([tun(), packet_sockets(), af_xdp(), watching()]);
    }
    checks.extend([namespaces(), overlay(), disks(), cgroups(), seccomp(), liblxc(), user_ids(), state_dir()]);
    let (unpack, bootstrap) = ("needed to build images", "needed to build images but `small` and `weak`");
    checks.push(program("apt-get", "apt", Package::Apt, unpack));
    checks.push(program("dpkg-deb", "dpkg", Package::Dpkg, unpack));
    checks.push(program("chroot", "chroot", Package::Coreutils, unpack));
    checks.push(program("lxc-usernsexec", "lxc-usernsexec", Package::Lxc, unpack));
    checks.push(match find("debootstrap") {
        Some(path) if find("mmdebstrap").is_none() => {
            Check::ok("mmdebstrap", format!("{} in its place", path.display()))
        }
        _ => program("mmdebstrap", "mmdebstrap", Package::Bootstrap, bootstrap),
    });
    checks.push(sources());
    checks
}

fn rights(root: bool) -> Check {
    if !root {
        let found = "not root: a honeynet opens network devices; some things can only be looked at as root";
        return Check::missing("root", found, Some("sudo honeyweave doctor".to_owned()));
    }
    let needed = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::MKNOD, "CAP_MKNOD"),
    ];
    let has = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let lacks: Vec<&str> = needed.iter().filter(|(one, _)| !has.contains(*one)).map(|(_, name)| *name).collect();
    match lacks.as_slice() {
        [] => Check::ok("root", "root with the capabilities that it takes"),
        _ => {
            let found = format!("root lacks {}: is this a container?", lacks.join(", "));
            Check::missing("root", found, Some("run it on the machine itself, or in a privileged container".to_owned()))
        }
    }
}

fn tun() -> Check {
    // In a network namespace of its own, so that no device shows up on the machine.
    let opened = std::thread::spawn(|| {
        privileges::leave_network()?;
        tap::open("hwdoctor%d", tap::Offload::Tcp).map(drop)
    });
    match opened.join() {
        Ok(Ok(())) => Check::ok("tun", "a TAP can be opened by /dev/net/tun"),
        Ok(Err(error)) => {
            let mend = "sudo modprobe tun && sudo mkdir -p /dev/net && [ -e /dev/net/tun ] || sudo mknod /dev/net/tun c 10 200";
            Check::missing("tun", format!("no TAP can be opened by /dev/net/tun: {error}"), Some(mend.to_owned()))
        }
        Err(_) => Check::missing("tun", "opening a TAP crashed", None),
    }
}

fn packet_sockets() -> Check {
    match packet::open("lo", true) {
        Ok(_) => Check::ok("packet-sockets", "an AF_PACKET socket can be opened"),
        Err(error) => {
            let mend = Some("sudo modprobe af_packet".to_owned());
            Check::missing("packet-sockets", format!("no AF_PACKET socket can be opened: {error}"), mend)
        }
    }
}

fn af_xdp() -> Check {
    // On the loopback of a network namespace of its own, where it takes nothing from anybody.
    let tried = std::thread::spawn(|| {
        privileges::leave_network()?;
        let attachment = xdp::Attachment::new(LOOPBACK, xdp::Mode::Generic, 1)?;
        let memory = xdp::memory(1, xdp::ENTRIES)?;
        let socket = xdp::bind(memory.as_fd(), 0, xdp::ENTRIES, (LOOPBACK, 0), xdp::Mode::Generic)?;
        attachment.serve(0, socket.as_fd())
    });
    match tried.join() {
        Ok(Ok(())) => Check::ok("af-xdp", "frames can be taken from interfaces that nobody else uses"),
        Ok(Err(error)) => {
            let found = format!("no AF_XDP ({error}): packet sockets receive about half as many frames a second");
            Check::limited("af-xdp", found, Some("use Linux 5.18 or later with CONFIG_XDP_SOCKETS".to_owned()))
        }
        Err(_) => Check::limited("af-xdp", "trying AF_XDP crashed", None),
    }
}

fn watching() -> Check {
    const RING: u32 = 1 << 16;
    match inside::attach(RING, false) {
        Ok(_) => Check::ok("inside", "what happens inside containers can be watched from outside, by eBPF"),
        Err(error) => {
            let found = match fanotify::create() {
                Ok(_) => {
                    format!("inside containers, only programs and written files can be watched, by fanotify: {error}")
                }
                Err(second) => format!("no event tells what happens inside containers: {error}; fanotify: {second}"),
            };
            let advice = "use Linux 5.15 or later with BTF and tracepoints of system calls, and not locked down";
            Check::limited("inside", found, Some(advice.to_owned()))
        }
    }
}

fn namespaces() -> Check {
    let lacks: Vec<&str> = ["mnt", "uts", "ipc", "pid", "net", "user", "cgroup"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if !lacks.is_empty() {
        let found = format!("the kernel has no namespaces of kind {}", lacks.join(", "));
        return Check::missing("namespaces", found, Some("use a distribution's kernel".to_owned()));
    }
    for limit in ["user", "net", "mnt", "pid"] {
        let path = format!("/proc/sys/user/max_{limit}_namespaces");
        if fs::read_to_string(&path).is_ok_and(|text| text.trim() == "0") {
            let found = format!("{limit} namespaces are switched off ({path} is 0), so no container can start");
            return Check::missing("namespaces", found, Some(format!("sudo sysctl user.max_{limit}_namespaces=15000")));
        }
    }
    Check::ok("namespaces", "all kinds that containers need")
}

fn overlay() -> Check {
    let known = fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let module = Path::new("/lib/modules").join(&release).join("kernel/fs/overlayfs");
    let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    match (known || module.exists(), version.as_slice()) {
        (true, [major, minor, ..]) if (*major, *minor) < (5, 11) => {
            let found = format!("Linux {release} does not let user namespaces mount overlayfs; 5.11 and later do");
            Check::missing("overlayfs", found, Some("use a newer kernel".to_owned()))
        }
        (true, _) if known => Check::ok("overlayfs", format!("in Linux {release}")),
        (true, _) => Check::missing("overlayfs", "not loaded", Some("sudo modprobe overlay".to_owned())),
        (false, _) => {
            Check::missing("overlayfs", "the kernel does not have it", Some("sudo modprobe overlay".to_owned()))
        }
    }
}

/// What containers have their disks from; without, they have them in memory.
fn disks() -> Check {
    let in_memory = "containers' disks are in memory, of which they then have less";
    if !Path::new("/dev/loop-control").exists() {
        let found = format!("there is no /dev/loop-control: {in_memory}");
        return Check::limited("disks", found, Some("sudo modprobe loop".to_owned()));
    }
    if find("mkfs.ext4").is_none() {
        let found = format!("`mkfs.ext4` is not installed: {in_memory}");
        return Check::limited("disks", found, Some(install(Package::E2fsprogs)));
    }
    Check::ok("disks", "containers get disks of limited size")
}

fn cgroups() -> Check {
    let layout = Layout::detect();
    if !layout.is_present() {
        let mend = "sudo mount -t cgroup2 none /sys/fs/cgroup".to_owned();
        return Check::limited("cgroups", "no cgroups are mounted: containers run without any limit", Some(mend));
    }
    let (version, limits) = layout.describe();
    let lacks: Vec<&str> = ["memory", "pids", "cpu"].into_iter().filter(|one| !limits.contains(one)).collect();
    match lacks.as_slice() {
        [] => Check::ok("cgroups", format!("version {version}, with limits of memory, processes and processor time")),
        _ => {
            let found = format!("version {version} without {}: containers run without that limit", lacks.join(", "));
            let mend = "boot with `cgroup_enable=memory` on the kernel's command line".to_owned();
            Check::limited("cgroups", found, lacks.contains(&"memory").then_some(mend))
        }
    }
}

fn seccomp() -> Check {
    match Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        true => Check::ok("seccomp", "filters work"),
        false => {
            let found = "the kernel has no seccomp filters, without which neither the switch nor a container starts";
            Check::missing("seccomp", found, Some("use a distribution's kernel".to_owned()))
        }
    }
}

fn liblxc() -> Check {
    match container::lxc_version() {
        None => Check::limited("liblxc", container::NO_LXC, Some("build it with `--features lxc`".to_owned())),
        Some(version) if version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0) < 4u32 => {
            let found = format!("version {version} is too old; 4 and later work");
            Check::missing("liblxc", found, Some(install(Package::Lxc)))
        }
        Some(version) => Check::ok("liblxc", format!("version {version}")),
    }
}

/// The ids of containers must be nobody's: neither users' nor ranges given to users.
fn user_ids() -> Check {
    let range = ID_BASE..ID_BASE + ID_COUNT;
    for file in ["/etc/subuid", "/etc/subgid"] {
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let mut fields = line.split(':');
            let (Some(owner), Some(first), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.trim().parse::<u32>()) else { continue };
            if owner != "root" && owner != "0" && first < range.end && range.start < first.saturating_add(count) {
                let found = format!("{file} gives {owner} ids that containers use ({} and up)", range.start);
                let mend = format!("give {owner} another range in {file}, such as {owner}:2000000:65536");
                return Check::limited("user-ids", found, Some(mend));
            }
        }
    }
    Check::ok("user-ids", format!("{} to {} are containers' alone", range.start, range.end - 1))
}

fn state_dir() -> Check {
    let dir = std::env::var_os("HONEYWEAVE_STATE_DIR").map_or(PathBuf::from(place::STATE_DIR), PathBuf::from);
    // What is not there yet is made so that containers may pass.
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let way = if dir.exists() { &dir } else { parent };
    if let Some(closed) = closed_to_containers(parent) {
        let found = format!("containers' users may not pass through {}, so no container can start", closed.display());
        return Check::missing("state-dir", found, Some(format!("sudo chmod o+x {}", closed.display())));
    }
    let free = rustix::fs::statvfs(way).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    match free {
        Ok(free) if free < 1 << 30 => {
            let found = format!("{}: only {} MB are free, an image takes up to 200", way.display(), free >> 20);
            Check::limited("state-dir", found, Some("choose another disk with `--state-dir`".to_owned()))
        }
        Ok(free) => Check::ok("state-dir", format!("{}: {} GB free", way.display(), free >> 30)),
        Err(error) => Check::limited("state-dir", format!("{}: {error}", way.display()), None),
    }
}

fn program(name: &str, id: &'static str, package: Package, what_for: &str) -> Check {
    match find(name) {
        Some(path) => Check::ok(id, path.display().to_string()),
        None => Check::limited(id, format!("`{name}` is not installed: {what_for}"), Some(install(package))),
    }
}

/// Where a program lies on the path of root.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn sources() -> Check {
    match image::sources() {
        Ok(_) => Check::ok("apt-sources", "of this machine's release"),
        Err(error) => {
            let mend = format!("export {}=FILE, with a Debian release in APT's format in FILE", image::SOURCES_ENV);
            Check { verdict: Verdict::Limited, ..Check::missing("apt-sources", error.to_string(), Some(mend)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_the_tests_lacks_nothing() {
        let checks = all();
        let missing: Vec<&Check> = checks.iter().filter(|check| check.verdict == Verdict::Missing).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let ids: std::collections::HashSet<&str> = checks.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks.len());
        for id in ["root", "tun", "overlayfs", "cgroups", "liblxc", "mmdebstrap"] {
            assert!(ids.contains(id), "{id}");
        }
    }

    #[test]
    fn programs_are_found_or_come_with_a_command() {
        assert!(find("sh").is_some());
        let check = program("hwt-no-such-program", "x", Package::Dpkg, "needed for nothing");
        assert_eq!(check.verdict, Verdict::Limited);
        assert!(check.mend.unwrap().contains("dpkg"));
    }
}
