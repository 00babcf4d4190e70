//! Writing casts.
//!
//! Memory is bounded however long somebody stays: what comes is gathered for a moment and handed to the kernel in whole
//! lines. A cast that is large is followed by another, which begins with the size of the terminal; past the limit of all
//! of them together, and where the disk takes nothing, the rest is counted, and a marker tells how much it was.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::reader::{Moment, tail};
use super::utf8::Utf8Pieces;
use crate::event::Utc;
use crate::record::file::Appender;
use crate::record::safe_json;

/// Octets of one event: longer pieces become several.
const PIECE: usize = 16 << 10;
/// Octets that are gathered before the kernel is bothered.
const GATHER: usize = 64 << 10;
/// Characters of what the client says of itself: a variable, a command.
const WORD: usize = 4096;
/// Variables.
const VARIABLES: usize = 16;
/// Casts of one transcript.
const PARTS: u32 = 9999;

/// Bounds of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranscriptLimits {
    /// Octets after which a cast is followed by another.
    pub part_octets: u64,
    /// Octets of all casts of a transcript.
    pub total_octets: u64,
}

impl Default for TranscriptLimits {
    fn default() -> TranscriptLimits {
        TranscriptLimits { part_octets: 64 << 20, total_octets: 128 << 20 }
    }
}

/// Why octets are not in a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The disk took nothing.
    Disk,
    /// It is nearly full, and what is left is for others.
    Scarce,
    /// The session's recordings, or this one, have as much as they may.
    Share,
    /// The transcript is full.
    Full,
}

impl Missing {
    /// What a cast says of so many.
    fn told(self, octets: u64) -> String {
        let why = match self {
            Missing::Disk => "the disk took nothing",
            Missing::Scarce => "the disk was nearly full",
            Missing::Share => "the session's recordings had as much as they may",
            Missing::Full => return format!("{octets} octets after this are not recorded: the transcript is full"),
        };
        format!("{octets} octets before this were lost: {why}")
    }
}

/// The terminal that is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// The command that is run instead of a shell.
    pub command: Option<String>,
    /// Variables of the client's, such as `TERM`.
    pub env: BTreeMap<String, String>,
}

/// What became of a transcript.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TranscriptStats {
    /// Octets that were typed and shown.
    pub octets: u64,
    /// Those of them that are not recorded: past the limit, or the disk took nothing.
    pub lost: u64,
    /// Octets of the casts.
    pub written: u64,
    /// Casts.
    pub parts: u32,
}

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    width: u16,
    height: u16,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    env: &'a BTreeMap<String, String>,
}

/// A transcript that is being written: `STEM-0001.cast` and its successors.
#[derive(Debug)]
pub struct Transcript {
    dir: PathBuf,
    stem: String,
    limits: TranscriptLimits,
    terminal: Terminal,
    file: Option<Appender>,
    /// Lines that the kernel does not have yet, and the octets that they tell of.
    pub(super) lines: String,
    told: u64,
    /// When this part began, and the last time in it, in microseconds.
    began: i64,
    last: i64,
    output: Utf8Pieces,
    input: Utf8Pieces,
    /// What is lost and not told yet, and what of it is told in lines that the kernel does not have yet.
    untold: BTreeMap<Missing, u64>,
    telling: BTreeMap<Missing, u64>,
    full: bool,
    stats: TranscriptStats,
}

impl Transcript {
    /// Begins a transcript in `dir`, which must exist. `stem` begins the names of its casts.
    ///
    /// # Errors
    /// If the first cast cannot be created; that it is there already is one.
    pub fn create(
        dir: &Path,
        stem: &str,
        terminal: Terminal,
        limits: TranscriptLimits,
        now: Utc,
    ) -> io::Result<Transcript> {
        let stats = TranscriptStats::default();
        let mut transcript = Transcript::new(dir, stem, terminal, limits, now, stats);
        transcript.begin(now)?;
        Ok(transcript)
    }

    fn new(
        dir: &Path,
        stem: &str,
        mut terminal: Terminal,
        limits: TranscriptLimits,
        now: Utc,
        stats: TranscriptStats,
    ) -> Transcript {
        let cut = |text: String| text.chars().take(WORD).collect::<String>();
        terminal.command = terminal.command.map(cut);
        terminal.env = terminal.env.into_iter().take(VARIABLES).map(|(name, value)| (cut(name), cut(value))).collect();
        Transcript {
            dir: dir.to_owned(),
            stem: stem.to_owned(),
            limits,
            terminal,
            file: None,
            lines: String::new(),
            told: 0,
            began: now.micros(),
            last: 0,
            output: Utf8Pieces::default(),
            input: Utf8Pieces::default(),
            untold: BTreeMap::new(),
            telling: BTreeMap::new(),
            full: false,
            stats,
        }
    }

    /// Goes on with a transcript that another process was writing, and tells the moments at its end; `None` if there is no
    /// cast of it. `began` is when that one began, as its header tells only the second.
    ///
    /// # Errors
    /// What the disk says.
    pub fn resume(
        dir: &Path,
        stem: &str,
        terminal: Terminal,
        limits: TranscriptLimits,
        began: Option<Utc>,
    ) -> io::Result<Option<(Transcript, Vec<Moment>)>> {
        let path = |number: u32| dir.join(format!("{stem}-{number:04}{}", super::CAST));
        let octets = |number: u32| path(number).symlink_metadata().ok().map(|about| about.len());
        let lengths: Vec<u64> = (1..=PARTS).map_while(octets).collect();
        let parts = lengths.len() as u32;
        if parts == 0 {
            return Ok(None);
        }
        let stats = TranscriptStats { parts, written: lengths.iter().sum(), ..TranscriptStats::default() };
        let mut transcript = Transcript::new(dir, stem, terminal, limits, Utc::EPOCH, stats);
        // What has no header is followed by another one.
        let Ok((header, moments)) = tail(&path(parts)) else { return Ok(Some((transcript, Vec::new()))) };
        transcript.file = Some(Appender::reopen_lines(&path(parts))?);
        let second = header.timestamp.map_or(0, |second| second as i64);
        let began = began.map(Utc::micros).filter(|began| began.div_euclid(1_000_000) == second);
        transcript.began = began.unwrap_or(second.saturating_mul(1_000_000));
        transcript.last = moments.last().map_or(0, |moment| moment.at);
        Ok(Some((transcript, moments)))
    }

    /// Says something about the recording itself.
    pub fn mark(&mut self, now: Utc, text: &str) {
        if !self.full {
            self.line(now, 'm', text);
        }
    }

    /// What became of it so far.
    pub fn stats(&self) -> TranscriptStats {
        self.stats
    }

    /// Takes what was shown at `now`.
    pub fn output(&mut self, now: Utc, octets: &[u8]) {
        self.take(now, 'o', octets);
    }

    /// Takes what was typed at `now`.
    pub fn input(&mut self, now: Utc, octets: &[u8]) {
        self.take(now, 'i', octets);
    }

    /// Learns of `octets` octets that nobody gives it: they count as lost.
    pub fn skip(&mut self, octets: u64, why: Missing) {
        self.stats.octets += octets;
        self.lose(octets, why);
    }

    /// Octets of its casts, with those that the kernel does not have yet.
    pub fn octets(&self) -> u64 {
        self.stats.written + self.lines.len() as u64
    }

    fn lose(&mut self, octets: u64, why: Missing) {
        self.stats.lost += octets;
        *self.untold.entry(why).or_default() += octets;
    }

    /// Takes a new size of the terminal.
    pub fn resize(&mut self, now: Utc, width: u16, height: u16) {
        (self.terminal.width, self.terminal.height) = (width, height);
        if !self.full {
            self.line(now, 'r', &format!("{width}x{height}"));
        }
    }

    /// Hands to the kernel what was gathered. What it does not take is lost and counted.
    ///
    /// # Errors
    /// What the disk says; the transcript goes on all the same.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = file.len();
        if let Err(error) = file.append(self.lines.as_bytes()) {
            self.drop_lines();
            return Err(error);
        }
        self.stats.written += file.len() - before;
        self.told = 0;
        self.telling.clear();
        self.lines.clear();
        let is_long = self.file.as_ref().is_some_and(|file| file.len() >= self.limits.part_octets);
        if self.stats.written >= self.limits.total_octets || (is_long && self.stats.parts >= PARTS) {
            self.full = true;
        } else if is_long {
            self.file = None;
        }
        Ok(())
    }

    /// Ends the transcript.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self, now: Utc) -> io::Result<TranscriptStats> {
        for code in ['o', 'i'] {
            let mut text = String::new();
            self.pieces(code).finish(&mut text);
            if !text.is_empty() && !self.full {
                self.line(now, code, &text);
            }
        }
        let first = self.flush();
        self.tell_of_lost(now);
        first.and(self.flush())?;
        Ok(self.stats)
    }

    fn take(&mut self, now: Utc, code: char, octets: &[u8]) {
        self.stats.octets += octets.len() as u64;
        for piece in octets.chunks(PIECE) {
            if self.full {
                self.lose(piece.len() as u64, Missing::Full);
                continue;
            }
            let mut text = String::with_capacity(piece.len() + 4);
            self.pieces(code).push(piece, &mut text);
            self.told += piece.len() as u64;
            if !text.is_empty() {
                self.line(now, code, &text);
            }
            if self.lines.len() >= GATHER {
                // Whoever wants to know why asks `flush`.
                let _ = self.flush();
            }
        }
    }

    fn pieces(&mut self, code: char) -> &mut Utf8Pieces {
        if code == 'i' { &mut self.input } else { &mut self.output }
    }

    /// Appends an event, behind a word of what is missing before it.
    fn line(&mut self, now: Utc, code: char, text: &str) {
        // The cast before was full.
        if self.file.is_none() && self.begin(now).is_err() {
            return self.drop_lines();
        }
        self.tell_of_lost(now);
        self.write(now, code, text);
    }

    fn tell_of_lost(&mut self, now: Utc) {
        if self.untold.is_empty() || (self.file.is_none() && self.begin(now).is_err()) {
            return;
        }
        for (why, octets) in std::mem::take(&mut self.untold) {
            *self.telling.entry(why).or_default() += octets;
            self.write(now, 'm', &why.told(octets));
        }
    }

    /// Time does not run backwards, whatever the clock does.
    fn write(&mut self, now: Utc, code: char, text: &str) {
        self.last = self.last.max(now.micros().saturating_sub(self.began));
        // Text has a form in JSON, always; and a terminal may show it.
        let text = safe_json(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into()));
        let (seconds, micros) = (self.last / 1_000_000, self.last % 1_000_000);
        self.lines += &format!("[{seconds}.{micros:06},\"{code}\",{text}]\n");
    }

    /// Creates the next cast and writes its header.
    fn begin(&mut self, now: Utc) -> io::Result<()> {
        let number = self.stats.parts + 1;
        let path = self.dir.join(format!("{}-{number:04}{}", self.stem, super::CAST));
        let mut file = Appender::create(&path)?;
        let header = Header {
            version: 2,
            width: self.terminal.width,
            height: self.terminal.height,
            timestamp: now.micros().div_euclid(1_000_000),
            command: self.terminal.command.as_deref(),
            env: &self.terminal.env,
        };
        let mut line = safe_json(&serde_json::to_string(&header)?);
        line.push('\n');
        // Without its header it would be no cast, and in the way of the next try.
        file.append(line.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        self.stats.written += file.len();
        self.stats.parts = number;
        self.file = Some(file);
        (self.began, self.last) = (now.micros(), 0);
        Ok(())
    }

    fn drop_lines(&mut self) {
        for (why, octets) in std::mem::take(&mut self.telling) {
            *self.untold.entry(why).or_default() += octets;
        }
        let told = std::mem::take(&mut self.told);
        if told > 0 {
            self.lose(told, Missing::Disk);
        }
        self.lines.clear();
    }
}
