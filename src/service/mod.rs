//! What answers a connection, and what it needs to know for that.

mod inline;
mod library;
mod names;
pub mod tls;
mod web;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use inline::{Inline, Stream, Then};
pub use library::{Caller, Login, Profile, Protocol, answer};
pub use names::Names;
pub use web::{APPS, app, astray};

use crate::emulate::{Identity, RsaSeed};

/// A service of a topology. Its place in its node's list is its [`crate::emulate::ServiceId`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Service {
    /// Its name for events and lists.
    pub name: String,
    /// What it does.
    pub kind: ServiceKind,
}

/// What a service does with a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ServiceKind {
    /// Takes what comes and says nothing.
    Sink,
    /// Says `banner`, takes what comes, closes after `close_after_secs` without a byte.
    Banner {
        /// What is said at once, `\r\n` and all.
        banner: Vec<u8>,
        /// Seconds of silence until it hangs up; 0 never.
        close_after_secs: u32,
    },
    /// A static web site.
    Http(HttpSite),
    /// One of the library of services.
    Library(Box<Profile>),
    /// A name server that makes addresses up.
    Names(Box<Names>),
    /// One of those above within TLS.
    Tls(Box<tls::Secured>),
    /// A program, started for each connection, whose standard input and output are the connection. Index into the plan's scripts.
    Script(u16),
    /// A connection to another server. Index into the plan's proxies.
    Proxy(u16),
    /// The host's container, at the same port.
    Container,
    /// The same, with somebody in the middle who records what is said.
    Recorded(Box<Middle>),
}

/// Who is in the middle of connections to a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Middle {
    /// An SSH server toward the attacker, a client of the container's.
    Ssh(SshMiddle),
    /// Somebody who only reads.
    Plain {
        /// What is spoken.
        spoken: Spoken,
        /// Octets of each direction that are kept.
        keep: u64,
    },
    /// A TLS server toward the attacker.
    Tls(Box<TlsMiddle>),
}

/// What a TLS server in the middle is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsMiddle {
    /// What it proves to be.
    pub credentials: tls::Credentials,
    /// Whether it asks clients for certificates, of which it takes any.
    pub asks_clients: bool,
    /// Whether TLS begins when the client asks for it (STARTTLS), and not at once.
    pub starttls: bool,
    /// Whether the container speaks TLS, too.
    pub inside: bool,
    /// What is spoken within.
    pub spoken: Spoken,
    /// What a web server calls itself to who does not speak TLS; empty if it is asked itself, or is none.
    pub server: String,
    /// Octets of each direction that are kept.
    pub keep: u64,
}

/// What is spoken in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Spoken {
    /// Anything, which is not read.
    Raw,
    /// HTTP/1 and HTTP/2.
    Http,
    /// Telnet.
    Telnet,
    /// FTP's control connection.
    Ftp,
    /// SMTP.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP.
    Imap,
    /// Redis.
    Redis,
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
}

impl Spoken {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Spoken::Raw => "raw",
            Spoken::Http => "http",
            Spoken::Telnet => "telnet",
            Spoken::Ftp => "ftp",
            Spoken::Smtp => "smtp",
            Spoken::Pop3 => "pop3",
            Spoken::Imap => "imap",
            Spoken::Redis => "redis",
            Spoken::Mysql => "mysql",
            Spoken::Postgresql => "postgresql",
        }
    }
}

/// What an SSH server in the middle passes for, and whom it lets in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshMiddle {
    /// Its identification (RFC 4253 §4.2) without the line's end.
    pub identification: String,
    /// The host keys that it has; each once.
    pub host_keys: Vec<SshKeyKind>,
    /// Who is let in.
    pub opens: Policy,
    /// User and password by which it logs in inside, unless the attacker's own do.
    pub login: Option<(String, String)>,
    /// Whether it asks for passwords by keyboard-interactive, too (RFC 4256).
    pub keyboard_interactive: bool,
    /// How long a refusal takes at least, in milliseconds.
    pub refusal_ms: u32,
    /// How long it takes at least to be let in, in milliseconds.
    pub acceptance_ms: u32,
    /// Octets of each file that are kept.
    pub keep: u64,
}

impl SshMiddle {
    /// Whether it passes for a Dropbear, which has other lists of algorithms than OpenSSH.
    pub fn is_dropbear(&self) -> bool {
        is_dropbear(&self.identification)
    }

    /// What the RSA key of host `ip` is made from, if it has one: of 3,072 bits, or 2,048 of Dropbear, as their programs make them.
    pub fn rsa(&self, identity: &Identity, ip: IpAddr) -> Option<RsaSeed> {
        let bits = if self.is_dropbear() { 2048 } else { 3072 };
        self.host_keys.contains(&SshKeyKind::Rsa).then(|| identity.ssh_rsa(ip, bits))
    }
}

/// Whether an identification is that of a Dropbear.
pub fn is_dropbear(identification: &str) -> bool {
    identification.starts_with("SSH-2.0-dropbear")
}

/// What kind of key a host shows by SSH.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SshKeyKind {
    /// RSA.
    Rsa,
    /// ECDSA on P-256.
    Ecdsa,
    /// Ed25519.
    Ed25519,
}

impl SshKeyKind {
    /// Those that Debian's packages make, of OpenSSH and of Dropbear.
    pub const USUAL: [SshKeyKind; 3] = [SshKeyKind::Rsa, SshKeyKind::Ecdsa, SshKeyKind::Ed25519];
}

/// What opens a container to an attacker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Policy {
    /// What the container's own server accepts, as the user that the attacker names. Public keys are refused: what a client
    /// signs is the key exchange with us, which proves nothing to another server.
    Container,
    /// One of these passwords, each of a user.
    List(Vec<(String, String)>),
    /// Any password and any public key.
    Any,
    /// Any password, of which this many were refused before in the same connection. Public keys are refused: a client
    /// offers several by itself.
    After(u32),
    /// Nothing.
    Never,
}

impl ServiceKind {
    /// Whether a client hears from it before it has said anything, as far as it is emulated.
    pub fn speaks_first(&self) -> bool {
        match self {
            ServiceKind::Banner { .. } => true,
            ServiceKind::Library(profile) => profile.protocol.speaks_first(),
            _ => false,
        }
    }

    /// Whether its connections need a number of their own, for challenges.
    pub fn has_challenges(&self) -> bool {
        match self {
            ServiceKind::Library(_) => true,
            ServiceKind::Tls(secured) => secured.inner.kind.has_challenges(),
            _ => false,
        }
    }
}

/// A static web site.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HttpSite {
    /// `Server:` header; none if empty.
    pub server: String,
    /// Path (with its leading `/`) to page. `/` is also what `index.html` asks for.
    pub pages: BTreeMap<String, Page>,
    /// Which of the pages is the answer to a form; empty if forms are answered like any other request.
    pub denied: String,
}

/// One page of a static site.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// `Content-Type:` header.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A program that serves connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Script {
    /// Program and arguments; the program is an absolute path.
    pub command: Vec<String>,
    /// Seconds that it may run.
    pub timeout_secs: u32,
    /// How many may run at once.
    pub max_running: u32,
}

/// A server that connections are passed to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proxy {
    /// Where to.
    pub target: std::net::SocketAddr,
    /// Milliseconds until an attempt to connect is given up.
    pub connect_timeout_ms: u32,
}
