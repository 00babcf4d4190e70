//! Following what a sensor writes: its alerts become events.
//!
//! The console can open no file but its own, and the sensor's may lie anywhere: the keeper opens it and hands it over, for
//! reading, whenever there is another one under its name. One that is rotated is read to its end first. How far it was read
//! is on disk, so a console that starts anew leaves nothing out; after one that died, what is a few seconds old may be told twice.
//! If that file is gone by then, or was emptied, a `gap` tells of the time of which nothing is known.
//!
//! Attackers bring alerts about, so of too many at once some are only counted.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::keeper::Keeper;
use super::to_recorder::ToRecorder;
use crate::event::{Event, EventId, Party, Said, Utc};
use crate::record::eve::{Lines, Seen, alert, is_broken};
use crate::sys::clock;
use crate::wire::{Instant, Mac};

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is asked whether there is another file.
const ASK: Duration = Duration::from_secs(1);
/// Octets that are read before it is looked around.
const PIECE: usize = 256 << 10;
/// Octets at the end of a file that was there before anybody followed it.
const TAIL: u64 = 16 << 20;
/// Alerts from so long before the honeynet began are others'.
const BEFORE_MICROS: i64 = 60_000_000;
/// A sensor's clock is this machine's: what differs more is another time.
const APART_MICROS: i64 = 86_400_000_000;
/// Alerts a second that are recorded, and how many at once.
const ALERTS: (u64, u64) = (100, 2000);
/// How often it is told how many were only counted, as long as there are such.
const COUNTED_MICROS: i64 = 1_000_000;
/// How long a sensor may write on to a file that has another name, while that of its name is empty.
const ROTATION_MICROS: i64 = 10_000_000;
/// Where it is kept how far a file was read, below the honeynet's directory.
const PLACE: &str = "events/sensor.json";
/// For so long an alert may wait in the recorder. Should the console die, what is younger is told once more.
const SETTLED_MICROS: i64 = 4_000_000;

/// A file, by what stays when it gets another name.
type Identity = (u64, u64);

/// How far a file was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Place {
    dev: u64,
    ino: u64,
    octets: u64,
    /// When the last of them were read, in microseconds since 1970; 0 if that is not known.
    #[serde(default)]
    at: i64,
}

/// Asks the keeper for the sensor's file, and for the next one when that has taken its name. Ends with who reads them.
pub async fn ask(keeper: Arc<Keeper>, files: std::sync::mpsc::Sender<File>) {
    let (mut have, mut said) = ((0, 0), String::new());
    loop {
        match keeper.sensor(have).await {
            Ok(Some(fd)) => match open(fd) {
                Ok((file, identity)) => {
                    have = identity;
                    said.clear();
                    if files.send(file).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "the sensor's file cannot be read"),
            },
            Ok(None) => {}
            // A sensor may be started later than the honeynet.
            Err(why) => {
                if said != why {
                    tracing::warn!(%why, "there are no alerts from the sensor yet");
                    said = why;
                }
            }
        }
        tokio::time::sleep(ASK).await;
    }
}

fn open(fd: OwnedFd) -> io::Result<(File, Identity)> {
    let file = File::from(fd);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((file, (about.dev(), about.ino())))
}

/// Reads the files that come by `files`, those that are called `eve` in their time, until nobody sends any more.
pub fn run(dir: &Path, eve: &Path, files: &Receiver<File>, to_recorder: &ToRecorder) {
    let mut follower = Follower::new(dir, eve, clock::realtime_micros());
    loop {
        let more = follower.read(clock::realtime_micros(), clock::monotonic_micros());
        to_recorder.say(follower.told(clock::monotonic_micros()));
        follower.save(clock::monotonic_micros().saturating_sub(SETTLED_MICROS));
        match files.recv_timeout(if more { Duration::ZERO } else { LOOK }) {
            Ok(file) => follower.next.push_back((file, clock::monotonic_micros())),
            Err(RecvTimeoutError::Timeout) => {}
            // The recorder settles what it was given.
            Err(RecvTimeoutError::Disconnected) => {
                to_recorder.say(follower.uncounted(clock::monotonic_micros()));
                return follower.save(i64::MAX);
            }
        }
    }
}

struct Follower {
    path: PathBuf,
    /// What the sensor's file is called.
    file_name: PathBuf,
    /// The file, and how far it was read.
    file: Option<(File, Place)>,
    /// Octets that it had when it was looked at last.
    len: u64,
    /// Those that have taken its name since, each with when, monotonic and in microseconds.
    next: VecDeque<(File, i64)>,
    lines: Lines,
    /// Lines of the file that were read, if it is read from its beginning.
    line: Option<u64>,
    /// What was said of a line that cannot be read: of one file once.
    broken: Option<String>,
    /// What was read before, by a console before this one.
    known: Option<Place>,
    saved: Option<Place>,
    /// How far it had come when, until all of that is certainly recorded.
    places: VecDeque<(i64, Place)>,
    /// What is older than this is not told, in microseconds since 1970.
    since: i64,
    /// Alerts that may be told, and as of when.
    budget: (u64, i64),
    untold: u64,
    /// When it was told last that there were more, monotonic and in microseconds.
    counted: i64,
    events: Vec<Said>,
    buffer: Vec<u8>,
}

impl Follower {
    fn new(dir: &Path, eve: &Path, utc: i64) -> Follower {
        let path = dir.join(PLACE);
        let known: Option<Place> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Follower {
            path,
            file_name: eve.to_owned(),
            file: None,
            len: 0,
            next: VecDeque::new(),
            lines: Lines::default(),
            line: None,
            broken: None,
            known,
            saved: known,
            places: VecDeque::new(),
            since: if known.is_some() { i64::MIN } else { utc - BEFORE_MICROS },
            budget: (ALERTS.1, 0),
            untold: 0,
            counted: i64::MIN,
            events: Vec::new(),
            buffer: vec![0; PIECE],
        }
    }

    /// Reads a piece. Returns whether there may be more.
    fn read(&mut self, utc: i64, monotonic: i64) -> bool {
        if self.file.is_none() {
            let Some((file, _)) = self.next.pop_front() else { return false };
            self.begin(file, utc, monotonic);
        }
        let Some((file, place)) = &mut self.file else { return false };
        let len = match file.metadata().map(|about| about.len()) {
            // Somebody has emptied it, and writes on from its beginning.
            Ok(len) if len < place.octets => {
                let unread = self.len.saturating_sub(place.octets);
                if unread > 0 {
                    let what = format!("the sensor's file was emptied before {unread} octets of it were read");
                    self.events.push(lost(&what, (place.at, utc), monotonic));
                }
                (place.octets, place.at) = (0, utc);
                self.lines.begin();
                (self.line, self.broken) = (Some(0), None);
                len
            }
            Ok(len) => len,
            Err(_) => 0,
        };
        self.len = len;
        let (octets, mut found) = (place.octets, Vec::new());
        let got = match file.read_at(&mut self.buffer, octets) {
            Ok(got) => got,
            Err(error) => {
                tracing::warn!(%error, "the sensor's file cannot be read on");
                0
            }
        };
        if got > 0 {
            place.octets += got as u64;
            place.at = utc;
        }
        let piece = self.buffer.get(..got).unwrap_or_default();
        let mut broken = None;
        self.lines.push(piece, |line| {
            let number = self.line.as_mut().map(|count| {
                *count += 1;
                *count
            });
            let seen = alert(line);
            if seen.is_none() && self.broken.is_none() && broken.is_none() && is_broken(line) {
                broken = Some(number);
            }
            found.extend(seen);
        });
        // Whoever writes such lines may write many.
        if let Some(number) = broken {
            let file = self.file_name.display();
            let place = number.map_or_else(|| format!("about octet {octets}"), |number| format!("line {number}"));
            let why =
                format!("{file}: {place} is nothing that a sensor tells: it is passed over, as are all others like it");
            tracing::warn!("{why}");
            self.broken = Some(why);
        }
        for seen in found {
            self.take(seen, utc, monotonic);
        }
        if got > 0 {
            return octets + (got as u64) < len || !self.next.is_empty();
        }
        // Whoever rotates it may make the next one before the sensor hears of that.
        let is_over = self.next.front().is_some_and(|(file, since)| {
            file.metadata().is_ok_and(|about| about.len() > 0) || monotonic.saturating_sub(*since) >= ROTATION_MICROS
        });
        if is_over {
            self.file = None;
        }
        is_over
    }

    fn begin(&mut self, file: File, utc: i64, monotonic: i64) {
        let Ok(about) = file.metadata() else { return };
        self.lines.begin();
        let mut place = Place { dev: about.dev(), ino: about.ino(), octets: 0, at: utc };
        match self.known.take() {
            Some(known) if (known.dev, known.ino) != (place.dev, place.ino) => {
                // What the sensor wrote until this file was made is in one that is gone, or has any name.
                let made = about.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let made = made.and_then(|since| i64::try_from(since.as_micros()).ok());
                let until = made.filter(|made| (known.at..utc).contains(made)).unwrap_or(utc);
                let what = "the sensor's file was replaced while nobody read it";
                self.events.push(lost(what, (known.at, until), monotonic));
            }
            Some(known) if known.octets > about.len() => {
                let what = "the sensor's file was emptied while nobody read it";
                self.events.push(lost(what, (known.at, utc), monotonic));
            }
            Some(known) => (place.octets, place.at) = (known.octets, known.at),
            None if self.saved.is_none() && about.len() > TAIL => {
                place.octets = about.len() - TAIL;
                self.lines.begin_within();
            }
            _ => {}
        }
        self.len = place.octets;
        (self.line, self.broken) = ((place.octets == 0).then_some(0), None);
        self.file = Some((file, place));
    }

    fn take(&mut self, seen: Seen, utc: i64, monotonic: i64) {
        let at = seen.at.micros();
        if at < self.since {
            return;
        }
        // What was seen while no honeynet ran stays in its time, in which there is no session.
        let at = if at > utc.saturating_add(APART_MICROS) { utc } else { at };
        let earned = monotonic.saturating_sub(self.budget.1).max(0).unsigned_abs().saturating_mul(ALERTS.0) / 1_000_000;
        if earned > 0 {
            self.budget = (self.budget.0.saturating_add(earned).min(ALERTS.1), monotonic);
        }
        if self.budget.0 == 0 {
            self.untold += 1;
            return;
        }
        self.budget.0 -= 1;
        let mut event = Event::new(EventId::IdsAlert, Instant::from_micros(at.saturating_sub(utc - monotonic)));
        let party = |(ip, l4_port): (IpAddr, u16)| Party { ip: Some(ip).into(), mac: Mac::ZERO, l4_port };
        (event.src, event.dst, event.proto) = (party(seen.src), party(seen.dst), seen.proto);
        self.events.push(Said { event, data: seen.data.into_bytes() });
    }

    /// What is to be recorded.
    fn told(&mut self, monotonic: i64) -> Vec<Said> {
        let mut events = std::mem::take(&mut self.events);
        // A flood may last for as long as an attacker likes.
        if monotonic.saturating_sub(self.counted) >= COUNTED_MICROS {
            events.extend(self.uncounted(monotonic));
        }
        events
    }

    /// How many alerts were left out, if any, since that was told last.
    fn uncounted(&mut self, monotonic: i64) -> Option<Said> {
        let count = std::mem::take(&mut self.untold);
        (count > 0).then(|| {
            self.counted = monotonic;
            let event = Event { count, ..Event::new(EventId::Gap, Instant::from_micros(monotonic)) };
            Said { event, data: b"ids: there were more alerts than are recorded".to_vec() }
        })
    }

    /// Keeps how far it had come at `recorded`, monotonic and in microseconds. Half a line is read again.
    fn save(&mut self, recorded: i64) {
        if let Some((_, place)) = self.file {
            let place = Place { octets: place.octets.saturating_sub(self.lines.open()), ..place };
            if self.places.back().map(|(_, last)| last).or(self.saved.as_ref()) != Some(&place) {
                self.places.push_back((recorded.saturating_add(SETTLED_MICROS), place));
            }
        }
        let settled = self.places.iter().take_while(|(since, _)| *since <= recorded).count();
        let Some((_, place)) = self.places.drain(..settled).next_back() else { return };
        if self.saved == Some(place) {
            return;
        }
        let half = self.path.with_extension("new");
        let text = serde_json::to_vec(&place).unwrap_or_default();
        match fs::write(&half, text).and_then(|()| fs::rename(&half, &self.path)) {
            Ok(()) => self.saved = Some(place),
            Err(error) => tracing::debug!(%error, "alerts may be told twice after a restart"),
        }
    }
}

/// Tells of a time whose alerts nobody will read, however many there were.
fn lost(what: &str, (from, until): (i64, i64), monotonic: i64) -> Said {
    let until = Utc::from_micros(until);
    let time = match from {
        0 => format!("until {until}"),
        from => format!("from {} until {until}", Utc::from_micros(from)),
    };
    tracing::warn!("{what}: alerts {time} are not told");
    let event = Event::new(EventId::Gap, Instant::from_micros(monotonic));
    Said { event, data: format!("ids: {what}; alerts {time}, if there were any, are not told").into_bytes() }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
