//! Giving up rights, for good. Everything here is meant for the start of a
//! process, before it has a second thread.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::mount::OpenTreeFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::mounts;

/// Locked memory that a process may have, in octets; enough for packet rings of several uplinks.
const MEMLOCK: u64 = 256 * 1024 * 1024;

/// Becomes `uid` and `gid` with no further group and no capability in any set,
/// never to gain one by executing something, and never to be traced or dumped.
///
/// # Errors
/// If the process is not allowed to (it must be root), or if it could still return to being root.
pub fn drop_to(uid: u32, gid: u32) -> io::Result<()> {
    raise_memlock();
    drop_to_with(uid, gid, CapabilitySet::empty())
}

/// The same, but for the capability to read and search whatever anybody owns.
///
/// # Errors
/// See [`drop_to`].
pub fn drop_to_reader(uid: u32, gid: u32) -> io::Result<()> {
    drop_to_with(uid, gid, CapabilitySet::DAC_READ_SEARCH)
}

fn drop_to_with(uid: u32, gid: u32, kept: CapabilitySet) -> io::Result<()> {
    // Bits of capabilities that the kernel does not know are refused; the first refusal is the end of the list.
    for bit in 0..64u64 {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { break };
        if rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    rustix::thread::set_keep_capabilities(!kept.is_empty())?;
    // The C library changes these for every thread, unlike the bare calls.
    // SAFETY: an empty list of groups is a null pointer with length 0; the others take numbers.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(gid, gid, gid) != 0
            || libc::setresuid(uid, uid, uid) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // SAFETY: takes a number; it must fail, which is what is being checked.
    if uid != 0 && unsafe { libc::setresuid(0, 0, 0) } == 0 {
        return Err(io::Error::other("the process could become root again"));
    }
    Ok(())
}

/// Raises the limit of locked memory while the process is still allowed to.
/// Not being allowed is no failure: only some ways to read frames need it.
pub fn raise_memlock() {
    let limit = Rlimit { current: Some(MEMLOCK), maximum: Some(MEMLOCK) };
    if let Some(now) = rustix::process::getrlimit(Resource::Memlock).current
        && now < MEMLOCK
    {
        let _ = rustix::process::setrlimit(Resource::Memlock, limit);
    }
}

/// Raises the limit of open descriptors to what is allowed.
pub fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// How many descriptors may be open at once.
pub fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// Moves the calling thread, and what it starts, into a network namespace with nothing in it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: a new network namespace takes no descriptor or memory away from the process.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Makes `root` the root of the process, which from then on can give files away
/// and write what belongs to others there, and nothing else that root can: no
/// network, no devices, no mounts, no other process. What it opened before stays open.
///
/// # Errors
/// If the process is not root, or `root` is no directory.
pub fn confine_to(root: &std::path::Path, memory: u64) -> io::Result<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::SETFCAP;
    leave_network()?;
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    for bit in 0..64u64 {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { break };
        if !kept.contains(capability) && rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
    Ok(rustix::process::setrlimit(Resource::As, limit)?)
}

/// Leaves all files behind but those at and below `directories`, which are returned in their order, and makes the last
/// one the root of what is left. No path, no link and no `..` leads out of any of them. The first `looked_at` of them can
/// only be read, and who reads there leaves no trace.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`.
pub fn leave_files(directories: &[BorrowedFd<'_>], looked_at: usize) -> io::Result<Vec<OwnedFd>> {
    let alone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    // Copies of the mount that are mounted nowhere: they have nothing above them.
    let copies = directories.iter().map(|directory| rustix::mount::open_tree(directory, "", alone));
    let copies = copies.collect::<Result<Vec<OwnedFd>, _>>()?;
    copies.iter().take(looked_at).try_for_each(mounts::only_look)?;
    let root = copies.last().ok_or(io::ErrorKind::InvalidInput)?;
    rustix::process::fchdir(root)?;
    rustix::process::chroot(".")?;
    Ok(copies)
}

/// Gives the calling thread, and what it starts, a mount namespace of its own.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn own_mounts() -> io::Result<()> {
    // SAFETY: a new mount namespace takes no descriptor or memory away from the process.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Asks the kernel to send `SIGKILL` when the thread that started this process
/// ends. A change of uid undoes it, so it is called after [`drop_to`], too.
///
/// # Errors
/// `NotFound` if the parent is not `parent`: it has died already.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
    if now == parent {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("process {parent}, which started this one, is gone")))
    }
}
