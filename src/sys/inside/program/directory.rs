//! Where a process is, or a directory that it has open: the names from there up to the root of all mounts that its container
//! has, innermost first, each with a zero octet behind it, and one more such octet if that is all of them.
//!
//! They are read where the kernel has them at that moment, a name after the other. There is no function of the kernel's for it
//! at tracepoints, so where that is, the kernel's own types say.

use super::*;
use crate::sys::bpf::assembler::{MULTIPLY, SHIFT_LEFT};
use crate::sys::bpf::types::Types;

/// Names and mounts on the way up; who is deeper is nowhere that is told.
const STEPS: usize = 20;
/// Octets of all names, and of one.
pub const NAMES: i32 = 512;
pub const NAME: i32 = 256;

/// The octets of names so far.
pub const OFFSET: u8 = CONTEXT;
/// Instead of a descriptor: there are two directories.
pub const SEVERAL: i32 = -2;

/// Places on the stack.
const HERE: i16 = SPARE_AT;
const MOUNT: i16 = SPARE_AT + 8;
const ENTRY: i16 = SPARE_AT + 16;
const ABOVE: i16 = SPARE_AT + 24;

/// Where the kernel has what leads there.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    fs: i32,
    files: i32,
    pwd: i32,
    table: i32,
    descriptors: i32,
    path: i32,
    mount: i32,
    entry: i32,
    of_mount: i32,
    root: i32,
    parent_mount: i32,
    mountpoint: i32,
    parent: i32,
    name: i32,
}

impl Places {
    /// Those of a kernel with these types; none if it has things otherwise than any that is known.
    pub fn of(types: &Types) -> Option<Places> {
        let at = |structure, member| types.offset(structure, member).and_then(|at| i32::try_from(at).ok());
        Some(Places {
            fs: at("task_struct", "fs")?,
            files: at("task_struct", "files")?,
            pwd: at("fs_struct", "pwd")?,
            table: at("files_struct", "fdt")?,
            descriptors: at("fdtable", "fd")?,
            path: at("file", "f_path")?,
            mount: at("path", "mnt")?,
            entry: at("path", "dentry")?,
            of_mount: at("mount", "mnt")?,
            root: at("vfsmount", "mnt_root")?,
            parent_mount: at("mount", "mnt_parent")?,
            mountpoint: at("mount", "mnt_mountpoint")?,
            parent: at("dentry", "d_parent")?,
            name: at("dentry", "d_name")? + at("qstr", "name")?,
        })
    }
}

/// Puts at `to` what the pointer at `from` points to, so many octets further.
fn follow(a: &mut Program, to: i16, from: i16, octets: i32) {
    on_stack(a, 1, to);
    a.op_imm(MOVE, 2, 8);
    a.load(Size::Double, 3, STACK, from);
    a.op_imm(ADD, 3, octets);
    a.call(function::READ_KERNEL);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, Label::Nowhere);
}

/// Reads, to behind `LENGTH` and `MORE` octets of strings, where the process is, or the directory with the descriptor at
/// `descriptor`, which is negative if there is none. `OFFSET` is how many octets that are.
pub fn read(a: &mut Program, places: &Places, descriptor: Option<i16>) {
    a.call(function::TASK_ADDRESS);
    a.store(Size::Double, STACK, HERE, RESULT);
    if let Some(descriptor) = descriptor {
        a.load(Size::Word, 1, STACK, descriptor);
        a.op(MOVE, 2, 1);
        a.op_imm(ADD, 2, -SEVERAL);
        a.op_imm(SHIFT_LEFT, 2, 32);
        a.jump_if_imm(2, Cond::Equal, 0, Label::Nowhere);
        a.jump_if_imm(1, Cond::Above, i32::MAX, Label::Climb);
        for octets in [places.files, places.table, places.descriptors] {
            let from = HERE;
            follow(a, HERE, from, octets);
        }
        a.load(Size::Word, 1, STACK, descriptor);
        a.op_imm(MULTIPLY, 1, 8);
        a.load(Size::Double, 2, STACK, HERE);
        a.op(ADD, 2, 1);
        a.store(Size::Double, STACK, HERE, 2);
        follow(a, HERE, HERE, 0);
        follow(a, MOUNT, HERE, places.path + places.mount);
        follow(a, ENTRY, HERE, places.path + places.entry);
        a.jump(Label::Cross);
        a.here(Label::Climb);
    }
    follow(a, HERE, HERE, places.fs);
    follow(a, MOUNT, HERE, places.pwd + places.mount);
    follow(a, ENTRY, HERE, places.pwd + places.entry);
    a.here(Label::Cross);
    // What is told there is a part of what is mounted.
    a.load(Size::Double, 1, STACK, MOUNT);
    a.op_imm(ADD, 1, -places.of_mount);
    a.store(Size::Double, STACK, MOUNT, 1);
    a.op_imm(MOVE, OFFSET, 0);
    for _ in 0..STEPS {
        follow(a, HERE, MOUNT, places.of_mount + places.root);
        a.load(Size::Double, 1, STACK, HERE);
        a.load(Size::Double, 2, STACK, ENTRY);
        a.jump_if(1, Cond::Equal, 2, Label::Cross);
        follow(a, ABOVE, ENTRY, places.parent);
        follow(a, HERE, ENTRY, places.name);
        a.load(Size::Double, 1, STACK, ABOVE);
        a.load(Size::Double, 2, STACK, ENTRY);
        a.jump_if(1, Cond::Equal, 2, Label::Nowhere);
        a.store(Size::Double, STACK, ENTRY, 1);
        a.jump_if_imm(OFFSET, Cond::Above, NAMES, Label::Nowhere);
        behind(a);
        a.op_imm(MOVE, 2, NAME);
        a.load(Size::Double, 3, STACK, HERE);
        a.call(function::READ_KERNEL_STRING);
        a.jump_if_imm(RESULT, Cond::Less, 0, Label::Nowhere);
        a.op(ADD, OFFSET, RESULT);
        a.jump(Label::Climb);
        a.here(Label::Cross);
        follow(a, ABOVE, MOUNT, places.parent_mount);
        follow(a, ENTRY, MOUNT, places.mountpoint);
        a.load(Size::Double, 1, STACK, ABOVE);
        a.load(Size::Double, 2, STACK, MOUNT);
        a.jump_if(1, Cond::Equal, 2, Label::Rooted);
        a.store(Size::Double, STACK, MOUNT, 1);
        a.here(Label::Climb);
    }
    a.here(Label::Nowhere);
    a.op_imm(MOVE, OFFSET, 0);
    a.jump(Label::Climb);
    a.here(Label::Rooted);
    a.jump_if_imm(OFFSET, Cond::Above, NAMES, Label::Cross);
    behind(a);
    a.store_imm(Size::Octet, 1, 0, 0);
    a.op_imm(ADD, OFFSET, 1);
    a.jump(Label::Climb);
    a.here(Label::Cross);
    a.op_imm(MOVE, OFFSET, 0);
    a.here(Label::Climb);
}

/// 1 is behind all that there is so far.
fn behind(a: &mut Program) {
    a.op(MOVE, 1, RECORD);
    a.op_imm(ADD, 1, HEAD as i32);
    for length in [LENGTH, MORE, OFFSET] {
        a.op(ADD, 1, length);
    }
}
