//! Queries in the format of the DNS (RFC 1035 §4.1), as strangers send them: read once from front to back, with at
//! most [`QUESTIONS`] questions and as many known answers, whatever the counts in the header say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dns::kind;
use crate::wire::{be16, be32};

/// Most questions of one query that are looked at; systems ask a handful of things together.
pub const QUESTIONS: usize = 8;
/// Most known answers that are looked at.
const KNOWN: usize = 16;
/// Octets of a name, its dots included (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;
const HEADER: usize = 12;

/// One question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Its labels in lower case with dots between. A dot within a label is no dot, nor is what is not printed: both
    /// are `?`, which is in no name of ours.
    pub name: String,
    /// The type of records that it asks for.
    pub kind: u16,
    /// Whether an answer by unicast is welcome (RFC 6762 §5.4).
    pub unicast: bool,
}

/// A query.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// What ties an answer to it.
    pub id: u16,
    /// What it asks, at least one thing.
    pub questions: Vec<Question>,
    /// Addresses that the asker knows to belong to a name, for at least half of their time (RFC 6762 §7.1).
    pub known: Vec<(String, IpAddr)>,
}

impl Query {
    /// Parses the payload of a datagram. What is no standard query, or has no question of class IN, is none.
    pub fn parse(message: &[u8]) -> Option<Query> {
        // Not a response, opcode 0, not truncated: more known answers would follow, and are not waited for.
        if message.len() < HEADER || be16(message, 2) & 0xf800 != 0 {
            return None;
        }
        let mut query = Query { id: be16(message, 0), ..Query::default() };
        let mut at = HEADER;
        for _ in 0..usize::from(be16(message, 4)).min(QUESTIONS) {
            let name = take_name(message, &mut at)?;
            let fixed = message.get(at..at + 4)?;
            at += 4;
            let (kind, class) = (be16(fixed, 0), be16(fixed, 2));
            if matches!(class & 0x7fff, 1 | 255) {
                query.questions.push(Question { name, kind, unicast: class & 0x8000 != 0 });
            }
        }
        if query.questions.is_empty() {
            return None;
        }
        // Questions that were not looked at lie between, and hide these.
        let all_read = usize::from(be16(message, 4)) <= QUESTIONS;
        for _ in 0..usize::from(be16(message, 6)).min(if all_read { KNOWN } else { 0 }) {
            let Some(known) = take_known(message, &mut at) else { break };
            query.known.extend(known);
        }
        Some(query)
    }
}

/// The name at `at`, which moves behind it. A pointer leads further to the front than where the part before it
/// began, so that reading ends.
fn take_name(message: &[u8], at: &mut usize) -> Option<String> {
    let mut name = String::new();
    let (mut place, mut begin, mut jumped) = (*at, *at, false);
    loop {
        let length = *message.get(place)?;
        match length {
            0 => {
                if !jumped {
                    *at = place + 1;
                }
                return Some(name);
            }
            1..64 => {
                let label = message.get(place + 1..place + 1 + usize::from(length))?;
                if name.len() + label.len() + 1 > LONGEST_NAME {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                let plain = |octet: &u8| octet.is_ascii_graphic() && *octet != b'.' || *octet == b' ';
                let text = label.iter().map(|octet| if plain(octet) { octet.to_ascii_lowercase() } else { b'?' });
                name.extend(text.map(char::from));
                place += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(be16(message.get(place..place + 2)?, 0) & 0x3fff);
                if !jumped {
                    *at = place + 2;
                    jumped = true;
                }
                if target >= begin {
                    return None;
                }
                (place, begin) = (target, target);
            }
            _ => return None,
        }
    }
}

/// An address record that the asker knows; `Some(None)` if it is another record, or known for too long.
fn take_known(message: &[u8], at: &mut usize) -> Option<Option<(String, IpAddr)>> {
    let name = take_name(message, at)?;
    let fixed = message.get(*at..*at + 10)?;
    let (kind, seconds, length) = (be16(fixed, 0), be32(fixed, 4), usize::from(be16(fixed, 8)));
    let data = message.get(*at + 10..*at + 10 + length)?;
    *at += 10 + length;
    let ip = match kind {
        kind::A => <[u8; 4]>::try_from(data).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        kind::AAAA => <[u8; 16]>::try_from(data).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    };
    Some(ip.filter(|_| seconds >= super::dns::TTL / 2).map(|ip| (name, ip)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16, unicast: bool) -> Question {
        Question { name: name.to_owned(), kind, unicast }
    }

    #[test]
    fn questions_are_read_with_what_is_known() {
        let message = b"\x12\x34\0\0\0\x03\0\x02\0\0\0\0\
            \x05Web01\x05local\0\0\x01\0\x01\
            \x04_ipp\x04_tcp\xc0\x12\0\x0c\x80\x01\
            \x01x\0\0\x01\0\x03\
            \xc0\x0c\0\x01\x80\x01\0\0\0\x3c\0\x04\x0a\0\0\x07\
            \xc0\x0c\0\x01\x80\x01\0\0\0\x3b\0\x04\x0a\0\0\x08";
        let query = Query::parse(message).unwrap();
        assert_eq!(query.id, 0x1234);
        assert_eq!(query.questions, [question("web01.local", 1, false), question("_ipp._tcp.local", 12, true)]);
        assert_eq!(query.known, [("web01.local".to_owned(), IpAddr::from([10, 0, 0, 7]))], "the other is about to end");
    }

    #[test]
    fn what_is_no_query_is_none() {
        let of =
            |flags: &[u8; 2], rest: &[u8]| Query::parse(&[b"\0\0", &flags[..], b"\0\x01\0\0\0\0\0\0", rest].concat());
        let plain = b"\x01a\0\0\x01\0\x01";
        assert!(of(b"\0\0", plain).is_some());
        // Answers, other operations.
        assert_eq!(of(b"\x80\0", plain), None);
        assert_eq!(of(b"\x28\0", plain), None);
        // Another class; cut short; a name that leads to itself, or on; a label of an unknown kind.
        for rest in [
            &b"\x01a\0\0\x01\0\x03"[..],
            b"\x01a\0\0\x01\0",
            b"\xc0\x0c\0\x01\0\x01",
            b"\xc0\x20\0\x01\0\x01",
            b"\x40a",
        ] {
            assert_eq!(of(b"\0\0", rest), None, "{rest:?}");
        }
        let long = [&[63u8; 64][..]; 5].concat();
        assert_eq!(of(b"\0\0", &[&long, &b"\0\0\x01\0\x01"[..]].concat()), None);
        // A dot inside of a label ends none.
        assert_eq!(of(b"\0\0", b"\x07a.local\0\0\x01\0\x01").unwrap().questions[0].name, "a?local");
    }

    proptest! {
        #[test]
        fn any_message_is_met(message: Vec<u8>) {
            if let Some(query) = Query::parse(&message) {
                prop_assert!((1..=QUESTIONS).contains(&query.questions.len()) && query.known.len() <= KNOWN);
                prop_assert!(query.questions.iter().all(|question| question.name.len() <= LONGEST_NAME));
            }
        }
    }
}
