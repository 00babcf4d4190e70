use std::fs::File;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use pcap_file::pcapng::{Block, PcapNgReader};

use super::super::tests::{NOW, arp, names, plain, source};
use super::*;
use crate::record::capture::Direction;

const SECOND: u64 = 1_000_000_000;
const YEAR: u64 = 365 * 86_400 * SECOND;

fn frame(set: &mut CaptureSet, name: &str, nanos: u64) {
    set.frame(&source(name), nanos, Direction::In, 60, &arp());
}

/// The times of the frames of a file, and how many statistics follow.
fn read(path: &Path) -> (Vec<u64>, usize) {
    let bytes = fs::read(path).unwrap();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut times, mut ends) = (Vec::new(), 0);
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => times.push(packet.timestamp.as_nanos() as u64),
            Block::InterfaceStatistics(_) => ends += 1,
            _ => {}
        }
    }
    (times, ends)
}

/// Files of `dir` that this process holds open.
fn held(dir: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|path| path.starts_with(dir)).count()
}

fn octets(dir: &Path) -> u64 {
    names(dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum()
}

#[test]
fn more_devices_than_files_may_be_open_have_a_file_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { open_files: 8, total_files: 400, ..plain() }).unwrap();
    let devices: Vec<String> = (0..100).map(|number| format!("c{number:03}")).collect();
    let times: Vec<u64> = (0..40).map(|round| NOW + round * SECOND).collect();
    for (round, nanos) in times.iter().enumerate() {
        devices.iter().for_each(|name| frame(&mut set, name, *nanos));
        if round % 2 == 1 {
            set.flush(*nanos);
        }
        assert!(held(dir.path()) <= 8);
    }
    set.close_all();
    assert_eq!((set.stats().frames, set.stats().dropped, set.stats().deleted), (4000, 0, 0));
    let expected: Vec<String> = devices.iter().map(|name| format!("{name}-000001.pcapng")).collect();
    assert_eq!(names(dir.path()), expected);
    for name in expected {
        assert_eq!(read(&dir.path().join(&name)), (times.clone(), 1), "{name}");
    }
}

#[test]
fn what_is_gathered_is_bounded_however_many_devices_talk() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), plain()).unwrap();
    let devices: Vec<String> = (0..200).map(|number| format!("c{number:03}")).collect();
    for at in 0..100 {
        for name in &devices {
            set.frame(&source(name), NOW + at, Direction::In, 1500, &[0xff; 1500]);
        }
    }
    let all: u64 = set.open.values().map(|series| series.file.bytes()).sum();
    let gathered = all - octets(dir.path());
    assert!(all > 30_000_000 && gathered < 17 << 20, "{gathered} of {all}");
    assert_eq!((set.stats().frames, set.stats().dropped), (20_000, 0));
}

#[test]
fn a_file_that_is_deleted_is_followed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { open_files: 1, ..plain() }).unwrap();
    for name in ["a", "b"] {
        frame(&mut set, name, NOW);
    }
    set.flush(NOW);
    fs::remove_file(dir.path().join("b-000001.pcapng")).unwrap();
    frame(&mut set, "b", NOW + 1);
    set.flush(NOW + 1);
    assert_eq!((set.stats().dropped, set.kept.len()), (1, 0));
    frame(&mut set, "b", NOW + 2);
    set.close_all();
    assert_eq!(names(dir.path()), ["a-000001.pcapng", "b-000002.pcapng"]);
    assert_eq!(read(&dir.path().join("b-000002.pcapng")), (vec![NOW + 2], 1));
    assert_eq!((set.stats().dropped, set.stats().failing.as_deref()), (1, None));
}

#[test]
fn one_device_too_many_takes_the_place_of_a_silent_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { total_files: 4, ..plain() }).unwrap();
    for at in 0..60 {
        for name in ["a", "b", "c"].into_iter().filter(|name| at < 30 || *name != "a") {
            frame(&mut set, name, NOW + at * SECOND);
        }
    }
    assert_eq!((set.stats().frames, set.stats().dropped, set.stats().deleted), (90, 60, 0));
    assert!(set.stats().failing.as_ref().unwrap().starts_with("more than 2 devices"));
    frame(&mut set, "c", NOW + 90 * SECOND);
    set.flush(NOW + 90 * SECOND);
    assert_eq!(names(dir.path()), ["a-000001.pcapng", "b-000001.pcapng", "c-000001.pcapng"]);
    assert_eq!((set.stats().dropped, set.stats().failing.as_deref()), (60, None));
}

#[test]
fn what_is_being_written_leaves_room_for_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { file_bytes: 8_000, series_bytes: 16_000, total_bytes: 16_000, ..plain() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    // Three devices of 6,000 octets each, and then five more that fall silent one after the other.
    for at in 0..180 {
        frame(&mut set, ["a", "b", "c"][at as usize % 3], NOW + at);
        set.flush(NOW + at);
        assert!(octets(dir.path()) <= 16_000, "{at}: {}", octets(dir.path()));
    }
    for at in 0..5 * 60 {
        frame(&mut set, ["d", "e", "f", "g", "h"][at as usize / 60], NOW + at);
        set.flush(NOW + at);
        assert!(octets(dir.path()) <= 16_000, "{at}: {}", octets(dir.path()));
    }
    let open: u64 = set.open.values().map(|series| series.file.bytes()).sum();
    assert!(open <= 8_000 && set.kept.len() >= 5, "{open} {:?}", set.kept);
}

#[test]
fn within_a_series_the_number_decides_what_is_older() {
    let dir = tempfile::tempdir().unwrap();
    for (name, secs) in [("wan-000001", 5_000), ("wan-000002", 1_000), ("lan-000001", 3_000), ("wan-000003", 2_000)] {
        let file = File::create(dir.path().join(format!("{name}.pcapng"))).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    }
    let left = |total_files| {
        drop(CaptureSet::open(dir.path(), CaptureLimits { total_files, ..plain() }).unwrap());
        names(dir.path())
    };
    assert_eq!(left(3), ["wan-000001.pcapng", "wan-000002.pcapng", "wan-000003.pcapng"]);
    assert_eq!(left(1), ["wan-000003.pcapng"]);
}

#[test]
fn a_file_ends_by_age_though_the_clock_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { age_secs: 100, ..plain() }).unwrap();
    frame(&mut set, "wan", NOW);
    set.flush(NOW - YEAR);
    for at in 0..100 {
        frame(&mut set, "wan", NOW - YEAR + at * SECOND);
        set.flush(NOW - YEAR + at * SECOND);
    }
    assert_eq!(set.open.len(), 1);
    set.flush(NOW - YEAR + 100 * SECOND);
    assert_eq!(set.open.len(), 0);
}

#[test]
fn a_silent_file_ends_though_the_clock_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), plain()).unwrap();
    frame(&mut set, "wan", NOW);
    set.flush(NOW - YEAR);
    set.flush(NOW - YEAR + 599 * SECOND);
    assert_eq!(set.open.len(), 1);
    set.flush(NOW - YEAR + 600 * SECOND);
    assert_eq!(set.open.len(), 0);
}

#[test]
fn captures_give_way_before_anything_else_does() {
    const SIZE: u64 = 1 << 30;
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { file_bytes: 30_000, ..plain() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    let talk = |set: &mut CaptureSet, at: u64| set.frame(&source("wan"), NOW + at, Direction::In, 1500, &[0xff; 1500]);
    let look = |set: &mut CaptureSet, free: u64| set.look(Space { free, size: SIZE });
    (0..200).for_each(|at| talk(&mut set, at));
    set.flush(NOW);
    let all = names(dir.path());
    assert!(all.len() > 9, "{all:?}");
    // As much as is missing, at most once a second, the oldest first.
    let enough = SIZE / 20 / 2 * 3;
    look(&mut set, enough);
    set.flush(NOW + SECOND);
    assert_eq!(names(dir.path()), all);
    look(&mut set, enough - 40_000);
    set.flush(NOW + SECOND);
    assert_eq!(names(dir.path()), all[2..]);
    look(&mut set, enough - 40_000);
    set.flush(NOW + 2 * SECOND - 1);
    assert_eq!(names(dir.path()), all[2..]);
    set.flush(NOW + 2 * SECOND);
    assert_eq!(names(dir.path()), all[4..]);
    let told = set.take_deleted();
    assert!(told.len() == 1 && told[0].files == 4 && told[0].reason.starts_with("disk: it is full; "), "{told:?}");
    assert!(told[0].reason.ends_with(&format!("the oldest was {}", all[0])), "{told:?}");
    assert_eq!((set.stats().dropped, set.take_trouble()), (0, None));
    // Then frames are taken no more, to the last that there is room for.
    look(&mut set, SIZE / 20 / 4 * 5 + 2000);
    (0..3).for_each(|at| talk(&mut set, at));
    assert_eq!((set.stats().frames, set.stats().dropped), (201, 2));
    assert!(set.stats().failing.as_ref().is_some_and(|why| why.starts_with("disk: ")));
    assert!(set.take_trouble().is_some_and(|why| why.contains("frames are not captured")));
    set.flush(NOW + 2 * SECOND + 1);
    assert!(set.stats().failing.is_some(), "it is in trouble as long as that lasts");
    // At last goes what was being written.
    look(&mut set, SIZE / 20);
    set.flush(NOW + 3 * SECOND);
    assert_eq!(set.open.len(), 1);
    look(&mut set, SIZE / 20 - 1);
    talk(&mut set, 3);
    set.flush(NOW + 4 * SECOND);
    assert_eq!((names(dir.path()).len(), set.take_trouble()), (0, None), "it was told");
    // With room again it goes on, and next time it is told anew.
    look(&mut set, SIZE);
    assert_eq!(set.stats().failing, None);
    talk(&mut set, 4);
    set.flush(NOW + 5 * SECOND);
    assert_eq!(names(dir.path()).len(), 1);
    look(&mut set, 0);
    talk(&mut set, 5);
    assert!(set.take_trouble().is_some());
    set.flush(NOW + 5 * SECOND);
    assert_eq!((set.stats().frames, set.stats().dropped), (202, 4));
}
