//! Writers: headers put into a buffer, lengths and checksums filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{ETH, ethertype, proto};
use super::{Mac, checksum};

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
        let ip = &mut frame[ETH..ETH + 20];
        ip[0] = 0x45;
        ip[1] = self.tos;
        ip[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.ip_id.to_be_bytes());
        ip[6..8].copy_from_slice(&[if self.df { 0x40 } else { 0 }, 0]);
        ip[8] = self.ttl;
        ip[9] = self.proto;
        ip[10..12].fill(0);
        ip[12..16].copy_from_slice(&src.octets());
        ip[16..20].copy_from_slice(&dst.octets());
        let sum = checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
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
        let len = self.len();
        let at = headers.write(frame, len);
        let l4 = &mut frame[at..at + len];
        l4[0..2].copy_from_slice(&self.src.to_be_bytes());
        l4[2..4].copy_from_slice(&self.dst.to_be_bytes());
        l4[4..8].copy_from_slice(&self.seq.to_be_bytes());
        l4[8..12].copy_from_slice(&self.ack.to_be_bytes());
        let header = 20 + self.options.len();
        l4[12] = (header as u8 / 4) << 4;
        l4[13] = self.flags;
        l4[14..16].copy_from_slice(&self.window.to_be_bytes());
        l4[18..20].fill(0);
        l4[20..header].copy_from_slice(self.options);
        l4[header..].copy_from_slice(self.payload);
        headers.fill_checksum(l4);
        at + len
    }
}
