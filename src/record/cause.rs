//! What brought about what: which session a container was leased for, and hence what everything is a consequence of that
//! comes from it. A worm's spread is a tree of sessions then: each names the one that it follows from.
//!
//! Addresses alone prove little, as anybody can write any source, and one address may be in use in two VLANs: the container's
//! MAC has to be the source's, too, which its gate vouches for and routers leave in an event.

use std::hash::Hash;
use std::net::IpAddr;
use std::path::Path;

use foldhash::HashMap;

use super::schema::Record;
use super::search::tail;
use crate::event::{EventId, Process, SessionId, told_of_process};
use crate::wire::Mac;

/// Containers that are known at once; those that ended earliest are forgotten before those that run.
const CONTAINERS: usize = 8192;
/// How long what comes from a container that is gone is still its own: sessions and connections that end late.
const LATE_MICROS: i64 = 600_000_000;

/// Octets at the end of a log that are read for what its last writer knew.
const TAIL: u64 = 8 << 20;

/// Who came from where.
#[derive(Clone, Copy, Debug)]
struct Lease {
    session: SessionId,
    /// When it began, in microseconds since 1970.
    began: i64,
    /// When it ended, in microseconds since 1970.
    ended: Option<i64>,
}

/// The containers that there are, and what they were leased for.
#[derive(Debug, Default)]
pub struct Causes {
    leases: HashMap<(IpAddr, Mac), Lease>,
    connections: Connections,
}

/// Connections that are known at once, and pairs of attacker and host; at most twice as many.
const CONNECTIONS: usize = 32_768;

/// Which session each connection with a host belongs to: what somebody does inside who came by one is that session's, even
/// if the container was leased for another's. Of a connection that is not known any more, the session is the latest of
/// its attacker with that host. A host may have several addresses and has one MAC, hence it is that which tells hosts apart.
/// Which of the host's ports that was, nobody inside says.
#[derive(Debug, Default)]
struct Connections {
    connections: Latest<(IpAddr, u16, Mac), (SessionId, Option<u16>)>,
    pairs: Latest<(IpAddr, Mac), SessionId>,
}

/// Sessions by something, of which those that were named longest ago are forgotten.
#[derive(Debug)]
struct Latest<K, V> {
    recent: HashMap<K, V>,
    before: HashMap<K, V>,
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Latest<K, V> {
        Latest { recent: HashMap::default(), before: HashMap::default() }
    }
}

impl<K: Eq + Hash, V: Copy> Latest<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.recent.len() >= CONNECTIONS {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, value);
    }

    fn get(&self, key: &K) -> Option<V> {
        self.recent.get(key).or_else(|| self.before.get(key)).copied()
    }
}

impl Connections {
    fn add(&mut self, record: &mut Record) {
        let ends = |record: &Record| {
            let (src, dst) = (record.src.as_ref()?, record.dst.as_ref()?);
            Some((src.ip?, src.port?, dst.mac?))
        };
        let Some((ip, port, mac)) = ends(record) else { return };
        if record.event == EventId::TcpOpen
            && let Some(session) = record.session
        {
            let own_port = record.dst.as_ref().and_then(|dst| dst.port);
            self.connections.insert((ip, port, mac), (session, own_port));
            self.pairs.insert((ip, mac), session);
        } else if record.event.is_inside() {
            // Of a log-in the address is what the log says, which anybody inside may write: that has to be a connection.
            let by_pair = || self.pairs.get(&(ip, mac)).filter(|_| record.event != EventId::ContainerLogin);
            let known = self.connections.get(&(ip, port, mac));
            // What begins at the host, or waits there, has ports of its own.
            let has_own = matches!(record.event, EventId::ContainerConnect | EventId::ContainerListen);
            if let (Some((_, own_port)), Some(dst), false) = (known, &mut record.dst, has_own) {
                dst.port = own_port;
            }
            record.session = known.map(|(session, _)| session).or_else(by_pair).or(record.session);
        }
    }
}

impl Causes {
    /// Says what a record is a consequence of, and learns from it what others are.
    pub fn add(&mut self, record: &mut Record) {
        self.connections.add(record);
        record.cause = self.cause(record);
        if record.event == EventId::ProcessState && record.reason.as_deref().is_some_and(is_another_switch) {
            // All containers went with the one before: what they did may still be told. Those of the next may have been told of
            // already, as its events come another way than its beginning.
            let now = record.time.micros();
            for lease in self.leases.values_mut().filter(|lease| lease.began <= now) {
                lease.ended.get_or_insert(now);
            }
            return;
        }
        let end = record.dst.as_ref().and_then(|dst| Some((dst.ip?, dst.mac?)));
        let Some(container) = end else { return };
        match (record.event, record.session) {
            (EventId::ContainerStart, Some(session)) => {
                self.make_room();
                self.leases.insert(container, Lease { session, began: record.time.micros(), ended: None });
            }
            (EventId::ContainerStart, None) => drop(self.leases.remove(&container)),
            (EventId::ContainerStop | EventId::ContainerFailed, _) => {
                if let Some(lease) =
                    self.leases.get_mut(&container).filter(|lease| record.session == Some(lease.session))
                {
                    lease.ended.get_or_insert(record.time.micros());
                }
            }
            _ => {}
        }
    }

    /// What a console that died knew of the containers that may still run, as the log in `events` tells it. What cannot be
    /// read is not known.
    pub fn of_log(events: &Path) -> Causes {
        let mut causes = Causes::default();
        tail(events, TAIL, |line| {
            let mentions = |what: &[u8]| line.windows(what.len()).any(|part| part == what);
            let tells = [&br#""event":"container."#[..], br#""event":"process."#, br#""event":"tcp.open"#];
            let tells = tells.into_iter().any(mentions);
            if tells && let Ok(mut record) = serde_json::from_slice::<Record>(line) {
                causes.add(&mut record);
            }
        });
        causes
    }

    fn cause(&self, record: &Record) -> Option<SessionId> {
        let src = record.src.as_ref()?;
        let lease = self.leases.get(&(src.ip?, src.mac?))?;
        let is_its = match lease.ended {
            None => true,
            Some(ended) => {
                let late = matches!(record.event, EventId::SessionEnd | EventId::TcpClose);
                record.time.micros() <= ended || (late && record.time.micros() - ended <= LATE_MICROS)
            }
        };
        is_its.then_some(lease.session)
    }

    fn make_room(&mut self) {
        if self.leases.len() < CONTAINERS {
            return;
        }
        // Half of them at once, so that this is rare.
        let mut ends: Vec<i64> = self.leases.values().map(|lease| lease.ended.unwrap_or(i64::MAX)).collect();
        let middle = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(middle);
        let latest = *middle;
        self.leases.retain(|_, lease| lease.ended.unwrap_or(i64::MAX) > latest);
        if self.leases.len() >= CONTAINERS {
            self.leases.clear();
        }
    }
}

/// Whether the supervisor says that the switch is gone, or that there is a new one.
pub(super) fn is_another_switch(reason: &str) -> bool {
    matches!(told_of_process(reason), Some((Process::Switch, _)))
}

#[cfg(test)]
mod tests {
    use super::super::schema::End;
    use super::*;
    use crate::event::Utc;

    const A: (&str, Mac) = ("10.0.0.5", Mac([0, 12, 41, 0, 0, 5]));
    const B: (&str, Mac) = ("10.1.0.6", Mac([0, 12, 41, 0, 0, 6]));
    const ATTACKER: (&str, Mac) = ("192.0.2.9", Mac([2, 0, 0, 0, 0, 9]));

    fn end((ip, mac): (&str, Mac)) -> Option<End> {
        Some(End { ip: Some(ip.parse().unwrap()), mac: Some(mac), port: None })
    }

    fn record(event: EventId, src: (&str, Mac), dst: (&str, Mac), session: u64, at: i64) -> Record {
        let mut record = Record::bare(0, Utc::from_micros(at), event);
        (record.src, record.dst) = (end(src), end(dst));
        record.session = (session != 0).then_some(SessionId(session));
        record
    }

    #[test]
    fn a_spread_is_a_chain_of_sessions() {
        let mut causes = Causes::default();
        let mut cause = |record: Record| {
            let mut record = record;
            causes.add(&mut record);
            record.cause.map(|session| session.0)
        };
        assert_eq!(cause(record(EventId::TcpProbe, ATTACKER, A, 1, 10)), None);
        assert_eq!(cause(record(EventId::ContainerStart, ATTACKER, A, 1, 11)), None);
        // The intruder goes on from there, and from there again.
        assert_eq!(cause(record(EventId::OutwardFlow, A, B, 1, 20)), Some(1));
        assert_eq!(cause(record(EventId::TcpProbe, A, B, 2, 21)), Some(1));
        assert_eq!(cause(record(EventId::ContainerStart, A, B, 2, 22)), Some(1));
        assert_eq!(cause(record(EventId::TcpProbe, B, ATTACKER, 3, 30)), Some(2));
        // Somebody who writes its address is not it.
        assert_eq!(cause(record(EventId::TcpProbe, (A.0, ATTACKER.1), B, 4, 31)), None);
        assert_eq!(cause(record(EventId::TcpProbe, ATTACKER, A, 1, 32)), None);
    }

    #[test]
    fn what_ends_late_is_still_the_containers() {
        let mut causes = Causes::default();
        let mut add = |record: &mut Record| {
            causes.add(record);
            record.cause.map(|session| session.0)
        };
        add(&mut record(EventId::ContainerStart, ATTACKER, A, 1, 10));
        // Of another lease's end it does not hear.
        add(&mut record(EventId::ContainerStop, ATTACKER, A, 7, 11));
        assert_eq!(add(&mut record(EventId::IcmpEcho, A, B, 2, 12)), Some(1));
        add(&mut record(EventId::ContainerStop, ATTACKER, A, 1, 20));
        assert_eq!(add(&mut record(EventId::SessionEnd, A, B, 2, 21)), Some(1));
        assert_eq!(add(&mut record(EventId::ArpRequest, A, B, 3, 21)), None, "the emulated host says so itself");
        assert_eq!(add(&mut record(EventId::SessionEnd, A, B, 2, 21 + LATE_MICROS)), None);
        // One that nobody asked for is nobody's consequence.
        add(&mut record(EventId::ContainerStart, ATTACKER, A, 1, 30));
        add(&mut record(EventId::ContainerStart, ATTACKER, A, 0, 31));
        assert_eq!(add(&mut record(EventId::IcmpEcho, A, B, 2, 32)), None);
    }

    #[test]
    fn a_console_goes_on_where_another_one_died() {
        let dir = tempfile::tempdir().unwrap();
        let line = |record: &Record| {
            let mut line = String::new();
            record.write_line(&mut line).unwrap();
            line
        };
        let start = line(&record(EventId::ContainerStart, ATTACKER, A, 1, 10));
        let noise: String = (0..5).map(|at| line(&record(EventId::TcpProbe, ATTACKER, B, 5, at))).collect();
        let of = |text: String| {
            std::fs::write(dir.path().join("events.ndjson"), text).unwrap();
            let mut next = record(EventId::IcmpEcho, A, B, 2, 100);
            Causes::of_log(dir.path()).add(&mut next);
            next.cause.map(|session| session.0)
        };
        assert_eq!(of(format!("{noise}{start}{noise}torn")), Some(1));
        // Of an earlier run nothing is left.
        let mut began = Record::bare(0, Utc::from_micros(50), EventId::ProcessState);
        began.reason = Some("the switch was started: process 7".to_owned());
        assert_eq!(of(format!("{start}{}", line(&began))), None);
        // Its beginning may come behind what came of it.
        began.time = Utc::from_micros(5);
        assert_eq!(of(format!("{start}{}", line(&began))), Some(1));
        assert_eq!(of(String::new()), None);
        assert!(Causes::of_log(&dir.path().join("nowhere")).leases.is_empty());
    }

    #[test]
    fn what_happens_inside_is_of_the_session_whose_connection_it_descends_from() {
        let mut causes = Causes::default();
        let other = ("192.0.2.10", Mac([2, 0, 0, 0, 0, 10]));
        let with_port = |mut record: Record, port: u16| {
            record.src.as_mut().unwrap().port = Some(port);
            record
        };
        let mut open = with_port(record(EventId::TcpOpen, other, A, 8, 10), 40_000);
        open.dst.as_mut().unwrap().port = Some(22);
        causes.add(&mut open);
        let mut session = |port, who| {
            // By another of the host's addresses.
            let mut record = with_port(record(EventId::ContainerExec, who, ("fd00::5", A.1), 1, 11), port);
            record.src.as_mut().unwrap().mac = None;
            causes.add(&mut record);
            (record.session.map(|session| session.0), record.dst.and_then(|dst| dst.port))
        };
        assert_eq!(session(40_000, other), (Some(8), Some(22)));
        assert_eq!(
            session(40_001, other),
            (Some(8), None),
            "whose connection is not known has one session with the host"
        );
        assert_eq!(session(40_000, ATTACKER), (Some(1), None), "who said it knew");
        for number in 0..3 * CONNECTIONS as u64 {
            let [.., a, b] = number.to_be_bytes();
            let host = (format!("10.9.{a}.{b}"), Mac([2, 9, 0, 0, a, b]));
            causes
                .add(&mut with_port(record(EventId::TcpOpen, other, (&host.0, host.1), 9, 12), (number >> 16) as u16));
            let latest = &causes.connections.connections;
            assert!(latest.recent.len() + latest.before.len() <= 2 * CONNECTIONS);
        }
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut causes = Causes::default();
        for number in 0..3 * CONTAINERS as u64 {
            let [.., a, b, c] = number.to_be_bytes();
            let host = (format!("10.{a}.{b}.{c}"), Mac([2, 0, 0, a, b, c]));
            causes.add(&mut record(EventId::ContainerStart, ATTACKER, (&host.0, host.1), number + 1, number as i64));
            causes.add(&mut record(EventId::ContainerStop, ATTACKER, (&host.0, host.1), number + 1, number as i64));
            assert!(causes.leases.len() <= CONTAINERS);
        }
        // One that runs outlives those that have ended.
        causes.add(&mut record(EventId::ContainerStart, ATTACKER, A, 1, 0));
        for number in 0..2 * CONTAINERS as u64 {
            let [.., a, b, c] = number.to_be_bytes();
            let host = (format!("11.{a}.{b}.{c}"), Mac([2, 1, 0, a, b, c]));
            causes.add(&mut record(EventId::ContainerStart, ATTACKER, (&host.0, host.1), number + 1, number as i64));
            causes.add(&mut record(EventId::ContainerStop, ATTACKER, (&host.0, host.1), number + 1, number as i64));
        }
        let mut late = record(EventId::IcmpEcho, A, B, 2, 9);
        causes.add(&mut late);
        assert_eq!(late.cause, Some(SessionId(1)));
    }
}
