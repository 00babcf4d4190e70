//! How an operating system behaves at layers 3 and 4.
//!
//! The built-in personalities are derived from documented behavior: RFC 7323
//! (timestamps, scaling), RFC 6864 and RFC 791 (identification), RFC 6528 (ISN)
//! and each system's published defaults.

use serde::{Deserialize, Serialize};

/// How the IPv4 identification field is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpIdClass {
    /// Always zero.
    Zero,
    /// One counter for all of the host's packets.
    Shared,
    /// A counter for each peer.
    PerPeer,
    /// Unpredictable.
    Random,
}

/// A word or more of the options of a SYN/ACK, padded as systems pad it. What the peer did not
/// offer is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynAckOption {
    /// `MSS`.
    Mss,
    /// `NOP, window scale`.
    WindowScale,
    /// `NOP, NOP, SACK permitted`.
    SackPermitted,
    /// `SACK permitted, timestamps`; if only one of them is in use, two `NOP` take the other's place.
    SackTimestamps,
}

/// The personalities that are built in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Builtin {
    /// A current Linux server.
    Linux,
    /// Windows 10, 11 and Server 2016 to 2022.
    Windows,
    /// A Cisco IOS router or switch.
    CiscoIos,
}

/// The values that make a personality.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Personality {
    /// Its name in a topology.
    pub name: &'static str,
    /// Initial TTL and hop limit of TCP and UDP.
    pub ttl: u8,
    /// Initial TTL of ICMP.
    pub icmp_ttl: u8,
    /// MSS that a SYN/ACK announces on Ethernet over IPv4; 20 less over IPv6.
    pub mss: u16,
    /// Window field of a SYN/ACK.
    pub syn_ack_window: u16,
    /// Window scale that it offers.
    pub window_scale: u8,
    /// Options of a SYN/ACK, in their order.
    pub syn_ack_options: &'static [SynAckOption],
    /// Ticks of the timestamp clock per second; 0 if it has none.
    pub ts_hz: u32,
    /// Whether the timestamp clock is offset for each peer.
    pub ts_per_peer: bool,
    /// IP identification of packets with DF.
    pub ip_id: IpIdClass,
    /// IP identification of SYN/ACKs, where it is another.
    pub syn_ack_ip_id: IpIdClass,
    /// DF on TCP.
    pub tcp_df: bool,
    /// DF on a RST.
    pub rst_df: bool,
    /// DF of an echo reply: `None` copies the request's.
    pub echo_df: Option<bool>,
    /// Whether the code of an echo reply is 0 even if the request's was not.
    pub echo_code_zero: bool,
    /// Octets of the offending packet that an ICMP error quotes behind its IP header.
    pub icmp_quote: u16,
    /// TOS of an ICMP error.
    pub icmp_error_tos: u8,
    /// How often, and how long after the one before, a SYN/ACK is sent again, in milliseconds.
    pub syn_ack_retries_ms: &'static [u32],
}

use SynAckOption::{Mss, SackPermitted, SackTimestamps, WindowScale};

const LINUX: Personality = Personality {
    name: "linux",
    ttl: 64,
    icmp_ttl: 64,
    mss: 1460,
    syn_ack_window: 65160,
    window_scale: 7,
    syn_ack_options: &[Mss, SackTimestamps, WindowScale],
    ts_hz: 1000,
    ts_per_peer: true,
    ip_id: IpIdClass::PerPeer,
    syn_ack_ip_id: IpIdClass::Zero,
    tcp_df: true,
    rst_df: true,
    echo_df: Some(false),
    echo_code_zero: false,
    // So that the whole does not exceed 576 octets.
    icmp_quote: 528,
    icmp_error_tos: 0xc0,
    syn_ack_retries_ms: &[1000, 2000, 4000, 8000, 16000],
};

const WINDOWS: Personality = Personality {
    name: "windows",
    ttl: 128,
    icmp_ttl: 128,
    mss: 1460,
    syn_ack_window: 65535,
    window_scale: 8,
    syn_ack_options: &[Mss, WindowScale, SackPermitted],
    ts_hz: 0,
    ts_per_peer: false,
    ip_id: IpIdClass::Shared,
    syn_ack_ip_id: IpIdClass::Shared,
    tcp_df: true,
    rst_df: true,
    echo_df: Some(false),
    echo_code_zero: true,
    icmp_quote: 548,
    icmp_error_tos: 0,
    syn_ack_retries_ms: &[3000, 6000],
};

const CISCO_IOS: Personality = Personality {
    name: "cisco-ios",
    ttl: 255,
    icmp_ttl: 255,
    mss: 536,
    syn_ack_window: 4128,
    window_scale: 0,
    syn_ack_options: &[Mss],
    ts_hz: 0,
    ts_per_peer: false,
    ip_id: IpIdClass::Random,
    syn_ack_ip_id: IpIdClass::Random,
    tcp_df: false,
    rst_df: false,
    echo_df: None,
    echo_code_zero: false,
    icmp_quote: 8,
    icmp_error_tos: 0,
    syn_ack_retries_ms: &[2000, 4000, 8000],
};

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 3] = [Builtin::Linux, Builtin::Windows, Builtin::CiscoIos];

    /// Its values.
    #[inline]
    pub fn get(self) -> &'static Personality {
        match self {
            Builtin::Linux => &LINUX,
            Builtin::Windows => &WINDOWS,
            Builtin::CiscoIos => &CISCO_IOS,
        }
    }

    /// The one whose name is `name`.
    pub fn by_name(name: &str) -> Option<Builtin> {
        Builtin::ALL.into_iter().find(|p| p.get().name == name)
    }
}
