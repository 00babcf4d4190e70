//! Which mode a call gave to what it has made, as the kernel has it then: what was asked for, without what the process takes
//! away from all modes.

use super::layout::{self, Layout};
use super::*;
use crate::sys::bpf::assembler::AND;

/// `FMODE_CREATED` of the kernel: this very opening has made the file.
const CREATED: i32 = 1 << 20;
/// `O_CREAT`, and `O_TMPFILE` without that it has to be a directory, which has another number on each machine.
const CREATES: i32 = 0o100;
const UNNAMED: i32 = 0o20_000_000;

/// Puts at [`MADE`] of the record the mode of the file that a call about files has opened, if it has made that, or what is to be
/// taken away from the mode that another call has asked for. If it cannot be found, there is none.
pub fn mode(a: &mut Program, layout: &Layout, result: i16) {
    let made = &layout.made;
    a.load(Size::Word, 1, RECORD, 16);
    a.jump_if_imm(1, Cond::Above, Kind::Listen as i32, Label::Mask);
    a.jump_if_imm(1, Cond::Above, Kind::Create as i32, Label::Unmade);
    a.jump_if_imm(1, Cond::Equal, Kind::Create as i32, Label::Asked);
    a.load(Size::Double, 1, RECORD, 80);
    a.op_imm(AND, 1, CREATES | UNNAMED);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Unmade);
    a.here(Label::Asked);
    layout::file(a, layout, |a| a.load(Size::Double, 1, CONTEXT, result), Label::Unmade);
    // One without a name is always new, and not marked as such.
    a.load(Size::Double, 1, RECORD, 80);
    a.op_imm(AND, 1, UNNAMED);
    a.jump_if_imm(1, Cond::NotEqual, 0, Label::Unnamed);
    layout::read(a, made.open, 4, SPARE_AT, Label::Unmade);
    a.load(Size::Word, 1, STACK, SPARE_AT);
    a.op_imm(AND, 1, CREATED);
    a.jump_if_imm(1, Cond::Equal, 0, Label::Unmade);
    a.here(Label::Unnamed);
    layout::follow(a, made.inode, Label::Unmade);
    layout::read(a, made.mode, 2, SPARE_AT, Label::Unmade);
    a.load(Size::Half, 1, STACK, SPARE_AT);
    a.store(Size::Word, RECORD, MADE, 1);
    a.jump(Label::Unmade);
    a.here(Label::Mask);
    layout::task(a);
    layout::follow(a, made.fs, Label::Unmade);
    layout::read(a, made.umask, 4, SPARE_AT, Label::Unmade);
    a.load(Size::Word, 1, STACK, SPARE_AT);
    a.store(Size::Word, RECORD, MADE, 1);
    a.here(Label::Unmade);
}
