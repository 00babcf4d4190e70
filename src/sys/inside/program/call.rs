//! Programs at system calls: what is asked for is kept until the call returns, and told if it has succeeded.

use super::layout::Layout;
use super::*;
use crate::sys::bpf::assembler::{AND, OR, SHIFT_LEFT, SHIFT_RIGHT};

/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC`
const WRITES: i32 = 0o1 | 0o2 | 0o100 | 0o1000;
/// What is kept of a call until it returns.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The arguments that are its paths.
    pub paths: [Option<u8>; 2],
    /// Those that are descriptors of the directories that these are relative to, unless that is where the process is.
    pub directories: [Option<u8>; 2],
    /// The one that is a number.
    pub number: Option<u8>,
    /// Another one: both are kept as numbers of 32 bits.
    pub other: Option<u8>,
    /// The one that is the descriptor of a file.
    pub file: Option<u8>,
}

const fn call(name: &'static str, kind: Kind, paths: [Option<u8>; 2], number: Option<u8>) -> Call {
    Call { name, kind, paths, directories: [None, None], number, other: None, file: None }
}

/// The same, whose first argument is a directory.
const fn call_at(name: &'static str, kind: Kind, paths: [Option<u8>; 2], number: Option<u8>) -> Call {
    Call { directories: [Some(0), None], ..call(name, kind, paths, number) }
}

/// The same with two directories and two paths.
const fn call_at_two(name: &'static str, kind: Kind) -> Call {
    Call { directories: [Some(0), Some(2)], ..call(name, kind, [Some(1), Some(3)], None) }
}

/// The calls that are told if they succeed.
pub const CALLS: [Call; 25] = [
    call("open", Kind::Open, [Some(0), None], Some(1)),
    call_at("openat", Kind::Open, [Some(1), None], Some(2)),
    call_at("openat2", Kind::OpenHow, [Some(1), None], Some(2)),
    call("creat", Kind::Create, [Some(0), None], None),
    call("unlink", Kind::Delete, [Some(0), None], None),
    call_at("unlinkat", Kind::Delete, [Some(1), None], None),
    call("rmdir", Kind::Delete, [Some(0), None], None),
    call("rename", Kind::Rename, [Some(0), Some(1)], None),
    call_at_two("renameat", Kind::Rename),
    call_at_two("renameat2", Kind::Rename),
    call("link", Kind::Link, [Some(0), Some(1)], None),
    call_at_two("linkat", Kind::Link),
    call("symlink", Kind::Symlink, [Some(0), Some(1)], None),
    Call { directories: [Some(1), None], ..call("symlinkat", Kind::Symlink, [Some(0), Some(2)], None) },
    call("chmod", Kind::Mode, [Some(0), None], Some(1)),
    call_at("fchmodat", Kind::Mode, [Some(1), None], Some(2)),
    call_at("fchmodat2", Kind::Mode, [Some(1), None], Some(2)),
    Call { file: Some(0), ..call("fchmod", Kind::Mode, [None, None], Some(1)) },
    call("truncate", Kind::Truncate, [Some(0), None], None),
    call("mkdir", Kind::Directory, [Some(0), None], Some(1)),
    call_at("mkdirat", Kind::Directory, [Some(1), None], Some(2)),
    Call { other: Some(2), ..call("mknod", Kind::Node, [Some(0), None], Some(1)) },
    Call { other: Some(3), ..call_at("mknodat", Kind::Node, [Some(1), None], Some(2)) },
    Call { other: Some(2), ..call("socket", Kind::Raw, [None, None], Some(0)) },
    Call { file: Some(0), ..call("bind", Kind::Bind, [None, None], None) },
];

fn argument(number: u8) -> i16 {
    ARGUMENTS + 8 * i16::from(number)
}

/// `syscalls:sys_enter_…`: keeps what will be told when the call returns.
pub fn enter(maps: &Maps, call: &Call) -> Vec<Instruction> {
    let mut a = begin();
    let load = |a: &mut Program, dst: u8, number: u8| a.load(Size::Double, dst, CONTEXT, argument(number));
    keep(&mut a, maps, call, load, contained);
    end(a)
}

/// What has looked already whether the process is in a container.
pub const LOOKED: fn(&mut Program, &Maps) = |_, _| {};

/// Keeps what `argument` puts into a register of the call, unless nobody will want to know of it. Before anything that takes
/// longer, `contained` is done.
pub fn keep(
    a: &mut Program,
    maps: &Maps,
    call: &Call,
    argument: impl Fn(&mut Program, u8, u8),
    contained: impl Fn(&mut Program, &Maps),
) {
    a.store_imm(Size::Double, STACK, VALUE_AT + 16, 0);
    if let Some(number) = call.number {
        if call.kind == Kind::Raw {
            socket::only_raw(a, &argument)
        } else {
            argument(a, 1, number)
        }
        a.store(Size::Double, STACK, VALUE_AT + 16, 1);
    }
    if let Some(other) = call.other {
        argument(a, 2, other);
        a.op_imm(SHIFT_LEFT, 1, 32);
        a.op_imm(SHIFT_RIGHT, 1, 32);
        a.op_imm(SHIFT_LEFT, 2, 32);
        a.op(OR, 1, 2);
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
    contained(a, maps);
    a.call(function::PROCESS);
    a.store(Size::Double, STACK, CALLER_AT, RESULT);
    for (path, at) in call.paths.into_iter().zip([VALUE_AT, VALUE_AT + 8]) {
        match path {
            Some(path) => {
                argument(a, 1, path);
                a.store(Size::Double, STACK, at, 1);
            }
            None => a.store_imm(Size::Double, STACK, at, 0),
        }
    }
    a.store_imm(Size::Word, STACK, VALUE_AT + 24, call.kind as i32);
    a.store_imm(Size::Word, STACK, VALUE_AT + 28, -1);
    if let Some(file) = call.file.or(call.directories[0]) {
        argument(a, 1, file);
        a.store(Size::Word, STACK, VALUE_AT + 28, 1);
    }
    if let Some(other) = call.directories[1] {
        // They are numbers of 32 bits; what is above those may be anything.
        argument(a, 2, other);
        a.op_imm(SHIFT_LEFT, 1, 32);
        a.op_imm(SHIFT_LEFT, 2, 32);
        a.jump_if(1, Cond::Equal, 2, Label::Read);
        a.store_imm(Size::Word, STACK, VALUE_AT + 28, directory::SEVERAL);
        a.here(Label::Read);
    }
    update(a, maps.calls, CALLER_AT, VALUE_AT);
}

/// Takes what was kept of a call that has succeeded to `VALUE_AT`.
fn returned(a: &mut Program, maps: &Maps, result: i16) {
    a.call(function::PROCESS);
    a.store(Size::Double, STACK, CALLER_AT, RESULT);
    look_up(a, maps.calls, CALLER_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    for offset in [0, 8, 16, 24] {
        a.load(Size::Double, 1, RESULT, offset);
        a.store(Size::Double, STACK, VALUE_AT + offset, 1);
    }
    delete(a, maps.calls, CALLER_AT);
    a.load(Size::Double, 1, CONTEXT, result);
    a.jump_if_imm(1, Cond::Less, 0, Label::Out);
    contained(a, maps);
}

/// `syscalls:sys_exit_…`
pub fn leave(maps: &Maps, layout: &Layout, call: &Call) -> Vec<Instruction> {
    let mut a = begin();
    returned(&mut a, maps, RETURNED);
    match call.kind {
        Kind::Bind => socket::bound(&mut a, maps, layout),
        Kind::Raw => socket::raw(&mut a, maps),
        _ => files(&mut a, maps, layout, RETURNED),
    }
    end(a)
}

/// The same behind what has begun, for all of them, with the call's result at `result` of what is told.
pub fn returned_to(mut a: Program, maps: &Maps, layout: &Layout, result: i16) -> Vec<Instruction> {
    returned(&mut a, maps, result);
    a.load(Size::Word, 1, STACK, VALUE_AT + 24);
    a.jump_if_imm(1, Cond::NotEqual, Kind::Bind as i32, Label::Other);
    socket::bound(&mut a, maps, layout);
    a.jump(Label::Out);
    a.here(Label::Other);
    a.jump_if_imm(1, Cond::NotEqual, Kind::Raw as i32, Label::Other);
    socket::raw(&mut a, maps);
    a.jump(Label::Out);
    a.here(Label::Other);
    files(&mut a, maps, layout, result);
    end(a)
}

/// Tells of a call that is about files.
fn files(a: &mut Program, maps: &Maps, layout: &Layout, result: i16) {
    head(a, maps, Kind::Open);
    a.load(Size::Word, 1, STACK, VALUE_AT + 24);
    a.store(Size::Word, RECORD, 16, 1);
    a.load(Size::Word, 1, STACK, VALUE_AT + 28);
    a.store(Size::Word, RECORD, 36, 1);
    a.load(Size::Double, 1, CONTEXT, result);
    a.store(Size::Double, RECORD, 88, 1);
    // The flags of `openat2` are the first of what its argument points to.
    a.load(Size::Double, 1, STACK, VALUE_AT + 16);
    a.store(Size::Double, RECORD, 80, 1);
    a.load(Size::Word, 2, RECORD, 16);
    a.jump_if_imm(2, Cond::NotEqual, Kind::OpenHow as i32, Label::Wide);
    a.op(MOVE, 3, 1);
    a.store_imm(Size::Double, STACK, SPARE_AT, 0);
    on_stack(a, 1, SPARE_AT);
    a.op_imm(MOVE, 2, 8);
    a.call(function::READ_USER);
    a.load(Size::Double, 1, STACK, SPARE_AT);
    a.store(Size::Double, RECORD, 80, 1);
    a.op_imm(AND, 1, WRITES);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Out);
    a.here(Label::Wide);
    unless_crowded(a, maps);
    made::mode(a, layout, result);
    a.load(Size::Double, 3, STACK, VALUE_AT);
    string(a, function::READ_USER_STRING, PATH, &[]);
    a.op(MOVE, LENGTH, RESULT);
    a.op_imm(MOVE, MORE, 0);
    a.load(Size::Double, 3, STACK, VALUE_AT + 8);
    a.jump_if_imm(3, Cond::Equal, 0, Label::Cut);
    string(a, function::READ_USER_STRING, REST, &[LENGTH]);
    a.op(MOVE, MORE, RESULT);
    a.here(Label::Cut);
    a.op_imm(MOVE, directory::OFFSET, 0);
    if let Some(places) = &layout.places {
        // A file that is given by its descriptor has no path.
        a.jump_if_imm(LENGTH, Cond::Equal, 0, Label::Wide);
        a.load(Size::Octet, 1, RECORD, HEAD as i16);
        a.jump_if_imm(1, Cond::NotEqual, i32::from(b'/'), Label::Mapped);
        a.jump_if_imm(MORE, Cond::Equal, 0, Label::Wide);
        a.op(MOVE, 2, RECORD);
        a.op(ADD, 2, LENGTH);
        a.load(Size::Octet, 1, 2, HEAD as i16);
        a.jump_if_imm(1, Cond::Equal, i32::from(b'/'), Label::Wide);
        a.here(Label::Mapped);
        directory::read(a, places, Some(VALUE_AT + 28));
        a.here(Label::Wide);
    }
    tell(a, maps, Some(directory::OFFSET));
}
