//! What is on its way in one direction of one channel: the short queue between the side that reads and the side that
//! writes.
//!
//! The SSH library opens a channel's window again when octets *arrive*, not when they have been taken, and reads its
//! connection no further while one channel's octets wait to be taken. Both together would let a channel
//! that nobody reads stop all others, and its own way back: `cat` would never end. Hence:
//!
//! * From the client everything is taken at once into a lane. While [`Load`] says that too much waits, a channel's
//!   window opens by two octets at a time ([`Load::window`]): a client that keeps to its windows sends no more. One
//!   that does not is ended ([`Load::is_broken`]).
//! * From inside, where the library has no such handle, the reader waits for room in the lane, which stops that
//!   connection. It does not wait while an answer is expected from there ([`Load::expect`]): the client's
//!   side stands still until then, so nothing would ever make room.
//!
//! What is left: a client that stops reading one channel stops what comes out of its others, too, as soon as a lane's
//! length waits. The library's client has a call for a channel's window as its server has, and does not heed it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use russh::Sig;
use tokio::sync::Notify;

/// The window of a channel toward us, octets. OpenSSH's is 2 MiB; this much is enough for 50 MB/s at a round trip of 10 ms, and
/// is what each channel may cost at worst.
pub(super) const WINDOW: u32 = 512 * 1024;
/// From how many waiting octets on the sender has to wait.
const FULL: usize = 512 * 1024;
/// From how many on although an answer is expected: more than a server sends before it answers, unless it means to.
const OVERFULL: usize = 16 * FULL;
/// The window while the sender has to wait: what makes the library look at it again.
const TRICKLE: u32 = 2;
/// Small pieces are put together up to this size: a client may send octets one by one, and each piece has a price of its own.
const SMALL: usize = 4 * 1024;
/// That price, counted as octets.
const PIECE: usize = 64;

/// One thing on its way.
#[derive(Debug)]
pub(super) enum Item {
    /// Octets.
    Data(Bytes),
    /// Octets of another stream (RFC 4254 §5.2): 1 is a program's errors.
    Extended(u32, Bytes),
    /// No more octets follow.
    Eof,
    /// The program has ended.
    Exit(u32),
    /// It was killed.
    Killed { signal: Sig, core_dumped: bool, message: String },
    /// The channel is closed.
    Close,
    /// Its connection is gone.
    Gone,
}

impl Item {
    fn cost(&self) -> usize {
        PIECE
            + match self {
                Item::Data(data) | Item::Extended(_, data) => data.len(),
                Item::Killed { message, .. } => message.len(),
                Item::Eof | Item::Exit(_) | Item::Close | Item::Gone => 0,
            }
    }
}

/// What waits in one direction of a connection, in all its channels together.
#[derive(Default)]
pub(super) struct Load {
    waiting: AtomicUsize,
    most: AtomicUsize,
    /// Answers that are expected from where the octets come from.
    expected: AtomicUsize,
    eased: Notify,
}

impl Load {
    fn add(&self, cost: usize) {
        let waiting = self.waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        self.most.fetch_max(waiting, Ordering::Relaxed);
    }

    fn remove(&self, cost: usize) {
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        self.eased.notify_waiters();
    }

    /// The most that has waited, octets.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Whether the sender has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= FULL
    }

    /// Whether more waits than `channels` windows let anybody send.
    pub(super) fn is_broken(&self, channels: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) > FULL + 2 * channels * WINDOW as usize
    }

    /// How far a channel's window is to be opened.
    pub(super) fn window(&self) -> u32 {
        if self.is_full() { TRICKLE } else { WINDOW }
    }

    /// Waits until the sender need not wait.
    pub(super) async fn room(&self) {
        loop {
            let eased = self.eased.notified();
            let most = if self.expected.load(Ordering::Relaxed) > 0 { OVERFULL } else { FULL };
            if self.waiting.load(Ordering::Relaxed) < most {
                return;
            }
            eased.await;
        }
    }

    /// An answer is expected, until the result is dropped.
    pub(super) fn expect(&self) -> Expecting<'_> {
        self.expected.fetch_add(1, Ordering::Relaxed);
        self.eased.notify_waiters();
        Expecting(self)
    }
}

/// An answer is expected.
pub(super) struct Expecting<'a>(&'a Load);

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.expected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One direction of one channel.
pub(super) struct Lane {
    items: Mutex<VecDeque<Item>>,
    filled: Notify,
    load: Arc<Load>,
}

impl Lane {
    pub(super) fn new(load: Arc<Load>) -> Lane {
        Lane { items: Mutex::default(), filled: Notify::new(), load }
    }

    fn items(&self) -> std::sync::MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item at the end.
    pub(super) fn push(&self, item: Item) {
        let mut items = self.items();
        match (items.back_mut(), item) {
            (Some(Item::Data(last)), Item::Data(more)) if last.len() + more.len() <= SMALL => {
                self.load.add(more.len());
                *last = together(last, &more);
            }
            (Some(Item::Extended(a, last)), Item::Extended(b, more)) if *a == b && last.len() + more.len() <= SMALL => {
                self.load.add(more.len());
                *last = together(last, &more);
            }
            (_, item) => {
                self.load.add(item.cost());
                items.push_back(item);
            }
        }
        drop(items);
        self.filled.notify_one();
    }

    /// Takes the first item; waits until there is one.
    pub(super) async fn pop(&self) -> Item {
        loop {
            // A statement of its own, for the lock.
            let first = self.items().pop_front();
            if let Some(item) = first {
                self.load.remove(item.cost());
                return item;
            }
            self.filled.notified().await;
        }
    }

    /// Waits until the sender need not wait.
    pub(super) async fn room(&self) {
        self.load.room().await;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = self.items().iter().map(Item::cost).sum();
        self.load.remove(left);
    }
}

fn together(last: &mut Bytes, more: &[u8]) -> Bytes {
    // Grows in place if there is room.
    let mut joined = std::mem::take(last).try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(SMALL);
        copy.extend_from_slice(&shared);
        copy
    });
    joined.extend_from_slice(more);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> (Arc<Load>, Lane) {
        let load = Arc::new(Load::default());
        (load.clone(), Lane::new(load))
    }

    #[tokio::test]
    async fn small_pieces_are_put_together_in_order() {
        let (load, lane) = lane();
        for i in 0..5000u32 {
            lane.push(Item::Data(Bytes::copy_from_slice(&[i as u8])));
        }
        lane.push(Item::Extended(1, Bytes::from_static(b"oops")));
        lane.push(Item::Eof);
        assert!(load.most() < 5000 + 5 * PIECE, "{}", load.most());
        let mut got = Vec::new();
        loop {
            match lane.pop().await {
                Item::Data(data) => got.extend_from_slice(&data),
                Item::Extended(1, data) => assert_eq!(&data[..], b"oops"),
                Item::Eof => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, (0..5000u32).map(|i| i as u8).collect::<Vec<_>>());
        assert_eq!(load.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_full_lane_makes_the_sender_wait_unless_an_answer_is_expected() {
        let (load, lane) = lane();
        assert_eq!(load.window(), WINDOW);
        for _ in 0..FULL / 1024 {
            lane.push(Item::Data(Bytes::from(vec![0; 1024 * 8])));
        }
        assert_eq!(load.window(), TRICKLE);
        let is_waiting = async || Asked(Box::pin(lane.room())).is_pending().await;
        assert!(is_waiting().await);
        let expecting = load.expect();
        assert!(!is_waiting().await);
        drop(expecting);
        assert!(is_waiting().await);
        assert!(!load.is_broken(8));
        assert!(load.is_broken(1));
        let _expecting = load.expect();
        for _ in 0..OVERFULL / 1024 {
            lane.push(Item::Data(Bytes::from(vec![0; 1024 * 8])));
        }
        assert!(is_waiting().await, "an answer is not worth everything");
        drop(lane);
        assert_eq!(load.window(), WINDOW);
        load.room().await;
    }

    /// A future that can be asked whether it is done.
    struct Asked<F>(std::pin::Pin<Box<F>>);

    impl<F: Future<Output = ()>> Asked<F> {
        async fn is_pending(&mut self) -> bool {
            std::future::poll_fn(|cx| std::task::Poll::Ready(self.0.as_mut().poll(cx).is_pending())).await
        }
    }
}
