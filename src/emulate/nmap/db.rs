//! The database of reference fingerprints: text in the format of `nmap-os-db` in,
//! records out. The format is described in nmap's documentation, "Remote OS
//! Detection", Understanding an Nmap Fingerprint: a `MatchPoints` paragraph, then
//! one paragraph for each record with its name (`Fingerprint`), `Class` and `CPE`
//! lines and a line for each test.
//!
//! The file is somebody else's and may be any file. What cannot be read is left
//! out and complained about; the rest stays usable.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::expr;
use super::observe::Observation;
use super::schema::{self, SLOTS, Slot, Test};

/// What is read of a file at most.
const MOST_OCTETS: usize = 64 << 20;
const MOST_RECORDS: usize = 50_000;
const LONGEST_LINE: usize = 8192;
/// Complaints that are kept word by word; the rest is counted.
const MOST_COMPLAINTS: usize = 20;

/// Something in the text that was left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// Its line; the first is 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Why there is nothing to choose from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    /// It is too long to be one.
    #[error(
        "{octets} octets are more than any database of fingerprints has (at most {MOST_OCTETS} are read); name nmap's file nmap-os-db"
    )]
    TooLong {
        /// What it has.
        octets: usize,
    },
    /// There is no record in it.
    #[error(
        "no record was found in {lines} lines{}; name nmap's file nmap-os-db, which the package of nmap installs \
         (on many systems as /usr/share/nmap/nmap-os-db)",
        .first.as_ref().map(|complaint| format!(" ({complaint})")).unwrap_or_default()
    )]
    NoRecords {
        /// How many lines it has.
        lines: usize,
        /// The first thing that is wrong.
        first: Option<Complaint>,
    },
}

/// A reference fingerprint.
#[derive(Clone, Debug)]
pub struct Record {
    /// What nmap calls it. Several records may share a name.
    pub name: Arc<str>,
    /// Line of its name.
    pub line: usize,
    /// Whether one of its classes says Linux.
    pub is_linux: bool,
    /// Places in the table of expressions; 0 where the attribute is missing.
    tests: Box<[u32]>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Db {
    /// Match points of each attribute; 0 where it counts for nothing.
    points: [u16; SLOTS],
    records: Vec<Record>,
    expressions: Vec<Box<str>>,
    complaints: Vec<Complaint>,
    complained: usize,
}

/// What an observation scores against a record.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Score {
    /// Points of what matches.
    pub hits: u32,
    /// Points of what was compared.
    pub total: u32,
}

impl Score {
    /// Whether everything that was compared matches.
    pub fn is_perfect(self) -> bool {
        self.hits == self.total
    }
}

impl Db {
    /// Reads a database. Invalid UTF-8 is tolerated.
    pub fn parse(text: &[u8]) -> Result<Db, Unusable> {
        if text.len() > MOST_OCTETS {
            return Err(Unusable::TooLong { octets: text.len() });
        }
        let mut reader = Reader::new();
        let mut lines = 0;
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            lines = number + 1;
            if !reader.line(lines, line) {
                break;
            }
        }
        reader.finish(lines)
    }

    /// The records, in the order of the file.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The records whose name is exactly `name`, with their places among [`records`](Self::records).
    pub fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Record)> {
        self.records.iter().enumerate().filter(move |(_, record)| &*record.name == name)
    }

    /// What was left out, the first of it, and how much there was in all.
    pub fn complaints(&self) -> (&[Complaint], usize) {
        (&self.complaints, self.complained)
    }

    /// What `record` says about an attribute.
    pub fn expression(&self, record: &Record, slot: Slot) -> Option<&str> {
        let at = *record.tests.get(slot.index())?;
        (at != 0).then(|| self.expressions.get(at as usize).map(|expression| &**expression)).flatten()
    }

    /// Whether an attribute counts at all.
    pub fn counts(&self, slot: Slot) -> bool {
        self.points[slot.index()] != 0
    }

    /// As nmap 7.93 scores: the points of all attributes that both sides have, and of those that match.
    pub fn score(&self, record: &Record, observation: &Observation) -> Score {
        let mut score = Score::default();
        for slot in Slot::all() {
            let (Some(expression), Some(value)) = (self.expression(record, slot), observation.get(slot)) else {
                continue;
            };
            let points = u32::from(self.points[slot.index()]);
            score.total += points;
            score.hits += if expr::accepts_prefix(expression, value) { points } else { 0 };
        }
        score
    }

    /// Whether nothing of it contradicts the record, by `accepts`.
    pub(super) fn agrees(&self, record: &Record, observation: &Observation, accepts: fn(&str, &str) -> bool) -> bool {
        // Options and windows first: they differ most.
        let order = (schema::ops(0).index()..SLOTS).chain(0..schema::ops(0).index());
        for at in order {
            let id = record.tests[at];
            if id == 0 || self.points[at] == 0 {
                continue;
            }
            let Some(value) = observation.at(at) else { continue };
            if !accepts(&self.expressions[id as usize], value) {
                return false;
            }
        }
        true
    }
}

/// A database as far as it has been read.
struct Reader {
    db: Db,
    ids: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
    /// What is wrong with the expressions that are of no use.
    bad: HashMap<u32, &'static str, foldhash::fast::FixedState>,
    paragraph: Paragraph,
    names: HashMap<Arc<str>, (), foldhash::fast::FixedState>,
    has_points: bool,
}

enum Paragraph {
    None,
    Points,
    Record { record: Record, seen: u16 },
}

impl Reader {
    fn new() -> Reader {
        Reader {
            db: Db {
                points: [0; SLOTS],
                records: Vec::new(),
                // 0 stands for an attribute that is missing.
                expressions: vec!["".into()],
                complaints: Vec::new(),
                complained: 0,
            },
            ids: HashMap::default(),
            bad: HashMap::default(),
            paragraph: Paragraph::None,
            names: HashMap::default(),
            has_points: false,
        }
    }

    fn complain(&mut self, line: usize, what: impl Into<String>) {
        self.db.complained += 1;
        if self.db.complaints.len() < MOST_COMPLAINTS {
            self.db.complaints.push(Complaint { line, what: what.into() });
        }
    }

    /// Takes the next line; false if no more are wanted.
    fn line(&mut self, number: usize, line: &[u8]) -> bool {
        let line = line.trim_ascii();
        if line.is_empty() {
            self.end();
        } else if line.len() > LONGEST_LINE {
            self.complain(number, format!("{} octets are too many for a line", line.len()));
        } else if line[0] != b'#' {
            return self.words(number, &String::from_utf8_lossy(line));
        }
        true
    }

    fn words(&mut self, number: usize, line: &str) -> bool {
        let (word, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()));
        match word {
            "MatchPoints" => {
                self.end();
                self.paragraph = Paragraph::Points;
            }
            "Fingerprint" => {
                self.end();
                if rest.is_empty() {
                    self.complain(number, "a fingerprint without a name");
                } else if self.db.records.len() >= MOST_RECORDS {
                    self.complain(number, format!("more than {MOST_RECORDS} fingerprints; the rest is not read"));
                    return false;
                } else {
                    let name = match self.names.get_key_value(rest) {
                        Some((name, ())) => name.clone(),
                        None => {
                            let name: Arc<str> = rest.into();
                            self.names.insert(name.clone(), ());
                            name
                        }
                    };
                    let tests = vec![0; SLOTS].into();
                    let record = Record { name, line: number, is_linux: false, tests };
                    self.paragraph = Paragraph::Record { record, seen: 0 };
                }
            }
            "Class" => {
                if let Paragraph::Record { record, .. } = &mut self.paragraph {
                    record.is_linux |= rest.split('|').nth(1).is_some_and(|family| family.trim() == "Linux");
                }
            }
            "CPE" => {}
            _ => self.test(number, line),
        }
        true
    }

    fn test(&mut self, number: usize, line: &str) {
        let Some((name, rest)) = line.split_once('(') else {
            let start: String = line.chars().take(24).flat_map(char::escape_default).collect();
            return self.complain(number, format!("`{start}` is neither a test nor any other line of a database"));
        };
        let Some(test) = Test::by_name(name) else {
            let name: String = name.chars().take(24).flat_map(char::escape_default).collect();
            return self.complain(number, format!("`{name}` is no test"));
        };
        let Some(attributes) = rest.strip_suffix(')') else {
            return self.complain(number, format!("{name} does not end in `)`"));
        };
        match &mut self.paragraph {
            Paragraph::None => return self.complain(number, format!("{name} belongs to no fingerprint")),
            Paragraph::Points => self.has_points = true,
            Paragraph::Record { seen, .. } => {
                let bit = 1 << test.index();
                if *seen & bit != 0 {
                    return self.complain(number, format!("{name} is there twice; this one is ignored"));
                }
                *seen |= bit;
            }
        }
        for attribute in attributes.split('%').filter(|attribute| !attribute.is_empty()) {
            self.attribute(number, name, test, attribute);
        }
    }

    fn attribute(&mut self, number: usize, name: &str, test: Test, attribute: &str) {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let Some(slot) = test.slot(key) else {
            if key != "R" || !test.has_no_r() {
                let key: String = key.chars().take(24).flat_map(char::escape_default).collect();
                self.complain(number, format!("{name} has no attribute `{key}`"));
            }
            return;
        };
        if let Paragraph::Points = self.paragraph {
            match value.parse() {
                Ok(points) => self.db.points[slot.index()] = points,
                Err(_) => self.complain(number, format!("the match points of {name}.{key} are no number below 65536")),
            }
            return;
        }
        let id = match self.ids.get(value) {
            Some(id) => *id,
            None => {
                let id = self.db.expressions.len() as u32;
                self.db.expressions.push(value.into());
                self.ids.insert(value.into(), id);
                if let Err(what) = expr::check(value) {
                    self.bad.insert(id, what);
                }
                id
            }
        };
        if let Some(what) = self.bad.get(&id) {
            return self.complain(number, format!("{name}.{key}: {what}"));
        }
        if let Paragraph::Record { record, .. } = &mut self.paragraph {
            match &mut record.tests[slot.index()] {
                place @ 0 => *place = id,
                _ => self.complain(number, format!("{name}.{key} is there twice; the first is taken")),
            }
        }
    }

    /// Ends the paragraph.
    fn end(&mut self) {
        if let Paragraph::Record { record, .. } = std::mem::replace(&mut self.paragraph, Paragraph::None) {
            if record.tests.iter().any(|id| *id != 0) {
                self.db.records.push(record);
            } else {
                self.complain(record.line, "a fingerprint without tests");
            }
        }
    }

    fn finish(mut self, lines: usize) -> Result<Db, Unusable> {
        self.end();
        if self.db.records.is_empty() {
            return Err(Unusable::NoRecords { lines, first: self.db.complaints.into_iter().next() });
        }
        if !self.has_points {
            // Which matches are perfect does not depend on how much each attribute weighs.
            self.db.points = [1; SLOTS];
            self.complain(1, "there are no MatchPoints; every attribute counts the same");
        }
        Ok(self.db)
    }
}
