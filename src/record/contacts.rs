//! Who has spoken to whom lately, and in which session: what joins a sensor's alert, or a capture, to sessions.
//!
//! Both tell of addresses, ports and times only. Sources can be forged, so what a single frame brings about is remembered
//! apart from connections: a flood of it forgets none of these.

use std::net::IpAddr;
use std::path::Path;

use super::flow::{Ends, Recent};
use super::schema::{Proto, Record};
use super::search::tail;
use crate::event::{EventId, SessionId};
use crate::wire::proto;

/// Pairs of addresses that are remembered of each kind, and flows.
const MOST: usize = 65_536;
/// Sessions of one pair of addresses: one after the other, or one in each direction, or in each VLAN.
const EACH: usize = 8;
/// What is told by the clock of another program may be so much before its session.
const EARLY_MICROS: i64 = 2_000_000;
/// How long after its end something may still be a session's.
const LATE_MICROS: i64 = 10_000_000;
/// Octets at the end of a log that are read for what its last writer knew.
const TAIL: u64 = 8 << 20;

/// A session, and when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// The session.
    pub session: SessionId,
    /// What that is a consequence of.
    pub cause: Option<SessionId>,
    since: i64,
    until: i64,
    ended: bool,
}

impl Contact {
    fn of(record: &Record, session: SessionId) -> Contact {
        let at = record.time.micros();
        let ended = record.event == EventId::SessionEnd;
        Contact { session, cause: record.cause, since: at, until: at, ended }
    }

    fn add(&mut self, record: &Record) {
        let at = record.time.micros();
        (self.since, self.until) = (self.since.min(at), self.until.max(at));
        self.cause = self.cause.or(record.cause);
        self.ended |= record.event == EventId::SessionEnd;
    }

    /// Whether it was at a time from `since` to `until`, as others tell the time.
    fn was(&self, since: i64, until: i64) -> bool {
        self.since - EARLY_MICROS <= until && !(self.ended && self.until + LATE_MICROS < since)
    }
}

/// What is remembered of one kind of events.
#[derive(Debug)]
struct Known {
    pairs: Recent<(IpAddr, IpAddr), Vec<Contact>>,
    flows: Recent<Ends, Contact>,
}

impl Known {
    fn new() -> Known {
        Known { pairs: Recent::new(MOST), flows: Recent::new(MOST) }
    }

    fn add(&mut self, ends: &Ends, record: &Record, session: SessionId) {
        // Most have one session, and a sweep has many of them.
        let contacts = self.pairs.get_or(ends.pair(), || Vec::with_capacity(1));
        match contacts.iter_mut().find(|contact| contact.session == session) {
            Some(contact) => contact.add(record),
            None => {
                if contacts.len() >= EACH {
                    contacts.remove(0);
                }
                contacts.push(Contact::of(record, session));
            }
        }
        if ends.ports.is_some() {
            let flow = self.flows.get_or(ends.flow(), || Contact::of(record, session));
            if flow.session != session {
                // The same ports again, later.
                *flow = Contact::of(record, session);
            }
            flow.add(record);
            flow.ended |= record.event == EventId::TcpClose;
        }
    }
}

/// The sessions of the last time.
#[derive(Debug)]
pub struct Contacts {
    /// Of connections, and of what containers did.
    proven: Known,
    /// Of what anybody may have written as anybody.
    bulk: Known,
}

impl Default for Contacts {
    fn default() -> Contacts {
        Contacts { proven: Known::new(), bulk: Known::new() }
    }
}

impl Contacts {
    /// What a console that died knew, as the log in `events` tells it. What cannot be read is not known.
    pub fn of_log(events: &Path) -> Contacts {
        let mut contacts = Contacts::default();
        tail(events, TAIL, |line| {
            let tells = line.windows(9).any(|part| part == b"\"session\"");
            if tells && let Ok(record) = serde_json::from_slice::<Record>(line) {
                contacts.add(&record);
            }
        });
        contacts
    }

    /// Learns from a record.
    pub fn add(&mut self, record: &Record) {
        let Some(session) = record.session.filter(|_| record.event != EventId::IdsAlert) else { return };
        let (Some(src), Some(dst)) = (&record.src, &record.dst) else { return };
        let (Some(from), Some(to)) = (src.ip, dst.ip) else { return };
        let ports = src.port.zip(dst.port).filter(|(from, to)| *from != 0 && *to != 0);
        let (proto, ports) = match record.proto {
            Some(Proto::Tcp) => (proto::TCP, ports),
            Some(Proto::Udp) => (proto::UDP, ports),
            _ => (0, None),
        };
        let ends = Ends { src: from, dst: to, proto, ports };
        // Of single frames the addresses are enough: there are too many of them.
        let pair = Ends { ports: None, ..ends };
        let is_bulk = record.event.is_bulk() || record.proto == Some(Proto::Udp);
        if !is_bulk {
            self.proven.add(&ends, record, session);
        } else if record.event == EventId::SessionEnd && self.proven.pairs.peek(&ends.pair()).is_some() {
            // That it is over is true of both.
            self.proven.add(&pair, record, session);
            self.bulk.add(&pair, record, session);
        } else {
            self.bulk.add(&pair, record, session);
        }
    }

    /// The session that something between those `ends` at `at`, in microseconds since 1970, belongs to: that of the same
    /// connection, otherwise the latest one of both addresses that was at that time.
    pub fn find(&self, ends: &Ends, at: i64) -> Option<Contact> {
        let flow = ends.flow();
        let known = [&self.proven, &self.bulk];
        let exact = known.iter().find_map(|known| known.flows.peek(&flow).filter(|contact| contact.was(at, at)));
        let pairs = || known.into_iter().filter_map(|known| known.pairs.peek(&ends.pair())).flatten();
        // Of a connection's end not everything is told, of its session's more.
        let is_over = |found: &Contact| pairs().any(|pair| pair.session == found.session && !pair.was(at, at));
        exact
            .filter(|found| !is_over(found))
            .copied()
            .or_else(|| pairs().filter(|contact| contact.was(at, at)).max_by_key(|contact| contact.since).copied())
    }

    /// The sessions of two addresses that were at a time from `since` to `until`.
    pub fn between(&self, pair: &(IpAddr, IpAddr), since: i64, until: i64) -> impl Iterator<Item = SessionId> {
        let known = [&self.proven, &self.bulk].into_iter().filter_map(|known| known.pairs.peek(pair)).flatten();
        known.filter(move |contact| contact.was(since, until)).map(|contact| contact.session)
    }
}

#[cfg(test)]
#[path = "contacts_tests.rs"]
mod tests;
