//! Addresses that nobody answers for, as real kernels and arping meet them on a real bridge.

use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Ns, wait_for};
use crate::shell::shell;

/// A population that takes what is free of a segment on which others are, too.
const SWITCHED: &str = r#"
name: dark
nodes:
  wan: {kind: uplink, mac_limit: 600}
  core: {kind: switch, ports: 4}
  dark:
    kind: hosts
    addresses: [192.0.2.0/24, "2001:db8::100-2001:db8::1ff"]
    prefix: [192.0.2.0/24, "2001:db8::/64"]
    gateway: 192.0.2.1
    except: 192.0.2.200
    claim: {}
    tcp: {80: {http: {pages: {/: dark}}}}
  printer: {kind: host, address: 192.0.2.9, personality: printer}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [dark, "core:2"]
  - endpoints: [printer, "core:3"]
"#;

/// The same without anything between it and the wire.
const DIRECT: &str = r#"
name: dark
nodes:
  wan: {kind: uplink}
  dark: {kind: hosts, addresses: 192.0.2.0/24, claim: {after: 2, within: 5s}}
links:
  - endpoints: [wan, dark]
"#;

/// The attacker's side of the wire becomes a bridge, with another machine on it.
pub fn neighbor(lab: &Lab) -> Ns {
    let owner = lab.ns("owner");
    lab.wire_between((&lab.attacker, "own0"), (&owner, "eth0"));
    lab.attacker.sh(&["ip", "link", "add", "br0", "type", "bridge"]);
    for port in ["eth0", "own0"] {
        lab.attacker.sh(&["ip", "link", "set", port, "master", "br0"]);
    }
    lab.attacker.sh(&["ip", "link", "set", "br0", "up"]);
    lab.attacker.addr("br0", "192.0.2.2/24");
    lab.attacker.addr("br0", "2001:db8::2/64");
    owner
}

/// The MACs that answer five requests, a second apart, each named once.
fn arping(ns: &Ns, target: &str) -> Vec<String> {
    let output = ns.run(&["arping", "-I", "br0", "-c", "5", target]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut macs: Vec<String> =
        said.lines().filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_lowercase())).collect();
    macs.sort();
    macs.dedup();
    macs
}

fn mac_of(ns: &Ns, interface: &str) -> String {
    ns.sh(&["cat", &format!("/sys/class/net/{interface}/address")]).trim().to_owned()
}

pub fn pings(ns: &Ns, target: &str) -> bool {
    ns.run(&["ping", "-c", "1", "-W", "2", target]).status.success()
}

/// The MAC that the attacker knows of a neighbor.
fn known(lab: &Lab, target: &str) -> Option<String> {
    let said = lab.attacker.sh(&["ip", "neigh", "show", target, "dev", "br0"]);
    Some(said.split_once("lladdr ")?.1.split(' ').next()?.to_owned())
}

fn claims_of(lab: &Lab, target: &str) -> Vec<Value> {
    lab.events().into_iter().filter(|e| e["event"] == "address.claimed" && e["dst"]["ip"] == target).collect()
}

fn state_of(lab: &Lab, target: &str) -> String {
    let hosts = lab.json(&["hosts", "ls"]);
    let row = hosts.as_array().unwrap().iter().find(|row| row["ip"] == target).cloned().unwrap_or_default();
    row["state"].as_str().unwrap_or("").to_owned()
}

#[test]
fn a_free_address_is_claimed_and_its_new_owner_gets_it() {
    let lab = Lab::up(SWITCHED);
    let owner = neighbor(&lab);
    let once = lab.attacker.run(&["arping", "-I", "br0", "-c", "1", "192.0.2.77"]);
    assert!(!once.status.success(), "one request claims nothing");
    // A kernel asks three times, and then it has its answer.
    assert!(lab.attacker.run(&["ping", "-c", "1", "-W", "5", "192.0.2.78"]).status.success());
    let macs = arping(&lab.attacker, "192.0.2.77");
    assert_eq!(macs.len(), 1, "{macs:?}");
    let claimed = lab.wait_event("address.claimed", |event| event["dst"]["ip"] == "192.0.2.77");
    assert_eq!((claimed["src"]["ip"].as_str(), claimed["dst"]["mac"].as_str()), (Some("192.0.2.2"), Some(&*macs[0])));
    assert!(pings(&lab.attacker, "192.0.2.77"));
    assert_eq!(known(&lab, "192.0.2.77").as_ref(), Some(&macs[0]));
    assert_eq!(state_of(&lab, "192.0.2.77"), "claimed");
    let status = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    assert!(status.contains("addresses   2 claimed, 0 let go"), "{status}");

    // A machine is given that address: its test finds it free, its announcement is heard by all.
    owner.sh(&["arping", "-D", "-I", "eth0", "-c", "3", "192.0.2.77"]);
    let released = lab.wait_event("address.released", |event| event["dst"]["ip"] == "192.0.2.77");
    let own = mac_of(&owner, "eth0");
    assert_eq!((released["reason"].as_str(), released["src"]["mac"].as_str()), (Some("probe"), Some(&*own)));
    owner.addr("eth0", "192.0.2.77/24");
    owner.sh(&["arping", "-U", "-I", "eth0", "-c", "1", "192.0.2.77"]);
    assert!(pings(&lab.attacker, "192.0.2.77"));
    assert_eq!(arping(&lab.attacker, "192.0.2.77"), std::slice::from_ref(&own), "nobody but its owner answers");
    assert_eq!(known(&lab, "192.0.2.77"), Some(own));
    assert_eq!(claims_of(&lab, "192.0.2.77").len(), 1);
    assert_eq!(state_of(&lab, "192.0.2.77"), "released");
}

#[test]
fn what_is_in_use_and_what_is_left_out_is_never_claimed() {
    let lab = Lab::up(SWITCHED);
    let owner = neighbor(&lab);
    owner.addr("eth0", "192.0.2.50/24");
    let own = mac_of(&owner, "eth0");
    // The answers go to who asks alone: the bridge shows them to nobody else.
    for _ in 0..2 {
        assert_eq!(arping(&lab.attacker, "192.0.2.50"), std::slice::from_ref(&own));
    }
    for nobody in ["192.0.2.1", "192.0.2.200"] {
        assert_eq!(arping(&lab.attacker, nobody), Vec::<String>::new(), "{nobody}");
    }
    assert_eq!(arping(&lab.attacker, "192.0.2.9").len(), 1, "another node's is answered by that node");
    for never in ["192.0.2.50", "192.0.2.1", "192.0.2.200", "192.0.2.9", "192.0.2.2"] {
        assert!(claims_of(&lab, never).is_empty(), "{never}");
    }
}

#[test]
fn an_ipv6_address_is_claimed_and_passes_its_new_owners_test() {
    let lab = Lab::up(SWITCHED);
    let owner = neighbor(&lab);
    let target = "2001:db8::150";
    wait_for("an answer of the claimed address", || pings(&lab.attacker, target).then_some(()));
    let claimed = lab.wait_event("address.claimed", |event| event["dst"]["ip"] == target);
    assert_eq!(claimed["src"]["ip"], "2001:db8::2");
    assert_eq!(known(&lab, target).as_deref(), claimed["dst"]["mac"].as_str());
    // The kernel tests it (RFC 4862 §5.4), unlike what `Ns::addr` does.
    owner.sh(&["ip", "addr", "add", "2001:db8::150/64", "dev", "eth0"]);
    wait_for("the end of the test for duplicates", || {
        let said = owner.sh(&["ip", "-6", "addr", "show", "dev", "eth0", "to", "2001:db8::150"]);
        assert!(!said.contains("dadfailed"), "{said}");
        (said.contains(target) && !said.contains("tentative")).then_some(())
    });
    let released = lab.wait_event("address.released", |event| event["dst"]["ip"] == target);
    assert_eq!(released["reason"], "probe");
    lab.attacker.sh(&["ip", "-6", "neigh", "flush", "dev", "br0"]);
    assert!(pings(&lab.attacker, target));
    assert_eq!(known(&lab, target), Some(mac_of(&owner, "eth0")));
}

#[test]
fn claims_need_no_switch_and_no_single_thread() {
    let mut lab = Lab::shared();
    lab.threads = 2;
    // The machine's own address, whose answers its uplink does not hear.
    lab.wire.addr("up0", "192.0.2.66/24");
    lab.start(DIRECT);
    let owner = neighbor(&lab);
    for target in ["192.0.2.70", "192.0.2.71", "192.0.2.72", "192.0.2.73"] {
        assert_eq!(arping(&lab.attacker, target).len(), 1, "{target}");
        assert!(pings(&lab.attacker, target), "{target}");
    }
    let machine = mac_of(&lab.wire, "up0");
    assert_eq!(arping(&lab.attacker, "192.0.2.66"), [machine]);
    assert!(claims_of(&lab, "192.0.2.66").is_empty());
    // An owner that does not test, and does not announce itself, speaks to somebody.
    owner.addr("eth0", "192.0.2.71/24");
    assert!(pings(&owner, "192.0.2.2"));
    let released = lab.wait_event("address.released", |event| event["dst"]["ip"] == "192.0.2.71");
    assert_eq!((released["reason"].as_str(), released["src"]["ip"].as_str()), (Some("owner"), Some("192.0.2.71")));
    assert_eq!(arping(&lab.attacker, "192.0.2.71"), [mac_of(&owner, "eth0")]);
    assert!(pings(&lab.attacker, "192.0.2.72"));
}

/// Hosts behind a router, with containers.
const LIVELY: &str = r#"
name: dark
templates:
  shell:
    tcp: {22: container}
    backend: {image: small, start: on-access, idle: 10m}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: 192.0.2.1/24, lan: 10.10.0.1/24}
  dark: {kind: hosts, addresses: 10.10.0.0/24, template: shell, claim: {}}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", dark]
"#;

#[test]
fn a_claimed_address_has_its_container() {
    let lab = Lab::up(LIVELY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    // The router asks three times for who waits behind it.
    wait_for("an answer of the claimed address", || pings(&lab.attacker, "10.10.0.20").then_some(()));
    let claimed = lab.wait_event("address.claimed", |event| event["dst"]["ip"] == "10.10.0.20");
    assert_eq!(claimed["src"]["ip"], "10.10.0.1");
    let said = shell(&lab.attacker, "10.10.0.20", "echo $SSH_CONNECTION");
    assert!(said.starts_with("192.0.2.2 ") && said.trim_end().ends_with(" 10.10.0.20 22"), "{said}");
    lab.wait_event("container.live", |event| event["dst"]["ip"] == "10.10.0.20");
    assert_eq!(state_of(&lab, "10.10.0.20"), "live");
}
