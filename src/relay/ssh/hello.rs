//! How a client introduces itself: its first line (RFC 4253 §4.2) and its KEXINIT (§7.1), read as they pass by.
//!
//! The SSH library keeps neither, and what it does not understand it does not tell; so a [`Watched`] stream looks at the first
//! octets itself. It also ends a client that does not get anywhere.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::relay::tape::{Entry, Text};
use crate::service::tls::hex;

/// Most that is kept of the start: a first line of 255 octets, and a KEXINIT, which is 1.5 KB from OpenSSH and may be 35,000 (§6.1).
const MOST: usize = 36 * 1024;
const KEXINIT: u8 = 20;
/// How long a request for authentication may take to come as a whole, of a client that could have asked for something else.
const WHOLE: Duration = Duration::from_secs(1);

/// What has been seen of a client's start.
#[derive(Default)]
struct Seen {
    start: Vec<u8>,
    done: bool,
}

/// A client's state as far as its stream shows it, shared with who answers it.
#[derive(Default)]
pub(super) struct Watch {
    seen: Mutex<Seen>,
    /// The client has logged in: it may take its time from now on.
    let_in: AtomicBool,
    /// It did not, for too long.
    late: AtomicBool,
    /// It is one that asks for the service again before each attempt.
    asks_again: AtomicBool,
    /// It did, and waits for an answer that it does not get.
    asked_again: AtomicBool,
    /// Requests for authentication that were heard.
    requests: AtomicU32,
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

    /// The client asks to be let in.
    pub(super) fn heard(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection was ended because the client asked for the service once more.
    pub(super) fn asked_again(&self) -> bool {
        self.asked_again.load(Ordering::Relaxed)
    }

    /// The introduction, as far as there is one. What it was read from is forgotten.
    pub(super) fn take(&self) -> Entry {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.done = true;
        self.asks_again.store(seen.start.starts_with(b"SSH-2.0-paramiko"), Ordering::Relaxed);
        introduction(&std::mem::take(&mut seen.start))
    }

    /// Looks at the next octets.
    pub(super) fn look(&self, octets: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.done {
            let room = MOST - seen.start.len();
            seen.start.extend_from_slice(octets.get(..room).unwrap_or(octets));
            seen.done = seen.start.len() >= MOST || kexinit(&seen.start).is_some();
        }
    }
}

/// The first line without its end, and what follows it.
fn first_line(start: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = start.iter().position(|octet| *octet == b'\n')?;
    let line = &start[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &start[end + 1..]))
}

/// The payload of a KEXINIT from its name-lists on, if that is what follows the first line, and all of it is there.
fn kexinit(start: &[u8]) -> Option<&[u8]> {
    let (_, packet) = first_line(start)?;
    let (length, rest) = packet.split_first_chunk()?;
    let body = rest.get(..u32::from_be_bytes(*length) as usize)?;
    let (padding, payload) = body.split_first()?;
    let payload = payload.get(..payload.len().checked_sub(usize::from(*padding))?)?;
    let (kind, rest) = payload.split_first()?;
    // A cookie of 16 octets first.
    (*kind == KEXINIT).then(|| rest.get(16..)).flatten()
}

/// The first `N` name-lists (RFC 4251 §5).
fn lists<const N: usize>(mut from: &[u8]) -> Option<[&[u8]; N]> {
    let mut lists = [&[][..]; N];
    for list in &mut lists {
        let (length, rest) = from.split_first_chunk()?;
        (*list, from) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    }
    Some(lists)
}

fn introduction(start: &[u8]) -> Entry {
    let banner = Text::new(first_line(start).map_or(start, |(line, _)| line));
    // Key exchange, host keys, then ciphers, MACs and compression, each toward the server and back.
    let Some([kex, keys, ciphers, _, macs, _, compression, _]) = kexinit(start).and_then(lists) else {
        let none = Text::default;
        return Entry::Hello {
            banner,
            kex: none(),
            keys: none(),
            ciphers: none(),
            macs: none(),
            compression: none(),
            hassh: String::new(),
        };
    };
    let digest = Md5::digest([kex, ciphers, macs, compression].join(&b';'));
    Entry::Hello {
        banner,
        kex: Text::new(kex),
        keys: Text::new(keys),
        ciphers: Text::new(ciphers),
        macs: Text::new(macs),
        compression: Text::new(compression),
        hassh: hex(&digest),
    }
}

/// A client's stream that is looked at, and ends if the client does not log in.
///
/// It ends, too, if Paramiko asks for the authentication service (RFC 4253 §10) once more, as it does before each
/// further attempt in a connection: the library passes over that, and the client would wait half a minute in vain. As
/// it is, its attempt has failed, and the next one comes in another connection.
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    /// Until when reading is possible: before the client has logged in, and after we have said that this is the end.
    patience: Option<Pin<Box<Sleep>>>,
    /// How long a client may take that was told that this is the end.
    farewell: Duration,
    ending: bool,
    /// Until when what has come is to be a request for authentication, and how many there were before.
    again: Option<(Pin<Box<Sleep>>, u32)>,
}

impl<S> Watched<S> {
    /// `stream`, which ends after `grace` if nobody has logged in by then, and `farewell` after we have
    /// ended our side.
    pub(super) fn new(stream: S, watch: Arc<Watch>, grace: Duration, farewell: Duration) -> Watched<S> {
        Watched { stream, watch, patience: Some(Box::pin(sleep(grace))), farewell, ending: false, again: None }
    }

    /// Whether a client has asked for what it does not get, now that so many octets have come.
    fn asked_again(&mut self, came: usize, cx: &mut Context<'_>) -> bool {
        let watch = &self.watch;
        let requests = watch.requests.load(Ordering::Relaxed);
        let may = watch.asks_again.load(Ordering::Relaxed) && !watch.let_in.load(Ordering::Relaxed) && requests > 0;
        if !may || self.again.as_ref().is_some_and(|(_, before)| *before != requests) {
            self.again = None;
        }
        if may && came > 0 && self.again.is_none() {
            self.again = Some((Box::pin(sleep(WHOLE)), requests));
        }
        let asked = self.again.as_mut().is_some_and(|(until, _)| until.as_mut().poll(cx).is_ready());
        watch.asked_again.fetch_or(asked, Ordering::Relaxed);
        asked
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch.look(buf.filled().get(before..).unwrap_or_default());
        let came = buf.filled().len() - before;
        if self.asked_again(came, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
            self.patience = Some(Box::pin(sleep(self.farewell)));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn start(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend((list.len() as u32).to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        let mut start = b"SSH-2.0-libssh2_1.4.3\r\n".to_vec();
        start.extend((payload.len() as u32 + 1 + 4).to_be_bytes());
        start.push(4);
        start.extend(payload);
        start.extend([0; 4]);
        start
    }

    const LISTS: [&str; 10] = [
        "diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1",
        "ssh-rsa,ssh-dss",
        "aes128-ctr,aes192-ctr,aes256-ctr,aes256-cbc,rijndael-cbc@lysator.liu.se,aes192-cbc,aes128-cbc,blowfish-cbc,arcfour128,arcfour,cast128-cbc,3des-cbc",
        "aes128-ctr",
        "hmac-sha1,hmac-sha1-96,hmac-md5,hmac-md5-96,hmac-ripemd160,hmac-ripemd160@openssh.com",
        "hmac-sha1",
        "none",
        "none",
        "",
        "",
    ];

    /// The fingerprint that Salesforce's and others' lists have for this client, which much malware is linked with.
    #[tokio::test]
    async fn the_hassh_of_libssh2_is_the_known_one() {
        let (mut client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(server, watch.clone(), Duration::from_secs(9), Duration::ZERO);
        let sent = start(&LISTS);
        let expected = sent.clone();
        let sending = tokio::spawn(async move { client.write_all(&sent).await.map(|()| client) });
        let mut got = vec![0; expected.len()];
        watched.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        drop(sending.await.unwrap().unwrap());
        let Entry::Hello { banner, kex, ciphers, hassh, .. } = watch.take() else { panic!() };
        assert_eq!(banner, "SSH-2.0-libssh2_1.4.3");
        assert!(kex.as_str().starts_with("diffie-hellman-group14-sha1,") && ciphers.as_str().ends_with(",3des-cbc"));
        assert_eq!(hassh, "92674389fa1e47a27ddd8d9b63ecd42b");
    }

    #[test]
    fn whatever_comes_instead_is_shown() {
        for (sent, shown) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], "GET / HTTP/1.1"),
            (b"\x16\x03\x01\x02\x00", "\\x16\\x03\\x01\\x02\\x00"),
            (b"", ""),
            (b"SSH-2.0-x\n\xff\xff\xff\xff\xff\x14", "SSH-2.0-x"),
        ] {
            let watch = Watch::default();
            for octet in sent {
                watch.look(&[*octet]);
            }
            let Entry::Hello { banner, hassh, .. } = watch.take() else { panic!() };
            assert_eq!((banner.as_str(), hassh.as_str()), (shown, ""));
        }
        let watch = Watch::default();
        for _ in 0..100 {
            watch.look(&[b'x'; 1000]);
        }
        assert_eq!(watch.seen.lock().unwrap().start.len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_log_in_has_until_the_deadline() {
        let (_client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(server, watch.clone(), Duration::from_secs(120), Duration::from_secs(5));
        assert_eq!(watched.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(watch.was_late());

        let (mut client, server) = tokio::io::duplex(64);
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(server, watch.clone(), Duration::from_secs(120), Duration::from_secs(5));
        watch.let_in();
        client.write_all(b"x").await.unwrap();
        assert_eq!(watched.read(&mut [0; 8]).await.unwrap(), 1);
        let idle = tokio::time::timeout(Duration::from_secs(86_400), watched.read(&mut [0; 8])).await;
        assert!(idle.is_err(), "a day without a word is allowed");
        // The end was said: five seconds.
        watched.shutdown().await.unwrap();
        let before = tokio::time::Instant::now();
        assert!(watched.read(&mut [0; 8]).await.is_err());
        assert_eq!(before.elapsed().as_secs(), 5);
        assert!(!watch.was_late());
    }
    #[tokio::test(start_paused = true)]
    async fn who_asks_for_the_service_again_is_not_left_waiting() {
        for (banner, ends) in [("SSH-2.0-paramiko_2.12.0\r\n", true), ("SSH-2.0-OpenSSH_9.2p1\r\n", false)] {
            let (mut client, server) = tokio::io::duplex(64);
            let watch = Arc::new(Watch::default());
            let mut watched = Watched::new(server, watch.clone(), Duration::from_secs(120), Duration::ZERO);
            client.write_all(banner.as_bytes()).await.unwrap();
            watched.read_exact(&mut vec![0; banner.len()]).await.unwrap();
            watch.take();
            // An attempt, and another one, each of which is heard.
            for _ in 0..2 {
                client.write_all(b"1").await.unwrap();
                assert_eq!(watched.read(&mut [0; 8]).await.unwrap(), 1);
                watch.heard();
                assert!(tokio::time::timeout(Duration::from_secs(5), watched.read(&mut [0; 8])).await.is_err());
            }
            // Something that is none.
            client.write_all(b"2").await.unwrap();
            assert_eq!(watched.read(&mut [0; 8]).await.unwrap(), 1);
            let ended = tokio::time::timeout(Duration::from_secs(5), watched.read(&mut [0; 8])).await;
            assert_eq!((ended.is_ok(), watch.asked_again()), (ends, ends), "{banner}");
        }
    }
}
