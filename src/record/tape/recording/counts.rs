//! How much there was in a connection.

use serde::{Deserialize, Serialize};

use crate::relay::tape::{ChannelKind, Credential, Entry, Protocol, Stream};

/// How much there was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts to log in.
    pub attempts: u64,
    /// Channels that were opened.
    pub channels: u64,
    /// Shells and subsystems.
    pub shells: u64,
    /// Commands that were not typed into a shell.
    pub commands: u64,
    /// Files that moved.
    pub files: u64,
    /// Connections and ports beyond the host that were wanted.
    pub forwards: u64,
    /// Octets from the attacker, files among them.
    pub input: u64,
    /// And to it.
    pub output: u64,
    /// Octets of both that are not kept.
    pub lost: u64,
    /// Lines that are not on the tape.
    pub lost_lines: u64,
    /// Those of them that it does not tell of yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) untold_lines: u64,
    /// What no event tells of, as there is too much of it.
    pub untold: u64,
}

impl Counts {
    /// One more thing that is on the tape.
    pub(super) fn add(&mut self, entry: &Entry, protocol: Protocol) {
        let is_ssh = protocol == Protocol::Ssh;
        match entry {
            // Who asks what there is has not tried anything.
            Entry::Attempt { credential: Credential::None, accepted: false, .. } => {}
            Entry::Attempt { .. } | Entry::Unasked { .. } => self.attempts += 1,
            Entry::Opened { kind, .. } => {
                self.channels += 1;
                self.forwards += u64::from(is_ssh && *kind != ChannelKind::Session);
            }
            Entry::Refused { kind, .. } => self.forwards += u64::from(is_ssh && *kind != ChannelKind::Session),
            Entry::Listen { .. } | Entry::Agent { .. } => self.forwards += 1,
            Entry::Shell { .. } | Entry::Subsystem { .. } => self.shells += 1,
            Entry::Exec { .. } | Entry::Http { .. } | Entry::Command { .. } => self.commands += 1,
            _ => {}
        }
    }

    /// So many octets more went that way.
    pub(super) fn passed(&mut self, stream: Stream, count: u64) {
        let octets = match stream {
            Stream::Input => &mut self.input,
            Stream::Output | Stream::Error => &mut self.output,
        };
        *octets = octets.saturating_add(count);
    }

    /// So many octets more are not kept.
    pub(super) fn lose(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// What another process has counted, and what is on the tape, which may be more recent.
    pub(super) fn at_least(&mut self, tape: &Counts) {
        for (count, least) in [
            (&mut self.attempts, tape.attempts),
            (&mut self.channels, tape.channels),
            (&mut self.shells, tape.shells),
            (&mut self.commands, tape.commands),
            (&mut self.files, tape.files),
            (&mut self.forwards, tape.forwards),
        ] {
            *count = least.max(*count);
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
