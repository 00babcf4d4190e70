//! What is written of an address where not all of it may be: its network, unless the address is the honeynet's own or
//! nobody's.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wire::{ip_of, word_of};

/// How much of an address is kept, in bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prefixes {
    /// Of an IPv4 address.
    pub ipv4: u8,
    /// Of an IPv6 address.
    pub ipv6: u8,
}

impl Default for Prefixes {
    fn default() -> Prefixes {
        Prefixes { ipv4: 24, ipv6: 48 }
    }
}

/// Truncates addresses of others than the honeynet's own hosts and routers.
#[derive(Clone, Debug, Default)]
pub struct AddressMask {
    prefixes: Option<Prefixes>,
    /// From the first to the last of each range, by the first.
    ours: Vec<(u128, u128)>,
}

impl AddressMask {
    /// Leaves `prefixes` of an address, if anything is truncated, in a honeynet whose own addresses are `ours`, from the
    /// first to the last of each range.
    pub fn new(prefixes: Option<Prefixes>, ours: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> AddressMask {
        let mut ours: Vec<_> = ours.into_iter().map(|(first, last)| (word_of(first), word_of(last))).collect();
        ours.sort_unstable();
        // One that lies within another would hide what lies behind it.
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(ours.len());
        for (first, last) in ours {
            match apart.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        AddressMask { prefixes, ours: apart }
    }

    /// Whether anything is truncated.
    pub fn is_any(&self) -> bool {
        self.prefixes.is_some()
    }

    /// What is written of `ip`.
    pub fn ip(&self, ip: IpAddr) -> IpAddr {
        self.masked(ip).ip
    }

    /// The same, with how much of it that is.
    pub fn masked(&self, ip: IpAddr) -> MaskedIp {
        let Some(prefixes) = self.prefixes else { return ip.into() };
        let is_general = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
        };
        if is_general || ip.is_multicast() || ip.is_loopback() || self.is_ours(ip) {
            return ip.into();
        }
        let bits = if ip.is_ipv4() { prefixes.ipv4 } else { prefixes.ipv6 };
        MaskedIp { ip: truncated(ip, bits), bits: bits.min(width(ip)) }
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        let word = word_of(ip);
        let before = self.ours.partition_point(|(first, _)| *first <= word);
        before.checked_sub(1).and_then(|at| self.ours.get(at)).is_some_and(|(_, last)| word <= *last)
    }
}

/// Bits of an address.
fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The first `bits` of an address, and zeros.
fn truncated(ip: IpAddr, bits: u8) -> IpAddr {
    let zeros = u32::from(width(ip).saturating_sub(bits));
    ip_of(word_of(ip) & u128::MAX.checked_shl(zeros).unwrap_or(0))
}

/// An address, or as much of it as may be written: `192.0.2.7`, or `192.0.2.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaskedIp {
    ip: IpAddr,
    bits: u8,
}

impl MaskedIp {
    /// Whether it is the whole address.
    pub fn is_whole(&self) -> bool {
        self.bits == width(self.ip)
    }

    /// Whether it may be what was written of `ip`, which may be truncated itself.
    pub fn may_be(&self, ip: IpAddr) -> bool {
        truncated(ip, self.bits) == self.ip
    }
}

impl From<IpAddr> for MaskedIp {
    fn from(ip: IpAddr) -> MaskedIp {
        MaskedIp { ip, bits: width(ip) }
    }
}

impl fmt::Display for MaskedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_whole() {
            true => write!(f, "{}", self.ip),
            false => write!(f, "{}/{}", self.ip, self.bits),
        }
    }
}

impl From<MaskedIp> for String {
    fn from(masked: MaskedIp) -> String {
        masked.to_string()
    }
}

/// The text is no address, or no part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is neither an address such as 192.0.2.7 nor a network such as 192.0.2.0/24")]
pub struct ParseMaskedError;

impl FromStr for MaskedIp {
    type Err = ParseMaskedError;

    fn from_str(text: &str) -> Result<MaskedIp, ParseMaskedError> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| ParseMaskedError)?;
        let Some(bits) = bits else { return Ok(ip.into()) };
        let bits: u8 = bits.parse().map_err(|_| ParseMaskedError)?;
        let is_sound = bits <= width(ip) && truncated(ip, bits) == ip;
        is_sound.then_some(MaskedIp { ip, bits }).ok_or(ParseMaskedError)
    }
}

impl TryFrom<String> for MaskedIp {
    type Error = ParseMaskedError;

    fn try_from(text: String) -> Result<MaskedIp, ParseMaskedError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(prefixes: Prefixes) -> AddressMask {
        let ours = [
            ("10.0.0.10", "10.0.0.20"),
            ("203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.12", "10.0.0.13"),
        ];
        let ours = ours.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
        AddressMask::new(Some(prefixes), ours)
    }

    fn shown(mask: &AddressMask, ip: &str) -> String {
        mask.masked(ip.parse().unwrap()).to_string()
    }

    #[test]
    fn only_addresses_of_others_are_truncated() {
        let mask = mask(Prefixes::default());
        for ours in ["10.0.0.1", "203.0.113.1", "10.0.0.10", "10.0.0.15", "10.0.0.20"] {
            assert_eq!(shown(&mask, ours), ours);
        }
        for nobodys in
            ["0.0.0.0", "255.255.255.255", "224.0.0.251", "127.0.0.1", "169.254.3.4", "::", "::1", "ff02::1", "fe80::1"]
        {
            assert_eq!(shown(&mask, nobodys), nobodys);
        }
        assert_eq!(shown(&mask, "10.0.0.21"), "10.0.0.0/24");
        assert_eq!(shown(&mask, "203.0.113.77"), "203.0.113.0/24");
        assert_eq!(shown(&mask, "2001:db8:1:2:3:4:5:6"), "2001:db8:1::/48");
        let nothing = AddressMask { prefixes: Some(Prefixes { ipv4: 0, ipv6: 0 }), ..mask };
        assert_eq!(
            (shown(&nothing, "198.51.100.7"), shown(&nothing, "2001:db8::1")),
            ("0.0.0.0/0".into(), "::/0".into())
        );
        let all = AddressMask { prefixes: Some(Prefixes { ipv4: 32, ipv6: 128 }), ..nothing.clone() };
        assert_eq!(shown(&all, "198.51.100.7"), "198.51.100.7");
        assert_eq!(shown(&AddressMask { prefixes: None, ..nothing }, "198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn what_was_written_of_an_address_is_known_again() {
        let masked = |text: &str| text.parse::<MaskedIp>().unwrap();
        let may_be = |written: &str, ip: &str| masked(written).may_be(ip.parse().unwrap());
        assert!(may_be("192.0.2.7", "192.0.2.7") && !may_be("192.0.2.7", "192.0.2.8"));
        assert!(may_be("192.0.2.0/24", "192.0.2.7") && may_be("192.0.2.0/24", "192.0.2.0"));
        assert!(!may_be("192.0.2.0/24", "192.0.3.7") && !may_be("192.0.2.0/24", "2001:db8::"));
        assert!(may_be("2001:db8:1::/48", "2001:db8:1:2::") && !may_be("2001:db8:1::/48", "2001:db8:2::"));
        assert!(may_be("0.0.0.0/0", "192.0.2.7") && !may_be("0.0.0.0/0", "2001:db8::"));
        for text in ["192.0.2.7", "192.0.2.0/24", "2001:db8:1::/48", "::/0"] {
            let json = serde_json::to_string(&masked(text)).unwrap();
            assert_eq!((json.clone(), serde_json::from_str(&json).ok()), (format!("\"{text}\""), Some(masked(text))));
        }
        for text in ["", "192.0.2.7/24", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/", "/24", "a/8"] {
            assert_eq!(text.parse::<MaskedIp>(), Err(ParseMaskedError), "{text}");
        }
    }
}
