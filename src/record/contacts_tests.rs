use super::super::schema::End;
use super::*;
use crate::event::Utc;

const SECOND: i64 = 1_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record(event: EventId, src: (&str, u16), dst: (&str, u16), session: u64, at: i64) -> Record {
    let end =
        |(text, port): (&str, u16)| Some(End { ip: Some(ip(text)), mac: None, port: (port != 0).then_some(port) });
    let mut record = Record::bare(0, Utc::from_micros(at), event);
    (record.src, record.dst, record.proto) = (end(src), end(dst), Some(Proto::Tcp));
    record.session = Some(SessionId(session));
    record
}

fn tcp(src: (&str, u16), dst: (&str, u16)) -> Ends {
    Ends { src: ip(src.0), dst: ip(dst.0), proto: proto::TCP, ports: Some((src.1, dst.1)) }
}

fn found(contacts: &Contacts, ends: &Ends, at: i64) -> Option<u64> {
    contacts.find(ends, at).map(|contact| contact.session.0)
}

const A: &str = "192.0.2.9";
const B: &str = "10.0.0.5";

#[test]
fn a_connection_is_found_in_both_directions_and_before_a_pair() {
    let mut contacts = Contacts::default();
    contacts.add(&record(EventId::TcpProbe, (A, 40_000), (B, 22), 1, 10 * SECOND));
    contacts.add(&record(EventId::TcpOpen, (A, 40_000), (B, 22), 1, 10 * SECOND));
    // The host attacks in turn: another session of the same two.
    contacts.add(&record(EventId::TcpOpen, (B, 50_000), (A, 80), 2, 20 * SECOND));
    assert_eq!(found(&contacts, &tcp((A, 40_000), (B, 22)), 30 * SECOND), Some(1));
    assert_eq!(found(&contacts, &tcp((B, 22), (A, 40_000)), 30 * SECOND), Some(1));
    assert_eq!(found(&contacts, &tcp((A, 80), (B, 50_000)), 30 * SECOND), Some(2));
    // Of another connection only the addresses are known: the latest that was.
    assert_eq!(found(&contacts, &tcp((A, 40_001), (B, 22)), 30 * SECOND), Some(2));
    assert_eq!(found(&contacts, &tcp((A, 40_001), (B, 22)), 15 * SECOND), Some(1));
    let echo = Ends { src: ip(B), dst: ip(A), proto: 1, ports: None };
    assert_eq!(found(&contacts, &echo, 15 * SECOND), Some(1));
    assert_eq!(found(&contacts, &echo, 7 * SECOND), None, "nobody had come yet");
    assert_eq!(found(&contacts, &echo, 9 * SECOND), Some(1), "clocks are not that exact");
    assert_eq!(found(&contacts, &tcp((A, 40_000), ("10.0.0.6", 22)), 15 * SECOND), None);
}

#[test]
fn what_comes_long_after_the_end_is_not_the_sessions() {
    let mut contacts = Contacts::default();
    contacts.add(&record(EventId::TcpOpen, (A, 40_000), (B, 22), 1, 10 * SECOND));
    assert_eq!(found(&contacts, &tcp((A, 1), (B, 2)), 9000 * SECOND), Some(1), "it goes on in silence");
    contacts.add(&record(EventId::SessionEnd, (A, 0), (B, 0), 1, 20 * SECOND));
    assert_eq!(found(&contacts, &tcp((A, 1), (B, 2)), 25 * SECOND), Some(1));
    assert_eq!(found(&contacts, &tcp((A, 1), (B, 2)), 31 * SECOND), None);
    contacts.add(&record(EventId::TcpProbe, (A, 40_000), (B, 22), 3, 50 * SECOND));
    assert_eq!(found(&contacts, &tcp((A, 1), (B, 2)), 55 * SECOND), Some(3));
    let all = |since, until| contacts.between(&(ip(B), ip(A)), since, until).map(|id| id.0).collect::<Vec<_>>();
    assert!(all(0, 60 * SECOND).contains(&1) && all(0, 60 * SECOND).contains(&3));
    assert_eq!(all(40 * SECOND, 60 * SECOND), [3]);
}

#[test]
fn a_flood_from_forged_sources_forgets_no_connection() {
    let mut contacts = Contacts::default();
    contacts.add(&record(EventId::TcpOpen, (A, 40_000), (B, 22), 1, 10 * SECOND));
    for number in 0..3 * MOST as u32 {
        let source = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        contacts.add(&record(EventId::TcpProbe, (&source, 1), (B, 22), 100 + u64::from(number), 11 * SECOND));
    }
    assert!(contacts.bulk.pairs.len() <= MOST + 1 && contacts.bulk.flows.len() <= MOST + 1);
    assert_eq!(found(&contacts, &tcp((A, 40_000), (B, 22)), 12 * SECOND), Some(1));
}

#[test]
fn a_console_goes_on_where_another_one_died() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::from("torn\n");
    let mut line = String::new();
    record(EventId::TcpOpen, (A, 40_000), (B, 22), 7, 10 * SECOND).write_line(&mut line).unwrap();
    lines.push_str(&line);
    std::fs::write(dir.path().join("events.ndjson"), lines).unwrap();
    let contacts = Contacts::of_log(dir.path());
    assert_eq!(found(&contacts, &tcp((A, 40_000), (B, 22)), 12 * SECOND), Some(7));
    assert_eq!(found(&Contacts::of_log(&dir.path().join("no")), &tcp((A, 40_000), (B, 22)), 12 * SECOND), None);
}
