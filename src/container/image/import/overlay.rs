//! What a container changed: the upper directory of its overlay, laid over a copy
//! of what was below. Intruders wrote it and may still be writing, so every step
//! goes from one open directory to the next and follows no link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use super::archive::Bounded;
use super::unpack::Tally;
use super::{Limits, ReadError, bad, shown};
use crate::container::image::root::{Attributes, MAX_DEPTH, Root, names, open_here};

/// Marks a folder that hides what is below it; inside a user namespace the second.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Lays the upper directory `upper` over `root`.
///
/// # Errors
/// If it cannot be read, is larger than `left`, or the disk is full.
pub fn lay(upper: OwnedFd, root: &Root, left: &mut Limits) -> Result<Tally, ReadError> {
    let mut laying = Laying { root, left, tally: Tally::default(), links: Vec::new() };
    laying.folder(&upper, Path::new(""), 0)?;
    Ok(laying.tally)
}

struct Laying<'l> {
    root: &'l Root,
    left: &'l mut Limits,
    tally: Tally,
    /// Files with several names: device, number, first name.
    links: Vec<(u64, u64, PathBuf)>,
}

impl Laying<'_> {
    fn folder(&mut self, from: &OwnedFd, path: &Path, depth: usize) -> Result<(), ReadError> {
        let here = || format!("`/{}` of the overlay", shown(path.as_os_str().as_bytes()));
        if depth > MAX_DEPTH {
            return Err(bad!("{} lies too deep", here()));
        }
        for name in names(from).map_err(ReadError::io(format!("cannot list {}", here())))? {
            let path = path.join(&name);
            let what = || format!("`/{}` of the overlay", shown(path.as_os_str().as_bytes()));
            self.left.members = self.left.members.checked_sub(1).ok_or_else(|| bad!("it has too many files"))?;
            // What vanishes while it is being looked at was not there.
            let Ok(stat) = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    let Ok(inner) = open_here(from, &name, flags) else { continue };
                    let put = if is_opaque(&inner) { self.root.remove(&path) } else { Ok(()) };
                    put.and_then(|()| self.root.put_folder(&path, &attributes(&stat, None)))
                        .map_err(ReadError::io(format!("cannot make {}", what())))?;
                    self.tally.made += 1;
                    self.folder(&inner, &path, depth + 1)?;
                    // What was put into it made it look new.
                    let _ = self.root.touch(&path, stat.st_mtime);
                }
                FileType::RegularFile => self.file(from, &name, &path)?,
                FileType::Symlink => {
                    let Ok(target) = rustix::fs::readlinkat(from, &name, Vec::new()) else { continue };
                    let target = OsStr::from_bytes(target.as_bytes());
                    let put = self.root.put_link(&path, target, &attributes(&stat, None));
                    put.map_err(ReadError::io(format!("cannot make {}", what())))?;
                    self.tally.made += 1;
                }
                // A whiteout: what is below is gone.
                FileType::CharacterDevice if stat.st_rdev == 0 => {
                    self.root.remove(&path).map_err(ReadError::io(format!("cannot remove {}", what())))?;
                }
                FileType::CharacterDevice | FileType::BlockDevice => self.tally.devices += 1,
                _ => self.tally.others += 1,
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), ReadError> {
        let what = || format!("`/{}` of the overlay", shown(path.as_os_str().as_bytes()));
        // Another may stand there by now: what was opened counts.
        let Ok(file) = open_here(from, name, OFlags::RDONLY | OFlags::NONBLOCK) else { return Ok(()) };
        let Ok(stat) = rustix::fs::fstat(&file) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let (device, number) = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some((.., first)) = self.links.iter().find(|known| (known.0, known.1) == (device, number)) {
                let attributes = attributes(&stat, None);
                let put = self.root.put_second_name(path, first, &attributes);
                put.map_err(ReadError::io(format!("cannot make {}", what())))?;
                self.tally.made += 1;
                return Ok(());
            }
            // More are copied: they are equal then, but not one.
            if self.links.len() < 10_000 {
                self.links.push((device, number, path.to_owned()));
            }
        }
        let attributes = attributes(&stat, capability(&file));
        let mut content = Bounded { source: File::from(file).take(stat.st_size as u64), left: self.left.octets };
        let octets = self.root.put_file(path, &attributes, &mut content);
        let octets = octets.map_err(ReadError::io(format!("cannot copy {}", what())))?;
        self.left.octets = content.left;
        self.tally.octets += octets;
        self.tally.made += 1;
        Ok(())
    }
}

fn attributes(stat: &Stat, capability: Option<Vec<u8>>) -> Attributes {
    let mode = stat.st_mode & 0o7777;
    Attributes { mode, uid: stat.st_uid, gid: stat.st_gid, mtime: stat.st_mtime, capability }
}

fn is_opaque(folder: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0u8; 4];
        matches!(rustix::fs::fgetxattr(folder, *name, &mut value), Ok(1)) && value[0] == b'y'
    })
}

fn capability(file: &OwnedFd) -> Option<Vec<u8>> {
    let mut value = [0u8; 64];
    let len = rustix::fs::fgetxattr(file, "security.capability", &mut value).ok()?;
    value.get(..len).map(<[u8]>::to_vec)
}
