use proptest::prelude::*;

use super::*;
use crate::record::{Filter, search, small_disk};

const NOW: i64 = 1_700_000_000_000_000;

fn utc(seconds: i64) -> Utc {
    Utc::from_micros(NOW + seconds * 1_000_000)
}

fn small(file_bytes: u64, total_bytes: u64) -> LogLimits {
    LogLimits { file_bytes, total_bytes, pending_bytes: 4096, sync_secs: 5, age_secs: None }
}

fn record() -> Record {
    Record::bare(0, utc(0), EventId::TcpOpen)
}

fn read(dir: &Path) -> Vec<Record> {
    let lines = search(dir, &Filter::default(), usize::MAX).unwrap();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn seqs(dir: &Path) -> Vec<u64> {
    read(dir).iter().map(|record| record.seq).collect()
}

#[test]
fn numbers_go_on_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
        assert_eq!(log.next_seq(), round * 2 + 1);
        log.push(&mut record());
        log.push(&mut record());
        log.flush(utc(0));
    }
    assert_eq!(seqs(dir.path()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_torn_line_is_cut_off_and_told() {
    for torn in ["{\"v\":1,\"seq\":3,\"ti", "\0\0\0\0\0\n\0\0", "{\"v\":1}\n", "\n"] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
        log.push(&mut record());
        log.push(&mut record());
        log.close(utc(0));
        drop(log);
        let path = dir.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(torn.as_bytes());
        fs::write(&path, bytes).unwrap();

        let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(9)).unwrap();
        log.push(&mut record());
        log.flush(utc(9));
        let records = read(dir.path());
        assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3, 4], "{torn:?}");
        assert_eq!(records[2].event, EventId::Gap);
        assert_eq!(records[2].time, utc(9));
        assert!(records[2].reason.as_deref().unwrap().starts_with("torn"));
        assert!(fs::read_to_string(&path).unwrap().lines().all(|l| serde_json::from_str::<Record>(l).is_ok()));
    }
}

#[test]
fn a_long_torn_tail_does_not_hide_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
    log.push(&mut record());
    log.close(utc(0));
    drop(log);
    let path = dir.path().join(CURRENT);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 300_000, 0);
    fs::write(&path, bytes).unwrap();
    let log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
    assert_eq!(log.next_seq(), 3);
    assert_eq!(seqs(dir.path()), [1, 2]);
}

#[test]
fn a_file_that_is_no_log_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CURRENT), "shopping: eggs\n").unwrap();
    let log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
    assert_eq!(log.next_seq(), 2);
    let aside = dir.path().join(format!("events.damaged-{}", utc(0).compact()));
    assert_eq!(fs::read_to_string(aside).unwrap(), "shopping: eggs\n");
    assert_eq!(read(dir.path())[0].event, EventId::Gap);
}

#[test]
fn a_link_or_directory_in_its_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.path().join(CURRENT)).unwrap();
    let error = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap_err();
    assert!(error.to_string().contains("events.ndjson: it is not a regular file"), "{error}");
    assert!(search(dir.path(), &Filter::default(), 1).is_err(), "readers do not follow it either");
    let error = EventLog::open(&dir.path().join("none"), LogLimits::default(), utc(0)).unwrap_err();
    assert!(error.to_string().starts_with("cannot list"), "{error}");
}

#[test]
fn rotates_by_size_and_deletes_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), small(1000, 4000), utc(0)).unwrap();
    let mut own = Vec::new();
    for _ in 0..200 {
        log.push(&mut record());
        own.extend(log.flush(utc(0)));
    }
    let files = rotated_files(dir.path()).unwrap();
    assert!(files.len() >= 2);
    assert!(files.iter().all(|file| file.bytes <= 1000), "{files:?}");
    assert!(files.iter().map(|file| file.bytes).sum::<u64>() <= 4000);
    assert!(files.iter().all(|file| first_seq(&file.path) == Some(file.first_seq)));

    let left = seqs(dir.path());
    assert!(left.windows(2).all(|pair| pair[1] == pair[0] + 1), "{left:?}");
    assert_eq!(*left.last().unwrap(), log.next_seq() - 1);
    let deleted: Vec<Record> = own.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(deleted.iter().all(|record| record.event == EventId::LogDeleted));
    let told: u64 = deleted.iter().map(|record| record.count.unwrap()).sum();
    assert_eq!(told, left[0] - 1, "what is gone is what was told");
}

#[test]
fn numbers_go_on_from_a_rotated_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), small(300, 1 << 20), utc(0)).unwrap();
    for _ in 0..20 {
        log.push(&mut record());
        log.flush(utc(0));
    }
    drop(log);
    fs::remove_file(dir.path().join(CURRENT)).unwrap();
    let last = *seqs(dir.path()).last().unwrap();
    let log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
    assert_eq!(log.next_seq(), last + 1);
}

#[test]
fn records_are_found_by_session_and_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), small(1000, 1 << 20), utc(0)).unwrap();
    for number in 0..100u64 {
        let id = [EventId::TcpOpen, EventId::TcpProbe, EventId::IcmpEcho][number as usize % 3];
        let mut record = Record::bare(0, utc(0), id);
        record.session = Some(crate::event::SessionId(1 + number % 2));
        log.push(&mut record);
        log.flush(utc(0));
    }
    let find = |session: Option<&str>, event: Option<&str>, last| {
        let filter = Filter { session: session.map(Into::into), event: event.map(Into::into), ..Filter::default() };
        search(dir.path(), &filter, last).unwrap().len()
    };
    assert_eq!(find(None, None, 10), 10);
    assert_eq!(find(None, None, 0), 0);
    assert_eq!(find(None, Some("tcp"), 1000), 67);
    assert_eq!(find(None, Some("tcp."), 1000), 67);
    assert_eq!(find(None, Some("tcp.open"), 1000), 34);
    assert_eq!(find(None, Some("tc"), 1000), 0);
    assert_eq!(find(Some("0000000000000001"), None, 1000), 50);
    assert_eq!(find(Some("0000000000000001"), Some("icmp.echo"), 1000), 17);
    assert_eq!(find(Some("1"), None, 1000), 0);
    let last: Vec<String> = search(dir.path(), &Filter::default(), 3).unwrap();
    assert_eq!(Filter::default().matches(&last[2]), Some(100));
    assert_eq!(Filter::default().matches(&last[0]), Some(98));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Cutting the file anywhere, and any bytes behind it, costs only what was cut.
    #[test]
    fn any_tail_is_repaired(cut in 0usize..1200, tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
        for _ in 0..10 {
            log.push(&mut record());
        }
        log.flush(utc(0));
        drop(log);
        let path = dir.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len().saturating_sub(cut));
        let whole = bytes.iter().filter(|b| **b == b'\n').count() as u64;
        bytes.extend_from_slice(&tail);
        fs::write(&path, &bytes).unwrap();
        let mut log = EventLog::open(dir.path(), LogLimits::default(), utc(0)).unwrap();
        log.push(&mut record());
        log.flush(utc(0));
        let seqs = seqs(dir.path());
        let expected: Vec<u64> = (1..).take(seqs.len()).collect();
        prop_assert_eq!(&seqs, &expected);
        prop_assert!(seqs.len() as u64 > whole);
    }
}

#[test]
fn a_log_that_is_deleted_is_begun_again_or_fails_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("events");
    fs::create_dir(&inner).unwrap();
    let mut log = EventLog::open(&inner, LogLimits::default(), utc(0)).unwrap();
    log.push(&mut record());
    log.flush(utc(0));
    fs::remove_file(inner.join(CURRENT)).unwrap();
    log.push(&mut record());
    log.flush(utc(0));
    assert_eq!(seqs(&inner), [2]);

    fs::remove_dir_all(&inner).unwrap();
    log.push(&mut record());
    log.flush(utc(1));
    assert!(log.stats().failing.is_some());
    assert_eq!(log.stats().records, 2);
    fs::create_dir(&inner).unwrap();
    log.push(&mut record());
    log.flush(utc(2));
    assert_eq!(log.stats().failing, None);
    assert_eq!(seqs(&inner), [3, 4]);
}

/// Runs the test below on a real disk of 64 KiB, in a mount namespace of its own.
#[test]
fn a_full_disk_is_a_gap_and_nothing_worse() {
    small_disk::run("record::log::tests::on_a_disk_of_64_kib", "64k");
}

/// Without a disk of its own, only that the one it is on is not full.
#[test]
fn on_a_disk_of_64_kib() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = small_disk::disk() else {
        let mut log = EventLog::open(dir.path(), small(1 << 20, 1 << 20), utc(0)).unwrap();
        log.push(&mut record());
        log.flush(utc(0));
        assert_eq!(log.stats().write_errors, 0);
        return;
    };
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    let mut log = EventLog::open(&disk, small(1 << 20, 1 << 20), utc(0)).unwrap();
    let mut now = 0;
    while log.stats().lost < 50 {
        log.push(&mut record());
        log.flush(utc(now));
        now += 1;
        assert!(now < 100_000, "the disk never got full");
    }
    assert!(log.stats().write_errors > 0);
    assert!(log.stats().failing.is_some() && log.is_disk_full());
    let on_disk = fs::read_to_string(disk.join(CURRENT)).unwrap();
    assert!(on_disk.ends_with('\n'), "half a line was left");
    let lost = log.stats().lost;

    // Before a second has passed it is not tried again, then it is.
    fs::remove_file(&ballast).unwrap();
    log.flush(utc(now - 1));
    assert!(log.stats().failing.is_some());
    let own = log.flush(utc(now + 1));
    assert_eq!((log.stats().failing.as_deref(), log.is_disk_full()), (None, false));
    let gap: Record = serde_json::from_str(&own[0]).unwrap();
    assert_eq!((gap.event, gap.count), (EventId::Gap, Some(lost)));
    assert!(gap.reason.unwrap().starts_with("disk"));
    log.push(&mut record());
    log.flush(utc(now + 1));

    let seqs = seqs(&disk);
    assert_eq!(*seqs.last().unwrap(), log.next_seq() - 1);
    assert_eq!(seqs.len() as u64 + lost, log.next_seq() - 1, "every record is there or in the gap");
    let jumps: Vec<u64> = seqs.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|n| *n > 0).collect();
    assert_eq!(jumps, [lost], "one gap, where the records are missing");
}

fn aged(days: u64) -> LogLimits {
    LogLimits { age_secs: Some(days * 86_400), ..LogLimits::default() }
}

/// Sets the time at which something was written last to each rotated file, in seconds.
fn written_at(dir: &Path, seconds: i64) {
    for file in rotated_files(dir).unwrap() {
        let time = std::time::SystemTime::from(utc(seconds));
        File::options().write(true).open(file.path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn records_go_by_whole_files_when_the_last_in_one_is_too_old() {
    const DAY: i64 = 86_400;
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), aged(8), utc(0)).unwrap();
    for day in 0..4 {
        log.push(&mut record());
        log.flush(utc(day * DAY));
        written_at(dir.path(), day * DAY);
    }
    assert_eq!(rotated_files(dir.path()).unwrap().len(), 3, "a file is written for a day");
    assert_eq!(seqs(dir.path()), [1, 2, 3, 4]);
    // Nobody adds anything, and yet they go.
    let own = log.flush(utc(11 * DAY + 1));
    assert_eq!(own.len(), 1, "{own:?}");
    let last = read(dir.path()).pop().unwrap();
    assert_eq!((last.event, last.count), (EventId::LogDeleted, Some(3)));
    assert!(last.reason.unwrap().starts_with("retention: "));
    // The fourth record is in a file that was rotated just now.
    assert_eq!(seqs(dir.path()), [4, 5]);
    drop(log);
    // What was written when is known after a restart, too.
    let mut log = EventLog::open(dir.path(), aged(8), utc(12 * DAY + 2)).unwrap();
    log.push(&mut record());
    log.flush(utc(12 * DAY + 3));
    assert_eq!(rotated_files(dir.path()).unwrap().len(), 2);
}

#[test]
fn a_clock_that_is_set_back_deletes_nothing_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::open(dir.path(), LogLimits { file_bytes: 1, ..aged(8) }, utc(0)).unwrap();
    for at in [0, -1_000_000, 5, -2_000_000_000, 6] {
        log.push(&mut record());
        assert_eq!(log.flush(utc(at)), Vec::<String>::new());
    }
    assert_eq!(seqs(dir.path()), [1, 2, 3, 4, 5]);
}
