//! What is added to an event log while somebody watches it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::search::{CURRENT, MAX_LINE, open_current};

/// The end of a log.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    /// That of the log in `dir`, from now on.
    ///
    /// # Errors
    /// If it cannot be read. That there is none yet is no error.
    pub fn new(dir: &Path) -> io::Result<Tail> {
        let file = match open_current(dir) {
            Ok(mut file) => {
                file.seek(SeekFrom::End(0))?;
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Tail { dir: dir.to_owned(), file, rest: Vec::new() })
    }

    /// Gives `each` the lines that were added since the last call, without their line feeds.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn look(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        loop {
            // Asked before it is read: what is written to it afterward is behind what its successor begins with.
            let is_last = match (&self.file, fs::symlink_metadata(self.dir.join(CURRENT))) {
                (Some(file), Ok(now)) => {
                    let ours = file.metadata()?;
                    (ours.dev(), ours.ino()) == (now.dev(), now.ino())
                }
                (None, Ok(_)) => false,
                (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => true,
                (_, Err(error)) => return Err(error),
            };
            if let Some(file) = &mut self.file {
                lines(file, &mut self.rest, &mut each)?;
            }
            if is_last {
                return Ok(());
            }
            self.rest.clear();
            self.file = match open_current(&self.dir) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
        }
    }
}

fn lines(file: &mut File, rest: &mut Vec<u8>, each: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        for part in piece.get(..read).unwrap_or_default().split_inclusive(|octet| *octet == b'\n') {
            // What is longer than any record is none.
            if rest.len() as u64 <= MAX_LINE {
                rest.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if let Some(line) = rest.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) {
                    each(line);
                }
                rest.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_line_that_is_added_is_seen_once_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CURRENT);
        let add = |text: &str| {
            let mut file = File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut none = Tail::new(dir.path()).unwrap();
        let seen = |tail: &mut Tail| {
            let mut seen = Vec::new();
            tail.look(|line| seen.push(line.to_owned())).unwrap();
            seen
        };
        assert!(seen(&mut none).is_empty());
        add("one\ntw");
        let mut tail = Tail::new(dir.path()).unwrap();
        assert_eq!(seen(&mut none), ["one"]);
        add("o\nthree\n");
        assert_eq!(seen(&mut none), ["two", "three"]);
        assert_eq!(seen(&mut tail), ["o", "three"]);
        add("four\n");
        fs::rename(&path, dir.path().join("events-00000000000000000001.ndjson")).unwrap();
        assert_eq!(seen(&mut tail), ["four"]);
        add(&format!("{}\n", "x".repeat(200_000)));
        add("five\n");
        assert_eq!(seen(&mut tail), ["five"], "what is longer than any record is none");
        assert_eq!(seen(&mut none), ["four", "five"]);
    }
}
