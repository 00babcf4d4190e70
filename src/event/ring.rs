//! Events on their way from the switch to the console, through shared memory.

use super::{Event, MAX_DATA, Sink};
use crate::sys::ring::RingWriter;

/// Octets that an encoded event needs at most, with room to spare.
const ENCODED: usize = 256;

/// Writes events into a ring. What finds no room is counted there as lost.
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
    fn emit(&mut self, event: &Event, data: &[u8]) {
        let mut buffer = [0; ENCODED];
        match postcard::to_slice(event, &mut buffer) {
            Ok(bytes) => {
                self.ring.push(&[bytes, &data[..data.len().min(MAX_DATA)]]);
            }
            Err(_) => self.ring.count_lost(1),
        }
    }
}

/// Reads a record of the event ring: the event and the octets that belong to it.
/// `None` for what is none: the writer faces the attacker and is not trusted.
pub fn decode(record: &[u8]) -> Option<(Event, &[u8])> {
    let (event, data) = postcard::take_from_bytes(record).ok()?;
    (data.len() <= MAX_DATA).then_some((event, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Party, SessionId};
    use crate::sys::ring::{self, RingReader};
    use crate::wire::{Instant, Mac};

    fn largest() -> Event {
        let party = Party { ip: Some([0xffff; 8].into()), mac: Mac::BROADCAST, l4_port: u16::MAX };
        Event {
            session: SessionId(u64::MAX),
            node: u16::MAX,
            src: party,
            dst: party,
            proto: u8::MAX,
            code: u16::MAX,
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
    fn refuses_what_is_no_event() {
        assert_eq!(decode(b""), None);
        assert_eq!(decode(&[0xff; 40]), None);
        let mut record = postcard::to_stdvec(&largest()).unwrap();
        record.extend([0; MAX_DATA + 1]);
        assert_eq!(decode(&record), None);
    }
}
