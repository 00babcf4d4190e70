//! What the tables of a session leave out, and where it is to be seen.

use super::super::status;
use crate::event::SessionId;

/// So many things that a table does not tell, and where they are.
pub struct More(pub &'static str, pub u64, pub How);

/// Where what is left out is to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `--json` has it.
    Json,
    /// The log has it, in such events.
    Log(&'static str),
    /// It lies in the session's directory.
    Files,
}

/// A line for each table that something is missing from.
pub fn told(more: &[More], session: SessionId) -> String {
    let line = |More(what, count, how): &More| {
        let place = match how {
            How::Json => format!("`honeyweave session show {session} --json` has them"),
            How::Log(event) => {
                format!(
                    "`honeyweave events ls --json --session {session} --event {event} --last 1000000` has what is on record"
                )
            }
            How::Files => format!("see STATE/NAME/sessions/{session}, or `honeyweave session export {session}`"),
        };
        format!("({} more: {what}; {place})\n", status::count(*count))
    };
    more.iter().filter(|More(_, count, _)| *count > 0).map(line).collect()
}

/// How many things these are.
#[cfg(test)]
pub fn sum(more: &[More]) -> u64 {
    more.iter().map(|More(_, count, _)| count).sum()
}
