//! The wall's clock jumps under a whole honeynet, while somebody types.
//!
//! The machine's own clock is everybody's, so it is not set. In a mount namespace of the honeynet's own `/etc/ld.so.preload` names
//! a library that is ahead of it by as much as a file says: for each process that is executed there, whatever of its
//! environment it keeps, and until that file says otherwise. (libfaketime replaces functions of the C library, which are not what
//! the program asks for the time.) Containers have an `/etc` of their own.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::crash::{Session, killed};
use crate::lab::{Lab, process};
use crate::net::{sh, wait_for};

/// The image is the one of the other tests of SSH in the middle.
const TOPOLOGY: &str = r#"
name: clocks
privacy: {retention: 1h}
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

const DAY: i64 = 86_400;

/// A clock that is set by a test.
struct Clock(fs::File);

impl Clock {
    /// Has a honeynet that is yet to be started live by it.
    fn of(lab: &mut Lab) -> Clock {
        let ahead = lab.file("ahead", &"\0".repeat(4096));
        let library = lab.path("ahead.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clock_jumps/ahead.c");
        let define = format!("-DAHEAD=\"{}\"", ahead.display());
        let words =
            ["cc", "-O2", "-shared", "-fPIC", &define, source.to_str().unwrap(), "-o", library.to_str().unwrap()];
        sh(&words);
        lab.file("etc/ld.so.preload", &format!("{}\n", library.display()));
        lab.over_etc = Some(lab.path("etc"));
        Clock(fs::File::options().write(true).open(ahead).unwrap())
    }

    /// It is ahead of the machine's by so many seconds from now on.
    fn set(&self, secs: i64) {
        self.0.write_all_at(&secs.to_le_bytes(), 0).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn secs(event: &Value) -> i64 {
    let time: honeyweave::event::Utc = serde_json::from_value(event["time"].clone()).unwrap();
    time.micros() / 1_000_000
}

#[test]
fn evidence_and_sessions_outlive_a_clock_that_jumps() {
    if !cfg!(target_arch = "x86_64") {
        return println!("SKIPPED: what sets the clock of a process is written for x86-64");
    }
    let mut lab = Lab::shared();
    let clock = Clock::of(&mut lab);
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let began = now();
    let mut guest = Session::running(&lab, "guessed", &["-tt", "root@192.0.2.10"]);
    let mut says = |word: &str| {
        guest.say(&format!("echo {word}-$((40+2))"));
        while !guest.line().contains(&format!("{word}-42")) {}
    };
    says("before");
    let session = lab.wait_event("ssh.shell", |event| event["dst"]["ip"] == "192.0.2.10")["session"].clone();
    let session = session.as_str().unwrap().to_owned();
    let own = lab.own_dir();
    let evidence = || {
        let parts = ["captures", "sessions"].map(|part| files(&own.join(part)));
        // Who follows a console that was killed knows what goes on by these.
        parts
            .concat()
            .into_iter()
            .filter(|path| !path.to_str().unwrap().contains("/sessions/open/"))
            .collect::<Vec<_>>()
    };
    let before = evidence();
    assert!(before.iter().any(|path| path.extension().is_some_and(|end| end == "cast")), "{before:?}");
    let doubt = own.join("events/clock");
    assert!(!doubt.exists());

    // By the clock all that there is is three months old, of which an hour is kept.
    clock.set(91 * DAY);
    wait_for("the doubt", || doubt.exists().then_some(()));
    assert!(lab.said("has jumped forward").contains("nothing is deleted for being old"));
    says("meanwhile");
    // What is shown is on the disk a moment later, and what is not is lost with the console.
    let cast = before.iter().find(|path| path.extension().is_some_and(|end| end == "cast")).unwrap();
    wait_for("what was shown", || fs::read_to_string(cast).unwrap().contains("meanwhile-42").then_some(()));
    // The next one looks for what is too old as it starts, and has only the doubt of the one before.
    killed(process(&lab, "console").unwrap().into());
    wait_for("the next console", || lab.command(&["status"]).status.success().then_some(()));
    says("again");
    assert!(doubt.exists());
    // Set right, and then wrong the other way.
    clock.set(0);
    wait_for("that it is believed", || (!doubt.exists()).then_some(()));
    clock.set(-2 * 3600);
    says("after");
    guest.say("exit");
    let closed = lab.wait_event("ssh.close", |event| event["session"] == session.as_str());
    clock.set(0);

    // A capture is compressed when another one goes on in its place, which age decides.
    let is_there = |path: &PathBuf| path.exists() || path.with_added_extension("zst").exists();
    let gone: Vec<_> = before.iter().filter(|path| !is_there(path)).collect();
    assert!(gone.is_empty(), "{gone:?} went");
    let events = lab.events();
    let deleted: Vec<_> =
        events.iter().filter(|event| event["event"].as_str().unwrap().ends_with(".deleted")).collect();
    assert!(deleted.is_empty(), "{deleted:?}");
    // Every record has its place, and a time of which somebody can say how it came about.
    // A file of the log that seems old is followed by another one, which is called by its first record.
    let mut logs = files(&own.join("events"));
    logs.retain(|path| path.extension().is_some_and(|end| end == "ndjson"));
    logs.sort_by_key(|path| (path.ends_with("events.ndjson"), path.clone()));
    let log = logs.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    let seqs: Vec<u64> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(events.len() <= seqs.len());
    let ended = now();
    for event in &events {
        let times = [0, 91 * DAY, -2 * 3600].map(|ahead| began - 5 + ahead..=ended + 5 + ahead);
        assert!(times.iter().any(|times| times.contains(&secs(event))), "{began} {ended}: {event}");
    }
    // What is told of the session is as long as it was.
    let lasted = closed["duration_us"].as_i64().unwrap() / 1_000_000;
    assert!((0..=ended - began + 1).contains(&lasted), "{lasted} s: {closed}");
    let text = String::from_utf8(lab.command(&["session", "replay", &session, "--text"]).stdout).unwrap();
    for word in ["before", "meanwhile", "again", "after"] {
        assert!(text.contains(&format!("{word}-42\n")), "{word}: {text}");
    }
    let cast = fs::read_to_string(cast).unwrap();
    let times: Vec<f64> =
        cast.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()[0].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && *times.last().unwrap() <= (ended - began + 1) as f64, "{times:?}");
    lab.records_are_as_the_schema_says();
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

fn now() -> i64 {
    honeyweave::sys::clock::realtime_micros() / 1_000_000
}
