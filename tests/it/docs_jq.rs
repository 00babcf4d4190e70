//! The lines with jq in docs/sessions.md, as they stand there, on files of every kind that they may meet.

use std::path::Path;
use std::process::Command;

use honeyweave::relay::tape::{Credential, Entry, Text};
use serde_json::{Value, json};

const DOCS: &str = include_str!("../../docs/sessions.md");

/// A tape: a line for each of these, behind its beginning.
fn tape(entries: &[Value]) -> String {
    let begin = json!({"at": 0, "begin": {"protocol": "ssh", "time": "2026-01-31T12:00:00.000000Z"}});
    [&[begin], entries].concat().iter().map(|line| format!("{line}\n")).collect()
}

/// What the line of the docs that begins so prints, in `dir`.
fn run(dir: &Path, begins: &str) -> String {
    let mut lines = DOCS.lines().filter(|line| line.starts_with(begins));
    let (Some(line), None) = (lines.next(), lines.next()) else { panic!("not one line begins with {begins}") };
    let output = Command::new("sh").args(["-c", line]).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_line_with_jq_in_the_docs_of_sessions_does_what_is_said_of_it() {
    let lines = DOCS.lines().filter(|line| line.starts_with("jq ")).count();
    assert_eq!(lines, 4, "this test runs each of them");
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let text = Text::new;
    let credentials = [
        Credential::None,
        Credential::Password { password: text("toor") },
        Credential::PasswordChange { old: text("a"), new: text("b") },
        Credential::KeyboardInteractive { answers: vec![text("c")] },
        Credential::PublicKey { algorithm: text("x"), fingerprint: text("y"), signed: true, key: text("") },
        Credential::Digest { scheme: text("mysql"), value: text("z") },
    ];
    let attempts: Vec<Value> = credentials
        .into_iter()
        .map(|credential| {
            let entry = Entry::Attempt { user: text("root"), credential, accepted: false };
            let mut line = serde_json::to_value(entry).unwrap();
            line["at"] = json!(1.5);
            line
        })
        .collect();
    write("20260131T120000Z-ssh-0000000000000001.ndjson", &tape(&attempts));
    let secrets = json!({"at": 1, "tls-secrets": {"lines": "CLIENT_RANDOM 00 01"}});
    write("20260131T120000Z-tls-0000000000000002.ndjson", &tape(&[secrets]));
    write(
        "20260131T120000Z-ssh-0000000000000001-0004.octets",
        "{\"at\":1,\"stream\":\"input\",\"data\":\"aGVsbG8K\"}\n{\"at\":1,\"stream\":\"output\",\"data\":\"eA==\"}\n{\"more\":{}}\n",
    );
    let told = run(dir.path(), "jq -c 'select(.attempt)");
    let rows: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |password: Value| json!([1.5, "root", password, false]);
    let none = || row(Value::Null);
    assert_eq!(rows, [none(), row(json!("toor")), none(), none(), none(), none()]);
    assert_eq!(run(dir.path(), "jq -r 'select(.stream"), "hello\n");
    run(dir.path(), "jq -r 'select(.[\"tls-secrets");
    assert_eq!(std::fs::read_to_string(dir.path().join("keys")).unwrap(), "CLIENT_RANDOM 00 01\n");
    write("member", "hello\n");
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    write("manifest.json", &json!({"members": [{"path": "member", "octets": 6, "sha256": sha256}]}).to_string());
    assert_eq!(run(dir.path(), "jq -r '.members"), "member: OK\n");
}
