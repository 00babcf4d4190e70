use super::*;
use crate::event::{EventId, Utc};
use crate::record::{EventLog, LogLimits, Record};

fn utc(micros: i64) -> Utc {
    Utc::from_micros(micros)
}

fn write(log: &mut EventLog, records: u64) {
    for _ in 0..records {
        log.push(&mut Record::bare(0, utc(1), EventId::IcmpEcho));
        log.flush(utc(1));
    }
}

fn small(dir: &Path, total: u64) -> EventLog {
    let limits = LogLimits { file_bytes: 400, total_bytes: total, ..LogLimits::default() };
    EventLog::open(dir, limits, utc(0)).unwrap()
}

/// All that there is now: numbers of records, and how many were lost before which.
fn read(tail: &mut Tail) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    loop {
        match tail.read().unwrap() {
            Next::Record(seq, line) => {
                assert!(line.contains(&format!("\"seq\":{seq},")) && !line.contains('\n'), "{line}");
                records.push(seq);
            }
            Next::Lost(count, newest) => lost.push((count, newest)),
            Next::End => return (records, lost),
        }
    }
}

#[test]
fn records_come_in_order_across_files_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = small(dir.path(), 1 << 20);
    let mut tail = Tail::after(dir.path(), 0);
    assert_eq!(read(&mut tail), (vec![], vec![]));
    let mut expected = Vec::new();
    for step in 1..40u64 {
        write(&mut log, step % 7);
        expected.extend((expected.len() as u64 + 1..).take((step % 7) as usize));
        let (records, lost) = read(&mut tail);
        assert!(lost.is_empty() && expected.ends_with(&records) && records.len() as u64 == step % 7, "{step}");
    }
    assert!(rotated_files(dir.path()).unwrap().len() > 5);
    // From any place on.
    for after in 0..expected.len() {
        let (records, lost) = read(&mut Tail::after(dir.path(), after as u64));
        assert_eq!((records.as_slice(), lost.len()), (&expected[after..], 0), "{after}");
    }
}

#[test]
fn who_begins_to_watch_sees_what_is_added_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = small(dir.path(), 1200);
    let mut first = Tail::new(dir.path()).unwrap();
    let seen = |tail: &mut Tail| {
        let mut seen = Vec::new();
        tail.look(|line| seen.push(seq(line).unwrap())).unwrap();
        seen
    };
    assert_eq!(seen(&mut first), [0; 0]);
    write(&mut log, 3);
    let mut second = Tail::new(dir.path()).unwrap();
    assert_eq!((seen(&mut first), seen(&mut second)), (vec![1, 2, 3], vec![]));
    // Of more than is kept, what is still there.
    write(&mut log, 200);
    let (first, second) = (seen(&mut first), seen(&mut second));
    let newest = log.next_seq() - 1;
    assert!(first.len() < 200 && first.last() == Some(&newest) && first == second, "{first:?} {second:?}");
    // As it is rotated, too, and tells of what it deletes.
    for _ in 0..20 {
        let (mut tail, next) = (Tail::new(dir.path()).unwrap(), log.next_seq());
        write(&mut log, 1);
        assert_eq!(seen(&mut tail), (next..log.next_seq()).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_deleted_before_it_was_read_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = small(dir.path(), 1200);
    write(&mut log, 2);
    let mut tail = Tail::after(dir.path(), 0);
    assert_eq!(tail.read().unwrap(), Next::Record(1, read_line(dir.path(), 1)));
    write(&mut log, 100);
    let newest = log.next_seq() - 1;
    let oldest = rotated_files(dir.path()).unwrap()[0].first_seq;
    // The file that it had begun is read to its end, what was between is lost.
    let (records, lost) = read(&mut tail);
    assert_eq!(lost.len(), 1, "{lost:?}");
    let (count, before) = lost[0];
    assert_eq!(before, oldest - 1);
    assert_eq!(records.len() as u64 + count, newest - 1);
    assert_eq!(records.last(), Some(&newest));
    // And who comes later finds only the rest.
    let (records, lost) = read(&mut Tail::after(dir.path(), 3));
    assert_eq!((records[0], lost), (oldest, vec![(oldest - 4, oldest - 1)]));
}

fn read_line(dir: &Path, seq: u64) -> String {
    let found = crate::record::search(dir, &Filter::default(), 1000).unwrap();
    found.into_iter().find(|line| Filter::default().matches(line) == Some(seq)).unwrap()
}

#[test]
fn half_a_line_waits_for_its_rest_and_nonsense_is_passed_over() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CURRENT);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let line = |seq| format!("{{\"v\":1,\"seq\":{seq},\"event\":\"gap\"}}\n");
    let mut tail = Tail::after(dir.path(), 0);
    file.write_all(&line(1).as_bytes()[..20]).unwrap();
    assert_eq!(read(&mut tail).0, [0; 0]);
    // The disk was full, and it is taken back and written again.
    file.set_len(0).unwrap();
    file.write_all(line(1).as_bytes()).unwrap();
    assert_eq!(read(&mut tail).0, [1]);
    file.write_all(b"\xff\xfe\nnonsense\n{\"seq\":\"x\"}\n").unwrap();
    file.write_all(line(2).as_bytes()).unwrap();
    // A jump within a file is told by a record of its own.
    file.write_all(line(9).as_bytes()).unwrap();
    assert_eq!(read(&mut tail), (vec![2, 9], vec![]));
}

#[test]
fn a_log_that_is_not_there_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut tail = Tail::after(&dir.path().join("events"), 0);
    assert!(tail.read().is_err());
    let mut tail = Tail::after(dir.path(), 5);
    assert_eq!(tail.read().unwrap(), Next::End);
}
