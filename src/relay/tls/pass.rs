//! Octets, both ways.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Failure;
use super::side::{Ending, Side};
use crate::relay::tape::{Recorder, Stream};

/// Octets that are read at once, as few as are asked for and as many as come: both directions of a connection keep so many.
const CHUNK: std::ops::RangeInclusive<usize> = 2 * 1024..=64 * 1024;
/// How long nothing may come from inside once the client has ended its side.
const INSIDE_ENDS: Duration = Duration::from_secs(60);
/// How long nothing may come from the client once what is inside has ended: nginx's `lingering_timeout`.
const CLIENT_ENDS: Duration = Duration::from_secs(5);

/// Passes what comes on, until both sides have ended. What was read is told before it goes on, and only so much is read
/// before it has gone: who reads slowly is waited for.
pub(super) async fn both<A, B>(outer: Side<A>, inner: Side<B>, recorder: &Recorder) -> Result<(), Failure>
where
    A: AsyncRead + AsyncWrite + Unpin + Send,
    B: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (outer, inner) = (Ending::new(outer), Ending::new(inner));
    let (outer_bare, inner_bare) = (outer.bare.clone(), inner.bare.clone());
    let ((from_client, to_client), (from_inside, to_inside)) = (tokio::io::split(outer), tokio::io::split(inner));
    let (inward, outward) = (AtomicU64::new(0), AtomicU64::new(0));
    let way_in = Way { stream: Stream::Input, recorder, bare: &inner_bare, moved: &inward };
    let way_out = Way { stream: Stream::Output, recorder, bare: &outer_bare, moved: &outward };
    let mut way_in = pin!(way_in.go(from_client, to_inside));
    let mut way_out = pin!(way_out.go(from_inside, to_client));
    tokio::select! {
        ended = &mut way_in => {
            ended?;
            rest(way_out, &outward, INSIDE_ENDS).await?;
        }
        ended = &mut way_out => {
            ended?;
            rest(way_in, &inward, CLIENT_ENDS).await?;
        }
    }
    Ok(())
}

/// The rest of one way when the other has ended. It may go on as long as something moves.
async fn rest<F>(mut way: Pin<&mut F>, moved: &AtomicU64, patience: Duration) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    loop {
        let before = moved.load(Ordering::Relaxed);
        match timeout(patience, &mut way).await {
            Ok(ended) => return ended,
            // Nobody is left to whom that would matter.
            Err(_) if moved.load(Ordering::Relaxed) == before => return Ok(()),
            Err(_) => {}
        }
    }
}

/// One way.
struct Way<'a> {
    stream: Stream,
    recorder: &'a Recorder,
    /// That the other end has to end without a word.
    bare: &'a AtomicBool,
    moved: &'a AtomicU64,
}

impl Way<'_> {
    /// Reads on while what was read is written: neither side then waits for the other at each turn.
    async fn go<A, B>(self, mut from: A, mut to: B) -> io::Result<()>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        let (mut octets, mut size) = (Bytes::new(), *CHUNK.start());
        let (mut buffer, mut goes_on) = (BytesMut::new(), Ok(true));
        while !octets.is_empty() || matches!(goes_on, Ok(true)) {
            let writing = async {
                if !octets.is_empty() {
                    to.write_all(&octets).await?;
                    to.flush().await?;
                    self.moved.fetch_add(octets.len() as u64, Ordering::Relaxed);
                }
                Ok::<_, io::Error>(())
            };
            let reading = async {
                if matches!(goes_on, Ok(true)) {
                    buffer.reserve(size);
                    goes_on = what_there_is(&mut from, &mut (&mut buffer).limit(size)).await;
                }
                let next = buffer.split().freeze();
                self.recorder.data(0, self.stream, &next).await;
                Ok(next)
            };
            ((), octets) = tokio::try_join!(writing, reading)?;
            let n = octets.len();
            size = (if n == size { 2 * n } else { n.next_power_of_two() }).clamp(*CHUNK.start(), *CHUNK.end());
        }
        match goes_on {
            // It ended without `close_notify`.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.bare.store(true, Ordering::Relaxed),
            goes_on => _ = goes_on?,
        }
        // Who has gone already has nothing to be told.
        let _ = to.shutdown().await;
        Ok(())
    }
}

/// Reads what there is, as much as `to` has room for, and waits only for the first octet. Says whether there may be more;
/// what was read before the end, or before an error, is in `to`.
async fn what_there_is<A, T>(from: &mut A, to: &mut T) -> io::Result<bool>
where
    A: AsyncRead + Unpin,
    T: BufMut,
{
    let mut is_first = true;
    while to.has_remaining_mut() {
        let mut reading = pin!(from.read_buf(to));
        let read = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Pending if !is_first => Poll::Ready(None),
            read => read.map(Some),
        });
        match read.await.transpose()? {
            None => break,
            Some(0) => return Ok(false),
            Some(_) => is_first = false,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Context;

    use tokio::io::{ReadBuf, duplex};

    use super::*;
    use crate::relay::tape::Entry;

    /// Whoever reads it is reset.
    struct Reset;

    impl AsyncRead for Reset {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    /// Passes `from` on to `to`; returns how that ended, and what was told of it.
    async fn passed(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) -> (io::Result<()>, Vec<u8>) {
        let tape = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let (bare, moved) = (AtomicBool::new(false), AtomicU64::new(0));
        let way = Way { stream: Stream::Input, recorder: &recorder, bare: &bare, moved: &moved };
        let ended = way.go(from, to).await;
        let tape = tape.lock().unwrap();
        let told = tape.iter().flat_map(|(_, entry)| match entry {
            Entry::Data { data, .. } => data.to_vec(),
            other => panic!("{other:?}"),
        });
        (ended, told.collect())
    }

    #[tokio::test]
    async fn last_words_go_on_before_a_reset_does() {
        let mut heard = Vec::new();
        let (ended, told) = passed(b"last ".chain(&b"words"[..]).chain(Reset), &mut heard).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!((&heard[..], &told[..]), (&b"last words"[..], &b"last words"[..]));
    }

    #[tokio::test]
    async fn it_reads_on_while_it_writes_but_no_more_than_a_chunk() {
        let ((mut writer, from), (to, mut reader)) = (duplex(1 << 20), duplex(1));
        writer.write_all(&[7; 1 << 20]).await.unwrap();
        let (passing, sent) = (passed(from, to), async {
            let mut octet = [0];
            reader.read_exact(&mut octet).await.unwrap();
            // Nobody takes more: both chunks are read now, of 2 KiB and of twice as much.
            tokio::task::yield_now().await;
            writer.write_all(&[8; 6 * 1024]).await.unwrap();
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut writer).poll_write(cx, &[9]).is_pending())).await);
            drop((reader, writer));
        });
        let ((ended, told), ()) = tokio::join!(passing, sent);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(told.len(), 6 * 1024);
    }
}
