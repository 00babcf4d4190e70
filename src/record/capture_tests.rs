use crate::event::Utc;
use std::process::Command;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::prelude::*;

use super::*;
use crate::record::small_disk;
use crate::sys::clock;

pub(super) const NOW: u64 = 1_700_000_000_123_456_789;

pub(super) fn source(name: &str) -> CaptureSource {
    CaptureSource { series: name.into(), interface: format!("if-{name}"), about: "an interface of a test".into() }
}

pub(super) fn plain() -> CaptureLimits {
    CaptureLimits { compress: false, ..CaptureLimits::default() }
}

/// An ARP request, padded.
pub(super) fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame.resize(60, 0);
    frame
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn reads_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.frame(&source("wan"), NOW + 1, Direction::Out, 9000, &arp());
    set.count_ring_lost(5);
    set.close_all();
    assert_eq!(set.stats().frames, 2);

    let bytes = fs::read(dir.path().join("wan-000001.pcapng")).unwrap();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    let Block::InterfaceDescription(interface) = &blocks[0] else { panic!("{:?}", blocks[0]) };
    assert!(interface.options.contains(&InterfaceDescriptionOption::IfName("if-wan".into())));
    assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
    for (at, (nanos, flag, original)) in [(NOW, 1, 60), (NOW + 1, 2, 9000)].into_iter().enumerate() {
        let Block::EnhancedPacket(packet) = &blocks[1 + at] else { panic!("{:?}", blocks[1 + at]) };
        assert_eq!(packet.timestamp.as_nanos() as u64, nanos);
        assert_eq!(packet.options, [EnhancedPacketOption::Flags(flag)]);
        assert_eq!(packet.original_len, original);
        assert_eq!(*packet.data, arp());
    }
    let Block::InterfaceStatistics(statistics) = &blocks[3] else { panic!("{:?}", blocks[3]) };
    for option in [
        InterfaceStatisticsOption::IsbIfRecv(2),
        InterfaceStatisticsOption::IsbIfDrop(0),
        InterfaceStatisticsOption::IsbOsDrop(5),
        InterfaceStatisticsOption::IsbStartTime(NOW),
        InterfaceStatisticsOption::IsbEndTime(NOW + 1),
    ] {
        assert!(statistics.options.contains(&option), "{option:?}");
    }
    assert_eq!(blocks.len(), 4);
    // The format has the high half of a time first: 4 octets behind type, length and interface.
    let length = u32::from_be_bytes(*bytes.last_chunk().unwrap()) as usize;
    let raw: [u8; 8] = bytes[bytes.len() - length + 12..][..8].try_into().unwrap();
    assert_eq!(u64::from_be_bytes(raw), NOW + 1);
}

#[test]
fn tcpdump_reads_it_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    for at in 0..1000 {
        set.frame(&source("wan"), NOW + at, Direction::In, 60, &arp());
    }
    set.flush(NOW);
    for closed in [false, true] {
        if closed {
            set.close_all();
        }
        let output = Command::new("tcpdump")
            .args(["-n", "-tt", "--time-stamp-precision=nano", "-r"])
            .arg(dir.path().join("wan-000001.pcapng"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.lines().count(), 1000);
        let line = said.lines().nth(1).unwrap();
        assert!(line.starts_with("1700000000.123456790 ") && line.contains("who-has 10.0.0.2 tell 10.0.0.1"), "{line}");
    }
}

#[test]
fn a_series_is_bounded_and_its_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { file_bytes: 1000, series_bytes: 4500, ..plain() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    for at in 0..100 {
        set.frame(&source("wan"), NOW + at, Direction::In, 60, &arp());
    }
    set.frame(&source("other"), NOW, Direction::In, 60, &arp());
    set.close_all();
    let of_wan = || names(dir.path()).into_iter().filter(|name| name.starts_with("wan")).collect::<Vec<_>>();
    let left = of_wan();
    let bytes: u64 = left.iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert!((3000..=4500).contains(&bytes), "{bytes} {left:?}");
    let last = names::parse(left.last().unwrap()).unwrap().1;
    assert_eq!(set.stats().deleted, last - left.len() as u64);
    assert_eq!(names(dir.path()).len(), left.len() + 1, "another series stays as it is");
    let told = set.take_deleted();
    assert_eq!((told.len(), told[0].files), (1, set.stats().deleted));
    let reason = &told[0].reason;
    assert!(reason.starts_with("limit: those of its device exceeded 4500 octets; "), "{reason}");
    assert!(reason.ends_with("the oldest was wan-000001.pcapng"), "{reason}");
    assert_eq!(set.take_deleted(), []);
    drop(set);

    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.close_all();
    assert_eq!(names::parse(of_wan().last().unwrap()), Some(("wan", last + 1, false)));
}

#[test]
fn all_together_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { total_files: 10, open_files: 4, ..plain() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    for number in 0..100 {
        let nanos = NOW + number * 60_000_000_000;
        set.frame(&source(&format!("c{number:03}")), nanos, Direction::In, 60, &arp());
        assert!(set.open.len() <= 5);
        assert!(names(dir.path()).len() <= 11);
    }
    set.close_all();
    let expected: Vec<String> = (90..100).map(|number| format!("c{number:03}-000001.pcapng")).collect();
    assert_eq!(names(dir.path()), expected);

    let limits = CaptureLimits { total_bytes: 1500, ..limits };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    let left: u64 = names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert!(left <= 1500 && left > 0, "{left}");
    assert!(set.stats().deleted > 0);
    let told = set.take_deleted();
    assert!(told[0].reason.starts_with("limit: all exceeded 1500 octets; "), "{told:?}");
    assert_eq!(told[0].files, set.stats().deleted);
}

#[test]
fn an_idle_file_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), plain()).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.flush(NOW + 599_000_000_000);
    assert_eq!(set.open.len(), 1);
    set.flush(NOW + 600_000_000_000);
    assert_eq!(set.open.len(), 0);
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.close_all();
    assert_eq!(names(dir.path()), ["wan-000001.pcapng", "wan-000002.pcapng"]);
}

#[test]
fn a_directory_that_goes_away_costs_frames_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("pcap");
    fs::create_dir(&inner).unwrap();
    let mut set = CaptureSet::open(&inner, CaptureLimits::default()).unwrap();
    fs::remove_dir(&inner).unwrap();
    for at in 0..10 {
        set.frame(&source("wan"), NOW + at, Direction::In, 60, &arp());
    }
    assert_eq!(set.stats().dropped, 10);
    assert!(set.stats().failing.is_some());
    fs::create_dir(&inner).unwrap();
    set.frame(&source("wan"), NOW + 2_000_000_000, Direction::In, 60, &arp());
    set.flush(NOW + 2_000_000_000);
    assert_eq!((set.stats().frames, set.stats().failing.as_deref()), (1, None));
}

#[test]
fn a_disk_is_said_to_fail_until_it_has_taken_something() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.failed(&io::Error::from(io::ErrorKind::StorageFull));
    // Neither a frame that is only gathered nor a series without any says that there is room again.
    set.frame(&source("wan"), NOW + 1, Direction::In, 60, &arp());
    assert!(set.stats().failing.is_some());
    set.flush(NOW + 1);
    assert_eq!(set.stats().failing, None);
    set.failed(&io::Error::from(io::ErrorKind::StorageFull));
    set.flush(NOW + 2);
    assert!(set.stats().failing.is_some());
}

fn tcp(src: [u8; 4], dst: [u8; 4], payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src, dst, 64)
        .tcp(40_000, 22, 1, 512)
        .write(&mut bytes, &vec![7; payload])
        .unwrap();
    bytes
}

#[test]
fn a_file_is_followed_by_the_next_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { age_secs: 100, ..plain() }).unwrap();
    let second = 1_000_000_000;
    for at in 0..250 {
        set.frame(&source("wan"), NOW + at * second, Direction::In, 60, &arp());
    }
    assert_eq!(names(dir.path()).len(), 3);
    // Without a frame, too.
    set.flush(NOW + 299 * second);
    assert_eq!(set.open.len(), 1);
    set.flush(NOW + 300 * second);
    assert_eq!(set.open.len(), 0);
}

#[test]
fn what_is_too_old_goes_and_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { age_secs: 100, ..plain() }).unwrap();
    let second = 1_000_000_000;
    for at in 0..250 {
        set.frame(&source("wan"), NOW + at * second, Direction::In, 60, &arp());
    }
    set.flush(NOW + 300 * second);
    for (number, secs) in [(1, 1_000), (2, 2_000)] {
        let path = dir.path().join(format!("wan-{number:06}.pcapng"));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    set.forget(Utc::from_micros(2_000_000_000));
    assert_eq!(names(dir.path()), ["notes.txt", "wan-000002.pcapng", "wan-000003.pcapng"]);
    let told = set.take_deleted();
    assert!(told.len() == 1 && told[0].files == 1 && told[0].reason.starts_with("retention: "), "{told:?}");
    set.forget(Utc::from_micros(2_000_000_000));
    assert_eq!(set.take_deleted(), []);
}

/// Flushes until `what` is so.
fn until(set: &mut CaptureSet, what: impl Fn(&CaptureSet) -> bool) {
    let end = clock::monotonic_micros() + 60_000_000;
    while !what(set) {
        assert!(clock::monotonic_micros() < end, "{:?}", set.stats());
        set.flush(NOW);
        std::thread::yield_now();
    }
}

#[test]
fn what_is_over_is_compressed_and_counts_as_it_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { file_bytes: 100_000, total_bytes: 1 << 20, ..CaptureLimits::default() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    for at in 0..6000 {
        set.frame(&source("wan"), NOW + at, Direction::In, 60, &arp());
    }
    set.close_all();
    let files = names(dir.path()).len();
    assert!(files > 5);
    until(&mut set, |set| set.stats().compressed == files as u64);
    let left = names(dir.path());
    assert!(left.iter().all(|name| name.ends_with(".pcapng.zst")), "{left:?}");
    let on_disk: u64 = left.iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert_eq!(set.kept.iter().map(|file| file.bytes).sum::<u64>(), on_disk);
    assert_eq!(set.compressor.as_ref().unwrap().octets(), 0);
    assert!(on_disk < 200_000, "{on_disk}");

    // Others read it.
    let first = dir.path().join(&left[0]);
    let output = Command::new("tshark").args(["-n", "-r"]).arg(&first).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.lines().count() > 500 && said.contains("Who has 10.0.0.2"), "{output:?}");
    let output = Command::new("capinfos").arg("-c").arg(&first).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let unpacked = Command::new("zstdcat").arg(&first).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert!(PcapNgReader::new(&unpacked.stdout[..]).is_ok());

    // Those of an earlier run count, and are numbered on.
    drop(set);
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { total_bytes: on_disk / 2, ..limits }).unwrap();
    assert!(set.stats().deleted > 0);
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.close_all();
    assert!(names(dir.path()).contains(&format!("wan-{:06}.pcapng", files + 1)));
}

#[test]
fn a_crash_leaves_no_half_of_a_capture() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let mut set = CaptureSet::open(dir.path(), plain()).unwrap();
    for name in ["a", "b"] {
        set.frame(&source(name), NOW, Direction::In, 60, &arp());
    }
    drop(set);
    let whole = fs::read(dir.path().join("b-000001.pcapng")).unwrap();
    // One process died while it compressed, another between naming the one and deleting the other.
    write(".a-000001.pcapng.zst.half", b"half of it");
    write("b-000001.pcapng.zst", &zstd::encode_all(&whole[..], 1).unwrap());
    write(".somebody-elses.half", b"");
    let two = captures(dir.path()).unwrap();
    assert_eq!(two.iter().map(|(series, _)| series.as_str()).collect::<Vec<_>>(), ["a", "b"], "each once");
    drop(CaptureSet::open(dir.path(), plain()).unwrap());
    assert_eq!(names(dir.path()), [".somebody-elses.half", "a-000001.pcapng", "b-000001.pcapng.zst"]);
    // What nobody has compressed yet is compressed now.
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    until(&mut set, |set| set.stats().compressed == 1);
    assert_eq!(names(dir.path()), [".somebody-elses.half", "a-000001.pcapng.zst", "b-000001.pcapng.zst"]);
}

#[test]
fn what_was_deleted_meanwhile_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.close_all();
    set.hand_over();
    let end = clock::monotonic_micros() + 60_000_000;
    while set.compressor.as_ref().unwrap().octets() == 0 {
        assert!(clock::monotonic_micros() < end);
        std::thread::yield_now();
    }
    set.limits.total_bytes = 0;
    set.prune();
    assert_eq!(set.stats().deleted, 1);
    until(&mut set, |set| set.compressor.as_ref().unwrap().octets() == 0);
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(set.stats().compressed, 0);
}

#[test]
fn of_a_long_flow_the_headers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits { flow_bytes: 100_000, ..plain() }).unwrap();
    let (long, other) = (tcp([10, 0, 0, 1], [10, 0, 0, 2], 1400), tcp([10, 0, 0, 3], [10, 0, 0, 2], 1400));
    for at in 0..1000 {
        set.frame(&source("wan"), NOW + at, Direction::In, long.len() as u32, &long);
    }
    set.frame(&source("wan"), NOW + 1000, Direction::In, other.len() as u32, &other);
    set.frame(&source("lan"), NOW + 1000, Direction::In, long.len() as u32, &long);
    set.close_all();
    let stats = set.stats();
    assert!((920..=935).contains(&stats.cut), "{stats:?}");
    assert_eq!((stats.frames, stats.whole), (1002, 1002 - stats.cut));
    let len = long.len() as u64;
    assert_eq!((stats.octets, stats.octets_whole), (1002 * len, stats.whole * len));
    let bytes = fs::read(dir.path().join("wan-000001.pcapng")).unwrap();
    assert!(bytes.len() < 100_000 + 1000 * (HEADERS + 64), "{}", bytes.len());
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut kept, mut said) = (Vec::new(), String::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => kept.push((packet.original_len as usize, packet.data.len())),
            Block::InterfaceStatistics(statistics) => said = format!("{statistics:?}"),
            _ => {}
        }
    }
    assert_eq!(kept.len(), 1001);
    assert!(kept.iter().all(|(original, _)| *original == long.len()));
    assert_eq!((kept[0].1, kept[999].1, kept[1000].1), (long.len(), HEADERS, other.len()));
    assert!(said.contains(&format!("of {} frames only the headers", set.stats().cut)), "{said}");
}

#[test]
fn a_file_ends_with_the_sessions_that_are_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), plain()).unwrap();
    let time = NOW / 1000;
    for (session, attacker, at) in [("0000000000000abc", "192.0.2.9", time), ("0000000000000def", "192.0.2.8", time)] {
        let text = format!(
            r#"{{"v":1,"seq":0,"time":"{}","event":"tcp.open","session":"{session}","src":{{"ip":"{attacker}","port":40000}},"dst":{{"ip":"10.0.0.1","port":22}},"proto":"tcp"}}"#,
            crate::event::Utc::from_micros(at as i64),
        );
        set.contacts.add(&serde_json::from_str(&text).unwrap());
    }
    set.frame(&source("wan"), NOW, Direction::In, 100, &tcp([192, 0, 2, 9], [10, 0, 0, 1], 10));
    set.frame(&source("lan"), NOW, Direction::In, 100, &tcp([192, 0, 2, 7], [10, 0, 0, 1], 10));
    set.close_all();
    let text = |name: &str| String::from_utf8_lossy(&fs::read(dir.path().join(name)).unwrap()).into_owned();
    let wan = text("wan-000001.pcapng");
    assert!(wan.contains("sessions: 0000000000000abc") && !wan.contains("0000000000000def"), "{wan}");
    assert!(!text("lan-000001.pcapng").contains("sessions:"));
    let output = Command::new("capinfos").arg(dir.path().join("wan-000001.pcapng")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_full_disk_costs_the_oldest_first() {
    const TEST: &str = "record::capture::tests::a_full_disk_costs_the_oldest_first";
    let Some(disk) = small_disk::disk() else { return small_disk::run(TEST, "1m") };
    let mut set = CaptureSet::open(&disk, CaptureLimits { file_bytes: 200_000, ..plain() }).unwrap();
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1400);
    for at in 0..2000u64 {
        // 200 frames a second.
        let nanos = NOW + at * 5_000_000;
        set.frame(&source("wan"), nanos, Direction::In, frame.len() as u32, &frame);
        if at % 50 == 0 {
            set.flush(nanos);
        }
    }
    let told = set.take_deleted();
    assert_eq!(told.len(), 1);
    assert!(told[0].reason.starts_with("disk: it is full; ") && told[0].files >= 5, "{told:?}");
    assert!(told[0].reason.ends_with("the oldest was wan-000001.pcapng"), "{told:?}");
    set.close_all();
    assert!(!names(&disk).contains(&"wan-000001.pcapng".to_owned()));
    assert!(set.stats().frames > 1500, "{:?}", set.stats());
}

proptest! {
    #[test]
    fn names_are_safe_and_distinct(a: String, b: String) {
        let (safe_a, safe_b) = (names::safe(&a), names::safe(&b));
        prop_assert!(safe_a.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)));
        prop_assert!(!safe_a.starts_with(['.', '-']) && !safe_a.is_empty() && safe_a.len() < 128);
        prop_assert_eq!(a == b, safe_a == safe_b);
        let file = format!("{safe_a}-000001.pcapng");
        prop_assert_eq!(names::parse(&file), Some((safe_a.as_str(), 1, false)));
        let path = Path::new("/x").join(&file);
        let packed = packed(&path);
        prop_assert_eq!(names::parse(packed.file_name().unwrap().to_str().unwrap()), Some((safe_a.as_str(), 1, true)));
        let half = names::half(&path);
        let half = half.file_name().unwrap().to_str().unwrap();
        prop_assert!(names::is_half(half) && names::parse(half).is_none() && !names::is_half(&file));
    }

    #[test]
    fn any_frames_make_a_readable_file(frames in proptest::collection::vec(
        (0u64..u64::MAX, any::<bool>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..2000)), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut set = CaptureSet::open(dir.path(), CaptureLimits { age_secs: u64::MAX, ..plain() }).unwrap();
        for (nanos, inward, original, bytes) in &frames {
            let direction = if *inward { Direction::In } else { Direction::Out };
            set.frame(&source("x"), *nanos, direction, *original, bytes);
        }
        set.close_all();
        let bytes = fs::read(dir.path().join("x-000001.pcapng")).unwrap();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut read = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                read.push((packet.timestamp.as_nanos() as u64, packet.data.to_vec()));
            }
        }
        let written: Vec<_> = frames.into_iter().map(|(nanos, _, _, bytes)| (nanos, bytes)).collect();
        prop_assert_eq!(read, written);
    }
}
