//! The system calls that the process facing the attacker may make.
//!
//! What is not listed fails with `EPERM` instead of killing: an unforeseen but
//! harmless call of a library must not take the honeynet down, and a refused one
//! gains an intruder nothing.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::uring;

/// Confines every thread of the process, and those to come, to moving bytes on
/// descriptors that it has or is sent. It can open, execute, connect, trace and
/// signal nothing.
///
/// # Errors
/// If the kernel lacks seccomp, or without `no_new_privs`.
pub fn confine() -> io::Result<()> {
    confine_to(&[])
}

/// The same for a process that also reads files and writes some, below directories that it has.
///
/// # Errors
/// See [`confine`].
pub fn confine_reader() -> io::Result<()> {
    confine_to(FILES)
}

fn confine_to(more: &[libc::c_long]) -> io::Result<()> {
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    // Library code takes ENOSYS of clone3 as a hint to use clone, whose flags a filter can see.
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    );
    let mut rules = rules().map_err(io::Error::other)?;
    rules.extend(more.iter().map(|call| (*call, vec![])));
    let listed = SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch);
    // The list comes last: it forbids adding filters.
    for filter in [no_clone3, listed] {
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
        seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Calls that are allowed whatever their arguments are.
const FREE: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_io_uring_enter,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// What files need. `openat`, which can be led out of a directory by what is in it, is not among them.
const FILES: &[libc::c_long] = &[
    libc::SYS_fgetxattr,
    libc::SYS_fsync,
    libc::SYS_getdents64,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_newfstatat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
];

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FREE.iter().map(|call| (*call, vec![])).collect();
    // Memory that cannot be executed.
    for (call, argument) in [(libc::SYS_mmap, 2), (libc::SYS_mprotect, 2)] {
        rules.insert(call, vec![rule(argument, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    rules.insert(libc::SYS_mremap, vec![]);
    // Threads, never processes.
    let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // Non-blocking descriptors; no other ioctl.
    let ioctls = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD];
    rules.insert(
        libc::SYS_ioctl,
        ioctls.iter().map(|number| rule(1, SeccompCmpOp::Eq, u64::from(*number as u32))).collect::<Result<_, _>>()?,
    );
    // Another descriptor for a ring of before, which reads and writes and nothing else; no other ring.
    let register = rule(1, SeccompCmpOp::Eq, u64::from(uring::REGISTER_FILES_UPDATE))?;
    rules.insert(libc::SYS_io_uring_register, vec![register]);
    // Names of threads and of memory.
    let prctls = [libc::PR_SET_NAME, libc::PR_SET_VMA, libc::PR_SET_PDEATHSIG];
    rules.insert(
        libc::SYS_prctl,
        prctls.iter().map(|number| rule(0, SeccompCmpOp::Eq, u64::from(*number as u32))).collect::<Result<_, _>>()?,
    );
    // Ending itself, as an abort does.
    rules.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    Ok(rules)
}

fn rule(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?])
}
