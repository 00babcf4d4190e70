//! What a client says (RFC 2131 §4.4, table 5).

use std::net::Ipv4Addr;

use super::client::{ClientId, Habits, Item};
use crate::wire::{ArpHardware, DhcpFlags, DhcpMessageType, DhcpOpCode, DhcpOption, DhcpPacket, EthernetAddress, Mac};

/// What a message is about, whoever says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// `Discover`, `Request` or `Decline`.
    pub kind: DhcpMessageType,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The address that it has, if it has one.
    pub ciaddr: Option<Ipv4Addr>,
    /// The address that it would like to have, or declines.
    pub requested: Option<Ipv4Addr>,
    /// The server that is meant, among several that hear it.
    pub server: Option<Ipv4Addr>,
    /// Whether it goes to the server that gave the lease, and not to everybody.
    pub to_server: bool,
}

/// Who says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker<'a> {
    /// How its client writes.
    pub habits: &'static Habits,
    /// Its MAC.
    pub mac: Mac,
    /// Its name, of which 63 octets are told.
    pub name: &'a str,
}

/// The cookie that DHCP begins its options with (RFC 2131 §3).
pub(super) const MAGIC: u32 = 0x6382_5363;
/// Octets before the options.
const FIXED: usize = 240;
/// Octets of the largest option here, with its kind and length.
const LARGEST: usize = 2 + 64 + 3;

impl Message {
    /// Writes it in the words of `speaker` into `payload`, whose old contents are lost.
    pub fn write(&self, speaker: &Speaker<'_>, payload: &mut Vec<u8>) {
        let Speaker { habits, mac, name } = *speaker;
        payload.clear();
        payload.resize(FIXED + habits.items.len() * LARGEST + 1, 0);
        let mut packet = DhcpPacket::new_unchecked(payload.as_mut_slice());
        packet.set_opcode(DhcpOpCode::Request);
        packet.set_hardware_type(ArpHardware::Ethernet);
        packet.set_hardware_len(6);
        packet.set_transaction_id(self.xid);
        packet.set_secs(if habits.counts_secs { self.secs } else { 0 });
        let broadcast = habits.broadcast && self.ciaddr.is_none() && self.kind != DhcpMessageType::Decline;
        packet.set_flags(if broadcast { DhcpFlags::BROADCAST } else { DhcpFlags::empty() });
        packet.set_client_ip(self.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED));
        packet.set_client_hardware_address(EthernetAddress(mac.0));
        packet.set_magic_number(MAGIC);
        let mut options = packet.options_mut();
        let mut used = FIXED;
        for item in habits.items {
            let mut space = [0; LARGEST];
            if let Some((kind, len)) = self.value(*item, habits.id, mac, name, &mut space)
                && options.emit(DhcpOption { kind, data: &space[..len] }).is_ok()
            {
                used += 2 + len;
            }
        }
        // There is room for it.
        let _ = options.end();
        payload.truncate((used + 1).max(habits.least));
        payload.resize(payload.len().max(habits.least), 0);
    }

    /// The kind of an option, and how many octets of `space` it takes; `None` if the message has none of it.
    fn value(&self, item: Item, id: ClientId, mac: Mac, name: &str, space: &mut [u8; LARGEST]) -> Option<(u8, usize)> {
        let declines = self.kind == DhcpMessageType::Decline;
        let name = &name.as_bytes()[..name.len().min(63)];
        let mut put = |kind: u8, parts: &[&[u8]]| {
            let mut len = 0;
            for part in parts {
                space.get_mut(len..len + part.len())?.copy_from_slice(part);
                len += part.len();
            }
            Some((kind, len))
        };
        match item {
            Item::Type => put(53, &[&[u8::from(self.kind)]]),
            Item::Requested => put(50, &[&self.requested?.octets()]),
            Item::Server => put(54, &[&self.server?.octets()]),
            Item::ClientId => match id {
                ClientId::Mac => put(61, &[&[1], &mac.0]),
                ClientId::Cisco => {
                    let mut text = *b"\0cisco-0000.0000.0000-Vl1";
                    let digits = mac.0.iter().flat_map(|octet| [octet >> 4, octet & 15]);
                    let places = (7..21).filter(|at| text_digit(*at));
                    for (at, digit) in places.zip(digits) {
                        text[at] = b"0123456789abcdef"[usize::from(digit)];
                    }
                    put(61, &[&text])
                }
            },
            // RFC 2131 table 5: nothing else belongs into a refusal.
            _ if declines => None,
            Item::LeaseTime(secs) => put(51, &[&secs.to_be_bytes()]),
            Item::HostName if name.is_empty() => None,
            Item::HostName => put(12, &[name]),
            Item::Fqdn if self.kind != DhcpMessageType::Request || name.is_empty() => None,
            // The server may do with its name what it likes.
            Item::Fqdn => put(81, &[&[0, 0, 0], name]),
            Item::Vendor(class) => put(60, &[class.as_bytes()]),
            Item::Parameters(list) => put(55, &[list]),
            Item::MaxSize(octets) => put(57, &[&octets.to_be_bytes()]),
            Item::AutoConfigure if self.kind == DhcpMessageType::Discover => put(116, &[&[1]]),
            Item::AutoConfigure => None,
        }
    }
}

/// Where `\0cisco-0000.0000.0000-Vl1` has a digit of the MAC.
fn text_digit(at: usize) -> bool {
    !matches!(at, 11 | 16)
}
