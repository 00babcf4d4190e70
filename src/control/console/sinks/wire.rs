//! What connects a sink with its receiver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;

use super::file::SinkFile;
use super::tls;
use crate::record::sink::hpfeeds::{self, Ear, Heard};
use crate::record::sink::{Peer, SINKS, Target, Tls};
use crate::sys::socket;

/// How long a connection may take to be ready.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a receiver may leave what it was sent unacknowledged.
const STALL: Duration = Duration::from_secs(30);
/// How long the reason is waited for why it has gone.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often a connection in which nothing moves is tested.
const TEST: Duration = Duration::from_secs(20);
/// Datagrams in a row, and the rest after them, so that a receiver is not overrun: there is nobody who sends them again.
const DATAGRAMS: usize = 32;
const REST: Duration = Duration::from_millis(5);

/// A receiver that is there.
pub enum Wire {
    /// A file, which a thread that may wait for the disk has while something is done to it.
    File(Arc<Mutex<SinkFile>>),
    /// Datagrams.
    Udp(UdpSocket),
    /// A connection.
    Stream(Box<Link>),
}

/// A connection.
pub struct Link {
    stream: Stream,
    /// What a broker says.
    ear: Option<Ear>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer).await,
            Stream::Tls(stream) => stream.read(buffer).await,
        }
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(octets).await,
            Stream::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Link {
    async fn read(&mut self) -> io::Result<Option<Heard>> {
        let mut buffer = [0; 4096];
        let Some(ear) = &mut self.ear else {
            // Whatever it says, it is not asked.
            return match self.stream.read(&mut buffer).await? {
                0 => Err(closed()),
                _ => Ok(None),
            };
        };
        let other = |error: hpfeeds::NotHpfeeds| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(heard) = ear.hear().map_err(other)? {
            return Ok(Some(heard));
        }
        match self.stream.read(&mut buffer).await? {
            0 => Err(closed()),
            count => {
                ear.push(buffer.get(..count).unwrap_or_default()).map_err(other)?;
                Ok(None)
            }
        }
    }

    /// Why a broker has ended the connection, if it has said so: that came before, and was not read yet.
    async fn last_word(&mut self) -> Option<io::Error> {
        self.ear.as_ref()?;
        let hear = async {
            loop {
                match self.read().await {
                    Ok(Some(Heard::Error(why))) => return Some(refused(&why)),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(LAST_WORD, hear).await.unwrap_or_default()
    }

    async fn introduce(&mut self, ident: &str, secret: &str) -> io::Result<()> {
        loop {
            match self.read().await? {
                Some(Heard::Info { nonce, .. }) => {
                    return self.stream.write(&hpfeeds::auth(ident, secret, &nonce)).await;
                }
                Some(Heard::Error(why)) => return Err(refused(&why)),
                Some(Heard::Other) | None => {}
            }
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver closed the connection")
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("the broker says: {why}"))
}

impl Wire {
    /// Connects with `to`. `dir` is the honeynet's directory.
    ///
    /// # Errors
    /// If it is not there, or not as it should be.
    pub async fn connect(to: &Target, dir: &Path) -> io::Result<Wire> {
        let connect = async {
            Ok(match to {
                Target::File(name) => {
                    let path = dir.join(SINKS).join(name);
                    let file = elsewhere(move || SinkFile::open(&path)).await?;
                    Wire::File(Arc::new(Mutex::new(file)))
                }
                Target::Udp(peer) => Wire::Udp(datagrams(peer).await?),
                Target::Tcp(peer) => stream(peer, None, None).await?,
                Target::Tls(peer, tls) => stream(peer, Some(tls), None).await?,
                Target::Hpfeeds { peer, tls, ident, secret, .. } => {
                    stream(peer, tls.as_ref(), Some((ident, &secret.0))).await?
                }
            })
        };
        // Opening a file goes on when nobody waits for it any more, and would cut off what was written after the next try: it
        // has as long as it takes.
        let limit = if matches!(to, Target::File(_)) { Duration::MAX } else { CONNECT };
        match tokio::time::timeout(limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the receiver does not answer")),
        }
    }

    /// Sends messages, each with what frames it: all of them, or an unknown part if that fails.
    ///
    /// # Errors
    /// What the system or the receiver says.
    pub async fn send(&mut self, messages: &[Vec<u8>]) -> io::Result<()> {
        match self {
            Wire::File(file) => {
                let octets = messages.concat();
                on(file, move |file| file.append(&octets)).await
            }
            Wire::Udp(socket) => {
                for (number, message) in messages.iter().enumerate() {
                    if number > 0 && number % DATAGRAMS == 0 {
                        tokio::time::sleep(REST).await;
                    }
                    socket.send(message).await?;
                }
                Ok(())
            }
            Wire::Stream(link) => match tokio::time::timeout(2 * STALL, link.stream.write(&messages.concat())).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(link.last_word().await.unwrap_or(error)),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the receiver takes nothing any more")),
            },
        }
    }

    /// Whether the receiver's machine has acknowledged everything that was sent.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn has_taken_all(&self) -> io::Result<bool> {
        match self {
            Wire::File(_) | Wire::Udp(_) => Ok(true),
            Wire::Stream(link) => Ok(socket::unacknowledged(link.stream.socket())? == 0),
        }
    }

    /// Waits until the disk has what lies here.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn sync(&self) -> io::Result<()> {
        match self {
            Wire::File(file) => on(file, |file| file.sync()).await,
            Wire::Udp(_) | Wire::Stream(_) => Ok(()),
        }
    }

    /// How long to wait for bad news after everything was taken: a receiver that died, or does not want it, says so a
    /// moment later.
    pub fn settles_after(&self) -> Duration {
        match self {
            Wire::File(_) => Duration::ZERO,
            Wire::Udp(_) | Wire::Stream(_) => Duration::from_secs(1),
        }
    }

    /// Waits until the receiver goes away or complains.
    pub async fn failed(&mut self) -> io::Error {
        match self {
            Wire::File(_) => std::future::pending().await,
            Wire::Udp(socket) => loop {
                let mut octets = [0; 16];
                if let Err(error) = socket.recv(&mut octets).await {
                    return error;
                }
            },
            Wire::Stream(link) => loop {
                match link.read().await {
                    Ok(Some(Heard::Error(why))) => return refused(&why),
                    Ok(_) => {}
                    Err(error) => return error,
                }
            },
        }
    }
}

/// Does what may wait for a disk where that holds up no other sink.
pub async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn on<F>(file: &Arc<Mutex<SinkFile>>, work: F) -> io::Result<()>
where
    F: FnOnce(&mut SinkFile) -> io::Result<()> + Send + 'static,
{
    let file = file.clone();
    elsewhere(move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner))).await
}

async fn stream(peer: &Peer, tls: Option<&Tls>, hpfeeds: Option<(&str, &str)>) -> io::Result<Wire> {
    let stream = TcpStream::connect((peer.host.as_str(), peer.port)).await?;
    stream.set_nodelay(true)?;
    // Whoever vanishes without a word is missed.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, TEST)?;
    sockopt::set_tcp_keepintvl(&stream, TEST / 4)?;
    sockopt::set_tcp_user_timeout(&stream, STALL.as_millis() as u32)?;
    let stream = match tls {
        Some(tls) => Stream::Tls(Box::new(tls::within(stream, peer, tls).await?)),
        None => Stream::Plain(stream),
    };
    let mut link = Link { stream, ear: hpfeeds.map(|_| Ear::default()) };
    if let Some((ident, secret)) = hpfeeds {
        link.introduce(ident, secret).await?;
    }
    Ok(Wire::Stream(Box::new(link)))
}

async fn datagrams(peer: &Peer) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the receiver's name has no address");
    for address in tokio::net::lookup_host((peer.host.as_str(), peer.port)).await? {
        let own: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
