//! How a router finds its neighbors, and is found: ARP (RFC 826) and neighbor discovery (RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use super::neighbor::Lesson;
use super::{Router, may_answer};
use crate::emulate::reply;
use crate::event::DropReason;
use crate::frame::{Frame, PortNo};
use crate::node::Cx;
use crate::wire::{ARP_FRAME, Arp, Mac, Neighbor, Packet, set_macs, solicited_node, src_mac};

/// How a router hears of a neighbor, which decides what its replicas hear of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// One of us has asked, whichever it was.
    Answer,
    /// It asked for us, and will be answered by any of us.
    Question,
    /// It spoke to somebody else.
    Overheard,
}

impl Router {
    pub(super) fn arp(&mut self, mut frame: Frame, port: usize, cx: &mut Cx<'_>) {
        let Some(arp) = Arp::parse(frame.bytes()) else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let for_us = self.interfaces[port].addresses.iter().any(|net| net.addr() == IpAddr::V4(arp.target));
        if arp.sender_mac.is_group() || arp.sender_mac != src_mac(frame.bytes()) {
            return cx.discard(frame, DropReason::BadSource);
        }
        // RFC 826: what is known is updated by anyone, what is new is learned
        // only from who talks to us. A probe (sender 0.0.0.0) teaches nothing.
        if !arp.sender.is_unspecified() && self.on_link(port, IpAddr::V4(arp.sender)) {
            let news = match arp.operation {
                _ if !for_us => News::Overheard,
                Arp::REQUEST => News::Question,
                _ => News::Answer,
            };
            let neighbor = Lesson { ip: IpAddr::V4(arp.sender), mac: arp.sender_mac, create: for_us };
            self.learn(port, neighbor, news, cx);
        }
        if arp.operation == Arp::REQUEST && for_us {
            let mac = self.interfaces[port].mac;
            reply::arp(&mut frame, &arp, mac);
            return cx.send(PortNo(port as u16), frame);
        }
        cx.consume(frame);
    }

    pub(super) fn on_link(&self, port: usize, ip: IpAddr) -> bool {
        self.interfaces[port].addresses.iter().any(|net| net.contains(&ip))
    }

    /// Takes in a neighbor's MAC and sends what waited for it.
    pub(super) fn learn(&mut self, port: usize, neighbor: Lesson, news: News, cx: &mut Cx<'_>) {
        let tell = match news {
            News::Answer => true,
            News::Question => self.neighbors.is_news(port as u16, &neighbor, cx.now),
            // A router that took another's place says so to everybody.
            News::Overheard => self.neighbors.is_changed(port as u16, &neighbor),
        };
        if tell && !cx.shard.is_alone() {
            let create = news == News::Question;
            cx.teach(PortNo(port as u16), &Lesson { create, ..neighbor }.to_bytes());
        }
        self.remember(port, neighbor, cx);
    }

    pub(super) fn remember(&mut self, port: usize, neighbor: Lesson, cx: &mut Cx<'_>) {
        let Lesson { ip, mac, create } = neighbor;
        let own = self.interfaces[port].mac;
        for mut frame in self.neighbors.learn(port as u16, ip, mac, create, cx.now) {
            set_macs(frame.bytes_mut(), mac, own);
            cx.send(PortNo(port as u16), frame);
        }
    }

    pub(super) fn solicited(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        message: &Neighbor,
        port: usize,
        cx: &mut Cx<'_>,
    ) {
        let for_us = self.interfaces[port].addresses.iter().any(|net| net.addr() == IpAddr::V6(message.target));
        if let Some(mac) = message.mac.filter(|mac| !mac.is_group())
            && may_answer(packet.src())
            && self.on_link(port, packet.src())
        {
            let neighbor = Lesson { ip: packet.src(), mac, create: for_us };
            self.learn(port, neighbor, if for_us { News::Question } else { News::Overheard }, cx);
        }
        let mac = self.interfaces[port].mac;
        let asker = may_answer(packet.src()) || packet.src() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if for_us && asker && reply::neighbor(&mut frame, packet, message.target, mac, true) {
            return cx.send(PortNo(port as u16), frame);
        }
        cx.consume(frame);
    }

    /// Asks who has `ip`: everyone, or `known` alone.
    pub(super) fn ask(&mut self, port: u16, ip: IpAddr, known: Option<Mac>, cx: &mut Cx<'_>) {
        let mac = self.interfaces[usize::from(port)].mac;
        let (Some(source), Some(mut frame)) = (self.source(usize::from(port), ip), cx.pool.head()) else { return };
        match (source, ip) {
            (IpAddr::V4(sender), IpAddr::V4(target)) => {
                let arp = Arp { operation: Arp::REQUEST, sender_mac: mac, sender, target_mac: Mac::ZERO, target };
                arp.write(known.unwrap_or(Mac::BROADCAST), mac, frame.space());
                frame.set_len(ARP_FRAME);
            }
            (IpAddr::V6(sender), IpAddr::V6(target)) => {
                let group = solicited_node(target);
                let (dst_mac, dst) = known.map_or((Mac::ipv6_multicast(group), group), |mac| (mac, target));
                let message = Neighbor { advert: false, target, mac: Some(mac) };
                let len = message.write(dst_mac, mac, sender, dst, 0, frame.space());
                frame.set_len(len);
            }
            _ => return cx.consume(frame),
        }
        cx.send(PortNo(port), frame);
    }
}
