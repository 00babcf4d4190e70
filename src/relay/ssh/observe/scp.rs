//! The protocol of `scp -t` and `scp -f` (rcp's): lines that name files and directories, each followed by the file's octets.
//!
//! Only the side that sends files is looked at; the other one acknowledges.

use bytes::Bytes;

use super::{Files, Moving, Strange};
use crate::relay::tape::{Direction, Entry, FileAct, Stream, Text};

/// Longest line: a path is at most 4 KiB.
const LINE: usize = 8 * 1024;
/// How deep directories lie whose names are remembered, and how long their path is: every line costs as much.
const DEPTH: usize = 64;
const PATH: usize = 4 * 1024;

/// Which way files go by a command, if it is one that moves files.
pub(super) fn direction(command: &[u8]) -> Option<Direction> {
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
    sender: Stream,
    at: At,
    directories: Vec<Vec<u8>>,
    /// Directories deeper than those.
    deeper: usize,
}

impl Scp {
    pub(super) fn new(direction: Direction, files: Files) -> Scp {
        let sender = match direction {
            Direction::Upload => Stream::Input,
            Direction::Download => Stream::Output,
        };
        Scp { files, direction, sender, at: At::Line(Vec::new()), directories: Vec::new(), deeper: 0 }
    }

    pub(super) fn look(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) -> Result<(), Strange> {
        if stream != self.sender {
            // Zeros; or a complaint, which is of interest.
            if data.iter().any(|octet| *octet != 0) {
                told.push(Entry::Data {
                    channel: self.files.channel,
                    stream,
                    data: data.slice(..data.len().min(LINE)),
                });
            }
            return Ok(());
        }
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
                    // Otherwise the sender could not read it, and what was sent in its place is worth nothing.
                    let whole = rest.split_to(1)[0] == 0;
                    if !whole {
                        file.miss();
                    }
                    told.push(file.end());
                }
                At::Line(mut line) => {
                    let end = rest.iter().position(|octet| *octet == b'\n');
                    line.extend_from_slice(&rest.split_to(end.map_or(rest.len(), |end| end + 1)));
                    // Who acknowledges before it sends, and PuTTY's does, begins with zeros.
                    let zeros = line.iter().take_while(|octet| **octet == 0).count();
                    line.drain(..zeros);
                    if line.len() > LINE {
                        return Err(Strange("a line without end"));
                    }
                    self.at = match end {
                        None => At::Line(line),
                        Some(_) => self.line(line.trim_ascii_end(), told)?,
                    };
                }
            }
        }
        Ok(())
    }

    /// A whole line.
    fn line(&mut self, line: &[u8], told: &mut Vec<Entry>) -> Result<At, Strange> {
        let next = At::Line(Vec::new());
        let Some((kind, rest)) = line.split_first() else { return Err(Strange("an empty line")) };
        match kind {
            b'C' | b'D' => {
                // Mode, size, name.
                let mut words = rest.splitn(3, |octet| *octet == b' ');
                let (Some(_), Some(size), Some(name)) = (words.next(), words.next(), words.next()) else {
                    return Err(Strange("a file without a name"));
                };
                let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                let size: u64 = size.ok_or(Strange("a file without a size"))?;
                let path = self.directories.iter().map(Vec::as_slice).chain([name]).collect::<Vec<_>>().join(&b'/');
                if *kind == b'D' {
                    match self.directories.len() < DEPTH && path.len() <= PATH {
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
            b'E' => {
                match self.deeper {
                    0 => _ = self.directories.pop(),
                    _ => self.deeper -= 1,
                }
                Ok(next)
            }
            // Times.
            b'T' => Ok(next),
            // A warning, an error.
            1 | 2 => {
                let data = Bytes::copy_from_slice(line);
                told.push(Entry::Data { channel: self.files.channel, stream: self.sender, data });
                Ok(next)
            }
            _ => Err(Strange("no SCP")),
        }
    }

    /// Octets of the path that are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.directories.iter().map(Vec::len).sum()
    }

    pub(super) fn end(self) -> Vec<Entry> {
        match self.at {
            At::Line(_) => Vec::new(),
            At::File(mut file, _) | At::Behind(mut file) => {
                file.miss();
                vec![file.end()]
            }
        }
    }
}
