use std::net::Ipv6Addr;

use pcap_file::pcapng::PcapNgReader;

use super::*;
use crate::record::capture::packed;
use crate::record::{CaptureLimits, CaptureSet, CaptureSource, Direction};

const SECOND: u64 = 1_000_000_000;

fn source(series: &str, interface: &str) -> CaptureSource {
    CaptureSource { series: series.into(), interface: interface.into(), about: format!("about {interface}") }
}

fn v4(src: [u8; 4], dst: [u8; 4], tags: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for _ in 0..tags {
        frame.extend([0x81, 0, 0, 7]);
    }
    frame.extend([8, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend(src.iter().chain(&dst));
    frame.extend([fill; 40]);
    frame
}

fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    Ends::of(frame).map(|ends| (ends.src, ends.dst))
}

fn limits() -> CaptureLimits {
    CaptureLimits { file_bytes: 4000, ..CaptureLimits::default() }
}

const A: [u8; 4] = [192, 0, 2, 9];
const B: [u8; 4] = [10, 0, 0, 1];
const C: [u8; 4] = [10, 0, 0, 2];

fn wanted() -> Pick {
    let mut pick = Pick { span: (10 * SECOND, 100 * SECOND), ..Pick::default() };
    pick.add(A.into(), B.into());
    pick
}

/// What is picked of each device.
fn pick(dir: &Path, comment: &str) -> (Vec<(String, Vec<u8>)>, Picked) {
    let wanted = wanted();
    let (selections, picked) = select(dir, &wanted, comment).unwrap();
    let written = selections.into_iter().map(|selection| {
        let (series, octets, mut out) = (selection.series.clone(), selection.octets, Vec::new());
        selection.write(&mut out).unwrap();
        assert_eq!(octets, out.len() as u64);
        (series, out)
    });
    (written.collect(), picked)
}

struct Read {
    interfaces: Vec<(String, Vec<String>)>,
    frames: Vec<(u32, u64, u32, usize)>,
    drops: Vec<(u64, u64, u64)>,
}

fn read(bytes: &[u8]) -> Read {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let mut read = Read { interfaces: vec![], frames: vec![], drops: vec![] };
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                let mut told = (String::new(), vec![]);
                for option in interface.options {
                    match option {
                        InterfaceDescriptionOption::IfName(name) => told.0 = name.into_owned(),
                        InterfaceDescriptionOption::IfDescription(text) | InterfaceDescriptionOption::Comment(text) => {
                            told.1.push(text.into_owned());
                        }
                        _ => {}
                    }
                }
                read.interfaces.push(told);
            }
            Block::EnhancedPacket(frame) => {
                read.frames.push((frame.interface_id, nanos(&frame), frame.original_len, frame.data.len()));
            }
            Block::InterfaceStatistics(statistics) => {
                let mut told = (0, 0, 0);
                for option in statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(n) => told.0 = n,
                        InterfaceStatisticsOption::IsbIfDrop(n) => told.1 = n,
                        InterfaceStatisticsOption::IsbOsDrop(n) => told.2 = n,
                        _ => {}
                    }
                }
                read.drops.push(told);
            }
            _ => {}
        }
    }
    read
}

#[test]
fn frames_of_the_session_come_from_all_devices_in_the_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut captures = CaptureSet::open(dir.path(), limits()).unwrap();
    let (wire, other, inside) = (source("wan", "eth1"), source("dmz", "eth2"), source("lan-10.0.0.1", "10.0.0.1"));
    for second in 0..200 {
        let at = second * SECOND;
        captures.frame(&wire, at, Direction::In, 60, &v4(A, B, second as usize % 3, 1));
        captures.frame(&inside, at + 5, Direction::Out, 6000, &v4(B, A, 0, 2));
        captures.frame(&wire, at + 7, Direction::In, 60, &v4(A, C, 0, 3));
        captures.frame(&other, at + 9, Direction::In, 60, &v4(C, B, 0, 4));
    }
    // That of another container is not even read.
    captures.frame(&source("lan-10.0.0.7", "10.0.0.7"), 50 * SECOND, Direction::In, 60, &v4(A, B, 0, 5));
    captures.count_ring_lost(3);
    captures.close_all();
    let (files, picked) = pick(dir.path(), "session 0000000000000abc");
    assert!(picked.captures > 20, "several files of each series: {picked:?}");
    assert_eq!(Picked { captures: 0, ..picked }, Picked { frames: 181, interfaces: 2, captures: 0, unread: 0 });
    assert_eq!(files.iter().map(|(series, _)| series.as_str()).collect::<Vec<_>>(), ["lan-10.0.0.1", "wan"]);
    for ((_, file), (name, count, first)) in
        files.iter().zip([("10.0.0.1", 90, (10 * SECOND + 5, 6000)), ("eth1", 91, (10 * SECOND, 78))])
    {
        let read = read(file);
        assert_eq!(read.interfaces.len(), 1);
        assert_eq!(read.interfaces[0].0, name);
        assert!(read.interfaces[0].1.contains(&"session 0000000000000abc".to_owned()), "{:?}", read.interfaces);
        assert!(read.frames.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert_eq!(read.frames.len(), count);
        assert_eq!((read.frames[0].1, read.frames[0].2), first);
        // Lost frames are lost for every device whose file was open.
        assert_eq!(read.drops, [(count as u64, 0, 3)]);
    }
}

#[test]
fn compressed_captures_are_read_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let plain = CaptureLimits { compress: false, ..CaptureLimits::default() };
    let mut captures = CaptureSet::open(dir.path(), plain).unwrap();
    for name in ["a", "b", "c"] {
        for second in 20..40 {
            captures.frame(&source(name, name), second * SECOND, Direction::In, 60, &v4(A, B, 0, 1));
        }
    }
    captures.close_all();
    let path = |name: &str| dir.path().join(format!("{name}-000001.pcapng"));
    let pack = |name: &str| zstd::encode_all(&std::fs::read(path(name)).unwrap()[..], 3).unwrap();
    std::fs::write(packed(&path("a")), pack("a")).unwrap();
    std::fs::remove_file(path("a")).unwrap();
    // One is damaged at its end.
    let mut damaged = pack("b");
    let len = damaged.len();
    damaged[len - 6..].fill(0xff);
    std::fs::write(packed(&path("b")), damaged).unwrap();
    std::fs::remove_file(path("b")).unwrap();
    let (_, picked) = pick(dir.path(), "x");
    assert_eq!((picked.captures, picked.unread), (3, 1), "{picked:?}");
    assert!((40..=60).contains(&picked.frames), "{picked:?}");
    // One that is compressed between listing and opening it.
    std::fs::write(packed(&path("c")), pack("c")).unwrap();
    std::fs::remove_file(path("c")).unwrap();
    let mut series = Series::new([Capture::new(path("c"))].into());
    assert_eq!(series.advance(&wanted(), &mut 1).unwrap().map(|frame| nanos(&frame)), Some(20 * SECOND));
}

#[test]
fn a_capture_that_is_being_written_or_is_damaged_gives_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut captures = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    for name in ["cut", "damaged", "whole"] {
        for second in 0..20 {
            captures.frame(&source(name, name), (20 + second) * SECOND, Direction::In, 60, &v4(A, B, 0, 1));
        }
    }
    captures.close_all();
    let cut = dir.path().join("cut-000001.pcapng");
    let len = std::fs::metadata(&cut).unwrap().len();
    std::fs::File::options().write(true).open(&cut).unwrap().set_len(len / 2 + 1).unwrap();
    let damaged = dir.path().join("damaged-000001.pcapng");
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    std::fs::write(&damaged, bytes).unwrap();
    std::fs::write(dir.path().join("none-000001.pcapng"), "this is none").unwrap();
    std::fs::write(dir.path().join("empty-000001.pcapng"), "").unwrap();
    std::fs::create_dir(dir.path().join("directory-000001.pcapng")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("link-000001.pcapng")).unwrap();
    let (files, picked) = pick(dir.path(), "x");
    assert_eq!(files.len(), 3);
    assert_eq!(files.iter().map(|(_, file)| read(file).frames.len() as u64).sum::<u64>(), picked.frames);
    assert!((30..60).contains(&picked.frames), "{picked:?}");
    assert!(picked.unread >= 3, "{picked:?}");
}

#[test]
fn what_becomes_of_captures_between_the_two_readings_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Whether one is compressed meanwhile is a matter of time, and another test's.
    let limits = CaptureLimits { compress: false, ..limits() };
    let (mut captures, wire) = (CaptureSet::open(dir.path(), limits).unwrap(), source("wan", "eth1"));
    let mut second = 10;
    let mut go_on = |captures: &mut CaptureSet| {
        for _ in 0..40 {
            captures.frame(&wire, second * SECOND, Direction::In, 60, &v4(A, B, 0, 1));
            second += 1;
        }
        captures.flush(0);
    };
    go_on(&mut captures);
    let wanted = wanted();
    let (mut selections, picked) = select(dir.path(), &wanted, "x").unwrap();
    let selection = selections.pop().unwrap();
    let octets = selection.octets;
    go_on(&mut captures);
    let first = dir.path().join("wan-000001.pcapng");
    std::fs::remove_file(&first).unwrap();
    std::fs::write(&first, "another").unwrap();
    let mut out = Vec::new();
    selection.write(&mut out).unwrap();
    assert_eq!((out.len() as u64, read(&out).frames.len() as u64, picked.frames), (octets, 40, 40));
}

#[test]
fn captures_that_do_not_stay_open_are_read_as_far_as_the_first_time() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { compress: false, ..CaptureLimits::default() };
    let write = |series: &str, frames: u64| {
        let mut captures = CaptureSet::open(dir.path(), limits).unwrap();
        for second in 0..frames {
            captures.frame(&source(series, series), (20 + second) * SECOND, Direction::In, 60, &v4(A, B, 0, 1));
        }
        captures.close_all();
        std::fs::read(dir.path().join(format!("{series}-000001.pcapng"))).unwrap()
    };
    // All frames there are, of which only a part is in the files when they are read first, in the middle of a block.
    let whole = write("whole", 20);
    let cut = whole.len() / 2 + 1;
    std::fs::remove_file(dir.path().join("whole-000001.pcapng")).unwrap();
    let path = |number: usize| dir.path().join(format!("wan-{number:06}.pcapng"));
    let last = KEPT + 2;
    for number in 1..=last {
        std::fs::write(path(number), if number <= KEPT { &whole } else { &whole[..cut] }).unwrap();
    }
    let wanted = wanted();
    let (mut selections, picked) = select_within(dir.path(), &wanted, "x", KEPT).unwrap();
    let selection = selections.pop().unwrap();
    let octets = selection.octets;
    assert_eq!(picked.captures, last as u64);
    // One of them is written on, another is over and compressed. The oldest go.
    std::fs::write(path(last), &whole).unwrap();
    std::fs::write(packed(&path(last - 1)), zstd::encode_all(&whole[..], 3).unwrap()).unwrap();
    std::fs::remove_file(path(last - 1)).unwrap();
    (1..=9).for_each(|number| std::fs::remove_file(path(number)).unwrap());
    let mut out = Vec::new();
    selection.write(&mut out).unwrap();
    assert_eq!((out.len() as u64, read(&out).frames.len() as u64), (octets, picked.frames));
}

#[test]
fn the_oldest_captures_of_each_device_may_be_deleted_between_the_two_readings() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { compress: false, ..CaptureLimits::default() };
    let path = |series: &str, number: usize| dir.path().join(format!("{series}-{number:06}.pcapng"));
    let write = |series: &str, numbers: std::ops::RangeInclusive<usize>, at: u64| {
        let mut captures = CaptureSet::open(dir.path(), limits).unwrap();
        captures.frame(&source(series, series), at, Direction::In, 60, &v4(A, B, 0, 1));
        captures.count_ring_lost(1);
        captures.close_all();
        let octets = std::fs::read(path(series, *numbers.start())).unwrap();
        numbers.for_each(|number| std::fs::write(path(series, number), &octets).unwrap());
    };
    let last = KEPT + 50;
    write("first", 1..=last, 20 * SECOND);
    // The oldest of another are from before the session, and need no descriptor.
    write("second", 1..=KEPT, SECOND);
    write("second", KEPT + 1..=2 * KEPT, 20 * SECOND);
    let wanted = wanted();
    let (selections, picked) = select_within(dir.path(), &wanted, "x", KEPT).unwrap();
    assert_eq!((picked.captures, picked.frames), ((last + 2 * KEPT) as u64, (last + KEPT) as u64));
    (1..=KEPT / 2).for_each(|number| std::fs::remove_file(path("first", number)).unwrap());
    (1..=KEPT + KEPT / 2).for_each(|number| std::fs::remove_file(path("second", number)).unwrap());
    for (selection, (frames, lost)) in selections.into_iter().zip([(last, last), (KEPT, 2 * KEPT)]) {
        let (octets, mut out) = (selection.octets, Vec::new());
        selection.write(&mut out).unwrap();
        let read = read(&out);
        assert_eq!((out.len() as u64, read.frames.len()), (octets, frames));
        assert_eq!(read.drops, [(frames as u64, 0, lost as u64)]);
    }
}

#[test]
fn as_many_captures_stay_open_as_there_may_be_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let mut captures = CaptureSet::open(dir.path(), CaptureLimits { compress: false, ..limits() }).unwrap();
    captures.frame(&source("wan", "eth1"), 20 * SECOND, Direction::In, 60, &v4(A, B, 0, 1));
    captures.close_all();
    let path = |number: usize| dir.path().join(format!("wan-{number:06}.pcapng"));
    let octets = std::fs::read(path(1)).unwrap();
    let last = 2 * KEPT;
    (2..=last).for_each(|number| std::fs::write(path(number), &octets).unwrap());
    privileges::raise_descriptors();
    if privileges::descriptors() < 2 * last {
        println!("SKIPPED: no more than {} files may be open", privileges::descriptors());
        return;
    }
    let wanted = wanted();
    let (mut selections, _) = select(dir.path(), &wanted, "x").unwrap();
    (1..=last).for_each(|number| std::fs::remove_file(path(number)).unwrap());
    let mut out = Vec::new();
    selections.pop().unwrap().write(&mut out).unwrap();
    assert_eq!(read(&out).frames.len(), last);
}

#[test]
fn ends_of_frames() {
    let (a, b) = (IpAddr::from(A), IpAddr::from(B));
    for tags in 0..3 {
        assert_eq!(ends(&v4(A, B, tags, 0)), Some((a, b)));
    }
    assert_eq!(ends(&v4(A, B, 3, 0)), None);
    let mut arp = vec![0; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2]);
    arp.extend(A.iter().chain(&[0; 6]).chain(&B));
    assert_eq!(ends(&arp), Some((a, b)));
    let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let mut v6 = vec![0; 12];
    v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 58, 255]);
    v6.extend(src.octets().iter().chain(&dst.octets()));
    assert_eq!(ends(&v6), Some((src.into(), dst.into())));
    for frame in [v4(A, B, 0, 0), arp, v6] {
        for len in 0..34 {
            assert!(ends(&frame[..len]).is_none_or(|_| len >= 34), "{len}");
        }
    }
}

#[test]
fn pairs_are_bounded() {
    let mut pick = Pick::default();
    for number in 0..70_000u32 {
        pick.add(IpAddr::V4(number.into()), A.into());
        pick.add(A.into(), IpAddr::V4(number.into()));
    }
    assert_eq!((pick.pairs.len(), pick.more), (PAIRS, 2 * (70_000 - PAIRS as u64)));
}
