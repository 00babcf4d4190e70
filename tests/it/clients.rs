//! Clients that an attacker uses, against emulated hosts.

use crate::lab::Lab;

/// A segment without a router, and a network behind one.
const PLAIN: &str = r#"
name: plain
templates:
  server:
    personality: linux
    vendor: supermicro
    tcp:
      22: {banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"}
      80: {http: {server: nginx/1.22.1, pages: {/: "<html><h1>It works!</h1></html>", /robots.txt: {body: "User-agent: *\n", type: text/plain}}}}
      443: filtered
    udp:
      53: open
      123: filtered
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  servers: {kind: hosts, addresses: [192.0.2.100-192.0.2.119, "2001:db8::100-2001:db8::13f"], template: server}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [servers, "core:2"]
"#;

fn plain() -> Lab {
    let lab = Lab::up(PLAIN);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab
}

#[test]
fn ping_is_answered_and_recorded() {
    let mut lab = plain();
    let said = lab.attacker.sh(&["ping", "-c", "3", "-i", "0.05", "-W", "2", "192.0.2.100"]);
    assert!(said.contains("3 packets transmitted, 3 received"), "{said}");
    assert!(said.contains("ttl=64"), "{said}");
    let absent = lab.attacker.run(&["ping", "-c", "1", "-W", "1", "192.0.2.99"]);
    assert!(!absent.status.success(), "nobody is there");
    let echo = lab.wait_event("icmp.echo", |event| event["dst"]["ip"] == "192.0.2.100");
    assert_eq!(echo["src"]["ip"], "192.0.2.2");
    let mac = lab.attacker.sh(&["cat", "/sys/class/net/eth0/address"]);
    assert_eq!(echo["src"]["mac"], mac.trim());
    let start = lab.wait_event("session.start", |event| event["dst"]["ip"] == "192.0.2.100");
    assert_eq!(start["session"], echo["session"]);
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
