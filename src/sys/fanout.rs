//! Several packet sockets that share an interface's frames (`PACKET_FANOUT`, packet(7)).
//!
//! A small program in the kernel decides by a frame's destination address who gets it, as
//! [`Shard::owner_of`](crate::node::Shard::owner_of) does: frames for one host always come by the same socket, in their order.

use std::io;
use std::os::fd::OwnedFd;

use super::packet::{self, set_option};

/// `PACKET_FANOUT_CBPF` and `PACKET_FANOUT_FLAG_UNIQUEID` of `linux/if_packet.h`.
const CBPF: libc::c_int = 6;
const UNIQUE: libc::c_int = 0x2000;

/// Opens `count` packet sockets as [`packet::open`] does, between which the frames of `interface` are divided;
/// `spread` multiplies the last 32 bits of a destination before the upper half decides. A single socket gets all of them.
///
/// # Errors
/// Those of [`packet::open`], or if the kernel has no fanout with a program (before Linux 4.10).
pub fn open(interface: &str, count: u16, spread: u32) -> io::Result<Vec<OwnedFd>> {
    if count < 2 {
        return Ok(vec![packet::open(interface, true)?]);
    }
    let mut sockets = Vec::new();
    let mut group = None;
    for _ in 0..count {
        // Until all are there, each would get what is another's.
        let socket = packet::open_deaf(interface)?;
        let joined = match group {
            None => CBPF << 16 | UNIQUE << 16,
            Some(group) => CBPF << 16 | group,
        };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &joined)?;
        if group.is_none() {
            group = Some(packet::option(&socket, libc::PACKET_FANOUT)? & 0xffff);
        }
        sockets.push(socket);
    }
    let program = program(spread);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    set_option(&sockets[0], libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &filter)?;
    for socket in &sockets {
        packet::hear(socket)?;
    }
    Ok(sockets)
}

/// Whose a frame is, as a number that the kernel takes modulo the number of sockets.
fn program(spread: u32) -> [libc::sock_filter; 12] {
    // Offsets into what the kernel knows of a packet, into its link and its network header (linux/filter.h).
    const PROTOCOL: u32 = -0x1000_i32 as u32;
    const NETWORK: u32 = -0x10_0000_i32 as u32;
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
    const MULTIPLY: u16 = 0x24; // BPF_ALU | BPF_MUL | BPF_K
    const SHIFT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
    const RETURN_A: u16 = 0x16; // BPF_RET | BPF_A
    let op = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let unless = |k, jf| libc::sock_filter { code: EQUAL, jt: 0, jf, k };
    [
        op(LOAD, PROTOCOL),
        unless(0x0800, 2),
        op(LOAD, NETWORK + 16),
        op(JUMP, 5),
        unless(0x86dd, 2),
        op(LOAD, NETWORK + 36),
        op(JUMP, 2),
        unless(0x0806, 1),
        op(LOAD, NETWORK + 24),
        // Whatever else is there is all the same: its number is the protocol's.
        op(MULTIPLY, spread),
        op(SHIFT, 16),
        op(RETURN_A, 0),
    ]
}
