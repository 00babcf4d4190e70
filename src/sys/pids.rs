//! Numbers of processes in another process namespace.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::thread::LinkNameSpaceType;

/// Where the kernel takes the number that it gave last, for checkpoints (Linux 3.9).
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

/// Lets the next process in the namespace of process `pid` have the number after `last`. For a process of one
/// thread, whose further children are in that namespace.
///
/// # Errors
/// If the process is gone, or the kernel cannot restore checkpoints.
pub fn continue_after(pid: i32, last: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(LAST)?;
    let namespace = File::open(format!("/proc/{pid}/ns/pid"))?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    let text = last.to_string();
    // What is written counts for the namespace of the process that writes: only a child is in it.
    // SAFETY: this process has one thread, so the child's memory is sound; it writes to an open file and ends.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let failed = file.write_all(text.as_bytes()).is_err();
            // SAFETY: ends this process without running what its parent has registered.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        child => {
            let mut status = 0;
            let ended = loop {
                // SAFETY: waits for a child of ours, and writes to a number of ours.
                let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
                // liblxc leaves handlers of signals behind. Not waited for, the child would be seen in the namespace.
                if ended != -1 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                    break ended;
                }
            };
            match ended == child && status == 0 {
                true => Ok(()),
                false => Err(io::Error::other("the kernel does not take a number of a process")),
            }
        }
    }
}
