//! The states of one host's lease (RFC 2131 §4.4, figure 5), and the test of an address before it is used (§4.4.1,
//! RFC 5227).
//!
//! One thing is done at a time: [`Machine::due`] says what, once its time has come, and [`Machine::deadline`] when that is.
//! Whatever a server says or does not say, there is a longest and a shortest time until the next message: a host that
//! is refused, or gets no answer, waits longer each time.
//!
//! A host without a memory begins anew after a restart (INIT); there is no INIT-REBOOT, and no INFORM. Nothing is released
//! in the end: clients that are switched off do not, either, and an address that comes back is the same.

use std::net::Ipv4Addr;

use super::message::Message;
use super::reply::{Kind, Lease, Refusal, Reply};
use crate::wire::{DhcpMessageType, Duration, Instant, Mac};

/// Where a host stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has nothing, and waits until it tries.
    Init,
    /// It looks for servers.
    Selecting,
    /// It has asked for what was offered.
    Requesting,
    /// It has a lease, and asks whether anybody uses that address.
    Testing,
    /// It has an address.
    Bound,
    /// It asks its server to have the address for longer.
    Renewing,
    /// It asks everybody.
    Rebinding,
    /// Somebody else uses the address.
    Declining,
}

impl State {
    /// Whether it has an address.
    pub fn is_bound(self) -> bool {
        matches!(self, State::Bound | State::Renewing | State::Rebinding)
    }
}

/// Why a host lost its address (`code` of `dhcp.lost`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Loss {
    /// Nobody renewed the lease in time.
    Expired = 0,
    /// A server took it back.
    Nak = 1,
    /// Somebody else uses it.
    Conflict = 2,
}

impl Loss {
    /// The names of all of them, in the order of their codes.
    pub const NAMES: [&'static str; 3] = ["expired", "nak", "conflict"];
}

/// What a host does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Says something to servers.
    Say(Message),
    /// Asks whether anybody has that address.
    Probe(Ipv4Addr),
    /// Has an address from now on.
    Take(Lease),
    /// Says that it has that address.
    Announce(Ipv4Addr),
    /// Has that address no longer.
    LetGo(Ipv4Addr, Loss),
    /// Tells the server that the address is in use by that MAC.
    Decline(Message, Mac),
}

/// How a host tests and announces an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Probes, at least one.
    pub probes: u8,
    /// Announcements.
    pub announcements: u8,
    /// Between two of them, and after the last probe.
    pub gap: Duration,
}

/// Messages of one kind without an answer until a host begins anew.
const DISCOVERS: u8 = 5;
const REQUESTS: u8 = 4;
/// RFC 2131 §4.1: four seconds, twice as many each time up to 64, give or take one.
const FIRST_MS: u64 = 4000;
const DOUBLINGS: u8 = 4;
/// RFC 2131 §4.4.5: no sooner than after a minute is it asked for a renewal once more.
const RENEW: Duration = Duration::from_secs(60);
/// RFC 2131 §3.1.5: at least ten seconds after an address was declined. So long the first time; twice as long each time after
/// that, and until it has an address.
const REST: Duration = Duration::from_secs(10);
/// The longest rest: what clients wait that found no server.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// The rest after an address that was in use for the third time running.
const WEARY: Duration = Duration::from_secs(3600);
const DECLINES: u8 = 3;
/// RFC 5227 §2.4: an address is defended once in so long.
const DEFEND: Duration = Duration::from_secs(10);

/// One host's client.
#[derive(Clone, Debug)]
pub struct Machine {
    mac: Mac,
    pace: Pace,
    state: State,
    /// When something is to be done.
    next: Instant,
    xid: u32,
    /// When this began, for `secs`.
    begun: Instant,
    /// When what is being asked for was asked for first.
    asked: Instant,
    /// From when on the lease lasts: since it was asked for, not since it was granted (RFC 2131 §4.4.1).
    since: Instant,
    /// Messages, probes or announcements of this state so far.
    sent: u8,
    /// What was offered, is tested or held.
    lease: Option<Lease>,
    /// The address that it had, and asks for again.
    last: Option<Ipv4Addr>,
    /// Who uses the address, too.
    rival: Mac,
    defended: Option<Instant>,
    /// Attempts that failed one after another.
    failures: u8,
    declines: u8,
}

impl Machine {
    /// A host that begins at `begin`.
    pub fn new(mac: Mac, pace: Pace, begin: Instant) -> Machine {
        Machine {
            mac,
            pace,
            state: State::Init,
            next: begin,
            xid: 0,
            begun: begin,
            asked: begin,
            since: begin,
            sent: 0,
            lease: None,
            last: None,
            rival: Mac::ZERO,
            defended: None,
            failures: 0,
            declines: 0,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What it was offered, tests or holds.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Whether an answer in that transaction may mean something to it.
    pub fn expects(&self, xid: u32) -> bool {
        let waits = matches!(self.state, State::Selecting | State::Requesting | State::Renewing | State::Rebinding);
        waits && self.xid == xid
    }

    /// Who used its address, the last time that somebody did.
    pub fn rival(&self) -> Mac {
        self.rival
    }

    /// When it wants to do something.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Has it wait.
    pub fn postpone(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }

    /// What it does now. To be called until it is nothing; `roll` is a random number.
    pub fn due(&mut self, now: Instant, roll: u64) -> Option<Act> {
        if now < self.next {
            return None;
        }
        match (self.state, self.lease) {
            (State::Init, _) => {
                self.begin(State::Selecting, now, roll);
                self.lease = None;
                Some(self.discover(now, roll))
            }
            (State::Selecting, _) if self.sent < DISCOVERS => Some(self.discover(now, roll)),
            (State::Requesting, Some(lease)) if self.sent < REQUESTS => Some(self.request(&lease, now, roll)),
            (State::Testing, Some(lease)) if self.sent < self.pace.probes.max(1) => {
                self.sent += 1;
                self.next = now + self.pace.gap;
                Some(Act::Probe(lease.ip))
            }
            (State::Testing, Some(lease)) => {
                self.state = State::Bound;
                (self.sent, self.failures, self.declines, self.defended) = (0, 0, 0, None);
                self.last = Some(lease.ip);
                self.next = now;
                Some(Act::Take(lease))
            }
            (State::Bound, Some(lease)) if self.sent < self.pace.announcements => {
                self.sent += 1;
                self.next = if self.sent < self.pace.announcements { now + self.pace.gap } else { self.t1(&lease) };
                Some(Act::Announce(lease.ip))
            }
            (State::Bound, Some(lease)) if now < self.t1(&lease) => {
                self.next = self.t1(&lease);
                None
            }
            (State::Bound, Some(lease)) => {
                let until = self.until(lease.t2);
                self.begin(State::Renewing, now, roll);
                Some(self.renew(&lease, until, now))
            }
            (State::Renewing, Some(lease)) if now < self.until(lease.t2) => {
                let until = self.until(lease.t2);
                Some(self.renew(&lease, until, now))
            }
            (State::Renewing | State::Rebinding, Some(lease)) if now < self.until(lease.secs) => {
                let until = self.until(lease.secs);
                self.state = State::Rebinding;
                Some(self.renew(&lease, until, now))
            }
            (State::Renewing | State::Rebinding, Some(lease)) => {
                self.fail(now, roll);
                Some(Act::LetGo(lease.ip, Loss::Expired))
            }
            (State::Declining, Some(lease)) => {
                self.declines = self.declines.saturating_add(1);
                self.last = None;
                self.fail(now, roll);
                if self.declines >= DECLINES {
                    self.next = now + WEARY;
                }
                let message = Message {
                    kind: DhcpMessageType::Decline,
                    requested: Some(lease.ip),
                    server: Some(lease.server),
                    secs: 0,
                    ..self.message(now)
                };
                Some(Act::Decline(message, self.rival))
            }
            _ => {
                self.fail(now, roll);
                None
            }
        }
    }

    /// Takes in what a server said to it. `forbids` has the last word on a lease.
    pub fn hear(
        &mut self,
        reply: &Reply,
        now: Instant,
        roll: u64,
        forbids: impl Fn(&Lease) -> Option<Refusal>,
    ) -> Result<Option<Act>, Refusal> {
        if reply.xid != self.xid || reply.mac != self.mac {
            return Ok(None);
        }
        let judge = || {
            let lease = reply.judge()?;
            forbids(&lease).map_or(Ok(lease), Err)
        };
        match (self.state, reply.kind, self.lease) {
            (State::Selecting, Kind::Offer, _) => {
                let lease = judge()?;
                (self.state, self.sent) = (State::Requesting, 0);
                self.lease = Some(lease);
                self.asked = now;
                Ok(Some(self.request(&lease, now, roll)))
            }
            (State::Requesting, Kind::Ack, Some(offer)) => {
                let lease = judge()?;
                if (lease.ip, lease.server) != (offer.ip, offer.server) {
                    return Err(Refusal::Changed);
                }
                (self.state, self.sent) = (State::Testing, 0);
                (self.lease, self.since) = (Some(lease), self.asked);
                self.next = now;
                Ok(None)
            }
            (State::Requesting, Kind::Nak, Some(offer)) if offer.server == reply.server => {
                self.last = None;
                self.fail(now, roll);
                Ok(None)
            }
            (State::Renewing | State::Rebinding, Kind::Ack, Some(held)) => {
                let lease = judge()?;
                if lease.ip != held.ip || (self.state == State::Renewing && lease.server != held.server) {
                    return Err(Refusal::Changed);
                }
                // Announced it was before.
                (self.state, self.sent) = (State::Bound, self.pace.announcements);
                (self.lease, self.since) = (Some(lease), self.asked);
                self.next = self.t1(&lease);
                Ok(None)
            }
            (State::Renewing | State::Rebinding, Kind::Nak, Some(held))
                if self.state == State::Rebinding || held.server == reply.server =>
            {
                self.last = None;
                self.fail(now, roll);
                Ok(Some(Act::LetGo(held.ip, Loss::Nak)))
            }
            _ => Ok(None),
        }
    }

    /// `rival` uses the address that it tests or has, or is about to: ARP says so.
    pub fn conflict(&mut self, rival: Mac, now: Instant) -> Option<Act> {
        let lease = self.lease?;
        self.rival = rival;
        match self.state {
            State::Testing => {
                (self.state, self.next) = (State::Declining, now);
                None
            }
            // RFC 5227 §2.4 (b): once it is defended.
            state if state.is_bound() && self.defended.is_none_or(|at| now - at > DEFEND) => {
                self.defended = Some(now);
                Some(Act::Announce(lease.ip))
            }
            state if state.is_bound() => {
                (self.state, self.next) = (State::Declining, now);
                Some(Act::LetGo(lease.ip, Loss::Conflict))
            }
            _ => None,
        }
    }

    fn begin(&mut self, state: State, now: Instant, roll: u64) {
        (self.state, self.sent) = (state, 0);
        self.xid = roll as u32;
        (self.begun, self.asked) = (now, now);
    }

    /// Begins anew after a while.
    fn fail(&mut self, now: Instant, roll: u64) {
        (self.state, self.sent) = (State::Init, 0);
        let rest = (REST * (1 << self.failures.min(5))).min(LONGEST_REST);
        // Hosts that failed together do not try again together.
        self.next = now + rest + Duration::from_millis((roll >> 32) % (rest.total_millis() / 4));
        self.failures = self.failures.saturating_add(1);
    }

    fn message(&self, now: Instant) -> Message {
        Message {
            kind: DhcpMessageType::Request,
            xid: self.xid,
            secs: (now - self.begun).secs().min(u64::from(u16::MAX)) as u16,
            ciaddr: None,
            requested: None,
            server: None,
            to_server: false,
        }
    }

    fn discover(&mut self, now: Instant, roll: u64) -> Act {
        self.wait(now, roll);
        let message = Message { kind: DhcpMessageType::Discover, requested: self.last, ..self.message(now) };
        Act::Say(message)
    }

    fn request(&mut self, offer: &Lease, now: Instant, roll: u64) -> Act {
        self.wait(now, roll);
        Act::Say(Message { requested: Some(offer.ip), server: Some(offer.server), ..self.message(now) })
    }

    /// Asks for a renewal, and once more when half of what is left until `until` is over.
    fn renew(&mut self, held: &Lease, until: Instant, now: Instant) -> Act {
        let half = (until - now) / 2;
        self.next = (now + half.max(RENEW)).min(until);
        let to_server = self.state == State::Renewing;
        Act::Say(Message { ciaddr: Some(held.ip), to_server, ..self.message(now) })
    }

    fn wait(&mut self, now: Instant, roll: u64) {
        let ms = (FIRST_MS << self.sent.min(DOUBLINGS)) - 1000 + (roll >> 32) % 2001;
        self.sent = self.sent.saturating_add(1);
        self.next = now + Duration::from_millis(ms);
    }

    fn until(&self, secs: u32) -> Instant {
        self.since + Duration::from_secs(u64::from(secs))
    }

    fn t1(&self, lease: &Lease) -> Instant {
        self.since + Duration::from_secs(u64::from(lease.t1))
    }
}
