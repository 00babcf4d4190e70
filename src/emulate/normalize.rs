//! What of a container's own habits is replaced by its host's.

use serde::{Deserialize, Serialize};

/// Which fields of what a container sends are written as the host's personality writes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Normalize {
    /// TTL and hop limit. What a program has chosen for itself (traceroute's) is never changed.
    pub ttl: bool,
    /// The options, window and sequence numbers of TCP connections that it begins.
    pub options: bool,
    /// IP identification, DF and the IPv6 flow label.
    pub ip_id: bool,
    /// TOS and traffic class.
    pub tos: bool,
    /// The timestamp clock of TCP connections that it begins.
    pub timestamps: bool,
    /// Regular expressions (of the crate regex, over octets) and what their matches in the first octets that a service
    /// says become.
    pub banners: Vec<(String, String)>,
}

impl Default for Normalize {
    fn default() -> Normalize {
        Normalize { ttl: true, options: true, ip_id: true, tos: true, timestamps: true, banners: Vec::new() }
    }
}
