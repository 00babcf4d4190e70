use std::collections::VecDeque;
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::*;
use crate::sys::eventfd::wait_readable;

fn ring(size: usize) -> (RingFds, RingWriter, RingReader) {
    let fds = create(c"honeyweave-test", size).unwrap();
    let writer = RingWriter::open(fds.try_clone().unwrap()).unwrap();
    let reader = RingReader::open(fds.try_clone().unwrap()).unwrap();
    (fds, writer, reader)
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u64>, Vec<u8>),
    Pop,
    ReplaceWriter,
    ReplaceReader,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (prop::collection::vec(any::<u64>(), 0..8), prop::collection::vec(any::<u8>(), 0..1200));
    let step = prop_oneof![
        6 => push.prop_map(|(words, data)| Step::Push(words, data)),
        5 => Just(Step::Pop),
        1 => Just(Step::ReplaceWriter),
        1 => Just(Step::ReplaceReader),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What goes in comes out whole and in order, whoever dies in between; what does not fit is counted.
    #[test]
    fn is_a_queue_of_records(steps in steps()) {
        let (fds, mut writer, mut reader) = ring(4096);
        let (mut model, mut used, mut lost) = (VecDeque::new(), 0, 0);
        let mut record = Vec::new();
        for step in steps {
            match step {
                Step::Push(words, data) => {
                    let mut whole: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    whole.extend_from_slice(&data);
                    let size = 8 + whole.len().next_multiple_of(8);
                    let fits = used + size <= 4096;
                    prop_assert_eq!(writer.push(&words, &data), fits);
                    if fits {
                        used += size;
                        model.push_back(whole);
                    } else {
                        lost += 1;
                    }
                }
                Step::Pop => match model.pop_front() {
                    Some(expected) => {
                        prop_assert!(reader.pop(&mut record));
                        prop_assert_eq!(&record, &expected);
                        used -= 8 + expected.len().next_multiple_of(8);
                    }
                    None => prop_assert!(!reader.pop(&mut record)),
                },
                Step::ReplaceWriter => writer = RingWriter::open(fds.try_clone().unwrap()).unwrap(),
                Step::ReplaceReader => reader = RingReader::open(fds.try_clone().unwrap()).unwrap(),
            }
            prop_assert_eq!((reader.lost(), writer.lost()), (lost, lost));
        }
    }

    /// A hostile writer may write anything anywhere: the reader neither panics nor hangs nor reads beyond the ring.
    #[test]
    fn survives_a_hostile_writer(head in any::<u64>(), tail in any::<u64>(), words in prop::collection::vec(any::<u64>(), 16)) {
        let (fds, writer, _) = ring(4096);
        let shared = writer.map.shared();
        shared.tail.0.store(tail, Ordering::Relaxed);
        let mut reader = RingReader::open(fds).unwrap();
        shared.head.0.store(if head % 3 == 0 { tail.wrapping_add(head % 5000) } else { head }, Ordering::Relaxed);
        for (i, word) in words.iter().enumerate() {
            writer.map.data()[i].store(if word % 2 == 0 { word % 300 } else { *word }, Ordering::Relaxed);
        }
        let mut record = Vec::new();
        for _ in 0..1000 {
            if reader.pop(&mut record) {
                prop_assert!(record.len() <= 4096);
            }
        }
        prop_assert!(!reader.pop(&mut record));
    }
}

#[test]
fn a_reader_without_sense_does_not_stop_the_writer() {
    let (_fds, mut writer, _reader) = ring(4096);
    writer.map.shared().tail.0.store(u64::MAX - 7, Ordering::Relaxed);
    assert!(writer.push(&[], b"x"));
    writer.map.shared().tail.0.store(1 << 40, Ordering::Relaxed);
    // It is asked when the ring seems to be full.
    let pushed = (0..1000).filter(|_| writer.push(&[], b"x")).count();
    assert_eq!((pushed, writer.lost()), (4096 / 16 - 1, 1000 - (4096 / 16 - 1)));
}

#[test]
fn refuses_what_is_no_ring() {
    let wake = || EventFd::new().unwrap().into_fd();
    let memory = crate::sys::memory::sealed(c"honeyweave-test", &[0; 10]).unwrap();
    assert!(RingReader::open(RingFds { memory, wake: wake() }).is_err());
    let shrinkable = rustix::fs::memfd_create(c"honeyweave-test", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&shrinkable, (HEADER + 4096) as u64).unwrap();
    assert!(RingReader::open(RingFds { memory: shrinkable, wake: wake() }).is_err());
}

#[test]
fn two_threads_agree_and_the_reader_sleeps() {
    const RECORDS: u64 = 200_000;
    let (_fds, mut writer, mut reader) = ring(1 << 16);
    let pushing = std::thread::spawn(move || {
        let mut pushed = 0u64;
        while pushed < RECORDS {
            let len = (pushed % 100) as usize;
            if writer.push(&[pushed], &[pushed as u8; 100][..len]) {
                pushed += 1;
                if pushed.is_multiple_of(3) || pushed == RECORDS {
                    writer.wake();
                }
            } else {
                writer.wake();
                std::thread::yield_now();
            }
        }
    });
    let (mut record, mut seen, mut slept) = (Vec::new(), 0u64, 0);
    while seen < RECORDS {
        if reader.pop(&mut record) {
            assert_eq!(record[..8], seen.to_le_bytes());
            assert_eq!(record.len() as u64, 8 + seen % 100);
            assert!(record[8..].iter().all(|b| *b == seen as u8));
            seen += 1;
        } else if reader.prepare_sleep() {
            slept += 1;
            // A wake-up that got lost would time out here.
            assert_eq!(wait_readable(&[reader.wake_fd().as_fd()], 20_000_000).unwrap(), 1, "after {seen}");
            reader.awake();
        }
    }
    pushing.join().unwrap();
    assert!(slept > 0);
}

/// A real process is killed while it writes as fast as it can; what it leaves is whole, and the next writer goes on.
#[test]
fn a_writer_killed_in_the_middle_leaves_whole_records() {
    for round in 0..20u64 {
        let (_fds, mut writer, mut reader) = ring(1 << 14);
        // SAFETY: the child calls nothing that allocates or takes a lock: it pushes until it is killed.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let mut n = 0u64;
            loop {
                let bytes = [n as u8; 509];
                if writer.push(&[n], &bytes[..(n % 509) as usize]) {
                    n += 1;
                }
            }
        }
        let (mut record, mut seen) = (Vec::new(), 0u64);
        let mut check = |record: &[u8]| {
            assert_eq!(record[..8], seen.to_le_bytes());
            assert_eq!(record.len() as u64, 8 + seen % 509);
            assert!(record[8..].iter().all(|b| *b == seen as u8));
            seen += 1;
            seen
        };
        let deadline = crate::sys::clock::monotonic_micros() + 20_000_000;
        loop {
            assert!(crate::sys::clock::monotonic_micros() < deadline);
            if reader.pop(&mut record) && check(&record) > 500 + round * 37 {
                break;
            }
        }
        // SAFETY: our own child, which has not been waited for.
        unsafe {
            assert_eq!(libc::kill(child, libc::SIGKILL), 0);
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
        while reader.pop(&mut record) {
            check(&record);
        }
        assert!(writer.push(&[], b"next"));
        assert!(reader.pop(&mut record));
        assert_eq!(record, b"next");
    }
}

#[test]
fn what_was_read_but_not_released_is_met_again() {
    let (fds, mut writer, mut reader) = ring(4096);
    let again = fds.try_clone().unwrap();
    assert!(writer.push(&[], b"one") && writer.push(&[], b"two"));
    let mut record = Vec::new();
    assert!(reader.read(&mut record) && reader.read(&mut record) && !reader.read(&mut record));
    assert!(reader.prepare_sleep(), "nothing is left to read");
    drop(reader);
    let mut next = RingReader::open(again).unwrap();
    assert!(next.read(&mut record));
    assert_eq!(record, b"one");
    next.release();
    assert!(next.read(&mut record));
    assert_eq!(record, b"two");
    let mut third = RingReader::open(fds).unwrap();
    assert!(third.pop(&mut record));
    assert_eq!(record, b"two");
}

#[test]
fn losses_are_told_once_even_across_readers() {
    let (fds, mut writer, mut reader) = ring(4096);
    while writer.push(&[], &[0; 100]) {}
    assert_eq!(reader.untold(), 1);
    reader.tell(1);
    writer.count_lost(5);
    drop(reader);
    let reader = RingReader::open(fds).unwrap();
    assert_eq!((reader.untold(), reader.lost()), (5, 6));
}
