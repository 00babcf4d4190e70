//! Hosts that are something else to some, as real clients and a real scanner meet them.

use crate::honeynet::Honeynet;
use crate::net::{Net, wait_for};

const TOPOLOGY: &str = "
name: cases
templates:
  server:
    personality: linux
    tcp: {80: {http: {pages: {/: for anybody}}}}
    when:
      - {from: 192.0.2.2, tcp: {80: closed}}
      - {os: linux, tcp: {80: {http: {pages: {/: for a penguin}}}}}
      - {os: scanner, template: trap}
  trap: {personality: windows, tcp: {81: open}}
nodes:
  wan: {kind: uplink}
  servers: {kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: server}
links:
  - endpoints: [wan, servers]
";

#[test]
fn each_source_meets_its_case() {
    let net = Net::new();
    let (attacker, honey) = (net.ns("attacker"), net.ns("honey"));
    net.wire((&attacker, "eth0"), (&honey, "eth1"));
    for last in 1..=3 {
        attacker.addr("eth0", &format!("192.0.2.{last}/24"));
    }
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let url = "http://192.0.2.100/";
    assert_eq!(attacker.sh(&["curl", "-s", "-m5", "--interface", "192.0.2.1", url]), "for a penguin");
    let refused = attacker.run(&["curl", "-s", "-m5", "--interface", "192.0.2.2", url]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let scan = ["nmap", "-n", "-Pn", "-sS", "-S", "192.0.2.3", "-e", "eth0", "-p80,81", "-oG", "-", "192.0.2.100"];
    let scan = attacker.sh(&scan);
    assert!(scan.contains("80/closed/tcp") && scan.contains("81/open/tcp"), "{scan}");
    // What they were taken for is told once a session.
    let told = |source: &str, os: &str| {
        let wanted =
            |line: &&str| line.contains(&format!("\"src\":{{\"ip\":\"{source}\"")) && line.contains("scanner_os");
        let log = honeynet.log();
        let lines: Vec<&str> = log.lines().filter(wanted).collect();
        (!lines.is_empty()).then(|| {
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains(&format!("\"scanner_os\":\"{os}\"")), "{lines:?}");
        })
    };
    wait_for("the first client's system", || told("192.0.2.1", "linux"));
    wait_for("the scanner's", || told("192.0.2.3", "scanner"));
}
