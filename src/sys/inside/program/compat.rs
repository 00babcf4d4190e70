//! System calls of 32 bits on a machine of 64 (x86): of a program that is one of 32 bits, or of any that makes them
//! (`int $0x80`). They have numbers of their own, and no tracepoints but those of all calls.
//!
//! Those of 64 bits meet these programs, too, so whether a call is one of the others is looked at first.

use super::call::{LOOKED, keep, returned_to};
use super::layout::Layout;
use super::*;
use crate::sys::bpf::assembler::AND;
use crate::sys::bpf::types::Types;

/// `TS_COMPAT`, as long as a process is in such a call.
const COMPAT: i32 = 2;
/// Where the registers with arguments are among all: the first of them, and the next four, one behind the other.
const FIRST: i32 = 40;
const OTHERS: i32 = 88;
/// Of what a tracepoint of all calls tells: the registers, and the call's number or its result.
const REGISTERS: i16 = 0;
const WHAT: i16 = 8;
/// Places on the stack.
const ARGUMENTS: i16 = SPARE_AT;

/// The numbers that calls have, by the names of the same ones of 64 bits (`arch/x86/entry/syscalls/syscall_32.tbl` of the
/// kernel). One that has sockets made and bound by a number among its arguments (`socketcall`) is not looked into: C libraries
/// have used these since Linux 4.3.
const NUMBERS: [(i32, &str); 26] = [
    (5, "open"),
    (8, "creat"),
    (9, "link"),
    (10, "unlink"),
    (15, "chmod"),
    (38, "rename"),
    (40, "rmdir"),
    (83, "symlink"),
    (92, "truncate"),
    // With a length of 64 bits.
    (193, "truncate"),
    (94, "fchmod"),
    (295, "openat"),
    (301, "unlinkat"),
    (302, "renameat"),
    (303, "linkat"),
    (304, "symlinkat"),
    (306, "fchmodat"),
    (353, "renameat2"),
    (437, "openat2"),
    (452, "fchmodat2"),
    (39, "mkdir"),
    (296, "mkdirat"),
    (14, "mknod"),
    (297, "mknodat"),
    (359, "socket"),
    (361, "bind"),
];
/// With which code a process ends: `exit`, which ends a thread, and `exit_group`.
const ENDS: [(i32, bool); 2] = [(1, true), (252, false)];

/// Where a task says that it is in such a call; none where that is not known.
pub fn status(types: &Types) -> Option<i16> {
    let at = types.offset("task_struct", "thread_info")? + types.offset("thread_info", "status")?;
    i16::try_from(at).ok()
}

/// Goes on only in a call of 32 bits.
fn only_compat(a: &mut Program, status: i16) {
    // The kernel knows what this is, so that it is read like anything of the program's own.
    a.call(function::TASK);
    a.load(Size::Word, 1, RESULT, status);
    a.op_imm(AND, 1, COMPAT);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
}

/// `sys_enter`
pub fn enter(maps: &Maps, status: i16) -> Vec<Instruction> {
    const NUMBER: u8 = KEPT;
    let mut a = begin();
    only_compat(&mut a, status);
    contained(&mut a, maps);
    for (at, from, octets) in [(ARGUMENTS, FIRST, 8), (ARGUMENTS + 8, OTHERS, 32)] {
        on_stack(&mut a, 1, at);
        a.op_imm(MOVE, 2, octets);
        a.load(Size::Double, 3, CONTEXT, REGISTERS);
        a.op_imm(ADD, 3, from);
        a.call(function::READ_KERNEL);
        a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Out);
    }
    a.load(Size::Double, NUMBER, CONTEXT, WHAT);
    let argument = |a: &mut Program, dst: u8, number: u8| {
        // Of the fifth and sixth register nothing is wanted.
        a.load(Size::Word, dst, STACK, ARGUMENTS + 8 * i16::from(number));
    };
    for (number, name) in NUMBERS {
        let Some(call) = CALLS.iter().find(|call| call.name == name) else { continue };
        a.jump_if_imm(NUMBER, Cond::NotEqual, number, Label::Climb);
        keep(&mut a, maps, call, argument, LOOKED);
        a.jump(Label::Out);
        a.here(Label::Climb);
    }
    for (number, of_thread) in ENDS {
        a.jump_if_imm(NUMBER, Cond::NotEqual, number, Label::Climb);
        process::ends(&mut a, maps, of_thread, |a| argument(a, 2, 0));
        a.jump(Label::Out);
        a.here(Label::Climb);
    }
    end(a)
}

/// `sys_exit`
pub fn leave(maps: &Maps, layout: &Layout, status: i16) -> Vec<Instruction> {
    let mut a = begin();
    only_compat(&mut a, status);
    returned_to(a, maps, layout, WHAT)
}
