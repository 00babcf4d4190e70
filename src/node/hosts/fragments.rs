//! Identifications of what a container sends in pieces: all pieces of a datagram get one, as its host's system would have
//! chosen it, or nobody could put them together. Only of what kernels cut up: who writes fragments of TCP writes them
//! itself, and they stay as they are.

use std::net::IpAddr;

use super::super::Cx;
use super::Hosts;
use super::outward::OutwardKey;
use crate::emulate::{ClockTable, Personality};
use crate::frame::Frame;
use crate::stack::FlowKey;
use crate::wire::{Duration, ETH, Instant, Packet, be16, proto};

/// Datagrams that are remembered. Their fragments follow each other closely.
const DATAGRAMS: usize = 1024;
/// For so long a fragment belongs to what came before: as long as Linux waits for all of them.
const LIFE: Duration = Duration::from_secs(30);

/// What fragments of one datagram have in common (RFC 791 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Common {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    id: u16,
}

struct Datagram {
    number: u16,
    begun: Instant,
    /// Its beginning was sent: another one is of another datagram.
    has_first: bool,
}

/// The datagrams that a node's containers are sending in pieces.
pub(super) struct Fragments {
    datagrams: ClockTable<Common, Datagram>,
}

impl Fragments {
    pub(super) fn new(seed: u64) -> Fragments {
        Fragments { datagrams: ClockTable::new(DATAGRAMS, seed) }
    }
}

/// Whether a packet is a fragment that is not the beginning of its datagram: no header of a transport is in it.
pub(super) fn is_later(packet: &Packet, frame: &[u8]) -> bool {
    packet.fragment && packet.is_v4() && be16(frame, ETH + 6) & 0x1fff != 0
}

impl Hosts {
    /// The identification of a container's IPv4 fragment; none if it keeps its own.
    pub(super) fn number_of_fragment(
        &mut self,
        key: &OutwardKey,
        personality: &Personality,
        frame: &Frame,
        packet: &Packet,
        beside: bool,
        cx: &mut Cx<'_>,
    ) -> Option<u16> {
        if packet.proto == proto::TCP {
            return None;
        }
        let bytes = frame.bytes();
        let (id, is_first) = (be16(bytes, ETH + 4), !is_later(packet, bytes));
        let common = Common { src: packet.src(), dst: packet.dst(), proto: packet.proto, id };
        if let Some(datagram) = self.fragments.datagrams.get(&common)
            && cx.now - datagram.begun <= LIFE
            && !(is_first && datagram.has_first)
        {
            datagram.has_first |= is_first;
            return Some(datagram.number);
        }
        // Only the beginning tells ports.
        let whole = OutwardKey { flow: FlowKey { local_port: 0, remote_port: 0, ..key.flow }, ..*key };
        let number = self.number(if is_first { key } else { &whole }, personality, frame, packet, beside, cx);
        self.fragments.datagrams.insert(common, Datagram { number, begun: cx.now, has_first: is_first });
        Some(number)
    }
}
