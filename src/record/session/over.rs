//! What ends all sessions at once: the process that knew them is gone. Of this no record of theirs tells.

use serde::Serialize;

use super::super::cause::is_another_switch;
use super::super::schema::Record;
use crate::event::{EventId, HONEYNET_ENDS, Utc};

/// What ended all sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The honeynet was ended.
    HoneynetEnded,
    /// The switch ended by itself or was killed, or all of the honeynet was, without a word.
    SwitchEnded,
}

impl Why {
    /// The name in a list.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::HoneynetEnded => "honeynet-ended",
            Why::SwitchEnded => "switch-ended",
        }
    }
}

/// That a session is over without a record of its own that says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Over {
    /// Since when at the latest.
    pub since: Utc,
    /// Why.
    pub why: Why,
}

impl Over {
    /// Whether `record` says that all sessions that had begun by then are over.
    pub fn told_by(record: &Record) -> Option<Over> {
        let reason = record.reason.as_deref().filter(|_| record.event == EventId::ProcessState)?;
        let why = match reason {
            reason if reason.starts_with(HONEYNET_ENDS) => Why::HoneynetEnded,
            // That there is a new one says the same where nobody was left to tell of the end of the one before.
            reason if is_another_switch(reason) => Why::SwitchEnded,
            _ => return None,
        };
        Some(Over { since: record.time, why })
    }
}

/// Ends of all sessions that a log tells of.
#[derive(Debug, Default)]
pub struct Ends(Vec<Over>);

impl Ends {
    /// Learns of one if `line` tells it. Returns whether it does.
    pub fn learn(&mut self, line: &str) -> bool {
        // Parsing costs more than looking.
        if !line.contains(EventId::ProcessState.as_str()) {
            return false;
        }
        let told = serde_json::from_str::<Record>(line).ok().and_then(|record| Over::told_by(&record));
        self.0.extend(told);
        told.is_some()
    }

    /// They are all known.
    pub fn sorted(mut self) -> Ends {
        self.0.sort_unstable();
        self
    }

    /// What ended a session that had begun at `since`. It is told by time, as what a switch has said last may be written
    /// down behind its end, and what the next one says first before its beginning.
    pub fn of(&self, since: Utc) -> Option<Over> {
        self.0.get(self.0.partition_point(|over| over.since <= since)).copied()
    }
}
