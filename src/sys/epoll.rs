//! Waiting for many descriptors, at a price that depends on how many have something.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Descriptors told of in one call; the others follow in the next.
const AT_ONCE: usize = 256;

/// Descriptors to wait on, each with a number of the caller's.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Waits for nothing yet.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor to be waited on for something to read. It is told of for
    /// as long as it has something. Once closed, it is forgotten.
    ///
    /// # Errors
    /// If it is there already, or cannot be waited on.
    pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// Takes a descriptor out before it is closed: a process that was forked meanwhile may have another one of the same file
    /// for a moment, and as long as there is one it is told of.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until one has something or `timeout` is over; `None` waits forever.
    /// Tells `ready` the numbers of those that have. May return up to a
    /// millisecond early, never late.
    ///
    /// # Errors
    /// As `epoll_wait(2)`; `EINTR` too.
    pub fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) -> io::Result<()> {
        let spec = |duration: Duration| Timespec {
            tv_sec: duration.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: duration.subsec_nanos().into(),
        };
        let mut timeout = timeout;
        // epoll counts in milliseconds (before Linux 5.11 there is no other way): it gets the whole ones. What is
        // shorter, poll waits for.
        if let Some(wait) = &mut timeout {
            let millis = wait.as_millis() as u64;
            if millis == 0 && !wait.is_zero() {
                rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&spec(*wait)))?;
            }
            *wait = Duration::from_millis(millis);
        }
        let mut events = [const { MaybeUninit::<Event>::uninit() }; AT_ONCE];
        let (events, _) = epoll::wait(&self.0, &mut events[..], timeout.map(spec).as_ref())?;
        events.iter().for_each(|event| ready(event.data.u64()));
        Ok(())
    }
}

/// It has something to read when one of its descriptors has.
impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn tells_which_is_ready() {
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let set = Epoll::new().unwrap();
        let ready = |timeout| {
            let mut numbers = Vec::new();
            set.wait(timeout, |number| numbers.push(number)).unwrap();
            numbers
        };
        set.add(one.as_fd(), 7).unwrap();
        set.add(two.as_fd(), 9).unwrap();
        assert_eq!(ready(Some(Duration::ZERO)), [] as [u64; 0]);
        assert_eq!(ready(Some(Duration::from_micros(10))), [] as [u64; 0]);
        two.raise();
        assert_eq!(ready(Some(Duration::from_micros(10))), [9]);
        assert_eq!(ready(Some(Duration::from_millis(100))), [9]);
        assert_eq!(ready(None), [9]);
        assert_eq!(ready(None), [9], "until it is read");
        one.raise();
        two.take();
        assert_eq!(ready(None), [7]);
    }
}
