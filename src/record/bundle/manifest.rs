//! What a bundle says of itself.

use serde::{Deserialize, Serialize};

use super::frames::Picked;
use crate::event::Utc;
use crate::record::belongings::is_harmless;

/// The version of the form below; a reader refuses others.
pub const VERSION: u32 = 1;
/// What a manifest is of, so that nothing else that the key signs can be taken for one.
pub const KIND: &str = "honeyweave session";

/// Records of the session.
pub const EVENTS: &str = "events.ndjson";
/// The last member but one.
pub const MANIFEST: &str = "manifest.json";
/// The last one.
pub const SIGNATURE: &str = "manifest.sig";
/// Where the others are.
pub const FOLDERS: [&str; 5] = ["captures", "transcripts", "files", "evidence", "samples"];
/// What the session has changed, among what is kept of its containers.
pub const DIFFERENCE: &str = "evidence/difference.json";

/// All that a bundle holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `honeyweave session`.
    pub kind: String,
    /// 1.
    pub version: u32,
    /// The program that made it.
    pub tool: String,
    /// When.
    pub made: Utc,
    /// Name of the honeynet.
    pub honeynet: String,
    /// The session: 16 hexadecimal digits.
    pub session: String,
    /// SHA-256 of the public key whose signature it bears.
    pub key: String,
    /// What the session was, as `session show --json` tells it.
    pub about: serde_json::Value,
    /// What was picked out of the captures.
    pub frames: Picked,
    /// What is not in it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What is in it.
    pub members: Vec<Member>,
}

/// A member of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its path.
    pub path: String,
    /// Its octets.
    pub octets: u64,
    /// Their SHA-256: 64 hexadecimal digits.
    pub sha256: String,
}

/// Whether a member may have that path: it leads nowhere but into the bundle, and a terminal may show it.
pub fn is_path(path: &str) -> bool {
    match path.split_once('/') {
        None => matches!(path, EVENTS | MANIFEST | SIGNATURE),
        Some((folder, name)) => FOLDERS.contains(&folder) && is_harmless(name),
    }
}
