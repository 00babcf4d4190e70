//! Files of which something moves more than once.

use super::again::Parts;
use super::tests::{Packet, close, content, digest, files, handle, look, open, status, without_pieces, write};
use super::*;

const BLOCK: usize = 32_768;

fn read(id: u32, offset: usize, count: usize) -> Vec<u8> {
    Packet::new(5, id).string(b"h").long(offset as u64).word(count as u32).done()
}

fn data(id: u32, data: &[u8]) -> Vec<u8> {
    Packet::new(103, id).string(data).done()
}

fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i ^ (i >> 8)) as u8).collect()
}

/// What is told of a file that is opened with `flags`, in which these requests and answers move something, in pieces of
/// `size` octets.
fn told_of(flags: u32, moves: &[(Stream, Vec<u8>)], size: usize) -> Vec<Entry> {
    let mut observer = Observer::Sftp(Box::new(Sftp::new(files(u64::MAX))));
    let mut told = look(&mut observer, Stream::Input, &open(1, "there", flags), size);
    told.extend(look(&mut observer, Stream::Output, &handle(1, "h"), size));
    for (stream, packet) in moves {
        told.extend(look(&mut observer, *stream, packet, size));
    }
    told.extend(look(&mut observer, Stream::Input, &close(2, "h"), size));
    told.extend(look(&mut observer, Stream::Output, &status(2), size));
    assert!(!observer.is_blind());
    told
}

/// The end of that file, and its content as far as it is kept.
fn end_of(flags: u32, moves: &[(Stream, Vec<u8>)]) -> (Entry, Vec<u8>) {
    let whole = told_of(flags, moves, usize::MAX);
    for size in [1, 13, 20_000] {
        let pieces = told_of(flags, moves, size);
        assert_eq!(content(&pieces, 0), content(&whole, 0), "in pieces of {size}");
        assert_eq!(without_pieces(pieces), without_pieces(whole.clone()), "in pieces of {size}");
    }
    (whole.last().unwrap().clone(), content(&whole, 0))
}

/// Reads, by offset and count, each answered before the next.
fn reads(of: &[u8], reads: &[(usize, usize)]) -> Vec<(Stream, Vec<u8>)> {
    let one = |(id, (offset, count)): (u32, &(usize, usize))| {
        [
            (Stream::Input, read(id, *offset, *count)),
            (Stream::Output, data(id, &of[*offset..of.len().min(offset + count)])),
        ]
    };
    (100..).zip(reads).flat_map(one).collect()
}

/// Paramiko's thread asks for all of it, block by block. The first answer comes before the thread has asked for the second
/// block: who wants that takes it for done, and asks for every block, too, while the thread goes on.
#[test]
fn what_paramiko_reads_twice_is_one_file() {
    let whole = noise(2_000_000);
    let blocks: Vec<_> = (0..whole.len()).step_by(BLOCK).map(|at| (at, BLOCK.min(whole.len() - at))).collect();
    let ahead = |number: usize| (10 + number as u32, blocks[number]);
    let alone = |number: usize| (1000 + number as u32, blocks[number]);
    let mut order = vec![ahead(0)];
    // At first one is ahead, and then the other.
    for number in 1..blocks.len() {
        order.extend(match number {
            20.. => [ahead(number), alone(number)],
            _ => [alone(number), ahead(number)],
        });
    }
    let mut moves = Vec::new();
    for (id, (offset, count)) in &order {
        moves.push((Stream::Input, read(*id, *offset, *count)));
    }
    for (id, (offset, count)) in &order {
        moves.push((Stream::Output, data(*id, &whole[*offset..offset + count])));
    }
    let (end, kept) = end_of(1, &moves);
    let again = (whole.len() - BLOCK) as u64;
    assert_eq!(end, Entry::FileEnd { file: 0, size: 2_000_000, again, sha256: digest(&whole), kept: true });
    assert!(kept == whole);
    // The thread may have got to the end before anybody asks once more.
    let in_turn: Vec<_> = blocks.iter().chain(&blocks[1..]).copied().collect();
    let (end, kept) = end_of(1, &reads(&whole, &in_turn));
    assert_eq!(end, Entry::FileEnd { file: 0, size: 2_000_000, again, sha256: digest(&whole), kept: true });
    assert!(kept == whole);
}

#[test]
fn what_is_read_again_in_other_pieces_is_the_same_file_where_it_can_be_told() {
    let whole = noise(100_000);
    let end = |reads_of: &[(usize, usize)]| end_of(1, &reads(&whole, reads_of)).0;
    let known = |again| Entry::FileEnd { file: 0, size: 100_000, again, sha256: digest(&whole), kept: true };
    // From where a request began to where another one did, and on beyond what was there.
    assert_eq!(end(&[(0, 40_000), (40_000, 20_000), (0, 60_000), (60_000, 40_000)]), known(60_000));
    assert_eq!(end(&[(0, 40_000), (40_000, 20_000), (40_000, 60_000)]), known(20_000));
    assert_eq!(end(&[(0, 40_000), (40_000, 60_000), (0, 10_000), (10_000, 30_000)]), known(40_000));
    // The client is answered with less than it has asked for, and asks for the rest.
    assert_eq!(end(&[(0, 30_000), (30_000, 2_768), (32_768, 67_232), (32_768, 67_232)]), known(67_232));
    // Nobody knows what was there before it, or at its end: then it is not known whether it is the same.
    let unknown = |size, again| Entry::FileEnd { file: 0, size, again, sha256: None, kept: false };
    assert_eq!(end(&[(0, 100_000), (1, 99_999)]), unknown(100_000, 99_999));
    assert_eq!(end(&[(0, 100_000), (0, 99_999)]), unknown(100_000, 99_999));
    assert_eq!(end(&[(0, 50_000), (0, 40_000), (50_000, 50_000)]), unknown(100_000, 40_000));
    // One that fills a hole comes last, and each octet counts once all the same.
    assert_eq!(end(&[(0, 10_000), (20_000, 80_000), (10_000, 10_000)]), unknown(100_000, 0));
    assert_eq!(end(&[(20_000, 80_000), (20_000, 80_000), (0, 50_000)]), unknown(100_000, 110_000));
}

#[test]
fn what_is_another_thing_when_it_is_read_or_written_again_is_not_the_file() {
    let (first, second) = (noise(BLOCK * 2), vec![b'x'; BLOCK * 2]);
    let mut moves = reads(&first, &[(0, BLOCK), (BLOCK, BLOCK)]);
    moves.extend([(Stream::Input, read(9, 0, BLOCK)), (Stream::Output, data(9, &second[..BLOCK]))]);
    let (end, kept) = end_of(1, &moves);
    let of = |size, again| Entry::FileEnd { file: 0, size, again, sha256: None, kept: false };
    assert_eq!(end, of(2 * BLOCK as u64, BLOCK as u64));
    assert!(kept == first, "what was read first is there");
    // Of a decoy that is overwritten nobody tells as if it were the file.
    let of_write = |id, at: usize, data: &[u8]| (Stream::Input, write(id, "h", at as u64, data));
    let (end, _) = end_of(0x1a, &[of_write(3, 0, b"decoy"), of_write(4, 5, b"."), of_write(5, 0, b"evil!")]);
    assert_eq!(end, of(6, 5));
    let (end, kept) = end_of(0x1a, &[of_write(3, 0, b"worm"), of_write(4, 4, b"."), of_write(5, 0, b"worm")]);
    assert_eq!(end, Entry::FileEnd { file: 0, size: 5, again: 4, sha256: digest(b"worm."), kept: true });
    assert_eq!(kept, b"worm.");
    // The last octets are another thing, and more comes behind them in one piece.
    let (end, _) = end_of(0x1a, &[of_write(3, 0, b"decoy"), of_write(4, 0, b"decoX and more")]);
    assert_eq!(end, of(14, 5));
}

#[test]
fn parts_are_counted_once_and_cost_little() {
    let mut parts = Parts::default();
    assert_eq!([parts.add(10, 10), parts.add(30, 10), parts.add(0, 50), parts.add(0, 50)], [0, 0, 20, 50]);
    assert_eq!([parts.add(50, 1), parts.add(0, 52), parts.add(u64::MAX - 1, 9)], [0, 51, 0]);
    let mut parts = Parts::default();
    for number in 0..1000 {
        assert_eq!(parts.add(number * 10, 5), 0);
    }
    // Of those that are remembered it is known.
    assert_eq!((parts.add(0, 5), parts.add(9990, 5)), (5, 0));
    assert_eq!(parts.add(0, 640), 64 * 5);
    assert_eq!(parts.add(0, 640), 640);
}

#[test]
fn requests_that_are_remembered_are_few_in_all_files_together() {
    let shared = Shared::default();
    let mut observer = Observer::Sftp(Box::new(Sftp::new(Files::new(shared, u64::MAX, 5))));
    let mut said = |stream, packet: Vec<u8>| look(&mut observer, stream, &packet, usize::MAX);
    let mut ends = Vec::new();
    // The second file finds room only once the first one is closed.
    for (id, name) in [(1, "first"), (2, "second")] {
        said(Stream::Input, open(id, name, 0x1a));
        said(Stream::Output, handle(id, name));
    }
    let mut fill = |name: &str, count: u64| {
        for at in 0..count {
            said(Stream::Input, write(9, name, at, b"x"));
        }
        said(Stream::Input, write(9, name, 0, b"x"));
    };
    fill("first", 1500);
    fill("second", 2);
    for (id, name) in [(3, "first"), (4, "second")] {
        said(Stream::Input, close(id, name));
        ends.extend(said(Stream::Output, status(id)));
    }
    said(Stream::Input, open(5, "third", 0x1a));
    said(Stream::Output, handle(5, "third"));
    for at in [0, 1, 0] {
        said(Stream::Input, write(9, "third", at, b"x"));
    }
    said(Stream::Input, close(6, "third"));
    ends.extend(said(Stream::Output, status(6)));
    let known: Vec<_> = ends
        .iter()
        .map(|entry| match entry {
            Entry::FileEnd { size, again, sha256, .. } => (*size, *again, sha256.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(known, [(1500, 1, true), (2, 1, false), (2, 1, true)]);
}
