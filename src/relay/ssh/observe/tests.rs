use sha2::{Digest, Sha256};

use super::*;
use crate::relay::tape::FileAct;

pub(super) fn files(keep: u64) -> Files {
    Files::new(Shared::default(), keep, 5)
}

pub(super) fn digest(data: &[u8]) -> Option<String> {
    Some(crate::wire::hex(&Sha256::digest(data)))
}

/// Looks at `data` in pieces of `size` octets.
pub(super) fn look(observer: &mut Observer, stream: Stream, data: &[u8], size: usize) -> Vec<Entry> {
    data.chunks(size)
        .flat_map(|piece| observer.look(5, stream, &Bytes::copy_from_slice(piece)).unwrap_or_default())
        .collect()
}

/// Puts together what was kept of each file.
pub(super) fn content(told: &[Entry], of: u32) -> Vec<u8> {
    told.iter()
        .filter_map(|entry| match entry {
            Entry::FilePiece { file, data, .. } if *file == of => Some(data.to_vec()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// What was told as octets.
pub(super) fn octets(told: &[Entry], which: Stream) -> Vec<u8> {
    let pieces = told.iter().filter_map(|entry| match entry {
        Entry::Data { stream, data, .. } if *stream == which => Some(&data[..]),
        _ => None,
    });
    pieces.collect::<Vec<_>>().concat()
}

pub(super) fn without_pieces(told: Vec<Entry>) -> Vec<Entry> {
    told.into_iter().filter(|entry| !matches!(entry, Entry::FilePiece { .. })).collect()
}

pub(super) fn begin(file: u32, path: &str, direction: Direction) -> Entry {
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
        // Whatever follows reads on.
        ("scp -t /tmp; sh", None),
        ("scp -t /tmp\nsh", None),
        ("scp -f x | sh", None),
        ("scp -t x&&sh", None),
        ("scp -t $(sh)", None),
        ("scp -t `sh`", None),
        ("scp -f 'a b' *.txt", Some(Direction::Download)),
    ] {
        assert_eq!(scp::direction(command.as_bytes()), expected, "{command}");
    }
}

#[test]
fn scp_tells_where_files_are() {
    let paths = |command: &str, sent: &[u8]| {
        let mut observer = Observer::of_command(command.as_bytes(), files(9));
        let stream = if command.contains(" -f") { Stream::Output } else { Stream::Input };
        let told = look(&mut observer, stream, sent, 100);
        let path = |entry| match entry {
            Entry::FileBegin { path, .. } | Entry::File { path, .. } => Some(path.as_str().to_owned()),
            _ => None,
        };
        told.into_iter().filter_map(path).collect::<Vec<_>>()
    };
    let one = &b"C0644 0 f\n\0"[..];
    let tree = &b"D0755 0 kit\nC0644 0 f\n\0E\n"[..];
    for (command, sent, expected) in [
        // A directory, if it says so or has to be one.
        ("scp -t /tmp/", one, &["/tmp/f"][..]),
        ("scp -t /", one, &["/f"]),
        ("scp -v -d -t -- /opt", one, &["/opt/f"]),
        ("scp -t .", one, &["f"]),
        ("scp -t ~", one, &["~/f"]),
        ("scp -t ..", one, &["../f"]),
        // The file itself.
        ("scp -t /tmp/f", one, &["/tmp/f"]),
        ("scp -t f", one, &["f"]),
        // Either.
        ("scp -t /tmp/x", one, &["/tmp/x[/f]"]),
        ("scp -r -t /opt/kit", tree, &["/opt/kit", "/opt/kit/f"]),
        ("scp -r -t /opt", tree, &["/opt[/kit]", "/opt[/kit]/f"]),
        ("scp -f /etc/f", one, &["/etc/f"]),
        ("scp -r -f /opt/kit", tree, &["/opt/kit/f"]),
        ("scp -f /opt/*", one, &["f"]),
        ("scp -f /a /b", one, &["f"]),
        ("scp -t 'a b'", one, &["f"]),
        ("scp -t", one, &["f"]),
    ] {
        assert_eq!(paths(command, sent), expected, "{command}");
    }
    // A name has no `/` that would make something else of the path; one that is long goes on being told as octets, too.
    let long = format!("scp -t {}/", "d".repeat(600));
    let mut observer = Observer::of_command(long.as_bytes(), files(9));
    assert_eq!(octets(&look(&mut observer, Stream::Input, one, 100), Stream::Input), b"C0644 0 f");
}

#[test]
fn scp_tells_of_files_in_directories() {
    let data: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let mut sent = b"T1 0 1 0\nD0755 0 kit\nC0755 40000 run.sh\n".to_vec();
    sent.extend(&data);
    sent.extend(b"\0D0700 0 deep\nC0644 0 a b\n\0E\nE\nC0644 3 \x1b[2Jx\nabc\0\x01scp: nowhere\n");
    for size in [1, 7, 4096, 1 << 20] {
        let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(u64::MAX))));
        assert!(look(&mut observer, Stream::Output, &[0], 1).is_empty());
        let told = look(&mut observer, Stream::Input, &sent, size);
        assert_eq!(content(&told, 0), data);
        let directory = |path| Entry::File { channel: 5, act: FileAct::MakeDirectory, path: Text::new(path), to: None };
        assert_eq!(
            without_pieces(told),
            [
                directory("kit"),
                begin(0, "kit/run.sh", Direction::Upload),
                Entry::FileEnd { file: 0, size: 40_000, again: 0, sha256: digest(&data), kept: true },
                directory("kit/deep"),
                begin(1, "kit/deep/a b", Direction::Upload),
                Entry::FileEnd { file: 1, size: 0, again: 0, sha256: digest(b""), kept: true },
                begin(2, "\x1b[2Jx", Direction::Upload),
                Entry::FileEnd { file: 2, size: 3, again: 0, sha256: digest(b"abc"), kept: true },
                Entry::Data { channel: 5, stream: Stream::Input, data: Bytes::from_static(b"\x01scp: nowhere") },
            ]
        );
        assert!(observer.end().is_empty());
    }
}

/// Whatever is no line of the protocol can be one of a shell's: all of it is told, in whatever pieces it comes.
#[test]
fn nothing_that_scp_would_not_say_is_left_out() {
    for sent in [
        &b"T=; echo hidden >/tmp/h\n"[..],
        b"T1 2 3\n",
        b"T1 2 3 4 5\n",
        b"T1 2 3 ;x\n",
        b"T1 2 3 4 \n",
        b"E\n",
        b"E; x\n",
        b"C;x 1 y\n",
        b"C0644 +1 y\n",
        b"C0644 1;x y\n",
        b"D0755;x 0 y\n",
        b"half a line",
        b"T1 2 3 4",
    ] {
        for size in [1, 3, 100] {
            let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
            let mut told = Vec::new();
            for piece in sent.chunks(size) {
                let data = Bytes::copy_from_slice(piece);
                let looked = observer.look(5, Stream::Input, &data);
                told.extend(looked.unwrap_or_else(|| vec![Entry::Data { channel: 5, stream: Stream::Input, data }]));
            }
            told.extend(observer.end());
            assert_eq!(octets(&told, Stream::Input), sent, "{:?} in pieces of {size}", Text::new(sent));
        }
    }
    // A name that a path cannot show, the end of a file that is none, a directory's end and what is behind it.
    let name = [b'n'; 600];
    let line = [b"C0644 1 ", &name[..], b"\n"].concat();
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
    let told = look(&mut observer, Stream::Input, &[&line[..], b"a;x\n"].concat(), 50);
    assert_eq!(octets(&told, Stream::Input), [&line[..line.len() - 1], b";x\n"].concat());
    assert!(told.contains(&Entry::FileEnd { file: 0, size: 1, again: 0, sha256: None, kept: false }), "{told:?}");
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
    assert_eq!(octets(&look(&mut observer, Stream::Input, b"D0755 0 d\nE\nE\nx\n", 100), Stream::Input), b"E\nx\n");
    // The other direction: as many zeros as there were things to be taken, and all of whatever else.
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Upload, files(2))));
    let mut told = look(&mut observer, Stream::Output, &[0], 1);
    told.extend(look(&mut observer, Stream::Input, b"T1 0 1 0\nC0644 1 x\na\0", 100));
    told.extend(look(&mut observer, Stream::Output, &[0; 3], 2));
    assert_eq!(octets(&told, Stream::Output), b"");
    assert_eq!(octets(&look(&mut observer, Stream::Output, &[0; 3], 3), Stream::Output), [0; 3]);
    let much: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    assert_eq!(octets(&look(&mut observer, Stream::Output, &much, 60_000), Stream::Output), much);
}

/// What the sender cannot read it says behind what was to be the file.
#[test]
fn scp_may_fail_in_a_file() {
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Download, files(9))));
    let told = look(&mut observer, Stream::Output, b"C0644 1 x\na\x01scp: x: Input/output error\nC0644 0 y\n\0", 7);
    assert_eq!(octets(&told, Stream::Output), b"\x01scp: x: Input/output error");
    let end = |file, size, sha256: Option<String>, kept| Entry::FileEnd { file, size, again: 0, sha256, kept };
    assert!(told.contains(&end(0, 1, None, false)) && told.contains(&end(1, 0, digest(b""), true)), "{told:?}");
}

#[test]
fn scp_that_breaks_off_or_is_none_is_told() {
    let mut observer = Observer::Scp(Box::new(Scp::new(Direction::Download, files(2))));
    let told = look(&mut observer, Stream::Output, b"C0644 10 x\nabcde", 100);
    assert_eq!(content(&told, 0), b"ab");
    assert_eq!(observer.end(), [Entry::FileEnd { file: 0, size: 5, again: 0, sha256: None, kept: false }]);

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

pub(super) struct Packet(pub(super) Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8, id: u32) -> Packet {
        Packet(vec![kind]).word(id)
    }
    pub(super) fn word(mut self, word: u32) -> Packet {
        self.0.extend(word.to_be_bytes());
        self
    }
    pub(super) fn long(mut self, long: u64) -> Packet {
        self.0.extend(long.to_be_bytes());
        self
    }
    pub(super) fn string(self, string: &[u8]) -> Packet {
        let mut packet = self.word(string.len() as u32);
        packet.0.extend(string);
        packet
    }
    pub(super) fn done(self) -> Vec<u8> {
        [&(self.0.len() as u32).to_be_bytes()[..], &self.0].concat()
    }
}

pub(super) fn status(id: u32) -> Vec<u8> {
    Packet::new(101, id).word(0).string(b"Success").string(b"").done()
}

pub(super) fn write(id: u32, handle: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    Packet::new(6, id).string(handle.as_bytes()).long(offset).string(data).done()
}

pub(super) fn handle(id: u32, handle: &str) -> Vec<u8> {
    Packet::new(102, id).string(handle.as_bytes()).done()
}

pub(super) fn close(id: u32, handle: &str) -> Vec<u8> {
    Packet::new(4, id).string(handle.as_bytes()).done()
}

pub(super) fn sftp(keep: u64) -> Observer {
    Observer::Sftp(Box::new(Sftp::new(files(keep))))
}

pub(super) fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
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
        got.extend(status(30));
        told.extend(look(&mut observer, Stream::Output, &got, size));
        // What was asked for before it is closed comes before.
        let last = [Packet::new(5, 31).string(b"h2").long(6).word(9).done(), Packet::new(4, 32).string(b"h2").done()];
        told.extend(look(&mut observer, Stream::Input, &last.concat(), size));
        let got = [Packet::new(103, 31).string(b":0:0:").done(), status(32)].concat();
        told.extend(look(&mut observer, Stream::Output, &got, size));
        let renamed = Packet::new(200, 40).string(b"posix-rename@openssh.com").string(b"a").string(b"b\n").done();
        told.extend(look(&mut observer, Stream::Input, &renamed, size));
        told.extend(look(&mut observer, Stream::Input, &Packet::new(13, 41).string(b"log").done(), size));
        assert_eq!(content(&told, 0), data);
        assert_eq!(content(&told, 1), b"root:x:0:0:");
        let act =
            |act, path, to: Option<&str>| Entry::File { channel: 5, act, path: Text::new(path), to: to.map(Text::new) };
        assert_eq!(
            without_pieces(told),
            [
                begin(0, "/tmp/in", Direction::Upload),
                begin(1, "/etc/passwd", Direction::Download),
                Entry::FileEnd { file: 0, size: 100_000, again: 0, sha256: digest(&data), kept: true },
                Entry::FileEnd { file: 1, size: 11, again: 0, sha256: digest(b"root:x:0:0:"), kept: true },
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
    assert!(look(&mut observer, Stream::Input, &Packet::new(4, 3).string(b"h").done(), 99).is_empty());
    let told = look(&mut observer, Stream::Output, &status(3), 99);
    assert_eq!(told, [Entry::FileEnd { file: 0, size: 8, again: 0, sha256: None, kept: false }]);
}

#[test]
fn hostile_sftp_costs_little_and_breaks_nothing() {
    for strange in [&[0u8, 0, 0, 0, 9][..], &[0xff; 64], b"SSH-2.0-x\r\n"] {
        let mut observer = sftp(1);
        let told = look(&mut observer, Stream::Input, strange, 99);
        assert!(matches!(told[..], [Entry::Strange { .. }, Entry::Data { .. }]), "{told:?}");
    }
    // Requests that nobody answers.
    let mut observer = sftp(1);
    for id in 0..256 {
        look(&mut observer, Stream::Input, &open(id, "x", 1), 99);
    }
    for id in 0..100_000 {
        look(&mut observer, Stream::Input, &Packet::new(17, id).string(b"x").done(), 99);
    }
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

/// What is understood so far, when this is said by the client and that by the server: told as octets from there on.
fn is_strange(before: &[(Stream, Vec<u8>)], stream: Stream, strange: Vec<u8>) {
    for size in [1, 1 << 20] {
        let mut observer = sftp(1 << 20);
        for (stream, data) in before {
            look(&mut observer, *stream, data, size);
        }
        assert!(!observer.is_blind(), "{before:?}");
        let mut told = Vec::new();
        for piece in strange.chunks(size) {
            let data = Bytes::copy_from_slice(piece);
            told.extend(
                observer.look(5, stream, &data).unwrap_or_else(|| vec![Entry::Data { channel: 5, stream, data }]),
            );
        }
        assert!(told.iter().any(|entry| matches!(entry, Entry::Strange { .. })), "{before:?} {told:?}");
        assert_eq!(octets(&told, stream), strange);
    }
}

#[test]
fn sftp_that_can_be_understood_otherwise_is_strange() {
    use Stream::{Input, Output};
    let opened = || vec![(Input, open(1, "x", 0x1a)), (Output, handle(1, "h"))];
    let with = |more: Vec<(Stream, Vec<u8>)>| opened().into_iter().chain(more).collect::<Vec<_>>();
    // Two that are opened by one number: OpenSSH's server opens both.
    is_strange(&[(Input, open(1, "decoy", 0x1a))], Input, open(1, "evil", 0x1a));
    is_strange(&[(Input, Packet::new(11, 1).string(b"/").done())], Input, open(1, "evil", 0x1a));
    let read = |id, handle: &[u8]| Packet::new(5, id).string(handle).long(0).word(9).done();
    is_strange(&with(vec![(Input, read(2, b"h"))]), Input, read(2, b"h"));
    is_strange(&with(vec![(Input, read(2, b"h"))]), Input, close(2, "h"));
    // Handles that can be guessed, and such as were given back.
    is_strange(&[(Input, open(1, "x", 0x1a))], Input, write(2, "h", 0, b"hidden"));
    is_strange(&opened(), Input, write(2, "i", 0, b"hidden"));
    is_strange(&opened(), Input, read(2, b"i"));
    is_strange(&with(vec![(Input, close(2, "h"))]), Input, write(3, "h", 0, b"hidden"));
    is_strange(&[(Input, open(1, "x", 1)), (Output, handle(1, "h"))], Input, write(2, "h", 0, b"no"));
    // Octets that are part of a packet and not of the file.
    let mut long = Packet::new(6, 2).string(b"h").long(0).string(b"seen").0;
    long.extend(b"unseen");
    is_strange(&opened(), Input, Packet(long).done());
    let mut long = Packet::new(103, 2).string(b"seen").0;
    long.extend(b"unseen");
    is_strange(&with(vec![(Input, read(2, b"h"))]), Output, Packet(long).done());
    // Answers to nothing.
    is_strange(&opened(), Output, handle(1, "i"));
    is_strange(&opened(), Output, Packet::new(103, 9).string(b"x").done());
    is_strange(&with(vec![(Input, open(2, "y", 1))]), Output, handle(2, "h"));
    is_strange(&[(Input, open(1, "x", 1))], Output, handle(1, &"h".repeat(300)));
    // Messages that there are not, or whose fields reach beyond them.
    is_strange(&[], Input, Packet::new(77, 1).string(b"sh").done());
    is_strange(&[], Output, Packet::new(77, 1).string(b"sh").done());
    is_strange(&[], Input, Packet::new(3, 1).word(u32::MAX).done());
    is_strange(&opened(), Input, Packet::new(6, 1).word(u32::MAX).done());
    // More files than are told apart.
    let many = |id| format!("{id}");
    let full: Vec<_> = (0..256).flat_map(|id| [(Input, open(id, "x", 1)), (Output, handle(id, &many(id)))]).collect();
    let more = [full.clone(), vec![(Input, open(256, "y", 1))]].concat();
    is_strange(&more, Output, handle(256, "y"));
    is_strange(&(0..256).map(|id| (Input, open(id, "x", 1))).collect::<Vec<_>>(), Input, open(256, "x", 1));
}

#[test]
fn sftp_tells_both_ways_of_one_handle_and_what_was_said_in_part() {
    let mut observer = sftp(1 << 20);
    let mut told = look(&mut observer, Stream::Input, &open(1, "/etc/shadow", 3), 99);
    told.extend(look(&mut observer, Stream::Output, &handle(1, "h"), 99));
    let read = Packet::new(5, 2).string(b"h").long(0).word(9).done();
    told.extend(look(&mut observer, Stream::Input, &read, 99));
    told.extend(look(&mut observer, Stream::Output, &Packet::new(103, 2).string(b"root:").done(), 99));
    told.extend(look(&mut observer, Stream::Input, &write(3, "h", 0, b"evil:"), 99));
    // The client goes away before it hears that the file is closed, and in the middle of a word.
    told.extend(look(&mut observer, Stream::Input, &[close(4, "h"), b"\0\0\0\x09\x03wha".to_vec()].concat(), 99));
    told.extend(observer.end());
    assert_eq!((content(&told, 0), content(&told, 1)), (b"evil:".to_vec(), b"root:".to_vec()));
    assert_eq!(
        without_pieces(told),
        [
            begin(0, "/etc/shadow", Direction::Upload),
            begin(1, "/etc/shadow", Direction::Download),
            Entry::FileEnd { file: 0, size: 5, again: 0, sha256: digest(b"evil:"), kept: true },
            Entry::FileEnd { file: 1, size: 5, again: 0, sha256: digest(b"root:"), kept: true },
            Entry::Data { channel: 5, stream: Stream::Input, data: Bytes::from_static(b"\0\0\0\x09\x03wha") },
        ]
    );
    // Octets that the server copies by itself are seen by nobody.
    let mut observer = sftp(1 << 20);
    look(&mut observer, Stream::Input, &open(1, "x", 0x1a), 99);
    look(&mut observer, Stream::Output, &handle(1, "h"), 99);
    let copy = Packet::new(200, 2).string(b"copy-data").string(b"h").long(0).long(9).string(b"h").long(9).done();
    look(&mut observer, Stream::Input, &[copy, close(3, "h")].concat(), 99);
    let told = look(&mut observer, Stream::Output, &status(3), 99);
    assert_eq!(told, [Entry::FileEnd { file: 0, size: 0, again: 0, sha256: None, kept: false }]);
}
