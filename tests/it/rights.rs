//! What the process that faces the attacker can still do: the test program runs
//! itself once more, confines that copy and tries.

use std::io;
use std::process::Command;

use honeyweave::sys::{memory, privileges, seccomp};

const INSIDE: &str = "HWT_CONFINED";

/// Runs test `name` of this program as the copy that confines itself.
fn run_inside(name: &str) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn errno(result: libc::c_long) -> i32 {
    if result == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
}

#[test]
fn a_confined_process_moves_bytes_and_nothing_else() {
    if std::env::var_os(INSIDE).is_none() {
        let (code, said) = run_inside("rights::a_confined_process_moves_bytes_and_nothing_else");
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("confined and content"), "{said}");
        return;
    }
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    privileges::leave_network().unwrap();
    privileges::drop_to(61_980, 61_980).unwrap();
    seccomp::confine().unwrap();
    let path = c"/etc/passwd".as_ptr();
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: each call is expected to be refused; those that take pointers get valid or null ones.
    let refused = unsafe {
        [
            ("open", errno(libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY))),
            ("socket", errno(libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))),
            ("socketpair", errno(libc::syscall(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, null))),
            ("execve", errno(libc::syscall(libc::SYS_execve, c"/bin/sh".as_ptr(), null, null))),
            ("ptrace", errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0))),
            ("kill", errno(libc::syscall(libc::SYS_kill, libc::getpid(), 0))),
            ("fork", errno(libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0))),
            ("connect", errno(libc::syscall(libc::SYS_connect, 0, null, 0))),
            ("bind", errno(libc::syscall(libc::SYS_bind, 0, null, 0))),
            ("setuid", errno(libc::syscall(libc::SYS_setuid, 0))),
            ("unlink", errno(libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0))),
            ("mount", errno(libc::syscall(libc::SYS_mount, path, path, path, 0, null))),
            ("bpf", errno(libc::syscall(libc::SYS_bpf, 0, null, 0))),
            ("unshare", errno(libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER))),
            ("io_uring_setup", errno(libc::syscall(libc::SYS_io_uring_setup, 1, null))),
            ("io_uring_register", errno(libc::syscall(libc::SYS_io_uring_register, 0, 0, null, 0))),
            ("process_vm_readv", errno(libc::syscall(libc::SYS_process_vm_readv, 1, null, 0, null, 0, 0))),
            ("seccomp", errno(libc::syscall(libc::SYS_seccomp, 1, 0, null))),
            ("TIOCSTI", errno(libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, path))),
            (
                "executable memory",
                errno(libc::syscall(
                    libc::SYS_mmap,
                    0,
                    4096,
                    libc::PROT_EXEC | libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )),
            ),
        ]
    };
    for (call, errno) in refused {
        assert_eq!(errno, libc::EPERM, "{call}");
    }
    // What the switch lives on.
    let memory_fd = memory::sealed(c"hwt", b"bytes").unwrap();
    assert_eq!(memory::read_all(memory_fd, 100).unwrap(), b"bytes");
    let thread = std::thread::Builder::new().name("another".into()).spawn(|| vec![1u8; 50 << 20].len()).unwrap();
    assert_eq!(thread.join().unwrap(), 50 << 20);
    assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
    runtime.block_on(async {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);
    });
    assert!(io::read_to_string(file).unwrap().lines().count() > 10, "a descriptor that it has");
    println!("confined and content");
}
