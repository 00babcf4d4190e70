//! Programs that the kernel runs: put together here instruction by instruction, as they are small and a compiler for
//! them would be needed wherever honeyweave is built, and the few commands of `bpf(2)` that they take.

pub(in crate::sys) mod assembler;
pub(in crate::sys) mod call;
pub(in crate::sys) mod types;
