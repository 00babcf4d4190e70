//! The program that the kernel runs for every frame of the interface.
//!
//! It takes what is common and whole, and leaves everything else to the packet
//! socket, which is told what this program cannot see: the offload that a sender
//! on the same machine expects of the device. Such a frame has the sum of its
//! pseudo header in place of its checksum (`CHECKSUM_PARTIAL`), and every
//! super-frame is one; so a frame that looks like one is left, and a frame that
//! merely happens to have this checksum takes the slower way, unharmed.
//!
//! Taken are ARP, ICMP, ICMPv6, TCP and UDP of at most [`LONGEST`] octets.
//! Left are also frames with a tag, with IPv6 extension headers, of other
//! protocols, UDP without a checksum (a tunnel's inner checksum may be partial),
//! and what came by a hardware queue that has no socket.

use crate::sys::bpf::assembler::{
    ADD, AND, Assembler, Cond, Instruction, MOVE, RESULT, SHIFT_LEFT, SHIFT_RIGHT, SUB, Size,
};

/// The longest frame that is taken, in octets: any of a normal MTU. A chunk of
/// the shared memory holds it behind the headroom that the kernel keeps.
pub const LONGEST: i32 = 1536;

/// The verdict that leaves a frame to the rest of the machine (`XDP_PASS`).
pub const PASS: i32 = 2;

/// Where a jump goes. Jumps go forward only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Take,
    Leave,
    NotIpv4,
    Ports,
    Tcp,
    Compare,
}

/// Where the packet begins; from [`Label::Ports`] on, where its L4 header does.
const DATA: u8 = 2;
const END: u8 = 3;
const SCRATCH: u8 = 4;
/// The L4 protocol's number.
const PROTOCOL: u8 = 5;
const CONTEXT: u8 = 6;
/// The sum over the pseudo header.
const SUM: u8 = 7;
const LENGTH: u8 = 8;

const ETHERNET: i32 = 14;
const TCP: i32 = 6;
const UDP: i32 = 17;
/// Offsets in `struct xdp_md`.
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_QUEUE: i16 = 16;
/// Functions of the kernel: `bpf_redirect_map`, `bpf_xdp_get_buff_len`.
const REDIRECT_MAP: i32 = 51;
const FRAME_LENGTH: i32 = 188;

/// Leaves a frame that has less than `len` octets from `DATA` on.
fn need(a: &mut Assembler<Label>, len: i32) {
    a.op(MOVE, SCRATCH, DATA);
    a.op_imm(ADD, SCRATCH, len);
    a.jump_if(SCRATCH, Cond::Above, END, Label::Leave);
}

/// A half word as a load finds it in a frame.
const fn net(value: u16) -> i32 {
    value.to_be() as i32
}

/// The program for the sockets in `map`. Frames that it would take from a queue
/// without a socket get the verdict `otherwise`: [`PASS`], but for tests.
pub fn assemble(map: i32, otherwise: i32) -> Vec<Instruction> {
    let mut a = Assembler::new();
    a.op(MOVE, CONTEXT, 1);
    // The length is not END - DATA: that may be the first piece only.
    a.call(FRAME_LENGTH);
    a.jump_if_imm(RESULT, Cond::Above, LONGEST, Label::Leave);
    a.load(Size::Word, DATA, CONTEXT, MD_DATA);
    a.load(Size::Word, END, CONTEXT, MD_DATA_END);
    need(&mut a, ETHERNET + 20);
    a.load(Size::Half, SCRATCH, DATA, 12);
    a.jump_if_imm(SCRATCH, Cond::Equal, net(0x0806), Label::Take);
    a.jump_if_imm(SCRATCH, Cond::NotEqual, net(0x0800), Label::NotIpv4);

    a.load(Size::Octet, PROTOCOL, DATA, 23);
    a.jump_if_imm(PROTOCOL, Cond::Equal, 1, Label::Take);
    a.load(Size::Word, SUM, DATA, 26);
    a.load(Size::Word, SCRATCH, DATA, 30);
    a.op(ADD, SUM, SCRATCH);
    a.load(Size::Half, LENGTH, DATA, 16);
    a.swap_half(LENGTH);
    a.load(Size::Octet, SCRATCH, DATA, 14);
    a.op_imm(AND, SCRATCH, 0x0f);
    a.op_imm(SHIFT_LEFT, SCRATCH, 2);
    a.jump_if_imm(SCRATCH, Cond::Below, 20, Label::Leave);
    a.jump_if(SCRATCH, Cond::Above, LENGTH, Label::Leave);
    a.op(SUB, LENGTH, SCRATCH);
    a.swap_half(LENGTH);
    a.op(ADD, DATA, SCRATCH);
    a.op_imm(ADD, DATA, ETHERNET);
    a.jump(Label::Ports);

    a.here(Label::NotIpv4);
    a.jump_if_imm(SCRATCH, Cond::NotEqual, net(0x86dd), Label::Leave);
    need(&mut a, ETHERNET + 40);
    a.load(Size::Octet, PROTOCOL, DATA, 20);
    a.jump_if_imm(PROTOCOL, Cond::Equal, 58, Label::Take);
    a.load(Size::Word, SUM, DATA, 22);
    for word in 1..8 {
        a.load(Size::Word, SCRATCH, DATA, 22 + 4 * word);
        a.op(ADD, SUM, SCRATCH);
    }
    a.load(Size::Half, LENGTH, DATA, 18);
    a.op_imm(ADD, DATA, ETHERNET + 40);

    a.here(Label::Ports);
    a.op(ADD, SUM, LENGTH);
    a.jump_if_imm(PROTOCOL, Cond::Equal, TCP, Label::Tcp);
    a.jump_if_imm(PROTOCOL, Cond::NotEqual, UDP, Label::Leave);
    a.op_imm(ADD, SUM, net(UDP as u16));
    need(&mut a, 8);
    a.load(Size::Half, LENGTH, DATA, 6);
    a.jump(Label::Compare);
    a.here(Label::Tcp);
    a.op_imm(ADD, SUM, net(TCP as u16));
    need(&mut a, 20);
    a.load(Size::Half, LENGTH, DATA, 16);

    // LENGTH is the checksum from here on. The sum has 36 bits at most: three times is enough.
    a.here(Label::Compare);
    for bits in [32, 16, 16] {
        a.op(MOVE, SCRATCH, SUM);
        a.op_imm(SHIFT_RIGHT, SCRATCH, bits);
        a.op_imm(SHIFT_LEFT, SUM, 64 - bits);
        a.op_imm(SHIFT_RIGHT, SUM, 64 - bits);
        a.op(ADD, SUM, SCRATCH);
    }
    a.jump_if_imm(LENGTH, Cond::Equal, 0, Label::Leave);
    a.jump_if(LENGTH, Cond::Equal, SUM, Label::Leave);

    a.here(Label::Take);
    a.map(1, map);
    a.load(Size::Word, 2, CONTEXT, MD_QUEUE);
    a.op_imm(MOVE, 3, otherwise);
    a.call(REDIRECT_MAP);
    a.exit();

    a.here(Label::Leave);
    a.op_imm(MOVE, RESULT, PASS);
    a.exit();
    a.done()
}
