//! A file of JSON objects, one a line, each with its time.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::room::{Kind, Scarce};
use super::store::Store;
use crate::event::SessionId;
use crate::record::file::Appender;
use crate::record::safe_json;

/// Octets that are gathered before the kernel is bothered.
const GATHER: usize = 16 << 10;
/// Octets that wait for a disk that takes nothing.
const PATIENCE: usize = 64 << 10;

#[derive(Serialize)]
struct Line<'a, T> {
    /// Seconds since the connection began.
    at: f64,
    #[serde(flatten)]
    what: &'a T,
}

#[derive(Serialize)]
struct Lost {
    lost: LostLines,
}

#[derive(Serialize)]
struct LostLines {
    lines: u64,
}

/// Such a file, which is created with its first lines.
pub struct Lines {
    session: SessionId,
    kind: Kind,
    path: PathBuf,
    file: Option<Appender>,
    limit: u64,
    /// Lines that the kernel does not have yet, and how many.
    waiting: String,
    waiting_lines: u64,
    /// The disk took nothing, and it is not time to try again.
    refused: bool,
    /// Lines that were lost and not told of yet, and all of them.
    untold: u64,
    lost: u64,
}

impl Lines {
    /// Lines for `path`, of at most `limit` octets.
    pub fn new(session: SessionId, kind: Kind, path: PathBuf, limit: u64) -> Lines {
        Lines {
            session,
            kind,
            path,
            file: None,
            limit,
            waiting: String::new(),
            waiting_lines: 0,
            refused: false,
            untold: 0,
            lost: 0,
        }
    }

    /// Goes on with a file of lines that another process was writing; returns whether there is one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn resume(&mut self) -> io::Result<bool> {
        self.file = match Appender::reopen_lines(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        Ok(self.file.is_some())
    }

    /// Whether the kernel has no line of it.
    pub fn is_empty(&self) -> bool {
        self.file.as_ref().is_none_or(Appender::is_empty)
    }

    /// Creates the file now.
    ///
    /// # Errors
    /// That it is there already, or what the disk says.
    pub fn create(&mut self, store: &mut Store) -> io::Result<()> {
        self.file = match Appender::create(&self.path) {
            // The disk took no directory before, or somebody has deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.make(self.session)?;
                Some(Appender::create(&self.path)?)
            }
            created => Some(created?),
        };
        store.created(self.session);
        Ok(())
    }

    /// Lines that were lost, and those of them that are not told of yet.
    pub fn lost(&self) -> (u64, u64) {
        (self.lost, self.untold)
    }

    /// So many were lost already.
    pub fn lost_before(&mut self, (lost, untold): (u64, u64)) {
        (self.lost, self.untold) = (lost, untold);
    }

    /// A line is not wanted here: it counts as lost.
    pub fn skip(&mut self) {
        self.untold += 1;
        self.lost += 1;
    }

    /// Adds a line of what happened `at` microseconds after the beginning; returns whether there was room for it.
    pub fn push(&mut self, at: u64, what: &impl Serialize, store: &mut Store) -> bool {
        let length = self.file.as_ref().map_or(0, Appender::len) + self.waiting.len() as u64;
        if length >= self.limit
            || (self.refused && self.waiting.len() >= PATIENCE)
            || !store.has_room(self.session, self.kind, length - self.waiting.len() as u64, self.waiting.len() as u64)
        {
            self.skip();
            return false;
        }
        self.tell_of_lost(at);
        self.write(at, what);
        if self.waiting.len() >= GATHER && !self.refused {
            self.flush(store);
        }
        true
    }

    /// Adds the last lines, for which there is always room; returns how many lines are lost for good.
    pub fn finish(mut self, at: u64, last: &impl Serialize, store: &mut Store) -> u64 {
        if self.is_for_others(store) {
            // How it ended finds room in the file's last block.
            self.lost += self.waiting_lines;
            self.untold += self.waiting_lines;
            self.waiting_lines = 0;
            self.waiting.clear();
            if self.is_empty() {
                return self.lost;
            }
        }
        if self.limit > 0 {
            self.tell_of_lost(at);
            self.write(at, last);
            self.write_out(store);
        }
        self.lost + self.waiting_lines
    }

    /// Hands to the kernel what was gathered; what it does not take waits.
    pub fn flush(&mut self, store: &mut Store) {
        if self.waiting.is_empty() {
            return;
        }
        if self.is_for_others(store) {
            // It waits, as for a disk that takes nothing.
            self.refused = true;
            return;
        }
        self.write_out(store);
    }

    fn write_out(&mut self, store: &mut Store) {
        match self.hand_over(store) {
            Ok(()) => {
                store.wrote(self.session, self.waiting.len() as u64);
                store.accept();
                self.waiting.clear();
                self.waiting_lines = 0;
                self.refused = false;
            }
            Err(error) => {
                store.refuse_of(self.session, &error);
                self.refused = true;
            }
        }
    }

    /// Whether what room there is on the disk is for what tells more.
    fn is_for_others(&self, store: &Store) -> bool {
        self.kind == Kind::Tape && store.scarce() >= Scarce::Tapes
    }

    /// Has the file not have been; returns whether there was one.
    pub fn discard(self, store: &mut Store) -> bool {
        if self.file.is_some() {
            store.discard(self.session, &self.path);
        }
        self.file.is_some()
    }

    fn hand_over(&mut self, store: &mut Store) -> io::Result<()> {
        if self.file.is_none() {
            self.create(store)?;
        }
        self.file.as_mut().map_or(Ok(()), |file| file.append(self.waiting.as_bytes()))
    }

    fn tell_of_lost(&mut self, at: u64) {
        let lines = std::mem::take(&mut self.untold);
        if lines > 0 {
            self.write(at, &Lost { lost: LostLines { lines } });
        }
    }

    fn write(&mut self, at: u64, what: &impl Serialize) {
        // What is written has a form in JSON, always.
        if let Ok(line) = serde_json::to_string(&Line { at: at as f64 / 1e6, what }) {
            self.waiting += &safe_json(&line);
            self.waiting.push('\n');
            self.waiting_lines += 1;
        }
    }
}
