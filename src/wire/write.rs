//! Writers: headers put into a buffer, lengths and checksums filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{ETH, ethertype, proto};
use super::{Mac, checksum};

/// An IPv4 header without options, as the five words that it is on the wire.
///
/// The checksum comes from the words, not from what was written: reading in
/// large pieces what was just written in small ones stalls a processor for
/// longer than the rest of an answer takes.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Words {
    /// TOS.
    pub tos: u8,
    /// Length of header and payload.
    pub total: u16,
    /// Identification.
    pub ip_id: u16,
    /// Don't fragment.
    pub df: bool,
    /// TTL.
    pub ttl: u8,
    /// Protocol of the payload.
    pub proto: u8,
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
}

impl Ipv4Words {
    /// Writes the header, its checksum included.
    #[inline]
    pub fn write(&self, header: &mut [u8; 20]) {
        let words = [
            0x4500_0000 | u32::from(self.tos) << 16 | u32::from(self.total),
            u32::from(self.ip_id) << 16 | if self.df { 0x4000 } else { 0 },
            u32::from(self.ttl) << 24 | u32::from(self.proto) << 16,
            self.src,
            self.dst,
        ];
        let sum = checksum::finish(words.iter().map(|word| u64::from(*word)).sum());
        for (into, word) in header.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_be_bytes());
        }
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A TCP header without options, as words; see [`Ipv4Words`].
#[derive(Clone, Copy, Debug)]
pub struct TcpWords {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Length of the header with the options behind it.
    pub header_len: u8,
    /// Flags.
    pub flags: u8,
    /// Window field, not scaled.
    pub window: u16,
}

impl TcpWords {
    /// Writes the header. `rest` is the sum of the pseudo header and of what
    /// follows the twenty octets.
    #[inline]
    pub fn write(&self, header: &mut [u8; 20], rest: u64) {
        let words = [
            u32::from(self.src) << 16 | u32::from(self.dst),
            self.seq,
            self.ack,
            u32::from(self.header_len / 4) << 28 | u32::from(self.flags) << 16 | u32::from(self.window),
            0,
        ];
        let sum = checksum::finish(words.iter().map(|word| u64::from(*word)).sum::<u64>() + rest);
        for (into, word) in header.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_be_bytes());
        }
        header[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// An Ethernet and IP header to be written.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
    /// Source address; its family decides which IP is written.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Protocol of the payload.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4 identification.
    pub ip_id: u16,
    /// IPv4 don't fragment.
    pub df: bool,
}

impl Headers {
    /// Octets of the Ethernet and IP headers.
    #[inline]
    pub fn len(&self) -> usize {
        ETH + if self.src.is_ipv4() { 20 } else { 40 }
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the headers for a payload of `payload` octets to the start of
    /// `frame`; returns the offset of the payload.
    ///
    /// # Panics
    /// If `frame` does not hold the headers.
    #[inline]
    pub fn write(&self, frame: &mut [u8], payload: usize) -> usize {
        super::set_macs(frame, self.dst_mac, self.src_mac);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.write_v4(frame, payload, src, dst),
            (src, dst) => self.write_v6(frame, payload, v6(src), v6(dst)),
        }
    }

    #[inline]
    fn write_v4(&self, frame: &mut [u8], payload: usize, src: Ipv4Addr, dst: Ipv4Addr) -> usize {
        frame[12..14].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        let words = Ipv4Words {
            tos: self.tos,
            total: (20 + payload) as u16,
            ip_id: self.ip_id,
            df: self.df,
            ttl: self.ttl,
            proto: self.proto,
            src: src.to_bits(),
            dst: dst.to_bits(),
        };
        if let Some(header) = frame[ETH..].first_chunk_mut() {
            words.write(header);
        }
        ETH + 20
    }

    fn write_v6(&self, frame: &mut [u8], payload: usize, src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        frame[12..14].copy_from_slice(&ethertype::IPV6.to_be_bytes());
        let ip = &mut frame[ETH..ETH + 40];
        ip[..4].copy_from_slice(&(0x6000_0000 | u32::from(self.tos) << 20).to_be_bytes());
        ip[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
        ip[6] = self.proto;
        ip[7] = self.ttl;
        ip[8..24].copy_from_slice(&src.octets());
        ip[24..40].copy_from_slice(&dst.octets());
        ETH + 40
    }

    /// Writes the headers and a UDP datagram between `ports` (source and destination) to the start of `frame`; returns the
    /// length of it all.
    ///
    /// # Panics
    /// If `frame` does not hold them.
    pub fn write_udp(&self, ports: (u16, u16), payload: &[u8], frame: &mut [u8]) -> usize {
        let len = 8 + payload.len();
        let at = self.write(frame, len);
        let message = &mut frame[at..at + len];
        message[..2].copy_from_slice(&ports.0.to_be_bytes());
        message[2..4].copy_from_slice(&ports.1.to_be_bytes());
        message[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        message[8..].copy_from_slice(payload);
        self.fill_checksum(message);
        at + len
    }

    /// Fills in the checksum of the TCP, UDP or ICMP message at `l4`.
    #[inline]
    pub fn fill_checksum(&self, l4: &mut [u8]) {
        let at = match self.proto {
            proto::TCP => 16,
            proto::UDP => 6,
            _ => 2,
        };
        l4[at..at + 2].fill(0);
        let start =
            if self.proto == proto::ICMP { 0 } else { checksum::pseudo(self.src, self.dst, self.proto, l4.len()) };
        let sum = match checksum::finish(checksum::sum(start, l4)) {
            // In UDP zero would mean that there is no checksum (RFC 768).
            0 if self.proto == proto::UDP => 0xffff,
            sum => sum,
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Sets the flow label (RFC 6437), 20 bits, of a frame that is IPv6; no other frame changes. No checksum covers it.
#[inline]
pub fn set_flow_label(frame: &mut [u8], label: u32) {
    if super::ethertype_of(frame) == ethertype::IPV6
        && let Some(word) = frame.get_mut(ETH..).and_then(|ip| ip.first_chunk_mut::<4>())
    {
        *word = ((u32::from_be_bytes(*word) & 0xfff0_0000) | (label & 0x000f_ffff)).to_be_bytes();
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A TCP segment to be written behind its [`Headers`].
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field, not scaled.
    pub window: u16,
    /// Options, a multiple of four octets, at most 40.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// Octets of header and data.
    #[inline]
    pub fn len(&self) -> usize {
        20 + self.options.len() + self.payload.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes a whole frame; returns its length.
    ///
    /// # Panics
    /// If `frame` does not hold it.
    #[inline]
    pub fn write(&self, headers: &Headers, frame: &mut [u8]) -> usize {
        // Options are a multiple of four octets: sums of both parts add up.
        self.write_with(headers, frame, |pseudo| checksum::sum(checksum::sum(pseudo, self.options), self.payload))
    }

    /// The same, but leaves the checksum to a device: its field has the sum of the pseudo header.
    ///
    /// # Panics
    /// If `frame` does not hold it.
    pub fn write_unsummed(&self, headers: &Headers, frame: &mut [u8]) -> usize {
        let mut begun = 0;
        let end = self.write_with(headers, frame, |pseudo| {
            begun = !checksum::finish(pseudo);
            0
        });
        let field = end - self.len() + 16;
        frame[field..field + 2].copy_from_slice(&begun.to_be_bytes());
        end
    }

    /// Writes it with the checksum that `rest`, given the pseudo header's sum, makes together with the header's words.
    #[inline]
    fn write_with(&self, headers: &Headers, frame: &mut [u8], rest: impl FnOnce(u64) -> u64) -> usize {
        let len = self.len();
        let at = headers.write(frame, len);
        let header = 20 + self.options.len();
        let words = TcpWords {
            src: self.src,
            dst: self.dst,
            seq: self.seq,
            ack: self.ack,
            header_len: header as u8,
            flags: self.flags,
            window: self.window,
        };
        let l4 = &mut frame[at..at + len];
        l4[20..header].copy_from_slice(self.options);
        l4[header..].copy_from_slice(self.payload);
        if let Some(into) = l4.first_chunk_mut() {
            words.write(into, rest(checksum::pseudo(headers.src, headers.dst, proto::TCP, len)));
        }
        at + len
    }
}
