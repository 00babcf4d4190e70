//! Starting further processes of this program, with descriptors at agreed numbers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;

/// The number of the first descriptor that is handed down. Low numbers are left
/// to the standard library, which needs one of its own between fork and exec.
pub const FIRST: RawFd = 100;
/// Descriptors that can be handed down.
pub const MOST: usize = 128;

/// Makes `command` start with `fds` at the numbers [`FIRST`], `FIRST + 1` and so on,
/// and with no other but its standard ones, whatever this process was itself started with.
///
/// # Errors
/// If there are too many, or the process has no descriptor left.
pub fn hand_down(command: &mut Command, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors to hand down"));
    }
    // Copies beyond every target, so that none is overwritten before it is used.
    let beyond = FIRST + MOST as RawFd;
    let copies =
        fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, beyond)).collect::<Result<Vec<OwnedFd>, _>>()?;
    let after = FIRST as libc::c_uint + fds.len() as libc::c_uint;
    // SAFETY: the closure runs between fork and exec and makes nothing but dup2 and close_range calls, which are
    // async-signal-safe; the copies are owned by it and stay open as long as the command. Nothing is closed before exec.
    unsafe {
        command.pre_exec(move || {
            for (i, copy) in copies.iter().enumerate() {
                if libc::dup2(copy.as_raw_fd(), FIRST + i as RawFd) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (from, to) in [(3, FIRST as libc::c_uint - 1), (after, libc::c_uint::MAX)] {
                if libc::close_range(from, to, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    Ok(())
}

/// Makes `command` start in a session of its own, without a terminal.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

static TAKEN: [AtomicBool; MOST] = [const { AtomicBool::new(false) }; MOST];

/// Takes over the descriptor that was handed down as number `index`, once.
///
/// # Errors
/// If none was handed down under that number, or it was taken already.
pub fn inherited(index: usize) -> io::Result<OwnedFd> {
    let number = FIRST + index as RawFd;
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("descriptor {number} was not handed down; this command is started by `honeyweave up` only"),
        )
    };
    if TAKEN.get(index).is_none_or(|taken| taken.swap(true, Ordering::Relaxed)) {
        return Err(missing());
    }
    // SAFETY: asks only whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(missing());
    }
    // SAFETY: the descriptor is open, was handed down under this number, and nobody has taken it before.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_at_their_numbers() {
        let (mut read, write) = io::pipe().unwrap();
        let source = crate::sys::memory::sealed(c"honeyweave-test", b"handed down").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "cat /proc/self/fd/101 >/proc/self/fd/100; ls /proc/self/fd >/proc/self/fd/100"]);
        hand_down(&mut command, &[write.as_fd(), source.as_fd()]).unwrap();
        assert!(command.status().unwrap().success());
        drop((command, write));
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let (said, fds) = text.split_at(11);
        assert_eq!(said, "handed down");
        // 0 to 2, the directory that ls reads, and the two.
        let mut fds: Vec<u32> = fds.lines().map(|line| line.parse().unwrap()).collect();
        fds.sort_unstable();
        assert_eq!((fds.len(), &fds[..3], &fds[4..]), (6, &[0, 1, 2][..], &[100, 101][..]));
    }

    /// In a process of its own: in this one, other tests have any number of descriptors open.
    #[test]
    fn what_was_not_handed_down_cannot_be_taken() {
        const ALONE: &str = "HONEYWEAVE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone.env(ALONE, "1").args(["--exact", "sys::handed::tests::what_was_not_handed_down_cannot_be_taken"]);
            hand_down(&mut alone, &[]).unwrap();
            let output = alone.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
            return;
        }
        assert_eq!(inherited(20).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(inherited(MOST).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
