//! Words made by hand, and what is kept of them.

mod bounds;
mod clocks;
mod exits;
mod files;
mod flood;
mod full;
mod input;
mod plain;
mod resume;
mod shares;
mod strangers;
mod typed;

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::event::{EventId, SessionId, Utc};
use crate::node::NodeIdx;
use crate::record::transcript::{Cast, Moment, What};
use crate::record::{belongings, is_harmless};
use crate::relay::tape::{Begin, ChannelKind, Credential, Direction, Entry, Protocol, Reason, Stream, Text, Word};

const NOW: i64 = 1_796_007_269_000_000;
const SESSION: SessionId = SessionId(0xabc);
const PLENTY: Space = Space { free: 1 << 40, size: 1 << 40 };

fn utc(micros: i64) -> Utc {
    Utc::from_micros(NOW + micros)
}

fn text(text: &str) -> Text {
    Text::new(text)
}

/// Recordings in a directory of their own, on a disk of which a test says how full it is.
struct Lab {
    dir: tempfile::TempDir,
    tapes: Tapes,
    space: Arc<Mutex<Space>>,
    now: i64,
    told: Vec<Notice>,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(TapeLimits::default(), false)
    }

    fn with(limits: TapeLimits, redacts: bool) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let space = Arc::new(Mutex::new(PLENTY));
        let tapes = Lab::tapes(dir.path(), limits, redacts, &space);
        Lab { dir, tapes, space, now: 0, told: Vec::new() }
    }

    fn tapes(dir: &Path, limits: TapeLimits, redacts: bool, space: &Arc<Mutex<Space>>) -> Tapes {
        let space = space.clone();
        let look = Box::new(move |_: &Path| Ok(*space.lock().unwrap()));
        Tapes::open(dir, limits, redacts, vec!["wan".into(), "core".into()], look).unwrap()
    }

    fn begin(&mut self, conn: u64, session: SessionId) {
        let begin = Begin {
            protocol: Protocol::Ssh,
            session,
            node: NodeIdx(1),
            peer: "192.0.2.9:40000".parse().unwrap(),
            local: "10.0.0.1:22".parse().unwrap(),
            at: utc(self.now),
        };
        self.tapes.take(conn, Word::Begin(begin), utc(self.now));
    }

    fn put(&mut self, conn: u64, at: u64, entry: Entry) {
        self.tapes.take(conn, Word::Entry(at, entry), utc(self.now));
        self.told.extend(self.tapes.told());
    }

    fn tend(&mut self) {
        self.now += 250_000;
        self.tapes.tend(utc(self.now));
        self.told.extend(self.tapes.told());
    }

    fn end(&mut self, conn: u64, at: u64) {
        self.put(conn, at, Reason::ClientClosed.end());
    }

    fn files(&self, session: SessionId) -> BTreeMap<String, PathBuf> {
        let (files, others) = belongings(self.dir.path(), session).unwrap();
        assert_eq!(others, 0, "every name is harmless");
        files.into_iter().map(|file| (file.name, file.path)).collect()
    }

    /// The only file whose name ends so.
    fn file(&self, ending: &str) -> PathBuf {
        let mut files = self.files(SESSION).into_iter().filter(|(name, _)| name.ends_with(ending));
        let (_, path) = files.next().unwrap_or_else(|| panic!("no {ending} in {:?}", self.files(SESSION)));
        assert!(files.next().is_none(), "several {ending}");
        path
    }

    /// What was told by events of one kind.
    fn told(&self, id: EventId) -> Vec<Value> {
        let told = self.told.iter().filter(|notice| notice.event.id == id);
        let object = |notice: &Notice| {
            let object: Value = serde_json::from_slice(&notice.data).unwrap();
            assert_eq!(crate::record::details::complaint(id, &object), None);
            object
        };
        told.map(object).collect()
    }

    fn failures(&self) -> Vec<String> {
        let told = self.told.iter().filter(|notice| notice.event.id == EventId::RecordingFailed);
        told.map(|notice| String::from_utf8(notice.data.clone()).unwrap()).collect()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn moments(path: &Path) -> Vec<Moment> {
    let mut cast = Cast::open(BufReader::new(fs::File::open(path).unwrap())).unwrap();
    let moments = std::iter::from_fn(|| cast.next_moment().unwrap()).collect();
    assert_eq!(cast.skipped(), 0);
    moments
}

fn hello() -> Entry {
    Entry::Hello {
        banner: text("SSH-2.0-libssh2_1.8.0"),
        kex: text("curve25519-sha256"),
        keys: text("ssh-ed25519"),
        ciphers: text("aes256-ctr"),
        macs: text("hmac-sha2-256"),
        compression: text("none"),
        languages: text(""),
        hassh: "92674389fa1e47a27ddd8d9b63ecd42b".into(),
    }
}

fn attempt(user: &str, password: &str, accepted: bool) -> Entry {
    let credential = Credential::Password { password: text(password) };
    Entry::Attempt { user: text(user), credential, accepted }
}

fn opened(channel: u32) -> Entry {
    Entry::Opened { channel, kind: ChannelKind::Session }
}

fn data(channel: u32, stream: Stream, data: &[u8]) -> Entry {
    Entry::Data { channel, stream, data: Bytes::copy_from_slice(data) }
}

fn upload(lab: &mut Lab, file: u32, path: &str, content: &[u8], kept: bool) {
    let path = text(path);
    lab.put(7, 1, Entry::FileBegin { channel: 0, file, path, direction: Direction::Upload });
    for (number, piece) in content.chunks(16 << 10).enumerate() {
        let offset = (number as u64) << 14;
        lab.put(7, 2, Entry::FilePiece { file, offset, data: Bytes::copy_from_slice(piece) });
    }
    lab.put(7, 3, Entry::FileEnd { file, size: content.len() as u64, again: 0, sha256: None, kept });
}

#[test]
fn a_shell_is_a_tape_a_transcript_and_events() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1_000, hello());
    lab.put(7, 2_000, Entry::Attempt { user: text("root"), credential: Credential::None, accepted: false });
    lab.put(7, 500_000, attempt("root", "toor\u{1b}", false));
    lab.put(7, 900_000, attempt("root", "123456", true));
    lab.put(7, 1_000_000, opened(3));
    let pty = Entry::Pty { channel: 3, term: text("xterm-256color"), columns: 132, rows: 0 };
    lab.put(7, 1_000_000, pty);
    lab.put(7, 1_100_000, Entry::Shell { channel: 3 });
    lab.put(7, 1_250_000, data(3, Stream::Output, b"# caf\xc3"));
    lab.tend();
    lab.put(7, 1_500_000, data(3, Stream::Input, b"id\r"));
    lab.put(7, 2_000_000, Entry::Resize { channel: 3, columns: 4_000_000_000, rows: 50 });
    // Time does not run backward.
    lab.put(7, 10, data(3, Stream::Output, b"\xa9"));
    lab.put(7, 9_000_000, Entry::Exit { channel: 3, status: Some(0), signal: None });
    lab.put(7, 9_000_000, Entry::Closed { channel: 3 });
    lab.end(7, 9_500_000);
    assert_eq!(lab.tapes.stats(), TapeStats { open: 0, dropped: 0, failing: None });

    let stem = "20261130T025429Z-ssh-0000000000000007";
    let names: Vec<String> = lab.files(SESSION).into_keys().collect();
    assert_eq!(names, [format!("{stem}-0003-0001.cast"), format!("{stem}.ndjson")]);
    for path in lab.files(SESSION).values() {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let dir = lab.dir.path().join("sessions").join(SESSION.to_string());
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o7777, 0o700);

    let cast = lab.file(".cast");
    let header = Cast::open(BufReader::new(fs::File::open(&cast).unwrap())).unwrap().header().clone();
    assert_eq!((header.width, header.height, header.env["TERM"].as_str()), (132, 24, "xterm-256color"));
    let what = [
        (150_000, What::Output("# caf".into())),
        (400_000, What::Input("id\r".into())),
        (900_000, What::Resize(9999, 50)),
        (900_000, What::Output("é".into())),
    ];
    assert_eq!(moments(&cast), what.map(|(at, what)| Moment { at, what }), "from the shell's beginning on");

    let tape = lab.file(TAPE);
    let lines = lines(&tape);
    assert_eq!(
        lines[0],
        json!({"at": 0.0, "begin": {
            "protocol": "ssh", "time": "2026-11-30T02:54:29.000000Z", "session": "0000000000000abc", "node": "core",
            "attacker": "192.0.2.9:40000", "host": "10.0.0.1:22",
        }})
    );
    let expected = json!({"at": 0.5, "attempt": {
        "user": "root", "credential": {"password": {"password": "toor\\x1b"}}, "accepted": false,
    }});
    assert_eq!(lines[3], expected);
    let last = lines.last().unwrap();
    assert_eq!((&last["at"], &last["total"]["attempts"], &last["total"]["lost"]), (&json!(9.5), &json!(2), &json!(0)));

    assert_eq!(
        lab.told(EventId::SshHello),
        [json!({
            "banner": "SSH-2.0-libssh2_1.8.0", "hassh": "92674389fa1e47a27ddd8d9b63ecd42b", "kex": "curve25519-sha256",
            "keys": "ssh-ed25519", "ciphers": "aes256-ctr", "macs": "hmac-sha2-256", "compression": "none", "languages": "",
        })]
    );
    let login = |password: &str, accepted: bool| json!({"user": "root", "method": "password", "password": password, "accepted": accepted});
    assert_eq!(lab.told(EventId::SshLogin), [login("toor\\x1b", false), login("123456", true)]);
    assert_eq!(lab.told(EventId::SshShell), [json!({"kind": "shell", "term": "xterm-256color", "size": "132x24"})]);
    assert_eq!(
        lab.told(EventId::SshClose),
        [json!({
            "reason": "client-closed", "attempts": 2, "channels": 1, "shells": 1, "input": 3, "output": 7,
        })]
    );
    let close = lab.told.last().unwrap();
    assert_eq!((close.at, close.event.count, close.event.bytes_in), (utc(9_500_000), 9_500_000, 3));
    assert_eq!((close.event.session, close.event.node, close.event.src.l4_port), (SESSION, 1, 40_000));

    let read = connection(&tape).unwrap();
    assert_eq!((read.user.as_deref(), read.end.as_deref()), (Some("root"), Some("client-closed")));
    assert_eq!((read.attempts.len(), read.seconds, read.more), (2, 9.5, 0));
    assert_eq!((read.attempts[0].credential.as_str(), read.attempts[0].accepted), ("toor\\x1b", Some(false)));
}

#[test]
fn a_command_is_named_by_its_transcript() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 2, Entry::Exec { channel: 0, command: Text::command("uname -a\n") });
    lab.put(7, 3, data(0, Stream::Output, b"Linux"));
    lab.put(7, 4, data(0, Stream::Error, b"oops"));
    // Two channels at once, and one that nobody opened.
    lab.put(7, 5, opened(1));
    lab.put(7, 5, Entry::Exec { channel: 1, command: Text::command("w") });
    lab.put(7, 6, data(1, Stream::Output, b"up"));
    lab.put(7, 6, data(99, Stream::Output, b"who?"));
    lab.end(7, 8);
    let cast = Cast::open(BufReader::new(fs::File::open(lab.file("0000-0001.cast")).unwrap())).unwrap();
    assert_eq!(cast.header().command.as_deref(), Some("uname -a\n"));
    let shown: Vec<What> = moments(&lab.file("0000-0001.cast")).into_iter().map(|moment| moment.what).collect();
    assert_eq!(shown, [What::Output("Linux".into()), What::Output("oops".into())]);
    assert_eq!(lab.told(EventId::SshCommand), [json!({"command": "uname -a\\x0a"}), json!({"command": "w"})]);
    assert_eq!(lab.told(EventId::SshClose)[0]["lost"], 4);
    let read = connection(&lab.file(TAPE)).unwrap();
    assert_eq!((read.commands[1].command.as_str(), read.commands[1].channel, read.lost), ("w", 1, 4));
}

#[test]
fn what_goes_beyond_the_host_is_told_and_its_octets_are_kept() {
    let mut lab = Lab::with(TapeLimits { stream: 300, ..TapeLimits::default() }, false);
    lab.begin(7, SESSION);
    let target = ChannelKind::DirectTcpip { host: text("smtp.example"), port: 25, from: text("127.0.0.1:4000") };
    lab.put(7, 1, Entry::Opened { channel: 4, kind: target.clone() });
    lab.put(7, 2, Entry::Refused { kind: target, reason: text("no\u{7}") });
    lab.put(7, 2, Entry::Refused { kind: ChannelKind::Session, reason: text("too many channels") });
    lab.put(7, 3, Entry::Listen { host: text("0.0.0.0"), port: 8080, accepted: true });
    lab.put(7, 4, data(4, Stream::Input, b"EHLO x\r\n"));
    lab.put(7, 5, data(4, Stream::Output, &[0xff; 300]));
    lab.put(7, 6, data(4, Stream::Input, b"more"));
    lab.put(7, 7, Entry::Closed { channel: 4 });
    lab.put(7, 8, opened(5));
    lab.put(7, 8, Entry::Subsystem { channel: 5, name: text("netconf") });
    lab.put(7, 9, data(5, Stream::Input, b"<hello/>"));
    lab.end(7, 10);
    assert_eq!(
        lines(&lab.file("0004.octets")),
        [
            json!({"at": 0.000_004, "stream": "input", "data": "RUhMTyB4DQo="}),
            json!({"at": 0.000_005, "stream": "output", "data": "/".repeat(400)}),
            json!({"at": 0.000_007, "lost": {"lines": 1}}),
            json!({"at": 0.000_007, "more": {"input": 4, "output": 0, "error": 0}}),
        ]
    );
    assert_eq!(lines(&lab.file("0005.octets"))[0]["data"], "PGhlbGxvLz4=");
    let told = lab.told(EventId::SshForward);
    let accepted = json!({
        "kind": "direct-tcpip", "host": "smtp.example", "port": 25, "from": "127.0.0.1:4000", "accepted": true,
    });
    assert_eq!((told.len(), &told[0]), (3, &accepted));
    assert_eq!((&told[1]["accepted"], &told[1]["reason"]), (&json!(false), &json!("no\\x07")));
    assert_eq!(lab.told(EventId::SshClose)[0]["forwards"], 3);
    // What is sent first, once.
    let first = json!({"host": "smtp.example", "port": 25, "channel": 4, "octets": "EHLO x\\x0d\\x0a"});
    assert_eq!(lab.told(EventId::SshForwardData), [first]);
    let read = connection(&lab.file(TAPE)).unwrap();
    let forwards: Vec<(&str, bool)> = read.forwards.iter().map(|told| (told.what.as_str(), told.accepted)).collect();
    assert_eq!(
        forwards,
        [("to smtp.example:25", true), ("to smtp.example:25", false), ("listen on 0.0.0.0:8080", true)]
    );
}

#[test]
fn a_switch_that_dies_ends_what_it_was_in_the_middle_of() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 2, Entry::Shell { channel: 0 });
    upload(&mut lab, 0, "x", b"", true);
    lab.put(7, 3, Entry::FileBegin { channel: 0, file: 1, path: text("y"), direction: Direction::Upload });
    lab.put(7, 3, Entry::FilePiece { file: 1, offset: 0, data: Bytes::from_static(b"half") });
    lab.tapes.switch_ended(utc(lab.now), utc(lab.now));
    lab.tend();
    // Its last words were still on their way, and another one begins.
    lab.put(7, 9, data(0, Stream::Output, b"last"));
    lab.begin(8, SESSION);
    (0..4).for_each(|_| lab.tend());
    assert_eq!(lab.tapes.stats(), TapeStats { open: 1, dropped: 0, failing: None });
    let tape = lab.file("0000000000000007.ndjson");
    assert_eq!(lines(&tape).iter().rev().nth(2).unwrap()["broken"], json!({"reason": "switch-ended"}));
    assert_eq!(connection(&tape).unwrap().end.as_deref(), Some("switch-ended"));
    assert_eq!(moments(&lab.file(".cast")).pop().unwrap().what, What::Output("last".into()));
    assert_eq!(lab.told(EventId::SshClose)[0]["reason"], "switch-ended");
    assert_eq!(lab.told(EventId::SshFile)[1]["cut"], "not-from-first-to-last");

    // Words about what is over, or has not begun, are counted.
    lab.put(7, 10, data(0, Stream::Output, b"?"));
    lab.put(9, 10, opened(0));
    lab.begin(8, SESSION);
    assert_eq!(lab.tapes.stats(), TapeStats { open: 1, dropped: 2, failing: None });
    lab.tapes.close(utc(lab.now));
    lab.told.extend(lab.tapes.told());
    assert_eq!(lab.told(EventId::SshClose)[1]["reason"], "honeynet-ended");

    // The next console is told of the same connection.
    let mut next = Lab { tapes: Lab::tapes(lab.dir.path(), TapeLimits::default(), false, &lab.space), ..lab };
    next.now = 0;
    next.begin(7, SESSION);
    next.end(7, 20);
    assert!(next.file("0000000000000007-r2.ndjson").exists());
}

/// What is open when a honeynet is ended was so until then, however long it was silent, and however long the rest takes.
#[test]
fn what_ends_with_the_honeynet_ends_when_that_does() {
    let mut lab = Lab::new();
    for conn in [6, 7] {
        lab.begin(conn, SESSION);
        lab.put(conn, 300, opened(0));
        lab.put(conn, 300, Entry::Shell { channel: 0 });
    }
    let (ending, switch, now) = (utc(3_000_000), utc(3_100_000), utc(9_000_000));
    // One switch ends by itself before, at a time of which nobody knows whether the connection lasted until then.
    lab.tapes.switch_ended(utc(2_000_000), utc(2_000_000));
    lab.tapes.tend(utc(3_000_000));
    lab.begin(8, SESSION);
    lab.now = 2_500_000;
    lab.tapes.ending(ending, utc(lab.now));
    lab.tapes.switch_ended(switch, switch);
    lab.begin(9, SESSION);
    lab.tapes.close(now);
    lab.told.extend(lab.tapes.told());
    let closed = lab.told(EventId::SshClose);
    let reasons: Vec<&Value> = closed.iter().map(|closed| &closed["reason"]).collect();
    assert_eq!(reasons, ["switch-ended", "switch-ended", "honeynet-ended", "honeynet-ended"]);
    let lasted = |at: usize| {
        lab.told.iter().filter(|notice| notice.event.id == EventId::SshClose).nth(at).map(|notice| notice.event.count)
    };
    assert_eq!([0, 1].map(lasted), [Some(300); 2]);
    let tape = lab.file("0000000000000008.ndjson");
    let told = lines(&tape);
    let end = told.iter().rev().nth(1).unwrap();
    assert_eq!(end["end"]["reason"], "honeynet-ended", "{told:?}");
    assert_eq!(connection(&tape).unwrap().end.as_deref(), Some("honeynet-ended"));
    assert!(lasted(2).is_some_and(|micros| micros > 300), "{:?}", lasted(2));
}

#[test]
fn nothing_that_is_told_harms_anybody() {
    // Who faces the attacker may be the attacker's: what has a form has it by accident.
    let wild = "\u{1b}[2J\u{202e}../../x\n\"\\\u{0}".repeat(3000);
    let evil: Text = serde_json::from_value(json!(wild)).unwrap();
    let mut lab = Lab::new();
    let begin = Begin {
        protocol: Protocol::Ssh,
        session: SESSION,
        node: NodeIdx(u16::MAX),
        peer: "[::1]:1".parse().unwrap(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: Utc::from_micros(i64::MAX),
    };
    lab.tapes.take(7, Word::Begin(begin), utc(0));
    let Entry::Hello { kex, keys, ciphers, macs, compression, languages, .. } = hello() else { panic!() };
    lab.put(
        7,
        u64::MAX,
        Entry::Hello { banner: evil.clone(), kex, keys, ciphers, macs, compression, languages, hassh: wild.clone() },
    );
    let credential = Credential::KeyboardInteractive { answers: vec![evil.clone(); 100] };
    lab.put(7, 5, Entry::Attempt { user: evil.clone(), credential, accepted: true });
    lab.put(7, 5, opened(u32::MAX));
    let pty = Entry::Pty { channel: u32::MAX, term: evil.clone(), columns: u32::MAX, rows: u32::MAX };
    lab.put(7, 5, pty);
    lab.put(7, 6, Entry::Exec { channel: u32::MAX, command: evil.clone() });
    lab.put(7, 7, data(u32::MAX, Stream::Output, wild.as_bytes()));
    let file = Entry::FileBegin { channel: 0, file: u32::MAX, path: evil.clone(), direction: Direction::Upload };
    lab.put(7, 8, file.clone());
    lab.put(7, 8, file);
    lab.put(7, 8, Entry::FilePiece { file: u32::MAX, offset: 0, data: Bytes::from_static(b"x") });
    lab.put(7, 9, Entry::FileEnd { file: u32::MAX, size: u64::MAX, again: 0, sha256: Some(wild.clone()), kept: true });
    lab.put(7, u64::MAX - 1, Entry::End { reason: Reason::ProtocolError, detail: Some(evil) });
    for (name, path) in lab.files(SESSION) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.chars().all(|c| c == '\n' || is_harmless(c)), "{name}");
    }
    assert!(lab.files(SESSION).len() == 3, "{:?}", lab.files(SESSION));
    for notice in &lab.told {
        assert!(
            notice.data.len() <= notice.event.id.most_data()
                && notice.data.iter().all(|octet| matches!(octet, b' '..=b'~'))
        );
        assert!(notice.at <= utc(3_600_000_000), "{:?}", notice.at);
        let _: Value = serde_json::from_slice(&notice.data).unwrap();
    }
    assert_eq!(lab.told.len(), 6);
    let read = serde_json::to_value(connection(&lab.file(TAPE)).unwrap()).unwrap();
    assert_eq!(read["files"][0]["size"], u64::MAX);
    fn harmless(value: &Value) -> bool {
        match value {
            Value::String(text) => text.chars().all(is_harmless),
            Value::Array(items) => items.iter().all(harmless),
            Value::Object(members) => members.values().all(harmless),
            _ => true,
        }
    }
    assert!(harmless(&read), "{read}");
    // What is no tape tells nothing.
    let junk = lab.dir.path().join("junk");
    fs::write(&junk, b"{\"at\":\"x\",\"attempt\":7}\n\xff\xfe\n[]\n{\"at\":1,\"begin\":[]}\n{\"at\":2,\"end\":{\"rea")
        .unwrap();
    let read = connection(&junk).unwrap();
    assert_eq!((read.lost_lines, read.attempts.len()), (2, 0));
}

#[test]
fn of_tls_there_is_a_tape() {
    let mut lab = Lab::new();
    let begin = Begin {
        protocol: Protocol::Tls,
        session: SESSION,
        node: NodeIdx(0),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:443".parse().unwrap(),
        at: utc(0),
    };
    lab.tapes.take(7, Word::Begin(begin), utc(0));
    lab.end(7, 3);
    assert!(lab.file("-tls-0000000000000007.ndjson").exists());
    assert_eq!(lab.told, []);
}
