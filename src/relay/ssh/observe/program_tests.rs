//! Programs without a terminal: what they read and say, and those that are not what they seem.

use super::tests::{begin, content, digest, files, look, octets, without_pieces};
use super::*;

fn program(command: &str, keep: u64) -> Observer {
    let files = files(keep);
    Observer::of_command(command.as_bytes(), files.clone()).or_program(|| Text::new(command), files)
}

/// Octets that are no text.
fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

/// The only file that is told of: its number, path and way, and how it ended.
#[track_caller]
fn file(told: &[Entry]) -> (u32, String, Direction, Entry) {
    let begun: Vec<_> = told.iter().filter(|entry| matches!(entry, Entry::FileBegin { .. })).collect();
    let [Entry::FileBegin { file, path, direction, .. }] = begun[..] else { panic!("{begun:?}") };
    let end = told.iter().find(|entry| matches!(entry, Entry::FileEnd { file: of, .. } if of == file));
    (*file, path.as_str().to_owned(), *direction, end.unwrap().clone())
}

#[test]
fn what_a_program_without_a_terminal_reads_is_kept_besides() {
    let said = noise(50_000);
    for (keep, kept) in [(1 << 20, said.len()), (30_000, 30_000), (0, 0)] {
        let mut observer = program("cat >x", keep);
        let mut told = look(&mut observer, Stream::Input, &said, 40_000);
        told.extend(observer.end());
        assert_eq!(octets(&told, Stream::Input), said, "as octets it is whole");
        assert_eq!(content(&told, 0), &said[..kept]);
        assert_eq!(told[0], begin(0, "cat >x", Direction::Input));
        let size = said.len() as u64;
        let end = Entry::FileEnd { file: 0, size, again: 0, sha256: digest(&said), kept: kept == said.len() };
        assert_eq!(told.last(), Some(&end));
        let pieces = told.iter().filter_map(|entry| match entry {
            Entry::FilePiece { data, .. } | Entry::Data { data, .. } => Some(data.len()),
            _ => None,
        });
        assert!(pieces.max() <= Some(PIECE));
    }
    // A copy is one.
    assert!(matches!(program("scp -t /tmp", 1), Observer::Scp(_)));
}

#[test]
fn what_it_says_is_kept_if_it_is_no_text_or_much() {
    let long = "a".repeat(4096);
    let long_and_more = "ä".repeat(3000);
    for (said, is_kept) in [
        (&b"uid=0(root) gid=0(root)\n"[..], false),
        ("grüße\n".as_bytes(), false),
        // Colors, and an error of SCP's.
        (b"\x1b[31mred\x1b[0m\x07\x01scp: no\n", false),
        (long.as_bytes(), false),
        (long_and_more.as_bytes(), true),
        (b"\x7fELF\x02\x01\x01\x00\x00", true),
        (b"text, and then \xff", true),
        // The half of a character, and of one that is none.
        (b"gr\xc3", true),
        (b"\xc3(", true),
        (&noise(100_000), true),
    ] {
        for size in [1, 3, 1000, 1 << 20] {
            let mut observer = program("cat x", u64::MAX);
            let mut told = look(&mut observer, Stream::Output, said, size);
            told.extend(observer.end());
            assert_eq!(octets(&told, Stream::Output), said, "the transcript has it in any case");
            if !is_kept {
                assert_eq!(without_pieces(told).len(), said.len().div_ceil(size), "{:?}", Text::new(said));
                continue;
            }
            let (number, path, direction, end) = file(&told);
            assert_eq!((path.as_str(), direction), ("cat x", Direction::Output));
            assert!(content(&told, number) == said, "from the first octet on, in pieces of {size}");
            assert_eq!(
                end,
                Entry::FileEnd { file: 0, size: said.len() as u64, again: 0, sha256: digest(said), kept: true }
            );
        }
    }
    // Both ways, and no more than is to be kept.
    let mut observer = program("openssl enc", 1000);
    let mut told = look(&mut observer, Stream::Input, &noise(2000), 500);
    told.extend(look(&mut observer, Stream::Output, &noise(3000), 500));
    told.extend(observer.end());
    assert_eq!((content(&told, 0).len(), content(&told, 1).len()), (1000, 1000));
    let end = |file, said: &[u8]| Entry::FileEnd {
        file,
        size: said.len() as u64,
        again: 0,
        sha256: digest(said),
        kept: false,
    };
    assert!(told.contains(&end(0, &noise(2000))) && told.contains(&end(1, &noise(3000))), "{told:?}");
}

/// Whoever brings an `scp` of their own has what it reads kept like that of any other program.
#[test]
fn what_only_calls_itself_scp_is_kept_from_the_first_octet_on() {
    let bot = [b"\x7fELF\0\0\n".to_vec(), noise(50_000)].concat();
    let zeros = [vec![0; 40], bot.clone()].concat();
    let behind_lines = [b"T1 0 1 0\nD0755 0 d\n\x01hm\n\0\0".to_vec(), bot.clone()].concat();
    let behind_a_file = [b"C0644 5 f\nabcde\0".to_vec(), bot.clone()].concat();
    let without_a_line = noise(10);
    for sent in [&bot, &zeros, &behind_lines, &behind_a_file, &without_a_line] {
        for size in [1, 7, 4096, 1 << 20] {
            let mut observer = program("scp -t x", u64::MAX);
            let mut told = look(&mut observer, Stream::Output, &[0], 1);
            told.extend(look(&mut observer, Stream::Input, sent, size));
            told.extend(observer.end());
            let is_it = |entry: &&Entry| matches!(entry, Entry::FileBegin { direction: Direction::Input, .. });
            let Some(Entry::FileBegin { file, path, .. }) = told.iter().find(is_it) else { panic!("{told:?}") };
            assert_eq!(path, "scp -t x");
            assert!(content(&told, *file) == *sent, "{:?} in pieces of {size}", Text::new(&sent[..20.min(sent.len())]));
            let end =
                Entry::FileEnd { file: *file, size: sent.len() as u64, again: 0, sha256: digest(sent), kept: true };
            assert!(told.contains(&end));
        }
    }
    // Behind more than is remembered it is what comes from there on.
    let file = [b"C0644 40000 f\n".to_vec(), vec![b'x'; 40_000], vec![0]].concat();
    let mut observer = program("scp -t x", u64::MAX);
    let mut told = look(&mut observer, Stream::Input, &[&file[..], &bot].concat(), 4096);
    told.extend(observer.end());
    assert_eq!((content(&told, 0).len(), content(&told, 1) == bot), (40_000, true));
    // The other side of either, which is to acknowledge.
    for (command, stream) in [("scp -t x", Stream::Output), ("scp -f x", Stream::Input)] {
        let mut observer = program(command, u64::MAX);
        let mut told = look(&mut observer, stream, &bot, 5000);
        told.extend(observer.end());
        assert!(content(&told, 0) == bot, "{command}");
    }
    // And what sends nothing that SCP would.
    let mut observer = program("scp -f x", u64::MAX);
    let mut told = look(&mut observer, Stream::Output, &bot, 5000);
    told.extend(observer.end());
    assert_eq!(
        (content(&told, 0) == bot, &told[0]),
        (true, &Entry::Strange { channel: 5, reason: Text::new("no SCP") })
    );
    // A copy that is one leaves nothing besides.
    let mut observer = program("scp -t x", u64::MAX);
    let mut told = look(&mut observer, Stream::Input, b"C0644 1 f\na\0", 5);
    told.extend(look(&mut observer, Stream::Output, b"\0\0\0", 2));
    told.extend(observer.end());
    assert!(matches!(without_pieces(told)[..], [Entry::FileBegin { .. }, Entry::FileEnd { .. }]));
}
