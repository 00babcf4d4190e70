//! Where the running kernel has what it knows of a descriptor and of what that is. What a program told the kernel is not taken in
//! its place where it can be written over meanwhile.

use super::*;
use crate::sys::bpf::assembler::MULTIPLY;
use crate::sys::bpf::types::Types;

/// All that the programs look at, as the kernel's types have it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// From a task to its descriptors' files.
    files: [i32; 3],
    /// How many there may be, beside the last step of that.
    most: i32,
    /// From what a file is to its number.
    number: i32,
    pub sockets: Sockets,
    pub made: Made,
    /// Without them paths are told as they are given, and not whence.
    pub places: Option<Places>,
}

/// Of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// From a file to its socket's end.
    socket: [i32; 2],
    pub family: i32,
    /// The other end.
    pub port: i32,
    pub ipv4: i32,
    pub ipv6: i32,
    /// The own one.
    pub own_port: i32,
    pub own_ipv4: i32,
    pub own_ipv6: i32,
    pub kind: i32,
    pub protocol: i32,
    /// What of it was asked for by name: where, and the bit for the port (`SOCK_BINDPORT_LOCK`).
    pub asked: (i32, i32),
}

/// Of what a call has made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// How a file is open.
    pub open: i32,
    /// From a file to what it is, and the mode of that.
    pub inode: i32,
    pub mode: i32,
    /// From a task to what it takes away from modes.
    pub fs: i32,
    pub umask: i32,
}

impl Layout {
    /// As `types` has them; none if that has not all of them.
    pub fn of(types: &Types) -> Option<Layout> {
        const BINDPORT: i32 = 8;
        let at = |structure, member| i32::try_from(types.offset(structure, member)?).ok();
        let common = at("sock", "__sk_common")?;
        let of_common = |member| Some(common + at("sock_common", member)?);
        // Older kernels have it as some bits among others.
        let asked = i32::try_from(types.bit("sock", "sk_userlocks")?).ok()?;
        let sockets = Sockets {
            socket: [at("file", "private_data")?, at("socket", "sk")?],
            family: of_common("skc_family")?,
            port: of_common("skc_dport")?,
            ipv4: of_common("skc_daddr")?,
            ipv6: of_common("skc_v6_daddr")?,
            own_port: of_common("skc_num")?,
            own_ipv4: of_common("skc_rcv_saddr")?,
            own_ipv6: of_common("skc_v6_rcv_saddr")?,
            kind: at("sock", "sk_type")?,
            protocol: at("sock", "sk_protocol")?,
            asked: (asked / 8, BINDPORT << (asked % 8)),
        };
        let made = Made {
            open: at("file", "f_mode")?,
            inode: at("file", "f_inode")?,
            mode: at("inode", "i_mode")?,
            fs: at("task_struct", "fs")?,
            umask: at("fs_struct", "umask")?,
        };
        let files = [at("task_struct", "files")?, at("files_struct", "fdt")?, at("fdtable", "fd")?];
        let (most, number) = (at("fdtable", "max_fds")?, at("inode", "i_ino")?);
        Some(Layout { files, most, number, sockets, made, places: Places::of(types) })
    }
}

/// Descriptors of which each is looked at.
const DESCRIPTORS: i32 = 64;

/// An address of the kernel's that is followed.
pub const FOLLOWED: u8 = KEPT;

/// Reads `length` octets that lie `offset` behind the kernel's address in `FOLLOWED` to `to` on the stack, or goes to `failed`.
pub fn read(a: &mut Program, offset: i32, length: i32, to: i16, failed: Label) {
    on_stack(a, 1, to);
    a.op_imm(MOVE, 2, length);
    a.op(MOVE, 3, FOLLOWED);
    a.op_imm(ADD, 3, offset);
    a.call(function::READ_KERNEL);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, failed);
}

/// Follows the pointer that lies there. What is at `SPARE_AT` is lost.
pub fn follow(a: &mut Program, offset: i32, failed: Label) {
    read(a, offset, 8, SPARE_AT, failed);
    a.load(Size::Double, FOLLOWED, STACK, SPARE_AT);
}

/// Follows to this task.
pub fn task(a: &mut Program) {
    a.call(function::TASK_ADDRESS);
    a.op(MOVE, FOLLOWED, RESULT);
}

/// Follows to the table of this task's descriptors.
fn descriptors(a: &mut Program, layout: &Layout, failed: Label) {
    task(a);
    let [files, table, _] = layout.files;
    [files, table].into_iter().for_each(|offset| follow(a, offset, failed));
}

/// Follows to the file of the descriptor that `load` puts into 1.
pub fn file(a: &mut Program, layout: &Layout, load: impl Fn(&mut Program), failed: Label) {
    descriptors(a, layout, failed);
    follow(a, layout.files[2], failed);
    load(a);
    a.op_imm(MULTIPLY, 1, 8);
    a.op(ADD, FOLLOWED, 1);
    follow(a, 0, failed);
}

/// Follows to the socket of such a descriptor. Goes out if there is none.
pub fn socket(a: &mut Program, layout: &Layout, load: impl Fn(&mut Program)) {
    file(a, layout, load, Label::Out);
    socket_of(a, layout);
}

/// Follows from a file to its socket.
fn socket_of(a: &mut Program, layout: &Layout) {
    layout.sockets.socket.into_iter().for_each(|offset| follow(a, offset, Label::Out));
}

/// The same as [`socket`]; which file it is, as [`is_open`] compares it, is at `identity` then.
pub fn socket_and_identity(a: &mut Program, layout: &Layout, load: impl Fn(&mut Program), identity: i16) {
    file(a, layout, load, Label::Out);
    a.store(Size::Double, STACK, identity, FOLLOWED);
    follow(a, layout.made.inode, Label::Out);
    a.store(Size::Double, STACK, identity + 8, FOLLOWED);
    read(a, layout.number, 8, identity + 16, Label::Out);
    a.load(Size::Double, FOLLOWED, STACK, identity);
    socket_of(a, layout);
}

/// Goes on if this process has the file open that `identity` on the stack says: its address, that of what it is, the number of that,
/// and the descriptor that it was first. Goes to `closed` otherwise. What the record has is lost.
///
/// A file may have other descriptors by now, as `dup2` makes them for whoever talks to standard input and output; those below
/// [`DESCRIPTORS`] are looked at. Where another file lies at its address, the number tells: the kernel gives sockets ascending ones.
pub fn is_open(a: &mut Program, maps: &Maps, layout: &Layout, identity: i16, closed: Label) {
    const MOST_AT: i16 = SPARE_AT + 8;
    a.store_imm(Size::Word, STACK, ZERO_AT, 0);
    look_up(a, maps.scratch, ZERO_AT);
    a.jump_if_imm(RESULT, Cond::Equal, 0, Label::Out);
    a.op(MOVE, RECORD, RESULT);
    descriptors(a, layout, closed);
    read(a, layout.most, 4, MOST_AT, closed);
    follow(a, layout.files[2], closed);
    // The smallest of tables has as many.
    a.op(MOVE, 1, RECORD);
    a.op_imm(MOVE, 2, DESCRIPTORS * 8);
    a.op(MOVE, 3, FOLLOWED);
    a.call(function::READ_KERNEL);
    a.jump_if_imm(RESULT, Cond::NotEqual, 0, closed);
    a.load(Size::Double, 2, STACK, identity);
    for descriptor in 0..DESCRIPTORS as i16 {
        a.load(Size::Double, 1, RECORD, descriptor * 8);
        a.jump_if(1, Cond::Equal, 2, Label::Held);
    }
    a.load(Size::Word, 1, STACK, identity + 24);
    a.load(Size::Word, 2, STACK, MOST_AT);
    let within = Label::Asked;
    a.jump_if(1, Cond::Below, 2, within);
    a.jump(closed);
    a.here(within);
    a.op_imm(MULTIPLY, 1, 8);
    a.op(ADD, FOLLOWED, 1);
    follow(a, 0, closed);
    a.load(Size::Double, 1, STACK, identity);
    a.jump_if(FOLLOWED, Cond::NotEqual, 1, closed);
    a.here(Label::Held);
    a.load(Size::Double, FOLLOWED, STACK, identity);
    follow(a, layout.made.inode, closed);
    a.load(Size::Double, 1, STACK, identity + 8);
    a.jump_if(FOLLOWED, Cond::NotEqual, 1, closed);
    follow(a, layout.number, closed);
    a.load(Size::Double, 1, STACK, identity + 16);
    a.jump_if(FOLLOWED, Cond::NotEqual, 1, closed);
}
