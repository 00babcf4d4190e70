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
    /// Seconds for which files are read: a file with holes has more octets than any disk.
    pub read_secs: u64,
    /// Octets of all archives and samples of a honeynet.
    pub total: u64,
    /// Seconds that an archive or sample is kept.
    pub age_secs: u64,
}

impl Limits {
    /// The most that a file may have whose contents are kept: they are in memory.
    pub const MOST_FILE: u64 = 256 << 20;
    /// The most that an archive may have: more is not read of one container.
    pub const MOST_ARCHIVE: u64 = 2 << 30;
    /// The most that all may have.
    pub const MOST_TOTAL: u64 = 1 << 50;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            changes: 100_000,
            per_directory: 20_000,
            file: 32 << 20,
            archive: 256 << 20,
            read: 2 << 30,
            read_secs: 60,
            total: 2 << 30,
            age_secs: 90 * 86_400,
        }
    }
}
