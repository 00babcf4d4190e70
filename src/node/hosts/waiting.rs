//! Datagrams for containers: those that start one, what happens until its service takes them, and ports that nobody
//! inside has open, which the host's system refuses.
//!
//! A datagram's source is whatever its sender wrote. So few containers are started for datagrams, few datagrams wait,
//! and none of them is answered more than once.

use std::collections::HashMap;

use super::super::{Cx, HostsConfig, LeaseId};
use super::grant::Whose;
use super::inner::SETTLED;
use super::outward::outward_key;
use super::session::Pair;
use super::{Hosts, Target, origin, quote};
use crate::emulate::UdpPort;
use crate::event::{DropReason, Party, SessionId};
use crate::frame::{Frame, HEAD_FRAME};
use crate::stack::FlowKey;
use crate::wire::{Duration, ETH, Instant, Packet, be16, src_mac, word_of};

/// Datagrams that wait for one container.
const MOST: usize = 16;
/// Containers that datagrams start at once, and how long it takes until one more may be; all replicas together.
const STARTS: u32 = 8;
const START: Duration = Duration::from_secs(10);
/// How long after a datagram was delivered its service may say that it is not there yet.
const REFUSAL: Duration = Duration::from_secs(1);
/// How long a container is asked for its MAC before it is given datagrams without having told it.
const UNREACHABLE: Duration = Duration::from_secs(2);
/// Between two questions for its MAC; and between two deliveries to a service that is not there yet: an eighth of the time that its container has been up,
/// within these bounds.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// One that waits.
struct Datagram {
    key: FlowKey,
    bytes: Box<[u8]>,
    /// When it is delivered, or delivered again.
    due: Instant,
    /// Whether it was.
    delivered: bool,
}

/// The datagrams that wait for containers of a node.
pub(super) struct Waiting {
    by_lease: HashMap<LeaseId, Vec<Datagram>>,
    most: u32,
    every: Duration,
    starts: u32,
    earned: Instant,
    next: Option<Instant>,
}

impl Waiting {
    /// For one of so many replicas.
    pub(super) fn new(replicas: u16) -> Waiting {
        let (most, every) = (STARTS.div_ceil(u32::from(replicas)), START * u32::from(replicas));
        Waiting { by_lease: HashMap::new(), most, every, starts: most, earned: Instant::ZERO, next: None }
    }

    /// Whether a datagram may start a container now.
    fn may_start(&mut self, now: Instant) -> bool {
        if self.starts == self.most {
            self.earned = now;
        }
        while self.starts < self.most && now - self.earned >= self.every {
            self.starts += 1;
            self.earned += self.every;
        }
        match self.starts.checked_sub(1) {
            Some(left) => {
                self.starts = left;
                true
            }
            None => false,
        }
    }

    /// Something may be due by `at`.
    pub(super) fn look_at(&mut self, at: Instant) {
        if !self.by_lease.is_empty() {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Hosts {
    /// A datagram for a port of the container's, which may not be there yet.
    pub(super) fn datagram_inside(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        whose: Whose,
        session: SessionId,
        cx: &mut Cx<'_>,
    ) {
        let lease = self.leases.by_host.get(&whose);
        let live = self.leases.live(whose).and(lease.map(|lease| lease.id));
        let since = lease.and_then(|lease| lease.live);
        let settled = since.is_some_and(|since| cx.now - since > SETTLED);
        let full = |id| self.waiting.by_lease.get(&id).is_some_and(|held| held.len() >= MOST);
        if live.is_some_and(|id| settled || full(id)) {
            return self.to_container(frame, packet, target, whose, cx);
        }
        let port = frame.meta.port;
        let may = lease.is_some() || {
            let source = self.source_of(packet.src(), port);
            self.leases.admission.has_room(source, &self.config.limits) && self.waiting.may_start(cx.now)
        };
        if !may {
            return cx.discard(frame, DropReason::RateLimit);
        }
        // Only its octets are kept, so they have to be all there is.
        frame.complete();
        let l4 = packet.payload(frame.bytes());
        let party = Party { ip: packet.src().into(), mac: origin(&frame), l4_port: be16(l4, 0) };
        let Some(lease) = self.begin_lease(target, whose, (party, port), session, cx) else {
            return cx.discard(frame, DropReason::Filtered);
        };
        let key =
            FlowKey { local: packet.dst(), remote: packet.src(), local_port: be16(l4, 2), remote_port: be16(l4, 0) };
        self.leases.learn_peer(whose, packet.src(), src_mac(frame.bytes()));
        self.learn_gateway(whose, packet.src(), src_mac(frame.bytes()));
        let held = self.waiting.by_lease.entry(lease).or_default();
        if held.len() >= MOST || packet.end > HEAD_FRAME {
            return cx.discard(frame, DropReason::TableFull);
        }
        // A client that asks again has lost nothing yet.
        let bytes = &frame.bytes()[..packet.end];
        let same = |datagram: &Datagram| datagram.key == key && datagram.bytes.get(packet.l4..) == Some(l4);
        if !held.iter().any(|datagram| !datagram.delivered && same(datagram)) {
            held.push(Datagram { key, bytes: bytes.into(), due: cx.now, delivered: false });
            self.waiting.look_at(cx.now);
        }
        cx.consume(frame);
    }

    /// Delivers what waits for containers that live, and forgets what they have taken.
    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>) {
        if self.waiting.next.is_none_or(|next| cx.now < next) {
            return;
        }
        let mut all = std::mem::take(&mut self.waiting.by_lease);
        let (mut next, mut unknown): (Option<Instant>, Vec<(Whose, FlowKey)>) = (None, Vec::new());
        all.retain(|id, datagrams| {
            let Some((whose, lease)) = self.leases.by_host.iter_mut().find(|(_, lease)| lease.id == *id) else {
                return false;
            };
            let (Some(port), true) = (lease.port, lease.live.is_some() && !lease.releasing) else {
                // It is delivered when the container says that it lives.
                return true;
            };
            // Its first process runs before its address is there, and until then datagrams are lost without a word.
            let up = lease.live.map_or(Duration::ZERO, |live| cx.now - live);
            if !lease.reachable && up < UNREACHABLE {
                unknown.extend(datagrams.first().map(|datagram| (*whose, datagram.key)));
                next = next.into_iter().chain([cx.now + RETRY.0]).min();
                return true;
            }
            datagrams.retain_mut(|datagram| {
                if datagram.due > cx.now {
                    return true;
                }
                if std::mem::replace(&mut datagram.delivered, true) {
                    return false;
                }
                datagram.due = cx.now + REFUSAL;
                let Some(mut frame) = cx.pool.head() else { return true };
                frame.space()[..datagram.bytes.len()].copy_from_slice(&datagram.bytes);
                frame.set_len(datagram.bytes.len());
                if let Ok(packet) = Packet::parse(frame.bytes()) {
                    // What it answers to this is no flow of its own.
                    let key = outward_key(&packet, frame.bytes(), true);
                    let mut allowance = lease.begun.get(&key).copied().unwrap_or_default();
                    allowance.asked(packet.end - ETH);
                    lease.begun.insert(key, allowance);
                }
                cx.send(port, frame);
                true
            });
            next = datagrams.iter().map(|datagram| datagram.due).chain(next).min();
            !datagrams.is_empty()
        });
        self.waiting.by_lease = all;
        self.waiting.next = next;
        for (whose, key) in unknown {
            if let Some(mac) = self.leases.peer_mac(whose, key.remote) {
                self.ask_inside(whose, key.local, (key.remote, mac), cx);
            }
        }
    }

    /// Some container lives now, or is gone.
    pub(super) fn deliver_soon(&mut self, cx: &mut Cx<'_>) {
        if !self.waiting.by_lease.is_empty() {
            self.waiting.next = Some(cx.now);
            self.deliver(cx);
        }
    }

    /// A container says that nobody listens on a UDP port. While it starts, the datagram is delivered again; later its
    /// host's system says so. Gives the frame back if it says nothing of the kind.
    pub(super) fn refused_inside(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        whose: Whose,
        cx: &mut Cx<'_>,
    ) -> Option<Frame> {
        let Some(key) = quote::refused(packet, frame.bytes()) else { return Some(frame) };
        let Some(target) = self.target_to(word_of(key.local), word_of(key.remote)) else { return Some(frame) };
        let Some(lease) = self.leases.by_host.get(&whose) else { return Some(frame) };
        let up = lease.live.map_or(Duration::ZERO, |live| cx.now - live);
        if let Some(datagrams) = self.waiting.by_lease.get_mut(&lease.id)
            && let Some(datagram) = datagrams.iter_mut().find(|datagram| datagram.key == key && datagram.delivered)
        {
            if up <= SETTLED {
                datagram.due = cx.now + (up / 8).clamp(RETRY.0, RETRY.1);
                datagram.delivered = false;
                let due = datagram.due;
                self.waiting.look_at(due);
                cx.consume(frame);
                return None;
            }
            datagrams.retain(|datagram| datagram.key != key);
        }
        // A firewall that drops what the host does not offer drops it while the container lives, too.
        let template = self.template(target.template);
        if !template.udp.contains_key(&key.local_port) && template.udp_default == UdpPort::Filtered {
            cx.discard(frame, DropReason::Filtered);
            return None;
        }
        // A neighbor of the same node is behind its own container's port.
        let neighbor = self.target(word_of(key.remote));
        let neighbor = neighbor.map(|neighbor| self.own_or_shared(&neighbor, key.local, frame.meta.port));
        let port = neighbor.and_then(|neighbor| self.leases.port_of(neighbor)).unwrap_or(HostsConfig::LAN);
        let sender = self.leases.peer_mac(whose, key.remote);
        let Some(quoted) = sender.and_then(|sender| quote::unwrap(&mut frame, packet, target.mac, sender)) else {
            cx.discard(frame, DropReason::Policy);
            return None;
        };
        frame.meta.port = port;
        let ip_id = self.sessions.get(&Pair::of(&quoted)).map_or(0, |session| session.ip_id);
        self.refuse_datagram(frame, &quoted, &target, ip_id, cx);
        None
    }
}
