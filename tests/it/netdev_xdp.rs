//! AF_XDP beside a packet socket, against the kernel's own network stack.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use honeyweave::event::DropReason;
use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::{Netdev, Xdp};
use honeyweave::sys::xdp::{self, Attachment, Mode, Socket};
use honeyweave::sys::{eventfd, interface};
use honeyweave::wire::Duration;

use crate::net::{DEADLINE, Net, Ns, wait_for};
use crate::netdev::{Forwarder, af_packet, bulk_test, check, now, payload, receive_until, send, test_frame, two_wires};

/// What the program takes, and what it leaves, among [`test_frame`]s.
const TAKEN: u16 = 0x0806;
const LEFT: u16 = 0x88b5;

/// Attaches the program and serves `queues` of `interface`. It stays attached as long as the first of both lives.
pub fn take(ns: &Ns, name: &'static str, mode: Mode, queues: u32) -> (Attachment, Xdp) {
    ns.enter(move || {
        let index = interface::index(name).unwrap();
        let attachment = Attachment::new(index, mode, 8).unwrap();
        let memory = xdp::memory(queues as usize, xdp::ENTRIES).unwrap();
        let bind = |queue: u32| {
            // A queue that was served a moment ago is busy for about a second more.
            let socket = wait_for("the queue", || {
                let bound = xdp::bind(memory.as_fd(), queue as usize, xdp::ENTRIES, (index, queue), mode);
                bound.map_err(|error| assert_eq!(error.raw_os_error(), Some(libc::EBUSY))).ok()
            });
            attachment.serve(queue, socket.as_fd()).unwrap();
            Socket::open(socket, memory.as_fd(), queue as usize, xdp::ENTRIES).unwrap()
        };
        let sockets = (0..queues).map(bind).collect();
        // Not by `af_packet`, which would enter the namespace once more.
        let socket = honeyweave::sys::packet::open(name, true).unwrap();
        let packet = honeyweave::netdev::AfPacket::new(socket, interface::mtu(name).unwrap());
        (attachment, Xdp::new(packet, sockets, mode).unwrap())
    })
}

/// What `ip` says of an interface's program.
fn program(ns: &Ns, name: &str) -> bool {
    ns.sh(&["ip", "link", "show", "dev", name]).contains("prog/xdp")
}

/// The marks of [`test_frame`]s, in the order in which they come, up to `last`.
fn marks(device: &mut dyn Netdev, last: u8) -> Vec<u8> {
    let mut marks = Vec::new();
    receive_until(device, |bytes| {
        if bytes[6..11] == [2, 0, 0, 0, 0] {
            marks.push(bytes[11]);
        }
        bytes[11] == last
    });
    marks
}

#[test]
fn each_frame_comes_once_and_by_one_way() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let mut theirs = af_packet(&a, "eth0");
    for mode in [Mode::Generic, Mode::Native] {
        let (attachment, mut ours) = take(&mid, "wa", mode, 1);
        let mut witness = af_packet(&mid, "wa");
        assert!(program(&mid, "wa"));
        let frames: Vec<_> = (1..=200).map(|n| test_frame(if n % 3 == 0 { LEFT } else { TAKEN }, n)).collect();
        assert_eq!(send(&mut theirs, &frames), 200);
        let mut came = vec![];
        while came.len() < 200 {
            receive_until(&mut ours, |bytes| {
                came.push(bytes.to_vec());
                true
            });
        }
        came.sort_by_key(|bytes| bytes[11]);
        assert!(came == frames, "{mode:?}: {} frames", came.len());
        assert_eq!(eventfd::wait_readable(&ours.fds(), 0).unwrap(), 0, "once");
        assert_eq!(marks(&mut witness, 198), (1..=66).map(|n| 3 * n).collect::<Vec<u8>>(), "those that were left");
        assert!(!ours.has_frames());
        send(&mut theirs, &[test_frame(TAKEN, 1)]);
        wait_for("a frame that is seen without a call", || ours.has_frames().then_some(()));
        assert_eq!(marks(&mut ours, 1), [1]);
        // The other direction.
        assert_eq!(send(&mut ours, &frames), 200);
        assert_eq!(marks(&mut theirs, 200), (1..=200).collect::<Vec<u8>>());
        assert_eq!(eventfd::wait_readable(&ours.fds(), 0).unwrap(), 0, "own frames do not come back");
        // Without the sockets, the program leaves everything.
        drop(ours);
        assert_eq!(send(&mut theirs, &frames), 200);
        assert_eq!(marks(&mut witness, 200), (1..=200).collect::<Vec<u8>>());
        drop(attachment);
        assert!(!program(&mid, "wa"));
    }
}

#[test]
fn tcp_bulk_with_offloads_arrives_whole() {
    let (_net, a, b, mid) = two_wires();
    let (_one, wa) = take(&mid, "wa", Mode::Generic, 1);
    let (_other, wb) = take(&mid, "wb", Mode::Generic, 1);
    bulk_test([Box::new(wa), Box::new(wb)], &a, &b);
}

/// Whoever has no offloads sends what the program takes, and a lone checksum in 65,536 that it does not.
#[test]
fn tcp_bulk_without_offloads_arrives_whole() {
    let (_net, a, b, mid) = two_wires();
    for ns in [&a, &b] {
        ns.sh(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"]);
    }
    let (_one, wa) = take(&mid, "wa", Mode::Generic, 1);
    let (_other, wb) = take(&mid, "wb", Mode::Generic, 1);
    let mut witness = af_packet(&mid, "wa");
    bulk_test([Box::new(wa), Box::new(wb)], &a, &b);
    let (mut pool, mut batch) = (Pool::new(65_536), Batch::default());
    while witness.rx(now(), &mut pool, &mut batch).unwrap() {}
    let whole = batch.iter().filter(|frame| frame.len() > 1000).count();
    assert!(whole < 100, "{whole} long frames went the slower way");
}

#[test]
fn udp_super_frames_arrive_as_datagrams() {
    let (_net, a, b, mid) = two_wires();
    let (_one, wa) = take(&mid, "wa", Mode::Generic, 1);
    let (_other, wb) = take(&mid, "wb", Mode::Generic, 1);
    let forwarder = Forwarder::start([Box::new(wa), Box::new(wb)], |_, frame| {
        check(frame);
    });
    let receiver = b.enter(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    let sender = a.enter(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    // A super-frame of two segments is shorter than many a whole frame.
    for size in [100, 1000] {
        let value: libc::c_int = size;
        let (level, name) = (libc::SOL_UDP, libc::UDP_SEGMENT);
        // SAFETY: the option's value lives for the call and its length is given.
        let status = unsafe { libc::setsockopt(sender.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
        assert_eq!(status, 0);
        let size = size as usize;
        for count in [1, 2, 10] {
            let bytes = payload(count * size);
            sender.send_to(&bytes, receiver.local_addr().unwrap()).unwrap();
            let mut got = Vec::new();
            for _ in 0..count {
                let mut datagram = [0; 2000];
                let len = receiver.recv(&mut datagram).unwrap();
                assert_eq!(len, size);
                got.extend_from_slice(&datagram[..len]);
            }
            assert!(got == bytes);
        }
    }
    forwarder.stop();
}

#[test]
fn tagged_frames_keep_their_tags() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (_attachment, mut ours) = take(&mid, "wa", Mode::Generic, 1);
    let mut theirs = af_packet(&a, "eth0");
    let tagged = |tags: &[[u8; 4]], mark: u8| {
        let plain = test_frame(TAKEN, mark);
        [&plain[..12], &tags.concat(), &plain[12..]].concat()
    };
    let frames = [
        tagged(&[[0x81, 0, 0xa0, 7]], 1),
        tagged(&[[0x81, 0, 0, 0]], 2),
        tagged(&[[0x88, 0xa8, 0x0f, 0xfe], [0x81, 0, 0x10, 9]], 3),
    ];
    assert_eq!(send(&mut theirs, &frames), 3);
    let mut seen = Vec::new();
    receive_until(&mut ours, |bytes| {
        seen.push(bytes.to_vec());
        seen.len() == 3
    });
    assert!(seen == frames);
}

#[test]
fn long_frames_come_whole() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    a.sh(&["ip", "link", "set", "eth0", "mtu", "9000"]);
    mid.sh(&["ip", "link", "set", "wa", "mtu", "9000"]);
    let (_attachment, mut ours) = take(&mid, "wa", Mode::Generic, 1);
    let mut theirs = af_packet(&a, "eth0");
    let lengths = [60, 1514, 1536, 1537, 1700, 1800, 2048, 3500, 4096, 9014];
    let frames: Vec<Vec<u8>> = (1..)
        .zip(lengths)
        .map(|(mark, len)| {
            let mut bytes = test_frame(TAKEN, mark);
            bytes.resize(len, mark);
            bytes
        })
        .collect();
    assert_eq!(send(&mut theirs, &frames), frames.len());
    let mut seen = Vec::new();
    receive_until(&mut ours, |bytes| {
        seen.push(bytes.to_vec());
        seen.len() == frames.len()
    });
    seen.sort_by_key(Vec::len);
    assert!(seen == frames);
}

/// Frames of a hardware queue without a socket go the slower way; with one for each queue, none does.
#[test]
fn no_queue_is_forgotten() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    let peer = ["peer", "name", "wa", "netns", &mid.name, "numrxqueues", "4", "numtxqueues", "4"];
    let begin = ["ip", "link", "add", "eth0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth"];
    a.sh(&[&begin[..], &peer[..]].concat());
    for (ns, name) in [(&a, "eth0"), (&mid, "wa")] {
        ns.sh(&["ip", "link", "set", name, "addrgenmode", "none", "up"]);
    }
    // Whole UDP datagrams of many flows, which the kernel spreads over the queues.
    a.addr("eth0", "10.9.0.1/24");
    a.sh(&["ip", "neigh", "add", "10.9.0.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0"]);
    a.sh(&["ethtool", "-K", "eth0", "tx", "off"]);
    // (On a veth, a frame of queue n counts as one of n - 1.)
    let sockets: Vec<UdpSocket> = a.enter(|| (0..100).map(|_| UdpSocket::bind("10.9.0.1:0").unwrap()).collect());
    let mut expected: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
    expected.sort_unstable();
    for (queues, some_left) in [(1, true), (4, false)] {
        let (_attachment, mut ours) = take(&mid, "wa", Mode::Generic, queues);
        let mut witness = af_packet(&mid, "wa");
        sockets.iter().for_each(|socket| assert_eq!(socket.send_to(b"x", "10.9.0.2:9").unwrap(), 1));
        let mut ports = Vec::new();
        receive_until(&mut ours, |bytes| {
            ports.push(u16::from_be_bytes([bytes[34], bytes[35]]));
            ports.len() == sockets.len()
        });
        ports.sort_unstable();
        assert_eq!(ports, expected);
        let (mut pool, mut batch) = (Pool::new(256), Batch::default());
        while witness.rx(now(), &mut pool, &mut batch).unwrap() {}
        assert_eq!((1..sockets.len()).contains(&batch.len()), some_left, "{queues} queues: {} left", batch.len());
        batch.drain(..).for_each(|frame| pool.put(frame));
    }
    let fifth = mid.enter(|| {
        let memory = xdp::memory(1, xdp::ENTRIES).unwrap();
        xdp::bind(memory.as_fd(), 0, xdp::ENTRIES, (interface::index("wa").unwrap(), 4), Mode::Generic).unwrap_err()
    });
    assert_eq!(fifth.raw_os_error(), Some(libc::EINVAL), "there is no fifth queue");
}

/// Nothing is lost silently: what the kernel had no room for is counted.
#[test]
fn overruns_are_counted() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (_attachment, mut ours) = take(&mid, "wa", Mode::Generic, 1);
    let mut theirs = af_packet(&a, "eth0");
    let frames = vec![test_frame(TAKEN, 1); 100];
    let sent: u64 = (0..100).map(|_| send(&mut theirs, &frames) as u64).sum();
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    let mut time = now();
    let total = wait_for("all of them", || {
        time += Duration::from_secs(2);
        while ours.rx(time, &mut pool, &mut batch).unwrap() {
            batch.drain(..).for_each(|frame| pool.put(frame));
        }
        batch.drain(..).for_each(|frame| pool.put(frame));
        let counters = ours.discards().unwrap();
        let lost = counters.discarded(DropReason::TailDrop);
        (counters.rx + lost >= sent).then_some((counters.rx, lost))
    });
    assert_eq!(total, (4096, sent - 4096), "as many as there are chunks");
    // And it goes on afterwards.
    assert_eq!(send(&mut theirs, &[test_frame(TAKEN, 2)]), 1);
    assert_eq!(marks(&mut ours, 2), [2]);
}

#[test]
fn an_interface_goes_down_comes_back_and_vanishes() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (attachment, mut ours) = take(&mid, "wa", Mode::Generic, 1);
    let mut theirs = af_packet(&a, "eth0");
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    mid.sh(&["ip", "link", "set", "wa", "down"]);
    assert_eq!(eventfd::wait_readable(&ours.fds(), 5_000_000).unwrap(), 0b10, "its packet socket says so");
    assert!(!ours.rx(now(), &mut pool, &mut batch).unwrap(), "down is no error");
    assert_eq!(eventfd::wait_readable(&ours.fds(), 0).unwrap(), 0, "and it says so once");
    mid.sh(&["ip", "link", "set", "wa", "up"]);
    wait_for("the carrier", || mid.enter(|| interface::link_state("wa").unwrap().running).then_some(()));
    assert_eq!(send(&mut theirs, &[test_frame(TAKEN, 2), test_frame(LEFT, 3)]), 2);
    marks(&mut ours, 3);
    mid.sh(&["ip", "link", "del", "wa"]);
    wait_for("its end", || ours.rx(now(), &mut pool, &mut batch).is_err().then_some(()));
    drop((attachment, ours));
}

/// A queue has one socket at a time; after that is closed, the next one gets it, soon.
#[test]
fn a_queue_is_served_again_after_its_socket_is_closed() {
    let net = Net::new();
    let (a, mid) = (net.ns("a"), net.ns("mid"));
    net.wire((&a, "eth0"), (&mid, "wa"));
    let (attachment, ours) = take(&mid, "wa", Mode::Generic, 1);
    let bind = || {
        mid.enter(|| {
            let memory = xdp::memory(1, xdp::ENTRIES).unwrap();
            let socket =
                xdp::bind(memory.as_fd(), 0, xdp::ENTRIES, (interface::index("wa").unwrap(), 0), Mode::Generic)?;
            attachment.serve(0, socket.as_fd())?;
            Socket::open(socket, memory.as_fd(), 0, xdp::ENTRIES)
        })
    };
    assert_eq!(bind().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    drop(ours);
    let socket = wait_for("the queue", || bind().ok());
    let mut ours = Xdp::new(af_packet(&mid, "wa"), vec![socket], Mode::Generic).unwrap();
    assert_eq!(send(&mut af_packet(&a, "eth0"), &[test_frame(TAKEN, 1)]), 1);
    assert_eq!(marks(&mut ours, 1), [1]);
    assert_eq!(ours.kind(), "xdp (generic, copy)");
}
