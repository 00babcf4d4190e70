//! What a relay in the middle tells of: one [`Entry`] after the other, in the order in which things happened.
//!
//! Whatever an attacker has a hand in comes as octets in bounded pieces, or as [`Text`]: bounded, and without
//! a character that does something to a terminal.

mod entry;
mod reason;
mod text;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{SessionId, Utc};
use crate::node::NodeIdx;
use crate::service::Spoken;

pub use entry::{ChannelKind, Credential, Direction, Entry, FileAct, Stream};
pub use reason::Reason;
pub use text::Text;

/// Most octets in one entry.
pub const PIECE: usize = 16 * 1024;

/// Between whom a connection is that somebody is in the middle of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// What is spoken in it.
    pub protocol: Protocol,
    /// The attacker's session.
    pub session: SessionId,
    /// The node that the host belongs to.
    pub node: NodeIdx,
    /// The attacker.
    pub peer: SocketAddr,
    /// The host, and its port.
    pub local: SocketAddr,
    /// When it began.
    pub at: Utc,
}

/// What is spoken in a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// RFC 4253.
    Ssh,
    /// RFC 8446, or an earlier one.
    Tls,
    /// Something in the clear.
    Plain(Spoken),
}

impl Protocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ssh => "ssh",
            Protocol::Tls => "tls",
            Protocol::Plain(spoken) => spoken.name(),
        }
    }
}

/// What is told of a connection to another process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Word {
    /// The first word.
    Begin(Begin),
    /// What happened, so many microseconds later. After [`Entry::End`] there is nothing more.
    Entry(u64, Entry),
}

/// What entries are put on.
pub trait Tape: Send + Sync {
    /// Puts one that happened `at` microseconds. What it tells of goes on when this is done, so that a slow
    /// tape slows the attacker, and needs no memory.
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// For tests: everything, in memory.
impl Tape for Mutex<Vec<(u64, Entry)>> {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.lock().unwrap_or_else(PoisonError::into_inner).push((at, entry));
        Box::pin(std::future::ready(()))
    }
}

/// Microseconds of any clock that does not run backward.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A tape and the clock that goes with it.
#[derive(Clone)]
pub struct Recorder {
    tape: Arc<dyn Tape>,
    clock: Clock,
}

impl Recorder {
    /// Both together.
    pub fn new(tape: Arc<dyn Tape>, clock: Clock) -> Recorder {
        Recorder { tape, clock }
    }

    /// Puts an entry that happens now.
    pub async fn put(&self, entry: Entry) {
        self.tape.put((self.clock)(), entry).await;
    }

    /// Puts octets of a channel, in pieces.
    pub async fn data(&self, channel: u32, stream: Stream, data: &Bytes) {
        for at in (0..data.len()).step_by(PIECE) {
            let piece = data.slice(at..data.len().min(at + PIECE));
            self.put(Entry::Data { channel, stream, data: piece }).await;
        }
    }
}

#[cfg(test)]
mod tests;
