//! What one attacker does on one host: the unit that everything recorded hangs on.

use std::net::{IpAddr, Ipv4Addr};

use super::super::Cx;
use crate::emulate::{Announced, ClockTable, SlotIdx, Vacant};
use crate::event::{Event, EventId, MaybeIp, Party, SessionId};
use crate::frame::Batch;
use crate::wire::{Duration, ETH, Instant, Mac, Packet, be32, ethertype, ethertype_of, ip_of, word_of};

/// Kinds of contact, as bits of what a session has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Contact {
    Arp = 1,
    Icmp = 2,
    Tcp = 4,
    Udp = 8,
}

/// The bit, beside those of [`Contact`], of a session whose attacker's system was told.
const SYSTEM_TOLD: u8 = 0x80;
/// The same of one whose beginning was told.
const START_TOLD: u8 = 0x40;
/// The same of one of which a record was made.
const FIRST_TOLD: u8 = 0x20;

/// Who talks to whom. IPv4 addresses are mapped into IPv6: two words compare and hash faster than two enums.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C, packed(8))]
pub(super) struct Pair {
    attacker: u128,
    host: u128,
}

impl Pair {
    #[inline]
    pub(super) fn new(attacker: IpAddr, host: IpAddr) -> Pair {
        Pair { attacker: word_of(attacker), host: word_of(host) }
    }

    /// Whoever sent `packet` and whom it is for.
    #[inline]
    pub(super) fn of(packet: &Packet) -> Pair {
        Pair { attacker: packet.src_word, host: packet.dst_word }
    }

    pub(super) fn host(&self) -> IpAddr {
        ip_of(self.host)
    }
}

/// One session.
#[derive(Clone, Copy)]
pub(super) struct Session {
    pub id: SessionId,
    pub last: Instant,
    pub mac: Mac,
    seen: u8,
    /// Packets sent within it, for personalities that count IP IDs per peer.
    pub ip_id: u16,
    pub frames: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Session {
    #[inline]
    fn is_first_record(&mut self) -> bool {
        let before = self.seen;
        self.seen |= FIRST_TOLD;
        before & FIRST_TOLD == 0
    }
}

/// All sessions of a node.
pub(super) struct Sessions {
    table: ClockTable<Pair, Session>,
    /// Those whose beginning was told.
    told: usize,
    idle: Duration,
    next_sweep: Instant,
    /// The session of the frame in hand.
    present: Option<SlotIdx>,
    /// Who talks to whom in each frame of the present batch.
    ahead: Vec<Option<(Pair, Announced)>>,
    /// The same of the frame in hand.
    announced: Option<(Pair, Announced)>,
}

/// What a frame says about its session.
pub(super) struct Touch {
    pub pair: Pair,
    pub contact: Contact,
    pub mac: Mac,
    pub proto: u8,
    /// Port that was addressed; 0 without ports.
    pub l4_port: u16,
    pub len: usize,
    /// Whether an event of its own tells of such a frame if it is the first of a session. Then the beginning is told
    /// with the second one: of a sweep that looks at each address once, one record an address is enough.
    pub tells_itself: bool,
}

/// Sessions looked at in one sweep: bounded, so that no batch waits for it.
const SWEEP_BUDGET: usize = 8192;

impl Sessions {
    pub(super) fn new(capacity: usize, idle_secs: u32, seed: u64) -> Sessions {
        let idle = Duration::from_secs(u64::from(idle_secs));
        Sessions {
            table: ClockTable::new(capacity, seed),
            told: 0,
            idle,
            next_sweep: Instant::ZERO,
            present: None,
            ahead: Vec::new(),
            announced: None,
        }
    }

    /// Has the processor fetch the sessions of a batch all at once: one after the other, each
    /// frame waits for its own to come from memory.
    pub(super) fn look_ahead(&mut self, rx: &Batch) {
        self.ahead.clear();
        for frame in rx.iter() {
            let bytes = frame.bytes();
            self.ahead.push((ethertype_of(bytes) == ethertype::IPV4).then(|| {
                let ip = |at| IpAddr::V4(Ipv4Addr::from_bits(be32(bytes, ETH + at)));
                let pair = Pair::new(ip(12), ip(16));
                (pair, self.table.announce(&pair))
            }));
        }
        for (_, announced) in self.ahead.iter().flatten() {
            self.table.prefetch(*announced);
        }
    }

    /// The frame in hand is number `i` of the batch.
    #[inline]
    pub(super) fn turn_to(&mut self, i: usize) {
        self.announced = self.ahead[i];
    }

    /// Counts a frame in its session, beginning one if there is none. Returns
    /// the session, and whether this is its first contact of that kind.
    #[inline(always)]
    pub(super) fn touch(&mut self, touch: &Touch, cx: &mut Cx<'_>) -> (&mut Session, bool) {
        let bit = touch.contact as u8;
        let found = match self.announced {
            Some((pair, announced)) if pair == touch.pair => self.table.slot_of(&pair, announced),
            _ => self.table.slot(&touch.pair),
        };
        let at = match found {
            Ok(at) => at,
            Err(vacant) => self.begin(touch, vacant, cx),
        };
        self.present = Some(at);
        let session = self.table.value(at);
        if session.seen & START_TOLD == 0 && (session.frames > 0 || !touch.tells_itself) {
            start(touch, session, cx);
            self.told += 1;
        }
        let first = session.seen & bit == 0;
        session.seen |= bit;
        session.last = cx.now;
        session.frames = session.frames.saturating_add(1);
        session.bytes_in += touch.len as u64;
        (session, first)
    }

    #[inline(always)]
    fn begin(&mut self, touch: &Touch, vacant: Vacant, cx: &mut Cx<'_>) -> SlotIdx {
        let session = Session {
            id: SessionId(cx.rng.next_u64()),
            last: cx.now,
            mac: touch.mac,
            seen: 0,
            ip_id: 0,
            frames: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        let (at, evicted) = self.table.insert_new(touch.pair, vacant, session);
        if let Some((pair, old)) = evicted {
            end(&pair, &old, &mut self.told, cx);
        }
        at
    }

    /// The frame in hand belongs to no session yet.
    pub(super) fn leave(&mut self) {
        self.present = None;
    }

    /// Whether it was not told yet what system the attacker of the frame in hand has.
    #[inline]
    pub(super) fn has_no_system(&mut self) -> bool {
        let session = self.present.and_then(|at| self.table.at(at));
        session.is_some_and(|session| session.seen & SYSTEM_TOLD == 0)
    }

    /// Now it is told.
    pub(super) fn has_system(&mut self) {
        if let Some(session) = self.present.and_then(|at| self.table.at(at)) {
            session.seen |= SYSTEM_TOLD;
        }
    }

    /// Whether a record that is made now is the first of the session of the frame in hand. From now on, none is.
    #[inline]
    pub(super) fn is_first_record(&mut self) -> bool {
        self.present.and_then(|at| self.table.at(at)).is_some_and(Session::is_first_record)
    }

    /// Counts an answer of `len` octets to the frame in hand.
    #[inline(always)]
    pub(super) fn answered(&mut self, len: usize) {
        if let Some(session) = self.present.and_then(|at| self.table.at(at)) {
            session.bytes_out += len as u64;
        }
    }

    /// The session of a pair, if there is one.
    #[inline]
    pub(super) fn get(&mut self, pair: &Pair) -> Option<&mut Session> {
        self.table.get(pair)
    }

    pub(super) fn tick(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.next_sweep {
            return;
        }
        self.next_sweep = crate::node::next_second(cx.now);
        let Sessions { table, told, idle, .. } = self;
        let (now, idle) = (cx.now, *idle);
        table.sweep(
            SWEEP_BUDGET,
            |_, session| now - session.last > idle,
            |pair, session| end(&pair, &session, told, cx),
        );
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.table.is_empty()).then_some(self.next_sweep)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Pair, &Session)> {
        self.table.iter()
    }

    /// How many there are whose beginning was told.
    pub(super) fn told(&self) -> usize {
        self.told
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

#[inline(always)]
fn event_of(id: EventId, pair: &Pair, session: &Session, now: Instant) -> Event {
    let mut event = Event::new(id, now);
    event.session = session.id;
    event.src = Party { ip: MaybeIp::of_word(pair.attacker), mac: session.mac, l4_port: 0 };
    event.dst = Party { ip: MaybeIp::of_word(pair.host), mac: Mac::ZERO, l4_port: 0 };
    event
}

/// Tells that a session has begun: with its first frame, or, if that told of itself, with the second.
#[cold]
fn start(touch: &Touch, session: &mut Session, cx: &mut Cx<'_>) {
    session.seen |= START_TOLD;
    let first = session.is_first_record();
    let mut event = event_of(EventId::SessionStart, &touch.pair, session, session.last);
    event.dst.l4_port = touch.l4_port;
    event.proto = touch.proto;
    event.first = first;
    cx.emit(&mut event, &[]);
}

fn end(pair: &Pair, session: &Session, told: &mut usize, cx: &mut Cx<'_>) {
    if session.seen & START_TOLD == 0 {
        return;
    }
    *told = told.saturating_sub(1);
    let mut event = event_of(EventId::SessionEnd, pair, session, cx.now);
    event.count = u64::from(session.frames);
    event.bytes_in = session.bytes_in;
    event.bytes_out = session.bytes_out;
    cx.emit(&mut event, &[]);
}
