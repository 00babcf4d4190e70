//! The generator as a station on its link: which frames are for it, and who it says it is.

use std::net::IpAddr;

use super::targets::Sources;
use crate::emulate::reply;
use crate::frame::Frame;
use crate::wire::{Arp, Mac, Neighbor, Packet, dst_mac, ethertype, ethertype_of, proto, word_of};

/// Who sends.
#[derive(Clone, Debug)]
pub struct Station {
    /// The MAC of all its addresses.
    pub mac: Mac,
    /// Its addresses.
    pub sources: Sources,
    /// Whether it answers for them. The kernel does where the address is the machine's own.
    pub answers: bool,
}

/// What a received frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// An IP packet to one of the station's addresses.
    Packet(Packet),
    /// An ARP reply.
    Arp(Arp),
    /// A neighbor advertisement for that address.
    Neighbor(u128, Mac),
    /// The question for one of the station's MACs; the frame has become the answer.
    Asked,
    /// Anything else.
    Nothing,
}

impl Station {
    /// Says what a frame is.
    #[inline]
    pub fn hear(&self, frame: &mut Frame) -> Heard {
        match ethertype_of(frame.bytes()) {
            ethertype::IPV4 => match Packet::parse(frame.bytes()) {
                Ok(packet) if self.is_whole(&packet, frame) => Heard::Packet(packet),
                _ => Heard::Nothing,
            },
            ethertype::ARP => self.hear_arp(frame),
            ethertype::IPV6 => match Packet::parse(frame.bytes()) {
                Ok(packet) => self.hear_v6(&packet, frame),
                Err(_) => Heard::Nothing,
            },
            _ => Heard::Nothing,
        }
    }

    /// To one of ours, no fragment, and nothing wrong with the checksum.
    #[inline]
    fn is_whole(&self, packet: &Packet, frame: &Frame) -> bool {
        self.sources.index(packet.dst_word).is_some()
            && !packet.fragment
            && (frame.meta.csum_ok || packet.checksum_ok(frame.bytes()))
    }

    fn hear_arp(&self, frame: &mut Frame) -> Heard {
        match Arp::parse(frame.bytes()) {
            Some(arp) if arp.operation == Arp::REPLY => Heard::Arp(arp),
            Some(arp) if arp.operation == Arp::REQUEST && self.is_ours(arp.target.into(), frame) => {
                reply::arp(frame, &arp, self.mac);
                Heard::Asked
            }
            _ => Heard::Nothing,
        }
    }

    fn hear_v6(&self, packet: &Packet, frame: &mut Frame) -> Heard {
        if packet.proto != proto::ICMPV6 {
            return if self.is_whole(packet, frame) { Heard::Packet(*packet) } else { Heard::Nothing };
        }
        let right = !packet.fragment && (frame.meta.csum_ok || packet.checksum_ok(frame.bytes()));
        match right.then(|| Neighbor::parse(packet, frame.bytes())) {
            None => Heard::Nothing,
            Some(None) if self.sources.index(packet.dst_word).is_some() => Heard::Packet(*packet),
            Some(None) => Heard::Nothing,
            Some(Some(Neighbor { advert: true, target, mac: Some(mac) })) => {
                Heard::Neighbor(word_of(IpAddr::V6(target)), mac)
            }
            Some(Some(Neighbor { advert: false, target, .. })) if self.is_ours(target.into(), frame) => {
                if reply::neighbor(frame, packet, target, self.mac, false) {
                    Heard::Asked
                } else {
                    Heard::Nothing
                }
            }
            Some(Some(_)) => Heard::Nothing,
        }
    }

    fn is_ours(&self, ip: IpAddr, frame: &Frame) -> bool {
        let to = dst_mac(frame.bytes());
        self.answers && (to == self.mac || to.is_group()) && self.sources.index(word_of(ip)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::frame::Pool;
    use crate::wire::{ARP_FRAME, solicited_node};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn station(base: &str, answers: bool) -> Station {
        Station { mac: MAC, sources: Sources { base: word_of(base.parse().unwrap()), count: 4 }, answers }
    }

    fn request(target: &str, to: Mac) -> Frame {
        let arp = Arp {
            operation: Arp::REQUEST,
            sender_mac: OTHER,
            sender: "10.0.0.1".parse().unwrap(),
            target_mac: Mac::ZERO,
            target: target.parse().unwrap(),
        };
        let mut bytes = [0; ARP_FRAME];
        arp.write(to, OTHER, &mut bytes);
        Pool::new(1).copy_of(&bytes).unwrap()
    }

    #[test]
    fn answers_for_its_own_addresses_and_no_others() {
        let ours = station("10.0.0.8", true);
        let mut frame = request("10.0.0.11", Mac::BROADCAST);
        assert_eq!(ours.hear(&mut frame), Heard::Asked);
        let reply = Arp::parse(frame.bytes()).unwrap();
        assert_eq!((reply.operation, reply.sender_mac, reply.target_mac), (Arp::REPLY, MAC, OTHER));
        assert_eq!(reply.sender.to_string(), "10.0.0.11");
        assert_eq!(dst_mac(frame.bytes()), OTHER);
        assert_eq!(ours.hear(&mut request("10.0.0.12", Mac::BROADCAST)), Heard::Nothing);
        assert_eq!(ours.hear(&mut request("10.0.0.11", OTHER)), Heard::Nothing, "somebody else is asked");
        assert_eq!(station("10.0.0.8", false).hear(&mut request("10.0.0.11", Mac::BROADCAST)), Heard::Nothing);
    }

    #[test]
    fn answers_neighbor_solicitations() {
        let ours = station("fd00::8", true);
        let target: Ipv6Addr = "fd00::9".parse().unwrap();
        let group = solicited_node(target);
        let mut bytes = [0; 86];
        Neighbor { advert: false, target, mac: Some(OTHER) }.write(
            Mac::ipv6_multicast(group),
            OTHER,
            "fd00::1".parse().unwrap(),
            group,
            0,
            &mut bytes,
        );
        let mut frame = Pool::new(1).copy_of(&bytes).unwrap();
        assert_eq!(ours.hear(&mut frame), Heard::Asked);
        let packet = Packet::parse(frame.bytes()).unwrap();
        let advert = Neighbor::parse(&packet, frame.bytes()).unwrap();
        assert_eq!((advert.advert, advert.target, advert.mac), (true, target, Some(MAC)));
        // What it says itself it would understand.
        assert_eq!(station("fd00::100", true).hear(&mut frame), Heard::Neighbor(word_of(target.into()), MAC));
    }
}
