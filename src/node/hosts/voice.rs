//! IP identification: the one field whose next value a host has to remember.

use std::net::IpAddr;

use super::super::Cx;
use crate::emulate::{ClockTable, Identity, IpIdClass};
use crate::wire::word_of;

/// Hosts whose counters are remembered; those of others resume from the clock.
const HOSTS: usize = 65_536;

/// The counters of a node's hosts.
pub(super) struct IpIds {
    identity: Identity,
    shared: ClockTable<u128, u16>,
}

impl IpIds {
    pub(super) fn new(identity: Identity, seed: u64) -> IpIds {
        IpIds { identity, shared: ClockTable::new(HOSTS, seed) }
    }

    /// The identification of the next packet of `host`. `peer` is the counter of
    /// the session or connection that it belongs to, if that keeps one.
    #[inline]
    pub(super) fn next(&mut self, class: IpIdClass, host: &IpAddr, peer: Option<u16>, cx: &mut Cx<'_>) -> u16 {
        match class {
            IpIdClass::Zero => 0,
            IpIdClass::Random => cx.rng.next_u32() as u16,
            IpIdClass::PerPeer => self.identity.ip_id(host).wrapping_add(peer.unwrap_or(0)),
            IpIdClass::Shared => match self.shared.slot(&word_of(*host)) {
                Ok(at) => {
                    let counter = self.shared.value(at);
                    *counter = counter.wrapping_add(1);
                    *counter
                }
                Err(vacant) => {
                    // A host sends a few packets a second that nobody here sees:
                    // a forgotten counter has gone on meanwhile.
                    let elapsed = (cx.now.total_millis() / 400) as u16;
                    let start = self.identity.ip_id(host).wrapping_add(elapsed);
                    self.shared.insert_new(word_of(*host), vacant, start);
                    start
                }
            },
        }
    }
}
