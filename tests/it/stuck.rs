//! A peer that never reads costs its own queue only.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use honeyweave::event::DropReason;
use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::Netdev;
use honeyweave::sys::tap;
use sha2::{Digest, Sha256};

use crate::lab::{Lab, process};
use crate::net::{DEADLINE, Net, wait_for};
use crate::netdev::{af_packet, now, payload, test_frame};
use crate::shell::shell;

/// Two hosts with containers: one whose connections pass through, one whose connections end at the emulator; and hosts
/// that have none.
const TOPOLOGY: &str = r#"
name: stuck
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: on-access, idle: 10m}
  relayed:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: on-access, idle: 10m, splice: never}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24], lan: [10.10.0.1/24]}
  core: {kind: switch, ports: 4}
  spliced: {kind: hosts, addresses: 10.10.0.20-10.10.0.21, template: shell}
  relayed: {kind: hosts, addresses: 10.10.0.30-10.10.0.31, template: relayed}
  others: {kind: hosts, addresses: 10.10.0.100-10.10.0.119}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [spliced, "core:2"]
  - endpoints: [relayed, "core:3"]
  - endpoints: [others, "core:4"]
"#;

/// Stops all processes of the containers that run, or lets them go on.
struct Freezer(Vec<PathBuf>);

impl Freezer {
    fn of(lab: &Lab) -> Freezer {
        let groups = lab.cgroups().into_iter().filter(|group| group.to_string_lossy().contains("payload"));
        let file = |group: PathBuf| {
            ["freezer.state", "cgroup.freeze"].map(|name| group.join(name)).into_iter().find(|file| file.exists())
        };
        let files: Vec<PathBuf> = groups.filter_map(file).collect();
        assert!(!files.is_empty(), "a container's cgroup that can be frozen");
        Freezer(files)
    }

    fn set(&self, frozen: bool) {
        for file in &self.0 {
            let v1 = file.ends_with("freezer.state");
            std::fs::write(
                file,
                match (v1, frozen) {
                    (true, true) => "FROZEN",
                    (true, false) => "THAWED",
                    (false, true) => "1",
                    (false, false) => "0",
                },
            )
            .unwrap();
            if v1 && frozen {
                let state = || std::fs::read_to_string(file).unwrap();
                wait_for("the container to freeze", || (state() == "FROZEN\n").then_some(()));
            }
        }
    }
}

/// Memory of a process that it shares with nobody, in octets.
fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (value("RssAnon:")) * 1024
}

/// Writes until nothing has been taken for a while; returns how much was taken of `bytes`.
fn write_until_stuck(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    loop {
        assert!(taken < bytes.len(), "somebody takes all of it");
        match stream.write(&bytes[taken..]) {
            Ok(n) => taken += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
            Err(error) => panic!("after {taken} octets: {error}"),
        }
    }
}

#[test]
fn a_frozen_container_costs_nobody_else_anything() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let switch = process(&lab, "switch").unwrap();
    let bytes = payload(32 << 20);
    let hosts = ["10.10.0.20", "10.10.0.30"];
    // A sink in each of the two (one says goodbye at once, as whoever has nothing to say may), and the beginning of much data.
    let mut streams = hosts.map(|host| {
        let sink = if host == hosts[0] { "sleep 1000 | nc -l -p 4444" } else { "nc -l -p 4444 </dev/null" };
        shell(
            &lab.attacker,
            host,
            &format!("setsid sh -c '{sink} | sha256sum >/tmp/sum' </dev/null >/dev/null 2>&1 &"),
        );
        let connect = || lab.attacker.enter(|| TcpStream::connect((host, 4444))).ok();
        let mut stream = wait_for("the sink", connect);
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&bytes[..1 << 20]).unwrap();
        stream
    });
    let flows = lab.json(&["show", "flows"]).to_string();
    assert_eq!(flows.matches("container, spliced").count(), 1, "{flows}");
    let before = own_memory(switch);
    let freezer = Freezer::of(&lab);
    freezer.set(true);
    let taken = streams.each_mut().map(|stream| write_until_stuck(stream, &bytes[1 << 20..]));
    let growth = own_memory(switch).saturating_sub(before);
    println!("taken: {taken:?} octets; the switch's memory has grown by {growth}");
    // What TCP's windows at both ends let through, and no more than that.
    assert!(growth < 16 << 20, "{growth}");
    // Everybody else answers everything.
    for host in ["10.10.0.100", "10.10.0.21", "10.10.0.20"] {
        let said = lab.attacker.sh(&["ping", "-c", "300", "-i", "0.002", "-W", "5", host]);
        assert!(said.contains(" 300 received"), "{said}");
    }
    assert_eq!(
        shell(&lab.attacker, "10.10.0.21", "echo $((6 * 7))"),
        "42\n",
        "another one of the same node comes to life"
    );
    assert_eq!(shell(&lab.attacker, "10.10.0.31", "echo $((6 * 7))"), "42\n");
    shell(&lab.attacker, "10.10.0.21", "setsid nc -l -p 4444 </dev/null >/dev/null 2>&1 &");
    let connect = || lab.attacker.enter(|| TcpStream::connect("10.10.0.21:4444")).ok();
    let mut other = wait_for("the sink", connect);
    other.set_write_timeout(Some(DEADLINE)).unwrap();
    other.write_all(&bytes).unwrap();
    let drops = lab.json(&["show", "drops"]);
    for reason in ["tail-drop", "device-error", "no-buffer", "table-full"] {
        assert!(drops.as_array().unwrap().iter().all(|row| row["reason"] != reason), "{drops}");
    }
    let growth = own_memory(switch).saturating_sub(before);
    assert!(growth < 24 << 20, "{growth}");
    // The data were late, not lost.
    freezer.set(false);
    for ((mut stream, taken), host) in streams.into_iter().zip(taken).zip(hosts) {
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&bytes[(1 << 20) + taken..]).unwrap();
        drop(stream);
        let sum: String = Sha256::digest(&bytes).iter().map(|octet| format!("{octet:02x}")).collect();
        let arrived = || shell(&lab.attacker, host, "cat /tmp/sum").starts_with(&sum).then_some(());
        wait_for("all of the data", arrived);
    }
    // And one that is frozen does not hold up the end.
    freezer.set(true);
    let took = lab.down();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

/// A TAP whose program does not read: its queue takes what it has room for, the rest is counted.
#[test]
fn a_queue_that_is_full_is_counted_as_such() {
    let net = Net::new();
    let ns = net.ns("a");
    let (_unread, _) = ns.enter(|| tap::open("tap0", tap::Offload::Tcp).unwrap());
    ns.sh(&["ip", "link", "set", "tap0", "addrgenmode", "none", "up"]);
    let mut device = af_packet(&ns, "tap0");
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    let mut taken = 0;
    for _ in 0..50 {
        batch.extend((0..100).map(|_| pool.copy_of(&test_frame(0x88b5, 1)).unwrap()));
        taken += device.tx(&mut pool, &mut batch);
        assert_eq!(pool.in_use(), 0);
    }
    assert!((1..5000).contains(&taken), "{taken}");
    device.rx(now(), &mut pool, &mut batch).unwrap();
    assert_eq!(device.discards().unwrap().discarded(DropReason::TailDrop), 5000 - taken as u64);
}
