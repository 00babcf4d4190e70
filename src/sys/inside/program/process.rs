//! Programs at the beginning and the end of processes.

use super::*;
use crate::sys::bpf::assembler::{AND, MULTIPLY, OR, SUB};

const CLONE_THREAD: i32 = 0x1_0000;

/// Where the stack pointer is among the registers, and whatever tells a program of 32 bits.
#[cfg(target_arch = "x86_64")]
mod registers {
    pub const STACK_POINTER: i16 = 152;
    pub const MODE: i16 = 136;
    pub const IS_32_BITS: (i32, i32) = (0xffff, 0x23);
}
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    // Those of arm64; elsewhere arguments are not found.
    pub const STACK_POINTER: i16 = 248;
    pub const MODE: i16 = 264;
    pub const IS_32_BITS: (i32, i32) = (0x10, 0x10);
}

/// `task:task_newtask`: a process that is begun inherits what is known of the one that begins it. A server that has closed the
/// connection that it has accepted last begins nothing for that: a worker of its own belongs to whom the server belonged to before.
pub fn fork(maps: &Maps, layout: &Layout, fields: &Fields) -> Option<Vec<Instruction>> {
    let mut a = begin();
    a.load(Size::Double, 1, CONTEXT, fields.at("clone_flags")?);
    a.op_imm(AND, 1, CLONE_THREAD);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Out);
    contained(&mut a, maps);
    key(&mut a);
    number_inside(&mut a);
    clear_process(&mut a);
    a.load(Size::Word, 1, STACK, INSIDE_AT + 4);
    a.store(Size::Word, STACK, PROCESS_AT, 1);
    let inherit = |a: &mut Program, from: i16| {
        look_up(a, maps.processes, KEY_AT);
        a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Next);
        for offset in [0, 8, 16] {
            a.load(Size::Double, 1, RESULT, from + offset);
            a.store(Size::Double, STACK, PROCESS_AT + ORIGIN + offset, 1);
            a.store(Size::Double, STACK, PROCESS_AT + INHERITED + offset, 1);
        }
    };
    inherit(&mut a, ORIGIN);
    accept::unless_open(&mut a, maps, layout, Label::Next);
    inherit(&mut a, INHERITED);
    a.here(Label::Next);
    a.load(Size::Word, 1, CONTEXT, fields.at("pid")?);
    a.store(Size::Word, STACK, KEY_AT, 1);
    update(&mut a, maps.processes, KEY_AT, PROCESS_AT);
    Some(end(a))
}

/// `sched:sched_process_exec`: a program was begun; its path is the tracepoint's, its arguments are on its stack.
pub fn execute(maps: &Maps, layout: &Layout, fields: &Fields) -> Option<Vec<Instruction>> {
    let mut a = begin();
    contained(&mut a, maps);
    accept::executed(&mut a, maps, layout);
    head(&mut a, maps, Kind::Execute);
    let (marked, unmarked) = (Label::Known, Label::Unknown);
    a.jump_if_imm(KEPT, Cond::NotEqual, 0, marked);
    clear_process(&mut a);
    a.store_imm(Size::Word, STACK, PROCESS_AT + STATE, EXECUTED);
    update(&mut a, maps.processes, KEY_AT, PROCESS_AT);
    a.jump(unmarked);
    a.here(marked);
    a.store_imm(Size::Word, KEPT, STATE, EXECUTED);
    a.here(unmarked);

    // The lower half says where the path lies in what the tracepoint tells.
    a.load(Size::Word, 3, CONTEXT, fields.at("filename")?);
    a.op_imm(AND, 3, 0xffff);
    a.op(ADD, 3, CONTEXT);
    string(&mut a, function::READ_KERNEL_STRING, PATH, &[]);
    a.op(MOVE, LENGTH, RESULT);
    a.op_imm(MOVE, MORE, 0);

    // Octets of an address from here on.
    const WORD: u8 = CONTEXT;
    const STACK_POINTER: i16 = SPARE_AT;
    const MODE: i16 = SPARE_AT + 8;
    const COUNT: i16 = SPARE_AT + 16;
    const FIRST: i16 = SPARE_AT + 24;
    const LAST: i16 = SPARE_AT + 32;
    for (offset, at) in [(registers::STACK_POINTER, STACK_POINTER), (registers::MODE, MODE)] {
        a.call(function::TASK);
        a.op(MOVE, 1, RESULT);
        a.call(function::REGISTERS);
        a.op(MOVE, 3, RESULT);
        a.op_imm(ADD, 3, i32::from(offset));
        on_stack(&mut a, 1, at);
        a.op_imm(MOVE, 2, 8);
        a.call(function::READ_KERNEL);
        a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Cut);
    }
    a.op_imm(MOVE, WORD, 8);
    a.load(Size::Double, 1, STACK, MODE);
    a.op_imm(AND, 1, registers::IS_32_BITS.0);
    a.jump_if_imm(1, Cond::NotEqual, registers::IS_32_BITS.1, Label::Wide);
    a.op_imm(MOVE, WORD, 4);
    a.here(Label::Wide);
    for at in [COUNT, FIRST, LAST] {
        a.store_imm(Size::Double, STACK, at, 0);
    }
    // Their number, and then their addresses, one word each.
    for at in [COUNT, FIRST, LAST] {
        on_stack(&mut a, 1, at);
        a.op(MOVE, 2, WORD);
        if at == COUNT {
            a.op_imm(MOVE, 3, 0);
        } else if at == FIRST {
            a.op(MOVE, 3, WORD);
        } else {
            a.load(Size::Word, 3, STACK, COUNT);
            a.op(MULTIPLY, 3, WORD);
        }
        a.load(Size::Double, 4, STACK, STACK_POINTER);
        a.op(ADD, 3, 4);
        a.call(function::READ_USER);
        a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Cut);
        if at == COUNT {
            a.load(Size::Word, 1, STACK, COUNT);
            a.store(Size::Word, RECORD, 36, 1);
            a.jump_if_imm(1, Cond::Equal, 0, Label::Cut);
        }
    }
    // The kernel has put them one behind the other.
    a.load(Size::Double, MORE, STACK, LAST);
    a.load(Size::Double, 1, STACK, FIRST);
    a.op(SUB, MORE, 1);
    a.jump_if_imm(MORE, Cond::Below, REST + 1, Label::Next);
    a.op_imm(MOVE, MORE, REST);
    a.here(Label::Next);
    a.op(MOVE, 1, RECORD);
    a.op_imm(ADD, 1, HEAD as i32);
    a.op(ADD, 1, LENGTH);
    a.op(MOVE, 2, MORE);
    a.load(Size::Double, 3, STACK, FIRST);
    a.call(function::READ_USER);
    let (read, unread) = (Label::Known, Label::Cut);
    a.jump_if_imm(RESULT, Cond::Equal, 0, read);
    a.op_imm(MOVE, MORE, 0);
    a.jump(unread);
    a.here(read);
    a.jump_if_imm(MORE, Cond::Equal, REST, Label::Cut);
    a.load(Size::Double, 3, STACK, LAST);
    string(&mut a, function::READ_USER_STRING, REST, &[LENGTH, MORE]);
    a.op(ADD, MORE, RESULT);
    a.here(Label::Cut);
    a.op_imm(MOVE, directory::OFFSET, 0);
    if let Some(places) = &layout.places {
        a.load(Size::Octet, 1, RECORD, HEAD as i16);
        a.jump_if_imm(1, Cond::Equal, i32::from(b'/'), Label::Wide);
        directory::read(&mut a, places, None);
        a.here(Label::Wide);
    }
    tell(&mut a, maps, Some(directory::OFFSET));
    Some(end(a))
}

/// `syscalls:sys_enter_exit_group`, or of `exit`, which ends a thread: with which code a process ends.
pub fn code(maps: &Maps, of_thread: bool) -> Vec<Instruction> {
    let mut a = begin();
    contained(&mut a, maps);
    ends(&mut a, maps, of_thread, |a| a.load(Size::Double, 2, CONTEXT, ARGUMENTS));
    end(a)
}

/// Keeps the code that `load` puts into 2.
pub fn ends(a: &mut Program, maps: &Maps, of_thread: bool, load: impl Fn(&mut Program)) {
    key(a);
    if of_thread {
        only_first_thread(a);
    }
    look_up(a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    load(a);
    a.op_imm(AND, 2, 0xff);
    a.load(Size::Word, 1, RESULT, STATE);
    a.op_imm(AND, 1, EXECUTED);
    a.op(OR, 1, 2);
    a.op_imm(OR, 1, ENDED);
    a.store(Size::Word, RESULT, STATE, 1);
}

/// Goes on only in a process's first thread, whose number is the process's.
fn only_first_thread(a: &mut Program) {
    a.call(function::PROCESS);
    a.op(MOVE, 1, RESULT);
    a.op_imm(SHIFT_RIGHT, 1, 32);
    a.store(Size::Word, STACK, CALLER_AT, RESULT);
    a.load(Size::Word, 2, STACK, CALLER_AT);
    a.jump_if(1, Cond::NotEqual, 2, Label::Out);
}

/// `sched:sched_process_exit`: a process is over, and nothing is kept of it any more.
pub fn exit(maps: &Maps) -> Vec<Instruction> {
    let mut a = begin();
    only_first_thread(&mut a);
    contained(&mut a, maps);
    head(&mut a, maps, Kind::Exit);
    let forget = Label::Cut;
    a.jump_if_imm(KEPT, Cond::Equal, 0, Label::Out);
    a.load(Size::Word, 1, KEPT, STATE);
    a.store(Size::Double, RECORD, 80, 1);
    a.op_imm(AND, 1, EXECUTED);
    a.jump_if_imm(1, Cond::Equal, 0, forget);
    a.op_imm(MOVE, LENGTH, 0);
    a.op_imm(MOVE, MORE, 0);
    tell(&mut a, maps, None);
    a.here(forget);
    delete(&mut a, maps.processes, KEY_AT);
    end(a)
}
