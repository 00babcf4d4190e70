//! What the real arp-fingerprint, of arp-scan, sees of hosts.

use crate::lab::Lab;

const TOPOLOGY: &str = r#"
name: habits
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 5}
  linux: {kind: host, address: 192.0.2.10, personality: linux}
  windows: {kind: host, address: 192.0.2.11, personality: windows}
  router: {kind: host, address: 192.0.2.12, personality: cisco-ios}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [linux, "core:2"]
  - endpoints: [windows, "core:3"]
  - endpoints: [router, "core:4"]
"#;

#[test]
fn arp_fingerprint_names_the_systems() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    // The later of two options counts: a busy machine may need more than the one attempt that it makes.
    let options = "--interface=eth0 --retry=2 --timeout=300";
    let cases = [
        ("192.0.2.10", "01010100000", "Linux"),
        ("192.0.2.11", "01010100000", "Windows10"),
        ("192.0.2.12", "00000100000", "Cisco IOS"),
    ];
    for (address, digits, system) in cases {
        let said = lab.attacker.sh(&["arp-fingerprint", "-o", options, address]);
        let words: Vec<&str> = said.trim().splitn(3, '\t').collect();
        assert_eq!(words[..2], [address, digits], "{said}");
        assert!(words[2].contains(system), "{said}");
    }
    let asked = lab.wait_event("arp.request", |event| event["dst"]["ip"] == "192.0.2.12");
    assert_eq!(asked["src"]["ip"], "192.0.2.2");
}
