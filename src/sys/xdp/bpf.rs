//! The four commands of `bpf(2)` that are needed, in the layout of `union bpf_attr`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::Mode;
use super::program::Instruction;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_MAP_TYPE_XSKMAP`
const XSKMAP: u32 = 17;
/// `BPF_PROG_TYPE_XDP`
const PROG_XDP: u32 = 6;
/// `BPF_XDP`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`, `XDP_FLAGS_DRV_MODE`
const ATTACH_GENERIC: u32 = 1 << 1;
const ATTACH_NATIVE: u32 = 1 << 2;
/// `BPF_F_XDP_HAS_FRAGS`: a long frame may come in pieces. Otherwise the kernel would copy each super-frame into one
/// piece of memory for the program, and throw it away if it finds none that is large enough.
const HAS_FRAGS: u32 = 1 << 5;
const NAME: [u8; 16] = *b"honeyweave\0\0\0\0\0\0";

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkCreate {
    prog: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Makes a system call whose result is 0 or a new descriptor.
///
/// # Safety
/// The pointers in `attributes` must be what the command takes.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes live for the call and their size is given; the caller vouches for the pointers in them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only called with what a command that makes descriptors has just returned.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A map from hardware queues to sockets.
pub(super) fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        name: NAME,
    };
    // SAFETY: no pointers.
    Ok(owned(unsafe { bpf(MAP_CREATE, &mut attributes) }?))
}

/// Has frames of `queue` go to `socket`, until that is closed.
pub(super) fn put_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = socket.as_raw_fd();
    let mut attributes = MapElement {
        map: map.as_raw_fd() as u32,
        reserved: 0,
        key: (&raw const queue) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: key and value have the four octets that the map was made with, and live for the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }?;
    Ok(())
}

/// Loads a program. The verifier's word goes into the error.
pub(super) fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = ProgLoad {
        prog_type: PROG_XDP,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kern_version: 0,
        prog_flags: HAS_FRAGS,
        name: NAME,
    };
    // SAFETY: code and license live for the call; the number of instructions is theirs.
    match unsafe { bpf(PROG_LOAD, &mut attributes) } {
        Ok(fd) => Ok(owned(fd)),
        // Asked for only now: a log that is too short is an error of its own.
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => {
            let mut log = vec![0u8; 64 * 1024];
            (attributes.log_level, attributes.log_size, attributes.log) =
                (1, log.len() as u32, log.as_mut_ptr() as u64);
            // SAFETY: as before, and the log's length is given.
            if let Ok(fd) = unsafe { bpf(PROG_LOAD, &mut attributes) } {
                return Ok(owned(fd));
            }
            let said = String::from_utf8_lossy(&log);
            let last = said.trim_end_matches('\0').lines().rev().find(|line| !line.starts_with("processed"));
            Err(io::Error::new(error.kind(), format!("{error}: {}", last.unwrap_or_default())))
        }
        Err(error) => Err(error),
    }
}

/// Attaches a program to an interface until the descriptor is closed.
pub(super) fn attach(program: BorrowedFd<'_>, interface: u32, mode: Mode) -> io::Result<OwnedFd> {
    let flags = if mode == Mode::Generic { ATTACH_GENERIC } else { ATTACH_NATIVE };
    let mut attributes = LinkCreate { prog: program.as_raw_fd() as u32, interface, attach_type: ATTACH_XDP, flags };
    // SAFETY: no pointers.
    Ok(owned(unsafe { bpf(LINK_CREATE, &mut attributes) }?))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    #[repr(C)]
    struct TestRun {
        prog: u32,
        verdict: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }

    /// What a program decides about a frame.
    pub fn verdict(program: &OwnedFd, frame: &[u8]) -> i32 {
        let mut attributes = TestRun {
            prog: program.as_raw_fd() as u32,
            verdict: u32::MAX,
            size_in: frame.len() as u32,
            size_out: 0,
            data_in: frame.as_ptr() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        // SAFETY: the frame lives for the call and its length is given.
        unsafe { bpf(10, &mut attributes) }.unwrap();
        attributes.verdict as i32
    }
}
