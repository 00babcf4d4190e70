use std::process::Command;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000_123_456_789;

fn source(name: &str) -> CaptureSource {
    CaptureSource { series: name.into(), interface: format!("if-{name}"), about: "an interface of a test".into() }
}

/// An ARP request, padded.
fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame.resize(60, 0);
    frame
}

fn names(dir: &Path) -> Vec<String> {
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
    let limits = CaptureLimits { file_bytes: 1000, series_files: 3, ..CaptureLimits::default() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    for at in 0..100 {
        set.frame(&source("wan"), NOW + at, Direction::In, 60, &arp());
    }
    set.close_all();
    let deleted = set.stats().deleted;
    let left = names(dir.path());
    assert_eq!(left.len(), 3, "{left:?}");
    let last: u64 = parse_name(&left[2]).unwrap().1;
    assert_eq!(deleted, last - 3);

    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    set.frame(&source("wan"), NOW, Direction::In, 60, &arp());
    set.close_all();
    let left = names(dir.path());
    assert_eq!(parse_name(left.last().unwrap()), Some(("wan", last + 1)));
    assert_eq!(left.len(), 3);
}

#[test]
fn all_together_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CaptureLimits { total_files: 10, open_files: 4, ..CaptureLimits::default() };
    let mut set = CaptureSet::open(dir.path(), limits).unwrap();
    for number in 0..100 {
        set.frame(&source(&format!("c{number:03}")), NOW + number, Direction::In, 60, &arp());
        assert!(set.open.len() <= 4);
        assert!(names(dir.path()).len() <= 11);
    }
    set.close_all();
    let expected: Vec<String> = (90..100).map(|number| format!("c{number:03}-000001.pcapng")).collect();
    assert_eq!(names(dir.path()), expected);

    let limits = CaptureLimits { total_bytes: 1500, ..limits };
    let set = CaptureSet::open(dir.path(), limits).unwrap();
    let left: u64 = names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert!(left <= 1500 && left > 0, "{left}");
    assert!(set.stats().deleted > 0);
}

#[test]
fn an_idle_file_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
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

proptest! {
    #[test]
    fn names_are_safe_and_distinct(a: String, b: String) {
        let (safe_a, safe_b) = (safe_name(&a), safe_name(&b));
        prop_assert!(safe_a.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)));
        prop_assert!(!safe_a.starts_with(['.', '-']) && !safe_a.is_empty() && safe_a.len() < 128);
        prop_assert_eq!(a == b, safe_a == safe_b);
        let file = format!("{safe_a}-000001.pcapng");
        prop_assert_eq!(parse_name(&file), Some((safe_a.as_str(), 1)));
    }

    #[test]
    fn any_frames_make_a_readable_file(frames in proptest::collection::vec(
        (0u64..u64::MAX, any::<bool>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..2000)), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut set = CaptureSet::open(dir.path(), CaptureLimits::default()).unwrap();
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
