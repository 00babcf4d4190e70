//! Who has an address: ARP requests (RFC 826), neighbor solicitations over IPv6 (RFC 4861 §7.2).
//!
//! An answer names its target and not the question: it counts for the last one
//! that the target was asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::drive::Probe;
use super::station::{Heard, Station};
use super::tally::{Answer, Tally};
use super::targets::{Aim, Entry};
use crate::frame::Frame;
use crate::wire::{ARP_FRAME, Arp, Mac, Neighbor, ip_of, solicited_node, word_of};

/// Questions for MACs.
pub struct Ask {
    station: Station,
    aim: Aim,
    /// Who has answered what, where that is of interest.
    learned: Option<Vec<Entry>>,
}

impl Ask {
    /// Questions by `station`.
    pub fn new(station: Station, aim: Aim) -> Ask {
        Ask { station, aim, learned: None }
    }

    /// The same, keeping the answers.
    pub fn learning(station: Station, aim: Aim) -> Ask {
        let learned = Some(Vec::with_capacity(aim.targets.len() as usize));
        Ask { station, aim, learned }
    }

    /// Who has answered, in the order in which they did.
    pub fn learned(self) -> Vec<Entry> {
        self.learned.unwrap_or_default()
    }

    fn answer(&mut self, now: u64, target: u128, mac: Mac, tally: &mut Tally) {
        let Some(position) = self.aim.targets.position(target) else { return };
        // A MAC to which no frame may be sent is no answer.
        if mac.is_group() || mac == Mac::ZERO {
            return;
        }
        let Some(n) = self.aim.order.latest(position, tally.next) else {
            tally.unexpected += 1;
            return;
        };
        if tally.answer(n, position, now) == Answer::First
            && let Some(learned) = &mut self.learned
        {
            learned.push((self.aim.targets.get(position).1, mac));
        }
    }
}

impl Probe for Ask {
    #[inline]
    fn write(&mut self, n: u64, frame: &mut Frame) {
        let shot = self.aim.at(n);
        let mac = self.station.mac;
        match (ip_of(shot.src), ip_of(shot.dst)) {
            (IpAddr::V6(src), IpAddr::V6(target)) => {
                let group = solicited_node(target);
                let question = Neighbor { advert: false, target, mac: Some(mac) };
                let len = question.write(Mac::ipv6_multicast(group), mac, src, group, 0, frame.space());
                frame.set_len(len);
            }
            (src, target) => {
                let arp = Arp {
                    operation: Arp::REQUEST,
                    sender_mac: mac,
                    sender: v4(src),
                    target_mac: Mac::ZERO,
                    target: v4(target),
                };
                arp.write(Mac::BROADCAST, mac, frame.space());
                frame.set_len(ARP_FRAME);
            }
        }
    }

    #[inline]
    fn hear(&mut self, now: u64, frame: &mut Frame, tally: &mut Tally) -> bool {
        match self.station.hear(frame) {
            Heard::Arp(arp) if self.is_for_us(arp.target.into()) => {
                self.answer(now, word_of(arp.sender.into()), arp.sender_mac, tally);
            }
            Heard::Neighbor(target, mac) => self.answer(now, target, mac, tally),
            Heard::Asked => return true,
            _ => {}
        }
        false
    }
}

impl Ask {
    fn is_for_us(&self, ip: IpAddr) -> bool {
        self.station.sources.index(word_of(ip)).is_some()
    }
}

/// An address whose family was decided when the prefix was.
fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => Ipv6Addr::to_ipv4(&ip).unwrap_or(Ipv4Addr::UNSPECIFIED),
    }
}
