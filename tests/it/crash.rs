//! Whatever is killed below a honeynet: neighbors notice nothing, what can go on goes on, and what cannot is there again
//! with what was on it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, process};
use crate::net::{Running, sh, wait_for};
use crate::shell::{shell, ssh};

pub const TOPOLOGY: &str = "
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
pub fn init(lab: &Lab, host: &str) -> Option<i64> {
    let rows = lab.json(&["container", "ls"]);
    let is_it = |row: &&Value| row["host"] == host && row["state"] == "live";
    rows.as_array()?.iter().find(is_it)?["init"].as_i64()
}

/// Pings `hosts` every 5 ms for a second.
fn pings(lab: &Lab, hosts: &[&str]) -> Running {
    lab.attacker.spawn(&[&["fping", "-q", "-i", "1", "-c", "200", "-p", "5", "-t", "1000"], hosts].concat())
}

/// Panics unless all of `count` hosts have answered all.
fn all_answered(fping: Running, count: usize, about: &str) {
    let (_, said) = fping.wait();
    assert_eq!(said.matches("= 200/200/0%").count(), count, "{about}: {said}");
}

pub fn killed(pid: i64) {
    sh(&["kill", "-9", &pid.to_string()]);
}

/// Somebody who is logged in to a host, and says lines to what runs there.
pub struct Session {
    client: Child,
    lines: BufReader<ChildStdout>,
}

impl Session {
    /// Who says lines to `cat`.
    fn open(lab: &Lab, host: &str) -> Session {
        Session::running(lab, "toor", &["-T", &format!("root@{host}"), "cat"])
    }

    /// Who gives ssh these arguments.
    pub fn running(lab: &Lab, password: &str, args: &[&str]) -> Session {
        let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
        let args = [&["sshpass", "-p", password, "ssh"][..], &options, args].concat();
        let mut client = lab
            .attacker
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap());
        Session { client, lines }
    }

    /// What comes back of a line.
    fn echo(&mut self, text: &str) -> String {
        self.say(text);
        self.line()
    }

    /// Says a line.
    pub fn say(&mut self, text: &str) {
        writeln!(self.client.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    /// The next line that comes back; empty if none does any more.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn whatever_is_killed_neighbors_notice_nothing_and_the_files_are_still_there() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "echo mine >/root/tool; id -u"), "0\n");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "echo mine >/root/tool; id -u"), "0\n");
    let neighbor = wait_for("the neighbor", || init(&lab, "192.0.2.21"));
    for victim in ["init", "monitor"] {
        let before = wait_for("the container", || init(&lab, "192.0.2.20"));
        let pid = match victim {
            "init" => before,
            _ => honeyweave::container::worker::parent_of(before as i32).unwrap().into(),
        };
        let fping = pings(&lab, &["192.0.2.100", "192.0.2.101", "192.0.2.21"]);
        killed(pid);
        all_answered(fping, 3, victim);
        wait_for("its end", || (init(&lab, "192.0.2.20") != Some(before)).then_some(()));
        // Whoever comes next finds the machine as it was.
        let text = shell(&lab.attacker, "192.0.2.20", "cat /root/tool");
        assert_eq!(text, "mine\n", "{victim}");
        assert_eq!(init(&lab, "192.0.2.21"), Some(neighbor), "{victim}: the neighbor's container goes on");
    }
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn sessions_in_containers_outlive_the_keeper() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let mut session = Session::open(&lab, "192.0.2.20");
    assert_eq!(session.echo("before"), "before\n");
    shell(&lab.attacker, "192.0.2.21", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &");
    let before = ["192.0.2.20", "192.0.2.21"].map(|host| wait_for("the container", || init(&lab, host)));
    // The program that frames are received by, as "id N tag T".
    let program = || {
        let link = lab.wire.sh(&["ip", "link", "show", "dev", "up0"]);
        link.lines().find_map(|line| Some(line.trim().strip_prefix("prog/xdp ")?.to_owned()))
    };
    let received_by = program();
    assert!(received_by.is_some());
    for round in ["first", "second"] {
        let keeper = process(&lab, "keeper").unwrap();
        let fping = pings(&lab, &["192.0.2.100", "192.0.2.20", "192.0.2.21"]);
        killed(keeper.into());
        for n in 0..50 {
            let text = format!("{round} {n}");
            assert_eq!(session.echo(&text), format!("{text}\n"));
        }
        all_answered(fping, 3, round);
        wait_for("the next keeper", || process(&lab, "keeper").filter(|pid| *pid != keeper));
        let after = ["192.0.2.20", "192.0.2.21"].map(|host| wait_for("the container", || init(&lab, host)));
        assert_eq!(after, before, "{round}");
        assert_eq!(session.echo(round), format!("{round}\n"));
        // Its devices are left alone as well.
        assert_eq!(program(), received_by, "{round}");
    }
    let up = || lab.events().iter().filter(|event| event["event"] == "device.state").count();
    assert_eq!(up(), 1, "the first keeper has opened it, and nobody else: {:?}", lab.events());
    // It is looked after all the same.
    lab.wire.sh(&["ip", "link", "set", "up0", "down"]);
    wait_for("that it is down", || (up() == 2).then_some(()));
    lab.wire.sh(&["ip", "link", "set", "up0", "up"]);
    wait_for("frames by AF_XDP", || program().filter(|program| Some(program) != received_by.as_ref()));
    assert_eq!(session.echo("again"), "again\n");
    // The successor rules them: one that it has not started ends when it is told, and another begins.
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "ps -o args | grep '^sleep 1000' | wc -l"), "1\n");
    killed(before[1]);
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "ps -o args | grep '^sleep 1000' | wc -l"), "0\n");
    shell(&lab.attacker, "192.0.2.22", "true");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn what_runs_in_containers_outlives_the_switch() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    shell(&lab.attacker, "192.0.2.20", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &");
    let before = wait_for("the container", || init(&lab, "192.0.2.20"));
    // One after the death of the keeper, which has no TAP but what the switch hands over.
    for also_keeper in [false, true] {
        if also_keeper {
            let keeper = process(&lab, "keeper").unwrap();
            killed(keeper.into());
            wait_for("the next keeper", || process(&lab, "keeper").filter(|pid| *pid != keeper));
            // It answers orders only when it has taken everything over, and the switch has been asked by then.
            wait_for("the container", || init(&lab, "192.0.2.20"));
            shell(&lab.attacker, "192.0.2.20", "true");
        }
        killed(process(&lab, "switch").unwrap().into());
        let began = Instant::now();
        let ping = || lab.attacker.run(&["ping", "-c1", "-W1", "192.0.2.100"]).status.success();
        wait_for("an answer", || ping().then_some(()));
        println!("the first answer of another switch: after {:?}", began.elapsed());
        let count = wait_for("the container", || {
            let output = ssh(&lab.attacker, "192.0.2.20", "ps -o args | grep '^sleep 1000' | wc -l");
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        });
        assert_eq!(count, "1\n", "what was begun there goes on");
        assert_eq!(init(&lab, "192.0.2.20"), Some(before));
    }
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_container_without_its_network_device_is_replaced_within_seconds() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "echo mine >/root/tool; id -u"), "0\n");
    let link = |words: &[&str]| {
        let init = wait_for("the container", || init(&lab, "192.0.2.20"));
        sh(&[&["nsenter", "-t", &init.to_string(), "-n", "ip", "link"], words].concat());
        init
    };
    // Under another name it is what it was.
    let before = link(&["set", "eth0", "down"]);
    link(&["set", "eth0", "name", "other"]);
    link(&["set", "other", "up"]);
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "cat /root/tool"), "mine\n");
    assert_eq!(init(&lab, "192.0.2.20"), Some(before));
    // Removed: nobody has to come for that to be noticed.
    let began = Instant::now();
    link(&["del", "other"]);
    wait_for("its end", || (init(&lab, "192.0.2.20") != Some(before)).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    lab.wait_event("container.stop", |event| event["reason"] == "its network device was removed");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "cat /root/tool"), "mine\n");
    // Switched off: who comes next waits until it is given up.
    let before = link(&["set", "eth0", "down"]);
    let began = Instant::now();
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u"), "0\n");
    println!("a container whose device is down: replaced after {:?}", began.elapsed());
    assert_ne!(init(&lab, "192.0.2.20"), Some(before));
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_full_disk_stops_new_containers_and_nothing_else() {
    let mut lab = Lab::shared();
    lab.on_small_disk(4096);
    let recorded = "  read: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small, idle: 1h}}\n  desktop:";
    let captures = "name: crash\ncaptures: {file: 1M, flow: none}";
    let node = "ports: 4}\n  read: {kind: host, address: 192.0.2.30, template: read}";
    let topology = TOPOLOGY.replace("name: crash", captures).replace("  desktop:", recorded).replace("ports: 3}", node);
    lab.start(&(topology + "  - endpoints: [read, 'core:4']\n"));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    // Somebody whose shell is recorded.
    let mut intruder = Session::running(&lab, "guessed", &["-tt", "root@192.0.2.30"]);
    let mut goes_on = |word: &str| {
        intruder.say(&format!("echo {word}-$((40+2))"));
        while !intruder.line().contains(&format!("{word}-42")) {
            assert!(init(&lab, "192.0.2.30").is_some(), "the shell has ended before {word}");
        }
    };
    let failing = |lab: &Lab| {
        let metrics = String::from_utf8(lab.command(&["status", "--metrics"]).stdout).unwrap();
        let status = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
        (metrics.contains("honeyweave_recording_failing 1"), status.contains("TROUBLE     recordings of connections"))
    };
    goes_on("before");
    // Captures that are over.
    lab.attacker.sh(&["ping", "-q", "-f", "-c", "1500", "-s", "1400", "192.0.2.100"]);
    assert_eq!(failing(&lab), (false, false));
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u"), "0\n");
    let before = wait_for("the container", || init(&lab, "192.0.2.20"));
    let files = lab.fill_disk();
    goes_on("meanwhile");
    wait_for("that recordings are in trouble", || (failing(&lab) == (true, true)).then_some(()));
    let fping = pings(&lab, &["192.0.2.100", "192.0.2.101", "192.0.2.20"]);
    // No container can be had.
    let contact = lab.attacker.run(&["timeout", "3", "nc", "192.0.2.21", "22"]);
    assert_eq!(contact.stdout, b"");
    all_answered(fping, 3, "a full disk");
    // What is emulated answers, and what runs goes on, with another keeper, too.
    lab.attacker.sh(&["nc", "-z", "-w", "2", "192.0.2.102", "445"]);
    let keeper = process(&lab, "keeper").unwrap();
    killed(keeper.into());
    wait_for("the next keeper", || process(&lab, "keeper").filter(|pid| *pid != keeper));
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u"), "0\n");
    assert_eq!(init(&lab, "192.0.2.20"), Some(before));
    // With room again, nothing that happened meanwhile is missing.
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let failed = lab.wait_event("container.failed", |event| event["dst"]["ip"] == "192.0.2.21");
    assert!(failed["reason"].as_str().unwrap().contains("too full"), "{failed}");
    // The handshake was the emulator's.
    lab.wait_event("tcp.open", |event| event["dst"]["ip"] == "192.0.2.21");
    lab.wait_event("tcp.open", |event| event["dst"]["ip"] == "192.0.2.102");
    assert!(!lab.events().iter().any(|event| event["event"] == "gap"));
    assert_eq!(shell(&lab.attacker, "192.0.2.21", "id -u"), "0\n");
    // Of recordings, captures went first, and with room again all is as before.
    let reason =
        |id: &str| lab.wait_event(id, |event| event["reason"].as_str().is_some_and(|why| why.starts_with("disk")));
    let (deleted, failed) = (reason("capture.deleted"), reason("recording.failed"));
    println!("{deleted}\n{failed}");
    wait_for("that recordings are in no trouble", || (failing(&lab) == (false, false)).then_some(()));
    goes_on("after");
    intruder.say("exit");
    let closed = lab.wait_event("ssh.close", |event| event["dst"]["ip"] == "192.0.2.30");
    let id = closed["session"].as_str().unwrap();
    let text = String::from_utf8(lab.command(&["session", "replay", id, "--text"]).stdout).unwrap();
    assert!(text.contains("before-42\n") && text.contains("after-42\n"), "{text}");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
