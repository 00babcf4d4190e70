//! Connections that ended a moment ago (TIME-WAIT, RFC 9293 §3.6.1). What still
//! comes of one is neither a probe nor something that a container has begun.

use super::super::Cx;
use super::flow::{Ending, Flow, Wire};
use super::{Hosts, Target};
use crate::emulate::ClockTable;
use crate::frame::Frame;
use crate::stack::{FlowKey, Outgoing};
use crate::wire::{Duration, Instant, Packet, TcpHeader, TcpOptions, flag};

/// How long a connection is remembered that its system forgets at once.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Most connections of a node that are.
const MOST: usize = 4096;

struct Last {
    until: Instant,
    wire: Wire,
    /// Both sides had said that they had no more to send, the host first or at the same time: it is in TIME-WAIT.
    time_wait: bool,
}

/// A node's connections of the last minutes.
pub(super) struct Ended(ClockTable<FlowKey, Last>);

impl Ended {
    pub(super) fn new(seed: u64) -> Ended {
        Ended(ClockTable::new(MOST, seed))
    }

    pub(super) fn remember(&mut self, flow: &Flow, now: Instant) {
        let orderly = flow.ending.is_none_or(|ending| ending == Ending::Closed);
        // Where the peer has closed first, nothing is left of a connection once our FIN is acknowledged.
        let time_wait = orderly && !flow.conn.is_closed();
        let habits = &flow.wire.personality.tcp;
        let duration = if time_wait { Duration::from_secs(habits.time_wait_secs.into()) } else { REMEMBERED };
        self.0.insert(flow.wire.key, Last { until: now + duration, wire: flow.wire, time_wait });
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

    /// Whether a SYN does not begin a new connection, because the last one with that key is in TIME-WAIT and it might be
    /// an old segment of that: its number does not lie behind the last, nor its timestamp (RFC 6191 §2, which the BSDs
    /// and Windows know nothing of).
    pub(super) fn keeps_out(&mut self, key: &FlowKey, tcp: &TcpHeader, options: &TcpOptions, now: Instant) -> bool {
        let Some(Last { wire, time_wait: true, .. }) = self.find(key, now) else { return false };
        let is_after = |a: u32, b: u32| a.wrapping_sub(b) as i32 > 0;
        let is_later = match (wire.ts, options.timestamps) {
            (Some((_, recent)), Some((value, _))) => wire.personality.is_linux && is_after(value, recent),
            _ => false,
        };
        !is_after(tcp.seq, wire.next.1) && !is_later
    }
}

impl Hosts {
    /// A segment of a peer whose connection has ended, and no SYN that begins another. Gives the frame back if there
    /// was none.
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
        let is_bare = packet.end - packet.l4 == tcp.len && !tcp.has(flag::FIN) && !tcp.has(flag::SYN);
        let (seq, ack) = last.wire.next;
        if tcp.has(flag::RST) {
            // RFC 9293 §3.10.7.4: nothing is left to be reset.
            if tcp.seq == ack {
                self.ended.forget(key);
            }
            cx.consume(frame);
        } else if last.time_wait && is_bare && tcp.seq == ack {
            cx.consume(frame);
        } else if last.time_wait {
            // Our last acknowledgment was lost, or what comes is old.
            if tcp.has(flag::FIN) {
                last.until = cx.now + Duration::from_secs(last.wire.personality.tcp.time_wait_secs.into());
            }
            let window = u32::from(last.wire.personality.syn_ack_window);
            let out = Outgoing { seq, ack, flags: flag::ACK, window, sack: &[], payload: &[], mss: 0 };
            last.wire.send(&out, &mut self.ids, cx);
            cx.consume(frame);
        } else {
            let ip_id = last.wire.ip_id;
            self.rst(frame, packet, tcp, target, ip_id, cx);
        }
        None
    }
}
