//! Whose a process is: who accepts a connection belongs to it from then on.

use super::layout::{self, Layout};
use super::*;
use crate::sys::bpf::assembler::AND;

/// The calls that accept a connection.
pub const ACCEPTS: [&str; 2] = ["accept", "accept4"];

/// `syscalls:sys_exit_accept…`: from now on the process, and whatever it begins, belongs to this connection.
///
/// What the kernel tells the program of it is not taken: a program need not ask, and can write over the answer.
pub fn accepted(maps: &Maps, layout: &Layout) -> Vec<Instruction> {
    const ADDRESS: i16 = VALUE_AT + 16;
    let sockets = &layout.sockets;
    let read = |a: &mut Program, offset, length, to| layout::read(a, offset, length, to, Label::Out);
    let mut a = begin();
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.jump_if_imm(1, Cond::Less, 0, Label::Out);
    contained(&mut a, maps);
    layout::socket(&mut a, layout, |a| a.load(Size::Double, 1, CONTEXT, RETURNED));

    // The connection, as the record has it: family and port, and an address in the form of either.
    for at in [0, 8, 16, 24] {
        a.store_imm(Size::Double, STACK, VALUE_AT + at, 0);
    }
    read(&mut a, sockets.family, 2, VALUE_AT + ORIGIN);
    read(&mut a, sockets.port, 2, VALUE_AT + ORIGIN + 2);
    a.load(Size::Half, 1, STACK, VALUE_AT + ORIGIN);
    a.jump_if_imm(1, Cond::Equal, INET6, Label::Wide);
    a.jump_if_imm(1, Cond::NotEqual, INET, Label::Out);
    read(&mut a, sockets.ipv4, 4, ADDRESS);
    a.load(Size::Word, 1, STACK, ADDRESS);
    // It is nobody's any more.
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    a.op_imm(AND, 1, i32::from_ne_bytes([0xff, 0, 0, 0]));
    // What comes from the host itself is somebody's who is in already.
    a.jump_if_imm(1, Cond::Equal, i32::from_ne_bytes([127, 0, 0, 0]), Label::Out);
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
    a.jump_if_imm(1, Cond::Equal, i32::from_ne_bytes([0, 0, 0, 1]), Label::Out);
    a.jump(Label::Read);
    a.here(Label::Mapped);
    a.load(Size::Octet, 1, STACK, ADDRESS + 12);
    a.jump_if_imm(1, Cond::Equal, 127, Label::Out);
    a.here(Label::Read);
    local(&mut a);
    look_up(&mut a, maps.locals, LOCAL_AT);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Out);
    key(&mut a);
    look_up(&mut a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Known);
    update(&mut a, maps.processes, KEY_AT, VALUE_AT);
    a.jump(Label::Out);
    a.here(Label::Known);
    for offset in [ORIGIN, 16, 24] {
        a.load(Size::Double, 1, STACK, VALUE_AT + offset);
        a.store(Size::Double, RESULT, offset, 1);
    }
    end(a)
}
