//! Whatever is killed below a honeynet: neighbors notice nothing, and the host is there again with what was on it.

use serde_json::Value;

use crate::lab::{Lab, process};
use crate::net::{sh, wait_for};
use crate::shell::shell;

const TOPOLOGY: &str = "
name: crash
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: small, idle: 1h}
  desktop:
    personality: windows
    tcp: {445: open}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  shells: {kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: shell}
  desktops: {kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: desktop}
links:
  - endpoints: [wan, 'core:1']
  - endpoints: [shells, 'core:2']
  - endpoints: [desktops, 'core:3']
";

/// The first process of the container of `host`, if it is live.
fn init(lab: &Lab, host: &str) -> Option<i64> {
    let rows = lab.json(&["container", "ls"]);
    let is_it = |row: &&Value| row["host"] == host && row["state"] == "live";
    rows.as_array()?.iter().find(is_it)?["init"].as_i64()
}

#[test]
fn whatever_is_killed_neighbors_notice_nothing_and_the_files_are_still_there() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "echo mine >/root/tool; id -u"), "0\n");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "echo mine >/root/tool; id -u"), "0\n");
    let neighbor = wait_for("the neighbor", || init(&lab, "192.0.2.21"));
    for victim in ["init", "monitor", "keeper"] {
        let before = wait_for("the container", || init(&lab, "192.0.2.20"));
        let pid = match victim {
            "init" => before as i32,
            "monitor" => honeyweave::container::worker::parent_of(before as i32).unwrap(),
            _ => process(&lab, "keeper").unwrap(),
        };
        let fping = lab.attacker.spawn(&[
            "fping",
            "-q",
            "-c",
            "200",
            "-p",
            "5",
            "-t",
            "1000",
            "192.0.2.100",
            "192.0.2.101",
            "192.0.2.21",
        ]);
        sh(&["kill", "-9", &pid.to_string()]);
        let (_, said) = fping.wait();
        assert_eq!(said.matches("= 200/200/0%").count(), 3, "{victim}: {said}");
        wait_for("its end", || (init(&lab, "192.0.2.20") != Some(before)).then_some(()));
        // Whoever comes next finds the machine as it was.
        let text = shell(&lab.attacker, "192.0.2.20", "cat /root/tool");
        assert_eq!(text, "mine\n", "{victim}");
        if victim != "keeper" {
            assert_eq!(init(&lab, "192.0.2.21"), Some(neighbor), "{victim}: the neighbor's container goes on");
        }
    }
    // With the keeper ended what it had started, and the neighbor's files are there, too.
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "cat /root/tool"), "mine\n");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
