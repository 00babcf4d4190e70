//! smoltcp's sockets, lent to connections while something is under way.
//!
//! smoltcp finds sockets by scanning its set, so each has a set of its own, and our
//! flow table stands before it. It cannot be told its initial sequence number nor be
//! given an established connection: therefore the handshake of a connection that
//! wakes is *replayed* into a listening socket, then whatever it had sent and not
//! acknowledged, and what smoltcp sends meanwhile is thrown away. The
//! difference of the two initial sequence numbers is added to everything that passes
//! from then on. The replay has the times of the real events, so that timers go on.
//!
//! Addresses are our flow table's business: all of smoltcp's sockets talk between
//! the same two.

use std::collections::VecDeque;
use std::sync::Arc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::Incoming;
use super::budget::Budget;
use super::ranges::Ranges;
use super::recovery::Recovery;
use super::tcb::{State, Tcb, WINDOW};
use crate::wire::{Duration, Instant, flag};

/// What smoltcp takes for us, and for the peer.
const OURS: IpEndpoint = IpEndpoint { addr: IpAddress::v4(192, 0, 2, 1), port: 1 };
const PEERS: IpEndpoint = IpEndpoint { addr: IpAddress::v4(192, 0, 2, 2), port: 2 };
/// Largest IP packet that a connection sends.
const MTU: usize = 1500;
/// Octets buffered in each direction.
const BUFFER: usize = WINDOW as usize;
/// Octets of our own data with which a connection may rest.
pub(super) const RESTING: usize = 4096;
/// Sockets that are kept for the next connection.
const KEPT: usize = 64;

/// The sockets of a node's connections, and memory that they share while a segment passes.
pub struct Sockets {
    iface: Interface,
    /// Boxed, as they are lent: a socket is large, and a connection at rest has none.
    #[allow(clippy::vec_box)]
    kept: Vec<Box<Socket>>,
    pub(super) scratch: Scratch,
    budget: Arc<Budget>,
    refused: bool,
}

/// The packet that smoltcp receives, and those that it sends.
#[derive(Default)]
pub(super) struct Scratch {
    rx: Vec<u8>,
    tx: Vec<u8>,
    ends: Vec<usize>,
    /// Data of segments that are put together.
    together: Vec<u8>,
    /// What is sent again.
    pub again: Vec<u8>,
}

/// A socket at work, and what smoltcp does not tell.
pub(super) struct Socket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// Added to the sequence numbers that smoltcp sends.
    pub offset: u32,
    /// The sequence number behind our data that was queued.
    pub queued: u32,
    /// Our data that was not acknowledged, sent or not: smoltcp does not show its own.
    kept: VecDeque<u8>,
    /// What of it was lost.
    pub recovery: Recovery,
    /// The sequence number of the peer's data that is read next.
    pub read: u32,
    /// The peer's data that came out of order.
    pub early: Ranges,
    /// The sequence number of the peer's latest data.
    pub latest: u32,
    /// When the peer's last segment came.
    pub heard: Instant,
    charged: Option<Arc<Budget>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(budget) = self.charged.take() {
            budget.release(Sockets::COST);
        }
    }
}

impl Socket {
    fn new() -> Box<Socket> {
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(vec![0; BUFFER]), tcp::SocketBuffer::new(vec![0; BUFFER]));
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Box::new(Socket {
            set,
            handle,
            offset: 0,
            queued: 0,
            kept: VecDeque::new(),
            recovery: Recovery::IDLE,
            read: 0,
            early: Ranges::EMPTY,
            latest: 0,
            heard: Instant::ZERO,
            charged: None,
        })
    }

    #[inline]
    pub(super) fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    #[inline]
    pub(super) fn tcp_ref(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    /// Whether the peer has closed its side.
    pub(super) fn peer_closed(&self) -> bool {
        use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
        matches!(self.tcp_ref().state(), CloseWait | Closing | LastAck | TimeWait)
    }

    /// The peer's next sequence number.
    pub(super) fn rcv(&self) -> u32 {
        self.read.wrapping_add(self.tcp_ref().recv_queue() as u32).wrapping_add(u32::from(self.peer_closed()))
    }

    /// Our oldest octet that was not acknowledged.
    pub(super) fn una(&self) -> u32 {
        let tcp = self.tcp_ref();
        let fin = matches!(tcp.state(), tcp::State::FinWait2 | tcp::State::TimeWait);
        self.queued.wrapping_sub(tcp.send_queue() as u32).wrapping_add(u32::from(fin))
    }

    /// The window that we have for the peer.
    pub(super) fn window(&self) -> u32 {
        let tcp = self.tcp_ref();
        (tcp.recv_capacity() - tcp.recv_queue()) as u32
    }

    /// Queues some of `bytes`; returns how much.
    pub(super) fn send(&mut self, bytes: &[u8]) -> usize {
        let n = self.tcp().send_slice(bytes).unwrap_or(0);
        self.forget();
        self.kept.extend(&bytes[..n]);
        self.queued = self.queued.wrapping_add(n as u32);
        n
    }

    /// Whether data waits that smoltcp has no timer for: its own has run out while the peer's window was closed, and a
    /// window that the peer has taken back it does not probe.
    pub(super) fn is_forgotten(&self, sockets: &mut Sockets, now: Instant) -> bool {
        self.tcp_ref().send_queue() > 0 && sockets.deadline(self, now).is_none()
    }

    /// Keeps no copy of what was acknowledged.
    pub(super) fn forget(&mut self) {
        let over = self.kept.len().saturating_sub(self.tcp_ref().send_queue());
        self.kept.drain(..over);
    }

    /// Our data that was not acknowledged, if it is little enough to rest with.
    pub(super) fn unacknowledged(&mut self) -> Option<Box<[u8]>> {
        self.forget();
        (self.kept.len() <= RESTING).then(|| self.kept.iter().copied().collect())
    }

    /// Copies our data from sequence number `from` to `to` into `into`; nothing that was acknowledged.
    pub(super) fn copy(&self, from: u32, to: u32, into: &mut Vec<u8>) {
        let begin = self.queued.wrapping_sub(self.kept.len() as u32);
        let range = from.wrapping_sub(begin) as usize..to.wrapping_sub(begin) as usize;
        into.clear();
        if range.start <= range.end && range.end <= self.kept.len() {
            into.extend(self.kept.range(range));
        }
    }
}

impl Sockets {
    /// Octets that a lent socket is charged with: its two buffers, a copy of what it sends, and some for itself.
    pub const COST: usize = 3 * BUFFER + 4096;

    /// Sockets of which as many may be lent as `budget` has room for.
    pub fn new(budget: Arc<Budget>, seed: u64) -> Sockets {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut scratch = Scratch::default();
        let mut iface = Interface::new(config, &mut Port { rx: None, scratch: &mut scratch }, Instant::ZERO);
        iface.update_ip_addrs(|addresses| {
            // A prefix of length 0 puts every peer on-link. The set has room for two.
            let _ = addresses.push(IpCidr::new(OURS.addr, 0));
        });
        Sockets { iface, kept: Vec::new(), scratch, budget, refused: false }
    }

    /// What limits them.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether a socket was wanted in vain since this was last asked.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    fn lend(&mut self) -> Option<Box<Socket>> {
        if !self.budget.take(Sockets::COST) {
            self.refused = true;
            return None;
        }
        let mut socket = self.kept.pop().unwrap_or_else(Socket::new);
        socket.charged = Some(self.budget.clone());
        socket.kept.clear();
        socket.recovery = Recovery::IDLE;
        socket.early.clear();
        Some(socket)
    }

    /// Takes back what was lent.
    pub(super) fn take_back(&mut self, mut socket: Box<Socket>) {
        if let Some(budget) = socket.charged.take() {
            budget.release(Sockets::COST);
        }
        if self.kept.len() < KEPT {
            self.kept.push(socket);
        }
    }

    /// Gives smoltcp a segment, its acknowledgment in smoltcp's own numbers.
    pub(super) fn ingress(&mut self, socket: &mut Socket, segment: &Incoming<'_>, now: Instant) {
        let options = if segment.flags & flag::SYN != 0 { segment.options } else { &[] };
        let total = 40 + options.len() + segment.payload.len();
        let mut rx = std::mem::take(&mut self.scratch.rx);
        rx.clear();
        let header = (5 + options.len() as u8 / 4) << 4;
        let [t0, t1] = (total.min(65_535) as u16).to_be_bytes();
        let [s0, s1, s2, s3] = segment.seq.to_be_bytes();
        let [a0, a1, a2, a3] = segment.ack.to_be_bytes();
        let [w0, w1] = segment.window.to_be_bytes();
        // What smoltcp does not know (URG, ECN) only confuses it. Checksums were verified before.
        let flags = segment.flags & 0x1f;
        rx.extend_from_slice(&[0x45, 0, t0, t1, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
        rx.extend_from_slice(&[0, 2, 0, 1, s0, s1, s2, s3, a0, a1, a2, a3, header, flags, w0, w1, 0, 0, 0, 0]);
        rx.extend_from_slice(options);
        rx.extend_from_slice(segment.payload);
        let mut port = Port { rx: Some(&rx), scratch: &mut self.scratch };
        self.iface.poll_ingress_single(now, &mut port, &mut socket.set);
        self.scratch.rx = rx;
    }

    /// Has smoltcp send what it wants to send.
    pub(super) fn egress(&mut self, socket: &mut Socket, now: Instant) {
        let mut port = Port { rx: None, scratch: &mut self.scratch };
        // Bounded: a window holds at most 64 KiB, hence so many segments.
        for _ in 0..256 {
            if self.iface.poll_egress(now, &mut port, &mut socket.set) == smoltcp::iface::PollResult::None {
                break;
            }
        }
    }

    pub(super) fn deadline(&mut self, socket: &Socket, now: Instant) -> Option<Instant> {
        self.iface.poll_at(now, &socket.set)
    }

    /// A socket that sends a SYN next.
    pub(super) fn connect(&mut self, now: Instant) -> Option<Box<Socket>> {
        let mut socket = self.lend()?;
        socket.tcp().abort();
        let Socket { set, handle, .. } = &mut *socket;
        set.get_mut::<tcp::Socket>(*handle).connect(self.iface.context(), PEERS, OURS).ok()?;
        (socket.offset, socket.heard) = (0, now);
        Some(socket)
    }

    /// A socket in the state of `tcb`.
    pub(super) fn wake(&mut self, tcb: &mut Tcb, now: Instant) -> Option<Box<Socket>> {
        let mut socket = self.lend()?;
        socket.tcp().abort();
        socket.tcp().listen(OURS.port).ok()?;
        let in_flight = tcb.in_flight();
        let sent = if tcb.nxt == tcb.una { now } else { tcb.since.min(now) };
        let first = tcb.rcv.wrapping_sub(u32::from(tcb.peer_closed()));
        // What was sent has to fit into the window that is replayed; the real one follows.
        let replayed = (tcb.window.max(in_flight as u32).max(1)).div_ceil(1 << tcb.scale).min(65_535) as u16;
        let segment = |seq, ack, flags, window| Incoming { seq, ack, flags, window, options: &[], payload: &[] };

        let [a, b] = tcb.mss.to_be_bytes();
        let options = [2, 4, a, b, 3, 3, tcb.scale, 0];
        let syn = Incoming { options: &options, ..segment(first.wrapping_sub(1), 0, flag::SYN, u16::MAX) };
        let before = sent - Duration::from_millis(u64::from(tcb.rtt));
        self.ingress(&mut socket, &syn, before);
        self.egress(&mut socket, before);
        let isn = self.first_sequence()?;
        (socket.offset, socket.queued) = (tcb.una.wrapping_sub(isn.wrapping_add(1)), tcb.una);
        (socket.read, socket.heard) = (first, now);
        let una = isn.wrapping_add(1);
        self.ingress(&mut socket, &segment(first, una, flag::ACK, replayed), sent);
        let waiting = std::mem::take(&mut tcb.waiting);
        if in_flight > 0 {
            socket.send(&waiting[..in_flight]);
            self.egress(&mut socket, sent);
        }
        if tcb.peer_closed() {
            self.ingress(&mut socket, &segment(first, una, flag::FIN | flag::ACK, replayed), sent);
            self.egress(&mut socket, sent);
        }
        let window = (tcb.window >> tcb.scale).min(65_535) as u16;
        if window != replayed {
            self.ingress(&mut socket, &segment(tcb.rcv, una, flag::ACK, window), sent);
        }
        if in_flight < waiting.len() {
            socket.send(&waiting[in_flight..]);
        }
        if !matches!(tcb.state, State::Established | State::CloseWait) {
            socket.tcp().close();
            if tcb.state == State::FinWait2 || tcb.nxt.wrapping_sub(tcb.una) as usize > waiting.len() {
                self.egress(&mut socket, sent);
            }
            if tcb.state == State::FinWait2 {
                // The FIN lies before `una` then.
                self.ingress(&mut socket, &segment(tcb.rcv, una.wrapping_add(1), flag::ACK, window), sent);
                socket.offset = socket.offset.wrapping_sub(1);
                socket.queued = socket.queued.wrapping_sub(1);
            }
        }
        self.scratch.forget();
        Some(socket)
    }

    /// The sequence number of the one segment that smoltcp has just sent, which is thrown away.
    fn first_sequence(&mut self) -> Option<u32> {
        let seq = self.scratch.tx.get(24..28).and_then(|seq| Some(u32::from_be_bytes(seq.try_into().ok()?)));
        self.scratch.forget();
        seq
    }
}

impl Scratch {
    /// The packets that smoltcp has sent, and memory for what is put together of them.
    pub(super) fn sent(&mut self) -> (impl Iterator<Item = &[u8]>, &mut Vec<u8>) {
        let Scratch { tx, ends, together, .. } = self;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        (starts.zip(&*ends).map(|(start, end)| &tx[start..*end]), together)
    }

    /// Forgets them.
    pub(super) fn forget(&mut self) {
        self.tx.clear();
        self.ends.clear();
    }
}

/// The device that smoltcp sees: at most one packet in, any number out.
struct Port<'a> {
    rx: Option<&'a [u8]>,
    scratch: &'a mut Scratch,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut Scratch);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let start = self.0.tx.len();
        self.0.tx.resize(start + len, 0);
        let result = f(&mut self.0.tx[start..]);
        self.0.ends.push(start + len);
        result
    }
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx(self.scratch)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(self.scratch))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = MTU;
        // Checksums were verified on the way in and are written on the way out.
        caps.checksum = ChecksumCapabilities::ignored();
        caps.checksum.tcp = Checksum::None;
        caps
    }
}
