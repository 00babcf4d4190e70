//! The connection inside: from the attacker's own address into the host's
//! container, over the container's own TAP.

use super::super::Cx;
use super::flow::{App, Ending, Flow, Inner};
use super::grant::Whose;
use super::lease::Leases;
use super::middle::Outer;
use super::splice::Clock;
use super::{Hosts, Target, patience};
use crate::emulate::Backend;
use crate::event::{DropReason, Event, EventId, Party};
use crate::frame::{Frame, PortNo};
use crate::stack::{Conn, FlowKey, Incoming, Outgoing, Sockets, SynLook, timestamps};
use crate::wire::{Duration, Headers, Mac, Packet, Segment, TcpHeader, TcpOptions, flag, proto};

/// How long a container may take from the request until its service answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to connect to a service that does not listen yet: an eighth of the time that its
/// container has been up, within these bounds.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// A service that refuses although the container has run for so long is not there.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

impl Hosts {
    /// What is behind a host's container ports.
    pub(super) fn backend(&self, target: &Target) -> Option<&Backend> {
        self.template(target.template).backend.as_ref()
    }

    /// A segment of the container in a connection that we opened into it.
    pub(super) fn inner_ingress(
        &mut self,
        index: usize,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        whose: Whose,
        cx: &mut Cx<'_>,
    ) {
        let Hosts { flows, sockets, leases, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return cx.consume(frame) };
        // Another container of the same host may write the same addresses and ports.
        if matches!(&flow.app, App::Inner(inner) if inner.whose != whose) {
            return cx.discard(frame, DropReason::Policy);
        }
        if flow.is_spliced() {
            return self.splice_outward(index, frame, packet, tcp, cx);
        }
        let key = flow.wire.key;
        let recent = flow.wire.ts.map(|(_, recent)| recent);
        let inside =
            Inside { key, mac: flow.wire.mac, peer_mac: flow.wire.peer_mac, port: frame.meta.port, clock: None };
        if let App::Inner(inner) = &mut flow.app {
            (inner.tries, inner.deaf_since) = (0, None);
            if let Some(lease) = leases.by_host.get_mut(&whose) {
                lease.last = cx.now;
            }
            let mut segment = Incoming::of(tcp, packet.payload(frame.bytes()));
            let options = TcpOptions::parse(segment.options);
            if let Some((value, _)) = options.timestamps.filter(|_| inner.offered.timestamps.is_some()) {
                inner.clock = Some(Clock::seen(value, cx.now));
            }
            // Timestamps take room in each segment, of which smoltcp does not know.
            let mss = options.mss.unwrap_or(536).saturating_sub(if inner.clock.is_some() { 12 } else { 0 }).max(64);
            let scale = options.window_scale.map_or([1; 3], |shift| [3, 3, shift]);
            let opening = [2, 4, (mss >> 8) as u8, mss as u8, scale[0], scale[1], scale[2], 1];
            if tcp.has(flag::SYN) {
                segment.options = &opening;
            }
            let Inner { conn, look, offered, clock, .. } = &mut **inner;
            let inside = Inside { clock: clock.map(|clock| (recent.unwrap_or(0), clock.value())), ..inside };
            // What finds no socket is lost; the container sends it again.
            let taken = conn
                .as_mut()
                .is_none_or(|conn| conn.ingress(&segment, cx.now, sockets, |out| inside.send(look, offered, out, cx)));
            flows.dirty.push(index);
            if !taken {
                return cx.discard(frame, DropReason::NoBuffer);
            }
        }
        cx.consume(frame);
    }

    /// Moves what a connection into a container has to move.
    pub(super) fn drive_inner(&mut self, index: usize, cx: &mut Cx<'_>) {
        if !self.drive_middle(index, cx) {
            return;
        }
        let Hosts { flows, sockets, leases, pace, banners, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        let key = flow.wire.key;
        let (mac, peer_mac) = (flow.wire.mac, flow.wire.peer_mac);
        let recent = flow.wire.ts.map_or(0, |(_, recent)| recent);
        let App::Inner(inner) = &mut flow.app else { return };
        if inner.splice.is_some() {
            return;
        }
        let host = inner.whose.host;
        let lease = leases.by_host.get_mut(&inner.whose).filter(|lease| lease.id == inner.lease);
        let Some(lease) = lease.filter(|lease| inner.established || !lease.releasing) else {
            return self.without_container(index, cx);
        };
        let Some(port) = lease.port else {
            if cx.now >= inner.leased + PATIENCE {
                flow.fail(cx.now);
            } else {
                let at = inner.leased + PATIENCE;
                flows.schedule(index, Some(at));
            }
            return;
        };
        // What does not answer is not in use.
        if inner.established {
            lease.spoken_to(Party { ip: key.remote.into(), mac: peer_mac, l4_port: key.remote_port }, cx);
        }
        let refused = inner.conn.as_ref().is_some_and(Conn::is_closed);
        if refused && !inner.established {
            let settled = lease.live.is_some_and(|live| cx.now - live > SETTLED);
            if settled || cx.now >= inner.leased + PATIENCE {
                let mut event = flow.event(EventId::ServiceFailed, cx.now);
                cx.emit(&mut event, b"the container refuses the connection");
                return flow.fail(cx.now);
            }
            inner.conn = None;
            let up = lease.live.map_or(Duration::ZERO, |live| cx.now - live);
            inner.retry_at = cx.now + (up / 8).clamp(RETRY.0, RETRY.1);
        }
        if inner.conn.is_none() {
            if cx.now >= inner.leased + PATIENCE {
                let mut event = flow.event(EventId::ServiceFailed, cx.now);
                cx.emit(&mut event, b"the container does not answer");
                return flow.fail(cx.now);
            }
            if lease.live.is_none() {
                let at = inner.leased + PATIENCE;
                flows.schedule(index, Some(at));
                return;
            }
            if cx.now < inner.retry_at {
                let at = inner.retry_at;
                flows.schedule(index, Some(at));
                return;
            }
            inner.attempt_until = cx.now + inner.attempt;
            if let Some((value, _)) = &mut inner.offered.timestamps {
                *value = recent;
            }
            inner.clock = None;
            inner.attempt = (inner.attempt * 2).min(Duration::from_secs(2));
            inner.conn = Conn::connect(cx.now, sockets);
            inner.deaf_since.get_or_insert(cx.now);
        }
        let Some(conn) = inner.conn.as_mut() else {
            // All sockets are lent.
            let at = cx.now + RETRY.1;
            return flows.schedule(index, Some(at));
        };
        if !inner.established && conn.is_open() {
            inner.established = true;
            if !std::mem::replace(&mut lease.answered, true) {
                let mut event = Event::new(EventId::ContainerLive, cx.now);
                event.session = lease.session;
                event.src = lease.for_whom;
                event.dst = Party { ip: host.into(), mac: lease.target.mac, l4_port: key.local_port };
                event.count = (cx.now - lease.asked).total_micros();
                cx.emit(&mut event, &[]);
            }
        }
        // What a container says while it begins to run tells nothing.
        let was_up = lease.live.is_some_and(|live| flow.opened - live > SETTLED);
        let outer = match inner.middle.as_mut().and_then(|middle| middle.inside.as_mut()) {
            Some(inside) => &mut Outer::Relay(inside),
            None => &mut Outer::Attacker(&mut flow.conn),
        };
        while conn.room() > 0 && outer.recv(|bytes| conn.send(bytes, cx.now, sockets)) > 0 {}
        let mut said = 0;
        if let Some(banner) = &mut inner.banner {
            said =
                std::iter::from_fn(|| Some(conn.recv(|bytes| banner.take(bytes, cx.now)))).take_while(|n| *n > 0).sum();
            let last = inner.established && (conn.at_end() || conn.is_closed());
            if let Some(whole) = banner.whole(banners, last, cx.now) {
                let sent = outer.send(whole, cx.now, sockets);
                whole.drain(..sent);
                if whole.is_empty() {
                    inner.banner = None;
                }
            }
        }
        while inner.banner.is_none() && outer.room() > 0 {
            match conn.recv(|bytes| outer.send(bytes, cx.now, sockets)) {
                0 => break,
                n => said += n,
            }
        }
        if said > 0
            && matches!(outer, Outer::Attacker(_))
            && let Some((wait, took)) = flow.watch.say(cx.now)
            && was_up
        {
            pace.learn(key.local_port, wait, took);
        }
        if inner.established {
            if conn.is_closed() && !conn.has_data() && flow.closing.is_none() {
                // Closed without our having closed it: a reset from inside.
                let by_us = outer.at_end();
                return if by_us { flow.hang_up(cx.now) } else { flow.fail(cx.now) };
            }
            if outer.at_end() {
                conn.close();
            }
            if flow.ending == Some(Ending::ResetByPeer) {
                conn.abort();
            }
        }
        let ended = inner.established && conn.at_end() && inner.banner.is_none();
        let line = inner.banner.as_ref().and_then(|banner| banner.deadline()).map(|at| at.max(cx.now));
        let clock = inner.clock.map(|clock| (recent, clock.value()));
        let inside = Inside { key, mac, peer_mac, port, clock };
        conn.egress(cx.now, sockets, true, |out| inside.send(&inner.look, &inner.offered, out, cx));
        conn.rest(cx.now, sockets);
        let deadline = conn.deadline(cx.now, sockets).map(|at| at.max(cx.now + Duration::from_micros(500)));
        // A SYN into a network that is not up yet is lost: smoltcp's own retry, a second later, would be felt.
        let waiting = !inner.established && !conn.is_closed();
        if waiting && inner.attempt_until <= cx.now {
            inner.conn = None;
            inner.retry_at = cx.now;
            inner.in_vain();
            flows.dirty.push(index);
            if self.is_deaf(index, cx) {
                self.flows.adopt(index, patience::NONE, cx.now);
            }
            return;
        }
        let retry = waiting.then_some(inner.attempt_until);
        if ended {
            flow.hang_up(cx.now);
        }
        flows.schedule(index, deadline.into_iter().chain(retry).chain(line).min());
    }

    /// The attacker's side is gone: so is the container's.
    pub(super) fn end_inner(&mut self, flow: &mut Flow, cx: &mut Cx<'_>) {
        end_inside(flow, &self.leases, &mut self.sockets, cx);
    }

    /// Ends a connection inside, but not the attacker's.
    pub(super) fn hang_up_inside(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, leases, sockets, .. } = self;
        if let Some(flow) = flows.slab.get_mut(index) {
            end_inside(flow, leases, sockets, cx);
        }
    }
}

fn end_inside(flow: &mut Flow, leases: &Leases, sockets: &mut Sockets, cx: &mut Cx<'_>) {
    let (key, mac, peer_mac) = (flow.wire.key, flow.wire.mac, flow.wire.peer_mac);
    let App::Inner(inner) = &mut flow.app else { return };
    let port = leases.port_of(inner.whose);
    let Some(mut conn) = inner.conn.take() else { return };
    if let Some(port) = port.filter(|_| !conn.is_closed() && !conn.is_time_wait()) {
        let inside = Inside { key, mac, peer_mac, port, clock: None };
        conn.abort();
        conn.egress(cx.now, sockets, true, |out| inside.send(&inner.look, &inner.offered, out, cx));
    }
    conn.end(sockets);
}

impl Hosts {
    /// A connection passes through from now on: what either side still waits to have acknowledged is.
    pub(super) fn spliced(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, ids, leases, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        let (key, mac, peer_mac) = (flow.wire.key, flow.wire.mac, flow.wire.peer_mac);
        let recent = flow.wire.ts.map_or(0, |(_, recent)| recent);
        let Flow { conn, wire, .. } = flow;
        conn.acknowledge(|out| wire.send(out, ids, cx));
        if let App::Inner(inner) = &mut flow.app
            && let Inner { conn: Some(conn), look, offered, clock, whose, .. } = &mut **inner
            && let Some(port) = leases.port_of(*whose)
        {
            let inside = Inside { key, mac, peer_mac, port, clock: clock.map(|clock| (recent, clock.value())) };
            conn.acknowledge(|out| inside.send(look, offered, out, cx));
        }
        flows.dirty.push(index);
    }
}

/// Between whom a connection into a container is, and where it is.
struct Inside {
    key: FlowKey,
    mac: Mac,
    peer_mac: Mac,
    port: PortNo,
    /// What the timestamps of a segment say, if it has any.
    clock: Option<(u32, u32)>,
}

impl Inside {
    /// Sends a segment into a container as if it came from the attacker.
    fn send(&self, look: &SynLook, offered: &TcpOptions, out: &Outgoing<'_>, cx: &mut Cx<'_>) {
        let is_syn = out.flags & flag::SYN != 0;
        let (options, len) = match self.clock {
            _ if is_syn => look.options(offered),
            Some(clock) if out.flags & flag::RST == 0 => {
                let mut options = [1; 40];
                options[2..12].copy_from_slice(&timestamps(clock));
                (options, 12)
            }
            _ => ([0; 40], 0),
        };
        let scale = if is_syn { 0 } else { offered.window_scale.unwrap_or(0) };
        let segment = Segment {
            src: self.key.remote_port,
            dst: self.key.local_port,
            seq: out.seq,
            ack: out.ack,
            flags: out.flags,
            window: (out.window >> scale).min(65_535) as u16,
            options: &options[..len],
            payload: out.payload,
        };
        let headers = inward(&self.key, look, self.mac, self.peer_mac);
        match cx.pool.frame_of(&segment, &headers, out.mss) {
            Some(frame) => cx.send(self.port, frame),
            // All large buffers are in use.
            None if out.mss > 0 => out.apart().for_each(|out| self.send(look, offered, &out, cx)),
            None => cx.counters.discard(DropReason::NoBuffer),
        }
    }
}

/// Headers of what a container sees of the attacker.
pub(super) fn inward(key: &FlowKey, look: &SynLook, host_mac: Mac, peer_mac: Mac) -> Headers {
    Headers {
        dst_mac: host_mac,
        src_mac: peer_mac,
        src: key.remote,
        dst: key.local,
        proto: proto::TCP,
        ttl: look.ttl,
        tos: 0,
        ip_id: 0,
        df: true,
    }
}
