//! Mounts that are made in one mount namespace and put into another, and files that are disks.
//!
//! The mount interface of Linux 5.2 and 5.12 (open_tree(2), move_mount(2),
//! mount_setattr(2)) and the loop devices of 5.8 (`LOOP_CONFIGURE`).

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::LinkNameSpaceType;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const NOATIME: u64 = 0x10;
/// The bits that say when times of access change, of which one value is set.
const ATIME: u64 = 0x70;

/// A copy of the mount at `path` (of what lies below it, if it is no mount's root) that is nowhere yet. It cannot be
/// written through, and nothing in it can be executed.
///
/// # Errors
/// If there is nothing at `path`, or the kernel is older than 5.12.
pub fn pick(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    set(&tree, &Attributes { set: RDONLY | NOSUID | NODEV | NOEXEC, clear: 0, propagation: 0, userns: 0 })?;
    Ok(tree)
}

/// Has a mount that is nowhere yet leave no trace of being read: nothing can be written through it or executed, and no
/// time of access changes.
///
/// # Errors
/// If it is no mount of its own, or the kernel is older than 5.12.
pub fn only_look(tree: &OwnedFd) -> io::Result<()> {
    set(tree, &Attributes { set: RDONLY | NOSUID | NODEV | NOEXEC | NOATIME, clear: ATIME, propagation: 0, userns: 0 })
}

fn set(tree: &OwnedFd, attributes: &Attributes) -> io::Result<()> {
    // SAFETY: the descriptor is open, the path an empty string, and the structure of the size given; the call keeps none of them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts a mount of [`pick`] upon `path`, which may be a symbolic link: that is covered, not followed.
///
/// # Errors
/// If there is nothing at `path`, or one of the two is a directory and the other is not.
pub fn put(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let at = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", &at, c"", flags)?)
}

/// Enters the mount namespace of process `pid`, with its root directory. For a process of one thread, which stays there.
///
/// # Errors
/// If the process is gone, or this one has several threads.
pub fn enter(pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?)
}

/// Takes away the mount at `path` with all below it; whoever still uses it keeps it until then. Nothing happens if there is none.
///
/// # Errors
/// If the kernel refuses.
pub fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The block device on the file at `path`, an absolute one, if it has one.
pub fn attached(path: &Path) -> Option<PathBuf> {
    let has = |device: &fs::DirEntry| {
        // The kernel ends the path by a line feed.
        let backing = fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        backing.strip_suffix(b"\n") == Some(path.as_os_str().as_encoded_bytes())
    };
    let device = fs::read_dir("/sys/block").ok()?.flatten().find(has)?;
    Some(Path::new("/dev").join(device.file_name()))
}

/// A block device on `file`. It is there until the file returned is closed and nothing is mounted from it.
///
/// # Errors
/// If the machine has no loop devices.
pub fn attach(file: &File) -> io::Result<(File, PathBuf)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut tries = 0;
    loop {
        // SAFETY: the descriptor is open; the call takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        let config = LoopConfig {
            fd: file.as_raw_fd() as u32,
            block_size: 0,
            info: LoopInfo {
                numbers: [0; 5],
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_AUTOCLEAR,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: both descriptors are open, and the structure is the one that the call reads.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            return Ok((device, path));
        }
        let error = io::Error::last_os_error();
        // Somebody else took the same number between the two calls.
        if error.raw_os_error() != Some(libc::EBUSY) || tries == 64 {
            return Err(error);
        }
        tries += 1;
    }
}

/// Mounts a file system of kind `kind` from `source` on `path`, for files of root and nobody's programs alike.
///
/// # Errors
/// If the kernel does not know the kind, or refuses the options.
pub fn mount(source: &Path, path: &Path, kind: &CStr, options: &CStr) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    Ok(mount(source, path, kind, MountFlags::RELATIME, Some(options))?)
}
