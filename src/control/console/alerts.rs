//! Alerts of a sensor, until it is known which session each belongs to.
//!
//! A sensor tells of a packet when that has not always become a record yet: what finds no session is looked at again for a
//! short time.

use std::collections::VecDeque;

use crate::event::Said;
use crate::record::flow::Ends;
use crate::record::{Contact, Contacts};

/// How long an alert waits for its session, in microseconds.
const PATIENCE_MICROS: i64 = 2_000_000;
/// Alerts that wait at once.
const WAITING: usize = 4096;

/// Alerts that wait for their sessions.
#[derive(Debug, Default)]
pub struct Alerts(VecDeque<(i64, Said)>);

impl Alerts {
    /// Takes one at `now`, monotonic and in microseconds.
    pub fn push(&mut self, said: Said, now: i64) {
        self.0.push_back((now, said));
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have waited long enough, or whose session is known, with it. `offset` makes monotonic time that of the day.
    pub fn take(&mut self, contacts: &Contacts, now: i64, offset: i64) -> Vec<(Said, Option<Contact>)> {
        let mut settled = Vec::new();
        let surplus = self.0.len().saturating_sub(WAITING);
        for (at, (since, said)) in std::mem::take(&mut self.0).into_iter().enumerate() {
            let found =
                ends(&said).and_then(|ends| contacts.find(&ends, said.event.at.total_micros().saturating_add(offset)));
            let is_due = at < surplus || !(since..since.saturating_add(PATIENCE_MICROS)).contains(&now);
            if found.is_some() || is_due {
                settled.push((said, found));
            } else {
                self.0.push_back((since, said));
            }
        }
        settled
    }
}

fn ends(said: &Said) -> Option<Ends> {
    let event = &said.event;
    let ports = (event.src.l4_port, event.dst.l4_port);
    let ports = matches!(event.proto, 6 | 17).then_some(ports).filter(|(from, to)| *from != 0 && *to != 0);
    Some(Ends { src: event.src.ip.get()?, dst: event.dst.ip.get()?, proto: event.proto, ports })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventId, MaybeIp, SessionId, Utc};
    use crate::record::{End, Proto, Record};
    use crate::wire::Instant;

    const SECOND: i64 = 1_000_000;
    const OFFSET: i64 = 1000 * SECOND;

    fn alert(port: u16, at: i64) -> Said {
        let mut event = Event::new(EventId::IdsAlert, Instant::from_micros(at));
        let ip = |text: &str| MaybeIp::from(text.parse::<std::net::IpAddr>().ok());
        (event.src.ip, event.src.l4_port) = (ip("192.0.2.9"), port);
        (event.dst.ip, event.dst.l4_port, event.proto) = (ip("10.0.0.5"), 80, 6);
        Said { event, data: b"{}".to_vec() }
    }

    fn opened(session: u64, port: u16, at: i64) -> Record {
        let end = |ip: &str, port| Some(End { ip: Some(ip.parse().unwrap()), mac: None, port: Some(port) });
        let mut record = Record::bare(0, Utc::from_micros(at + OFFSET), EventId::TcpOpen);
        (record.src, record.dst) = (end("192.0.2.9", port), end("10.0.0.5", 80));
        (record.session, record.proto) = (Some(SessionId(session)), Some(Proto::Tcp));
        record
    }

    #[test]
    fn an_alert_waits_for_its_session_for_a_short_time() {
        let (mut alerts, mut contacts) = (Alerts::default(), Contacts::default());
        alerts.push(alert(40_000, 10 * SECOND), 11 * SECOND);
        assert_eq!(alerts.take(&contacts, 11 * SECOND, OFFSET), []);
        contacts.add(&opened(7, 40_000, 10 * SECOND));
        let settled = alerts.take(&contacts, 12 * SECOND, OFFSET);
        assert_eq!(settled[0].1.map(|found| found.session), Some(SessionId(7)));
        assert!(alerts.is_empty());
        // Of one that nobody knows anything of it is told all the same.
        let mut other = alert(40_000, 10 * SECOND);
        other.event.dst.ip = MaybeIp::from("10.0.0.6".parse::<std::net::IpAddr>().ok());
        alerts.push(other.clone(), 11 * SECOND);
        assert_eq!(alerts.take(&contacts, 12 * SECOND, OFFSET), []);
        assert_eq!(alerts.take(&contacts, 13 * SECOND, OFFSET), [(other, None)]);
    }

    #[test]
    fn they_are_bounded() {
        let (mut alerts, contacts) = (Alerts::default(), Contacts::default());
        (0..WAITING as i64 + 10).for_each(|at| alerts.push(alert(1, at), 0));
        assert_eq!(alerts.take(&contacts, 1, OFFSET).len(), 10);
        assert_eq!(alerts.0.len(), WAITING);
    }
}
