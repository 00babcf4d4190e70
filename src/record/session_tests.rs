use std::fs;

use proptest::prelude::*;

use super::*;
use crate::record::{EventLog, LogLimits};

const ID: &str = "0000000000000abc";

fn record(event: &str, seconds: i64, rest: &str) -> Record {
    let time = Utc::from_micros(1_800_000_000_000_000 + seconds * 1_000_000);
    let text = format!(r#"{{"v":1,"seq":1,"time":"{time}","event":"{event}"{rest}}}"#);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn of_session(event: &str, seconds: i64, rest: &str) -> Record {
    let ends = r#","node":"lan","src":{"ip":"192.0.2.9","mac":"00:0c:29:aa:00:11","port":40000},"dst":{"ip":"10.0.0.1","port":22}"#;
    record(event, seconds, &format!(r#","session":"{ID}"{ends}{rest}"#))
}

fn about_container(event: &str, seconds: i64, session: &str, archive: &str) -> Record {
    let archive = if archive.is_empty() { String::new() } else { format!(r#","archive":"{archive}""#) };
    record(event, seconds, &format!(r#","session":"{session}","node":"lan","dst":{{"ip":"10.0.0.1"}}{archive}"#))
}

/// A log in a directory of its own, in files of so many octets.
fn log(records: Vec<Record>, file_bytes: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { file_bytes, ..LogLimits::default() };
    let mut log = EventLog::open(dir.path(), limits, Utc::EPOCH).unwrap();
    for mut record in records {
        log.push(&mut record);
        log.flush(Utc::EPOCH);
    }
    drop(log);
    dir
}

fn intrusion() -> Vec<Record> {
    let tcp = r#","proto":"tcp""#;
    vec![
        of_session("tcp.probe", 0, &format!(r#"{tcp},"answer":"open","scanner_os":"linux""#)),
        of_session("tcp.open", 1, tcp),
        record(
            "container.start",
            1,
            &format!(
                r#","session":"{ID}","node":"lan","src":{{"ip":"192.0.2.9"}},"dst":{{"ip":"10.0.0.1","port":22}}"#
            ),
        ),
        record(
            "container.live",
            2,
            &format!(r#","session":"{ID}","node":"lan","dst":{{"ip":"10.0.0.1"}},"duration_us":900000"#),
        ),
        of_session("tcp.data", 3, &format!(r#"{tcp},"bytes_in":5,"data":"aGVsbG8=","text":"hello""#)),
        record(
            "outward.drop",
            4,
            &format!(
                r#","session":"{ID}","cause":"{ID}","src":{{"ip":"10.0.0.1"}},"dst":{{"ip":"8.8.8.8"}},"reason":"policy","count":3"#
            ),
        ),
        record(
            "tcp.probe",
            5,
            &format!(
                r#","session":"00000000000000d0","cause":"{ID}","src":{{"ip":"10.0.0.1"}},"dst":{{"ip":"10.0.0.2","port":23}},"proto":"tcp","answer":"closed""#
            ),
        ),
        of_session("tcp.close", 9, &format!(r#"{tcp},"bytes_in":50,"bytes_out":70"#)),
        of_session("session.end", 10, r#","count":20,"bytes_in":900,"bytes_out":800"#),
        about_container("container.stop", 11, ID, ""),
        // Somebody else has the same container, and then it goes.
        about_container("evidence.taken", 20, "00000000000000ee", "20260131T235959Z-10.0.0.1-7.tar.zst"),
        about_container("container.destroyed", 21, "00000000000000ee", "20260131T235959Z-10.0.0.1-7.tar.zst"),
        // The next one is not this session's.
        about_container("evidence.taken", 30, "00000000000000ff", "20260201T000000Z-10.0.0.1-9.tar.zst"),
    ]
}

#[test]
fn a_session_is_put_together_across_files() {
    for file_bytes in [100, 1000, 1 << 20] {
        let dir = log(intrusion(), file_bytes);
        let mut lines = 0;
        let session = session(dir.path(), SessionId(0xabc), |line, record| {
            assert!(line.contains(ID) || record.archive.is_some(), "{line}");
            lines += 1;
            Ok(())
        });
        let session = session.unwrap().unwrap();
        assert_eq!(lines, 12);
        assert_eq!(session.attacker, Some([192, 0, 2, 9].into()));
        assert_eq!((session.host, session.node.as_deref()), (Some([10, 0, 0, 1].into()), Some("lan")));
        assert_eq!((session.bytes_in, session.bytes_out, session.ended), (50, 70, true));
        assert_eq!(
            session.until.micros() - session.since.micros(),
            9_000_000,
            "what became of its container is others' doing"
        );
        assert_eq!(session.heard.micros() - session.since.micros(), 11_000_000);
        assert_eq!(session.ports.len(), 1);
        let port = &session.ports[0];
        assert_eq!((port.port, port.answer, port.probes, port.connections), (22, Some("open"), 1, 1));
        assert_eq!(session.verdicts, BTreeMap::from([("outward.drop policy".into(), 3)]));
        assert_eq!(session.containers.len(), 1);
        assert_eq!(session.containers[0].started_us, Some(900_000));
        assert!(session.containers[0].until.is_some());
        assert_eq!(session.archives, BTreeSet::from(["20260131T235959Z-10.0.0.1-7.tar.zst".into()]));
        assert_eq!(session.caused, BTreeSet::from([SessionId(0xd0)]));
        let json = serde_json::to_value(&session).unwrap();
        assert_eq!((&json["session"], &json["events"]["tcp.open"]), (&ID.into(), &1.into()));
        assert_eq!((&json["caused"][0], &json["more"]), (&"00000000000000d0".into(), &serde_json::Value::Null));
    }
}

#[test]
fn sessions_are_filtered_and_the_last_ones_are_listed() {
    let dir = log(intrusion(), 1000);
    let all = sessions(dir.path(), &Wanted::default(), 100).unwrap();
    let ids: Vec<u64> = all.sessions.iter().map(|session| session.session.0).collect();
    assert_eq!((ids, all.left_out), (vec![0xd0, 0xabc, 0xee, 0xff], 0));
    let last = sessions(dir.path(), &Wanted::default(), 1).unwrap();
    assert_eq!((last.sessions.len(), last.sessions[0].session.0, last.left_out), (1, 0xff, 3));
    let at = |seconds: i64| Some(Utc::from_micros(1_800_000_000_000_000 + seconds * 1_000_000));
    for (wanted, ids) in [
        (Wanted { attacker: Some([192, 0, 2, 9].into()), ..Wanted::default() }, vec![0xabc]),
        (Wanted { host: Some([10, 0, 0, 2].into()), ..Wanted::default() }, vec![0xd0]),
        (Wanted { since: at(15), ..Wanted::default() }, vec![0xee, 0xff]),
        (Wanted { until: at(0), ..Wanted::default() }, vec![0xabc]),
        (Wanted { since: at(6), until: at(10), ..Wanted::default() }, vec![0xabc]),
        (Wanted { attacker: Some([10, 0, 0, 99].into()), ..Wanted::default() }, vec![]),
    ] {
        let found = sessions(dir.path(), &wanted, 100).unwrap();
        let found: Vec<u64> = found.sessions.iter().map(|session| session.session.0).collect();
        assert_eq!(found, ids, "{wanted:?}");
    }
}

#[test]
fn a_clock_that_jumps_back_makes_no_session_shorter() {
    let dir = log(
        vec![of_session("tcp.open", 100, ""), of_session("tcp.close", -500, ""), of_session("tcp.open", -400, "")],
        1000,
    );
    let found = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    assert_eq!(found.until.micros() - found.since.micros(), 600_000_000);
}

#[test]
fn what_others_do_to_a_container_makes_no_session_longer() {
    let lasted = |record: Record| {
        let dir = log(vec![of_session("tcp.open", 0, ""), of_session("tcp.close", 9, ""), record], 1 << 20);
        let session = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
        assert_eq!(session.heard.micros() - session.since.micros(), 3_600_000_000);
        (session.until.micros() - session.since.micros()) / 1_000_000
    };
    for others in [
        "container.stop",
        "container.frozen",
        "container.thawed",
        "container.destroyed",
        "container.live",
        "evidence.taken",
        "evidence.listed",
        "evidence.failed",
        "session.end",
    ] {
        assert_eq!(lasted(about_container(others, 3600, ID, "")), 9, "{others}");
    }
    // Programs that descend from a connection are what it is for; that they end, or what belongs to the system, is not.
    assert_eq!(lasted(of_session("container.exec", 3600, "")), 3600);
    assert_eq!(lasted(about_container("container.exec", 3600, ID, "")), 9);
    assert_eq!(lasted(of_session("container.exit", 3600, "")), 9);
    for own in ["tcp.probe", "tcp.close", "service.login", "shell.command", "outward.flow", "icmp.echo"] {
        assert_eq!(lasted(of_session(own, 3600, "")), 3600, "{own}");
    }
    // One of which nothing else is left.
    let dir =
        log(vec![about_container("evidence.taken", 5, ID, ""), about_container("container.stop", 90, ID, "")], 1 << 20);
    let session = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    assert_eq!(session.since, session.until);
}

#[test]
fn whatever_ends_the_switch_ends_its_sessions() {
    let said = |seconds: i64, reason: &str| record("process.state", seconds, &format!(r#","reason":"{reason}""#));
    let over = |records: Vec<Record>| {
        let dir = log(records, 300);
        let one = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
        let all = sessions(dir.path(), &Wanted::default(), 10).unwrap().sessions;
        let listed = all.iter().find(|session| session.session == one.session).unwrap();
        assert_eq!((listed.over, listed.ended), (one.over, one.ended), "a list says the same");
        assert_eq!(one.ended, one.over.is_some());
        one.over.map(|over| ((over.since.micros() - 1_800_000_000_000_000) / 1_000_000, over.why))
    };
    let begun = || vec![said(-2, "the switch was started (process 1)"), of_session("tcp.open", 0, "")];
    let then = |more: Vec<Record>| over(begun().into_iter().chain(more).collect());
    assert_eq!(then(vec![]), None);
    for of_others in
        ["the console was ended by signal 9", "the keeper was started again (process 2)", "the console ended"]
    {
        assert_eq!(then(vec![said(5, of_others)]), None, "{of_others}");
    }
    assert_eq!(then(vec![said(5, "the honeynet ends: by signal 15")]), Some((5, Why::HoneynetEnded)));
    assert_eq!(then(vec![said(5, "the switch was ended by signal 9")]), Some((5, Why::SwitchEnded)));
    // Nobody was left to tell: another run of the honeynet does, and there may be several.
    let later =
        vec![said(50, "the switch was started (process 9)"), said(70, "the honeynet ends: by `honeyweave down`")];
    assert_eq!(then(later), Some((50, Why::SwitchEnded)));
    // What comes by another way is written down in another order.
    let late = vec![
        said(5, "the switch ended with exit code 1"),
        of_session("tcp.data", 4, ""),
        of_session("tcp.open", 1, ""),
    ];
    assert_eq!(over(late), Some((5, Why::SwitchEnded)));
    // One that ended by itself did not end with the switch.
    let dir =
        log(begun().into_iter().chain([of_session("session.end", 3, ""), said(5, "the switch ended")]).collect(), 300);
    let session = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    assert_eq!((session.ended, session.over), (true, None));
}

#[test]
fn a_container_that_ends_with_the_honeynet_has_an_end() {
    let mut records: Vec<Record> = intrusion().into_iter().take(5).collect();
    let mut gone = about_container("container.destroyed", 12, ID, "");
    gone.reason = Some("the honeynet ends".into());
    records.push(gone);
    let dir = log(records, 300);
    let session = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    let life = &session.containers[0];
    assert_eq!((life.until, life.why.as_deref()), (Some(session.heard), Some("the honeynet ends")));
}

#[test]
fn what_is_no_record_is_passed_over() {
    let dir = log(intrusion(), 1 << 20);
    let path = dir.path().join("events.ndjson");
    let mut bytes = format!("{ID}\n{{\"session\":\"{ID}\",\"archive\":\n\u{0}\n").into_bytes();
    bytes.extend_from_slice(b"\xff\xfe\n");
    bytes.extend(std::iter::repeat_n(b'x', 200_000));
    bytes.push(b'\n');
    bytes.extend(fs::read(&path).unwrap());
    // Half a line that is being written.
    bytes.extend(format!(r#"{{"v":1,"session":"{ID}""#).bytes());
    fs::write(&path, bytes).unwrap();
    let found = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    assert_eq!(found.events.total(), 9);
    assert_eq!(session(dir.path(), SessionId(0xdead), |_, _| Ok(())).unwrap(), None);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(sessions(empty.path(), &Wanted::default(), 5).unwrap(), Found::default());
}

#[test]
fn more_of_anything_is_counted() {
    let mut session = Session::new(SessionId(0xabc), Utc::EPOCH);
    for port in 0..1000 {
        let mut probe = of_session("tcp.probe", 0, r#","proto":"tcp""#);
        probe.dst.as_mut().unwrap().port = Some(port);
        session.add(&probe);
        let mut drop = of_session("outward.drop", 0, "");
        drop.reason = Some(format!("reason {port}"));
        session.add(&drop);
        session.add(&of_session("container.start", 0, ""));
        session.add(&about_container("evidence.taken", 0, ID, &format!("{port}")));
    }
    assert_eq!((session.ports.len(), session.more_ports), (PORTS, 1000 - PORTS as u64));
    assert_eq!([session.verdicts.len(), session.containers.len(), session.archives.len()], [EACH; 3]);
    assert_eq!(session.more, 3 * (1000 - EACH as u64));
}

#[test]
fn a_sweep_does_not_fill_the_memory() {
    let mut all = HashMap::new();
    let mut left_out = 0;
    for number in 0..200_000u64 {
        if all.len() >= MOST_SESSIONS {
            left_out += forget(&mut all, &Wanted::default());
        }
        let id = SessionId(number);
        all.insert(id, Session::new(id, Utc::from_micros(number as i64)));
    }
    assert!(all.len() <= MOST_SESSIONS);
    assert_eq!(all.len() as u64 + left_out, 200_000);
    assert!(all.contains_key(&SessionId(199_999)) && !all.contains_key(&SessionId(0)));
    // Those of whom nothing is wanted make room first, and are not counted.
    let wanted = Wanted { attacker: Some([1, 2, 3, 4].into()), ..Wanted::default() };
    assert_eq!(forget(&mut all, &wanted), 0);
    assert!(all.is_empty());
}

proptest! {
    #[test]
    fn any_order_of_records_is_put_together(order in Just((0..13usize).collect::<Vec<_>>()).prop_shuffle(), cut in 0..13usize) {
        let records = intrusion();
        let mut put: Vec<Record> = order.iter().skip(cut).map(|at| records[*at].clone()).collect();
        put.iter_mut().for_each(|record| record.seq = 0);
        let dir = log(put, 300);
        let found = session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap();
        if let Some(found) = found {
            prop_assert!(found.since <= found.until);
            prop_assert!(found.events.total() <= 9);
        }
        sessions(dir.path(), &Wanted::default(), 3).unwrap();
    }
}
