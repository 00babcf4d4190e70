//! Reading what has happened where the honeynet has ended: events that are chosen, transcripts that are played, and what is
//! said where there are none.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::commands::command;
use crate::typist::typing;

/// The session that has transcripts, one that has none, and one that nobody knows.
const TYPED: &str = "0000000000000abc";
const SILENT: &str = "0000000000000def";
const UNKNOWN: &str = "8f3a00c1d2e4b596";

/// A honeynet that has ended.
struct Left(tempfile::TempDir);

impl Left {
    fn new() -> Left {
        let left = Left(tempfile::tempdir().unwrap());
        fs::create_dir_all(left.dir().join("events")).unwrap();
        let files = left.dir().join("sessions").join(TYPED);
        fs::create_dir_all(&files).unwrap();
        let record = |seq: u32, hour: u32, id: &str, session: &str, src: &str, dst: &str| {
            json!({
                "v": 1, "seq": seq, "time": format!("2026-01-31T{hour:02}:00:00.000000Z"), "event": id, "session": session,
                "src": {"ip": src, "port": 40000}, "dst": {"ip": dst, "port": 22}, "proto": "tcp",
            })
        };
        let log = [
            record(1, 8, "tcp.probe", SILENT, "192.0.2.9", "10.0.0.1"),
            record(2, 9, "tcp.open", TYPED, "192.0.2.10", "10.0.0.1"),
            record(3, 10, "ssh.login", TYPED, "192.0.2.10", "10.0.0.1"),
            record(4, 11, "outward.flow", TYPED, "10.0.0.1", "198.51.100.7"),
            record(5, 12, "tcp.probe", SILENT, "192.0.2.9", "10.0.0.2"),
            record(6, 13, "tcp.probe", SILENT, "2001:db8::9", "2001:db8::1"),
        ];
        let lines: String = log.iter().map(|record| format!("{record}\n")).collect();
        fs::write(left.dir().join("events/events.ndjson"), lines).unwrap();
        let head = r#"{"version":2,"width":80,"height":24}"#;
        let short = [head, r#"[0.5,"o","\u001b[31mred\u001b[0m\r\n"]"#, r#"[1.25,"o","end"]"#].join("\n") + "\n";
        let long = [
            head,
            r#"[0.5,"o","first\r\n"]"#,
            r#"[2,"i","id\r"]"#,
            r#"[9,"o","ld\u0008\u0008\u0008last\r\n"]"#,
            r#"[10,"i","x"]"#,
        ];
        fs::write(files.join("1.cast"), short).unwrap();
        fs::write(files.join("2.cast"), long.join("\n") + "\n").unwrap();
        left
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("state/office")
    }

    fn cast(&self, name: &str) -> String {
        self.dir().join("sessions").join(TYPED).join(name).to_str().unwrap().to_owned()
    }

    /// The exit code, and what was printed and said.
    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = command(self.0.path(), args).stdin(Stdio::null()).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn out(&self, args: &[&str]) -> String {
        let (code, text, said) = self.run(args);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{args:?}");
        text
    }

    fn fails(&self, args: &[&str]) -> String {
        let (code, text, said) = self.run(args);
        assert_eq!((code, text.as_str()), (Some(1), ""), "{args:?}: {said}");
        said
    }
}

#[test]
fn events_are_chosen_as_sessions_are() {
    let left = Left::new();
    let numbers = |options: &str| -> Vec<u64> {
        let args: Vec<&str> = ["events", "ls", "--json"].into_iter().chain(options.split_whitespace()).collect();
        let text = left.out(&args);
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    for (options, expected) in [
        ("", &[1, 2, 3, 4, 5, 6][..]),
        ("--attacker 192.0.2.9", &[1, 5]),
        ("--attacker 10.0.0.1", &[4]),
        // What a host was told and what its container did.
        ("--host 10.0.0.1", &[1, 2, 3, 4]),
        ("--host 10.0.0.1 --attacker 192.0.2.9", &[1]),
        ("--attacker 2001:DB8:0::9", &[6]),
        ("--since 2026-01-31T10:00", &[3, 4, 5, 6]),
        ("--until 2026-01-31T10:00", &[1, 2, 3]),
        ("--since 2026-01-31T10 --until 2026-01-31T11:59:59.5Z", &[3, 4]),
        ("--since 2026-01-31T10 --last 2", &[5, 6]),
        ("--since 0000", &[1, 2, 3, 4, 5, 6]),
        ("--event tcp --since 2026-01-31T09 --host 10.0.0.2", &[5]),
        ("--last 18446744073709551615 --event ssh", &[3]),
        ("--session 0000000000000abc --until 2026-01-31T09", &[2]),
    ] {
        assert_eq!(numbers(options), expected, "{options}");
    }
    // Nothing is said in vain, and nothing among what programs read.
    let (code, text, said) = left.run(&["events", "ls", "--session", UNKNOWN]);
    assert_eq!((code, text.as_str()), (Some(0), ""));
    assert!(said.contains(&format!("no record names session {UNKNOWN}")) && said.contains("session ls"), "{said}");
    assert_eq!(left.run(&["events", "ls", "--session", UNKNOWN, "--json"]).1, "");
    let (_, _, said) = left.run(&["events", "ls", "--session", SILENT, "--event", "ssh"]);
    assert!(said.contains("no event is like that"), "{said}");
    let (_, text, said) = left.run(&["events", "ls", "--last", "2"]);
    assert!(text.lines().count() == 2 && said.contains("these are the newest 2; --last N prints more"), "{text}{said}");
    let (code, _, said) = left.run(&["events", "-f", "--until", "2h"]);
    assert!(code == Some(2) && said.contains("cannot be used with"), "{said}");
}

#[test]
fn why_there_is_nothing_to_play_is_said_with_what_to_do() {
    let left = Left::new();
    for what in ["replay", "follow"] {
        let said = left.fails(&["session", what, UNKNOWN]);
        assert!(said.contains(&format!("no record of session {UNKNOWN}")) && said.contains("session ls"), "{said}");
        let said = left.fails(&["session", what, SILENT]);
        assert!(said.contains(&format!("no transcript of session {SILENT}")), "{said}");
        assert!(said.contains(&format!("session show {SILENT}")), "{said}");
    }
    for what in ["show", "diff"] {
        let said = left.fails(&["session", what, UNKNOWN]);
        assert!(said.contains(&format!("no record of session {UNKNOWN}")) && said.contains("session ls"), "{said}");
    }
    for what in ["zz", "abc", "0000000000000abcd", "\u{1b}[2J"] {
        let said = left.fails(&["session", "replay", what]);
        assert!(said.contains("neither a file nor the number of a session"), "{said}");
        assert!(said.contains("16 hexadecimal digits") && said.contains("session ls"), "{said}");
    }
    let said = left.fails(&["session", "replay", "./none.cast"]);
    assert!(said.contains("there is no file ./none.cast"), "{said}");
}

#[test]
fn a_pipe_gets_text_and_a_terminal_what_draws() {
    let left = Left::new();
    let text = "red\nend\nfirst\nlast\n";
    assert_eq!(left.out(&["session", "replay", TYPED]), text);
    assert_eq!(left.out(&["session", "replay", TYPED, "--text"]), text);
    assert_eq!(left.out(&["session", "replay", &left.cast("1.cast"), "--speed", "0.01"]), "red\nend\n", "at once");
    let drawn = left.out(&["session", "replay", &left.cast("1.cast"), "--terminal", "--max-idle", "0"]);
    assert_eq!(drawn, "\u{1b}[31mred\u{1b}[0m\r\nend\u{1b}[0m\r\n");
    // What a terminal of one's own shows.
    for (color, red) in [("NO_COLOR=", "\u{1b}[31mred\u{1b}[0m\r"), ("NO_COLOR=1", "red\r")] {
        let cast = left.cast("1.cast");
        let program = ["env", color, crate::lab::PROGRAM, "session", "replay", &cast, "--max-idle", "0"];
        let shown = typing(&[], &program, crate::net::sh);
        assert!(shown.starts_with(red), "{color}: {shown:?}");
    }
}

#[test]
fn beyond_the_end_of_a_transcript_there_is_nothing() {
    let left = Left::new();
    let (short, long) = (left.cast("1.cast"), left.cast("2.cast"));
    assert_eq!(left.out(&["session", "replay", &long, "--from", "9"]), "last\n");
    assert_eq!(left.out(&["session", "replay", &short, "--from", "1.25"]), "end\n");
    for options in [&["--from", "1.251"][..], &["--from", "100", "--terminal"]] {
        let said = left.fails(&[&["session", "replay", &short], options].concat());
        assert!(said.contains("1.cast ends at 1.25 s"), "{said}");
    }
    let (code, text, said) = left.run(&["session", "replay", TYPED, "--from", "9"]);
    assert_eq!((code, text.as_str()), (Some(0), "last\n"));
    assert!(said.contains("1.cast is not played: it ends at 1.25 s"), "{said}");
    let said = left.fails(&["session", "replay", TYPED, "--from", "11"]);
    assert!(said.contains("all 2 transcripts end before 11 s, the longest of them at 10 s"), "{said}");
}

#[test]
fn what_was_typed_is_told_to_programs() {
    let left = Left::new();
    let told: Value = serde_json::from_str(&left.out(&["session", "replay", TYPED, "--commands", "--json"])).unwrap();
    let expected = json!([
        {"transcript": "1.cast", "commands": [], "no_text": 0, "more": 0, "gaps": [], "inputs": []},
        {"transcript": "2.cast", "commands": [{"at": 2.0, "command": "id"}], "no_text": 0, "more": 0, "gaps": [], "inputs": []},
    ]);
    assert_eq!(told, expected);
    let (code, text, said) = left.run(&["session", "replay", &left.cast("1.cast"), "--commands"]);
    assert_eq!((code, text.as_str(), said.as_str()), (Some(0), "", "(nothing was typed)\n"));
}

#[test]
fn a_transcript_that_is_none_keeps_nobody_from_the_others() {
    let left = Left::new();
    fs::write(left.cast("0.cast"), "\u{1b}[2J").unwrap();
    for (options, printed) in
        [(&[][..], "red\nend\nfirst\nlast\n"), (&["--commands"], "commands in 2.cast\n     2.000  id\n")]
    {
        let (code, text, said) = left.run(&[&["session", "replay", TYPED], options].concat());
        assert_eq!((code, text.as_str()), (Some(1), printed));
        assert!(said.contains("0.cast: it is no asciicast") && !said.contains('\u{1b}'), "{said}");
    }
}

/// Commands that print something.
fn printing(left: &Left) -> Vec<Vec<String>> {
    let key = left.dir().join("key");
    fs::create_dir(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o700)).unwrap();
    honeyweave::record::bundle::Key::open_or_make(&left.dir()).unwrap();
    [
        "events ls",
        "events ls --json",
        "session ls",
        "session ls --json",
        "session show 0000000000000abc",
        "session show 0000000000000abc --json",
        "session diff 0000000000000abc",
        "session replay 0000000000000abc",
        "session replay 0000000000000abc --terminal --max-idle 0",
        "session replay 0000000000000abc --commands",
        "session replay 0000000000000abc --commands --json",
        "session key",
        "session key --json",
        "evidence ls --json",
        "evidence diff --upper . --lower .",
        "schema --events",
    ]
    .map(|words| words.split(' ').map(str::to_owned).collect())
    .into()
}

#[test]
fn nobody_reading_is_no_error_and_no_room_is_one() {
    let left = Left::new();
    for words in printing(&left) {
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = |to: Stdio| {
            let mut command = command(left.0.path(), &args);
            let output =
                command.current_dir(left.dir().join("events")).stdout(to).stderr(Stdio::piped()).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(writer.into()), (Some(0), String::new()), "{args:?}");
        let full = File::options().write(true).open(Path::new("/dev/full")).unwrap();
        let (code, said) = run(full.into());
        assert!(code == Some(1) && said.contains("cannot write to standard output"), "{args:?}: {code:?} {said}");
    }
}
