//! One TCP connection: at rest a few dozen octets, at work one of smoltcp's sockets.
//!
//! A connection rests whenever nothing of the peer's is unread and little of ours
//! waits for an acknowledgment, and so does nearly every one of a hundred
//! thousand. It wakes for data, FIN and RST of the peer and for data of ours.
//!
//! Segments go in parsed and come out parsed: headers on the wire are the
//! personality's business.

mod strange;

use smoltcp::socket::tcp;

use super::acceptable::Verdict;
use super::gather::Gather;
use super::recovery::sack_blocks;
use super::socket::{Scratch, Socket, Sockets};
use super::tcb::{State, Tcb, WINDOW, after};
use super::{Incoming, OpenEnd, Outgoing};
use crate::emulate::TcpHabits;
use crate::wire::{Duration, Instant, TcpHeader, TcpOptions, be16, flag};

/// The longest that smoltcp puts an acknowledgment off.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// How long data that came too early is kept for what is missing before it, if nothing more comes.
const GAP: Duration = Duration::from_secs(3);

/// What a handshake has agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    /// The peer's initial sequence number.
    pub peer_isn: u32,
    /// Ours.
    pub isn: u32,
    /// By how much the peer's windows are shifted; 0 without scaling.
    pub scale: u8,
    /// The most data that a segment to the peer may carry.
    pub mss: u16,
    /// Whether both sides understand selective acknowledgments.
    pub sack: bool,
    /// What the host's system does in an open connection.
    pub habits: TcpHabits,
    /// Whether the application wants to know whether a silent peer is still there.
    pub keep_alive: bool,
    /// How long the peer took to answer; zero if that is not known.
    pub trip: Duration,
}

/// A connection.
pub struct Conn {
    /// All there is to know at rest; the socket knows more at work.
    tcb: Tcb,
    socket: Option<Box<Socket>>,
    /// The peer has data from before we woke that is not acknowledged.
    owing: bool,
}

impl Conn {
    /// A connection whose handshake is complete. The segment that completed it is
    /// to be given to [`Conn::ingress`] next, for its window and what it carries.
    pub fn accept(agreed: &Agreed, now: Instant) -> Conn {
        let mut tcb = Tcb::open(agreed.isn.wrapping_add(1), agreed.peer_isn.wrapping_add(1), now);
        (tcb.scale, tcb.mss, tcb.sack) = (agreed.scale.min(14), agreed.mss, agreed.sack);
        tcb.challenges = agreed.habits.challenges;
        tcb.keep_alive = agreed.keep_alive.then_some(agreed.habits.keep_alive);
        if agreed.trip > Duration::ZERO {
            tcb.sample(agreed.trip);
        }
        Conn { tcb, socket: None, owing: false }
    }

    /// A connection that we open; its SYN comes out of the next [`Conn::egress`].
    ///
    /// `None` if all sockets are lent.
    pub fn connect(now: Instant, sockets: &mut Sockets) -> Option<Conn> {
        let socket = Some(sockets.connect(now)?);
        Some(Conn { tcb: Tcb::open(0, 0, now), socket, owing: false })
    }

    fn state(&self) -> Option<tcp::State> {
        self.socket.as_ref().map(|socket| socket.tcp_ref().state())
    }

    /// Wakes it, if it rests; whether it is at work then.
    fn wake(&mut self, now: Instant, sockets: &mut Sockets) -> bool {
        if self.socket.is_none() {
            self.owing = self.tcb.acked != self.tcb.rcv;
            self.socket = sockets.wake(&mut self.tcb, now);
        }
        self.socket.is_some()
    }

    /// Takes a segment of the peer. What is answered at once (an acknowledgment of
    /// what came out of order, a RST) goes to `send`.
    ///
    /// Returns `false` if it needs a socket and all are lent: the segment is lost, as segments may be.
    pub fn ingress(
        &mut self,
        segment: &Incoming<'_>,
        now: Instant,
        sockets: &mut Sockets,
        mut send: impl FnMut(&Outgoing<'_>),
    ) -> bool {
        let simultaneous = self.simultaneous(segment);
        let segment = simultaneous.as_ref().unwrap_or(segment);
        match self.judge(segment) {
            Verdict::Take => {}
            Verdict::Ignore => return true,
            Verdict::Acknowledge => {
                self.repeat(&mut send);
                return true;
            }
            Verdict::Challenge => {
                self.challenge(now, send);
                return true;
            }
            Verdict::Refuse => {
                self.refuse(segment, sockets, send);
                return true;
            }
        }
        if self.socket.is_none() && self.tcb.ingress(segment, now) {
            return true;
        }
        if !self.wake(now, sockets) {
            return false;
        }
        let Conn { tcb, socket: Some(socket), .. } = self else { return false };
        let has_ack = segment.flags & flag::ACK != 0;
        let una = socket.una();
        let opening = matches!(socket.tcp_ref().state(), tcp::State::SynSent | tcp::State::SynReceived);
        let is_bare = segment.payload.is_empty() && segment.flags & (flag::SYN | flag::RST | flag::FIN) == 0;
        let window = u32::from(segment.window) << tcb.scale;
        let is_old = !opening && has_ack && after(una, segment.ack);
        let is_again = segment.ack == una && window == tcb.window && after(tcb.nxt, una);
        // What repeated acknowledgments tell of losses is not smoltcp's business, and else they tell nothing.
        let is_again = !opening && has_ack && is_bare && is_again;
        // RFC 5681 §2. Answers to probes of a closed window are none.
        let is_duplicate = is_again && window > 0;
        if !(is_again || is_old && is_bare) {
            // smoltcp takes no data with an acknowledgment older than the last (RFC 9293 §3.10.7.4 does).
            let present = (una, (tcb.window >> tcb.scale).min(65_535) as u16);
            let (ack, window) = if is_old { present } else { (segment.ack, segment.window) };
            let ack = if has_ack { ack.wrapping_sub(socket.offset) } else { 0 };
            sockets.ingress(socket, &Incoming { ack, window, ..*segment }, now);
        }
        if opening {
            opened(tcb, socket, segment);
        }
        let (now_una, rcv) = (socket.una(), socket.rcv());
        if has_ack && segment.ack == now_una && segment.flags & (flag::SYN | flag::RST) == 0 {
            tcb.window = u32::from(segment.window) << tcb.scale;
        }
        if now_una != una {
            if tcb.timed && now_una == tcb.nxt {
                tcb.sample(now - tcb.since);
            }
            tcb.timed = false;
            tcb.retries = 0;
        }
        socket.early.trim(rcv);
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        if !segment.payload.is_empty() {
            socket.latest = segment.seq;
            if after(segment.seq, rcv) && end.wrapping_sub(rcv) <= WINDOW {
                socket.early.add([segment.seq, end]);
            }
        }
        socket.heard = now;
        let mut again = std::mem::take(&mut sockets.scratch.again);
        flush(tcb, socket, &mut sockets.scratch, (now, false), &mut send);
        if has_ack && !opening {
            let mut blocks = [[0; 2]; 4];
            let n = if tcb.sack { sack_blocks(segment.options, &mut blocks) } else { 0 };
            let (mss, recovery) = (u32::from(tcb.mss.max(1)), &mut socket.recovery);
            recovery.on_ack(now_una, is_duplicate, &blocks[..n], tcb.nxt, mss);
            let end = if after(tcb.nxt, socket.queued) { socket.queued } else { tcb.nxt };
            while let Some([from, to]) = socket.recovery.next(now_una, end, mss) {
                socket.copy(from, to, &mut again);
                tcb.acked = rcv;
                let psh = if to == socket.queued { flag::PSH } else { 0 };
                let (flags, window) = (flag::ACK | psh, socket.window());
                send(&Outgoing { seq: from, ack: rcv, flags, window, sack: &[], payload: &again, mss: 0 });
                tcb.timed = false;
            }
        }
        sockets.scratch.again = again;
        true
    }

    /// Sends what is to be sent now; segments that follow each other `together`, if whoever sends can have them cut.
    pub fn egress(&mut self, now: Instant, sockets: &mut Sockets, together: bool, mut send: impl FnMut(&Outgoing<'_>)) {
        if self.socket.is_none() && (!self.tcb.can_send() || !self.wake(now, sockets)) {
            return self.tcb.egress(now, &mut send);
        }
        let Conn { tcb, socket: Some(socket), owing } = self else { return };
        sockets.egress(socket, now);
        flush(tcb, socket, &mut sockets.scratch, (now, together), &mut send);
        if tcb.window == 0 && socket.is_forgotten(sockets, now) && now >= tcb.since + tcb.rto() {
            // One octet asks whether there is a window (RFC 9293 §3.8.6.1).
            let (una, mut octet) = (socket.una(), std::mem::take(&mut sockets.scratch.again));
            socket.copy(una, una.wrapping_add(1), &mut octet);
            let (ack, window) = (socket.rcv(), socket.window());
            send(&Outgoing { seq: una, ack, flags: flag::ACK | flag::PSH, window, sack: &[], payload: &octet, mss: 0 });
            sockets.scratch.again = octet;
            (tcb.since, tcb.retries, tcb.timed) = (now, tcb.retries.saturating_add(1), false);
        }
        if std::mem::take(owing) && tcb.acked != socket.rcv() && socket.tcp_ref().is_open() {
            tcb.acked = socket.rcv();
            let (ack, window) = (tcb.acked, socket.window());
            send(&Outgoing { seq: tcb.nxt, ack, flags: flag::ACK, window, sack: &[], payload: &[], mss: 0 });
        }
    }

    /// Whether a segment has data that did not come before: not so a question whether we are still there.
    pub fn is_news(&self, segment: &Incoming<'_>) -> bool {
        let rcv = self.socket.as_ref().map_or(self.tcb.rcv, |socket| socket.rcv());
        !segment.payload.is_empty() && after(segment.seq.wrapping_add(segment.payload.len() as u32), rcv)
    }

    /// When [`Conn::egress`] wants to be called again though nothing happens.
    pub fn deadline(&self, now: Instant, sockets: &mut Sockets) -> Option<Instant> {
        match &self.socket {
            Some(socket) => {
                // Once only: what keeps it from resting then is no matter of time.
                let gap = Some(socket.heard + GAP).filter(|at| *at > now && !socket.early.get().is_empty());
                let probe = Some(self.tcb.since + self.tcb.rto());
                let probe = probe.filter(|_| self.tcb.window == 0 && socket.is_forgotten(sockets, now));
                sockets.deadline(socket, now).into_iter().chain(gap).chain(probe).min()
            }
            None => self.tcb.deadline(),
        }
    }

    /// Gives its socket back if nothing needs it.
    pub fn rest(&mut self, now: Instant, sockets: &mut Sockets) {
        let Conn { tcb, socket: slot, owing } = self;
        let Some(socket) = slot else { return };
        let state = match socket.tcp_ref().state() {
            tcp::State::Established => State::Established,
            tcp::State::CloseWait => State::CloseWait,
            tcp::State::FinWait1 => State::FinWait1,
            tcp::State::FinWait2 => State::FinWait2,
            tcp::State::LastAck => State::LastAck,
            _ => return,
        };
        let rcv = socket.rcv();
        // Data that came too early is lost by resting, as any that was not acknowledged may be (RFC 2018 §8).
        let is_early = !socket.early.get().is_empty() && now - socket.heard < GAP;
        let at_work = is_early || *owing || socket.recovery.is_under_way();
        if at_work || socket.tcp_ref().recv_queue() > 0 {
            return;
        }
        let Some(waiting) = socket.unacknowledged() else { return };
        (tcb.state, tcb.una, tcb.rcv, tcb.waiting) = (state, socket.una(), rcv, waiting);
        if tcb.acked != rcv {
            let due = sockets.deadline(socket, now).unwrap_or(now);
            tcb.ack_by = due.min(now + ACK_DELAY);
        }
        if tcb.una == tcb.nxt {
            (tcb.since, tcb.retries) = (now, 0);
        }
        if let Some(socket) = slot.take() {
            sockets.take_back(socket);
        }
    }

    /// Gives everything back.
    pub fn end(mut self, sockets: &mut Sockets) {
        if let Some(socket) = self.socket.take() {
            sockets.take_back(socket);
        }
    }

    /// Whether it rests.
    pub fn is_resting(&self) -> bool {
        self.socket.is_none()
    }

    /// Octets of its data that it keeps at rest.
    pub fn kept(&self) -> usize {
        self.tcb.waiting.len()
    }

    /// Where it stands, if nothing of either side's waits: no scale of ours and no clock, of which it knows nothing.
    pub fn open_end(&self) -> Option<OpenEnd> {
        let tcb = &self.tcb;
        let waits = self.socket.is_some() || tcb.una != tcb.nxt || !tcb.waiting.is_empty();
        (!waits && tcb.state == State::Established).then(|| OpenEnd {
            next: tcb.nxt,
            heard: tcb.rcv,
            peer_scale: tcb.scale,
            ..OpenEnd::default()
        })
    }

    /// Acknowledges at once what was received, if it was not.
    pub fn acknowledge(&mut self, mut send: impl FnMut(&Outgoing<'_>)) {
        if self.socket.is_none() {
            self.tcb.acknowledge(&mut send);
        }
    }

    /// It has gone on without us: our next octet, and the peer's.
    pub fn stands_at(&mut self, (next, heard): (u32, u32)) {
        (self.tcb.una, self.tcb.nxt) = (next, next);
        (self.tcb.rcv, self.tcb.acked) = (heard, heard);
    }

    /// Shows `f` the received data that lies together; `f` returns how much it took.
    pub fn recv(&mut self, f: impl FnOnce(&[u8]) -> usize) -> usize {
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.tcp_ref().can_recv()) else { return 0 };
        let taken = socket.tcp().recv(|bytes| {
            let n = f(bytes);
            (n, n)
        });
        let n = taken.unwrap_or(0);
        socket.read = socket.read.wrapping_add(n as u32);
        n
    }

    /// Queues as much of `bytes` as there is room for; returns how much. Nothing if all sockets are lent.
    pub fn send(&mut self, bytes: &[u8], now: Instant, sockets: &mut Sockets) -> usize {
        if bytes.is_empty() || !self.may_send() || !self.wake(now, sockets) {
            return 0;
        }
        self.socket.as_mut().map_or(0, |socket| socket.send(bytes))
    }

    fn may_send(&self) -> bool {
        match &self.socket {
            Some(socket) => socket.tcp_ref().may_send(),
            None => matches!(self.tcb.state, State::Established | State::CloseWait),
        }
    }

    /// Octets that [`Conn::send`] would take now, if there is a socket.
    pub fn room(&self) -> usize {
        match &self.socket {
            _ if !self.may_send() => 0,
            Some(socket) => socket.tcp_ref().send_capacity() - socket.tcp_ref().send_queue(),
            None => WINDOW as usize - self.tcb.waiting.len(),
        }
    }

    /// Whether data waits to be read.
    pub fn has_data(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.tcp_ref().can_recv())
    }

    /// Whether the peer has said that it will send no more, and all was read.
    pub fn at_end(&self) -> bool {
        match &self.socket {
            Some(socket) => socket.peer_closed() && !socket.tcp_ref().can_recv(),
            None => self.tcb.peer_closed(),
        }
    }

    /// Whether the handshake is complete and the connection not over.
    pub fn is_open(&self) -> bool {
        use tcp::State::{Closed, Listen, SynReceived, SynSent};
        match self.state() {
            Some(state) => !matches!(state, Listen | SynSent | SynReceived | Closed),
            None => self.tcb.state != State::Closed,
        }
    }

    /// Whether nothing is left of it.
    pub fn is_closed(&self) -> bool {
        match self.state() {
            Some(state) => state == tcp::State::Closed,
            None => self.tcb.state == State::Closed,
        }
    }

    /// Whether we have closed our side and the peer has acknowledged that, but not closed its own.
    pub fn is_half_closed(&self) -> bool {
        match self.state() {
            Some(state) => state == tcp::State::FinWait2,
            None => self.tcb.state == State::FinWait2,
        }
    }

    /// Whether only the wait for stray segments is left (RFC 9293 §3.6.1).
    pub fn is_time_wait(&self) -> bool {
        self.state() == Some(tcp::State::TimeWait)
    }

    /// Sends a FIN once everything queued was sent.
    pub fn close(&mut self) {
        match &mut self.socket {
            Some(socket) => socket.tcp().close(),
            None => self.tcb.close(),
        }
    }

    /// Sends a RST.
    pub fn abort(&mut self) {
        match &mut self.socket {
            Some(socket) => socket.tcp().abort(),
            None => {
                self.tcb.reset = self.tcb.state != State::Closed;
                self.tcb.state = State::Closed;
            }
        }
    }

    /// Whether data of ours was not acknowledged yet.
    pub fn is_unacknowledged(&self) -> bool {
        match &self.socket {
            Some(socket) => socket.tcp_ref().send_queue() > 0,
            None => !self.tcb.waiting.is_empty(),
        }
    }
}

/// Takes note of the peer's SYN, which answers ours or has crossed it (RFC 9293 §3.5, figure 7).
fn opened(tcb: &mut Tcb, socket: &mut Socket, segment: &Incoming<'_>) {
    let has_opened = matches!(socket.tcp_ref().state(), tcp::State::Established | tcp::State::SynReceived);
    if has_opened && segment.flags & flag::SYN != 0 {
        let options = TcpOptions::parse(segment.options);
        tcb.scale = options.window_scale.unwrap_or(0);
        tcb.mss = options.mss.unwrap_or(536);
        tcb.window = u32::from(segment.window);
        let first = segment.seq.wrapping_add(1);
        (socket.read, tcb.acked) = (first, segment.seq);
        socket.queued = tcb.nxt;
    }
}

/// Sends what smoltcp has sent, and takes note of it.
fn flush(
    tcb: &mut Tcb,
    socket: &mut Socket,
    scratch: &mut Scratch,
    (now, together): (Instant, bool),
    send: impl FnMut(&Outgoing<'_>),
) {
    let (una, offset) = (socket.una(), socket.offset);
    let mut blocks = [[0; 2]; 4];
    let n = if tcb.sack { socket.early.blocks(socket.latest, &mut blocks) } else { 0 };
    let (packets, data) = scratch.sent();
    let mut gather = Gather::new(together, data, send);
    for packet in packets {
        let Some(tcp) = packet.get(20..).and_then(TcpHeader::parse) else { continue };
        let mut payload = &packet[20 + tcp.len..];
        let (mut seq, mut flags) = (tcp.seq.wrapping_add(offset), tcp.flags);
        let controls = u32::from(tcp.flags & (flag::SYN | flag::FIN) != 0);
        let end = seq.wrapping_add(payload.len() as u32).wrapping_add(controls);
        if tcp.has(flag::SYN) {
            tcb.nxt = end;
        } else if after(end, tcb.nxt) {
            (tcb.nxt, tcb.since) = (end, now);
            tcb.timed = true;
        } else if end != seq {
            // Sent again: its acknowledgment tells nothing of the time that it took (RFC 6298 §3).
            tcb.timed = false;
            if seq == una && !payload.is_empty() {
                socket.recovery.on_timeout(una, tcb.nxt);
            }
            if controls == 0 && socket.recovery.has(seq, end) {
                // The peer has that: only what the segment acknowledges is news, if it is.
                if tcp.ack == tcb.acked {
                    continue;
                }
                (seq, flags, payload) = (tcb.nxt, flag::ACK, &[]);
            }
        }
        if tcp.has(flag::ACK) {
            tcb.acked = tcp.ack;
        }
        let sack = if payload.is_empty() && flags == flag::ACK { &blocks[..n] } else { &[] };
        let window = u32::from(be16(packet, 34));
        gather.put(Outgoing { seq, ack: tcp.ack, flags, window, sack, payload, mss: 0 });
    }
    gather.flush();
    scratch.forget();
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire_tests;
