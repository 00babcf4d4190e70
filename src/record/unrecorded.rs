//! Connections of which events tell that somebody was in the middle, and no tape: the disk took none, or a limit was reached.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use serde_json::{Value, json};

use super::schema::{Proto, Record};
use crate::event::{EventId, Utc};

/// Connections that are told one by one, the newest ones.
const MOST: usize = 200;
/// Pairs of ports that are known at once.
const PAIRS: usize = 65_536;

/// The ports of a connection: the attacker's and the host's.
pub type Ports = (u16, u16);

/// Such connections.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Unrecorded {
    each: VecDeque<Heard>,
    /// Those that there was no room for: told beside the list.
    #[serde(skip)]
    more: u64,
    /// When those began that have a tape, by their ports, in order.
    #[serde(skip)]
    tapes: HashMap<Ports, Vec<Utc>>,
    /// Of what began before nobody knows, as not all tapes were read.
    #[serde(skip)]
    from: Option<Utc>,
    /// Of what began since nobody knows either, as tapes were read by then.
    #[serde(skip)]
    until: Option<Utc>,
    /// The latest connection of each pair.
    #[serde(skip)]
    latest: HashMap<Ports, Heard>,
}

/// What events tell of one.
#[derive(Clone, Debug, Serialize)]
struct Heard {
    /// When it was heard of first, and last.
    since: Utc,
    heard: Utc,
    /// The attacker's port, and the host's.
    from: u16,
    port: u16,
    /// What is spoken in it.
    protocol: &'static str,
    /// Attempts to log in, commands and files that events tell of.
    attempts: u64,
    commands: u64,
    files: u64,
    /// All events.
    events: u64,
}

/// What is spoken, of events that only a connection has that somebody is in the middle of.
fn protocol_of(event: EventId) -> Option<&'static str> {
    match event {
        EventId::SshHello
        | EventId::SshLogin
        | EventId::SshShell
        | EventId::SshCommand
        | EventId::SshFile
        | EventId::SshForward
        | EventId::SshEnv => Some("ssh"),
        EventId::TelnetShell => Some("telnet"),
        _ => None,
    }
}

/// Whether the event only adds to what is known of a connection.
fn adds(event: EventId) -> bool {
    matches!(
        event,
        EventId::SshExit
            | EventId::SshClose
            | EventId::SshForwardData
            | EventId::TelnetExit
            | EventId::ShellCommand
            | EventId::ServiceLogin
            | EventId::ServiceRequest
    )
}

impl Unrecorded {
    /// None so far: tapes that were read at `until` have connections that began then, and of what began before `from` nobody
    /// knows.
    pub fn beside(tapes: impl Iterator<Item = (Ports, Utc)>, from: Option<Utc>, until: Utc) -> Unrecorded {
        let mut all = Unrecorded { from, until: Some(until), ..Unrecorded::default() };
        for (ports, since) in tapes {
            all.tapes.entry(ports).or_default().push(since);
        }
        all.tapes.values_mut().for_each(|times| times.sort_unstable());
        all
    }

    /// Learns from a record of the session's.
    pub fn add(&mut self, record: &Record) {
        let ports = (record.src.as_ref().and_then(|src| src.port), record.dst.as_ref().and_then(|dst| dst.port));
        let ((Some(from), Some(port)), Some(Proto::Tcp)) = (ports, record.proto) else { return };
        let ports = (from, port);
        if record.event == EventId::TcpOpen {
            // Whatever has the same ports is another one from here on. What the switch tells may come after what the console
            // has told of the same one.
            let is_over = self.latest.get(&ports).is_some_and(|heard| heard.heard < record.time);
            if let Some(heard) = is_over.then(|| self.latest.remove(&ports)).flatten() {
                self.decide(heard);
            }
            return;
        }
        if let Some(heard) = self.latest.get_mut(&ports) {
            if adds(record.event) || protocol_of(record.event).is_some() {
                heard.add(record);
            }
        } else if let Some(protocol) = protocol_of(record.event)
            && self.latest.len() < PAIRS
        {
            let mut heard = Heard::new(record.time, ports, protocol);
            heard.add(record);
            self.latest.insert(ports, heard);
        }
    }

    /// There are no more records.
    pub fn finish(&mut self) {
        let mut latest: Vec<_> = std::mem::take(&mut self.latest).into_values().collect();
        latest.sort_by_key(|heard| (heard.since, heard.from));
        latest.into_iter().for_each(|heard| self.decide(heard));
        self.each.make_contiguous().sort_by_key(|heard| (heard.since, heard.from));
        self.tapes.clear();
    }

    fn decide(&mut self, heard: Heard) {
        if self.from.is_some_and(|from| heard.since < from) || self.until.is_some_and(|until| heard.since >= until) {
            return;
        }
        // The tape of a connection begins before any event of it, and behind all of those before it with the same ports.
        let times = self.tapes.get_mut(&(heard.from, heard.port));
        let own = times.and_then(|times| {
            let count = times.partition_point(|began| *began <= heard.heard);
            times.drain(..count).next_back()
        });
        if own.is_some() {
            return;
        }
        if self.each.len() >= MOST {
            self.each.pop_front();
            self.more += 1;
        }
        self.each.push_back(heard);
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.each.len() as u64 + self.more
    }

    /// Those that are not told.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// They in rows.
    pub fn rows(&self) -> impl Iterator<Item = Value> + '_ {
        self.each.iter().map(|heard| {
            let mut since = heard.since.to_string();
            since.truncate(19);
            json!({
                "since": since,
                "from": heard.from,
                "port": heard.port,
                "protocol": heard.protocol,
                "attempts": heard.attempts,
                "commands": heard.commands,
                "files": heard.files,
                "events": heard.events,
            })
        })
    }
}

impl Heard {
    fn new(since: Utc, (from, port): Ports, protocol: &'static str) -> Heard {
        Heard { since, heard: since, from, port, protocol, attempts: 0, commands: 0, files: 0, events: 0 }
    }

    fn add(&mut self, record: &Record) {
        self.heard = self.heard.max(record.time);
        self.events += 1;
        match record.event {
            EventId::SshLogin | EventId::ServiceLogin => self.attempts += 1,
            EventId::SshCommand | EventId::ShellCommand => self.commands += 1,
            EventId::SshFile => self.files += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Utc {
        Utc::from_micros(second * 1_000_000)
    }

    fn record(event: &str, second: i64, from: u16) -> Record {
        let time = at(second);
        let text = format!(
            r#"{{"v":1,"seq":1,"time":"{time}","event":"{event}","session":"0000000000000abc","proto":"tcp",
                "src":{{"ip":"192.0.2.9","port":{from}}},"dst":{{"ip":"10.0.0.1","port":22}}}}"#
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// One with a log-in and a command.
    fn connection(second: i64, from: u16) -> Vec<Record> {
        let events = ["tcp.open", "ssh.hello", "ssh.login", "ssh.command", "tcp.close", "ssh.close"];
        (second..).zip(events).map(|(second, event)| record(event, second, from)).collect()
    }

    fn told(tapes: &[(u16, i64)], from: Option<i64>, records: &[Record]) -> (Vec<(u64, u64, u64)>, u64) {
        let tapes = tapes.iter().map(|(port, second)| ((*port, 22), at(*second)));
        let mut all = Unrecorded::beside(tapes, from.map(at), at(100_000));
        records.iter().for_each(|record| all.add(record));
        all.finish();
        let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
        let rows = all.rows().map(|row| (number(&row, "from"), number(&row, "attempts"), number(&row, "commands")));
        (rows.collect(), all.more())
    }

    #[test]
    fn what_has_events_and_no_tape_is_told() {
        let records = [connection(10, 1000), connection(20, 2000), connection(30, 3000)].concat();
        assert_eq!(told(&[(1000, 10), (3000, 30)], None, &records), (vec![(2000, 1, 1)], 0));
        assert_eq!(told(&[(1000, 10), (2000, 20), (3000, 30)], None, &records), (vec![], 0));
        // Where not all tapes are read, older ones may have one.
        assert_eq!(told(&[(3000, 30)], Some(15), &records), (vec![(2000, 1, 1)], 0));
        assert_eq!(
            told(&[], None, &connection(100_001, 7)),
            (vec![], 0),
            "its tape may be newer than the list of them"
        );
        // One of two with the same ports.
        let twice = [connection(10, 1000), connection(20, 1000), connection(30, 1000)].concat();
        assert_eq!(told(&[(1000, 10), (1000, 30)], None, &twice).0.len(), 1);
        assert_eq!(told(&[(1000, 20)], None, &twice).0.len(), 2);
        // The log has what two processes tell as it comes.
        let mut late = connection(10, 1000);
        late.swap(0, 1);
        assert_eq!(told(&[(1000, 10)], None, &late), (vec![], 0));
        // What is only probed, or emulated, has nobody in the middle.
        let other = [record("tcp.open", 1, 5), record("service.login", 2, 5), record("tcp.close", 3, 5)];
        assert_eq!(told(&[], None, &other), (vec![], 0));
        let many: Vec<Record> = (0..300).flat_map(|n| connection(n * 10, 1000 + n as u16)).collect();
        let (rows, more) = told(&[], None, &many);
        assert_eq!((rows.len(), rows[0].0, more), (200, 1100, 100));
    }
}
