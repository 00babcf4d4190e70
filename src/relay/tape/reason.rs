//! Why a connection is over, in words that stay the same whichever library has noticed it.

use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};

use super::{Entry, Text};

/// Why a connection that somebody was in the middle of is over. What else there is to say is beside it, in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The client ended it, with a word or without one.
    ClientClosed,
    /// The host's side ended it first: a service that was done, or that went away.
    ServerClosed,
    /// It broke off: one side gave it up, or the network did.
    Reset,
    /// The client took too long, for instance to log in.
    TimedOut,
    /// More log-ins failed than may.
    TooManyAttempts,
    /// The client said what is not to be said.
    ProtocolError,
    /// Both sides could not agree on how to encrypt.
    NoAgreement,
    /// What answers inside could not be reached.
    Unreachable,
    /// Who was in the middle failed.
    Failed,
    /// It was open when the honeynet was ended.
    HoneynetEnded,
    /// It was open when the switch ended by itself or was killed.
    SwitchEnded,
    /// It is over, and nobody saw how: the console was not there.
    NotSeen,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 12] = [
        Reason::ClientClosed,
        Reason::ServerClosed,
        Reason::Reset,
        Reason::TimedOut,
        Reason::TooManyAttempts,
        Reason::ProtocolError,
        Reason::NoAgreement,
        Reason::Unreachable,
        Reason::Failed,
        Reason::HoneynetEnded,
        Reason::SwitchEnded,
        Reason::NotSeen,
    ];

    /// All their names.
    pub const NAMES: [&str; Reason::ALL.len()] = {
        let mut names = [""; Reason::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Reason::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::ClientClosed => "client-closed",
            Reason::ServerClosed => "server-closed",
            Reason::Reset => "reset",
            Reason::TimedOut => "timed-out",
            Reason::TooManyAttempts => "too-many-attempts",
            Reason::ProtocolError => "protocol-error",
            Reason::NoAgreement => "no-agreement",
            Reason::Unreachable => "unreachable",
            Reason::Failed => "failed",
            Reason::HoneynetEnded => "honeynet-ended",
            Reason::SwitchEnded => "switch-ended",
            Reason::NotSeen => "not-seen",
        }
    }

    /// What an error of a stream means, and what else it says.
    pub fn of_io(error: &io::Error) -> (Reason, Option<Text>) {
        match error.kind() {
            ErrorKind::UnexpectedEof => (Reason::ClientClosed, None),
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => (Reason::Reset, None),
            ErrorKind::TimedOut => (Reason::TimedOut, None),
            // A client is there already: only who dials hears that.
            ErrorKind::ConnectionRefused => (Reason::Unreachable, Some(Text::new(error.to_string()))),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                (Reason::ProtocolError, Some(Text::new(error.to_string())))
            }
            _ => (Reason::Failed, Some(Text::new(error.to_string()))),
        }
    }

    /// That a connection is over because of it.
    pub fn end(self) -> Entry {
        Entry::End { reason: self, detail: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_name_in_all_places() {
        for (reason, name) in Reason::ALL.into_iter().zip(Reason::NAMES) {
            assert_eq!(serde_json::to_value(reason).unwrap(), name);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        }
    }

    #[test]
    fn no_library_chooses_the_word() {
        let eof = io::Error::new(ErrorKind::UnexpectedEof, "early eof");
        assert_eq!(Reason::of_io(&eof), (Reason::ClientClosed, None));
        assert_eq!(Reason::of_io(&ErrorKind::ConnectionReset.into()), (Reason::Reset, None));
        let nobody = io::Error::new(ErrorKind::ConnectionRefused, "nobody");
        assert_eq!(Reason::of_io(&nobody), (Reason::Unreachable, Some(Text::new("nobody"))));
        let bad = io::Error::new(ErrorKind::InvalidData, "bad record\u{1b}");
        assert_eq!(Reason::of_io(&bad), (Reason::ProtocolError, Some(Text::new("bad record\u{1b}"))));
    }
}
