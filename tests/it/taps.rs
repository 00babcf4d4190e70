//! TAPs of the user's own, in network namespaces that the honeynet knows nothing of.

use honeyweave::netdev::TapRing;

use crate::honeynet::{Honeynet, PROGRAM, unique_name};
use crate::net::{Net, Ns, sh, wait_for};

const TOPOLOGY: &str = "
name: taps
nodes:
  core: {kind: switch, ports: 4}
  left: {kind: tap, interface: hw-left}
  right: {kind: tap, interface: hw-right}
  host: {kind: host, address: 10.9.0.9}
links:
  - endpoints: [left, 'core:1']
  - endpoints: [right, 'core:2']
  - endpoints: [host, 'core:3']
";

/// Moves the TAP `name` from `honey` into `ns` and gives it an address.
fn attach(honey: &Ns, name: &str, ns: &Ns, address: &str) {
    sh(&["ip", "-n", &honey.name, "link", "set", name, "netns", &ns.name]);
    ns.sh(&["ip", "link", "set", name, "up"]);
    ns.addr(name, address);
}

/// A honeynet in a namespace of its own, its TAPs moved to two others.
fn attached(net: &Net) -> (Honeynet, Ns, Ns, Ns) {
    let (honey, left, right) = (net.ns("honey"), net.ns("left"), net.ns("right"));
    let honeynet = Honeynet::up(&honey, None, TOPOLOGY);
    attach(&honey, "hw-left", &left, "10.9.0.1/24");
    attach(&honey, "hw-right", &right, "10.9.0.2/24");
    (honeynet, honey, left, right)
}

/// By what means the frames of its TAPs pass.
fn by_what(honeynet: &Honeynet) -> Vec<String> {
    let status = honeynet.json(&["status"]);
    let devices = status["devices"].as_array().unwrap().iter();
    devices.map(|device| device["io"].as_str().unwrap().to_owned()).collect()
}

fn answers(from: &Ns, address: &str) -> bool {
    from.run(&["ping", "-c", "1", "-W", "1", address]).status.success()
}

fn kill(pid: u32) {
    // SAFETY: a process that the test has started.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
}

#[test]
fn two_namespaces_talk_through_a_switch() {
    let net = Net::new();
    let (honeynet, _honey, left, right) = attached(&net);
    left.sh(&["ping", "-c", "3", "-i", "0.01", "-W", "2", "10.9.0.2"]);
    assert!(answers(&right, "10.9.0.9"), "an emulated host beside them");
    let mut server = right.spawn(&["iperf3", "-s", "-1", "--forceflush"]);
    server.wait_line("Server listening");
    left.sh(&["iperf3", "-c", "10.9.0.2", "-n", "20M"]);
    // What is sent is what arrives, octet by octet.
    let dir = tempfile::tempdir().unwrap();
    let (sent, got) = (dir.path().join("sent"), dir.path().join("got"));
    sh(&["dd", "if=/dev/urandom", &format!("of={}", sent.display()), "bs=1M", "count=20", "status=none"]);
    let mut server = right.spawn(&["sh", "-c", &format!("exec nc -v -n -l -p 7000 >{}", got.display())]);
    server.wait_line("Listening on");
    left.sh(&["sh", "-c", &format!("nc -N -w 10 10.9.0.2 7000 <{}", sent.display())]);
    assert!(server.wait().0.success());
    assert!(std::fs::read(&sent).unwrap() == std::fs::read(&got).unwrap(), "the octets differ");
    let graph = honeynet.json(&["status"]);
    assert!(graph.to_string().contains("left"), "{graph}");
    let io = if TapRing::new().is_ok() { "tap (io_uring)" } else { "tap" };
    assert_eq!(by_what(&honeynet), [io, io]);
    let log = honeynet.down();
    assert!(log.contains("hw-left is up") && log.contains("hw-right is up"), "{log}");
    for (ns, name) in [(&left, "hw-left"), (&right, "hw-right")] {
        assert!(!ns.sh(&["ip", "-o", "link"]).contains(name), "it vanishes with the honeynet");
    }
}

#[test]
fn taps_outlive_switch_and_keeper() {
    let net = Net::new();
    let (honeynet, honey, left, right) = attached(&net);
    let index = |ns: &Ns| ns.sh(&["cat", "/sys/class/net/hw-left/ifindex"]);
    let before = index(&left);
    // Also a switch after a keeper that has never opened them.
    for i in [1, 0, 1] {
        let (_, pid) = honeynet.processes().unwrap()[i];
        kill(pid);
        wait_for("the next process", || honeynet.processes().filter(|processes| processes[i].1 != pid));
        wait_for("an answer", || answers(&left, "10.9.0.2").then_some(()));
    }
    assert!(answers(&right, "10.9.0.1"));
    assert_eq!(index(&left), before, "the very device");
    assert!(!honey.sh(&["ip", "-o", "link"]).contains("hw-"), "and no other");
}

#[test]
fn a_tap_that_vanished_is_made_anew() {
    let net = Net::new();
    let (honeynet, honey, left, right) = attached(&net);
    right.sh(&["ip", "link", "del", "hw-right"]);
    wait_for("the next TAP", || honey.sh(&["ip", "-o", "link"]).contains("hw-right").then_some(()));
    attach(&honey, "hw-right", &right, "10.9.0.3/24");
    wait_for("an answer", || answers(&left, "10.9.0.3").then_some(()));
    let log = honeynet.down();
    assert!(log.contains("hw-right vanished") && log.matches("hw-right is up").count() == 2, "{log}");
}

/// Who forgets a TAP where it was made has not put the machine itself into the honeynet.
#[test]
fn the_machine_stays_out_of_it() {
    let net = Net::new();
    let (honey, left, right) = (net.ns("honey"), net.ns("left"), net.ns("right"));
    let _honeynet = Honeynet::up(&honey, None, TOPOLOGY);
    honey.addr("lo", "203.0.113.5/32");
    honey.addr("lo", "2001:db8::5/128");
    attach(&honey, "hw-left", &left, "10.9.0.1/24");
    let mac = honey.sh(&["cat", "/sys/class/net/hw-right/address"]);
    assert!(answers(&left, "10.9.0.9"));
    left.addr("hw-left", "2001:db8::1/64");
    left.sh(&["ip", "route", "add", "203.0.113.5", "dev", "hw-left"]);
    for arping in [&["arping", "-c", "2", "-w", "1"][..], &["arping", "-D", "-c", "2", "-w", "1"]] {
        let asked = left.run(&[arping, &["-I", "hw-left", "203.0.113.5"]].concat());
        assert!(String::from_utf8_lossy(&asked.stdout).contains("Received 0 response"), "{asked:?}");
    }
    let asked = left.run(&["ping", "-c", "2", "-w", "1", "ff02::1%hw-left"]);
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(!said.lines().any(|line| line.contains("DUP")), "one answer is its own: {said}");
    // Even to somebody who knows its MAC.
    for address in ["203.0.113.5", "2001:db8::5"] {
        left.sh(&["ip", "neigh", "replace", address, "lladdr", mac.trim(), "dev", "hw-left"]);
        assert!(!answers(&left, address), "{address}");
    }
    // As a member it does speak.
    attach(&honey, "hw-right", &right, "203.0.113.6/24");
    right.addr("hw-right", "203.0.113.5/24");
    left.sh(&["ip", "neigh", "del", "203.0.113.5", "dev", "hw-left"]);
    right.sh(&["ip", "route", "add", "10.9.0.0/24", "dev", "hw-right"]);
    assert!(answers(&left, "203.0.113.5"));
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let net = Net::new();
    let honey = net.ns("honey");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("topology.yaml");
    std::fs::write(&file, TOPOLOGY).unwrap();
    let (file, state) = (file.to_str().unwrap(), dir.path().join("state"));
    let veth = ["ip", "link", "add", "hw-right", "type", "veth", "peer", "name", "hw-other"];
    let unused_tap = ["ip", "tuntap", "add", "hw-right", "mode", "tap"];
    for taken in [&veth[..], &unused_tap] {
        honey.sh(taken);
        let up = honey.run(&[PROGRAM, "up", file, "--name", &unique_name(), "--state-dir", state.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&up.stderr);
        assert_eq!(up.status.code(), Some(2), "{said}");
        for part in ["there is an interface `hw-right`", "topology.yaml:6", "ip link del hw-right"] {
            assert!(said.contains(part), "{said}");
        }
        let links = honey.sh(&["ip", "-o", "link"]);
        assert!(links.contains("hw-right") && !links.contains("hw-left"), "nothing was touched: {links}");
        assert!(!state.exists(), "nothing was started");
        honey.sh(&["ip", "link", "del", "hw-right"]);
    }
}

#[test]
fn io_uring_is_not_used_if_the_topology_says_so() {
    let net = Net::new();
    let (honey, left, right) = (net.ns("honey"), net.ns("left"), net.ns("right"));
    let honeynet = Honeynet::up(&honey, None, &format!("{TOPOLOGY}tap_io: plain\n"));
    attach(&honey, "hw-left", &left, "10.9.0.1/24");
    attach(&honey, "hw-right", &right, "10.9.0.2/24");
    assert!(answers(&left, "10.9.0.2"));
    assert_eq!(by_what(&honeynet), ["tap", "tap"]);
}
