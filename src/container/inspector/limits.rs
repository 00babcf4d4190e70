//! How much of what an intruder leaves is looked at and kept.

use serde::{Deserialize, Serialize};

/// How much is looked at, told and kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Changes that are listed.
    pub changes: usize,
    /// Entries of one directory that are looked at.
    pub per_directory: usize,
    /// Octets of the largest file whose contents are kept.
    pub file: u64,
    /// Octets of contents in one archive.
    pub archive: u64,
    /// Octets that are read.
    pub read: u64,
    /// Octets of all archives and samples of a honeynet.
    pub total: u64,
    /// Seconds that an archive or sample is kept.
    pub age_secs: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            changes: 100_000,
            per_directory: 20_000,
            file: 32 << 20,
            archive: 256 << 20,
            read: 2 << 30,
            total: 2 << 30,
            age_secs: 90 * 86_400,
        }
    }
}
