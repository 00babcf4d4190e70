//! Segments as connections take and give them: parsed, without the headers that
//! are the personality's business.

use crate::wire::{TcpHeader, TcpOptions, flag};

/// What a peer's SYN asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynInfo {
    /// Its initial sequence number.
    pub isn: u32,
    /// Its window, not scaled.
    pub window: u16,
    /// Its options.
    pub options: TcpOptions,
}

/// A received segment.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field as received.
    pub window: u16,
    /// Options as received; a SYN's matter, and SACK blocks.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// The segment that is `l4`, whose header is `tcp`.
    #[inline]
    pub fn of(tcp: &TcpHeader, l4: &'a [u8]) -> Incoming<'a> {
        let (options, payload) = (&l4[20..tcp.len], &l4[tcp.len..]);
        Incoming { seq: tcp.seq, ack: tcp.ack, flags: tcp.flags, window: tcp.window, options, payload }
    }
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window in octets, not scaled; at most 65,535.
    pub window: u32,
    /// What was received out of order (RFC 2018 §3): at most four ranges, of which as many are named as there is
    /// room for. Only where the peer permits it.
    pub sack: &'a [[u32; 2]],
    /// Data.
    pub payload: &'a [u8],
    /// If it stands for several segments that follow each other: octets of data in each but the last one. Otherwise 0.
    pub mss: u16,
}

impl Outgoing<'_> {
    /// The segments that it stands for, one by one.
    pub fn apart(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let size = usize::from(self.mss).max(1);
        let last = self.payload.len().div_ceil(size).saturating_sub(1);
        self.payload.chunks(size).enumerate().map(move |(at, payload)| Outgoing {
            seq: self.seq.wrapping_add((at * size) as u32),
            flags: if at == last { self.flags } else { self.flags & !flag::PSH },
            payload,
            mss: 0,
            ..*self
        })
    }
}
