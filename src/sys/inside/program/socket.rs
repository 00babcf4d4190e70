//! Sockets: connections that are begun, ports that are waited at, and sockets that see more than what is sent to them.

use super::layout::{self, Layout};
use super::*;
use crate::sys::bpf::assembler::{AND, SHIFT_LEFT, SHIFT_RIGHT};

/// Kinds of sockets.
const DATAGRAMS: i32 = 2;
const RAW: i32 = 3;
const OLD_PACKET: i32 = 10;
/// Those that see frames.
const PACKET: i32 = 17;
/// Protocols that have datagrams and ports.
const UDP: i32 = 17;
const UDP_LITE: i32 = 136;

/// `sock:inet_sock_set_state`: a connection is begun, or waited for. In other states the process may be anybody.
///
/// From where it is begun is an address of the container's own, also if somebody has given it that one.
pub fn state(maps: &Maps, fields: &Fields) -> Option<Vec<Instruction>> {
    const SYN_SENT: i32 = 2;
    const CLOSE: i32 = 7;
    const LISTEN: i32 = 10;
    let mut a = begin();
    a.load(Size::Word, 1, CONTEXT, fields.at("oldstate")?);
    a.jump_if_imm(1, Cond::NotEqual, CLOSE, Label::Out);
    a.load(Size::Word, 1, CONTEXT, fields.at("newstate")?);
    a.jump_if_imm(1, Cond::Equal, SYN_SENT, Label::Wide);
    a.jump_if_imm(1, Cond::NotEqual, LISTEN, Label::Out);
    a.here(Label::Wide);
    contained(&mut a, maps);
    a.load(Size::Word, 1, CONTEXT, fields.at("newstate")?);
    a.jump_if_imm(1, Cond::Equal, LISTEN, Label::Mapped);
    local(&mut a);
    for word in 0..4 {
        a.load(Size::Word, 1, CONTEXT, fields.at("saddr_v6")? + 4 * word);
        a.store(Size::Word, STACK, LOCAL_AT + 8 + 4 * word, 1);
    }
    update(&mut a, maps.locals, LOCAL_AT, CGROUP_AT);
    a.here(Label::Mapped);
    head(&mut a, maps, Kind::Listen);
    for (field, at) in [("family", 36), ("protocol", 38), ("sport", 80), ("dport", 82)] {
        a.load(Size::Half, 1, CONTEXT, fields.at(field)?);
        a.store(Size::Half, RECORD, at, 1);
    }
    for word in 0..4 {
        a.load(Size::Word, 1, CONTEXT, fields.at("saddr_v6")? + 4 * word);
        a.store(Size::Word, RECORD, HEAD as i16 + 4 * word, 1);
    }
    a.load(Size::Word, 1, CONTEXT, fields.at("newstate")?);
    a.jump_if_imm(1, Cond::Equal, LISTEN, Label::Cut);
    a.store_imm(Size::Word, RECORD, 16, Kind::Connect as i32);
    for word in 0..4 {
        a.load(Size::Word, 1, CONTEXT, fields.at("daddr_v6")? + 4 * word);
        a.store(Size::Word, RECORD, HEAD as i16 + 4 * word, 1);
    }
    a.here(Label::Cut);
    a.op_imm(MOVE, LENGTH, 16);
    a.op_imm(MOVE, MORE, 0);
    tell(&mut a, maps, None);
    Some(end(a))
}

/// Goes on only in a call that makes a socket which sees more than what is sent to it. Its family is 1 then: that of frames,
/// also if it is asked for as it was long ago. `argument` is the call's.
pub fn only_raw(a: &mut Program, argument: impl Fn(&mut Program, u8, u8)) {
    // These are numbers of 32 bits; what is above those may be anything.
    argument(a, 2, 1);
    a.op_imm(AND, 2, 0xf);
    a.op_imm(MOVE, 1, PACKET);
    a.jump_if_imm(2, Cond::Equal, OLD_PACKET, Label::Asked);
    argument(a, 1, 0);
    a.op_imm(SHIFT_LEFT, 1, 32);
    a.op_imm(SHIFT_RIGHT, 1, 32);
    a.jump_if_imm(1, Cond::Equal, PACKET, Label::Asked);
    a.jump_if_imm(2, Cond::NotEqual, RAW, Label::Out);
    a.jump_if_imm(1, Cond::Equal, INET, Label::Asked);
    a.jump_if_imm(1, Cond::NotEqual, INET6, Label::Out);
    a.here(Label::Asked);
}

/// Tells of it.
pub fn raw(a: &mut Program, maps: &Maps) {
    head(a, maps, Kind::Raw);
    a.load(Size::Double, 1, STACK, VALUE_AT + 16);
    a.store(Size::Double, RECORD, 80, 1);
    unless_crowded(a, maps);
    a.op_imm(MOVE, LENGTH, 0);
    a.op_imm(MOVE, MORE, 0);
    tell(a, maps, None);
}

/// Tells of a socket for datagrams that got a port by its number. Which it is the kernel knows; what the program gave it may be
/// another one by now. Whoever wants any port is one who asks, and no one who waits to be asked.
pub fn bound(a: &mut Program, maps: &Maps, layout: &Layout) {
    /// Family and protocol, port, and address, as the record has them.
    const FAMILY: i16 = SPARE_AT + 8;
    const PROTOCOL: i16 = SPARE_AT + 10;
    const PORT: i16 = SPARE_AT + 12;
    const ADDRESS: i16 = SPARE_AT + 16;
    let sockets = &layout.sockets;
    let read = |a: &mut Program, offset, length, to| layout::read(a, offset, length, to, Label::Out);
    layout::socket(a, layout, |a| a.load(Size::Word, 1, STACK, VALUE_AT + 28));
    for at in [0, 8, 16, 24] {
        a.store_imm(Size::Double, STACK, SPARE_AT + at, 0);
    }
    read(a, sockets.kind, 2, SPARE_AT);
    a.load(Size::Half, 1, STACK, SPARE_AT);
    a.jump_if_imm(1, Cond::NotEqual, DATAGRAMS, Label::Out);
    read(a, sockets.protocol, 2, PROTOCOL);
    a.load(Size::Half, 1, STACK, PROTOCOL);
    a.jump_if_imm(1, Cond::Equal, UDP, Label::Asked);
    a.jump_if_imm(1, Cond::NotEqual, UDP_LITE, Label::Out);
    a.here(Label::Asked);
    read(a, sockets.asked.0, 1, SPARE_AT);
    a.load(Size::Octet, 1, STACK, SPARE_AT);
    a.op_imm(AND, 1, sockets.asked.1);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    read(a, sockets.own_port, 2, PORT);
    read(a, sockets.family, 2, FAMILY);
    a.load(Size::Half, 1, STACK, FAMILY);
    a.jump_if_imm(1, Cond::Equal, INET6, Label::Wide);
    a.jump_if_imm(1, Cond::NotEqual, INET, Label::Out);
    a.store_imm(Size::Word, STACK, ADDRESS + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    read(a, sockets.own_ipv4, 4, ADDRESS + 12);
    a.jump(Label::Mapped);
    a.here(Label::Wide);
    read(a, sockets.own_ipv6, 16, ADDRESS);
    a.here(Label::Mapped);
    head(a, maps, Kind::Bind);
    unless_crowded(a, maps);
    a.load(Size::Word, 1, STACK, FAMILY);
    a.store(Size::Word, RECORD, 36, 1);
    a.load(Size::Half, 1, STACK, PORT);
    a.store(Size::Half, RECORD, 80, 1);
    for offset in [0, 8] {
        a.load(Size::Double, 1, STACK, ADDRESS + offset);
        a.store(Size::Double, RECORD, HEAD as i16 + offset, 1);
    }
    a.op_imm(MOVE, LENGTH, 16);
    a.op_imm(MOVE, MORE, 0);
    tell(a, maps, None);
}
