//! What one attacker did on one host, put together from the event log.
//!
//! The log is read once from its oldest file to its newest and in bounded memory: whoever sweeps a network makes a
//! session of each address, so of too many sessions those that were heard of last are kept, and the rest is counted.

mod archives;
mod over;
mod parts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::eve::Rule;
use super::schema::{Proto, Record, is_an_attackers, session_hex};
use super::search::scan;
use crate::emulate::OsFamily;
use crate::event::{EventId, SessionId, Utc};
use crate::wire::Mac;

pub use archives::add_untold;
use over::Ends;
pub use over::{Over, Why};
pub use parts::{Counts, Port};

/// Sessions that are held at once.
pub const MOST_SESSIONS: usize = 65_536;
/// Ports of one session that are told one by one.
const PORTS: usize = 256;
/// Verdicts, containers, archives and consequences of one session that are told one by one.
const EACH: usize = 256;

/// One session.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Session {
    /// Its number, which its records carry.
    #[serde(serialize_with = "hex")]
    pub session: SessionId,
    /// Whose: the address that spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attacker: Option<IpAddr>,
    /// Its MAC address, or that of the router behind which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attacker_mac: Option<Mac>,
    /// What its first SYN looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attacker_os: Option<OsFamily>,
    /// With whom: the address of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// The node that the host belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The session that this is a consequence of, if the attacker is a container.
    #[serde(serialize_with = "maybe_hex", skip_serializing_if = "Option::is_none")]
    pub cause: Option<SessionId>,
    /// The earliest time in its attacker's records. A clock that was set back makes no session shorter.
    pub since: Utc,
    /// The latest one. What is done to a container that was left makes no session longer.
    pub until: Utc,
    /// The latest time in any of its records.
    pub heard: Utc,
    /// Whether it is over.
    pub ended: bool,
    /// What it ended with, if no record of its own tells of its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// Octets of data that the attacker sent in connections that ended.
    pub bytes_in: u64,
    /// Octets of data that it was sent in these.
    pub bytes_out: u64,
    /// Records of each kind.
    pub events: Counts,
    /// What was spoken to, the port with the most records of it first.
    pub ports: Vec<Port>,
    /// Records of further ports.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_ports: u64,
    /// What became of what the container wanted of others: the event and its reason, with how often.
    pub verdicts: BTreeMap<String, u64>,
    /// What sensors saw of it, in the order in which it was seen first.
    pub alerts: Vec<Alert>,
    /// The containers that it was given.
    pub containers: Vec<Life>,
    /// Archives of what was changed in them: names in `STATE/NAME/evidence`.
    pub archives: BTreeSet<String>,
    /// Sessions that are a consequence of this one.
    #[serde(serialize_with = "hexes")]
    pub caused: BTreeSet<SessionId>,
    /// What is not told as there is too much of it: kinds of verdicts, containers, archives and consequences.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: u64,
    /// There was a record of its attacker's.
    #[serde(skip)]
    spoke: bool,
}

/// A rule of a sensor's that something of the session fits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Alert {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How often.
    pub count: u64,
    /// When first.
    pub since: Utc,
}

/// A time that a container was the session's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Life {
    /// When it was asked for, or when it is first told of.
    pub since: Utc,
    /// The host that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// Microseconds until it answered, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_us: Option<u64>,
    /// When its processes ended, if they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Utc>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Which sessions are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Only those of this attacker.
    pub attacker: Option<IpAddr>,
    /// Only those with this host.
    pub host: Option<IpAddr>,
    /// Only those that were not over before.
    pub since: Option<Utc>,
    /// Only those that had begun by then.
    pub until: Option<Utc>,
}

impl Wanted {
    fn fits(&self, session: &Session) -> bool {
        self.attacker.is_none_or(|ip| session.attacker == Some(ip))
            && self.host.is_none_or(|ip| session.host == Some(ip))
            && self.since.is_none_or(|since| session.until >= since)
            && self.until.is_none_or(|until| session.since <= until)
    }
}

/// What was found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Found {
    /// The sessions, in the order in which they were last heard of.
    pub sessions: Vec<Session>,
    /// Sessions of longer ago, at least, that there was no room for.
    pub left_out: u64,
}

/// The last `last` sessions in the log in `events` that are wanted.
///
/// # Errors
/// If the log cannot be read.
pub fn sessions(events: &Path, wanted: &Wanted, last: usize) -> io::Result<Found> {
    let mut all: HashMap<SessionId, Session> = HashMap::new();
    let (mut left_out, mut ends) = (0, Ends::default());
    scan(events, |line| {
        if ends.learn(line) {
            return Ok(());
        }
        let Ok(record) = serde_json::from_str::<Record>(line) else { return Ok(()) };
        let Some(id) = record.session else { return Ok(()) };
        if all.len() >= MOST_SESSIONS && !all.contains_key(&id) {
            left_out += forget(&mut all, wanted);
        }
        all.entry(id).or_insert_with(|| Session::new(id, record.time)).add(&record);
        Ok(())
    })?;
    let ends = ends.sorted();
    let mut sessions: Vec<Session> = all.into_values().filter(|session| wanted.fits(session)).collect();
    sessions.iter_mut().for_each(|session| session.end_with(&ends));
    sessions.sort_by_key(|session| (session.until, session.session));
    let surplus = sessions.len().saturating_sub(last);
    sessions.drain(..surplus);
    Ok(Found { sessions, left_out: left_out + surplus as u64 })
}

/// Makes room: those of whom nothing is wanted go, then the half that was heard of longest ago.
fn forget(all: &mut HashMap<SessionId, Session>, wanted: &Wanted) -> u64 {
    // Times may still change who fits, addresses do not.
    let lasting = Wanted { since: None, until: None, ..*wanted };
    all.retain(|_, session| lasting.fits(session));
    if all.len() <= MOST_SESSIONS / 2 {
        return 0;
    }
    let before = all.len();
    let mut heard: Vec<(Utc, SessionId)> = all.values().map(|session| (session.until, session.session)).collect();
    let (_, middle, _) = heard.select_nth_unstable(before / 2);
    let middle = *middle;
    all.retain(|_, session| (session.until, session.session) > middle);
    (before - all.len()) as u64
}

/// The session `id` with everything about it that the log in `events` tells; `None` if that does not know it. `each` is
/// given every line of it: its records, those of its consequences, and those about its containers.
///
/// # Errors
/// If the log cannot be read, or those of `each`.
pub fn session(
    events: &Path,
    id: SessionId,
    mut each: impl FnMut(&str, &Record) -> io::Result<()>,
) -> io::Result<Option<Session>> {
    let number = id.to_string();
    let mut found: Option<Session> = None;
    // The host whose container was the session's last, until that container's files are gone.
    let mut had: Option<(Option<String>, IpAddr)> = None;
    let mut ends = Ends::default();
    scan(events, |line| {
        if ends.learn(line) {
            return Ok(());
        }
        // Parsing costs more than looking.
        let may_concern = line.contains(&number) || (had.is_some() && line.contains("\"archive\":"));
        if !may_concern {
            return Ok(());
        }
        let Ok(record) = serde_json::from_str::<Record>(line) else { return Ok(()) };
        let host = record.dst.as_ref().and_then(|dst| Some((record.node.clone(), dst.ip?)));
        let of_its_container = had.is_some() && had == host && record.archive.is_some();
        if record.session == Some(id) {
            found.get_or_insert_with(|| Session::new(id, record.time)).add(&record);
            if matches!(record.event, EventId::ContainerStart | EventId::ContainerLive | EventId::ContainerThawed) {
                had = host.clone();
            }
        } else if record.cause == Some(id) {
            // What its container does to another host is a session of that one's.
            if let (Some(found), Some(other)) = (&mut found, record.session) {
                found.more += u64::from(!insert(&mut found.caused, other));
            }
        } else if of_its_container {
            // Another session had that container later, and what was changed is told as that one's.
            if let (Some(found), Some(archive)) = (&mut found, &record.archive) {
                found.more += u64::from(!insert(&mut found.archives, archive.clone()));
            }
        } else {
            return Ok(());
        }
        if record.event == EventId::ContainerDestroyed && had == host {
            had = None;
        }
        each(line, &record)
    })?;
    if let Some(session) = &mut found {
        session.end_with(&ends.sorted());
        session.ports.sort_by_key(|port| (std::cmp::Reverse((port.connections, port.probes)), port.port));
    }
    Ok(found)
}

/// Whether `value` is in `set`, now or before.
fn insert<T: Ord>(set: &mut BTreeSet<T>, value: T) -> bool {
    if set.len() >= EACH {
        return set.contains(&value);
    }
    set.insert(value);
    true
}

impl Session {
    fn new(session: SessionId, at: Utc) -> Session {
        Session {
            session,
            attacker: None,
            attacker_mac: None,
            attacker_os: None,
            host: None,
            node: None,
            cause: None,
            since: at,
            until: at,
            heard: at,
            ended: false,
            over: None,
            bytes_in: 0,
            bytes_out: 0,
            events: Counts::default(),
            ports: Vec::new(),
            more_ports: 0,
            verdicts: BTreeMap::new(),
            alerts: Vec::new(),
            containers: Vec::new(),
            archives: BTreeSet::new(),
            caused: BTreeSet::new(),
            more: 0,
            spoke: false,
        }
    }

    /// Learns when it was: from the first record of its attacker's to the last.
    fn lasts(&mut self, record: &Record) {
        let (time, was_silent) = (record.time, !self.spoke);
        self.heard = self.heard.max(time);
        self.spoke |= is_its_own(record);
        if was_silent && self.spoke {
            (self.since, self.until) = (time, time);
        } else if is_its_own(record) {
            (self.since, self.until) = (self.since.min(time), self.until.max(time));
        } else if was_silent {
            // Of its attacker nothing is left in the log.
            self.since = self.since.min(time);
            self.until = self.since;
        }
    }

    /// Learns whether it ended with what knew it.
    fn end_with(&mut self, ends: &Ends) {
        if !self.ended {
            self.over = ends.of(self.since);
            self.ended = self.over.is_some();
        }
    }

    /// Adds what one of its records says.
    fn add(&mut self, record: &Record) {
        self.lasts(record);
        self.events.add(record.event);
        if is_an_attackers(record.event) {
            self.contact(record);
        }
        if let Some(archive) = &record.archive {
            self.more += u64::from(!insert(&mut self.archives, archive.clone()));
        }
        match record.event {
            EventId::SessionEnd => self.ended = true,
            EventId::IdsAlert => self.alert(record),
            EventId::TcpClose => {
                self.bytes_in = self.bytes_in.saturating_add(record.bytes_in.unwrap_or(0));
                self.bytes_out = self.bytes_out.saturating_add(record.bytes_out.unwrap_or(0));
            }
            EventId::OutwardFlow | EventId::OutwardReflect | EventId::OutwardDrop | EventId::GateBlock => {
                self.outward(record);
            }
            EventId::ContainerStart => self.began(record),
            EventId::ContainerLive | EventId::ContainerFailed | EventId::ContainerStop => self.lived(record),
            EventId::ContainerDestroyed if self.containers.last().is_some_and(|life| life.until.is_none()) => {
                // It ended with the honeynet: nobody was there any more to say that it stopped.
                self.lived(record);
            }
            _ => {}
        }
    }

    /// Learns who, whom, and what was spoken to.
    fn contact(&mut self, record: &Record) {
        if let Some(src) = &record.src {
            self.attacker = self.attacker.or(src.ip);
            self.attacker_mac = self.attacker_mac.or(src.mac);
        }
        self.attacker_os = self.attacker_os.or(record.scanner_os);
        self.host = self.host.or(record.dst.as_ref().and_then(|dst| dst.ip));
        self.cause = self.cause.or(record.cause);
        if self.node.is_none() {
            self.node.clone_from(&record.node);
        }
        let counts = matches!(
            record.event,
            EventId::TcpProbe
                | EventId::TcpOpen
                | EventId::UdpDatagram
                | EventId::ServiceRequest
                | EventId::ServiceLogin
                | EventId::SshLogin
                | EventId::TlsHello
        );
        let (Some(number), Some(proto)) = (record.dst.as_ref().and_then(|dst| dst.port), record.proto) else { return };
        if !counts || !matches!(proto, Proto::Tcp | Proto::Udp) {
            return;
        }
        let at = self.ports.iter().position(|port| (port.proto, port.port) == (proto, number));
        let at = match at {
            Some(at) => at,
            None if self.ports.len() >= PORTS => {
                self.more_ports += 1;
                return;
            }
            None => {
                self.ports.push(Port::new(proto, number));
                self.ports.len() - 1
            }
        };
        if let Some(port) = self.ports.get_mut(at) {
            port.add(record);
        }
    }

    /// Counts what the container wanted of others, and what became of that.
    fn outward(&mut self, record: &Record) {
        self.host = self.host.or(record.src.as_ref().and_then(|src| src.ip));
        let verdict = match &record.reason {
            Some(reason) => format!("{} {reason}", record.event.as_str()),
            None => record.event.as_str().to_owned(),
        };
        if self.verdicts.len() >= EACH && !self.verdicts.contains_key(&verdict) {
            self.more += 1;
            return;
        }
        let count = self.verdicts.entry(verdict).or_default();
        *count = count.saturating_add(record.count.unwrap_or(1));
    }

    /// Counts what a sensor saw.
    fn alert(&mut self, record: &Record) {
        let Some(rule) = Rule::of(record) else { return };
        let is_full = self.alerts.len() >= EACH;
        match self.alerts.iter_mut().find(|alert| (alert.rule.gid, alert.rule.sid) == (rule.gid, rule.sid)) {
            Some(alert) => alert.count += 1,
            None if is_full => self.more += 1,
            None => self.alerts.push(Alert { rule, count: 1, since: record.time }),
        }
    }

    fn began(&mut self, record: &Record) {
        let host = record.dst.as_ref().and_then(|dst| dst.ip);
        self.attacker = self.attacker.or(record.src.as_ref().and_then(|src| src.ip));
        self.host = self.host.or(host);
        if self.containers.len() >= EACH {
            self.more += 1;
            return;
        }
        self.containers.push(Life { since: record.time, host, started_us: None, until: None, why: None });
    }

    fn lived(&mut self, record: &Record) {
        if self.containers.is_empty() {
            // Its beginning was in a part of the log that is gone.
            self.began(record);
        }
        let Some(life) = self.containers.last_mut() else { return };
        if record.event == EventId::ContainerLive {
            life.started_us = record.duration_us;
        } else {
            life.until = Some(record.time);
            life.why.clone_from(&record.reason);
        }
    }
}

/// Whether the session's attacker did what `record` tells, by programs that descend from one of its connections if need be. What
/// becomes of a container, and what is taken of it, is others' doing, and that a session was idle for long is nobody's.
fn is_its_own(record: &Record) -> bool {
    use EventId::{
        ContainerExit, ContainerLog, ContainerUntold, GateBlock, IdsAlert, OutwardDrop, OutwardFlow, OutwardReflect,
    };
    match record.event {
        // Programs end because somebody ends them, and a server says so itself.
        ContainerExit | ContainerLog | ContainerUntold => false,
        IdsAlert | OutwardFlow | OutwardReflect | OutwardDrop | GateBlock => true,
        event if event.is_inside() => record.src.as_ref().is_some_and(|src| src.ip.is_some()),
        event => is_an_attackers(event),
    }
}

fn hex<S: Serializer>(session: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(session)
}

fn maybe_hex<S: Serializer>(session: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    session_hex::serialize(session, serializer)
}

fn hexes<S: Serializer>(sessions: &BTreeSet<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sessions.iter().map(SessionId::to_string))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
