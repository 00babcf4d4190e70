//! What goes on inside containers, seen from outside: small programs that the kernel runs at its tracepoints for the
//! processes of some cgroups, and a ring that they write what happened into.
//!
//! Whoever is root attaches them ([`attach`]) and says which cgroups ([`Containers`]); reading ([`Reader`]) takes no rights.
//! Own code, because the crates for it want a compiler for BPF, and types of the kernel's that not each machine has.

mod program;
mod record;
mod ring;
mod tracefs;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use self::program::{Layout, Maps};
use self::tracefs::Tracefs;
use super::bpf::assembler::Instruction;
use super::bpf::call::{self, Shape};
use super::bpf::types::Types;

pub use record::{Happened, Kind};
pub use ring::Reader;

/// Octets of the ring: some 40,000 programs that are begun.
pub const RING: u32 = 32 << 20;
/// Containers that are watched at once.
const CONTAINERS: u32 = 16_384;
/// Processes, and calls that have not returned, that something is kept of; of more, those of longest ago are forgotten.
const PROCESSES: u32 = 65_536;
const CALLS: u32 = 16_384;
/// Addresses of containers from which they have connected; of more, those that were used longest ago are forgotten.
const LOCALS: u32 = 65_536;

/// `BPF_PROG_TYPE_TRACEPOINT`
const TRACEPOINT: u32 = 5;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`
const RAW_TRACEPOINT: u32 = 17;
/// Types of maps (`enum bpf_map_type`), and `BPF_F_MMAPABLE`.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PER_CPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const RING_BUFFER: u32 = 27;
const MAPPABLE: u32 = 1 << 10;

/// Programs at tracepoints. Once dropped, there are none any more.
#[derive(Debug)]
pub struct Attached(#[allow(dead_code, reason = "they are held, not looked at")] Vec<OwnedFd>);

/// The maps that are used from outside.
#[derive(Debug)]
pub struct Handles {
    /// Of [`Containers`].
    pub containers: OwnedFd,
    /// Of [`Reader`].
    pub ring: OwnedFd,
    /// Of [`Reader`]: how much did not fit.
    pub lost: OwnedFd,
}

/// Attaches the programs. `ring` is the octets of their ring: a power of two, and whole pages. If files are wanted that system calls
/// `of_32_bits` open, there are programs at all calls of the machine, which all of it pays for.
///
/// # Errors
/// `EPERM` without `CAP_BPF`, `CAP_PERFMON` and `CAP_SYS_ADMIN`, or where a machine is locked down; others if the kernel is
/// older than 5.15, or was built without tracepoints of system calls or types for BPF.
pub fn attach(ring: u32, of_32_bits: bool) -> io::Result<(Attached, Handles)> {
    let map = |map_type, key, value, entries, flags| call::map(Shape { map_type, key, value, entries, flags });
    let containers = map(HASH, 8, program::CONTAINER, CONTAINERS, 0)?;
    let processes = map(LRU_HASH, 4, program::PROCESS, PROCESSES, 0)?;
    let calls = map(LRU_HASH, 8, program::CALL, CALLS, 0)?;
    let scratch = map(PER_CPU_ARRAY, 4, program::SCRATCH, 1, 0)?;
    let (ring, octets) = (map(RING_BUFFER, 0, 0, ring, 0)?, ring);
    let lost = map(ARRAY, 4, 8, 1, MAPPABLE)?;
    let locals = map(LRU_HASH, program::LOCAL, 8, LOCALS, 0)?;
    let maps = Maps {
        containers: containers.as_raw_fd(),
        processes: processes.as_raw_fd(),
        calls: calls.as_raw_fd(),
        scratch: scratch.as_raw_fd(),
        ring: ring.as_raw_fd(),
        lost: lost.as_raw_fd(),
        locals: locals.as_raw_fd(),
        half: i32::try_from(octets / 2).unwrap_or(i32::MAX),
        crowded: i32::try_from(octets / 8 * 7).unwrap_or(i32::MAX),
    };
    let types = Types::of_kernel()?;
    let missing = || io::Error::new(io::ErrorKind::Unsupported, "its types have not all that is needed");
    let layout = Layout::of(&types).ok_or_else(missing)?;
    let tracefs = Tracefs::open().map_err(|error| io::Error::new(error.kind(), format!("tracefs: {error}")))?;
    let mut attached = Vec::new();
    let mut put = |tracepoint: &str, code: &dyn Fn(&tracefs::Fields) -> Option<Vec<Instruction>>| {
        let (id, fields) = tracefs.tracepoint(tracepoint)?;
        let said = |error: io::Error| io::Error::new(error.kind(), format!("the tracepoint {tracepoint}: {error}"));
        let unknown = || io::Error::new(io::ErrorKind::Unsupported, "it has not the fields that are needed");
        let code = code(&fields).ok_or_else(unknown).map_err(said)?;
        let program = call::load(TRACEPOINT, &code, 0).map_err(said)?;
        attached.push(call::at_tracepoint(id, program.as_fd()).map_err(said)?);
        io::Result::Ok(())
    };
    put("task/task_newtask", &|fields| program::fork(&maps, &layout, fields))?;
    put("sched/sched_process_exec", &|fields| program::execute(&maps, &layout, fields))?;
    put("syscalls/sys_enter_exit_group", &|_| Some(program::code(&maps, false)))?;
    put("syscalls/sys_enter_exit", &|_| Some(program::code(&maps, true)))?;
    put("sched/sched_process_exit", &|_| Some(program::exit(&maps)))?;
    put("sock/inet_sock_set_state", &|fields| program::state(&maps, fields))?;
    for call in program::ACCEPTS {
        put(&format!("syscalls/sys_exit_{call}"), &|_| Some(program::accepted(&maps, &layout)))?;
    }
    for call in &program::CALLS {
        let leave = |_: &tracefs::Fields| Some(program::leave(&maps, &layout, call));
        let both = put(&format!("syscalls/sys_exit_{}", call.name), &leave)
            .and_then(|()| put(&format!("syscalls/sys_enter_{}", call.name), &|_| Some(program::enter(&maps, call))));
        match both {
            // Not each machine has each of them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    // On other machines a program of 32 bits is one of another kind.
    if let Some(status) = program::compat::status(&types).filter(|_| of_32_bits && cfg!(target_arch = "x86_64")) {
        let leave = program::compat::leave(&maps, &layout, status);
        for (name, code) in [(c"sys_exit", leave), (c"sys_enter", program::compat::enter(&maps, status))] {
            let said = |error: io::Error| io::Error::new(error.kind(), format!("the tracepoint {name:?}: {error}"));
            let program = call::load(RAW_TRACEPOINT, &code, 0).map_err(said)?;
            attached.push(call::at_raw_tracepoint(name, program.as_fd()).map_err(said)?);
        }
    }
    Ok((Attached(attached), Handles { containers, ring, lost }))
}

/// Says which cgroups are watched.
#[derive(Debug)]
pub struct Containers(OwnedFd);

/// What is known of a container: device and inode of its namespace of processes, and what the programs count.
#[derive(Clone, Copy)]
#[repr(C)]
struct Known {
    device: u64,
    inode: u64,
    counted: [u64; 2],
}

impl Containers {
    /// Those of [`Handles::containers`].
    pub fn new(map: OwnedFd) -> Containers {
        Containers(map)
    }

    /// Watches `cgroup`, and whatever is below it. Its processes' numbers are those of the namespace with this device and
    /// inode, as `stat` tells them.
    ///
    /// # Errors
    /// `E2BIG` if there are too many.
    pub fn add(&self, cgroup: u64, (device, inode): (u64, u64)) -> io::Result<()> {
        // The kernel has device numbers in another form than it tells.
        let device = u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device));
        // SAFETY: the map was made with a key of eight octets and a value of `CONTAINER`, which is what `Known` has.
        unsafe { call::put(self.0.as_fd(), &cgroup, &Known { device, inode, counted: [0; 2] }) }
    }

    /// No longer watches `cgroup`.
    pub fn remove(&self, cgroup: u64) {
        // SAFETY: the map was made with a key of eight octets. That it does not know it is no failure.
        let _ = unsafe { call::remove(self.0.as_fd(), &cgroup) };
    }

    /// Those that are watched.
    pub fn all(&self) -> Vec<u64> {
        let mut all: Vec<u64> = Vec::new();
        // Bounded, should somebody else add to it meanwhile.
        while all.len() < CONTAINERS as usize
            // SAFETY: the map was made with a key of eight octets.
            && let Some(cgroup) = unsafe { call::next(self.0.as_fd(), all.last()) }
        {
            all.push(cgroup);
        }
        all
    }
}

#[cfg(test)]
mod tests;
