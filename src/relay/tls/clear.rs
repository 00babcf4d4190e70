//! The beginning of a protocol in which TLS begins later, passed on until it does.
//!
//! What either side has said in clear behind that point is thrown away: otherwise somebody between the two could have
//! it taken for what was said within TLS (CVE-2011-0411).

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::starttls::{Dialect, LINE, Said, Talk};
use super::{Failure, Inside, SILENCE};
use crate::relay::tape::{Entry, Reason, Recorder, Stream, Text};

/// How the beginning has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client speaks TLS from here on; to a server that is to speak it, so does it.
    Upgrade,
    /// TLS does not begin any more.
    Free,
    /// The connection is over, and who has ended it.
    Over(Reason),
}

/// Octets that one side has said and that have not gone on: a line at most.
struct Waiting {
    octets: BytesMut,
    has_ended: bool,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { octets: BytesMut::new(), has_ended: false }
    }

    fn has_room(&self) -> bool {
        !self.has_ended && self.octets.len() < LINE
    }

    async fn read<S: AsyncRead + Unpin>(&mut self, from: &mut S) -> io::Result<()> {
        let room = LINE - self.octets.len();
        self.octets.reserve(room.min(1024));
        self.has_ended = from.read_buf(&mut (&mut self.octets).limit(room)).await? == 0;
        Ok(())
    }
}

/// Puts octets on the tape and sends them.
struct Teller<'a>(&'a Recorder);

impl Teller<'_> {
    async fn send<S: AsyncWrite + Unpin>(&self, to: &mut S, stream: Stream, octets: &Bytes) -> io::Result<()> {
        self.0.data(0, stream, octets).await;
        let sending = async {
            to.write_all(octets).await?;
            to.flush().await
        };
        timeout(SILENCE, sending).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn discard(&self, stream: Stream, waiting: Waiting) {
        if !waiting.octets.is_empty() {
            self.0.put(Entry::Discarded { stream, data: waiting.octets.freeze() }).await;
        }
    }
}

/// Passes lines on.
pub(super) async fn relay<S, I>(
    dialect: Dialect,
    inside: Inside,
    outer: &mut S,
    inner: &mut I,
    recorder: &Recorder,
) -> Result<Outcome, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let teller = Teller(recorder);
    let mut talk = Talk::new(dialect, inside == Inside::Clear);
    let (mut client, mut server) = (Waiting::new(), Waiting::new());
    // The server was asked for TLS; and the client has nothing more to say.
    let (mut is_asked, mut is_told) = (false, false);
    loop {
        while let Some((piece, said)) = talk.take(&mut client.octets) {
            if said == Said::Upgrade {
                recorder.put(Entry::Upgrade { command: Text::new(piece.trim_ascii_end()) }).await;
                if inside == Inside::Clear {
                    recorder.data(0, Stream::Input, &piece).await;
                    teller.send(outer, Stream::Output, &talk.agree().into()).await?;
                    teller.discard(Stream::Input, client).await;
                    teller.discard(Stream::Output, server).await;
                    return Ok(Outcome::Upgrade);
                }
                is_asked = true;
            }
            teller.send(inner, Stream::Input, &piece).await?;
        }
        if client.has_ended && !is_told && line_is_due(&talk, &client) {
            is_told = true;
            let last = std::mem::take(&mut client.octets).freeze();
            teller.send(inner, Stream::Input, &last).await?;
            inner.shutdown().await?;
        }
        tokio::select! {
            read = client.read(outer), if client.has_room() => read?,
            read = server.read(inner) => read?,
            () = tokio::time::sleep(SILENCE) => {
                return Err(Failure::Why(Reason::TimedOut, format!("silence for {} s", SILENCE.as_secs())));
            }
        }
        while let Some(answer) = talk.answered(&mut server.octets) {
            teller.send(outer, Stream::Output, answer.shown.as_ref().unwrap_or(&answer.data)).await?;
            if is_asked && let Some(is_yes) = answer.done {
                is_asked = false;
                if is_yes {
                    teller.discard(Stream::Input, client).await;
                    teller.discard(Stream::Output, server).await;
                    return Ok(Outcome::Upgrade);
                }
            }
        }
        if server.has_ended || talk.is_free() {
            let last = server.octets.freeze();
            teller.send(outer, Stream::Output, &last).await?;
            if server.has_ended {
                outer.shutdown().await?;
                return Ok(Outcome::Over(if is_told { Reason::ClientClosed } else { Reason::ServerClosed }));
            }
            teller.send(inner, Stream::Input, &client.octets.freeze()).await?;
            return Ok(Outcome::Free);
        }
    }
}

/// Whether what the client has said last is all that there will be: a line without an end, or nothing.
fn line_is_due(talk: &Talk, client: &Waiting) -> bool {
    client.octets.is_empty() || (talk.owes_nothing() && !client.octets.contains(&b'\n'))
}
