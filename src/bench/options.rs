//! What to send, to whom, how fast and how long.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::wire::Mac;

/// How much to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Frames a second; `None` for as many as the machine sends.
    pub rate: Option<u64>,
    /// Longest time of sending.
    pub duration: Duration,
    /// Frames to send at most.
    pub count: Option<u64>,
    /// How long late answers are waited for after the last frame.
    pub wait: Duration,
    /// Whether to look for answers without ever sleeping: a processor is busy all
    /// the time, and an answer is not kept waiting for a wake-up.
    pub spin: bool,
}

/// What every target is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// ICMP or ICMPv6 echo.
    Echo,
    /// Who has the address: ARP, or neighbor solicitation (RFC 4861).
    Arp,
    /// A TCP SYN.
    Syn {
        /// Destination port.
        port: u16,
    },
    /// A whole TCP connection, from SYN to FIN.
    Handshake {
        /// Destination port.
        port: u16,
        /// What is sent once the connection stands; empty to wait for a banner.
        request: Vec<u8>,
    },
}

impl Question {
    /// The stable name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Question::Echo => "echo",
            Question::Arp => "arp",
            Question::Syn { .. } => "syn",
            Question::Handshake { .. } => "handshake",
        }
    }
}

/// How frames get to the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The targets are on the link; each one's MAC is asked for first. Refused if
    /// the interface has addresses and the prefix belongs to none of them.
    Link,
    /// The same, whatever the interface's addresses are.
    SurelyLink,
    /// All by a router on the link, whose MAC is asked for first.
    Via(IpAddr),
    /// All to this MAC.
    Mac(Mac),
}

/// Whom to ask what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// What they are asked.
    pub question: Question,
    /// Whom.
    pub prefix: IpNet,
    /// How frames get there.
    pub route: Route,
    /// Addresses to send from.
    pub sources: u64,
    /// Where those begin; the interface's own address if there is none.
    pub source_prefix: Option<IpNet>,
    /// Whether every target is asked once only.
    pub once: bool,
}

/// Where frames go by which forwarding is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramesTo {
    /// Destination.
    pub mac: Mac,
    /// Octets on the wire, FCS included: 64 is the least that Ethernet has.
    pub size: usize,
    /// Source MACs that take turns.
    pub flows: u64,
    /// Another interface of the same network namespace at which they arrive.
    pub count_on: Option<String>,
}
