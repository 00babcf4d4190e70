//! Header views and writers: what crosses a wire, without state and without I/O.
//!
//! Everything that `smoltcp::wire` has is used as it is; this layer adds what it
//! lacks: MAC addresses that print and parse, 802.1Q tags in place, incremental
//! checksums, TCP options in their order, a one-pass flow key and the
//! segmentation of GSO super-frames.

pub mod checksum;
pub mod gso;
mod mac;

pub use mac::{Mac, ParseMacError};
pub use smoltcp::time::{Duration, Instant};
