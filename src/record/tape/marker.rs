//! Which connections are being recorded, for the process that goes on with them if this one dies: for each of them a
//! small file beside the directories of sessions, which is gone when the connection is over.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::recording::Counts;
use crate::record::open_regular;
use crate::relay::tape::Begin;

/// Octets of such a file: it is overwritten in one piece, so that it is whole whenever its writer dies.
const SIZE: usize = 2048;

/// What is known of a connection beside its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Between whom it is.
    pub begin: Begin,
    /// The node's name: its number may be another's by then.
    pub node: Option<String>,
    /// How names of its files begin; none if there are no files.
    pub stem: Option<String>,
    /// How much there was.
    pub counts: Counts,
}

/// Such a file.
pub struct Marker {
    path: PathBuf,
    mark: Mark,
    /// Whether what it says is on the disk.
    is_kept: bool,
}

impl Marker {
    /// Writes down that connection `conn` is being recorded. What the disk does not take is tried again.
    pub fn create(dir: &Path, conn: u64, mark: Mark) -> Marker {
        let mut marker = Marker { path: dir.join(format!("{conn:016x}")), mark, is_kept: false };
        marker.write();
        marker
    }

    /// Writes down how much there was so far.
    pub fn update(&mut self, counts: &Counts) {
        if self.is_kept && self.mark.counts == *counts {
            return;
        }
        self.mark.counts = counts.clone();
        self.write();
    }

    /// The connection is over.
    pub fn remove(self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "a connection that is over may be ended once more");
            }
            _ => {}
        }
    }

    fn write(&mut self) {
        // What it says has a form in JSON.
        let Ok(text) = serde_json::to_string(&self.mark) else { return };
        let text = format!("{text:<width$}\n", width = SIZE - 1);
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let written = options.open(&self.path).and_then(|file| file.write_all_at(text.as_bytes(), 0));
        self.is_kept = written.is_ok();
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.path.display(), "who follows will not know of a connection");
        }
    }
}

/// The connections that another process was recording; at most `most`. None of them is known to whoever asks again: a
/// recording that nobody can go on with is tried once.
///
/// # Errors
/// If the directory cannot be listed.
pub fn take(dir: &Path, most: usize) -> io::Result<Vec<(u64, Mark)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let conn = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
        if let Some(conn) = conn.filter(|_| found.len() < most) {
            found.extend(read(&entry.path()).ok().map(|mark| (conn, mark)));
        }
        fs::remove_file(entry.path())?;
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Mark> {
    let mut text = Vec::new();
    open_regular(path)?.take(SIZE as u64).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
