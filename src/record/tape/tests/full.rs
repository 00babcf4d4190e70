//! Who gives way first on a disk that gets full: captures, then contents, transcripts and tapes, and events never.

use std::fs;
use std::ops::Range;

use super::*;
use crate::record::{CaptureLimits, CaptureSet, CaptureSource, EventLog, LogLimits, Record, small_disk};

const SIZE: u64 = 1 << 30;

fn env(value: &str) -> Entry {
    Entry::Env { channel: 0, name: text("NAME"), value: text(value) }
}

fn shell(lab: &mut Lab, conn: u64, session: SessionId) {
    lab.begin(conn, session);
    lab.put(conn, 1, attempt("root", "toor", true));
    lab.put(conn, 1, opened(0));
    lab.put(conn, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
    lab.put(conn, 1, Entry::Shell { channel: 0 });
}

#[test]
fn what_room_there_is_at_last_is_for_events() {
    let mut lab = Lab::new();
    shell(&mut lab, 7, SESSION);
    lab.tend();
    *lab.space.lock().unwrap() = Space { free: SIZE / 100 - 1, size: SIZE };
    // It is looked at when something was written.
    lab.put(7, 2, env("last"));
    lab.tend();
    let before = fs::metadata(lab.file(TAPE)).unwrap().len();
    for number in 0..2000 {
        lab.put(7, number, env(&format!("{number:0>100}")));
        lab.tend();
    }
    // Whoever comes now has no file; one of them goes before there is room again.
    for (conn, session) in [(8, SessionId(8)), (9, SessionId(9))] {
        shell(&mut lab, conn, session);
        lab.tend();
    }
    lab.end(8, 3);
    assert_eq!(fs::metadata(lab.file(TAPE)).unwrap().len(), before);
    assert!([8, 9].iter().all(|session| lab.files(SessionId(*session)).is_empty()));
    let failures = lab.failures();
    assert!(matches!(&failures[..], [why] if why.contains("events go on, but connections are not")), "{failures:?}");
    assert_eq!(lab.tapes.stats().failing.as_ref(), failures.first());
    assert_eq!((lab.told(EventId::SshLogin).len(), lab.told(EventId::SshShell).len()), (3, 3), "events go on");

    *lab.space.lock().unwrap() = PLENTY;
    lab.tend();
    lab.tend();
    assert_eq!(lab.tapes.stats().failing, None);
    lab.put(7, 3000, env("again"));
    lab.end(7, 3001);
    lab.end(9, 3001);
    let tape = lines(&lab.file(TAPE));
    let lost: u64 = tape.iter().filter_map(|line| line["lost"]["lines"].as_u64()).sum();
    let kept = tape.iter().filter(|line| line.get("env").is_some()).count() as u64;
    assert_eq!(lost + kept, 2002);
    assert!(lost > 1000 && kept > 300, "what fits into 64 KiB has waited: {lost} {kept}");
    let late = lab.files(SessionId(9)).into_iter().find(|(name, _)| name.ends_with(TAPE)).unwrap();
    let late: Vec<String> = lines(&late.1).iter().filter_map(|line| line.as_object()?.keys().nth(1).cloned()).collect();
    assert_eq!(late, ["begin", "attempt", "opened", "pty", "shell", "end", "total"]);
}

#[test]
fn a_tape_says_how_it_ended_on_a_disk_whose_last_room_is_for_events() {
    let mut lab = Lab::new();
    shell(&mut lab, 7, SESSION);
    lab.tend();
    *lab.space.lock().unwrap() = Space { free: SIZE / 100 - 1, size: SIZE };
    lab.put(7, 2, env("last"));
    lab.tend();
    (0..50).for_each(|number| lab.put(7, number, env("lost")));
    lab.end(7, 60);
    let tape = lines(&lab.file(TAPE));
    let [.., lost, total] = &tape[..] else { panic!("{tape:?}") };
    // Those and how the connection ended, of which the total knows.
    assert_eq!((&lost["lost"]["lines"], total.get("total").is_some()), (&json!(51), true), "{tape:?}");
}

/// Runs the test below on a real disk of 48 MiB, in a mount namespace of its own.
#[test]
fn captures_go_first_and_events_last() {
    small_disk::run("record::tape::tests::full::on_a_disk_of_48_mib", "48m");
}

/// Everything that is recorded, on one disk.
struct Everything {
    lab: Lab,
    captures: CaptureSet,
    log: EventLog,
    disk: PathBuf,
    step: u64,
}

/// In which steps there was more of something.
#[derive(Default, Debug)]
struct More {
    frames: Vec<u64>,
    /// When a capture was deleted.
    deleted: Vec<u64>,
    contents: Vec<u64>,
    transcripts: Vec<u64>,
    tapes: Vec<u64>,
    events: Vec<u64>,
    /// Captures that there were at the end of each step.
    captures: Vec<usize>,
}

impl Everything {
    fn open(disk: PathBuf) -> Everything {
        ["captures", "events"].iter().for_each(|name| fs::create_dir(disk.join(name)).unwrap());
        let limits = CaptureLimits { file_bytes: 256 << 10, compress: false, ..CaptureLimits::default() };
        let captures = CaptureSet::open(&disk.join("captures"), limits).unwrap();
        let log = EventLog::open(&disk.join("events"), LogLimits::default(), utc(0)).unwrap();
        let tapes = Tapes::open(&disk, TapeLimits::default(), false, vec![], Box::new(space)).unwrap();
        let mut lab = Lab { tapes, ..Lab::new() };
        shell(&mut lab, 7, SESSION);
        Everything { lab, captures, log, disk, step: 0 }
    }

    /// A quarter of a second, in which something of everything happens.
    fn step(&mut self, more: &mut More) {
        self.step += 1;
        let (step, disk) = (self.step, self.disk.clone());
        let dir = disk.join("sessions").join(SESSION.to_string());
        let named = |dir: &Path, part: &str| -> Vec<PathBuf> {
            let all = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
            all.filter(|path| path.to_str().is_some_and(|name| name.contains(part))).collect()
        };
        let length = |dir: &Path, part: &str| -> u64 {
            named(dir, part).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
        };
        let lengths = || {
            [(&dir, "/sha256-"), (&dir, ".cast"), (&dir, ".ndjson"), (&disk.join("events"), "events.ndjson")]
                .map(|(dir, part)| length(dir, part))
        };
        let (before, frames) = (lengths(), self.captures.stats().frames);
        let source = CaptureSource { series: "wan".into(), interface: "wan".into(), about: String::new() };
        let nanos = (NOW as u64 + step * 250_000) * 1000;
        for at in 0..40 {
            self.captures.frame(&source, nanos + at, crate::record::Direction::In, 1500, &[0xff; 1500]);
        }
        let content: Vec<u8> = (0..96u64 << 10).map(|at| ((at * step) >> 3) as u8).collect();
        upload(&mut self.lab, step as u32, "worm", &content, true);
        self.lab.put(7, step, data(0, Stream::Output, &[b'a'; 16 << 10]));
        (0..8).for_each(|_| self.lab.put(7, step, env(&"x".repeat(1000))));
        for _ in 0..20 {
            let mut record = Record::bare(0, utc(self.lab.now), EventId::SessionStart);
            record.text = Some("x".repeat(100));
            self.log.push(&mut record);
        }
        // As the console's threads do it.
        self.lab.tend();
        if self.log.is_disk_full() {
            self.captures.make_room();
        }
        self.captures.flush(nanos);
        self.captures.look(space(&disk).unwrap());
        self.log.flush(utc(self.lab.now));

        let after = lengths();
        let grew = |at: usize| after[at] > before[at];
        let told = [&mut more.contents, &mut more.transcripts, &mut more.tapes, &mut more.events];
        told.into_iter().enumerate().filter(|(at, _)| grew(*at)).for_each(|(_, steps)| steps.push(step));
        if self.captures.stats().frames > frames {
            more.frames.push(step);
        }
        if !self.captures.take_deleted().is_empty() {
            more.deleted.push(step);
        }
        more.captures.push(named(&disk.join("captures"), ".pcapng").len());
    }

    fn steps(&mut self, more: &mut More, count: Range<u64>, until: impl Fn(&Everything) -> bool) {
        for _ in count {
            self.step(more);
            if until(self) {
                return;
            }
        }
        panic!("{more:?}");
    }
}

/// Without a disk of its own, only that everything is recorded where there is room.
#[test]
fn on_a_disk_of_48_mib() {
    let mut more = More::default();
    let Some(disk) = small_disk::disk() else {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Everything::open(dir.path().to_owned());
        all.steps(&mut more, 0..3, |all| all.step == 3);
        let grown = [more.frames, more.contents, more.transcripts, more.tapes, more.events];
        assert_eq!(grown.map(|steps| steps.len()), [3; 5]);
        return;
    };
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let mut all = Everything::open(disk.clone());
    all.steps(&mut more, 0..5000, |all| all.log.is_disk_full());
    let full = all.step;
    let last = |steps: &[u64]| steps.last().copied().unwrap_or(0);
    let ends = [&more.frames, &more.contents, &more.transcripts, &more.tapes, &more.events].map(|steps| last(steps));
    println!("captures go from {}, and the last of each: {ends:?} of {full}", more.deleted[0]);
    assert!(more.deleted[0] + 20 < ends[0], "old captures go while frames are taken still");
    assert!(ends.windows(2).all(|pair| pair[0] + 2 < pair[1]), "{ends:?}");
    // Until then all of the others went on.
    let went_on = |steps: &[u64]| (1..=last(steps)).filter(|step| !steps.contains(step)).count();
    for (what, steps) in [("contents", &more.contents), ("transcripts", &more.transcripts), ("tapes", &more.tapes)] {
        assert!(went_on(steps) <= 2, "{what}: {} of {} steps missing", went_on(steps), last(steps));
    }
    assert_eq!(went_on(&more.events), 0);
    assert_eq!(more.captures[ends[1] as usize + 4], 0, "nothing else ended while there was a capture");
    let failures = all.lab.failures();
    let order = ["contents of files are not", "neither transcripts nor", "events go on, but connections are not"];
    assert!(failures.len() == 3 && failures.iter().zip(order).all(|(why, part)| why.contains(part)), "{failures:?}");
    assert!(all.captures.take_trouble().is_some_and(|why| why.starts_with("disk: ")));

    // With room again everything goes on, and no record is missing.
    fs::remove_file(&ballast).unwrap();
    let mut again = More::default();
    all.steps(&mut again, 0..20, |all| all.step == full + 8);
    let grown = [again.frames, again.contents, again.transcripts, again.tapes, again.events];
    assert!(grown.iter().all(|steps| steps.contains(&(full + 8))), "{grown:?}");
    assert_eq!((all.log.stats().lost, all.log.stats().failing.as_deref()), (0, None));
    let records = fs::read_to_string(disk.join("events/events.ndjson")).unwrap();
    assert_eq!(records.lines().count() as u64, 20 * all.step);
}
