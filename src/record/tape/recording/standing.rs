//! Whether somebody was let in, as far as a connection tells.
//!
//! SSH says it. Of what is spoken in the clear, or within TLS, those who read it tell log-ins: who tried some that were
//! refused, and did nothing besides, has only guessed. Where there was no log-in at all, as with most of HTTP, nobody
//! knows; what is small of that is one of many of its kind, as a rule, and what is not is kept like what was let in.

use super::Counts;
use crate::relay::tape::{Entry, Protocol};
use crate::service::Spoken;

/// Octets that a client says at most who does nothing but to guess or to look around, and that it is told.
const SAID: u64 = 4 << 10;
const HEARD: u64 = 1 << 20;
/// Octets of a command that does nothing.
const COMMAND: usize = 128;
/// Commands by which clients of FTP, SMTP, POP3, IMAP and Redis say who they are, ask what there is, and go.
const IDLE: [&str; 22] = [
    "auth",
    "authenticate",
    "capa",
    "capability",
    "clnt",
    "ehlo",
    "feat",
    "helo",
    "hello",
    "help",
    "id",
    "logout",
    "noop",
    "opts",
    "pass",
    "ping",
    "quit",
    "rset",
    "starttls",
    "stls",
    "syst",
    "user",
];

/// How somebody stands with a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Let in, or busy with more than that.
    Inside,
    /// Nobody knows, and it is little.
    Unsure,
    /// Not let in.
    Stranger,
}

/// What tells it.
#[derive(Debug, Default)]
pub(super) struct Signs {
    is_in: bool,
    /// Log-ins that were refused.
    refused: u64,
    /// Requests of HTTP, with each of which one may have come.
    requests: u64,
    /// Something was done, or said that nobody understands.
    has_acted: bool,
}

impl Signs {
    /// Whoever it is, is in.
    pub(super) fn let_in(&mut self) {
        self.is_in = true;
    }

    /// Something happened.
    pub(super) fn add(&mut self, entry: &Entry, protocol: Protocol) {
        match entry {
            Entry::Attempt { accepted: true, .. } => self.is_in = true,
            Entry::Attempt { .. } => self.refused += 1,
            Entry::Http { .. } => self.requests += 1,
            // A shell that asks nobody who they are.
            Entry::Command { .. } if protocol == Protocol::Plain(Spoken::Telnet) && self.refused == 0 => {
                self.is_in = true
            }
            Entry::Command { text } => self.has_acted |= !is_idle(text.as_str()),
            Entry::FileBegin { .. } => self.is_in = true,
            Entry::Strange { .. } => self.has_acted = true,
            _ => {}
        }
    }

    /// What they tell of a connection in which there was so much.
    pub(super) fn tell(&self, counts: &Counts, protocol: Protocol) -> Standing {
        match protocol {
            _ if self.is_in => Standing::Inside,
            Protocol::Ssh if counts.channels > 0 => Standing::Inside,
            Protocol::Ssh => Standing::Stranger,
            _ if counts.input > SAID || counts.output > HEARD => Standing::Inside,
            _ if self.has_acted || self.refused == 0 || self.requests > self.refused => Standing::Unsure,
            _ => Standing::Stranger,
        }
    }
}

/// Whether a command does nothing.
fn is_idle(command: &str) -> bool {
    let verb = command.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    command.len() <= COMMAND && IDLE.contains(&verb.as_str())
}
