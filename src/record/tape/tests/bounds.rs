//! What there is too much of, and disks that are full.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::record::small_disk;

#[test]
fn a_hundred_thousand_guesses_are_counted_in_bounds() {
    let mut lab = Lab::with(TapeLimits { tape: 1 << 20, ..TapeLimits::default() }, true);
    lab.begin(7, SESSION);
    for number in 0..100_000 {
        lab.put(7, number, attempt("admin", &format!("password{number}"), false));
    }
    lab.end(7, 100_000);
    assert_eq!(lab.told(EventId::SshLogin).len(), 10_000);
    assert_eq!(lab.told(EventId::SshLogin)[0]["password"], "(9 characters)", "it is not to be kept");
    let close = &lab.told(EventId::SshClose)[0];
    assert_eq!((&close["attempts"], &close["untold"]), (&json!(100_000), &json!(90_000)));
    let lines = lines(&lab.file(TAPE));
    let length = fs::metadata(lab.file(TAPE)).unwrap().len();
    assert!((1 << 20..(1 << 20) + 1000).contains(&length), "{length}");
    let lost = lines.iter().find_map(|line| line["lost"]["lines"].as_u64()).unwrap();
    assert_eq!(lines.iter().filter(|line| line.get("attempt").is_some()).count() as u64 + lost, 100_001);
    let read = connection(&lab.file(TAPE)).unwrap();
    assert_eq!(
        (read.attempts.len(), read.lost_lines, read.attempts[0].credential.as_str()),
        (1000, lost, "(9 characters)")
    );
}

#[test]
fn who_guesses_from_connection_to_connection_leaves_few_files() {
    let limits = TapeLimits { strangers: 10, files: 20, ..TapeLimits::default() };
    let mut lab = Lab::with(limits, false);
    for conn in 0..1000 {
        lab.begin(conn, SESSION);
        lab.put(conn, 1, hello());
        lab.put(conn, 2, attempt("root", "x", false));
        lab.tend();
        lab.end(conn, 3);
    }
    assert_eq!(lab.files(SESSION).len(), 10);
    assert_eq!((lab.told(EventId::SshLogin).len(), lab.told(EventId::SshClose).len()), (1000, 1000));
    // Whoever is let in is recorded all the same, until there is too much of that as well.
    for conn in 2000..2100 {
        lab.begin(conn, SESSION);
        lab.put(conn, 1, attempt("root", "toor", true));
        lab.put(conn, 1, opened(0));
        lab.put(conn, 1, Entry::Shell { channel: 0 });
        lab.put(conn, 1, data(0, Stream::Output, b"#"));
        lab.end(conn, 3);
    }
    assert_eq!(lab.files(SESSION).len(), 20);
    assert_eq!(lab.told(EventId::SshShell).len(), 100);
}

#[test]
fn so_many_are_recorded_at_once() {
    let mut lab = Lab::with(TapeLimits { open: 3, parts: 2, ..TapeLimits::default() }, false);
    for conn in 0..10 {
        lab.begin(conn, SessionId(conn + 1));
        lab.put(conn, 1, opened(0));
        lab.put(conn, 1, Entry::Shell { channel: 0 });
        lab.put(conn, 2, data(0, Stream::Output, b"#"));
    }
    lab.tend();
    assert_eq!(lab.tapes.stats().open, 3);
    // And the third of them writes no transcript.
    assert_eq!(lab.failures().len(), 2, "once a minute: {:?}", lab.failures());
    assert!(lab.failures()[0].starts_with("limit: 3 connections"), "{:?}", lab.failures());
    lab.now += 60_000_000;
    lab.tend();
    let told = lab.told.iter().filter(|told| told.event.id == EventId::RecordingFailed);
    let counts: Vec<(u64, u64)> = told.map(|told| (told.event.session.0, told.event.count)).collect();
    assert_eq!(counts, [(0, 1), (3, 1), (0, 6)]);
    assert_eq!((lab.files(SessionId(2)).len(), lab.files(SessionId(3)).len()), (2, 1));
    // A place is free again.
    lab.end(0, 9);
    lab.begin(20, SESSION);
    lab.put(20, 1, opened(0));
    lab.put(20, 1, Entry::Shell { channel: 0 });
    assert_eq!(lab.files(SESSION).len(), 2);
}

#[test]
fn so_many_sessions_have_recordings() {
    let mut lab = Lab::with(TapeLimits { sessions: 10, ..TapeLimits::default() }, false);
    for number in 1..=100 {
        lab.begin(number, SessionId(number));
        lab.end(number, 1);
        lab.tend();
    }
    let left: Vec<u64> = (1..=100).filter(|number| !lab.files(SessionId(*number)).is_empty()).collect();
    assert_eq!(left, (92..=100).collect::<Vec<u64>>());
}

#[test]
fn where_the_disk_is_nearly_full_contents_go_first_and_tapes_stay() {
    let mut lab = Lab::new();
    let size = 1 << 30;
    let work = |lab: &mut Lab, file: u32| {
        lab.tend();
        upload(lab, file, "worm", format!("worm {file}").as_bytes(), true);
        lab.put(7, u64::from(file), data(0, Stream::Output, format!("shown {file} ").as_bytes()));
    };
    lab.begin(7, SESSION);
    lab.put(7, 0, opened(0));
    lab.put(7, 0, Entry::Shell { channel: 0 });
    let mut failing = Vec::new();
    for (file, free) in [(0, size), (1, size / 20 - 1), (2, size / 50 - 1), (3, size / 50 - 1), (4, size)] {
        *lab.space.lock().unwrap() = Space { free, size };
        // It is looked at when something was written.
        lab.put(7, 0, Entry::Env { channel: 0, name: text("A"), value: text("B") });
        lab.tend();
        failing.push(lab.tapes.stats().failing);
        work(&mut lab, file);
    }
    lab.end(7, 9);
    let of = |what: &str| Some(format!("disk: it is nearly full; {what} recorded until there is room again"));
    let (contents, transcripts) =
        (of("contents of files are not"), of("neither transcripts nor contents of files are"));
    assert_eq!(failing, [None, contents, transcripts.clone(), transcripts, None]);
    assert!(lab.tapes.is_idle(), "there is room again");
    let told = lab.told(EventId::SshFile);
    let cut: Vec<&Value> = told.iter().map(|told| &told["cut"]).collect();
    assert_eq!(cut, [&Value::Null, &json!("disk"), &json!("disk"), &json!("disk"), &Value::Null]);
    let failures = lab.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].contains("contents of files are not") && failures[1].contains("neither transcripts"),
        "{failures:?}"
    );
    let shown: Vec<What> = moments(&lab.file(".cast")).into_iter().map(|moment| moment.what).collect();
    assert!(
        shown.contains(&What::Output("shown 1 ".into())) && shown.contains(&What::Output("shown 4 ".into())),
        "{shown:?}"
    );
    assert!(
        shown.contains(&What::Marker("16 octets before this were lost: the disk was nearly full".into())),
        "{shown:?}"
    );
    assert_eq!(lines(&lab.file(TAPE)).iter().filter(|line| line.get("env").is_some()).count(), 5);
    assert_eq!(lab.told(EventId::SshClose)[0]["lost"], 6 * 3 + 16);
}

#[test]
fn what_begins_on_a_full_disk_is_recorded_once_there_is_room() {
    let mut lab = Lab::new();
    *lab.space.lock().unwrap() = Space { free: 1, size: 1 << 30 };
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Exec { channel: 0, command: text("cat") });
    lab.put(7, 2, data(0, Stream::Output, b"lost"));
    lab.put(7, 2, opened(1));
    lab.put(7, 2, data(1, Stream::Input, b"lost, too"));
    assert_eq!(lab.files(SESSION).len(), 0, "what is left is for events");
    *lab.space.lock().unwrap() = PLENTY;
    lab.tend();
    lab.put(7, 3, data(0, Stream::Output, b"kept"));
    lab.put(7, 3, data(1, Stream::Input, b"kept"));
    lab.end(7, 4);
    assert_eq!(moments(&lab.file("0000-0001.cast"))[0].what, What::Output("kept".into()));
    assert_eq!(lines(&lab.file("0001.octets"))[0]["data"], "a2VwdA==");
    assert_eq!(lab.told(EventId::SshClose)[0]["lost"], 13);
    let tape = lines(&lab.file(TAPE));
    assert!(tape[0].get("begin").is_some() && tape.iter().all(|line| line.get("lost").is_none()), "{tape:?}");

    // While nobody was there it was filled again.
    *lab.space.lock().unwrap() = Space { free: 1, size: 1 << 30 };
    lab.begin(8, SESSION);
    lab.put(8, 1, opened(0));
    lab.put(8, 1, Entry::Shell { channel: 0 });
    assert!(lab.files(SESSION).keys().all(|name| !name.contains("0000000000000008-0000")));
}

/// Runs the test below on a real disk of 256 KiB, in a mount namespace of its own.
#[test]
fn a_full_disk_stops_no_events() {
    small_disk::run("record::tape::tests::bounds::on_a_disk_of_256_kib", "256k");
}

/// Without a disk of its own, only that there is room on the one it is on is known.
#[test]
fn on_a_disk_of_256_kib() {
    let Some(disk) = small_disk::disk() else {
        let dir = tempfile::tempdir().unwrap();
        let Space { free, size } = space(dir.path()).unwrap();
        assert!(free <= size && size > 0);
        return;
    };
    let mut lab = Lab::new();
    // Others fill it between two looks.
    let look = |dir: &Path| space(dir).map(|space| Space { free: space.free.max(space.size / 50 - 1), ..space });
    lab.tapes = Tapes::open(&disk, TapeLimits::default(), false, vec![], Box::new(look)).unwrap();
    lab.begin(7, SESSION);
    lab.put(7, 1, attempt("root", "toor", true));
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Shell { channel: 0 });
    // Others fill it.
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    for number in 0..2000 {
        lab.put(7, number, Entry::Env { channel: 0, name: text("NAME"), value: text(&"x".repeat(100)) });
        lab.put(7, number, data(0, Stream::Output, &[b'a'; 100]));
        lab.tend();
    }
    lab.begin(8, SessionId(8));
    lab.put(8, 1, attempt("root", "late", false));
    lab.tend();
    let failures = lab.failures();
    let of_sessions = |told: &&Notice| told.event.session != SessionId(0) && told.event.id == EventId::RecordingFailed;
    let sessions: Vec<u64> = lab.told.iter().filter(of_sessions).map(|told| told.event.session.0).collect();
    assert_eq!(sessions, [SESSION.0, 8], "of which sessions something is missing");
    assert_eq!(failures.len(), 4, "that it is nearly full, and that it is: {failures:?}");
    let refused = |lab: &Lab| {
        lab.tapes.stats().failing.is_some_and(|why| why.contains("connections cannot be recorded (No space"))
    };
    assert!(refused(&lab), "{:?}", lab.tapes.stats());
    assert_eq!(lab.told(EventId::SshLogin).len(), 2, "events go on");

    fs::remove_file(&ballast).unwrap();
    lab.tend();
    lab.put(7, 3000, Entry::Signal { channel: 0, name: text("INT") });
    lab.put(7, 3000, data(0, Stream::Output, b"again"));
    lab.end(7, 3001);
    lab.end(8, 3001);
    assert!(!refused(&lab), "{:?}", lab.tapes.stats());
    let dir = disk.join("sessions").join(SESSION.to_string());
    let tape = dir.join("20261130T025429Z-ssh-0000000000000007.ndjson");
    let lines = lines(&tape);
    let lost: u64 = lines.iter().filter_map(|line| line["lost"]["lines"].as_u64()).sum();
    let kept = lines.iter().filter(|line| line.get("env").is_some()).count() as u64;
    assert!(lost > 1000 && kept > 100, "{lost} {kept}");
    assert_eq!(lost + kept, 2000);
    assert_eq!(lines.iter().filter(|line| line.get("signal").is_some()).count(), 1);
    let cast = moments(&dir.join("20261130T025429Z-ssh-0000000000000007-0000-0001.cast"));
    // A part of a block was left.
    let (mut shown, mut told) = (0, 0);
    for moment in &cast {
        match &moment.what {
            What::Output(text) => shown += text.len(),
            What::Marker(text) => told += text.split(' ').next().unwrap().parse::<usize>().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(told > 190_000 && cast.iter().any(|moment| moment.what == What::Output("again".into())), "{cast:?}");
    assert_eq!(shown + told, 2000 * 100 + "again".len());
    assert!(disk.join("sessions/0000000000000008").exists());
}

#[test]
fn what_is_older_than_it_may_be_goes_file_by_file() {
    const DAY: i64 = 86_400_000_000;
    let limits = TapeLimits { age_secs: Some(10 * 86_400), ..TapeLimits::default() };
    let mut lab = Lab::with(limits, false);
    for number in 1..=3 {
        for conn in 0..2 {
            lab.begin(number * 10 + conn, SessionId(number));
            lab.put(
                number * 10 + conn,
                1,
                Entry::Hello {
                    banner: text("SSH-2.0-x"),
                    kex: text(""),
                    keys: text(""),
                    ciphers: text(""),
                    macs: text(""),
                    compression: text(""),
                    languages: Text::default(),
                    hassh: String::new(),
                },
            );
            if number < 3 || conn == 0 {
                lab.end(number * 10 + conn, 2);
            }
        }
    }
    lab.tend();
    assert!(lab.told(EventId::RecordingDeleted).is_empty());
    let age = |lab: &Lab, session: u64, files: usize, days: i64| {
        for path in lab.files(SessionId(session)).into_values().take(files) {
            let time = std::time::SystemTime::from(utc(days * DAY));
            fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        }
    };
    age(&lab, 1, 2, -11);
    age(&lab, 2, 2, 0);
    age(&lab, 2, 1, -11);
    age(&lab, 3, 2, 0);
    age(&lab, 3, 1, -11);
    let dir = lab.dir.path().to_owned();
    let mut next = Lab { tapes: Lab::tapes(&dir, limits, false, &lab.space), ..lab };
    next.begin(99, SessionId(3));
    next.tend();
    let gone: Vec<(u64, String)> = next
        .told
        .iter()
        .filter(|told| told.event.id == EventId::RecordingDeleted)
        .map(|told| (told.event.count, String::from_utf8(told.data.clone()).unwrap()))
        .collect();
    assert!(matches!(&gone[..], [(2, why)] if why.starts_with("retention: ")), "{gone:?}");
    let left = |lab: &Lab| [1, 2, 3].map(|session| lab.files(SessionId(session)).len());
    assert_eq!(left(&next), [0, 1, 3], "a session that goes on keeps what it has");
    assert!(!dir.join("sessions/0000000000000001").exists());
    // An hour later, and not before, somebody looks again.
    next.end(99, 1);
    next.tend();
    assert_eq!(left(&next), [0, 1, 3]);
    next.now += 3_600_000_000;
    next.tend();
    assert_eq!(left(&next), [0, 1, 2]);
}

#[test]
fn of_whom_addresses_are_truncated_no_file_and_no_event_tells_all() {
    let privacy = crate::record::privacy::Privacy { truncate: Some(Default::default()), ..Default::default() };
    let lab = Lab::new();
    let mask = crate::record::privacy::Mask::new(privacy, []);
    let mut lab =
        Lab { tapes: Lab::tapes(lab.dir.path(), TapeLimits::default(), true, &lab.space).masked(mask), ..lab };
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 2, Entry::Shell { channel: 0 });
    lab.put(7, 3, data(0, Stream::Output, b"hello"));
    let target = || ChannelKind::DirectTcpip { host: text("198.51.100.7"), port: 25, from: Text::default() };
    lab.put(7, 3, Entry::Opened { channel: 1, kind: target() });
    lab.put(7, 3, Entry::Refused { kind: target(), reason: text("no") });
    for from in ["198.51.100.7:4000", "198.51.100.7 port 65536"] {
        let kind = ChannelKind::ForwardedTcpip { host: text("198.51.100.8"), port: 80, from: text(from) };
        lab.put(7, 3, Entry::Opened { channel: 2, kind });
    }
    lab.put(7, 3, Entry::Listen { host: text("198.51.100.8"), port: 80, accepted: true });
    lab.put(7, 3, Entry::Unlisten { host: text("198.51.100.8"), port: 80 });
    lab.end(7, 4);
    let whole = |text: &str| text.contains("198.51.100.7") || text.contains("198.51.100.8");
    assert_eq!(lab.told(EventId::SshForward).len(), 5);
    assert!(!lab.told.iter().any(|notice| whole(&String::from_utf8_lossy(&notice.data))));
    let all: String = lab.files(SESSION).into_values().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(all.contains("192.0.2.0") && !all.contains("192.0.2.9"), "{all}");
    assert!(all.contains("198.51.100.0:4000") && all.contains("198.51.100.0 port 65536") && !whole(&all), "{all}");
    assert!(lab.told.iter().all(|notice| notice.event.src.ip.get().is_none_or(|ip| ip.to_string() == "192.0.2.0")));
}
