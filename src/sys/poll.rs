//! Waiting for many descriptors without building the list anew each time.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Descriptors to wait on, in the order in which they were added.
#[derive(Default)]
pub struct PollSet {
    fds: Vec<libc::pollfd>,
}

impl PollSet {
    /// An empty set.
    pub fn new() -> PollSet {
        PollSet::default()
    }

    /// Forgets all descriptors.
    pub fn clear(&mut self) {
        self.fds.clear();
    }

    /// Adds a descriptor to be waited on for something to read. One that is
    /// closed while it is in the set is reported as ready.
    pub fn add(&mut self, fd: BorrowedFd<'_>) {
        self.fds.push(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    }

    /// Waits until one is ready or `timeout` is over; `None` waits forever.
    ///
    /// # Errors
    /// As `ppoll(2)`; `EINTR` too.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the pointers and the length are those of a live vector and of a
        // live or absent timeout; the kernel writes only `revents`.
        let ready =
            unsafe { libc::ppoll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, timeout, std::ptr::null()) };
        usize::try_from(ready).map_err(|_| io::Error::last_os_error())
    }

    /// Whether the descriptor that was added as number `index` has something.
    pub fn is_ready(&self, index: usize) -> bool {
        self.fds.get(index).is_some_and(|fd| fd.revents != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn tells_which_is_ready() {
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let mut set = PollSet::new();
        set.add(one.as_fd());
        set.add(two.as_fd());
        assert_eq!(set.wait(Some(Duration::ZERO)).unwrap(), 0);
        two.raise();
        assert_eq!(set.wait(None).unwrap(), 1);
        assert!(!set.is_ready(0) && set.is_ready(1) && !set.is_ready(2));
    }
}
