//! The data plane on several threads: each does its part, and nobody can tell.

use std::collections::BTreeMap;

use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::{AfPacket, Netdev};
use honeyweave::node::Shard;
use honeyweave::sys::vnet::VNET_HEADER;
use honeyweave::sys::{eventfd, fanout, packet};
use honeyweave::wire::word_of;

use crate::lab::{Lab, process};
use crate::net::{Net, wait_for};
use crate::netdev::now;
use crate::shell::shell;

#[test]
fn the_kernel_divides_frames_as_shards_divide_hosts() {
    const SOCKETS: u16 = 4;
    let net = Net::new();
    let (here, there) = (net.ns("here"), net.ns("there"));
    net.wire((&here, "eth0"), (&there, "eth0"));
    let sender = here.enter(|| packet::open("eth0", false).unwrap());
    let sockets = there.enter(|| fanout::open("eth0", SOCKETS, Shard::SPREAD).unwrap());
    let mut devices: Vec<_> = sockets.into_iter().map(|fd| AfPacket::new(fd, 1500)).collect();
    let (mut burst, mut pool) = (packet::Burst::new(), Pool::new(64));
    let mut of_each = BTreeMap::<u16, usize>::new();
    for n in 0..100_u32 {
        let v4 = std::net::Ipv4Addr::from_bits(0x0a03_0000 + n);
        let v6: std::net::Ipv6Addr = format!("fd00:3::{n:x}").parse().unwrap();
        for (kind, at, dst, last) in [
            (0x0800_u16, 16, word_of(v4.into()), v4.octets()),
            (0x0806, 24, word_of(v4.into()), v4.octets()),
            (0x86dd, 36, word_of(v6.into()), v6.octets()[12..].try_into().unwrap()),
        ] {
            let mut frame = [0; VNET_HEADER + 60];
            let bytes = &mut frame[VNET_HEADER..];
            bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 7]);
            bytes[12..14].copy_from_slice(&kind.to_be_bytes());
            bytes[14 + at..18 + at].copy_from_slice(&last);
            assert_eq!(burst.send(&sender, [&frame[..]].into_iter()).unwrap(), 1);
            let owner = Shard { index: 0, count: SOCKETS }.owner_of(dst);
            // The kernels' own talk, such as neighbor discovery, comes by any of them.
            let got = wait_for("the frame", || {
                let fds: Vec<_> = devices.iter().map(|device| device.fds()[0]).collect();
                eventfd::wait_readable(&fds, 2_000_000).unwrap();
                let mut receives = |device: &mut AfPacket| {
                    let mut batch = Batch::default();
                    device.rx(now(), &mut pool, &mut batch).unwrap();
                    let ours = batch.iter().any(|got| got.bytes()[6..12] == [2, 0, 0, 0, 0, 7]);
                    batch.drain(..).for_each(|frame| pool.put(frame));
                    ours
                };
                devices.iter_mut().position(&mut receives)
            });
            assert_eq!(got, usize::from(owner), "{kind:04x} {v4} {v6}");
            *of_each.entry(owner).or_default() += 1;
        }
    }
    assert!(of_each.len() == usize::from(SOCKETS) && of_each.values().all(|n| *n > 50), "{of_each:?}");
}

/// Nanoseconds that each thread of the data plane has run.
fn run_time(pid: i32) -> BTreeMap<String, u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |task: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let time = read("schedstat").split_whitespace().next()?.parse().ok()?;
        Some((read("comm").trim().to_owned(), time))
    };
    threads.filter_map(of).filter(|(name, _)| name.starts_with("fabric")).collect()
}

const TOPOLOGY: &str = r#"
name: threads
templates:
  server:
    personality: linux
    tcp: {80: {http: {pages: {/: "<h1>It works!</h1>"}}}}
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: on-access}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink, io: IO}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24, "2001:db8::1/64"], lan: [10.3.0.1/22, "fd00:3::1/64"]}
  core: {kind: switch, ports: 4}
  lan: {kind: hosts, addresses: [10.3.2.0-10.3.3.254, "fd00:3::200-fd00:3::3fe"], template: server}
  shells: {kind: hosts, addresses: 10.3.0.100-10.3.0.105, template: shell}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [lan, "core:2"]
  - endpoints: [shells, "core:3"]
"#;

fn lab(io: &str) -> Lab {
    let mut lab = Lab::shared();
    lab.threads = 3;
    lab.start(&TOPOLOGY.replace("IO", io));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab.attacker.sh(&["ip", "-6", "route", "add", "default", "via", "2001:db8::1"]);
    lab
}

fn sweep(lab: &Lab) {
    let output = lab.attacker.run(&["fping", "-q", "-s", "-i", "1", "-r", "2", "-g", "10.3.2.0", "10.3.3.254"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("511 alive"), "{said}");
}

#[test]
fn three_threads_are_one_network() {
    let mut lab = lab("packet");
    let switch = process(&lab, "switch").expect("the switch runs");
    let before = run_time(switch);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["fabric-0", "fabric-1", "fabric-2"]);
    sweep(&lab);
    let after = run_time(switch);
    for (name, time) in &before {
        assert!(after[name] > time + 1_000_000, "{name} had something to do: {before:?} {after:?}");
    }
    for n in 0..20 {
        for url in [format!("http://10.3.2.{n}/"), format!("http://[fd00:3::2{n:02x}]/")] {
            assert!(lab.attacker.sh(&["curl", "-sS", "--max-time", "5", &url]).contains("It works!"), "{url}");
        }
    }
    assert_eq!(lab.json(&["hosts", "ls"]).as_array().map(Vec::len), Some(511 + 20), "each is known once");
    // From one container to another, and to hosts that other threads keep.
    let inside = shell(
        &lab.attacker,
        "10.3.0.100",
        "nmap -n -sS -p 22 10.3.0.101-105 | grep -c '22/tcp open'; nmap -n -sn 10.3.2.10-29 | grep -c 'Host is up'; \
         wget -q -O - http://10.3.2.77/; hostname",
    );
    assert_eq!(inside, "5\n20\n<h1>It works!</h1>shells-01\n", "{inside}");
    // Both ways, octet by octet.
    let numbers = "seq 1 2000000";
    let to_host = "sshpass -p toor ssh -T -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@10.3.0.100";
    let sum = |command: &str| lab.attacker.sh(&["sh", "-c", &format!("{command} 2>/dev/null")])[..64].to_owned();
    let right = sum(&format!("{numbers} | sha256sum"));
    assert_eq!(sum(&format!("{numbers} | {to_host} sha256sum")), right);
    assert_eq!(sum(&format!("{to_host} {numbers} | sha256sum")), right);
    let status = lab.json(&["status"]);
    assert_eq!(status["summary"]["lost"], 0);
    // A replica that has lost its thread's life takes the others with it, and all come back.
    // SAFETY: a process that the test has started.
    assert_eq!(unsafe { libc::kill(switch, libc::SIGKILL) }, 0);
    wait_for("another switch", || process(&lab, "switch").filter(|pid| *pid != switch));
    wait_for("an answer", || {
        lab.attacker.run(&["ping", "-c", "1", "-W", "1", "10.3.2.9"]).status.success().then_some(())
    });
    sweep(&lab);
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn one_thread_receives_by_af_xdp_for_all() {
    let lab = lab("xdp");
    wait_for("AF_XDP", || {
        let status = lab.json(&["status"]);
        let io = status["devices"][0]["io"].as_str().unwrap_or_default().to_owned();
        io.contains("xdp").then_some(())
    });
    sweep(&lab);
    assert!(lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://[fd00:3::234]/"]).contains("It works!"));
    assert_eq!(shell(&lab.attacker, "10.3.0.103", "hostname"), "shells-04\n");
}
