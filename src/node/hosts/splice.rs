//! Connections that pass through: once the attacker's and the container's side are
//! both open and nothing waits between them, their segments are changed and sent
//! on, and neither side is ours any more ([`crate::stack::Splice`]).
//!
//! How such a connection retransmits and slows down is then the container's way, so
//! only a host that passes for what the container is, a Linux system, does it by default.

use super::super::Cx;
use super::Hosts;
use super::flow::{App, Ending, Flow, Inner};
use super::inner::SETTLED;
use crate::emulate::{Splicing, Template};
use crate::event::{EventId, Party};
use crate::frame::Frame;
use crate::stack::{Conn, Passed, Splice, timestamp};
use crate::wire::{ETH, Instant, Packet, TcpHeader, checksum, flag, set_flow_label, set_macs, word_of};

/// Ticks a second of a Linux system's timestamp clock.
pub(super) const LINUX_TICKS: u32 = 1000;

/// The container's timestamp clock, as it was last seen.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    value: u32,
    at: Instant,
}

impl Clock {
    pub(super) fn seen(value: u32, now: Instant) -> Clock {
        Clock { value, at: now }
    }

    pub(super) fn value(&self) -> u32 {
        self.value
    }

    fn now(&self, now: Instant) -> u32 {
        self.value.wrapping_add(((now - self.at).total_micros() / 1000) as u32)
    }
}

/// Whether connections into a template's containers may pass through.
pub(super) fn is_allowed(template: &Template) -> bool {
    match template.backend.as_ref().map(|backend| backend.splice) {
        Some(Splicing::Auto) => template.personality.get().is_linux,
        Some(Splicing::Always) => true,
        Some(Splicing::Never) | None => false,
    }
}

impl Flow {
    /// Makes one of its two connections, if nothing is left to be passed on or
    /// acknowledged, and both have agreed on the same.
    pub(super) fn try_splice(&mut self, now: Instant) -> bool {
        let Flow { wire, conn: outer_conn, app: App::Inner(inner), closing: None, ending: None, .. } = self else {
            return false;
        };
        if !inner.may_splice || inner.splice.is_some() || !inner.established || inner.banner.is_some() {
            return false;
        }
        let (Some(mut outer), Some(mut container)) =
            (outer_conn.open_end(), inner.conn.as_ref().and_then(Conn::open_end))
        else {
            return false;
        };
        match (wire.ts, inner.clock) {
            (Some((offset, _)), Some(clock)) if wire.personality.ts_hz == LINUX_TICKS => {
                outer.ts_clock = timestamp(offset, LINUX_TICKS, now);
                container.ts_clock = clock.now(now);
            }
            (None, None) => {}
            _ => return false,
        }
        outer.own_scale = wire.scale;
        inner.splice = Some(Splice::new(&outer, &container));
        true
    }

    /// Makes two of it again, each where it stands, so that each can be reset.
    pub(super) fn unsplice(&mut self) {
        if let App::Inner(inner) = &mut self.app
            && let Some(splice) = inner.splice.take()
        {
            self.conn.stands_at(splice.next_outward());
            if let Some(conn) = &mut inner.conn {
                conn.stands_at(splice.next_inward());
            }
        }
    }

    /// Whether its segments pass through.
    pub(super) fn is_spliced(&self) -> bool {
        matches!(&self.app, App::Inner(inner) if inner.splice.is_some())
    }
}

impl Hosts {
    /// Passes a segment of the attacker's on to the container.
    pub(super) fn splice_inward(
        &mut self,
        index: usize,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        cx: &mut Cx<'_>,
    ) {
        let Some(flow) = self.flows.slab.get_mut(index) else { return cx.consume(frame) };
        let key = flow.wire.key;
        let App::Inner(inner) = &flow.app else { return cx.consume(frame) };
        let lease = self.leases.by_host.get_mut(&inner.whose);
        let Some((lease, port)) = lease.and_then(|lease| lease.port.map(|port| (lease, port))) else {
            return cx.consume(frame);
        };
        flow.last = cx.now;
        lease.spoken_to(Party { ip: key.remote.into(), mac: flow.wire.peer_mac, l4_port: key.remote_port }, cx);
        let payload = packet.end - packet.l4 - tcp.len;
        if payload > 0 {
            flow.watch.ask(cx.now);
        }
        if payload > 0 && !flow.told {
            flow.told = true;
            let mut event = flow.event(EventId::TcpData, cx.now);
            cx.emit(&mut event, &frame.bytes()[packet.l4 + tcp.len..packet.end]);
        }
        let (mac, peer_mac) = (flow.wire.mac, flow.wire.peer_mac);
        let App::Inner(inner) = &mut flow.app else { return cx.consume(frame) };
        let Some(splice) = &mut inner.splice else { return cx.consume(frame) };
        let partial = frame.meta.offload.needs_csum();
        let before = splice.next_inward().0;
        let passed = splice.inward(&mut frame.bytes_mut()[packet.l4..packet.end], payload, partial);
        flow.bytes_in += u64::from(splice.next_inward().0.wrapping_sub(before));
        flow.wire.next = splice.next_outward();
        set_macs(frame.bytes_mut(), mac, peer_mac);
        cx.send(port, frame);
        self.passed(index, passed, Ending::ResetByPeer, cx);
    }

    /// Passes a segment of the container's on to the attacker, as the host's system would write it.
    pub(super) fn splice_outward(
        &mut self,
        index: usize,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        cx: &mut Cx<'_>,
    ) {
        let Hosts { flows, leases, ids, pace, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        let payload = packet.end - packet.l4 - tcp.len;
        if let App::Inner(inner) = &flow.app
            && let Some(lease) = leases.by_host.get_mut(&inner.whose)
        {
            lease.last = cx.now;
            if payload > 0
                && let Some((wait, took)) = flow.watch.say(cx.now)
                && lease.live.is_some_and(|live| flow.opened - live > SETTLED)
            {
                pace.learn(flow.wire.key.local_port, wait, took);
            }
        }
        let Flow { wire, app: App::Inner(inner), .. } = flow else { return cx.consume(frame) };
        let Some(splice) = &mut inner.splice else { return cx.consume(frame) };
        let (partial, segments) = (frame.meta.offload.needs_csum(), frame.segments());
        let before = splice.next_outward().0;
        let bytes = frame.bytes_mut();
        let passed = splice.outward(&mut bytes[packet.l4..packet.end], payload, partial);
        wire.next = splice.next_outward();
        wire.bytes_out += u64::from(wire.next.0.wrapping_sub(before));
        wire.octets_out += (packet.end - ETH) as u64;
        wire.ip_id = wire.ip_id.wrapping_add(1);
        let normal = inner.normal;
        let is_rst = tcp.has(flag::RST);
        let ttl = wire.personality.ttl_of(packet.is_v4()).saturating_sub(wire.hops).max(1);
        if packet.is_v4() {
            let ip_id = ids.next(wire.personality.ip_id, word_of(wire.key.local), Some(wire.ip_id), cx);
            let ip = &mut bytes[ETH..packet.l4];
            if normal.ip_id {
                ip[4..6].copy_from_slice(&ip_id.to_be_bytes());
                let df = if is_rst { wire.personality.rst_df } else { wire.personality.tcp_df };
                ip[6] = if df { 0x40 } else { 0 };
            }
            if normal.ttl {
                ip[8] = ttl;
            }
            if normal.tos {
                ip[1] = 0;
            }
            ip[10..12].fill(0);
            let sum = checksum::of(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            if normal.ttl {
                bytes[ETH + 7] = ttl;
            }
            if normal.tos {
                (bytes[ETH], bytes[ETH + 1]) = (0x60, bytes[ETH + 1] & 0x0f);
            }
            if normal.ip_id {
                set_flow_label(bytes, wire.flow_label);
            }
        }
        // Each segment of a super-frame gets the next identification.
        wire.ip_id = wire.ip_id.wrapping_add(segments as u16 - 1);
        ids.skip(wire.personality.ip_id, word_of(wire.key.local), segments as u16 - 1);
        set_macs(bytes, wire.peer_mac, wire.mac);
        let port = wire.port;
        cx.send(port, frame);
        self.passed(index, passed, Ending::ResetByUs, cx);
    }

    fn passed(&mut self, index: usize, passed: Passed, reset: Ending, cx: &mut Cx<'_>) {
        let ending = match passed {
            Passed::On => return,
            Passed::Closed => Ending::Closed,
            Passed::Reset => reset,
        };
        let Some(flow) = self.flows.slab.get_mut(index) else { return };
        flow.ending.get_or_insert(ending);
        // Both ends know of it already.
        if let App::Inner(inner) = &mut flow.app
            && let Inner { conn, splice, .. } = &mut **inner
            && splice.take().is_some()
            && let Some(conn) = conn.take()
        {
            conn.end(&mut self.sockets);
        }
        self.finish(index, cx);
    }
}
