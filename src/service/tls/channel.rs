//! The records of one connection: what is spoken goes in and out in clear on this side.
//!
//! rustls is used without buffers of its own, so that what a connection makes us keep is known: at most one record that
//! is not whole, what was decrypted and not taken yet, and one record on its way out.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::service::Stream;

/// The largest record: 2¹⁴ octets, 2,048 more by encryption (RFC 5246 §6.2.3), and a header.
const RECORD: usize = 5 + (1 << 14) + 2048;
/// Octets in clear that wait to be taken, before more is decrypted.
const ROOM: usize = 8 * 1024;
/// Octets that are read at once: what is left of them moves up for each record, and records may be tiny.
const CHUNK: usize = 2 * 1024;
/// Octets that are encrypted at once: a record, as OpenSSL fills them.
const TOGETHER: usize = 1 << 14;
/// Most that encryption adds to a record.
const ADDED: usize = 256;
/// Octets of answers (alerts, key updates, a certificate) that wait to leave, before more is read.
const UNSENT: usize = 4 * 1024;
/// What rustls keeps for a connection: its state, keys and the transcript's hash.
const STATE: usize = 4 * 1024;

/// One connection's side of TLS.
pub struct Channel {
    conn: UnbufferedServerConnection,
    /// What came and is no whole record.
    incoming: Vec<u8>,
    /// What was decrypted and not taken.
    clear: Vec<u8>,
    /// What is to be sent, and how much of it was.
    out: Vec<u8>,
    sent: usize,
    /// The peer has said goodbye.
    is_over: bool,
    has_failed: bool,
}

/// What is wanted of the next step.
enum Wish<'a> {
    Nothing,
    Say(&'a [u8]),
    Goodbye,
}

/// What became of it.
#[derive(PartialEq, Eq)]
enum Step {
    /// There is more to be done.
    More,
    /// Nothing goes on until more comes.
    Idle,
    /// The wish was fulfilled.
    Done,
}

impl Channel {
    /// A new connection; nothing of it was read yet.
    pub fn new(config: Arc<ServerConfig>) -> Option<Channel> {
        let conn = UnbufferedServerConnection::new(config).ok()?;
        Some(Channel {
            conn,
            incoming: Vec::new(),
            clear: Vec::new(),
            out: Vec::new(),
            sent: 0,
            is_over: false,
            has_failed: false,
        })
    }

    /// Whether keys have yet to be agreed upon.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// Whether nothing will be understood any more. An alert may still wait to be sent.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Octets that it keeps besides itself.
    pub fn kept(&self) -> usize {
        STATE + self.incoming.capacity() + self.clear.capacity() + self.out.capacity()
    }

    /// Reads and answers what came.
    pub fn pump(&mut self, stream: &mut dyn Stream) {
        loop {
            self.flush(stream);
            if self.has_failed || self.clear.len() >= ROOM || self.out.len() >= UNSENT {
                return;
            }
            let came = stream.peek();
            let n = came.len().min(CHUNK).min(RECORD.saturating_sub(self.incoming.len()));
            self.incoming.extend_from_slice(&came[..n]);
            stream.take(n);
            let before = self.incoming.len();
            self.run(&Wish::Nothing);
            // What does not become whole within a record's length never will.
            self.has_failed |= self.incoming.len() >= RECORD && self.incoming.len() == before;
            if self.incoming.is_empty() {
                self.incoming = Vec::new();
            }
            if n == 0 {
                self.flush(stream);
                return;
            }
        }
    }

    /// Sends what waits for it. Whether nothing is left.
    pub fn flush(&mut self, stream: &mut dyn Stream) -> bool {
        while self.sent < self.out.len() {
            match stream.send(&self.out[self.sent..]) {
                0 => return false,
                n => self.sent += n,
            }
        }
        // Most connections wait most of the time: they keep no memory for it.
        (self.out, self.sent) = (Vec::new(), 0);
        true
    }

    /// Says goodbye (RFC 8446 §6.1).
    pub fn close(&mut self, stream: &mut dyn Stream) {
        self.run(&Wish::Goodbye);
        self.flush(stream);
    }

    /// Goes on until nothing more can be done; whether the wish was fulfilled.
    fn run(&mut self, wish: &Wish<'_>) -> bool {
        let mut step = Step::Idle;
        while !self.has_failed {
            let is_enough = self.clear.len() >= ROOM && matches!(wish, Wish::Nothing);
            step = if is_enough { Step::Idle } else { self.step(wish) };
            if step != Step::More {
                break;
            }
        }
        // After an error there is an alert to be sent, and nothing else may be asked of rustls.
        while self.has_failed && self.conn.wants_write() && self.step(&Wish::Nothing) == Step::More {}
        step == Step::Done
    }

    /// One step of rustls.
    fn step(&mut self, wish: &Wish<'_>) -> Step {
        let Channel { conn, incoming, clear, out, is_over, has_failed, .. } = self;
        let UnbufferedStatus { discard, state } = conn.process_tls_records(incoming);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => match encode(out, RECORD, |space| data.encode(space)) {
                true => Step::More,
                false => Step::Idle,
            },
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Step::More
            }
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(Ok(record)) = records.next_record() {
                    clear.extend_from_slice(record.payload);
                }
                Step::More
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match wish {
                Wish::Nothing => Step::Idle,
                Wish::Say(bytes) => {
                    let said = encode(out, bytes.len() + ADDED, |space| traffic.encrypt(bytes, space));
                    if said { Step::Done } else { Step::Idle }
                }
                Wish::Goodbye => {
                    let said = encode(out, ADDED, |space| traffic.queue_close_notify(space));
                    if said { Step::Done } else { Step::Idle }
                }
            },
            Ok(ConnectionState::PeerClosed) => {
                *is_over = true;
                Step::More
            }
            Err(_) => {
                *has_failed = true;
                Step::Idle
            }
            // Early data is not accepted, hence never there.
            Ok(_) => Step::Idle,
        };
        incoming.drain(..discard.min(incoming.len()));
        step
    }
}

/// Has `write` add to `out` up to `most` octets.
fn encode<E>(out: &mut Vec<u8>, most: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> bool {
    let before = out.len();
    out.resize(before + most, 0);
    let written = write(&mut out[before..]);
    out.truncate(before + written.as_ref().copied().unwrap_or(0));
    out.shrink_to_fit();
    written.is_ok()
}

/// What a service sees of a connection within TLS.
pub struct Inside<'a> {
    /// The records.
    pub channel: &'a mut Channel,
    /// What carries them.
    pub stream: &'a mut dyn Stream,
}

impl Stream for Inside<'_> {
    fn peek(&mut self) -> &[u8] {
        self.channel.pump(self.stream);
        &self.channel.clear
    }

    fn take(&mut self, n: usize) {
        let clear = &mut self.channel.clear;
        clear.drain(..n.min(clear.len()));
        if clear.is_empty() {
            *clear = Vec::new();
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(TOGETHER);
        // One record at a time: what is encrypted has to be kept until it was sent.
        if n == 0 || !self.channel.flush(self.stream) || !self.channel.run(&Wish::Say(&bytes[..n])) {
            return 0;
        }
        self.channel.flush(self.stream);
        n
    }

    fn at_end(&mut self) -> bool {
        self.channel.clear.is_empty() && self.is_last()
    }

    fn is_last(&mut self) -> bool {
        let Channel { clear, is_over, has_failed, .. } = &*self.channel;
        *is_over || *has_failed || (clear.len() < ROOM && self.stream.at_end())
    }

    fn tell(&mut self, id: crate::event::EventId, data: &[u8]) {
        self.stream.tell(id, data);
    }
}
