//! Images from elsewhere: the root of a system as a tar archive or as an OCI
//! image, for versions that no recipe builds any more, and what somebody made of a
//! container.
//!
//! All of it is hostile. Archives name whatever files they like, and what lies in
//! a container's overlay was put there by intruders. So a process of its own reads
//! it (see `worker`): without a network, with the new root as its root, with no
//! more rights than to give files away. Whatever it reads is bounded ([`Limits`]).

mod adopt;
mod archive;
mod compression;
mod container;
mod layout;
mod manifest;
mod overlay;
mod still;
mod unpack;
pub mod worker;

pub use adopt::{Imported, capture, import};
pub use archive::{Content, Member, members};
pub use compression::Compression;
pub use container::{Overlay, find_overlay, lowers};
pub use layout::Layout;
pub use manifest::{Config, Descriptor, config, layers};

use serde::{Deserialize, Serialize};

/// What an archive may consist of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Octets of everything unpacked, headers included, of all layers together.
    pub octets: u64,
    /// Files, folders and links of all layers together.
    pub members: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { octets: 16 << 30, members: 2_000_000 }
    }
}

/// Why something is not imported: what is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read, or not written to disk.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{0}")]
    Bad(String),
}

impl ReadError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ReadError {
        let what = what.into();
        move |error| ReadError::Io { what, error }
    }
}

/// `Bad`, from a format string.
macro_rules! bad {
    ($($text:tt)*) => { $crate::container::image::import::ReadError::Bad(format!($($text)*)) };
}
use bad;

/// What an archive said, for an error: one line, not long.
fn shown(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(200).flat_map(char::escape_default).collect();
    text
}

#[cfg(test)]
mod tests;
