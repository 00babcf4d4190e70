//! Echoes of both versions, and what else comes as ICMP.

use super::super::Cx;
use super::session::Contact;
use super::{Hosts, Target, event_of};
use crate::emulate::{probe, reply};
use crate::event::{DropReason, EventId};
use crate::frame::Frame;
use crate::wire::{Packet, icmp6};

impl Hosts {
    pub(super) fn icmp(&mut self, mut frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let message = packet.payload(frame.bytes());
        let [kind, code, ..] = *message else {
            return cx.discard(frame, DropReason::Malformed);
        };
        let is_echo = message.len() >= 8 && kind == if packet.is_v4() { 8 } else { icmp6::ECHO_REQUEST };
        if !is_echo {
            // What asks for something else is answered by no host, with a container or without.
            let is_answer = if packet.is_v4() { matches!(kind, 0 | 3 | 11 | 12) } else { matches!(kind, 1..=4 | 129) };
            return match is_answer {
                true => {
                    let whose = self.whose_message(target, &frame, packet);
                    self.to_container(frame, packet, target, whose, cx)
                }
                false => cx.discard(frame, DropReason::Unsupported),
            };
        }
        let (session, ip_id, first) = self.touch(&frame, packet, Contact::Icmp, (0, true), cx);
        if first {
            let mut event = event_of(EventId::IcmpEcho, &frame, packet, session, cx.now);
            event.code = u16::from(kind) << 8 | u16::from(code);
            event.first = self.sessions.is_first_record();
            cx.emit(&mut event, &[]);
        }
        if !self.template(target.template).ping {
            return cx.discard(frame, DropReason::Filtered);
        }
        if let Some(fingerprint) = self.fingerprint(packet, target)
            && probe::is_echo_probe(packet.payload(frame.bytes()))
        {
            return self.echo_probe(frame, packet, target, fingerprint, cx);
        }
        let voice = self.voice(target, packet, 0, ip_id, cx);
        reply::echo(&mut frame, packet, &voice);
        self.reply(frame, cx);
    }
}
