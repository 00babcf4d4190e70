//! What the console knows by heart: figures of the running honeynet in bounded
//! memory, however many attackers there are.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt};
use serde::{Deserialize, Serialize};

use super::flow::Recent;
use super::schema::{Proto, Record, is_an_attackers};
use super::top::Top;
use crate::event::Utc;
use crate::event::{EventId, SessionId};
use crate::wire::Mac;

const ATTACKERS: usize = 512;
const PORTS: usize = 512;
const SESSIONS: usize = 65_536;
const LAST: usize = 32;
const SHOWN: usize = 10;

/// An attacker among the busiest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attacker {
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Records of it, at most (an upper bound if there are very many attackers).
    pub events: u64,
    /// When it was seen last.
    pub last: Utc,
}

/// A port among the busiest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PortCount {
    /// TCP or UDP.
    pub proto: Proto,
    /// Its number.
    pub port: u16,
    /// Probes and datagrams, at most.
    pub count: u64,
}

/// A container and how it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContainerState {
    /// Node of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Address of its host.
    pub ip: IpAddr,
    /// `queued`, `starting`, `live` or `frozen`.
    pub state: String,
    /// Since when it is its host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Utc>,
    /// Who brought it to life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<IpAddr>,
}

/// The figures, as `status` shows them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SummaryView {
    /// Records since the console was started, by event.
    pub events: Vec<(String, u64)>,
    /// Sessions begun.
    pub sessions_started: u64,
    /// Those of them that went on after the first look.
    #[serde(default)]
    pub sessions_returned: u64,
    /// Those of these that ended.
    pub sessions_ended: u64,
    /// Containers started, live, failed and stopped.
    pub containers: Containers,
    /// Events lost.
    pub lost: u64,
    /// The busiest attackers.
    pub attackers: Vec<Attacker>,
    /// The busiest ports.
    pub ports: Vec<PortCount>,
    /// The containers of hosts there are now. Who keeps them tells that, whatever was recorded.
    pub running: Vec<ContainerState>,
    /// The last records.
    pub last: Vec<Record>,
}

/// How many containers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Containers {
    /// Started.
    pub started: u64,
    /// That came to life.
    pub live: u64,
    /// That failed.
    pub failed: u64,
    /// That are gone.
    pub stopped: u64,
}

/// Figures of what was recorded since the console was started.
#[derive(Debug)]
pub struct Summary {
    events: Vec<u64>,
    sessions: u64,
    containers: Containers,
    lost: u64,
    attackers: Top<IpAddr>,
    about: HashMap<IpAddr, (Option<Mac>, Utc)>,
    ports: Top<(u8, u16)>,
    /// Beginnings of sessions.
    begun: Recent<SessionId, Utc>,
    last: VecDeque<Record>,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            events: vec![0; EventId::ALL.len()],
            sessions: 0,
            containers: Containers::default(),
            lost: 0,
            attackers: Top::new(ATTACKERS),
            about: HashMap::new(),
            ports: Top::new(PORTS),
            begun: Recent::new(SESSIONS),
            last: VecDeque::new(),
        }
    }
}

impl Summary {
    /// Counts a session of which the first record was made.
    pub fn session_began(&mut self) {
        self.sessions += 1;
    }

    /// Adds what a record says. Completes the record where the summary knows more: how long a session was.
    pub fn add(&mut self, record: &mut Record) {
        // The code of an id is its place in `ALL`.
        if let Some(count) = self.events.get_mut(record.event as usize) {
            *count += 1;
        }
        match record.event {
            EventId::SessionStart => self.session_started(record),
            EventId::SessionEnd => {
                let started = record.session.and_then(|session| self.begun.remove(&session));
                if let Some(started) = started {
                    record.duration_us = u64::try_from(record.time.micros() - started.micros()).ok();
                }
            }
            EventId::ContainerStart | EventId::ContainerLive | EventId::ContainerFailed | EventId::ContainerStop => {
                self.container(record);
            }
            EventId::Gap => self.lost = self.lost.saturating_add(record.count.unwrap_or(1)),
            EventId::TcpProbe | EventId::UdpDatagram => {
                let proto = if record.event == EventId::TcpProbe { 6 } else { 17 };
                if let Some(port) = record.dst.as_ref().and_then(|dst| dst.port) {
                    self.ports.count((proto, port), record.count.unwrap_or(1));
                }
            }
            _ => {}
        }
        if is_an_attackers(record.event)
            && let Some(src) = &record.src
            && let Some(ip) = src.ip
        {
            if let Some(gone) = self.attackers.count(ip, 1) {
                self.about.remove(&gone);
            }
            let mac = src.mac.or_else(|| self.about.get(&ip).and_then(|(mac, _)| *mac));
            self.about.insert(ip, (mac, record.time));
        }
    }

    /// Keeps a record among the last ones.
    pub fn keep(&mut self, record: Record) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(record);
    }

    /// Everything at once.
    pub fn view(&self) -> SummaryView {
        let of = |id: EventId| self.events.get(id as usize).copied().unwrap_or(0);
        SummaryView {
            events: EventId::ALL
                .iter()
                .zip(&self.events)
                .filter(|(_, n)| **n > 0)
                .map(|(id, n)| (id.as_str().to_owned(), *n))
                .collect(),
            sessions_started: self.sessions,
            sessions_returned: of(EventId::SessionStart),
            sessions_ended: of(EventId::SessionEnd),
            containers: self.containers,
            lost: self.lost,
            attackers: self.attackers.first(SHOWN).into_iter().map(|(ip, events)| self.attacker(ip, events)).collect(),
            ports: self
                .ports
                .first(SHOWN)
                .into_iter()
                .map(|((proto, port), count)| {
                    let proto = if proto == 6 { Proto::Tcp } else { Proto::Udp };
                    PortCount { proto, port, count }
                })
                .collect(),
            running: Vec::new(),
            last: self.last.iter().cloned().collect(),
        }
    }

    /// Forgets the sessions that ended with the switch.
    pub fn switch_restarted(&mut self) {
        self.begun.clear();
    }

    fn attacker(&self, ip: IpAddr, events: u64) -> Attacker {
        let (mac, last) = self.about.get(&ip).copied().unwrap_or_default();
        Attacker { ip, mac, events, last }
    }

    fn session_started(&mut self, record: &Record) {
        if let Some(session) = record.session {
            *self.begun.get_or(session, || record.time) = record.time;
        }
    }

    fn container(&mut self, record: &Record) {
        let count = match record.event {
            EventId::ContainerStart => &mut self.containers.started,
            EventId::ContainerLive => &mut self.containers.live,
            EventId::ContainerFailed => &mut self.containers.failed,
            _ => &mut self.containers.stopped,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::End;

    fn record(id: EventId, src: u32, dst: u32, port: u16) -> Record {
        let mut record = Record::bare(0, Utc::from_micros(0), id);
        record.src = Some(End { ip: Some(IpAddr::V4(src.into())), ..End::default() });
        record.dst = Some(End { ip: Some(IpAddr::V4(dst.into())), port: Some(port), ..End::default() });
        record
    }

    #[test]
    fn a_million_attackers_take_bounded_memory_and_the_busiest_stays() {
        let mut summary = Summary::default();
        for number in 0..20_000u32 {
            summary.add(&mut record(EventId::TcpProbe, 0x0a00_0000 + number, 1, number as u16));
            if number % 10 == 0 {
                summary.add(&mut record(EventId::TcpProbe, 7, 1, 22));
            }
        }
        assert!(summary.about.len() <= ATTACKERS && summary.attackers.len() <= ATTACKERS);
        assert!(summary.ports.len() <= PORTS && summary.last.len() <= LAST);
        let view = summary.view();
        assert_eq!(view.attackers[0].ip, IpAddr::V4(7.into()));
        assert!(view.attackers[0].events >= 2_000);
        assert_eq!((view.ports[0].port, view.ports[0].proto), (22, Proto::Tcp));
        assert_eq!(view.attackers.len(), SHOWN);
    }

    #[test]
    fn a_session_is_told_its_length() {
        let mut summary = Summary::default();
        let mut start = record(EventId::SessionStart, 1, 2, 0);
        start.session = Some(SessionId(5));
        summary.add(&mut start);
        let mut end = record(EventId::SessionEnd, 1, 2, 0);
        (end.session, end.time) = (Some(SessionId(5)), Utc::from_micros(1234));
        summary.add(&mut end);
        assert_eq!(end.duration_us, Some(1234));
        let mut unknown = end.clone();
        unknown.duration_us = None;
        summary.add(&mut unknown);
        assert_eq!(unknown.duration_us, None);
        for number in 0..100_000 {
            start.session = Some(SessionId(number));
            summary.add(&mut start);
        }
        assert!(summary.begun.len() <= SESSIONS);
    }

    #[test]
    fn containers_that_come_and_go_are_counted() {
        let mut summary = Summary::default();
        for id in [EventId::ContainerStart, EventId::ContainerLive, EventId::ContainerStop] {
            summary.add(&mut record(id, 1, 2, 22));
        }
        assert_eq!(summary.view().containers, Containers { started: 1, live: 1, failed: 0, stopped: 1 });
    }
}
