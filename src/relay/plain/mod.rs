//! In the middle of what is spoken in the clear: octets pass as they are, and beside them an [`Observer`] reads what both
//! sides say, as far as it is of interest: requests, commands, log-ins, statements, and how they were answered.
//!
//! * `web` chooses between `http`, RFC 9112, and `http2`, RFC 9113; `telnet`: RFC 854 and options
//! * `lines`: FTP (RFC 959), SMTP (RFC 5321), POP3 and IMAP, whose commands are lines
//! * `redis`: RESP; `mysql`, `postgresql`: their client protocols
//!
//! An observer never holds up or changes anything. What it cannot read, it gives up ([`Entry::Strange`]): the octets are
//! recorded all the same, of each direction the first [`Settings::keep`]; how many there were beyond that is told.

mod asked;
mod http;
mod http2;
mod line;
mod lines;
#[cfg(test)]
mod lines_tests;
mod mysql;
#[cfg(test)]
mod passing_tests;
mod postgresql;
mod redis;
mod telnet;
#[cfg(test)]
mod tests;
mod web;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

use super::tape::{ChannelKind, Entry, PIECE, Reason, Recorder, Stream, Tape, Text};
use crate::service::Spoken;
pub use asked::Asked;

/// What an [`observer`] can read.
pub const READ: [Spoken; 9] = [
    Spoken::Http,
    Spoken::Telnet,
    Spoken::Ftp,
    Spoken::Smtp,
    Spoken::Pop3,
    Spoken::Imap,
    Spoken::Redis,
    Spoken::Mysql,
    Spoken::Postgresql,
];

/// The one channel of such a connection.
const CHANNEL: u32 = 0;

/// Octets beyond what is kept that are told of at once.
const BEYOND: u64 = 1 << 20;

/// What is recorded of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is spoken in it.
    pub spoken: Spoken,
    /// Whether what is within TLS is shown, too.
    pub within: bool,
    /// Octets of each direction that are put on the tape.
    pub keep: u64,
    /// Where the host has asked for a user and password, if it is a web server.
    pub asked: Asked,
}

/// Reads what both sides of a connection say.
///
/// Everything that it keeps is bounded, whatever is said.
pub trait Observer: Send {
    /// Takes the next octets of one direction; what they say goes to `told`.
    ///
    /// # Errors
    /// If this is not what is to be spoken, with what is wrong: then it is asked no more.
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str>;

    /// Says what is left when the connection is over.
    fn end(&mut self, _told: &mut Vec<Entry>) {}
}

/// One that reads `spoken`; none if there is nothing to be read. Where TLS begins it ends, unless it is shown what is
/// `within` that, too. `asked` is what web servers of the same host and port share.
pub fn observer(spoken: Spoken, within: bool, asked: Asked) -> Option<Box<dyn Observer>> {
    Some(match spoken {
        Spoken::Raw => return None,
        Spoken::Http => Box::new(web::Web::new(asked)),
        Spoken::Telnet => Box::new(telnet::Telnet::default()),
        Spoken::Ftp | Spoken::Smtp | Spoken::Pop3 | Spoken::Imap => Box::new(lines::Lines::new(spoken, within)),
        Spoken::Redis => Box::new(redis::Redis::default()),
        Spoken::Mysql => Box::new(mysql::Mysql::default()),
        Spoken::Postgresql => Box::new(postgresql::Postgresql::new(within)),
    })
}

/// What is put on the tape of a connection: what its observer tells, and the octets, up to a limit.
pub struct Watch {
    observer: Option<Box<dyn Observer>>,
    /// Whether the observer itself tells what is typed and shown, so that octets are put on beside that.
    tells_text: bool,
    /// Octets of each direction that are still put on.
    left: [u64; 2],
    /// Octets of each direction beyond those that are not told of yet.
    beyond: [u64; 2],
    told: Vec<Entry>,
}

impl Watch {
    /// Of a connection that begins.
    pub fn new(settings: Settings) -> Watch {
        Watch {
            observer: observer(settings.spoken, settings.within, settings.asked),
            tells_text: settings.spoken == Spoken::Telnet,
            left: [settings.keep; 2],
            beyond: [0; 2],
            told: Vec::new(),
        }
    }

    /// Puts on the tape that it begins.
    pub async fn begin(&mut self, recorder: &Recorder) {
        recorder.put(Entry::Opened { channel: CHANNEL, kind: ChannelKind::Stream }).await;
    }

    /// Puts on the tape what was said.
    pub async fn see(&mut self, from: Stream, octets: &[u8], recorder: &Recorder) {
        let kept = self.room(from, octets.len());
        for piece in octets[..kept].chunks(PIECE) {
            let (channel, stream, data) = (CHANNEL, from, Bytes::copy_from_slice(piece));
            let entry = match self.tells_text {
                true => Entry::Raw { channel, stream, data },
                false => Entry::Data { channel, stream, data },
            };
            recorder.put(entry).await;
        }
        self.tell_of_beyond(from, BEYOND, recorder).await;
        let Some(observer) = &mut self.observer else { return };
        let seen = observer.see(from, octets, &mut self.told);
        if let Err(reason) = seen {
            self.told.push(Entry::Strange { channel: CHANNEL, reason: Text::new(reason) });
            (self.observer, self.tells_text) = (None, false);
        }
        self.put(recorder).await;
    }

    /// Puts on the tape that it is over.
    pub async fn end(mut self, recorder: &Recorder) {
        if let Some(observer) = &mut self.observer {
            observer.end(&mut self.told);
        }
        self.put(recorder).await;
        for stream in [Stream::Input, Stream::Output] {
            self.tell_of_beyond(stream, 1, recorder).await;
        }
        recorder.put(Entry::Closed { channel: CHANNEL }).await;
    }

    /// How many of so many octets are put on.
    fn room(&mut self, from: Stream, octets: usize) -> usize {
        let way = usize::from(from != Stream::Input);
        let kept = octets.min(usize::try_from(self.left[way]).unwrap_or(usize::MAX));
        self.left[way] -= kept as u64;
        self.beyond[way] += (octets - kept) as u64;
        kept
    }

    /// Tells how many octets are not put on, if they are so many by now.
    async fn tell_of_beyond(&mut self, stream: Stream, least: u64, recorder: &Recorder) {
        let beyond = &mut self.beyond[usize::from(stream != Stream::Input)];
        if *beyond >= least {
            let octets = std::mem::take(beyond);
            recorder.put(Entry::Beyond { channel: CHANNEL, stream, octets }).await;
        }
    }

    async fn put(&mut self, recorder: &Recorder) {
        for entry in std::mem::take(&mut self.told) {
            match entry {
                // A transcript, which has limits of its own.
                Entry::Data { channel, stream, data } => recorder.data(channel, stream, &data).await,
                entry => recorder.put(entry).await,
            }
        }
    }
}

/// A tape upon another one: what is said in channel 0 is read, too.
pub struct Reading {
    tape: Arc<dyn Tape>,
    watch: Mutex<Option<Watch>>,
}

impl Reading {
    /// Upon `tape`, of a connection that begins.
    pub async fn begin(tape: Arc<dyn Tape>, settings: Settings) -> Reading {
        let mut watch = Watch::new(settings);
        watch.begin(&Recorder::new(tape.clone(), Arc::new(|| 0))).await;
        Reading { tape, watch: Mutex::new(Some(watch)) }
    }

    async fn take(&self, at: u64, entry: Entry) {
        let recorder = Recorder::new(self.tape.clone(), Arc::new(move || at));
        let mut watch = self.watch.lock().await;
        match (&entry, &mut *watch) {
            (Entry::Data { channel: CHANNEL, stream, data }, Some(watch)) => {
                return watch.see(*stream, data, &recorder).await;
            }
            (Entry::End { .. }, watch) => {
                if let Some(watch) = watch.take() {
                    watch.end(&recorder).await;
                }
            }
            _ => {}
        }
        recorder.put(entry).await;
    }
}

impl Tape for Reading {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.take(at, entry))
    }
}

/// Serves one connection until both sides have finished, or one has failed. `dial` opens the one inside at once: who
/// speaks first is the protocol's affair.
pub async fn serve<S, D, F, I>(settings: Settings, stream: S, dial: D, recorder: Recorder)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    D: FnOnce() -> F + Send,
    F: Future<Output = io::Result<I>> + Send,
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut watch = Watch::new(settings);
    watch.begin(&recorder).await;
    let (reason, detail) = match dial().await {
        Err(error) => {
            let why = Text::new(error.to_string());
            recorder.put(Entry::Unreachable { reason: why.clone() }).await;
            (Reason::Unreachable, Some(why))
        }
        Ok(inside) => match pass(&mut watch, stream, inside, &recorder).await {
            Ok(reason) => (reason, None),
            Err(error) => {
                let told = Reason::of_io(&error);
                // The stream was there at once, and nobody behind it.
                if let (Reason::Unreachable, Some(why)) = &told {
                    recorder.put(Entry::Unreachable { reason: why.clone() }).await;
                }
                told
            }
        },
    };
    watch.end(&recorder).await;
    recorder.put(Entry::End { reason, detail }).await;
}

/// Passes octets both ways, each at its own pace: who does not read what comes to them holds up nothing but that. What was
/// read is recorded before it goes on. Returns who has ended it.
async fn pass<S, I>(watch: &mut Watch, outside: S, inside: I, recorder: &Recorder) -> io::Result<Reason>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (outside, inside) = (tokio::io::split(outside), tokio::io::split(inside));
    // Both directions are read by one observer.
    let (watch, first) = (Mutex::new(watch), OnceLock::new());
    let inward = one_way(Stream::Input, outside.0, inside.1, (&watch, &first), recorder);
    let outward = one_way(Stream::Output, inside.0, outside.1, (&watch, &first), recorder);
    tokio::try_join!(inward, outward)?;
    Ok(if first.get() == Some(&Stream::Output) { Reason::ServerClosed } else { Reason::ClientClosed })
}

/// Passes on what comes until nothing more does; who has nothing more to say is `first` if nobody was before.
async fn one_way<R, W>(
    stream: Stream,
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    (watch, first): (&Mutex<&mut Watch>, &OnceLock<Stream>),
    recorder: &Recorder,
) -> io::Result<()>
where
    R: AsyncRead + AsyncWrite,
    W: AsyncRead + AsyncWrite,
{
    let mut buffer = vec![0; PIECE];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            let _ = first.set(stream);
            return to.shutdown().await;
        }
        watch.lock().await.see(stream, &buffer[..n], recorder).await;
        to.write_all(&buffer[..n]).await?;
    }
}
