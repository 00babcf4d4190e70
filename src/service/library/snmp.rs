//! An SNMP agent with the system group (RFC 3418): GetRequest, GetNextRequest and GetBulkRequest of versions 1
//! and 2c (RFC 1157, RFC 3416), and the engine's discovery of version 3 (RFC 3414 §4).

use super::profile::Profile;
use super::say::{Login, Turn};

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const COUNTER: u8 = 0x41;
const TICKS: u8 = 0x43;
const NO_SUCH_OBJECT: u8 = 0x80;
const END_OF_VIEW: u8 = 0x82;
const GET: u8 = 0xa0;
const GET_NEXT: u8 = 0xa1;
const RESPONSE: u8 = 0xa2;
const SET: u8 = 0xa3;
const GET_BULK: u8 = 0xa5;
const REPORT: u8 = 0xa8;

const TOO_BIG: u8 = 1;
const NO_SUCH_NAME: u8 = 2;
const NO_ACCESS: u8 = 6;

/// Variables of a request that are answered.
const MAX_VARIABLES: usize = 16;
/// 1.3.6.1.2.1.1: `mib-2.system`.
const SYSTEM: [u8; 6] = [0x2b, 6, 1, 2, 1, 1];
/// 1.3.6.1.4.1.8072.3.2.10: net-snmp on Linux.
const NET_SNMP_LINUX: [u8; 10] = [0x2b, 6, 1, 4, 1, 0xbf, 8, 3, 2, 10];
/// 1.3.6.1.6.3.15.1.1.4.0: usmStatsUnknownEngineIDs.
const UNKNOWN_ENGINES: [u8; 10] = [0x2b, 6, 1, 6, 3, 15, 1, 1, 4, 0];

/// Reads BER (X.690 §8) from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value, with its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ 0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 7))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

/// Writes BER from the end, so that lengths are known when they are written.
struct Writer {
    octets: [u8; 1400],
    at: usize,
    full: bool,
}

impl Writer {
    fn new() -> Writer {
        Writer { octets: [0; 1400], at: 1400, full: false }
    }

    fn raw(&mut self, bytes: &[u8]) {
        match self.at.checked_sub(bytes.len()) {
            Some(at) => {
                self.octets[at..self.at].copy_from_slice(bytes);
                self.at = at;
            }
            None => self.full = true,
        }
    }

    /// Closes the value that was written since the writer stood at `end`.
    fn close(&mut self, tag: u8, end: usize) {
        let length = end - self.at;
        match length {
            0..0x80 => self.raw(&[tag, length as u8]),
            0x80..0x100 => self.raw(&[tag, 0x81, length as u8]),
            _ => self.raw(&[tag, 0x82, (length >> 8) as u8, length as u8]),
        }
    }

    fn value(&mut self, tag: u8, value: &[u8]) {
        let end = self.at;
        self.raw(value);
        self.close(tag, end);
    }

    fn written(&self) -> &[u8] {
        &self.octets[self.at..]
    }
}

/// What an agent answers with: an object of the system group by its number.
fn object(profile: &Profile, number: u8, turn: &Turn<'_>, out: &mut Writer) {
    match number {
        1 => match &profile.banner {
            Some(banner) => out.value(OCTETS, banner.as_bytes()),
            None => {
                let end = out.at;
                out.raw(b" 6.1.0-28-amd64 #1 SMP Debian 6.1.119-1 x86_64");
                out.raw(profile.hostname.as_bytes());
                out.raw(b"Linux ");
                out.close(OCTETS, end);
            }
        },
        2 => out.value(OID, &NET_SNMP_LINUX),
        3 => {
            let hundredths = turn.caller.now.total_millis().max(0) as u64 / 10;
            let [.., a, b, c, d] = hundredths.to_be_bytes();
            // A fifth octet keeps the number positive.
            let ticks = [0, a, b, c, d];
            out.value(TICKS, &ticks[usize::from(a & 0x80 == 0)..]);
        }
        4 => out.value(OCTETS, b"root"),
        5 => out.value(OCTETS, profile.hostname.as_bytes()),
        6 => out.value(OCTETS, b"Unknown"),
        _ => out.value(INTEGER, &[72]),
    }
}

/// The object of the system group with exactly this name.
fn exact(name: &[u8]) -> Option<u8> {
    match name.strip_prefix(&SYSTEM)? {
        [number @ 1..=7, 0] => Some(*number),
        _ => None,
    }
}

/// The first object behind this name.
fn behind(name: &[u8]) -> Option<u8> {
    // Number by number (RFC 3416 §4.2.2).
    (1..=7).find(|number| {
        let object = SYSTEM.into_iter().chain([*number, 0]).map(u32::from);
        numbers(name).lt(object)
    })
}

/// The numbers of a name (X.690 §8.19), its first two as one.
fn numbers(name: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut rest = name.iter();
    std::iter::from_fn(move || {
        let mut number = 0u32;
        for octet in rest.by_ref() {
            number = number << 7 | u32::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    })
}

/// Answers a request.
pub(super) fn answer(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) {
    let _ = read(profile, input, turn);
}

fn read(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> Option<()> {
    let mut message = Reader(Reader(input).expect(SEQUENCE)?);
    let version = message.expect(INTEGER)?;
    if version == [3] {
        return discovery(message, turn);
    }
    let [version @ (0 | 1)] = *version else { return None };
    let community = message.expect(OCTETS)?;
    let (kind, pdu) = message.next()?;
    let method = if version == 0 { "SNMPv1 community" } else { "SNMPv2c community" };
    turn.login(&Login { method, password: Some(community), ..Login::default() });
    if !profile.communities.iter().any(|known| known.as_bytes() == community) {
        return None;
    }
    let mut pdu = Reader(pdu);
    let id = pdu.expect(INTEGER).filter(|id| id.len() <= 5)?;
    let _status = pdu.expect(INTEGER)?;
    let _index = pdu.expect(INTEGER)?;
    let list = pdu.expect(SEQUENCE)?;
    let mut variables = [(&[][..], &[][..]); MAX_VARIABLES];
    let mut count = 0;
    let mut rest = Reader(list);
    while count < MAX_VARIABLES
        && let Some(variable) = rest.expect(SEQUENCE)
    {
        let mut parts = Reader(variable);
        variables[count] = (parts.expect(OID).filter(|name| name.len() <= 128)?, variable);
        count += 1;
    }
    let variables = &variables[..count];
    let respond = |out: &mut Writer, status: u8, index: u8, end: usize| {
        out.close(SEQUENCE, end);
        out.value(INTEGER, &[index]);
        out.value(INTEGER, &[status]);
        out.value(INTEGER, id);
        out.close(RESPONSE, 1400);
        out.value(OCTETS, community);
        out.value(INTEGER, &[version]);
        out.close(SEQUENCE, 1400);
    };
    let refused = |turn: &mut Turn<'_>, status: u8, index: usize| {
        let mut out = Writer::new();
        out.raw(list);
        respond(&mut out, status, index as u8, 1400);
        if !out.full {
            turn.say(out.written());
        }
    };
    if kind == SET {
        refused(turn, if version == 0 { NO_SUCH_NAME } else { NO_ACCESS }, 1);
        return Some(());
    }
    // GetBulkRequest is answered like GetNextRequest: one object for each name, as repeated once.
    let is_known = matches!(kind, GET | GET_NEXT) || (kind == GET_BULK && version == 1);
    if !is_known {
        return None;
    }
    let mut out = Writer::new();
    for (at, (name, _)) in variables.iter().enumerate().rev() {
        let end = out.at;
        let found = if kind == GET { exact(name) } else { behind(name) };
        match found {
            Some(number) => {
                object(profile, number, turn, &mut out);
                let before = out.at;
                out.raw(&[number, 0]);
                out.raw(&SYSTEM);
                out.close(OID, before);
            }
            None if version == 0 => {
                refused(turn, NO_SUCH_NAME, at + 1);
                return Some(());
            }
            None => {
                out.value(if kind == GET { NO_SUCH_OBJECT } else { END_OF_VIEW }, &[]);
                out.value(OID, name);
            }
        }
        out.close(SEQUENCE, end);
    }
    respond(&mut out, 0, 0, 1400);
    if out.full || out.written().len() > 3 * input.len() {
        // What does not fit is said to be too big (RFC 1157 §4.1.2), which fits: it is what came.
        refused(turn, TOO_BIG, 0);
    } else {
        turn.say(out.written());
    }
    Some(())
}

/// Tells a manager that does not know it yet the engine's name.
fn discovery(mut message: Reader<'_>, turn: &mut Turn<'_>) -> Option<()> {
    let mut global = Reader(message.expect(SEQUENCE)?);
    let id = global.expect(INTEGER).filter(|id| id.len() <= 5)?;
    let _security = message.expect(OCTETS)?;
    let mut scoped = Reader(message.expect(SEQUENCE)?);
    let (_engine, _context, (_, pdu)) = (scoped.expect(OCTETS)?, scoped.expect(OCTETS)?, scoped.next()?);
    let request = Reader(pdu).expect(INTEGER).filter(|id| id.len() <= 5)?;
    // Enterprise 8072, then random octets, as net-snmp makes it (RFC 3411 §5, SnmpEngineID); the same at each start.
    let engine = [0x80, 0, 0x1f, 0x88, 0x80, 0x5a, 0x3c, 0x11, 0x9e, 0x27, 0x61, 0x4c, 0x66];
    let seconds = turn.caller.now.secs().max(0) as u32;
    let [a, b, c, d] = (seconds & 0x7fff_ffff).to_be_bytes();
    let mut out = Writer::new();
    out.value(COUNTER, &[turn.caller.octets::<1>(8)[0] & 0x7f]);
    out.value(OID, &UNKNOWN_ENGINES);
    out.close(SEQUENCE, 1400);
    out.close(SEQUENCE, 1400);
    out.value(INTEGER, &[0]);
    out.value(INTEGER, &[0]);
    out.value(INTEGER, request);
    out.close(REPORT, 1400);
    out.value(OCTETS, &[]);
    out.value(OCTETS, &engine);
    out.close(SEQUENCE, 1400);
    let end = out.at;
    for _ in 0..3 {
        out.value(OCTETS, &[]);
    }
    out.value(INTEGER, &[a, b, c, d]);
    out.value(INTEGER, &[4]);
    out.value(OCTETS, &engine);
    out.close(SEQUENCE, end);
    out.close(OCTETS, end);
    let end = out.at;
    out.value(INTEGER, &[3]);
    out.value(OCTETS, &[0]);
    out.value(INTEGER, &[0, 0xff, 0xe3]);
    out.value(INTEGER, id);
    out.close(SEQUENCE, end);
    out.value(INTEGER, &[3]);
    out.close(SEQUENCE, 1400);
    if !out.full {
        turn.say(out.written());
    }
    Some(())
}
