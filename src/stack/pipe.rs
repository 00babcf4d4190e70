//! The byte pipe between a connection in the data plane and what answers it on
//! the control side: two bounded single-producer rings. The data plane's end
//! never waits and never calls the kernel, but for waking a worker that sleeps;
//! the relay's end is asynchronous.
//!
//! A ring holds pieces of data that are allocated when they are written and charged
//! to a [`Budget`]: a pipe through which nothing passes has no buffer. When the budget
//! is used up, each direction of a pipe may still hold one small piece, so
//! that everything goes on, if slowly.

mod relay;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use super::Budget;
pub use relay::{Dialer, RelayEnd, RelayReader, RelayWriter};

/// How the relay gets a sleeping data-plane thread to look at its pipes.
pub trait Wake: Send + Sync {
    /// Some pipe has news for the data plane.
    fn wake(&self);
}

/// For tests and benches whose data plane never sleeps.
impl Wake for () {
    fn wake(&self) {}
}

const FIN: u8 = 1;
const RESET: u8 = 2;
/// The relay has dialed.
const DIALED: u8 = 4;
/// This end is gone, whatever it said before. (A ring tells only after its end was dropped, when the other side has been
/// woken already.)
const GONE: u8 = 8;
/// With [`RESET`]: what is behind was never reached.
const UNREACHED: u8 = 16;
/// Pieces that a ring holds.
const PIECES: usize = 16;
/// The largest piece.
const MOST: usize = 32 * 1024;
/// The largest piece when the budget is used up.
const LEAST: usize = 512;

/// How a pipe tells the data plane of news: by its `token` in a queue.
#[derive(Clone)]
pub struct Due {
    /// Where tokens go.
    pub queue: Sender<u32>,
    /// What the data plane knows the pipe by.
    pub token: u32,
    /// Who is woken.
    pub waker: Arc<dyn Wake>,
}

/// Data on its way.
struct Piece {
    bytes: Box<[u8]>,
    /// How much of it was read.
    at: usize,
    budget: Arc<Budget>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.budget.release(self.bytes.len());
    }
}

struct Shared {
    said_by_plane: AtomicU8,
    said_by_relay: AtomicU8,
    plane_due: AtomicBool,
    /// The data plane has found no room.
    plane_waits: AtomicBool,
    /// Octets on their way to the relay, and to the data plane.
    inward: AtomicUsize,
    outward: AtomicUsize,
    /// Most of them in each direction.
    capacity: usize,
    /// The reader of the relay's end has something to read, or to learn.
    data_due: AtomicWaker,
    /// Its writer has room, or something to learn.
    room_due: AtomicWaker,
    /// Why nobody answers; told before the reset.
    failure: OnceLock<String>,
    /// What the relay has dialed by. Nobody locks it for a frame.
    dialed: Mutex<Option<PipeEnd>>,
    due: Due,
    budget: Arc<Budget>,
}

/// A ring's end from which is read.
struct Source {
    rx: Consumer<Piece>,
    /// What was begun.
    piece: Option<Piece>,
}

impl Source {
    /// What lies together of what was not read.
    fn bytes(&mut self) -> &[u8] {
        if self.piece.is_none() {
            self.piece = self.rx.pop().ok();
        }
        self.piece.as_ref().and_then(|piece| piece.bytes.get(piece.at..)).unwrap_or_default()
    }

    /// Takes `n` octets of it, which were counted by `on_way`.
    fn consume(&mut self, n: usize, on_way: &AtomicUsize) {
        if let Some(piece) = &mut self.piece {
            piece.at += n;
            if piece.at >= piece.bytes.len() {
                self.piece = None;
            }
        }
        on_way.fetch_sub(n, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.piece.is_none() && self.rx.is_empty()
    }
}

/// The data plane's end.
pub struct PipeEnd {
    tx: Producer<Piece>,
    from: Source,
    shared: Arc<Shared>,
}

/// The other side gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was reset by the other side")]
pub struct PipeReset;

/// A pipe whose two directions hold up to `capacity` octets each.
pub fn pipe(capacity: usize, due: Due, budget: Arc<Budget>) -> (PipeEnd, RelayEnd) {
    let (tx, relay_rx) = RingBuffer::new(PIECES);
    let (relay_tx, rx) = RingBuffer::new(PIECES);
    let shared = Arc::new(Shared {
        said_by_plane: AtomicU8::new(0),
        said_by_relay: AtomicU8::new(0),
        plane_due: AtomicBool::new(false),
        plane_waits: AtomicBool::new(false),
        inward: AtomicUsize::new(0),
        outward: AtomicUsize::new(0),
        capacity,
        data_due: AtomicWaker::new(),
        room_due: AtomicWaker::new(),
        failure: OnceLock::new(),
        dialed: Mutex::new(None),
        due,
        budget,
    });
    let relay = RelayEnd { tx: relay_tx, from: Source { rx: relay_rx, piece: None }, shared: shared.clone() };
    (PipeEnd { tx, from: Source { rx, piece: None }, shared }, relay)
}

impl PipeEnd {
    /// Octets that can be written at the moment. If there are none, it will be told when there are.
    pub fn writable(&self) -> usize {
        let Shared { plane_waits, inward, .. } = &*self.shared;
        match self.shared.room(&self.tx, inward) {
            0 => {
                plane_waits.store(true, Ordering::Relaxed);
                // Either the relay sees that, or here is seen what it has taken meanwhile.
                fence(Ordering::SeqCst);
                self.shared.room(&self.tx, inward)
            }
            room => room,
        }
    }

    /// Writes as much of `bytes` as there is room for; returns how much.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let n = self.writable().min(bytes.len() - written).min(MOST);
            if n == 0 {
                break;
            }
            self.shared.put(&mut self.tx, &self.shared.inward, &bytes[written..written + n]);
            written += n;
        }
        if written > 0 {
            self.shared.data_due.wake();
        }
        written
    }

    /// Shows `f` some of what can be read, as one slice; `f` returns how much it took.
    /// Returns that number.
    pub fn read_with(&mut self, f: impl FnOnce(&[u8]) -> usize) -> usize {
        let bytes = self.from.bytes();
        if bytes.is_empty() {
            return 0;
        }
        let taken = f(bytes);
        self.from.consume(taken, &self.shared.outward);
        if taken > 0 && self.shared.is_half_empty(&self.shared.outward) {
            self.shared.room_due.wake();
        }
        taken
    }

    /// Octets that it holds, in both directions.
    pub fn held(&self) -> usize {
        self.shared.inward.load(Ordering::Relaxed) + self.shared.outward.load(Ordering::Relaxed)
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        self.shared.said_by_plane.fetch_or(FIN, Ordering::AcqRel);
        self.shared.tell_relay();
    }

    /// Says that the connection failed.
    pub fn reset(&mut self) {
        self.shared.said_by_plane.fetch_or(RESET, Ordering::AcqRel);
        self.shared.tell_relay();
    }

    /// Says that what the relay has dialed for cannot be reached.
    pub fn refuse(&mut self) {
        self.shared.said_by_plane.fetch_or(RESET | UNREACHED, Ordering::AcqRel);
        self.shared.tell_relay();
    }

    /// Whether the relay will write no more and everything was read.
    pub fn at_end(&self) -> bool {
        // The flag is read before the ring: what was written before it is then seen.
        let said = self.shared.said_by_relay.load(Ordering::Acquire);
        said & FIN != 0 && self.from.is_empty()
    }

    /// Whether the relay gave up, or was dropped without having finished.
    pub fn is_reset(&self) -> bool {
        is_reset(self.shared.said_by_relay.load(Ordering::Acquire))
    }

    /// Why the relay gave up, if nobody was there to answer.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// The end of a pipe by which the relay wants to reach what is behind: its last one, once.
    pub fn take_dialed(&mut self) -> Option<PipeEnd> {
        if self.shared.said_by_relay.load(Ordering::Acquire) & DIALED == 0 {
            return None;
        }
        self.shared.said_by_relay.fetch_and(!DIALED, Ordering::AcqRel);
        self.shared.undial()
    }

    /// Whether the relay did something since this was last asked.
    pub fn take_due(&self) -> bool {
        self.shared.plane_due.swap(false, Ordering::AcqRel)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.shared.said_by_plane.fetch_or(GONE, Ordering::AcqRel);
        // Nobody connects it any more.
        drop(self.shared.undial());
        self.shared.tell_relay();
    }
}

impl Shared {
    /// What a relay's stream says of it that the data plane has given up.
    fn error(&self, reset: PipeReset) -> io::Error {
        if self.said_by_plane.load(Ordering::Acquire) & UNREACHED == 0 {
            return reset.into();
        }
        io::Error::new(io::ErrorKind::ConnectionRefused, "the container does not take the connection")
    }

    fn undial(&self) -> Option<PipeEnd> {
        self.dialed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn tell_relay(&self) {
        self.data_due.wake();
        self.room_due.wake();
    }

    fn tell_plane(&self) {
        if !self.plane_due.swap(true, Ordering::AcqRel) {
            // A data plane that is gone needs no word.
            let _ = self.due.queue.send(self.due.token);
            self.due.waker.wake();
        }
    }

    /// Whether who waits for room is told now, of which there is as much as there is data: told of each octet, both sides would
    /// take turns at little, and wake each other for it. (A ring that is full of small pieces is half empty by this, too.)
    fn is_half_empty(&self, on_way: &AtomicUsize) -> bool {
        on_way.load(Ordering::Relaxed) <= self.capacity / 2
    }

    /// The relay has taken something.
    fn tell_of_room(&self) {
        fence(Ordering::SeqCst);
        if self.plane_waits.load(Ordering::Relaxed) && self.is_half_empty(&self.inward) {
            self.plane_waits.store(false, Ordering::Relaxed);
            self.tell_plane();
        }
    }

    /// Octets that can be written to `tx`, of which `on_way` are not read.
    fn room(&self, tx: &Producer<Piece>, on_way: &AtomicUsize) -> usize {
        let on_way = on_way.load(Ordering::Acquire);
        let room = self.capacity.saturating_sub(on_way).min(MOST);
        match room {
            _ if tx.is_full() => 0,
            _ if !self.budget.lacks(room) => room,
            _ if on_way == 0 => room.min(LEAST),
            _ => 0,
        }
    }

    /// Writes a piece, for which there is room.
    fn put(&self, tx: &mut Producer<Piece>, on_way: &AtomicUsize, piece: &[u8]) {
        self.budget.charge(piece.len());
        on_way.fetch_add(piece.len(), Ordering::Relaxed);
        let piece = Piece { bytes: piece.into(), at: 0, budget: self.budget.clone() };
        debug_assert!(!tx.is_full());
        // Nobody else writes here: there is still room.
        let _ = tx.push(piece);
    }
}

/// Whether a side that said that gave up.
fn is_reset(said: u8) -> bool {
    said & RESET != 0 || said & (FIN | GONE) == GONE
}
