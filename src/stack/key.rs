//! The flow table's key.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::wire::word_of;

/// One TCP connection as the host sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct FlowKey {
    /// The host.
    pub local: IpAddr,
    /// The peer.
    pub remote: IpAddr,
    /// The host's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(word_of(self.local));
        state.write_u128(word_of(self.remote));
        state.write_u32(u32::from(self.local_port) << 16 | u32::from(self.remote_port));
    }
}

impl FlowKey {
    /// The host's address and port.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// The peer's address and port.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }
}
