//! Who has leased which address: what every replica of a node knows, to answer for it.
//!
//! The number of a host is its identity: MAC, template, name and persona follow from it, whatever address it has. To
//! functions of an address it is known by one that nobody has (its *home*, in 0.0.0.0/8).

use std::net::{IpAddr, Ipv4Addr};

use super::super::HostsConfig;
use super::Target;
use crate::emulate::Identity;
use crate::emulate::dhcp::Lease;
use crate::frame::PortNo;
use crate::wire::{Instant, Mac, ip_of, is_mapped, word_of};

/// The port by which replicas tell each other of leases: no node has so many, and claims have the last one.
pub(super) const LESSON: PortNo = PortNo(u16::MAX - 1);

/// An address, and what a host with it has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub ip: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    pub router: Option<Ipv4Addr>,
}

impl Place {
    /// The broadcast address of its network.
    pub(super) fn everybody(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.ip) | u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0))
    }
}

impl From<&Lease> for Place {
    fn from(lease: &Lease) -> Place {
        Place { ip: lease.ip, prefix: lease.prefix, router: lease.router }
    }
}

/// What a host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// No address.
    Nothing,
    /// One that it tests: it does not answer there yet.
    Tests(Ipv4Addr),
    /// One that it has leased.
    Has(Place),
}

impl Hold {
    fn ip(self) -> Option<Ipv4Addr> {
        match self {
            Hold::Nothing => None,
            Hold::Tests(ip) => Some(ip),
            Hold::Has(place) => Some(place.ip),
        }
    }
}

/// A host that leases its address.
pub(super) struct Tenant {
    pub mac: Mac,
    pub template: u16,
    pub name: String,
    pub hold: Hold,
    /// Since when it has that.
    pub since: Instant,
}

impl Tenant {
    /// Where it is, if it is anywhere.
    pub(super) fn place(&self) -> Option<Place> {
        if let Hold::Has(place) = self.hold { Some(place) } else { None }
    }
}

/// The hosts of a node that lease their addresses.
pub(super) struct Tenants {
    pub all: Vec<Tenant>,
    /// Addresses that are had or tested, and whose.
    by_ip: Vec<(Ipv4Addr, u16)>,
    by_mac: Vec<(Mac, u16)>,
}

/// What stands for host `number` in functions of an address.
pub(super) fn home_of(number: u16) -> u128 {
    word_of(IpAddr::V4(Ipv4Addr::from(u32::from(number))))
}

impl Tenants {
    /// So many hosts, none of which has an address.
    pub(super) fn new(config: &HostsConfig, identity: &Identity, hosts: u16) -> Tenants {
        let tenant = |number: u16| {
            let (template, kind) = config.template_of_word(identity, home_of(number))?;
            let mac = config.mac_for(identity, number.into(), kind);
            let name = config.name_of(identity, number.into(), kind);
            Some(Tenant { mac, template, name, hold: Hold::Nothing, since: Instant::ZERO })
        };
        let all: Vec<Tenant> = (0..hosts).map_while(tenant).collect();
        let mut by_mac: Vec<(Mac, u16)> = all.iter().map(|tenant| tenant.mac).zip(0..).collect();
        by_mac.sort_unstable();
        Tenants { all, by_ip: Vec::new(), by_mac }
    }

    /// Whose the MAC is.
    pub(super) fn of_mac(&self, mac: Mac) -> Option<u16> {
        let at = self.by_mac.binary_search_by_key(&mac, |(mac, _)| *mac).ok()?;
        Some(self.by_mac[at].1)
    }

    /// Who has the address, or tests it.
    pub(super) fn of_ip(&self, ip: Ipv4Addr) -> Option<(u16, &Tenant)> {
        let at = self.by_ip.binary_search_by_key(&ip, |(ip, _)| *ip).ok()?;
        let number = self.by_ip[at].1;
        Some((number, self.all.get(usize::from(number))?))
    }

    /// The host that has the address that is `word`.
    pub(super) fn target(&self, word: u128) -> Option<Target> {
        let IpAddr::V4(ip) = ip_of(word).to_canonical() else { return None };
        let (_, tenant) = self.of_ip(ip).filter(|_| is_mapped(word))?;
        tenant.place().map(|_| Target { word, template: tenant.template, mac: tenant.mac, hops: 0 })
    }

    /// Whether `ip` is on the network of one of them.
    pub(super) fn is_near(&self, ip: Ipv4Addr) -> bool {
        let near = |place: Place| (u32::from(place.ip) ^ u32::from(ip)).leading_zeros() >= u32::from(place.prefix);
        self.all.iter().filter_map(Tenant::place).any(near)
    }

    /// Whether `ip` is the router of one of them.
    pub(super) fn is_router(&self, ip: IpAddr) -> bool {
        (0..self.all.len() as u16).filter_map(|number| self.router_of(number)).any(|router| IpAddr::V4(router) == ip)
    }

    /// The router of one of them.
    pub(super) fn router_of(&self, number: u16) -> Option<Ipv4Addr> {
        self.all.get(usize::from(number))?.place()?.router
    }

    /// Gives a host what it has from now on; returns where it was before, or `None` if that is no news.
    pub(super) fn set(&mut self, number: u16, hold: Hold, now: Instant) -> Option<Option<Place>> {
        let tenant = self.all.get_mut(usize::from(number))?;
        let before = tenant.place();
        if tenant.hold == hold {
            return None;
        }
        (tenant.hold, tenant.since) = (hold, now);
        self.by_ip.clear();
        self.by_ip.extend(self.all.iter().zip(0..).filter_map(|(tenant, number)| Some((tenant.hold.ip()?, number))));
        self.by_ip.sort_unstable();
        Some(before)
    }

    /// Leased addresses, as words, and what stands for those who have them.
    pub(super) fn homes(&self) -> impl Iterator<Item = (u128, u128)> {
        let homes = self.all.iter().zip(0..);
        homes.filter_map(|(tenant, number)| Some((word_of(IpAddr::V4(tenant.place()?.ip)), home_of(number))))
    }
}

/// What one replica tells others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lesson {
    /// What a host has.
    Holds(u16, Hold),
    /// Somebody else speaks with an address, or tests it.
    Rival(Ipv4Addr, Mac),
}

impl Lesson {
    /// Kind, number, prefix, address, router, MAC.
    pub(super) fn write(self) -> [u8; 18] {
        let none = Ipv4Addr::UNSPECIFIED;
        let (kind, number, prefix, ip, router, mac) = match self {
            Lesson::Holds(number, Hold::Nothing) => (0, number, 0, none, none, Mac::ZERO),
            Lesson::Holds(number, Hold::Tests(ip)) => (1, number, 0, ip, none, Mac::ZERO),
            Lesson::Holds(number, Hold::Has(place)) => {
                (2, number, place.prefix, place.ip, place.router.unwrap_or(none), Mac::ZERO)
            }
            Lesson::Rival(ip, mac) => (3, 0, 0, ip, none, mac),
        };
        let mut bytes = [kind; 18];
        bytes[1..3].copy_from_slice(&number.to_be_bytes());
        bytes[3] = prefix;
        bytes[4..8].copy_from_slice(&ip.octets());
        bytes[8..12].copy_from_slice(&router.octets());
        bytes[12..].copy_from_slice(&mac.0);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Lesson> {
        let bytes: &[u8; 18] = bytes.first_chunk()?;
        let number = u16::from_be_bytes([bytes[1], bytes[2]]);
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let router = Some(address(8)).filter(|ip| !ip.is_unspecified());
        Some(match bytes[0] {
            0 => Lesson::Holds(number, Hold::Nothing),
            1 => Lesson::Holds(number, Hold::Tests(address(4))),
            2 => Lesson::Holds(number, Hold::Has(Place { ip: address(4), prefix: bytes[3], router })),
            _ => Lesson::Rival(address(4), Mac::from_slice(&bytes[12..])?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_are_read_as_they_were_written() {
        let ip = Ipv4Addr::new(10, 0, 0, 9);
        for router in [None, Some(Ipv4Addr::new(10, 0, 0, 1))] {
            let place = Place { ip, prefix: 20, router };
            for hold in [Hold::Nothing, Hold::Tests(ip), Hold::Has(place)] {
                let lesson = Lesson::Holds(300, hold);
                assert_eq!(Lesson::read(&lesson.write()), Some(lesson));
            }
        }
        let rival = Lesson::Rival(ip, Mac([1, 2, 3, 4, 5, 6]));
        assert_eq!(Lesson::read(&rival.write()), Some(rival));
        assert_eq!(Lesson::read(&rival.write()[1..]), None);
    }
}
