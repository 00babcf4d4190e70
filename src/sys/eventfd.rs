//! A counter in the kernel that one side raises and the other waits on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// An eventfd: non-blocking and closed on exec.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, not raised.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Takes over a descriptor that came from another process.
    pub fn from_fd(fd: OwnedFd) -> EventFd {
        EventFd(fd)
    }

    /// Another descriptor of the same counter.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<EventFd> {
        Ok(EventFd(self.0.try_clone()?))
    }

    /// Wakes who waits. A counter that is full is raised already.
    pub fn raise(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Lowers it; returns whether it was raised.
    pub fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0u8; 8]).is_ok()
    }

    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets a tokio runtime watch any descriptor that can be polled.
///
/// # Errors
/// If it cannot be polled, or the runtime has no driver for it.
pub fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` never changes its descriptor and closes it only when dropped, after the registration.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd) }?)
}

/// Waits until one of `fds` can be read (or has failed), for at most
/// `timeout_micros`; negative waits without end. Returns which, by position:
/// bit `i` of the result stands for `fds[i]`.
///
/// # Errors
/// What `poll` says; an interrupting signal counts as a timeout.
///
/// # Panics
/// With more than 64 descriptors.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout_micros: i64) -> io::Result<u64> {
    assert!(fds.len() <= 64);
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = (timeout_micros >= 0)
        .then(|| Timespec { tv_sec: timeout_micros / 1_000_000, tv_nsec: timeout_micros % 1_000_000 * 1_000 });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    let ready = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.fold(0, |bits, (i, _)| bits | 1 << i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_raised_once_for_all() {
        let (a, b) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        assert!(!a.take());
        b.raise();
        b.raise();
        assert_eq!(wait_readable(&[a.as_fd(), b.as_fd()], 1_000_000).unwrap(), 0b10);
        assert!(b.take());
        assert!(!b.take());
        assert_eq!(wait_readable(&[a.as_fd(), b.as_fd()], 1_000).unwrap(), 0);
    }
}
