//! What commands say to whoever calls them, whatever the files are called that they are given, and whether anybody reads.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use honeyweave::record::bundle::{self, Key};
use serde_json::{Value, json};

use crate::lab::PROGRAM;

/// One of the program's commands, where no honeynet runs.
pub fn command(dir: &Path, args: &[&str]) -> Command {
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
    let speed = ["--speed", "2000", "--max-idle", "1200", "--terminal"];
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
        assert!(code == Some(1) && said.contains("no honeynet has left anything"), "{args:?}: {said}");
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

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whatever is asked of a honeynet in `dir`, it says that it lies there.
fn console(run: &Path, dir: &Path) {
    fs::create_dir_all(dir.join("events")).unwrap();
    let name = dir.file_name().unwrap().to_str().unwrap();
    let listener = UnixListener::bind(run.join(format!("{name}.sock"))).unwrap();
    let answer = format!("{}\n", json!({"ok": {"dir": dir}}));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut stream, mut request) = (BufReader::new(stream), String::new());
            while stream.read_line(&mut request).is_ok_and(|read| read > 0) {
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        }
    });
}

#[test]
fn every_command_chooses_among_several_that_run_in_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    console(&run, &dir.path().join("one/office"));
    console(&run, &dir.path().join("two/plant"));
    let id = "8f3a00c1d2e4b596";
    for args in [
        &["status"][..],
        &["status", "--metrics"],
        &["hosts", "ls"],
        &["show", "fdb"],
        &["container", "ls"],
        &["container", "freeze", "1"],
        &["events"],
        &["events", "-f"],
        &["events", "ls"],
        &["session", "ls"],
        &["session", "show", id],
        &["session", "diff", id],
        &["session", "replay", id],
        &["session", "follow", id],
        &["session", "export", id, "--plain"],
        &["session", "key"],
    ] {
        let tried = |name: Option<&str>, state: Option<&str>| {
            let mut command = command(dir.path(), args);
            command.env_remove("HONEYWEAVE_STATE_DIR").stdin(Stdio::null());
            command.args(name.iter().flat_map(|name| ["--name", name]));
            command.args(state.map(|state| format!("--state-dir={}", dir.path().join(state).display())));
            said(&command.output().unwrap())
        };
        let several = "several honeynets are running: office, plant";
        assert!(tried(None, None).contains(several), "{args:?}: {}", tried(None, None));
        for (name, state) in [(Some("plant"), None), (None, Some("two")), (None, Some("two/plant"))] {
            let told = tried(name, state);
            assert!(!told.contains("several") && !told.contains("office"), "{args:?} {name:?} {state:?}: {told}");
        }
    }
}

/// A honeynet that has ended, and the file of its public key.
fn with_key(dir: &Path) -> PathBuf {
    let office = dir.join("state/office");
    fs::create_dir_all(office.join("events")).unwrap();
    fs::create_dir_all(office.join("key")).unwrap();
    let key = dir.join("key.pem");
    fs::write(&key, Key::open_or_make(&office).unwrap().public().pem()).unwrap();
    key
}

/// Without a terminal, whoever runs the tests from one.
fn alone(command: &Command) -> Output {
    let mut alone = Command::new("setsid");
    alone.arg("--wait").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => alone.env(name, value),
            None => alone.env_remove(name),
        };
    }
    alone.stdin(Stdio::null()).env_remove("HONEYWEAVE_PASSWORD").output().unwrap()
}

#[test]
fn what_keeps_a_bundle_from_being_checked_is_said_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let tried = |args: &[&str]| {
        let output = alone(&command(dir.path(), &[&["session"], args].concat()));
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {output:?}");
        said(&output)
    };
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (sealed, missing, plain) = (path("x.age"), path("missing"), path("plain.tar.zst"));
    fs::write(&plain, zstd::encode_all(&b"some"[..], 1).unwrap()).unwrap();
    let mut out = bundle::seal(fs::File::create(&sealed).unwrap(), "geheim", 10).unwrap();
    out.write_all(b"none").unwrap();
    out.finish().unwrap();
    // The file, the key, the password.
    let told = tried(&["verify", &missing]);
    assert!(told.contains("/missing: it cannot be read: No such file") && !told.contains("honeynet has"), "{told}");
    for file in [&plain, &sealed] {
        let told = tried(&["verify", file]);
        assert!(told.contains("there is no key to check ") && told.contains("--key FILE"), "{told}");
        assert!(told.contains("`honeyweave session key` prints"), "{told}");
        let told = tried(&["verify", file, "--key", &missing]);
        assert!(told.contains(&format!("--key {missing}: it cannot be read")), "{told}");
    }
    let key = with_key(dir.path());
    let key = key.to_str().unwrap();
    let told = tried(&["verify", &sealed, "--key", key]);
    assert!(told.contains("there is no terminal to ask for the password"), "{told}");
    assert!(told.contains("--password-file FILE") && told.contains("HONEYWEAVE_PASSWORD"), "{told}");
    let told = tried(&["verify", &sealed, "--key", key, "--password-file", &missing]);
    assert!(told.contains(&format!("--password-file {missing}: it cannot be read")), "{told}");
    // So it is where one is made: the place and the session come before the password.
    let id = "8f3a00c1d2e4b596";
    let told = tried(&["export", id, "-o", dir.path().to_str().unwrap()]);
    assert!(told.contains(" is a directory") && told.contains("name a file in it"), "{told}");
    let told = tried(&["export", id, "-o", &format!("{missing}/x")]);
    assert!(told.contains("/missing does not exist"), "{told}");
    let told = tried(&["export", id, "-o", &path("new")]);
    assert!(told.contains(&format!("no record of session {id}")) && told.contains("session ls"), "{told}");
    let record =
        format!(r#"{{"v":1,"seq":1,"time":"2026-01-31T12:00:00.000000Z","event":"tcp.open","session":"{id}"}}"#);
    fs::write(dir.path().join("state/office/events/events.ndjson"), record + "\n").unwrap();
    let told = tried(&["export", id, "-o", &path("new")]);
    assert!(told.contains("there is no terminal") && told.contains("--plain"), "{told}");
    assert!(!dir.path().join("new").exists());
}

#[test]
fn whatever_is_wrong_with_a_bundle_or_an_archive_is_told_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    let key = with_key(dir.path());
    let file = dir.path().join("file");
    let packed = zstd::encode_all(&[7; 5000][..], 1).unwrap();
    let mut sealed = bundle::seal(Vec::new(), "geheim", 10).unwrap();
    sealed.write_all(&packed).unwrap();
    let sealed = sealed.finish().unwrap();
    let middle = sealed.len() - 20;
    for (octets, of_bundle, of_archive) in [
        (&b""[..], "it is empty", "it is empty"),
        (b"GIF89a", "it is no bundle", "it is not compressed by zstd"),
        (&packed[..3], "it is cut off", "it is cut off"),
        (&packed[..packed.len() - 3], "it is ", "it is cut off"),
        (&packed, "it is ", "it "),
        (&sealed[..30], "it is cut off", "it is not compressed by zstd"),
        (&sealed[..middle], "it is ", "it is not compressed by zstd"),
        (&sealed, "it is ", "it is not compressed by zstd"),
    ] {
        fs::write(&file, octets).unwrap();
        for (what, key) in [("session", &["--key", key.to_str().unwrap()][..]), ("evidence", &[])] {
            let args = [&[what, "verify", file.to_str().unwrap(), "--json"], key].concat();
            let output = command(dir.path(), &args).env("HONEYWEAVE_PASSWORD", "geheim").output().unwrap();
            assert_eq!((output.status.code(), said(&output)), (Some(1), String::new()), "{args:?}");
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(told["ok"], false, "{told}");
            let mistakes = told["mistakes"].as_array().unwrap();
            let why = if key.is_empty() { of_archive } else { of_bundle };
            assert!(mistakes.len() == 1 && mistakes[0].as_str().unwrap().contains(why), "{why}: {told}");
            let name = if key.is_empty() { "archive" } else { "file" };
            assert_eq!(told[name], file.to_str().unwrap(), "{told}");
            if !key.is_empty() {
                assert!(told["signature"].is_null() && told["manifest"].is_null(), "{told}");
            }
        }
    }
    fs::write(&file, &sealed).unwrap();
    let args = ["session", "verify", file.to_str().unwrap(), "--json", "--key", key.to_str().unwrap()];
    let output = command(dir.path(), &args).env("HONEYWEAVE_PASSWORD", "falsch").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["mistakes"]), (Some(1), &json!(["the password is another"])));
}

#[test]
fn a_key_is_known_by_what_openssl_says_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = with_key(dir.path());
    let output = command(dir.path(), &["session", "key"]).output().unwrap();
    assert_eq!(output.stdout, fs::read(&file).unwrap());
    let output = command(dir.path(), &["session", "key", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["honeynet"], &told["algorithm"]), (&json!("office"), &json!("Ed25519")), "{told}");
    assert_eq!(told["pem"], fs::read_to_string(&file).unwrap());
    let words = "openssl pkey -pubin -outform DER -in \"$1\" | sha256sum";
    let sum = crate::net::sh(&["sh", "-c", words, "sh", file.to_str().unwrap()]);
    assert_eq!(told["sha256"], sum.split_whitespace().next().unwrap());
}
