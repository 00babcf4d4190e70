//! Whose addresses are truncated, and whose are not.

use super::*;
use crate::record::belongings;
use crate::record::privacy::Privacy;
use crate::relay::tape::{Begin, ChannelKind, Credential, Entry, Protocol, Reason, Text, Word};

/// That of a host that has leased it: the topology does not know it.
const OURS: &str = "198.51.100.30";
/// Attackers, and what is written of them.
const THEIRS: &str = "192.0.2.9";
const THEIRS_V6: &str = "2001:db8:1:2:3:4:5:6";

fn truncating() -> Plan {
    Plan { privacy: Privacy { truncate: Some(Default::default()), ..Privacy::default() }, ..plan(vec![]) }
}

/// A connection of `peer`, which has one passed on to `target`.
fn connection(harness: &Harness, conn: u64, peer: &str, target: &str) {
    let ip: IpAddr = peer.parse().unwrap();
    let begin = Begin {
        protocol: Protocol::Ssh,
        session: SessionId(conn),
        node: NodeIdx(1),
        peer: (ip, 40_000).into(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: Utc::from_micros(clock::realtime_micros()),
    };
    let kind = ChannelKind::DirectTcpip { host: Text::new(target), port: 25, from: Text::default() };
    let credential = Credential::Password { password: Text::new("toor") };
    for word in [
        Word::Begin(begin),
        Word::Entry(1, Entry::Attempt { user: Text::new("root"), credential, accepted: true }),
        Word::Entry(2, Entry::Opened { channel: 0, kind }),
        Word::Entry(3, Entry::Opened { channel: 1, kind: ChannelKind::Session }),
        Word::Entry(4, Entry::Exec { channel: 1, command: Text::command("id") }),
        Word::Entry(5, Reason::ClientClosed.end()),
    ] {
        harness.switch.send_msg(&ToConsole::Tape { conn, word }, &[]).unwrap();
    }
}

/// What was recorded of a connection: tape and transcript, events.
fn recorded(harness: &Harness, conn: u64) -> (String, Vec<Record>) {
    let of = |id| {
        let records = harness.records().into_iter();
        records.filter(|record| record.session == Some(SessionId(conn)) && record.event == id).collect::<Vec<_>>()
    };
    until("it is over", || of(EventId::SshClose).len() == 1);
    let (files, _) = belongings(harness.dir.path(), SessionId(conn)).unwrap();
    assert_eq!(files.len(), 2, "a tape and a transcript: {files:?}");
    let texts = files.iter().map(|file| std::fs::read_to_string(&file.path).unwrap()).collect();
    (texts, [EventId::SshLogin, EventId::SshForward].into_iter().flat_map(of).collect())
}

#[test]
fn who_has_leased_an_address_is_one_of_ours_everywhere() {
    let mut harness = Harness::with(truncating(), ring::create(c"honeyweave-test", 1 << 16).unwrap());
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let src = |record: &Record| record.src.as_ref().and_then(|src| src.ip).unwrap();
    connection(&harness, 1, THEIRS, OURS);
    let (files, events) = recorded(&harness, 1);
    assert!(!files.contains(OURS) && !files.contains(THEIRS), "nobody has leased it: {files}");
    assert!(events.iter().all(|record| src(record) == ip("192.0.2.0")), "{events:?}");

    let mut leased = Event::new(EventId::DhcpLeased, now());
    leased.dst.ip = ip(OURS).into();
    harness.sink().emit(&leased, b"");
    until("the lease is logged", || harness.records().iter().any(|record| record.event == EventId::DhcpLeased));
    // The second time by a console that was not told of it.
    for first in [2, 12] {
        connection(&harness, first, THEIRS, OURS);
        connection(&harness, first + 1, OURS, "198.51.100.31");
        connection(&harness, first + 2, THEIRS_V6, OURS);
        let (files, events) = recorded(&harness, first);
        assert!(files.contains(OURS), "a target that is ours: {files}");
        assert!(files.contains("192.0.2.0") && !files.contains(THEIRS), "{files}");
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events.iter().all(|record| src(record) == ip("192.0.2.0")), "{events:?}");
        assert!(events[1].text.as_ref().unwrap().contains(OURS), "{events:?}");
        let (files, events) = recorded(&harness, first + 1);
        assert!(files.contains(OURS), "who comes from one of ours: {files}");
        assert!(files.contains("198.51.100.0") && !files.contains("198.51.100.31"), "{files}");
        assert!(events.iter().all(|record| src(record) == ip(OURS)), "{events:?}");
        let (files, events) = recorded(&harness, first + 2);
        assert!(files.contains("2001:db8:1::") && !files.contains("2001:db8:1:2"), "{files}");
        assert!(events.iter().all(|record| src(record) == ip("2001:db8:1::")), "{events:?}");

        harness.stop();
        harness.start(truncating());
    }
}
