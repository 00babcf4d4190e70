//! Which files are executed and written below some mounts (fanotify(7)), for where the programs of [`super::inside`] cannot be
//! attached.
//!
//! Making a group ([`create`]) and naming mounts ([`mark`]) takes root; reading ([`Reader`]) takes no rights: the kernel opens
//! each file for whoever reads. None of it is read here, only asked which mount and which path it is.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// Octets of a path that are kept.
pub const PATH: usize = 511;
/// Mounts of one container that are watched; it begins with fewer.
pub const MOUNTS: usize = 16;
/// Events that are taken at once, each of them with an open file.
const AT_ONCE: usize = 32;
/// Octets of `struct fanotify_event_metadata`.
const EVENT: usize = size_of::<libc::fanotify_event_metadata>();
/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a number that no later mount gets; older ones tell the usual one.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// Kinds of file systems in which the kernel answers, and nothing is kept.
const ANSWERS: [&str; 8] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "tracefs"];

/// Makes a group. Its queue has the usual bound (`fs.fanotify.max_queued_events`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` if the kernel has no fanotify.
pub fn create() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
    // Opening waits for nobody, and leaves no time of access.
    let files = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_LARGEFILE | libc::O_NOATIME;
    // SAFETY: takes numbers.
    let fd = unsafe { libc::fanotify_init(flags, files as libc::c_uint) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made, and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Watches the mount that `directory` is in. That ends with the mount.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` if `group` is none.
pub fn mark(group: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT;
    let what = libc::FAN_OPEN_EXEC | libc::FAN_CLOSE_WRITE;
    // SAFETY: both descriptors are open; without a path, the directory itself is meant.
    let result =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, what, directory.as_raw_fd(), std::ptr::null()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Watches the mounts that process `pid` sees and in which files are kept, and returns their numbers. It goes along no symbolic
/// link below the root of that process.
///
/// # Errors
/// If the process is gone, or its root cannot be watched. Other mounts that cannot are left out.
pub fn mark_all(group: BorrowedFd<'_>, pid: i32) -> io::Result<Vec<u64>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root/"), flags, Mode::empty())?;
    mark(group, root.as_fd())?;
    let mut marked = vec![mount(root.as_fd())?];
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for path in table.lines().filter_map(kept_below) {
        if marked.len() == MOUNTS {
            break;
        }
        // A file that is mounted upon another one is no directory.
        let Ok(directory) = rustix::fs::openat2(&root, path, flags, Mode::empty(), within) else { continue };
        let number = mount(directory.as_fd())?;
        if !marked.contains(&number) && mark(group, directory.as_fd()).is_ok() {
            marked.push(number);
        }
    }
    Ok(marked)
}

/// The path, without the first slash, of a line of `mountinfo`, if files are kept there.
fn kept_below(line: &str) -> Option<&str> {
    let (place, kind) = line.split_once(" - ")?;
    let path = place.split(' ').nth(4)?.strip_prefix('/').filter(|path| !path.is_empty())?;
    (!ANSWERS.contains(&kind.split(' ').next()?)).then_some(path)
}

/// The number of the mount that an open file is in.
fn mount(file: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(status(file)?.stx_mnt_id)
}

fn status(file: BorrowedFd<'_>) -> io::Result<Statx> {
    Ok(rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::MODE | UNIQUE)?)
}

/// What was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// In which mount.
    pub mount: u64,
    /// The process, as the machine has it; 0 if it cannot be seen from here.
    pub process: u32,
    /// Whether the file was opened to be executed.
    pub executed: bool,
    /// Whether it was closed after it had been open for writing.
    pub written: bool,
    /// Where it is, within the process's mounts.
    pub path: Vec<u8>,
    /// Whether there was more of it.
    pub is_cut: bool,
    /// The mode that it has by now.
    pub mode: u32,
}

/// The side that reads.
#[derive(Debug)]
pub struct Reader {
    group: OwnedFd,
    lost: u64,
}

impl Reader {
    /// Reads `group`.
    pub fn new(group: OwnedFd) -> Reader {
        Reader { group, lost: 0 }
    }

    /// Takes a few that are waiting; none if there are none.
    pub fn read(&mut self) -> Vec<Seen> {
        let mut buffer = [0; EVENT * AT_ONCE];
        loop {
            return match rustix::io::read(&self.group, &mut buffer) {
                Ok(count) => self.take(buffer.get(..count).unwrap_or_default()),
                Err(Errno::AGAIN) => Vec::new(),
                Err(Errno::INTR) => continue,
                // One that cannot be opened is gone with that.
                Err(_) => {
                    self.lost += 1;
                    Vec::new()
                }
            };
        }
    }

    /// How often something was lost since this was asked last. The kernel does not say how much it was.
    pub fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn take(&mut self, mut rest: &[u8]) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Some(event) = Raw::parse(rest) {
            rest = rest.get(event.len..).unwrap_or_default();
            if event.mask & libc::FAN_Q_OVERFLOW != 0 {
                self.lost += 1;
            }
            if event.file < 0 {
                continue;
            }
            // SAFETY: the kernel made this descriptor for who reads the event, once.
            let file = unsafe { OwnedFd::from_raw_fd(event.file) };
            match seen(&event, file.as_fd()) {
                Ok(seen) => all.push(seen),
                Err(_) => self.lost += 1,
            }
        }
        all
    }
}

fn seen(event: &Raw, file: BorrowedFd<'_>) -> io::Result<Seen> {
    let mut path = fs::read_link(format!("/proc/self/fd/{}", event.file))?.into_os_string().into_vec();
    let is_cut = path.len() > PATH;
    path.truncate(PATH);
    let status = status(file)?;
    Ok(Seen {
        mount: status.stx_mnt_id,
        process: u32::try_from(event.process).unwrap_or(0),
        executed: event.mask & libc::FAN_OPEN_EXEC != 0,
        written: event.mask & libc::FAN_CLOSE_WRITE != 0,
        path,
        is_cut,
        mode: status.stx_mode.into(),
    })
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// `struct fanotify_event_metadata`.
struct Raw {
    len: usize,
    mask: u64,
    file: RawFd,
    process: i32,
}

impl Raw {
    fn parse(octets: &[u8]) -> Option<Raw> {
        let len = u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?) as usize;
        let version = *octets.get(4)?;
        let whole = len >= EVENT && version == libc::FANOTIFY_METADATA_VERSION;
        whole.then_some(())?;
        Some(Raw {
            len,
            mask: u64::from_ne_bytes(octets.get(8..16)?.try_into().ok()?),
            file: i32::from_ne_bytes(octets.get(16..20)?.try_into().ok()?),
            process: i32::from_ne_bytes(octets.get(20..24)?.try_into().ok()?),
        })
    }
}

#[cfg(test)]
#[path = "fanotify_tests.rs"]
mod tests;
