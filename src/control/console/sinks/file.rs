//! A sink's file: it grows by whole messages, and is followed by another when it is large.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::record::Appender;

/// Octets of a file.
const MOST: u64 = 64 << 20;
/// Files that are kept beside the one that is being written, `NAME.1` being the newest.
const KEPT: u32 = 8;

/// Deletes what files in `dir` were followed by, and nothing was written to since `before`. What cannot be deleted is told.
pub fn forget(dir: &Path, before: SystemTime) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_older = name
            .to_str()
            .and_then(|name| name.rsplit_once('.'))
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit()));
        // Of the entry itself: a link is not followed.
        let is_old = entry
            .metadata()
            .is_ok_and(|about| about.is_file() && about.modified().is_ok_and(|written| written < before));
        if is_older
            && is_old
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot delete an old file of a sink");
        }
    }
}

/// The file that is being written.
pub struct SinkFile {
    path: PathBuf,
    file: Appender,
    most: u64,
}

impl SinkFile {
    /// Opens `path`, or makes it. What a power cut or a death has left of a message at its end goes: the message comes again.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn open(path: &Path) -> io::Result<SinkFile> {
        let open = || match fs::symlink_metadata(path) {
            Ok(_) => Appender::reopen_lines(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Appender::create(path),
            Err(error) => Err(error),
        };
        let file = open().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(SinkFile { path: path.to_owned(), file, most: MOST })
    }

    /// Appends messages, or nothing of them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&mut self, messages: &[u8]) -> io::Result<()> {
        if self.file.is_deleted() {
            // Somebody has taken it, who wants no more of it.
            *self = SinkFile { most: self.most, ..SinkFile::open(&self.path)? };
        }
        if !self.file.is_empty() && self.file.len() + messages.len() as u64 > self.most {
            self.rotate()?;
        }
        self.file.append(messages)
    }

    /// Waits until the disk has all of it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Nobody asks for that one any more.
        self.sync()?;
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..KEPT).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(1))?;
        self.file = Appender::create(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_followed_by_another_goes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, secs) in [("a.json", 1), ("a.json.1", 5), ("a.json.2", 1), ("a.cursor", 1)] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
        }
        forget(dir.path(), SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.cursor", "a.json", "a.json.1"]);
        forget(&dir.path().join("none"), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn half_a_message_at_the_end_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cowrie.json");
        for torn in ["{\"eventid\":\"cow".to_owned(), "\0".repeat(200_000)] {
            for before in ["", "{}\n", "{}\n{}\n"] {
                fs::write(&path, format!("{before}{torn}")).unwrap();
                SinkFile::open(&path).unwrap().append(b"{\"whole\":1}\n").unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), format!("{before}{{\"whole\":1}}\n"));
            }
        }
    }

    #[test]
    fn a_large_file_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cowrie.json");
        let mut file = SinkFile { most: 10, ..SinkFile::open(&path).unwrap() };
        for number in 0..30 {
            file.append(format!("{number:02}\n{number:02}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("cowrie.json"), read("cowrie.json.1")), ("29\n29\n".into(), "28\n28\n".into()));
        assert_eq!(read("cowrie.json.8"), "21\n21\n");
        assert!(!dir.path().join("cowrie.json.9").exists());
        // It goes on in the same file, and in a new one if that was taken away.
        let mut again = SinkFile::open(&path).unwrap();
        again.append(b"x\n").unwrap();
        assert_eq!(read("cowrie.json"), "29\n29\nx\n");
        fs::rename(&path, dir.path().join("taken")).unwrap();
        again.append(b"y\n").unwrap();
        assert_eq!(read("taken"), "29\n29\nx\ny\n", "it has been renamed only");
        fs::remove_file(dir.path().join("taken")).unwrap();
        again.append(b"z\n").unwrap();
        assert_eq!(read("cowrie.json"), "z\n");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(SinkFile::open(&dir.path().join("link")).is_err());
    }
}
