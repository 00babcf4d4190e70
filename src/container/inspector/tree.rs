//! Looking at a tree that somebody else arranged: nothing is followed, nothing is
//! opened that does something when it is opened, and no way leads out.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{Mode as Bits, OFlags, RawDir, ResolveFlags};

use super::manifest::{Entry, Kind, Mode};
use crate::container::id_inside;
use crate::event::Utc;

/// The longest path that a kernel takes, with the zero octet at its end.
pub const PATH_MAX: usize = 4096;

/// Something in the tree, held without being opened.
pub struct Found {
    /// Refers to it, and can do no more than that.
    pub handle: File,
    /// What it is.
    pub meta: Metadata,
}

fn open(at: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    // Neither a link, whoever made it and when, nor `..` leads anywhere.
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.is_empty() { b"." } else { path };
    Ok(rustix::fs::openat2(at, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Bits::empty(), inside)?)
}

/// What is at `path` below the directory `at` (empty: the directory itself).
pub fn look(at: impl AsFd, path: &[u8]) -> io::Result<Found> {
    let handle = File::from(open(at, path, OFlags::PATH)?);
    let meta = handle.metadata()?;
    Ok(Found { handle, meta })
}

/// Opens the directory at `path` below the directory `at`.
pub fn directory(at: impl AsFd, path: &[u8]) -> io::Result<File> {
    Ok(File::from(open(at, path, OFlags::RDONLY | OFlags::DIRECTORY)?))
}

/// Opens the regular file at `path` below the directory `at`. A pipe or device that took its place
/// meanwhile is not waited for, and is an error.
pub fn file(at: impl AsFd, path: &[u8]) -> io::Result<File> {
    // Opening some devices does something; whether it is one is known before, but for a race that a frozen or dead
    // container cannot win. Without blocking, a pipe that has won it costs nothing.
    let found = look(&at, path)?;
    if !found.meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::from(open(at, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    let meta = file.metadata()?;
    if (meta.dev(), meta.ino()) != (found.meta.dev(), found.meta.ino()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is another one now"));
    }
    Ok(file)
}

/// The names in a directory, sorted, at most `limit`, and whether there are more.
pub fn names(directory: &File, limit: usize) -> io::Result<(Vec<Vec<u8>>, bool)> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut more = false;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() >= limit {
            more = true;
            break;
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok((names, more))
}

/// Where a symbolic link leads.
pub fn target(link: &Found) -> io::Result<Vec<u8>> {
    let mut buffer = [MaybeUninit::uninit(); PATH_MAX];
    let (read, _) = rustix::fs::readlinkat_raw(&link.handle, "", &mut buffer)?;
    Ok(read.to_vec())
}

/// The value of one of overlayfs' own attributes of an open file or directory, by whichever of its two prefixes.
pub fn overlay_attribute(file: &File, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 16];
    // `user` for an overlay mounted in a user namespace, `trusted` (which needs rights to be seen) for others.
    ["user", "trusted"].iter().find_map(|prefix| {
        let length = rustix::fs::fgetxattr(file, format!("{prefix}.overlay.{name}"), &mut value[..]).ok()?;
        Some(value.get(..length)?.to_vec())
    })
}

/// Reads `file` to its end or up to `limit` octets, by pieces, for as long as `piece` wants more. Returns how many there
/// were.
pub fn read(mut file: &File, limit: u64, mut piece: impl FnMut(&[u8]) -> bool) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    while total < limit {
        let most = buffer.len().min(usize::try_from(limit - total).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(n) => {
                total += n as u64;
                if !piece(&buffer[..n]) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn time(seconds: i64, nanos: i64) -> Utc {
    Utc::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

/// When anything about it last changed.
pub fn ctime(meta: &Metadata) -> Utc {
    time(meta.ctime(), meta.ctime_nsec())
}

/// What is told of it.
pub fn entry(meta: &Metadata) -> Entry {
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_char_device() => Kind::CharDevice,
        () if kind.is_block_device() => Kind::BlockDevice,
        () => Kind::Unknown,
    };
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice)
        .then(|| (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())));
    Entry {
        kind,
        size: meta.size(),
        allocated: meta.blocks().saturating_mul(512),
        mode: Mode((meta.mode() & 0o7777) as u16),
        uid: id_inside(meta.uid()),
        gid: id_inside(meta.gid()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: ctime(meta),
        device,
    }
}

/// Whether it stands for something that was deleted.
pub fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}
