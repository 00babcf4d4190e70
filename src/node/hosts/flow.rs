//! An open TCP connection of an emulated host: what TCP keeps, what answers, and
//! how segments look on the wire.

use super::super::{Cx, HostsConfig, LeaseId};
use super::banner::Banner;
use super::grant::Whose;
use super::middle::Middle;
use super::pace::Stopwatch;
use super::session::Pair;
use super::splice::Clock;
use super::voice::IpIds;
use crate::emulate::{Identity, IpIdClass, Personality, ServiceId};
use crate::event::{Event, EventId, Party, SessionId};
use crate::frame::PortNo;
use crate::service::tls::Notary;
use crate::service::{Inline, Service, Stream, Then};
use crate::stack::{Conn, FlowKey, Outgoing, PipeEnd, Sockets, Splice, SynLook, timestamp, timestamps};
use crate::wire::{
    Duration, ETH, Headers, Instant, Mac, Segment, TcpHeader, TcpOptions, flag, proto, set_flow_label, word_of,
};

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
    /// IPv6 flow label.
    pub flow_label: u32,
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
        let mut options = [1; 40];
        let mut options_len = 0;
        if let Some((offset, recent)) = self.ts
            && segment.flags & flag::RST == 0
        {
            let clock = timestamp(offset, self.personality.ts_hz, cx.now);
            options[2..12].copy_from_slice(&timestamps((clock, recent)));
            options_len = 12;
        }
        if !segment.sack.is_empty()
            && let Some([_, _, kind, len, blocks @ ..]) = options.get_mut(options_len..)
        {
            let named = blocks.chunks_exact_mut(8).zip(segment.sack).map(|(block, [from, to])| {
                block[..4].copy_from_slice(&from.to_be_bytes());
                block[4..].copy_from_slice(&to.to_be_bytes());
            });
            let octets = 2 + 8 * named.count();
            (*kind, *len) = (5, octets as u8);
            options_len += 2 + octets;
        }
        let rst = segment.flags & flag::RST != 0;
        self.ip_id = self.ip_id.wrapping_add(1);
        let headers = Headers {
            dst_mac: self.peer_mac,
            src_mac: self.mac,
            src: self.key.local,
            dst: self.key.remote,
            proto: proto::TCP,
            ttl: self.personality.ttl_of(self.key.local.is_ipv4()).saturating_sub(self.hops).max(1),
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
            window: if rst { 0 } else { self.window(segment.window) },
            options: &options[..options_len],
            payload: segment.payload,
        };
        let Some(mut frame) = cx.pool.frame_of(&tcp, &headers, segment.mss) else {
            if segment.mss > 0 {
                // All large buffers are in use.
                return segment.apart().for_each(|segment| self.send(&segment, ids, cx));
            }
            return cx.counters.discard(crate::event::DropReason::NoBuffer);
        };
        self.bytes_out += segment.payload.len() as u64;
        let after = segment.seq.wrapping_add(segment.payload.len() as u32 + u32::from(segment.flags & flag::FIN != 0));
        // What is sent again lies behind.
        if after.wrapping_sub(self.next.0) as i32 > 0 {
            self.next.0 = after;
        }
        if segment.flags & flag::ACK != 0 {
            self.next.1 = segment.ack;
        }
        set_flow_label(frame.bytes_mut(), self.flow_label);
        let segments = frame.segments();
        let more = (segments - 1) as u16;
        self.ip_id = self.ip_id.wrapping_add(more);
        ids.skip(self.personality.ip_id, word_of(self.key.local), more);
        self.octets_out += (frame.wire_len() - segments * ETH) as u64;
        cx.send(self.port, frame);
    }

    /// Whether segments may be put together for a device to cut: it counts up the identification of packets.
    pub(super) fn may_gather(&self) -> bool {
        !self.key.local.is_ipv4() || matches!(self.personality.ip_id, IpIdClass::PerPeer | IpIdClass::Shared)
    }

    /// The window field for a window of `octets`: no more than the host's system announces in its SYN/ACK,
    /// which it rounds up where the shift cuts it.
    fn window(&self, octets: u32) -> u16 {
        let most = u32::from(self.personality.syn_ack_window);
        let up = most.div_ceil(1 << self.scale);
        let announced = if octets >= most && up << self.scale <= 65_535 { up } else { octets.min(most) >> self.scale };
        announced as u16
    }
}

/// The connection from the attacker's address into the container.
pub(super) struct Inner {
    /// Whose container it is into.
    pub whose: Whose,
    /// The lease of that; [`super::patience::NONE`] while it can have none.
    pub lease: LeaseId,
    /// Since when it has that, and how many it has had.
    pub leased: Instant,
    pub given: u8,
    pub look: SynLook,
    /// What the attacker's SYN offered.
    pub offered: TcpOptions,
    /// When the attacker's handshake was complete.
    pub since: Instant,
    /// The connection, once there is a container to connect to.
    pub conn: Option<Conn>,
    /// When the next attempt is made, while there is none.
    pub retry_at: Instant,
    /// How long the next attempt may take, and until when the present one.
    pub attempt: Duration,
    pub attempt_until: Instant,
    /// Attempts that nothing came back from, and when the first of them was made.
    pub tries: u8,
    pub deaf_since: Option<Instant>,
    pub established: bool,
    /// The first that the service says, while something of it may have to be replaced.
    pub banner: Option<Box<Banner>>,
    /// Which fields of segments that pass through are the host's.
    pub normal: Normal,
    /// Whether segments may pass through once nothing waits, and how, once they do.
    pub may_splice: bool,
    pub splice: Option<Splice>,
    /// The container's timestamp clock, if it uses timestamps here.
    pub clock: Option<Clock>,
    /// Who is in the middle, if somebody is.
    pub middle: Option<Middle>,
}

/// Which fields of segments that pass through are written as the host's system would.
#[derive(Clone, Copy)]
pub(super) struct Normal {
    pub ttl: bool,
    pub ip_id: bool,
    pub tos: bool,
}

/// What answers a connection.
pub(super) enum App {
    /// A service of the data plane, and what it has seen but not taken yet.
    Inline(Inline, ServiceId, Box<[u8]>),
    /// A relay on the control side.
    Pipe(Box<PipeEnd>),
    /// The host's container.
    Inner(Box<Inner>),
}

impl App {
    /// The pipe between the attacker's connection and a relay.
    pub(super) fn pipe(&mut self) -> Option<&mut PipeEnd> {
        match self {
            App::Pipe(pipe) => Some(pipe),
            App::Inner(inner) => inner.middle.as_mut().map(|middle| &mut middle.attacker),
            App::Inline(..) => None,
        }
    }

    fn has_relay(&self) -> bool {
        match self {
            App::Pipe(_) => true,
            App::Inner(inner) => inner.middle.is_some(),
            App::Inline(..) => false,
        }
    }
}

/// Why a connection ended (`code` of `tcp.close`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Ending {
    Closed = 0,
    ResetByPeer = 1,
    ResetByUs = 2,
    TimedOut = 3,
    Evicted = 4,
    /// It was open when the honeynet was ended.
    HoneynetEnded = 5,
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
    pub watch: Stopwatch,
    pub bytes_in: u64,
    pub ending: Option<Ending>,
    /// The data's first octets were told as an event.
    pub told: bool,
    /// Since when we have closed or aborted our side.
    pub closing: Option<Instant>,
    pub scheduled: Option<Instant>,
    /// Octets that the budget is charged with for it, its sockets and pipe excepted.
    pub charged: usize,
    /// Its place among those that hold something.
    pub place: Option<u32>,
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
            watch: Stopwatch::new(now),
            bytes_in: 0,
            ending: None,
            told: false,
            closing: None,
            scheduled: None,
            charged: 0,
            place: None,
        }
    }

    /// Octets that it keeps besides its sockets and pipes.
    pub(super) fn kept(&self) -> usize {
        let of_app = match &self.app {
            App::Inline(inline, _, unread) => inline.kept() + unread.len(),
            App::Pipe(_) => 0,
            App::Inner(inner) => inner.conn.as_ref().map_or(0, Conn::kept),
        };
        self.conn.kept() + of_app
    }

    /// Octets that it makes us hold, all in all.
    pub(super) fn held(&self) -> usize {
        let at_work = |conn: &Conn| if conn.is_resting() { 0 } else { Sockets::COST };
        let of_app = match &self.app {
            App::Inline(..) => 0,
            App::Pipe(pipe) => pipe.held(),
            App::Inner(inner) => inner.conn.as_ref().map_or(0, at_work) + inner.middle.as_ref().map_or(0, Middle::held),
        };
        self.charged + at_work(&self.conn) + of_app
    }

    /// The parties of an event about this connection.
    pub(super) fn event(&self, id: EventId, now: Instant) -> Event {
        let mut event = Event::new(id, now);
        event.session = self.session;
        event.proto = proto::TCP;
        event.src = Party { ip: self.wire.key.remote.into(), mac: self.origin, l4_port: self.wire.key.remote_port };
        event.dst = Party { ip: self.wire.key.local.into(), mac: self.wire.mac, l4_port: self.wire.key.local_port };
        event
    }

    /// Attacker and host.
    pub(super) fn pair(&self) -> Pair {
        Pair::new(self.wire.key.remote, self.wire.key.local)
    }

    /// Takes note of the timestamp of a received segment; whether the segment is an old one (PAWS, RFC 7323 §5.3).
    pub(super) fn is_old(&mut self, tcp: &TcpHeader, options: &TcpOptions) -> bool {
        let heard = self.wire.next.1;
        let (Some((_, recent)), Some((value, _))) = (self.wire.ts.as_mut(), options.timestamps) else { return false };
        let is_before = (value.wrapping_sub(*recent) as i32) < 0;
        // RFC 7323 §4.3: what came out of order does not count, or what was overtaken would be taken for old.
        if !is_before && tcp.seq.wrapping_sub(heard) as i32 <= 0 {
            *recent = value;
        }
        is_before && !tcp.has(flag::RST)
    }

    /// Whether an attacker who has said goodbye sent something that what answers has yet to be given.
    pub(super) fn owes(&self) -> bool {
        let inside = match &self.app {
            App::Inner(inner) => inner.conn.as_ref().filter(|_| inner.established),
            _ => None,
        };
        let is_open = inside.is_some_and(|conn| !conn.is_closed() && !conn.is_time_wait());
        self.ending == Some(Ending::Closed) && (is_open || (self.app.has_relay() && self.conn.has_data()))
    }

    /// Whether data is refused: what answered has hung up, and the peer knows. Until then it is thrown away, so that the
    /// last of an answer is not lost to a RST.
    pub(super) fn is_deaf(&self) -> bool {
        self.closing.is_some() && matches!(self.app, App::Inline(..)) && self.conn.is_half_closed()
    }

    /// Ends it with a RST.
    pub(super) fn abort(&mut self, now: Instant) {
        self.unsplice();
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
struct ConnStream<'a> {
    conn: &'a mut Conn,
    now: Instant,
    sockets: &'a mut Sockets,
    /// What came and was not taken.
    unread: &'a mut Vec<u8>,
    /// What is told of it, for events.
    told: Vec<(EventId, Vec<u8>)>,
}

/// Octets that an inline service may leave unread.
const UNREAD: usize = 8 * 1024;

impl Stream for ConnStream<'_> {
    fn peek(&mut self) -> &[u8] {
        while self.unread.len() < UNREAD {
            let room = UNREAD - self.unread.len();
            let n = self.conn.recv(|bytes| {
                let n = bytes.len().min(room);
                self.unread.extend_from_slice(&bytes[..n]);
                n
            });
            if n == 0 {
                break;
            }
        }
        self.unread
    }

    fn take(&mut self, n: usize) {
        self.unread.drain(..n.min(self.unread.len()));
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.conn.send(bytes, self.now, self.sockets)
    }

    fn at_end(&mut self) -> bool {
        self.unread.is_empty() && self.conn.at_end()
    }

    fn is_last(&mut self) -> bool {
        self.conn.at_end()
    }

    fn tell(&mut self, id: EventId, data: &[u8]) {
        self.told.push((id, data.to_vec()));
    }
}

/// Has an inline service do what it can. `unread` is memory for it.
pub(super) fn poll_inline(
    flow: &mut Flow,
    (config, identity, notary): (&HostsConfig, &Identity, &mut Notary),
    sockets: &mut Sockets,
    unread: &mut Vec<u8>,
    cx: &mut Cx<'_>,
) {
    let App::Inline(inline, id, left) = &mut flow.app else { return };
    let Some(service) = config.services.get(usize::from(id.0)) else { return };
    let owner = |inner: &Service| config.owner_of(identity, flow.wire.key.local, *id, inner);
    unread.clear();
    unread.extend_from_slice(left);
    let mut stream = ConnStream { conn: &mut flow.conn, now: cx.now, sockets, unread, told: Vec::new() };
    let mut then = inline.poll(service, cx.now, &mut stream);
    if inline.serve(service, notary, &owner, cx.now) {
        then = inline.poll(service, cx.now, &mut stream);
    }
    let told = stream.told;
    if **left != **unread {
        *left = unread.as_slice().into();
    }
    for (id, data) in told {
        let mut event = flow.event(id, cx.now);
        cx.emit(&mut event, &data);
    }
    if then == Then::Close {
        flow.close(cx.now);
    }
}

/// Moves bytes between the connection and its pipe.
pub(super) fn poll_pipe(flow: &mut Flow, sockets: &mut Sockets, cx: &mut Cx<'_>) {
    let now = cx.now;
    let Some(pipe) = flow.app.pipe() else { return };
    pipe.take_due();
    if pipe.is_reset() {
        tell_failure(flow, cx);
        return flow.abort(now);
    }
    while pipe.writable() > 0 && flow.conn.recv(|bytes| pipe.write(bytes)) > 0 {}
    while flow.conn.room() > 0 && pipe.read_with(|bytes| flow.conn.send(bytes, now, sockets)) > 0 {}
    if flow.conn.at_end() {
        pipe.finish();
    }
    if pipe.at_end() {
        tell_failure(flow, cx);
        flow.close(now);
    }
}

/// Tells, once, why nobody has answered.
fn tell_failure(flow: &mut Flow, cx: &mut Cx<'_>) {
    let why = flow.app.pipe().and_then(|pipe| pipe.failure().map(str::to_owned));
    if let (None, Some(why)) = (flow.closing, why) {
        cx.emit(&mut flow.event(EventId::ServiceFailed, cx.now), why.as_bytes());
    }
}
