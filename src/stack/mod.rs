//! TCP: what a host becomes for whoever completes a handshake with it.

mod conn;
mod half_open;
mod pipe;

pub use conn::{Buffers, Conn, FlowKey, Incoming, KEEP_ALIVE, Outgoing, Scratch, SynInfo};
pub use half_open::{HalfOpen, HalfOpenTable, timestamp};
pub use pipe::{PipeEnd, PipeReset, RelayEnd, RelayReader, RelayWriter, Wake, pipe};
