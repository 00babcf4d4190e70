//! What the switch tells of connections.

use bytes::Bytes;

use super::*;
use crate::record::belongings;
use crate::relay::tape::{Begin, ChannelKind, Credential, Entry, PIECE, Protocol, Reason, Stream, Text, Word};

#[test]
fn what_the_switch_tells_of_connections_is_kept() {
    let mut harness = Harness::new();
    let session = SessionId(0xabc);
    let begin = |session| Begin {
        protocol: Protocol::Ssh,
        session,
        node: NodeIdx(1),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: Utc::from_micros(clock::realtime_micros()),
    };
    let say = |conn, word| harness.switch.send_msg(&ToConsole::Tape { conn, word }, &[]).unwrap();
    let credential = Credential::Password { password: Text::new("toor") };
    let octets = Bytes::from(vec![b'#'; PIECE]);
    say(6, Word::Entry(0, Entry::Shell { channel: 0 }));
    say(7, Word::Begin(begin(session)));
    for (at, entry) in [
        (1, Entry::Attempt { user: Text::new("root"), credential, accepted: true }),
        (2, Entry::Opened { channel: 0, kind: ChannelKind::Session }),
        // Without a terminal there would be a beginning of it only.
        (3, Entry::Pty { channel: 0, term: Text::new("xterm"), columns: 80, rows: 24 }),
        (3, Entry::Exec { channel: 0, command: Text::command("dd") }),
    ] {
        say(7, Word::Entry(at, entry));
    }
    // More than waits anywhere.
    for at in 0..2000 {
        say(7, Word::Entry(at, Entry::Data { channel: 0, stream: Stream::Output, data: octets.clone() }));
    }
    say(7, Word::Entry(3_000, Reason::ClientClosed.end()));
    say(8, Word::Begin(begin(SessionId(8))));
    let of =
        |harness: &Harness, id| harness.records().into_iter().filter(|record| record.event == id).collect::<Vec<_>>();
    until("the first connection is over", || of(&harness, EventId::SshClose).len() == 1);

    // The second one ends with the switch.
    let data = b"the switch was ended by signal 9".to_vec();
    let said = Said { event: Event::new(EventId::ProcessState, now()), data };
    harness.supervisor.as_ref().unwrap().send_msg(&said, &[]).unwrap();
    until("the second is over, too", || of(&harness, EventId::SshClose).len() == 2);
    say(9, Word::Begin(begin(SessionId(9))));
    until("a third has begun", || harness.dir.path().join("sessions/0000000000000009").exists());
    harness.stop();

    let login = of(&harness, EventId::SshLogin).remove(0);
    assert_eq!((login.session, login.node.as_deref()), (Some(session), Some("core")));
    assert_eq!(login.src.unwrap().port, Some(40_000));
    assert!(login.text.unwrap().contains(r#""password":"toor","accepted":true"#));
    let age = clock::realtime_micros() - login.time.micros();
    assert!((0..DEADLINE.as_micros() as i64).contains(&age), "{age}");
    let closed = of(&harness, EventId::SshClose);
    let why = |at: usize| closed[at].text.clone().unwrap();
    assert!(why(0).contains("client-closed") && why(1).contains("switch-ended"), "{closed:?}");
    assert!(why(2).contains("honeynet-ended"), "{closed:?}");
    assert_eq!((closed[0].bytes_out, closed[0].duration_us), (Some(2000 * PIECE as u64), Some(3_000)));
    let told = crate::record::session(&harness.dir.path().join("events"), session, |_, _| Ok(())).unwrap().unwrap();
    assert_eq!((told.attacker, told.ports[0].logins), (Some([192, 0, 2, 9].into()), 1));

    let (files, _) = belongings(harness.dir.path(), session).unwrap();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].octets > 2000 * PIECE as u64, "{files:?}");
    let read = crate::record::tape::connection(&files[1].path).unwrap();
    assert_eq!((read.user.as_deref(), read.commands[0].command.as_str(), read.lost), (Some("root"), "dd", 0));
}
