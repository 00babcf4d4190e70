//! What a connection says to segments that have no place in it, or that cross its own.

use smoltcp::socket::tcp;

use super::super::acceptable::{Place, Verdict};
use super::super::socket::Sockets;
use super::super::tcb::{State, Tcb, WINDOW};
use super::super::{Incoming, Outgoing};
use super::Conn;
use crate::wire::{Instant, flag};

impl Conn {
    /// What becomes of a segment, if the handshake is complete.
    pub(super) fn judge(&self, segment: &Incoming<'_>) -> Verdict {
        let Conn { tcb: Tcb { una, nxt, rcv, window, challenges, .. }, .. } = *self;
        let (una, rcv) = self.socket.as_ref().map_or((una, rcv), |socket| (socket.una(), socket.rcv()));
        match self.state() {
            Some(tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Closed) => Verdict::Take,
            None if self.tcb.state == State::Closed => Verdict::Take,
            _ => Place { una, nxt, rcv, window, challenges }.judge(segment),
        }
    }

    /// The peer's SYN/ACK after its SYN and ours have crossed (RFC 9293 §3.5, figure 7), as an acknowledgment:
    /// smoltcp has had the SYN already, and takes it for old.
    pub(super) fn simultaneous<'a>(&self, segment: &Incoming<'a>) -> Option<Incoming<'a>> {
        let socket = self.socket.as_ref().filter(|socket| socket.tcp_ref().state() == tcp::State::SynReceived)?;
        let (seq, flags) = (segment.seq.wrapping_add(1), segment.flags & !flag::SYN);
        let is_second = segment.flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK && seq == socket.read;
        is_second.then_some(Incoming { seq, flags, options: &[], ..*segment })
    }

    /// Says what was received so far, and where we are.
    pub(super) fn repeat(&mut self, mut send: impl FnMut(&Outgoing<'_>)) {
        let mut blocks = [[0; 2]; 4];
        let Conn { tcb, socket, .. } = self;
        let (ack, window, n) = match socket {
            Some(socket) if tcb.sack => {
                (socket.rcv(), socket.window(), socket.early.blocks(socket.latest, &mut blocks))
            }
            Some(socket) => (socket.rcv(), socket.window(), 0),
            None => (tcb.rcv, WINDOW, 0),
        };
        tcb.acked = ack;
        send(&Outgoing { seq: tcb.nxt, ack, flags: flag::ACK, window, sack: &blocks[..n], payload: &[], mss: 0 });
    }

    /// Answers what has no place in the connection by an acknowledgment of what was received so far (RFC 5961 §7), at
    /// most twice a second.
    pub fn challenge(&mut self, now: Instant, send: impl FnMut(&Outgoing<'_>)) {
        if self.tcb.may_challenge(now) {
            self.repeat(send);
        }
    }

    /// Answers a segment by the RST of RFC 9293 §3.10.7.1; the connection is over.
    pub fn refuse(&mut self, segment: &Incoming<'_>, sockets: &mut Sockets, mut send: impl FnMut(&Outgoing<'_>)) {
        let controls = u32::from(segment.flags & flag::SYN != 0) + u32::from(segment.flags & flag::FIN != 0);
        let end = segment.seq.wrapping_add(segment.payload.len() as u32).wrapping_add(controls);
        let has_ack = segment.flags & flag::ACK != 0;
        let (seq, ack, flags) = if has_ack { (segment.ack, 0, flag::RST) } else { (0, end, flag::RST | flag::ACK) };
        send(&Outgoing { seq, ack, flags, window: 0, sack: &[], payload: &[], mss: 0 });
        (self.tcb.state, self.tcb.reset) = (State::Closed, false);
        if let Some(socket) = self.socket.take() {
            sockets.take_back(socket);
        }
    }
}
