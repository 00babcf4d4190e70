//! Both sides' way to an agreement.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Duration, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{StartHandshake, TlsConnector, client};

use super::secrets::Secrets;
use super::side::{Side, buffered};
use super::{Connection, DIAL, Failure, HANDSHAKE, Inside, guest, pass};
use crate::relay::tape::{Entry, Reason, Text};
use crate::service::tls::{ClientHello, believer};

/// How long a client that was told of a failure may take to leave, and how much it may still say. If we left first, the system
/// would reset the connection, and what we have said would be lost.
const LEAVING: (Duration, u64) = (Duration::from_secs(5), 64 * 1024);

/// TLS 1.2. rustls says something else to who offers less, as OpenSSL does not.
const OLDEST: u16 = 0x0303;

/// How we speak to what is inside: it is the host's own container.
static INSIDE: LazyLock<ClientConfig> = LazyLock::new(|| {
    let mut config = believer(rustls::DEFAULT_VERSIONS).expect("there are versions");
    config.resumption = Resumption::disabled();
    config
});

/// Ends our side, and waits for the client to end its.
pub(super) async fn leave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last: &[u8]) {
    let (patience, most) = LEAVING;
    let leaving = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await
    };
    // Who stays has been told.
    let _ = timeout(patience, leaving).await;
}

/// Tells the client why this is the end (RFC 8446 §6).
pub(super) async fn alert<S: AsyncRead + AsyncWrite + Unpin>(stream: S, what: AlertDescription) {
    const FATAL: u8 = 2;
    leave(stream, &[21, 3, 3, 0, 2, FATAL, what.into()]).await;
}

/// Has rustls read a ClientHello and what came behind it. If it does not like it: why, and what the client is told.
fn accept(mut octets: &[u8]) -> Result<Accepted, (String, Vec<u8>)> {
    let mut acceptor = Acceptor::default();
    while !octets.is_empty() {
        // They are fewer than it has room for.
        acceptor.read_tls(&mut octets).map_err(|error| (error.to_string(), Vec::new()))?;
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => Ok(accepted),
        Ok(None) => Err(("a part is missing".to_owned(), Vec::new())),
        Err((error, mut alert)) => {
            let mut told = Vec::new();
            // Writing into memory does not fail.
            let _ = alert.write_all(&mut told);
            Err((error.to_string(), told))
        }
    }
}

impl Connection<'_> {
    /// From a ClientHello, `octets`, on. `reach` opens the stream to what is inside.
    pub(super) async fn secured<S, R, F, I>(
        &self,
        stream: S,
        hello: ClientHello,
        octets: &[u8],
        reach: R,
    ) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        R: FnOnce() -> F + Send,
        F: Future<Output = Result<I, Failure>> + Send,
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if *hello.versions.iter().max().unwrap_or(&hello.version) < OLDEST {
            alert(stream, AlertDescription::ProtocolVersion).await;
            return Err(Failure::Why(Reason::NoAgreement, "the client is too old".to_owned()));
        }
        let accepted = match accept(octets) {
            Ok(accepted) => accepted,
            Err((why, told)) => {
                leave(stream, &told).await;
                return Err(Failure::Why(Reason::NoAgreement, why));
            }
        };
        let (inner, alpn) = match self.settings.inside {
            Inside::Clear => (Err(reach), self.settings.alpn.iter().map(|name| name.clone().into_bytes()).collect()),
            Inside::Tls => match inside(buffered(reach().await?), &hello).await {
                Ok(inner) => {
                    let alpn = inner.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                    (Ok(Side::Tls(Box::new(inner.into()))), Vec::from_iter(alpn))
                }
                Err(error) => {
                    let failure = self.unreachable(error.to_string()).await;
                    // What it refuses is refused in its words.
                    let refusal = error.get_ref().and_then(|error| error.downcast_ref());
                    if let Some(rustls::Error::AlertReceived(what)) = refusal {
                        alert(stream, *what).await;
                    }
                    return Err(failure);
                }
            },
        };
        let stream = self.agree(accepted, buffered(stream), &hello, alpn).await?;
        let inner = match inner {
            Ok(inner) => inner,
            Err(reach) => Side::Clear(reach().await?),
        };
        pass::both(Side::Tls(Box::new(stream.into())), inner, self.recorder).await
    }

    /// Agrees with the client, and tells on what.
    async fn agree<S>(
        &self,
        accepted: Accepted,
        stream: S,
        hello: &ClientHello,
        alpn: Vec<Vec<u8>>,
    ) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let secrets = Arc::new(Secrets::default());
        let config = self.settings.face.config(hello.sni.as_deref(), alpn, secrets.clone());
        let config = config.map_err(|why| Failure::Why(Reason::Failed, why))?;
        let handshake = StartHandshake::from_parts(accepted, stream).into_stream(config).into_fallible();
        let agreed = timeout_at(self.patience, handshake).await;
        // Also of one that failed: the alert that says why may be encrypted.
        if let Some(entry) = secrets.take() {
            self.recorder.put(entry).await;
        }
        let stream = match agreed {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                leave(stream, &[]).await;
                return Err(no_agreement(&error));
            }
            Err(_) => {
                let why = format!("no agreement for {} s", HANDSHAKE.as_secs());
                return Err(Failure::Why(Reason::TimedOut, why));
            }
        };
        let session = stream.get_ref().1;
        if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
            self.recorder.put(guest::told(certificate)).await;
        }
        self.recorder.put(agreed_on(session)).await;
        Ok(stream)
    }
}

/// Why a handshake has failed. Who has left in the midst of it has not agreed to anything either, but did not disagree.
fn no_agreement(error: &io::Error) -> Failure {
    match Reason::of_io(error) {
        (Reason::ProtocolError | Reason::Failed, detail) => {
            Failure::Why(Reason::NoAgreement, detail.map_or_else(String::new, |detail| detail.to_string()))
        }
        (reason, _) => Failure::Why(reason, "before both sides had agreed".to_owned()),
    }
}

fn agreed_on(session: &ServerConnection) -> Entry {
    Entry::TlsAgreed {
        version: session.protocol_version().map_or(0, u16::from),
        cipher: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        alpn: session.alpn_protocol().map(Text::new),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Speaks TLS with what is inside, and asks it for what the client asks us for.
async fn inside<I>(stream: I, hello: &ClientHello) -> io::Result<client::TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = INSIDE.clone();
    config.alpn_protocols = hello.alpn.clone();
    let asked = hello.sni.as_deref().and_then(|name| std::str::from_utf8(name).ok());
    let name = asked.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    // An address is not told (RFC 6066 §3), so any will do.
    let name = name.unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(DIAL, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
