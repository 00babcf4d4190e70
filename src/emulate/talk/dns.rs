//! Messages in the format of the DNS (RFC 1035 §4): multicast DNS (RFC 6762) and LLMNR (RFC 4795), what a host says
//! by itself. What it answers is in `answer`.

use std::net::IpAddr;

/// Record types.
pub(super) mod kind {
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const ANY: u16 = 255;
}

/// Octets before the first name.
const HEADER: usize = 12;
pub(super) const IN: u16 = 1;
/// The top bit of a class: the only record of its kind (RFC 6762 §10.2), or an answer by unicast is welcome (§5.4).
pub(super) const TOP: u16 = 0x8000;
/// Seconds that records with a host's name are good for (RFC 6762 §10).
pub(super) const TTL: u32 = 120;
/// Seconds that others are good for.
pub(super) const LONG_TTL: u32 = 4500;
/// By which all kinds of services are found (RFC 6763 §9).
pub(super) const SERVICES: &str = "_services._dns-sd._udp.local";

pub(super) fn header(out: &mut Vec<u8>, id: u16, flags: u16, [questions, answers, authorities]: [u16; 3]) {
    out.clear();
    for word in [id, flags, questions, answers, authorities, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Writes a name as labels (RFC 1035 §3.1), the end of which may be one that was written before (§4.1.4), as all
/// responders do. What is longer than a label may be is cut.
pub(super) fn name(out: &mut Vec<u8>, dotted: &str) {
    let begin = out.len();
    let mut starts = Vec::new();
    for label in dotted.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        starts.push(out.len());
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    for start in starts {
        // The same octets, wherever they are, are the same labels.
        let (before, end) = (&out[..begin], &out[start..]);
        let found = before.windows(end.len()).skip(HEADER).position(|part| part == end);
        if let Some(at) = found.map(|at| at + HEADER).filter(|at| *at < 0x4000) {
            out.truncate(start);
            out.extend_from_slice(&(0xc000 | at as u16).to_be_bytes());
            return;
        }
    }
}

pub(super) fn question(out: &mut Vec<u8>, dotted: &str, kind: u16, class: u16) {
    name(out, dotted);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
}

/// Writes a record that is good for `secs`, with the data that `data` writes.
fn record(out: &mut Vec<u8>, dotted: &str, (kind, class): (u16, u16), secs: u32, data: impl FnOnce(&mut Vec<u8>)) {
    question(out, dotted, kind, class);
    out.extend_from_slice(&secs.to_be_bytes());
    let begin = out.len() + 2;
    out.extend_from_slice(&[0, 0]);
    data(out);
    let len = (out.len() - begin) as u16;
    out[begin - 2..begin].copy_from_slice(&len.to_be_bytes());
}

pub(super) fn address(out: &mut Vec<u8>, dotted: &str, class: u16, secs: u32, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => record(out, dotted, (kind::A, class), secs, |out| out.extend_from_slice(&ip.octets())),
        IpAddr::V6(ip) => record(out, dotted, (kind::AAAA, class), secs, |out| out.extend_from_slice(&ip.octets())),
    }
}

/// A record that leads from one name to another.
pub(super) fn pointer(out: &mut Vec<u8>, dotted: &str, class: u16, secs: u32, to: &str) {
    record(out, dotted, (kind::PTR, class), secs, |out| name(out, to));
}

/// Writes where a service of `host` is (RFC 2782), and that there is nothing more to say of it (RFC 6763 §6.1): what
/// is `wanted` of the two. Returns how many records these are.
pub(super) fn service(
    out: &mut Vec<u8>,
    host: &str,
    (service, port): (&str, u16),
    class: u16,
    secs: impl Fn(u32) -> u32,
    wanted: u16,
) -> u16 {
    let instance = format!("{host}.{service}.local");
    let mut count = 0;
    if matches!(wanted, kind::SRV | kind::ANY) {
        record(out, &instance, (kind::SRV, class), secs(TTL), |out| {
            // No priority, no weight.
            out.extend_from_slice(&[0, 0, 0, 0]);
            out.extend_from_slice(&port.to_be_bytes());
            name(out, &format!("{host}.local"));
        });
        count += 1;
    }
    if matches!(wanted, kind::TXT | kind::ANY) {
        record(out, &instance, (kind::TXT, class), secs(LONG_TTL), |out| out.push(0));
        count += 1;
    }
    count
}

/// The name by which the host of an address is looked for (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let mut text: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            text.push_str("ip6.arpa");
            text
        }
    }
}

/// A probe of whether `host` (without `.local`) is free, with what would be said of it (RFC 6762 §8.1, §8.2).
pub fn mdns_probe(out: &mut Vec<u8>, host: &str, ip: IpAddr) {
    let full = format!("{host}.local");
    header(out, 0, 0, [1, 0, 1]);
    question(out, &full, kind::ANY, IN | TOP);
    address(out, &full, IN, TTL, ip);
}

/// An announcement that `host` has `ip`, unasked, and of the `services` that it offers (RFC 6762 §8.3).
pub fn mdns_announcement(out: &mut Vec<u8>, host: &str, ip: IpAddr, services: &[(&str, u16)]) {
    let full = format!("{host}.local");
    header(out, 0, 0x8400, [0, 2 + 4 * services.len() as u16, 0]);
    address(out, &full, IN | TOP, TTL, ip);
    pointer(out, &reverse(ip), IN | TOP, TTL, &full);
    for (of, port) in services {
        let of_kind = format!("{of}.local");
        pointer(out, SERVICES, IN, LONG_TTL, &of_kind);
        pointer(out, &of_kind, IN, LONG_TTL, &format!("{host}.{of_kind}"));
        service(out, host, (of, *port), IN | TOP, |secs| secs, kind::ANY);
    }
}

/// A question for who offers `service`, such as `_ipp._tcp.local` (RFC 6763 §4.1).
pub fn mdns_query(out: &mut Vec<u8>, service: &str) {
    header(out, 0, 0, [1, 0, 0]);
    question(out, service, kind::PTR, IN);
}

/// A question for the records of `host` (RFC 4795 §2.1.1); of all kinds to find out whether it is
/// unique (§4), otherwise for the address of `v6` or IPv4.
pub fn llmnr_query(out: &mut Vec<u8>, id: u16, host: &str, uniqueness: bool, v6: bool) {
    let kind = if uniqueness {
        kind::ANY
    } else if v6 {
        kind::AAAA
    } else {
        kind::A
    };
    header(out, id, 0, [1, 0, 0]);
    question(out, host, kind, IN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_rfcs_have_them() {
        let mut out = Vec::new();
        llmnr_query(&mut out, 0x1234, "pc", true, false);
        assert_eq!(out, b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x02pc\0\0\xff\0\x01");
        mdns_query(&mut out, "_ipp._tcp.local");
        assert_eq!(&out[12..], b"\x04_ipp\x04_tcp\x05local\0\0\x0c\0\x01");
        mdns_probe(&mut out, "pc", IpAddr::from([10, 0, 0, 7]));
        assert_eq!(&out[..12], b"\0\0\0\0\0\x01\0\0\0\x01\0\0");
        assert!(out.ends_with(b"\xc0\x0c\0\x01\0\x01\0\0\0\x78\0\x04\x0a\0\0\x07"));
        mdns_announcement(&mut out, "pc", IpAddr::from([10, 0, 0, 7]), &[]);
        assert_eq!(&out[..12], b"\0\0\x84\0\0\0\0\x02\0\0\0\0");
        assert!(out.ends_with(b"\0\x0c\x80\x01\0\0\0\x78\0\x02\xc0\x0c"));
    }

    #[test]
    fn addresses_are_looked_for_backwards() {
        assert_eq!(reverse("192.0.2.7".parse().unwrap()), "7.2.0.192.in-addr.arpa");
        let v6 = reverse("fd00::1a".parse().unwrap());
        assert!(v6.starts_with("a.1.0.0.") && v6.ends_with(".0.0.d.f.ip6.arpa"), "{v6}");
    }

    #[test]
    fn long_labels_are_cut() {
        let mut out = Vec::new();
        name(&mut out, &"x".repeat(200));
        assert_eq!((out.len(), out[0]), (65, 63));
    }
}
