//! What somebody at the machine orders of containers: `honeyweave container`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::Lab;
use crate::net::wait_for;
use crate::shell::shell;

pub const TOPOLOGY: &str = "
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
    // What was changed in it, told and taken while it lives.
    let odd = "printf '#!/bin/sh\\n' >\"/root/$(printf 'odd\\nname\\033[2J')\"; chmod 6711 /root/odd*; rm /etc/shells; \
               echo fresh >/root/fresh; stat -c %x /root/fresh";
    let accessed = shell(&lab.attacker, "192.0.2.20", odd);
    let diff = lab.json(&["container", "diff", "192.0.2.20"]);
    let changes = diff["changes"].as_array().unwrap();
    let of =
        |path: &str| changes.iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("{path}: {diff}"));
    let tool = of("/root/tool");
    let sha256 = "fcbc800db3f1867000b852f1ce0044b8f1584f76ade1ed6e65189824f95c3cda";
    assert_eq!((&tool["kind"], &tool["size"], &tool["uid"]), (&"file".into(), &5.into(), &0.into()));
    assert_eq!(tool["sha256"], sha256);
    assert_eq!(of("/root/odd\\x0aname\\x1b[2J")["mode"], "6711");
    assert_eq!(of("/etc/shells")["change"], "deleted");
    let told = order(&lab, "diff");
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("/root/odd\\x0aname\\x1b[2J") && !told.contains('\u{1b}'), "{told}");
    let snapshot = lab.json(&["container", "snapshot", "192.0.2.20"]);
    let archive = snapshot["archive"].as_str().unwrap();
    assert!(snapshot["counts"]["added"].as_u64().unwrap() >= 2, "{snapshot}");
    assert!(lab.command(&["evidence", "verify", archive]).status.success());
    let taken = lab.wait_event("evidence.taken", |event| event["archive"] == archive);
    assert_eq!((&taken["reason"], &taken["dst"]["ip"]), (&"by hand".into(), &"192.0.2.20".into()));
    // It goes on, and nothing shows that somebody has read its files.
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "stat -c %x /root/fresh"), accessed);
    let nothing = wait_for("one that is kept ready", || {
        rows(&lab).iter().find(|row| row["state"] == "ready").map(|row| row["number"].to_string())
    });
    let refused = lab.command(&["container", "snapshot", &nothing]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody has had it yet"), "{refused:?}");
    // Its processes end, its files stay, also for a container of another number.
    assert!(order(&lab, "stop").status.success());
    wait_for("that it is stopped", || is(&lab, "192.0.2.20", "stopped"));
    let stop = lab.wait_event("container.stop", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(stop["reason"], "stopped by hand");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u; hostname; cat /root/tool"), text);
    assert!(order(&lab, "destroy").status.success());
    let gone = lab.wait_event("container.destroyed", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!((&gone["node"], &gone["reason"]), (&"hosts".into(), &"destroyed by hand".into()));
    let last = gone["archive"].as_str().unwrap();
    assert!(last != archive && lab.command(&["evidence", "verify", last]).status.success(), "{gone}");
    let leased = lab.json(&["evidence", "show", last])["leased"].clone();
    assert_eq!((leased["leases"].as_array().unwrap().len(), &leased["attacker"]), (2, &"192.0.2.2".into()), "{leased}");
    assert_eq!((&leased["session"], &leased["why"]), (&frozen["session"], &"destroyed by hand".into()), "{leased}");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "ls /root"), "");
    let nobody = lab.command(&["container", "thaw", "192.0.2.99"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no container `192.0.2.99`"), "{nobody:?}");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
