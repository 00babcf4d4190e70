//! What happened, in a form small enough to say while frames are moving.
//!
//! An [`Event`] is `Copy` and goes with up to [`MAX_DATA`] octets of what was
//! seen into a [`Sink`]. In the product the sink is a ring in shared memory
//! which the console reads; when it is full the event is counted as lost, and
//! the console writes a `gap` record of that many. Names (`EventId`) are stable:
//! they may be added to, never renamed.

mod capture;
mod drops;
mod id;
mod ip;
mod mask;
mod process;
mod ring;
mod steps;
mod utc;

use serde::{Deserialize, Serialize};

use crate::wire::{Instant, Mac};

pub use capture::{Capture, Captured, RingCapture};
pub use drops::{Counters, DropReason};
pub use id::EventId;
pub use ip::MaybeIp;
pub use mask::{AddressMask, MaskedIp, ParseMaskedError, Prefixes};
pub use process::{Fate, HONEYNET_ENDS, Process, process_state, told_of_process};
pub use ring::{RingSink, decode};
pub use steps::Steps;
pub use utc::{Now, Utc};

/// Octets of payload that may go along with an event.
pub const MAX_DATA: usize = 1024;
/// The same of what lists algorithms: see [`EventId::most_data`].
pub const MAX_LISTS: usize = 4096;
/// The same of what has a key in it.
pub const MAX_KEY: usize = 2048;

/// What one attacker does on one host; 0 means that no session is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for SessionId {
    type Err = ParseSessionError;

    fn from_str(text: &str) -> Result<SessionId, ParseSessionError> {
        let fine = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = fine.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(SessionId).ok_or(ParseSessionError)
    }
}

/// The text is no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session is 16 hexadecimal digits, such as 8f3a00c1d2e4b596")]
pub struct ParseSessionError;

/// One end of what happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Party {
    /// Network address, if the frame had one.
    pub ip: MaybeIp,
    /// MAC address as seen on the segment of the node that speaks; zero if unknown.
    pub mac: Mac,
    /// TCP or UDP port; 0 where there is none.
    pub l4_port: u16,
}

/// One thing that happened. See [`EventId`] for which fields an id fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing.
    pub id: EventId,
    /// When, on the machine's monotonic clock.
    #[serde(with = "micros")]
    pub at: Instant,
    /// The session it belongs to.
    pub session: SessionId,
    /// Index of the node in the plan; [`Event::NO_NODE`] outside of any.
    pub node: u16,
    /// Who did it.
    pub src: Party,
    /// To whom.
    pub dst: Party,
    /// IP protocol number; 0 where there is none.
    pub proto: u8,
    /// A small code whose meaning depends on the id (an ICMP type, a [`PortAnswer`], a [`DropReason`]). The high octet
    /// of a `tcp.probe` is the attacker's system, if it tells that: one of `emulate::OsFamily`.
    pub code: u16,
    /// Whether no record of its session was made before: each session is counted by this one.
    pub first: bool,
    /// How many frames or attempts this stands for.
    pub count: u64,
    /// Octets that the attacker sent.
    pub bytes_in: u64,
    /// Octets that we sent.
    pub bytes_out: u64,
}

impl Event {
    /// The node index of an event that no node emitted.
    pub const NO_NODE: u16 = u16::MAX;

    /// An event with every field but these at its default.
    #[inline(always)]
    pub fn new(id: EventId, at: Instant) -> Event {
        Event {
            id,
            at,
            session: SessionId(0),
            node: Event::NO_NODE,
            src: Party::default(),
            dst: Party::default(),
            proto: 0,
            code: 0,
            first: false,
            count: 1,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Whether a single frame from anywhere, its source forged, brings it about: see [`EventId::is_bulk`]. What
    /// services tell of datagrams counts, too; what they tell of connections does not.
    #[inline]
    pub fn is_bulk(&self) -> bool {
        const UDP: u8 = 17;
        self.id.is_bulk() || (self.proto == UDP && matches!(self.id, EventId::ServiceRequest | EventId::ServiceLogin))
    }
}

/// How a host's port met a SYN or a datagram (the low octet of `code` of `tcp.probe` and `udp.datagram`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum PortAnswer {
    /// RST or ICMP port unreachable.
    Closed = 0,
    /// SYN/ACK or a reply.
    Open = 1,
    /// Silence.
    Filtered = 2,
    /// SYN/ACK, then a window that never opens.
    Tarpit = 3,
    /// Held until the container has answered.
    Held = 4,
}

/// Why a population let go of a claimed address (`code` of `address.released`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Release {
    /// Its owner spoke.
    Owner = 0,
    /// Somebody who is about to have it tested whether it is free.
    Probe = 1,
    /// Nobody has spoken to it for long.
    Idle = 2,
    /// It gave way to another one that somebody looked for.
    Evicted = 3,
}

impl Release {
    /// The names of all of them, in the order of their codes.
    pub const NAMES: [&'static str; 4] = ["owner", "probe", "idle", "evicted"];
}

/// Why a container's gate kept a frame from everybody (`code` of `gate.block`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Blocked {
    /// An IP source that is not its own.
    SpoofedSource = 0,
    /// A source MAC that is not its own.
    ForeignMac = 1,
    /// ARP or neighbor discovery that claims another's address.
    Neighbor = 2,
    /// A way that the packet chose by itself.
    SourceRoute = 3,
    /// DHCP, as a server or to a single host.
    Dhcp = 4,
    /// What only routers say, or are asked by a single packet.
    RouterAdvert = 5,
    /// A redirect.
    Redirect = 6,
    /// What only queriers of groups say.
    Group = 7,
    /// A routing protocol.
    Routing = 8,
    /// More than its rate.
    Rate = 9,
    /// IPv6 fragments that could hide one of those above.
    Fragment = 10,
}

impl Blocked {
    /// All of them, in the order of their codes.
    pub const ALL: [Blocked; 11] = [
        Blocked::SpoofedSource,
        Blocked::ForeignMac,
        Blocked::Neighbor,
        Blocked::SourceRoute,
        Blocked::Dhcp,
        Blocked::RouterAdvert,
        Blocked::Redirect,
        Blocked::Group,
        Blocked::Routing,
        Blocked::Rate,
        Blocked::Fragment,
    ];

    /// The name in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Blocked::SpoofedSource => "spoofed-source",
            Blocked::ForeignMac => "foreign-mac",
            Blocked::Neighbor => "neighbor",
            Blocked::SourceRoute => "source-route",
            Blocked::Dhcp => "dhcp",
            Blocked::RouterAdvert => "router-advert",
            Blocked::Redirect => "redirect",
            Blocked::Group => "group",
            Blocked::Routing => "routing",
            Blocked::Rate => "rate",
            Blocked::Fragment => "fragment",
        }
    }
}

/// Where events go.
pub trait Sink {
    /// Takes an event and the octets that belong to it (cut to [`MAX_DATA`]).
    /// Never waits: an event that finds no room is counted as lost.
    fn emit(&mut self, event: &Event, data: &[u8]);

    /// For now that was all: whoever waits for events may look.
    fn flush(&mut self) {}
}

/// An event that a process without a ring (the keeper, the supervisor) tells the console.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// What happened.
    pub event: Event,
    /// What belongs to it, at most [`MAX_DATA`] octets.
    pub data: Vec<u8>,
}

/// Keeps everything, for tests and examples.
impl Sink for Vec<(Event, Vec<u8>)> {
    fn emit(&mut self, event: &Event, data: &[u8]) {
        self.push((*event, data[..data.len().min(MAX_DATA)].to_vec()));
    }
}

/// Keeps nothing, for benches.
impl Sink for () {
    fn emit(&mut self, _: &Event, _: &[u8]) {}
}

mod micros {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::wire::Instant;

    pub fn serialize<S: Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.total_micros())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        i64::deserialize(deserializer).map(Instant::from_micros)
    }
}
