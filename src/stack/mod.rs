//! TCP: what a host becomes for whoever completes a handshake with it.

mod conn;
mod half_open;
mod pipe;
mod splice;

pub use conn::{Buffers, Conn, FlowKey, Incoming, KEEP_ALIVE, Outgoing, Scratch, SynInfo};
pub use half_open::{HalfOpen, HalfOpenTable, timestamp};
pub use pipe::{PipeEnd, PipeReset, RelayEnd, RelayReader, RelayWriter, Wake, pipe};
pub use splice::{OpenEnd, Passed, Splice};
