//! A file that only grows, by whole pieces.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A file to which pieces are appended whole or not at all: a piece that did not
/// fit (a full disk) is taken back before the next one is written.
#[derive(Debug)]
pub struct Appender {
    file: File,
    len: u64,
    torn: bool,
}

impl Appender {
    /// Creates `path`, which must not exist, for its owner alone.
    pub fn create(path: &Path) -> io::Result<Appender> {
        let file = options().create_new(true).open(path)?;
        Ok(Appender { file, len: 0, torn: false })
    }

    /// Opens `path`, which must exist and be a regular file, cutting it to `len` octets if it is longer.
    pub fn reopen(path: &Path, len: u64) -> io::Result<Appender> {
        let file = options().open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if meta.len() > len {
            file.set_len(len)?;
        }
        Ok(Appender { file, len: len.min(meta.len()), torn: false })
    }

    /// Opens a file of lines at `path`, which must exist, to go on with it behind its last whole line: who wrote it may
    /// have been killed in the midst of one.
    pub fn reopen_lines(path: &Path) -> io::Result<Appender> {
        let file = open_regular(path)?;
        let mut end = file.metadata()?.len();
        let mut piece = vec![0; 64 << 10];
        while end > 0 {
            let start = end.saturating_sub(piece.len() as u64);
            let read = piece.get_mut(..(end - start) as usize).unwrap_or_default();
            file.read_exact_at(read, start)?;
            if let Some(at) = read.iter().rposition(|octet| *octet == b'\n') {
                return Appender::reopen(path, start + at as u64 + 1);
            }
            end = start;
        }
        Appender::reopen(path, 0)
    }

    /// Octets of whole pieces.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `piece`, or nothing of it.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        match self.file.write_all(piece) {
            Ok(()) => {
                self.len += piece.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.len).is_err();
                Err(error)
            }
        }
    }

    /// Whether nobody can find it any more: someone has deleted it while it is open.
    pub fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Waits until the disk has it.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether that is because there is no room: only then does it help to delete something.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Opens `path` for reading: no link is followed and no pipe waited for, as whoever reads may be root, and the directory
/// another's.
///
/// # Errors
/// What the file system says; that it is no regular file is one.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // What the system says of that is about loops.
        Some(libc::ELOOP) => io::Error::other("a symbolic link, which is not followed"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

// Another process's link in the state directory must not lead our writes elsewhere.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options
}
