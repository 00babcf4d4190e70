//! What is left to the device, among devices in memory: whoever takes offloads gets frames as they are,
//! whoever does not gets what a wire would carry.

use std::sync::Mutex;

use super::*;
use crate::netdev::{Caps, Memory, Netdev, Pcap};
use crate::sys::vnet::{GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VnetHeader};
use crate::wire::checksum;

/// What is left undone.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Left {
    Nothing,
    Checksum,
    Cutting,
}

/// What is sent: 0 octets, one, and odd and even numbers of them.
const LENGTHS: [usize; 5] = [0, 1, 999, 1400, 9001];
const SEGMENT: usize = 1400;

/// A frame, and what is left undone in it.
type Handed = (Vec<u8>, VnetHeader);

/// A device of a kernel's kind: gives frames with what is left undone, and takes such.
struct Kernel {
    given: Arc<Mutex<Vec<Handed>>>,
    taken: Arc<Mutex<Vec<Handed>>>,
}

impl Netdev for Kernel {
    fn rx(&mut self, _now: Instant, pool: &mut Pool, batch: &mut Batch) -> std::io::Result<bool> {
        for (bytes, offload) in self.given.lock().unwrap().drain(..) {
            let mut frame = pool.copy_of(&bytes).unwrap();
            frame.meta.offload = offload;
            batch.push(frame);
        }
        Ok(false)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = self.taken.lock().unwrap();
        let segments = batch.iter().map(|frame| frame.segments()).sum();
        for frame in batch.drain(..) {
            taken.push((frame.bytes().to_vec(), frame.meta.offload));
            pool.put(frame);
        }
        segments
    }

    fn fds(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        Vec::new()
    }

    fn caps(&self) -> Caps {
        Caps { mtu: 1500, offload: true }
    }

    fn kind(&self) -> &'static str {
        "kernel"
    }
}

/// A packet of `protocol` with `payload`, as a network stack hands it over.
fn packet(v4: bool, protocol: u8, tagged: bool, payload: &[u8], left: Left) -> Handed {
    let (src, dst): (IpAddr, IpAddr) = if v4 {
        ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
    } else {
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    };
    let headers = Headers { dst_mac: B, src_mac: A, src, dst, proto: protocol, ttl: 64, tos: 0, ip_id: 7, df: true };
    let (header, offset) = if protocol == proto::TCP { (20, 16) } else { (8, 6) };
    let mut l4 = vec![0; header];
    l4[..4].copy_from_slice(&[0x82, 0x9a, 0x82, 0x9b]);
    if protocol == proto::TCP {
        (l4[12], l4[13]) = (5 << 4, 0x18);
    } else {
        l4[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    }
    l4.extend_from_slice(payload);
    let mut frame = vec![0; headers.len() + l4.len()];
    let mut at = headers.write(&mut frame, l4.len());
    if left == Left::Nothing {
        headers.fill_checksum(&mut l4);
    } else {
        // Not inverted: the sum of the pseudo header, to be gone on with.
        let sum = !checksum::finish(checksum::pseudo(src, dst, protocol, l4.len()));
        l4[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame[at..].copy_from_slice(&l4);
    if tagged {
        frame.splice(12..12, [0x81, 0, 0, 7]);
        at += 4;
    }
    let (csum_start, csum_offset) = (at as u16, offset as u16);
    let hdr_len = (at + header) as u16;
    let partial = VnetHeader { flags: NEEDS_CSUM, hdr_len, csum_start, csum_offset, ..VnetHeader::PLAIN };
    let offload = match left {
        Left::Nothing => VnetHeader::PLAIN,
        Left::Checksum => partial,
        Left::Cutting => {
            VnetHeader { gso_type: if v4 { GSO_TCPV4 } else { GSO_TCPV6 }, gso_size: SEGMENT as u16, ..partial }
        }
    };
    (frame, offload)
}

/// The payload of frames as they stand on a wire, each of them whole and right.
fn payload(frames: &[Vec<u8>], tagged: bool) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in frames {
        let mut frame = frame.clone();
        assert_eq!(ethertype_of(&frame) == ethertype::VLAN, tagged);
        if tagged {
            assert_eq!(frame.drain(12..16).as_slice(), [0x81, 0, 0, 7]);
        }
        assert!(frame.len() <= 1514 || frames.len() == 1, "{}", frame.len());
        let packet = Packet::parse(&frame).unwrap();
        assert!(packet.checksum_ok(&frame), "{frame:?}");
        let header = if packet.proto == proto::TCP { 20 } else { 8 };
        all.extend_from_slice(&packet.payload(&frame)[header..]);
    }
    all
}

/// Sends one frame from a kernel's device through a bridge to devices of every kind: what comes out of the memory, of the
/// file, of another kernel's device, and of one behind a link with a delay, which acts on what a wire would carry.
fn pass(given: Handed, tagged: bool) -> [Vec<Handed>; 4] {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sent.pcap");
    let mut fabric = fabric();
    let vlan = || if tagged { PortVlan::Trunk { native: None, allowed: vec![7] } } else { PortVlan::Access(7) };
    let ports = (0..5).map(|_| BridgePort { name: String::new(), vlan: vlan() }).collect();
    let config = BridgeConfig { ports, fdb_capacity: 1024, aging_secs: 300 };
    let core = fabric.add("core", 5, Box::new(move || Box::new(Bridge::new(config.clone(), 1))));
    let far = fabric.add("far", 2, Box::new(|| Box::new(Across)));
    let delay = LinkConfig { delay_us: 1000, ..LinkConfig::default() };
    fabric.link((core, PortNo(4)), (far, PortNo(0)), delay);
    let taken = [(); 3].map(|()| Arc::new(Mutex::new(Vec::new())));
    let kernel = |given: Vec<Handed>, taken: usize, all: &[Arc<Mutex<Vec<_>>>]| {
        Box::new(Kernel { given: Arc::new(Mutex::new(given)), taken: all[taken].clone() })
    };
    let (inside, memory) = Memory::pair(1500).unwrap();
    fabric.attach(core, Some(PortNo(0)), kernel(vec![given], 0, &taken), "sender", None);
    fabric.attach(core, Some(PortNo(1)), Box::new(inside), "memory", None);
    fabric.attach(core, Some(PortNo(2)), Box::new(Pcap::open(None, Some(&file)).unwrap()), "file", None);
    fabric.attach(core, Some(PortNo(3)), kernel(vec![], 1, &taken), "kernel", None);
    fabric.attach(far, Some(PortNo(1)), kernel(vec![], 2, &taken), "far", None);
    let mut now = Instant::from_secs(1);
    run(&mut fabric, &mut now, Instant::from_secs(2));
    assert_eq!((fabric.show_drops(), fabric.frames_in_use()), (serde_json::json!([]), 0));
    drop(fabric);
    let plain = |frames: Vec<Vec<u8>>| frames.into_iter().map(|frame| (frame, VnetHeader::PLAIN)).collect();
    let (mut pool, mut batch) = (Pool::new(64), Batch::default());
    Pcap::open(Some(&file), None).unwrap().rx(now, &mut pool, &mut batch).unwrap();
    let file = batch.iter().map(|frame| frame.bytes().to_vec()).collect();
    let of = |taken: &Mutex<Vec<_>>| std::mem::take(&mut *taken.lock().unwrap());
    [plain(std::iter::from_fn(|| memory.recv()).collect()), plain(file), of(&taken[1]), of(&taken[2])]
}

/// From one of its two ports to the other.
struct Across;

impl Node for Across {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            let to = PortNo(1 - frame.meta.port.0);
            cx.send(to, frame);
        }
    }
}

#[test]
fn devices_get_what_they_understand() {
    let kinds = [(true, proto::TCP), (false, proto::TCP), (true, proto::UDP), (false, proto::UDP)];
    let mut cut = 0;
    for (v4, protocol) in kinds {
        for (tagged, left) in [false, true]
            .into_iter()
            .flat_map(|tagged| [Left::Nothing, Left::Checksum, Left::Cutting].map(|left| (tagged, left)))
        {
            for len in LENGTHS {
                let long = len > SEGMENT;
                if long != (left == Left::Cutting) || (long && protocol == proto::UDP) {
                    continue;
                }
                let sent: Vec<u8> = (0..len).map(|n| (n * 7 % 251) as u8).collect();
                let given = packet(v4, protocol, tagged, &sent, left);
                let what = format!("IPv4 {v4}, protocol {protocol}, tagged {tagged}, {left:?}, {len} octets");
                let [memory, file, kernel, far] = pass(given.clone(), tagged);
                assert_eq!(kernel, [given], "{what}: as it was");
                for (name, got) in [("memory", &memory), ("file", &file), ("far", &far)] {
                    assert!(got.iter().all(|(_, offload)| *offload == VnetHeader::PLAIN), "{what}: {name}");
                    let frames: Vec<Vec<u8>> = got.iter().map(|(bytes, _)| bytes.clone()).collect();
                    assert_eq!(frames.len(), len.div_ceil(SEGMENT).max(1), "{what}: {name}");
                    assert!(payload(&frames, tagged) == sent, "{what}: {name}");
                    cut += frames.len() - 1;
                }
            }
        }
    }
    assert_eq!(cut, 3 * 4 * 6, "super-frames of seven segments, by three ways");
}
