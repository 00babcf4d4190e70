//! What somebody changed in a container: its overlay's upper directory held
//! against the image.
//!
//! First everything is listed, from the root down, by what is known without reading
//! (so that a flood of files somewhere deep hides nothing above it); then the files
//! are read, the smallest first (so that a few large ones keep out nothing else).
//! The overlay is that of a container that is frozen or dead, or at least it should
//! be: what changes meanwhile is said to, and hurts nothing.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::contents::Reading;
use super::limits::Limits;
use super::listing::Known;
use super::manifest::{Change, Counts, Cut, Differs, How, Kind, Sha256Hex, Why};
use super::name::Name;
use super::tree::{self, PATH_MAX};
use crate::event::Utc;
use crate::sys::clock;

/// Where something is cut, at most.
const CUTS: usize = 1000;

/// What became of contents that were offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// They are kept.
    Kept,
    /// They do not fit any more.
    Full,
    /// Contents are not kept at all.
    Unwanted,
}

/// Takes the contents of files.
pub trait Keep {
    /// Takes what was added or changed.
    ///
    /// # Errors
    /// If it cannot be written.
    fn content(&mut self, hash: Sha256Hex, octets: &[u8]) -> io::Result<Offer>;

    /// Takes an executable or a script.
    ///
    /// # Errors
    /// If it cannot be written.
    fn sample(&mut self, hash: Sha256Hex, octets: &[u8]) -> io::Result<()>;

    /// An executable or a script is still there that was taken before and is not read again.
    fn kept_before(&mut self, _hash: Sha256Hex) {}
}

/// Keeps nothing.
pub struct Nothing;

impl Keep for Nothing {
    fn content(&mut self, _: Sha256Hex, _: &[u8]) -> io::Result<Offer> {
        Ok(Offer::Unwanted)
    }

    fn sample(&mut self, _: Sha256Hex, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// What was found.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Diff {
    /// How many changes of each kind there are.
    pub counts: Counts,
    /// What is not told.
    pub cut: Vec<Cut>,
    /// The changes, by path.
    pub changes: Vec<Change>,
}

/// What in an overlay is honeyweave's own.
#[derive(Clone, Copy, Default)]
pub struct Ours<'a> {
    /// What last changed before that.
    pub prepared: Option<Utc>,
    /// Inodes that last changed then.
    pub late: &'a [(u64, Utc)],
}

impl Ours<'_> {
    fn is(&self, meta: &Metadata) -> bool {
        let (inode, changed) = (meta.ino(), tree::ctime(meta));
        self.prepared.is_some_and(|prepared| changed < prepared) || self.late.contains(&(inode, changed))
    }
}

/// Lists how the overlay with the upper directory `upper` differs from the image in the directory `lower`, and has
/// `keep` take the contents of files. What is honeyweave's own (`ours`) is passed over.
///
/// # Errors
/// If one of the two directories cannot be read at all, or `keep` fails.
pub fn compare(
    upper: impl AsFd,
    lower: impl AsFd,
    ours: Ours<'_>,
    limits: &Limits,
    keep: &mut dyn Keep,
) -> io::Result<Diff> {
    let found = compare_at_rest(upper, lower, ours, (limits, &Known::nothing()), &|| true, keep)?;
    found.ok_or_else(|| io::Error::other("it rests for good and does not"))
}

/// The same for as long as the container `rests`: if it goes on before everything is listed there is no list, and if it
/// does before all is read, files after that have no hash. What is `known` is not read again.
///
/// # Errors
/// As [`compare`].
pub(super) fn compare_at_rest(
    upper: impl AsFd,
    lower: impl AsFd,
    ours: Ours<'_>,
    (limits, known): (&Limits, &Known<'_>),
    rests: &dyn Fn() -> bool,
    keep: &mut dyn Keep,
) -> io::Result<Option<Diff>> {
    let (upper, lower) = (tree::directory(upper, b"")?, tree::directory(lower, b"")?);
    let mut walk = Walk {
        ours,
        limits,
        diff: Diff::default(),
        pending: VecDeque::from([Pending { path: vec![], below: true }]),
        links: HashMap::new(),
        seen: 0,
    };
    while let Some(next) = walk.pending.pop_front() {
        walk.directory(&upper, &lower, next);
        if !rests() {
            return Ok(None);
        }
    }
    let Walk { mut diff, .. } = walk;
    let until = clock::monotonic_micros().saturating_add_unsigned(limits.read_secs.saturating_mul(1_000_000));
    let reading = Reading { upper: &upper, lower: &lower, limits, known, rests, left: limits.read, until, keep };
    reading.read_all(&mut diff)?;
    diff.changes.sort_by(|a, b| a.path.cmp(&b.path));
    for change in &diff.changes {
        *match change.change {
            How::Added => &mut diff.counts.added,
            How::Changed => &mut diff.counts.changed,
            How::Deleted => &mut diff.counts.deleted,
        } += 1;
    }
    Ok(Some(diff))
}

/// A directory that is to be looked at.
struct Pending {
    path: Vec<u8>,
    /// Whether the image shows through what contains it.
    below: bool,
}

struct Walk<'a> {
    ours: Ours<'a>,
    limits: &'a Limits,
    diff: Diff,
    pending: VecDeque<Pending>,
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), Name>,
    seen: usize,
}

/// A path as it is told.
fn shown(path: &[u8]) -> Name {
    Name::new([b"/", path].concat())
}

/// A path as it is opened.
pub(super) fn opened(name: &Name) -> &[u8] {
    name.as_bytes().strip_prefix(b"/").unwrap_or(name.as_bytes())
}

impl Walk<'_> {
    fn cut(&mut self, path: &[u8], why: Why) {
        if self.diff.cut.len() < CUTS {
            self.diff.cut.push(Cut { path: shown(path), why });
        }
    }

    /// Whether there is room for another change.
    fn has_room(&self) -> bool {
        self.diff.changes.len() < self.limits.changes && self.seen < self.limits.changes.saturating_mul(4)
    }

    fn push(&mut self, change: Change) {
        if self.diff.changes.len() < self.limits.changes {
            self.diff.changes.push(change);
        }
    }

    fn directory(&mut self, upper: &File, lower: &File, Pending { path, below }: Pending) {
        let opened = tree::directory(upper, &path).and_then(|dir| Ok((dir.metadata()?, dir)));
        let (meta, dir) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.cut(&path, unreadable(&error)),
        };
        let mark = tree::overlay_attribute(&dir, "opaque");
        let opaque = mark.as_deref() == Some(b"y");
        let old = if below { tree::look(lower, &path).ok() } else { None };
        let old_dir = if below && !opaque { tree::directory(lower, &path).ok() } else { None };
        if !path.is_empty() {
            self.judge_directory(&path, &meta, old.as_ref().map(|found| &found.meta), opaque);
        }
        let (names, more) = match tree::names(&dir, self.limits.per_directory) {
            Ok(names) => names,
            Err(error) => return self.cut(&path, unreadable(&error)),
        };
        if more {
            self.cut(&path, Why::TooManyEntries);
        }
        for name in names {
            if !self.has_room() {
                self.pending.clear();
                return self.cut(&path, Why::TooManyChanges);
            }
            self.seen += 1;
            let path = if path.is_empty() { name.clone() } else { [&path, &b"/"[..], &name].concat() };
            if path.len() >= PATH_MAX {
                self.cut(&path[..PATH_MAX / 2], Why::PathTooLong);
                continue;
            }
            let found = match tree::look(&dir, &name) {
                Ok(found) => found,
                Err(error) => {
                    self.cut(&path, unreadable(&error));
                    continue;
                }
            };
            if found.meta.is_dir() {
                self.pending.push_back(Pending { path, below: old_dir.is_some() });
                continue;
            }
            let old = old_dir.as_ref().and_then(|dir| tree::look(dir, &name).ok());
            // A regular file can be one, too, in a directory that says so.
            let whiteout = tree::is_whiteout(&found.meta)
                || mark.as_deref() == Some(b"x")
                    && found.meta.is_file()
                    && found.meta.size() == 0
                    && tree::file(&dir, &name).is_ok_and(|file| tree::overlay_attribute(&file, "whiteout").is_some());
            match (whiteout, old) {
                (true, Some(old)) => self.push(Change {
                    path: shown(&path),
                    change: How::Deleted,
                    differs: vec![],
                    entry: tree::entry(&old.meta),
                    opaque: false,
                    target: tree::target(&old).ok().filter(|_| old.meta.is_symlink()).map(Name::new),
                    same_as: None,
                    sha256: None,
                    kept: false,
                    sample: false,
                    why: None,
                    was: None,
                }),
                (true, None) => {}
                (false, old) => self.judge(&path, &found, old.as_ref()),
            }
        }
    }

    fn judge_directory(&mut self, path: &[u8], meta: &Metadata, old: Option<&Metadata>, opaque: bool) {
        let entry = tree::entry(meta);
        let was = old.map(tree::entry);
        let mut differs = Vec::new();
        if let Some(was) = &was {
            for (differ, is) in [
                (Differs::Kind, was.kind != Kind::Directory),
                (Differs::Mode, was.mode != entry.mode),
                (Differs::Owner, (was.uid, was.gid) != (entry.uid, entry.gid)),
            ] {
                if is {
                    differs.push(differ);
                }
            }
            // It is in the overlay because of what it contains.
            if differs.is_empty() && !opaque {
                return;
            }
        } else if self.is_ours(meta) {
            return;
        }
        let change = if was.is_some() { How::Changed } else { How::Added };
        // That nothing of the image shows through matters only where there would be something.
        let opaque = opaque && was.is_some();
        self.push(Change {
            path: shown(path),
            change,
            differs,
            entry,
            opaque,
            target: None,
            same_as: None,
            sha256: None,
            kept: false,
            sample: false,
            why: None,
            was,
        });
    }

    /// Whether nobody inside had it in hand.
    fn is_ours(&mut self, meta: &Metadata) -> bool {
        let ours = self.ours.is(meta);
        self.diff.counts.passed_over += u64::from(ours);
        ours
    }

    fn judge(&mut self, path: &[u8], found: &tree::Found, old: Option<&tree::Found>) {
        if self.is_ours(&found.meta) {
            return;
        }
        let entry = tree::entry(&found.meta);
        let target = |found: &tree::Found| found.meta.is_symlink().then(|| tree::target(found).ok()).flatten();
        let leads = target(found);
        let was = old.map(|old| tree::entry(&old.meta));
        let mut differs = Vec::new();
        if let (Some(was), Some(old)) = (&was, old) {
            // What is of the same size is read later.
            let content = was.kind == entry.kind
                && (entry.kind == Kind::File && was.size != entry.size
                    || target(old) != leads
                    || was.device != entry.device);
            for (differ, is) in [
                (Differs::Kind, was.kind != entry.kind),
                (Differs::Content, content),
                (Differs::Mode, was.mode != entry.mode),
                (Differs::Owner, (was.uid, was.gid) != (entry.uid, entry.gid)),
                (Differs::Time, was.mtime != entry.mtime),
            ] {
                if is {
                    differs.push(differ);
                }
            }
        }
        let mut same_as = None;
        if found.meta.nlink() > 1 {
            match self.links.entry((found.meta.dev(), found.meta.ino())) {
                Slot::Occupied(first) => same_as = Some(first.get().clone()),
                Slot::Vacant(place) => drop(place.insert(shown(path))),
            }
        }
        self.push(Change {
            path: shown(path),
            change: if was.is_some() { How::Changed } else { How::Added },
            differs,
            entry,
            opaque: false,
            target: leads.map(Name::new),
            same_as,
            sha256: None,
            kept: false,
            sample: false,
            why: None,
            was,
        });
    }
}

pub(super) fn unreadable(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => Why::ChangedMeanwhile,
        _ => Why::Unreadable,
    }
}
