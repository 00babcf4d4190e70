//! `privacy: {retention}`: what is older goes, all of it and nothing else, and the log says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use honeyweave::event::Utc;
use serde_json::Value;

use crate::crash::{Session, killed};
use crate::lab::{Lab, process};
use crate::net::wait_for;
use crate::ssh_recorded::OPTIONS;

/// The image is the one of the other tests of SSH in the middle.
const TOPOLOGY: &str = r#"
name: retention
privacy: {retention: 1h}
sinks:
  ours: {format: ndjson, to: "file:ours.json"}
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 2}
  any: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: any}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
"#;

/// Twice what is kept.
const AGE: Duration = Duration::from_secs(2 * 3600);

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Has a file have been written two hours ago.
fn age(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - AGE).unwrap();
}

/// Somebody who brings a program to `host`, has it run, and goes.
fn visit(lab: &Lab, host: &str) -> String {
    let program = lab.file("implant", &format!("#!/bin/sh\necho implant of {host}\n"));
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let scp = ["sshpass", "-p", "guessed", "scp", "-p"];
    let to = format!("root@{host}:/tmp/implant");
    lab.attacker.sh(&[&scp[..], &OPTIONS, &[program.to_str().unwrap(), &to]].concat());
    let ssh = ["sshpass", "-p", "guessed", "ssh", "-tt"];
    lab.attacker.sh(&[&ssh[..], &OPTIONS, &[&format!("root@{host}"), "/tmp/implant; exit"]].concat());
    let closed =
        || lab.events().into_iter().filter(|event| event["event"] == "ssh.close" && event["dst"]["ip"] == host);
    wait_for("both connections to end", || (closed().count() == 2).then_some(()));
    closed().next().unwrap()["session"].as_str().unwrap().to_owned()
}

fn of_session(lab: &Lab, session: &str) -> Vec<PathBuf> {
    files(&lab.own_dir().join("sessions").join(session))
}

fn is_listed(lab: &Lab, session: &str) -> bool {
    lab.json(&["session", "ls"]).as_array().unwrap().iter().any(|row| row["session"] == session)
}

/// What was said to have gone because it was too old.
fn deleted(lab: &Lab, id: &str) -> Vec<Value> {
    let mut events = lab.events();
    events.retain(|event| {
        event["event"] == id && event["reason"].as_str().is_some_and(|why| why.starts_with("retention"))
    });
    events
}

#[test]
fn what_is_older_than_it_may_be_goes_and_nothing_else() {
    let mut lab = Lab::shared();
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let old = visit(&lab, "192.0.2.10");
    assert!(lab.command(&["container", "destroy", "192.0.2.10"]).status.success());
    lab.wait_event("evidence.taken", |event| event["dst"]["ip"] == "192.0.2.10");
    assert!(is_listed(&lab, &old));
    lab.down();
    // All of it becomes two hours old.
    let own = lab.own_dir();
    let log = own.join("events/events.ndjson");
    let lines = fs::read_to_string(&log).unwrap();
    let older = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let time: Utc = serde_json::from_value(record["time"].clone()).unwrap();
        record["time"] = serde_json::to_value(Utc::from_micros(time.micros() - AGE.as_micros() as i64)).unwrap();
        record.to_string() + "\n"
    };
    fs::write(&log, lines.lines().map(older).collect::<String>()).unwrap();
    for (name, contents) in [("ours.json.1", "young"), ("ours.json.2", "old")] {
        fs::write(own.join("sinks").join(name), contents).unwrap();
    }
    let mut before = Vec::new();
    for part in ["events", "captures", "sessions", "evidence"] {
        before.extend(files(&own.join(part)));
    }
    before.push(own.join("sinks/ours.json.2"));
    before.iter().for_each(|path| age(path));
    let has = |part: &str| before.iter().any(|path| path.to_str().unwrap().contains(part));
    let parts = ["/wan-", "-192.0.2.10-", "-ssh-", ".cast", "/sha256-", ".tar.zst", "/samples/", ".json.zst"];
    assert!(parts.iter().all(|part| has(part)), "{before:?}");

    // Another run finds it too old.
    lab.start(TOPOLOGY);
    for (id, count) in [("log.deleted", lines.lines().count() as u64), ("recording.deleted", 1), ("capture.deleted", 2)]
    {
        let told = wait_for(id, || deleted(&lab, id).pop());
        assert!(told["count"].as_u64() >= Some(count), "{told}");
    }
    lab.wait_event("evidence.deleted", |_| true);
    let is_log = |path: &&PathBuf| **path == log;
    let left: Vec<_> = before.iter().filter(|path| path.exists() && !is_log(path)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(own.join("sinks/ours.json.1").exists());
    assert!(!is_listed(&lab, &old) && !fs::read_to_string(&log).unwrap().contains(&old));
    assert!(!lab.command(&["session", "show", &old]).status.success());

    // While it runs: of what is over the old part goes, and what somebody is in stays whole.
    let (first, second) = (visit(&lab, "192.0.2.11"), visit(&lab, "192.0.2.12"));
    let mut guest = Session::running(&lab, "guessed", &["-tt", "root@192.0.2.13"]);
    let mut says = |word: &str| {
        guest.say(&format!("echo {word}-$((40+2))"));
        while !guest.line().contains(&format!("{word}-42")) {}
    };
    says("before");
    let third = lab.wait_event("ssh.shell", |event| event["dst"]["ip"] == "192.0.2.13")["session"].clone();
    let third = third.as_str().unwrap();
    let young = of_session(&lab, &second);
    let [aged, kept] = [&first, &second].map(|session| {
        let mut files = of_session(&lab, session);
        files.retain(|path| path.to_str().unwrap().ends_with(".cast"));
        files
    });
    assert!(!aged.is_empty() && !kept.is_empty());
    let all = of_session(&lab, &first);
    aged.iter().chain(&of_session(&lab, third)).for_each(|path| age(path));
    let console = process(&lab, "console").unwrap();
    killed(console.into());
    wait_for("that it is said", || (deleted(&lab, "recording.deleted").len() > 1).then_some(()));
    let left: Vec<_> = all.iter().filter(|path| !aged.contains(path)).cloned().collect();
    let mut found = of_session(&lab, &first);
    found.sort();
    let mut left = left;
    left.sort();
    assert_eq!(found, left, "file by file");
    assert!(young.iter().all(|path| path.exists()));
    says("after");
    guest.say("exit");
    lab.wait_event("ssh.close", |event| event["session"] == third);
    let text = String::from_utf8(lab.command(&["session", "replay", third, "--text"]).stdout).unwrap();
    assert!(text.contains("before-42\n") && text.contains("after-42\n"), "{text}");
    assert!([first.as_str(), &second, third].iter().all(|session| is_listed(&lab, session)));
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
