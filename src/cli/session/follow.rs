//! `honeyweave session follow`: what an attacker sees while it happens, until the session is over.
//!
//! Whatever is open is followed, however many connections and channels that are: a command that comes and goes does not
//! lead away from the shell beside it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use miette::IntoDiagnostic;

use super::super::table;
use super::drawing::{Drawing, Place};
use super::ends::{Ends, Names};
use super::replay::{Open, casts, next_of, no_transcript, open};
use super::{Which, directory, events, gaps, unreadable};
use crate::control::place;
use crate::event::{EventId, SessionId, Utc};
use crate::record::transcript::{Moment, What};
use crate::record::{Over, Record, Tail, Why, session};
use crate::sys::clock;
use crate::sys::signal::Signals;

/// How often casts that are being written are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often others are looked for, and whether they are over, in microseconds.
const SEEK: i64 = 500_000;
/// How often it is looked whether all is over, in microseconds.
const ASK: i64 = 1_000_000;
/// How long something may be on its way to the disk once all is over, in microseconds.
const LAST: i64 = 1_000_000;
/// Casts that are followed at once, each of which is an open file.
const MOST: usize = 512;
/// Moments of one cast that are shown before it is another one's turn.
const TURN: usize = 256;

/// What is over.
const SESSION: &str = "the session is over";
const HONEYNET: &str = "the honeynet has ended";

/// What is over, if `record` says that session `id`, which began at `since`, or everything is.
fn end_of(record: &Record, id: SessionId, since: Utc) -> Option<&'static str> {
    if record.event == EventId::SessionEnd && record.session == Some(id) {
        return Some(SESSION);
    }
    let over = Over::told_by(record).filter(|over| over.since > since)?;
    Some(if over.why == Why::HoneynetEnded { HONEYNET } else { SESSION })
}

/// Why there will be nothing more.
struct Watch {
    dir: PathBuf,
    id: SessionId,
    /// When it began.
    since: Utc,
    log: Tail,
    asked: i64,
    /// What is over, and since when.
    over: Option<(&'static str, i64)>,
    signals: Signals,
}

impl Watch {
    fn new(dir: PathBuf, id: SessionId) -> miette::Result<Watch> {
        let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM]).into_diagnostic()?;
        let log = events(&dir);
        // What is added while the log is read is seen afterward.
        let tail = Tail::new(&log).map_err(|error| unreadable(&log, &error))?;
        let found = session(&log, id, |_, _| Ok(())).map_err(|error| unreadable(&log, &error))?;
        let since = found.as_ref().map_or(Utc::EPOCH, |found| found.since);
        let over = found.filter(|found| found.ended).map(|_| (SESSION, clock::monotonic_micros()));
        Ok(Watch { dir, id, since, log: tail, asked: i64::MIN, over, signals })
    }

    /// Whether it was interrupted.
    fn is_interrupted(&self) -> bool {
        self.signals.next().is_some()
    }

    /// Why nothing more will come, if so; waits a moment otherwise.
    fn rest(&mut self) -> miette::Result<Option<&'static str>> {
        let now = clock::monotonic_micros();
        if self.over.is_none() && now.saturating_sub(self.asked) >= ASK {
            self.asked = now;
            self.ask(now)?;
        }
        if let Some((why, _)) = self.over.filter(|(_, since)| now - since >= LAST) {
            return Ok(Some(why));
        }
        std::thread::sleep(LOOK);
        Ok(None)
    }

    fn ask(&mut self, now: i64) -> miette::Result<()> {
        let (id, since, mut has_ended) = (self.id, self.since, None);
        self.log
            .look(|line| {
                // Most lines are about something else, and need not be read.
                let may_tell = [EventId::SessionEnd, EventId::ProcessState].iter().any(|id| line.contains(id.as_str()));
                let record = may_tell.then(|| serde_json::from_str::<Record>(line).ok()).flatten();
                has_ended = has_ended.or_else(|| end_of(&record?, id, since));
            })
            .map_err(|error| unreadable(&self.dir, &error))?;
        // Whoever cannot tell waits on.
        let is_down = place::is_lived_in(&self.dir).is_ok_and(|lives| !lives);
        self.over = match (has_ended, is_down) {
            (Some(why), _) => Some((why, now)),
            (None, true) => Some((HONEYNET, now)),
            (None, false) => None,
        };
        Ok(())
    }
}

/// A cast that is followed.
struct Followed {
    path: PathBuf,
    names: Option<Names>,
    cast: Open,
    drawing: Drawing,
    /// Nothing is written to it any more; what there is may not all be shown yet.
    is_over: bool,
}

/// All that are.
struct Shown {
    place: Place,
    /// How many they are at most.
    most: usize,
    each: Vec<Followed>,
    /// Casts that are, were, or need not be followed.
    seen: HashSet<PathBuf>,
    /// Tapes of connections of which it was not told that they are over.
    tapes: HashMap<PathBuf, Ends>,
    /// Which channel was shown last.
    last: Option<String>,
    /// It was told that there are too many.
    has_told: bool,
}

impl Shown {
    fn new(most: usize, place: Place) -> Shown {
        let (each, seen, tapes) = (Vec::new(), HashSet::new(), HashMap::new());
        Shown { place, most, each, seen, tapes, last: None, has_told: false }
    }

    /// Looks which casts there are and which are over; returns what is to be said of that.
    fn seek(&mut self, dir: &Path, id: SessionId) -> miette::Result<String> {
        let all: Vec<(PathBuf, Option<Names>)> =
            casts(dir, id)?.into_iter().map(|path| (path.clone(), Names::of(&path))).collect();
        let is_first = self.seen.is_empty();
        let newer: Vec<&(PathBuf, Option<Names>)> = all.iter().filter(|(path, _)| !self.seen.contains(path)).collect();
        for (_, names) in &newer {
            if let Some(names) = names {
                self.tapes.entry(names.tape.clone()).or_default();
            }
        }
        for (tape, ends) in &mut self.tapes {
            ends.look(tape);
        }
        // The last part of each channel.
        let last: HashMap<&str, u32> =
            all.iter().flat_map(|(_, names)| names).map(|names| (names.channel.as_str(), names.part)).collect();
        let is_over = |tapes: &HashMap<PathBuf, Ends>, names: &Option<Names>| {
            names.as_ref().is_some_and(|names| {
                last.get(names.channel.as_str()).is_some_and(|part| *part > names.part)
                    || tapes.get(&names.tape).is_some_and(|ends| ends.have(names.number))
            })
        };
        for followed in &mut self.each {
            followed.is_over |= is_over(&self.tapes, &followed.names);
        }
        let mut said = String::new();
        for (path, names) in newer {
            let is_over = is_over(&self.tapes, names);
            // What was over before is for replay, unless there is nothing else: then the newest is shown.
            let is_passed =
                is_first && is_over && !(self.each.is_empty() && Some(path) == all.last().map(|(path, _)| path));
            if !is_passed && self.each.len() >= self.most {
                if !std::mem::replace(&mut self.has_told, true) {
                    said += &format!("{}(only {} transcripts are followed at once)\n", self.place.reset(), self.most);
                }
                break;
            }
            if is_passed {
                self.seen.insert(path.clone());
                continue;
            }
            match open(path) {
                Ok(cast) => {
                    self.seen.insert(path.clone());
                    let (path, names) = (path.clone(), names.clone());
                    self.each.push(Followed { path, names, cast, drawing: Drawing::new(self.place), is_over });
                }
                Err(_) if is_over => {
                    self.seen.insert(path.clone());
                }
                // Its first line may be on its way.
                Err(_) => {}
            }
        }
        if is_first {
            let followed: HashSet<&PathBuf> =
                self.each.iter().flat_map(|of| &of.names).map(|names| &names.tape).collect();
            self.tapes.retain(|tape, _| followed.contains(tape));
        }
        Ok(said)
    }

    /// Shows the next of each; returns whether there is more to be had at once. Nothing is left if nobody looks.
    fn turn(&mut self, show: &mut impl FnMut(&str) -> miette::Result<bool>) -> miette::Result<Option<bool>> {
        let (mut is_more, several) = (false, self.each.len() > 1);
        let mut left = Vec::with_capacity(self.each.len());
        for mut followed in std::mem::take(&mut self.each) {
            let (mut text, mut is_read) = (String::new(), false);
            for _ in 0..TURN {
                match next_of(&mut followed.cast, &followed.path)? {
                    Some(Moment { what: What::Output(output), .. }) => text += &followed.drawing.push(&output),
                    Some(Moment { what: What::Marker(marker), .. }) => {
                        text += &followed.drawing.note(&gaps::of_marker(&marker));
                    }
                    Some(_) => {}
                    None => {
                        is_read = true;
                        break;
                    }
                }
            }
            let is_over = is_read && followed.is_over;
            if is_over {
                text += &std::mem::replace(&mut followed.drawing, Drawing::new(self.place)).finish();
            }
            if !text.is_empty() {
                let channel = followed.names.as_ref().map_or("", |names| names.channel.as_str());
                if self.last.as_deref() != Some(channel) {
                    if several || self.last.is_some() {
                        text.insert_str(0, &format!("{}({channel})\n", self.place.reset()));
                    }
                    self.last = Some(channel.to_owned());
                }
                if !show(&text)? {
                    return Ok(None);
                }
            }
            is_more |= !is_read;
            if !is_over {
                left.push(followed);
            }
        }
        self.each = left;
        Ok(Some(is_more))
    }

    /// Connections of which all is shown and that are over, in words.
    fn ended(&mut self) -> String {
        let open: HashSet<&PathBuf> = self.each.iter().flat_map(|of| &of.names).map(|names| &names.tape).collect();
        let before = self.tapes.len();
        self.tapes.retain(|tape, ends| !ends.is_all() || open.contains(tape));
        let reset = self.place.reset();
        match (before - self.tapes.len(), self.each.len()) {
            (0, _) => String::new(),
            (_, 0) => {
                format!(
                    "{reset}(the connection is over; another one of the session would be shown, Ctrl-C ends this)\n"
                )
            }
            (_, others) => format!("{reset}(a connection is over; transcripts that go on: {others})\n"),
        }
    }

    /// What was begun on lines that have no end yet, where whole lines are printed.
    fn rest(self) -> String {
        self.each.into_iter().map(|followed| followed.drawing.finish()).collect()
    }
}

/// What is followed.
#[derive(clap::Args, Debug)]
pub struct Follow {
    /// Which session
    #[command(flatten)]
    pub which: Which,
    /// Show it as on a terminal even if the output is none: otherwise that gets whole lines of text
    #[arg(long)]
    pub terminal: bool,
}

/// Shows it.
pub fn run(args: &Follow) -> miette::Result<ExitCode> {
    let which = &args.which;
    let dir = directory(&which.target)?;
    let mut shown = Shown::new(MOST, Place::of_output(args.terminal));
    let mut said = shown.seek(&dir, which.id)?;
    if shown.each.is_empty() {
        return Err(no_transcript(&dir, which.id)?);
    }
    let mut watch = Watch::new(dir.clone(), which.id)?;
    let mut sought = clock::monotonic_micros();
    let why = loop {
        if watch.is_interrupted() {
            break "";
        }
        if !said.is_empty() && !table::put(&std::mem::take(&mut said))? {
            return Ok(ExitCode::SUCCESS);
        }
        let Some(is_more) = shown.turn(&mut |text| table::put(text))? else { return Ok(ExitCode::SUCCESS) };
        said += &shown.ended();
        let now = clock::monotonic_micros();
        if now - sought >= SEEK {
            sought = now;
            said += &shown.seek(&dir, which.id)?;
        } else if !is_more
            && said.is_empty()
            && let Some(why) = watch.rest()?
        {
            break why;
        }
    };
    let word = if why.is_empty() { String::new() } else { format!("({why})\n") };
    let reset = shown.place.reset();
    table::put(&format!("{}{reset}{word}", shown.rest()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
