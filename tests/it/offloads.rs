//! Offloads from end to end: what one network stack leaves to its device arrives at another one behind any
//! other kind of device, as if a wire had carried it.
//!
//! Every kind of device has a kernel's stack behind it on either side of a fabric, in a namespace of its own.
//! One node connects two of them at a time, so that all pairs are tried with few devices.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use honeyweave::fabric::{Attachment, Fabric, Workers};
use honeyweave::frame::{Batch, Pool, PortNo};
use honeyweave::netdev::{AfPacket, Memory, Netdev, Pcap, Tap};
use honeyweave::node::{Cx, Node, NodeIdx};
use honeyweave::sys::vnet::{NEEDS_CSUM, VNET_HEADER};
use honeyweave::sys::xdp::Mode;
use honeyweave::sys::{eventfd, tap};
use sha2::{Digest, Sha256};

use crate::net::{DEADLINE, Net, Ns};
use crate::netdev::{af_packet, check, now, payload};
use crate::netdev_xdp::take;
use crate::vlan;

/// By what a network stack is connected to the fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A packet socket with a ring on a veth whose other end leaves everything to the device.
    Veth,
    /// The same without any offload at either end, as many a network card.
    PlainVeth,
    /// A packet socket on a TAP that belongs to a program without offloads.
    PlainTap,
    /// AF_XDP on a veth.
    Xdp,
    /// A TAP that was moved into a namespace: tap nodes and containers.
    Tap,
    /// A wire in memory between two ports, behind a TAP.
    Memory,
}

const KINDS: [Kind; 6] = [Kind::Veth, Kind::PlainVeth, Kind::PlainTap, Kind::Xdp, Kind::Tap, Kind::Memory];
/// Octets that a TCP connection carries in each direction.
const BULK: usize = 2 << 20;
/// Octets of UDP datagrams: none, odd ones, all that an MTU of 1500 holds (for IPv6, less the
/// difference of the headers), and one that is sent in fragments.
const DATAGRAMS: [usize; 9] = [0, 1, 3, 18, 999, 1400, 1471, 1472, 4001];
/// Frames of each transfer that are recorded.
const RECORDED: u32 = 40;
/// A port that leads nowhere.
const NOWHERE: u16 = u16::MAX;

/// Connects ports with each other, as the test says at the moment, and copies some of what passes to a recorder.
struct Patch {
    to: Arc<[AtomicU16; 64]>,
    left: Arc<AtomicU32>,
    recorder: PortNo,
}

impl Node for Patch {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            let to = self.to[usize::from(frame.meta.port.0)].load(Ordering::Relaxed);
            if to == NOWHERE {
                cx.consume(frame);
                continue;
            }
            if self.left.load(Ordering::Relaxed) > 0
                && let Some(copy) = cx.pool.duplicate(&frame)
            {
                self.left.fetch_sub(1, Ordering::Relaxed);
                cx.send(self.recorder, copy);
            }
            cx.send(PortNo(to), frame);
        }
    }
}

/// A network stack and the port behind which it is.
struct End {
    kind: Kind,
    ns: Ns,
    interface: &'static str,
    port: u16,
    /// What must live as long as the device.
    _keep: Vec<Box<dyn Any>>,
}

/// Carries frames between two TAPs whose kernels must leave nothing undone.
struct Pump(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Pump {
    fn start(taps: [OwnedFd; 2]) -> Pump {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 70_000];
            while !stopped.load(Ordering::Relaxed) {
                eventfd::wait_readable(&[taps[0].as_fd(), taps[1].as_fd()], 20_000).unwrap();
                for from in 0..2 {
                    while let Ok(len) = rustix::io::read(&taps[from], &mut bytes) {
                        assert!(bytes[0] & NEEDS_CSUM == 0 && bytes[1] == 0, "left to a device that cannot do it");
                        assert!(len <= VNET_HEADER + 1518, "{len}");
                        // While the other one is down.
                        let _ = rustix::io::write(&taps[1 - from], &bytes[..len]);
                    }
                }
            }
        });
        Pump(stop, Some(thread))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "a frame that was left undone came through a plain TAP");
    }
}

/// The fabric, and a stack of each kind at both sides of it.
struct Lab {
    workers: Workers,
    node: NodeIdx,
    to: Arc<[AtomicU16; 64]>,
    left: Arc<AtomicU32>,
    net: Net,
    mid: Ns,
}

impl Lab {
    fn new(record: &Path) -> Lab {
        let net = Net::new();
        let mid = net.ns("mid");
        let (to, left) = (Arc::new([const { AtomicU16::new(NOWHERE) }; 64]), Arc::new(AtomicU32::new(0)));
        let mut fabric = Fabric::new(Box::new(()), 1, Arc::new(()));
        let (table, budget) = (to.clone(), left.clone());
        let build =
            move || Box::new(Patch { to: table.clone(), left: budget.clone(), recorder: PortNo(0) }) as Box<dyn Node>;
        let node = fabric.add("patch", 1, Box::new(build));
        fabric.attach(node, Some(PortNo(0)), Box::new(Pcap::open(None, Some(record)).unwrap()), "record", None);
        let workers = Workers::spawn(vec![fabric]).unwrap();
        workers.begin();
        Lab { workers, node, to, left, net, mid }
    }

    fn attach(&self, device: Box<dyn Netdev>, name: &str) -> u16 {
        let (node, name, devices) = (self.node, name.into(), vec![device]);
        let attachment = Attachment { node, port: None, devices, home: None, name, capture: None };
        self.workers.attach(attachment).unwrap().0
    }

    fn connect(&self, a: u16, b: u16) {
        self.to[usize::from(a)].store(b, Ordering::Relaxed);
        self.to[usize::from(b)].store(a, Ordering::Relaxed);
    }

    fn disconnect(&self, port: u16) {
        self.to[usize::from(port)].store(NOWHERE, Ordering::Relaxed);
    }

    /// A stack whose addresses end in `host`, and whose MAC is that of any other one with this number.
    fn end(&self, kind: Kind, number: usize, host: u8) -> End {
        let ns = self.net.ns(&format!("{number}-{host}"));
        let mut keep: Vec<Box<dyn Any>> = Vec::new();
        let outside: &'static str = format!("w{number}-{host}").leak();
        let mut interface = "eth0";
        let veth = || self.net.wire((&ns, "eth0"), (&self.mid, outside));
        let tap = |ns: &Ns, offload| ns.enter(|| tap::open("tap%d", offload).unwrap()).0;
        let device: Box<dyn Netdev> = match kind {
            Kind::Veth | Kind::PlainVeth => {
                veth();
                Box::new(af_packet(&self.mid, outside))
            }
            Kind::Xdp => {
                veth();
                // A veth cannot be told to leave tags in the frames, only its peer can.
                ns.sh(&["ethtool", "-K", "eth0", "txvlan", "off"]);
                let (attachment, device) = take(&self.mid, outside, Mode::Generic, 1);
                keep.push(Box::new(attachment));
                Box::new(device)
            }
            Kind::PlainTap => {
                interface = "tap0";
                let theirs = tap(&ns, tap::Offload::None);
                let ours = self.mid.enter(|| tap::open(outside, tap::Offload::None).unwrap()).0;
                self.mid.sh(&["ip", "link", "set", outside, "addrgenmode", "none", "up"]);
                keep.push(Box::new(Pump::start([theirs, ours])));
                Box::new(af_packet(&self.mid, outside))
            }
            Kind::Tap | Kind::Memory => {
                interface = "tap0";
                Box::new(Tap::new(tap(&ns, tap::Offload::Tcp), 1500))
            }
        };
        if kind == Kind::PlainVeth {
            let none = ["tx", "off", "tso", "off", "gso", "off", "gro", "off", "txvlan", "off", "rxvlan", "off"];
            for (ns, end) in [(&ns, "eth0"), (&self.mid, outside)] {
                ns.sh(&[&["ethtool", "-K", end], &none[..]].concat());
            }
        }
        let mut port = self.attach(device, &format!("{kind:?} {host}"));
        if kind == Kind::Memory {
            let (inside, outside) = Memory::pair(1500).unwrap();
            self.connect(port, self.attach(Box::new(inside), "memory"));
            port = self.attach(Box::new(outside), "memory");
        }
        // One MAC for each side: neighbors stay known when the devices between them change.
        let mac = format!("02:00:00:00:00:{host:02x}");
        ns.sh(&["ip", "link", "set", interface, "address", &mac, "addrgenmode", "none", "up"]);
        ns.addr(interface, &format!("10.9.0.{host}/24"));
        ns.addr(interface, &format!("fd09::{host}/64"));
        keep.push(vlan::join(&ns, interface, host));
        End { kind, ns, interface, port, _keep: keep }
    }

    /// Connects two stacks and has them send everything to each other.
    fn try_pair(&self, a: &End, b: &End) {
        self.connect(a.port, b.port);
        let mut witnesses = [witness(a), witness(b)];
        for to in ["10.9.0.2", "fd09::2", "10.9.7.2", "fd09:7::2"] {
            let to: IpAddr = to.parse().unwrap();
            self.left.store(RECORDED, Ordering::Relaxed);
            datagrams(&a.ns, &b.ns, to);
            self.left.store(RECORDED, Ordering::Relaxed);
            bulk(&a.ns, &b.ns, to);
            for (witness, end) in witnesses.iter_mut().zip([a, b]) {
                let carried = examine(witness);
                assert!(carried > 0, "{:?} and {:?}: nothing was seen at {:?}", a.kind, b.kind, end.kind);
            }
        }
        self.disconnect(a.port);
        self.disconnect(b.port);
        for end in [a, b] {
            let complaints = complaints(&end.ns);
            assert!(complaints.is_empty(), "{:?} and {:?}: {:?} says {complaints:?}", a.kind, b.kind, end.kind);
        }
    }
}

/// What a stack receives, before it looks at it itself.
fn witness(end: &End) -> AfPacket {
    af_packet(&end.ns, end.interface)
}

/// Verifies every checksum of what has come; what is left to a device is that device's to do, and right once it is done.
fn examine(witness: &mut AfPacket) -> usize {
    let (mut pool, mut batch) = (Pool::new(1024), Batch::default());
    let mut carried = 0;
    while witness.rx(now(), &mut pool, &mut batch).unwrap() || !batch.is_empty() {
        for frame in batch.drain(..) {
            carried += check(&frame);
            pool.put(frame);
        }
    }
    carried
}

/// Datagrams of every length, there and back.
fn datagrams(a: &Ns, b: &Ns, to: IpAddr) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let server = b.enter(|| UdpSocket::bind((to, 0)).unwrap());
    let client = a.enter(|| UdpSocket::bind(any).unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut got = [0; 5000];
    for len in DATAGRAMS {
        let len = if (1471..=1472).contains(&len) && to.is_ipv6() { len - 20 } else { len };
        let sent = payload(len);
        client.send(&sent).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let (n, from) = socket.recv_from(&mut got).unwrap();
            assert!(got[..n] == sent, "{n} of {len} octets");
            if std::ptr::eq(socket, &server) {
                server.send_to(&got[..n], from).unwrap();
            }
        }
    }
}

/// Much over one TCP connection, there and back.
fn bulk(a: &Ns, b: &Ns, to: IpAddr) {
    let bytes = payload(BULK);
    let sum = Sha256::digest(&bytes);
    let listener = b.enter(|| TcpListener::bind((to, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let receive = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut got = Vec::with_capacity(BULK);
        stream.read_to_end(&mut got).unwrap();
        assert!(Sha256::digest(&got) == sum, "{} of {BULK} octets", got.len());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = a.enter(|| TcpStream::connect(address).unwrap());
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            receive(&mut stream);
        });
        let (mut stream, _) = listener.accept().unwrap();
        receive(&mut stream);
        stream.write_all(&bytes).unwrap();
    });
}

/// The counters of a namespace that say that something came in broken, where they are not 0.
fn complaints(ns: &Ns) -> Vec<(String, u64)> {
    const NAMES: [&str; 13] = [
        "IpInHdrErrors",
        "IpInTruncatedPkts",
        "IcmpInCsumErrors",
        "TcpInErrs",
        "TcpInCsumErrors",
        "UdpInErrors",
        "UdpInCsumErrors",
        "IpExtInCsumErrors",
        "Ip6InHdrErrors",
        "Ip6InTruncatedPkts",
        "Icmp6InCsumErrors",
        "Udp6InErrors",
        "Udp6InCsumErrors",
    ];
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
    let (pairs, six) = ns.enter(|| (read("snmp") + &read("netstat"), read("snmp6")));
    let mut counters = Vec::new();
    let mut lines = pairs.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (group, names) = names.split_once(": ").unwrap();
        let values = values.split(' ').skip(1);
        counters.extend(names.split(' ').map(|name| format!("{group}{name}")).zip(values.map(str::to_owned)));
    }
    counters.extend(six.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    }));
    let watched: Vec<_> = counters.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())).collect();
    assert!(watched.len() >= 12, "{watched:?}");
    watched.into_iter().map(|(name, value)| (name, value.parse().unwrap())).filter(|(_, value)| *value != 0).collect()
}

#[test]
fn every_kind_of_device_understands_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record.pcap");
    let lab = Lab::new(&record);
    let side = |host: u8| -> Vec<End> {
        KINDS.iter().enumerate().map(|(number, kind)| lab.end(*kind, number, host)).collect()
    };
    let (left, right) = (side(1), side(2));
    for (i, a) in left.iter().enumerate() {
        for b in &right[i..] {
            lab.try_pair(a, b);
        }
    }
    let status = lab.workers.status()().unwrap();
    // A machine that is busy loses a frame now and then; one that is refused for what it is would be refused always.
    for drop in status["drops"].as_array().unwrap() {
        assert!(["tail-drop", "device-error"].contains(&drop["reason"].as_str().unwrap()), "{drop}");
    }
    for device in status["devices"].as_array().unwrap() {
        let [sent, dropped] = ["tx", "dropped"].map(|key| device[key].as_u64().unwrap());
        assert!(dropped < sent / 20, "{device}");
    }
    let Lab { workers, net: _net, .. } = lab;
    drop((workers, left, right));
    // The recorder is a device without offloads: what it was given is what a wire carries.
    let mut recorded = Pcap::open(Some(&record), None).unwrap();
    let (mut pool, mut batch, mut carried) = (Pool::new(1024), Batch::default(), 0);
    while recorded.rx(now(), &mut pool, &mut batch).unwrap() || !batch.is_empty() {
        for frame in batch.drain(..) {
            carried += check(&frame);
            pool.put(frame);
        }
    }
    assert!(carried > KINDS.len() * 1_000_000, "{carried}");
}
