//! What commands say to whoever calls them, whatever the files are called that they are given, and whether anybody reads.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::PROGRAM;

/// One of the program's commands, where no honeynet runs.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env("HONEYWEAVE_RUN_DIR", dir.join("run")).env("HONEYWEAVE_STATE_DIR", dir.join("state"));
    command.env_remove("HONEYWEAVE_NAME");
    command
}

#[test]
fn a_terminal_obeys_nothing_that_a_file_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a\u{1b}]0;pwn\u{7}\u{9b}2J\u{202e}X.tar.zst");
    fs::write(&path, "none").unwrap();
    let file = path.to_str().unwrap();
    let missing = format!("{file}/x");
    for args in [
        &["session", "verify", file, "--key", file][..],
        &["session", "verify", file, "--key", &missing],
        &["session", "replay", file],
        &["session", "replay", &missing],
        &["session", "ls", "--state-dir", file],
        &["session", "export", "8f3a00c1d2e4b596", "--state-dir", file],
        &["evidence", "show", file],
        &["evidence", "verify", &missing],
        &["evidence", "diff", "--upper", file, "--lower", file],
        &["events", "ls", "--state-dir", file],
        &["check", file],
        &["import", "nmap", file],
    ] {
        let output = command(dir.path(), args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success() && !said.is_empty(), "{args:?}: {said:?}");
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(harmful), "{args:?}: {said:?}");
    }
}

#[test]
fn where_nobody_reads_what_is_wrong_the_exit_code_still_says_it() {
    let dir = tempfile::tempdir().unwrap();
    let topology = dir.path().join("t.yaml");
    fs::write(&topology, "nodes: [").unwrap();
    fs::create_dir(dir.path().join("events")).unwrap();
    for (args, code) in [
        (&["session", "ls"][..], 1),
        (&["status"][..], 1),
        (&["check", topology.to_str().unwrap()][..], 2),
        (&["personality", "show", "no such"][..], 2),
        (&["session", "ls", "--attacker", "192.0.2.9", "--state-dir", dir.path().to_str().unwrap()][..], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = command(dir.path(), args).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_replay_takes_the_time_that_its_speed_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let cast = dir.path().join("a.cast");
    fs::write(&cast, "{\"version\": 2, \"width\": 80, \"height\": 24}\n[0, \"o\", \"a\"]\n[1200, \"o\", \"b\"]\n")
        .unwrap();
    let begin = Instant::now();
    let speed = ["--speed", "2000", "--max-idle", "1200"];
    let said =
        command(dir.path(), &[&["session", "replay", cast.to_str().unwrap()][..], &speed].concat()).output().unwrap();
    let took = begin.elapsed();
    assert!(said.status.success() && said.stdout.starts_with(b"ab"), "{said:?}");
    // 0.6 s, and as long as a busy machine takes for nothing.
    assert!((Duration::from_millis(600)..Duration::from_secs(60)).contains(&took), "{took:?}");
}

#[test]
fn events_are_those_of_the_honeynet_of_which_sessions_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str| {
        let log = dir.path().join("state").join(name).join("events");
        fs::create_dir_all(&log).unwrap();
        let record = "{\"v\":1,\"seq\":1,\"time\":\"2026-01-31T12:00:00.000000Z\",\"event\":\"tcp.open\",\
                      \"session\":\"0000000000000abc\"}\n";
        fs::write(log.join("events.ndjson"), record).unwrap();
    };
    let run = |args: &[&str]| {
        let output = command(dir.path(), args).output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    for args in [["session", "ls"], ["events", "ls"]] {
        let (code, said) = run(&args);
        assert!(code == Some(1) && said.contains("none has left anything"), "{args:?}: {said}");
    }
    log("office");
    for args in [&["session", "ls"][..], &["events", "ls"], &["events", "ls", "--name", "office"], &["events"]] {
        let (code, said) = run(args);
        assert!(code == Some(0) && said.contains("0000000000000abc"), "{args:?}: {said}");
    }
    log("branch");
    for args in [["session", "ls"], ["events", "ls"]] {
        let (code, said) = run(&args);
        assert!(code == Some(1) && said.contains("several honeynets lie"), "{args:?}: {said}");
    }
}
