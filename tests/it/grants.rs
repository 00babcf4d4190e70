//! Whose containers are: each attacker's own, one source's share of them, and those that are made ahead.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Lab, process};
use crate::net::{Ns, wait_for};
use crate::shell::{shell, ssh};

/// Hosts on the very segment of the wire, with what is said of their `backend` and of the node.
fn topology(backend: &str, node: &str) -> String {
    format!(
        "
name: grants
templates:
  shell:
    personality: linux
    tcp: {{22: container}}
    outward: allow
    backend: {{{backend}}}
nodes:
  wan: {{kind: uplink}}
  hosts: {{kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: shell, prefix: [192.0.2.0/24], {node}}}
links:
  - endpoints: [wan, hosts]
"
    )
}

/// A honeynet on a bridge with two attackers, 192.0.2.2 and 192.0.2.3.
fn up(topology: &str) -> (Lab, Ns, Ns) {
    let mut lab = Lab::shared();
    let hub = lab.ns("hub");
    lab.attacker.sh(&["ip", "link", "del", "eth0"]);
    lab.wire_between((&hub, "uplink"), (&lab.wire, "up0"));
    hub.sh(&["ip", "link", "add", "br0", "type", "bridge"]);
    let attackers = [("alice", "192.0.2.2/24"), ("bob", "192.0.2.3/24")].map(|(name, address)| {
        let ns = lab.ns(name);
        lab.wire_between((&hub, name), (&ns, "eth0"));
        ns.addr("eth0", address);
        hub.sh(&["ip", "link", "set", name, "master", "br0"]);
        ns
    });
    hub.sh(&["ip", "link", "set", "uplink", "master", "br0"]);
    hub.sh(&["ip", "link", "set", "br0", "up"]);
    lab.start(topology);
    let [a, b] = attackers;
    (lab, a, b)
}

fn rows(lab: &Lab) -> Vec<Value> {
    lab.json(&["container", "ls"]).as_array().unwrap().clone()
}

/// The state of an attacker's container of a host.
fn state(lab: &Lab, host: &str, attacker: &str) -> Option<String> {
    let rows = rows(lab);
    let row = rows.iter().find(|row| row["host"] == host && row["attacker"] == attacker)?;
    row["state"].as_str().map(str::to_owned)
}

/// Containers of a state, by their numbers.
fn numbers(lab: &Lab, state: &str) -> BTreeSet<u64> {
    let rows = rows(lab);
    rows.iter().filter(|row| row["state"] == state).filter_map(|row| row["number"].as_u64()).collect()
}

#[test]
fn each_attacker_finds_their_own_machine_again() {
    const HOST: &str = "192.0.2.20";
    let (mut lab, a, b) = up(&topology("image: small, grant: per-attacker, freeze: 1s, idle: 1h", "talk: none"));
    let look = "hostname; cat /sys/class/net/eth0/address; ip -4 -o addr show eth0 | grep -o 'inet [0-9./]*'";
    let first = shell(&a, HOST, &format!("echo mine >/root/tool; {look}"));
    assert_eq!(shell(&b, HOST, look), first, "they look the same");
    assert!(!ssh(&b, HOST, "cat /root/tool").status.success(), "but are not");
    assert_eq!(shell(&b, HOST, "echo theirs >/root/tool; cat /root/tool"), "theirs\n");
    let key = |ns: &Ns| ns.sh(&["ssh-keyscan", "-t", "ed25519", HOST]);
    let keys = key(&a);
    assert!(keys.contains("ssh-ed25519") && key(&b) == keys, "{keys}");
    let mac = |ns: &Ns| ns.sh(&["sh", "-c", &format!("ip neigh show {HOST} | grep -o 'lladdr [0-9a-f:]*'")]);
    assert_eq!(mac(&a), mac(&b));
    assert!(first.contains(mac(&a).trim().trim_start_matches("lladdr ")), "{first}");
    // What is answered without it is the host's as before.
    for ns in [&a, &b] {
        assert!(ns.sh(&["ping", "-q", "-c", "3", "-i", "0.2", "-W", "2", HOST]).contains(" 3 received"));
        let scan = ns.sh(&["nmap", "-n", "-Pn", "-p", "22,23", HOST]);
        assert!(scan.contains("22/tcp open") && scan.contains("23/tcp closed"), "{scan}");
    }
    // Both ping the same machine, at once: what comes back reaches who has asked.
    std::thread::scope(|scope| {
        let pings = [&a, &b].map(|ns| scope.spawn(move || shell(ns, HOST, "ping -c 4 192.0.2.3")));
        for said in pings.map(|ping| ping.join().unwrap()) {
            assert!(said.contains("4 packets received"), "{said}");
        }
    });
    // Frozen, each for itself.
    let frozen = lab.wait_event("container.frozen", |event| event["src"]["ip"] == "192.0.2.2");
    assert_eq!(frozen["dst"]["ip"], HOST);
    wait_for("that both are frozen", || {
        ["192.0.2.2", "192.0.2.3"].iter().all(|ip| state(&lab, HOST, ip).as_deref() == Some("frozen")).then_some(())
    });
    let check = |why: &str| {
        assert_eq!(shell(&a, HOST, "cat /root/tool"), "mine\n", "{why}");
        assert_eq!(shell(&b, HOST, "cat /root/tool"), "theirs\n", "{why}");
    };
    check("after they were frozen");
    // Stopped by hand, by whose it is.
    let both = lab.command(&["container", "stop", HOST]);
    assert!(String::from_utf8_lossy(&both.stderr).contains("several containers"), "{both:?}");
    assert!(lab.command(&["container", "stop", HOST, "--attacker", "192.0.2.2"]).status.success());
    wait_for("that it is stopped", || (state(&lab, HOST, "192.0.2.2")? == "stopped").then_some(()));
    assert_ne!(state(&lab, HOST, "192.0.2.3").as_deref(), Some("stopped"));
    let stop = lab.wait_event("container.stop", |event| event["src"]["ip"] == "192.0.2.2");
    assert_eq!(stop["reason"], "stopped by hand");
    check("after one was stopped");
    // The keeper dies with all of them.
    let before = process(&lab, "keeper").expect("the keeper runs");
    crate::net::sh(&["kill", "-9", &before.to_string()]);
    wait_for("a new keeper", || process(&lab, "keeper").filter(|pid| *pid != before));
    check("after the keeper was killed");
    let hosts = lab.json(&["hosts", "ls"]);
    let host = hosts.as_array().unwrap().iter().find(|host| host["ip"] == HOST).expect("it is listed");
    let granted: BTreeSet<&str> = host["granted"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(granted, BTreeSet::from(["192.0.2.2", "192.0.2.3"]), "{host}");
    assert!(lab.command(&["container", "destroy", HOST, "--attacker", "192.0.2.3"]).status.success());
    let gone = lab.wait_event("container.destroyed", |event| event["dst"]["ip"] == HOST);
    assert_eq!(gone["src"]["ip"], "192.0.2.3");
    assert!(!ssh(&b, HOST, "cat /root/tool").status.success(), "a clean one");
    assert_eq!(shell(&a, HOST, "cat /root/tool"), "mine\n");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn one_source_has_a_share_of_the_containers() {
    let (mut lab, a, b) = up(&topology("image: small, idle: 1h", "limits: {containers_per_source: 2}"));
    for host in ["192.0.2.20", "192.0.2.21"] {
        assert_eq!(shell(&a, host, "echo in"), "in\n");
    }
    let third = std::thread::scope(|scope| {
        let third = scope.spawn(|| shell(&a, "192.0.2.22", "echo in the end"));
        let held = lab.wait_event("container.held", |event| event["src"]["ip"] == "192.0.2.2");
        assert_eq!((&held["dst"]["ip"], &held["count"]), (&"192.0.2.22".into(), &2.into()), "{held}");
        assert_eq!(shell(&b, "192.0.2.23", "echo others"), "others\n");
        assert!(!third.is_finished(), "it waits, and was not reset");
        assert!(lab.command(&["container", "stop", "192.0.2.20"]).status.success());
        third.join().unwrap()
    });
    assert_eq!(third, "in the end\n");
    let failed = lab.events().iter().filter(|event| event["event"] == "container.failed").count();
    assert_eq!(failed, 0);
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn what_was_made_ahead_is_only_started() {
    const HOST: &str = "192.0.2.20";
    let backend = "image: small, predefined: true, grant: per-attacker, idle: 1h";
    let (mut lab, a, b) = up(&topology(backend, "limits: {containers: 3}"));
    wait_for("three that are made ahead", || (numbers(&lab, "made").len() == 3).then_some(()));
    let made = numbers(&lab, "made");
    assert_eq!(shell(&a, HOST, "echo mine >/root/tool; hostname"), "hosts-01\n");
    let number = |ip: &str| rows(&lab).iter().find(|row| row["attacker"] == ip).and_then(|row| row["number"].as_u64());
    assert!(made.contains(&number("192.0.2.2").expect("it is listed")), "{made:?}");
    // Another is made for the next one.
    let next = wait_for("another", || Some(numbers(&lab, "made")).filter(|now| now.len() == 3 && *now != made));
    assert!(!ssh(&b, HOST, "cat /root/tool").status.success(), "a clean one");
    assert!(next.contains(&number("192.0.2.3").expect("it is listed")), "{next:?}");
    assert_eq!(shell(&a, HOST, "cat /root/tool"), "mine\n");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_clone_is_what_was_prepared_by_hand() {
    let (mut lab, a, _) = up(&topology("image: small", ""));
    assert_eq!(shell(&a, "192.0.2.20", "echo 'by hand' >/root/notes; cat /root/notes"), "by hand\n");
    let name = format!("{}-worked", lab.name);
    let of_clone = topology(&format!("clone: {name}, grant: per-attacker"), "");
    let file = lab.file("clone.yaml", &of_clone);
    let check = |lab: &Lab| {
        let state = crate::lab::state_dir();
        let output = std::process::Command::new(crate::lab::PROGRAM)
            .args(["check", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?} {}", lab.name);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let warned = check(&lab);
    assert!(warned.contains(&format!("nothing was captured or imported as `{name}`")), "{warned}");
    let state = crate::lab::state_dir();
    let all = rows(&lab);
    let container = all.iter().find(|row| row["host"] == "192.0.2.20").unwrap()["name"].as_str().unwrap();
    let image = |words: &[&str]| {
        crate::net::sh(&[&[crate::lab::PROGRAM, "image"], words, &["--state-dir", state.to_str().unwrap()]].concat())
    };
    image(&["capture", &name, "--from", container]);
    assert_eq!(check(&lab), "");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
    lab.start(&of_clone);
    assert_eq!(shell(&a, "192.0.2.21", "cat /root/notes; hostname"), "by hand\nhosts-02\n");
    lab.down();
    image(&["rm", &name]);
}
