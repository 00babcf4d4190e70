//! Reading casts, our own and those that others made: line by line, in bounded memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::record::open_regular;

/// Octets of a line.
const LINE: usize = 1 << 20;
/// Octets at the end of a cast that [`tail`] reads: a line of those that we write, and more.
const TAIL: u64 = 256 << 10;
/// Microseconds of a cast: 30 years.
const LONGEST: f64 = 1e15;

/// Why a cast cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The first line is no header.
    #[error("it is no asciicast: its first line is no header of one")]
    Header,
    /// The header is of another version.
    #[error("it is an asciicast of version {0}, and this honeyweave reads version 2")]
    Version(u64),
}

/// What a cast says of itself. Whatever is text in it is an attacker's.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct CastHeader {
    /// Columns of the terminal.
    pub width: u16,
    /// Its rows.
    pub height: u16,
    /// When it began, in seconds since 1970.
    #[serde(default)]
    pub timestamp: Option<f64>,
    /// The command that was run instead of a shell.
    #[serde(default)]
    pub command: Option<String>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// What happened at some time.
#[derive(Clone, PartialEq, Debug)]
pub struct Moment {
    /// Microseconds since the beginning. Never less than that of the moment before.
    pub at: i64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It was shown.
    Output(String),
    /// It was typed.
    Input(String),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// A marker.
    Marker(String),
}

/// A cast that is being read.
#[derive(Debug)]
pub struct Cast<R> {
    reader: R,
    header: CastHeader,
    line: Vec<u8>,
    last: i64,
    skipped: u64,
}

/// The header of the cast at `path`, and the moments at its end.
///
/// # Errors
/// See [`CastError`].
pub fn tail(path: &Path) -> Result<(CastHeader, Vec<Moment>), CastError> {
    let mut cast = Cast::open(BufReader::new(open_regular(path)?))?;
    let len = cast.reader.get_ref().metadata()?.len();
    // What is passed over ends somewhere in a line, which is none then.
    if let Some(from) = len.checked_sub(TAIL).filter(|from| *from > 0) {
        cast.reader.seek(SeekFrom::Start(from))?;
    }
    let mut moments = Vec::new();
    while let Some(moment) = cast.next_moment()? {
        moments.push(moment);
    }
    Ok((cast.header, moments))
}

impl<R: BufRead> Cast<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// See [`CastError`].
    pub fn open(mut reader: R) -> Result<Cast<R>, CastError> {
        #[derive(Deserialize)]
        struct Any {
            version: u64,
        }
        let mut line = Vec::new();
        (&mut reader).take(LINE as u64).read_until(b'\n', &mut line)?;
        let any: Any = serde_json::from_slice(&line).map_err(|_| CastError::Header)?;
        if any.version != 2 {
            return Err(CastError::Version(any.version));
        }
        let header = serde_json::from_slice(&line).map_err(|_| CastError::Header)?;
        line.clear();
        Ok(Cast { reader, header, line, last: 0, skipped: 0 })
    }

    /// What it says of itself.
    pub fn header(&self) -> &CastHeader {
        &self.header
    }

    /// Lines so far that are no events.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next moment; `None` at the end. Of a cast that is still being written there may be another one later: half a
    /// line is kept until its rest is there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next_moment(&mut self) -> io::Result<Option<Moment>> {
        loop {
            let room = (LINE - self.line.len()) as u64;
            let got = (&mut self.reader).take(room).read_until(b'\n', &mut self.line)?;
            let is_whole = self.line.last() == Some(&b'\n');
            if !is_whole && self.line.len() < LINE {
                if got == 0 {
                    return Ok(None);
                }
                continue;
            }
            let moment = if is_whole { self.moment() } else { None };
            if !is_whole && !self.pass_over_line()? {
                // The end of what is too long is not there yet: it is looked for again.
                self.line.truncate(LINE);
                return Ok(None);
            }
            self.line.clear();
            match moment {
                Some(moment) => return Ok(Some(moment)),
                None => self.skipped += 1,
            }
        }
    }

    /// Reads on behind the next line feed; returns whether there was one.
    fn pass_over_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn moment(&mut self) -> Option<Moment> {
        let (seconds, code, text): (f64, String, String) = serde_json::from_slice(&self.line).ok()?;
        let micros = seconds * 1e6;
        if !(0.0..=LONGEST).contains(&micros) {
            return None;
        }
        let what = match code.as_str() {
            "o" => What::Output(text),
            "i" => What::Input(text),
            "m" => What::Marker(text),
            "r" => {
                let (width, height) = text.split_once('x')?;
                What::Resize(width.parse().ok()?, height.parse().ok()?)
            }
            _ => return None,
        };
        self.last = self.last.max(micros.round() as i64);
        Some(Moment { at: self.last, what })
    }
}
