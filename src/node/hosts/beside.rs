//! What neighbors on the same node answer to a container. It is written straight into the container's port, by whoever of
//! the node's parts answers; what a container sends is changed on its way to them as it is on its way to everybody
//! (`rewrite`), so at the end of each turn the answers are changed back.

use super::super::{Cx, HostsConfig};
use super::Hosts;
use crate::frame::{Frame, PortNo};
use crate::wire::Packet;

impl Hosts {
    /// Changes what the node is about to send to its containers into answers to what they wrote themselves. Nothing is
    /// looked at in a node whose containers have left each other and their neighbors alone.
    #[inline]
    pub(super) fn answer_beside(&mut self, cx: &mut Cx<'_>) {
        if self.rewritten.beside {
            self.answer_all_beside(cx);
        }
    }

    #[cold]
    fn answer_all_beside(&mut self, cx: &mut Cx<'_>) {
        for port in (0..cx.out.len() as u16).map(PortNo).filter(|port| *port != HostsConfig::LAN) {
            let at = usize::from(port.0);
            if cx.out[at].is_empty() {
                continue;
            }
            let mut batch = std::mem::take(&mut cx.out[at]);
            if self.leases.by_port.contains_key(&port) {
                for frame in batch.iter_mut() {
                    if let Ok(packet) = Packet::parse(frame.bytes()) {
                        self.rewrite_back(frame, &packet, true);
                    }
                }
                cx.out[at] = batch;
                continue;
            }
            // The container is kept by another shard, which knows what it has changed.
            for mut frame in batch.drain(..) {
                let owner = Packet::parse(frame.bytes()).ok().and_then(|packet| self.other_owner(packet.dst_word, cx));
                match owner {
                    Some(owner) => {
                        cx.counters.tx = cx.counters.tx.saturating_sub(frame.segments() as u64);
                        frame.meta.port = port;
                        cx.hand_over(owner, frame);
                    }
                    None => self.rewritten.parts.push(frame),
                }
            }
            std::mem::swap(&mut batch, &mut self.rewritten.parts);
            cx.out[at] = batch;
        }
    }

    /// Passes what another shard has answered to a container of this one on to it. Gives back what is no such answer.
    pub(super) fn answered_elsewhere(&mut self, frame: Frame, packet: &Packet, cx: &mut Cx<'_>) -> Option<Frame> {
        let host = self.config.host_of(packet.dst());
        if self.leases.by_port.get(&frame.meta.port).is_none_or(|whose| whose.host != host) {
            // A container's frame, whose answers have to go back to the shard that keeps it.
            self.rewritten.beside = true;
            return Some(frame);
        }
        // At the end of this turn it is changed back.
        let port = frame.meta.port;
        cx.send(port, frame);
        None
    }
}
