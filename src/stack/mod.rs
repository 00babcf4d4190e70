//! TCP: what a host becomes for whoever completes a handshake with it.

mod acceptable;
mod budget;
mod conn;
pub mod cookie;
mod gather;
mod half_open;
mod key;
mod pipe;
mod ranges;
mod recovery;
mod segment;
mod socket;
mod splice;
mod syn_look;
mod tcb;

pub use budget::Budget;
pub use conn::{Agreed, Conn};
pub use half_open::{HalfOpen, HalfOpenTable, Remembered, timestamp};
pub use key::FlowKey;
pub use pipe::{Dialer, Due, PipeEnd, PipeReset, RelayEnd, RelayReader, RelayWriter, Wake, pipe};
pub use segment::{Incoming, Outgoing, SynInfo};
pub use socket::Sockets;
pub use splice::{OpenEnd, Passed, Shift, Splice};
pub use syn_look::{SynLook, timestamps};
pub use tcb::KEEP_ALIVE;
