//! Open TCP connections of emulated hosts: what smoltcp keeps, what answers, and
//! how segments look on the wire.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use slab::Slab;

use super::super::{Cx, LeaseId};
use super::session::Pair;
use super::voice::IpIds;
use crate::emulate::{Personality, ServiceId};
use crate::event::{Event, EventId, Party, SessionId};
use crate::frame::PortNo;
use crate::service::{Inline, Service, Stream, Then};
use crate::stack::{Conn, FlowKey, Outgoing, PipeEnd, timestamp};
use crate::wire::{Duration, ETH, Headers, Instant, Mac, Segment, TcpOptions, flag, proto, word_of};

/// How the segments of one connection look, and where they go.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub key: FlowKey,
    pub mac: Mac,
    pub peer_mac: Mac,
    pub port: PortNo,
    pub personality: &'static Personality,
    pub hops: u8,
    /// The shift of the windows that we announce.
    pub scale: u8,
    /// Our timestamp clock's offset and the peer's latest value.
    pub ts: Option<(u32, u32)>,
    pub ip_id: u16,
    /// Sequence and acknowledgment numbers of what would be sent next.
    pub next: (u32, u32),
    /// Data that was sent.
    pub bytes_out: u64,
    /// Octets of the packets that it was sent in.
    pub octets_out: u64,
}

impl Wire {
    /// Sends a segment as the host's system would write it.
    pub(super) fn send(&mut self, segment: &Outgoing<'_>, ids: &mut IpIds, cx: &mut Cx<'_>) {
        let Some(mut frame) = cx.pool.head() else {
            return cx.counters.discard(crate::event::DropReason::NoBuffer);
        };
        let mut options = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut options_len = 0;
        if let Some((offset, recent)) = self.ts
            && segment.flags & flag::RST == 0
        {
            options[4..8].copy_from_slice(&timestamp(offset, self.personality.ts_hz, cx.now).to_be_bytes());
            options[8..12].copy_from_slice(&recent.to_be_bytes());
            options_len = 12;
        }
        let rst = segment.flags & flag::RST != 0;
        self.ip_id = self.ip_id.wrapping_add(1);
        let headers = Headers {
            dst_mac: self.peer_mac,
            src_mac: self.mac,
            src: self.key.local,
            dst: self.key.remote,
            proto: proto::TCP,
            ttl: self.personality.ttl.saturating_sub(self.hops).max(1),
            tos: 0,
            ip_id: ids.next(self.personality.ip_id, word_of(self.key.local), Some(self.ip_id), cx),
            df: if rst { self.personality.rst_df } else { self.personality.tcp_df },
        };
        let tcp = Segment {
            src: self.key.local_port,
            dst: self.key.remote_port,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: if rst { 0 } else { (segment.window >> self.scale).min(65_535) as u16 },
            options: &options[..options_len],
            payload: segment.payload,
        };
        if headers.len() + tcp.len() > frame.capacity() {
            return cx.discard(frame, crate::event::DropReason::TooBig);
        }
        self.bytes_out += segment.payload.len() as u64;
        let after = segment.seq.wrapping_add(segment.payload.len() as u32 + u32::from(segment.flags & flag::FIN != 0));
        // What is sent again lies behind.
        if after.wrapping_sub(self.next.0) as i32 > 0 {
            self.next.0 = after;
        }
        if segment.flags & flag::ACK != 0 {
            self.next.1 = segment.ack;
        }
        let len = tcp.write(&headers, frame.space());
        frame.set_len(len);
        frame.meta.at = cx.now;
        self.octets_out += (len - ETH) as u64;
        cx.send(self.port, frame);
    }
}

/// What a peer's SYN looked like, for the connection into a container that imitates it.
#[derive(Clone, Copy)]
pub(super) struct SynLook {
    pub options: [u8; 40],
    pub options_len: u8,
    pub ttl: u8,
}

impl SynLook {
    pub(super) fn new(options: &[u8], ttl: u8) -> SynLook {
        let mut kept = [1; 40];
        let len = options.len().min(40);
        kept[..len].copy_from_slice(&options[..len]);
        // The connection inside uses no timestamps: they become padding in their place.
        let mut at = 0;
        while at < len {
            match kept[at] {
                0 => break,
                1 => at += 1,
                kind => {
                    let size = kept.get(at + 1).map_or(0, |size| usize::from(*size));
                    if size < 2 || at + size > len {
                        break;
                    }
                    if kind == 8 {
                        kept[at..at + size].fill(1);
                    }
                    at += size;
                }
            }
        }
        SynLook { options: kept, options_len: len as u8, ttl }
    }
}

/// The connection from the attacker's address into the container.
pub(super) struct Inner {
    pub lease: LeaseId,
    pub look: SynLook,
    /// When the attacker's handshake was complete.
    pub since: Instant,
    /// The connection, once there is a container to connect to.
    pub conn: Option<Conn>,
    /// When the next attempt is made, while there is none.
    pub retry_at: Instant,
    /// How long the next attempt may take, and until when the present one.
    pub attempt: Duration,
    pub attempt_until: Instant,
    pub established: bool,
}

/// What answers a connection.
pub(super) enum App {
    /// A service of the data plane, and what it has not read yet.
    Inline(Inline, ServiceId, Vec<u8>),
    /// A relay on the control side.
    Pipe(PipeEnd),
    /// The host's container.
    Inner(Box<Inner>),
}

/// Why a connection ended (`code` of `tcp.close`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Ending {
    Closed = 0,
    ResetByPeer = 1,
    ResetByUs = 2,
    Evicted = 4,
}

/// An open connection.
pub(super) struct Flow {
    pub wire: Wire,
    pub conn: Conn,
    pub app: App,
    pub session: SessionId,
    /// The attacker's MAC.
    origin: Mac,
    pub opened: Instant,
    pub last: Instant,
    pub bytes_in: u64,
    pub ending: Option<Ending>,
    /// The data's first octets were told as an event.
    pub told: bool,
    /// Since when we have closed or aborted our side.
    pub closing: Option<Instant>,
    scheduled: Option<Instant>,
}

impl Flow {
    pub(super) fn new(wire: Wire, conn: Conn, app: App, (session, origin): (SessionId, Mac), now: Instant) -> Flow {
        Flow {
            wire,
            conn,
            app,
            session,
            origin,
            opened: now,
            last: now,
            bytes_in: 0,
            ending: None,
            told: false,
            closing: None,
            scheduled: None,
        }
    }

    /// The parties of an event about this connection.
    pub(super) fn event(&self, id: EventId, now: Instant) -> Event {
        let mut event = Event::new(id, now);
        event.session = self.session;
        event.proto = proto::TCP;
        event.src = Party { ip: Some(self.wire.key.remote), mac: self.origin, l4_port: self.wire.key.remote_port };
        event.dst = Party { ip: Some(self.wire.key.local), mac: self.wire.mac, l4_port: self.wire.key.local_port };
        event
    }

    /// Attacker and host.
    pub(super) fn pair(&self) -> Pair {
        Pair::new(self.wire.key.remote, self.wire.key.local)
    }

    /// Takes note of the options of a received segment.
    pub(super) fn heard(&mut self, options: &TcpOptions, payload: usize, now: Instant) {
        if let (Some((_, recent)), Some((value, _))) = (self.wire.ts.as_mut(), options.timestamps)
            && value.wrapping_sub(*recent) as i32 >= 0
        {
            *recent = value;
        }
        self.last = now;
        self.bytes_in += payload as u64;
    }

    /// Ends it with a RST.
    pub(super) fn abort(&mut self, now: Instant) {
        self.ending.get_or_insert(Ending::ResetByUs);
        self.closing.get_or_insert(now);
        self.conn.abort();
    }

    /// Ends it with a FIN once everything was sent.
    pub(super) fn close(&mut self, now: Instant) {
        if self.closing.is_none() {
            self.closing = Some(now);
            self.ending.get_or_insert(Ending::Closed);
            self.conn.close();
        }
    }
}

/// The data that an inline service sees.
pub(super) struct ConnStream<'a> {
    pub conn: &'a mut Conn,
    pub pending: &'a mut Vec<u8>,
    /// Heads of requests, for events.
    pub requests: Vec<Vec<u8>>,
}

/// Octets that an inline service may leave unread.
const PENDING: usize = 8 * 1024;

impl Stream for ConnStream<'_> {
    fn peek(&mut self) -> &[u8] {
        while self.pending.len() < PENDING {
            let room = PENDING - self.pending.len();
            let n = self.conn.recv(|bytes| {
                let n = bytes.len().min(room);
                self.pending.extend_from_slice(&bytes[..n]);
                n
            });
            if n == 0 {
                break;
            }
        }
        self.pending
    }

    fn take(&mut self, n: usize) {
        self.pending.drain(..n.min(self.pending.len()));
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.conn.send(bytes)
    }

    fn at_end(&mut self) -> bool {
        self.pending.is_empty() && self.conn.at_end()
    }

    fn is_last(&mut self) -> bool {
        self.conn.at_end()
    }

    fn requested(&mut self, head: &[u8]) {
        self.requests.push(head.to_vec());
    }
}

/// Has an inline service do what it can.
pub(super) fn poll_inline(flow: &mut Flow, services: &[Service], cx: &mut Cx<'_>) {
    let App::Inline(inline, id, pending) = &mut flow.app else { return };
    let Some(service) = services.get(usize::from(id.0)) else { return };
    let mut stream = ConnStream { conn: &mut flow.conn, pending, requests: Vec::new() };
    let then = inline.poll(service, cx.now, &mut stream);
    for head in std::mem::take(&mut stream.requests) {
        let mut event = flow.event(EventId::ServiceRequest, cx.now);
        cx.emit(&mut event, &head);
    }
    if then == Then::Close {
        flow.close(cx.now);
    }
}

/// Moves bytes between the connection and its pipe.
pub(super) fn poll_pipe(flow: &mut Flow, cx: &mut Cx<'_>) {
    let now = cx.now;
    let App::Pipe(pipe) = &mut flow.app else { return };
    pipe.take_due();
    if pipe.is_reset() {
        let why = pipe.failure().map(str::to_owned);
        if let (None, Some(why)) = (flow.closing, why) {
            cx.emit(&mut flow.event(EventId::ServiceFailed, now), why.as_bytes());
        }
        return flow.abort(now);
    }
    while pipe.writable() > 0 && flow.conn.recv(|bytes| pipe.write(bytes)) > 0 {}
    while flow.conn.room() > 0 && pipe.read_with(|bytes| flow.conn.send(bytes)) > 0 {}
    if flow.conn.at_end() {
        pipe.finish();
    }
    if pipe.at_end() {
        flow.close(now);
    }
}

/// Deadlines that may be left over, besides a few for each connection, before they are cleared away.
const STALE: usize = 1024;

/// The table of open connections.
pub(super) struct Flows {
    pub slab: Slab<Flow>,
    pub by_key: HashMap<FlowKey, usize, foldhash::fast::FixedState>,
    pub deadlines: BinaryHeap<Reverse<(Instant, usize, FlowKey)>>,
    /// Connections to be looked at before the batch ends.
    pub dirty: Vec<usize>,
    /// Connections that a relay answers.
    pub piped: Vec<usize>,
}

impl Flows {
    pub(super) fn new(seed: u64) -> Flows {
        Flows {
            slab: Slab::new(),
            by_key: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            deadlines: BinaryHeap::new(),
            dirty: Vec::new(),
            piped: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn find(&self, key: &FlowKey) -> Option<usize> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(key).copied()
    }

    pub(super) fn insert(&mut self, flow: Flow) -> usize {
        let key = flow.wire.key;
        let piped = matches!(flow.app, App::Pipe(_));
        let index = self.slab.insert(flow);
        self.by_key.insert(key, index);
        if piped {
            self.piped.push(index);
        }
        self.dirty.push(index);
        index
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Flow> {
        let flow = self.slab.try_remove(index)?;
        self.by_key.remove(&flow.wire.key);
        if matches!(flow.app, App::Pipe(_))
            && let Some(place) = self.piped.iter().position(|piped| *piped == index)
        {
            self.piped.swap_remove(place);
        }
        Some(flow)
    }

    /// Marks the connections whose relay did something.
    pub(super) fn wake_piped(&mut self) {
        let Flows { slab, dirty, piped, .. } = self;
        dirty.extend(piped.iter().filter(|index| match slab.get(**index).map(|flow| &flow.app) {
            Some(App::Pipe(pipe)) => pipe.take_due(),
            _ => false,
        }));
    }

    /// Has the flow looked at again at `at`.
    pub(super) fn schedule(&mut self, index: usize, at: Option<Instant>) {
        let (Some(flow), Some(at)) = (self.slab.get_mut(index), at) else { return };
        if flow.scheduled.is_none_or(|scheduled| at < scheduled) {
            flow.scheduled = Some(at);
            self.deadlines.push(Reverse((at, index, flow.wire.key)));
            // Each earlier deadline leaves the later one behind.
            if self.deadlines.len() > 4 * self.slab.len() + STALE {
                let Flows { slab, deadlines, .. } = self;
                deadlines.retain(|Reverse((at, index, key))| {
                    slab.get(*index).is_some_and(|flow| flow.wire.key == *key && flow.scheduled == Some(*at))
                });
            }
        }
    }

    /// Marks the flows whose time has come.
    pub(super) fn wake_due(&mut self, now: Instant) {
        while let Some(Reverse((at, index, key))) = self.deadlines.peek().copied() {
            if at > now {
                return;
            }
            self.deadlines.pop();
            // The slot may be another flow's by now, and the flow's deadline another.
            let is_meant = |flow: &&mut Flow| flow.wire.key == key && flow.scheduled == Some(at);
            if let Some(flow) = self.slab.get_mut(index).filter(is_meant) {
                flow.scheduled = None;
                self.dirty.push(index);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, ..))| *at)
    }

    /// One of a few connections drawn at random: the one that was silent longest.
    pub(super) fn victim(&self, rng: &mut super::super::Rng) -> Option<usize> {
        let capacity = self.slab.capacity().max(1);
        let mut best: Option<(Instant, usize)> = None;
        for _ in 0..16 {
            let index = (rng.next_u64() % capacity as u64) as usize;
            if let Some(flow) = self.slab.get(index)
                && best.is_none_or(|(last, _)| flow.last < last)
            {
                best = Some((flow.last, index));
            }
        }
        best.map(|(_, index)| index).or_else(|| self.slab.iter().next().map(|(index, _)| index))
    }
}
