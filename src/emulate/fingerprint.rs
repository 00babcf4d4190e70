//! What a host answers to the probes of nmap's second-generation OS detection,
//! as plain data: which values make which answer is decided before
//! (`emulate::nmap`), how an answer is written is decided when the probe comes
//! ([`super::probe`]).
//!
//! The tests (SEQ, OPS, WIN, ECN, T1 to T7, U1, IE) and their attributes are those
//! of nmap's documentation, "Remote OS Detection".

use serde::{Deserialize, Serialize};

/// One option of a TCP header, or a part of one's padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Opt {
    /// End of the list (RFC 9293 §3.1), one octet.
    Eol,
    /// No operation, one octet.
    Nop,
    /// Maximum segment size, with its value.
    Mss(u16),
    /// Window scale (RFC 7323 §2), with its shift.
    Scale(u8),
    /// SACK permitted (RFC 2018 §2).
    Sack,
    /// Timestamps (RFC 7323 §3): whether the host's own value and the echo are what they should be, or zero.
    Timestamps {
        /// The host's clock, or 0.
        value: bool,
        /// The peer's value, or 0.
        echo: bool,
    },
}

impl Opt {
    /// Octets that it takes.
    pub fn len(self) -> usize {
        match self {
            Opt::Eol | Opt::Nop => 1,
            Opt::Mss(_) => 4,
            Opt::Scale(_) => 3,
            Opt::Sack => 2,
            Opt::Timestamps { .. } => 10,
        }
    }

    /// Never: every option has a kind.
    pub fn is_empty(self) -> bool {
        false
    }
}

/// Writes options into the 40 octets of a header; returns how many they take, padded to whole words. What does not
/// fit is left out. `ours` and `theirs` are the values of timestamps.
pub fn write_options(options: impl IntoIterator<Item = Opt>, ours: u32, theirs: u32, into: &mut [u8; 40]) -> usize {
    let mut at = 0;
    for option in options {
        let Some(rest) = into.get_mut(at..at + option.len()) else { break };
        match option {
            Opt::Eol => rest[0] = 0,
            Opt::Nop => rest[0] = 1,
            Opt::Mss(mss) => {
                rest[..2].copy_from_slice(&[2, 4]);
                rest[2..].copy_from_slice(&mss.to_be_bytes());
            }
            Opt::Scale(shift) => rest.copy_from_slice(&[3, 3, shift]),
            Opt::Sack => rest.copy_from_slice(&[4, 2]),
            Opt::Timestamps { value, echo } => {
                rest[..2].copy_from_slice(&[8, 10]);
                rest[2..6].copy_from_slice(&(if value { ours } else { 0 }).to_be_bytes());
                rest[6..].copy_from_slice(&(if echo { theirs } else { 0 }).to_be_bytes());
            }
        }
        at += option.len();
    }
    let end = at.next_multiple_of(4);
    into[at..end].fill(0);
    end
}

/// How initial sequence numbers follow each other within one scan: the six answers to SEQ have five gaps. What is
/// not answered at first has none, and neither has an answer whose number is always zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IsnPattern {
    /// Always this one; never 0, which nmap takes for silence.
    Constant(u32),
    /// So many more from one answer to the next, however long that takes.
    Steps([u32; 5]),
    /// So many a second in each gap, rounded to multiples of `gcd` that have no greater common divisor.
    Rates {
        /// What divides every difference.
        gcd: u32,
        /// Numbers a second.
        per_second: [u64; 5],
    },
}

/// How the IP identification of one kind of packet goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IdPattern {
    /// Always zero (`Z`).
    Zero,
    /// Always this number (a hexadecimal constant). Not for answers to SEQ: nmap takes equal packets for one.
    Constant(u16),
    /// So many more with each packet: 1 (`I`), 256 (`BI`), more than 1,000 (`RI`).
    Step(u16),
    /// High and low in turn (`RD`).
    Random,
    /// Steps that belong to no class, so that the attribute is left out.
    Unclassified,
}

/// What shows in the answers to SEQ, T5 to T7 and IE together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    /// Initial sequence numbers (SP, GCD, ISR).
    pub isn: IsnPattern,
    /// IP identification of answers to SEQ, and of all other TCP that is no RST of a closed port (TI).
    pub ti: IdPattern,
    /// Of the RSTs of a closed port (CI).
    pub ci: IdPattern,
    /// Of echo replies (II).
    pub ii: IdPattern,
    /// Whether echo replies count with TCP's counter (SS=S) or with one of their own, far above it (SS=O). Where
    /// they share it, the first of two replies is one of TCP's steps on, the second one of theirs.
    pub ii_shares_ti: bool,
    /// Ticks a second of the timestamp clock (TS); 0 where it stands, or there is none. Clocks that seem to be drawn
    /// anew for each connection have up to 2³⁴.
    pub ts_hz: u64,
}

/// The sequence number of an answer (S).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SeqNumber {
    /// Zero (`Z`).
    Zero,
    /// The probe's acknowledgment field (`A`).
    Ack,
    /// That and 1 (`A+`).
    AckPlus,
    /// The host's own (`O`).
    Own,
}

/// The acknowledgment field of an answer (A).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AckNumber {
    /// Zero (`Z`).
    Zero,
    /// The probe's sequence number (`S`).
    Seq,
    /// That and 1 (`S+`).
    SeqPlus,
    /// Something else (`O`).
    Other,
}

/// The answer to one TCP probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TcpAnswer {
    /// IP's don't-fragment bit (DF).
    pub df: bool,
    /// Initial TTL (T, TG).
    pub ttl: u8,
    /// Window (W).
    pub window: u16,
    /// Options (O), 40 octets at most, a multiple of 4.
    pub options: Vec<Opt>,
    /// Sequence number (S).
    pub seq: SeqNumber,
    /// Acknowledgment field (A).
    pub ack: AckNumber,
    /// The flags octet, ECE (0x40), URG (0x20) and CWR (0x80) included (F, CC).
    pub flags: u8,
    /// The reserved bit that RFC 9293 leaves next to CWR's octet is set (Q=R).
    pub reserved: bool,
    /// The urgent pointer is set without URG (Q=U).
    pub urgent: bool,
    /// Data of a RST, by whose CRC-32 it is told (RD); empty for none.
    pub data: Vec<u8>,
}

/// A field of the quoted header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Quoted {
    /// As it came.
    Same,
    /// This.
    Value(u16),
}

/// The IP checksum of the quoted header (RIPCK).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QuotedChecksum {
    /// That of the header as it is quoted (`G`).
    Good,
    /// Zero (`Z`).
    Zero,
    /// A wrong one (`I`).
    Wrong,
}

/// The answer to the UDP probe of a closed port (U1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UdpAnswer {
    /// IP's don't-fragment bit (DF).
    pub df: bool,
    /// Initial TTL (T, TG).
    pub ttl: u8,
    /// By how much the quoted TTL is less than the one that came: hops that the host seems to be farther away.
    pub quoted_ttl_less: u8,
    /// Total length of the IP packet (IPL): 56 for a quotation of 28 octets.
    pub total: u16,
    /// The last four octets of the ICMP header (UN).
    pub unused: u32,
    /// Total length in the quoted IP header (RIPL).
    pub quoted_total: Quoted,
    /// Identification in the quoted IP header (RID).
    pub quoted_id: Quoted,
    /// Checksum of the quoted IP header (RIPCK).
    pub quoted_checksum: QuotedChecksum,
    /// Checksum of the quoted UDP header (RUCK).
    pub quoted_udp_checksum: Quoted,
    /// Whether the quoted data are those that came (RUD=G).
    pub data_intact: bool,
}

/// The DF bit of an echo reply (DFI).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EchoDf {
    /// Always set (`Y`).
    Set,
    /// Never (`N`).
    Clear,
    /// The request's (`S`).
    Same,
    /// The other than the request's (`O`).
    Inverse,
}

/// The code of an echo reply (CD).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EchoCode {
    /// Always this one; 0 is `Z`.
    Value(u8),
    /// The request's (`S`).
    Same,
    /// The request's and 1 (`O`).
    Other,
}

/// The answer to an echo request (IE).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EchoAnswer {
    /// IP's don't-fragment bit (DFI).
    pub df: EchoDf,
    /// Initial TTL (T, TG).
    pub ttl: u8,
    /// ICMP's code (CD).
    pub code: EchoCode,
}

/// An answer to one of the six SYNs of SEQ: its options and its window, and whether the SYN of SEQ itself is
/// answered so or only its repetition (OPS), where timestamps in it would contradict TS.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SynAnswer {
    /// Options (O1 to O6).
    pub options: Vec<Opt>,
    /// Window (W1 to W6).
    pub window: u16,
    /// The first SYN is left without an answer, its repetition is not.
    pub only_repeated: bool,
}

/// All of it. `None` is silence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fingerprint {
    /// What the answers show together.
    pub seq: Sequence,
    /// Answers to SEQ and OPS 1 to 6; `None` if SYNs with such options get no answer.
    pub syn: Option<Box<[SynAnswer; 6]>>,
    /// To T1, which is SEQ's first SYN: `options` and `window` are those of `syn`.
    pub t1: Option<TcpAnswer>,
    /// To the SYN with ECN's flags.
    pub ecn: Option<TcpAnswer>,
    /// To T2 (no flags), T3 (SYN, FIN, URG, PSH) and T4 (ACK) at an open port.
    pub open: [Option<TcpAnswer>; 3],
    /// To T5 (SYN), T6 (ACK) and T7 (FIN, PSH, URG) at a closed one.
    pub closed: [Option<TcpAnswer>; 3],
    /// To U1.
    pub udp: Option<UdpAnswer>,
    /// To both requests of IE.
    pub echo: Option<EchoAnswer>,
}
