//! What liblxc is told about a container, and how its directory is made.
//!
//! Root inside is user 1,000,000 outside. It keeps what an intruder expects of a
//! root shell (raw sockets, network configuration, ptrace, set-uid programs); it
//! loses what reaches the kernel's deeper parts: mounting, nested user
//! namespaces, modules, keys, BPF, the clock.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use rustix::fs::{FileType, Mode};
use rustix::process::Resource;

use super::apparmor;
use super::cgroup::Layout;
use super::disk::{self, Disks};
use super::hide;
use super::host::Host;
use super::leftovers;
use super::machine::{Age, Machine};
use super::own_files::{self, NOBODY};
use super::ssh_key;
use crate::container::image::{HostKey, Image};
use crate::container::worker::{LOWER, Start};
use crate::container::{ID_BASE, ID_COUNT, KeeperConfig};
use crate::emulate::{Backend, Grant, Template};
use crate::node::{HostsConfig, NodeConfig};
use crate::sys::mounts;

/// The devices that may be used; all others, the machine's disks among them, may at most be named.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Locked memory, message queues and pending signals are the machine's, not the container's, so they are bounded
/// as on any machine; core files would go where the machine's kernel says.
const PRLIMITS: [(&str, Resource, u64); 5] = [
    ("memlock", Resource::Memlock, 8 << 20),
    ("msgqueue", Resource::Msgqueue, 819_200),
    ("sigpending", Resource::Sigpending, 8192),
    ("core", Resource::Core, 0),
    ("rtprio", Resource::Rtprio, 0),
];

pub(super) const DROPPED_CAPABILITIES: &str = "audit_control audit_read audit_write block_suspend bpf checkpoint_restore \
    linux_immutable mac_admin mac_override perfmon sys_admin sys_boot sys_module sys_pacct sys_rawio sys_time \
    syslog wake_alarm";

/// The system calls that a container is refused. `clone` and `unshare` fail only for a new user namespace, and
/// `clone3`, whose flags a filter cannot see, is said not to exist, upon which C libraries use `clone`.
pub const SECCOMP: &str = "2
denylist
reject_force_umount
[all]
kexec_load errno 1
kexec_file_load errno 1
open_by_handle_at errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
bpf errno 1
perf_event_open errno 1
userfaultfd errno 1
io_uring_setup errno 38
io_uring_enter errno 38
io_uring_register errno 38
add_key errno 38
keyctl errno 38
request_key errno 38
clone3 errno 38
unshare errno 1 [0,268435456,SCMP_CMP_MASKED_EQ,268435456]
clone errno 1 [0,268435456,SCMP_CMP_MASKED_EQ,268435456]
";

/// What a container calls its TAP.
pub const INTERFACE: &str = "eth0";

/// The first template whose containers are of image `name`, or of any image.
pub fn usual<'a>(config: &'a KeeperConfig, name: Option<&str>) -> Option<(&'a Template, &'a Backend)> {
    let templates = config.nodes.iter().filter_map(|(_, node)| match node {
        NodeConfig::Hosts(hosts) => Some(&hosts.templates),
        _ => None,
    });
    let mut backed = templates.flatten().filter_map(|template| Some((template, template.backend.as_ref()?)));
    backed.find(|(_, backend)| name.is_none_or(|name| backend.image == name))
}

/// How many containers there may be at once, one that is ending beside them; any number where some are made ahead, or are kept for
/// attackers who may come back.
pub fn most(config: &KeeperConfig) -> u64 {
    let of_node = |hosts: &HostsConfig| {
        let backends = || hosts.templates.iter().filter_map(|template| template.backend.as_ref());
        let limit = u64::from(hosts.limits.containers);
        let has_others = |backend: &Backend| backend.grant == Grant::PerAttacker || backend.predefined;
        match backends().next() {
            None => 0,
            Some(_) if backends().any(has_others) => u64::MAX,
            Some(_) if hosts.single => limit.min(1),
            Some(_) => limit.min(hosts.addresses()),
        }
    };
    let of_nodes = config.nodes.iter().map(|(_, node)| match node {
        NodeConfig::Hosts(hosts) => of_node(hosts),
        _ => 0,
    });
    let has_pools = config.images.iter().any(|image| image.pool > 0);
    of_nodes.fold(if has_pools { u64::MAX } else { 1 }, u64::saturating_add)
}

/// Where a container's things lie.
#[derive(Clone, Debug)]
pub struct Place {
    /// What tells it from others of the honeynet, ever.
    pub number: u32,
    /// Name of the container.
    pub name: String,
    /// Name of its TAP.
    pub tap: String,
    /// The directory of all containers of the honeynet.
    pub containers: PathBuf,
    /// Its own directory below that.
    pub dir: PathBuf,
}

impl Place {
    /// The place of container `number` of the honeynet with tag `tag`, whose containers lie in `containers`.
    pub fn of(containers: &Path, tag: &str, number: u32) -> Place {
        let name = leftovers::container_name(tag, number);
        let (tap, dir) = (leftovers::tap_name(tag, number), containers.join(&name));
        Place { number, name, tap, containers: containers.to_owned(), dir }
    }

    /// What differs from its image.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Where the overlay is mounted.
    fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }
}

/// The request that starts a container of `image`: that of `host`, or, without one, one that [`super::identity`] makes
/// a host's later. Until then its interface is down and has no address, so that it says nothing to anybody.
pub fn start(
    host: Option<&Host<'_>>,
    (age, machine, disk): (Age, Machine, u64),
    image: &Image,
    place: &Place,
    (layout, seccomp): (&Layout, &Path),
) -> Start {
    let mut config: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| config.push((key.into(), value.into()));
    let log = place.dir.join("log");
    set("lxc.log.level", "ERROR");
    set("lxc.log.file", &log.display().to_string());
    for kind in ["u", "g"] {
        set("lxc.idmap", &format!("{kind} 0 {ID_BASE} {ID_COUNT}"));
    }
    // The worker mounts it: liblxc would show the machine's paths in the container's table of mounts.
    set("lxc.rootfs.path", &format!("dir:{}", place.rootfs().display()));
    set("lxc.uts.name", host.map_or(NOBODY, |host| &host.hostname));
    set("lxc.autodev", "0");
    set("lxc.console.path", "none");
    set("lxc.tty.max", "0");
    set("lxc.pty.max", "64");
    set("lxc.mount.auto", "proc:mixed sys:ro");
    set("lxc.cap.drop", DROPPED_CAPABILITIES);
    set("lxc.seccomp.profile", &seccomp.display().to_string());
    set("lxc.proc.oom_score_adj", "500");
    set("lxc.environment", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("lxc.environment", "TERM=linux");
    image.manifest.environment.iter().for_each(|variable| set("lxc.environment", variable));
    if let Some(workdir) = &image.manifest.workdir {
        set("lxc.init.cwd", workdir);
    }
    // The emulated host tells of each closed port, and so must its container.
    set("lxc.sysctl.net.ipv4.icmp_ratelimit", "0");
    for (key, value) in bounds(host.and_then(|host| host.template.backend.as_ref()), layout) {
        set(&key, &value);
    }
    for (key, value) in clocks(age.uptime_secs) {
        set(&key, &value);
    }
    if let Some(profile) = apparmor::profile() {
        set("lxc.apparmor.profile", profile);
    }
    set("lxc.net.0.type", "phys");
    set("lxc.net.0.link", &place.tap);
    set("lxc.net.0.name", INTERFACE);
    let mut start = Start {
        name: place.name.clone(),
        lxcpath: place.containers.clone(),
        config: Vec::new(),
        init: as_a_kernel_starts_it(&image.manifest.init, &image.rootfs()),
        log,
        dir: place.dir.clone(),
        machine: Box::new(machine),
        disk,
        last_pid: age.last_pid,
        ipv6: Vec::new(),
        ipv6_gateway: None,
        logs: false,
    };
    if let Some(host) = host {
        network(host, &mut set, &mut start);
    }
    start.config = config;
    start
}

/// What the network of `host` is.
fn network(host: &Host<'_>, set: &mut impl FnMut(&str, &str), start: &mut Start) {
    set("lxc.sysctl.net.ipv4.ip_default_ttl", &host.template.personality.get().ttl.to_string());
    set("lxc.net.0.hwaddr", &host.mac.to_string());
    set("lxc.net.0.flags", "up");
    for (address, prefix_len) in &host.addresses {
        match address {
            IpAddr::V4(v4) => {
                // liblxc's own idea of the broadcast address lacks the network's octets, and an intruder would see it.
                let net = Ipv4Net::new(*v4, *prefix_len);
                let broadcast = net.map(|net| format!(" {}", net.broadcast())).unwrap_or_default();
                set("lxc.net.0.ipv4.address", &format!("{v4}/{prefix_len}{broadcast}"));
            }
            IpAddr::V6(v6) => start.ipv6.push((*v6, *prefix_len)),
        }
    }
    if !start.ipv6.is_empty() {
        set("lxc.sysctl.net.ipv6.icmp.ratelimit", "0");
    }
    let has_ipv4 = host.addresses.iter().any(|(address, _)| address.is_ipv4());
    for gateway in &host.gateways {
        match gateway {
            IpAddr::V4(v4) if has_ipv4 => set("lxc.net.0.ipv4.gateway", &v4.to_string()),
            IpAddr::V6(v6) if !start.ipv6.is_empty() => start.ipv6_gateway = Some(*v6),
            _ => {}
        }
    }
}

/// How much a container of this kind may use, which can be changed while it runs.
pub fn limits(backend: Option<&Backend>, layout: &Layout) -> Vec<(String, String)> {
    let limits = backend.map(|backend| backend.limits).unwrap_or_default();
    layout.limits(limits.memory, limits.processes, limits.cpu_milli.saturating_mul(100))
}

/// What a container of this kind may use.
fn bounds(backend: Option<&Backend>, layout: &Layout) -> Vec<(String, String)> {
    let mut all = limits(backend, layout);
    all.extend(layout.devices(&DEVICES));
    for (key, resource, most) in PRLIMITS {
        // Not every root may raise a limit, so where ours is lower it stays.
        let own = rustix::process::getrlimit(resource).maximum.unwrap_or(most);
        all.push((format!("lxc.prlimit.{key}"), most.min(own).to_string()));
    }
    if backend.is_some_and(|backend| backend.no_new_privs) {
        all.push(("lxc.no_new_privs".to_owned(), "1".to_owned()));
    }
    all
}

/// The time since a boot that was so long before the machine's own.
fn clocks(uptime_secs: u64) -> Vec<(String, String)> {
    if !Path::new("/proc/self/ns/time").exists() {
        return Vec::new();
    }
    let uptime = format!("{uptime_secs}s");
    ["boot", "monotonic"].map(|clock| (format!("lxc.time.offset.{clock}"), uptime.clone())).to_vec()
}

/// The command of `init` without what liblxc adds to its environment: `container=lxc`, which `systemd-detect-virt`
/// and others look for. A kernel hands over nothing but these. Where the image has no `env` it stays as it is, and so it
/// does where there is no such program: liblxc says that, and `env` would not be heard.
fn as_a_kernel_starts_it(init: &[String], rootfs: &Path) -> Vec<String> {
    let is_there = |path: &&str| rootfs.join(path.trim_start_matches('/')).symlink_metadata().is_ok();
    let has_init = init.first().is_some_and(|init| is_there(&init.as_str()));
    match ["/usr/bin/env", "/bin/env"].iter().find(|path| is_there(path)) {
        Some(env) if has_init => {
            let words = [*env, "-i", "HOME=/", "TERM=linux"].map(str::to_owned);
            words.into_iter().chain(init.iter().cloned()).collect()
        }
        _ => init.to_vec(),
    }
}

/// Makes the container's directory, on a disk of `size` octets: an overlay of `lower`, empty but for the files that
/// tell this host from others of its image. Without a host they are nobody's, and are written over later; dropbear
/// waits until then, for the other end of the pipe that stands in its key's place.
///
/// # Errors
/// If the disk is full or the state directory cannot be written.
pub fn prepare(
    host: Option<&Host<'_>>,
    kind: HostKey,
    place: &Place,
    lower: &Path,
    (disks, size): (&mut Disks, u64),
) -> io::Result<()> {
    disk::remove(&place.dir)?;
    fs::DirBuilder::new().mode(0o711).create(&place.dir)?;
    disks.mount(&place.dir, size)?;
    fs::create_dir(place.rootfs())?;
    symlink(lower, place.dir.join(LOWER))?;
    let ssh = match kind {
        HostKey::Dropbear => Some("upper/etc/dropbear"),
        HostKey::Openssh => Some("upper/etc/ssh"),
        HostKey::None => None,
    };
    for dir in ["upper", "work", "upper/etc"].into_iter().chain(ssh) {
        let dir = place.dir.join(dir);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        chown(&dir, Some(ID_BASE), Some(ID_BASE))?;
    }
    let etc = place.upper().join("etc");
    let files = match host {
        Some(host) => own_files::of(host, kind)?,
        None => own_files::of_nobody(kind)?,
    };
    let own = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        chown(path, Some(ID_BASE), Some(ID_BASE))
    };
    for (file, content, mode) in files {
        let mut path = etc.join(file);
        if let Some(later) = ssh_key::later(file).filter(|_| host.is_none()) {
            if file == ssh_key::DROPBEAR {
                rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
                own(&path, mode)?;
            }
            path = etc.join(later);
        }
        fs::write(&path, content)?;
        own(&path, mode)?;
    }
    Ok(())
}

/// Makes the directory of a container that has ended fit for another start: the overlay's own directory of the last
/// one is not to be used again, nor the files of its machine.
///
/// # Errors
/// If the disk is full or the state directory cannot be written.
pub fn renew(place: &Place) -> io::Result<()> {
    rest(place)?;
    let _ = fs::remove_dir_all(hide::dir_in(&place.dir));
    let work = place.dir.join("work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir(&work)?;
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755))?;
    chown(&work, Some(ID_BASE), Some(ID_BASE))
}

/// Takes away all that is mounted for a container that has ended but its disk, so that it takes no memory.
///
/// # Errors
/// If the kernel refuses.
pub fn rest(place: &Place) -> io::Result<()> {
    for path in [place.rootfs()].into_iter().chain(hide::mounts_in(&place.dir)) {
        mounts::unmount(&path)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::container::image::Manifest;
    use crate::container::keeper::host::{self, tests::config};
    use crate::node::NodeIdx;

    pub fn image() -> Image {
        let manifest = Manifest {
            name: "small".into(),
            recipe: "small".into(),
            hash: "0".into(),
            packages: vec![],
            users: vec![],
            init: vec!["/sbin/init".into()],
            host_key: HostKey::Dropbear,
            services: vec![],
            environment: vec!["HOME=/root".into()],
            workdir: None,
            size: 0,
        };
        Image { manifest, dir: "/images/small/0".into() }
    }

    #[test]
    fn a_container_is_configured_as_its_host() {
        let config = config();
        let host = host::find(&config, NodeIdx(2), "10.1.0.5".parse().unwrap()).unwrap();
        let place = Place::of(Path::new("/c"), "abcdef", 1);
        let machine = Machine::of(&host, config.secret, &crate::container::keeper::machine::tests::here());
        let made = (Age::of(&host), machine, disk::LEAST);
        let start = start(Some(&host), made, &image(), &place, (&Layout::none(), Path::new("/s")));
        let values = |key: &str| -> Vec<&str> {
            start.config.iter().filter(|(k, _)| k == key).map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("lxc.rootfs.path"), ["dir:/c/hw-abcdef-1/rootfs"]);
        assert_eq!(start.dir, place.dir);
        assert_eq!(values("lxc.idmap"), ["u 0 1000000 65536", "g 0 1000000 65536"]);
        assert_eq!(values("lxc.net.0.ipv4.address"), ["10.1.0.5/16 10.1.255.255"]);
        assert_eq!(values("lxc.net.0.ipv4.gateway"), ["10.1.0.1"]);
        assert_eq!(values("lxc.net.0.hwaddr"), [host.mac.to_string()]);
        assert_eq!(values("lxc.sysctl.net.ipv4.ip_default_ttl"), ["64"]);
        // The clock inside is the one that time stamps outside follow.
        let uptime = format!("{}s", host.identity.uptime_secs(host.ip));
        assert_eq!(values("lxc.time.offset.boot"), [&uptime]);
        assert_eq!(values("lxc.time.offset.monotonic"), [&uptime]);
        assert_eq!(values("lxc.prlimit.core"), ["0"]);
        assert!(values("lxc.no_new_privs").is_empty() && start.last_pid >= 1200);
        assert_eq!(start.ipv6, [("fd00::5".parse().unwrap(), 64)]);
        assert_eq!(start.ipv6_gateway, Some("fd00::1".parse().unwrap()));
        assert!(!start.config.iter().any(|(key, value)| key == "lxc.mount.entry" || value.contains("/lib")));
    }

    #[test]
    fn one_that_is_nobodys_yet_has_an_age_and_no_network() {
        let config = config();
        let (template, _) = usual(&config, Some("small")).unwrap();
        assert!(usual(&config, Some("other")).is_none());
        let place = Place::of(Path::new("/c"), "abcdef", 1);
        let offset = |number| {
            let here = crate::container::keeper::machine::tests::here();
            let machine = Machine::of_nobody(template, number, config.secret, &here);
            let made = (Age::of_nobody(config.secret, number), machine, disk::LEAST);
            let start = start(None, made, &image(), &place, (&Layout::none(), Path::new("/s")));
            assert!(!start.config.iter().any(|(key, _)| key.contains("address") || key.contains("hwaddr")));
            let boot = start.config.iter().find(|(key, _)| key == "lxc.time.offset.boot").unwrap();
            boot.1.trim_end_matches('s').parse::<u64>().unwrap()
        };
        assert!((3600..60 * 86_400).contains(&offset(1)) && offset(1) != offset(2));
    }

    #[test]
    fn disks_are_shared_among_as_many_containers_as_there_may_be() {
        let hosts_of = |config: &mut KeeperConfig, change: &dyn Fn(&mut HostsConfig)| {
            for (_, node) in &mut config.nodes {
                if let NodeConfig::Hosts(hosts) = node {
                    change(hosts);
                }
            }
            most(config)
        };
        let mut config = config();
        // A population of 241 within its limit of 64, a single host, and one that is ending.
        assert_eq!(hosts_of(&mut config, &|_| ()), 66);
        assert_eq!(hosts_of(&mut config, &|hosts| hosts.limits.containers = 10), 12);
        let each = |hosts: &mut HostsConfig| {
            hosts.templates.iter_mut().flat_map(|template| &mut template.backend).for_each(|backend| {
                backend.grant = Grant::PerAttacker;
            });
        };
        assert_eq!(hosts_of(&mut config, &each), u64::MAX);
        assert_eq!(hosts_of(&mut config, &|hosts| hosts.templates.clear()), 1);
    }

    #[test]
    fn an_overlay_belongs_to_the_container() {
        let state = tempfile::tempdir().unwrap();
        let config = config();
        let host = host::find(&config, NodeIdx(2), "10.1.0.5".parse().unwrap()).unwrap();
        let place = Place::of(state.path(), "abcdef", 1);
        let dir = place.dir.clone();
        let mut disks = Disks::new(state.path(), None, 64);
        for _ in 0..2 {
            prepare(Some(&host), HostKey::Openssh, &place, Path::new("/image"), (&mut disks, disk::LEAST)).unwrap();
            assert!(!dir.join("upper/left-over").exists());
            fs::write(dir.join("upper/left-over"), "").unwrap_or_default();
        }
        for path in ["upper", "work", "upper/etc", "upper/etc/hostname"] {
            assert_eq!(fs::metadata(dir.join(path)).unwrap().uid(), ID_BASE, "{path}");
        }
        let key = fs::metadata(dir.join("upper/etc/ssh/ssh_host_ed25519_key")).unwrap();
        assert_eq!((key.mode() & 0o777, key.uid()), (0o600, ID_BASE));
        assert_eq!(fs::read_to_string(dir.join("upper/etc/hostname")).unwrap(), "web-prod-03\n");
        assert!(fs::read_to_string(dir.join("upper/etc/resolv.conf")).unwrap().contains("nameserver 10.1.0.1\n"));
        disk::remove(&dir).unwrap();
    }
}
