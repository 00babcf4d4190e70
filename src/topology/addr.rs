//! Sets of addresses as ranges: a /8 costs as much as one address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::units::UnitError;
use crate::node::AddrRange;

/// Addresses `lo..=hi` of one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Range {
    /// Whether it is IPv6.
    pub v6: bool,
    /// The first address as a number.
    pub lo: u128,
    /// The last address as a number.
    pub hi: u128,
}

/// An address as family and number.
fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(v4) => (false, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (true, u128::from(v6)),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    if v6 { IpAddr::V6(Ipv6Addr::from(number)) } else { IpAddr::V4(Ipv4Addr::from(number as u32)) }
}

impl Range {
    /// One address.
    pub fn one(ip: IpAddr) -> Range {
        let (v6, lo) = number(ip);
        Range { v6, lo, hi: lo }
    }

    /// All addresses of a prefix.
    pub fn of(net: IpNet) -> Range {
        let (v6, lo) = number(net.network());
        Range { v6, lo, hi: number(net.broadcast()).1 }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        address(self.v6, self.lo)
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        address(self.v6, self.hi)
    }

    /// How many addresses it has.
    pub fn len(&self) -> u128 {
        (self.hi - self.lo).saturating_add(1)
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.overlaps(&Range::one(ip))
    }

    /// Whether both share an address.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.v6 == other.v6 && self.lo <= other.hi && other.lo <= self.hi
    }

    /// The prefixes that it consists of, at most 254.
    pub fn prefixes(&self) -> Vec<IpNet> {
        match (self.first(), self.last()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => ipnet::Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(a), IpAddr::V6(b)) => ipnet::Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
            _ => Vec::new(),
        }
    }

    /// The range in the plan's form.
    pub fn to_plan(self) -> AddrRange {
        AddrRange { first: self.first(), last: self.last() }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.lo == self.hi { self.first().fmt(f) } else { write!(f, "{}-{}", self.first(), self.last()) }
    }
}

/// Sorts ranges and joins those that touch or overlap.
pub fn normalize(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.v6 == range.v6 && range.lo <= last.hi.saturating_add(1) => {
                last.hi = last.hi.max(range.hi);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// What of `ranges` is not in `holes`; both are normalized, and so is the result.
pub fn subtract(ranges: &[Range], holes: &[Range]) -> Vec<Range> {
    let mut left = Vec::with_capacity(ranges.len() + holes.len());
    let mut first_hole = 0;
    for range in ranges {
        while holes.get(first_hole).is_some_and(|hole| (hole.v6, hole.hi) < (range.v6, range.lo)) {
            first_hole += 1;
        }
        let mut rest = Some(*range);
        for hole in &holes[first_hole..] {
            let Some(now) = rest.filter(|now| hole.overlaps(now)) else { break };
            if hole.lo > now.lo {
                left.push(Range { hi: hole.lo - 1, ..now });
            }
            rest = (hole.hi < now.hi).then(|| Range { lo: hole.hi + 1, ..now });
        }
        left.extend(rest);
    }
    left
}

/// An entry of `addresses` or `except`, and whether it was written as a prefix.
pub fn parse(text: &str) -> Result<(Range, bool), UnitError> {
    let bad = |part: &str| {
        (
            format!("`{part}` is not an address"),
            "write an address, a prefix such as 10.1.0.0/16, or a range such as 10.0.0.10-10.0.0.200".to_owned(),
        )
    };
    if text.contains('/') {
        return prefix(text).map(|net| (Range::of(net), true));
    }
    let Some((first, last)) = text.split_once('-') else {
        return text.parse().map(|ip| (Range::one(ip), false)).map_err(|_| bad(text));
    };
    let (first, last) = (first.trim(), last.trim());
    let from: IpAddr = first.parse().map_err(|_| bad(first))?;
    let to: IpAddr = last.parse().map_err(|_| match (from, last.parse::<u8>()) {
        (IpAddr::V4(v4), Ok(octet)) => {
            let [a, b, c, _] = v4.octets();
            (format!("`{last}` is not an address"), format!("write both ends whole: {first}-{a}.{b}.{c}.{octet}"))
        }
        _ => bad(last),
    })?;
    let (from, to) = (Range::one(from), Range::one(to));
    if from.v6 != to.v6 {
        return Err((
            format!("`{text}` begins as IPv4 and ends as IPv6, or the reverse"),
            "write both ends of one family".to_owned(),
        ));
    }
    if from.lo > to.lo {
        return Err((format!("`{text}` ends before it begins"), format!("write {last}-{first}")));
    }
    Ok((Range { hi: to.lo, ..from }, false))
}

/// A prefix whose host bits are zero.
pub fn prefix(text: &str) -> Result<IpNet, UnitError> {
    let net = address_with_prefix(text)?;
    if net.addr() != net.network() {
        return Err((format!("`{text}` has host bits set"), format!("did you mean `{}`?", net.trunc())));
    }
    Ok(net)
}

/// An address with its prefix length.
pub fn address_with_prefix(text: &str) -> Result<IpNet, UnitError> {
    let Some((ip, length)) = text.split_once('/') else {
        let help = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("add the prefix length, such as {text}/24"),
            Ok(IpAddr::V6(_)) => format!("add the prefix length, such as {text}/64"),
            Err(_) => "write an address and its prefix length, such as 10.0.0.1/24".to_owned(),
        };
        return Err((format!("`{text}` has no prefix length"), help));
    };
    let ip: IpAddr = ip
        .parse()
        .map_err(|_| (format!("`{ip}` is not an address"), "write it such as 10.0.0.1/24 or fd00::1/64".to_owned()))?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    length
        .parse::<u8>()
        .ok()
        .filter(|_| length.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|length| IpNet::new(ip, length).ok())
        .ok_or_else(|| (format!("`/{length}` is not a prefix length"), format!("write /0 to /{max}")))
}

/// The smallest prefix that holds `ranges` (of one family) with room for a
/// network and a broadcast address beside them, but none longer than /24 or /64,
/// as no network engineer would expect one.
pub fn sensible_prefix(ranges: &[Range]) -> Option<IpNet> {
    let first = ranges.first()?;
    let lo = ranges.iter().map(|range| range.lo).min()?;
    let hi = ranges.iter().map(|range| range.hi).max()?;
    let mut length = if first.v6 { 64 } else { 24 };
    loop {
        let net = if first.v6 {
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from(lo), length).ok()?.trunc())
        } else {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from(lo as u32), length).ok()?.trunc())
        };
        let whole = Range::of(net);
        let ends_are_free = first.v6 || (whole.lo < lo && hi < whole.hi);
        if (whole.lo <= lo && hi <= whole.hi && ends_are_free) || length == 0 {
            return Some(net);
        }
        length -= 1;
    }
}

/// Network and broadcast address of an IPv4 prefix that has them (RFC 3021 exempts /31, a /32 is a host).
pub fn reserved(net: IpNet) -> Option<(IpAddr, IpAddr)> {
    (net.addr().is_ipv4() && net.prefix_len() < 31).then(|| (net.network(), net.broadcast()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn r(lo: u128, hi: u128) -> Range {
        Range { v6: false, lo, hi }
    }

    #[test]
    fn entries() {
        assert_eq!(parse("10.0.0.5").unwrap().0.to_string(), "10.0.0.5");
        assert_eq!(parse("10.0.0.0/8").unwrap(), (r(10 << 24, (11 << 24) - 1), true));
        assert_eq!(parse("10.0.0.1 - 10.0.0.9").unwrap().0.len(), 9);
        assert_eq!(parse("fd00::1-fd00::ff").unwrap().0.len(), 255);
        for (text, message, help) in [
            ("10.0.0.1/24", "host bits", "10.0.0.0/24"),
            ("10.0.0.0/33", "not a prefix length", "/32"),
            ("10.0.0.0/+8", "not a prefix length", "/32"),
            ("10.0.0.10-200", "not an address", "10.0.0.10-10.0.0.200"),
            ("10.0.0.9-10.0.0.1", "before it begins", "10.0.0.1-10.0.0.9"),
            ("10.0.0.1-fd00::1", "one family", ""),
            ("ten", "not an address", "prefix such as"),
            ("10.0.0", "not an address", ""),
        ] {
            let (got, got_help) = parse(text).unwrap_err();
            let all = format!("{got}; {got_help}");
            assert!(all.contains(message) && got_help.contains(help), "{text}: {all}");
        }
    }

    #[test]
    fn sensible_prefixes() {
        let cover = |entries: &[&str]| {
            let ranges: Vec<Range> = entries.iter().map(|text| parse(text).unwrap().0).collect();
            sensible_prefix(&ranges).unwrap().to_string()
        };
        assert_eq!(cover(&["10.0.0.5"]), "10.0.0.0/24");
        assert_eq!(cover(&["10.0.0.5", "10.0.1.9"]), "10.0.0.0/23");
        assert_eq!(cover(&["10.1.0.0/16"]), "10.0.0.0/14");
        assert_eq!(cover(&["10.0.0.0/8"]), "8.0.0.0/6");
        assert_eq!(cover(&["0.0.0.0/0"]), "0.0.0.0/0");
        assert_eq!(cover(&["fd00::5"]), "fd00::/64");
    }

    #[test]
    fn ranges_decompose_into_prefixes() {
        let text: Vec<String> =
            parse("10.0.0.1-10.0.0.6").unwrap().0.prefixes().iter().map(|p| p.to_string()).collect();
        assert_eq!(text, ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]);
        assert!(parse("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").unwrap().0.prefixes().len() <= 254);
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(ranges in prop::collection::vec((0u128..60, 0u128..12), 0..8), holes in prop::collection::vec((0u128..60, 0u128..12), 0..8)) {
            let make = |list: Vec<(u128, u128)>| normalize(list.into_iter().map(|(lo, more)| r(lo, lo + more)).collect());
            let (ranges, holes) = (make(ranges), make(holes));
            let left = subtract(&ranges, &holes);
            let has = |set: &[Range], n: u128| set.iter().any(|range| range.lo <= n && n <= range.hi);
            for n in 0..80 {
                prop_assert_eq!(has(&left, n), has(&ranges, n) && !has(&holes, n));
            }
            prop_assert_eq!(normalize(left.clone()), left);
        }
    }
}
