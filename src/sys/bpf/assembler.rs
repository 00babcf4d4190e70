//! Instructions of the kernel's BPF machine, and labels for their jumps (`Documentation/bpf/standardization/instruction-set.rst`
//! of the kernel).

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination register in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Operand sizes of loads and stores.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Size {
    Octet = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// What a comparison asks.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Cond {
    Equal = 0x10,
    Above = 0x20,
    NotEqual = 0x50,
    Below = 0xa0,
    /// As signed numbers.
    Less = 0xc0,
}

pub const ADD: u8 = 0x00;
pub const SUB: u8 = 0x10;
pub const MULTIPLY: u8 = 0x20;
pub const OR: u8 = 0x40;
pub const AND: u8 = 0x50;
pub const SHIFT_LEFT: u8 = 0x60;
pub const SHIFT_RIGHT: u8 = 0x70;
pub const MOVE: u8 = 0xb0;

/// Where functions leave their result.
pub const RESULT: u8 = 0;
/// The end of the stack, which has 512 octets.
pub const STACK: u8 = 10;

/// A program on its way. `L` names where jumps go, which is forward only.
pub struct Assembler<L> {
    pub code: Vec<Instruction>,
    jumps: Vec<(usize, L)>,
}

impl<L: Copy + PartialEq> Assembler<L> {
    pub fn new() -> Assembler<L> {
        Assembler { code: Vec::new(), jumps: Vec::new() }
    }

    fn put(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.code.push(Instruction { code, registers: dst | src << 4, offset, immediate });
    }

    /// `dst = *(size *)(src + offset)`
    pub fn load(&mut self, size: Size, dst: u8, src: u8, offset: i16) {
        self.put(0x61 | size as u8, dst, src, offset, 0);
    }

    /// `*(size *)(dst + offset) = src`
    pub fn store(&mut self, size: Size, dst: u8, offset: i16, src: u8) {
        self.put(0x63 | size as u8, dst, src, offset, 0);
    }

    /// `*(size *)(dst + offset) = immediate`
    pub fn store_imm(&mut self, size: Size, dst: u8, offset: i16, immediate: i32) {
        self.put(0x62 | size as u8, dst, 0, offset, immediate);
    }

    /// `*(u64 *)dst += src`, whoever else does the same.
    pub fn add_atomically(&mut self, dst: u8, src: u8) {
        self.put(0xdb, dst, src, 0, 0);
    }

    /// `dst op= src`
    pub fn op(&mut self, op: u8, dst: u8, src: u8) {
        self.put(0x0f | op, dst, src, 0, 0);
    }

    /// `dst op= immediate`
    pub fn op_imm(&mut self, op: u8, dst: u8, immediate: i32) {
        self.put(0x07 | op, dst, 0, 0, immediate);
    }

    /// `dst` becomes 16 bits in network order that were in host order, or the other way round.
    pub fn swap_half(&mut self, dst: u8) {
        self.put(0xdc, dst, 0, 0, 16);
    }

    /// `dst = map`, which is one of this process's descriptors. It is two instructions long.
    pub fn map(&mut self, dst: u8, map: i32) {
        self.put(0x18, dst, 1, 0, map);
        self.put(0, 0, 0, 0, 0);
    }

    pub fn jump(&mut self, to: L) {
        self.jumps.push((self.code.len(), to));
        self.put(0x05, 0, 0, 0, 0);
    }

    pub fn jump_if(&mut self, dst: u8, cond: Cond, src: u8, to: L) {
        self.jumps.push((self.code.len(), to));
        self.put(0x0d | cond as u8, dst, src, 0, 0);
    }

    pub fn jump_if_imm(&mut self, dst: u8, cond: Cond, immediate: i32, to: L) {
        self.jumps.push((self.code.len(), to));
        self.put(0x05 | cond as u8, dst, 0, 0, immediate);
    }

    /// `RESULT = function(1, 2, ...)`; the registers up to 5 are lost.
    pub fn call(&mut self, function: i32) {
        self.put(0x85, 0, 0, 0, function);
    }

    pub fn exit(&mut self) {
        self.put(0x95, 0, 0, 0, 0);
    }

    /// This is where `label` is: what jumps there lands at the next instruction.
    pub fn here(&mut self, label: L) {
        let at = self.code.len();
        for (from, _) in self.jumps.extract_if(.., |(_, to)| *to == label) {
            self.code[from].offset = (at - from - 1) as i16;
        }
    }

    /// The program.
    pub fn done(self) -> Vec<Instruction> {
        debug_assert!(self.jumps.is_empty(), "a jump to a label that is nowhere");
        self.code
    }
}
