//! The commands of `bpf(2)` that are needed, in the layout of `union bpf_attr`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::assembler::Instruction;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
pub const NAME: [u8; 16] = *b"honeyweave\0\0\0\0\0\0";

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
struct RawTracepoint {
    name: u64,
    program: u32,
    reserved: u32,
}

/// Makes a system call whose result is 0 or a new descriptor.
///
/// # Safety
/// The pointers in `attributes` must be what the command takes.
pub unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes live for the call and their size is given; the caller vouches for the pointers in them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

pub fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only called with what a command that makes descriptors has just returned.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What a map is: its type, the octets of key and value, and how many there may be.
#[derive(Clone, Copy)]
pub struct Shape {
    pub map_type: u32,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
    pub flags: u32,
}

/// A map of that shape.
pub fn map(shape: Shape) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: shape.map_type,
        key_size: shape.key,
        value_size: shape.value,
        max_entries: shape.entries,
        map_flags: shape.flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: NAME,
    };
    // SAFETY: no pointers.
    Ok(owned(unsafe { bpf(MAP_CREATE, &mut attributes) }?))
}

/// Has `map`, which was made with keys and values of these types, hold `value` under `key`.
///
/// # Safety
/// The map must have been made with keys and values of at most the sizes of `K` and `V`.
pub unsafe fn put<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let (key, value) = (std::ptr::from_ref(key) as u64, std::ptr::from_ref(value) as u64);
    let mut attributes = MapElement { map: map.as_raw_fd() as u32, reserved: 0, key, value, flags: 0 };
    // SAFETY: both live for the call, and the caller vouches for their sizes.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }?;
    Ok(())
}

/// Has `map` forget `key`.
///
/// # Safety
/// The map must have been made with keys of at most the size of `K`.
pub unsafe fn remove<K: Copy>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let key = std::ptr::from_ref(key) as u64;
    let mut attributes = MapElement { map: map.as_raw_fd() as u32, reserved: 0, key, value: 0, flags: 0 };
    // SAFETY: it lives for the call, and the caller vouches for its size.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) }?;
    Ok(())
}

/// The key in `map` that comes after `key`; the first one without. None if there is no other.
///
/// # Safety
/// The map must have been made with keys of the size of `K`, which has no invalid values.
pub unsafe fn next<K: Copy + Default>(map: BorrowedFd<'_>, key: Option<&K>) -> Option<K> {
    let mut next = K::default();
    let key = key.map_or(0, |key| std::ptr::from_ref(key) as u64);
    let value = std::ptr::from_mut(&mut next) as u64;
    let mut attributes = MapElement { map: map.as_raw_fd() as u32, reserved: 0, key, value, flags: 0 };
    // SAFETY: both live for the call, and the caller vouches for their sizes.
    unsafe { bpf(MAP_GET_NEXT_KEY, &mut attributes) }.ok()?;
    Some(next)
}

/// Loads a program of that type. The verifier's word goes into the error.
pub fn load(prog_type: u32, code: &[Instruction], flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = ProgLoad {
        prog_type,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kern_version: 0,
        prog_flags: flags,
        name: NAME,
    };
    // SAFETY: code and license live for the call; the number of instructions is theirs.
    match unsafe { bpf(PROG_LOAD, &mut attributes) } {
        Ok(fd) => Ok(owned(fd)),
        // Asked for only now: a log that is too short is an error of its own.
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => {
            let mut log = vec![0u8; 1 << 20];
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

/// Has `program` run at the tracepoint of that name, with what it tells as it is, until the descriptor is closed.
pub fn at_raw_tracepoint(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let mut attributes = RawTracepoint { name: name.as_ptr() as u64, program, reserved: 0 };
    // SAFETY: the name lives for the call, and ends with a zero.
    Ok(owned(unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut attributes) }?))
}

/// What of `struct perf_event_attr` a tracepoint takes; the kernel takes the rest for zero.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    others: [u64; 5],
}

/// Has `program` run at the tracepoint of number `id`, on all processors, until the descriptor is closed.
pub fn at_tracepoint(id: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const TRACEPOINT: u32 = 2;
    const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
    // `PERF_EVENT_IOC_SET_BPF`, `PERF_EVENT_IOC_ENABLE`
    const SET_PROGRAM: libc::c_ulong = 0x4004_2408;
    const ENABLE: libc::c_ulong = 0x2400;
    let size = size_of::<Attributes>() as u32;
    let attributes = Attributes { kind: TRACEPOINT, size, config: id, sample_period: 1, others: [0; 5] };
    // SAFETY: the attributes live for the call, and their size is in them. Any process, on the first processor: a program is
    // run on all of them.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, std::ptr::from_ref(&attributes), -1, 0, -1, CLOSE_ON_EXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let event = owned(fd as i32);
    // SAFETY: both take a number.
    let failed = unsafe {
        libc::ioctl(event.as_raw_fd(), SET_PROGRAM as _, program.as_raw_fd()) < 0
            || libc::ioctl(event.as_raw_fd(), ENABLE as _, 0) < 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(event) }
}
