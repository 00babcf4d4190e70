//! One channel: a transcript of what has a terminal, a shell or a command, octets of everything else.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TapeLimits;
use super::cast::Cast;
use super::lines::Lines;
use super::room::{Kind, Scarce};
use super::store::{BLOCK, Store};
use crate::event::{SessionId, Utc};
use crate::record::base64;
use crate::record::transcript::{CAST, Terminal, Transcript, TranscriptLimits, What};
use crate::relay::tape::{Direction, Protocol, Stream, Text};
use crate::service::Spoken;

/// Where nobody has asked for a terminal.
const SIZE: (u16, u16) = (80, 24);
/// Octets of a line around what is in it, and how much longer a line may be than that: one of less than some 20 octets is more.
const AROUND: u64 = 52;
const LENGTH: u64 = 4;
/// What the name of a file of octets ends in.
const OCTETS: &str = ".octets";
/// What a cast says where another process goes on with it.
const RESUMED: &str = "the recorder was restarted: some of what came just before this may be missing";

/// What files of a connection have in common.
pub struct Place<'a> {
    /// The session, which they count for.
    pub session: SessionId,
    /// What is spoken in it.
    pub protocol: Protocol,
    /// Where they lie.
    pub dir: &'a Path,
    /// How their names begin.
    pub stem: &'a str,
    /// What is kept.
    pub limits: &'a TapeLimits,
    /// Whether anything is.
    pub keeps: bool,
}

/// A channel.
pub struct Channel {
    number: u32,
    terminal: Terminal,
    /// What its terminal is called, if it has one.
    term: Option<Text>,
    /// Whether a shell or a command runs in it.
    runs: bool,
    /// When it began to, if another process was there.
    ran: Option<Utc>,
    sink: Sink,
    /// Octets that are kept beside a transcript, and how many of these are not as long as there is no file.
    raw: Sink,
    unkept: More,
    /// Octets of what it has read and said that are kept as a file's content.
    beside: [u64; 2],
}

#[derive(Default)]
enum Sink {
    /// Nothing has come yet, or there was no room for it.
    #[default]
    Undecided,
    /// It is not kept.
    Nothing,
    Cast(Box<Cast>),
    Octets(Box<Octets>),
}

struct Octets {
    lines: Lines,
    /// Octets of lines that may still be very much longer than what is in them.
    short: u64,
    more: More,
}

#[derive(Serialize)]
struct Piece {
    stream: Stream,
    data: String,
}

/// Octets that are not kept, by their stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    input: u64,
    output: u64,
    error: u64,
}

#[derive(Serialize)]
struct Last {
    more: More,
}

impl Channel {
    /// A channel that was opened.
    pub fn new(number: u32) -> Channel {
        let terminal = Terminal { width: SIZE.0, height: SIZE.1, ..Terminal::default() };
        Channel {
            number,
            terminal,
            term: None,
            runs: false,
            ran: None,
            sink: Sink::Undecided,
            raw: Sink::Undecided,
            unkept: More::default(),
            beside: [0; 2],
        }
    }

    /// So many octets of what a program there has read or said are kept as a file's content.
    pub fn has_beside(&mut self, direction: Direction, octets: u64) {
        let [input, output] = &mut self.beside;
        match direction {
            Direction::Input => *input = input.saturating_add(octets),
            Direction::Output => *output = output.saturating_add(octets),
            Direction::Upload | Direction::Download => {}
        }
    }

    /// It gets a terminal.
    pub fn terminal(&mut self, term: &Text, columns: u32, rows: u32) {
        self.term = Some(term.clone());
        (self.terminal.width, self.terminal.height) = (cells(columns, SIZE.0), cells(rows, SIZE.1));
        self.terminal.env.insert("TERM".into(), term.original());
    }

    /// The name of its terminal, and columns and rows; none if it has none.
    pub fn size(&self) -> Option<(&str, String)> {
        let term = self.term.as_ref()?;
        Some((term.as_str(), format!("{}x{}", self.terminal.width, self.terminal.height)))
    }

    /// Whether there is a transcript of it.
    pub fn has_transcript(&self) -> bool {
        matches!(self.sink, Sink::Cast(_))
    }

    /// Its terminal has another size.
    pub fn resize(&mut self, at: Utc, columns: u32, rows: u32) {
        (self.terminal.width, self.terminal.height) =
            (cells(columns, self.terminal.width), cells(rows, self.terminal.height));
        if let Sink::Cast(cast) = &mut self.sink {
            cast.transcript.resize(at, self.terminal.width, self.terminal.height);
        }
    }

    /// A shell begins, or a command. What came before is octets at most: whoever sends something ahead of the request has
    /// a transcript like everybody else.
    pub fn run(&mut self, (micros, at): (u64, Utc), command: Option<&Text>, place: &Place<'_>, store: &mut Store) {
        if std::mem::replace(&mut self.runs, true) || matches!(self.sink, Sink::Cast(_)) {
            return;
        }
        self.terminal.command = command.map(Text::original);
        if let Sink::Octets(octets) = std::mem::take(&mut self.sink) {
            octets.finish(micros, place.session, store);
        }
        self.sink = self.cast(at, place, store);
    }

    /// A shell or a command began in it at `at`, of which another process has heard.
    pub fn has_run(&mut self, at: Utc, command: Option<&Text>) {
        if !std::mem::replace(&mut self.runs, true) {
            self.ran = Some(at);
            self.terminal.command = command.map(Text::original);
        }
    }

    /// Goes on with the file that another process has begun for it, if there is one; returns what was typed last.
    pub fn resume(&mut self, at: Utc, place: &Place<'_>, store: &mut Store) -> Vec<String> {
        let (stem, limits) = (place.stem(self.number), place.limits.transcript);
        let resumed = match Transcript::resume(place.dir, &stem, self.terminal.clone(), limits, self.ran) {
            Ok(Some((transcript, moments))) => Some((self.resumed(transcript, at, place, store), moments)),
            // Such octets are those beside a transcript that has not begun.
            Ok(None) if place.has_raw() => None,
            Ok(None) => self.resumed_octets(place, store).map(|sink| (sink, Vec::new())),
            Err(error) => {
                store.refuse(&error);
                Some((Sink::Nothing, Vec::new()))
            }
        };
        if place.has_raw() {
            self.raw = self.resumed_octets(place, store).unwrap_or_default();
        }
        let Some((sink, moments)) = resumed else { return Vec::new() };
        self.sink = sink;
        let typed = moments.into_iter().filter_map(|moment| match moment.what {
            What::Input(text) => Some(text),
            _ => None,
        });
        typed.collect()
    }

    fn resumed(&self, transcript: Transcript, at: Utc, place: &Place<'_>, store: &mut Store) -> Sink {
        if !store.begin_part_again(place.session) {
            return Sink::Nothing;
        }
        let mut cast = Cast::resumed(transcript, self.left(place));
        cast.transcript.mark(at, RESUMED);
        Sink::Cast(Box::new(cast))
    }

    fn resumed_octets(&self, place: &Place<'_>, store: &mut Store) -> Option<Sink> {
        let mut lines = self.lines(place);
        match lines.resume() {
            Ok(true) if store.begin_part_again(place.session) => {}
            Ok(false) => return None,
            Ok(true) => return Some(Sink::Nothing),
            Err(error) => {
                store.refuse(&error);
                return Some(Sink::Nothing);
            }
        }
        Some(Sink::Octets(Box::new(Octets::new(lines, place))))
    }

    /// Octets of it that are in no line so far, if there are some.
    pub fn more(&self) -> Option<More> {
        let mut more = self.unkept;
        for sink in [&self.sink, &self.raw] {
            if let Sink::Octets(octets) = sink {
                more.put(octets.more);
            }
        }
        (more != More::default()).then_some(more)
    }

    /// Another process has counted so many already.
    pub fn has_more(&mut self, more: More) {
        match (&mut self.sink, &mut self.raw) {
            (Sink::Octets(octets), _) | (_, Sink::Octets(octets)) => octets.more.put(more),
            _ => self.unkept.put(more),
        }
    }

    /// So many octets are not told at all; returns how many of them are in no file.
    pub fn miss(&mut self, stream: Stream, count: u64) -> u64 {
        match (&mut self.sink, &mut self.raw) {
            (Sink::Octets(octets), _) => octets.miss(stream, count),
            // The transcript has what they said.
            (Sink::Cast(_), Sink::Octets(raw)) => {
                raw.miss(stream, count);
                return 0;
            }
            (Sink::Cast(_), _) => {
                self.unkept.add(stream, count);
                return 0;
            }
            _ => {}
        }
        count
    }

    /// Takes octets of what has a transcript as they came.
    pub fn take_raw(&mut self, micros: u64, stream: Stream, data: &[u8], place: &Place<'_>, store: &mut Store) {
        if matches!(self.raw, Sink::Undecided) {
            self.raw = self.resumed_octets(place, store).unwrap_or_else(|| self.octets(place, store));
        }
        let Sink::Octets(raw) = &mut self.raw else { return self.unkept.add(stream, data.len() as u64) };
        if !raw.push(micros, stream, data, store) {
            raw.miss(stream, data.len() as u64);
        }
    }

    /// Takes octets; returns how many more are in no file.
    pub fn take(
        &mut self,
        (micros, at): (u64, Utc),
        stream: Stream,
        data: &[u8],
        place: &Place<'_>,
        store: &mut Store,
    ) -> u64 {
        if matches!(self.sink, Sink::Undecided) {
            self.sink =
                if self.runs || self.term.is_some() { self.cast(at, place, store) } else { self.octets(place, store) };
        }
        let count = data.len() as u64;
        match &mut self.sink {
            Sink::Undecided | Sink::Nothing => count,
            Sink::Cast(cast) => {
                cast.take(at, stream, data, (place.session, store));
                cast.settle(place.session, store)
            }
            Sink::Octets(octets) => {
                if octets.push(micros, stream, data, store) {
                    return 0;
                }
                octets.miss(stream, count);
                count
            }
        }
    }

    /// Hands to the kernel what was gathered; returns how many more octets are in no file.
    pub fn flush(&mut self, session: SessionId, store: &mut Store) -> u64 {
        if let Sink::Octets(raw) = &mut self.raw {
            raw.lines.flush(store);
        }
        match &mut self.sink {
            Sink::Undecided | Sink::Nothing => 0,
            Sink::Cast(cast) => {
                if let Err(error) = cast.transcript.flush() {
                    store.refuse_of(session, &error);
                }
                cast.settle(session, store)
            }
            Sink::Octets(octets) => {
                octets.lines.flush(store);
                0
            }
        }
    }

    /// It is closed; returns how many more octets are in no file.
    pub fn finish(self, (micros, at): (u64, Utc), session: SessionId, store: &mut Store) -> u64 {
        if let Sink::Octets(mut raw) = self.raw {
            raw.more.put(self.unkept);
            raw.finish(micros, session, store);
        }
        match self.sink {
            Sink::Undecided | Sink::Nothing => 0,
            Sink::Cast(cast) => cast.finish(at, self.beside, session, store),
            Sink::Octets(octets) => {
                octets.finish(micros, session, store);
                0
            }
        }
    }

    fn cast(&self, at: Utc, place: &Place<'_>, store: &mut Store) -> Sink {
        if store.scarce() >= Scarce::Transcripts || !store.has_room(place.session, Kind::Transcript, 0, BLOCK) {
            return Sink::Undecided;
        }
        if !place.keeps || !store.begin_part(place.session, Kind::Transcript) {
            return Sink::Nothing;
        }
        let limits: TranscriptLimits = place.limits.transcript;
        match Transcript::create(place.dir, &place.stem(self.number), self.terminal.clone(), limits, at) {
            Ok(transcript) => {
                let mut cast = Cast::new(transcript, self.left(place));
                cast.settle(place.session, store);
                Sink::Cast(Box::new(cast))
            }
            Err(error) => {
                store.refuse_of(place.session, &error);
                store.end_part(place.session);
                Sink::Nothing
            }
        }
    }

    /// Octets that a transcript may have of each stream, if there is no terminal.
    fn left(&self, place: &Place<'_>) -> Option<u64> {
        (place.protocol == Protocol::Ssh && self.term.is_none()).then_some(place.limits.beside)
    }

    fn octets(&self, place: &Place<'_>, store: &mut Store) -> Sink {
        if store.scarce() >= Scarce::Contents {
            return Sink::Undecided;
        }
        if !place.keeps || !store.begin_part(place.session, Kind::Content) {
            return Sink::Nothing;
        }
        let mut lines = self.lines(place);
        // At once, so that it is one of the session's files when the next one is wanted; what fails is tried again.
        if place.octets() > 0
            && let Err(error) = lines.create(store)
        {
            store.refuse(&error);
        }
        Sink::Octets(Box::new(Octets::new(lines, place)))
    }

    fn lines(&self, place: &Place<'_>) -> Lines {
        let path = place.dir.join(format!("{}{OCTETS}", place.stem(self.number)));
        Lines::new(place.session, Kind::Content, path, place.octets())
    }
}

impl Place<'_> {
    /// Whether octets are kept beside transcripts.
    fn has_raw(&self) -> bool {
        self.protocol == Protocol::Plain(Spoken::Telnet)
    }

    /// Where a channel's octets are, and the first part of its transcript.
    pub fn files(&self, number: u32) -> [PathBuf; 2] {
        let stem = self.stem(number);
        [self.dir.join(format!("{stem}{OCTETS}")), self.dir.join(format!("{stem}-0001{CAST}"))]
    }

    fn stem(&self, number: u32) -> String {
        format!("{}-{number:04}", self.stem)
    }

    /// The limit of a file of octets.
    fn octets(&self) -> u64 {
        if self.protocol == Protocol::Ssh { self.limits.stream } else { self.limits.plain }
    }
}

impl Octets {
    fn new(lines: Lines, place: &Place<'_>) -> Octets {
        Octets { lines, short: place.limits.stream, more: More::default() }
    }

    /// Adds octets; returns whether there was room for them.
    fn push(&mut self, micros: u64, stream: Stream, data: &[u8], store: &mut Store) -> bool {
        let (count, piece) = (data.len() as u64, Piece { stream, data: base64::encode(data) });
        let length = AROUND + piece.data.len() as u64;
        let short = if length > LENGTH * count { length } else { 0 };
        let may_be = store.scarce() == Scarce::Nothing && short <= self.short;
        if !may_be {
            self.lines.skip();
        }
        let is_kept = may_be && self.lines.push(micros, &piece, store);
        self.short -= if is_kept { short } else { 0 };
        is_kept
    }

    /// Adds the last line.
    fn finish(self, micros: u64, session: SessionId, store: &mut Store) {
        store.end_part(session);
        self.lines.finish(micros, &Last { more: self.more }, store);
    }

    /// So many are in no line.
    fn miss(&mut self, stream: Stream, count: u64) {
        self.more.add(stream, count);
    }
}

impl More {
    fn put(&mut self, other: More) {
        self.add(Stream::Input, other.input);
        self.add(Stream::Output, other.output);
        self.add(Stream::Error, other.error);
    }

    fn add(&mut self, stream: Stream, count: u64) {
        let more = match stream {
            Stream::Input => &mut self.input,
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        };
        *more = more.saturating_add(count);
    }
}

/// A size that a terminal can have, or what it was.
fn cells(count: u32, or: u16) -> u16 {
    match count {
        0 => or,
        _ => count.min(9999) as u16,
    }
}
