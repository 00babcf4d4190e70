//! All that is known of one session in one file: the evidence bundle.
//!
//! ```text
//! SESSION.tar.zst
//!     events.ndjson                 its records, and those of what followed from it
//!     captures/NAME.pcapng          its frames, those of each device
//!     transcripts/NAME.cast         what was typed and shown
//!     files/NAME                    what else lies in its directory
//!     evidence/difference.json      what it has changed in its containers, and nobody else
//!     evidence/NAME.json.zst        the listings of these that this follows from
//!     evidence/NAME.tar.zst         what was changed in its containers, by whomever
//!     samples/SHA256.zst            executables and scripts among what it has changed
//!     manifest.json                 path, octets and SHA-256 of all of these, and what the session was
//!     manifest.sig                  the Ed25519 signature of manifest.json, 64 octets
//! ```
//! The manifest comes last, so that a bundle is written in one go. Unless it is asked to be plain, all of it is one file that is encrypted with a password, in the format of age
//! (<https://age-encryption.org/v1>), which `age --decrypt` reads as well.

mod captured;
mod changed;
mod files;
mod frames;
mod key;
mod manifest;
mod pack;
mod pipe;
mod read;
mod seal;
mod write;

pub use frames::{Pick, Picked, Selection, select};
pub use key::{KEY, Key, KeyError, PublicKey};
pub use manifest::{Manifest, Member};
pub use read::{ReadError, Signature, Verified, check_beginning, verify, verify_by, verify_unpacked};
pub use seal::{Sealed, WORK, open as unseal, seal};
pub use write::{ExportError, Job, export};

/// What the name of a bundle ends in.
pub const ENDING: &str = ".tar.zst";
/// What that of an encrypted one ends in besides.
pub const SEALED: &str = ".age";

/// Members of a bundle, its manifest and signature included.
const MEMBERS: usize = 20_000;
/// Octets of a bundle when it is unpacked. What is larger is not written, and not read.
const UNPACKED: u64 = 64 << 30;
/// Octets of a manifest.
const MANIFEST_OCTETS: u64 = 16 << 20;

#[cfg(test)]
mod tests;
