//! Programs that are dropped by way of a command's input, and what is taken away by way of its output: what is recorded is
//! what was sent, octet by octet.

use serde_json::Value;

use crate::lab::Lab;
use crate::net::wait_for;
use crate::ssh_recorded::OPTIONS;

const HOST: &str = "192.0.2.10";
const TARGET: &str = "root@192.0.2.10";
const TOPOLOGY: &str = r#"
name: dropped
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any, keep: 2M}}, backend: {image: small}}
images:
  small: {recipe: small, packages: [rsync], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 2}
  any: {kind: host, address: 192.0.2.10, template: any}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
"#;

/// What no text is.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

fn sum(octets: &[u8]) -> String {
    honeyweave::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref())
}

/// What the tapes tell of what a program read, and what is kept of it.
fn read(lab: &Lab, program: &str) -> (Value, Vec<u8>) {
    moved(lab, program, "input")
}

fn moved(lab: &Lab, program: &str, direction: &str) -> (Value, Vec<u8>) {
    let (id, file) = wait_for(program, || {
        let sessions = lab.json(&["session", "ls", "--host", HOST]);
        let id = sessions[0]["session"].as_str()?.to_owned();
        let shown = lab.json(&["session", "show", &id]);
        let connections = shown["connections"].as_array()?.clone();
        let mut files = connections.iter().flat_map(|connection| connection["files"].as_array().cloned().unwrap());
        let is_of = |file: &Value| file["path"].as_str().is_some_and(|path| path.starts_with(program));
        let file = files.find(|file| is_of(file) && file["direction"] == direction)?;
        Some((id, file))
    });
    let name = file["content"].as_str().unwrap_or_else(|| panic!("nothing is kept: {file}"));
    let kept = std::fs::read(lab.own_dir().join("sessions").join(&id).join(name)).unwrap();
    assert_eq!(name, format!("sha256-{}", sum(&kept)));
    let shown = String::from_utf8(lab.command(&["session", "show", &id]).stdout).unwrap();
    assert!(shown.contains(program) && shown.contains(&sum(&kept)), "{shown}");
    (file, kept)
}

/// What `session replay --commands` tells of the session.
fn commands(lab: &Lab) -> String {
    let rows = lab.json(&["session", "ls", "--host", HOST]);
    let id = rows[0]["session"].as_str().unwrap().to_owned();
    String::from_utf8(lab.command(&["session", "replay", "--commands", &id]).stdout).unwrap()
}

#[test]
fn what_is_written_into_a_command_is_what_comes_out_of_the_session() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;
    let bot = noise(700_001);
    let path = lab.path("bot");
    std::fs::write(&path, &bot).unwrap();
    let digest = from.sh(&["sha256sum", path.to_str().unwrap()]).split(' ').next().unwrap().to_owned();
    let drop = |script: &str, rest: &[&str]| {
        let words = [&["sh", "-c", script, "sh", path.to_str().unwrap()][..], &OPTIONS, &[TARGET], rest].concat();
        let output = from.run(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    const SEND: &str = "from=$1; shift; sshpass -p x ssh \"$@\" <\"$from\"";

    let inside = drop(SEND, &["cat >/tmp/bot; sha256sum /tmp/bot"]);
    assert_eq!(inside.split(' ').next(), Some(&*digest), "it got there");
    let (file, kept) = read(&lab, "cat >/tmp/bot");
    assert!(kept == bot, "{} octets of {}", kept.len(), bot.len());
    assert_eq!(
        (&file["sha256"], &file["size"], &file["cut"]),
        (&digest.clone().into(), &bot.len().into(), &Value::Null)
    );
    lab.wait_told("ssh.file", HOST, &["\"input\"", "cat >/tmp/bot", &sum(&bot)]);
    // It is no command that was typed: the command is, and how much it has read.
    let line = format!("(input: 700,001 octets, sha256 {})", sum(&bot));
    let typed = commands(&lab);
    let lines: Vec<&str> = typed.lines().map(str::trim_start).collect();
    assert_eq!(lines.len(), 3, "{typed}");
    assert!(lines[1].ends_with("cat >/tmp/bot; sha256sum /tmp/bot") && lines[2].ends_with(&line), "{typed}");

    // And takes the same way out.
    let out = from.run(&[&["sshpass", "-p", "x", "ssh"][..], &OPTIONS, &[TARGET, "cat /tmp/bot"]].concat());
    assert!(out.stdout == bot, "{} octets", out.stdout.len());
    let (file, kept) = moved(&lab, "cat /tmp/bot", "output");
    assert!(kept == bot, "{} octets of {}", kept.len(), bot.len());
    assert_eq!((&file["sha256"], &file["cut"]), (&digest.into(), &Value::Null), "{file}");
    lab.wait_told("ssh.file", HOST, &["\"output\"", "cat /tmp/bot", &sum(&bot)]);

    // A program that only calls itself `scp`.
    drop(SEND, &["printf '#!/bin/sh\ncat >/tmp/seen\n' >/tmp/scp; chmod +x /tmp/scp"]);
    drop(SEND, &["/tmp/scp -t x"]);
    let (_, kept) = read(&lab, "/tmp/scp -t x");
    assert!(kept == bot, "{} octets of {}", kept.len(), bot.len());
    assert_eq!(drop(SEND, &["sha256sum /tmp/seen"]).split(' ').next(), Some(&*sum(&bot)));

    // A shell that has no terminal reads the same way.
    let script = b"printf dropped >/tmp/mark\nhead -c 4 >/dev/null\n\xff\x00\x01\n".to_vec();
    std::fs::write(&path, &script).unwrap();
    let _ = from.run(&[&["sh", "-c", SEND, "sh", path.to_str().unwrap()][..], &OPTIONS, &["-T", TARGET]].concat());
    let (_, kept) = read(&lab, "shell");
    assert!(kept == script, "{kept:?}");
    // Its lines are commands, but for the one that is no text.
    let typed = commands(&lab);
    for part in ["printf dropped >/tmp/mark\n", "head -c 4 >/dev/null\n", "(1 line of its input is no text)\n"] {
        assert_eq!(typed.matches(part).count(), 1, "{part} in {typed}");
    }
    let told = |event: &&Value| event["event"] == "shell.command" && event["dst"]["ip"] == HOST;
    assert_eq!(lab.events().iter().filter(told).count(), 2);
    let exit = lab.wait_told("ssh.exit", HOST, &["\"shell\"", "\"no_text\":1"]);
    assert_eq!(exit["bytes_in"], script.len(), "{exit}");

    // What rsync sends has the file in it, between words of its own.
    std::fs::write(&path, &bot).unwrap();
    let to = format!("{TARGET}:/tmp/synced");
    let shell = format!("sshpass -p x ssh {}", OPTIONS.join(" "));
    from.ask(&["rsync", "-W", "-e", &shell, path.to_str().unwrap(), &to]);
    let (file, kept) = read(&lab, "rsync --server");
    assert!(kept.len() > bot.len() && kept.windows(1000).any(|part| part == &bot[..1000]), "{} octets", kept.len());
    assert_eq!(file["cut"], Value::Null, "{file}");

    // More than the port's `keep`: the beginning is there, and the digest is that of all of it.
    let large = noise(3 << 20);
    std::fs::write(&path, &large).unwrap();
    let inside = drop(SEND, &["dd of=/tmp/large 2>/dev/null; sha256sum /tmp/large"]);
    assert_eq!(inside.split(' ').next(), Some(&*sum(&large)));
    let (file, kept) = read(&lab, "dd of=/tmp/large");
    assert!(kept == large[..2 << 20], "{} octets", kept.len());
    assert_eq!((&file["cut"], &file["sha256"]), (&"file-too-large".into(), &sum(&large).into()), "{file}");
}
