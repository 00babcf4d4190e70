//! What a passive listener on the wire sees of hosts that talk, as tshark decodes it.

use std::collections::HashSet;

use crate::lab::Lab;
use crate::listener::Listener;

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

#[test]
fn a_listener_sees_a_living_segment() {
    let mut lab = Lab::shared();
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab.attacker.addr("eth0", "fe80::aa/64");
    let heard = Listener::start(&lab);
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
    heard.wait(&last);

    let own = "!(ip.src == 192.0.2.2) && !(ipv6.src == fe80::aa)";
    let odd =
        heard.decoded(&format!("(_ws.malformed || _ws.expert.severity == 0x800000) && {own}"), &["frame.protocols"]);
    assert!(odd.is_empty(), "{odd:?}");
    let wrong = "(ip.checksum.status == 0 || udp.checksum.status == 0 || icmpv6.checksum.status == 0)";
    let wrong = heard.decoded(&format!("{wrong} && {own}"), &["frame.protocols", "ip.src", "ipv6.src"]);
    assert!(wrong.is_empty(), "{wrong:?}");
    let mac = heard.decoded("arp.src.proto_ipv4 == 192.0.2.10", &["eth.src"])[0][0].clone();

    // ARP: three probes and an announcement, none of the attacker's doing.
    assert_eq!(heard.count(&format!("arp.isprobe && eth.src == {mac}")), 3);
    assert_eq!(heard.count(&format!("arp.isannouncement && eth.src == {mac}")), 1);
    assert_eq!(heard.count("arp.isannouncement && arp.src.proto_ipv4 == 192.0.2.11"), 2);
    assert_eq!(heard.count("arp.isprobe && arp.dst.proto_ipv4 == 192.0.2.12"), 3);
    // NetBIOS: its own name twice, and the workgroup's.
    let names: HashSet<String> =
        heard.decoded("nbns && ip.src == 192.0.2.10", &["nbns.name"]).into_iter().map(|row| row[0].clone()).collect();
    for name in ["DESKTOP-7QK2M4A<00>", "DESKTOP-7QK2M4A<20>", "WORKGROUP<00>"] {
        assert!(names.iter().any(|known| known.contains(name)), "{names:?}");
    }
    let browser = heard.decoded("browser.command == 1", &["browser.server", "ip.ttl", "browser.period", "ip.dst"]);
    assert_eq!(browser[0], ["DESKTOP-7QK2M4A", "128", "60000", "192.0.2.255"]);
    // LLMNR, multicast DNS, SSDP.
    let llmnr = heard.decoded("llmnr && ip", &["dns.qry.name", "dns.qry.type", "ip.ttl", "ip.dst"]);
    assert_eq!(llmnr[0], ["DESKTOP-7QK2M4A", "255", "1", "224.0.0.252"]);
    let announced = "mdns && dns.flags.response == 1 && ip.src == 192.0.2.12";
    let announced = heard.decoded(announced, &["dns.a", "ip.ttl", "ip.id", "udp.srcport"]);
    assert_eq!(announced[0], ["192.0.2.12", "255", "0x0000", "5353"]);
    assert_eq!(announced.len(), 2);
    assert!(heard.count("mdns && ip.src == 192.0.2.10 && ip.ttl == 1") >= 5);
    let search = heard.decoded("ssdp", &["ip.src", "ip.dst", "ip.ttl"]);
    assert!(search.iter().all(|row| *row == ["192.0.2.10", "239.255.255.250", "1"]), "{search:?}");
    // IPv6: detection without a source, reports with a router alert and a link-local one.
    assert!(heard.count("icmpv6.type == 135 && ipv6.src == :: && icmpv6.nd.ns.target_address == fd00::11") == 1);
    let reports = heard.decoded("icmpv6.type == 143 && eth.src != 00:00:00:00:00:00", &["ipv6.hlim", "ipv6.src"]);
    assert!(reports.iter().all(|row| row[0] == "1"), "{reports:?}");
    let alerts = "icmpv6.mldr.mar.multicast_address == ff02::1:ff00:11 && ipv6.opt.router_alert == 0";
    let own = heard.decoded(alerts, &["ipv6.src"])[0][0].clone();
    assert!(own.starts_with("fe80::"), "{own}");
    // That address is a host's indeed.
    lab.attacker.sh(&["ping", "-6", "-c", "1", "-W", "5", "-I", "eth0", &own]);
    // The silent ones are silent.
    assert_eq!(heard.count("ip.src >= 192.0.2.32 && ip.src <= 192.0.2.63"), 0);
    assert_eq!(heard.count("arp.src.proto_ipv4 >= 192.0.2.32 && arp.src.proto_ipv4 <= 192.0.2.63"), 0);
}
