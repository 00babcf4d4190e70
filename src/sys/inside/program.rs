//! The programs that the kernel runs at tracepoints, for processes in one of the containers that are watched.
//!
//! Each that has something to tell fills a record ([`super::record`]) in memory of its processor's and copies it into the
//! ring, or counts it as lost. Strings are read from the process's memory without a fault, and only where the kernel
//! itself has just read or written them, so that they are there: arguments are those on the new program's stack, paths are
//! read as a call returns. What a process did before is kept in a map by its number: who its parent is, and which
//! connection it descends from.

use super::record::{HEAD, Kind};
use super::tracefs::Fields;
use crate::sys::bpf::assembler::{
    ADD, AND, Assembler, Cond, Instruction, MOVE, MULTIPLY, OR, RESULT, SHIFT_RIGHT, STACK, SUB, Size,
};

/// Octets of a path that are kept.
pub const PATH: i32 = 512;
/// Octets of all arguments but the last, and of the last one, or of a second path.
pub const REST: i32 = 1024;
/// Octets of a record that is being filled.
pub const SCRATCH: u32 = HEAD as u32 + (PATH + 2 * REST) as u32;
/// How deep in the tree of cgroups a container's may be.
const LEVELS: i32 = 8;

/// Octets that are kept of a process: its parent's number inside, [`STATE`], and the connection as the record has it.
pub const PROCESS: u32 = 32;
const STATE: i16 = 4;
const ORIGIN: i16 = 8;
/// In its state: it runs a program that was told; it has ended by itself, with the code in the lowest octet.
const EXECUTED: i32 = 1 << 30;
pub const ENDED: i32 = 1 << 29;
/// Octets that are kept of a call until it returns: two pointers, a number, its kind, a descriptor.
pub const CALL: u32 = 32;
/// Octets that are known of a container: device and inode of its namespace of processes.
pub const CONTAINER: u32 = 16;

/// Functions of the kernel (`enum bpf_func_id`).
mod function {
    pub const LOOK_UP: i32 = 1;
    pub const UPDATE: i32 = 2;
    pub const DELETE: i32 = 3;
    pub const NANOSECONDS: i32 = 5;
    pub const PROCESS: i32 = 14;
    pub const USER: i32 = 15;
    pub const NAME: i32 = 16;
    pub const READ_USER: i32 = 112;
    pub const READ_KERNEL: i32 = 113;
    pub const READ_USER_STRING: i32 = 114;
    pub const READ_KERNEL_STRING: i32 = 115;
    pub const NUMBER_INSIDE: i32 = 120;
    pub const CGROUP: i32 = 123;
    pub const RING_OUTPUT: i32 = 130;
    pub const TASK: i32 = 158;
    pub const REGISTERS: i32 = 175;
}

/// The maps, as descriptors of this process.
#[derive(Clone, Copy)]
pub struct Maps {
    pub containers: i32,
    pub processes: i32,
    pub calls: i32,
    pub scratch: i32,
    pub ring: i32,
    pub lost: i32,
}

/// Registers that outlive calls. What the tracepoint tells.
const CONTEXT: u8 = 6;
/// What is kept of the process, or 0; then the length of the first string.
const KEPT: u8 = 7;
const LENGTH: u8 = 7;
/// The record.
const RECORD: u8 = 8;
/// What is known of the container; then the length of what follows the first string.
const CONTAINED: u8 = 9;
const MORE: u8 = 9;

/// Places on the stack.
const CGROUP_AT: i16 = -8;
const ZERO_AT: i16 = -12;
const KEY_AT: i16 = -16;
/// Two numbers: of the thread and of the process, inside.
const INSIDE_AT: i16 = -24;
const CALLER_AT: i16 = -32;
const VALUE_AT: i16 = -64;
const SPARE_AT: i16 = -128;

const CLONE_THREAD: i32 = 0x1_0000;
/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC`
const WRITES: i32 = 0o1 | 0o2 | 0o100 | 0o1000;
/// Where the arguments of a system call are, and its result, in what its tracepoints tell a program.
const ARGUMENTS: i16 = 16;
const RETURNED: i16 = 16;

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    /// There is nothing to tell.
    Out,
    /// It is in a container.
    Inside,
    Known,
    Unknown,
    Read,
    Wide,
    Cut,
    Told,
    Next,
    After,
}

type Program = Assembler<Label>;

/// What the program of one tracepoint begins with.
fn begin() -> Program {
    let mut a = Assembler::new();
    a.op(MOVE, CONTEXT, 1);
    a
}

/// And ends with.
fn end(mut a: Program) -> Vec<Instruction> {
    a.here(Label::Out);
    a.op_imm(MOVE, RESULT, 0);
    a.exit();
    a.done()
}

/// `dst` is a place on the stack.
fn on_stack(a: &mut Program, dst: u8, at: i16) {
    a.op(MOVE, dst, STACK);
    a.op_imm(ADD, dst, i32::from(at));
}

/// `RESULT` is where `map` has what belongs to the key at `key`, or 0.
fn look_up(a: &mut Program, map: i32, key: i16) {
    a.map(1, map);
    on_stack(a, 2, key);
    a.call(function::LOOK_UP);
}

fn update(a: &mut Program, map: i32, key: i16, value: i16) {
    a.map(1, map);
    on_stack(a, 2, key);
    on_stack(a, 3, value);
    a.op_imm(MOVE, 4, 0);
    a.call(function::UPDATE);
}

fn delete(a: &mut Program, map: i32, key: i16) {
    a.map(1, map);
    on_stack(a, 2, key);
    a.call(function::DELETE);
}

/// Goes on only if the process is in a container that is watched, however deep in cgroups of its own.
fn contained(a: &mut Program, maps: &Maps) {
    for level in 1..=LEVELS {
        a.op_imm(MOVE, 1, level);
        a.call(function::CGROUP);
        a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
        a.store(Size::Double, STACK, CGROUP_AT, RESULT);
        look_up(a, maps.containers, CGROUP_AT);
        a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Inside);
    }
    a.jump(Label::Out);
    a.here(Label::Inside);
    a.op(MOVE, CONTAINED, RESULT);
}

/// Puts the process's number where keys are.
fn key(a: &mut Program) {
    a.call(function::PROCESS);
    a.op_imm(SHIFT_RIGHT, RESULT, 32);
    a.store(Size::Word, STACK, KEY_AT, RESULT);
}

/// Finds out the process's number inside.
fn number_inside(a: &mut Program) {
    a.load(Size::Double, 1, CONTAINED, 0);
    a.load(Size::Double, 2, CONTAINED, 8);
    on_stack(a, 3, INSIDE_AT);
    a.op_imm(MOVE, 4, 8);
    a.call(function::NUMBER_INSIDE);
}

/// What is kept of the process is in `KEPT`, and the connection that it descends from at `dst` + `at`.
fn origin(a: &mut Program, maps: &Maps, dst: u8, at: i16) {
    look_up(a, maps.processes, KEY_AT);
    a.op(MOVE, KEPT, RESULT);
    a.jump_if_imm(KEPT, Cond::NotEqual, 0, Label::Known);
    for offset in [0, 8, 16] {
        a.store_imm(Size::Double, dst, at + offset, 0);
    }
    a.jump(Label::Unknown);
    a.here(Label::Known);
    for offset in [0, 8, 16] {
        a.load(Size::Double, 1, KEPT, ORIGIN + offset);
        a.store(Size::Double, dst, at + offset, 1);
    }
    a.here(Label::Unknown);
}

/// Begins a record. See [`super::record`] for where everything is.
fn head(a: &mut Program, maps: &Maps, kind: Kind) {
    a.store_imm(Size::Word, STACK, ZERO_AT, 0);
    look_up(a, maps.scratch, ZERO_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    a.op(MOVE, RECORD, RESULT);
    a.load(Size::Double, 1, STACK, CGROUP_AT);
    a.store(Size::Double, RECORD, 0, 1);
    a.call(function::NANOSECONDS);
    a.store(Size::Double, RECORD, 8, RESULT);
    a.store_imm(Size::Word, RECORD, 16, kind as i32);
    a.call(function::USER);
    a.store(Size::Word, RECORD, 20, RESULT);
    key(a);
    a.store(Size::Word, RECORD, 24, RESULT);
    number_inside(a);
    a.load(Size::Word, 1, STACK, INSIDE_AT + 4);
    a.store(Size::Word, RECORD, 28, 1);
    a.op(MOVE, 1, RECORD);
    a.op_imm(ADD, 1, 40);
    a.op_imm(MOVE, 2, 16);
    a.call(function::NAME);
    a.store_imm(Size::Double, RECORD, 32, 0);
    for at in [80, 88, 96] {
        a.store_imm(Size::Double, RECORD, at, 0);
    }
    origin(a, maps, RECORD, 56);
    a.jump_if_imm(KEPT, Cond::Equal, 0, Label::Next);
    a.load(Size::Word, 1, KEPT, 0);
    a.store(Size::Word, RECORD, 32, 1);
    a.here(Label::Next);
}

/// Hands the record over, with `LENGTH` and `MORE` octets behind its head.
fn tell(a: &mut Program, maps: &Maps) {
    a.store(Size::Word, RECORD, 96, LENGTH);
    a.store(Size::Word, RECORD, 100, MORE);
    a.map(1, maps.ring);
    a.op(MOVE, 2, RECORD);
    a.op(MOVE, 3, LENGTH);
    a.op(ADD, 3, MORE);
    a.op_imm(ADD, 3, HEAD as i32);
    a.op_imm(MOVE, 4, 0);
    a.call(function::RING_OUTPUT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Told);
    look_up(a, maps.lost, ZERO_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Told);
    a.op_imm(MOVE, 1, 1);
    a.add_atomically(RESULT, 1);
    a.here(Label::Told);
}

/// Reads a string of at most `most` octets from 3, by `function`, to behind what the record has; its length is `RESULT`,
/// 0 if it cannot be read.
fn string(a: &mut Program, function: i32, most: i32, behind: &[u8]) {
    a.op(MOVE, 1, RECORD);
    a.op_imm(ADD, 1, HEAD as i32);
    for length in behind {
        a.op(ADD, 1, *length);
    }
    a.op_imm(MOVE, 2, most);
    a.call(function);
    a.jump_if_imm(RESULT, Cond::Less, 0, Label::Read);
    a.jump(Label::After);
    a.here(Label::Read);
    a.op_imm(MOVE, RESULT, 0);
    a.here(Label::After);
}

/// `task:task_newtask`: a process that is begun inherits what is known of the one that begins it.
pub fn fork(maps: &Maps, fields: &Fields) -> Option<Vec<Instruction>> {
    let mut a = begin();
    a.load(Size::Double, 1, CONTEXT, fields.at("clone_flags")?);
    a.op_imm(AND, 1, CLONE_THREAD);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Out);
    contained(&mut a, maps);
    key(&mut a);
    number_inside(&mut a);
    a.load(Size::Word, 1, STACK, INSIDE_AT + 4);
    a.store(Size::Word, STACK, VALUE_AT, 1);
    a.store_imm(Size::Word, STACK, VALUE_AT + STATE, 0);
    origin(&mut a, maps, STACK, VALUE_AT + ORIGIN);
    a.load(Size::Word, 1, CONTEXT, fields.at("pid")?);
    a.store(Size::Word, STACK, KEY_AT, 1);
    update(&mut a, maps.processes, KEY_AT, VALUE_AT);
    Some(end(a))
}

/// `sched:sched_process_exec`: a program was begun; its path is the tracepoint's, its arguments are on its stack.
pub fn execute(maps: &Maps, fields: &Fields) -> Option<Vec<Instruction>> {
    let mut a = begin();
    contained(&mut a, maps);
    head(&mut a, maps, Kind::Execute);
    let (marked, unmarked) = (Label::Known, Label::Unknown);
    a.jump_if_imm(KEPT, Cond::NotEqual, 0, marked);
    for offset in [0, 8, 16, 24] {
        a.store_imm(Size::Double, STACK, VALUE_AT + offset, 0);
    }
    a.store_imm(Size::Word, STACK, VALUE_AT + STATE, EXECUTED);
    update(&mut a, maps.processes, KEY_AT, VALUE_AT);
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
    tell(&mut a, maps);
    Some(end(a))
}

/// `syscalls:sys_enter_exit_group`, or of `exit`, which ends a thread: with which code a process ends.
pub fn code(maps: &Maps, of_thread: bool) -> Vec<Instruction> {
    let mut a = begin();
    contained(&mut a, maps);
    key(&mut a);
    if of_thread {
        only_first_thread(&mut a);
    }
    look_up(&mut a, maps.processes, KEY_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    a.load(Size::Double, 2, CONTEXT, ARGUMENTS);
    a.op_imm(AND, 2, 0xff);
    a.load(Size::Word, 1, RESULT, STATE);
    a.op_imm(AND, 1, EXECUTED);
    a.op(OR, 1, 2);
    a.op_imm(OR, 1, ENDED);
    a.store(Size::Word, RESULT, STATE, 1);
    end(a)
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
    tell(&mut a, maps);
    a.here(forget);
    delete(&mut a, maps.processes, KEY_AT);
    end(a)
}

/// What is kept of a call until it returns.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The arguments that are its paths.
    pub paths: [Option<u8>; 2],
    /// The one that is a number.
    pub number: Option<u8>,
    /// The one that is the descriptor of a file.
    pub file: Option<u8>,
}

const fn call(name: &'static str, kind: Kind, paths: [Option<u8>; 2], number: Option<u8>) -> Call {
    Call { name, kind, paths, number, file: None }
}

/// The calls that are told if they succeed.
pub const CALLS: [Call; 21] = [
    call("open", Kind::Open, [Some(0), None], Some(1)),
    call("openat", Kind::Open, [Some(1), None], Some(2)),
    call("openat2", Kind::OpenHow, [Some(1), None], Some(2)),
    call("creat", Kind::Create, [Some(0), None], None),
    call("unlink", Kind::Delete, [Some(0), None], None),
    call("unlinkat", Kind::Delete, [Some(1), None], None),
    call("rmdir", Kind::Delete, [Some(0), None], None),
    call("rename", Kind::Rename, [Some(0), Some(1)], None),
    call("renameat", Kind::Rename, [Some(1), Some(3)], None),
    call("renameat2", Kind::Rename, [Some(1), Some(3)], None),
    call("link", Kind::Link, [Some(0), Some(1)], None),
    call("linkat", Kind::Link, [Some(1), Some(3)], None),
    call("symlink", Kind::Symlink, [Some(0), Some(1)], None),
    call("symlinkat", Kind::Symlink, [Some(0), Some(2)], None),
    call("chmod", Kind::Mode, [Some(0), None], Some(1)),
    call("fchmodat", Kind::Mode, [Some(1), None], Some(2)),
    call("fchmodat2", Kind::Mode, [Some(1), None], Some(2)),
    Call { file: Some(0), ..call("fchmod", Kind::Mode, [None, None], Some(1)) },
    call("truncate", Kind::Truncate, [Some(0), None], None),
    call("accept", Kind::Accept, [Some(1), None], None),
    call("accept4", Kind::Accept, [Some(1), None], None),
];

fn argument(number: u8) -> i16 {
    ARGUMENTS + 8 * i16::from(number)
}

/// `syscalls:sys_enter_…`: keeps what will be told when the call returns.
pub fn enter(maps: &Maps, call: &Call) -> Vec<Instruction> {
    let mut a = begin();
    a.store_imm(Size::Double, STACK, VALUE_AT + 16, 0);
    if let Some(number) = call.number {
        a.load(Size::Double, 1, CONTEXT, argument(number));
        a.store(Size::Double, STACK, VALUE_AT + 16, 1);
    }
    let asked = match call.kind {
        Kind::Open => Some(WRITES),
        Kind::Mode => Some(0o111),
        _ => None,
    };
    if let Some(asked) = asked {
        a.op_imm(AND, 1, asked);
        a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    }
    contained(&mut a, maps);
    a.call(function::PROCESS);
    a.store(Size::Double, STACK, CALLER_AT, RESULT);
    for (path, at) in call.paths.into_iter().zip([VALUE_AT, VALUE_AT + 8]) {
        match path {
            Some(path) => {
                a.load(Size::Double, 1, CONTEXT, argument(path));
                a.store(Size::Double, STACK, at, 1);
            }
            None => a.store_imm(Size::Double, STACK, at, 0),
        }
    }
    a.store_imm(Size::Word, STACK, VALUE_AT + 24, call.kind as i32);
    a.store_imm(Size::Word, STACK, VALUE_AT + 28, -1);
    if let Some(file) = call.file {
        a.load(Size::Double, 1, CONTEXT, argument(file));
        a.store(Size::Word, STACK, VALUE_AT + 28, 1);
    }
    update(&mut a, maps.calls, CALLER_AT, VALUE_AT);
    end(a)
}

/// Takes what was kept of a call that has succeeded to `VALUE_AT`.
fn returned(a: &mut Program, maps: &Maps) {
    a.call(function::PROCESS);
    a.store(Size::Double, STACK, CALLER_AT, RESULT);
    look_up(a, maps.calls, CALLER_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    for offset in [0, 8, 16, 24] {
        a.load(Size::Double, 1, RESULT, offset);
        a.store(Size::Double, STACK, VALUE_AT + offset, 1);
    }
    delete(a, maps.calls, CALLER_AT);
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.jump_if_imm(1, Cond::Less, 0, Label::Out);
    contained(a, maps);
}

/// `syscalls:sys_exit_…` of those that are about files.
pub fn leave(maps: &Maps) -> Vec<Instruction> {
    let mut a = begin();
    returned(&mut a, maps);
    head(&mut a, maps, Kind::Open);
    a.load(Size::Word, 1, STACK, VALUE_AT + 24);
    a.store(Size::Word, RECORD, 16, 1);
    a.load(Size::Word, 1, STACK, VALUE_AT + 28);
    a.store(Size::Word, RECORD, 36, 1);
    a.load(Size::Double, 1, CONTEXT, RETURNED);
    a.store(Size::Double, RECORD, 88, 1);
    // The flags of `openat2` are the first of what its argument points to.
    a.load(Size::Double, 1, STACK, VALUE_AT + 16);
    a.store(Size::Double, RECORD, 80, 1);
    a.load(Size::Word, 2, RECORD, 16);
    a.jump_if_imm(2, Cond::NotEqual, Kind::OpenHow as i32, Label::Wide);
    a.op(MOVE, 3, 1);
    a.store_imm(Size::Double, STACK, SPARE_AT, 0);
    on_stack(&mut a, 1, SPARE_AT);
    a.op_imm(MOVE, 2, 8);
    a.call(function::READ_USER);
    a.load(Size::Double, 1, STACK, SPARE_AT);
    a.store(Size::Double, RECORD, 80, 1);
    a.op_imm(AND, 1, WRITES);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    a.here(Label::Wide);
    a.load(Size::Double, 3, STACK, VALUE_AT);
    string(&mut a, function::READ_USER_STRING, PATH, &[]);
    a.op(MOVE, LENGTH, RESULT);
    a.op_imm(MOVE, MORE, 0);
    a.load(Size::Double, 3, STACK, VALUE_AT + 8);
    a.jump_if_imm(3, Cond::Equal, 0, Label::Cut);
    string(&mut a, function::READ_USER_STRING, REST, &[LENGTH]);
    a.op(MOVE, MORE, RESULT);
    a.here(Label::Cut);
    tell(&mut a, maps);
    end(a)
}

/// `syscalls:sys_exit_accept…`: from now on the process, and whatever it begins, belongs to this connection.
pub fn accepted(maps: &Maps) -> Vec<Instruction> {
    const INET: i32 = 2;
    const INET6: i32 = 10;
    const ADDRESS: i16 = SPARE_AT;
    let mut a = begin();
    returned(&mut a, maps);
    for offset in [0, 8, 16, 24] {
        a.store_imm(Size::Double, STACK, ADDRESS + offset, 0);
    }
    // Of IPv4 it is 16 octets long, and what lies behind it may be anything.
    on_stack(&mut a, 1, ADDRESS);
    a.op_imm(MOVE, 2, 8);
    a.load(Size::Double, 3, STACK, VALUE_AT);
    a.call(function::READ_USER);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Out);
    // The connection, as the record has it.
    a.store_imm(Size::Double, STACK, VALUE_AT + 16, 0);
    a.store_imm(Size::Double, STACK, VALUE_AT + 24, 0);
    a.load(Size::Double, 3, STACK, VALUE_AT);
    a.store_imm(Size::Double, STACK, VALUE_AT, 0);
    a.store_imm(Size::Double, STACK, VALUE_AT + 8, 0);
    a.load(Size::Word, 1, STACK, ADDRESS);
    a.store(Size::Word, STACK, VALUE_AT + ORIGIN, 1);
    a.op_imm(AND, 1, 0xffff);
    a.jump_if_imm(1, Cond::Equal, INET6, Label::Wide);
    a.jump_if_imm(1, Cond::NotEqual, INET, Label::Out);
    a.load(Size::Word, 1, STACK, ADDRESS + 4);
    a.store(Size::Word, STACK, VALUE_AT + 16, 1);
    a.op_imm(AND, 1, i32::from_ne_bytes([0xff, 0, 0, 0]));
    // What comes from the host itself is somebody's who is in already.
    a.jump_if_imm(1, Cond::Equal, i32::from_ne_bytes([127, 0, 0, 0]), Label::Out);
    a.jump(Label::Read);
    a.here(Label::Wide);
    a.op_imm(ADD, 3, 8);
    on_stack(&mut a, 1, VALUE_AT + 16);
    a.op_imm(MOVE, 2, 16);
    a.call(function::READ_USER);
    a.here(Label::Read);
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

/// `sock:inet_sock_set_state`: a connection is begun, or waited for. In other states the process may be anybody.
pub fn socket(maps: &Maps, fields: &Fields) -> Option<Vec<Instruction>> {
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
    head(&mut a, maps, Kind::Listen);
    for (field, at) in [("family", 36), ("sport", 80), ("dport", 82)] {
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
    tell(&mut a, maps);
    Some(end(a))
}
