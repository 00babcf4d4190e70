//! The relay's end of a pipe, which waits where the data plane's does not.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use rtrb::Producer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{DIALED, FIN, GONE, MOST, Piece, PipeReset, RESET, Shared, Source, is_reset, pipe};

/// The relay's end.
pub struct RelayEnd {
    pub(super) tx: Producer<Piece>,
    pub(super) from: Source,
    pub(super) shared: Arc<Shared>,
}

/// Opens pipes beside one: to what is behind the host that the one is to.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

impl Dialer {
    /// A pipe whose other end the data plane connects with what is behind. It has one at a time: a second one takes the
    /// first one's place.
    pub fn dial(&self) -> RelayEnd {
        let Shared { capacity, due, budget, .. } = &*self.shared;
        let (plane, relay) = pipe(*capacity, due.clone(), budget.clone());
        *self.shared.dialed.lock().unwrap_or_else(PoisonError::into_inner) = Some(plane);
        self.shared.said_by_relay.fetch_or(DIALED, Ordering::AcqRel);
        if self.shared.said_by_plane.load(Ordering::Acquire) & GONE != 0 {
            drop(self.shared.undial());
        }
        self.shared.tell_plane();
        relay
    }
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

    /// What opens pipes beside it.
    pub fn dialer(&self) -> Dialer {
        Dialer { shared: self.shared.clone() }
    }

    /// Says that nobody answers, and why: the attacker's connection is reset, and the reason becomes an event.
    pub fn fail(&mut self, why: String) {
        // The first reason is the one that counts.
        let _ = self.shared.failure.set(why);
        self.reset();
    }

    /// Says that nobody answers, and why, which becomes an event; the attacker hears a last word (of a few octets), and the connection
    /// is closed as usual.
    pub fn turn_away(&mut self, why: String, word: &[u8]) {
        let _ = self.shared.failure.set(why);
        let (_, mut writer) = self.halves();
        writer.write(word);
        writer.finish();
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
        poll_fn(|cx| self.poll_peek(cx)).await?;
        Ok(self.from.bytes())
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PipeReset>> {
        // Before anything is looked at: what happens from now on wakes.
        self.shared.data_due.register(cx.waker());
        let said = self.shared.said_by_plane.load(Ordering::Acquire);
        match () {
            () if is_reset(said) => Poll::Ready(Err(PipeReset)),
            () if !self.from.bytes().is_empty() || said & FIN != 0 => Poll::Ready(Ok(())),
            () => Poll::Pending,
        }
    }

    /// Takes `n` octets of what was seen.
    pub fn consume(&mut self, n: usize) {
        self.from.consume(n, &self.shared.inward);
        self.shared.tell_of_room();
    }
}

impl RelayWriter<'_> {
    /// Waits until something can be written; returns how many octets.
    ///
    /// # Errors
    /// If the connection was reset.
    pub async fn room(&mut self) -> Result<usize, PipeReset> {
        poll_fn(|cx| self.poll_room(cx)).await
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, PipeReset>> {
        self.shared.room_due.register(cx.waker());
        let said = self.shared.said_by_plane.load(Ordering::Acquire);
        if said & (RESET | GONE) != 0 {
            return Poll::Ready(Err(PipeReset));
        }
        match self.shared.room(self.tx, &self.shared.outward) {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(room)),
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

    /// Writes `room` octets, which [`RelayWriter::room`] has just said, and what there is room for then; returns how many. The data
    /// plane is woken once.
    fn write_some(&mut self, mut room: usize, all: &[IoSlice<'_>]) -> usize {
        let mut written = 0;
        'all: for mut bytes in all.iter().map(|bytes| &**bytes) {
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at(room.min(bytes.len()));
                if piece.is_empty() {
                    break 'all;
                }
                self.shared.put(self.tx, &self.shared.outward, piece);
                written += piece.len();
                (bytes, room) = (rest, self.shared.room(self.tx, &self.shared.outward));
            }
        }
        if written > 0 {
            self.shared.tell_plane();
        }
        written
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        self.shared.said_by_relay.fetch_or(FIN, Ordering::AcqRel);
        self.shared.tell_plane();
    }
}

impl From<PipeReset> for io::Error {
    fn from(reset: PipeReset) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, reset)
    }
}

impl AsyncRead for RelayEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (mut reader, _) = self.halves();
        ready!(reader.poll_peek(cx)).map_err(|reset| reader.shared.error(reset))?;
        let mut taken = 0;
        while to.remaining() > 0 {
            let bytes = reader.from.bytes();
            let n = bytes.len().min(to.remaining());
            if n == 0 {
                break;
            }
            to.put_slice(&bytes[..n]);
            reader.from.consume(n, &reader.shared.inward);
            taken += n;
        }
        if taken > 0 {
            reader.shared.tell_of_room();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RelayEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        all: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (_, mut writer) = self.halves();
        let room = ready!(writer.poll_room(cx)).map_err(|reset| writer.shared.error(reset))?;
        Poll::Ready(Ok(writer.write_some(room, all)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.halves().1.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for RelayEnd {
    fn drop(&mut self) {
        self.shared.said_by_relay.fetch_or(GONE, Ordering::AcqRel);
        self.shared.tell_plane();
    }
}
