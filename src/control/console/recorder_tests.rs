use super::*;
use crate::sys::ring::{self, RingWriter};

/// A recorder in a directory of its own, and who writes events for it.
fn recorder() -> (Recorder, RingWriter, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let plan = crate::topology::parse("t", "nodes:\n  core: {kind: switch, ports: 2}\n").unwrap();
    let rings = || ring::create(c"honeyweave-test", 1 << 16).unwrap();
    let (events, frames) = (rings(), rings());
    let writer = RingWriter::open(events.try_clone().unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("events")).unwrap();
    std::fs::create_dir(dir.path().join("captures")).unwrap();
    let (_said, said) = std::sync::mpsc::sync_channel(1);
    let (shared, wake) = (Arc::new(Shared::new(&plan)), EventFd::new().unwrap());
    let recorder =
        Recorder::open(shared, dir.path(), plan.captures, vec![Rings { events, frames }], said, wake).unwrap();
    (recorder, writer, dir)
}

#[test]
fn who_records_tells_when_it_starves() {
    let (mut recorder, mut writer, _dir) = recorder();
    recorder.window = (10_000_000, clock::thread_micros());
    assert_eq!(recorder.starves(11_000_000, false), Some(false), "nothing waits");
    let half = recorder.rings[0].events.fill().1 / 2;
    while recorder.rings[0].events.fill().0 <= half {
        assert!(writer.push(&[0; 100], &[]));
    }
    assert_eq!(recorder.starves(11_500_000, false), None, "it is too early to tell");
    assert_eq!(recorder.starves(12_000_000, false), Some(true), "it has had next to nothing of a second");
    let begin = clock::thread_micros();
    while clock::thread_micros() < begin + 25_000 {}
    assert_eq!(recorder.starves(13_000_000, false), Some(false), "it gets enough");
    assert_eq!(recorder.starves(14_000_000, false), Some(true));
    let begin = clock::thread_micros();
    while clock::thread_micros() < begin + 25_000 {}
    assert_eq!(recorder.starves(15_000_000, true), Some(true), "with turns of its own it gets more, and still little");
    while recorder.step(0, 0) {}
    assert_eq!(recorder.starves(16_000_000, true), Some(false), "nothing waits any more");
}

#[test]
fn both_threads_record() {
    let (recorder, mut writer, dir) = recorder();
    let stop = AtomicBool::new(false);
    assert!(writer.push(&[0; 100], &[]));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| recorder.run(&stop));
        // The urgent thread writes the end: it gets the recorder when all is over.
        stop.store(true, Ordering::Release);
        writer.wake();
        running.join().unwrap().unwrap();
    });
    let log = std::fs::read_to_string(dir.path().join("events/events.ndjson")).unwrap();
    assert!(log.contains("session.start"), "{log}");
}

#[test]
fn a_log_that_cannot_be_written_costs_no_capture() {
    let (mut recorder, mut writer, dir) = recorder();
    let source = CaptureSource { series: "wan".into(), interface: "wan".into(), about: String::new() };
    let (utc, second) = (1_700_000_000_000_000, 1_000_000);
    recorder.captures.frame(&source, nanos(utc), Direction::In, 60, &[0; 60]);
    recorder.captures.close_all();
    std::fs::remove_dir_all(dir.path().join("events")).unwrap();
    assert!(writer.push(&[0; 100], &[]));
    for at in 1..5 {
        recorder.step(utc + at * second, at * second);
    }
    assert!(recorder.log.stats().failing.is_some());
    assert_eq!(recorder.captures.stats().deleted, 0, "the disk is not full");
}
