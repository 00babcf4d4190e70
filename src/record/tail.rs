//! Reading the log while it is written: record after record from a place on, across files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::open_regular;
use super::search::{CURRENT, Filter, MAX_LINE, rotated_files, search};

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// A record: its number and its line without the line feed.
    Record(u64, String),
    /// So many records were deleted before they were read, the newest of them with this number.
    Lost(u64, u64),
    /// For now that was all.
    End,
}

/// A place in the log.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    /// The newest record that was read.
    last: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    /// Number of its first record.
    first: u64,
    /// Where the next line begins.
    at: u64,
    /// Whether it is written no longer.
    is_over: bool,
}

impl Open {
    fn new(file: File, first: u64) -> Open {
        Open { reader: BufReader::with_capacity(64 << 10, file), first, at: 0, is_over: false }
    }

    /// The next whole line; none at the end.
    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') && (read as u64) < MAX_LINE {
                // What is there of a line is written whole or taken back: it is read again then.
                self.reader.seek(SeekFrom::Start(self.at))?;
                return Ok(None);
            }
            self.at += read as u64;
            line.pop();
            if let Ok(line) = String::from_utf8(line) {
                return Ok(Some(line));
            }
        }
    }

    fn is_deleted(&self) -> io::Result<bool> {
        Ok(self.reader.get_ref().metadata()?.nlink() == 0)
    }
}

impl Tail {
    /// Reads what is added in `dir` from now on.
    ///
    /// # Errors
    /// If what is there cannot be read.
    pub fn new(dir: &Path) -> io::Result<Tail> {
        let newest = search(dir, &Filter::default(), 1)?;
        Ok(Tail::after(dir, newest.last().and_then(|line| seq(line)).unwrap_or(0)))
    }

    /// Reads on in `dir` after record number `last`.
    pub fn after(dir: &Path, last: u64) -> Tail {
        Tail { dir: dir.to_owned(), last, open: None }
    }

    /// The newest record that was read or is known to be lost.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What comes next.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn read(&mut self) -> io::Result<Next> {
        loop {
            if self.open.is_none()
                && let Some(lost) = self.find()?
            {
                return Ok(lost);
            }
            let Some(open) = &mut self.open else { return Ok(Next::End) };
            while let Some(line) = open.line()? {
                match seq(&line) {
                    Some(seq) if seq > self.last => {
                        self.last = seq;
                        return Ok(Next::Record(seq, line));
                    }
                    _ => {}
                }
            }
            if !open.is_over {
                // Another one may have been begun; then what was written to this one last is read first.
                let same = |file: &File| Ok::<_, io::Error>((file.metadata()?.dev(), file.metadata()?.ino()));
                let current = match open_regular(&self.dir.join(CURRENT)) {
                    Ok(file) => Some(same(&file)?),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
                if current.is_none() || current == Some(same(open.reader.get_ref())?) {
                    return Ok(Next::End);
                }
                open.is_over = true;
                continue;
            }
            match self.follow()? {
                Some(next) => return Ok(next),
                None if self.open.is_none() => return Ok(Next::End),
                None => {}
            }
        }
    }

    /// Gives `each` the records that have come since the last call and are still there.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn look(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        loop {
            match self.read()? {
                Next::Record(_, line) => each(&line),
                Next::Lost(..) => {}
                Next::End => return Ok(()),
            }
        }
    }

    /// The log's files, oldest first, by the number of their first record.
    fn files(&self) -> io::Result<Vec<(u64, File)>> {
        // The current one first: if it is rotated meanwhile it is among the others, too, and counts once.
        let current = match open_regular(&self.dir.join(CURRENT)) {
            Ok(mut file) => {
                let mut line = String::new();
                BufReader::new(&mut file).take(MAX_LINE).read_line(&mut line).ok();
                file.seek(SeekFrom::Start(0))?;
                seq(line.trim_end()).map(|first| (first, file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for rotated in rotated_files(&self.dir)? {
            if current.as_ref().is_some_and(|(first, _)| *first == rotated.first_seq) {
                continue;
            }
            match open_regular(&rotated.path) {
                Ok(file) => files.push((rotated.first_seq, file)),
                // The total limit took it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.extend(current);
        files.sort_by_key(|(first, _)| *first);
        Ok(files)
    }

    /// Opens the file that the next record is in.
    fn find(&mut self) -> io::Result<Option<Next>> {
        let mut files = self.files()?;
        let at = files.iter().rposition(|(first, _)| *first <= self.last.saturating_add(1));
        if files.is_empty() {
            return Ok(None);
        }
        let (first, file) = files.swap_remove(at.unwrap_or(0));
        self.open = Some(Open::new(file, first));
        Ok(at.is_none().then(|| self.lose(first)))
    }

    /// Opens the file after the one that is over.
    fn follow(&mut self) -> io::Result<Option<Next>> {
        let Some(over) = &self.open else { return Ok(None) };
        let before = over.first;
        let next = self.files()?.into_iter().find(|(first, _)| *first > before);
        // Asked afterward: it goes before any that follows it, and one of these may have gone just now.
        let is_deleted = over.is_deleted()?;
        let Some((first, file)) = next else {
            // The next one has no record yet.
            return Ok(Some(Next::End));
        };
        self.open = Some(Open::new(file, first));
        // Files go from the oldest on: if this one is there, nothing after it has gone, and what is missing a `gap` tells.
        Ok((is_deleted && first > self.last.saturating_add(1)).then(|| self.lose(first)))
    }

    fn lose(&mut self, first: u64) -> Next {
        let newest = first.saturating_sub(1);
        let count = newest.saturating_sub(std::mem::replace(&mut self.last, newest));
        Next::Lost(count, newest)
    }
}

/// The number of the record in `line`. The usual beginning is looked for first, as whoever is far behind passes over
/// many.
fn seq(line: &str) -> Option<u64> {
    let usual = line.strip_prefix("{\"v\":1,\"seq\":").and_then(|rest| rest.split_once(',')?.0.parse().ok());
    usual.or_else(|| Filter::default().matches(line))
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
