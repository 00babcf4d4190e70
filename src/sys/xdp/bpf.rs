//! What AF_XDP needs of `bpf(2)`: a map of sockets, and a program on an interface.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::Mode;
use crate::sys::bpf::assembler::Instruction;
use crate::sys::bpf::call::{self, Shape, bpf, owned};

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

#[repr(C)]
struct LinkCreate {
    prog: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// A map from hardware queues to sockets.
pub(super) fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    call::map(Shape { map_type: XSKMAP, key: 4, value: 4, entries: queues, flags: 0 })
}

/// Has frames of `queue` go to `socket`, until that is closed.
pub(super) fn put_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: key and value have the four octets that the map was made with.
    unsafe { call::put(map, &queue, &socket.as_raw_fd()) }
}

/// Loads the program. The verifier's word goes into the error.
pub(super) fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    call::load(PROG_XDP, code, HAS_FRAGS)
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
