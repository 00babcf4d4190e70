//! What the tapes of a session tell of its connections.

use serde::Serialize;
use serde_json::{Value, json};

use super::left_out::{How, More};
use super::reasons::phrase;
use super::{State, gaps};
use crate::event::Utc;
use crate::record::tape::{Act, Attempt, Command, Connection, Forward, Moved, Room, TAPE, connection_within};
use crate::record::{Belonging, Unrecorded};

/// Tapes that are read, the newest ones.
const TAPES: usize = 1000;
/// Rows of a table.
const ROWS: usize = 200;

/// The connections of a session.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Connections {
    each: Vec<OfTape>,
    /// Tapes that are not read, or that cannot be: beside the list, which has nowhere to say it.
    #[serde(skip)]
    unread: u64,
}

#[derive(Serialize)]
struct OfTape {
    tape: String,
    #[serde(flatten)]
    told: Connection,
}

/// What the tapes among `files` tell, of which the newest come first where there is not room for everything.
pub fn of(files: &[Belonging]) -> Connections {
    let tapes: Vec<&Belonging> = files.iter().filter(|file| file.name.ends_with(TAPE)).collect();
    let mut room = Room::default();
    let mut read = |file: &&Belonging| {
        Some(OfTape { tape: file.name.clone(), told: connection_within(&file.path, &mut room).ok()? })
    };
    let mut each: Vec<OfTape> = tapes.iter().rev().take(TAPES).filter_map(&mut read).collect();
    each.reverse();
    // Names say the second only.
    each.sort_by_cached_key(OfTape::began);
    let unread = (tapes.len() - each.len()) as u64;
    Connections { each, unread }
}

impl OfTape {
    /// When it began, so written that times can be compared: by its first line or, if that is lost, by its name.
    fn began(&self) -> String {
        let since = self.told.since.replace(['-', ':'], "");
        if since.is_empty() { self.tape.clone() } else { since }
    }

    /// Whether what the client has said is what was typed at a prompt.
    fn is_typed(&self) -> bool {
        self.told.protocol == "telnet"
    }
}

/// A row that is not made yet.
enum Row<'a> {
    Connection(&'a Connection),
    Attempt(&'a Attempt),
    Command(&'a Command),
    File(&'a Moved),
    Act(&'a Act),
    Forward(&'a Forward),
}

/// Such rows, each with the number of its connection.
type Rows<'a> = Box<dyn DoubleEndedIterator<Item = (usize, Row<'a>)> + 'a>;

impl Connections {
    /// Tapes that are not read, or that cannot be.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// What is to be told of those that have no tape, where these were listed at `now`.
    pub fn beside(&self, now: Utc) -> Unrecorded {
        let began = |of: &OfTape| of.told.since.parse::<Utc>().ok();
        let from = self.each.iter().find_map(began).filter(|_| self.unread > 0);
        let each = self.each.iter().filter_map(|of| Some((of.told.ports?, began(of)?)));
        Unrecorded::beside(each, from, now)
    }

    /// Octets and lines of all that are read that are not recorded.
    pub fn lost(&self) -> (u64, u64) {
        let lost = |sum: (u64, u64), of: &OfTape| {
            (sum.0.saturating_add(of.told.lost_lines), sum.1.saturating_add(of.told.lost))
        };
        self.each.iter().fold((0, 0), lost)
    }

    /// Things that no table tells.
    pub fn more(&self) -> Vec<More> {
        let surplus =
            |(name, rows): (&'static str, Rows<'_>)| More(name, rows.count().saturating_sub(ROWS) as u64, How::Json);
        let mut more: Vec<More> = self.all().into_iter().map(surplus).collect();
        more.push(More(
            "what the tapes of connections tell",
            self.each.iter().map(|of| of.told.more).sum(),
            How::Files,
        ));
        more.push(More("tapes of connections that were not read, or cannot be", self.unread, How::Files));
        more
    }

    /// The tables, each with its name and the last rows of it.
    pub fn tables(&self, state: State) -> impl Iterator<Item = (&'static str, Vec<Value>)> + '_ {
        self.all().into_iter().map(move |(name, rows)| {
            let mut rows: Vec<Value> = rows.rev().take(ROWS).map(|(number, row)| row.made(number, state)).collect();
            rows.reverse();
            (name, rows)
        })
    }

    fn all(&self) -> [(&'static str, Rows<'_>); 8] {
        [
            ("connections", self.rows(|_| true, |told| Box::new(std::iter::once(Row::Connection(told))))),
            ("attempts to log in", self.rows(|_| true, |told| Box::new(told.attempts.iter().map(Row::Attempt)))),
            ("commands without a shell", self.commands(|of| of.told.protocol == "ssh")),
            ("lines typed by Telnet", self.commands(OfTape::is_typed)),
            ("requests", self.commands(|of| of.told.protocol != "ssh" && !of.is_typed())),
            ("files that moved", self.rows(|_| true, |told| Box::new(told.files.iter().map(Row::File)))),
            ("what SFTP did", self.rows(|_| true, |told| Box::new(told.acts.iter().map(Row::Act)))),
            ("beyond the host", self.rows(|_| true, |told| Box::new(told.forwards.iter().map(Row::Forward)))),
        ]
    }

    fn commands<'a>(&'a self, are_of: impl Fn(&OfTape) -> bool + 'a) -> Rows<'a> {
        self.rows(are_of, |told| Box::new(told.commands.iter().map(Row::Command)))
    }

    /// The rows `of` connections that are `wanted`.
    fn rows<'a>(
        &'a self,
        wanted: impl Fn(&OfTape) -> bool + 'a,
        of: impl Fn(&'a Connection) -> Box<dyn DoubleEndedIterator<Item = Row<'a>> + 'a> + 'a,
    ) -> Rows<'a> {
        let numbered = self.each.iter().enumerate().filter(move |(_, each)| wanted(each));
        Box::new(numbered.flat_map(move |(at, each)| of(&each.told).map(move |row| (at + 1, row))))
    }
}

impl Row<'_> {
    fn made(&self, number: usize, state: State) -> Value {
        match self {
            Row::Connection(told) => brief(number, told, state),
            Row::Attempt(attempt) => {
                let mut row = with(number, attempt);
                if attempt.accepted.is_none() {
                    row["accepted"] = "unasked".into();
                }
                row
            }
            Row::Command(command) => with(number, command),
            Row::File(file) => {
                let mut row = with(number, file);
                if let Some(row) = row.as_object_mut() {
                    // As a rule it is called as it is hashed.
                    let usual = file.sha256.as_ref().map(|sha256| format!("sha256-{sha256}"));
                    let name = file.content.clone().filter(|name| Some(name) != usual.as_ref());
                    let (content, cut) = (row.remove("content"), row.remove("cut"));
                    let is_kept = content.is_some_and(|content| !content.is_null());
                    let kept = match (cut.as_ref().and_then(Value::as_str), is_kept) {
                        (None, true) => "yes".to_owned(),
                        (Some(why), true) => format!("in part: {why}"),
                        (Some(why), false) => format!("no: {why}"),
                        (None, false) => "no".to_owned(),
                    };
                    row.insert("kept".into(), kept.into());
                    if let Some(name) = name {
                        row.insert("as".into(), name.into());
                    }
                }
                row
            }
            Row::Act(act) => with(number, act),
            Row::Forward(forward) => with(number, forward),
        }
    }
}

/// A connection in a row.
fn brief(number: usize, told: &Connection, state: State) -> Value {
    let since: String = told.since.chars().take(19).collect();
    let end = match (&told.end, &told.detail) {
        (Some(end), Some(detail)) => format!("{}: {detail}", phrase(end)),
        (Some(end), None) => phrase(end).to_owned(),
        (None, _) if state == State::Open => "goes on".to_owned(),
        (None, _) => "no end on record".to_owned(),
    };
    let end = match told.resumed {
        0 => end,
        count => format!("{end} (recorder restarted: {count})"),
    };
    let end = match gaps::of_connection(told.lost_lines, told.lost) {
        Some(lost) => format!("{end}; {lost}"),
        None => end,
    };
    json!({
        "connection": number,
        "since": since,
        "seconds": told.seconds,
        "protocol": told.protocol,
        "client": told.client,
        "attempts": told.tried,
        "user": told.user,
        "end": end,
    })
}

/// A part of a connection in a row, texts so short that a row may be looked at.
fn with(number: usize, part: &impl Serialize) -> Value {
    const WIDE: usize = 200;
    let mut row = json!({ "connection": number });
    if let Ok(Value::Object(members)) = serde_json::to_value(part) {
        for (name, value) in members {
            row[name] = match value {
                Value::String(text) if text.chars().count() > WIDE => {
                    text.chars().take(WIDE).chain(['…']).collect::<String>().into()
                }
                value => value,
            };
        }
    }
    row
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
