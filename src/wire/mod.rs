//! Header views and writers: what crosses a wire, without state and without I/O.
//!
//! Everything that `smoltcp::wire` has is used as it is; this layer adds what it
//! lacks: MAC addresses that print and parse, 802.1Q tags in place, incremental
//! checksums, TCP options in their order, a one-pass flow key and the
//! segmentation of GSO super-frames.

mod arp;
pub mod checksum;
pub mod gso;
mod hex;
mod igmp;
mod mac;
mod mld;
mod packet;
mod write;

pub use arp::{ARP_FRAME, Arp, ArpOddities, Neighbor, icmp6, solicited_node};
pub use hex::hex;
pub use igmp::{Member, MemberQuery, MemberRecord};
pub use mac::{Mac, ParseMacError};
pub use mld::{ListenerQuery, ListenerRecord, link_local, write_report, write_router_solicit};
pub use packet::{
    ETH, Flaw, Packet, TcpHeader, TcpOptions, be16, be32, dst_mac, ethertype, ethertype_of, flag, ip_of, is_mapped,
    proto, set_macs, src_mac, word_of,
};
pub use smoltcp::time::{Duration, Instant};
pub use smoltcp::wire::{
    ArpHardware, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpFlags, DhcpMessageType, DhcpOpCode, DhcpOption, DhcpPacket,
    EthernetAddress,
};
pub use write::{Headers, Ipv4Words, Segment, TcpWords, set_flow_label};
