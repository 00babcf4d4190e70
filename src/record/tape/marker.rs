//! Which connections are being recorded, for the process that goes on with them if this one dies: for each of them a
//! small file beside the directories of sessions, which is gone when the connection is over.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::channel::More;
use super::recording::Counts;
use crate::record::open_regular;
use crate::relay::tape::Begin;

/// Octets of such a file: it is overwritten in one piece, so that it is whole whenever its writer dies.
/// One page is.
const SIZE: usize = 4096;
/// Channels of which it has room for what is beyond their limits.
const MORE: usize = 24;

/// What the name of one ends in that somebody tries to go on with.
const TRYING: &str = "trying";

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
    /// How much of each channel is beyond its limit, where some is: of the first ones that are open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<(u32, More)>,
    /// Microseconds from its beginning to the last thing that happened.
    pub last: u64,
    /// When it began, by the clock that nobody sets, in microseconds.
    #[serde(default)]
    pub began: Option<i64>,
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
        let mut marker = Marker { path: dir.join(name(conn)), mark, is_kept: false };
        marker.write();
        marker
    }

    /// Writes down how much there was so far, and when something happened last.
    pub fn update(&mut self, counts: &Counts, more: impl Iterator<Item = (u32, More)>, last: u64) {
        let more: Vec<_> = more.take(MORE).collect();
        if self.is_kept && self.mark.counts == *counts && self.mark.last == last && self.mark.more == more {
            return;
        }
        (self.mark.counts, self.mark.more) = (counts.clone(), more);
        self.mark.last = last;
        self.write();
    }

    /// Somebody tries to go on with connection `conn`. Until [`Marker::tried`] nobody else does: what kills one process would kill
    /// each that follows.
    pub fn trying(dir: &Path, conn: u64) -> PathBuf {
        let trying = dir.join(format!("{}.{TRYING}", name(conn)));
        if let Err(error) = fs::rename(dir.join(name(conn)), &trying) {
            tracing::debug!(%error, conn, "a connection is not known to be tried");
        }
        trying
    }

    /// It went well.
    pub fn tried(trying: PathBuf) {
        remove(&trying);
    }

    /// The connection is over.
    pub fn remove(self) {
        remove(&self.path);
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

/// The connections that another process was recording; at most `most`.
///
/// # Errors
/// If the directory cannot be listed.
pub fn all(dir: &Path, most: usize) -> io::Result<Vec<(u64, Mark)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let of = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
        match of.filter(|_| found.len() < most).and_then(|conn| Some((conn, read(&entry.path()).ok()?))) {
            Some(mark) => found.push(mark),
            // What is none, or was tried, is of no use to anybody.
            None => remove(&entry.path()),
        }
    }
    Ok(found)
}

fn name(conn: u64) -> String {
    format!("{conn:016x}")
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "who follows may go on with a connection that is over");
        }
        _ => {}
    }
}

fn read(path: &Path) -> io::Result<Mark> {
    let mut text = Vec::new();
    open_regular(path)?.take(SIZE as u64).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
