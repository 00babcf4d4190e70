//! Ports whose connections never get anywhere: nothing of them is remembered.

use super::super::Cx;
use super::{Hosts, Target};
use crate::emulate::reply::{self, Voice};
use crate::frame::Frame;
use crate::stack::{FlowKey, SynInfo};
use crate::wire::{Packet, Segment, TcpHeader, flag};

impl Hosts {
    /// How the host speaks in a connection that it does not remember.
    fn tarpit_voice(
        &mut self,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) -> Voice {
        let key = FlowKey { local: packet.dst(), remote: packet.src(), local_port: tcp.dst, remote_port: tcp.src };
        let flow_label = self.label_of(self.personality(target), &key);
        Voice { flow_label, ..self.voice(target, packet, 0, ip_id, cx) }
    }

    /// SYN/ACK with a window of zero, without remembering anything.
    pub(super) fn tarpit_syn(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        syn: SynInfo,
        target: &Target,
        cx: &mut Cx<'_>,
    ) {
        let clock = (cx.now.total_micros() / 4) as u32;
        let isn = self.identity.isn(packet.dst(), tcp.dst, packet.src(), tcp.src).wrapping_add(clock);
        let voice = self.tarpit_voice(packet, tcp, target, 0, cx);
        let [a, b] = voice.personality.mss.to_be_bytes();
        let segment = Segment {
            src: tcp.dst,
            dst: tcp.src,
            seq: isn,
            ack: syn.isn.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            window: 0,
            options: &[2, 4, a, b],
            payload: &[],
        };
        reply::answer(&mut frame, packet, &segment, &voice, voice.personality.tcp_df);
        self.reply(frame, cx);
    }

    /// Acknowledges nothing and opens no window, for as long as the peer tries.
    pub(super) fn tarpit_ack(
        &mut self,
        mut frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        target: &Target,
        ip_id: u16,
        cx: &mut Cx<'_>,
    ) {
        if packet.end - packet.l4 == tcp.len && !tcp.has(flag::FIN) {
            // A bare ACK completes the handshake and needs no answer.
            return cx.consume(frame);
        }
        let voice = self.tarpit_voice(packet, tcp, target, ip_id, cx);
        let segment = Segment {
            src: tcp.dst,
            dst: tcp.src,
            seq: tcp.ack,
            ack: tcp.seq,
            flags: flag::ACK,
            window: 0,
            options: &[],
            payload: &[],
        };
        reply::answer(&mut frame, packet, &segment, &voice, voice.personality.tcp_df);
        self.reply(frame, cx);
    }
}
