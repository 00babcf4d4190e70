//! Octets, both ways.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
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

/// Passes what comes on, until both sides have ended. What was read is told before it goes on, and no more is read
/// until it has gone: who reads slowly is waited for.
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
    async fn go<A, B>(self, mut from: A, mut to: B) -> io::Result<()>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        let (mut buffer, mut size) = (BytesMut::new(), *CHUNK.start());
        loop {
            buffer.reserve(size);
            let n = match from.read_buf(&mut (&mut buffer).limit(size)).await {
                // It ended without `close_notify`.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.bare.store(true, Ordering::Relaxed);
                    0
                }
                n => n?,
            };
            if n == 0 {
                // Who has gone already has nothing to be told.
                let _ = to.shutdown().await;
                return Ok(());
            }
            size = (if n == size { 2 * n } else { n.next_power_of_two() }).clamp(*CHUNK.start(), *CHUNK.end());
            let octets = buffer.split().freeze();
            self.recorder.data(0, self.stream, &octets).await;
            to.write_all(&octets).await?;
            to.flush().await?;
            self.moved.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}
