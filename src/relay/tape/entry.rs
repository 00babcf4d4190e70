//! What can happen in a connection.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Reason, Text};

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
    /// A password, and the one that was to take its place (RFC 4252 §8).
    PasswordChange {
        /// The former.
        old: Text,
        /// The latter.
        new: Text,
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
        /// It, as `authorized_keys` has it; empty if it is longer than any that is in use.
        #[serde(default)]
        key: Text,
    },
    /// What a password was made into, by a challenge or without one.
    Digest {
        /// How: `mysql`, `postgresql-md5`, `scram`, `apop`, a SASL mechanism in small letters; a method of SSH's that there is not.
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
        /// Whose connection it is, by the client's words: address and port.
        #[serde(default)]
        from: Text,
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
    /// From the attacker, into a program that has no terminal: a command, or a shell. Its path is the command.
    Input,
    /// To the attacker, out of such a program: what is no text, or more than a few words. Its path is the command, too.
    Output,
}

impl Direction {
    /// Whether its octets are those of a channel, which are told besides.
    pub fn is_of_channel(self) -> bool {
        matches!(self, Direction::Input | Direction::Output)
    }
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
        /// Languages toward the server, of which clients have none.
        #[serde(default)]
        languages: Text,
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
    /// What proves who somebody is was sent though nobody had asked for it: how that was answered says nothing of it.
    Unasked {
        /// As whom.
        user: Text,
        /// By what.
        credential: Credential,
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
    /// Octets of a channel as they came, where [`Entry::Data`] tells what they say only: options are in them. A password may
    /// be, too, wherever it is.
    Raw {
        /// Of this one.
        channel: u32,
        /// Which way.
        stream: Stream,
        /// At most 16 KiB.
        data: Bytes,
    },
    /// So many octets of a channel, more of them, are beyond what is put on.
    Beyond {
        /// Of this one.
        channel: u32,
        /// Which way they went.
        stream: Stream,
        /// How many.
        octets: u64,
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
        /// Where in it this belongs, in octets.
        offset: u64,
        /// At most 16 KiB.
        data: Bytes,
    },
    /// It has moved.
    FileEnd {
        /// Its number.
        file: u32,
        /// Octets of it that moved, each counted once, however often it did.
        size: u64,
        /// Octets that moved although they had before.
        #[serde(default)]
        again: u64,
        /// Of the octets of `size`, the SHA-256 in hexadecimal; none if they did not come from first to last.
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
        /// In HTTP/2, which has several at a time, what its answer has, too.
        stream: Option<u32>,
    },
    /// How a request of HTTP's was answered.
    Status {
        /// The code.
        status: u16,
        /// `Content-Length:`
        length: Option<u64>,
        /// In HTTP/2, what the request has, too.
        stream: Option<u32>,
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
        reason: Reason,
        /// What else there is to say about that: a program's, or a library's, own words.
        detail: Option<Text>,
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
