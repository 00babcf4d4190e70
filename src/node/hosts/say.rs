//! What hosts say by themselves, as frames.
//!
//! Everything stays on the link: broadcasts and link-local groups are nothing that a router forwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::{Cx, HostsConfig};
use super::Hosts;
use super::talk::{Act, Talk, Talker, browser_secs};
use super::voice::IpIds;
use crate::emulate::talk::{dns, netbios, ssdp};
use crate::emulate::{FlowLabel, Identity, TalkHabits};
use crate::event::DropReason;
use crate::frame::Frame;
use crate::wire::{
    ARP_FRAME, Arp, Headers, ListenerRecord, Mac, Member, MemberRecord, Neighbor, proto, set_flow_label,
    solicited_node, word_of, write_report, write_router_solicit,
};

pub(super) const MDNS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
pub(super) const MDNS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
pub(super) const MDNS_PORT: u16 = 5353;
pub(super) const LLMNR_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 252);
pub(super) const LLMNR_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 3);
pub(super) const LLMNR_PORT: u16 = 5355;
pub(super) const SSDP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// Where a datagram goes, and how.
pub(super) struct Envelope {
    pub dst: IpAddr,
    pub ports: (u16, u16),
    pub ttl: u8,
    /// Of the one who is meant, unless it is a group or everybody.
    pub mac: Option<Mac>,
}

/// What a datagram takes besides its payload.
pub(super) struct Speech<'a> {
    pub config: &'a HostsConfig,
    pub identity: &'a Identity,
    pub ids: &'a mut IpIds,
}

impl Hosts {
    /// Does `act` in the name of the talker at `at`.
    pub(super) fn say(&mut self, at: usize, act: Act, cx: &mut Cx<'_>) {
        let habits = match self.talk.talkers.get(at) {
            Some(talker) => self.habits(talker),
            None => return,
        };
        let Hosts { talk: Talk { talkers, scratch, gateway, .. }, config, identity, ids, dhcp, .. } = self;
        let Some(talker) = talkers.get(at) else { return };
        let mut speech = Speech { config, identity, ids };
        let mac = talker.target.mac;
        match act {
            Act::ArpProbe(_) => {
                if let Some(ip) = talker.v4 {
                    ask(Mac::BROADCAST, mac, Ipv4Addr::UNSPECIFIED, ip, cx);
                }
            }
            Act::ArpAnnouncement(_) => {
                if let Some(ip) = talker.v4 {
                    ask(Mac::BROADCAST, mac, ip, ip, cx);
                }
            }
            Act::Gateway => {
                let wanted = config.segment.gateways.iter().find_map(|ip| match ip {
                    IpAddr::V4(ip) => Some(*ip),
                    IpAddr::V6(_) => None,
                });
                let leased = || dhcp.as_ref()?.tenants.router_of(talker.tenant?);
                if let (Some(ip), Some(wanted)) = (talker.v4, wanted.or_else(leased)) {
                    let known = gateway.filter(|(of, _)| habits.arp_again_unicast && *of == wanted);
                    ask(known.map_or(Mac::BROADCAST, |(_, mac)| mac), mac, ip, wanted, cx);
                }
            }
            Act::Duplicate(n) => {
                let Some(target) = talker.v6.get(usize::from(n)).copied() else { return };
                let group = solicited_node(target);
                let question = Neighbor { advert: false, target, mac: None };
                let dst = Mac::ipv6_multicast(group);
                emit(cx, |space| question.write(dst, mac, Ipv6Addr::UNSPECIFIED, group, 0, space));
            }
            Act::Listen(_) | Act::ListenAnswer => {
                let Some(src) = talker.link_local() else { return };
                let record =
                    if act == Act::ListenAnswer { ListenerRecord::IsExclude } else { ListenerRecord::ToExclude };
                let groups = talker.groups();
                emit(cx, |space| write_report(mac, src, record, &groups, space));
            }
            Act::RouterSolicitation(_) => {
                if let Some(src) = talker.link_local() {
                    emit(cx, |space| write_router_solicit(mac, src, space));
                }
            }
            Act::Member(_) | Act::MemberAnswer { .. } => {
                let Some(ip) = talker.v4 else { return };
                let groups = talker.groups_v4();
                let Some(member) = speech.member(talker, ip, cx) else { return };
                match act {
                    Act::MemberAnswer { is_old: true } => {
                        for group in groups {
                            emit(cx, |space| member.report_v2(group, space));
                        }
                    }
                    Act::MemberAnswer { .. } => {
                        emit(cx, |space| member.report(MemberRecord::IsExclude, &groups, space));
                    }
                    _ => emit(cx, |space| member.report(MemberRecord::ToExclude, &groups, space)),
                }
            }
            Act::Claim(_) => {
                let Some(ip) = talker.v4 else { return };
                let names = [
                    (talker.name.as_str(), netbios::suffix::WORKSTATION, false),
                    (netbios::WORKGROUP, netbios::suffix::WORKSTATION, true),
                    (talker.name.as_str(), netbios::suffix::SERVER, false),
                ];
                for (name, suffix, group) in names {
                    let id = cx.rng.next_u32() as u16;
                    netbios::registration(scratch, id, (name, suffix), group, ip);
                    let to = to_all(config, talker, ip, netbios::NAME_PORT, speech.ttl(talker));
                    speech.send(talker, ip.into(), &to, scratch, cx);
                }
            }
            Act::Browser(n) => {
                let Some(ip) = talker.v4 else { return };
                let (id, period) = (cx.rng.next_u32() as u16, browser_secs(n) as u32 * 1000);
                netbios::announcement(scratch, id, &talker.name, ip, period, habits.browser_version);
                let to = to_all(config, talker, ip, netbios::DATAGRAM_PORT, speech.ttl(talker));
                speech.send(talker, ip.into(), &to, scratch, cx);
            }
            Act::Llmnr(n) => {
                let (id, port) = (cx.rng.next_u32() as u16, ephemeral(cx));
                // Whether its name is unique; later, for a proxy, as systems do that configure one by themselves.
                let (name, uniqueness) = if n < 2 { (talker.name.as_str(), true) } else { ("wpad", false) };
                for (src, dst) in both(talker, (LLMNR_V4, LLMNR_V6)) {
                    dns::llmnr_query(scratch, id, name, uniqueness, false);
                    speech.send(
                        talker,
                        src,
                        &Envelope { dst, ports: (port, LLMNR_PORT), ttl: 1, mac: None },
                        scratch,
                        cx,
                    );
                }
            }
            Act::MdnsProbe(_) | Act::MdnsAnnouncement(_) | Act::MdnsQuery(_) => {
                for (src, dst) in both(talker, (MDNS_V4, MDNS_V6)) {
                    let to = Envelope { dst, ports: (MDNS_PORT, MDNS_PORT), ttl: habits.mdns_ttl, mac: None };
                    match act {
                        Act::MdnsProbe(_) => dns::mdns_probe(scratch, &talker.name, src),
                        Act::MdnsAnnouncement(_) => {
                            dns::mdns_announcement(scratch, &talker.name, src, &talker.services)
                        }
                        _ => {
                            for service in habits.mdns_seeks.services() {
                                dns::mdns_query(scratch, service);
                                speech.send(talker, src, &to, scratch, cx);
                            }
                            continue;
                        }
                    }
                    speech.send(talker, src, &to, scratch, cx);
                }
            }
            Act::Search(_) => {
                if let Some(ip) = talker.v4 {
                    let to = Envelope { dst: SSDP_V4.into(), ports: (ephemeral(cx), ssdp::PORT), ttl: 1, mac: None };
                    speech.send(talker, ip.into(), &to, ssdp::SEARCH, cx);
                }
            }
        }
    }
}

/// A port of the range that IANA recommends for clients (RFC 6335 §6).
fn ephemeral(cx: &mut Cx<'_>) -> u16 {
    0xc000 | cx.rng.next_u32() as u16
}

/// From which of its addresses a host speaks to a group, for each family that it has.
fn both(talker: &Talker, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    let pairs = [
        talker.v4.map(|ip| (IpAddr::V4(ip), IpAddr::V4(v4))),
        talker.link_local().map(|ip| (IpAddr::V6(ip), IpAddr::V6(v6))),
    ];
    pairs.into_iter().flatten()
}

/// To everybody on the network of `ip`.
fn to_all(config: &HostsConfig, talker: &Talker, ip: Ipv4Addr, port: u16, ttl: u8) -> Envelope {
    let own = config.segment.prefixes.iter().find_map(|net| match net {
        IpNet::V4(net) if net.contains(&ip) && net.prefix_len() < 31 => Some(net.broadcast()),
        _ => None,
    });
    let dst = own.or(talker.everybody).unwrap_or(Ipv4Addr::BROADCAST);
    Envelope { dst: dst.into(), ports: (port, port), ttl, mac: None }
}

/// An ARP request.
pub(super) fn ask(dst: Mac, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr, cx: &mut Cx<'_>) {
    let request = Arp { operation: Arp::REQUEST, sender_mac: mac, sender, target_mac: Mac::ZERO, target };
    emit(cx, |space| {
        request.write(dst, mac, space);
        ARP_FRAME
    });
}

/// Sends what `write` writes, whose length it returns.
pub(super) fn emit(cx: &mut Cx<'_>, write: impl FnOnce(&mut [u8]) -> usize) {
    let Some(mut frame) = cx.pool.head() else { return cx.counters.discard(DropReason::NoBuffer) };
    let len = write(frame.space());
    finish(frame, len, cx);
}

fn finish(mut frame: Frame, len: usize, cx: &mut Cx<'_>) {
    frame.set_len(len);
    cx.send(HostsConfig::LAN, frame);
}

impl Speech<'_> {
    pub(super) fn ttl(&self, talker: &Talker) -> u8 {
        let template = self.config.templates.get(usize::from(talker.target.template));
        template.map_or(64, |template| template.personality.get().ttl)
    }

    pub(super) fn habits(&self, talker: &Talker) -> &'static TalkHabits {
        let template = self.config.templates.get(usize::from(talker.target.template));
        template.map_or(&TalkHabits::PLAIN, |template| &template.personality.get().talk)
    }

    /// Who reports its groups. Linux sends reports with DF and, as there is nothing to put together again, without an
    /// identification; TOS is that of network control in what descends from BSD, too.
    fn member(&mut self, talker: &Talker, ip: Ipv4Addr, cx: &mut Cx<'_>) -> Option<Member> {
        let personality = self.config.templates.get(usize::from(talker.target.template))?.personality.get();
        let (mac, is_linux) = (talker.target.mac, personality.is_linux);
        let ip_id = match is_linux {
            true => 0,
            false => self.ids.next(personality.ip_id, word_of(ip.into()), Some(cx.rng.next_u32() as u16), cx),
        };
        let tos = if personality.icmp_ttl == 128 { 0 } else { 0xc0 };
        Some(Member { mac, ip, tos, ip_id, df: is_linux })
    }

    /// Sends a datagram to a group, to everybody, or to one who asked.
    pub(super) fn send(&mut self, talker: &Talker, src: IpAddr, to: &Envelope, payload: &[u8], cx: &mut Cx<'_>) {
        let Some(template) = self.config.templates.get(usize::from(talker.target.template)) else { return };
        let personality = template.personality.get();
        let Some(mut frame) = cx.pool.head() else { return cx.counters.discard(DropReason::NoBuffer) };
        let headers = Headers {
            dst_mac: match to.dst {
                _ if to.mac.is_some() => to.mac.unwrap_or_default(),
                IpAddr::V4(ip) if ip.is_multicast() => Mac::ipv4_multicast(ip),
                IpAddr::V4(_) => Mac::BROADCAST,
                IpAddr::V6(ip) => Mac::ipv6_multicast(ip),
            },
            src_mac: talker.target.mac,
            src,
            dst: to.dst,
            proto: proto::UDP,
            ttl: to.ttl,
            tos: 0,
            ip_id: match src {
                IpAddr::V4(_) => self.ids.next(personality.ip_id, word_of(src), Some(cx.rng.next_u32() as u16), cx),
                IpAddr::V6(_) => 0,
            },
            df: false,
        };
        if headers.len() + 8 + payload.len() > frame.capacity() {
            return cx.discard(frame, DropReason::TooBig);
        }
        let space = frame.space();
        let len = headers.write_udp(to.ports, payload, space);
        if personality.flow_label == FlowLabel::Always {
            let ports = u32::from(to.ports.0) << 16 | u32::from(to.ports.1);
            set_flow_label(space, self.identity.flow_label(word_of(src), word_of(to.dst), ports));
        }
        finish(frame, len, cx);
    }
}
