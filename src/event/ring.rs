//! Events on their way from the switch to the console, through shared memory.
//!
//! A record is an event in words, lowest octet first, and its octets. Words that most events leave at their
//! defaults are left out; nothing is formatted, for one event a frame is what a scan amounts to:
//!
//! | word | bits |
//! |---|---|
//! | head | 0 id, 8 protocol, 16 code, 32 node, 48 [`IPV4`], [`FIGURES`] and [`FIRST`] |
//! | time | microseconds |
//! | session | |
//! | ends, source first, each | 0 port, 16 MAC |
//! | addresses | with [`IPV4`]: one word, 0 destination, 32 source; otherwise two words each, source first, low word first |
//! | figures | with [`FIGURES`]: count, octets in, octets out; otherwise 1, 0, 0 |

use super::{Event, EventId, MAX_DATA, MaybeIp, Party, SessionId, Sink};
use crate::sys::ring::RingWriter;
use crate::wire::{Instant, Mac};

/// Both addresses are IPv4.
const IPV4: u64 = 1 << 48;
/// Count and octets are there.
const FIGURES: u64 = 1 << 49;
/// It is the first record of its session.
const FIRST: u64 = 1 << 50;
/// Words that an event needs at most.
const WORDS: usize = 12;

/// Writes events into a ring. What finds no room is counted there as lost; what anybody can cause by a
/// single frame leaves room for everything else.
pub struct RingSink {
    ring: RingWriter,
}

impl RingSink {
    /// A sink that writes into `ring`.
    pub fn new(ring: RingWriter) -> RingSink {
        RingSink { ring }
    }

    /// Events lost so far, those of earlier writers of the same ring included.
    pub fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

impl Sink for RingSink {
    #[inline]
    fn emit(&mut self, event: &Event, data: &[u8]) {
        let mut words = [0; WORDS];
        let len = encode(event, &mut words);
        let data = &data[..data.len().min(MAX_DATA)];
        if event.is_bulk() {
            self.ring.push_bulk(&words[..len], data);
        } else {
            self.ring.push(&words[..len], data);
        }
    }

    fn flush(&mut self) {
        self.ring.wake();
    }
}

/// Writes an event; returns how many words it takes.
#[inline]
fn encode(event: &Event, words: &mut [u64; WORDS]) -> usize {
    let end = |party: &Party| party.mac.to_u64() << 16 | u64::from(party.l4_port);
    let mut head =
        event.id as u64 | u64::from(event.proto) << 8 | u64::from(event.code) << 16 | u64::from(event.node) << 32;
    head |= if event.first { FIRST } else { 0 };
    let mut len = 5;
    if let (Some(src), Some(dst)) = (event.src.ip.v4(), event.dst.ip.v4()) {
        head |= IPV4;
        words[len] = u64::from(src) << 32 | u64::from(dst);
        len += 1;
    } else {
        for word in [event.src.ip.word(), event.dst.ip.word()] {
            words[len..len + 2].copy_from_slice(&[word as u64, (word >> 64) as u64]);
            len += 2;
        }
    }
    if (event.count, event.bytes_in, event.bytes_out) != (1, 0, 0) {
        head |= FIGURES;
        words[len..len + 3].copy_from_slice(&[event.count, event.bytes_in, event.bytes_out]);
        len += 3;
    }
    let at = event.at.total_micros() as u64;
    words[..5].copy_from_slice(&[head, at, event.session.0, end(&event.src), end(&event.dst)]);
    len
}

/// Reads a record of the event ring: the event and the octets that belong to it.
/// `None` for what is none: the writer faces the attacker and is not trusted.
pub fn decode(record: &[u8]) -> Option<(Event, &[u8])> {
    let mut rest = record;
    let mut next = || {
        let (word, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        Some(u64::from_le_bytes(*word))
    };
    let head = next()?;
    if (head & !(IPV4 | FIGURES | FIRST)) >> 48 != 0 {
        return None;
    }
    let id = *EventId::ALL.get(usize::from(head as u8))?;
    let mut event = Event::new(id, Instant::from_micros(next()? as i64));
    event.session = SessionId(next()?);
    (event.proto, event.code, event.node) = ((head >> 8) as u8, (head >> 16) as u16, (head >> 32) as u16);
    event.first = head & FIRST != 0;
    let [src, dst] = [next()?, next()?];
    let [src_ip, dst_ip] = if head & IPV4 != 0 {
        let both = next()?;
        [MaybeIp::of_v4((both >> 32) as u32), MaybeIp::of_v4(both as u32)]
    } else {
        let mut address = || Some(MaybeIp::of_word(u128::from(next()?) | u128::from(next()?) << 64));
        [address()?, address()?]
    };
    let party = |end: u64, ip| Party { ip, mac: Mac::from_u64(end >> 16), l4_port: end as u16 };
    (event.src, event.dst) = (party(src, src_ip), party(dst, dst_ip));
    if head & FIGURES != 0 {
        (event.count, event.bytes_in, event.bytes_out) = (next()?, next()?, next()?);
    }
    (rest.len() <= MAX_DATA).then_some((event, rest))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::sys::ring::{self, RingReader};

    fn largest() -> Event {
        let party = |last| Party {
            ip: IpAddr::from([0xffff, 0, 1, 2, 3, 4, 5, last]).into(),
            mac: Mac::BROADCAST,
            l4_port: u16::MAX,
        };
        Event {
            session: SessionId(u64::MAX),
            node: u16::MAX,
            src: party(6),
            dst: party(0xfffe),
            proto: u8::MAX,
            code: u16::MAX,
            first: true,
            count: u64::MAX,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            ..Event::new(EventId::Gap, Instant::from_micros(i64::MIN))
        }
    }

    #[test]
    fn events_pass_and_losses_are_counted() {
        let fds = ring::create(c"honeyweave-test", 4096).unwrap();
        let mut reader = RingReader::open(fds.try_clone().unwrap()).unwrap();
        let mut sink = RingSink::new(RingWriter::open(fds).unwrap());
        let small = Event::new(EventId::TcpData, Instant::from_micros(17));
        sink.emit(&largest(), b"");
        sink.emit(&small, &[7; MAX_DATA + 5]);
        let mut record = Vec::new();
        assert!(reader.pop(&mut record));
        assert_eq!(decode(&record), Some((largest(), &b""[..])));
        assert!(reader.pop(&mut record));
        assert_eq!(decode(&record), Some((small, &[7; MAX_DATA][..])));
        for _ in 0..10 {
            sink.emit(&small, &[7; MAX_DATA]);
        }
        assert_eq!((sink.lost(), reader.lost()), (7, 7));
    }

    #[test]
    fn a_flood_leaves_room_for_what_matters() {
        let fds = ring::create(c"honeyweave-test", 4096).unwrap();
        let mut reader = RingReader::open(fds.try_clone().unwrap()).unwrap();
        let mut sink = RingSink::new(RingWriter::open(fds).unwrap());
        for _ in 0..1000 {
            sink.emit(&Event::new(EventId::TcpProbe, Instant::ZERO), b"");
        }
        let lost = sink.lost();
        assert!(lost > 900, "{lost}");
        sink.emit(&Event::new(EventId::ContainerStart, Instant::ZERO), b"");
        assert_eq!(sink.lost(), lost);
        let (mut record, mut last) = (Vec::new(), None);
        while reader.pop(&mut record) {
            last = decode(&record).map(|(event, _)| event.id);
        }
        assert_eq!(last, Some(EventId::ContainerStart));
    }

    #[test]
    fn refuses_what_is_no_event() {
        assert_eq!(decode(b""), None);
        assert_eq!(decode(&[0xff; 96]), None);
        let record = record_of(&largest());
        assert_eq!(record.len(), 8 * WORDS);
        assert!((0..record.len()).all(|len| decode(&record[..len]).is_none()), "cut short");
        let with = |data: &[u8]| [&record, data].concat();
        assert!(decode(&with(&[0; MAX_DATA])).is_some() && decode(&with(&[0; MAX_DATA + 1])).is_none());
        for bit in 51..64 {
            let mut record = record.clone();
            record[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&record), None, "bit {bit}");
        }
    }

    #[test]
    fn what_most_events_leave_out_takes_no_room() {
        let ip = |octets: [u8; 4]| MaybeIp::from(IpAddr::from(octets));
        let mut event = Event::new(EventId::TcpProbe, Instant::from_micros(5));
        assert_eq!(decode(&record_of(&event)), Some((event, &b""[..])));
        (event.src.ip, event.dst.ip) = (ip([192, 0, 2, 9]), ip([10, 0, 0, 1]));
        let record = record_of(&event);
        assert_eq!((record.len(), decode(&record)), (48, Some((event, &b""[..]))));
        // That it is the first of its session costs nothing, neither here nor in memory.
        event.first = true;
        let record = record_of(&event);
        assert_eq!((record.len(), decode(&record)), (48, Some((event, &b""[..]))));
        assert_eq!(size_of::<Event>(), 96);
        event.count = 2;
        assert_eq!((record_of(&event).len(), decode(&record_of(&event))), (72, Some((event, &b""[..]))));
        event.src.ip = MaybeIp::NONE;
        assert_eq!((record_of(&event).len(), decode(&record_of(&event))), (96, Some((event, &b""[..]))));
    }

    fn record_of(event: &Event) -> Vec<u8> {
        let mut words = [0; WORDS];
        let len = encode(event, &mut words);
        words[..len].iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}
