//! The form in which evidence is kept, and writing it.
//!
//! ```text
//! STATE/NAME/evidence/20260131T235959Z-10.1.0.10-7.tar.zst
//!     files/SHA256     contents, one entry however many paths have them
//!     manifest.json    which paths those are, and everything else; the last entry
//! STATE/NAME/evidence/samples/SHA256.zst
//!     an executable or a script, once for all archives
//! ```
//! Names that an attacker chose are in the manifest only. So unpacking an archive, with
//! whatever program, writes nothing where it does not belong, makes no link and no
//! device, and makes nothing executable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode as Bits, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps};

use super::diff::{Keep, Offer};
use super::manifest::{Contents, Manifest, Sha256Hex};
use super::samples::Samples;
use super::tree;
use crate::event::Utc;

/// What an archive's name ends in.
pub const ENDING: &str = ".tar.zst";
/// The directory of samples.
pub const SAMPLES: &str = "samples";
/// What a sample's name ends in.
pub const SAMPLE_ENDING: &str = ".zst";
/// What the name of an unfinished file begins with.
pub const UNFINISHED: &str = ".tmp-";
/// The last entry of an archive.
pub const MANIFEST: &str = "manifest.json";
/// Where the other entries are.
pub const FILES: &str = "files/";
/// Fast enough not to keep a container from being removed.
pub(super) const LEVEL: i32 = 3;
/// Archives of one host and number in one second.
const SAME_SECOND: u32 = 1000;

/// The beginning of an archive's name: when it was taken, the host and the container's number.
pub fn stem(taken: Utc, host: IpAddr, number: u32) -> String {
    // A colon would make `tar` and `scp` look for another machine.
    format!("{}-{}-{number}", taken.compact(), host.to_string().replace(':', "_"))
}

/// Whether `name` is one that archives have.
pub fn is_archive(name: &str) -> bool {
    host_of(name).is_some()
}

/// The host and the number in the name of an archive.
pub fn host_of(name: &str) -> Option<(IpAddr, &str)> {
    let (taken, rest) = name.strip_suffix(ENDING)?.split_once('-')?;
    let (host, number) = rest.rsplit_once('-')?;
    let is_time = taken.len() == 16
        && taken.bytes().zip(b"00000000T000000Z").all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == *s });
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (is_time && is_number).then(|| Some((host.replace('_', ":").parse().ok()?, number)))?
}

/// When the archive `name` was taken, to the second. Its name says that wherever it is copied to; the file's own time is
/// that of the copy.
pub fn taken_of(name: &str) -> Option<Utc> {
    host_of(name)?;
    let part = |from: usize, to: usize| name.get(from..to);
    let day = format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?);
    format!("{day}T{}:{}:{}.000000Z", part(9, 11)?, part(11, 13)?, part(13, 15)?).parse().ok()
}

/// Whether `name` is one that samples have.
pub fn is_sample(name: &str) -> bool {
    name.strip_suffix(SAMPLE_ENDING).is_some_and(|hash| Sha256Hex::parse(hash).is_some())
}

/// Creates `name`, which must not be there, for its owner alone.
pub(super) fn create(directory: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(File::from(rustix::fs::openat2(directory, name, flags, Bits::RUSR | Bits::WUSR, inside)?))
}

/// An archive in the making. What is not [finished](Writer::finish) leaves nothing but samples.
pub struct Writer<'a> {
    directory: BorrowedFd<'a>,
    samples: Samples<'a>,
    stem: String,
    taken: Utc,
    contents: Contents,
    /// Octets of contents that still fit.
    room: u64,
    tar: Option<tar::Builder<zstd::Encoder<'static, File>>>,
    have: BTreeSet<Sha256Hex>,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The archive's name.
    pub name: String,
    /// Its octets.
    pub octets: u64,
    /// Samples that were not there before.
    pub new_samples: u64,
}

impl<'a> Writer<'a> {
    /// Begins one in `directory`, with samples in `samples`; `room` octets of contents fit, and as many of new samples.
    ///
    /// # Errors
    /// If the disk is full or the directories cannot be written.
    pub fn new(
        directory: BorrowedFd<'a>,
        samples: BorrowedFd<'a>,
        stem: String,
        taken: Utc,
        contents: Contents,
        room: u64,
    ) -> io::Result<Writer<'a>> {
        // What an inspector that was killed has left under that name.
        let _ = rustix::fs::unlinkat(directory, format!("{UNFINISHED}{stem}"), AtFlags::empty());
        let file = create(directory, &format!("{UNFINISHED}{stem}"))?;
        let tar = Some(tar::Builder::new(zstd::Encoder::new(file, LEVEL)?));
        let samples = Samples::new(samples, stem.clone(), taken, room);
        Ok(Writer { directory, samples, stem, taken, contents, room, tar, have: BTreeSet::new() })
    }

    fn append(&mut self, name: &str, octets: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(octets.len() as u64);
        header.set_mode(0o400);
        header.set_mtime(u64::try_from(self.taken.micros() / 1_000_000).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        match &mut self.tar {
            Some(tar) => tar.append(&header, octets),
            None => Err(io::Error::other("the archive is finished")),
        }
    }

    /// Writes the manifest and gives the archive its name.
    ///
    /// # Errors
    /// If the disk is full; then nothing is left.
    pub fn finish(mut self, manifest: &Manifest) -> io::Result<Written> {
        let text = serde_json::to_vec_pretty(manifest)?;
        self.append(MANIFEST, &text)?;
        let tar = self.tar.take().ok_or_else(|| io::Error::other("the archive is finished"))?;
        let file = tar.into_inner().and_then(zstd::Encoder::finish);
        let named = file.and_then(|file| {
            file.sync_all()?;
            Ok((file.metadata()?.len(), self.name()?))
        });
        let (octets, name) = match named {
            Ok(named) => named,
            Err(error) => {
                let _ = rustix::fs::unlinkat(self.directory, self.unfinished(), AtFlags::empty());
                return Err(error);
            }
        };
        // Behind the archive, so that of both it is the archive that goes first when room is needed.
        self.samples.touch();
        let now = Timespec { tv_sec: self.taken.micros() / 1_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(self.directory, &*name, &times, AtFlags::SYMLINK_NOFOLLOW);
        // The descriptor that it was handed may be one that only stands for the directory.
        tree::directory(self.directory, b"")?.sync_all()?;
        Ok(Written { name, octets, new_samples: self.samples.new })
    }

    fn unfinished(&self) -> String {
        format!("{UNFINISHED}{}", self.stem)
    }

    /// Renames it to a name that is free.
    fn name(&self) -> io::Result<String> {
        let from = self.unfinished();
        for number in 0..SAME_SECOND {
            let more = if number == 0 { String::new() } else { format!(".{number}") };
            let name = format!("{}{more}{ENDING}", self.stem);
            match rustix::fs::renameat_with(self.directory, &*from, self.directory, &*name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(name),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("there are too many archives of that host and second"))
    }
}

impl Keep for Writer<'_> {
    fn content(&mut self, hash: Sha256Hex, octets: &[u8]) -> io::Result<Offer> {
        if self.contents == Contents::Samples {
            return Ok(Offer::Unwanted);
        }
        if self.have.contains(&hash) {
            return Ok(Offer::Kept);
        }
        let Some(room) = self.room.checked_sub(octets.len() as u64) else { return Ok(Offer::Full) };
        self.append(&format!("{FILES}{hash}"), octets)?;
        self.room = room;
        self.have.insert(hash);
        Ok(Offer::Kept)
    }

    fn sample(&mut self, hash: Sha256Hex, octets: &[u8]) -> io::Result<()> {
        self.samples.sample(hash, octets)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.tar.is_some() {
            let _ = rustix::fs::unlinkat(self.directory, self.unfinished(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archives_name_says_when_it_was_taken() {
        for host in ["10.0.0.1", "2001:db8::1"] {
            let taken: Utc = "2026-01-31T23:59:58.765432Z".parse().unwrap();
            let name = stem(taken, host.parse().unwrap(), 7) + ENDING;
            assert_eq!(taken_of(&name).unwrap().to_string(), "2026-01-31T23:59:58.000000Z");
        }
        for name in ["20261331T235959Z-10.0.0.1-7.tar.zst", "20260131T235959Z-10.0.0.1-7", "x", ""] {
            assert_eq!(taken_of(name), None, "{name}");
        }
    }
}
