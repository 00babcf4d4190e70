//! In which order events are told.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use honeyweave::sys::clock;
use serde_json::Value;

use super::Running;

/// What is heard of late is told where it belongs, to programs, too, and whether the honeynet runs or not.
#[test]
fn events_are_listed_in_the_order_of_their_times() {
    let mut hwt = Running::start();
    hwt.attack();
    hwt.attack_at(clock::monotonic_micros() - 3_600_000_000);
    let seqs = |text: String| -> Vec<u64> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    let in_order = [5, 6, 7, 8, 1, 2, 3, 4];
    assert_eq!(seqs(hwt.out("events ls --json")), in_order);
    assert_eq!(seqs(hwt.out("events ls --json --last 5")), [5, 6, 7, 8, 4], "the last ones that were heard of");
    let first = hwt.out("events ls").lines().next().unwrap().to_owned();
    assert!(first.contains("session.start"), "{first}");
    // A follower is told once of each, though the newest does not come last.
    let mut following = hwt.command("events -f --json --last 8").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = |count: usize| -> Vec<u64> {
        let lines: Vec<String> = lines.by_ref().take(count).map(Result::unwrap).collect();
        seqs(lines.join("\n"))
    };
    assert_eq!(next(8), in_order);
    hwt.attack();
    assert_eq!(next(4), [9, 10, 11, 12]);
    following.kill().unwrap();
    following.wait().unwrap();
    hwt.stop();
    std::fs::remove_file(hwt.dir.path().join("run/hwt.sock")).unwrap();
    let state = hwt.dir.path().join("state");
    let words = format!("events ls --name hwt --state-dir {} --json", state.display());
    // The last one says that it was left without a supervisor.
    assert_eq!(seqs(hwt.out(&words)), [5, 6, 7, 8, 1, 2, 3, 4, 9, 10, 11, 12, 13]);
}
