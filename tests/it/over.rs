//! How long sessions last, what ends them, and what there is whoever tells it: nothing is left open on record that is
//! over, and nothing is over, or not there, because a process of ours was killed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use honeyweave::control::place::Live;
use serde_json::{Value, json};

use crate::crash::init;
use crate::lab::{Lab, PROGRAM, process, state_dir};
use crate::net::{Running, sh, wait_for};
use crate::shell::shell;

/// The image is the one of the tests of SSH in the middle.
const TOPOLOGY: &str = r#"
name: over
templates:
  plain: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h}}
  recorded: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small, idle: 1h}}
  greeter: {personality: linux, tcp: {21: {banner: "220 ready\r\n"}}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  plain: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: plain}
  recorded: {kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: recorded}
  greeters: {kind: hosts, addresses: 192.0.2.30-192.0.2.39, template: greeter}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [plain, "core:2"]
  - endpoints: [recorded, "core:3"]
  - endpoints: [greeters, "core:4"]
"#;

fn lab() -> Lab {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// Somebody who is logged in to `host` and stays.
fn stays(lab: &Lab, host: &str) -> Running {
    let target = format!("root@{host}");
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    let words = ["sshpass", "-p", "toor", "ssh", "-tt"];
    let mut client = lab.attacker.spawn(&[&words[..], &options, &[&target, "echo I am in; sleep 1000"]].concat());
    client.wait_line("I am in");
    client
}

/// Somebody who has said seven octets to the greeter `host`, and stays.
fn greeted(lab: &Lab, host: &str) -> TcpStream {
    let mut stream = lab.attacker.enter(|| TcpStream::connect((host, 21)).unwrap());
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(b"hello\r\n").unwrap();
    lab.wait_event("tcp.data", |event| event["dst"]["ip"] == host);
    stream
}

/// The session with `host`, once it is on the disk: the client may know a moment before.
fn session_with(lab: &Lab, host: &str) -> Value {
    let rows = wait_for("the session", || {
        let rows = lab.json(&["session", "ls", "--host", host]);
        rows.as_array().is_some_and(|rows| !rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    rows[0].clone()
}

fn id(session: &Value) -> &str {
    session["session"].as_str().unwrap()
}

fn show(lab: &Lab, session: &Value) -> String {
    let output = lab.command(&["session", "show", id(session)]);
    String::from_utf8(output.stdout).unwrap()
}

fn follow(lab: &Lab, session: &Value) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(["session", "follow", id(session), "--name", &lab.name, "--state-dir"]).arg(state_dir());
    Running::start(&mut command)
}

#[test]
fn whoever_is_there_when_a_honeynet_ends_has_an_end_with_octets() {
    let mut lab = lab();
    let _clients = ["192.0.2.10", "192.0.2.20"].map(|host| stays(&lab, host));
    let _greeted = greeted(&lab, "192.0.2.30");
    let before = session_with(&lab, "192.0.2.30");
    assert_eq!((&before["ended"], &before["bytes_in"]), (&json!(false), &json!(0)));
    assert!(show(&lab, &before).contains(", goes on)"));
    assert_eq!(before["state"], "open");
    // By whatever path its directory is found it is the same one, and a copy of it is another.
    let copy = lab.path("copy").join(&lab.name);
    std::fs::create_dir_all(&copy).unwrap();
    sh(&[
        "cp",
        "-r",
        lab.own_dir().join("events").to_str().unwrap(),
        lab.own_dir().join("lock").to_str().unwrap(),
        copy.to_str().unwrap(),
    ]);
    for (dir, state) in [(lab.own_dir(), "open"), (copy, "broken")] {
        let mut ls = Command::new(PROGRAM);
        let output = ls.args(["session", "ls", "--json", "--state-dir", "."]).current_dir(&dir).output().unwrap();
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let row = rows.as_array().unwrap().iter().find(|row| row["session"] == before["session"]);
        assert_eq!(row.map(|row| &row["state"]), Some(&json!(state)), "{}", dir.display());
    }
    lab.down();
    for host in ["192.0.2.10", "192.0.2.20", "192.0.2.30"] {
        let closed = lab.wait_event("tcp.close", |event| event["dst"]["ip"] == host);
        assert_eq!(closed["reason"], "honeynet-ended", "{closed}");
        let session = session_with(&lab, host);
        assert_eq!((&session["ended"], &session["over"]["why"]), (&json!(true), &json!("honeynet-ended")), "{session}");
        assert_eq!(session["state"], "over", "{session}");
        let octets = |name: &str| session[name].as_u64().unwrap();
        match host {
            "192.0.2.30" => assert_eq!((octets("bytes_in"), octets("bytes_out")), (7, 11)),
            // A key exchange is more than that, each way.
            _ => assert!(octets("bytes_in") > 1000 && octets("bytes_out") > 1000, "{session}"),
        }
        let shown = show(&lab, &session);
        let row = shown.lines().find(|line| line.ends_with("the honeynet ended")).unwrap_or_else(|| panic!("{shown}"));
        assert!(row.contains(&octets("bytes_in").to_string()), "{row}");
        assert!(shown.contains("the honeynet ended at "), "{shown}");
    }
    // Who was in the middle says the same, at the same time, and not when it had heard something last.
    let ssh = lab.wait_event("ssh.close", |event| event["dst"]["ip"] == "192.0.2.20");
    let object: Value = serde_json::from_str(ssh["text"].as_str().unwrap()).unwrap();
    assert_eq!(object["reason"], "honeynet-ended", "{ssh}");
    let tcp = lab.wait_event("tcp.close", |event| event["dst"]["ip"] == "192.0.2.20");
    let lasted = |event: &Value| event["duration_us"].as_i64().unwrap();
    let apart = (lasted(&ssh) - lasted(&tcp)).abs();
    assert!(apart < 500_000, "{apart}: {ssh} {tcp}");
    let last = lab.events().into_iter().rev().find(|event| event["event"] == "process.state").unwrap();
    assert_eq!(last["reason"], "the honeynet ends: by signal 15");
}

#[test]
fn a_session_of_a_run_that_is_over_is_over_while_another_one_is_up() {
    let mut lab = lab();
    for (host, killed) in [("192.0.2.20", false), ("192.0.2.21", true)] {
        let client = stays(&lab, host);
        let session = session_with(&lab, host);
        let mut before = follow(&lab, &session);
        before.wait_line("I am in");
        if killed {
            // Nobody is left to tell of any end.
            sh(&["kill", "-9", &lab.pid().to_string()]);
            wait_for("the end of its supervisor", || Live::find(&lab.name).unwrap().is_none().then_some(()));
        } else {
            lab.down();
        }
        drop((client, before));
        lab.start(TOPOLOGY);
        // What the client's kernel still sends of the connection may be another session already. Frames may flow a moment before
        // it is on the disk that they do, which is what tells of the end of a run that nobody else has told of.
        wait_for("the end", || {
            let rows = lab.json(&["session", "ls", "--host", host]);
            let row = rows.as_array().unwrap().iter().find(|row| row["session"] == id(&session));
            (row.expect("it stays")["ended"] == true).then_some(())
        });
        let mut after = follow(&lab, &session);
        after.wait_line("I am in");
        after.wait_line("(the session is over)");
        assert!(after.wait().0.success());
        if killed {
            let shown = show(&lab, &session);
            // The switch may yet have noticed, and the console written it down, before they were gone, too.
            let ends = ["not on record (the switch ended); last heard of after ", "the honeynet ended"];
            assert!(ends.iter().any(|end| shown.contains(end)), "{shown}");
        }
    }
}

/// Who is left of a honeynet ends by itself, and what it takes last is found all the same, though nobody tells of it.
#[test]
fn a_honeynet_whose_supervisor_is_killed_is_over_with_all_that_was_taken() {
    let mut lab = lab();
    let _client = stays(&lab, "192.0.2.20");
    let _greeted = greeted(&lab, "192.0.2.30");
    let sessions = ["192.0.2.20", "192.0.2.30"].map(|host| session_with(&lab, host));
    sh(&["kill", "-9", &lab.pid().to_string()]);
    let processes = || lab.leftovers().into_iter().filter(|left| left.starts_with("process ")).count();
    wait_for("the end of all its processes", || (processes() == 0).then_some(()));
    let is_over = |lab: &Lab| {
        for (session, host) in sessions.iter().zip(["192.0.2.20", "192.0.2.30"]) {
            let told = lab.json(&["session", "show", id(session)]);
            assert_eq!(
                (&told["state"], &told["over"]["why"]),
                (&json!("over"), &json!("honeynet-ended")),
                "{host}: {told}"
            );
            let closed = lab.wait_event("tcp.close", |event| event["session"] == session["session"]);
            assert_eq!(closed["reason"], "honeynet-ended", "{closed}");
        }
    };
    wait_for("the end of its supervisor", || Live::find(&lab.name).unwrap().is_none().then_some(()));
    is_over(&lab);
    let archives = || {
        let told = lab.json(&["session", "show", id(&sessions[0])]);
        told["archives"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let taken = archives();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(lab.own_dir().join("evidence").join(&taken[0]).is_file());
    let told = lab.events().into_iter().any(|event| event["archive"] == taken[0].as_str());
    println!("the log tells of the archive: {told}");
    let bundle = lab.path("bundle");
    let output = lab.command(&["session", "export", id(&sessions[0]), "--plain", "-o", bundle.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let members = sh(&["tar", "--zstd", "-tf", bundle.to_str().unwrap()]);
    assert!(members.contains(&format!("evidence/{}\n", taken[0])), "{members}");
    // Nor does the next run know better.
    lab.start(TOPOLOGY);
    is_over(&lab);
}

#[test]
fn what_ends_with_the_switch_is_shown_as_such() {
    let lab = lab();
    let _client = stays(&lab, "192.0.2.20");
    let _greeted = greeted(&lab, "192.0.2.30");
    let (session, greeted) = (session_with(&lab, "192.0.2.20"), session_with(&lab, "192.0.2.30"));
    let mut following = follow(&lab, &session);
    following.wait_line("I am in");
    sh(&["kill", "-9", &process(&lab, "switch").unwrap().to_string()]);
    following.wait_line("(the session is over)");
    assert!(following.wait().0.success());
    for session in [session, greeted] {
        let shown = show(&lab, &session);
        assert!(shown.contains("the switch ended by "), "{shown}");
        assert!(shown.contains("not on record (the switch ended); last heard of after "), "{shown}");
        let told: Value = lab.json(&["session", "show", id(&session)]);
        let link = &told["tcp"][0];
        assert!(link["until"].is_null() && link["reason"].is_null() && link["bytes_in"].is_null(), "{link}");
        assert!(link["heard"].is_string() && told["over"]["why"] == "switch-ended", "{told}");
    }
    // Who comes after that is not of before.
    let _again = greeted_again(&lab);
    let sessions = lab.json(&["session", "ls", "--host", "192.0.2.31"]);
    assert_eq!(sessions[0]["ended"], false, "{sessions}");
}

fn greeted_again(lab: &Lab) -> TcpStream {
    let open = || lab.attacker.run(&["nc", "-z", "-w", "1", "192.0.2.32", "21"]).status.success();
    wait_for("the next switch", || open().then_some(()));
    greeted(lab, "192.0.2.31")
}

#[test]
fn what_an_administrator_does_makes_no_session_longer() {
    let lab = lab();
    let host = "192.0.2.10";
    shell(&lab.attacker, host, "true");
    let closed = lab.wait_event("tcp.close", |event| event["dst"]["ip"] == host);
    wait_for("the container", || init(&lab, host));
    for (order, told) in [
        ("freeze", "container.frozen"),
        ("snapshot", "evidence.taken"),
        ("stop", "container.stop"),
        ("destroy", "container.destroyed"),
    ] {
        let output = lab.command(&["container", order, host]);
        assert!(output.status.success(), "{order}: {}", String::from_utf8_lossy(&output.stderr));
        let done = lab.wait_event(told, |event| event["dst"]["ip"] == host);
        let session = session_with(&lab, host);
        assert_eq!(done["session"], session["session"], "{done}");
        assert!(session["until"].as_str() < done["time"].as_str(), "{order}: {session} {done}");
        assert!(session["until"].as_str() >= closed["time"].as_str(), "{session} {closed}");
        assert!(session["heard"].as_str() >= done["time"].as_str(), "{session} {done}");
    }
}

#[test]
fn the_next_console_counts_what_there_is() {
    let lab = lab();
    let _clients = ["192.0.2.10", "192.0.2.20"].map(|host| stays(&lab, host));
    let _greeted = greeted(&lab, "192.0.2.30");
    shell(&lab.attacker, "192.0.2.11", "true");
    wait_for("the container", || init(&lab, "192.0.2.11"));
    assert!(lab.command(&["container", "freeze", "192.0.2.11"]).status.success());
    wait_for("that its connection is over", || (open(&lab).1 == 3).then_some(()));
    let before = lab.json(&["status"]);
    let containers = before["summary"]["running"].clone();
    assert_eq!(containers.as_array().map(Vec::len), Some(3), "{before}");
    let states: Vec<&Value> = containers.as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states.iter().filter(|state| **state == "live").count(), 2, "{containers}");
    assert_eq!(states.iter().filter(|state| **state == "frozen").count(), 1, "{containers}");
    assert!(containers.as_array().unwrap().iter().all(|row| row["by"] == "192.0.2.2"), "{containers}");
    assert_eq!(open(&lab), (4, 3));
    assert_eq!(before["counted_since"], before["started"]);
    let metrics = || String::from_utf8(lab.command(&["status", "--metrics"]).stdout).unwrap();
    let gauges = ["honeyweave_containers 3\n", "honeyweave_sessions 4\n", "honeyweave_flows 3\n"];
    for killed in ["console", "keeper", "console"] {
        let pid = process(&lab, killed).unwrap();
        sh(&["kill", "-9", &pid.to_string()]);
        wait_for("the next one", || process(&lab, killed).filter(|next| *next != pid));
        wait_for("what there is", || {
            let output = lab.command(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            let told = status["keeper_error"].is_null() && status["sessions_open"].is_u64();
            // It hears that it is not the first, and since when it counts.
            let told = told && status["counted_since"].as_str() > status["started"].as_str();
            // A keeper that has just been started has yet to hear whose they are.
            (told && status["summary"]["running"] == containers).then_some(())
        });
        assert_eq!(open(&lab), (4, 3), "{killed}");
        let text = metrics();
        for gauge in gauges {
            assert!(text.contains(gauge), "{killed}: {gauge} in {text}");
        }
    }
    let text = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    for part in [
        "sessions    4 open, with 3 TCP connections; ",
        "containers  3 now, 1 of them frozen; ",
        "\ncounted     since ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // What ends is counted out by whoever saw no beginning.
    assert!(lab.command(&["container", "destroy", "192.0.2.11"]).status.success());
    wait_for("its end", || metrics().contains("honeyweave_containers 2\n").then_some(()));
}

/// Sessions and connections that are open, as the status tells it.
fn open(lab: &Lab) -> (u64, u64) {
    let status = lab.json(&["status"]);
    (status["sessions_open"].as_u64().unwrap(), status["connections_open"].as_u64().unwrap())
}
