//! Paths through routers, as traceroute sees them.

use crate::lab::Lab;

/// Hops of the way to the last address, and the delay of each, in milliseconds: the shortest of
/// ten, since a busy machine only ever adds to it.
fn hops(lab: &Lab, args: &[&str]) -> Vec<(String, f64)> {
    let said = lab.attacker.sh(&[&["traceroute", "-n", "-q", "10", "-N", "1", "-w", "2"], args].concat());
    let mut hops = Vec::new();
    for line in said.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut delays: Vec<f64> = words.windows(2).filter(|w| w[1] == "ms").map(|w| w[0].parse().unwrap()).collect();
        assert_eq!(delays.len(), 10, "every probe is answered: {said}");
        delays.sort_by(f64::total_cmp);
        assert_eq!(words[0].parse::<usize>().unwrap(), hops.len() + 1, "{said}");
        hops.push((words[1].to_owned(), delays[0]));
    }
    println!("{args:?}: {hops:?}");
    hops
}

fn assert_hops(found: &[(String, f64)], expected: &[(&str, f64)]) {
    let order: Vec<&str> = found.iter().map(|(hop, _)| hop.as_str()).collect();
    assert_eq!(order, expected.iter().map(|(hop, _)| *hop).collect::<Vec<_>>());
    for ((hop, delay), (_, wanted)) in found.iter().zip(expected) {
        assert!((delay - wanted).abs() <= 2.0, "{hop} is {delay} ms away instead of {wanted}");
    }
}

#[test]
fn three_routers_are_seen_in_order_with_their_delays_by_itself() {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/three-routers.yaml");
    let lab = Lab::up_alone(&std::fs::read_to_string(topology).unwrap());
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab.attacker.sh(&["ip", "-6", "route", "add", "default", "via", "2001:db8::1"]);
    // Neighbors are found before anything is measured.
    lab.attacker.sh(&["ping", "-c", "2", "-i", "0.1", "-W", "2", "10.3.0.10"]);
    lab.attacker.sh(&["ping", "-c", "2", "-i", "0.1", "-W", "2", "fd00:3::10"]);
    let v4 = [("192.0.2.1", 0.0), ("10.255.1.2", 10.0), ("10.255.2.2", 30.0), ("10.3.0.10", 70.0)];
    assert_hops(&hops(&lab, &["-I", "10.3.0.10"]), &v4);
    assert_hops(&hops(&lab, &["10.3.0.10"]), &v4);
    assert_hops(&hops(&lab, &["-T", "-p", "22", "10.3.0.10"]), &v4);
    let v6 = [("2001:db8::1", 0.0), ("fd00:1::2", 10.0), ("fd00:2::2", 30.0), ("fd00:3::10", 70.0)];
    assert_hops(&hops(&lab, &["-6", "-I", "fd00:3::10"]), &v6);
    assert_hops(&hops(&lab, &["-6", "fd00:3::10"]), &v6);
    // The host's own view of the distance.
    let said = lab.attacker.sh(&["ping", "-c", "1", "-W", "2", "10.3.0.10"]);
    assert!(said.contains("ttl=61"), "64 minus three routers: {said}");
}

#[test]
fn routers_say_what_they_cannot_reach() {
    let lab = Lab::up(
        r#"
name: unreachable
nodes:
  wan: {kind: uplink}
  r1:
    kind: router
    interfaces: {wan: [192.0.2.1/24], lan: [10.3.0.1/24]}
  lan: {kind: hosts, addresses: 10.3.0.10-10.3.0.20}
links:
  - endpoints: [wan, "r1:wan"]
  - endpoints: ["r1:lan", lan]
"#,
    );
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let nowhere = lab.attacker.run(&["ping", "-c", "1", "-W", "2", "172.16.9.9"]);
    let said = String::from_utf8_lossy(&nowhere.stdout);
    assert!(said.contains("From 192.0.2.1") && said.contains("Destination Net Unreachable"), "{said}");
    let nobody = lab.attacker.run(&["ping", "-c", "1", "-W", "6", "10.3.0.99"]);
    let said = String::from_utf8_lossy(&nobody.stdout);
    assert!(said.contains("From 192.0.2.1") && said.contains("Destination Host Unreachable"), "{said}");
    let router = lab.attacker.sh(&["ping", "-c", "1", "-W", "2", "10.3.0.1"]);
    assert!(router.contains("1 received"), "{router}");
}
