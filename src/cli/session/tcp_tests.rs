use super::*;
use crate::event::SessionId;
use crate::record::{Over, Why};

const SECOND: i64 = 1_000_000;

fn record(event: &str, at: i64, from: u16, rest: &str) -> Record {
    let time = Utc::from_micros(at * SECOND);
    let text = format!(
        r#"{{"v":1,"seq":1,"time":"{time}","event":"{event}","session":"0000000000000abc","proto":"tcp",
            "src":{{"ip":"192.0.2.9","port":{from}}},"dst":{{"ip":"10.0.0.1","port":22}}{rest}}}"#
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn session(records: &[Record], over: Option<Over>) -> Session {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for record in records {
        let mut line = String::new();
        record.write_line(&mut line).unwrap();
        text += &line;
    }
    std::fs::write(dir.path().join("events.ndjson"), text).unwrap();
    let mut session = crate::record::session(dir.path(), SessionId(0xabc), |_, _| Ok(())).unwrap().unwrap();
    session.over = over;
    session
}

/// The columns "lasted", "in", "out" and "end" of each row.
fn told(records: &[Record], over: Option<Over>) -> Vec<[Value; 4]> {
    let mut links = Links::default();
    records.iter().for_each(|record| links.add(record));
    let session = session(records, over);
    let rows = links.rows(&session, State::Open);
    rows.map(|row| ["lasted", "in", "out", "end"].map(|name| row[name].clone())).collect()
}

#[test]
fn when_and_why_each_connection_ended_is_told() {
    let records = [
        record("tcp.open", 0, 40_000, ""),
        record("tcp.open", 1, 40_001, ""),
        record("tcp.close", 3, 40_000, r#","reason":"reset-by-peer","bytes_in":5,"bytes_out":7"#),
        // The same ports once more.
        record("tcp.open", 4, 40_000, ""),
        record("ssh.command", 9, 40_001, ""),
        record("tcp.close", 10, 40_001, r#","reason":"honeynet-ended","bytes_in":100,"bytes_out":200"#),
        record("tcp.close", 20, 40_002, r#","reason":"closed","bytes_in":1,"bytes_out":2,"duration_us":60000000"#),
    ];
    let rows = told(&records, None);
    assert_eq!(rows[0], [json!("3.0 s"), json!(5), json!(7), json!("reset by the client")]);
    assert_eq!(rows[1], [json!("9.0 s"), json!(100), json!(200), json!("the honeynet ended")]);
    assert_eq!(rows[2], [Value::Null, Value::Null, Value::Null, json!("goes on")]);
    assert_eq!(rows[3], [json!("1 min 0 s"), json!(1), json!(2), json!("closed")]);
}

#[test]
fn an_end_that_nobody_has_seen_is_not_made_up() {
    let records = [record("tcp.open", 0, 40_000, ""), record("service.request", 7, 40_000, "")];
    let over = Over { since: Utc::from_micros(60 * SECOND), why: Why::SwitchEnded };
    let [lasted, came, went, end] = &told(&records, Some(over))[0];
    assert!([lasted, came, went].iter().all(|value| value.is_null()), "{lasted} {came} {went}");
    assert_eq!(end, "not on record (the switch ended); last heard of after 7.0 s");
}

#[test]
fn of_many_the_newest_are_told() {
    let mut links = Links::default();
    for port in 0..1000 {
        links.add(&record("tcp.open", i64::from(port), port, ""));
    }
    assert_eq!((links.each.len(), links.more()), (MOST, 1000 - MOST as u64));
    assert_eq!(links.each[0].from, 1000 - MOST as u16);
    // What is no connection's is passed over.
    let mut datagram = record("udp.datagram", 0, 999, "");
    datagram.proto = Some(Proto::Udp);
    links.add(&datagram);
    links.add(&Record::bare(1, Utc::EPOCH, EventId::TcpOpen));
    assert_eq!(links.each.len(), MOST);
}
