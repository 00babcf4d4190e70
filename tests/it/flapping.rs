//! An uplink that goes and comes.

use crate::lab::Lab;
use crate::net::{sh, wait_for};

const TOPOLOGY: &str = r#"
name: flapping
nodes:
  wan: {kind: uplink}
  servers: {kind: hosts, addresses: 192.0.2.100-192.0.2.109}
links:
  - endpoints: [wan, servers]
"#;

fn answers(lab: &Lab) -> bool {
    lab.attacker.run(&["ping", "-c", "1", "-W", "1", "192.0.2.100"]).status.success()
}

fn comes_back(lab: &Lab) {
    wait_for("an answer after the uplink came back", || answers(lab).then_some(()));
}

fn says(lab: &Lab, texts: &[&str]) {
    let one_of = |why: &str| texts.iter().any(|text| why.contains(text));
    lab.wait_event("device.state", |event| event["reason"].as_str().is_some_and(one_of));
}

/// Frames that the uplink has received, once its state is this.
fn device(lab: &Lab, state: &str) -> u64 {
    wait_for(&format!("an uplink that is {state}"), || {
        let status = lab.json(&["status"]);
        let row = status["devices"].as_array()?.iter().find(|row| row["device"] == "up0")?;
        (row["state"] == state).then(|| row["rx"].as_u64().unwrap())
    })
}

#[test]
fn an_uplink_that_flaps_serves_again() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    assert!(answers(&lab));
    for _ in 0..3 {
        let received = device(&lab, "up");
        lab.wire.sh(&["ip", "link", "set", "up0", "down"]);
        assert!(!answers(&lab));
        assert!(device(&lab, "down") >= received);
        lab.wire.sh(&["ip", "link", "set", "up0", "up"]);
        comes_back(&lab);
    }
    // The other end of the wire: no carrier for a while.
    lab.attacker.sh(&["ip", "link", "set", "eth0", "down"]);
    lab.attacker.sh(&["ip", "link", "set", "eth0", "up"]);
    comes_back(&lab);
    says(&lab, &["up0 went down"]);
    let restarts: Vec<_> = lab
        .events()
        .into_iter()
        .filter(|e| e["event"] == "process.state" && e["reason"].as_str().unwrap().contains("again"))
        .collect();
    assert!(restarts.is_empty(), "{restarts:?}");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn an_uplink_that_vanishes_and_returns_serves_again() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    assert!(answers(&lab));
    for _ in 0..2 {
        let received = device(&lab, "up");
        lab.wire.sh(&["ip", "link", "del", "up0"]);
        // Whoever looks between the two sees it go down first.
        says(&lab, &["up0 vanished", "up0 is not there"]);
        assert!(device(&lab, "gone") >= received);
        let status = lab.json(&["status"]);
        assert!(status.to_string().contains("servers"), "it goes on: {status}");
        sh(&[
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            &lab.attacker.name,
            "type",
            "veth",
            "peer",
            "name",
            "up0",
            "netns",
            &lab.wire.name,
        ]);
        lab.attacker.sh(&["ip", "link", "set", "eth0", "up"]);
        lab.attacker.addr("eth0", "192.0.2.2/24");
        lab.wire.sh(&["ip", "link", "set", "up0", "up"]);
        comes_back(&lab);
        assert!(device(&lab, "up") > received);
    }
    let restarts: Vec<_> = lab
        .events()
        .into_iter()
        .filter(|e| e["event"] == "process.state" && e["reason"].as_str().unwrap().contains("again"))
        .collect();
    assert!(restarts.is_empty(), "{restarts:?}");
    // It can also be brought down while its uplink is away.
    lab.wire.sh(&["ip", "link", "del", "up0"]);
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
