//! Starting a program that is not trusted: its own user, no network, bounded
//! resources, nothing of ours open.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// How a program is confined.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// Its user and group.
    pub uid: u32,
    /// A network namespace with nothing in it (see [`empty_network`]).
    pub network: BorrowedFd<'a>,
    /// Seconds of processor time.
    pub cpu_secs: u64,
    /// Octets of address space.
    pub memory: u64,
    /// Octets that a file may have.
    pub file_size: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Processes of its user at once, whoever started them.
    pub processes: u64,
}

/// A network namespace with nothing but a loopback interface that is down.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn empty_network() -> io::Result<OwnedFd> {
    // A namespace belongs to a thread: a passing one makes it, the descriptor keeps it.
    let made = std::thread::spawn(|| {
        super::privileges::leave_network()?;
        let path = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
        std::fs::File::open(path).map(OwnedFd::from)
    });
    made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a network namespace panicked")))
}

/// Starts `program` with `arguments` and `environment` (and no other variable) in
/// `/`, its standard input and output one end of a socket pair whose other end is
/// returned with the process id. Standard error is discarded.
///
/// The process leads a process group of its own and dies with its parent.
///
/// # Errors
/// If the program cannot be started; nothing is left then.
pub fn confined(
    program: &str,
    arguments: &[String],
    environment: &[(&str, String)],
    confinement: &Confinement<'_>,
) -> io::Result<(u32, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear();
    for (name, value) in environment {
        command.env(name, value);
    }
    command.stdin(theirs.try_clone()?).stdout(theirs).stderr(Stdio::null());
    let network = confinement.network.as_raw_fd();
    let uid = confinement.uid;
    let limits = [
        (libc::RLIMIT_CPU, confinement.cpu_secs),
        (libc::RLIMIT_AS, confinement.memory),
        (libc::RLIMIT_FSIZE, confinement.file_size),
        (libc::RLIMIT_NOFILE, confinement.descriptors),
        (libc::RLIMIT_NPROC, confinement.processes),
        (libc::RLIMIT_CORE, 0),
    ];
    let confine = move || -> io::Result<()> {
        let check = |status: libc::c_int| if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: bare system calls with numbers and pointers to locals; none of
        // them allocates or takes a lock, as is due between fork and exec.
        unsafe {
            check(libc::setsid())?;
            // What somebody before us left open is not the program's. Kernels before 5.11 cannot; ours are closed on exec anyway.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            check(libc::setns(network, libc::CLONE_NEWNET))?;
            for (resource, value) in limits {
                let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
                check(libc::setrlimit(resource, &raw const limit))?;
            }
            libc::umask(0o077);
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(uid, uid, uid))?;
            check(libc::setresuid(uid, uid, uid))?;
            // A change of user undoes it, so it comes behind that.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls (see there).
    unsafe { command.pre_exec(confine) };
    let child = command.spawn()?;
    Ok((child.id(), ours))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_confined_program_has_nothing() {
        let network = empty_network().unwrap();
        let confinement = Confinement {
            uid: 61_982,
            network: network.as_fd(),
            cpu_secs: 5,
            memory: 256 << 20,
            file_size: 0,
            descriptors: 16,
            processes: 64,
        };
        let script = "id -u; grep -c : /proc/net/dev; ls /proc/self/fd | wc -l; echo $NAME; \
                      grep -c 'NoNewPrivs.*1' /proc/self/status; (echo x > /tmp/hwt-file) 2>/dev/null || echo refused";
        let arguments = ["-c".to_owned(), script.to_owned()];
        let (pid, socket) = confined("/bin/sh", &arguments, &[("NAME", "value".into())], &confinement).unwrap();
        let mut text = String::new();
        std::fs::File::from(socket).read_to_string(&mut text).unwrap();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        let _ = std::fs::remove_file("/tmp/hwt-file");
        // `ls` sees 0, 1, 2 and the folder itself; `/proc/net/dev` has the loopback alone.
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["61982", "1", "4", "value", "1", "refused"]);
        assert!(confined("/nonexistent/program", &[], &[], &confinement).is_err());
    }
}
