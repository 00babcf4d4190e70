//! What a relay in the middle tells of: one [`Entry`] after the other, in the order in which things happened.
//!
//! Whatever an attacker has a hand in comes as octets in bounded pieces, or as [`Text`]: bounded, and without
//! a character that does something to a terminal.

use std::fmt::{self, Write};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{SessionId, Utc};
use crate::node::NodeIdx;
use crate::service::Spoken;

/// Most octets in one entry.
pub const PIECE: usize = 16 * 1024;
/// Most octets of attacker-made text that are shown; a user name, a path or a terminal's type is far below it.
const TEXT: usize = 1024;
/// The same of a command: what is pasted into `ssh host '...'` is the malware itself often enough.
const COMMAND: usize = PIECE;

/// Text that somebody else has made: what is no printable character stands as `\xNN` or `\u{N}`, a backslash as
/// two, and what is too long ends with an ellipsis.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Text(String);

impl Text {
    /// `raw`, of which at most 1 KiB is shown.
    pub fn new(raw: impl AsRef<[u8]>) -> Text {
        Text::up_to(TEXT, raw.as_ref())
    }

    /// A command, of which at most 16 KiB are shown.
    pub fn command(raw: impl AsRef<[u8]>) -> Text {
        Text::up_to(COMMAND, raw.as_ref())
    }

    fn up_to(most: usize, raw: &[u8]) -> Text {
        let (mut text, mut is_cut) = (String::new(), raw.len() > most);
        let chunks = raw.get(..most).unwrap_or(raw).utf8_chunks();
        let parts = chunks.flat_map(|chunk| chunk.valid().chars().map(Ok).chain(chunk.invalid().iter().map(Err)));
        for part in parts {
            // Written out, an octet takes four: a command of them would be too long for a message between processes.
            if text.len() > 3 * most {
                is_cut = true;
                break;
            }
            match part {
                Ok('\\') => text.push_str("\\\\"),
                Ok(c @ ' '..='~') => text.push(c),
                Ok(c) if c.is_ascii() => escape(&mut text, format_args!("\\x{:02x}", u32::from(c))),
                // Letters of every script; no direction marks, joiners or private characters.
                Ok(c) if c.is_alphanumeric() => text.push(c),
                Ok(c) => escape(&mut text, format_args!("\\u{{{:x}}}", u32::from(c))),
                Err(octet) => escape(&mut text, format_args!("\\x{octet:02x}")),
            }
        }
        if is_cut {
            text.push('…');
        }
        Text(text)
    }

    /// The text as it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What somebody else has made, as far as that was text: nothing to show. What was no UTF-8 is U+FFFD.
    pub fn original(&self) -> String {
        let number = |code: String| u32::from_str_radix(&code, 16).ok();
        let (mut text, mut rest) = (String::with_capacity(self.0.len()), self.0.chars());
        while let Some(c) = rest.next() {
            if c != '\\' {
                text.push(c);
                continue;
            }
            let code = match rest.next() {
                Some('x') => number(rest.by_ref().take(2).collect()).filter(|octet| *octet < 0x80),
                Some('u') => number(rest.by_ref().skip(1).take_while(|c| *c != '}').collect()),
                other => other.map(u32::from),
            };
            text.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        text
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

fn escape(text: &mut String, escaped: fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = text.write_fmt(escaped);
}

/// What somebody says to prove who they are (RFC 4252).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// Nothing, which asks what there is.
    None,
    /// A password.
    Password {
        /// It.
        password: Text,
    },
    /// Answers to prompts; none if the client went away instead.
    KeyboardInteractive {
        /// In the order of the prompts.
        answers: Vec<Text>,
    },
    /// A public key.
    PublicKey {
        /// Its algorithm's name.
        algorithm: Text,
        /// `SHA256:` and the digest in base 64, as `ssh-keygen -l` shows it.
        fingerprint: Text,
        /// Whether its possession was shown; otherwise it was only offered.
        signed: bool,
    },
    /// What a password was made into, by a challenge or without one.
    Digest {
        /// How: `mysql`, `postgresql-md5`, `scram`; `other` if nothing more is known.
        scheme: Text,
        /// It, as far as it was said.
        value: Text,
    },
}

/// What a channel is for (RFC 4254 §5.1, §7.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// A shell, a command or a subsystem.
    Session,
    /// A local or dynamic forward: the client asks for a connection to a target.
    DirectTcpip {
        /// Address or name.
        host: Text,
        /// TCP port.
        port: u32,
    },
    /// The same to a Unix socket.
    DirectStreamlocal {
        /// Its path.
        path: Text,
    },
    /// A remote forward: somebody has connected to a port that the client had asked for.
    ForwardedTcpip {
        /// Where it listened.
        host: Text,
        /// TCP port.
        port: u32,
        /// Who connected.
        from: Text,
    },
    /// The client's agent is spoken to from inside.
    Agent,
    /// X11, which is refused.
    X11,
    /// The connection itself, of a protocol without channels.
    Stream,
}

/// Which way octets go in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// From the attacker.
    Input,
    /// To the attacker.
    Output,
    /// To the attacker, as a program's errors.
    Error,
}

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the attacker.
    Upload,
    /// To the attacker.
    Download,
}

/// What is done to files besides moving them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAct {
    /// A file is removed.
    Remove,
    /// It gets another name.
    Rename,
    /// A directory is made.
    MakeDirectory,
    /// A directory is removed.
    RemoveDirectory,
    /// Its mode, owner or times are set.
    SetAttributes,
    /// A link is made.
    Link,
    /// A directory is read.
    List,
}

/// One thing that happened. Channels have the numbers that the middle gave them, from 0 on, and files likewise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// How the client introduced itself.
    Hello {
        /// Its first line, or what it said in its place.
        banner: Text,
        /// Key exchange algorithms, most wanted first.
        kex: Text,
        /// Host key algorithms.
        keys: Text,
        /// Ciphers toward the server.
        ciphers: Text,
        /// MACs toward the server.
        macs: Text,
        /// Compression toward the server.
        compression: Text,
        /// MD5 of four of these lists (<https://github.com/salesforce/hassh>); empty if there was no key exchange.
        hassh: String,
    },
    /// An attempt to log in.
    Attempt {
        /// As whom.
        user: Text,
        /// By what.
        credential: Credential,
        /// Whether that let the client in.
        accepted: bool,
    },
    /// What answers inside could not be reached, or refuses to be logged into.
    Unreachable {
        /// Why.
        reason: Text,
    },
    /// A channel was opened.
    Opened {
        /// Its number.
        channel: u32,
        /// What for.
        kind: ChannelKind,
    },
    /// A channel was asked for, and refused.
    Refused {
        /// What for.
        kind: ChannelKind,
        /// Why.
        reason: Text,
    },
    /// A terminal (RFC 4254 §6.2).
    Pty {
        /// Of this channel.
        channel: u32,
        /// `$TERM`.
        term: Text,
        /// Characters.
        columns: u32,
        /// Lines.
        rows: u32,
    },
    /// The terminal has another size.
    Resize {
        /// Of this channel.
        channel: u32,
        /// Characters.
        columns: u32,
        /// Lines.
        rows: u32,
    },
    /// A variable of the environment is wished for.
    Env {
        /// In this channel.
        channel: u32,
        /// Its name.
        name: Text,
        /// Its value.
        value: Text,
    },
    /// A shell begins.
    Shell {
        /// In this channel.
        channel: u32,
    },
    /// A command begins.
    Exec {
        /// In this channel.
        channel: u32,
        /// The command line.
        command: Text,
    },
    /// A subsystem begins.
    Subsystem {
        /// In this channel.
        channel: u32,
        /// Its name, such as `sftp`.
        name: Text,
    },
    /// A signal for the program.
    Signal {
        /// In this channel.
        channel: u32,
        /// Its name without `SIG`.
        name: Text,
    },
    /// The program has ended, with a status or by a signal.
    Exit {
        /// In this channel.
        channel: u32,
        /// What it returned.
        status: Option<u32>,
        /// What killed it.
        signal: Option<Text>,
    },
    /// Octets of a channel.
    Data {
        /// Of this one.
        channel: u32,
        /// Which way.
        stream: Stream,
        /// At most 16 KiB.
        data: Bytes,
    },
    /// What passes in a channel may be a password: it is typed where one is asked for. Nobody is told of this, it says
    /// which octets are not to be kept where credentials are not.
    Secret {
        /// This channel.
        channel: u32,
        /// From here on, or no longer.
        begins: bool,
    },
    /// A channel is closed.
    Closed {
        /// Its number.
        channel: u32,
    },
    /// A file begins to move.
    FileBegin {
        /// In this channel.
        channel: u32,
        /// Its number.
        file: u32,
        /// Its name or path, as the attacker's program wrote it.
        path: Text,
        /// Which way.
        direction: Direction,
    },
    /// A piece of its content, the next one.
    FilePiece {
        /// Of this file.
        file: u32,
        /// At most 16 KiB.
        data: Bytes,
    },
    /// It has moved.
    FileEnd {
        /// Its number.
        file: u32,
        /// Octets that moved.
        size: u64,
        /// Their SHA-256 in hexadecimal; none if they did not come from first to last.
        sha256: Option<String>,
        /// Whether all of them are in the pieces.
        kept: bool,
    },
    /// Something else was done to files.
    File {
        /// In this channel.
        channel: u32,
        /// What.
        act: FileAct,
        /// To which one.
        path: Text,
        /// Its other name.
        to: Option<Text>,
    },
    /// What a channel carries is not what it should be: from here on it is octets.
    Strange {
        /// This channel.
        channel: u32,
        /// What is wrong with it.
        reason: Text,
    },
    /// The client wants a port, or a socket, on the other side (RFC 4254 §7.1).
    Listen {
        /// Address, name or path.
        host: Text,
        /// TCP port; of a socket 0. If 0 was asked for, the one that was given.
        port: u32,
        /// Whether it listens.
        accepted: bool,
    },
    /// The client does not want it any longer.
    Unlisten {
        /// Address, name or path.
        host: Text,
        /// TCP port.
        port: u32,
    },
    /// The client offers its agent.
    Agent {
        /// To this channel.
        channel: u32,
        /// Whether the other side wants it.
        accepted: bool,
    },
    /// A request of HTTP's.
    Http {
        /// Its method.
        method: Text,
        /// Path and query.
        path: Text,
        /// `Host:`
        host: Text,
        /// `User-Agent:`
        agent: Text,
    },
    /// How a request of HTTP's was answered.
    Status {
        /// The code.
        status: u16,
        /// `Content-Length:`
        length: Option<u64>,
    },
    /// A command or statement of a protocol in the clear.
    Command {
        /// It, without what proves who somebody is.
        text: Text,
    },
    /// The first line that answers one.
    Answer {
        /// It.
        text: Text,
    },
    /// The connection is over; nothing follows.
    End {
        /// Why.
        reason: Text,
    },
    // TLS. What is spoken within it is channel 0.
    /// TLS begins in the midst of a protocol (STARTTLS). [`Entry::Data`] before it was in clear.
    Upgrade {
        /// What the client asked for it with, without the line's end.
        command: Text,
    },
    /// Octets that nobody gets: clear ones behind the point from which on there is TLS.
    Discarded {
        /// From whom.
        stream: Stream,
        /// At most 16 KiB.
        data: Bytes,
    },
    /// How a client began TLS (RFC 8446 §4.1.2).
    TlsHello {
        /// The name that it asks for.
        sni: Option<Text>,
        /// Protocols that it offers (RFC 7301), most wanted first; 8 at most.
        alpn: Vec<Text>,
        /// Versions that it offers, as numbers on the wire: 0x0304 is TLS 1.3.
        versions: Vec<u16>,
        /// MD5 of its lists (<https://github.com/salesforce/ja3>).
        ja3: String,
        /// The newer fingerprint (<https://github.com/FoxIO-LLC/ja4>).
        ja4: String,
    },
    /// What is needed to decrypt the connection: lines as NSS writes them (`SSLKEYLOGFILE`), each with its end.
    TlsSecrets {
        /// Them.
        lines: String,
    },
    /// Both sides have agreed.
    TlsAgreed {
        /// The version's number on the wire.
        version: u16,
        /// The cipher suite's number in IANA's registry.
        cipher: u16,
        /// The protocol within.
        alpn: Option<Text>,
        /// Whether an earlier session was resumed.
        resumed: bool,
    },
    /// The client has a certificate, which is believed unseen.
    TlsCertificate {
        /// SHA-256 of it, in hexadecimal.
        sha256: String,
        /// Whom it is about (RFC 4514); empty if it cannot be read.
        subject: Text,
    },
}

/// Between whom a connection is that somebody is in the middle of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// What is spoken in it.
    pub protocol: Protocol,
    /// The attacker's session.
    pub session: SessionId,
    /// The node that the host belongs to.
    pub node: NodeIdx,
    /// The attacker.
    pub peer: SocketAddr,
    /// The host, and its port.
    pub local: SocketAddr,
    /// When it began.
    pub at: Utc,
}

/// What is spoken in a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// RFC 4253.
    Ssh,
    /// RFC 8446, or an earlier one.
    Tls,
    /// Something in the clear.
    Plain(Spoken),
}

impl Protocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ssh => "ssh",
            Protocol::Tls => "tls",
            Protocol::Plain(spoken) => spoken.name(),
        }
    }
}

/// What is told of a connection to another process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Word {
    /// The first word.
    Begin(Begin),
    /// What happened, so many microseconds later. After [`Entry::End`] there is nothing more.
    Entry(u64, Entry),
}

/// What entries are put on.
pub trait Tape: Send + Sync {
    /// Puts one that happened `at` microseconds. What it tells of goes on when this is done, so that a slow
    /// tape slows the attacker, and needs no memory.
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// For tests: everything, in memory.
impl Tape for Mutex<Vec<(u64, Entry)>> {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.lock().unwrap_or_else(PoisonError::into_inner).push((at, entry));
        Box::pin(std::future::ready(()))
    }
}

/// Microseconds of any clock that does not run backward.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A tape and the clock that goes with it.
#[derive(Clone)]
pub struct Recorder {
    tape: Arc<dyn Tape>,
    clock: Clock,
}

impl Recorder {
    /// Both together.
    pub fn new(tape: Arc<dyn Tape>, clock: Clock) -> Recorder {
        Recorder { tape, clock }
    }

    /// Puts an entry that happens now.
    pub async fn put(&self, entry: Entry) {
        self.tape.put((self.clock)(), entry).await;
    }

    /// Puts octets of a channel, in pieces.
    pub async fn data(&self, channel: u32, stream: Stream, data: &Bytes) {
        for at in (0..data.len()).step_by(PIECE) {
            let piece = data.slice(at..data.len().min(at + PIECE));
            self.put(Entry::Data { channel, stream, data: piece }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(Text::new("root"), "root");
        assert_eq!(Text::new(b"\x1b]0;pwned\x07\n"), "\\x1b]0;pwned\\x07\\x0a");
        assert_eq!(Text::new("C:\\temp"), "C:\\\\temp");
        assert_eq!(Text::new(b"\xff\xfeM\xc3\xbcller"), "\\xff\\xfeMüller");
        // Right to left, a C1 control, a zero-width joiner.
        assert_eq!(Text::new("a\u{202e}b\u{9b}c\u{200d}"), "a\\u{202e}b\\u{9b}c\\u{200d}");
        assert!(Text::new(vec![0x1b; 1 << 20]).as_str().len() < 5 * TEXT);
        assert!(Text::new(vec![b'a'; TEXT + 1]).as_str().ends_with("a…"));
        assert!(!Text::new(vec![b'a'; TEXT]).as_str().ends_with('…'));
        for octet in [0x1b, 0xff, b'\\'] {
            let command = Entry::Exec { channel: 0, command: Text::command(vec![octet; COMMAND]) };
            let message = postcard::to_stdvec(&command).unwrap();
            assert!(message.len() < 60_000, "{}", message.len());
        }
    }

    #[test]
    fn what_was_written_out_is_known_again() {
        for text in ["", "root", "C:\\temp\\", "\x1b]0;pwned\x07\n", "Müller a\u{202e}b\u{200d}", "\\x41\\u{41}"] {
            assert_eq!(Text::new(text).original(), text);
        }
        assert_eq!(Text::new("\u{9b}x").original(), "\u{9b}x");
        assert_eq!(Text::new(b"a\xffb").original(), "a\u{fffd}b");
        assert_eq!(Text("\\".into()).original(), "\u{fffd}");
        assert_eq!(Text("\\x\\u\\u{110000}".into()).original(), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let attempt = Entry::Attempt {
            user: Text::new("root"),
            credential: Credential::Password { password: Text::new("123456") },
            accepted: false,
        };
        let json = serde_json::to_string(&attempt).unwrap();
        assert_eq!(
            json,
            r#"{"attempt":{"user":"root","credential":{"password":{"password":"123456"}},"accepted":false}}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), attempt);
        // Between processes.
        let octets = postcard::to_stdvec(&attempt).unwrap();
        assert_eq!(postcard::from_bytes::<Entry>(&octets).unwrap(), attempt);
        assert!(size_of::<Entry>() <= 192, "{}", size_of::<Entry>());
    }

    #[tokio::test]
    async fn data_is_put_in_pieces() {
        let tape = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 7));
        recorder.data(3, Stream::Output, &Bytes::from(vec![b'x'; PIECE + 1])).await;
        let sizes: Vec<_> = tape
            .lock()
            .unwrap()
            .iter()
            .map(|(at, entry)| match entry {
                Entry::Data { channel: 3, stream: Stream::Output, data } => (*at, data.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [(7, PIECE), (7, 1)]);
    }
}
