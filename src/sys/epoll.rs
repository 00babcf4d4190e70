//! Waiting for many descriptors, at a price that depends on how many have something.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Descriptors told of in one call; the others follow in the next.
const AT_ONCE: usize = 256;

/// Descriptors to wait on, each with a number of the caller's.
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

    /// Waits until one has something or `timeout` is over; `None` waits forever.
    /// Tells `ready` the numbers of those that have.
    ///
    /// # Errors
    /// As `epoll_pwait2(2)`; `EINTR` too.
    pub fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; AT_ONCE];
        let spec = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let (events, _) = match epoll::wait(&self.0, &mut events[..], spec.as_ref()) {
            // Linux before 5.11 counts in milliseconds.
            Err(Errno::NOSYS) => {
                let millis = timeout.unwrap_or_default().as_millis().min(60_000) as i64 + 1;
                let spec = Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
                epoll::wait(&self.0, &mut events[..], Some(&spec))?
            }
            other => other?,
        };
        events.iter().for_each(|event| ready(event.data.u64()));
        Ok(())
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
        assert_eq!(ready(None), [9]);
        assert_eq!(ready(None), [9], "until it is read");
        one.raise();
        two.take();
        assert_eq!(ready(None), [7]);
    }
}
