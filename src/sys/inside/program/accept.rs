//! Whose a process is: who accepts a connection belongs to it from then on, and whatever it begins while it has that open does.

use super::layout::{self, Layout};
use super::*;
use crate::sys::bpf::assembler::{AND, OR};

/// The calls that accept a connection.
pub const ACCEPTS: [&str; 2] = ["accept", "accept4"];

/// `syscalls:sys_exit_accept…`: from now on the process belongs to this connection, and whatever it begins before it closes that.
///
/// What the kernel tells the program of it is not taken: a program need not ask, and can write over the answer.
pub fn accepted(maps: &Maps, layout: &Layout) -> Vec<Instruction> {
    const ADDRESS: i16 = PROCESS_AT + ORIGIN + 8;
    const FAMILY: i16 = PROCESS_AT + ORIGIN;
    let sockets = &layout.sockets;
    let read = |a: &mut Program, offset, length, to| layout::read(a, offset, length, to, Label::Local);
    let mut a = begin();
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.jump_if_imm(1, Cond::Less, 0, Label::Out);
    contained(&mut a, maps);
    clear_process(&mut a);
    let returned = |a: &mut Program| a.load(Size::Double, 1, CONTEXT, RETURNED);
    layout::socket_and_identity(&mut a, layout, returned, PROCESS_AT + ACCEPTED);
    returned(&mut a);
    a.store(Size::Word, STACK, PROCESS_AT + DESCRIPTOR, 1);

    // The connection, as the record has it: family and port, and an address in the form of either.
    read(&mut a, sockets.family, 2, FAMILY);
    read(&mut a, sockets.port, 2, FAMILY + 2);
    a.load(Size::Half, 1, STACK, FAMILY);
    a.jump_if_imm(1, Cond::Equal, INET6, Label::Wide);
    a.jump_if_imm(1, Cond::NotEqual, INET, Label::Local);
    read(&mut a, sockets.ipv4, 4, ADDRESS);
    a.load(Size::Word, 1, STACK, ADDRESS);
    // It is nobody's any more.
    a.jump_if_imm(1, Cond::Equal, 0, Label::Local);
    a.op_imm(AND, 1, i32::from_ne_bytes([0xff, 0, 0, 0]));
    // What comes from the host itself is somebody's who is in already.
    a.jump_if_imm(1, Cond::Equal, i32::from_ne_bytes([127, 0, 0, 0]), Label::Local);
    a.store_imm(Size::Double, STACK, LOCAL_AT + 8, 0);
    a.store_imm(Size::Word, STACK, LOCAL_AT + 16, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    a.load(Size::Word, 1, STACK, ADDRESS);
    a.store(Size::Word, STACK, LOCAL_AT + 20, 1);
    a.jump(Label::Read);
    a.here(Label::Wide);
    read(&mut a, sockets.ipv6, 16, ADDRESS);
    for offset in [0, 8] {
        a.load(Size::Double, 1, STACK, ADDRESS + offset);
        a.store(Size::Double, STACK, LOCAL_AT + 8 + offset, 1);
    }
    // ::1, and 127.0.0.0/8 as IPv6 has it (RFC 4291 §2.5.5.2).
    a.load(Size::Double, 1, STACK, ADDRESS);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Read);
    a.load(Size::Half, 1, STACK, ADDRESS + 8);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Read);
    a.load(Size::Half, 1, STACK, ADDRESS + 10);
    a.jump_if_imm(1, Cond::Equal, 0xffff, Label::Mapped);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Read);
    a.load(Size::Word, 1, STACK, ADDRESS + 12);
    a.jump_if_imm(1, Cond::Equal, i32::from_ne_bytes([0, 0, 0, 1]), Label::Local);
    a.jump(Label::Read);
    a.here(Label::Mapped);
    a.load(Size::Octet, 1, STACK, ADDRESS + 12);
    a.jump_if_imm(1, Cond::Equal, 127, Label::Local);
    a.here(Label::Read);
    local(&mut a);
    look_up(&mut a, maps.locals, LOCAL_AT);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Local);
    key(&mut a);
    look_up(&mut a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Known);
    update(&mut a, maps.processes, KEY_AT, PROCESS_AT);
    a.jump(Label::Out);
    // Whoever that is, it is somebody who was in before: the latest of those that came from outside, who is not known to be another.
    a.here(Label::Local);
    a.store_imm(Size::Double, STACK, FAMILY, 0);
    key(&mut a);
    look_up(&mut a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    a.load(Size::Double, 1, RESULT, ACCEPTED);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    a.here(Label::Known);
    // Whoever has an earlier one open has several at once, and nobody knows for which of them it begins something.
    let alone = Label::Closed;
    identity(&mut a, alone);
    layout::is_open(&mut a, maps, layout, IDENTITY_AT, alone);
    a.store_imm(Size::Word, STACK, PROCESS_AT + SEVERAL, 1);
    a.here(alone);
    look_up(&mut a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    // It may be one of before that is open now.
    a.load(Size::Word, 1, RESULT, SEVERAL);
    a.load(Size::Word, 2, STACK, PROCESS_AT + SEVERAL);
    a.op(OR, 1, 2);
    a.store(Size::Word, STACK, PROCESS_AT + SEVERAL, 1);
    let keep = |a: &mut Program, offsets: std::ops::Range<i16>| {
        for offset in offsets.step_by(8) {
            a.load(Size::Double, 1, STACK, PROCESS_AT + offset);
            a.store(Size::Double, RESULT, offset, 1);
        }
    };
    keep(&mut a, ACCEPTED..PROCESS as i16);
    a.load(Size::Half, 1, STACK, FAMILY);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    keep(&mut a, ORIGIN..INHERITED);
    end(a)
}

/// Which file the connection is that the process at `RESULT` has accepted last. Goes to `none` if there is none.
fn identity(a: &mut Program, none: Label) {
    a.load(Size::Double, 1, RESULT, ACCEPTED);
    a.jump_if_imm(1, Cond::Equal, 0, none);
    for offset in [0, 8, 16, 24] {
        a.load(Size::Double, 1, RESULT, ACCEPTED + offset);
        a.store(Size::Double, STACK, IDENTITY_AT + offset, 1);
    }
}

/// Goes on if what the process at `RESULT` begins belongs to another connection than the process itself: what it has accepted is
/// closed, so that this is for nobody who came by that. Goes to `same` otherwise. Registers up to [`RECORD`] are lost.
pub fn unless_open(a: &mut Program, maps: &Maps, layout: &Layout, same: Label) {
    a.load(Size::Word, 1, RESULT, SEVERAL);
    a.jump_if_imm(1, Cond::NotEqual, 0, same);
    identity(a, same);
    layout::is_open(a, maps, layout, IDENTITY_AT, Label::Closed);
    a.jump(same);
    a.here(Label::Closed);
}

/// A program that is begun in the place of another has the connection that this has accepted for its own if that is open still.
pub fn executed(a: &mut Program, maps: &Maps, layout: &Layout) {
    let (open, other) = (Label::Known, Label::Unknown);
    key(a);
    look_up(a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, other);
    a.load(Size::Double, 1, RESULT, ACCEPTED);
    a.jump_if_imm(1, Cond::Equal, 0, other);
    unless_open(a, maps, layout, open);
    a.jump(other);
    a.here(open);
    look_up(a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, other);
    for offset in (0..INHERITED - ORIGIN).step_by(8) {
        a.load(Size::Double, 1, RESULT, ORIGIN + offset);
        a.store(Size::Double, RESULT, INHERITED + offset, 1);
    }
    for offset in (ACCEPTED..PROCESS as i16).step_by(8) {
        a.store_imm(Size::Double, RESULT, offset, 0);
    }
    a.here(other);
}
