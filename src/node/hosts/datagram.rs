//! Datagrams for emulated hosts, and what services answer to them.

use super::super::Cx;
use super::session::Contact;
use super::{Hosts, Target, answer, event_of};
use crate::emulate::probe;
use crate::emulate::reply::{self, IcmpError};
use crate::emulate::{ServiceId, UdpPort};
use crate::event::{DropReason, EventId, PortAnswer, SessionId};
use crate::frame::Frame;
use crate::service::{self, Caller, ServiceKind};
use crate::wire::{Headers, Packet, be16, be32, proto, set_flow_label, src_mac};

/// Octets of an answer: what no path has to fragment.
const MAX_ANSWER: usize = 1400;

impl Hosts {
    /// A datagram for one of our hosts.
    pub(super) fn udp(&mut self, mut frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let message = packet.payload(frame.bytes());
        if message.len() < 8 || usize::from(be16(message, 4)) < 8 || usize::from(be16(message, 4)) > message.len() {
            return cx.discard(frame, DropReason::Malformed);
        }
        let l4_port = be16(message, 2);
        let (session, ip_id, _) = self.touch(&frame, packet, Contact::Udp, (l4_port, true), cx);
        let template = self.template(target.template);
        let listed = template.udp.get(&l4_port).copied();
        let state = listed.unwrap_or(template.udp_default);
        let talks = !template.talk.is_empty() && answer::listens(template, l4_port);
        // As with TCP: what the template lists stays what it is while a container lives.
        let may_be_inside = listed.is_none() && !talks && !self.leases.by_host.is_empty();
        let whose = (may_be_inside && target.template != self.elsewhere)
            .then(|| self.whose_datagram(target, &frame, packet))
            .filter(|whose| self.leases.live(*whose).is_some());
        let answer = match state {
            _ if whose.is_some() => PortAnswer::Held,
            _ if talks => PortAnswer::Open,
            UdpPort::Container => PortAnswer::Held,
            UdpPort::Closed => PortAnswer::Closed,
            UdpPort::Filtered => PortAnswer::Filtered,
            UdpPort::Open(_) => PortAnswer::Open,
        };
        let mut event = event_of(EventId::UdpDatagram, &frame, packet, session, cx.now);
        event.code = answer as u16;
        event.first = self.sessions.is_first_record();
        event.bytes_in = message.len() as u64 - 8;
        cx.emit(&mut event, &message[8..]);
        if let Some(whose) = whose {
            // Where nobody listens, the container quotes it.
            frame.complete();
            return self.to_container(frame, packet, target, whose, cx);
        }
        if talks {
            return self.asked_one(frame, packet, target, cx);
        }
        match state {
            UdpPort::Filtered | UdpPort::Open(None) => cx.discard(frame, DropReason::Filtered),
            UdpPort::Closed => self.refuse_datagram(frame, packet, target, ip_id, cx),
            UdpPort::Open(Some(service)) => self.datagram(frame, packet, target, (service, session, ip_id), cx),
            UdpPort::Container => {
                let whose = self.whose_datagram(target, &frame, packet);
                self.datagram_inside(frame, packet, target, whose, session, cx)
            }
        }
    }

    /// Answers a datagram to a closed port.
    pub(super) fn refuse_datagram(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        if !reply::may_complain(frame.bytes(), packet) {
            return cx.discard(frame, DropReason::Filtered);
        }
        if let Some(fingerprint) = self.fingerprint(packet, target)
            && probe::is_udp_probe(frame.bytes(), packet)
        {
            return self.udp_probe(frame, packet, target, fingerprint, cx);
        }
        let voice = self.voice(target, packet, 0, ip_id, cx);
        if reply::icmp_error(&mut frame, packet, IcmpError::PortUnreachable, target.ip(), &voice) {
            self.reply(frame, cx);
        } else {
            cx.discard(frame, DropReason::TooBig);
        }
    }

    /// Answers a datagram with what its service says, at most three times what came (RFC 9000 §8 has the same bound).
    fn datagram(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        (service, session, ip_id): (ServiceId, SessionId, u16),
        cx: &mut Cx<'_>,
    ) {
        // Whoever answers in the place of the rest of the world is asked by one container, and answers no answer.
        let may_loop = target.template != self.elsewhere && self.is_inside(packet.src());
        if may_loop && !self.inside_answers.take(cx.now) {
            return cx.discard(frame, DropReason::RateLimit);
        }
        let ports = be32(packet.payload(frame.bytes()), 0).rotate_left(16);
        let voice = self.voice(target, packet, ports, ip_id, cx);
        let Hosts { config, unread, .. } = self;
        let message = packet.payload(frame.bytes());
        let (src_port, dst_port) = (be16(message, 0), be16(message, 2));
        let end = usize::from(be16(message, 4));
        let asked = &message[8..end];
        let body = match config.services.get(usize::from(service.0)).map(|service| &service.kind) {
            Some(ServiceKind::Banner { banner, .. }) => &banner[..banner.len().min(3 * asked.len()).min(MAX_ANSWER)],
            Some(ServiceKind::Library(profile)) => {
                let caller = Caller { from: packet.src(), seed: cx.rng.next_u64(), now: cx.now };
                service::answer(profile, caller, asked, unread, &mut |id, data| {
                    let mut event = event_of(id, &frame, packet, session, cx.now);
                    cx.emit(&mut event, data);
                });
                if unread.is_empty() {
                    return cx.discard(frame, DropReason::Filtered);
                }
                unread.as_slice()
            }
            Some(ServiceKind::Names(names)) => {
                names.answer(asked, unread, &mut |id, data| {
                    let mut event = event_of(id, &frame, packet, session, cx.now);
                    cx.emit(&mut event, data);
                });
                if unread.is_empty() || unread.len() > 3 * asked.len() {
                    return cx.discard(frame, DropReason::Filtered);
                }
                unread.as_slice()
            }
            _ => return cx.discard(frame, DropReason::Filtered),
        };
        let headers = Headers {
            dst_mac: src_mac(frame.bytes()),
            src_mac: target.mac,
            src: packet.dst(),
            dst: packet.src(),
            proto: proto::UDP,
            ttl: voice.personality.ttl_of(packet.is_v4()).saturating_sub(target.hops).max(1),
            tos: 0,
            ip_id: voice.ip_id,
            df: false,
        };
        let len = headers.write_udp((dst_port, src_port), body, frame.space());
        frame.set_len(len);
        set_flow_label(frame.bytes_mut(), voice.flow_label);
        self.reply(frame, cx);
    }
}
