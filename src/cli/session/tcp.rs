//! The TCP connections of a session: from when to when they were, what passed them, and what ended them.
//!
//! Of one that was open when the switch was killed nobody knows when and why it ended, or what had passed it. That is
//! said, with the last that was heard of it: nothing is made up.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::status;
use super::State;
use super::reasons::phrase;
use crate::event::{EventId, Utc};
use crate::record::{Proto, Record, Session};

/// Connections that are told one by one, the newest ones.
const MOST: usize = 200;

/// Connections of a session.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Links {
    each: VecDeque<Link>,
    /// Those that there was no room for: told beside the list.
    #[serde(skip)]
    more: u64,
}

/// One.
#[derive(Debug, Serialize)]
struct Link {
    /// When its handshake was complete.
    since: Utc,
    /// The attacker's port.
    from: u16,
    /// The host's.
    port: u16,
    /// The latest time in any record of it.
    heard: Utc,
    /// When it ended, if that is on record.
    until: Option<Utc>,
    /// Why.
    reason: Option<String>,
    /// Octets of data that the attacker sent, and was sent, once it has ended.
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
}

impl Links {
    /// Learns from a record of the session's.
    pub fn add(&mut self, record: &Record) {
        let ports = (record.src.as_ref().and_then(|src| src.port), record.dst.as_ref().and_then(|dst| dst.port));
        let ((Some(from), Some(port)), Some(Proto::Tcp)) = (ports, record.proto) else { return };
        let is_it = |link: &&mut Link| link.until.is_none() && (link.from, link.port) == (from, port);
        match (record.event, self.each.iter_mut().rev().find(is_it)) {
            (EventId::TcpOpen, _) => self.push(Link::new(record.time, from, port)),
            (EventId::TcpClose, Some(link)) => link.end(record),
            (EventId::TcpClose, None) => {
                // Its beginning was in a part of the log that is gone.
                let micros = record.duration_us.and_then(|micros| i64::try_from(micros).ok()).unwrap_or(0);
                let mut link = Link::new(Utc::from_micros(record.time.micros().saturating_sub(micros)), from, port);
                link.end(record);
                self.push(link);
            }
            (_, Some(link)) => link.heard = link.heard.max(record.time),
            (_, None) => {}
        }
    }

    fn push(&mut self, link: Link) {
        if self.each.len() >= MOST {
            self.each.pop_front();
            self.more += 1;
        }
        self.each.push_back(link);
    }

    /// Connections that are not told.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// They in rows.
    pub fn rows<'a>(&'a self, session: &'a Session, state: State) -> impl Iterator<Item = Value> + 'a {
        self.each.iter().map(move |link| link.row(session, state))
    }
}

impl Link {
    fn new(since: Utc, from: u16, port: u16) -> Link {
        Link { since, from, port, heard: since, until: None, reason: None, bytes_in: None, bytes_out: None }
    }

    fn end(&mut self, record: &Record) {
        self.heard = self.heard.max(record.time);
        self.until = Some(record.time);
        self.reason.clone_from(&record.reason);
        (self.bytes_in, self.bytes_out) = (record.bytes_in, record.bytes_out);
    }

    fn row(&self, session: &Session, state: State) -> Value {
        let after = |until: Utc| {
            status::duration(u64::try_from(until.micros().saturating_sub(self.since.micros())).unwrap_or(0))
        };
        let end = match (self.until, session.over) {
            (Some(_), _) => phrase(self.reason.as_deref().unwrap_or_default()).to_owned(),
            (None, Some(over)) => {
                let why = phrase(over.why.as_str());
                format!("not on record ({why}); last heard of after {}", after(self.heard))
            }
            // A session that is over by itself has none that is open.
            (None, None) if state == State::Open => "goes on".to_owned(),
            (None, None) => "no end on record".to_owned(),
        };
        let mut since = self.since.to_string();
        since.truncate(19);
        json!({
            "since": since,
            "from": self.from,
            "port": self.port,
            "lasted": self.until.map(after),
            "in": self.bytes_in,
            "out": self.bytes_out,
            "end": end,
        })
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
