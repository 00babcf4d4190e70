//! What the tapes of a session tell of its connections.

use serde::Serialize;
use serde_json::{Value, json};

use crate::record::Belonging;
use crate::record::tape::{Connection, TAPE, connection};

/// Tapes that are read, the newest ones.
const TAPES: usize = 1000;
/// Rows of a table.
const ROWS: usize = 200;

/// The connections of a session.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Connections {
    each: Vec<OfTape>,
    /// Tapes that are not read, or that cannot be.
    #[serde(skip)]
    unread: u64,
}

#[derive(Serialize)]
struct OfTape {
    tape: String,
    #[serde(flatten)]
    told: Connection,
}

/// What the tapes among `files` tell.
pub fn of(files: &[Belonging]) -> Connections {
    let tapes: Vec<&Belonging> = files.iter().filter(|file| file.name.ends_with(TAPE)).collect();
    let newest = tapes.get(tapes.len().saturating_sub(TAPES)..).unwrap_or_default();
    let read = |file: &&Belonging| Some(OfTape { tape: file.name.clone(), told: connection(&file.path).ok()? });
    let each: Vec<OfTape> = newest.iter().filter_map(read).collect();
    let unread = (tapes.len() - each.len()) as u64;
    Connections { each, unread }
}

impl Connections {
    /// Things that no table tells.
    pub fn more(&self) -> u64 {
        let surplus: u64 = self.all().map(|(_, rows)| rows.len().saturating_sub(ROWS) as u64).sum();
        self.each.iter().map(|of| of.told.more).sum::<u64>() + self.unread + surplus
    }

    /// The tables, each with its name and the last rows of it.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, Vec<Value>)> + '_ {
        self.all().map(|(name, mut rows)| {
            rows.drain(..rows.len().saturating_sub(ROWS));
            (name, rows)
        })
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, Vec<Value>)> + '_ {
        let rows = |row: &dyn Fn(usize, &Connection) -> Vec<Value>| {
            self.each.iter().enumerate().flat_map(|(at, of)| row(at + 1, &of.told)).collect::<Vec<Value>>()
        };
        let connections = rows(&|number, told| vec![brief(number, told)]);
        let attempts = rows(&|number, told| {
            let row = |attempt: &_| with(number, attempt);
            told.attempts.iter().filter(|attempt| attempt.method != "none" || attempt.accepted).map(row).collect()
        });
        let commands = rows(&|number, told| told.commands.iter().map(|command| with(number, command)).collect());
        let files = rows(&|number, told| told.files.iter().map(|file| with(number, file)).collect());
        let forwards = rows(&|number, told| told.forwards.iter().map(|forward| with(number, forward)).collect());
        [
            ("connections", connections),
            ("attempts to log in", attempts),
            ("commands without a shell", commands),
            ("files that moved", files),
            ("beyond the host", forwards),
        ]
        .into_iter()
    }
}

/// A connection in a row.
fn brief(number: usize, told: &Connection) -> Value {
    let since: String = told.since.chars().take(19).collect();
    json!({
        "connection": number,
        "since": since,
        "seconds": told.seconds,
        "protocol": told.protocol,
        "client": told.client,
        "attempts": told.tried,
        "user": told.user,
        "end": told.end,
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
