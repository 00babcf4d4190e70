//! What a session is told by: how often things happened, and what was done with each port.

use serde::{Serialize, Serializer};

use super::super::schema::{Answer, Proto, Record};
use crate::event::EventId;

/// How often each kind of event happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(Vec<(EventId, u64)>);

/// A port of the host, and what was done with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Port {
    /// TCP or UDP.
    pub proto: Proto,
    /// Its number.
    pub port: u16,
    /// How it answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<&'static str>,
    /// Segments and datagrams that came to it without a connection.
    pub probes: u64,
    /// Connections.
    pub connections: u64,
    /// Requests that a service understood.
    pub requests: u64,
    /// Attempts to log in.
    pub logins: u64,
    /// Whether TLS was spoken.
    pub tls: bool,
}

impl Port {
    pub(super) fn new(proto: Proto, port: u16) -> Port {
        Port { proto, port, answer: None, probes: 0, connections: 0, requests: 0, logins: 0, tls: false }
    }

    pub(super) fn add(&mut self, record: &Record) {
        self.answer = record.answer.map(Answer::as_str).or(self.answer);
        let count = match record.event {
            EventId::TcpOpen => &mut self.connections,
            EventId::ServiceRequest => &mut self.requests,
            EventId::ServiceLogin | EventId::SshLogin => &mut self.logins,
            EventId::TlsHello => {
                self.tls = true;
                return;
            }
            _ => &mut self.probes,
        };
        *count = count.saturating_add(record.count.unwrap_or(1));
    }
}

impl Counts {
    pub(super) fn add(&mut self, id: EventId) {
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count += 1,
            None => self.0.push((id, 1)),
        }
    }

    /// Records of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Records of one kind.
    pub fn of(&self, id: EventId) -> u64 {
        self.0.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count)
    }

    /// The kinds that there are.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, u64)> {
        self.0.iter().copied()
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, count)| (id.as_str(), count)))
    }
}
