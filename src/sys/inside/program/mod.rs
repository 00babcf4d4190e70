//! The programs that the kernel runs at tracepoints, for processes in one of the containers that are watched.
//!
//! Each that has something to tell fills a record ([`super::record`]) in memory of its processor's and copies it into the
//! ring, or counts it as lost. Strings are read from the process's memory without a fault, and only where the kernel
//! itself has just read or written them, so that they are there: arguments are those on the new program's stack, paths are
//! read as a call returns. What a process did before is kept in a map by its number: who its parent is, and which
//! connection it descends from.

mod accept;
mod call;
pub mod compat;
mod directory;
mod layout;
mod made;
mod process;
mod socket;

use super::record::{HEAD, Kind};
use super::tracefs::Fields;
use crate::sys::bpf::assembler::{ADD, Assembler, Cond, Instruction, MOVE, RESULT, SHIFT_RIGHT, STACK, Size};

pub use accept::{ACCEPTS, accepted};
pub use call::{CALLS, enter, leave};
pub use directory::Places;
pub use layout::Layout;
pub use process::{code, execute, exit, fork};
pub use socket::state;

/// Octets of a path that are kept.
pub const PATH: i32 = 512;
/// Octets of all arguments but the last, and of the last one, or of a second path.
pub const REST: i32 = 1024;
/// Octets of a record that is being filled.
pub const SCRATCH: u32 = HEAD as u32 + (PATH + 2 * REST + directory::NAMES + directory::NAME + 8) as u32;
/// How deep in the tree of cgroups a container's may be.
const LEVELS: i32 = 8;

/// Octets that are kept of a process: its parent's number inside, [`STATE`], and the connection that it belongs to as the record
/// has it; which one it had from its parent; and which file the one that it has accepted last is, and whether it has several at once.
pub const PROCESS: u32 = 88;
const STATE: i16 = 4;
const ORIGIN: i16 = 8;
const INHERITED: i16 = 32;
const ACCEPTED: i16 = 56;
const DESCRIPTOR: i16 = ACCEPTED + 24;
const SEVERAL: i16 = 84;
/// In its state: it runs a program that was told; it has ended by itself, with the code in the lowest octet.
const EXECUTED: i32 = 1 << 30;
pub const ENDED: i32 = 1 << 29;
/// Octets that are kept of a call until it returns: two pointers, two numbers of 32 bits or one of 64, its kind, a descriptor.
pub const CALL: u32 = 32;
/// Octets by which a container's own addresses are known: its cgroup, and an address in the form of IPv6.
pub const LOCAL: u32 = 24;
/// Octets that are known of a container: device and inode of its namespace of processes; which quarter of a second it
/// was when it told of files last, and of how many in that.
pub const CONTAINER: u32 = 32;
const QUARTER: i16 = 16;
const FILES: i16 = 24;
/// A quarter of a second is so many bits of nanoseconds; how many files a container may tell of in one, where others
/// have told of so many that half of the ring is full.
const QUARTER_BITS: i32 = 28;
const FEW: i32 = 1000;

/// Functions of the kernel (`enum bpf_func_id`).
mod function {
    pub const LOOK_UP: i32 = 1;
    pub const UPDATE: i32 = 2;
    pub const DELETE: i32 = 3;
    pub const NANOSECONDS: i32 = 5;
    pub const PROCESS: i32 = 14;
    pub const USER: i32 = 15;
    pub const NAME: i32 = 16;
    pub const TASK_ADDRESS: i32 = 35;
    pub const READ_USER: i32 = 112;
    pub const READ_KERNEL: i32 = 113;
    pub const READ_USER_STRING: i32 = 114;
    pub const READ_KERNEL_STRING: i32 = 115;
    pub const NUMBER_INSIDE: i32 = 120;
    pub const CGROUP: i32 = 123;
    pub const RING_OUTPUT: i32 = 130;
    pub const RING_QUERY: i32 = 134;
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
    pub locals: i32,
    /// From how many octets in the ring on there is no room for files of those that tell of many.
    pub half: i32,
    /// From how many on there is only room for what is rarer than files.
    pub crowded: i32,
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

/// Where the record has the mode of what a call has made.
const MADE: i16 = 60;

/// Places on the stack.
const CGROUP_AT: i16 = -8;
const ZERO_AT: i16 = -12;
const KEY_AT: i16 = -16;
/// Two numbers: of the thread and of the process, inside.
const INSIDE_AT: i16 = -24;
const CALLER_AT: i16 = -32;
const VALUE_AT: i16 = -64;
const SPARE_AT: i16 = -128;
/// An address, as [`LOCAL`] has it.
const LOCAL_AT: i16 = -96;
/// Which file a connection is.
const IDENTITY_AT: i16 = -160;
/// All that is kept of a process.
const PROCESS_AT: i16 = -248;

/// Where the arguments of a system call are, and its result, in what its tracepoints tell a program.
const ARGUMENTS: i16 = 16;
const RETURNED: i16 = 16;

/// Families of addresses.
const INET: i32 = 2;
const INET6: i32 = 10;

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
    Mapped,
    Cut,
    Told,
    Counted,
    Full,
    Crowded,
    Next,
    After,
    /// It is another call.
    Other,
    /// Of what a call has made.
    Asked,
    Unnamed,
    Mask,
    Unmade,
    /// Of a way up to the root.
    Climb,
    Cross,
    Rooted,
    Nowhere,
    /// Of a file that is looked for among descriptors.
    Held,
    Closed,
    /// It comes from the container itself.
    Local,
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

/// Nothing is known of a process yet.
fn clear_process(a: &mut Program) {
    for offset in (0..PROCESS as i16).step_by(8) {
        a.store_imm(Size::Double, STACK, PROCESS_AT + offset, 0);
    }
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

/// Goes on only if there is room in the ring for one more file, of which it counts a loss otherwise. A container that tells of many
/// has half of the ring for that, so that others find room; and an eighth is not for files. Nobody can begin programs or
/// connections as fast as open files: whoever does the one to hide the other hides nothing.
fn unless_crowded(a: &mut Program, maps: &Maps) {
    a.load(Size::Double, 1, RECORD, 8);
    a.op_imm(SHIFT_RIGHT, 1, QUARTER_BITS);
    a.load(Size::Double, 2, CONTAINED, QUARTER);
    a.jump_if(1, Cond::Equal, 2, Label::Counted);
    a.store(Size::Double, CONTAINED, QUARTER, 1);
    a.store_imm(Size::Double, CONTAINED, FILES, 0);
    a.here(Label::Counted);
    // Two processors that do so at once may count one.
    a.load(Size::Double, 1, CONTAINED, FILES);
    a.op_imm(ADD, 1, 1);
    a.store(Size::Double, CONTAINED, FILES, 1);
    a.map(1, maps.ring);
    // `BPF_RB_AVAIL_DATA`
    a.op_imm(MOVE, 2, 0);
    a.call(function::RING_QUERY);
    a.jump_if_imm(RESULT, Cond::Below, maps.half, Label::Next);
    a.jump_if_imm(RESULT, Cond::Below, maps.crowded, Label::Full);
    a.jump(Label::Crowded);
    a.here(Label::Full);
    a.load(Size::Double, 1, CONTAINED, FILES);
    a.jump_if_imm(1, Cond::Below, FEW, Label::Next);
    a.jump(Label::Crowded);
    a.here(Label::Next);
}

/// Hands the record over, with `LENGTH` and `MORE` octets behind its head, and as many as there are in `rest`.
fn tell(a: &mut Program, maps: &Maps, rest: Option<u8>) {
    a.store(Size::Word, RECORD, 96, LENGTH);
    a.store(Size::Word, RECORD, 100, MORE);
    a.map(1, maps.ring);
    a.op(MOVE, 2, RECORD);
    a.op(MOVE, 3, LENGTH);
    a.op(ADD, 3, MORE);
    if let Some(rest) = rest {
        a.op(ADD, 3, rest);
    }
    a.op_imm(ADD, 3, HEAD as i32);
    a.op_imm(MOVE, 4, 0);
    a.call(function::RING_OUTPUT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Told);
    a.here(Label::Crowded);
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

/// Puts the container's cgroup where its own addresses have it.
fn local(a: &mut Program) {
    a.load(Size::Double, 1, STACK, CGROUP_AT);
    a.store(Size::Double, STACK, LOCAL_AT, 1);
}
