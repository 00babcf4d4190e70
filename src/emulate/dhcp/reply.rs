//! What a server says, read and judged.
//!
//! Anybody on the segment can pass for a server. What is read is the few options that a lease consists of, each at most
//! once; what the fields of the server's and the file's name hold is never looked at, wherever option 52 points to:
//! a lease that cannot be understood without them is refused.

use std::net::Ipv4Addr;

use super::message::MAGIC;
use crate::wire::{ArpHardware, DhcpMessageType, DhcpOpCode, DhcpPacket, Mac};

/// What a server may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

/// What a server said, and nothing of it is believed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What it is.
    pub kind: Kind,
    /// Transaction.
    pub xid: u32,
    /// The client that it is for.
    pub mac: Mac,
    /// `yiaddr`.
    pub ip: Ipv4Addr,
    /// Who says it.
    pub server: Ipv4Addr,
    /// Seconds of the lease.
    pub secs: Option<u32>,
    /// Seconds until it is to be renewed.
    pub t1: Option<u32>,
    /// Seconds until everybody is asked to renew it.
    pub t2: Option<u32>,
    /// Subnet mask.
    pub mask: Option<Ipv4Addr>,
    /// The first router.
    pub router: Option<Ipv4Addr>,
}

/// Why something that a server said is not believed (`code` of `dhcp.refused`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Refusal {
    /// Too short, no DHCP, of no known kind, or an option of a wrong length.
    Malformed = 0,
    /// An option that a lease consists of stands there twice.
    Duplicate = 1,
    /// It does not say which server it is of, or the topology does not name that one.
    Server = 2,
    /// No time, none at all, or one too short to be meant.
    LeaseTime = 3,
    /// A mask that is none.
    Mask = 4,
    /// An address that no single host can have.
    Address = 5,
    /// The address of the router or of the server.
    Gateway = 6,
    /// An address that the honeynet or its machine has already.
    Ours = 7,
    /// Not what was asked for.
    Changed = 8,
}

impl Refusal {
    /// The names of all of them, in the order of their codes.
    pub const NAMES: [&'static str; 9] =
        ["malformed", "duplicate-option", "server", "lease-time", "mask", "address", "gateway", "ours", "changed"];
}

/// An address, for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The address.
    pub ip: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// The way out of that network.
    pub router: Option<Ipv4Addr>,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Seconds that it lasts: [`Lease::SHORTEST`] to [`Lease::LONGEST`].
    pub secs: u32,
    /// Seconds until it is to be renewed.
    pub t1: u32,
    /// Seconds until everybody is asked to renew it: more than `t1`, less than `secs`.
    pub t2: u32,
}

impl Lease {
    /// A shorter lease is none: renewing it would be all that a host does.
    pub const SHORTEST: u32 = 60;
    /// A longer one (`0xffffffff` is infinite, RFC 2131 §3.3) is taken for a week: an address that nobody has asked for since then
    /// is given back to its server's pool by being forgotten.
    pub const LONGEST: u32 = 7 * 86_400;
}

/// An option of exactly `N` octets that was not seen before.
fn once<const N: usize, T>(slot: &mut Option<T>, data: &[u8], of: impl Fn([u8; N]) -> T) -> Result<(), Refusal> {
    let octets = <[u8; N]>::try_from(data).map_err(|_| Refusal::Malformed)?;
    match slot.replace(of(octets)) {
        Some(_) => Err(Refusal::Duplicate),
        None => Ok(()),
    }
}

impl Reply {
    /// Which client a message is for and in which transaction, as far as that can be read: whatever is wrong with the rest
    /// is that client's matter.
    pub fn addressee(payload: &[u8]) -> Option<(Mac, u32)> {
        let packet = DhcpPacket::new_checked(payload).ok()?;
        let ethernet = packet.hardware_type() == ArpHardware::Ethernet && packet.hardware_len() == 6;
        let reply = packet.opcode() == DhcpOpCode::Reply && packet.magic_number() == MAGIC;
        (ethernet && reply).then(|| (Mac(packet.client_hardware_address().0), packet.transaction_id()))
    }

    /// Reads the payload of a datagram.
    pub fn parse(payload: &[u8]) -> Result<Reply, Refusal> {
        let (mac, xid) = Reply::addressee(payload).ok_or(Refusal::Malformed)?;
        let packet = DhcpPacket::new_checked(payload).map_err(|_| Refusal::Malformed)?;
        let (mut kind, mut server, mut secs, mut t1, mut t2) = (None, None, None, None, None);
        let (mut mask, mut router) = (None, None);
        for option in packet.options() {
            let data = option.data;
            match option.kind {
                53 => once(&mut kind, data, |[kind]: [u8; 1]| DhcpMessageType::from(kind))?,
                54 => once::<4, _>(&mut server, data, Ipv4Addr::from)?,
                51 => once(&mut secs, data, u32::from_be_bytes)?,
                58 => once(&mut t1, data, u32::from_be_bytes)?,
                59 => once(&mut t2, data, u32::from_be_bytes)?,
                1 => once::<4, _>(&mut mask, data, Ipv4Addr::from)?,
                // Several, the preferred one first.
                3 if data.len() % 4 == 0 => once::<4, _>(&mut router, data.get(..4).unwrap_or(&[]), Ipv4Addr::from)?,
                3 => return Err(Refusal::Malformed),
                _ => {}
            }
        }
        let kind = match kind {
            Some(DhcpMessageType::Offer) => Kind::Offer,
            Some(DhcpMessageType::Ack) => Kind::Ack,
            Some(DhcpMessageType::Nak) => Kind::Nak,
            _ => return Err(Refusal::Malformed),
        };
        let server = server.filter(|ip| is_host(*ip)).ok_or(Refusal::Server)?;
        Ok(Reply { kind, xid, mac, ip: packet.your_ip(), server, secs, t1, t2, mask, router })
    }

    /// The lease that it offers or grants, if a host may take that.
    pub fn judge(&self) -> Result<Lease, Refusal> {
        let secs = self.secs.filter(|secs| *secs >= Lease::SHORTEST).ok_or(Refusal::LeaseTime)?.min(Lease::LONGEST);
        if !is_host(self.ip) {
            return Err(Refusal::Address);
        }
        let prefix = match self.mask.map(u32::from) {
            Some(mask) if mask.leading_ones() + mask.trailing_zeros() != 32 => return Err(Refusal::Mask),
            // A network of less than two hosts, or of half of all addresses.
            Some(mask) if !(2..=30).contains(&mask.leading_ones()) => return Err(Refusal::Mask),
            Some(mask) => mask.leading_ones() as u8,
            None => 24,
        };
        let host = u32::from(self.ip) & (u32::MAX >> prefix);
        if host == 0 || host == u32::MAX >> prefix {
            return Err(Refusal::Address);
        }
        if self.router == Some(self.ip) || self.server == self.ip {
            return Err(Refusal::Gateway);
        }
        // RFC 2131 §4.4.5: half of the time, and seven eighths.
        let (half, most) = (secs / 2, secs / 8 * 7);
        let (t1, t2) = match (self.t1.unwrap_or(half), self.t2.unwrap_or(most)) {
            (t1, t2) if Lease::SHORTEST / 2 <= t1 && t1 < t2 && t2 < secs => (t1, t2),
            _ => (half, most),
        };
        let router =
            self.router.filter(|ip| is_host(*ip) && (u32::from(*ip) ^ u32::from(self.ip)) >> (32 - prefix) == 0);
        Ok(Lease { ip: self.ip, prefix, router, server: self.server, secs, t1, t2 })
    }
}

/// Whether a host may have that address: none of the networks that are reserved for something else (RFC 6890).
fn is_host(ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    !(first == 0 || first >= 224 || ip.is_loopback() || ip.is_link_local())
}
