use sha2::{Digest, Sha256};

use super::*;
use crate::relay::tape::FileAct;

fn files(keep: u64) -> Files {
    Files::new(Arc::default(), keep, 5)
}

fn digest(data: &[u8]) -> Option<String> {
    Some(crate::service::tls::hex(&Sha256::digest(data)))
}

/// Looks at `data` in pieces of `size` octets.
fn look(observer: &mut Observer, stream: Stream, data: &[u8], size: usize) -> Vec<Entry> {
    data.chunks(size)
        .flat_map(|piece| observer.look(5, stream, &Bytes::copy_from_slice(piece)).unwrap_or_default())
        .collect()
}

/// Puts together what was kept of each file.
fn content(told: &[Entry], of: u32) -> Vec<u8> {
    told.iter()
        .filter_map(|entry| match entry {
            Entry::FilePiece { file, data } if *file == of => Some(data.to_vec()),
            _ => None,
        })
        .flatten()
        .collect()
}

fn without_pieces(told: Vec<Entry>) -> Vec<Entry> {
    told.into_iter().filter(|entry| !matches!(entry, Entry::FilePiece { .. })).collect()
}

fn begin(file: u32, path: &str, direction: Direction) -> Entry {
    Entry::FileBegin { channel: 5, file, path: Text::new(path), direction }
}

#[test]
fn scp_is_known_by_its_command() {
    for (command, expected) in [
        ("scp -t /tmp", Some(Direction::Upload)),
        ("/usr/bin/scp -v -r -d -t -- -tmp", Some(Direction::Upload)),
        ("scp -rf .", Some(Direction::Download)),
        ("scp -f -- -t", Some(Direction::Download)),
        ("scp a b", None),
        ("scpx -t /tmp", None),
        ("echo scp -t", None),
        ("", None),
    ] {
        assert_eq!(scp::direction(command.as_bytes()), expected, "{command}");
    }
}

#[test]
fn scp_tells_of_files_in_directories() {
    let data: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let mut sent = b"T1 0 1 0\nD0755 0 kit\nC0755 40000 run.sh\n".to_vec();
    sent.extend(&data);
    sent.extend(b"\0D0700 0 deep\nC0644 0 a b\n\0E\nE\nC0644 3 \x1b[2Jx\nabc\0\x01scp: nowhere\n");
    for size in [1, 7, 4096, 1 << 20] {
        let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(u64::MAX))));
        assert!(look(&mut observer, Stream::Output, &[0, 0, 0], 1).is_empty());
        let told = look(&mut observer, Stream::Input, &sent, size);
        assert_eq!(content(&told, 0), data);
        let directory = |path| Entry::File { channel: 5, act: FileAct::MakeDirectory, path: Text::new(path), to: None };
        assert_eq!(
            without_pieces(told),
            [
                directory("kit"),
                begin(0, "kit/run.sh", Direction::Upload),
                Entry::FileEnd { file: 0, size: 40_000, sha256: digest(&data), kept: true },
                directory("kit/deep"),
                begin(1, "kit/deep/a b", Direction::Upload),
                Entry::FileEnd { file: 1, size: 0, sha256: digest(b""), kept: true },
                begin(2, "\x1b[2Jx", Direction::Upload),
                Entry::FileEnd { file: 2, size: 3, sha256: digest(b"abc"), kept: true },
                Entry::Data { channel: 5, stream: Stream::Input, data: Bytes::from_static(b"\x01scp: nowhere") },
            ]
        );
        assert!(observer.end().is_empty());
    }
}

#[test]
fn scp_that_breaks_off_or_is_none_is_told() {
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Download, files(2))));
    let told = look(&mut observer, Stream::Output, b"C0644 10 x\nabcde", 100);
    assert_eq!(content(&told, 0), b"ab");
    assert_eq!(observer.end(), [Entry::FileEnd { file: 0, size: 5, sha256: None, kept: false }]);

    for strange in [&b"hello, world\n"[..], b"C0644 x y\n", b"C0644\n", b"\n", &[b'C'; 10_000]] {
        let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
        let told = look(&mut observer, Stream::Input, strange, 20_000);
        assert!(matches!(told[..], [Entry::Strange { channel: 5, .. }, Entry::Data { .. }]), "{told:?}");
        assert_eq!(observer.look(5, Stream::Input, &Bytes::from_static(b"more")), None, "octets from now on");
    }
}

#[test]
fn a_deep_path_of_scp_costs_little() {
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
    let name = "d".repeat(3000);
    for _ in 0..60 {
        look(&mut observer, Stream::Input, format!("D0755 0 {name}\n").as_bytes(), 99);
    }
    let Observer::Scp(scp) = &observer else { panic!("it was understood") };
    assert!(scp.remembered() <= 4096, "{}", scp.remembered());
    // As many of them end as have begun.
    let told = look(&mut observer, Stream::Input, &[&b"E\n".repeat(60)[..], b"C0644 0 x\n\0"].concat(), 99);
    assert_eq!(told[0], begin(0, "x", Direction::Upload));
    let zeros = [&[0; 9000][..], b"C0644 0 y\n\0"].concat();
    for size in [1, 20_000] {
        let told = look(&mut observer, Stream::Input, &zeros, size);
        assert!(matches!(told[..], [Entry::FileBegin { .. }, Entry::FileEnd { .. }]), "{told:?}");
    }
}

struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8, id: u32) -> Packet {
        Packet(vec![kind]).word(id)
    }
    fn word(mut self, word: u32) -> Packet {
        self.0.extend(word.to_be_bytes());
        self
    }
    fn long(mut self, long: u64) -> Packet {
        self.0.extend(long.to_be_bytes());
        self
    }
    fn string(self, string: &[u8]) -> Packet {
        let mut packet = self.word(string.len() as u32);
        packet.0.extend(string);
        packet
    }
    fn done(self) -> Vec<u8> {
        [&(self.0.len() as u32).to_be_bytes()[..], &self.0].concat()
    }
}

fn sftp(keep: u64) -> Observer {
    Observer::Sftp(Box::new(Sftp::new(files(keep))))
}

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    Packet::new(3, id).string(path.as_bytes()).word(flags).word(0).done()
}

#[test]
fn sftp_tells_of_what_is_written_and_read() {
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 241) as u8).collect();
    for size in [1, 13, 32_768, 1 << 20] {
        let mut observer = sftp(u64::MAX);
        let mut told = look(&mut observer, Stream::Input, &Packet(vec![1]).word(3).done(), size);
        told.extend(look(&mut observer, Stream::Output, &Packet(vec![2]).word(3).done(), size));
        told.extend(look(&mut observer, Stream::Input, &open(1, "/tmp/in", 0x1a), size));
        told.extend(look(&mut observer, Stream::Input, &open(2, "/etc/passwd", 1), size));
        told.extend(look(&mut observer, Stream::Output, &Packet::new(102, 1).string(b"h1").done(), size));
        told.extend(look(&mut observer, Stream::Output, &Packet::new(102, 2).string(b"h2").done(), size));
        let mut sent = Vec::new();
        for (number, piece) in (0..).zip(data.chunks(32_768)) {
            sent.extend(
                Packet::new(6, 10 + number).string(b"h1").long(u64::from(number) * 32_768).string(piece).done(),
            );
        }
        sent.extend(Packet::new(5, 20).string(b"h2").long(0).word(32_768).done());
        sent.extend(Packet::new(5, 21).string(b"h2").long(6).word(32_768).done());
        sent.extend(Packet::new(4, 30).string(b"h1").done());
        told.extend(look(&mut observer, Stream::Input, &sent, size));
        let mut got = Packet::new(103, 20).string(b"root:x").done();
        got.extend(Packet::new(101, 21).word(1).string(b"End of file").string(b"").done());
        told.extend(look(&mut observer, Stream::Output, &got, size));
        told.extend(look(&mut observer, Stream::Input, &Packet::new(4, 31).string(b"h2").done(), size));
        let renamed = Packet::new(200, 40).string(b"posix-rename@openssh.com").string(b"a").string(b"b\n").done();
        told.extend(look(&mut observer, Stream::Input, &renamed, size));
        told.extend(look(&mut observer, Stream::Input, &Packet::new(13, 41).string(b"log").done(), size));
        assert_eq!(content(&told, 0), data);
        assert_eq!(content(&told, 1), b"root:x");
        let act =
            |act, path, to: Option<&str>| Entry::File { channel: 5, act, path: Text::new(path), to: to.map(Text::new) };
        assert_eq!(
            without_pieces(told),
            [
                begin(0, "/tmp/in", Direction::Upload),
                begin(1, "/etc/passwd", Direction::Download),
                Entry::FileEnd { file: 0, size: 100_000, sha256: digest(&data), kept: true },
                Entry::FileEnd { file: 1, size: 6, sha256: digest(b"root:x"), kept: true },
                act(FileAct::Rename, "a", Some("b\n")),
                act(FileAct::Remove, "log", None),
            ],
            "in pieces of {size}"
        );
    }
}

#[test]
fn sftp_out_of_order_has_no_digest() {
    let mut observer = sftp(u64::MAX);
    look(&mut observer, Stream::Input, &open(1, "x", 0x1a), 99);
    look(&mut observer, Stream::Output, &Packet::new(102, 1).string(b"h").done(), 99);
    for offset in [4, 0] {
        look(&mut observer, Stream::Input, &Packet::new(6, 2).string(b"h").long(offset).string(b"abcd").done(), 99);
    }
    let told = look(&mut observer, Stream::Input, &Packet::new(4, 3).string(b"h").done(), 99);
    assert_eq!(told, [Entry::FileEnd { file: 0, size: 8, sha256: None, kept: false }]);
}

#[test]
fn a_server_that_gives_a_handle_twice_makes_nothing_grow() {
    let mut observer = sftp(u64::MAX);
    let mut told = Vec::new();
    for id in 0..2000 {
        told.extend(look(&mut observer, Stream::Input, &open(id, "x", 0x1a), 99));
        told.extend(look(&mut observer, Stream::Output, &Packet::new(102, id).string(b"h").done(), 99));
        told.extend(look(&mut observer, Stream::Input, &Packet::new(5, id).string(b"h").long(0).word(9).done(), 99));
    }
    assert!(observer.remembered() <= 3, "{}", observer.remembered());
    let ends = told.iter().filter(|entry| matches!(entry, Entry::FileEnd { sha256: None, kept: false, .. })).count();
    assert_eq!((ends, observer.end().len()), (1999, 1));
}

#[test]
fn hostile_sftp_costs_little_and_breaks_nothing() {
    for strange in [&[0u8, 0, 0, 0, 9][..], &[0xff; 64], b"SSH-2.0-x\r\n"] {
        let mut observer = sftp(1);
        let told = look(&mut observer, Stream::Input, strange, 99);
        assert!(matches!(told[..], [Entry::Strange { .. }, Entry::Data { .. }]), "{told:?}");
    }
    // Fields that reach beyond their packet, handles that are no handles, requests that nobody answers.
    let mut observer = sftp(1);
    for id in 0..100_000 {
        look(&mut observer, Stream::Input, &Packet::new(3, id).word(u32::MAX).done(), 99);
        look(&mut observer, Stream::Input, &Packet::new(6, id).word(u32::MAX).done(), 99);
        look(&mut observer, Stream::Input, &open(id, "x", 1), 99);
    }
    look(&mut observer, Stream::Output, &Packet::new(102, 0).string(&[7; 300]).done(), 99);
    assert!(matches!(observer, Observer::Sftp(_)), "it was understood");
    assert!(observer.remembered() <= 300, "{}", observer.remembered());
    // Random octets: nothing but a panic is wrong.
    let mut state = 1u64;
    for _ in 0..2000 {
        let mut observer = self::sftp(100);
        let mut octets = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for octet in &mut octets {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *octet = (state >> 60) as u8;
        }
        octets[..3].fill(0);
        look(&mut observer, Stream::Input, &octets.repeat(9), 11);
        look(&mut observer, Stream::Output, &octets.repeat(9), 11);
    }
}
