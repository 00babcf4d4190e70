//! Packet sockets and TAPs against the kernel's own network stack.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant as Clock;

use etherparse::{SlicedPacket, TransportSlice};
use honeyweave::frame::{Batch, Frame, Pool};
use honeyweave::netdev::{AfPacket, Netdev, Tap};
use honeyweave::sys::{clock, eventfd, interface, packet, tap};
use honeyweave::wire::Instant;

use crate::net::{DEADLINE, Net, Ns, wait_for};

pub fn now() -> Instant {
    Instant::from_micros(clock::monotonic_micros())
}

pub fn af_packet(ns: &Ns, name: &'static str) -> AfPacket {
    ns.enter(move || AfPacket::new(packet::open(name, true).unwrap(), interface::mtu(name).unwrap()))
}

/// Passes frames between two devices until dropped, looking at each.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    pub fn start(mut devices: [Box<dyn Netdev>; 2], mut look: impl FnMut(usize, &Frame) + Send + 'static) -> Forwarder {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut pool, mut batch) = (Pool::new(4096), Batch::default());
            while !stopped.load(Ordering::Relaxed) {
                let fds = devices.iter().flat_map(|device| device.fds()).collect::<Vec<_>>();
                eventfd::wait_readable(&fds, 50_000).unwrap();
                for from in 0..2 {
                    devices[from].rx(now(), &mut pool, &mut batch).unwrap();
                    batch.iter().for_each(|frame| look(from, frame));
                    devices[1 - from].tx(&mut pool, &mut batch);
                    assert_eq!((batch.len(), pool.in_use()), (0, 0), "buffers go back");
                }
            }
        });
        Forwarder { stop, thread: Some(thread) }
    }

    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a wire would carry in the place of `frame`, each checked; octets of payload.
pub fn check(frame: &Frame) -> usize {
    let (mut pool, mut parts) = (Pool::new(2048), Batch::default());
    let copy = pool.duplicate(frame).unwrap();
    assert_eq!(pool.segment(copy, &mut parts), 0);
    assert_eq!(parts.len(), frame.segments());
    assert!(parts.iter().map(|part| part.len()).max() == Some(frame.segment_len()));
    parts.iter().map(check_frame).sum()
}

/// By an independent parser: no longer than the MTU allows, and every checksum right.
fn check_frame(frame: &Frame) -> usize {
    assert!(frame.len() <= 1518, "{}", frame.len());
    let packet = SlicedPacket::from_ethernet(frame.bytes()).unwrap();
    assert!(packet.vlan().is_some() || frame.len() <= 1514, "{}", frame.len());
    let Some(transport) = packet.transport.as_ref() else { return 0 };
    let (sum, expected, len) = match (packet.net.as_ref().unwrap(), transport) {
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            let expected = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
            (tcp.checksum(), expected, tcp.payload().len())
        }
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let expected = tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap();
            (tcp.checksum(), expected, tcp.payload().len())
        }
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let (header, ip) = (udp.to_header(), ip.header());
            let expected = header.calc_checksum_ipv4_raw(ip.source(), ip.destination(), udp.payload()).unwrap();
            (udp.checksum(), expected, udp.payload().len())
        }
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let (header, ip) = (udp.to_header(), ip.header());
            let expected = header.calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload()).unwrap();
            (udp.checksum(), expected, udp.payload().len())
        }
        _ => return 0,
    };
    // 0xffff and 0 are the same number in one's complement; the kernel writes the former for TCP, too.
    assert!(sum == expected || (sum, expected) == (0xffff, 0), "{packet:?}");
    len
}

/// Reproducible octets.
pub fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends `len` octets over TCP from one namespace to the other.
fn tcp_bulk(from: &Ns, to: &Ns, address: IpAddr, len: usize) {
    let listener = to.enter(|| TcpListener::bind((address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let bytes = payload(len);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.enter(|| TcpStream::connect((address, port)).unwrap());
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut got = Vec::with_capacity(len);
        stream.read_to_end(&mut got).unwrap();
        assert!(got == bytes, "{} of {len} octets", got.len());
    });
}

const BULK: usize = 32 << 20;

pub fn bulk_test(devices: [Box<dyn Netdev>; 2], a: &Ns, b: &Ns) {
    let carried = Arc::new(AtomicUsize::new(0));
    let count = carried.clone();
    let forwarder = Forwarder::start(devices, move |_, frame| {
        count.fetch_add(check(frame), Ordering::Relaxed);
    });
    tcp_bulk(a, b, "10.9.0.2".parse().unwrap(), BULK);
    tcp_bulk(b, a, "10.9.0.1".parse().unwrap(), BULK);
    tcp_bulk(a, b, "fd09::2".parse().unwrap(), BULK);
    forwarder.stop();
    assert!(carried.load(Ordering::Relaxed) >= 3 * BULK);
}

pub fn address(ns: &Ns, name: &str, host: u8) {
    ns.addr(name, &format!("10.9.0.{host}/24"));
    ns.addr(name, &format!("fd09::{host}/64"));
}

/// Two namespaces whose wires end in a third, where the test takes the frames.
pub fn two_wires() -> (Net, Ns, Ns, Ns) {
    let net = Net::new();
    let (a, b, mid) = (net.ns("a"), net.ns("b"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    net.wire((&b, "eth0"), (&mid, "wb"));
    address(&a, "eth0", 1);
    address(&b, "eth0", 2);
    (net, a, b, mid)
}

#[test]
fn tcp_bulk_from_veth_with_offloads_arrives_whole() {
    let (_net, a, b, mid) = two_wires();
    bulk_test([Box::new(af_packet(&mid, "wa")), Box::new(af_packet(&mid, "wb"))], &a, &b);
}

/// As most network cards are that cut no segments themselves.
#[test]
fn tcp_bulk_to_a_device_without_offloads_arrives_whole() {
    let (_net, a, b, mid) = two_wires();
    for name in ["wa", "wb"] {
        mid.sh(&["ethtool", "-K", name, "tx", "off", "tso", "off"]);
    }
    bulk_test([Box::new(af_packet(&mid, "wa")), Box::new(af_packet(&mid, "wb"))], &a, &b);
}

#[test]
fn tcp_bulk_between_tap_and_veth_arrives_whole() {
    let net = Net::new();
    let (a, b, mid) = (net.ns("a"), net.ns("b"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    address(&a, "eth0", 1);
    let (fd, name) = b.enter(|| {
        let (fd, name) = tap::open("tap%d", tap::Offload::Tcp).unwrap();
        interface::set_mac(&name, [2, 0, 0, 0, 0, 7]).unwrap();
        interface::set_mtu(&name, 1400).unwrap();
        assert_eq!(interface::mtu(&name).unwrap(), 1400);
        interface::set_mtu(&name, 1500).unwrap();
        assert!(!interface::link_state(&name).unwrap().up);
        interface::set_up(&name, true).unwrap();
        assert!(interface::link_state(&name).unwrap().up);
        assert_eq!(interface::mac(&name).unwrap().1, [2, 0, 0, 0, 0, 7]);
        (fd, name)
    });
    assert_eq!((name.as_str(), tap::name(fd.as_fd()).unwrap()), ("tap0", "tap0".to_string()));
    address(&b, &name, 2);
    bulk_test([Box::new(af_packet(&mid, "wa")), Box::new(Tap::new(fd, 1500))], &a, &b);
}

#[test]
fn udp_super_frames_arrive_as_datagrams() {
    let (_net, a, b, mid) = two_wires();
    let forwarder = Forwarder::start([Box::new(af_packet(&mid, "wa")), Box::new(af_packet(&mid, "wb"))], |_, frame| {
        check(frame);
    });
    let receiver = b.enter(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    let size: libc::c_int = 1000;
    // SAFETY: the option's value lives for the call and its length is given.
    let status =
        unsafe { libc::setsockopt(sender.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4) };
    assert_eq!(status, 0);
    let bytes = payload(40_500);
    sender.send_to(&bytes, receiver.local_addr().unwrap()).unwrap();
    let mut got = Vec::new();
    for i in 0..41 {
        let mut datagram = [0; 2000];
        let len = receiver.recv(&mut datagram).unwrap();
        assert_eq!(len, if i < 40 { 1000 } else { 500 });
        got.extend_from_slice(&datagram[..len]);
    }
    assert!(got == bytes);
    forwarder.stop();
}

/// The kernel takes the outer tag out of every frame that it receives; the frame must have it again.
#[test]
fn tagged_frames_keep_their_tags() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (mut ours, mut theirs) = (af_packet(&mid, "wa"), af_packet(&a, "eth0"));
    let tagged = |tags: &[[u8; 4]], mark: u8, len: usize| {
        let plain = test_frame(0x88b5, mark);
        let mut bytes = [&plain[..12], &tags.concat(), &plain[12..]].concat();
        bytes.resize(len, mark);
        bytes
    };
    let frames = [
        tagged(&[[0x81, 0, 0xa0, 7]], 1, 1518),
        tagged(&[[0x81, 0, 0, 0]], 2, 64),
        tagged(&[[0x88, 0xa8, 0x0f, 0xfe], [0x81, 0, 0x10, 9]], 3, 1514),
        tagged(&[], 4, 1514),
    ];
    for back in [false, true] {
        let (from, to) = if back { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
        assert_eq!(send(from, &frames), 4);
        let mut seen = Vec::new();
        receive_until(to, |bytes| {
            if bytes[6..11] == [2, 0, 0, 0, 0] {
                seen.push(bytes.to_vec());
            }
            seen.len() == 4
        });
        assert!(seen == frames);
    }
}

/// Receives until `f` has seen what it wants.
pub fn receive_until(device: &mut dyn Netdev, mut f: impl FnMut(&[u8]) -> bool) {
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    let deadline = Clock::now() + DEADLINE;
    loop {
        assert!(Clock::now() < deadline, "no such frame came");
        eventfd::wait_readable(&device.fds(), 100_000).unwrap();
        device.rx(now(), &mut pool, &mut batch).unwrap();
        let mut found = false;
        for frame in batch.drain(..) {
            found |= f(frame.bytes());
            pool.put(frame);
        }
        if found {
            return;
        }
    }
}

pub fn test_frame(ethertype: u16, mark: u8) -> Vec<u8> {
    let mut bytes = vec![mark; 64];
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, mark]);
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

pub fn send(device: &mut dyn Netdev, frames: &[Vec<u8>]) -> usize {
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    batch.extend(frames.iter().map(|bytes| pool.copy_of(bytes).unwrap()));
    let taken = device.tx(&mut pool, &mut batch);
    assert_eq!((batch.len(), pool.in_use()), (0, 0));
    taken
}

#[test]
fn own_frames_do_not_come_back() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (mut ours, mut theirs) = (af_packet(&mid, "wa"), af_packet(&a, "eth0"));
    let frames: Vec<Vec<u8>> = (0..100).map(|n| test_frame(0x88b5, n)).collect();
    assert_eq!(send(&mut ours, &frames), 100);
    let mut seen = 0;
    receive_until(&mut theirs, |bytes| {
        if bytes[12..14] == [0x88, 0xb5] {
            assert_eq!(bytes, &frames[seen][..], "in order and unchanged");
            seen += 1;
        }
        seen == 100
    });
    assert_eq!(send(&mut theirs, &[test_frame(0x88b6, 1)]), 1);
    receive_until(&mut ours, |bytes| {
        assert_ne!(bytes[12..14], [0x88, 0xb5], "our own frame came back");
        bytes[12..14] == [0x88, 0xb6]
    });
}

#[test]
fn frames_longer_than_the_device_takes_are_discarded() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (mut ours, mut theirs) = (af_packet(&mid, "wa"), af_packet(&a, "eth0"));
    let long = |len: usize, ethertype: u16, mark: u8| {
        let mut bytes = test_frame(ethertype, mark);
        bytes.resize(len, mark);
        bytes
    };
    let frames = [long(1515, 0x88b5, 1), long(1514, 0x88b5, 2), long(9000, 0x88b5, 3), test_frame(0x88b5, 4)];
    assert_eq!(send(&mut ours, &frames), 2);
    let mut marks = Vec::new();
    receive_until(&mut theirs, |bytes| {
        if bytes[12..14] == [0x88, 0xb5] {
            marks.push((bytes[11], bytes.len()));
        }
        bytes[11] == 4
    });
    assert_eq!(marks, [(2, 1514), (4, 64)]);
    // The interface's MTU has shrunk meanwhile: the kernel refuses the long one, the others still go.
    mid.sh(&["ip", "link", "set", "wa", "mtu", "1000"]);
    assert_eq!(send(&mut ours, &[long(1514, 0x88b5, 5), test_frame(0x88b5, 6)]), 1);
}

#[test]
fn an_interface_goes_down_comes_back_and_vanishes() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (mut ours, mut theirs) = (af_packet(&mid, "wa"), af_packet(&a, "eth0"));
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    mid.sh(&["ip", "link", "set", "wa", "down"]);
    assert_eq!(eventfd::wait_readable(&ours.fds(), 5_000_000).unwrap(), 1, "it says so");
    assert!(!ours.rx(now(), &mut pool, &mut batch).unwrap(), "down is no error");
    assert_eq!(eventfd::wait_readable(&ours.fds(), 0).unwrap(), 0, "and it says so once");
    assert_eq!(send(&mut ours, &[test_frame(0x88b5, 1)]), 0);
    mid.sh(&["ip", "link", "set", "wa", "up"]);
    wait_for("the carrier", || mid.enter(|| interface::link_state("wa").unwrap().running).then_some(()));
    wait_for("a frame that passes", || {
        send(&mut theirs, &[test_frame(0x88b5, 2)]);
        eventfd::wait_readable(&ours.fds(), 0).unwrap().eq(&1).then_some(())
    });
    receive_until(&mut ours, |bytes| bytes[11] == 2);
    assert_eq!(send(&mut ours, &[test_frame(0x88b5, 3)]), 1);
    receive_until(&mut theirs, |bytes| bytes[11] == 3);
    mid.sh(&["ip", "link", "del", "wa"]);
    assert_eq!(send(&mut ours, &[test_frame(0x88b5, 4)]), 0);
    assert!(ours.rx(now(), &mut pool, &mut batch).is_err(), "an interface that is removed never comes back");
    let missing = mid.enter(|| packet::open("wa", true)).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn a_tap_goes_down_comes_back_and_vanishes() {
    let net = Net::new();
    let ns = net.ns("a");
    let (fd, name) = ns.enter(|| tap::open("tap%d", tap::Offload::Tcp).unwrap());
    let mut device = Tap::new(fd, 1500);
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    assert_eq!(send(&mut device, &[test_frame(0x88b5, 1)]), 0, "it is down at first");
    assert!(!device.rx(now(), &mut pool, &mut batch).unwrap());
    ns.enter(|| interface::set_up(&name, true).unwrap());
    let mut stack = ns.enter(|| AfPacket::new(packet::open("tap0", true).unwrap(), 1500));
    assert_eq!(send(&mut device, &[test_frame(0x88b5, 2), vec![0; 1515], test_frame(0x88b5, 3)]), 2);
    receive_until(&mut stack, |bytes| bytes[11] == 3);
    assert_eq!(send(&mut stack, &[test_frame(0x88b5, 4)]), 1);
    receive_until(&mut device, |bytes| bytes[11] == 4);
    // Another namespace takes the device; the descriptor goes on working.
    let other = net.ns("b");
    ns.sh(&["ip", "link", "set", "tap0", "netns", &other.name, "name", "eth0"]);
    other.sh(&["ip", "link", "set", "eth0", "up"]);
    let mut stack = af_packet(&other, "eth0");
    assert_eq!(send(&mut device, &[test_frame(0x88b5, 5)]), 1);
    receive_until(&mut stack, |bytes| bytes[11] == 5);
    other.sh(&["ip", "link", "del", "eth0"]);
    wait_for("the end of the device", || device.rx(now(), &mut pool, &mut batch).is_err().then_some(()));
    assert_eq!(send(&mut device, &[test_frame(0x88b5, 6)]), 0);
}

/// A socket made with a protocol receives from every interface until it is bound to one.
#[test]
fn a_socket_never_sees_another_interface() {
    let (_net, a, _b, mid) = two_wires();
    let stop = AtomicBool::new(false);
    let mut noise = af_packet(&a, "eth0");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let frames = vec![test_frame(0x88b7, 1); 64];
            while !stop.load(Ordering::Relaxed) {
                send(&mut noise, &frames);
            }
        });
        let mut foreign = 0;
        for _ in 0..50 {
            let mut device = af_packet(&mid, "wb");
            let (mut pool, mut batch) = (Pool::new(256), Batch::default());
            while device.rx(now(), &mut pool, &mut batch).unwrap() {}
            foreign += batch.drain(..).filter(|frame| frame.bytes()[12..14] == [0x88, 0xb7]).count();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(foreign, 0);
    });
}

/// Nothing is lost silently: what the kernel had no room for is counted.
#[test]
fn overruns_are_counted() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (mut ours, mut theirs) = (af_packet(&mid, "wa"), af_packet(&a, "eth0"));
    let frames = vec![test_frame(0x88b5, 1); 100];
    let sent: u64 = (0..1000).map(|_| send(&mut theirs, &frames) as u64).sum();
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    let mut time = now();
    let total = wait_for("all of them", || {
        time += honeyweave::wire::Duration::from_secs(2);
        while ours.rx(time, &mut pool, &mut batch).unwrap() {
            batch.drain(..).for_each(|frame| pool.put(frame));
        }
        batch.drain(..).for_each(|frame| pool.put(frame));
        let counters = ours.discards().unwrap();
        let lost = counters.discarded(honeyweave::event::DropReason::TailDrop);
        // The kernel says a word of its own now and then.
        (lost > 0 && counters.rx + lost >= sent).then_some((counters.rx, lost))
    });
    assert!(total.0 > 8_000 && total.0 + total.1 < sent + 20, "{total:?} of {sent}");
}
