//! What is kept of connections that somebody is in the middle of ([`crate::relay::tape`]): files in the directory of
//! their session, and events.
//!
//! | file | what it is |
//! |---|---|
//! | `STEM.ndjson` | the tape: everything that happened but octets, a JSON object a line |
//! | `STEM-CHANNEL-NNNN.cast` | what was typed and shown in a channel with a shell, a command or a terminal |
//! | `STEM-CHANNEL.octets` | octets of another channel, a JSON object a line, base 64; of Telnet beside the transcript |
//! | `sha256-DIGEST` | the content of a file that was moved, or what a command read or said, once in each session |
//! | `STEM-file-NNNN.part` | one that is on its way |
//!
//! STEM is the connection's time, its protocol and its number: `20261130T025429Z-ssh-00000000000000a7`.
//!
//! Everything is bounded, as all of it is an attacker's to choose; what is beyond a bound is counted and told. Who is in
//! the middle faces the attacker, so what it says is not believed either: times that cannot be are those of now, names of
//! files are made here, and digests are computed here.

mod cast;
mod channel;
mod content;
mod lines;
mod marker;
mod notice;
mod read;
mod recording;
mod redact;
mod room;
mod set;
mod shown;
mod store;

pub use cast::is_elsewhere;
pub use notice::Notice;
pub(super) use notice::{fits, fitted};
pub use read::{
    Act, Attempt, Command, Connection, Forward, Moved, Ran, Room, TAPE, connection, connection_within, ran, secrets,
};
pub use redact::redact;
pub use room::{Look, Space, space};
pub use set::{TapeStats, Tapes};

use crate::record::MOST_SESSIONS;
use crate::record::transcript::TranscriptLimits;

/// Bounds of what is kept of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeLimits {
    /// Connections that are recorded at once.
    pub open: usize,
    /// Transcripts, streams and contents that are written at once.
    pub parts: usize,
    /// Channels of a connection, and files that move in it, at once.
    pub of_connection: usize,
    /// Octets of a tape.
    pub tape: u64,
    /// Bounds of a transcript.
    pub transcript: TranscriptLimits,
    /// Octets of a transcript that are input, and as many of output and of errors, where there is no terminal: what a program
    /// reads and says then is kept as the content of a file.
    pub beside: u64,
    /// Octets of a file of a channel's octets.
    pub stream: u64,
    /// The same of what is no SSH: its switch has a limit of its own, so that there is room for 64 MiB of each direction
    /// in base 64. Lines with but a few octets in them are no more than `stream`.
    pub plain: u64,
    /// Octets of the content of a file.
    pub content: u64,
    /// Files in the directory of a session; of connections past that only events tell. Contents and octets end at three
    /// quarters of it, transcripts at seven eighths.
    pub files: u64,
    /// The same for connections of clients that were not let in.
    pub strangers: u64,
    /// The same for small connections of which it is not known whether anybody was.
    pub unsure: u64,
    /// Octets of all sessions' directories, a file counting for a block at least. One session that goes on may have
    /// an eighth of it at most.
    pub total: u64,
    /// Those directories.
    pub sessions: usize,
    /// Events of one kind that tell of one connection.
    pub events: u32,
    /// Seconds that a file is kept, where there is such a limit.
    pub age_secs: Option<u64>,
}

impl Default for TapeLimits {
    fn default() -> TapeLimits {
        TapeLimits {
            open: 4096,
            parts: 4096,
            of_connection: 256,
            tape: 32 << 20,
            transcript: TranscriptLimits::default(),
            beside: 1 << 20,
            stream: 2 << 20,
            plain: 256 << 20,
            content: 64 << 20,
            files: 8000,
            strangers: 1000,
            unsure: 4000,
            total: 8 << 30,
            sessions: MOST_SESSIONS,
            events: 10_000,
            age_secs: None,
        }
    }
}

#[cfg(test)]
mod tests;
