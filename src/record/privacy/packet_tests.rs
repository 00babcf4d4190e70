use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const OURS: [u8; 4] = [10, 0, 0, 1];
const THEIRS: [u8; 4] = [198, 51, 100, 7];
const CUT: [u8; 4] = [198, 51, 100, 0];

fn shown(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == 198 => Ipv4Addr::from(u32::from(v4) & 0xffff_ff00).into(),
        IpAddr::V6(v6) if v6.segments()[0] == 0x2001 => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 80)).into(),
        other => other,
    }
}

fn ours6() -> Ipv6Addr {
    "fd00::1".parse().unwrap()
}

fn theirs6() -> Ipv6Addr {
    "2001:db8:1:2:3:4:5:6".parse().unwrap()
}

fn set16(body: &mut [u8], at: usize, to: u16) {
    body[at..at + 2].copy_from_slice(&to.to_be_bytes());
}

/// A packet whose checksums are right.
fn v4(src: [u8; 4], dst: [u8; 4], proto: u8, mut body: Vec<u8>, options: usize) -> Vec<u8> {
    let at = match proto {
        6 => Some(16),
        17 => Some(6),
        1 => Some(2),
        _ => None,
    };
    if let Some(at) = at {
        set16(&mut body, at, 0);
        let pseudo = if proto == 1 { 0 } else { checksum::pseudo(src.into(), dst.into(), proto, body.len()) };
        let sum = checksum::finish(checksum::sum(pseudo, &body));
        set16(&mut body, at, if proto == 17 && sum == 0 { 0xffff } else { sum });
    }
    let mut header = vec![0x45 + options as u8, 0];
    header.extend(((20 + 4 * options + body.len()) as u16).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, proto, 0, 0]);
    header.extend(src.iter().chain(&dst));
    header.resize(20 + 4 * options, 1);
    let sum = checksum::of(&header);
    set16(&mut header, 10, sum);
    [header, body].concat()
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr, proto: u8, at: usize, mut body: Vec<u8>, has_options: bool) -> Vec<u8> {
    set16(&mut body, at, 0);
    let sum = checksum::finish(checksum::sum(checksum::pseudo(src.into(), dst.into(), proto, body.len()), &body));
    set16(&mut body, at, sum);
    let options: &[u8] = if has_options { &[proto, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((options.len() + body.len()) as u16).to_be_bytes());
    packet.extend([if has_options { 60 } else { proto }, 64]);
    packet.extend(src.octets().iter().chain(&dst.octets()));
    packet.extend(options);
    [packet, body].concat()
}

fn frame(kind: u16, tags: usize, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for _ in 0..tags {
        frame.extend([0x81, 0, 0, 7]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

fn rewritten(kind: u16, tags: usize, packet: &[u8]) -> Vec<u8> {
    let mut frame = frame(kind, tags, packet);
    rewrite(&mut frame, &shown);
    frame
}

/// Whether they are the same, but for how a checksum of zero is written: 0x0000 or 0xffff.
fn assert_same(a: &[u8], b: &[u8]) {
    let is_zero = |word: &[u8]| matches!(word, [0, 0] | [0xff, 0xff]);
    let is_same = a.chunks(2).zip(b.chunks(2)).all(|(a, b)| a == b || (is_zero(a) && is_zero(b)));
    assert!(a.len() == b.len() && is_same, "{a:02x?}\n{b:02x?}");
}

proptest! {
    /// The packet that is rewritten is the one that would have been made with the other address.
    #[test]
    fn a_rewritten_packet_is_as_if_it_were_from_the_other_address(
        body in prop::collection::vec(any::<u8>(), 20..80), proto in prop::sample::select(vec![6u8, 17, 1, 47]),
        tags in 0usize..3, options in 0usize..3, is_reply: bool,
    ) {
        let mut body = body;
        if proto == 1 {
            body[0] = 8;
        }
        let made = |ip: [u8; 4]| {
            let (src, dst) = if is_reply { (OURS, ip) } else { (ip, OURS) };
            v4(src, dst, proto, body.clone(), options)
        };
        assert_same(&rewritten(ethertype::IPV4, tags, &made(THEIRS)), &frame(ethertype::IPV4, tags, &made(CUT)));
    }

    #[test]
    fn so_is_one_of_ipv6(
        body in prop::collection::vec(any::<u8>(), 20..80), proto in prop::sample::select(vec![(6u8, 16), (17, 6), (58, 2)]),
        has_options: bool, is_reply: bool,
    ) {
        let mut body = body;
        body[0] = 128;
        let IpAddr::V6(cut) = shown(theirs6().into()) else { unreachable!() };
        let made = |ip: Ipv6Addr| {
            let (src, dst) = if is_reply { (ours6(), ip) } else { (ip, ours6()) };
            v6(src, dst, proto.0, proto.1, body.clone(), has_options)
        };
        assert_same(&rewritten(ethertype::IPV6, 0, &made(theirs6())), &frame(ethertype::IPV6, 0, &made(cut)));
    }

    #[test]
    fn whatever_comes_no_frame_breaks_it(octets in prop::collection::vec(any::<u8>(), 0..120), kind in 0usize..4) {
        let mut octets = octets;
        let kinds = [0x0800u16, 0x86dd, 0x0806, 0x8100];
        if octets.len() >= 14 {
            octets[12..14].copy_from_slice(&kinds[kind].to_be_bytes());
        }
        let len = octets.len();
        rewrite(&mut octets, &|_| Ipv4Addr::new(1, 2, 3, 4).into());
        rewrite(&mut octets, &|_| Ipv6Addr::LOCALHOST.into());
        prop_assert!(octets.len() == len);
    }
}

#[test]
fn the_packet_within_an_error_is_rewritten_too() {
    let made = |ip: [u8; 4]| {
        let inner = v4(OURS, ip, 17, vec![7; 30], 0);
        v4(ip, OURS, 1, [&[3, 3, 0, 0, 0, 0, 0, 0][..], &inner].concat(), 0)
    };
    assert_same(&rewritten(ethertype::IPV4, 0, &made(THEIRS)), &frame(ethertype::IPV4, 0, &made(CUT)));
    let IpAddr::V6(cut) = shown(theirs6().into()) else { unreachable!() };
    let made = |ip: Ipv6Addr| {
        let inner = v6(ours6(), ip, 6, 16, vec![7; 30], false);
        v6(ip, ours6(), 58, 2, [&[1, 4, 0, 0, 0, 0, 0, 0][..], &inner].concat(), false)
    };
    assert_same(&rewritten(ethertype::IPV6, 0, &made(theirs6())), &frame(ethertype::IPV6, 0, &made(cut)));
    let made = |ip: Ipv6Addr| v6(ip, ours6(), 58, 2, [&[135, 0, 0, 0, 0, 0, 0, 0][..], &ip.octets()].concat(), false);
    assert_same(&rewritten(ethertype::IPV6, 0, &made(theirs6())), &frame(ethertype::IPV6, 0, &made(cut)));
}

#[test]
fn arp_fragments_and_datagrams_without_a_checksum() {
    let arp = |ip: [u8; 4]| [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2][..], &ip, &[0; 6], &OURS].concat();
    assert_eq!(rewritten(ethertype::ARP, 1, &arp(THEIRS)), frame(ethertype::ARP, 1, &arp(CUT)));
    // What looks like a header there is none.
    let fragment = |ip: [u8; 4]| {
        let mut packet = v4(ip, OURS, 47, vec![9; 30], 0);
        packet[9] = 6;
        set16(&mut packet, 6, 100);
        set16(&mut packet, 10, 0);
        let sum = checksum::of(&packet[..20]);
        set16(&mut packet, 10, sum);
        packet
    };
    assert_eq!(rewritten(ethertype::IPV4, 0, &fragment(THEIRS)), frame(ethertype::IPV4, 0, &fragment(CUT)));
    let silent = |ip: [u8; 4]| {
        let mut packet = v4(ip, OURS, 17, vec![9; 30], 0);
        set16(&mut packet, 26, 0);
        packet
    };
    assert_eq!(rewritten(ethertype::IPV4, 0, &silent(THEIRS)), frame(ethertype::IPV4, 0, &silent(CUT)));
    // One that was cut when it was captured.
    let short = rewritten(ethertype::IPV4, 0, &v4(THEIRS, OURS, 6, vec![9; 30], 0)[..24]);
    assert_eq!(short[26..30], CUT);
}
