//! Who takes much, and what is left for others.

use std::collections::BTreeSet;
use std::fs;

use super::*;

/// Of which an eighth is 4 MiB, a small part for certain 32 KiB, and large what has more than 128 KiB.
const TOTAL: u64 = 32 << 20;
/// What is recorded of one session that is told of below: a tape and a cast.
const SMALL: usize = 12_000;

fn lab() -> Lab {
    Lab::with(TapeLimits { total: TOTAL, ..TapeLimits::default() }, false)
}

/// What the files of a session take on the disk, as far as that is counted.
fn octets(lab: &Lab, session: u64) -> u64 {
    let files = lab.files(SessionId(session)).into_values();
    files.map(|path| fs::metadata(path).unwrap().len() + 4096).sum()
}

fn shell(lab: &mut Lab, session: u64) {
    lab.begin(session, SessionId(session));
    lab.put(session, 1, opened(0));
    lab.put(session, 1, Entry::Shell { channel: 0 });
}

/// As much as there is room for, in channels with a terminal.
fn floods(lab: &mut Lab, session: u64) {
    for channel in 10..16 {
        lab.put(session, 1, opened(channel));
        lab.put(session, 1, Entry::Pty { channel, term: text("xterm"), columns: 80, rows: 24 });
        lab.put(session, 1, Entry::Shell { channel });
        for _ in 0..60 {
            lab.put(session, 2, data(channel, Stream::Output, &[0; 16 << 10]));
        }
    }
}

/// A session in which `size` octets are shown.
fn small(lab: &mut Lab, session: u64, size: usize) {
    shell(lab, session);
    lab.put(session, 2, data(0, Stream::Output, &vec![b'a'; size]));
    lab.end(session, 3);
    lab.tend();
}

fn deleted(lab: &Lab) -> u64 {
    lab.told.iter().filter(|told| told.event.id == EventId::RecordingDeleted).map(|told| told.event.count).sum()
}

#[test]
fn sessions_of_long_ago_go_first() {
    const TOTAL: u64 = 8 << 20;
    let mut lab = Lab::with(TapeLimits { total: TOTAL, ..TapeLimits::default() }, false);
    shell(&mut lab, 1);
    // Thrice as much as there is room for.
    let most = 3 * TOTAL / (SMALL as u64 + 2 * 4096);
    for session in 2..=most {
        small(&mut lab, session, SMALL);
    }
    let left = |lab: &Lab| -> Vec<u64> { (1..=most).filter(|n| !lab.files(SessionId(*n)).is_empty()).collect() };
    let kept = left(&lab);
    assert_eq!(kept[0], 1, "who goes on stays");
    assert!(kept[1..].windows(2).all(|pair| pair[1] == pair[0] + 1) && kept.last() == Some(&most), "{kept:?}");
    let taken: u64 = kept.iter().map(|session| octets(&lab, *session)).sum();
    assert!((TOTAL / 10 * 9 - 30_000..=TOTAL).contains(&taken), "{taken}");
    assert_eq!(deleted(&lab) as usize + kept.len(), most as usize);
    assert!(lab.failures().is_empty(), "{:?}", lab.failures());
    // What former consoles left counts.
    let limits = TapeLimits { total: 1 << 20, ..TapeLimits::default() };
    let mut next = Lab { tapes: Lab::tapes(lab.dir.path(), limits, false, &lab.space), ..lab };
    next.tend();
    let taken: u64 = left(&next).into_iter().map(|session| octets(&next, session)).sum();
    assert!((500_000..1 << 20).contains(&taken), "{taken}");
}

#[test]
fn whoever_takes_all_they_can_leaves_others_theirs() {
    let mut lab = lab();
    for session in 1..=200 {
        small(&mut lab, session, SMALL);
    }
    // Forty at once, each with floods of what takes six times as much when it is written.
    for session in 1001..=1040 {
        shell(&mut lab, session);
        floods(&mut lab, session);
        let path = text("much");
        lab.put(session, 2, Entry::FileBegin { channel: 0, file: 0, path, direction: Direction::Upload });
        lab.put(session, 2, Entry::FilePiece { file: 0, offset: 0, data: Bytes::from(vec![b'x'; 16 << 10]) });
        for _ in 0..2000 {
            lab.put(session, 3, Entry::Env { channel: 0, name: text("A"), value: text(&"x".repeat(1000)) });
        }
        lab.tend();
    }
    let flooded: Vec<u64> = (1001..=1040).map(|session| octets(&lab, session)).collect();
    assert!(flooded.iter().all(|octets| *octets <= TOTAL / 8 + (200 << 10)), "{flooded:?}");
    assert!(flooded[0] > TOTAL / 12, "one has most of an eighth: {flooded:?}");
    let all: u64 = flooded.iter().sum();
    assert!(all <= TOTAL / 4 * 3, "{all}");
    // Who comes now has a transcript.
    shell(&mut lab, 2000);
    lab.put(2000, 2, data(0, Stream::Output, &[b'a'; SMALL]));
    lab.tend();
    lab.end(2000, 3);
    let cast = lab.files(SessionId(2000)).into_values().find(|path| path.extension().is_some_and(|end| end == "cast"));
    assert!(matches!(&moments(&cast.unwrap())[0].what, What::Output(text) if text.len() == SMALL));
    assert_eq!(deleted(&lab), 0);
    for session in 1001..=1040 {
        lab.end(session, 4);
        lab.tend();
    }
    // They are over, and others of the kind come: these are the ones that make room.
    for session in 3001..=3012 {
        shell(&mut lab, session);
        floods(&mut lab, session);
        lab.end(session, 4);
        lab.tend();
    }
    assert!(deleted(&lab) > 3);
    assert!((1..=200).all(|session| lab.files(SessionId(session)).len() == 2), "nobody else's are deleted");
    assert!(!lab.files(SessionId(2000)).is_empty());

    // Each of them is told of once, by its session, and their connections tell how much is missing.
    let told: Vec<_> = lab.told.iter().filter(|told| told.event.id == EventId::RecordingFailed).collect();
    let sessions: BTreeSet<u64> = told.iter().map(|told| told.event.session.0).collect();
    assert_eq!(sessions, (1001..=1040).chain(3001..=3012).collect());
    assert!(told.len() <= 2 * sessions.len(), "that a thing is large, and that all of it is");
    let is_share = |why: &String| why.starts_with("limit: the session has its share") || why.starts_with("limit: one ");
    assert!(lab.failures().iter().all(is_share));
    let closes = lab.told(EventId::SshClose);
    let lost = |at: usize, what: &str| closes[at][what].as_u64().unwrap_or(0);
    assert!((201..=240).all(|at| lost(at, "lost") > 0), "{:?}", &closes[200..242]);
    assert!(lost(240, "lost_lines") > 0, "{}", closes[240]);
}

#[test]
fn who_comes_back_to_much_makes_room_of_their_own() {
    let mut lab = lab();
    for session in 1..=100 {
        small(&mut lab, session, SMALL);
    }
    for session in 1001..=1009 {
        shell(&mut lab, session);
        floods(&mut lab, session);
        lab.end(session, 3);
        lab.tend();
    }
    assert_eq!(deleted(&lab), 0);
    // All of them are there at once.
    for session in 1001..=1009 {
        lab.begin(2000 + session, SessionId(session));
    }
    let all: u64 = (1001..=1009).map(|session| octets(&lab, session)).sum();
    assert!((TOTAL / 3..=TOTAL / 2 + (64 << 10)).contains(&all), "{all}");
    for session in 2001..=2020 {
        shell(&mut lab, session);
        lab.put(session, 2, data(0, Stream::Output, &[b'a'; SMALL]));
        lab.tend();
        assert!(octets(&lab, session) > SMALL as u64, "there is room for who comes now");
    }
    assert!((2..=4).contains(&deleted(&lab)), "and it is told: {}", deleted(&lab));
    assert!((1..=100).all(|session| lab.files(SessionId(session)).len() == 2), "nobody else's are deleted");
}

#[test]
fn a_session_has_an_end() {
    let mut lab = lab();
    shell(&mut lab, 7);
    // Neither in one connection nor in one after the other.
    for second in 1..600 {
        lab.put(7, second * 1_000_000, data(0, Stream::Error, &[b'a'; 16 << 10]));
    }
    for conn in 100..110 {
        lab.begin(conn, SessionId(7));
        (0..1000).for_each(|_| lab.put(conn, 1, attempt("root", &"x".repeat(1000), true)));
        lab.put(conn, 1, opened(0));
        lab.put(conn, 1, Entry::Exec { channel: 0, command: text("cat") });
        lab.put(conn, 1, data(0, Stream::Output, &[b'a'; 1000]));
        lab.end(conn, 2);
        lab.tend();
    }
    lab.end(7, 500_000_000);
    lab.tend();
    let taken = octets(&lab, 7);
    assert!((TOTAL / 10..TOTAL / 8 + (64 << 10)).contains(&taken), "{taken}");
    let files = lab.files(SessionId(7));
    let cast = files.iter().find(|(name, _)| name.ends_with(".cast")).unwrap().1;
    assert!(matches!(&moments(cast).pop().unwrap().what, What::Marker(text) if text.contains("lost")));
    assert_eq!(lab.failures().len(), 2, "{:?}", lab.failures());
    assert_eq!(lab.told(EventId::SshClose).len(), 11);
}

#[test]
fn small_files_do_not_use_up_what_tapes_and_transcripts_need() {
    let mut lab = Lab::with(TapeLimits { files: 80, ..TapeLimits::default() }, false);
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Shell { channel: 0 });
    for file in 0..1000 {
        upload(&mut lab, file, "tiny", format!("{file}").as_bytes(), true);
        lab.put(7, 1, Entry::Opened { channel: file + 1, kind: ChannelKind::Agent });
        lab.put(7, 2, data(file + 1, Stream::Input, b"x"));
    }
    lab.tend();
    assert_eq!(lab.failures().len(), 1, "{:?}", lab.failures());
    let told: Vec<u64> = lab
        .told
        .iter()
        .filter(|told| told.event.id == EventId::RecordingFailed)
        .map(|told| told.event.session.0)
        .collect();
    assert_eq!(told, [0xabc]);
    assert!(lab.failures()[0].starts_with("limit: the session has too many"), "{:?}", lab.failures());
    assert_eq!(lab.told(EventId::SshFile).iter().filter(|told| told["cut"] == "too-many").count(), 1000 - 29);
    assert_eq!(lab.files(SESSION).len(), 60);
    // A shell of the next connection has a transcript, and connections have tapes for longer.
    for conn in 100..200 {
        lab.begin(conn, SESSION);
        lab.put(conn, 1, opened(0));
        lab.put(conn, 1, Entry::Shell { channel: 0 });
        lab.put(conn, 2, data(0, Stream::Output, b"#"));
        lab.end(conn, 3);
        lab.tend();
    }
    let files = lab.files(SESSION);
    let count = |ending: &str| files.keys().filter(|name| name.ends_with(ending)).count();
    assert_eq!((count(".cast"), count(TAPE), files.len()), (6, 16, 80));
    assert_eq!(lab.failures().len(), 1, "it is told once: {:?}", lab.failures());
    assert_eq!(lab.told(EventId::SshClose)[99]["lost"], 1);
}

#[test]
fn one_session_does_not_write_everything_at_once() {
    let mut lab = Lab::with(TapeLimits { parts: 40, ..TapeLimits::default() }, false);
    lab.begin(0xabc, SESSION);
    for channel in 0..40 {
        lab.put(0xabc, 1, opened(channel));
        lab.put(0xabc, 1, Entry::Exec { channel, command: text("cat") });
    }
    shell(&mut lab, 2);
    lab.tend();
    assert_eq!((lab.files(SESSION).len(), lab.files(SessionId(2)).len()), (11, 2));
    assert!(lab.failures()[0].contains("at once"), "{:?}", lab.failures());
    // Those that end leave their place.
    lab.put(0xabc, 2, Entry::Closed { channel: 0 });
    lab.put(0xabc, 2, opened(40));
    lab.put(0xabc, 2, Entry::Exec { channel: 40, command: text("cat") });
    assert_eq!(lab.files(SESSION).len(), 12);
}
