//! Many reads or writes in one system call, by io_uring.
//!
//! Nothing is ever left with the kernel: each call is told not to wait for anything (`RWF_NOWAIT`), so that it is done when
//! the system call returns, in the order in which it was asked for. That is why buffers are merely lent, nothing
//! has to be cancelled, and a ring may serve any number of descriptors.
//!
//! What has no system call of its own is not seen by seccomp. So a ring is made before the process confines itself,
//! and made to refuse, for good, all but reading and writing what has been added to it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};

/// Buffers that one call takes.
pub const BURST: usize = 64;

/// Descriptors that a ring may have at once.
const FILES: u32 = 4096;
/// `IORING_REGISTER_FILES_UPDATE`: what may be asked of a ring besides reading and writing.
pub const REGISTER_FILES_UPDATE: u8 = 6;
/// How often the kernel is asked to take what it has not taken, for want of memory.
const TRIES: usize = 1000;

/// A ring.
pub struct Ring {
    ring: IoUring,
    free: Vec<u32>,
    results: [i32; BURST],
    broken: bool,
}

/// A descriptor that was added to a ring: its place there.
#[derive(Clone, Copy, Debug)]
pub struct File(u32);

impl Ring {
    /// A ring without descriptors.
    ///
    /// # Errors
    /// `ENOSYS` or `EINVAL` if the kernel has no io_uring or an old one (before Linux 5.18), `EPERM` if it is
    /// switched off (`kernel.io_uring_disabled`) or forbidden.
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder().setup_r_disabled().setup_submit_all().build(BURST as u32)?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(FILES)?;
        let fixed = Flags::FIXED_FILE.bits();
        submitter.register_restrictions(&mut [
            Restriction::register_op(REGISTER_FILES_UPDATE),
            Restriction::sqe_op(opcode::Read::CODE),
            Restriction::sqe_op(opcode::Write::CODE),
            Restriction::sqe_flags_allowed(fixed),
            Restriction::sqe_flags_required(fixed),
        ])?;
        submitter.register_enable_rings()?;
        Ok(Ring { ring, free: (0..FILES).rev().collect(), results: [0; BURST], broken: false })
    }

    /// Adds a descriptor, which the ring then holds, too.
    ///
    /// # Errors
    /// If there are too many already.
    pub fn add(&mut self, fd: BorrowedFd<'_>) -> io::Result<File> {
        let Some(at) = self.free.pop() else { return Err(io::Error::from_raw_os_error(libc::ENFILE)) };
        match self.ring.submitter().register_files_update(at, &[fd.as_raw_fd()]) {
            Ok(_) => Ok(File(at)),
            Err(error) => {
                self.free.push(at);
                Err(error)
            }
        }
    }

    /// Lets go of a descriptor. Its place may be another's from now on.
    pub fn remove(&mut self, file: File) {
        if self.ring.submitter().register_files_update(file.0, &[-1]).is_ok() {
            self.free.push(file.0);
        }
    }

    /// Reads into each of the buffers ([`BURST`] at most) once. Returns for each the octets read, or an error
    /// number that is negative.
    ///
    /// # Errors
    /// If the kernel takes no requests from this ring any more.
    pub fn read<'b>(&mut self, file: File, buffers: impl Iterator<Item = &'b mut [u8]>) -> io::Result<&[i32]> {
        let file = types::Fixed(file.0);
        let entry = |buffer: &'b mut [u8]| {
            opcode::Read::new(file, buffer.as_mut_ptr(), buffer.len() as u32).rw_flags(libc::RWF_NOWAIT).build()
        };
        // SAFETY: the buffers are borrowed until this function returns.
        unsafe { self.run(buffers.map(entry)) }
    }

    /// Writes each of the buffers ([`BURST`] at most) at once. Returns for each the octets written, or an error
    /// number that is negative.
    ///
    /// # Errors
    /// If the kernel takes no requests from this ring any more.
    pub fn write<'b>(&mut self, file: File, buffers: impl Iterator<Item = &'b [u8]>) -> io::Result<&[i32]> {
        let file = types::Fixed(file.0);
        let entry = |buffer: &'b [u8]| {
            opcode::Write::new(file, buffer.as_ptr(), buffer.len() as u32).rw_flags(libc::RWF_NOWAIT).build()
        };
        // SAFETY: the buffers are borrowed until this function returns.
        unsafe { self.run(buffers.map(entry)) }
    }

    /// # Safety
    /// What the requests point to must be valid until this returns.
    unsafe fn run(&mut self, requests: impl Iterator<Item = Entry>) -> io::Result<&[i32]> {
        if self.broken {
            return Err(io::Error::other("this ring has failed"));
        }
        // Until all is well: whoever panics while requests are made leaves some in the queue.
        self.broken = true;
        let mut asked = 0;
        let mut queue = self.ring.submission();
        for entry in requests.take(BURST) {
            // SAFETY: the caller's; a ring whose requests were not all taken is never entered again.
            if unsafe { queue.push(&entry.user_data(asked as u64)) }.is_err() {
                break;
            }
            asked += 1;
        }
        drop(queue);
        let mut submitted = 0;
        let mut result = Ok(());
        for _ in 0..TRIES {
            if submitted == asked {
                break;
            }
            match self.ring.submit() {
                Ok(taken) => submitted += taken,
                Err(error) => result = Err(error),
            }
        }
        self.broken = submitted < asked;
        let mut done = 0;
        loop {
            for entry in self.ring.completion() {
                if let Some(slot) = self.results.get_mut(entry.user_data() as usize) {
                    *slot = entry.result();
                }
                done += 1;
            }
            if done >= submitted {
                break;
            }
            // Never seen; but whoever returned now would leave the kernel with memory that is somebody else's.
            match self.ring.submit_and_wait(1) {
                Ok(taken) => submitted += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => std::process::abort(),
            }
        }
        if self.broken {
            Err(result.err().unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
        } else {
            Ok(&self.results[..asked])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    /// Where the machine has no io_uring, there is nothing to test.
    fn ring() -> Option<Ring> {
        Ring::new().inspect_err(|error| println!("no io_uring on this machine: {error}")).ok()
    }

    #[test]
    fn all_is_done_when_the_call_returns() {
        let Some(mut ring) = ring() else { return };
        // Blocking ones: nothing waits all the same.
        let (mut out, into) = io::pipe().unwrap();
        let (read, write) = (ring.add(out.as_fd()).unwrap(), ring.add(into.as_fd()).unwrap());
        let words: Vec<Vec<u8>> = (0..BURST as u8).map(|n| vec![n; 3]).collect();
        assert_eq!(ring.write(write, words.iter().map(Vec::as_slice)).unwrap(), [3; BURST]);
        let mut spaces = [[0; 3]; BURST - 2];
        assert_eq!(ring.read(read, spaces.iter_mut().map(|space| &mut space[..])).unwrap(), [3; BURST - 2]);
        assert!(spaces.iter().zip(&words).all(|(space, word)| space[..] == word[..]), "in order");
        let results = ring.read(read, spaces.iter_mut().take(4).map(|space| &mut space[..])).unwrap();
        assert_eq!(results, [3, 3, -libc::EAGAIN, -libc::EAGAIN]);
        // What it holds, it lets go of.
        ring.remove(write);
        drop(into);
        assert_eq!(out.read(&mut [0]).unwrap(), 0);
        assert_eq!(ring.write(write, [&b"x"[..]].into_iter()).unwrap(), [-libc::EBADF]);
    }

    #[test]
    fn more_than_a_burst_is_left_out() {
        let Some(mut ring) = ring() else { return };
        let (_out, into) = io::pipe().unwrap();
        let write = ring.add(into.as_fd()).unwrap();
        assert_eq!(ring.write(write, std::iter::repeat_n(&b"x"[..], BURST + 9)).unwrap(), [1; BURST]);
    }

    #[test]
    fn it_reads_and_writes_what_was_added_and_nothing_else() {
        let Some(mut ring) = ring() else { return };
        let (out, into) = io::pipe().unwrap();
        ring.add(out.as_fd()).unwrap();
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/dev/null".as_ptr()).build();
        let plain = opcode::Write::new(types::Fd(into.as_raw_fd()), b"x".as_ptr(), 1).build();
        let linked = opcode::Write::new(types::Fixed(0), b"x".as_ptr(), 1).build().flags(Flags::IO_LINK);
        for entry in [opcode::Nop::new().build(), open, plain, linked] {
            // SAFETY: what it points to is static.
            assert_eq!(unsafe { ring.run([entry].into_iter()) }.unwrap(), [-libc::EACCES]);
        }
        let refused = ring.ring.submitter().register_eventfd(into.as_raw_fd()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
}
