//! The keeper process with a switch, a console and a supervisor played by the
//! test; real containers and scripts.

mod evidence;
mod inspected;
mod life;
mod listed;
mod outlive;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use honeyweave::container::image::{self, Progress};
use honeyweave::container::keeper::tag;
use honeyweave::container::{FromKeeper, ImageConfig, ImageUser, KeeperConfig, KeeperSays, ToKeeper};
use honeyweave::emulate::{
    Backend, Builtin, Grant, Outward, Secret, Splicing, StartPolicy, TcpPort, Template, UdpPort,
};
use honeyweave::event::{EventId, Said, SessionId};
use honeyweave::node::{
    AddrRange, HostsConfig, LeaseId, Limits, MacMode, NodeConfig, NodeIdx, Segment, UplinkConfig, UplinkIo,
};
use honeyweave::service::Script;
use honeyweave::sys::seqpacket::Channel;
use honeyweave::sys::{handed, memory};
use honeyweave::wire::Mac;

use super::net::{Net, wait_for};

use wire::{Tap, Wire, ssh};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Where images of tests are built, once for all tests and test runs.
fn state_dir() -> PathBuf {
    let dir = std::env::var_os("HONEYWEAVE_TEST_STATE").map(PathBuf::from);
    dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-state"))
}

fn small() -> ImageConfig {
    let user = |name: &str, password: &str| ImageUser { name: name.into(), password: password.into() };
    ImageConfig {
        name: "small".into(),
        recipe: "small".into(),
        packages: vec![],
        users: vec![user("root", "toor"), user("guest", "guest")],
        ..ImageConfig::default()
    }
}

fn variant(name: &str, recipe: &str, package: &str) -> ImageConfig {
    ImageConfig { name: name.into(), recipe: recipe.into(), packages: vec![package.into()], ..small() }
}

fn debian_image() -> ImageConfig {
    ImageConfig { name: "debian".into(), recipe: "debian".into(), ..small() }
}

/// A population of containers, 10.77.0.2 and up, and one host of its own, 10.77.0.1.
fn config(scripts: Vec<Script>) -> KeeperConfig {
    let template = |name: &str, image: &str, personality: Builtin| Template {
        name: name.into(),
        personality: personality.into(),
        oui: [0, 12, 41],
        tcp: BTreeMap::new(),
        tcp_default: TcpPort::Closed,
        udp: BTreeMap::new(),
        udp_default: UdpPort::Closed,
        normalize: Default::default(),
        ping: true,
        backend: Some(Backend {
            image: image.into(),
            start: StartPolicy::OnAccess,
            grant: Grant::PerHost,
            predefined: false,
            freeze_secs: 20,
            idle_secs: 60,
            destroy_secs: 3600,
            splice: Splicing::Auto,
            limits: Default::default(),
            hardware: Default::default(),
            no_new_privs: false,
        }),
        outward: Outward::Reflect,
        gate: Default::default(),
        cases: vec![],
        talk: Default::default(),
    };
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let range = |first: &str, last: &str| AddrRange { first: ip(first), last: ip(last) };
    let population = HostsConfig {
        ranges: vec![range("10.77.0.2", "10.77.0.254")],
        single: false,
        hostname: None,
        mix: vec![(0, 1)],
        templates: vec![
            template("server", "small", Builtin::Windows),
            template("broken", "missing", Builtin::Linux),
            template("crash", "crash", Builtin::Linux),
            template("tools", "tools", Builtin::Linux),
            template("debian", "debian", Builtin::Linux),
        ],
        services: vec![],
        mac_mode: MacMode::PerHost,
        mac: None,
        segment: Segment {
            prefixes: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
            gateways: vec![ip("10.77.0.254"), ip("fd77::fe")],
        },
        claim: None,
        dhcp: None,
        inside: vec![],
        response_time: honeyweave::node::ResponseTime::None,
        limits: Limits::default(),
    };
    let with = |first: &str, mix: u16, hosts: &HostsConfig| HostsConfig {
        ranges: vec![range(first, first)],
        mix: vec![(mix, 1)],
        ..hosts.clone()
    };
    let single = HostsConfig {
        ranges: vec![range("10.77.0.1", "10.77.0.1"), range("fd77::1", "fd77::1")],
        single: true,
        hostname: Some("web-prod-03".into()),
        ..population.clone()
    };
    let (broken, crash) = (with("10.77.1.1", 1, &population), with("10.77.1.2", 2, &population));
    let (tools, debian) = (with("10.77.0.3", 3, &single), with("10.77.0.4", 4, &single));
    let nodes = [
        ("staff", population),
        ("web", single),
        ("broken", broken),
        ("crash", crash),
        ("tools", tools),
        ("debian", debian),
    ];
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    KeeperConfig {
        name: format!("hwt-{}-{number}", std::process::id()),
        state_dir: state_dir(),
        secret: Secret([5; 16]),
        nodes: nodes.map(|(name, hosts)| (name.to_owned(), NodeConfig::Hosts(hosts))).to_vec(),
        scripts,
        threads: 1,
        images: vec![small(), variant("crash", "small", "netbase"), variant("tools", "small", "nmap"), debian_image()],
        evidence: Default::default(),
        truncate: None,
        eve: None,
        by_mounts: false,
        // There is no console that would read it.
        logs: false,
    }
}

/// A running keeper and the other ends of its channels.
struct Keeper {
    child: Child,
    config: KeeperConfig,
    switch: Channel,
    console: Channel,
    supervisor: Option<Channel>,
    heard: VecDeque<(FromKeeper, Vec<OwnedFd>)>,
}

impl Keeper {
    fn start(config: KeeperConfig) -> Keeper {
        let keeper = Keeper::start_unasked(config);
        keeper.say(&ToKeeper::Hello);
        keeper
    }

    /// Without a word of the switch.
    fn start_unasked(config: KeeperConfig) -> Keeper {
        Keeper::start_in(config, None)
    }

    /// The same, in a network namespace.
    fn start_in(config: KeeperConfig, netns: Option<&str>) -> Keeper {
        image::ensure(&state_dir(), &[small()], &Progress::Silent).unwrap();
        let (supervisor, its_supervisor) = Channel::pair().unwrap();
        let (switch, its_switch) = Channel::pair().unwrap();
        let (console, its_console) = Channel::pair().unwrap();
        let child = spawn(&config, [its_supervisor, its_switch, its_console], netns);
        switch.set_nonblocking(true).unwrap();
        console.set_nonblocking(true).unwrap();
        Keeper { child, config, switch, console, supervisor: Some(supervisor), heard: VecDeque::new() }
    }

    fn say(&self, message: &ToKeeper) {
        self.switch.send_msg(message, &[]).unwrap();
    }

    /// Waits for a message that `wanted` takes.
    fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromKeeper, &mut Vec<OwnedFd>) -> Option<T>) -> T {
        wait_for(what, || {
            while let Ok(Some((message, fds))) = self.switch.recv_msg::<FromKeeper>() {
                self.heard.push_back((message, fds));
            }
            let mut at = None;
            for (index, (message, fds)) in self.heard.iter_mut().enumerate() {
                if let Some(found) = wanted(message, fds) {
                    at = Some((index, found));
                    break;
                }
            }
            let (index, found) = at?;
            self.heard.remove(index);
            Some(found)
        })
    }

    fn lease(&mut self, id: u64, node: u16, host: &str) {
        self.grant(id, node, host, None);
    }

    fn grant(&mut self, id: u64, node: u16, host: &str, attacker: Option<&str>) {
        let (host, attacker) = (host.parse().unwrap(), attacker.map(|ip| ip.parse().unwrap()));
        let by = Some((attacker.unwrap_or(Ipv4Addr::new(10, 77, 0, 254).into()), SessionId(id)));
        self.say(&ToKeeper::Lease { lease: LeaseId(id), node: NodeIdx(node), host, by, attacker });
    }

    fn tap(&mut self, id: u64) -> Tap {
        let tap = self.hear("the TAP", |message, fds| match message {
            FromKeeper::LeaseTap { lease, mtu } if lease.0 == id => Some((fds.pop().unwrap(), *mtu)),
            FromKeeper::LeaseGone { lease, why } if lease.0 == id => panic!("{why}"),
            _ => None,
        });
        assert_eq!(tap.1, 1500);
        Tap(tap.0)
    }

    fn live(&mut self, id: u64) {
        self.hear("the container", |message, _| match message {
            FromKeeper::LeaseLive { lease } if lease.0 == id => Some(()),
            FromKeeper::LeaseGone { lease, why } if lease.0 == id => panic!("{why}"),
            _ => None,
        });
    }

    fn gone(&mut self, id: u64) -> String {
        self.hear("the end of the lease", |message, _| match message {
            FromKeeper::LeaseGone { lease, why } if lease.0 == id => Some(why.clone()),
            _ => None,
        })
    }

    /// The processes of its containers that are their init.
    fn inits(&self) -> Vec<i32> {
        let name = format!("lxc.payload.hw-{}-", tag(&self.config));
        processes(|pid| {
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap_or_default();
            cgroup.contains(&name) && ids.split_whitespace().last() == Some("1")
        })
    }

    /// What there still is of its containers.
    fn traces(&self) -> Vec<String> {
        let tag = tag(&self.config);
        let (container, tap) = (format!("hw-{tag}-"), format!("hw{tag}"));
        let mut traces = Vec::new();
        let links = std::fs::read_to_string("/proc/net/dev").unwrap();
        traces.extend(links.lines().filter(|line| line.contains(&tap)).map(|line| format!("link {line}")));
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        traces.extend(mounts.lines().filter(|line| line.contains(&container)).map(|line| format!("mount {line}")));
        for entry in walk(Path::new("/sys/fs/cgroup"), 3) {
            if entry.to_string_lossy().contains(&container) {
                traces.push(format!("cgroup {}", entry.display()));
            }
        }
        for pid in processes(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            // One that waits to be reaped by whoever runs this machine is gone all the same.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            (String::from_utf8_lossy(&line).contains(&container) || cgroup.contains(&container))
                && !status.contains("State:\tZ")
        }) {
            traces.push(format!("process {pid}"));
        }
        let dir = self.config.state_dir.join(&self.config.name).join("containers");
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        traces.extend(files.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| name.contains("hw-")));
        traces
    }

    /// Asks it to end by closing the life line; returns how long that took.
    fn end(mut self) -> Duration {
        let began = Instant::now();
        self.supervisor = None;
        wait_for("the keeper's end", || self.child.try_wait().unwrap());
        assert_eq!(self.traces(), Vec::<String>::new());
        assert!(!self.config.state_dir.join(&self.config.name).join("containers").exists());
        began.elapsed()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.supervisor = None;
        let deadline = Instant::now() + Duration::from_secs(9);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(self.config.state_dir.join(&self.config.name));
    }
}

/// Starts the keeper as the supervisor does, in network namespace `netns` if one is given.
fn spawn(config: &KeeperConfig, ends: [Channel; 3], netns: Option<&str>) -> Child {
    let config = memory::sealed(c"hwt-config", &postcard::to_stdvec(config).unwrap()).unwrap();
    let fds: Vec<_> = std::iter::once(config.as_fd()).chain(ends.iter().map(AsFd::as_fd)).collect();
    let program = env!("CARGO_BIN_EXE_honeyweave");
    let mut command = match netns {
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, program]);
            command
        }
        None => Command::new(program),
    };
    command.args(["__keeper", "hwt"]).stdin(Stdio::null());
    handed::hand_down(&mut command, &fds).unwrap();
    command.spawn().unwrap()
}

fn processes(wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| wanted(*pid)).collect()
}

fn walk(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            if depth > 1 {
                found.extend(walk(&entry.path(), depth - 1));
            }
        }
    }
    found
}

#[test]
fn a_container_lives_and_leaves_nothing() {
    let mut keeper = Keeper::start(config(vec![]));
    keeper.lease(1, 1, "10.77.0.1");
    let tap = keeper.tap(1);
    let ip = Ipv4Addr::new(10, 77, 0, 1);
    let mac = tap.arp(ip);
    keeper.live(1);
    assert_eq!(mac.0[..3], [0, 12, 41]);
    // The personality's TTL, not Linux's.
    assert_eq!(tap.ping(mac, ip), 128);
    let inits = keeper.inits();
    assert_eq!(inits.len(), 1);
    let inside = |path: &str| format!("/proc/{}/root{path}", inits[0]);
    assert_eq!(std::fs::read_to_string(inside("/etc/hostname")).unwrap(), "web-prod-03\n");
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", inits[0])).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", inits[0])).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", inits[0])).unwrap();
    assert!(!mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| at.starts_with("/lib"))), "{mounts}");
    // The second address, usable without the second that duplicate-address detection takes.
    let addresses = std::fs::read_to_string(format!("/proc/{}/net/if_inet6", inits[0])).unwrap();
    let address = addresses.lines().find(|line| line.starts_with("fd770000000000000000000000000001"));
    let flags = address.and_then(|line| line.split_whitespace().nth(4)).unwrap_or("none");
    assert_eq!(u8::from_str_radix(flags, 16).unwrap() & 0x40, 0, "tentative: {addresses}");
    keeper.say(&ToKeeper::Release { lease: LeaseId(1), keep: false });
    assert_eq!(keeper.gone(1), "released");
    // What was changed in it is taken first.
    wait_for("that nothing is left", || keeper.traces().is_empty().then_some(()));
    // The same host again: the same MAC.
    keeper.lease(2, 1, "10.77.0.1");
    assert_eq!(keeper.tap(2).arp(ip), mac);
    let took = keeper.end();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn an_attacker_logs_in_and_looks_around() {
    let mut keeper = Keeper::start(config(vec![]));
    let net = Net::new();
    let attacker = net.ns("attacker");
    for lease in [1, 2] {
        keeper.lease(lease, 1, "10.77.0.1");
        let wire = Wire::lay(keeper.tap(lease), &attacker, &["10.77.0.254/24", "fd77::fe/64"]);
        let run = |user: &str, ip: &str, command: &str| {
            let password = if user == "root" { "toor" } else { "guest" };
            let login = format!("{user}:{password}@{ip}");
            ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), &login, command)
        };
        // The same key at both addresses and at the second contact; an empty home each time.
        // Without a console nobody reads the log, and whoever says more than ten things there waits.
        assert_eq!(run("root", "10.77.0.1", "id -u; hostname; ls; touch left-behind"), "0\nweb-prod-03\n");
        assert_eq!(run("guest", "fd77::1", "id -un; pwd"), "guest\n/home/guest\n");
        assert!(run("root", "10.77.0.1", "ping -c1 -W5 10.77.0.254").contains("1 packets received"));
        assert!(run("root", "10.77.0.1", "ip route").contains("default via 10.77.0.254"));
        // The password of another account, and nothing of the machine's.
        assert_eq!(run("root", "10.77.0.1", "su guest -c 'id -un'"), "guest\n");
        let denied = run(
            "root",
            "10.77.0.1",
            "mount -t tmpfs none /mnt; unshare -U id; echo 1 > /proc/sys/kernel/panic; ls /sys/fs/cgroup; dmesg; true",
        );
        assert_eq!(denied, "");
        assert!(!run("root", "10.77.0.1", "cat /proc/self/cgroup /proc/1/environ").contains("hwt-"));
        drop(wire);
        keeper.say(&ToKeeper::Release { lease: LeaseId(lease), keep: false });
        keeper.gone(lease);
    }
    keeper.end();
}

#[test]
fn nmap_runs_inside() {
    let config = config(vec![]);
    image::build(&state_dir(), &config.images[2], false, &Progress::Silent).unwrap();
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 4, "10.77.0.3");
    let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    let login = "root:toor@10.77.0.3";
    let host = ("tools", "10.77.0.3");
    let _listener = attacker.enter(|| std::net::TcpListener::bind("10.77.0.254:8080").unwrap());
    let text = ssh(&attacker, &keeper.config, host, login, "nmap -n -sS -p 8079-8080 10.77.0.254");
    assert!(text.contains("8080/tcp open") && text.contains("8079/tcp closed"), "{text}");
    keeper.end();
}

#[test]
fn a_debian_container_serves_ssh_and_web() {
    let config = config(vec![]);
    image::build(&state_dir(), &config.images[3], false, &Progress::Silent).unwrap();
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 5, "10.77.0.4");
    let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    let host = ("debian", "10.77.0.4");
    let run = |login: &str, command: &str| ssh(&attacker, &keeper.config, host, login, command);
    let text = run("root:toor@10.77.0.4", "id -u; hostname; cat /etc/machine-id | wc -c; pgrep -x init");
    assert_eq!(text, "0\nweb-prod-03\n33\n1\n");
    assert_eq!(run("guest:guest@10.77.0.4", "id -un; pwd"), "guest\n/home/guest\n");
    assert!(run("guest:guest@10.77.0.4", "ping -c1 -W5 10.77.0.254").contains(" 1 received"));
    let page = wait_for("the web server", || {
        let output = attacker.run(&["curl", "-s", "-i", "http://10.77.0.4/"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(page.contains("Server: nginx") && page.contains("Welcome to nginx"), "{page}");
    keeper.end();
}

#[test]
fn a_container_is_there_soon() {
    let mut keeper = Keeper::start(config(vec![]));
    let mut took = Vec::new();
    for id in 0..9 {
        let began = Instant::now();
        keeper.lease(id, 0, "10.77.0.40");
        // Kept until the end: with the last descriptor the device vanishes from the container.
        let tap = keeper.tap(id);
        tap.arp(Ipv4Addr::new(10, 77, 0, 40));
        let answered = began.elapsed();
        keeper.live(id);
        let released = Instant::now();
        keeper.say(&ToKeeper::Release { lease: LeaseId(id), keep: false });
        keeper.gone(id);
        took.push((answered, released.elapsed()));
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let start = median(took.iter().map(|(start, _)| *start).collect());
    let end = median(took.iter().map(|(_, end)| *end).collect());
    eprintln!("lease until ARP answers {start:?}, release until nothing is left {end:?}");
    // What it takes on a quiet machine is a tenth of that.
    assert!(start < Duration::from_millis(500) && end < Duration::from_secs(2), "{start:?}, {end:?}");
    keeper.end();
}

#[test]
fn many_containers_start_at_once_and_end_with_the_keeper() {
    let mut keeper = Keeper::start(config(vec![]));
    let began = Instant::now();
    let count = 12;
    for host in 0..count {
        keeper.lease(host, 0, &format!("10.77.0.{}", 10 + host));
    }
    let taps: Vec<Tap> = (0..count).map(|host| keeper.tap(host)).collect();
    let macs: std::collections::HashSet<Mac> =
        taps.iter().zip(0..).map(|(tap, host)| tap.arp(Ipv4Addr::new(10, 77, 0, 10 + host))).collect();
    assert_eq!(macs.len(), count as usize);
    eprintln!("{count} containers answer ARP after {:?}", began.elapsed());
    (0..count).for_each(|host| keeper.live(host));
    assert_eq!(keeper.inits().len(), count as usize);
    // A second lease of a host that has one is refused.
    keeper.lease(99, 0, "10.77.0.10");
    assert!(keeper.gone(99).contains("has a container already"));
    keeper.end();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let config = config(vec![]);
    // An image whose init is not there.
    let image = image::build(&state_dir(), &config.images[1], false, &Progress::Silent).unwrap();
    // Programs find their libraries at once, as on any machine: a service's answer does not take longer than there.
    assert!(image.rootfs().join("etc/ld.so.cache").is_file());
    std::fs::remove_file(image.rootfs().join("sbin/init")).unwrap_or_default();
    let mut keeper = Keeper::start(config);
    keeper.lease(1, 2, "10.77.1.1");
    let why = keeper.gone(1);
    assert!(why.contains("no recipe") || why.contains("not built"), "{why}");
    keeper.lease(2, 3, "10.77.1.2");
    let why = keeper.gone(2);
    assert!(why.contains("/sbin/init") || why.contains("exec"), "{why}");
    assert_eq!(keeper.traces(), Vec::<String>::new());
    keeper.lease(3, 0, "10.99.0.1");
    assert_eq!(keeper.gone(3), "10.99.0.1 is no host of node staff");
    keeper.end();
}

#[test]
fn a_container_that_dies_is_told() {
    let mut keeper = Keeper::start(config(vec![]));
    for (id, victim) in [(1, "init"), (2, "monitor")] {
        keeper.lease(id, 0, "10.77.0.20");
        let _tap = keeper.tap(id);
        keeper.live(id);
        let init = keeper.inits()[0];
        let pid = match victim {
            "init" => init,
            _ => honeyweave::container::worker::parent_of(init).unwrap(),
        };
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(keeper.gone(id), "its init ended");
        // Its disk stays for who comes back, and what is written down about it; nothing else is mounted. What was changed
        // is listed, which takes a moment.
        let traces = wait_for("the end of its processes", || {
            let traces = keeper.traces();
            (!traces.iter().any(|trace| trace.starts_with("process "))).then_some(traces)
        });
        let (mounts, files): (Vec<_>, Vec<_>) = traces.iter().partition(|trace| trace.starts_with("mount "));
        assert!(mounts.len() == 1 && !mounts[0].contains("rootfs"), "{victim}: {traces:?}");
        assert!(files.len() <= 3 && files.iter().all(|file| file.starts_with("hw-")), "{victim}: {traces:?}");
    }
    keeper.end();
}

#[test]
fn what_cannot_go_on_after_a_keepers_death_its_successor_removes() {
    let mut keeper = Keeper::start(config(vec![]));
    keeper.lease(1, 0, "10.77.0.30");
    let tap = keeper.tap(1);
    keeper.live(1);
    keeper.child.kill().unwrap();
    keeper.child.wait().unwrap();
    // Nobody would give the TAP of its container back.
    let monitor = honeyweave::container::worker::parent_of(keeper.inits()[0]).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(monitor).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert!(!keeper.traces().is_empty());
    let mut successor = Keeper::start_unasked(keeper.config.clone());
    assert_eq!(successor.gone(1), "the keeper was started anew");
    successor.lease(2, 0, "10.77.0.30");
    successor.tap(2).arp(Ipv4Addr::new(10, 77, 0, 30));
    drop(tap);
    successor.end();
}

#[test]
fn an_uplink_flaps_vanishes_and_returns() {
    let net = Net::new();
    let ns = net.ns("keeper");
    let uplink = UplinkConfig { io: UplinkIo::Packet, ..UplinkConfig::new("up0") };
    let config = KeeperConfig { nodes: vec![("edge".into(), NodeConfig::Uplink(uplink))], ..config(vec![]) };
    let mut keeper = Keeper::start_in(config, Some(&ns.name));
    keeper.say(&ToKeeper::Hello);
    let up = |keeper: &mut Keeper| {
        keeper.hear("the uplink", |message, fds| match message {
            FromKeeper::Uplink { node: NodeIdx(0), mtu: 1500, xdp: None, .. } => fds.pop(),
            _ => None,
        })
    };
    let down = |keeper: &mut Keeper| {
        keeper.hear("the loss of the uplink", |message, _| {
            (*message == FromKeeper::UplinkDown { node: NodeIdx(0) }).then_some(())
        });
    };
    ns.sh(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "peer0"]);
    ns.sh(&["ip", "link", "set", "peer0", "up"]);
    let socket = up(&mut keeper);
    // It was switched on and hears what is not for it.
    let link = ns.sh(&["ip", "-d", "link", "show", "up0"]);
    assert!(link.contains("UP") && link.contains("promiscuity 1"), "{link}");
    drop(socket);
    ns.sh(&["ip", "link", "set", "up0", "down"]);
    down(&mut keeper);
    ns.sh(&["ip", "link", "set", "up0", "up"]);
    up(&mut keeper);
    ns.sh(&["ip", "link", "del", "up0"]);
    down(&mut keeper);
    ns.sh(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "peer0"]);
    up(&mut keeper);
    // Its successor, after a death, opens what the switch has not had: the switch is still there.
    keeper.child.kill().unwrap();
    keeper.child.wait().unwrap();
    let mut successor = Keeper::start_in(keeper.config.clone(), Some(&ns.name));
    successor.hear("a question", |message, _| (*message == FromKeeper::Follows).then_some(()));
    successor.say(&ToKeeper::Uses { uplinks: vec![], taps: vec![] });
    up(&mut successor);
    let mut said = Vec::new();
    while let Ok(Some((KeeperSays::Said(Said { event, data }), _))) = keeper.console.recv_msg() {
        assert_eq!((event.id, event.node), (EventId::DeviceState, 0));
        said.push(String::from_utf8(data).unwrap());
    }
    // Whether it was looked at before it was made is a matter of chance.
    said.retain(|text| text != "up0 is not there");
    assert_eq!(said.len(), 5, "{said:?}");
    // What is being removed goes down first, which may be seen or not.
    let gone = said.remove(3);
    assert!(["up0 vanished", "up0 went down"].contains(&&*gone), "{gone}");
    assert_eq!(said, ["up0 is up", "up0 went down", "up0 is up", "up0 is up"]);
    successor.end();
}

#[test]
fn containers_are_limited_inside_a_network_namespace_too() {
    let net = Net::new();
    let ns = net.ns("keeper");
    // `ip netns exec` hides the machine's cgroups from what it starts.
    let mut keeper = Keeper::start_in(config(vec![]), Some(&ns.name));
    keeper.say(&ToKeeper::Hello);
    keeper.lease(1, 0, "10.77.0.50");
    let tap = keeper.tap(1);
    tap.arp(Ipv4Addr::new(10, 77, 0, 50));
    keeper.live(1);
    let inits = keeper.inits();
    assert_eq!(inits.len(), 1);
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", inits[0])).unwrap();
    let line = cgroups.lines().find(|line| line.contains(":pids:") || line.starts_with("0::/lxc")).unwrap();
    let path = line.rsplit(':').next().unwrap();
    let limit = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .iter()
        .find_map(|mount| std::fs::read_to_string(format!("{mount}{path}/pids.max")).ok());
    assert_eq!(limit.as_deref(), Some("512\n"));
    keeper.end();
}

fn script(command: &[&str], timeout_secs: u32) -> Script {
    Script { command: command.iter().map(|&word| word.into()).collect(), timeout_secs, max_running: 2 }
}

#[test]
fn scripts_serve_connections_confined() {
    let lines =
        "while read line; do [ \"$line\" = quit ] && exit; echo \"$HONEYD_IP_SRC:$HONEYD_SRC_PORT $line\"; done";
    let report = "id -u; grep -c : /proc/net/dev; (sleep 600 &) ; echo $HONEYD_IP_DST $HONEYD_DST_PORT $HONEYWEAVE_NET";
    let scripts = vec![
        script(&["/bin/sh", "-c", lines], 60),
        script(&["/bin/sh", "-c", report], 60),
        script(&["/bin/sleep", "600"], 1),
        script(&["/nonexistent/program"], 1),
    ];
    let mut keeper = Keeper::start(config(scripts));
    let name = keeper.config.name.clone();
    let open = |keeper: &mut Keeper, conn: u64, script: u16| -> Result<std::fs::File, String> {
        let (peer, local) = ("192.0.2.7:4242".parse().unwrap(), "10.77.0.9:23".parse().unwrap());
        keeper.say(&ToKeeper::Script { conn, script, peer, local });
        keeper.hear("the script", |message, fds| match message {
            FromKeeper::ScriptOpen { conn: of } if *of == conn => Some(Ok(std::fs::File::from(fds.pop().unwrap()))),
            FromKeeper::ScriptFailed { conn: of, why } if *of == conn => Some(Err(why.clone())),
            _ => None,
        })
    };
    let mut echo = open(&mut keeper, 1, 0).unwrap();
    echo.write_all(b"hello\nquit\n").unwrap();
    let mut text = String::new();
    echo.read_to_string(&mut text).unwrap();
    assert_eq!(text, "192.0.2.7:4242 hello\n");
    let mut text = String::new();
    open(&mut keeper, 2, 1).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["61982", "1", &format!("10.77.0.9 23 {name}")]);
    // Two may run; the third is refused, until the first two ran out of time.
    let began = Instant::now();
    let mut slow = [open(&mut keeper, 3, 2).unwrap(), open(&mut keeper, 4, 2).unwrap()];
    assert!(open(&mut keeper, 5, 2).unwrap_err().contains("max_running"));
    for socket in &mut slow {
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert!(open(&mut keeper, 6, 3).unwrap_err().contains("/nonexistent/program cannot be started"));
    assert!(open(&mut keeper, 7, 9).unwrap_err().contains("no script 9"));
    wait_for("room for another", || open(&mut keeper, 8, 2).ok());
    let me = keeper.child.id();
    keeper.end();
    let parent = |pid: i32| honeyweave::container::worker::parent_of(pid) == Some(me as i32);
    assert_eq!(processes(parent), Vec::<i32>::new());
}
