//! Clients and writers of rings that behave as no honest one does.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value;

use super::tests::{Harness, probe, until};
use crate::event::{EventId, SessionId, Sink};
use crate::sys::clock;
use crate::sys::ring::RingWriter;

#[test]
fn absurd_requests_harm_nobody() {
    let harness = Harness::new();
    harness.sink().emit(&probe(1), b"");
    until("the record is logged", || harness.records().len() == 1);
    let error = |request: &[u8], shut: bool| {
        let mut stream = harness.connect();
        // The console may hang up in the middle of a line that is too long.
        let _ = stream.write_all(request);
        if shut {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap();
        value["error"].as_str().unwrap().to_owned()
    };
    assert!(error(&vec![b'x'; 4096], false).contains("at most 4096 octets"));
    assert!(error(b"{\"request\":\"sta", true).contains("without a line feed"));
    for junk in
        [&b"\xff\xfe\n"[..], b"\n", b"{}\n", b"[]\n", b"{\"request\":\"explode\"}\n", b"{\"request\":\"show\"}\n"]
    {
        assert!(error(junk, false).starts_with("not a request"), "{junk:?}");
    }
    // What only the console itself may want of the keeper: a container's log, which who gets it has alone, and the like.
    for order in [
        r#"{"log":7}"#,
        r#"{"keep-log":7}"#,
        r#"{"logs":0}"#,
        r#"{"watched":0}"#,
        r#"{"sensor":{"dev":1,"ino":2}}"#,
        r#"{"order":{"ls":0}}"#,
    ] {
        let request = format!("{{\"request\":\"container\",\"order\":{order}}}\n");
        assert!(error(request.as_bytes(), false).starts_with("not a request"), "{order}");
    }
    let deep = [vec![b'['; 4000], b"\n".to_vec()].concat();
    assert!(error(&deep, false).starts_with("not a request"));

    // Several requests on one connection, one of them wrong.
    let mut stream = harness.connect();
    stream.write_all(b"junk\n{\"request\":\"events\",\"last\":1}\n").unwrap();
    let lines: Vec<String> = BufReader::new(stream).lines().take(3).map(Result::unwrap).collect();
    assert!(lines[0].contains("error") && lines[1].contains("record") && lines[2].contains("ok"), "{lines:?}");

    // A thousand clients that say nothing, and one that asks for everything and never reads.
    let mut deaf = harness.connect();
    deaf.write_all(&b"{\"request\":\"events\",\"last\":1000000}\n".repeat(100)).unwrap();
    let idle: Vec<UnixStream> = (0..1000).filter_map(|_| UnixStream::connect(&harness.socket).ok()).collect();
    assert!(idle.len() >= 64);
    let refused = |mut stream: &UnixStream| {
        stream.set_nonblocking(true).unwrap();
        let mut said = [0; 200];
        stream.read(&mut said).is_ok_and(|n| String::from_utf8_lossy(&said[..n]).contains("busy"))
    };
    until("those beyond the limit are told", || idle.iter().rev().take(100).any(refused));
    drop(idle);
    // Room again: who asks is answered.
    until("a client is served", || {
        let mut stream = harness.connect();
        if stream.write_all(b"{\"request\":\"events\",\"last\":1}\n").is_err() {
            return false;
        }
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("record")
    });
    drop(deaf);
}

#[test]
fn a_follower_that_does_not_read_is_told_what_it_missed() {
    let mut harness = Harness::new();
    let mut follower = harness.connect();
    follower.write_all(b"{\"request\":\"events\",\"follow\":true,\"last\":1}\n").unwrap();
    let mut sink = harness.sink();
    sink.emit(&probe(0), b"");
    let mut reader = BufReader::new(follower);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("record"));
    // More than socket and feed hold, while nobody reads.
    let mut sent = 1;
    while sent < 20_000 {
        let room = harness.records_upper_bound();
        for _ in 0..200 {
            sink.emit(&probe(sent), &[b'x'; 400]);
            sent += 1;
        }
        until("the recorder goes on", || harness.records_upper_bound() > room);
    }
    let mut lost = 0;
    let mut told = 1;
    while lost == 0 {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
        let value: Value = serde_json::from_str(&line).unwrap();
        lost = value["lost"].as_u64().unwrap_or(0);
        told += u64::from(value.get("record").is_some());
    }
    assert!(told + lost <= sent + 1);
    harness.stop();
}

impl Harness {
    /// Octets in the log, which rise with every record.
    fn records_upper_bound(&self) -> u64 {
        std::fs::metadata(self.dir.path().join("events/events.ndjson")).map_or(0, |meta| meta.len())
    }
}

#[test]
fn rings_of_garbage_are_a_gap_and_nothing_worse() {
    let mut harness = Harness::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let garbage = proptest::collection::vec(any::<u8>(), 0..300);
    let mut events = RingWriter::open(harness.events.try_clone().unwrap()).unwrap();
    let mut frames = RingWriter::open(harness.frames.try_clone().unwrap()).unwrap();
    for _ in 0..2000 {
        let bytes = garbage.new_tree(&mut runner).unwrap().current();
        events.push(&[], &bytes);
        frames.push(&[], &bytes);
    }
    harness.sink().emit(&probe(77), b"still here");
    until("the good one is logged", || harness.records().iter().any(|r| r.session == Some(SessionId(77))));
    let records = harness.records();
    let unreadable: u64 = records.iter().filter(|r| r.event == EventId::Gap).filter_map(|r| r.count).sum();
    assert!(unreadable > 1000, "{unreadable}");
    harness.stop();
}

#[test]
fn who_asks_for_everything_holds_nobody_up() {
    const RECORDS: u64 = 150_000;
    let harness = Harness::new();
    harness.sink().emit(&probe(1), b"");
    until("the record is logged", || harness.records().len() == 1);
    let older: String = (0..RECORDS)
        .map(|seq| {
            let time = "1970-01-01T00:00:00.000000Z";
            format!("{{\"v\":1,\"seq\":{seq},\"time\":\"{time}\",\"event\":\"tcp.probe\",\"text\":\"{seq:0200}\"}}\n")
        })
        .collect();
    std::fs::write(harness.dir.path().join("events/events-00000000000000000000.ndjson"), older).unwrap();
    // How long another waited at most, and how long all took.
    let waited = || {
        let (is_done, begin) = (AtomicBool::new(false), clock::monotonic_micros());
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let _done = Done(&is_done);
                let mut stream = harness.connect();
                stream.write_all(b"{\"request\":\"events\",\"last\":1000000}\n").unwrap();
                let lines = BufReader::new(stream).lines();
                let found = lines.take_while(|line| line.as_ref().unwrap().contains("record")).count();
                assert_eq!(found as u64, RECORDS + 1);
                clock::monotonic_micros() - begin
            });
            let mut longest = 0;
            let mut stream = harness.connect();
            let mut answers = BufReader::new(stream.try_clone().unwrap());
            while !is_done.load(Ordering::Relaxed) {
                let asked = clock::monotonic_micros();
                stream.write_all(b"junk\n").unwrap();
                answers.read_line(&mut String::new()).unwrap();
                longest = longest.max(clock::monotonic_micros() - asked);
            }
            (longest, asker.join().unwrap())
        })
    };
    // A busy machine may keep one of the threads waiting now and then, a console that does the work itself is held up each time.
    let tries: Vec<_> = (0..5).map(|_| waited()).take_while(|(longest, all)| *longest >= all / 16).collect();
    assert!(tries.len() < 5, "another waited each time: {tries:?} us");
}

/// Says that a thread is done, however it ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
