//! TCP: what a host becomes for whoever completes a handshake with it.

mod pipe;

pub use pipe::{PipeEnd, PipeReset, RelayEnd, Wake, pipe};
