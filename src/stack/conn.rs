//! One TCP connection: a smoltcp socket with an interface of its own.
//!
//! smoltcp finds sockets by scanning its set, so each connection has a set of
//! one, and our own flow table stands before it. It cannot be told its initial
//! sequence number nor be given an established connection; therefore the SYN
//! and the ACK of a handshake that the half-open table has already held with the
//! peer are replayed into a listening socket, and the difference of the two
//! initial sequence numbers is added to everything that passes from then on.
//!
//! Segments go in parsed and come out parsed: headers on the wire are the
//! personality's business, not smoltcp's.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::wire::{Duration, ETH, Headers, Instant, Mac, Segment, TcpHeader, TcpOptions, be16, flag, proto, word_of};

/// How long a peer may be silent before it is asked whether it is still there (RFC 9293 §3.8.4).
pub const KEEP_ALIVE: Duration = Duration::from_secs(7200);
/// Largest IP packet that a connection sends.
const MTU: usize = 1500;

/// What a peer's SYN asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynInfo {
    /// Its initial sequence number.
    pub isn: u32,
    /// Its window, not scaled.
    pub window: u16,
    /// Its options.
    pub options: TcpOptions,
}

/// A received segment.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field as received.
    pub window: u16,
    /// Options as received; only a SYN's matter.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// The segment that is `l4`, whose header is `tcp`.
    #[inline]
    pub fn of(tcp: &TcpHeader, l4: &'a [u8]) -> Incoming<'a> {
        let (options, payload) = (&l4[20..tcp.len], &l4[tcp.len..]);
        Incoming { seq: tcp.seq, ack: tcp.ack, flags: tcp.flags, window: tcp.window, options, payload }
    }
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window in octets, not scaled; at most 65,535.
    pub window: u32,
    /// Data.
    pub payload: &'a [u8],
}

/// Memory that all connections of a thread share while a segment passes.
#[derive(Default)]
pub struct Scratch {
    rx: Vec<u8>,
    tx: Vec<u8>,
    ends: Vec<usize>,
}

/// A connection.
pub struct Conn {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Added to the sequence numbers that smoltcp sends.
    offset: u32,
    /// What follows the last octet sent.
    next: u32,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Octets that a connection buffers in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// Received and not yet read; at most 65,535.
    pub rx: usize,
    /// Written and not yet acknowledged.
    pub tx: usize,
}

impl Buffers {
    /// For services that answer at once.
    pub const SMALL: Buffers = Buffers { rx: 8 * 1024, tx: 8 * 1024 };
    /// For relayed connections.
    pub const LARGE: Buffers = Buffers { rx: 65_535, tx: 65_535 };
}

impl Conn {
    fn new(
        local: SocketAddr,
        remote: SocketAddr,
        buffers: Buffers,
        seed: u64,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Conn {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut Port { rx: None, scratch }, now);
        iface.update_ip_addrs(|addresses| {
            // A prefix of length 0 puts every peer on-link. The set has room for two.
            let _ = addresses.push(IpCidr::new(IpAddress::from(local.ip()), 0));
        });
        let rx = tcp::SocketBuffer::new(vec![0; buffers.rx.min(65_535)]);
        let tx = tcp::SocketBuffer::new(vec![0; buffers.tx]);
        let mut socket = tcp::Socket::new(rx, tx);
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Conn { iface, sockets, handle, offset: 0, next: 0, local, remote }
    }

    /// A connection whose handshake the half-open table has held to its end:
    /// `syn` is the peer's, `isn` is ours. `mss` is the most data a segment to
    /// the peer may carry. The segment that completed the handshake is to be
    /// given to [`Conn::ingress`] next, for its window and what it carries.
    ///
    /// `None` if smoltcp refuses the addresses.
    #[allow(clippy::too_many_arguments)]
    pub fn accept(
        local: SocketAddr,
        remote: SocketAddr,
        syn: &SynInfo,
        isn: u32,
        mss: u16,
        buffers: Buffers,
        seed: u64,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<Conn> {
        let mut conn = Conn::new(local, remote, buffers, seed, now, scratch);
        conn.socket().set_keep_alive(Some(KEEP_ALIVE));
        conn.socket().listen(local.port()).ok()?;
        let [a, b] = mss.to_be_bytes();
        let mut options = [2, 4, a, b, 1, 1, 1, 1];
        if let Some(shift) = syn.options.window_scale {
            options[4..].copy_from_slice(&[3, 3, shift, 1]);
        }
        let replay =
            Incoming { seq: syn.isn, ack: 0, flags: flag::SYN, window: syn.window, options: &options, payload: &[] };
        conn.ingress(&replay, now, scratch, |_| {});
        let mut own = None;
        conn.egress(now, scratch, |segment| own = Some(segment.seq));
        conn.offset = isn.wrapping_sub(own?);
        conn.next = isn.wrapping_add(1);
        // An ACK of our own making, so that the connection is open whatever the peer's carries.
        let shift = syn.options.window_scale.unwrap_or(0);
        let ack = Incoming {
            seq: syn.isn.wrapping_add(1),
            ack: conn.next,
            flags: flag::ACK,
            window: (syn.window >> shift).max(1),
            options: &[],
            payload: &[],
        };
        conn.ingress(&ack, now, scratch, |_| {});
        conn.is_open().then_some(conn)
    }

    /// A connection that we open; its SYN comes out of the next [`Conn::egress`].
    ///
    /// `None` if smoltcp refuses the addresses.
    pub fn connect(
        local: SocketAddr,
        remote: SocketAddr,
        buffers: Buffers,
        seed: u64,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<Conn> {
        let mut conn = Conn::new(local, remote, buffers, seed, now, scratch);
        let to = IpEndpoint::new(IpAddress::from(remote.ip()), remote.port());
        let from = IpEndpoint::new(IpAddress::from(local.ip()), local.port());
        let Conn { iface, sockets, handle, .. } = &mut conn;
        sockets.get_mut::<tcp::Socket>(*handle).connect(iface.context(), to, from).ok()?;
        Some(conn)
    }

    #[inline]
    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    #[inline]
    fn socket_ref(&self) -> &tcp::Socket<'static> {
        self.sockets.get(self.handle)
    }

    /// Takes a segment of the peer. What smoltcp answers at once (an
    /// acknowledgment of what came out of order, a RST) goes to `send`.
    pub fn ingress(
        &mut self,
        segment: &Incoming<'_>,
        now: Instant,
        scratch: &mut Scratch,
        send: impl FnMut(&Outgoing<'_>),
    ) {
        let ack = if segment.flags & flag::ACK != 0 { segment.ack.wrapping_sub(self.offset) } else { 0 };
        let packet = Segment {
            src: self.remote.port(),
            dst: self.local.port(),
            seq: segment.seq,
            ack,
            // What smoltcp does not know (URG, ECN) only confuses it.
            flags: segment.flags & 0x1f,
            window: segment.window,
            options: if segment.flags & flag::SYN != 0 { segment.options } else { &[] },
            payload: segment.payload,
        };
        let headers = Headers {
            dst_mac: Mac::ZERO,
            src_mac: Mac::ZERO,
            src: self.remote.ip(),
            dst: self.local.ip(),
            proto: proto::TCP,
            ttl: 64,
            tos: 0,
            ip_id: 0,
            df: true,
        };
        let mut rx = std::mem::take(&mut scratch.rx);
        rx.resize(headers.len() + packet.len(), 0);
        packet.write(&headers, &mut rx);
        let mut port = Port { rx: Some(&rx[ETH..]), scratch };
        self.iface.poll_ingress_single(now, &mut port, &mut self.sockets);
        scratch.rx = rx;
        self.flush(scratch, send);
    }

    /// Has smoltcp send what it wants to send now.
    pub fn egress(&mut self, now: Instant, scratch: &mut Scratch, send: impl FnMut(&Outgoing<'_>)) {
        let mut port = Port { rx: None, scratch };
        // Bounded: a window holds at most 64 KiB, hence so many segments.
        for _ in 0..256 {
            if self.iface.poll_egress(now, &mut port, &mut self.sockets) == smoltcp::iface::PollResult::None {
                break;
            }
        }
        self.flush(scratch, send);
    }

    /// Acknowledges what was received so far, as a host meets a SYN within a
    /// connection (RFC 5961 §4.2); at most once a second.
    pub fn challenge(&mut self, now: Instant, scratch: &mut Scratch, send: impl FnMut(&Outgoing<'_>)) {
        // What smoltcp answers so is an acknowledgment of what was never sent: further ahead than buffers reach.
        let beyond = self.next.wrapping_add(1 << 20);
        let segment = Incoming { seq: 0, ack: beyond, flags: flag::ACK, window: 0, options: &[], payload: &[] };
        self.ingress(&segment, now, scratch, send);
    }

    fn flush(&mut self, scratch: &mut Scratch, mut send: impl FnMut(&Outgoing<'_>)) {
        let mut start = 0;
        for end in scratch.ends.drain(..) {
            let packet = &scratch.tx[start..end];
            start = end;
            let at = if packet.first().is_some_and(|b| b >> 4 == 4) { 20 } else { 40 };
            let Some(tcp) = packet.get(at..).and_then(TcpHeader::parse) else { continue };
            let payload = &packet[at + tcp.len..];
            let seq = tcp.seq.wrapping_add(self.offset);
            self.next = seq.wrapping_add(payload.len() as u32);
            send(&Outgoing { seq, ack: tcp.ack, flags: tcp.flags, window: u32::from(be16(packet, at + 14)), payload });
        }
        scratch.tx.clear();
    }

    /// When [`Conn::egress`] wants to be called again though nothing happens.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.iface.poll_at(now, &self.sockets)
    }

    /// Shows `f` the received data that lies together; `f` returns how much it took.
    pub fn recv(&mut self, f: impl FnOnce(&[u8]) -> usize) -> usize {
        let socket = self.socket();
        if !socket.can_recv() {
            return 0;
        }
        socket
            .recv(|bytes| {
                let n = f(bytes);
                (n, n)
            })
            .unwrap_or(0)
    }

    /// Queues as much of `bytes` as there is room for; returns how much.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        self.socket().send_slice(bytes).unwrap_or(0)
    }

    /// Octets that [`Conn::send`] would take now.
    pub fn room(&self) -> usize {
        let socket = self.socket_ref();
        if socket.may_send() { socket.send_capacity() - socket.send_queue() } else { 0 }
    }

    /// Whether data waits to be read.
    pub fn has_data(&self) -> bool {
        self.socket_ref().can_recv()
    }

    /// Whether the peer has said that it will send no more, and all was read.
    pub fn at_end(&self) -> bool {
        let socket = self.socket_ref();
        use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
        matches!(socket.state(), CloseWait | Closing | LastAck | TimeWait) && !socket.can_recv()
    }

    /// Whether the handshake is complete and the connection not over.
    pub fn is_open(&self) -> bool {
        let state = self.socket_ref().state();
        !matches!(state, tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Closed)
    }

    /// Whether nothing is left of it.
    pub fn is_closed(&self) -> bool {
        matches!(self.socket_ref().state(), tcp::State::Closed)
    }

    /// Whether only the wait for stray segments is left (RFC 9293 §3.6.1).
    pub fn is_time_wait(&self) -> bool {
        matches!(self.socket_ref().state(), tcp::State::TimeWait)
    }

    /// Sends a FIN once everything queued was sent.
    pub fn close(&mut self) {
        self.socket().close();
    }

    /// Sends a RST.
    pub fn abort(&mut self) {
        self.socket().abort();
    }

    /// Whether something sent was not acknowledged yet.
    pub fn is_unacknowledged(&self) -> bool {
        self.socket_ref().send_queue() > 0
    }

    /// Our address and port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The peer's address and port.
    pub fn remote(&self) -> SocketAddr {
        self.remote
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

/// The flow table's key: one TCP connection as the host sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct FlowKey {
    /// The host.
    pub local: IpAddr,
    /// The peer.
    pub remote: IpAddr,
    /// The host's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(word_of(self.local));
        state.write_u128(word_of(self.remote));
        state.write_u32(u32::from(self.local_port) << 16 | u32::from(self.remote_port));
    }
}

impl FlowKey {
    /// The host's address and port.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// The peer's address and port.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }
}

#[cfg(test)]
mod tests;
