//! How a host speaks: the fields that all its answers have. IP identification is the one whose next value a host has to
//! remember.

use super::super::{AddrRange, Cx, HostsConfig};
use super::{Hosts, Target};
use crate::emulate::reply::Voice;
use crate::emulate::{FlowLabel, Identity, IpIdClass, Personality};
use crate::frame::Frame;
use crate::stack::FlowKey;
use crate::wire::{ETH, Instant, Packet, word_of};

/// Counters of a large population. Hosts that share one have other starting
/// points, and look like hosts that talk to others, too.
const COUNTERS: u64 = 65_536;

/// The counters of a node's hosts.
pub(super) struct IpIds {
    identity: Identity,
    /// What each host that counts all its packets in one has sent; a power of two of them.
    shared: Vec<u16>,
    /// Counted before this process began: a restart shows no host starting anew.
    before: Option<u16>,
    /// Addresses that are leased, and what stands for who has them: a host that is given another address counts on.
    homes: Vec<(u128, u128)>,
}

impl IpIds {
    /// The counters of all hosts of `config`.
    pub(super) fn new(identity: Identity, config: &HostsConfig) -> IpIds {
        let hosts = config.ranges.iter().map(AddrRange::len).fold(0, u64::saturating_add);
        // At least 256: neighbors in a /24 never share one, however few of them are ours.
        let counters = if config.single { 1 } else { hosts.clamp(256, COUNTERS).next_power_of_two() };
        IpIds { identity, shared: vec![0; counters as usize], before: None, homes: Vec::new() }
    }

    /// Says that hosts count from `now` on. Before, they have sent a few packets a second.
    pub(super) fn begin(&mut self, now: Instant) {
        self.before.get_or_insert((now.total_millis() / 400) as u16);
    }

    /// Which addresses are leased, and what stands for who has them.
    pub(super) fn set_homes(&mut self, homes: impl Iterator<Item = (u128, u128)>) {
        self.homes.clear();
        self.homes.extend(homes);
    }

    /// What stands for the host whose address is the word `host`: that, unless it has leased it.
    #[inline(always)]
    pub(super) fn home(&self, host: u128) -> u128 {
        if self.homes.is_empty() {
            return host;
        }
        self.homes.iter().find(|(leased, _)| *leased == host).map_or(host, |(_, home)| *home)
    }

    /// The identification of the next packet of the host whose address is the word `host`. `peer` is the counter of
    /// the session or connection that it belongs to, if that keeps one.
    #[inline(always)]
    pub(super) fn next(&mut self, class: IpIdClass, host: u128, peer: Option<u16>, cx: &mut Cx<'_>) -> u16 {
        let host = self.home(host);
        match class {
            IpIdClass::Zero => 0,
            IpIdClass::Random => cx.rng.next_u32() as u16,
            IpIdClass::PerPeer => self.identity.ip_id(host).wrapping_add(peer.unwrap_or(0)),
            IpIdClass::Shared => {
                let at = self.identity.counter(host) as usize & (self.shared.len() - 1);
                let sent = self.shared[at];
                self.shared[at] = sent.wrapping_add(1);
                self.identity.ip_id(host).wrapping_add(self.before.unwrap_or(0)).wrapping_add(sent)
            }
        }
    }

    /// Takes note that a device makes `more` packets of the last one, each with the next identification.
    pub(super) fn skip(&mut self, class: IpIdClass, host: u128, more: u16) {
        if class == IpIdClass::Shared && more > 0 {
            let at = self.identity.counter(self.home(host)) as usize & (self.shared.len() - 1);
            self.shared[at] = self.shared[at].wrapping_add(more);
        }
    }
}

impl Hosts {
    /// Sends an answer back to where the frame that it was written over came from.
    #[inline]
    pub(super) fn reply(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        self.sessions.answered(frame.len() - ETH);
        let port = frame.meta.port;
        cx.send(port, frame);
    }

    #[inline(always)]
    pub(super) fn voice(&mut self, target: &Target, packet: &Packet, ports: u32, ip_id: u16, cx: &mut Cx<'_>) -> Voice {
        let personality = self.template(target.template).personality.get();
        let ip_id = self.ids.next(personality.ip_id, target.word, Some(ip_id), cx);
        let flow_label = match personality.flow_label {
            FlowLabel::Always if !packet.is_v4() => self.identity.flow_label(packet.dst_word, packet.src_word, ports),
            _ => 0,
        };
        Voice { mac: target.mac, personality, ip_id, hops: target.hops, flow_label }
    }

    /// The flow label of a connection's segments.
    #[inline(always)]
    pub(super) fn label_of(&self, personality: &Personality, key: &FlowKey) -> u32 {
        if key.local.is_ipv4() || personality.flow_label == FlowLabel::Zero {
            return 0;
        }
        let ports = u32::from(key.local_port) << 16 | u32::from(key.remote_port);
        self.identity.flow_label(word_of(key.local), word_of(key.remote), ports)
    }
}
