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
use crate::relay::tape::{Reason, Recorder, Stream};

/// Octets that are read at once, as few as are asked for and as many as come: each direction of a connection keeps twice so
/// many, those that are written and those that are read.
const CHUNK: std::ops::RangeInclusive<usize> = 2 * 1024..=64 * 1024;
/// How long nothing may come from inside once the client has ended its side.
const INSIDE_ENDS: Duration = Duration::from_secs(60);
/// How long nothing may come from the client once what is inside has ended: nginx's `lingering_timeout`.
const CLIENT_ENDS: Duration = Duration::from_secs(5);

/// Passes what comes on, until both sides have ended. What was read is told before it goes on, and only so much is read
/// before it has gone: who reads slowly is waited for. Returns who has ended first.
pub(super) async fn both<A, B>(outer: Side<A>, inner: Side<B>, recorder: &Recorder) -> Result<Reason, Failure>
where
    A: AsyncRead + AsyncWrite + Unpin + Send,
    B: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (outer, inner) = (Ending::new(outer), Ending::new(inner));
    let (outer_bare, inner_bare) = (outer.bare.clone(), inner.bare.clone());
    let ((from_client, to_client), (from_inside, to_inside)) = (tokio::io::split(outer), tokio::io::split(inner));
    let (inward, outward) = (AtomicU64::new(0), AtomicU64::new(0));
    let [tells_in, tells_out] = [const { AtomicBool::new(false) }; 2];
    let way_in = Way { stream: Stream::Input, recorder, bare: &inner_bare, moved: &inward, is_telling: &tells_in };
    let way_out = Way { stream: Stream::Output, recorder, bare: &outer_bare, moved: &outward, is_telling: &tells_out };
    let mut way_in = pin!(way_in.go(from_client, to_inside));
    let mut way_out = pin!(way_out.go(from_inside, to_client));
    tokio::select! {
        ended = &mut way_in => match ended {
            Ok(()) => {
                rest(way_out.as_mut(), &outward, INSIDE_ENDS).await?;
                Ok(Reason::ClientClosed)
            }
            Err(error) => {
                told(way_out, &tells_out).await;
                Err(error.into())
            }
        },
        ended = &mut way_out => match ended {
            Ok(()) => {
                rest(way_in.as_mut(), &inward, CLIENT_ENDS).await?;
                Ok(Reason::ServerClosed)
            }
            Err(error) => {
                told(way_in, &tells_in).await;
                Err(error.into())
            }
        },
    }
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
    /// It has read something that is not all told.
    is_telling: &'a AtomicBool,
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
                self.is_telling.store(true, Ordering::Relaxed);
                self.recorder.data(0, self.stream, &next).await;
                self.is_telling.store(false, Ordering::Relaxed);
                next
            };
            let next = {
                let (mut writing, mut reading) = (pin!(writing), pin!(reading));
                tokio::select! {
                    written = &mut writing => {
                        if let Err(error) = written {
                            told(reading, self.is_telling).await;
                            return Err(error);
                        }
                        reading.await
                    }
                    next = &mut reading => {
                        writing.await?;
                        next
                    }
                }
            };
            octets = next;
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

/// Goes on with a way that is given up until what it has read is told.
async fn told<F: Future>(mut way: Pin<&mut F>, is_telling: &AtomicBool) {
    poll_fn(|cx| match is_telling.load(Ordering::Relaxed) && way.as_mut().poll(cx).is_pending() {
        true if is_telling.load(Ordering::Relaxed) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
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
    use crate::relay::tape::{Entry, Tape};

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
        let is_telling = AtomicBool::new(false);
        let way =
            Way { stream: Stream::Input, recorder: &recorder, bare: &bare, moved: &moved, is_telling: &is_telling };
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

    /// Lets others have so many turns.
    async fn turns(count: usize) {
        for _ in 0..count {
            tokio::task::yield_now().await;
        }
    }

    /// A tape on which there is room only when others have had turns.
    struct Slow(Mutex<Vec<u8>>);

    impl Tape for Slow {
        fn put(&self, _: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {
                turns(16).await;
                let Entry::Data { data, .. } = entry else { panic!("{entry:?}") };
                self.0.lock().unwrap().extend_from_slice(&data);
            })
        }
    }

    #[tokio::test]
    async fn what_was_read_is_told_though_it_cannot_go_on() {
        let tape = Arc::new(Slow(Mutex::default()));
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let (bare, moved) = (AtomicBool::new(false), AtomicU64::new(0));
        let is_telling = AtomicBool::new(false);
        let way =
            Way { stream: Stream::Input, recorder: &recorder, bare: &bare, moved: &moved, is_telling: &is_telling };
        let ((mut writer, from), (to, reader)) = (duplex(1 << 20), duplex(1));
        let sending = async {
            writer.write_all(b"one").await.unwrap();
            // The first is on its way, and nobody takes it.
            while tape.0.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            writer.write_all(b"two").await.unwrap();
            // Enough for it to be read, and not for it to be told.
            turns(4).await;
            drop(reader);
        };
        let (ended, ()) = tokio::join!(way.go(from, to), sending);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(tape.0.lock().unwrap()[..], b"onetwo"[..]);
    }

    #[tokio::test]
    async fn it_reads_on_while_it_writes_but_no_more_than_a_chunk() {
        let ((mut writer, from), (to, mut reader)) = (duplex(1 << 20), duplex(1));
        writer.write_all(&[7; 1 << 20]).await.unwrap();
        let (passing, sent) = (passed(from, to), async {
            let mut octet = [0];
            reader.read_exact(&mut octet).await.unwrap();
            // Nobody takes more: both chunks are read now, of 2 KiB and of twice as much.
            turns(4).await;
            writer.write_all(&[8; 6 * 1024]).await.unwrap();
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut writer).poll_write(cx, &[9]).is_pending())).await);
            drop((reader, writer));
        });
        let ((ended, told), ()) = tokio::join!(passing, sent);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(told.len(), 6 * 1024);
    }
}
