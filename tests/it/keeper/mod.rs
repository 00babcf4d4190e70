//! The keeper process with a switch, a console and a supervisor played by the
//! test; real containers and scripts.

mod evidence;
mod inspected;
mod life;
mod listed;
mod outlive;
mod scripts;
mod start;
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
            matches!(message, FromKeeper::UplinkDown { node: NodeIdx(0), .. }).then_some(())
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
