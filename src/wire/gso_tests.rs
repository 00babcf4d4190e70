use etherparse::{PacketBuilder, SlicedPacket, TcpHeaderSlice, TransportSlice, UdpHeaderSlice};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Super {
    v4: bool,
    udp: bool,
    tag: bool,
    flags: u8,
    seq: u32,
    id: u16,
    options: bool,
    payload: Vec<u8>,
}

impl Super {
    /// The frame as a sender leaves it to the device: with wrong checksums.
    fn frame(&self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = etherparse::IpHeaders::Ipv4(
            {
                let mut ip =
                    etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber(6), [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
                ip.identification = self.id;
                ip
            },
            Default::default(),
        );
        let step = match (self.tag, self.v4) {
            (false, true) => link.ip(ip),
            (true, true) => link.single_vlan(7u16.try_into().unwrap()).ip(ip),
            (false, false) => link.ipv6([1; 16], [2; 16], 64),
            (true, false) => link.single_vlan(7u16.try_into().unwrap()).ipv6([1; 16], [2; 16], 64),
        };
        let mut out = Vec::new();
        if self.udp {
            step.udp(1000, 2000).write(&mut out, &self.payload).unwrap();
        } else {
            let mut tcp = etherparse::TcpHeader::new(1000, 2000, self.seq, 512);
            tcp.acknowledgment_number = 77;
            tcp.ack = true;
            tcp.fin = self.flags & 1 != 0;
            tcp.psh = self.flags & 2 != 0;
            tcp.cwr = self.flags & 4 != 0;
            if self.options {
                tcp.set_options(&[etherparse::TcpOptionElement::Timestamp(5, 6)]).unwrap();
            }
            step.tcp_header(tcp).write(&mut out, &self.payload).unwrap();
        }
        let l4 = Segments::new(&out, 1).unwrap().l4 + if self.udp { 6 } else { 16 };
        out[l4..l4 + 2].copy_from_slice(&[0xde, 0xad]);
        out
    }
}

fn supers() -> impl Strategy<Value = Super> {
    let bools = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (bools, 0u8..8, any::<u32>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..20_000)).prop_map(
        |((v4, udp, tag, options), flags, seq, id, payload)| Super { v4, udp, tag, flags, seq, id, options, payload },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every segment is a right frame by an independent parser, and together they carry the payload.
    #[test]
    fn segments_add_up(whole in supers(), size in 1usize..3000) {
        let size = size.max(whole.payload.len() / 500 + 1);
        let frame = whole.frame();
        let mut segments = Segments::new(&frame, size).unwrap();
        let count = whole.payload.len().div_ceil(size).max(1);
        let (mut payload, mut index) = (Vec::new(), 0);
        let mut out = vec![0xaa; segments.frame_len()];
        while let Some(len) = segments.next_into(&mut out) {
            let bytes = &out[..len];
            let packet = SlicedPacket::from_ethernet(bytes).unwrap();
            prop_assert_eq!(packet.vlan_ids().len(), usize::from(whole.tag));
            let (src, dst): (Vec<u8>, Vec<u8>) = match packet.net.as_ref().unwrap() {
                etherparse::NetSlice::Ipv4(ip) => {
                    let header = ip.header();
                    prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                    prop_assert_eq!(header.identification(), whole.id.wrapping_add(index));
                    (header.source().to_vec(), header.destination().to_vec())
                }
                etherparse::NetSlice::Ipv6(ip) => (ip.header().source().to_vec(), ip.header().destination().to_vec()),
                other => panic!("{other:?}"),
            };
            let last = usize::from(index) + 1 == count;
            match packet.transport.as_ref().unwrap() {
                TransportSlice::Tcp(tcp) => {
                    let header = TcpHeaderSlice::from_slice(tcp.slice()).unwrap();
                    prop_assert_eq!(header.sequence_number(), whole.seq.wrapping_add(payload.len() as u32));
                    prop_assert_eq!(header.fin(), last && whole.flags & 1 != 0);
                    prop_assert_eq!(header.psh(), last && whole.flags & 2 != 0);
                    prop_assert_eq!(header.cwr(), index == 0 && whole.flags & 4 != 0);
                    prop_assert_eq!(header.ack() && header.acknowledgment_number() == 77, true);
                    let expected = if whole.v4 {
                        tcp.calc_checksum_ipv4([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]])
                    } else {
                        tcp.calc_checksum_ipv6(src.try_into().unwrap(), dst.try_into().unwrap())
                    };
                    prop_assert_eq!(tcp.checksum(), expected.unwrap());
                    payload.extend_from_slice(tcp.payload());
                }
                TransportSlice::Udp(udp) => {
                    prop_assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
                    let header = UdpHeaderSlice::from_slice(udp.slice()).unwrap().to_header();
                    let expected = if whole.v4 {
                        let addresses = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
                        header.calc_checksum_ipv4_raw(addresses.0, addresses.1, udp.payload())
                    } else {
                        header.calc_checksum_ipv6_raw(src.try_into().unwrap(), dst.try_into().unwrap(), udp.payload())
                    };
                    prop_assert_eq!(udp.checksum(), expected.unwrap());
                    payload.extend_from_slice(udp.payload());
                }
                other => panic!("{other:?}"),
            }
            index += 1;
        }
        prop_assert_eq!(usize::from(index), count);
        prop_assert_eq!(payload, whole.payload);
    }

    /// A sender's partial checksum becomes the right one.
    #[test]
    fn completes_a_partial_checksum(mut whole in supers()) {
        whole.payload.truncate(2000);
        let mut frame = whole.frame();
        let cut = Segments::new(&frame, 4000).unwrap();
        let (l4, addresses) = (cut.l4, if whole.v4 { cut.l3 + 12..cut.l3 + 20 } else { cut.l3 + 8..cut.l3 + 40 });
        let mut right = vec![0; cut.frame_len()];
        cut.clone().next_into(&mut right).unwrap();
        let (protocol, offset) = if whole.udp { (17, 6) } else { (6, 16) };
        let pseudo = checksum::sum(protocol + (frame.len() - l4) as u64, &frame[addresses]);
        frame[l4 + offset..l4 + offset + 2].copy_from_slice(&(!checksum::finish(pseudo)).to_be_bytes());
        prop_assert!(complete_checksum(&mut frame, l4, offset));
        prop_assert_eq!(frame, right);
    }

    /// No bytes make it panic, and no segment is longer than announced.
    #[test]
    fn survives_anything(mut frame in prop::collection::vec(any::<u8>(), 0..300), kind in 0usize..5, size in 0usize..100, start in 0usize..400, offset in 0usize..400) {
        let ethertype: [u8; 2] = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6]][kind];
        if let Some(field) = frame.get_mut(12..14) {
            field.copy_from_slice(&ethertype);
        }
        if let Some(version) = frame.get_mut(14) {
            *version = if kind == 0 { 0x45 } else { 0x60 };
        }
        if let Some(mut segments) = Segments::new(&frame, size) {
            let mut out = vec![0; segments.frame_len()];
            while segments.next_into(&mut out).is_some() {}
        }
        let fits = start + offset + 2 <= frame.len();
        prop_assert_eq!(complete_checksum(&mut frame, start, offset), fits);
    }
}

#[test]
fn refuses_what_cannot_be_segmented() {
    let whole =
        Super { v4: true, udp: false, tag: false, flags: 0, seq: 1, id: 1, options: false, payload: vec![1; 3000] };
    let frame = whole.frame();
    assert!(Segments::new(&frame, 1000).is_some());
    let change = |at: usize, to: u8| {
        let mut frame = frame.clone();
        frame[at] = to;
        Segments::new(&frame, 1000).is_none()
    };
    assert!(Segments::new(&frame, 0).is_none());
    assert!(change(20, 0x20), "a fragment");
    assert!(change(23, 1), "ICMP");
    assert!(change(14, 0x44), "a header of 16 octets");
    assert!(change(14, 0x65), "version 6");
    assert!(change(46, 0x40), "a TCP header of 16 octets");
    assert!(change(12, 0x09), "no IP");
    assert!(Segments::new(&frame[..frame.len() - 1], 1000).is_none(), "shorter than its length says");
}

#[test]
fn keeps_a_udp_checksum_that_was_not_wanted() {
    let whole =
        Super { v4: true, udp: true, tag: false, flags: 0, seq: 0, id: 0, options: false, payload: vec![1; 30] };
    let mut frame = whole.frame();
    frame[40..42].fill(0);
    let mut out = [0; 100];
    let mut segments = Segments::new(&frame, 20).unwrap();
    assert_eq!(segments.next_into(&mut out), Some(62));
    assert_eq!(out[38..42], [0, 28, 0, 0]);
}
