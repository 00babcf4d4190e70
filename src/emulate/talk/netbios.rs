//! NetBIOS over UDP (RFC 1001, RFC 1002): the registration of names, and the announcement of a host to
//! the browser of its workgroup ([MS-BRWS] §2.2.1) by a mailslot ([MS-MAIL] §2.2.1); questions for names, and what is
//! answered to them.

use std::net::Ipv4Addr;

use crate::wire::{Mac, be16};

/// Port of the name service.
pub const NAME_PORT: u16 = 137;
/// Port of the datagram service.
pub const DATAGRAM_PORT: u16 = 138;
/// The workgroup that Windows proposes.
pub const WORKGROUP: &str = "WORKGROUP";

/// The service that a name stands for: its sixteenth octet.
pub mod suffix {
    /// A workstation, or a workgroup.
    pub const WORKSTATION: u8 = 0x00;
    /// A file server.
    pub const SERVER: u8 = 0x20;
    /// The workgroup's master browser.
    pub const MASTER: u8 = 0x1d;
    /// Those who would elect it.
    pub const ELECTION: u8 = 0x1e;
}

/// A question for who has a name.
pub(super) const NAME: u16 = 0x20;
/// A question for the names that a node has.
pub(super) const STATUS: u16 = 0x21;
/// The name by which a node is asked for its names, whoever it is (RFC 1001 §17.3.1).
pub(super) const ANYBODY: [u8; 16] = *b"*\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Octets of an encoded name.
const ENCODED: usize = 34;
/// Seconds that a name is good for, as Windows writes it.
const TTL: [u8; 4] = [0, 0x04, 0x93, 0xe0];

const MAILSLOT: &[u8] = b"\\MAILSLOT\\BROWSE\0";

/// Fifteen octets in capitals, padded with spaces, and the suffix.
pub(super) fn padded(name: &str, suffix: u8) -> [u8; 16] {
    let mut octets = [b' '; 16];
    for (into, octet) in octets[..15].iter_mut().zip(name.bytes()) {
        *into = octet.to_ascii_uppercase();
    }
    octets[15] = suffix;
    octets
}

/// A name in the first-level encoding (RFC 1001 §14.1): each half of an octet a letter from `A` on.
fn encode(out: &mut Vec<u8>, name: &[u8; 16]) {
    out.push(32);
    out.extend(name.iter().flat_map(|octet| [b'A' + (octet >> 4), b'A' + (octet & 15)]));
    out.push(0);
}

/// What a query asks for: a name and the type (RFC 1002 §4.2.12, §4.2.17). `None` if it is no query of one question
/// for a name without a scope.
pub(super) fn question(message: &[u8]) -> Option<([u8; 16], u16)> {
    // Not a response, operation 0.
    if message.len() < 12 + ENCODED + 4 || be16(message, 2) & 0xf800 != 0 || be16(message, 4) != 1 {
        return None;
    }
    let (encoded, fixed) = message[12..].split_at(ENCODED);
    if encoded[0] != 32 || encoded[ENCODED - 1] != 0 || be16(fixed, 2) != 1 {
        return None;
    }
    let mut name = [0; 16];
    for (into, halves) in name.iter_mut().zip(encoded[1..].chunks_exact(2)) {
        let half = |letter: u8| letter.checked_sub(b'A').filter(|half| *half < 16);
        *into = half(halves[0])? << 4 | half(halves[1])?;
    }
    Some((name, be16(fixed, 0)))
}

/// A response with authority, whose only record answers for `name`.
fn response(out: &mut Vec<u8>, id: u16, flags: u16, name: &[u8; 16], kind: u16, ttl: [u8; 4], data: &[u8]) {
    out.clear();
    for word in [id, flags, 0, 1, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    encode(out, name);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&ttl);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// That the host at `ip` has `name` for itself (RFC 1002 §4.2.13), as a B node.
pub(super) fn positive(out: &mut Vec<u8>, id: u16, name: &[u8; 16], ip: Ipv4Addr) {
    let [a, b, c, d] = ip.octets();
    response(out, id, 0x8500, name, NAME, TTL, &[0, 0, a, b, c, d]);
}

/// All names of a host (RFC 1002 §4.2.18), to one who asked for `asked`, and its MAC. All statistics are zero, as
/// Windows has them.
pub(super) fn status(out: &mut Vec<u8>, id: u16, asked: &[u8; 16], host: &str, mac: Mac) {
    // Active, a B node; and of a group.
    let (unique, group) = (0x0400u16, 0x8400u16);
    let names = [
        (host, suffix::WORKSTATION, unique),
        (WORKGROUP, suffix::WORKSTATION, group),
        (host, suffix::SERVER, unique),
        (WORKGROUP, suffix::ELECTION, group),
    ];
    let mut data = vec![names.len() as u8];
    for (name, suffix, flags) in names {
        data.extend_from_slice(&padded(name, suffix));
        data.extend_from_slice(&flags.to_be_bytes());
    }
    data.extend_from_slice(&mac.0);
    data.extend_from_slice(&[0; 40]);
    response(out, id, 0x8400, asked, STATUS, [0; 4], &data);
}

/// A broadcast that claims a name (RFC 1002 §4.2.2), one of a `group` perhaps.
pub fn registration(out: &mut Vec<u8>, id: u16, (name, suffix): (&str, u8), group: bool, ip: Ipv4Addr) {
    out.clear();
    // Registration, recursion desired, broadcast; one question, one additional record.
    for word in [id, 0x2910, 1, 0, 0, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    encode(out, &padded(name, suffix));
    // NB, IN; the record's name is the question's; a TTL of 300,000 s as Windows writes it; six octets.
    out.extend_from_slice(&[0, 0x20, 0, 1, 0xc0, 12, 0, 0x20, 0, 1]);
    out.extend_from_slice(&TTL);
    out.extend_from_slice(&[0, 6]);
    out.extend_from_slice(&[if group { 0x80 } else { 0 }, 0]);
    out.extend_from_slice(&ip.octets());
}

/// A host announcement to the master browser; the next follows after `period_ms`.
pub fn announcement(out: &mut Vec<u8>, id: u16, name: &str, ip: Ipv4Addr, period_ms: u32, version: (u8, u8)) {
    out.clear();
    // A datagram to a group, the only fragment, of a B node (RFC 1002 §4.4.1).
    out.extend_from_slice(&[0x11, 0x02]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&DATAGRAM_PORT.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let names_at = out.len();
    encode(out, &padded(name, suffix::SERVER));
    encode(out, &padded(WORKGROUP, suffix::MASTER));
    let smb_at = out.len();

    let mut frame = [0; 32];
    // Host announcement; how often it was updated.
    frame[..2].copy_from_slice(&[1, 0]);
    frame[2..6].copy_from_slice(&period_ms.to_le_bytes());
    frame[6..22].copy_from_slice(&padded_with_nul(name));
    frame[22..24].copy_from_slice(&[version.0, version.1]);
    // Workstation, server, NT; the browser protocol's version and signature. No comment.
    frame[24..28].copy_from_slice(&0x0000_1003u32.to_le_bytes());
    frame[28..32].copy_from_slice(&[15, 1, 0x55, 0xaa]);
    let data = frame.len() as u16 + 1;

    out.extend_from_slice(b"\xffSMB\x25");
    out.extend_from_slice(&[0; 27]);
    let data_offset = 32 + 1 + 2 * 17 + 2 + MAILSLOT.len() as u16;
    out.push(17);
    // Counts of parameters and data, and what comes back: nothing.
    for word in [0, data, 0, 0, 0, 0, 1000, 0, 0, 0, 0, data, data_offset] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    // Three words of set-up: write to a mailslot, priority 1, unreliable.
    for word in [3u16, 1, 1, 2, MAILSLOT.len() as u16 + data] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    debug_assert_eq!(out.len() - smb_at + MAILSLOT.len(), usize::from(data_offset));
    out.extend_from_slice(MAILSLOT);
    out.extend_from_slice(&frame);
    out.push(0);
    let length = (out.len() - names_at) as u16;
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

fn padded_with_nul(name: &str) -> [u8; 16] {
    let mut octets = [0; 16];
    for (into, octet) in octets[..15].iter_mut().zip(name.bytes()) {
        *into = octet.to_ascii_uppercase();
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_the_rfc_shows() {
        let mut out = Vec::new();
        // The example of RFC 1001 §14.1.
        encode(&mut out, &padded("FRED", 0x20));
        assert_eq!(out, b"\x20EGFCEFEECACACACACACACACACACACACA\0");
        out.clear();
        encode(&mut out, &padded("a name that is too long", 0x1d));
        assert_eq!((out.len(), &out[31..33]), (34, &b"BN"[..]));
    }

    #[test]
    fn lengths_add_up() {
        let mut out = Vec::new();
        registration(&mut out, 7, ("pc", suffix::WORKSTATION), false, [10, 0, 0, 7].into());
        assert_eq!((out.len(), &out[out.len() - 6..]), (68, &[0, 0, 10, 0, 0, 7][..]));
        announcement(&mut out, 7, "pc", [10, 0, 0, 7].into(), 60_000, (10, 0));
        let length = usize::from(u16::from_be_bytes([out[10], out[11]]));
        assert_eq!(length, out.len() - 14);
    }
}
