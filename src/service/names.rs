//! A name server for those who must not reach the real one (RFC 1035, RFC 7766): every name has an address, made up, always
//! the same, and public, so that whoever connects to it is seen doing so.
//!
//! Addresses are keyed by the installation's secret: nobody outside can tell which name has which. Names that no public
//! server knows (single labels, `.local`, what stands for addresses) it does not know either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::inline::{Stream, Then};
use crate::emulate::Secret;
use crate::event::EventId;
use crate::wire::{Duration, Instant, be16};

const A: u16 = 1;
const MX: u16 = 15;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const IN: u16 = 1;

const FORMERR: u8 = 1;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

const HEADER: usize = 12;
/// Seconds that an answer is good for.
const TTL: u32 = 300;
/// Addresses that are tried for a name until one is public.
const ATTEMPTS: u64 = 64;
/// How long a connection may be silent (BIND's `tcp-idle-timeout`).
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest query over TCP that is read.
const MOST: usize = 1024;
/// What `derive` tells names from.
const LABEL: u8 = 1;

/// Top-level names that the public DNS does not have.
const UNKNOWN: [&[u8]; 12] = [
    b"local",
    b"localhost",
    b"localdomain",
    b"lan",
    b"home",
    b"internal",
    b"intranet",
    b"corp",
    b"test",
    b"invalid",
    b"onion",
    b"arpa",
];

/// What it knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Names {
    /// What addresses are a function of, besides the name.
    pub key: Secret,
    /// Where no address may lie: the honeynet's own prefixes.
    pub not: Vec<IpNet>,
    /// Whether names have IPv6 addresses, too.
    pub v6: bool,
}

impl Names {
    /// Answers a query into `out`, which is left empty where there is no answer. Tells of the name.
    pub fn answer(&self, query: &[u8], out: &mut Vec<u8>, tell: &mut dyn FnMut(EventId, &[u8])) {
        out.clear();
        let Some([id0, id1, flags, _, ..]) = query.first_chunk::<HEADER>() else { return };
        // An answer is not answered.
        if flags & 0x80 != 0 {
            return;
        }
        let head = |code: u8, questions: u8, answers: u8| {
            [*id0, *id1, 0x80 | flags & 0x79, 0x80 | code, 0, questions, 0, answers, 0, 0, 0, 0]
        };
        if flags & 0x78 != 0 {
            return out.extend_from_slice(&head(NOTIMP, 0, 0));
        }
        let Some(question) = Question::read(query) else { return out.extend_from_slice(&head(FORMERR, 0, 0)) };
        question.tell(tell);
        let asked = &query[HEADER..question.end];
        let mut say = |code: u8, data: Option<(u16, &[u8])>| {
            out.extend_from_slice(&head(code, 1, data.is_some().into()));
            out.extend_from_slice(asked);
            let Some((kind, data)) = data else { return };
            // The name that was asked for.
            out.extend_from_slice(&[0xc0, HEADER as u8]);
            for word in [kind, IN] {
                out.extend_from_slice(&word.to_be_bytes());
            }
            out.extend_from_slice(&TTL.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        };
        if question.class != IN {
            return say(REFUSED, None);
        }
        if !question.is_public() {
            return say(NXDOMAIN, None);
        }
        let name = question.name.to_ascii_lowercase();
        match question.kind {
            A | ANY => say(0, Some((A, &self.v4(&name).octets()))),
            AAAA if self.v6 => say(0, Some((AAAA, &self.v6(&name).octets()))),
            // Preference 10, `mail` and the name that was asked for.
            MX => say(0, Some((MX, &[0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, HEADER as u8]))),
            _ => say(0, None),
        }
    }

    /// The IPv4 address of a name.
    fn v4(&self, name: &[u8]) -> Ipv4Addr {
        let candidates = (0..ATTEMPTS).map(|attempt| Ipv4Addr::from_bits(self.word(name, attempt) as u32));
        let fits = |ip: &Ipv4Addr| is_public(*ip) && !self.not.iter().any(|net| net.contains(&IpAddr::V4(*ip)));
        // Where nearly everything is inside, the first will do.
        candidates.clone().find(fits).or_else(|| candidates.clone().next()).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The IPv6 address of a name: a server in one of the networks that hosting companies have.
    fn v6(&self, name: &[u8]) -> Ipv6Addr {
        const NETWORKS: [u16; 4] = [0x2a01, 0x2a02, 0x2a03, 0x2600];
        let candidates = (0..ATTEMPTS).map(|attempt| {
            let [high, low] = [2 * attempt, 2 * attempt + 1].map(|part| self.word(name, 1 << 32 | part));
            let [a, b, c, d] = [high as u16, (high >> 16) as u16, (high >> 32) as u16, (high >> 48) as u16];
            Ipv6Addr::new(
                NETWORKS[usize::from(a & 3)],
                b,
                c,
                d & 0xff,
                0,
                0,
                (low & 0xff) as u16,
                (low >> 8) as u16 | 1,
            )
        });
        let fits = |ip: &Ipv6Addr| !self.not.iter().any(|net| net.contains(&IpAddr::V6(*ip)));
        candidates.clone().find(fits).or_else(|| candidates.clone().next()).unwrap_or(Ipv6Addr::UNSPECIFIED)
    }

    fn word(&self, name: &[u8], attempt: u64) -> u64 {
        // At most 255 octets.
        let mut parts = [0; 34];
        (parts[0], parts[1]) = (attempt, name.len() as u64);
        for (part, octets) in parts[2..].iter_mut().zip(name.chunks(8)) {
            *part = octets.iter().fold(0, |word, octet| word << 8 | u64::from(*octet));
        }
        self.key.derive(LABEL, &parts)
    }
}

/// The only question of a query.
struct Question<'a> {
    /// Its labels, the last one left out, which is empty.
    name: &'a [u8],
    kind: u16,
    class: u16,
    /// Where it ends.
    end: usize,
}

impl Question<'_> {
    fn read(query: &[u8]) -> Option<Question<'_>> {
        if query.get(4..6)? != [0, 1] {
            return None;
        }
        let mut end = HEADER;
        loop {
            match usize::from(*query.get(end)?) {
                0 => break,
                // A pointer has nothing to point to in a question.
                length @ 1..=63 => end += 1 + length,
                _ => return None,
            }
        }
        let name = query.get(HEADER..end).filter(|name| name.len() < 255)?;
        query.get(end + 1..end + 5)?;
        Some(Question { name, kind: be16(query, end + 1), class: be16(query, end + 3), end: end + 5 })
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.name;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(label)
        })
    }

    /// Whether the public DNS may have such a name.
    fn is_public(&self) -> bool {
        let (count, last) = self.labels().fold((0, &b""[..]), |(count, _), label| (count + 1, label));
        let known = UNKNOWN.iter().any(|name| last.eq_ignore_ascii_case(name));
        count >= 2 && !known && !last.iter().all(u8::is_ascii_digit)
    }

    fn tell(&self, tell: &mut dyn FnMut(EventId, &[u8])) {
        let mut text = match self.kind {
            A => b"A ".to_vec(),
            AAAA => b"AAAA ".to_vec(),
            MX => b"MX ".to_vec(),
            kind => format!("TYPE{kind} ").into_bytes(),
        };
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                text.push(b'.');
            }
            text.extend_from_slice(label);
        }
        tell(EventId::ServiceRequest, &text);
    }
}

/// Whether an address may be somebody's on the Internet (RFC 6890).
fn is_public(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
    let reserved =
        matches!((a, b, c), (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _));
    !(special || reserved || matches!(d, 0 | 255))
}

/// A connection to it: messages with their lengths before them (RFC 1035 §4.2.2).
pub struct OverTcp {
    out: Vec<u8>,
    sent: usize,
    since: Instant,
}

impl OverTcp {
    pub(super) fn new(now: Instant) -> OverTcp {
        OverTcp { out: Vec::new(), sent: 0, since: now }
    }

    pub(super) fn poll(&mut self, names: &Names, now: Instant, stream: &mut dyn Stream) -> Then {
        let then = self.serve(names, now, stream);
        if now - self.since >= PATIENCE { Then::Close } else { then }
    }

    fn serve(&mut self, names: &Names, now: Instant, stream: &mut dyn Stream) -> Then {
        loop {
            while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match stream.send(rest) {
                    0 => return Then::Stay,
                    sent => (self.sent, self.since) = (self.sent + sent, now),
                }
            }
            (self.out, self.sent) = (Vec::new(), 0);
            let came = stream.peek();
            let length = usize::from(be16(came, 0));
            if came.len() >= 2 && length > MOST {
                return Then::Close;
            }
            let Some(query) = came.get(2..2 + length).filter(|_| came.len() >= 2) else {
                return if stream.is_last() { Then::Close } else { Then::Stay };
            };
            let (mut answer, mut told) = (Vec::new(), Vec::new());
            names.answer(query, &mut answer, &mut |id, data| told.push((id, data.to_vec())));
            stream.take(2 + length);
            told.iter().for_each(|(id, data)| stream.tell(*id, data));
            self.since = now;
            if answer.is_empty() {
                return Then::Close;
            }
            self.out = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.out.capacity()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.since + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names { key: Secret([7; 16]), not: vec!["45.0.0.0/8".parse().unwrap()], v6: true }
    }

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend_from_slice(&[(kind >> 8) as u8, kind as u8, 0, 1]);
        query
    }

    fn answer(names: &Names, query: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        names.answer(query, &mut out, &mut |_, _| {});
        out
    }

    /// Code, number of answers, and the data of the first.
    fn asked(name: &str, kind: u16) -> (u8, u8, Vec<u8>) {
        let query = query(name, kind);
        let out = answer(&names(), &query);
        assert_eq!((&out[..2], out[2] & 0x81, out[3] & 0x80), (&[0x12, 0x34][..], 0x81, 0x80), "{name}");
        assert!(out.len() <= 3 * query.len(), "{name}");
        (out[3] & 15, out[7], out.get(query.len() + 12..).unwrap_or_default().to_vec())
    }

    #[test]
    fn every_name_has_one_public_address() {
        let (code, count, first) = asked("www.evil.example.com", A);
        assert_eq!((code, count, first.len()), (0, 1, 4));
        assert_eq!(asked("WWW.Evil.example.COM", A).2, first);
        assert_ne!(asked("ww.evil.example.com", A).2, first);
        for number in 0..2000 {
            let ip = names().v4(format!("\x04n{number:03}\x03com").as_bytes());
            assert!(is_public(ip) && ip.octets()[0] != 45, "{ip}");
        }
        let other = Names { key: Secret([8; 16]), ..names() };
        assert_ne!(answer(&other, &query("a.com", A)), answer(&names(), &query("a.com", A)));
        let (code, count, data) = asked("a.com", AAAA);
        assert_eq!((code, count, data.len()), (0, 1, 16));
        let v4_only = Names { v6: false, ..names() };
        assert_eq!(answer(&v4_only, &query("a.com", AAAA))[7], 0);
        assert_eq!(asked("a.com", MX).2, b"\0\x0a\x04mail\xc0\x0c");
        assert_eq!((asked("a.com", 16).0, asked("a.com", 16).1), (0, 0));
    }

    #[test]
    fn names_that_are_not_public_are_unknown() {
        for name in ["printer", "a.local", "4.3.2.1.in-addr.arpa", "x.onion", "", "1.2.3.4"] {
            assert_eq!((asked(name, A).0, asked(name, A).1), (NXDOMAIN, 0), "{name}");
        }
    }

    #[test]
    fn answers_are_not_answered() {
        let names = names();
        assert_eq!(answer(&names, &answer(&names, &query("a.com", A))), b"");
        assert_eq!(answer(&names, b"short"), b"");
        let mut update = query("a.com", A);
        update[2] = 0x28;
        assert_eq!(answer(&names, &update)[3] & 15, NOTIMP);
        let mut two = query("a.com", A);
        two[5] = 2;
        assert_eq!(answer(&names, &two)[3] & 15, FORMERR);
    }

    #[test]
    fn addresses_that_are_nobodys_are_not_given() {
        for ip in
            ["10.1.2.3", "100.64.0.1", "127.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "8.8.8.0", "240.1.1.1"]
        {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        assert!(is_public("8.8.8.8".parse().unwrap()));
    }

    /// A connection whose peer sends `came` in pieces, and takes what is said in pieces.
    #[derive(Default)]
    struct Wire {
        came: Vec<u8>,
        sent: Vec<u8>,
        told: Vec<Vec<u8>>,
        end: bool,
    }

    impl Stream for Wire {
        fn peek(&mut self) -> &[u8] {
            &self.came
        }
        fn take(&mut self, n: usize) {
            self.came.drain(..n);
        }
        fn send(&mut self, bytes: &[u8]) -> usize {
            let n = bytes.len().min(7);
            self.sent.extend_from_slice(&bytes[..n]);
            n
        }
        fn at_end(&mut self) -> bool {
            self.end && self.came.is_empty()
        }
        fn is_last(&mut self) -> bool {
            self.end
        }
        fn tell(&mut self, _: EventId, data: &[u8]) {
            self.told.push(data.to_vec());
        }
    }

    #[test]
    fn connections_carry_one_message_after_the_other() {
        let (names, now) = (names(), Instant::from_secs(1));
        let (mut tcp, mut wire) = (OverTcp::new(now), Wire::default());
        let asked: Vec<u8> = [query("a.com", A), query("b.com", MX)]
            .iter()
            .flat_map(|query| [&(query.len() as u16).to_be_bytes()[..], query].concat())
            .collect();
        for octet in asked {
            wire.came.push(octet);
            assert_eq!(tcp.poll(&names, now, &mut wire), Then::Stay);
        }
        let first = answer(&names, &query("a.com", A));
        assert_eq!(wire.sent[..2], (first.len() as u16).to_be_bytes());
        assert_eq!(wire.sent[2..2 + first.len()], first);
        assert_eq!(wire.sent.len(), 4 + first.len() + answer(&names, &query("b.com", MX)).len());
        assert_eq!(wire.told, [&b"A a.com"[..], b"MX b.com"]);
        // Who is silent, sends nonsense or is done, is left.
        assert_eq!(tcp.poll(&names, now + PATIENCE, &mut wire), Then::Close);
        for came in [vec![0xff, 0xff], vec![0, 3, 1, 2, 3]] {
            let mut wire = Wire { came, ..Wire::default() };
            assert_eq!(OverTcp::new(now).poll(&names, now, &mut wire), Then::Close);
        }
        let mut wire = Wire { end: true, ..Wire::default() };
        assert_eq!(OverTcp::new(now).poll(&names, now, &mut wire), Then::Close);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_within_bounds(query in prop::collection::vec(any::<u8>(), 0..600)) {
            let out = answer(&names(), &query);
            prop_assert!(out.len() <= query.len() + 32);
        }
    }
}
