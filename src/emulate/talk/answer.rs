//! What a host answers to those who ask its segment for a name: multicast DNS (RFC 6762 §6, RFC 6763), LLMNR
//! (RFC 4795 §2.1) and NetBIOS (RFC 1002 §4.2.12, §4.2.17).
//!
//! Each writes the payload of one datagram and says how it is to be sent; nothing is written for a question that is
//! about somebody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dns::{self, IN, LONG_TTL, SERVICES, TOP, TTL, kind};
use super::netbios::{self, suffix};
use super::query::{Query, Question};
use crate::wire::{Mac, be16};

/// Seconds that those are good for which go to a resolver that knows nothing of multicast DNS (RFC 6762 §6.7).
const LEGACY_TTL: u32 = 10;
/// Seconds that answers of LLMNR are good for (RFC 4795 §2.8).
const LLMNR_TTL: u32 = 30;

/// What a host knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Its name, without a domain.
    pub name: &'a str,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 addresses.
    pub v6: &'a [Ipv6Addr],
    /// Its MAC.
    pub mac: Mac,
    /// What it offers (such as `_ipp._tcp`), and at which TCP ports.
    pub services: &'a [(&'static str, u16)],
}

/// Who asked: what decides how an answer looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// One who takes part in multicast DNS.
    Participant,
    /// A simple resolver, who gets the answer by unicast in the form of ordinary DNS (RFC 6762 §6.7).
    Resolver,
}

/// How an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Others may answer, too, so that it waits for a moment (RFC 6762 §6).
    pub shared: bool,
    /// To the asker alone.
    pub unicast: bool,
}

impl Own<'_> {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.into_iter().map(IpAddr::V4).chain(self.v6.iter().copied().map(IpAddr::V6))
    }

    fn is_asked(&self, ip: IpAddr, kind: u16) -> bool {
        kind == kind::ANY || kind == if ip.is_ipv4() { kind::A } else { kind::AAAA }
    }
}

/// Whether `name` is the one by which the name of `ip` is asked for.
fn is_reverse(name: &str, ip: IpAddr) -> bool {
    let suffix = if ip.is_ipv4() { ".in-addr.arpa" } else { ".ip6.arpa" };
    name.ends_with(suffix) && dns::reverse(ip) == name
}

/// Answers of multicast DNS to `query`, at most `limit` octets.
pub fn mdns(out: &mut Vec<u8>, query: &Query, own: &Own<'_>, asker: Asker, limit: usize) -> Option<Manner> {
    // RFC 6762 §6.7: resolvers ask one thing at a time. Nothing is then searched for names to refer to.
    if asker == Asker::Resolver && query.questions.len() != 1 {
        return None;
    }
    let full = format!("{}.local", own.name);
    let lower = full.to_ascii_lowercase();
    let legacy = asker == Asker::Resolver;
    let secs = |usual: u32| if legacy { usual.min(LEGACY_TTL) } else { usual };
    let unique = if legacy { IN } else { IN | TOP };
    // Numbers are filled in last.
    dns::header(out, if legacy { query.id } else { 0 }, 0x8400, [0; 3]);
    if legacy {
        for Question { name, kind, .. } in &query.questions {
            dns::question(out, name, *kind, IN);
        }
    }
    let (mut answers, mut shared, mut described) = (0u16, false, Vec::new());
    for Question { name, kind, .. } in &query.questions {
        if *name == lower {
            for ip in own.addresses().filter(|ip| own.is_asked(*ip, *kind)) {
                if query.known.iter().any(|(known, address)| *known == lower && *address == ip) {
                    continue;
                }
                dns::address(out, &full, unique, secs(TTL), ip);
                answers += 1;
            }
        } else if name.ends_with(".arpa") && matches!(*kind, kind::PTR | kind::ANY) {
            if own.addresses().any(|ip| is_reverse(name, ip)) {
                dns::pointer(out, name, unique, secs(TTL), &full);
                answers += 1;
            }
        } else if name.starts_with('_') && matches!(*kind, kind::PTR | kind::ANY) {
            for (at, (service, _)) in own.services.iter().enumerate() {
                let of_kind = format!("{service}.local");
                if name == SERVICES {
                    dns::pointer(out, SERVICES, IN, secs(LONG_TTL), &of_kind);
                } else if *name == of_kind {
                    dns::pointer(out, &of_kind, IN, secs(LONG_TTL), &format!("{}.{of_kind}", own.name));
                    described.push(at);
                } else {
                    continue;
                }
                (answers, shared) = (answers + 1, true);
            }
        } else if let Some(at) = instance(name, own) {
            answers += dns::service(out, own.name, own.services[at], unique, secs, *kind);
        }
    }
    if answers == 0 || out.len() > limit {
        return None;
    }
    // What is going to be asked next, as far as there is room for it (RFC 6763 §12).
    let (mut more, mut whole) = (0u16, out.len());
    let addresses = (!described.is_empty()).then(|| own.addresses().map(Err));
    for next in described.into_iter().map(Ok).chain(addresses.into_iter().flatten()) {
        let records = match next {
            Ok(at) => dns::service(out, own.name, own.services[at], unique, secs, kind::ANY),
            Err(ip) => {
                dns::address(out, &full, unique, secs(TTL), ip);
                1
            }
        };
        if out.len() > limit {
            break;
        }
        (more, whole) = (more + records, out.len());
    }
    out.truncate(whole);
    let questions = if legacy { query.questions.len() as u16 } else { 0 };
    for (at, count) in [(4, questions), (6, answers), (10, more)] {
        out[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
    Some(Manner { shared, unicast: legacy || query.questions.iter().all(|question| question.unicast) })
}

/// The service of `own` whose instance `name` is.
fn instance(name: &str, own: &Own<'_>) -> Option<usize> {
    let (host, rest) = name.split_once('.')?;
    let service = rest.strip_suffix(".local")?;
    let at = own.services.iter().position(|(known, _)| *known == service)?;
    host.eq_ignore_ascii_case(own.name).then_some(at)
}

/// The answer of LLMNR, at most `limit` octets: records of the kind that was asked for, or none if there are none.
/// It is the host's alone, and goes to the asker at once.
pub fn llmnr(out: &mut Vec<u8>, query: &Query, own: &Own<'_>, limit: usize) -> bool {
    // RFC 4795 §2.1.1: one question, nothing else.
    let [Question { name, kind, .. }] = &*query.questions else { return false };
    if !name.eq_ignore_ascii_case(own.name) {
        return false;
    }
    dns::header(out, query.id, 0x8000, [1, 0, 0]);
    dns::question(out, own.name, *kind, IN);
    let (mut answers, mut record) = (0u16, Vec::new());
    for ip in own.addresses().filter(|ip| own.is_asked(*ip, *kind)) {
        // On its own, so that the name is written out, as Windows does; nmap's llmnr-resolve never ends otherwise.
        record.clear();
        dns::address(&mut record, own.name, IN, LLMNR_TTL, ip);
        if out.len() + record.len() > limit {
            break;
        }
        out.extend_from_slice(&record);
        answers += 1;
    }
    out[6..8].copy_from_slice(&answers.to_be_bytes());
    true
}

/// The answer of the NetBIOS name service: that it has a name, or which names it has (`nbtstat -A`).
pub fn netbios(out: &mut Vec<u8>, message: &[u8], own: &Own<'_>) -> bool {
    let Some((name, kind)) = netbios::question(message) else { return false };
    let Some(ip) = own.v4 else { return false };
    let id = be16(message, 0);
    let is_own = [suffix::WORKSTATION, suffix::SERVER].iter().any(|suffix| netbios::padded(own.name, *suffix) == name);
    match kind {
        netbios::STATUS if name == netbios::ANYBODY || is_own => netbios::status(out, id, &name, own.name, own.mac),
        netbios::NAME if is_own => netbios::positive(out, id, &name, ip),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own<'_> = Own {
        name: "Web01",
        v4: Some(Ipv4Addr::new(10, 0, 0, 7)),
        v6: &[Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7)],
        mac: Mac([0, 1, 2, 3, 4, 5]),
        services: &[("_ipp._tcp", 631), ("_http._tcp", 80)],
    };

    fn asked(name: &str, kind: u16) -> Query {
        let question = Question { name: name.into(), kind, unicast: false };
        Query { id: 0x1234, questions: vec![question], known: vec![] }
    }

    fn counts(out: &[u8]) -> [u16; 4] {
        [4, 6, 8, 10].map(|at| be16(out, at))
    }

    #[test]
    fn names_and_addresses_are_its_own_alone() {
        let mut out = Vec::new();
        let to = |out: &mut Vec<u8>, name: &str, kind| mdns(out, &asked(name, kind), &OWN, Asker::Participant, 1400);
        let alone = Some(Manner { shared: false, unicast: false });
        assert_eq!(to(&mut out, "web01.local", kind::A), alone);
        assert_eq!(out, b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x05Web01\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\x0a\0\0\x07");
        assert_eq!(to(&mut out, "web01.local", kind::ANY), alone);
        assert_eq!(counts(&out), [0, 2, 0, 0]);
        assert_eq!(to(&mut out, "7.0.0.10.in-addr.arpa", kind::PTR), alone);
        assert!(out.ends_with(b"\0\x0c\x80\x01\0\0\0\x78\0\x0d\x05Web01\x05local\0"), "{out:x?}");
        for (name, kind) in [("web02.local", 1), ("web01", 1), ("web01.local", 16), ("8.0.0.10.in-addr.arpa", 12)] {
            assert_eq!(to(&mut out, name, kind), None, "{name}");
        }
        let known = vec![("web01.local".to_owned(), IpAddr::V4(OWN.v4.unwrap()))];
        assert_eq!(mdns(&mut out, &Query { known, ..asked("web01.local", 1) }, &OWN, Asker::Participant, 1400), None);
    }

    #[test]
    fn services_are_listed_and_described() {
        let mut out = Vec::new();
        let shared = Some(Manner { shared: true, unicast: false });
        let mut to = |name: &str, kind| {
            let manner = mdns(&mut out, &asked(name, kind), &OWN, Asker::Participant, 1400);
            (manner, counts(&out))
        };
        assert_eq!(to(SERVICES, kind::PTR), (shared, [0, 2, 0, 0]));
        // The instance; its place, its text and two addresses beside.
        assert_eq!(to("_ipp._tcp.local", kind::PTR), (shared, [0, 1, 0, 4]));
        assert_eq!(
            to("web01._http._tcp.local", kind::SRV),
            (Some(Manner { shared: false, unicast: false }), [0, 1, 0, 0])
        );
        assert_eq!(to("_ssh._tcp.local", kind::PTR).0, None);
        assert_eq!(to("web02._http._tcp.local", kind::SRV).0, None);
    }

    #[test]
    fn simple_resolvers_get_ordinary_dns_within_bounds() {
        let mut out = Vec::new();
        let manner = mdns(&mut out, &asked("web01.local", kind::A), &OWN, Asker::Resolver, 1400).unwrap();
        assert!(manner.unicast);
        assert_eq!((be16(&out, 0), counts(&out)), (0x1234, [1, 1, 0, 0]));
        assert!(out.ends_with(b"\0\x01\0\x01\0\0\0\x0a\0\x04\x0a\0\0\x07"));
        // What would be too much is left out, or all of it is.
        mdns(&mut out, &asked("_ipp._tcp.local", kind::PTR), &OWN, Asker::Resolver, 80).unwrap();
        assert!(out.len() <= 80 && counts(&out) == [1, 1, 0, 0]);
        assert_eq!(mdns(&mut out, &asked("_ipp._tcp.local", kind::PTR), &OWN, Asker::Resolver, 50), None);
        // With the usual three times of a packet there is room for all of it.
        mdns(&mut out, &asked("_ipp._tcp.local", kind::PTR), &OWN, Asker::Resolver, 3 * (28 + 33) - 28).unwrap();
        assert_eq!(counts(&out), [1, 1, 0, 3], "but for its second address");
    }

    #[test]
    fn llmnr_answers_to_its_name() {
        let mut out = Vec::new();
        assert!(llmnr(&mut out, &asked("web01", kind::A), &OWN, 1400));
        assert_eq!(&out[..12], b"\x12\x34\x80\0\0\x01\0\x01\0\0\0\0");
        assert!(out.ends_with(b"\x05Web01\0\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x07"));
        // It has the name, and nothing of that kind.
        assert!(llmnr(&mut out, &asked("web01", kind::TXT), &OWN, 1400));
        assert_eq!(counts(&out), [1, 0, 0, 0]);
        assert!(!llmnr(&mut out, &asked("web01.local", kind::A), &OWN, 1400));
        assert!(!llmnr(&mut out, &asked("wpad", kind::A), &OWN, 1400));
        assert!(llmnr(&mut out, &asked("web01", kind::ANY), &OWN, 50));
        assert!(out.len() <= 50 && counts(&out) == [1, 1, 0, 0]);
    }

    #[test]
    fn netbios_names_are_told() {
        let (mut out, mut query) = (Vec::new(), Vec::new());
        let ask = |query: &mut Vec<u8>, name: &[u8; 16], kind: u8| {
            query.clear();
            query.extend_from_slice(b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x20");
            query.extend(name.iter().flat_map(|octet| [b'A' + (octet >> 4), b'A' + (octet & 15)]));
            query.extend_from_slice(&[0, 0, kind, 0, 1]);
        };
        ask(&mut query, &netbios::padded("WEB01", suffix::SERVER), 0x20);
        assert!(netbios(&mut out, &query, &OWN));
        assert_eq!(&out[..12], b"\x12\x34\x85\0\0\0\0\x01\0\0\0\0");
        assert!(out.ends_with(b"\0\x20\0\x01\0\x04\x93\xe0\0\x06\0\0\x0a\0\0\x07"));
        ask(&mut query, &netbios::padded("WEB02", suffix::SERVER), 0x20);
        assert!(!netbios(&mut out, &query, &OWN));
        ask(&mut query, b"*\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0x21);
        assert!(netbios(&mut out, &query, &OWN));
        assert_eq!(out[56], 4, "names");
        assert!(out.windows(6).any(|part| part == OWN.mac.0));
        assert!(out.len() + 28 <= 3 * (query.len() + 28), "{}", out.len());
        for end in 0..query.len() {
            netbios(&mut out, &query[..end], &OWN);
        }
    }
}
