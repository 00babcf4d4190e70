//! Files that move through a channel, seen by who stands beside: what passes is never changed, held back or refused, and
//! what is not understood is octets from then on.

mod again;
#[cfg(test)]
mod again_tests;
mod file;
mod program;
#[cfg(test)]
mod program_tests;
mod scp;
mod sftp;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use self::again::{Marks, Room};
pub(super) use self::file::Moving;
use self::program::Program;
use self::scp::Scp;
use self::sftp::Sftp;
use crate::relay::tape::{Direction, Entry, PIECE, Stream, Text};

/// What a channel carries.
#[derive(Default)]
pub(super) enum Observer {
    /// Octets.
    #[default]
    Octets,
    /// SFTP.
    Sftp(Box<Sftp>),
    /// SCP.
    Scp(Box<Scp>),
    /// What a program without a terminal reads, and what it says.
    Program(Box<Program>),
}

/// What is said that is no part of the protocol.
pub(super) struct Strange {
    reason: &'static str,
    /// What was said so far of which nothing was told.
    untold: Bytes,
}

impl Strange {
    /// Strange is `begun`, and what follows it.
    fn new(reason: &'static str, begun: &[u8], rest: &[u8]) -> Strange {
        Strange { reason, untold: [begun, rest].concat().into() }
    }
}

/// Octets as entries, none of which is too large.
fn pieces(channel: u32, stream: Stream, data: &Bytes) -> impl Iterator<Item = Entry> {
    let starts = (0..data.len()).step_by(PIECE);
    starts.map(move |at| Entry::Data { channel, stream, data: data.slice(at..data.len().min(at + PIECE)) })
}

/// What all files of a connection share: their numbers, and how much is remembered of them.
#[derive(Clone, Default)]
pub(super) struct Shared {
    numbers: Arc<AtomicU32>,
    room: Room,
}

/// The numbers that files get, and what is kept of them.
#[derive(Clone)]
pub(super) struct Files {
    shared: Shared,
    keep: u64,
    channel: u32,
}

impl Files {
    /// Of one channel; of each file so many octets are kept.
    pub(super) fn new(shared: Shared, keep: u64, channel: u32) -> Files {
        Files { shared, keep, channel }
    }

    /// A file that begins to move.
    fn begin(&self, path: Text, direction: Direction, told: &mut Vec<Entry>) -> Moving {
        let file = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        told.push(Entry::FileBegin { channel: self.channel, file, path, direction });
        Moving::new(file, self.keep, Marks::new(self.shared.room.clone()))
    }
}

impl Observer {
    /// What a command's octets are.
    pub(super) fn of_command(command: &[u8], files: Files) -> Observer {
        match scp::direction(command) {
            Some(direction) => Observer::Scp(Box::new(Scp::new(direction, files).with(scp::place(command, direction)))),
            None => Observer::Octets,
        }
    }

    /// The same of `program`, which has no terminal, if they are but octets otherwise, or turn out to be.
    pub(super) fn or_program(self, program: impl FnOnce() -> Text, files: Files) -> Observer {
        let program = || Box::new(Program::new(program(), files));
        match self {
            Observer::Octets => Observer::Program(program()),
            Observer::Scp(scp) => Observer::Scp(Box::new(scp.or_program(program()))),
            sftp @ (Observer::Sftp(_) | Observer::Program(_)) => sftp,
        }
    }

    /// And a subsystem's.
    pub(super) fn of_subsystem(name: &str, files: Files) -> Observer {
        match name {
            "sftp" => Observer::Sftp(Box::new(Sftp::new(files))),
            _ => Observer::Octets,
        }
    }

    /// What octets tell; none if they are but octets.
    pub(super) fn look(&mut self, channel: u32, stream: Stream, data: &Bytes) -> Option<Vec<Entry>> {
        let mut told = Vec::new();
        let looked = match self {
            Observer::Program(program) => {
                program.next(stream, data, &mut told);
                told.extend(pieces(channel, stream, data));
                Ok(())
            }
            Observer::Octets => return None,
            Observer::Sftp(sftp) => sftp.look(stream, data, &mut told),
            Observer::Scp(scp) => scp.look(stream, data, &mut told),
        };
        if let Err(Strange { reason, untold }) = looked {
            let mut kept = Vec::new();
            let program = match self {
                Observer::Scp(scp) => scp.otherwise(stream, data, &untold, &mut kept),
                Observer::Octets | Observer::Sftp(_) | Observer::Program(_) => None,
            };
            told.extend(self.end());
            told.push(Entry::Strange { channel, reason: Text::new(reason) });
            told.append(&mut kept);
            told.extend(pieces(channel, stream, &untold));
            *self = program.map_or(Observer::Octets, Observer::Program);
        }
        Some(told)
    }

    /// Requests and files that are remembered.
    pub(super) fn remembered(&self) -> usize {
        match self {
            Observer::Octets | Observer::Scp(_) | Observer::Program(_) => 0,
            Observer::Sftp(sftp) => sftp.remembered(),
        }
    }

    /// Whether there is nothing to be seen.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Observer::Octets)
    }

    /// Nothing more comes: what becomes of files that were moving, and what was said only in part.
    pub(super) fn end(&mut self) -> Vec<Entry> {
        match std::mem::take(self) {
            Observer::Octets => Vec::new(),
            Observer::Sftp(sftp) => sftp.end(),
            Observer::Scp(scp) => scp.end(),
            Observer::Program(program) => program.end(),
        }
    }
}
