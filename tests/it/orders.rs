//! What somebody at the machine orders of containers: `honeyweave container`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::Lab;
use crate::net::wait_for;
use crate::shell::shell;

const TOPOLOGY: &str = "
name: orders
images:
  small: {pool: 1}
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: small, freeze: 1s, idle: 1h}
nodes:
  wan: {kind: uplink}
  hosts: {kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: shell}
links:
  - endpoints: [wan, hosts]
";

#[test]
fn containers_are_listed_frozen_stopped_and_destroyed_by_hand() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let rows = |lab: &Lab| -> Vec<Value> { lab.json(&["container", "ls"]).as_array().unwrap().clone() };
    let states = |lab: &Lab| -> Vec<(Option<String>, String)> {
        let of = |row: &Value| (row["host"].as_str().map(str::to_owned), row["state"].as_str().unwrap().to_owned());
        rows(lab).iter().map(of).collect()
    };
    let is = |lab: &Lab, host: &str, state: &str| {
        states(lab).iter().any(|(of, is)| of.as_deref() == Some(host) && is == state).then_some(())
    };
    wait_for("one that is kept ready", || states(&lab).contains(&(None, "ready".into())).then_some(()));
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "echo mine >/root/tool; id -u"), "0\n");
    // Nobody speaks to it, and it has nothing to do.
    wait_for("that it is frozen", || is(&lab, "192.0.2.20", "frozen"));
    let frozen = lab.wait_event("container.frozen", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(frozen["node"], "hosts");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "cat /root/tool"), "mine\n");
    let thawed = lab.wait_event("container.thawed", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(thawed["src"]["ip"], "192.0.2.2");
    assert_eq!(thawed["session"], frozen["session"]);
    // By hand.
    let order = |lab: &Lab, word: &str| lab.command(&["container", word, "192.0.2.20"]);
    wait_for("that it is frozen again", || is(&lab, "192.0.2.20", "frozen"));
    let again = order(&lab, "freeze");
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("frozen already"), "{again:?}");
    assert!(order(&lab, "thaw").status.success());
    // One that is awake is frozen until somebody speaks to it.
    assert!(order(&lab, "freeze").status.success());
    assert!(is(&lab, "192.0.2.20", "frozen").is_some());
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "cat /root/tool"), "mine\n");
    // A shell from outside, as its root.
    let mut inside = Command::new(env!("CARGO_BIN_EXE_honeyweave"));
    inside.args(["container", "shell", "192.0.2.20", "--name", &lab.name]);
    let mut inside = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(inside.stdin.as_mut().unwrap(), b"id -u; hostname; cat /root/tool\n").unwrap();
    let output = inside.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("0\nhosts-") && text.ends_with("mine\n"), "{text}");
    // Its processes end, its files stay, also for a container of another number.
    assert!(order(&lab, "stop").status.success());
    wait_for("that it is stopped", || is(&lab, "192.0.2.20", "stopped"));
    let stop = lab.wait_event("container.stop", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(stop["reason"], "stopped by hand");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u; hostname; cat /root/tool"), text);
    assert!(order(&lab, "destroy").status.success());
    let gone = lab.wait_event("container.destroyed", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!((&gone["node"], &gone["reason"]), (&"hosts".into(), &"destroyed by hand".into()));
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "ls /root"), "");
    let nobody = lab.command(&["container", "thaw", "192.0.2.99"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no container `192.0.2.99`"), "{nobody:?}");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
