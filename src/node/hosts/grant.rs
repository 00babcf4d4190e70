//! Whose a container is: its host's, or, where the template grants one to each attacker, that of one attacker on that host.
//!
//! All containers of a host have the same addresses, MAC, name and keys; each is behind a TAP of its own. What comes from
//! the network goes to the one that it is about: what answers something that a container began to that container,
//! everything else to the sender's own. Only who has completed a handshake has one: any source can be written into
//! a datagram, and datagrams of all those who have none share one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Cx, HostsConfig, Limits};
use super::gate::begins_anew;
use super::outward::{OutwardKey, outward_key};
use super::{Hosts, Target, quote};
use crate::emulate::{ClockTable, Grant};
use crate::event::{Event, EventId};
use crate::frame::{Frame, PortNo};
use crate::wire::{Duration, Instant, Packet, be16, icmp6, proto};

/// Flows that containers have begun whose hosts have several, in one node.
const OWNED: usize = 16_384;
/// A connection may be silent for so long until another container may begin one between the same ends.
const LASTS: Duration = Duration::from_secs(60);
/// Addresses that such containers look for.
const SOUGHT: usize = 1024;
/// Sources that are remembered of those that were told to have as many containers as they may, and for how long.
const TOLD: usize = 1024;
const PERIOD: Duration = Duration::from_secs(60);

/// Who an attacker is: an IPv4 address, or an IPv6 network, any of whose addresses one attacker may use.
pub fn attacker_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        v4 => v4,
    }
}

/// Whose a container is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Whose {
    /// The address that stands for the host.
    pub host: IpAddr,
    /// The attacker that it was granted to, as [`attacker_of`] has it; none if whoever comes shares it.
    pub attacker: Option<IpAddr>,
}

impl From<IpAddr> for Whose {
    fn from(host: IpAddr) -> Whose {
        Whose { host, attacker: None }
    }
}

/// Why there may not be one more container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// There are as many as may be.
    Full,
    /// Its source has this many, which is all that it may have.
    Source(IpAddr, u32),
}

/// The containers of all replicas of a node, and whom they were started for.
#[derive(Debug, Default)]
pub struct Admission {
    total: AtomicU32,
    /// Never locked for a frame: only where a container begins or ends, and once a second for a connection that waits for
    /// one.
    by_source: Mutex<HashMap<IpAddr, u32>>,
}

impl Admission {
    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be one more for `source`, which is counted then. What belongs to the system has none.
    pub(super) fn admit(&self, source: Option<IpAddr>, limits: &Limits) -> Result<(), Refusal> {
        let mut sources = self.sources();
        let has = source.and_then(|source| sources.get(&source)).copied().unwrap_or(0);
        if let Some(source) = source.filter(|_| has >= limits.containers_per_source) {
            return Err(Refusal::Source(source, has));
        }
        let more = |count| (count < limits.containers).then_some(count + 1);
        self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Refusal::Full)?;
        if let Some(source) = source {
            sources.insert(source, has + 1);
        }
        Ok(())
    }

    /// Whether [`Admission::admit`] would say so.
    pub(super) fn has_room(&self, source: Option<IpAddr>, limits: &Limits) -> bool {
        let has = |source: IpAddr| self.sources().get(&source).copied().unwrap_or(0);
        !self.is_full(limits.containers) && source.is_none_or(|source| has(source) < limits.containers_per_source)
    }

    /// Whether there are as many as may be.
    pub(super) fn is_full(&self, limit: u32) -> bool {
        self.total.load(Ordering::Relaxed) >= limit
    }

    /// One that `source` had is gone.
    pub(super) fn leave(&self, source: Option<IpAddr>) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = source else { return };
        let mut sources = self.sources();
        if let Some(has) = sources.get_mut(&source) {
            *has -= 1;
            if *has == 0 {
                sources.remove(&source);
            }
        }
    }
}

/// What tells the containers of one host from each other.
pub(super) struct Grants {
    /// Whether a host of the node has several.
    pub any: bool,
    /// Which of them has begun what, and when it has last sent something of that.
    owners: ClockTable<OutwardKey, (Whose, Instant)>,
    /// Which of them has asked last for an address, by host and address.
    seekers: ClockTable<(IpAddr, IpAddr), Whose>,
    /// Since when the sources are known that have as many containers as they may.
    told: ClockTable<IpAddr, Instant>,
}

impl Grants {
    pub(super) fn new(config: &HostsConfig, seed: u64) -> Grants {
        let any = (0..config.templates.len() as u16).any(|index| is_each(config, index));
        Grants {
            any,
            owners: ClockTable::new(OWNED, seed),
            seekers: ClockTable::new(SOUGHT, seed),
            told: ClockTable::new(TOLD, seed),
        }
    }

    /// Which container of `host` has asked for `ip`.
    pub(super) fn seeker(&self, host: IpAddr, ip: IpAddr) -> Whose {
        self.seekers.peek(&(host, ip)).copied().unwrap_or(host.into())
    }

    /// Takes note of who has begun a flow. False if it is that of another container of the same host, unless that was
    /// silent for `patience`.
    fn own(&mut self, key: OutwardKey, whose: Whose, patience: Option<Duration>, now: Instant) -> bool {
        if let Some((owner, last)) = self.owners.get(&key)
            && *owner != whose
            && patience.is_none_or(|patience| now - *last < patience)
        {
            return false;
        }
        self.owners.insert(key, (whose, now));
        true
    }
}

/// Whether hosts of a template have a container for each attacker.
fn is_each(config: &HostsConfig, template: u16) -> bool {
    let template = config.templates.get(usize::from(template));
    template.and_then(|template| template.backend.as_ref()).is_some_and(|b| b.grant == Grant::PerAttacker)
}

/// The flow that a packet from a container (or, `inward`, to one) belongs to, echo requests of one program told from
/// those of another. `None` if it begins none and answers none.
fn flow_of(packet: &Packet, frame: &[u8], inward: bool) -> Option<OutwardKey> {
    let mut key = outward_key(packet, frame, inward);
    if matches!(packet.proto, proto::ICMP | proto::ICMPV6) {
        let message = packet.payload(frame);
        let echo = match (packet.is_v4(), inward) {
            (true, false) => 8,
            (true, true) => 0,
            (false, false) => icmp6::ECHO_REQUEST,
            (false, true) => 129,
        };
        if message.len() < 8 || message[0] != echo {
            return None;
        }
        key.flow.local_port = be16(message, 4);
    }
    Some(key)
}

impl Hosts {
    /// Whether hosts of a template have a container for each attacker.
    #[inline]
    pub(super) fn grants_each(&self, template: u16) -> bool {
        self.grants.any && is_each(&self.config, template)
    }

    /// Who `src` is, whose frames came by `port`: what a container begins is begun by the attacker that it was granted to.
    fn attacker(&self, src: IpAddr, port: PortNo) -> IpAddr {
        let granted = match port {
            HostsConfig::LAN => None,
            port => self.leases.by_port.get(&port).and_then(|whose| whose.attacker),
        };
        granted.unwrap_or_else(|| attacker_of(src))
    }

    /// Whose container `src` meets at `target`, having completed a handshake with it.
    #[inline]
    pub(super) fn whose(&self, target: &Target, src: IpAddr, port: PortNo) -> Whose {
        let host = self.config.host_of(target.ip());
        match self.grants_each(target.template) {
            true => Whose { host, attacker: Some(self.attacker(src, port)) },
            false => host.into(),
        }
    }

    /// Whose container gets a datagram: that which has begun the flow, the sender's own, or the one that is shared.
    #[inline]
    pub(super) fn whose_datagram(&mut self, target: &Target, frame: &Frame, packet: &Packet) -> Whose {
        if !self.grants_each(target.template) {
            return self.config.host_of(target.ip()).into();
        }
        let key = flow_of(packet, frame.bytes(), true);
        self.whose_of_several(target, key, (packet.src(), frame.meta.port))
    }

    /// Whose container gets an echo reply or an ICMP error.
    pub(super) fn whose_message(&mut self, target: &Target, frame: &Frame, packet: &Packet) -> Whose {
        if !self.grants_each(target.template) {
            return self.config.host_of(target.ip()).into();
        }
        // What comes from a router on the way is about who is behind it.
        let quoted = quote::key(packet, frame.bytes()).map(|(mut key, l4)| {
            if matches!(key.proto, proto::ICMP | proto::ICMPV6) {
                key.flow.local_port = be16(frame.bytes(), l4 + 4);
            }
            key
        });
        let about = quoted.map_or(packet.src(), |key| key.flow.remote);
        let key = quoted.or_else(|| flow_of(packet, frame.bytes(), true));
        self.whose_of_several(target, key, (about, frame.meta.port))
    }

    fn whose_of_several(&mut self, target: &Target, key: Option<OutwardKey>, (src, port): (IpAddr, PortNo)) -> Whose {
        if let Some((owner, _)) = key.and_then(|key| self.grants.owners.get(&key)).copied()
            && self.leases.has(owner)
        {
            return owner;
        }
        self.own_or_shared(target, src, port)
    }

    /// The container of `src`'s own behind `target`, if there is one, or else the one that is shared.
    pub(super) fn own_or_shared(&self, target: &Target, src: IpAddr, port: PortNo) -> Whose {
        let own = self.whose(target, src, port);
        if self.leases.has(own) { own } else { own.host.into() }
    }

    /// Whose container has begun the flow that a segment from the network belongs to, if one has.
    pub(super) fn whose_outward(&mut self, key: OutwardKey, target: &Target) -> Option<Whose> {
        if self.leases.by_host.is_empty() {
            return None;
        }
        let whose = match self.grants_each(target.template) {
            true => self.grants.owners.get(&key)?.0,
            false => self.config.host_of(key.flow.local).into(),
        };
        let lease = self.leases.by_host.get_mut(&whose)?;
        lease.begun.get(&key).filter(|entry| entry.is_begun()).map(|_| whose)
    }

    /// Takes note of what one of several containers of a host sends. False if it may not, because it would be taken for
    /// what another of them sends.
    pub(super) fn may_own(&mut self, frame: &Frame, packet: &Packet, whose: Whose, now: Instant) -> bool {
        if !self.grants.any || !self.leases.by_host.get(&whose).is_some_and(|lease| lease.is_one_of_several) {
            return true;
        }
        let Some(key) = flow_of(packet, frame.bytes(), false) else { return true };
        // The last who asks gets the answer; a connection is whose it is while it lasts.
        let patience = match packet.proto {
            proto::TCP => begins_anew(frame.bytes(), packet).then_some(LASTS),
            _ => Some(Duration::ZERO),
        };
        self.grants.own(key, whose, patience, now)
    }

    /// A container asks the network for `ip`: the answer is for the last one of its host that did.
    pub(super) fn seeks(&mut self, whose: Whose, ip: IpAddr) {
        if self.grants.any {
            self.grants.seekers.insert((whose.host, ip), whose);
        }
    }

    /// For whom a container is started that `src` has asked for by `port`: what containers ask for counts as if the one had
    /// who has brought them to life.
    pub(super) fn source_of(&self, src: IpAddr, port: PortNo) -> Option<IpAddr> {
        let container = self.leases.by_port.get(&port).filter(|_| port != HostsConfig::LAN);
        match container.and_then(|whose| self.leases.by_host.get(whose)) {
            Some(lease) => lease.source,
            None => Some(attacker_of(src)),
        }
    }

    /// Tells that a source has as many containers as it may, once in a while.
    pub(super) fn tell_held(&mut self, (source, has): (IpAddr, u32), mut event: Event, cx: &mut Cx<'_>) {
        if self.grants.told.get(&source).is_some_and(|at| cx.now - *at < PERIOD) {
            return;
        }
        self.grants.told.insert(source, cx.now);
        (event.id, event.count) = (EventId::ContainerHeld, u64::from(has));
        cx.emit(&mut event, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_attacker() {
        let of = |text: &str| attacker_of(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

    #[test]
    fn nobody_uses_up_all_containers() {
        let (admission, limits) =
            (Admission::default(), Limits { containers: 5, containers_per_source: 2, ..Limits::default() });
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| Some(ip.parse::<IpAddr>().unwrap()));
        assert_eq!([admission.admit(a, &limits), admission.admit(a, &limits)], [Ok(()), Ok(())]);
        assert_eq!(admission.admit(a, &limits), Err(Refusal::Source(a.unwrap(), 2)));
        assert!(!admission.has_room(a, &limits) && admission.has_room(b, &limits));
        // What belongs to the system is nobody's.
        assert_eq!([admission.admit(None, &limits), admission.admit(None, &limits)], [Ok(()), Ok(())]);
        assert_eq!(admission.admit(b, &limits), Ok(()));
        assert_eq!(admission.admit(b, &limits), Err(Refusal::Full));
        admission.leave(a);
        assert_eq!(admission.admit(b, &limits), Ok(()));
        for source in [a, None, None, b, b] {
            admission.leave(source);
        }
        assert!(admission.sources().is_empty(), "nothing is remembered of who has none");
        assert_eq!(admission.total.load(Ordering::Relaxed), 0);
    }
}
