//! A connection at rest: what has to be remembered of one that only waits, for an
//! acknowledgment of a little data or for anything at all. RFC 9293 §3.3.1 calls
//! it the transmission control block.
//!
//! At rest a connection takes bare acknowledgments, sends again what was not
//! acknowledged (RFC 6298), probes a closed window (RFC 9293 §3.8.6.1) and asks
//! whether a silent peer is still there. Data, a FIN or a RST wake it: those are
//! for smoltcp to judge.

use super::{Incoming, Outgoing};
use crate::emulate::{KeepAlive, TcpHabits};
use crate::wire::{Duration, Instant, flag};

/// How long a peer may be silent before it is asked whether it is still there (RFC 9293 §3.8.4).
pub const KEEP_ALIVE: Duration = Duration::from_secs(7200);
/// The window of a connection that has nothing unread: as much as its buffer holds.
pub(super) const WINDOW: u32 = 65_535;
/// Bounds of the time after which something is sent again, in milliseconds; smoltcp's are the same.
const RTO: (u64, u64) = (1000, 60_000);
/// Between two acknowledgments of what makes no sense (RFC 5961 §7; Linux's tcp_invalid_ratelimit).
const CHALLENGE: Duration = Duration::from_millis(500);

/// Where in its life a connection is (RFC 9293 §3.3.2), as far as it may rest there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Established,
    /// The peer has closed its side.
    CloseWait,
    /// We have closed ours, and the peer has not acknowledged it.
    FinWait1,
    FinWait2,
    /// Both have closed, the peer first.
    LastAck,
    Closed,
}

/// A connection in few octets. Sequence numbers are those on the wire.
#[derive(Debug)]
pub(super) struct Tcb {
    /// Our oldest octet that was not acknowledged.
    pub una: u32,
    /// Behind everything that was sent, a FIN included.
    pub nxt: u32,
    /// The peer's next octet.
    pub rcv: u32,
    /// What was acknowledged of the peer's.
    pub acked: u32,
    /// The peer's window in octets.
    pub window: u32,
    /// The most data that a segment to the peer may carry.
    pub mss: u16,
    /// Round-trip time in milliseconds, 0 if it is not known.
    pub rtt: u16,
    /// By how much the peer's windows are shifted.
    pub scale: u8,
    /// Whether the peer understands selective acknowledgments (RFC 2018 §2).
    pub sack: bool,
    /// Whether what is at a wrong place in the window is questioned (RFC 5961).
    pub challenges: bool,
    /// How a silent peer is asked whether it is still there, if it is.
    pub keep_alive: Option<KeepAlive>,
    pub state: State,
    /// How often in a row something was sent again, or asked in vain.
    pub retries: u8,
    /// Whether an acknowledgment of everything tells the round-trip time (RFC 6298 §3).
    pub timed: bool,
    /// A RST is to be sent.
    pub reset: bool,
    /// Our octets from `una` on: sent ones, then those that wait for the window.
    pub waiting: Box<[u8]>,
    /// When something was last sent for the first time or again, or heard.
    pub since: Instant,
    /// When what is received is acknowledged, if it is not.
    pub ack_by: Instant,
    /// Before that, nothing that makes no sense is answered.
    pub challenge_at: Instant,
}

/// Whether sequence number `a` lies behind `b`.
#[inline]
pub(super) fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

impl Tcb {
    /// A connection that was just opened: `nxt` is our first octet, `rcv` the peer's.
    pub(super) fn open(nxt: u32, rcv: u32, now: Instant) -> Tcb {
        Tcb {
            una: nxt,
            nxt,
            rcv,
            acked: rcv,
            window: 0,
            mss: 536,
            rtt: 0,
            scale: 0,
            sack: false,
            challenges: true,
            keep_alive: Some(TcpHabits::LINUX.keep_alive),
            state: State::Established,
            retries: 0,
            timed: false,
            reset: false,
            waiting: Box::default(),
            since: now,
            ack_by: now,
            challenge_at: Instant::ZERO,
        }
    }

    /// How many of the waiting octets were sent.
    pub(super) fn in_flight(&self) -> usize {
        (self.nxt.wrapping_sub(self.una) as usize).min(self.waiting.len())
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, State::FinWait1 | State::LastAck)
    }

    /// Whether a FIN was sent and is not acknowledged.
    pub(super) fn fin_in_flight(&self) -> bool {
        self.is_closing() && self.nxt.wrapping_sub(self.una) as usize > self.waiting.len()
    }

    /// Whether the window has room for what waits: smoltcp's business.
    pub(super) fn can_send(&self) -> bool {
        let in_flight = self.in_flight();
        in_flight < self.waiting.len() && self.window as usize > in_flight
    }

    /// Whether the peer has closed its side.
    pub(super) fn peer_closed(&self) -> bool {
        matches!(self.state, State::CloseWait | State::LastAck)
    }

    pub(super) fn close(&mut self) {
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => other,
        };
    }

    /// After how long something is sent again (RFC 6298 §2, §5.5).
    pub(super) fn rto(&self) -> Duration {
        let base = (3 * u64::from(self.rtt)).max(RTO.0);
        Duration::from_millis((base << self.retries.min(6)).min(RTO.1))
    }

    /// After how long of silence it is asked whether the peer is still there, or no longer taken for that.
    fn silence(&self) -> Option<Duration> {
        let asked = self.retries > 0;
        self.keep_alive.map(|habit| if asked { Duration::from_secs(habit.interval_secs.into()) } else { KEEP_ALIVE })
    }

    fn has_work(&self) -> bool {
        self.nxt != self.una || !self.waiting.is_empty() || self.is_closing()
    }

    /// When [`Tcb::egress`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let work = if self.has_work() { Some(self.rto()) } else { self.silence() };
        let acknowledgment = (self.acked != self.rcv).then_some(self.ack_by);
        work.map(|after| self.since + after).into_iter().chain(acknowledgment).min()
    }

    fn emit(&mut self, seq: u32, flags: u8, payload: &[u8], send: &mut impl FnMut(&Outgoing<'_>)) {
        self.acked = self.rcv;
        send(&Outgoing { seq, ack: self.rcv, flags: flags | flag::ACK, window: WINDOW, sack: &[], payload, mss: 0 });
    }

    /// Takes note of a round trip (RFC 6298 §2.3, without the variance).
    pub(super) fn sample(&mut self, trip: Duration) {
        let trip = trip.total_millis().clamp(1, u64::from(u16::MAX)) as u32;
        let old = u32::from(self.rtt);
        self.rtt = if old == 0 { trip } else { (7 * old + trip) / 8 }.max(1) as u16;
    }

    /// Takes a segment, which has its place, if it is a RST or changes nothing but what was acknowledged. Whether it did.
    pub(super) fn ingress(&mut self, segment: &Incoming<'_>, now: Instant) -> bool {
        if self.state == State::Closed {
            return true;
        }
        if segment.flags & flag::RST != 0 {
            self.state = State::Closed;
            return true;
        }
        if segment.flags & flag::FIN != 0 || !segment.payload.is_empty() {
            return false;
        }
        if after(self.una, segment.ack) {
            return true;
        }
        self.window = u32::from(segment.window) << self.scale;
        let acked = segment.ack.wrapping_sub(self.una) as usize;
        if acked > 0 {
            if self.timed && segment.ack == self.nxt {
                self.sample(now - self.since);
            }
            if self.fin_in_flight() && acked > self.waiting.len() {
                self.state = if self.state == State::LastAck { State::Closed } else { State::FinWait2 };
            }
            self.waiting = self.waiting.get(acked..).map(Box::from).unwrap_or_default();
            self.una = segment.ack;
            self.retries = 0;
            self.timed = false;
            self.since = now;
        } else if !self.has_work() {
            (self.since, self.retries) = (now, 0);
        }
        true
    }

    /// Whether something that makes no sense is answered now: at most twice a second.
    pub(super) fn may_challenge(&mut self, now: Instant) -> bool {
        let may = now >= self.challenge_at;
        if may {
            self.challenge_at = now + CHALLENGE;
        }
        may
    }

    /// Acknowledges what was received, if it was not.
    pub(super) fn acknowledge(&mut self, send: &mut impl FnMut(&Outgoing<'_>)) {
        if self.acked != self.rcv {
            self.emit(self.nxt, 0, &[], send);
        }
    }

    /// Sends what is due.
    pub(super) fn egress(&mut self, now: Instant, send: &mut impl FnMut(&Outgoing<'_>)) {
        if self.state == State::Closed {
            if std::mem::take(&mut self.reset) {
                self.emit(self.nxt, flag::RST, &[], send);
            }
            return;
        }
        let in_flight = self.in_flight();
        if self.is_closing() && in_flight == self.waiting.len() && !self.fin_in_flight() {
            self.emit(self.nxt, flag::FIN, &[], send);
            self.timed = self.nxt == self.una;
            self.nxt = self.nxt.wrapping_add(1);
            self.since = now;
        }
        if self.has_work() && now >= self.since + self.rto() {
            // As much as a segment and the window hold; one octet asks whether there is a window.
            let most = in_flight.max(1).min(self.window.max(1) as usize).min(usize::from(self.mss));
            let head = &self.waiting[..most.min(self.waiting.len())];
            let psh = if head.is_empty() { 0 } else { flag::PSH };
            let fin = if head.len() == self.waiting.len() && self.fin_in_flight() { flag::FIN } else { 0 };
            self.acked = self.rcv;
            let end = self.una.wrapping_add(head.len() as u32);
            let flags = flag::ACK | psh | fin;
            send(&Outgoing { seq: self.una, ack: self.rcv, flags, window: WINDOW, sack: &[], payload: head, mss: 0 });
            if after(end, self.nxt) {
                self.nxt = end;
            }
            self.retries = self.retries.saturating_add(1);
            self.timed = false;
            self.since = now;
        } else if let Some(habit) = self.keep_alive.filter(|_| !self.has_work())
            && self.silence().is_some_and(|silence| now >= self.since + silence)
        {
            if self.retries >= habit.probes {
                self.state = State::Closed;
                return self.emit(self.nxt, flag::RST, &[], send);
            }
            self.emit(self.nxt.wrapping_sub(1), 0, if habit.octet { b"\0" } else { b"" }, send);
            self.retries += 1;
            self.since = now;
        }
        if self.acked != self.rcv && now >= self.ack_by {
            self.emit(self.nxt, 0, &[], send);
        }
    }
}
