//! Which host has which template, number and MAC: pure functions of the
//! configuration and the installation's secret, so that the process that answers
//! for a host and the one that starts its container never disagree.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::config::{AddrRange, HostsConfig, MacMode};
use crate::emulate::{Identity, Naming, ServiceId, Template};
use crate::service::tls::Owner;
use crate::service::{Service, ServiceKind};
use crate::wire::{Mac, ip_of, is_mapped, word_of};

/// Whether an address, as a word, is IPv6, and the word: addresses of one family compare.
#[inline]
fn key(word: u128) -> (bool, u128) {
    (!is_mapped(word), word)
}

impl AddrRange {
    /// Whether the address that is `word` lies in it.
    #[inline]
    fn contains(&self, word: u128) -> bool {
        (key(word_of(self.first))..=key(word_of(self.last))).contains(&key(word))
    }

    /// How many addresses it has, at most `u64::MAX`.
    #[inline]
    pub fn len(&self) -> u64 {
        let span = word_of(self.last).saturating_sub(word_of(self.first));
        u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Its addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        (word_of(self.first)..=word_of(self.last)).map(ip_of)
    }

    /// Never: a range has at least its first address.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A name as an administrator would give it: the node's, and a number.
pub fn numbered_name(node: &str, number: u64) -> String {
    format!("{}-{:02}", host_label(node), number + 1)
}

/// A node's name as a label of a host name.
pub fn host_label(node: &str) -> String {
    let clean: String =
        node.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(48).collect();
    clean.trim_matches('-').to_owned()
}

impl HostsConfig {
    /// The number of the host that owns `ip`: its index among all addresses of the
    /// ranges, 0 for a single host. `None` if the address is not one of ours.
    pub fn number_of(&self, ip: IpAddr) -> Option<u64> {
        self.number_of_word(word_of(ip))
    }

    /// The same for an address that is a word.
    #[inline]
    pub(super) fn number_of_word(&self, word: u128) -> Option<u64> {
        let order = |range: &AddrRange| {
            if range.contains(word) { Ordering::Equal } else { key(word_of(range.first)).cmp(&key(word)) }
        };
        let at = self.ranges.binary_search_by(order).ok()?;
        if self.single {
            return Some(0);
        }
        let before = self.ranges[..at].iter().fold(0u64, |sum, range| sum.wrapping_add(range.len()));
        let inside = word.wrapping_sub(word_of(self.ranges[at].first)) as u64;
        Some(before.wrapping_add(inside))
    }

    /// The address of host `number` of a population, or the first one of a single host. `None` beyond the last.
    pub fn address_of(&self, number: u64) -> Option<IpAddr> {
        let mut left = number;
        for range in &self.ranges {
            if left < range.len() {
                return Some(ip_of(word_of(range.first) + u128::from(left)));
            }
            left -= range.len();
        }
        None
    }

    /// How many addresses there are, at most `u64::MAX`.
    pub fn addresses(&self) -> u64 {
        self.ranges.iter().map(AddrRange::len).fold(0, u64::saturating_add)
    }

    /// What host `number` calls itself. A host that may have a container is called as the container is.
    pub fn name_of(&self, identity: &Identity, number: u64, template: &Template) -> String {
        let base = self.hostname.as_deref().unwrap_or("host");
        if self.single {
            return base.to_owned();
        }
        let mac = self.mac_for(identity, number, template);
        match template.personality.get().talk.naming {
            Naming::Desktop if template.backend.is_none() => {
                // Letters and digits that are not mistaken for each other.
                const SIGNS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
                let mut rest = identity.name_seed(number);
                let sign = |rest: &mut u64| {
                    let sign = SIGNS[(*rest & 31) as usize];
                    *rest >>= 5;
                    char::from(sign)
                };
                let signs: String = (0..7).map(|_| sign(&mut rest)).collect();
                format!("DESKTOP-{signs}")
            }
            Naming::Mac(letters) if template.backend.is_none() => {
                let [.., d, e, f] = mac.0;
                let letters = letters.map(char::from);
                format!("{}{}{}{d:02X}{e:02X}{f:02X}", letters[0], letters[1], letters[2])
            }
            _ => numbered_name(base, number),
        }
    }

    /// Whose certificate is shown at address `ip` for `service`, within which `inner` is spoken: the host's, by the name
    /// that the service says or else by its own.
    pub fn owner_of(&self, identity: &Identity, ip: IpAddr, service: ServiceId, inner: &Service) -> Owner {
        let own = || {
            let number = self.number_of(ip)?;
            Some(self.name_of(identity, number, self.template_of(identity, ip)?.1))
        };
        let said = match &inner.kind {
            ServiceKind::Library(profile) if !profile.hostname.is_empty() => Some(profile.hostname.clone()),
            _ => None,
        };
        // Who answers in the place of an address outside is no host of ours.
        let host = if self.number_of(ip).is_some() { self.host_of(ip) } else { ip };
        Owner { ip: host, name: said.or_else(own).unwrap_or_default(), service: service.0 }
    }

    /// The address that stands for the host of `ip`: `ip` itself, and for a single
    /// host the first of its addresses, whichever of them is meant.
    #[inline]
    pub fn host_of(&self, ip: IpAddr) -> IpAddr {
        match self.ranges.first() {
            Some(range) if self.single => range.first,
            _ => ip,
        }
    }

    /// The index and template of the host that owns `ip`, by the weights of `mix`.
    /// `None` only if `mix` is empty or names a template that is not there.
    pub fn template_of(&self, identity: &Identity, ip: IpAddr) -> Option<(u16, &Template)> {
        self.template_of_word(identity, word_of(ip))
    }

    /// The same for an address that is a word.
    #[inline]
    pub(super) fn template_of_word(&self, identity: &Identity, word: u128) -> Option<(u16, &Template)> {
        let index = match self.mix.as_slice() {
            [(index, _)] => *index,
            mix => {
                let total = mix.iter().fold(0u32, |sum, (_, weight)| sum.saturating_add(*weight));
                let host =
                    if self.single { self.ranges.first().map_or(word, |range| word_of(range.first)) } else { word };
                let mut left = identity.choice(host, total);
                let chosen = mix.iter().find(|(_, weight)| match left.checked_sub(*weight) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                });
                chosen.or(mix.last())?.0
            }
        };
        self.templates.get(usize::from(index)).map(|template| (index, template))
    }

    /// The MAC of the host that owns `ip`. `None` if the address is not one of ours.
    pub fn mac_of(&self, identity: &Identity, ip: IpAddr) -> Option<Mac> {
        let number = self.number_of(ip)?;
        Some(self.mac_for(identity, number, self.template_of(identity, ip)?.1))
    }

    /// The MAC of host `number`, which has `template`.
    #[inline]
    pub fn mac_for(&self, identity: &Identity, number: u64, template: &Template) -> Mac {
        match (self.mac, self.mac_mode) {
            (Some(mac), _) => mac,
            (None, MacMode::PerHost) => identity.mac(template.oui, number),
            (None, MacMode::Shared) => {
                // One MAC has one vendor, whatever the mix.
                let first = self.mix.first().and_then(|(index, _)| self.templates.get(usize::from(*index)));
                identity.mac(first.unwrap_or(template).oui, 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::emulate::{Builtin, Outward, Secret, TcpPort, UdpPort};
    use crate::node::{Limits, Segment};

    fn template(name: &str, oui: [u8; 3]) -> Template {
        Template {
            name: name.into(),
            personality: Builtin::Linux.into(),
            oui,
            tcp: BTreeMap::new(),
            tcp_default: TcpPort::Closed,
            udp: BTreeMap::new(),
            udp_default: UdpPort::Closed,
            normalize: Default::default(),
            ping: true,
            backend: None,
            outward: Outward::Reflect,
            gate: Default::default(),
            cases: vec![],
            talk: Default::default(),
        }
    }

    fn config(ranges: &[(&str, &str)]) -> HostsConfig {
        let ranges =
            ranges.iter().map(|(first, last)| AddrRange { first: first.parse().unwrap(), last: last.parse().unwrap() });
        HostsConfig {
            ranges: ranges.collect(),
            single: false,
            hostname: None,
            mix: vec![(0, 3), (1, 1)],
            templates: vec![template("a", [0, 12, 41]), template("b", [0, 80, 86])],
            services: vec![],
            mac_mode: MacMode::PerHost,
            mac: None,
            segment: Segment::default(),
            claim: None,
            dhcp: None,
            inside: vec![],
            response_time: crate::node::ResponseTime::None,
            limits: Limits::default(),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_count_through_the_ranges() {
        let config = config(&[("10.0.0.1", "10.0.0.10"), ("10.0.1.0", "10.0.1.0"), ("fd00::1", "fd00::ffff")]);
        for (text, number) in [
            ("10.0.0.0", None),
            ("10.0.0.1", Some(0)),
            ("10.0.0.10", Some(9)),
            ("10.0.0.11", None),
            ("10.0.1.0", Some(10)),
            ("10.0.1.1", None),
            ("::a00:1", None),
            ("fd00::1", Some(11)),
            ("fd00::ffff", Some(11 + 0xfffe)),
            ("fd00::1:0", None),
        ] {
            assert_eq!(config.number_of(ip(text)), number, "{text}");
        }
        let single = HostsConfig { single: true, ..config };
        assert_eq!(single.number_of(ip("fd00::3")), Some(0));
        assert_eq!(single.number_of(ip("10.9.0.1")), None);
    }

    #[test]
    fn numbers_have_addresses_and_names() {
        let mut config = config(&[("10.0.0.1", "10.0.0.10"), ("fd00::1", "fd00::ffff")]);
        let identity = Identity::new(Secret([3; 16]), "staff");
        assert_eq!(config.addresses(), 10 + 0xffff);
        for number in [0, 9, 10, 11 + 0xfffd] {
            assert_eq!(config.number_of(config.address_of(number).unwrap()), Some(number));
        }
        assert_eq!(config.address_of(10 + 0xffff), None);
        config.hostname = Some("Staff_A".into());
        let name = |config: &HostsConfig, number| config.name_of(&identity, number, &config.templates[0]);
        assert_eq!(name(&config, 6), "staff-a-07");
        config.templates[0].personality = Builtin::Windows.into();
        let (a, b) = (name(&config, 6), name(&config, 7));
        assert!(a.starts_with("DESKTOP-") && a.len() == 15 && a != b, "{a} {b}");
        config.templates[0].personality = Builtin::Printer.into();
        assert!(name(&config, 6).starts_with("NPI") && name(&config, 6).len() == 9);
        let single = HostsConfig { single: true, hostname: Some("web01".into()), ..config };
        assert_eq!(name(&single, 0), "web01");
    }

    #[test]
    fn huge_ranges_do_not_overflow() {
        let config = config(&[("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert_eq!(config.ranges[0].len(), u64::MAX);
        assert!(config.number_of(ip("ffff::1")).is_some());
    }

    #[test]
    fn templates_follow_their_weights() {
        let identity = Identity::new(Secret([3; 16]), "staff");
        let config = config(&[("10.0.0.0", "10.0.255.255")]);
        let first = (0..20_000u32)
            .filter(|i| config.template_of(&identity, IpAddr::from((0x0a00_0000 + i).to_be_bytes())).unwrap().0 == 0)
            .count();
        assert!((14_600..15_400).contains(&first), "{first}");
        let empty = HostsConfig { mix: vec![], ..config };
        assert_eq!(empty.template_of(&identity, ip("10.0.0.1")), None);
    }

    #[test]
    fn macs_are_distinct_shared_or_fixed() {
        let identity = Identity::new(Secret([3; 16]), "staff");
        let config = config(&[("10.0.0.0", "10.0.15.255")]);
        let all = |config: &HostsConfig| -> HashSet<Mac> {
            (0..4096u32)
                .map(|i| config.mac_of(&identity, IpAddr::from((0x0a00_0000 + i).to_be_bytes())).unwrap())
                .collect()
        };
        let macs = all(&config);
        assert_eq!(macs.len(), 4096);
        for i in 0..64u32 {
            let host = IpAddr::from((0x0a00_0000 + i).to_be_bytes());
            let oui = config.template_of(&identity, host).unwrap().1.oui;
            assert_eq!(config.mac_of(&identity, host).unwrap().0[..3], oui);
        }
        assert_eq!(config.mac_of(&identity, ip("10.1.0.0")), None);
        let shared = HostsConfig { mac_mode: MacMode::Shared, ..config };
        assert_eq!(all(&shared).len(), 1);
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let fixed = HostsConfig { mac: Some(mac), ..shared };
        assert_eq!(all(&fixed), HashSet::from([mac]));
    }

    #[test]
    fn all_addresses_of_a_single_host_are_one_host() {
        let identity = Identity::new(Secret([5; 16]), "srv");
        let single = HostsConfig { single: true, ..config(&[("10.0.0.5", "10.0.0.5"), ("fd00::5", "fd00::5")]) };
        let (a, b) = (ip("10.0.0.5"), ip("fd00::5"));
        assert_eq!(single.template_of(&identity, a), single.template_of(&identity, b));
        assert_eq!(single.mac_of(&identity, a), single.mac_of(&identity, b));
        assert_eq!(single.host_of(b), a);
    }
}
