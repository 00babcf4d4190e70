//! How TLS begins in PostgreSQL's protocol: the client asks for it with its first eight octets, and one octet answers.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>; the numbers are in
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>. Nothing is read with the request that comes behind it, so that
//! nothing in clear could be taken for something else (CVE-2021-23214).

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout_at;

use super::side::Side;
use super::{Connection, Failure, HANDSHAKE, Inside, pass};
use crate::relay::tape::{Entry, Reason, Stream, Text};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// Requests to encrypt in a connection: one of either kind, and a client that asks again is told no again.
const REQUESTS: usize = 4;

impl Connection<'_> {
    /// TLS if the client asks for it; everything else is answered by what is inside, in clear.
    pub(super) async fn postgres<S, D, F, I>(&self, mut stream: S, dial: D) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        D: FnOnce() -> F + Send,
        F: Future<Output = io::Result<I>> + Send,
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        for _ in 0..REQUESTS {
            let (start, has_ended) = self.start(&mut stream).await?;
            self.recorder.data(0, Stream::Input, &start).await;
            let answer = match &start[..] {
                request if request == SSL_REQUEST => b"S",
                request if request == GSS_REQUEST => b"N",
                _ if has_ended => return self.gone(stream, Bytes::new()).await,
                _ => {
                    let mut inner = self.reach(dial).await?;
                    inner.write_all(&start).await?;
                    return pass::both(Side::Clear(stream), Side::Clear(inner), self.recorder).await;
                }
            };
            if answer == b"S" {
                self.recorder.put(Entry::Upgrade { command: Text::new("SSLRequest") }).await;
            }
            self.recorder.data(0, Stream::Output, &Bytes::from_static(answer)).await;
            stream.write_all(answer).await?;
            stream.flush().await?;
            if answer == b"S" {
                let reach = move || async move {
                    let mut inner = self.reach(dial).await?;
                    if self.settings.inside == Inside::Tls && !asked(&mut inner).await? {
                        return Err(self.unreachable("it refuses TLS".to_owned()).await);
                    }
                    Ok(inner)
                };
                return self.upgraded(stream, reach).await;
            }
        }
        Err(Failure::Why(Reason::ProtocolError, "it asks only whether to encrypt".to_owned()))
    }

    /// The first eight octets, or fewer if there are no more.
    async fn start<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<(Bytes, bool), Failure> {
        let mut start = Vec::new();
        let mut first = stream.take(SSL_REQUEST.len() as u64);
        let read = timeout_at(self.patience, first.read_to_end(&mut start)).await;
        read.map_err(|_| Failure::Why(Reason::TimedOut, format!("no request for {} s", HANDSHAKE.as_secs())))??;
        let has_ended = start.len() < SSL_REQUEST.len();
        Ok((start.into(), has_ended))
    }
}

/// Asks a server for TLS.
async fn asked<I: AsyncRead + AsyncWrite + Unpin>(inner: &mut I) -> io::Result<bool> {
    inner.write_all(&SSL_REQUEST).await?;
    inner.flush().await?;
    Ok(inner.read_u8().await? == b'S')
}
