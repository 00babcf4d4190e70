//! The disk of a container: a file system of its own in a file beside its directory,
//! as large as the container's limit. Whoever fills it meets what everybody with a
//! full disk meets, and the machine's own disk does not fill up.
//!
//! Quotas would be simpler, but kernels are built without them (ext4, XFS), or
//! they tell of themselves (`EDQUOT` of btrfs, and `df` showing the machine's disk).
//!
//! What all containers of a honeynet may write together is less than what is
//! free: when that gets scarce, new ones get smaller disks, and in the end none.

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::SeekFrom;

use crate::sys::mounts;

/// What the machine keeps of what is free.
const RESERVE: u64 = 1 << 30;
/// Among so many containers what can still be promised is shared, if there may be as many.
const SHARES: u64 = 64;
/// The smallest disk that is worth having.
pub const LEAST: u64 = 16 << 20;
/// The largest part of a blank disk's file that is copied: its file system's own structures.
const MOST_STRUCTURE: u64 = 64 << 20;
/// Where the state of an ext4 file system stands.
const STATE: u64 = 1024 + 0x3a;
/// The file of a disk that is nobody's yet.
const NEW: &str = ".disk-new";
/// Nothing of a disk has to outlive a crash of the machine, so nothing waits for the machine's.
const OPTIONS: &CStr = c"nobarrier,noauto_da_alloc,noinit_itable,errors=continue";

/// How containers of a honeynet get their disks.
#[derive(Debug)]
pub struct Disks {
    dir: PathBuf,
    /// Why there are no disks in files, if there are none: then they are in memory.
    broken: Option<String>,
    /// Attached in advance, which takes half of the time.
    spare: Option<Attached>,
    /// The size that the next one probably has.
    next: Option<u64>,
    /// One container gets at most this part of what can still be promised.
    shares: u64,
    /// The last size that was granted in place of a larger one, of which whoever runs the honeynet was told.
    smaller: Cell<Option<u64>>,
}

/// A block device that is not mounted yet, and vanishes when it is closed.
#[derive(Debug)]
struct Attached {
    device: File,
    path: PathBuf,
    size: u64,
}

impl Disks {
    /// For containers below `dir`, of which there are at most `count` at once, and the first of which probably are to have
    /// `limit` octets.
    pub fn new(dir: &Path, limit: Option<u64>, count: u64) -> Disks {
        let broken = match Path::new("/dev/loop-control").exists() {
            true => None,
            false => Some("there is no /dev/loop-control".to_owned()),
        };
        let shares = count.clamp(1, SHARES);
        let mut disks =
            Disks { dir: dir.to_owned(), broken, spare: None, next: None, shares, smaller: Cell::new(None) };
        // What they get may be less, and one of another size would be made while an attacker waits.
        disks.next = limit.and_then(|limit| disks.grant(limit, std::iter::empty()).ok());
        disks
    }

    /// How many octets the disk of a new container may have that is to have `limit`, beside those that are there
    /// (their directories and sizes).
    ///
    /// # Errors
    /// If the machine's disk is too full; the text says how full.
    pub fn grant<'a>(&self, limit: u64, others: impl Iterator<Item = (&'a Path, u64)>) -> Result<u64, String> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let promised = others.fold(0u64, |sum, (dir, size)| sum.saturating_add(size.saturating_sub(used(dir))));
        let size = granted(limit, free, promised, self.shares).ok_or_else(|| {
            format!(
                "the disk of {} is too full: {} MiB are free, of which containers may still fill {}, and {} are kept",
                self.dir.display(),
                free >> 20,
                promised >> 20,
                RESERVE >> 20
            )
        })?;
        if size < limit / 4096 * 4096 && self.smaller.replace(Some(size)) != Some(size) {
            tracing::warn!(
                mebibytes = size >> 20,
                limit = limit >> 20,
                free = free >> 20,
                promised = promised >> 20,
                "containers get smaller disks than their limit: {} has not enough room for {} such ones",
                self.dir.display(),
                self.shares
            );
        }
        Ok(size)
    }

    /// Makes the directory `dir` the root of an empty file system of `size` octets.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mount(&mut self, dir: &Path, size: u64) -> io::Result<()> {
        if self.broken.is_none() {
            match self.in_file(dir, size) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "containers have their disks in memory: a file cannot be one");
                    self.broken = Some(error.to_string());
                }
            }
        }
        let options = std::ffi::CString::new(format!("size={size},mode=711"))?;
        mounts::mount(Path::new("none"), dir, c"tmpfs", &options)
    }

    /// Gets the next disk ready, while nobody waits for it.
    pub fn refill(&mut self) {
        if let (None, None, Some(size)) = (&self.broken, &self.spare, self.next) {
            // What fails here fails again when it is needed, and is told then.
            self.next = None;
            self.spare = self.attach(size).ok();
        }
    }

    fn in_file(&mut self, dir: &Path, size: u64) -> io::Result<()> {
        let disk = match self.spare.take() {
            Some(spare) if spare.size == size => spare,
            _ => self.attach(size)?,
        };
        self.next = Some(size);
        fs::rename(self.dir.join(NEW), file_of(dir))?;
        let made = mounts::mount(&disk.path, dir, c"ext4", OPTIONS);
        drop(disk.device);
        made.inspect_err(|_| drop(fs::remove_file(file_of(dir))))?;
        let _ = fs::remove_dir(dir.join("lost+found"));
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o711))
    }

    fn attach(&self, size: u64) -> io::Result<Attached> {
        let blank = self.blank(size)?;
        let new = self.dir.join(NEW);
        // One of another size may still be there, and in use until it is closed.
        let _ = fs::remove_file(&new);
        let disk = File::options().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
        copy_data(&blank, &disk)?;
        disk.set_len(size)?;
        let (device, path) = mounts::attach(&disk)?;
        Ok(Attached { device, path, size })
    }

    /// The file system that disks of `size` octets begin as.
    fn blank(&self, size: u64) -> io::Result<File> {
        let path = self.dir.join(format!(".disk-{size}"));
        if let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        let making = self.dir.join(format!(".disk-{size}.new"));
        let file = File::options().create(true).write(true).truncate(true).open(&making)?;
        file.set_len(size)?;
        let features = "^has_journal,^resize_inode,uninit_bg";
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F", "-m", "0", "-O", features, "-E", "lazy_itable_init=1,nodiscard"]).arg(&making);
        let path_of_root = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let status = command.env("PATH", path_of_root).stdin(Stdio::null()).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(io::Error::other(format!("mkfs.ext4: {status}"))),
            Err(error) => return Err(io::Error::new(error.kind(), format!("mkfs.ext4: {error}"))),
        }
        fs::rename(&making, &path)?;
        File::open(&path)
    }

    /// Removes what it keeps.
    pub fn remove_blanks(dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".disk-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Removes a container's directory with its disk, all that is mounted there, and what is written down about it.
///
/// # Errors
/// If something of it cannot be removed; what was never there is no error.
pub fn remove(dir: &Path) -> io::Result<()> {
    // First: what is still mounted there would be emptied.
    mounts::unmount(dir)?;
    let files = ["json", "new", "disk"].map(|kind| fs::remove_file(dir.with_extension(kind)));
    for removed in files.into_iter().chain([fs::remove_dir_all(dir)]) {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Mounts the disk of `dir` again, if that is not there any more: a keeper that has mounts of its own takes them with it.
///
/// # Errors
/// If it was no file, or the kernel refuses.
pub fn restore(dir: &Path) -> io::Result<()> {
    if is_mounted(dir)? {
        return Ok(());
    }
    // It may just be on its way to the file. A second device would not know of that, and both would write.
    if let Some(device) = mounts::attached(&file_of(dir))
        && mounts::mount(&device, dir, c"ext4", OPTIONS).is_ok()
    {
        return Ok(());
    }
    let disk = File::options().read(true).write(true).open(file_of(dir))?;
    let (_device, path) = mounts::attach(&disk)?;
    mounts::mount(&path, dir, c"ext4", OPTIONS)
}

/// Takes the disk of `dir` away, if it is a file: what is on it is safe from then on.
///
/// # Errors
/// If the kernel refuses.
pub fn rest(dir: &Path) -> io::Result<()> {
    if file_of(dir).exists() { mounts::unmount(dir) } else { Ok(()) }
}

/// Whether the disk of `dir`, which is mounted nowhere, was left in order.
pub fn is_clean(dir: &Path) -> bool {
    // ext4 clears this bit of its superblock while it is mounted, if there is no journal.
    let mut state = [0; 2];
    let read = File::open(file_of(dir)).and_then(|disk| disk.read_exact_at(&mut state, STATE));
    read.is_ok() && u16::from_le_bytes(state) & 1 == 1
}

/// Whether the disk of `dir` is there.
///
/// # Errors
/// If there is no such directory.
pub fn is_mounted(dir: &Path) -> io::Result<bool> {
    let above = dir.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(fs::metadata(dir)?.dev() != fs::metadata(above)?.dev())
}

/// The file that is the disk of `dir`.
fn file_of(dir: &Path) -> PathBuf {
    dir.with_extension("disk")
}

/// Octets that are used of the file system at `dir`.
pub fn used(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |stat| (stat.f_blocks - stat.f_bfree.min(stat.f_blocks)) * stat.f_frsize)
}

fn granted(limit: u64, free: u64, promised: u64, shares: u64) -> Option<u64> {
    let left = free.checked_sub(RESERVE)?.checked_sub(promised)?;
    // Halves of the limit, so that there are few sizes of blank disks.
    let sizes = std::iter::successors(Some(limit), |size| Some(size / 2)).take_while(|size| *size >= LEAST);
    let mut fitting = sizes.filter(|size| *size <= left / shares);
    // A limit below the share of nearly nothing is still a limit that fits.
    fitting.next().map(|size| size / 4096 * 4096)
}

/// Copies what there is of a file with holes.
fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut copied) = (0, 0);
    loop {
        let begin = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin))?;
        at = begin;
        while at < end {
            let len = (end - at).min(buffer.len() as u64) as usize;
            from.read_exact_at(&mut buffer[..len], at)?;
            to.write_all_at(&buffer[..len], at)?;
            at += len as u64;
            copied += len as u64;
        }
        if copied > MOST_STRUCTURE {
            return Err(io::Error::other("an empty file system takes too much"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn disks_get_smaller_before_the_machine_is_full() {
        assert_eq!(granted(GIB, 100 * GIB, 0, SHARES), Some(GIB));
        assert_eq!(granted(GIB, 60 * GIB, 0, SHARES), Some(GIB / 2));
        assert_eq!(granted(GIB, 60 * GIB, 40 * GIB, SHARES), Some(GIB / 4));
        assert_eq!(granted(GIB, GIB, 0, SHARES), None);
        assert_eq!(granted(GIB, 10 * GIB, 10 * GIB, SHARES), None);
        // Where few can come, one is not held small for others.
        assert_eq!(granted(3 * GIB, 34 * GIB, 0, 2), Some(3 * GIB));
        assert_eq!(granted(3 * GIB, 34 * GIB, 0, 64), Some(3 * GIB / 8));
        assert_eq!(granted(32 * GIB, 34 * GIB, 0, 1), Some(32 * GIB));
        // Whatever comes, what is promised fits.
        let (mut promised, mut count) = (0, 0);
        while let Some(size) = granted(GIB, 64 * GIB, promised, SHARES) {
            promised += size;
            count += 1;
        }
        assert!(promised <= 63 * GIB && count > 200, "{promised} {count}");
    }

    #[test]
    fn a_disk_is_full_at_its_limit_and_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("hw-1");
        fs::create_dir(&dir).unwrap();
        let mut disks = Disks::new(state.path(), Some(LEAST), 64);
        disks.refill();
        assert!(disks.spare.is_some());
        disks.mount(&dir, LEAST).unwrap();
        assert!(disks.spare.is_none() && disks.next == Some(LEAST));
        assert_eq!(disks.broken, None);
        let block = vec![7; 1 << 20];
        let file = File::create(dir.join("filler")).unwrap();
        let full = (0..64).map(|at| file.write_all_at(&block, at << 20)).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let written = file.metadata().unwrap().len();
        assert!(written < LEAST && written > LEAST / 2, "{written}");
        drop(file);
        assert!(used(&dir) > LEAST / 2);
        restore(&dir).unwrap();
        assert!(!is_clean(&dir), "it is in use");
        rest(&dir).unwrap();
        assert!(!dir.join("filler").exists());
        assert!(is_clean(&dir));
        restore(&dir).unwrap();
        let filler = File::open(dir.join("filler")).unwrap();
        assert_eq!(filler.metadata().unwrap().len(), written, "the same disk");
        // Somebody still reads what is mounted nowhere any more.
        let device = mounts::attached(&file_of(&dir));
        assert!(device.is_some());
        rest(&dir).unwrap();
        assert!(!is_clean(&dir));
        restore(&dir).unwrap();
        assert_eq!(mounts::attached(&file_of(&dir)), device, "no second device");
        assert_eq!(fs::metadata(&dir).unwrap().dev(), filler.metadata().unwrap().dev());
        drop(filler);
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
        Disks::remove_blanks(state.path());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_block_devices_a_disk_is_in_memory_and_as_small() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("hw-1");
        fs::create_dir(&dir).unwrap();
        let mut disks = Disks { broken: Some("for a test".into()), ..Disks::new(state.path(), None, 64) };
        disks.refill();
        disks.mount(&dir, LEAST).unwrap();
        let stat = rustix::fs::statvfs(&dir).unwrap();
        assert_eq!(stat.f_blocks * stat.f_frsize, LEAST);
        remove(&dir).unwrap();
    }
}
