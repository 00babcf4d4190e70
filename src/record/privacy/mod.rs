//! What is left out of what is written: most of the addresses of those outside, and what proves who somebody is.
//!
//! Who forwards frames and leases containers needs all of an address, so nothing here is about what moves. Records, tapes
//! and captures pass through here on their way to the disk, and to whoever is told of them.

mod addresses;
mod cut;
mod packet;
mod secrets;

use serde::{Deserialize, Serialize};

pub use addresses::Mask;
pub use cut::without_payload;
pub use packet::rewrite;
pub use secrets::redact;

pub use crate::event::Prefixes;

/// What a topology says of privacy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Privacy {
    /// Seconds after which whatever was recorded is deleted.
    pub retention_secs: Option<u64>,
    /// Whether addresses outside the honeynet are truncated, and to what.
    pub truncate: Option<Prefixes>,
    /// Whether credentials are left out.
    pub redact: bool,
    /// Whether no frame is captured.
    pub no_frames: bool,
}
