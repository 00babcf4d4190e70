//! What a sender on this machine leaves to the device: the checksum that is
//! filled in at the end, and the cutting of a super-frame into segments
//! (`Documentation/networking/segmentation-offloads.rst` of the kernel).
//!
//! veth peers and containers hand over both. The fabric passes such frames on as
//! they are; here is what does the device's work where there is no device.

use super::checksum;

/// Fills in the checksum at `start + offset`, which holds the pseudo header's
/// sum, over everything from `start` on. Returns `false`, changing nothing, if
/// the frame does not reach that far.
pub fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let at = start.saturating_add(offset);
    if at + 2 > frame.len() {
        return false;
    }
    // Offset 6 is UDP's field, where 0 stands for none at all (RFC 768).
    let value = nonzero(checksum::finish(checksum::sum(0, &frame[start..])), offset == 6);
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    true
}

fn nonzero(checksum: u16, udp: bool) -> u16 {
    if udp && checksum == 0 { 0xffff } else { checksum }
}

/// The segments of a TCP or UDP super-frame.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
    /// Where the IP header begins.
    l3: usize,
    /// Where the TCP or UDP header begins.
    l4: usize,
    v4: bool,
    udp: bool,
    /// Octets of payload that are in earlier segments.
    done: usize,
    index: u16,
    finished: bool,
}

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

impl<'a> Segments<'a> {
    /// Takes `frame` apart; each segment gets `size` octets of its payload.
    ///
    /// `None` if it is not what can be segmented: neither TCP nor UDP over IPv4
    /// or IPv6, a fragment, or headers that contradict themselves.
    pub fn new(frame: &'a [u8], size: usize) -> Option<Segments<'a>> {
        let half = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let mut l3 = 14;
        while matches!(half(l3 - 2)?, 0x8100 | 0x88a8) && l3 < 22 {
            l3 += 4;
        }
        let v4 = match half(l3 - 2)? {
            0x0800 => true,
            0x86dd => false,
            _ => return None,
        };
        let (l4, protocol, end) = if v4 { ipv4(frame.get(l3..)?)? } else { ipv6(frame.get(l3..)?)? };
        let (l4, end) = (l3 + l4, l3 + end);
        let udp = match protocol {
            6 => false,
            17 => true,
            _ => return None,
        };
        let header = if udp { 8 } else { usize::from(frame.get(l4 + 12)? >> 4) * 4 };
        if (!udp && header < 20) || l4 + header > end || size == 0 {
            return None;
        }
        let (headers, payload) = (&frame[..l4 + header], &frame[l4 + header..end]);
        Some(Segments { headers, payload, size, l3, l4, v4, udp, done: 0, index: 0, finished: false })
    }

    /// Where the TCP header begins and where it ends, in octets from the start of the frame; `None` for UDP.
    pub fn tcp_at(&self) -> Option<(usize, usize)> {
        (!self.udp).then_some((self.l4, self.headers.len()))
    }

    /// Whether it is IPv4.
    pub fn is_v4(&self) -> bool {
        self.v4
    }

    /// Where the payload ends, in octets from the start of the frame.
    pub fn end(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// Length of the longest segment's frame, in octets.
    pub fn frame_len(&self) -> usize {
        self.headers.len() + self.size.min(self.payload.len())
    }

    /// Writes the next segment's frame into `out`, checksums included; returns
    /// its length. `None` after the last one.
    ///
    /// # Panics
    /// If `out` is shorter than [`Segments::frame_len`].
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.finished {
            return None;
        }
        let payload = &self.payload[self.done..];
        let part = &payload[..payload.len().min(self.size)];
        let last = part.len() == payload.len();
        let len = self.headers.len() + part.len();
        let out = &mut out[..len];
        let (headers, body) = out.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        body.copy_from_slice(part);
        self.fix_l4(out, last);
        self.fix_l3(out);
        self.done += part.len();
        self.index = self.index.wrapping_add(1);
        self.finished = last;
        Some(len)
    }

    fn fix_l3(&self, out: &mut [u8]) {
        let ip = &mut out[self.l3..];
        let len = ip.len();
        if self.v4 {
            ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(self.index);
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].fill(0);
            let header = &mut ip[..self.l4 - self.l3];
            let checksum = checksum::finish(checksum::sum(0, header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            ip[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        }
    }

    fn fix_l4(&self, out: &mut [u8], last: bool) {
        let addresses = if self.v4 { self.l3 + 12..self.l3 + 20 } else { self.l3 + 8..self.l3 + 40 };
        let pseudo = checksum::sum(0, &out[addresses]);
        let l4 = &mut out[self.l4..];
        let len = l4.len();
        let (protocol, at) = if self.udp { (17, 6) } else { (6, 16) };
        if self.udp {
            l4[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            if self.v4 && l4[6..8] == [0, 0] {
                return;
            }
        } else {
            let sequence = u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]).wrapping_add(self.done as u32);
            l4[4..8].copy_from_slice(&sequence.to_be_bytes());
            if !last {
                l4[13] &= !FIN_PSH;
            }
            if self.done > 0 {
                l4[13] &= !CWR;
            }
        }
        l4[at..at + 2].fill(0);
        let sum = checksum::sum(pseudo + protocol + len as u64, l4);
        let checksum = nonzero(checksum::finish(sum), self.udp);
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Length of the header, protocol and end of the packet.
fn ipv4(ip: &[u8]) -> Option<(usize, u8, usize)> {
    let first = ip.first_chunk::<20>()?;
    let (header, len) = (usize::from(first[0] & 15) * 4, usize::from(u16::from_be_bytes([first[2], first[3]])));
    let fragment = u16::from_be_bytes([first[6], first[7]]) & 0x3fff != 0;
    let good = first[0] >> 4 == 4 && header >= 20 && len >= header && len <= ip.len() && !fragment;
    good.then_some((header, first[9], len))
}

/// Length of the headers, extension headers included, protocol and end of the packet.
fn ipv6(ip: &[u8]) -> Option<(usize, u8, usize)> {
    let first = ip.first_chunk::<40>()?;
    let end = 40 + usize::from(u16::from_be_bytes([first[4], first[5]]));
    if first[0] >> 4 != 6 || end > ip.len() {
        return None;
    }
    let (mut next, mut at) = (first[6], 40);
    // Hop-by-hop options, routing, destination options.
    while matches!(next, 0 | 43 | 60) {
        let extension = ip.get(at..at + 2)?;
        next = extension[0];
        at += (usize::from(extension[1]) + 1) * 8;
    }
    (at <= end).then_some((at, next, end))
}

#[cfg(test)]
#[path = "gso_tests.rs"]
mod tests;
