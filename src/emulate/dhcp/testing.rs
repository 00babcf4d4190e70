//! A server's words, for tests.

use std::net::Ipv4Addr;

use crate::wire::Mac;

/// An option.
pub(crate) fn option(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind, data.len() as u8], data].concat()
}

/// A server's message with these options and nothing else but its type.
pub(crate) fn reply(kind: u8, (xid, mac): (u32, Mac), ip: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 240];
    payload[..3].copy_from_slice(&[2, 1, 6]);
    payload[4..8].copy_from_slice(&xid.to_be_bytes());
    payload[16..20].copy_from_slice(&ip.octets());
    payload[28..34].copy_from_slice(&mac.0);
    payload[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    payload.extend_from_slice(&option(53, &[kind]));
    payload.extend_from_slice(options);
    payload.push(255);
    payload
}
