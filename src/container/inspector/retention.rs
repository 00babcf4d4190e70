//! Evidence is kept until it is old or there is too much of it; the oldest goes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode as Bits, OFlags};

use super::archive::{SAMPLES, UNFINISHED, is_archive, is_sample};
use super::limits::Limits;
use super::listing::{self, listing_of};
use super::tree;
use crate::event::Utc;

/// Seconds after which an unfinished file is nobody's any more.
const UNFINISHED_SECS: i64 = 3600;
/// Entries of the directory that are looked at.
const ENTRIES: usize = 1_000_000;

/// What went.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pruned {
    /// Names of archives.
    pub archives: Vec<String>,
    /// How many listings.
    pub listings: u64,
    /// How many samples.
    pub samples: u64,
    /// Octets of both.
    pub octets: u64,
    /// Octets that are left.
    pub left: u64,
}

/// In the order in which they go, of those that were taken at the same time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Archive,
    Listing,
    Sample,
}

impl Sort {
    fn has(self, name: &str) -> bool {
        match self {
            Sort::Archive => is_archive(name),
            Sort::Listing => listing_of(name).is_some(),
            Sort::Sample => is_sample(name),
        }
    }
}

/// The same for what lies in the directory of evidence at `path` while nobody adds to it. That there is none is no error.
///
/// # Errors
/// If it cannot be opened or listed.
pub fn forget(path: &Path, limits: &Limits, now: Utc) -> io::Result<Pruned> {
    let open = |at: BorrowedFd<'_>, path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(at, path, flags, Bits::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        }
    };
    let Some(directory) = open(rustix::fs::CWD, path)? else { return Ok(Pruned::default()) };
    let Some(samples) = open(directory.as_fd(), Path::new(SAMPLES))? else { return Ok(Pruned::default()) };
    prune(directory.as_fd(), samples.as_fd(), limits, now, &[])
}

struct Kept<'a> {
    directory: BorrowedFd<'a>,
    name: String,
    written: i64,
    octets: u64,
    sort: Sort,
}

/// Removes archives, listings and samples that are older than `limits.age_secs` at the time `now`, and then the oldest as long
/// as there are more octets than `limits.total`, but never `spared`. A sample is as old as the last archive that it
/// belongs to, and goes after that.
///
/// # Errors
/// If the directories cannot be listed.
pub fn prune(
    directory: BorrowedFd<'_>,
    samples: BorrowedFd<'_>,
    limits: &Limits,
    now: Utc,
    spared: &[&str],
) -> io::Result<Pruned> {
    let now = now.micros() / 1_000_000;
    let mut kept = Vec::new();
    // Where none was made there is no directory of them.
    let listings = listing::shelves(directory).ok();
    let listings = listings.as_ref().map(|listings| (listings.as_fd(), Sort::Listing));
    for (directory, sort) in [(directory, Sort::Archive), (samples, Sort::Sample)].into_iter().chain(listings) {
        let (names, _) = tree::names(&tree::directory(directory.as_fd(), b"")?, ENTRIES)?;
        for name in names.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
            let Ok(stat) = rustix::fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            // Samples have no other time, and all are held against each other: in a copy that does not keep the times of files all
            // begin anew, and nothing goes too early.
            let (written, octets) = (stat.st_mtime, u64::try_from(stat.st_size).unwrap_or(0));
            if name.starts_with(UNFINISHED) {
                if written < now - UNFINISHED_SECS {
                    let _ = rustix::fs::unlinkat(directory, &*name, AtFlags::empty());
                }
            } else if sort.has(&name) && !spared.contains(&&*name) {
                kept.push(Kept { directory, name, written, octets, sort });
            }
        }
    }
    kept.sort_by(|a, b| (a.written, a.sort, &a.name).cmp(&(b.written, b.sort, &b.name)));
    let size = |name: &&str| {
        rustix::fs::statat(directory, *name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_size as u64)
    };
    let spared: u64 = spared.iter().map(size).sum();
    let mut pruned = Pruned { left: kept.iter().map(|kept| kept.octets).sum::<u64>() + spared, ..Pruned::default() };
    let oldest = now.saturating_sub(i64::try_from(limits.age_secs).unwrap_or(i64::MAX));
    for kept in kept {
        if kept.written >= oldest && pruned.left <= limits.total {
            break;
        }
        // If that fails, another inspector was faster.
        if rustix::fs::unlinkat(kept.directory, &*kept.name, AtFlags::empty()).is_ok() {
            match kept.sort {
                Sort::Archive => pruned.archives.push(kept.name),
                Sort::Listing => pruned.listings += 1,
                Sort::Sample => pruned.samples += 1,
            }
        }
        pruned.octets += kept.octets;
        pruned.left = pruned.left.saturating_sub(kept.octets);
    }
    Ok(pruned)
}
