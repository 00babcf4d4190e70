//! Connections that ended a moment ago (TIME-WAIT, RFC 9293 §3.6.1). What still
//! comes of one is neither a probe nor something that a container has begun.

use super::super::Cx;
use super::flow::{Ending, Flow, Wire};
use super::{Hosts, Target};
use crate::emulate::ClockTable;
use crate::frame::Frame;
use crate::stack::{FlowKey, Outgoing};
use crate::wire::{Duration, Instant, Packet, TcpHeader, flag};

/// How long a connection is remembered (Linux's TCP_TIMEWAIT_LEN).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// Most connections of a node that are.
const MOST: usize = 4096;

struct Last {
    until: Instant,
    wire: Wire,
    /// Both sides had said that they had no more to send.
    orderly: bool,
}

/// A node's connections of the last minute.
pub(super) struct Ended(ClockTable<FlowKey, Last>);

impl Ended {
    pub(super) fn new(seed: u64) -> Ended {
        Ended(ClockTable::new(MOST, seed))
    }

    pub(super) fn remember(&mut self, flow: &Flow, now: Instant) {
        let orderly = flow.ending.is_none_or(|ending| ending == Ending::Closed);
        self.0.insert(flow.wire.key, Last { until: now + TIME_WAIT, wire: flow.wire, orderly });
    }

    fn find(&mut self, key: &FlowKey, now: Instant) -> Option<&mut Last> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(key).filter(|last| now < last.until)
    }

    /// A new connection has that key.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    /// Whether a connection with that key has ended just now.
    pub(super) fn has(&mut self, key: &FlowKey, now: Instant) -> bool {
        self.find(key, now).is_some()
    }
}

impl Hosts {
    /// A segment of a peer whose connection has ended. Gives the frame back if there was none.
    pub(super) fn after_the_end(
        &mut self,
        frame: Frame,
        packet: &Packet,
        tcp: &TcpHeader,
        key: &FlowKey,
        target: &Target,
        cx: &mut Cx<'_>,
    ) -> Option<Frame> {
        let Some(last) = self.ended.find(key, cx.now) else { return Some(frame) };
        let says_something = tcp.has(flag::FIN) || packet.end - packet.l4 > tcp.len;
        if tcp.has(flag::RST) || (last.orderly && !says_something) {
            cx.consume(frame);
        } else if last.orderly {
            // Our last acknowledgment was lost.
            let (seq, ack) = last.wire.next;
            let window = u32::from(last.wire.personality.syn_ack_window);
            last.wire.send(&Outgoing { seq, ack, flags: flag::ACK, window, sack: &[], payload: &[] }, &mut self.ids, cx);
            cx.consume(frame);
        } else {
            let ip_id = last.wire.ip_id;
            self.rst(frame, packet, tcp, target, ip_id, cx);
        }
        None
    }
}
