//! What happened, as others read it: each *sink* sends the records that it wants, in the form that its receiver
//! understands.
//!
//! The event log is the queue: a sink is a [`Cursor`] in it, a [`Tail`] that reads on from there, and whoever sends. So a
//! receiver that is away costs nothing but the room that the log takes anyway, and what the log forgets before it was
//! sent is counted.
//!
//! The forms are functions of one record: nothing is remembered from one to the next, so that sending again what may not
//! have arrived gives the same octets. What an attacker wrote is nowhere taken for the form's own: each form writes it
//! out (`fields`), and bounds it.

mod backoff;
mod cef;
mod cowrie;
mod cursor;
mod ecs;
mod ecs_fields;
mod eve;
mod fields;
pub mod hpfeeds;
mod select;
mod syslog;
mod table;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::tail::{Next, Tail};
pub use backoff::{LONGEST_PAUSE, pause};
pub use cursor::Cursor;
pub use fields::details;
pub use select::Select;
pub use syslog::octet_counted;

use super::schema::Record;
use crate::event::Utc;
use crate::service::tls::Given;

/// Where sinks keep their cursors and files, in the honeynet's directory.
pub const SINKS: &str = "sinks";
/// How the names of cursors end.
pub const CURSOR: &str = ".cursor";
/// Most sinks of a honeynet.
pub const MOST_SINKS: usize = 32;

/// The form of what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Our own records, as they are in the log.
    Ndjson,
    /// What the honeypot Cowrie writes.
    Cowrie,
    /// Elastic Common Schema.
    Ecs,
    /// Suricata's EVE: flows, and what SSH and TLS clients show.
    Eve,
    /// RFC 5424 with structured data.
    Syslog,
    /// ArcSight's Common Event Format.
    Cef,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 6] =
        [Format::Ndjson, Format::Cowrie, Format::Ecs, Format::Eve, Format::Syslog, Format::Cef];

    /// Its name in a topology.
    pub fn name(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Cowrie => "cowrie",
            Format::Ecs => "ecs",
            Format::Eve => "eve",
            Format::Syslog => "syslog",
            Format::Cef => "cef",
        }
    }

    /// Whether it is JSON, an object a line.
    pub fn is_json(self) -> bool {
        !matches!(self, Format::Syslog | Format::Cef)
    }
}

/// Where a receiver is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whom to believe, and how to be believed, within TLS.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// Certificates that the receiver's leads to, in DER; those of the machine if there are none.
    pub roots: Vec<Vec<u8>>,
    /// The name in its certificate, if it is not the host's.
    pub server: Option<String>,
    /// The certificate that is shown to it.
    pub client: Option<Given>,
}

/// A secret that a receiver shares.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SharedSecret(pub String);

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret(_)")
    }
}

/// Where records go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Target {
    /// A file of this name among those of sinks.
    File(String),
    /// Datagrams, one a message (RFC 5426).
    Udp(Peer),
    /// A connection in the clear.
    Tcp(Peer),
    /// One within TLS (RFC 5425).
    Tls(Peer, Tls),
    /// A broker of hpfeeds.
    Hpfeeds {
        /// It.
        peer: Peer,
        /// If it is spoken to within TLS.
        tls: Option<Tls>,
        /// As whom.
        ident: String,
        /// With what.
        secret: SharedSecret,
        /// Where it is published.
        channel: String,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::File(name) => write!(f, "file:{name}"),
            Target::Udp(peer) => write!(f, "udp://{peer}"),
            Target::Tcp(peer) => write!(f, "tcp://{peer}"),
            Target::Tls(peer, _) => write!(f, "tls://{peer}"),
            Target::Hpfeeds { peer, tls: None, .. } => write!(f, "hpfeeds://{peer}"),
            Target::Hpfeeds { peer, tls: Some(_), .. } => write!(f, "hpfeeds+tls://{peer}"),
        }
    }
}

/// A sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SinkConfig {
    /// Its name in the topology.
    pub name: String,
    /// The form of what it sends.
    pub format: Format,
    /// Where.
    pub to: Target,
    /// What of.
    pub events: Select,
    /// The facility of its messages (RFC 5424 §6.2.1).
    pub facility: u8,
}

/// How a sink is doing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub sink: String,
    /// Form and receiver.
    pub to: String,
    /// `up`, `down`, or `starting` until one of them is known.
    pub state: String,
    /// Messages that the receiver took.
    pub sent: u64,
    /// The newest record that is done with.
    pub seq: u64,
    /// Records after it.
    pub behind: u64,
    /// Records that the log deleted before they were sent.
    pub lost: u64,
    /// Failures so far.
    pub failures: u64,
    /// The last failure, until it works again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Utc>,
}

/// Who sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Name of the honeynet.
    pub honeynet: String,
    /// Name of the machine.
    pub host: String,
    /// Of what is sent by syslog.
    pub facility: u8,
}

/// The messages that tell of `record`, whose line in the log is `line`: none if the form has no word for it.
pub fn messages(format: Format, record: &Record, line: &str, origin: &Origin) -> Vec<Vec<u8>> {
    match format {
        Format::Ndjson => vec![line.trim_end().as_bytes().to_vec()],
        Format::Cowrie => cowrie::messages(record, origin),
        Format::Ecs => vec![ecs::message(record, origin)],
        Format::Eve => eve::message(record, origin).into_iter().collect(),
        Format::Syslog => vec![syslog::message(record, origin)],
        Format::Cef => vec![cef::message(record)],
    }
}

/// A message as it goes to `to`: with what shows where it ends, and what a log that is sent by syslog has before it.
pub fn framed(format: Format, to: &Target, message: Vec<u8>, record: &Record, origin: &Origin) -> Vec<u8> {
    let message = match (format, to) {
        (Format::Cef, Target::Udp(_) | Target::Tcp(_) | Target::Tls(..)) => syslog::around(record, origin, &message),
        _ => message,
    };
    match to {
        Target::Udp(_) => message,
        Target::Hpfeeds { ident, channel, .. } => hpfeeds::publish(ident, channel, &message),
        Target::Tcp(_) | Target::Tls(..) if !format.is_json() => octet_counted(&message),
        Target::File(_) | Target::Tcp(_) | Target::Tls(..) => {
            let mut message = message;
            message.push(b'\n');
            message
        }
    }
}

#[cfg(test)]
mod tests;
