//! What an intrusion has changed in its containers, held apart from what others changed there.
//!
//! A container is listed each time that it rests ([`crate::container::inspector::Listing`]). What was changed between two
//! listings is told of whoever was there meanwhile, by the event log: of one session alone if nobody else was, and
//! otherwise of all of them together.

mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::open_regular;
use super::schema::{Answer, Record};
use super::search::scan;
use super::session::{Session, session};
use crate::container::inspector::{Cut, LISTINGS, Listing, Occasion, between, listing_of, read_listing};
use crate::event::{EventId, SessionId, Utc};
use crate::node::attacker_of;

use own::Own;
pub use own::{By, Caused};

/// The switch tells of who brings a container to life a little before the keeper has it.
const EARLY: i64 = 10_000_000;
/// Entries of the directory of listings that are looked at.
const LISTED: usize = 1_000_000;
/// Containers of one session, and sessions that were in one at the same time, that are told one by one.
const EACH: usize = 256;
/// What a record says that others are missing.
const GAP: &str = "\"event\":\"gap\"";
/// Changes that are told of one session.
const CHANGES: usize = 200_000;

/// What a session has changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Which session: 16 hexadecimal digits.
    pub session: String,
    /// The host that it was with, if that is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// The containers that it was in.
    pub containers: Vec<InContainer>,
    /// What is not told, as there is too much of it: containers, sessions and changes.
    pub more: u64,
}

/// What it has changed in one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InContainer {
    /// The container.
    pub container: String,
    /// Its number.
    pub number: u32,
    /// Its node.
    pub node: String,
    /// The address that stands for its host.
    pub host: IpAddr,
    /// When it became that host's.
    pub began: Utc,
    /// The times between two listings in which the session was there.
    pub windows: Vec<Window>,
    /// It was there after the last listing, too: what it did then is not told yet, or is lost.
    pub unlisted: bool,
}

/// A time between two listings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// When the container went on, or became the host's.
    pub since: Utc,
    /// When it rested again.
    pub until: Utc,
    /// Why it did.
    pub occasion: Occasion,
    /// The listings on both sides of it; of a container that began with it, the later one.
    pub listings: Vec<String>,
    /// Other sessions that were there then: each of the changes may be any one's.
    pub with: Vec<String>,
    /// It was not known of all files what is in them.
    pub partial: bool,
    /// What is not told.
    pub cut: Vec<Cut>,
    /// The changes by path; `was` is what there was before them.
    pub changes: Vec<Caused>,
}

/// One container and its listings.
struct Shelf {
    /// When it had rested and why, by name.
    rests: Vec<Rest>,
    /// The last one, without its changes.
    last: Listing,
    /// When the host had another container before.
    before: Utc,
    /// What it did by itself.
    own: Own,
    /// Sessions that it came to life for.
    woken_by: BTreeSet<SessionId>,
    /// Who was there in the time before each rest, and after the last one.
    there: Vec<BTreeSet<SessionId>>,
    /// Whether the session in question was there at any time: where nothing changed, there is no time between two rests.
    is_its: bool,
    more: u64,
}

struct Rest {
    name: String,
    taken: Utc,
    until: Utc,
    occasion: Occasion,
}

/// What session `id` of the honeynet in `dir` has changed, or, with `all`, whatever was changed in its containers by the
/// last time that they were listed. `None` if there is no record of it.
///
/// # Errors
/// If log or listings cannot be read. That one of them is damaged is no error.
pub fn difference(dir: &Path, id: SessionId, all: bool) -> io::Result<Option<Difference>> {
    let log = dir.join("events");
    let Some(about) = session(&log, id, |_, _| Ok(()))? else { return Ok(None) };
    let listings = dir.join("evidence").join(LISTINGS);
    let mut shelves = shelves(&listings, &about)?;
    attend(&log, &mut shelves, id)?;
    let mut told = Difference { session: id.to_string(), host: about.host, containers: Vec::new(), more: 0 };
    let mut room = CHANGES;
    for shelf in &shelves {
        if !shelf.is_its {
            continue;
        }
        if told.containers.len() >= EACH {
            told.more += 1;
            continue;
        }
        let mut windows = if all { shelf.whole(&listings, id) } else { shelf.own(&listings, id) };
        for window in &mut windows {
            told.more += window.changes.len().saturating_sub(room) as u64;
            window.changes.truncate(room);
            room -= window.changes.len();
        }
        told.more += shelf.more;
        let leased = &shelf.last.leased;
        told.containers.push(InContainer {
            container: leased.container.clone(),
            number: shelf.last.number,
            node: leased.node.clone(),
            host: leased.host,
            began: leased.began,
            windows,
            unlisted: shelf.there.last().is_some_and(|there| there.contains(&id)),
        });
    }
    Ok(Some(told))
}

fn read(dir: &Path, name: &str) -> Option<Listing> {
    read_listing(open_regular(&dir.join(name)).ok()?).ok()
}

/// The sessions that a container came to life for.
fn sessions_of(listing: &Listing) -> BTreeSet<SessionId> {
    let visits = listing.leased.leases.iter().filter_map(|visit| visit.session.as_deref());
    visits.chain(listing.leased.session.as_deref()).filter_map(|session| session.parse().ok()).collect()
}

/// The containers that the session may have been in, the oldest first.
fn shelves(listings: &Path, about: &Session) -> io::Result<Vec<Shelf>> {
    let entries = match fs::read_dir(listings) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: BTreeMap<String, Vec<(Utc, String)>> = BTreeMap::new();
    for entry in entries.take(LISTED) {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Some((container, _, taken)) = listing_of(&name) else { continue };
        names.entry(container.to_owned()).or_default().push((taken, name));
    }
    let mut shelves: Vec<Shelf> = Vec::new();
    for mut rests in names.into_values() {
        rests.sort();
        let Some((_, last)) = rests.last() else { continue };
        let Some(mut last) = read(listings, last) else { continue };
        // Of one that goes on, the last listing may be of before.
        let was_there_yet = last.occasion != Occasion::Ended || last.until >= about.since;
        if !was_there_yet
            || about.node.as_ref().is_some_and(|node| *node != last.leased.node)
            || about.host.is_some_and(|host| !last.addresses.contains(&host))
            || last.leased.began.micros() > about.heard.micros().saturating_add(EARLY)
        {
            continue;
        }
        last.changes = Vec::new();
        let rest = |(taken, name): (Utc, String)| {
            let head = if taken == last.taken { None } else { Some(read(listings, &name)?) };
            let (until, occasion) = head.map_or((last.until, last.occasion), |head| (head.until, head.occasion));
            Some(Rest { name, taken, until, occasion })
        };
        let rests: Vec<Rest> = rests.into_iter().filter_map(rest).collect();
        let there = vec![BTreeSet::new(); rests.len() + 1];
        let before = Utc::from_micros(i64::MIN);
        let woken_by = sessions_of(&last);
        shelves.push(Shelf { rests, last, before, woken_by, there, own: Own::default(), is_its: false, more: 0 });
    }
    shelves.sort_by_key(|shelf| shelf.last.leased.began);
    // Whoever was in the host's container of before was not in this one for that.
    for at in 1..shelves.len() {
        let (earlier, later) = shelves.split_at_mut(at);
        let Some(shelf) = later.first_mut() else { continue };
        // Of the attackers in a network, each may have had one at the same time.
        let is_whose = shelf.last.granted.is_none_or(|granted| granted.is_whole());
        let same = |other: &&Shelf| {
            (other.last.leased.host, other.last.granted) == (shelf.last.leased.host, shelf.last.granted)
                && other.last.occasion == Occasion::Ended
                && (is_whose || other.last.until <= shelf.last.leased.began)
        };
        if let Some(other) = earlier.iter().rev().find(same) {
            shelf.before = other.last.until;
        }
    }
    Ok(shelves)
}

/// Finds out by the log who was in which container, and when.
fn attend(log: &Path, shelves: &mut [Shelf], id: SessionId) -> io::Result<()> {
    if shelves.is_empty() {
        return Ok(());
    }
    let addresses: BTreeSet<IpAddr> = shelves.iter().flat_map(|shelf| &shelf.last.addresses).copied().collect();
    let wanted: Vec<String> = addresses.iter().map(|ip| format!("\"ip\":\"{ip}\"")).collect();
    scan(log, |line| {
        // Parsing costs more than looking.
        let is_gap = line.contains(GAP);
        if !is_gap && !wanted.iter().any(|ip| line.contains(ip)) {
            return Ok(());
        }
        let Ok(record) = serde_json::from_str::<Record>(line) else { return Ok(()) };
        if record.event == EventId::Gap {
            let of_time = shelves.iter_mut().filter(|shelf| shelf.was_there((record.time, record.time)));
            of_time.for_each(|shelf| shelf.own.gap());
            return Ok(());
        }
        for shelf in shelves.iter_mut().filter(|shelf| shelf.is_about(&record)) {
            shelf.own.learn(&record);
        }
        let Some((session, host)) = record.session.zip(record.dst.as_ref().and_then(|dst| dst.ip)) else {
            return Ok(());
        };
        if is_a_visit(&record) {
            let who = record.src.as_ref().and_then(|src| src.ip);
            let length = i64::try_from(record.duration_us.unwrap_or(0)).unwrap_or(0);
            let began = Utc::from_micros(record.time.micros().saturating_sub(length));
            let time = (began, record.time);
            let is_its = |shelf: &Shelf| shelf.is_of(record.node.as_deref(), host, who) && shelf.was_there(time);
            // Where only networks are on record, whoever has brought one container to life was in no neighbor's.
            let is_known = shelves.iter().any(|shelf| is_its(shelf) && shelf.was_granted_to(session));
            for shelf in shelves.iter_mut().filter(|shelf| is_its(shelf)) {
                if !is_known || shelf.was_granted_to(session) {
                    shelf.visited(session, time, id);
                }
            }
        }
        Ok(())
    })
}

/// Whether a record tells that somebody was in touch with what runs on a host, beyond asking whether it does.
fn is_a_visit(record: &Record) -> bool {
    match record.event {
        EventId::TcpOpen
        | EventId::TcpClose
        | EventId::ContainerStart
        | EventId::SshHello
        | EventId::SshLogin
        | EventId::SshShell
        | EventId::SshCommand
        | EventId::SshFile
        | EventId::SshForward
        | EventId::SshForwardData
        | EventId::SshEnv
        | EventId::SshExit
        | EventId::TelnetShell
        | EventId::TelnetExit
        | EventId::SshClose => true,
        EventId::UdpDatagram => matches!(record.answer, Some(Answer::Open | Answer::Held)),
        _ => false,
    }
}

impl Shelf {
    fn is_of(&self, node: Option<&str>, host: IpAddr, who: Option<IpAddr>) -> bool {
        node.is_none_or(|node| node == self.last.leased.node)
            && self.last.addresses.contains(&host)
            && self.last.granted.is_none_or(|granted| who.is_some_and(|who| granted.may_be(attacker_of(who))))
    }

    /// Whether it was granted to the attacker who has session `id`, as far as that is on record: only those that have
    /// brought it to life are.
    fn was_granted_to(&self, id: SessionId) -> bool {
        self.last.granted.is_some() && self.woken_by.contains(&id)
    }

    /// Whether `record` is about the container itself.
    fn is_about(&self, record: &Record) -> bool {
        let (host, who) = [&record.dst, &record.src].map(|end| end.as_ref().and_then(|end| end.ip)).into();
        let is_granted = record.session.is_some_and(|session| self.was_granted_to(session));
        host.is_some_and(|host| {
            self.is_of(record.node.as_deref(), host, who) || (is_granted && self.last.addresses.contains(&host))
        }) && self.was_there((record.time, record.time))
    }

    /// When somebody could be in it first.
    fn first(&self) -> Utc {
        self.before.max(Utc::from_micros(self.last.leased.began.micros().saturating_sub(EARLY)))
    }

    /// Whether the host had it at some time from `began` to `ended`.
    fn was_there(&self, (began, ended): (Utc, Utc)) -> bool {
        ended > self.first() && (self.last.occasion != Occasion::Ended || began <= self.last.until)
    }

    /// When the time before rest number `at` began.
    fn since(&self, at: usize) -> Utc {
        match at.checked_sub(1).and_then(|before| self.rests.get(before)) {
            Some(rest) => rest.until,
            None => self.last.leased.began,
        }
    }

    /// Session `id` was there from `began` to `ended`. There is always room for the one that is `wanted`.
    fn visited(&mut self, id: SessionId, (began, ended): (Utc, Utc), wanted: SessionId) {
        let is_over = self.last.occasion == Occasion::Ended;
        self.is_its |= id == wanted;
        for at in 0..=self.rests.len() {
            let since = match at {
                0 => self.first(),
                _ => self.since(at),
            };
            let until = self.rests.get(at).map(|rest| rest.taken);
            let is_past = at == self.rests.len() && is_over;
            if ended <= since || until.is_some_and(|until| began > until) || is_past {
                continue;
            }
            let Some(there) = self.there.get_mut(at) else { continue };
            if there.len() < EACH || there.contains(&id) || id == wanted {
                there.insert(id);
            } else {
                self.more += 1;
            }
        }
    }

    /// What was changed while session `id` was there. Times that follow each other, with the same others there, are one.
    fn own(&self, listings: &Path, id: SessionId) -> Vec<Window> {
        let mut windows = Vec::new();
        let mut at = 0;
        while at < self.rests.len() {
            let Some(there) = self.there.get(at).filter(|there| there.contains(&id)) else {
                at += 1;
                continue;
            };
            let first = at;
            while at + 1 < self.rests.len() && self.there.get(at + 1) == Some(there) {
                at += 1;
            }
            windows.extend(self.window(listings, (first, at), there, id));
            at += 1;
        }
        windows
    }

    /// What was changed since the container became the host's.
    fn whole(&self, listings: &Path, id: SessionId) -> Vec<Window> {
        let Some(last) = self.rests.len().checked_sub(1) else { return Vec::new() };
        let all: BTreeSet<SessionId> = self.there.iter().take(self.rests.len()).flatten().copied().collect();
        self.window(listings, (0, last), &all, id).into_iter().collect()
    }

    fn window(
        &self,
        listings: &Path,
        (first, last): (usize, usize),
        there: &BTreeSet<SessionId>,
        id: SessionId,
    ) -> Option<Window> {
        let rest = self.rests.get(last)?;
        let earlier = first.checked_sub(1).and_then(|before| self.rests.get(before));
        // What cannot be read any more is told as nothing, which would make all of the rest this window's.
        let before = match earlier {
            Some(rest) => Some(read(listings, &rest.name)?),
            None => None,
        };
        let after = read(listings, &rest.name)?;
        let (since, until) = (self.since(first), rest.taken);
        let cause = |change| Caused { by: self.own.cause(&change, since, until), change };
        let changes = between(before.as_ref(), &after).into_iter().map(cause).collect();
        let cut = before.iter().chain([&after]).flat_map(|listing| &listing.cut).cloned().collect();
        Some(Window {
            since,
            until,
            occasion: rest.occasion,
            listings: earlier.into_iter().chain([rest]).map(|rest| rest.name.clone()).collect(),
            with: there.iter().filter(|other| **other != id).map(SessionId::to_string).collect(),
            partial: after.partial || before.as_ref().is_some_and(|before| before.partial),
            cut,
            changes,
        })
    }
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
