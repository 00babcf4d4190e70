use super::intake::{Intake, fits};
use super::*;
use crate::event::DropReason;
use crate::frame::Frame;
use crate::sys::packet::Received;
use crate::sys::vnet::{NEEDS_CSUM, VnetHeader};

/// An Ethernet frame of `len` octets with that Ethertype.
fn frame(len: usize, ethertype: u16) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

fn take(bytes: &[u8], handed: Received) -> (Vec<Vec<u8>>, Counters, usize) {
    let (mut pool, mut batch, mut discards) = (Pool::new(64), Batch::default(), Counters::default());
    let head = pool.copy_of(bytes).unwrap();
    Intake { pool: &mut pool, batch: &mut batch, discards: &mut discards }.take(head, handed);
    let frames = batch.iter().map(|frame| frame.bytes().to_vec()).collect();
    batch.drain(..).for_each(|frame| pool.put(frame));
    (frames, discards, pool.in_use())
}

#[test]
fn a_tag_goes_back_where_it_was() {
    let bytes = frame(60, 0x0800);
    let (frames, discards, _) = take(&bytes, Received { vlan: Some((0x88a8, 0x6007)), ..Received::default() });
    let expected = [&bytes[..12], &[0x88, 0xa8, 0x60, 0x07], &bytes[12..]].concat();
    assert_eq!(frames, [expected]);
    assert_eq!(discards.rx, 1);
}

fn tcp(payload: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 1000, 512)
        .write(&mut whole, &vec![7; payload])
        .unwrap();
    whole
}

/// What a network stack asks for.
const TCP: VnetHeader =
    VnetHeader { flags: NEEDS_CSUM, gso_type: 0x81, hdr_len: 0, gso_size: 700, csum_start: 34, csum_offset: 16 };

fn offload(bytes: &[u8], handed: Received) -> Option<VnetHeader> {
    let (mut pool, mut batch, mut discards) = (Pool::new(64), Batch::default(), Counters::default());
    let head = pool.copy_of(bytes).unwrap();
    Intake { pool: &mut pool, batch: &mut batch, discards: &mut discards }.take(head, handed);
    assert_eq!(discards.rx as usize, batch.iter().map(|frame| frame.segments()).sum::<usize>());
    (batch.len() == 1).then(|| batch[0].meta.offload)
}

#[test]
fn what_a_stack_leaves_to_the_device_is_kept() {
    let whole = tcp(1500);
    let kept = offload(&whole, Received { header: TCP, ..Received::default() });
    assert_eq!(kept, Some(VnetHeader { hdr_len: 54, ..TCP }), "the length of the headers is not taken on trust");
    let tagged = offload(&whole, Received { header: TCP, vlan: Some((0x8100, 7)), ..Received::default() });
    assert_eq!(tagged, Some(VnetHeader { hdr_len: 58, csum_start: 38, ..TCP }));
    let partial = VnetHeader { gso_type: 0, gso_size: 0, ..TCP };
    assert_eq!(offload(&whole, Received { header: partial, ..Received::default() }), Some(partial));
}

#[test]
fn what_no_stack_asks_for_is_done_here() {
    let whole = tcp(1500);
    for odd in [
        VnetHeader { flags: 0, ..TCP },
        VnetHeader { csum_start: 36, ..TCP },
        VnetHeader { csum_offset: 6, ..TCP },
        VnetHeader { gso_type: 4, ..TCP },
        VnetHeader { gso_type: 5, ..TCP },
    ] {
        let handed = Received { header: odd, vlan: Some((0x8100, 7)), ..Received::default() };
        let (frames, discards, _) = take(&whole, handed);
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [758, 758, 158], "{odd:?}");
        assert!(frames.iter().all(|bytes| bytes[..12] == whole[..12] && bytes[12..18] == [0x81, 0, 0, 7, 8, 0]));
        assert_eq!(discards.rx, 3);
    }
    // Octets behind the packet would be in the last segment.
    let longer = [&whole[..], &[0; 9]].concat();
    assert_eq!(take(&longer, Received { header: TCP, ..Received::default() }).0.len(), 3);
    // A checksum of something else than TCP or UDP, wherever it is.
    let elsewhere = VnetHeader { flags: NEEDS_CSUM, csum_start: 20, csum_offset: 4, ..VnetHeader::default() };
    assert_eq!(offload(&whole, Received { header: elsewhere, ..Received::default() }), Some(VnetHeader::PLAIN));
}

#[test]
fn what_makes_no_sense_is_counted() {
    let wild = VnetHeader { flags: NEEDS_CSUM, csum_start: 59, csum_offset: 0, ..VnetHeader::default() };
    let fragments = VnetHeader { gso_type: 3, gso_size: 8, ..VnetHeader::default() };
    let no_segments = VnetHeader { gso_type: 1, gso_size: 8, ..VnetHeader::default() };
    for (len, header, reason) in [
        (13, VnetHeader::default(), DropReason::Malformed),
        (60, wild, DropReason::Malformed),
        (60, fragments, DropReason::Unsupported),
        (60, no_segments, DropReason::Unsupported),
        (60, VnetHeader { gso_type: 1, gso_size: 100, ..wild }, DropReason::Unsupported),
    ] {
        let bytes = if len < 14 { vec![0; len] } else { frame(len, 0x0806) };
        let (frames, discards, in_use) = take(&bytes, Received { header, ..Received::default() });
        assert!(frames.is_empty());
        assert_eq!((discards.discarded(reason), discards.rx, in_use), (1, 0, 0), "{reason:?}");
    }
}

#[test]
fn a_device_takes_its_mtu_and_a_tag() {
    let mut pool = Pool::new(64);
    let mut of = |bytes: &[u8]| -> Frame { pool.copy_of(bytes).unwrap() };
    assert!(fits(&of(&frame(1514, 0x0800)), 1500));
    assert!(!fits(&of(&frame(1515, 0x0800)), 1500));
    assert!(fits(&of(&frame(1518, 0x8100)), 1500));
    assert!(!fits(&of(&frame(1519, 0x8100)), 1500));
    assert!(!fits(&of(&[0; 13]), 1500));
    let mut whole = of(&tcp(10_000));
    whole.meta.offload = VnetHeader { hdr_len: 54, gso_size: 1460, ..TCP };
    assert!(fits(&whole, 1500) && !fits(&whole, 1499));
}

#[test]
fn a_wire_in_memory_has_two_ends() {
    let mut pool = Pool::new(200);
    let (mut a, mut b) = Memory::pair(1500).unwrap();
    let mut batch = Batch::default();
    batch.extend((0..100u8).map(|n| pool.copy_of(&[n; 60]).unwrap()));
    assert_eq!(a.tx(&mut pool, &mut batch), 100);
    assert!(batch.is_empty());
    let now = Instant::from_micros(5);
    assert!(b.rx(now, &mut pool, &mut batch).unwrap());
    assert_eq!(crate::sys::eventfd::wait_readable(&b.fds(), 0).unwrap(), 1);
    assert!(!b.rx(now, &mut pool, &mut batch).unwrap());
    assert_eq!(crate::sys::eventfd::wait_readable(&b.fds(), 0).unwrap(), 0);
    assert!(batch.iter().enumerate().all(|(n, frame)| frame.bytes() == [n as u8; 60]));
    assert_eq!((batch.len(), a.recv()), (100, None));
    assert!(b.send(b"back"));
    assert_eq!(a.recv().as_deref(), Some(&b"back"[..]));
}

#[test]
fn a_capture_is_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.pcap"), dir.path().join("b.pcap"));
    let mut pool = Pool::new(200);
    let mut batch = Batch::default();
    let mut out = Pcap::open(None, Some(&first)).unwrap();
    batch.extend((0..70u8).map(|n| pool.copy_of(&[n; 60]).unwrap()));
    assert_eq!(out.tx(&mut pool, &mut batch), 70);
    drop(out);
    let mut through = Pcap::open(Some(&first), Some(&second)).unwrap();
    while through.rx(Instant::ZERO, &mut pool, &mut batch).unwrap() {}
    assert!(batch.iter().map(|frame| frame.bytes()).eq((0..70u8).map(|n| [n; 60])));
    assert_eq!(through.tx(&mut pool, &mut batch), 70);
    drop(through);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(std::fs::metadata(first).unwrap().len(), std::fs::metadata(second).unwrap().len());
    assert!(Pcap::open(Some(std::path::Path::new("/dev/null")), None).is_err());
}
