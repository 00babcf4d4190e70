//! What reads an attacker's octets, without a connection around it. For fuzzing.

use bytes::Bytes;

use super::hello::Seen;
use super::observe::{Files, Observer, Shared};
use crate::relay::tape::{Entry, Stream};

/// How a client introduces itself whose first octets come in these pieces.
pub fn introduction<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Entry {
    let mut seen = Seen::default();
    pieces.into_iter().for_each(|piece| seen.look(piece));
    seen.take()
}

/// What a channel carries, channel 0.
pub struct Carried(Observer);

impl Carried {
    /// By a command; of each file so many octets are kept.
    pub fn by_command(command: &[u8], keep: u64) -> Carried {
        Carried(Observer::of_command(command, Files::new(Shared::default(), keep, 0)))
    }

    /// By a subsystem.
    pub fn by_subsystem(name: &str, keep: u64) -> Carried {
        Carried(Observer::of_subsystem(name, Files::new(Shared::default(), keep, 0)))
    }

    /// What the next octets tell; none if they are but octets.
    pub fn look(&mut self, stream: Stream, data: &Bytes) -> Option<Vec<Entry>> {
        self.0.look(0, stream, data)
    }

    /// Requests and files that are remembered.
    pub fn remembered(&self) -> usize {
        self.0.remembered()
    }

    /// Nothing more comes.
    pub fn end(&mut self) -> Vec<Entry> {
        self.0.end()
    }
}
