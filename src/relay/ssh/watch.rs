//! A client's stream: what it shows of its client, and when it ends.
//!
//! The SSH library tells what it understands; what else there is can be seen from outside only. A [`Watched`] stream looks at the
//! client's first octets, answers those that are no SSH, and ends a client that does not get anywhere.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::hello::{self, Seen};
use crate::relay::tape::Entry;

/// How long nothing more has to be said before a connection ends that is cut: what is on its way still goes.
const QUIET: Duration = Duration::from_millis(20);

/// A client's state as far as its stream shows it, shared with who answers it.
#[derive(Default)]
pub(super) struct Watch {
    seen: Mutex<Seen>,
    /// The client has logged in: it may take its time from now on.
    let_in: AtomicBool,
    /// It did not, for too long.
    late: AtomicBool,
    /// The connection is to end without a word.
    is_cut: AtomicBool,
    /// Who reads.
    reader: Mutex<Option<Waker>>,
}

impl Watch {
    /// The client has logged in.
    pub(super) fn let_in(&self) {
        self.let_in.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was ended because the client did not log in.
    pub(super) fn was_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends the connection as one ends whose process is gone: without a word.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        let reader = self.reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The introduction, as far as there is one. What it was read from is forgotten.
    pub(super) fn take(&self) -> Entry {
        self.seen().take()
    }
}

/// How long a client is waited for, and whether it is answered.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    /// Until it has logged in.
    pub(super) grace: Duration,
    /// Until it goes when it was told that this is the end.
    pub(super) farewell: Duration,
    /// Whether it is told that it speaks no SSH, as OpenSSH tells.
    pub(super) complains: bool,
}

/// What a client begins with.
enum First {
    /// Not all of it has come.
    Line(Vec<u8>),
    /// It is given to who reads, from there on.
    Given(Vec<u8>, usize),
    /// It is not, and answered.
    Answered(&'static [u8]),
}

/// A client's stream that is looked at, and ends if the client does not log in.
pub(super) struct Watched<S: AsyncWrite + Unpin> {
    stream: S,
    watch: Arc<Watch>,
    /// Until when reading is possible: before the client has logged in, and after we have said that this is the end.
    patience: Option<Pin<Box<Sleep>>>,
    manners: Manners,
    first: First,
    ending: bool,
    /// Until when nothing more may be said of a connection that is cut.
    quiet: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>, manners: Manners) -> Watched<S> {
        Watched {
            stream,
            watch,
            patience: Some(Box::pin(sleep(manners.grace))),
            manners,
            first: First::Line(Vec::new()),
            ending: false,
            quiet: None,
        }
    }

    /// Whether a connection is cut of which nothing more is to come.
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.watch.reader().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        if !self.watch.is_cut.load(Ordering::Relaxed) {
            return false;
        }
        self.quiet.get_or_insert_with(|| Box::pin(sleep(QUIET))).as_mut().poll(cx).is_ready()
    }

    /// Something was said.
    fn wrote(&mut self) {
        if let Some(quiet) = &mut self.quiet {
            quiet.as_mut().reset(Instant::now() + QUIET);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// Reads what the client begins with as a whole, and then what it says.
    fn poll_octets(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.first {
                First::Line(line) => {
                    let mut octets = [0; 512];
                    let mut octets = ReadBuf::new(&mut octets);
                    ready!(Pin::new(&mut self.stream).poll_read(cx, &mut octets))?;
                    let octets = octets.filled();
                    line.extend_from_slice(octets);
                    self.watch.seen().look(octets);
                    self.first = match hello::complaint(line) {
                        Some(Some(word)) if self.manners.complains => First::Answered(word.as_bytes()),
                        None if !octets.is_empty() => continue,
                        _ => First::Given(std::mem::take(line), 0),
                    };
                }
                First::Given(line, at) => {
                    let left = line.get(*at..).unwrap_or_default();
                    if left.is_empty() {
                        if *at > 0 {
                            (*line, *at) = (Vec::new(), 0);
                        }
                        let before = buf.filled().len();
                        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
                        self.watch.seen().look(buf.filled().get(before..).unwrap_or_default());
                        return read;
                    }
                    let given = left.get(..buf.remaining()).unwrap_or(left);
                    buf.put_slice(given);
                    *at += given.len();
                    return Poll::Ready(Ok(()));
                }
                First::Answered([]) => {
                    ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                First::Answered(word) => {
                    let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, word))?;
                    if taken == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    *word = word.get(taken..).unwrap_or_default();
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.poll_octets(cx, buf);
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.watch.let_in.load(Ordering::Relaxed) && !self.ending {
            self.patience = None;
        }
        let late = self.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready());
        if late && !self.ending {
            self.watch.late.store(true, Ordering::Relaxed);
        }
        // Whoever says more and more has the same time as who says nothing.
        if late { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { read }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.wrote();
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.wrote();
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ending {
            self.ending = true;
            self.patience = Some(Box::pin(sleep(self.manners.farewell)));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncWrite + Unpin> Drop for Watched<S> {
    fn drop(&mut self) {
        // However it ends, what was said arrives: a process that is over has its kernel say goodbye, and not give up.
        let _ = Pin::new(&mut self.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Who is waited for so long.
    fn manners(grace: u64, farewell: u64) -> Manners {
        let (grace, farewell) = (Duration::from_secs(grace), Duration::from_secs(farewell));
        Manners { grace, farewell, complains: true }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_log_in_has_until_the_deadline() {
        let (_client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(server, watch.clone(), manners(120, 5));
        assert_eq!(watched.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(watch.was_late());

        let (mut client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(server, watch.clone(), manners(120, 5));
        watch.let_in();
        client.write_all(b"SSH-2.0-x\nx").await.unwrap();
        watched.read_exact(&mut [0; 11]).await.unwrap();
        let idle = tokio::time::timeout(Duration::from_secs(86_400), watched.read(&mut [0; 8])).await;
        assert!(idle.is_err(), "a day without a word is allowed");
        // The end was said: five seconds.
        watched.shutdown().await.unwrap();
        let before = tokio::time::Instant::now();
        assert!(watched.read(&mut [0; 8]).await.is_err());
        assert_eq!(before.elapsed().as_secs(), 5);
        assert!(!watch.was_late());
    }

    #[tokio::test]
    async fn what_is_no_ssh_is_answered_and_all_else_passes() {
        for (said, complains, heard) in [
            (&b"GET / HTTP/1.0\r\n\r\n"[..], true, &b"Invalid SSH identification string.\r\n"[..]),
            (b"GET / HTTP/1.0\r\n\r\n", false, b""),
            (b"SSH-2.0-x\r\nand more", true, b""),
            (b"half", true, b""),
        ] {
            let (mut client, server) = tokio::io::duplex(64);
            let manners = Manners { complains, ..manners(9, 9) };
            let mut watched = Watched::new(server, Arc::default(), manners);
            client.write_all(said).await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = Vec::new();
            let read = watched.read_to_end(&mut got).await;
            assert_eq!((read.is_err(), got.is_empty()), (!heard.is_empty(), !heard.is_empty()), "{read:?}");
            assert!(got.is_empty() || got == said);
            drop(watched);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, heard);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_cut_ends_when_everything_is_said() {
        let (mut client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let watched = Watched::new(server, watch.clone(), manners(120, 5));
        client.write_all(b"SSH-2.0-x\n").await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(watched);
        reading.read_exact(&mut [0; 10]).await.unwrap();
        let ended = tokio::spawn(async move { reading.read(&mut [0; 8]).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        watch.cut();
        writing.write_all(b"last").await.unwrap();
        assert_eq!(ended.await.unwrap(), Err(io::ErrorKind::ConnectionAborted));
        drop(writing);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"last");
    }
}
