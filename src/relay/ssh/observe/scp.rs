//! The protocol of `scp -t` and `scp -f` (rcp's): lines that name files and directories, each followed by the file's octets.
//!
//! Only the side that sends files is looked at; the other one acknowledges. What has exactly the form of the protocol is told as
//! files; everything else is told as octets, as another program may read it: whoever brings an `scp` of their own, or has a shell
//! follow it, must not be able to say anything to it of which nobody knows.

use bytes::Bytes;

use super::{Files, Moving, Program, Strange, pieces};
use crate::relay::tape::{Direction, Entry, FileAct, Stream, Text};

/// Longest line: a path is at most 4 KiB.
const LINE: usize = 8 * 1024;
/// What a line begins with that is one of these.
const WARNING: u8 = 1;
const ERROR: u8 = 2;
/// How deep directories lie whose names are remembered, and how long their path is: every line costs as much.
const DEPTH: usize = 64;
const PATH: usize = 4 * 1024;
/// Longest path of which it is certain that [`Text`] shows it to its end, whatever octets it has.
const SHOWN: usize = 512;
/// Octets from the first one on that are remembered: what speaks something else shows that soon, and nearly always at once.
const BEFORE: usize = 16 * 1024;
/// Digits of a number, a second or a size.
const DIGITS: usize = 20;
/// Of a mode.
const MODE: usize = 7;
/// What has a shell make something else of a word.
const QUOTES: &[u8] = b"'\"\\*?[]{}!#^";
/// What has a shell do more than run one program with some words.
const SHELL: &[u8] = b";&|<>()$`\n";

/// Which way files go by a command, if it is one that moves files, and does nothing else.
pub(super) fn direction(command: &[u8]) -> Option<Direction> {
    if command.iter().any(|octet| SHELL.contains(octet)) {
        return None;
    }
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let program = words.next()?;
    if program.rsplit(|octet| *octet == b'/').next() != Some(b"scp") {
        return None;
    }
    let options = words.take_while(|word| word.starts_with(b"-") && *word != b"--");
    let letters: Vec<u8> = options.flatten().copied().collect();
    match (letters.contains(&b't'), letters.contains(&b'f')) {
        (true, false) => Some(Direction::Upload),
        (false, true) => Some(Direction::Download),
        _ => None,
    }
}

/// The path in a command: where files go to, or come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    path: Vec<u8>,
    /// It has to be a directory.
    is_directory: bool,
}

/// The one that `command` names, if it is one, and as it stands there.
pub(super) fn place(command: &[u8], direction: Direction) -> Option<Place> {
    let words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    let mut options = Vec::new();
    let mut paths = words.skip_while(|word| {
        let is_option = word.starts_with(b"-") && *word != b"--";
        options.extend(word.iter().copied().filter(|_| is_option));
        is_option
    });
    let first = paths.next()?;
    let path = if first == b"--" { paths.next()? } else { first };
    if paths.next().is_some() || path.len() > PATH || path.iter().any(|octet| QUOTES.contains(octet)) {
        return None;
    }
    let is_directory = match direction {
        Direction::Upload => options.contains(&b'd') || matches!(name_of(path), b"" | b"." | b".." | b"~"),
        Direction::Download | Direction::Input | Direction::Output => false,
    };
    let path = if is_directory { path.strip_suffix(b"/").unwrap_or(path) } else { path };
    Some(Place { path: path.to_vec(), is_directory })
}

/// The last part of a path; nothing if that ends in `/`.
fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|octet| *octet == b'/').next().unwrap_or_default()
}

impl Place {
    /// Where that is which the protocol calls `name`, and what lies in it. The protocol does not tell whether what a command
    /// names is a directory: `[/name]` is what follows if it is.
    fn of(&self, name: &[u8], direction: Direction) -> Vec<u8> {
        match direction {
            _ if self.path == b"." => name.to_vec(),
            _ if self.is_directory => [&self.path[..], b"/", name].concat(),
            _ if name_of(&self.path) == name => self.path.clone(),
            Direction::Upload => [&self.path[..], b"[/", name, b"]"].concat(),
            Direction::Download | Direction::Input | Direction::Output => name.to_vec(),
        }
    }
}

enum At {
    /// In a line.
    Line(Vec<u8>),
    /// In a file, of which so many octets follow.
    File(Moving, u64),
    /// At the octet behind a file, which says whether it is whole.
    Behind(Moving),
}

/// What a channel carries by it.
pub(in crate::relay::ssh) struct Scp {
    files: Files,
    direction: Direction,
    place: Option<Place>,
    sender: Stream,
    at: At,
    directories: Vec<Vec<u8>>,
    /// Directories deeper than those.
    deeper: usize,
    /// What the other side has yet to acknowledge.
    owed: u64,
    /// What runs there if it is no SCP, if that has no terminal.
    program: Option<Box<Program>>,
    /// What the sender has said so far, if it is not too much.
    before: Option<Vec<u8>>,
}

impl Scp {
    pub(super) fn new(direction: Direction, files: Files) -> Scp {
        let sender = match direction {
            Direction::Upload | Direction::Input => Stream::Input,
            Direction::Download | Direction::Output => Stream::Output,
        };
        // The first one says that it is there.
        let (at, owed) = (At::Line(Vec::new()), 1);
        Scp {
            files,
            direction,
            place: None,
            sender,
            at,
            directories: Vec::new(),
            deeper: 0,
            owed,
            program: None,
            before: None,
        }
    }

    /// Files go to that place, or come from it.
    pub(super) fn with(self, place: Option<Place>) -> Scp {
        Scp { place, ..self }
    }

    /// If it is no SCP, it is `program`.
    pub(super) fn or_program(self, program: Box<Program>) -> Scp {
        Scp { program: Some(program), before: Some(Vec::new()), ..self }
    }

    /// That program, with what it has read, or said, from the first octet on: `data` is the last of it. If that was too
    /// much, it is what is strange, `untold`, at the end of `data`.
    pub(super) fn otherwise(
        &mut self,
        stream: Stream,
        data: &Bytes,
        untold: &Bytes,
        told: &mut Vec<Entry>,
    ) -> Option<Box<Program>> {
        let mut program = self.program.take()?;
        match self.before.take() {
            Some(before) => {
                program.next(stream, &before.into(), told);
                program.next(stream, data, told);
            }
            None => program.next(stream, untold, told),
        }
        Some(program)
    }

    /// Where a thing is of which the protocol says `path`.
    fn path(&self, path: &[u8]) -> Vec<u8> {
        let Some(place) = &self.place else { return path.to_vec() };
        let end = path.iter().position(|octet| *octet == b'/').unwrap_or(path.len());
        let (top, rest) = path.split_at(end);
        [place.of(top, self.direction), rest.to_vec()].concat()
    }

    pub(super) fn look(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) -> Result<(), Strange> {
        if stream != self.sender {
            self.acknowledged(stream, data, told);
            return Ok(());
        }
        self.read(data, told)?;
        if let Some(mut before) = self.before.take().filter(|before| before.len() + data.len() <= BEFORE) {
            before.extend_from_slice(data);
            self.before = Some(before);
        }
        Ok(())
    }

    /// What the sender says.
    fn read(&mut self, data: &Bytes, told: &mut Vec<Entry>) -> Result<(), Strange> {
        let mut rest = data.clone();
        while !rest.is_empty() {
            match std::mem::replace(&mut self.at, At::Line(Vec::new())) {
                At::File(mut file, left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    file.next(rest.split_to(taken), told);
                    let left = left - taken as u64;
                    self.at = if left == 0 { At::Behind(file) } else { At::File(file, left) };
                }
                At::Behind(mut file) => {
                    // Otherwise the sender could not read it, which a line tells, and what was sent in its place is worth nothing.
                    let octet = rest.split_to(1);
                    let said = octet.first().copied().unwrap_or_default();
                    if said != 0 {
                        file.miss();
                    }
                    told.push(file.end());
                    self.owed = self.owed.saturating_add(1);
                    self.at = match said {
                        0 => At::Line(Vec::new()),
                        WARNING | ERROR => At::Line(vec![said]),
                        _ => return Err(Strange::new("no end of a file", &octet, &rest)),
                    };
                }
                At::Line(mut line) => {
                    let end = rest.iter().position(|octet| *octet == b'\n');
                    line.extend_from_slice(&rest.split_to(end.map_or(rest.len(), |end| end + 1)));
                    // Who acknowledges before it sends, and PuTTY's does, begins with zeros.
                    let zeros = line.iter().take_while(|octet| **octet == 0).count();
                    line.drain(..zeros);
                    if line.len() > LINE {
                        return Err(Strange::new("a line without end", &line, &rest));
                    }
                    self.at = match line.strip_suffix(b"\n") {
                        None => At::Line(line),
                        Some(whole) => match self.line(whole, told) {
                            Ok(next) => next,
                            Err(reason) => return Err(Strange::new(reason, &line, &rest)),
                        },
                    };
                }
            }
        }
        Ok(())
    }

    /// What the other side says: zeros, one for each thing that was sent. More of them, and whatever else, are of interest.
    fn acknowledged(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) {
        match self.owed.checked_sub(data.len() as u64) {
            Some(owed) if data.iter().all(|octet| *octet == 0) => self.owed = owed,
            _ => {
                if let Some(program) = &mut self.program {
                    program.next(stream, data, told);
                }
                told.extend(pieces(self.files.channel, stream, data));
            }
        }
    }

    /// A whole line, without its end.
    fn line(&mut self, line: &[u8], told: &mut Vec<Entry>) -> Result<At, &'static str> {
        let next = At::Line(Vec::new());
        let Some((kind, rest)) = line.split_first() else { return Err("an empty line") };
        match *kind {
            b'C' | b'D' => {
                // Mode, size, name.
                let mut words = rest.splitn(3, |octet| *octet == b' ');
                let (Some(mode), Some(size), Some(name)) = (words.next(), words.next(), words.next()) else {
                    return Err("a file without a name");
                };
                if !is_number(mode, MODE) {
                    return Err("a file without a mode");
                }
                let size =
                    Some(size).filter(|size| is_number(size, DIGITS)).and_then(|size| std::str::from_utf8(size).ok());
                let size: u64 = size.and_then(|size| size.parse().ok()).ok_or("a file without a size")?;
                let inner = self.directories.iter().map(Vec::as_slice).chain([name]).collect::<Vec<_>>().join(&b'/');
                let path = self.path(&inner);
                if path.len() > SHOWN {
                    told.push(self.said(line));
                }
                self.owed = self.owed.saturating_add(1);
                if *kind == b'D' {
                    match self.directories.len() < DEPTH && inner.len() <= PATH {
                        true => self.directories.push(name.to_vec()),
                        false => self.deeper += 1,
                    }
                    if self.direction == Direction::Upload {
                        let (channel, path) = (self.files.channel, Text::new(path));
                        told.push(Entry::File { channel, act: FileAct::MakeDirectory, path, to: None });
                    }
                    return Ok(next);
                }
                let file = self.files.begin(Text::new(path), self.direction, told);
                Ok(if size == 0 { At::Behind(file) } else { At::File(file, size) })
            }
            b'E' if rest.is_empty() => {
                match self.deeper {
                    // Behind the last one the program ends, and something else may read on.
                    0 => _ = self.directories.pop().ok_or("the end of no directory")?,
                    _ => self.deeper -= 1,
                }
                self.owed = self.owed.saturating_add(1);
                Ok(next)
            }
            // Seconds and microseconds of two times.
            b'T' => {
                let numbers: Vec<_> = rest.split(|octet| *octet == b' ').collect();
                if numbers.len() != 4 || !numbers.iter().all(|number| is_number(number, DIGITS)) {
                    return Err("times that are none");
                }
                self.owed = self.owed.saturating_add(1);
                Ok(next)
            }
            WARNING | ERROR => {
                told.push(self.said(line));
                Ok(next)
            }
            _ => Err("no SCP"),
        }
    }

    /// What the sender says, as octets.
    fn said(&self, line: &[u8]) -> Entry {
        Entry::Data { channel: self.files.channel, stream: self.sender, data: Bytes::copy_from_slice(line) }
    }

    /// Octets of the path that are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.directories.iter().map(Vec::len).sum()
    }

    pub(super) fn end(mut self) -> Vec<Entry> {
        let mut told = Vec::new();
        match std::mem::replace(&mut self.at, At::Line(Vec::new())) {
            At::Line(line) if line.is_empty() => {}
            // Who else reads it may not wait for its end.
            At::Line(line) => {
                let program = self.otherwise(self.sender, &Bytes::new(), &Bytes::copy_from_slice(&line), &mut told);
                told.push(self.said(&line));
                self.program = program;
            }
            At::File(mut file, _) | At::Behind(mut file) => {
                file.miss();
                told.push(file.end());
            }
        }
        told.extend(self.program.into_iter().flat_map(|program| program.end()));
        told
    }
}

/// Whether that is a number of at most so many digits, and nothing else.
fn is_number(word: &[u8], digits: usize) -> bool {
    (1..=digits).contains(&word.len()) && word.iter().all(u8::is_ascii_digit)
}
