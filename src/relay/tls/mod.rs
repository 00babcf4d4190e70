//! TLS in the middle (RFC 8446, RFC 5246): a server toward the attacker, the container's own service in clear or by TLS
//! again, and a [`Tape`](crate::relay::tape::Tape) of what passes between the two, in clear.
//!
//! * `face`: what the attacker sees of the host: its certificates and tickets; `guest`: what the host asks of a client
//! * `first`: what a connection begins with; `astray`: web servers' answer to what is no TLS; `handshake`: both sides' way to an agreement; `secrets`: what decrypts it
//! * `starttls`: protocols in which TLS begins later, as they are spoken; `clear`: their beginning, passed on;
//!   `postgres`: the one of them that has no lines
//! * `side`: one end of a connection, in clear or not; `pass`: octets, both ways
//!
//! A host that has TLS inside, too, is asked first: it chooses the protocol within (ALPN), and what it refuses is refused.
//! One that is spoken to in clear is not reached before the attacker has agreed on keys: who only looks at certificates
//! wakes no container.
//!
//! What is not there, and shows: TLS before 1.2, RSA key exchange and CBC; OpenSSL's way to lay out its handshake (JARM,
//! JA3S); client certificates after the handshake. Data connections of FTP are not part of this.

mod astray;
mod clear;
mod face;
mod first;
mod guest;
mod handshake;
mod pass;
mod postgres;
mod secrets;
mod side;
mod starttls;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::tape::{Entry, Reason, Recorder, Stream, Text};
pub use face::{Face, Wall};
use first::{Began, hear};
use side::Side;
pub use starttls::{Answer, Dialect, Said, Talk};

/// How long a client may take from its first octet to keys: nginx's `client_header_timeout`.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long what is inside may take to answer: a cold start.
const DIAL: Duration = Duration::from_secs(30);
/// How long nothing may happen before TLS begins in a protocol that has STARTTLS: RFC 5321 §4.5.3.2.7.
const SILENCE: Duration = Duration::from_secs(300);

/// How what is inside is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// In clear.
    Clear,
    /// By TLS, whatever its certificate; in a protocol that has STARTTLS, by that.
    Tls,
}

/// What is done with a client that does not speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// What is inside answers it, in clear.
    Pass,
    /// Nothing, as from OpenSSL: the connection ends.
    Close,
    /// What a web server says that calls itself so (`Server:`).
    Web(String),
}

/// What a host's TLS is.
#[derive(Debug)]
pub struct Settings {
    /// What it proves to be.
    pub face: Face,
    /// What is inside.
    pub inside: Inside,
    /// The protocol in which TLS begins later; none if it begins with the connection.
    pub starttls: Option<Dialect>,
    /// Who does not speak TLS. After STARTTLS, that is an alert.
    pub foreign: Foreign,
    /// Protocols within that the host knows (RFC 7301), most wanted first, where what is inside is not asked.
    pub alpn: Vec<String>,
}

/// How a connection ended that did not just end.
enum Failure {
    /// The stream of one side.
    Io(io::Error),
    /// Anything else, and what there is to say about it.
    Why(Reason, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Serves one client until its connection is over, which the last entry, [`Entry::End`], says. `dial` opens a stream to the
/// container's service: not before the ClientHello is whole, except in a protocol whose server speaks first in clear.
pub async fn serve<S, D, F, I>(settings: Arc<Settings>, stream: S, dial: D, recorder: Recorder)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    D: FnOnce() -> F + Send,
    F: Future<Output = io::Result<I>> + Send,
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let connection = Connection { settings: &settings, recorder: &recorder, patience: Instant::now() + HANDSHAKE };
    let served = match settings.starttls {
        None => connection.at_once(stream, dial).await,
        Some(Dialect::Postgres) => connection.postgres(stream, dial).await,
        Some(dialect) => connection.later(dialect, stream, dial).await,
    };
    let (reason, detail) = match served {
        Ok(reason) => (reason, None),
        Err(Failure::Io(error)) => {
            let told = Reason::of_io(&error);
            // The stream was there at once, and nobody behind it.
            if let (Reason::Unreachable, Some(why)) = &told {
                recorder.put(Entry::Unreachable { reason: why.clone() }).await;
            }
            told
        }
        Err(Failure::Why(reason, why)) => (reason, Some(Text::new(why))),
    };
    recorder.put(Entry::End { reason, detail }).await;
}

/// What goes with a connection.
struct Connection<'a> {
    settings: &'a Settings,
    recorder: &'a Recorder,
    /// When the client has to have agreed.
    patience: Instant,
}

impl Connection<'_> {
    /// TLS from the first octet on.
    async fn at_once<S, D, F, I>(&self, mut stream: S, dial: D) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        D: FnOnce() -> F + Send,
        F: Future<Output = io::Result<I>> + Send,
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.begin(&mut stream).await? {
            Began::Hello(hello, octets) => self.secured(stream, *hello, &octets, || self.reach(dial)).await,
            Began::Other(octets) if self.settings.foreign == Foreign::Pass => {
                self.strange("not TLS").await;
                self.recorder.data(0, Stream::Input, &octets).await;
                let mut inner = self.reach(dial).await?;
                inner.write_all(&octets).await?;
                pass::both(Side::Clear(stream), Side::Clear(inner), self.recorder).await
            }
            Began::Other(octets) => match &self.settings.foreign {
                Foreign::Web(server) => self.astray(stream, octets.into(), server).await,
                Foreign::Pass | Foreign::Close => {
                    let mut octets = octets.into();
                    self.until_told(&mut stream, &mut octets).await;
                    self.refuse(stream, octets.freeze(), None).await
                }
            },
            Began::Broken(octets) => self.refuse(stream, octets, Some(AlertDescription::DecodeError)).await,
            Began::Gone(octets) => self.gone(stream, octets).await,
        }
    }

    /// TLS after a beginning in clear that is made of lines.
    async fn later<S, D, F, I>(&self, dialect: Dialect, mut stream: S, dial: D) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        D: FnOnce() -> F + Send,
        F: Future<Output = io::Result<I>> + Send,
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // A server speaks first.
        let mut inner = self.reach(dial).await?;
        match clear::relay(dialect, self.settings.inside, &mut stream, &mut inner, self.recorder).await? {
            clear::Outcome::Free => pass::both(Side::Clear(stream), Side::Clear(inner), self.recorder).await,
            clear::Outcome::Over(reason) => Ok(reason),
            clear::Outcome::Upgrade => {
                let connection = Connection { patience: Instant::now() + HANDSHAKE, ..*self };
                connection.upgraded(stream, move || async move { Ok(inner) }).await
            }
        }
    }

    /// TLS is what has to come now.
    async fn upgraded<S, R, F, I>(&self, mut stream: S, reach: R) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        R: FnOnce() -> F + Send,
        F: Future<Output = Result<I, Failure>> + Send,
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.begin(&mut stream).await? {
            Began::Hello(hello, octets) => self.secured(stream, *hello, &octets, reach).await,
            Began::Other(octets) => self.refuse(stream, octets, Some(AlertDescription::UnexpectedMessage)).await,
            Began::Broken(octets) => self.refuse(stream, octets, Some(AlertDescription::DecodeError)).await,
            Began::Gone(octets) => self.gone(stream, octets).await,
        }
    }

    /// What the client begins with; a ClientHello is told.
    async fn begin<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<Began, Failure> {
        let Ok(began) = tokio::time::timeout_at(self.patience, hear(stream)).await else {
            // A server closes, and resets nothing.
            let _ = stream.shutdown().await;
            return Err(Failure::Why(Reason::TimedOut, format!("no ClientHello for {} s", HANDSHAKE.as_secs())));
        };
        let began = began?;
        if let Began::Hello(hello, _) = &began {
            self.recorder.put(first::told(hello)).await;
        }
        Ok(began)
    }

    /// Opens the stream to what is inside.
    async fn reach<D, F, I>(&self, dial: D) -> Result<I, Failure>
    where
        D: FnOnce() -> F + Send,
        F: Future<Output = io::Result<I>> + Send,
    {
        let reason = match timeout(DIAL, dial()).await {
            Ok(Ok(inner)) => return Ok(inner),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer for {} s", DIAL.as_secs()),
        };
        Err(self.unreachable(reason).await)
    }

    async fn unreachable(&self, reason: String) -> Failure {
        self.recorder.put(Entry::Unreachable { reason: Text::new(&reason) }).await;
        Failure::Why(Reason::Unreachable, reason)
    }

    async fn strange(&self, reason: &str) {
        self.recorder.put(Entry::Strange { channel: 0, reason: Text::new(reason) }).await;
    }

    /// Keeps what came that is no TLS, and answers it.
    async fn refuse<S>(&self, stream: S, octets: Bytes, alert: Option<AlertDescription>) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.strange("not TLS").await;
        self.recorder.data(0, Stream::Input, &octets).await;
        match alert {
            Some(alert) => handshake::alert(stream, alert).await,
            None => handshake::leave(stream, &[]).await,
        }
        Err(Failure::Why(Reason::ProtocolError, "not TLS".to_owned()))
    }

    /// The client has left within its ClientHello, or before it.
    async fn gone<S: AsyncWrite + Unpin>(&self, mut stream: S, octets: Bytes) -> Result<Reason, Failure> {
        if !octets.is_empty() {
            self.strange("the end of a ClientHello is missing").await;
            self.recorder.data(0, Stream::Input, &octets).await;
        }
        let _ = stream.shutdown().await;
        Err(Failure::Why(Reason::ClientClosed, "before there was a ClientHello".to_owned()))
    }
}
