//! Signals as something to poll for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that arrive on a descriptor instead of interrupting the process.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Takes over `signals` (numbers of `libc`). They are blocked for the calling
    /// thread and those that it starts, so this belongs to the start of a process.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal.
    pub fn take(signals: &[libc::c_int]) -> io::Result<Signals> {
        // SAFETY: `sigset_t` is plain data, which `sigemptyset` fills.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives for the calls.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in signals {
            // SAFETY: as above; a wrong number is refused.
            if unsafe { libc::sigaddset(&raw mut set, *signal) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the set lives for the calls; the old mask is not asked for.
        let fd = unsafe {
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and belongs to nobody else.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, if any.
    pub fn next(&self) -> Option<libc::c_int> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the buffer has the length that is given.
        let got = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
        // The number is the first member, `ssi_signo: u32`.
        let number = info.first_chunk().map(|octets| u32::from_ne_bytes(*octets))?;
        (got == info.len() as isize).then_some(number as libc::c_int)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_arrive_on_the_descriptor() {
        // In a thread of its own: the mask is the thread's.
        std::thread::spawn(|| {
            let signals = Signals::take(&[libc::SIGUSR2]).unwrap();
            assert_eq!(signals.next(), None);
            // SAFETY: takes numbers; the signal is blocked and waits for the descriptor.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) }, 0);
            assert_eq!(signals.next(), Some(libc::SIGUSR2));
            assert_eq!(signals.next(), None);
        })
        .join()
        .unwrap();
        assert!(Signals::take(&[4711]).is_err());
    }
}
