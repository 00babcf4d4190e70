//! The byte pipe between a connection in the data plane and what answers it on
//! the control side: two bounded single-producer rings. The data plane's end
//! never waits and never calls the kernel, but for waking a worker that sleeps;
//! the relay's end is asynchronous.
//!
//! A ring holds pieces of data that are allocated when they are written and charged
//! to a [`Budget`]: a pipe through which nothing passes has no buffer. When the budget
//! is used up, each direction of a pipe may still hold one small piece, so
//! that everything goes on, if slowly.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::Notify;

use super::Budget;

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
/// Pieces that a ring holds.
const PIECES: usize = 8;
/// The largest piece.
const MOST: usize = 8 * 1024;
/// The largest piece when the budget is used up.
const LEAST: usize = 512;

/// How a pipe tells the data plane of news: by its `token` in a queue.
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
    /// Octets on their way to the relay, and to the data plane.
    inward: AtomicUsize,
    outward: AtomicUsize,
    /// Most of them in each direction.
    capacity: usize,
    /// The reader of the relay's end has something to read, or to learn.
    data_due: Notify,
    /// Its writer has room, or something to learn.
    room_due: Notify,
    /// Why nobody answers; told before the reset.
    failure: OnceLock<String>,
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

/// The relay's end.
pub struct RelayEnd {
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
        inward: AtomicUsize::new(0),
        outward: AtomicUsize::new(0),
        capacity,
        data_due: Notify::new(),
        room_due: Notify::new(),
        failure: OnceLock::new(),
        due,
        budget,
    });
    let relay = RelayEnd { tx: relay_tx, from: Source { rx: relay_rx, piece: None }, shared: shared.clone() };
    (PipeEnd { tx, from: Source { rx, piece: None }, shared }, relay)
}

impl PipeEnd {
    /// Octets that can be written at the moment.
    pub fn writable(&self) -> usize {
        self.shared.room(&self.tx, &self.shared.inward)
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
            self.shared.data_due.notify_one();
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
        if taken > 0 {
            self.shared.room_due.notify_one();
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

    /// Whether the relay will write no more and everything was read.
    pub fn at_end(&self) -> bool {
        // The flag is read before the ring: what was written before it is then seen.
        let said = self.shared.said_by_relay.load(Ordering::Acquire);
        said & FIN != 0 && self.from.is_empty()
    }

    /// Whether the relay gave up, or was dropped without having finished.
    pub fn is_reset(&self) -> bool {
        // Looked at before the flags: a relay that finishes and is dropped in between has not given up.
        let abandoned = self.from.rx.is_abandoned();
        fence(Ordering::Acquire);
        is_reset(self.shared.said_by_relay.load(Ordering::Acquire), abandoned)
    }

    /// Why the relay gave up, if nobody was there to answer.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// Whether the relay did something since this was last asked.
    pub fn take_due(&self) -> bool {
        self.shared.plane_due.swap(false, Ordering::AcqRel)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.shared.tell_relay();
    }
}

impl Shared {
    fn tell_relay(&self) {
        self.data_due.notify_one();
        self.room_due.notify_one();
    }

    fn tell_plane(&self) {
        if !self.plane_due.swap(true, Ordering::AcqRel) {
            // A data plane that is gone needs no word.
            let _ = self.due.queue.send(self.due.token);
            self.due.waker.wake();
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

/// Whether a side that said that, and is gone if `abandoned`, gave up.
fn is_reset(said: u8, abandoned: bool) -> bool {
    said & RESET != 0 || (said & FIN == 0 && abandoned)
}

/// The half of a relay's end that reads.
pub struct RelayReader<'a> {
    from: &'a mut Source,
    shared: &'a Shared,
}

/// The half of a relay's end that writes.
pub struct RelayWriter<'a> {
    tx: &'a mut Producer<Piece>,
    shared: &'a Shared,
}

impl RelayEnd {
    /// Both halves, to be used at the same time.
    pub fn halves(&mut self) -> (RelayReader<'_>, RelayWriter<'_>) {
        let RelayEnd { tx, from, shared } = self;
        (RelayReader { from, shared }, RelayWriter { tx, shared })
    }

    /// Says that nobody answers, and why: the attacker's connection is reset, and the reason becomes an event.
    pub fn fail(&mut self, why: String) {
        // The first reason is the one that counts.
        let _ = self.shared.failure.set(why);
        self.reset();
    }

    /// Says that the connection failed: the attacker's is reset.
    pub fn reset(&mut self) {
        self.shared.said_by_relay.fetch_or(RESET, Ordering::AcqRel);
        self.shared.tell_plane();
    }
}

impl RelayReader<'_> {
    /// Some of what there is, waiting for the first octet; nothing is the end.
    /// [`RelayReader::consume`] takes it.
    ///
    /// # Errors
    /// If the connection was reset.
    pub async fn peek(&mut self) -> Result<&[u8], PipeReset> {
        loop {
            let abandoned = self.from.rx.is_abandoned();
            fence(Ordering::Acquire);
            let said = self.shared.said_by_plane.load(Ordering::Acquire);
            if is_reset(said, abandoned) {
                return Err(PipeReset);
            }
            if !self.from.bytes().is_empty() || said & FIN != 0 {
                return Ok(self.from.bytes());
            }
            self.shared.data_due.notified().await;
        }
    }

    /// Takes `n` octets of what was seen.
    pub fn consume(&mut self, n: usize) {
        self.from.consume(n, &self.shared.inward);
        self.shared.tell_plane();
    }
}

impl RelayWriter<'_> {
    /// Waits until something can be written; returns how many octets.
    ///
    /// # Errors
    /// If the connection was reset.
    pub async fn room(&mut self) -> Result<usize, PipeReset> {
        loop {
            let said = self.shared.said_by_plane.load(Ordering::Acquire);
            if said & RESET != 0 || self.tx.is_abandoned() {
                return Err(PipeReset);
            }
            let room = self.shared.room(self.tx, &self.shared.outward);
            if room > 0 {
                return Ok(room);
            }
            self.shared.room_due.notified().await;
        }
    }

    /// Writes `bytes`, of which there are no more than [`RelayWriter::room`] has just said: if others have used the
    /// budget up meanwhile, it is overdrawn by them.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(MOST) {
            self.shared.put(self.tx, &self.shared.outward, piece);
        }
        self.shared.tell_plane();
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        self.shared.said_by_relay.fetch_or(FIN, Ordering::AcqRel);
        self.shared.tell_plane();
    }
}

impl Drop for RelayEnd {
    fn drop(&mut self) {
        self.shared.tell_plane();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn due() -> (Due, Receiver<u32>) {
        let (queue, told) = channel();
        (Due { queue, token: 7, waker: Arc::new(()) }, told)
    }

    fn pipe_of(capacity: usize, budget: &Arc<Budget>) -> (PipeEnd, RelayEnd, Receiver<u32>) {
        let (due, told) = due();
        let (plane, relay) = pipe(capacity, due, budget.clone());
        (plane, relay, told)
    }

    #[tokio::test]
    async fn carries_bytes_and_ends() {
        let budget = Budget::new(1000);
        let (mut plane, mut relay, told) = pipe_of(8, &budget);
        assert_eq!(plane.write(b"0123456789"), 8);
        assert_eq!((plane.writable(), budget.used(), plane.held()), (0, 8, 8));
        let (mut reader, mut writer) = relay.halves();
        assert_eq!(reader.peek().await, Ok(&b"01234567"[..]));
        reader.consume(3);
        assert_eq!((plane.writable(), told.try_recv()), (3, Ok(7)));
        assert_eq!(reader.peek().await, Ok(&b"34567"[..]));
        reader.consume(5);
        assert_eq!((budget.used(), told.try_recv().is_err()), (0, true), "told already");
        assert!(plane.take_due());
        assert_eq!(writer.room().await, Ok(8));
        writer.write(b"abc");
        writer.finish();
        assert!(!plane.at_end());
        let first = |bytes: &[u8]| usize::from(bytes[0] == b'a');
        assert_eq!(plane.read_with(first), 1);
        assert_eq!(plane.read_with(|bytes| bytes.len()), 2);
        assert!(plane.at_end());
        assert!(!plane.is_reset());
        plane.finish();
        assert_eq!(reader.peek().await, Ok(&b""[..]));
        assert_eq!((budget.used(), plane.held()), (0, 0));
    }

    #[tokio::test]
    async fn a_dropped_end_is_a_reset() {
        let budget = Budget::new(1000);
        let (mut plane, mut relay, _told) = pipe_of(8, &budget);
        plane.write(b"lost");
        drop(plane);
        assert_eq!(relay.halves().0.peek().await, Err(PipeReset));
        drop(relay);
        assert_eq!(budget.used(), 0);
        let (plane, relay, _told) = pipe_of(8, &budget);
        drop(relay);
        assert!(plane.is_reset());
    }

    #[tokio::test]
    async fn without_a_budget_it_goes_on_in_small_pieces() {
        let budget = Budget::new(1000);
        budget.charge(1000);
        let (mut plane, mut relay, _told) = pipe_of(65_536, &budget);
        let sent: Vec<u8> = (0..5000u32).map(|i| (i >> 3) as u8).collect();
        let (mut reader, mut got, mut offered) = (relay.halves().0, Vec::new(), 0);
        while got.len() < sent.len() {
            offered += plane.write(&sent[offered..]);
            assert!(plane.held() <= LEAST);
            let n = reader.peek().await.unwrap().len();
            got.extend_from_slice(reader.peek().await.unwrap());
            reader.consume(n);
        }
        assert_eq!((got, budget.used()), (sent, 1000));
    }

    #[test]
    fn a_failure_says_why() {
        let budget = Budget::new(1000);
        let (plane, mut relay, _told) = pipe_of(8, &budget);
        assert_eq!(plane.failure(), None);
        relay.fail("connection refused".into());
        relay.fail("later".into());
        assert!(plane.is_reset() && plane.take_due());
        assert_eq!(plane.failure(), Some("connection refused"));
    }
}
