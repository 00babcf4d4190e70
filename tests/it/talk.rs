//! What a passive listener on the wire sees of hosts that talk, as tshark decodes it.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use crate::lab::Lab;
use crate::net::{Ns, Running, wait_for};

const TOPOLOGY: &str = r#"
name: talk
defaults: {talk: auto}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 5}
  pc: {kind: host, address: 192.0.2.10, hostname: DESKTOP-7QK2M4A, personality: windows, gateway: 192.0.2.2}
  server: {kind: host, address: [192.0.2.11, "fd00::11"], personality: linux, gateway: 192.0.2.2}
  mac: {kind: host, address: 192.0.2.12, personality: macos, gateway: 192.0.2.2}
  silent: {kind: hosts, addresses: 192.0.2.32-192.0.2.63, talk: none}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [pc, "core:2"]
  - endpoints: [server, "core:3"]
  - endpoints: [mac, "core:4"]
  - endpoints: [silent, "core:5"]
"#;

/// tcpdump on the attacker's side, into a file.
pub fn listen(attacker: &Ns, file: &str) -> Running {
    let mut tcpdump = attacker.spawn(&["tcpdump", "-i", "eth0", "-U", "-w", file]);
    tcpdump.wait_line("listening on");
    tcpdump
}

/// The values of `fields` of every frame that `filter` chooses, and nothing of the attacker's own.
pub fn decoded(file: &str, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-r", file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().unwrap();
    // The last frame of a file that is still written to may be cut; anything else is a mistake in the filter.
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("cut short") || !complaint.contains("tshark: "), "{filter}: {complaint}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

fn count(file: &str, filter: &str) -> usize {
    decoded(file, filter, &["frame.number"]).len()
}

#[test]
fn a_listener_sees_a_living_segment() {
    let mut lab = Lab::shared();
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab.attacker.addr("eth0", "fe80::aa/64");
    let file = lab.path("segment.pcap");
    let file = file.to_str().unwrap();
    let _tcpdump = listen(&lab.attacker, file);
    lab.start(TOPOLOGY);
    // What comes last of each.
    let last = [
        "browser.command == 1",
        "nbns && ip.src == 192.0.2.10",
        "ssdp",
        "llmnr && ip",
        "icmpv6.type == 143 && icmpv6.mldr.mar.multicast_address == ff02::1:ff00:11",
        "dns.qry.name == \"_airplay._tcp.local\" && ip",
        "arp.src.proto_ipv4 == 192.0.2.11 && arp.dst.proto_ipv4 == 192.0.2.2",
    ];
    wait_for("the last of each", || {
        std::thread::sleep(Duration::from_millis(300));
        last.iter().all(|filter| count(file, filter) > 0).then_some(())
    });

    let own = "!(ip.src == 192.0.2.2) && !(ipv6.src == fe80::aa)";
    let odd =
        decoded(file, &format!("(_ws.malformed || _ws.expert.severity == 0x800000) && {own}"), &["frame.protocols"]);
    assert!(odd.is_empty(), "{odd:?}");
    let wrong = "(ip.checksum.status == 0 || udp.checksum.status == 0 || icmpv6.checksum.status == 0)";
    let wrong = decoded(file, &format!("{wrong} && {own}"), &["frame.protocols", "ip.src", "ipv6.src"]);
    assert!(wrong.is_empty(), "{wrong:?}");
    let mac = decoded(file, "arp.src.proto_ipv4 == 192.0.2.10", &["eth.src"])[0][0].clone();

    // ARP: three probes and an announcement, none of the attacker's doing.
    assert_eq!(count(file, &format!("arp.isprobe && eth.src == {mac}")), 3);
    assert_eq!(count(file, &format!("arp.isannouncement && eth.src == {mac}")), 1);
    assert_eq!(count(file, "arp.isannouncement && arp.src.proto_ipv4 == 192.0.2.11"), 2);
    assert_eq!(count(file, "arp.isprobe && arp.dst.proto_ipv4 == 192.0.2.12"), 3);
    // NetBIOS: its own name twice, and the workgroup's.
    let names: HashSet<String> =
        decoded(file, "nbns && ip.src == 192.0.2.10", &["nbns.name"]).into_iter().map(|row| row[0].clone()).collect();
    for name in ["DESKTOP-7QK2M4A<00>", "DESKTOP-7QK2M4A<20>", "WORKGROUP<00>"] {
        assert!(names.iter().any(|known| known.contains(name)), "{names:?}");
    }
    let browser = decoded(file, "browser.command == 1", &["browser.server", "ip.ttl", "browser.period", "ip.dst"]);
    assert_eq!(browser[0], ["DESKTOP-7QK2M4A", "128", "60000", "192.0.2.255"]);
    // LLMNR, multicast DNS, SSDP.
    let llmnr = decoded(file, "llmnr && ip", &["dns.qry.name", "dns.qry.type", "ip.ttl", "ip.dst"]);
    assert_eq!(llmnr[0], ["DESKTOP-7QK2M4A", "255", "1", "224.0.0.252"]);
    let announced = "mdns && dns.flags.response == 1 && ip.src == 192.0.2.12";
    let announced = decoded(file, announced, &["dns.a", "ip.ttl", "ip.id", "udp.srcport"]);
    assert_eq!(announced[0], ["192.0.2.12", "255", "0x0000", "5353"]);
    assert_eq!(announced.len(), 2);
    assert!(count(file, "mdns && ip.src == 192.0.2.10 && ip.ttl == 1") >= 5);
    let search = decoded(file, "ssdp", &["ip.src", "ip.dst", "ip.ttl"]);
    assert!(search.iter().all(|row| *row == ["192.0.2.10", "239.255.255.250", "1"]), "{search:?}");
    // IPv6: detection without a source, reports with a router alert and a link-local one.
    assert!(count(file, "icmpv6.type == 135 && ipv6.src == :: && icmpv6.nd.ns.target_address == fd00::11") == 1);
    let reports = decoded(file, "icmpv6.type == 143 && eth.src != 00:00:00:00:00:00", &["ipv6.hlim", "ipv6.src"]);
    assert!(reports.iter().all(|row| row[0] == "1"), "{reports:?}");
    let alerts = "icmpv6.mldr.mar.multicast_address == ff02::1:ff00:11 && ipv6.opt.router_alert == 0";
    let own = decoded(file, alerts, &["ipv6.src"])[0][0].clone();
    assert!(own.starts_with("fe80::"), "{own}");
    // That address is a host's indeed.
    lab.attacker.sh(&["ping", "-6", "-c", "1", "-W", "5", "-I", "eth0", &own]);
    // The silent ones are silent.
    assert_eq!(count(file, "ip.src >= 192.0.2.32 && ip.src <= 192.0.2.63"), 0);
    assert_eq!(count(file, "arp.src.proto_ipv4 >= 192.0.2.32 && arp.src.proto_ipv4 <= 192.0.2.63"), 0);
}
