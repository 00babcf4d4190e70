//! The byte pipe between a connection in the data plane and what answers it on
//! the control side: two bounded single-producer rings. The data plane's end
//! never waits and never calls the kernel, but for waking a worker that sleeps;
//! the relay's end is asynchronous.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::Notify;

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

struct Shared {
    said_by_plane: AtomicU8,
    said_by_relay: AtomicU8,
    plane_due: AtomicBool,
    /// The reader of the relay's end has something to read, or to learn.
    data_due: Notify,
    /// Its writer has room, or something to learn.
    room_due: Notify,
    /// Why nobody answers; told before the reset.
    failure: OnceLock<String>,
    waker: Arc<dyn Wake>,
}

/// The data plane's end.
pub struct PipeEnd {
    tx: Producer<u8>,
    rx: Consumer<u8>,
    shared: Arc<Shared>,
}

/// The relay's end.
pub struct RelayEnd {
    tx: Producer<u8>,
    rx: Consumer<u8>,
    shared: Arc<Shared>,
}

/// The other side gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was reset by the other side")]
pub struct PipeReset;

/// A pipe whose two directions hold `capacity` octets each.
pub fn pipe(capacity: usize, waker: Arc<dyn Wake>) -> (PipeEnd, RelayEnd) {
    let (tx, relay_rx) = RingBuffer::new(capacity);
    let (relay_tx, rx) = RingBuffer::new(capacity);
    let shared = Arc::new(Shared {
        said_by_plane: AtomicU8::new(0),
        said_by_relay: AtomicU8::new(0),
        plane_due: AtomicBool::new(false),
        data_due: Notify::new(),
        room_due: Notify::new(),
        failure: OnceLock::new(),
        waker,
    });
    (PipeEnd { tx, rx, shared: shared.clone() }, RelayEnd { tx: relay_tx, rx: relay_rx, shared })
}

impl PipeEnd {
    /// Octets that can be written at the moment.
    pub fn writable(&self) -> usize {
        self.tx.slots()
    }

    /// Writes as much of `bytes` as there is room for; returns how much.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let n = write(&mut self.tx, bytes);
        if n > 0 {
            self.shared.data_due.notify_one();
        }
        n
    }

    /// Shows `f` what can be read, as one slice; `f` returns how much it took.
    /// Returns that number.
    pub fn read_with(&mut self, f: impl FnOnce(&[u8]) -> usize) -> usize {
        let n = self.rx.slots();
        if n == 0 {
            return 0;
        }
        let Ok(chunk) = self.rx.read_chunk(n) else { return 0 };
        let taken = f(chunk.as_slices().0);
        chunk.commit(taken);
        if taken > 0 {
            self.shared.room_due.notify_one();
        }
        taken
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
        said & FIN != 0 && self.rx.is_empty()
    }

    /// Whether the relay gave up, or was dropped without having finished.
    pub fn is_reset(&self) -> bool {
        // Looked at before the flags: a relay that finishes and is dropped in between has not given up.
        let abandoned = self.rx.is_abandoned();
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
            self.waker.wake();
        }
    }
}

/// Whether a side that said that, and is gone if `abandoned`, gave up.
fn is_reset(said: u8, abandoned: bool) -> bool {
    said & RESET != 0 || (said & FIN == 0 && abandoned)
}

/// The half of a relay's end that reads.
pub struct RelayReader<'a> {
    rx: &'a mut Consumer<u8>,
    shared: &'a Shared,
}

/// The half of a relay's end that writes.
pub struct RelayWriter<'a> {
    tx: &'a mut Producer<u8>,
    shared: &'a Shared,
}

impl RelayEnd {
    /// Both halves, to be used at the same time.
    pub fn halves(&mut self) -> (RelayReader<'_>, RelayWriter<'_>) {
        (RelayReader { rx: &mut self.rx, shared: &self.shared }, RelayWriter { tx: &mut self.tx, shared: &self.shared })
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
    /// Reads what is there, waiting for the first octet. `Ok(0)` is the end.
    ///
    /// # Errors
    /// If the connection was reset.
    pub async fn read(&mut self, into: &mut [u8]) -> Result<usize, PipeReset> {
        loop {
            let abandoned = self.rx.is_abandoned();
            fence(Ordering::Acquire);
            let said = self.shared.said_by_plane.load(Ordering::Acquire);
            if is_reset(said, abandoned) {
                return Err(PipeReset);
            }
            let n = self.rx.slots().min(into.len());
            if n > 0
                && let Ok(chunk) = self.rx.read_chunk(n)
            {
                let (a, b) = chunk.as_slices();
                into[..a.len()].copy_from_slice(a);
                into[a.len()..n].copy_from_slice(b);
                chunk.commit_all();
                self.shared.tell_plane();
                return Ok(n);
            }
            if said & FIN != 0 {
                return Ok(0);
            }
            self.shared.data_due.notified().await;
        }
    }
}

impl RelayWriter<'_> {
    /// Writes some of `bytes`, waiting for room; returns how much.
    ///
    /// # Errors
    /// If the connection was reset.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, PipeReset> {
        loop {
            let said = self.shared.said_by_plane.load(Ordering::Acquire);
            if said & RESET != 0 || self.tx.is_abandoned() {
                return Err(PipeReset);
            }
            let n = write(self.tx, bytes);
            if n > 0 || bytes.is_empty() {
                self.shared.tell_plane();
                return Ok(n);
            }
            self.shared.room_due.notified().await;
        }
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

fn write(tx: &mut Producer<u8>, bytes: &[u8]) -> usize {
    let n = tx.slots().min(bytes.len());
    if n == 0 {
        return 0;
    }
    match tx.write_chunk_uninit(n) {
        Ok(chunk) => chunk.fill_from_iter(bytes[..n].iter().copied()),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn carries_bytes_and_ends() {
        let (mut plane, mut relay) = pipe(8, Arc::new(()));
        assert_eq!(plane.write(b"0123456789"), 8);
        let mut buf = [0; 16];
        assert_eq!(relay.halves().0.read(&mut buf).await, Ok(8));
        assert_eq!(&buf[..8], b"01234567");
        assert!(plane.take_due());
        assert_eq!(relay.halves().1.write(b"abc").await, Ok(3));
        relay.halves().1.finish();
        assert!(!plane.at_end());
        assert_eq!(
            plane.read_with(|bytes| {
                assert_eq!(bytes, b"abc");
                3
            }),
            3
        );
        assert!(plane.at_end());
        assert!(!plane.is_reset());
        plane.finish();
        assert_eq!(relay.halves().0.read(&mut buf).await, Ok(0));
    }

    #[tokio::test]
    async fn a_dropped_end_is_a_reset() {
        let (plane, mut relay) = pipe(8, Arc::new(()));
        drop(plane);
        assert_eq!(relay.halves().0.read(&mut [0; 4]).await, Err(PipeReset));
        let (plane, relay) = pipe(8, Arc::new(()));
        drop(relay);
        assert!(plane.is_reset());
    }

    #[test]
    fn a_failure_says_why() {
        let (plane, mut relay) = pipe(8, Arc::new(()));
        assert_eq!(plane.failure(), None);
        relay.fail("connection refused".into());
        relay.fail("later".into());
        assert!(plane.is_reset() && plane.take_due());
        assert_eq!(plane.failure(), Some("connection refused"));
    }
}
