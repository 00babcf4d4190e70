//! Connections whose container is not there: it is being stopped, there are too many, or what is there does not answer.
//! The attacker has had a SYN/ACK, so a reset would say that nobody means it. The connection is held instead, until there
//! is a container, or until a server that has no time would have hung up.

use std::net::IpAddr;

use super::super::{Cx, HostsConfig, LeaseId, Request};
use super::Hosts;
use super::connection::FIRST_ATTEMPT;
use super::flow::{App, Flow, Inner};
use super::grant::Whose;
use crate::event::{EventId, Party};
use crate::frame::Frame;
use crate::wire::{
    ARP_FRAME, Arp, Duration, ETH, Instant, Mac, Neighbor, be16, ethertype, ethertype_of, icmp6, proto, word_of,
};

/// No lease.
pub(super) const NONE: LeaseId = LeaseId(0);
/// How long a connection waits for a container: as long as sshd gives those who do not log in (LoginGraceTime).
const BUSY: Duration = Duration::from_secs(120);
/// When it asks again, unless a container ends before.
const AGAIN: Duration = Duration::from_secs(1);
/// Containers that one connection may be given: what ends again and again is broken.
const MOST: u8 = 3;
/// SYNs into a live container that stay without any answer until it is asked by ARP, and until it is given up.
const ASK: u8 = 4;
const GIVE_UP: u8 = 8;

/// How long a connection waits for another attempt once so many containers could not be started for it.
pub(super) fn after(given: u8) -> Duration {
    AGAIN * u32::from(given)
}

impl Inner {
    /// An attempt to connect has had no answer.
    pub(super) fn in_vain(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }
}

impl Hosts {
    /// Does what can be done for a connection that has no container, or whose container is gone.
    pub(super) fn without_container(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Hosts { flows, sockets, .. } = self;
        let Some(flow) = flows.slab.get_mut(index) else { return };
        if flow.closing.is_some() {
            return;
        }
        let App::Inner(inner) = &mut flow.app else { return };
        let retry_at = inner.retry_at;
        if cx.now < retry_at {
            return flows.schedule(index, Some(retry_at));
        }
        let begun = std::mem::replace(&mut inner.established, false);
        if let Some(conn) = inner.conn.take() {
            conn.end(sockets);
        }
        (inner.tries, inner.deaf_since) = (0, None);
        if begun {
            return flow.fail(cx.now);
        }
        if cx.now >= inner.since + BUSY || inner.given > MOST {
            let mut event = flow.event(EventId::ServiceFailed, cx.now);
            cx.emit(&mut event, b"no container came");
            return if flow.app.pipe().is_some() { flow.fail(cx.now) } else { flow.close(cx.now) };
        }
        let (ip, remote, session) = (flow.wire.key.local, flow.wire.key.remote, flow.session);
        let (peer_mac, l4_port, port, whose) =
            (flow.wire.peer_mac, flow.wire.key.remote_port, flow.wire.port, inner.whose);
        let who = Party { ip: remote.into(), mac: flow.event(EventId::TcpOpen, cx.now).src.mac, l4_port };
        // One that cannot be had is not asked for: each request is an event.
        let has_room = || self.leases.admission.has_room(self.source_of(remote, port), &self.config.limits);
        let lease = if self.leases.has(whose) || has_room() {
            let target = self.target_to(word_of(ip), word_of(remote));
            target.and_then(|target| self.begin_lease(&target, whose, (who, port), session, cx))
        } else {
            None
        };
        self.flows.adopt(index, lease.unwrap_or(NONE), cx.now);
        if lease.is_some() {
            if let Some(Flow { app: App::Inner(inner), .. }) = self.flows.slab.get_mut(index) {
                inner.given += 1;
                inner.attempt = FIRST_ATTEMPT;
            }
            self.leases.learn_peer(whose, remote, peer_mac);
            self.learn_gateway(whose, remote, peer_mac);
            self.flows.dirty.push(index);
        } else {
            self.flows.schedule(index, Some(cx.now + AGAIN));
        }
    }

    /// The present attempt to connect to a live container is over without a word from it. Whether the container is
    /// given up, because it has not even told its MAC and nobody else is connected to it: a link that is down inside
    /// stays down.
    pub(super) fn is_deaf(&mut self, index: usize, cx: &mut Cx<'_>) -> bool {
        let Some(Flow { app: App::Inner(inner), wire, .. }) = self.flows.slab.get(index) else { return false };
        let (id, tries, since, key, peer_mac) = (inner.lease, inner.tries, inner.deaf_since, wire.key, wire.peer_mac);
        let whose = inner.whose;
        if tries == ASK {
            self.ask_inside(whose, key.local, (key.remote, peer_mac), cx);
        }
        let Hosts { flows, leases, .. } = self;
        let Some(lease) = leases.by_host.get_mut(&whose).filter(|lease| lease.id == id) else { return false };
        let silent = since.is_some_and(|since| lease.heard < since);
        if tries != GIVE_UP || !silent || lease.live.is_none() || lease.releasing {
            return false;
        }
        let is_connected = |flow: &Flow| matches!(&flow.app, App::Inner(i) if i.lease == id && i.established);
        if flows.slab.iter().any(|(_, flow)| is_connected(flow)) {
            return false;
        }
        lease.releasing = true;
        cx.requests.push(Request::Release { lease: id, keep: false });
        true
    }

    /// Asks a container for its MAC, in the name of an attacker: any kernel answers whose link is up, whatever it filters.
    pub(super) fn ask_inside(&mut self, whose: Whose, ip: IpAddr, (asker, mac): (IpAddr, Mac), cx: &mut Cx<'_>) {
        let Some(lease) = self.leases.by_host.get(&whose) else { return };
        let (Some(port), own) = (lease.port.filter(|port| *port != HostsConfig::LAN), lease.target.mac) else { return };
        let Some(mut frame) = cx.pool.head() else { return };
        let len = match (ip, asker) {
            (IpAddr::V4(target), IpAddr::V4(sender)) => {
                let question = Arp { operation: Arp::REQUEST, sender_mac: mac, sender, target_mac: own, target };
                question.write(own, mac, frame.space());
                ARP_FRAME
            }
            (IpAddr::V6(target), IpAddr::V6(asker)) => {
                let question = Neighbor { advert: false, target, mac: Some(mac) };
                question.write(own, mac, asker, target, 0, frame.space())
            }
            _ => return,
        };
        frame.set_len(len);
        cx.send(port, frame);
    }

    /// A container has sent something, whatever it is.
    pub(super) fn heard_inside(&mut self, whose: Whose, frame: &Frame, now: Instant) {
        let Some(lease) = self.leases.by_host.get_mut(&whose) else { return };
        lease.heard = now;
        if lease.reachable {
            return;
        }
        // Two octets tell: until it is asked, this is looked at for every frame.
        let bytes = frame.bytes();
        let at = |octet: usize| bytes.get(octet).copied();
        let answers = match ethertype_of(bytes) {
            ethertype::ARP => be16(bytes, ETH + 6) == Arp::REPLY,
            ethertype::IPV6 => at(ETH + 6) == Some(proto::ICMPV6) && at(ETH + 40) == Some(icmp6::NEIGHBOR_ADVERT),
            _ => false,
        };
        if answers {
            lease.reachable = true;
            self.waiting.look_at(now);
        }
    }
}
