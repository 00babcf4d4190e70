//! Whose a process is: who accepts a connection belongs to it from then on.

use super::*;
use crate::sys::bpf::assembler::{AND, MULTIPLY};
use crate::sys::bpf::types::Types;

/// The calls that accept a connection.
pub const ACCEPTS: [&str; 2] = ["accept", "accept4"];

const INET: i32 = 2;
const INET6: i32 = 10;

/// Where the kernel has what it knows of a descriptor's connection. What it tells the program that accepts is not taken: a
/// program need not ask, and can write over the answer.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// From a task to its descriptors' files.
    files: [i32; 3],
    /// From a file to its socket's end.
    socket: [i32; 2],
    family: i32,
    port: i32,
    ipv4: i32,
    ipv6: i32,
}

impl Sockets {
    /// As `types` has them; none if that has not all of them.
    pub fn of(types: &Types) -> Option<Sockets> {
        let at = |structure, member| i32::try_from(types.offset(structure, member)?).ok();
        let common = at("sock", "__sk_common")?;
        let of_common = |member| Some(common + at("sock_common", member)?);
        Some(Sockets {
            files: [at("task_struct", "files")?, at("files_struct", "fdt")?, at("fdtable", "fd")?],
            socket: [at("file", "private_data")?, at("socket", "sk")?],
            family: of_common("skc_family")?,
            port: of_common("skc_dport")?,
            ipv4: of_common("skc_daddr")?,
            ipv6: of_common("skc_v6_daddr")?,
        })
    }
}

/// Reads `length` octets that lie `offset` behind the kernel's address in `FOLLOWED` to `to` on the stack.
fn read(a: &mut Program, offset: i32, length: i32, to: i16) {
    on_stack(a, 1, to);
    a.op_imm(MOVE, 2, length);
    a.op(MOVE, 3, FOLLOWED);
    a.op_imm(ADD, 3, offset);
    a.call(function::READ_KERNEL);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Out);
}

/// An address of the kernel's that is followed.
const FOLLOWED: u8 = KEPT;

/// `syscalls:sys_exit_accept…`: from now on the process, and whatever it begins, belongs to this connection.
pub fn accepted(maps: &Maps, sockets: &Sockets) -> Vec<Instruction> {
    const ADDRESS: i16 = VALUE_AT + 16;
    let mut a = begin();
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.jump_if_imm(1, Cond::Less, 0, Label::Out);
    contained(&mut a, maps);
    a.call(function::TASK);
    a.op(MOVE, FOLLOWED, RESULT);
    let follow = |a: &mut Program, offset: i32| {
        read(a, offset, 8, SPARE_AT);
        a.load(Size::Double, FOLLOWED, STACK, SPARE_AT);
    };
    sockets.files.into_iter().for_each(|offset| follow(&mut a, offset));
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.op_imm(MULTIPLY, 1, 8);
    a.op(ADD, FOLLOWED, 1);
    follow(&mut a, 0);
    sockets.socket.into_iter().for_each(|offset| follow(&mut a, offset));

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
