//! The database's text, taken apart: `MatchPoints` first, then a block of lines for
//! each system that was seen.

use std::collections::HashMap;

use super::expr;
use super::schema::{SLOTS, Slot, Test};

/// Records that a database may have: several times as many as there are.
const MOST_RECORDS: usize = 100_000;
/// Octets of a line that is looked at.
const MOST_LINE: usize = 4096;
/// Complaints that are kept; further ones are counted.
const MOST_COMPLAINTS: usize = 20;
/// Tests that have to have points: without these it is no database of the second generation.
const NEEDED: [&str; 3] = ["SEQ", "OPS", "T1"];

/// A line that was left out, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// Its number, from 1 on.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// The text cannot be used at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    /// It has no points.
    #[error("line {0}: there is no usable `MatchPoints` before this; is it an nmap-os-db of the second generation?")]
    NoPoints(usize),
    /// It has no record.
    #[error("it has no `Fingerprint` that could be read; install nmap's data files anew")]
    NoRecords,
}

/// One system that was seen.
pub struct Record {
    name: u32,
    /// The line of its name.
    pub line: usize,
    /// Whether its class says that it is Linux.
    pub is_linux: bool,
    slots: Box<[u32; SLOTS]>,
}

/// The database.
pub struct Db {
    texts: Vec<Box<str>>,
    points: [u16; SLOTS],
    records: Vec<Record>,
    by_name: HashMap<Box<str>, Vec<usize>>,
    /// What was left out.
    pub complaints: Vec<Complaint>,
    /// How much more of that there is.
    pub more_complaints: usize,
}

struct Reader {
    known: HashMap<Box<str>, u32>,
    db: Db,
}

impl Reader {
    fn complain(&mut self, line: usize, why: impl Into<String>) {
        if self.db.complaints.len() < MOST_COMPLAINTS {
            self.db.complaints.push(Complaint { line, why: why.into() });
        } else {
            self.db.more_complaints += 1;
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(at) = self.known.get(text) {
            return *at;
        }
        let at = self.db.texts.len() as u32;
        self.db.texts.push(text.into());
        self.known.insert(text.into(), at);
        at
    }

    /// `KEY=VALUE%KEY=VALUE` of a test.
    fn attributes(&mut self, line: usize, test: Test, body: &str, points: bool) {
        for pair in body.split('%').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                self.complain(line, format!("`{}` has no `=`", super::short(pair)));
                continue;
            };
            let Some(slot) = test.slot(key) else {
                if !(key == "R" && test.has_no_r()) {
                    self.complain(line, format!("this test has no `{}`", super::short(key)));
                }
                continue;
            };
            if points {
                match value.parse() {
                    Ok(points) => self.db.points[slot.index()] = points,
                    Err(_) => self.complain(line, format!("`{}` are no points", super::short(value))),
                }
                continue;
            }
            if let Err(why) = expr::check(value) {
                self.complain(line, format!("`{}={}`: {why}", super::short(key), super::short(value)));
                continue;
            }
            let text = self.text(value);
            if let Some(record) = self.db.records.last_mut() {
                let place = &mut record.slots[slot.index()];
                if *place != 0 {
                    self.complain(line, format!("`{}` is there twice", super::short(key)));
                } else {
                    *place = text;
                }
            }
        }
    }
}

impl Db {
    /// Reads a database. What cannot be read is left out and complained about.
    ///
    /// # Errors
    /// If nothing could be done with the rest.
    pub fn parse(text: &[u8]) -> Result<Db, Unusable> {
        let db = Db {
            // Number 0 is nothing.
            texts: vec!["".into()],
            points: [0; SLOTS],
            records: Vec::new(),
            by_name: HashMap::new(),
            complaints: Vec::new(),
            more_complaints: 0,
        };
        let mut reader = Reader { known: HashMap::new(), db };
        let (mut scoring, mut scored) = (false, Vec::new());
        let mut number = 0;
        for line in text.split(|octet| *octet == b'\n') {
            number += 1;
            if line.len() > MOST_LINE {
                reader.complain(number, format!("{} octets are too many for a line", line.len()));
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("CPE ") {
                continue;
            }
            if line == "MatchPoints" {
                scoring = true;
            } else if let Some(name) = line.strip_prefix("Fingerprint ") {
                if NEEDED.iter().any(|test| !scored.iter().any(|known: &String| known == test)) {
                    return Err(Unusable::NoPoints(number));
                }
                scoring = false;
                if reader.db.records.len() == MOST_RECORDS {
                    reader.complain(number, format!("more than {MOST_RECORDS} records"));
                    break;
                }
                let name = reader.text(name.trim());
                let slots = Box::new([0; SLOTS]);
                reader.db.records.push(Record { name, line: number, is_linux: false, slots });
            } else if let Some(class) = line.strip_prefix("Class ") {
                let linux = class.split('|').nth(1).is_some_and(|family| family.trim() == "Linux");
                if let Some(record) = reader.db.records.last_mut() {
                    record.is_linux |= linux;
                }
            } else if let Some((name, rest)) = line.split_once('(')
                && let Some(body) = rest.strip_suffix(')')
                && let Some(test) = Test::by_name(name)
            {
                if scoring {
                    scored.push(name.to_owned());
                } else if reader.db.records.is_empty() {
                    return Err(Unusable::NoPoints(number));
                }
                reader.attributes(number, test, body, scoring);
            } else {
                reader.complain(number, format!("`{}` is nothing that belongs here", super::short(line)));
            }
        }
        let mut db = reader.db;
        if db.records.is_empty() {
            return Err(if scored.is_empty() { Unusable::NoPoints(number) } else { Unusable::NoRecords });
        }
        for (at, record) in db.records.iter().enumerate() {
            db.by_name.entry(db.texts[record.name as usize].clone()).or_default().push(at);
        }
        Ok(db)
    }

    /// All records, in the database's order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The name of a record.
    pub fn name(&self, record: &Record) -> &str {
        &self.texts[record.name as usize]
    }

    /// What a record says of a slot.
    pub fn get(&self, record: &Record, slot: Slot) -> Option<&str> {
        match record.slots[slot.index()] {
            0 => None,
            at => Some(&self.texts[at as usize]),
        }
    }

    /// How much a slot counts.
    pub fn points(&self, slot: Slot) -> u16 {
        self.points[slot.index()]
    }

    /// The records of a name, as places in [`Db::records`].
    pub fn find(&self, name: &str) -> Option<&[usize]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Every name once, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.by_name.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Names that all words of `query` lead to, the best first: words as they are before beginnings of words,
    /// those before parts of words, those before words with a slip of the finger.
    pub fn search(&self, query: &str) -> Vec<(u32, &str)> {
        let query = query.to_lowercase();
        let words: Vec<&str> = query.split_whitespace().take(16).collect();
        let mut found: Vec<(u32, &str)> = Vec::new();
        for name in self.names().filter(|_| !words.is_empty()) {
            let lower = name.to_lowercase();
            let parts: Vec<&str> = lower.split(|c: char| !(c.is_alphanumeric() || c == '.')).collect();
            let cost = |word: &&str| {
                let best = parts.iter().filter_map(|part| match part {
                    part if part == word => Some(0),
                    part if part.starts_with(word) => Some(10),
                    part if part.contains(word) => Some(30),
                    part if word.len() > 3 && strsim::damerau_levenshtein(part, word) <= word.len() / 4 => Some(60),
                    _ => None,
                });
                best.min()
            };
            let Some(costs) = words.iter().map(cost).sum::<Option<u32>>() else { continue };
            // Among equals the shorter one says less besides.
            found.push((costs * 1000 + parts.len().min(999) as u32, name));
        }
        found.sort_unstable();
        found
    }
}
