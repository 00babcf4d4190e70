use super::program::{LONGEST, PASS, assemble};
use super::*;
use std::os::fd::AsRawFd;

use etherparse::{IpNumber, PacketBuilder, TcpHeader};

/// A verdict that only a frame gets which the program wants to have.
const TAKE: i32 = 3;

struct Program {
    program: OwnedFd,
    _map: OwnedFd,
}

impl Program {
    fn new() -> Program {
        let map = bpf::socket_map(1).unwrap();
        Program { program: bpf::load(&assemble(map.as_raw_fd(), TAKE)).unwrap(), _map: map }
    }

    fn takes(&self, frame: &[u8]) -> bool {
        match bpf::testing::verdict(&self.program, frame) {
            TAKE => true,
            PASS => false,
            other => panic!("verdict {other}"),
        }
    }
}

const V4: ([u8; 4], [u8; 4]) = ([203, 0, 113, 77], [10, 1, 255, 254]);
const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0x20, 1, 0xd, 0xb8, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255]);

/// TCP or UDP frames with `len` octets of payload, over IPv4 and IPv6, with right checksums.
fn frames(udp: bool, len: usize) -> [Vec<u8>; 2] {
    let payload: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
    let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    [ethernet().ipv4(V4.0, V4.1, 64), ethernet().ipv6(V6.0, V6.1, 64)].map(|builder| {
        let mut bytes = Vec::new();
        match udp {
            true => builder.udp(4000, 53).write(&mut bytes, &payload).unwrap(),
            false => builder.tcp(4000, 80, 1, 2).ack(9).write(&mut bytes, &payload).unwrap(),
        }
        bytes
    })
}

/// The place of the L4 checksum in what [`frames`] makes.
fn checksum_at(frame: &[u8], udp: bool) -> usize {
    let l4 = if frame[12] == 8 { 34 } else { 54 };
    l4 + if udp { 6 } else { 16 }
}

/// What a sender leaves to the device: the pseudo header's sum, not complemented.
fn partial(frame: &[u8], udp: bool) -> u16 {
    let l4 = checksum_at(frame, udp) - if udp { 6 } else { 16 };
    let addresses = &frame[if l4 == 34 { 26..34 } else { 22..54 }];
    let words = addresses.chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u64>() + (frame.len() - l4) as u64 + if udp { 17 } else { 6 };
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn takes_whole_tcp_and_udp_and_leaves_partial_ones() {
    let program = Program::new();
    for (udp, len) in [(false, 0), (false, 1), (false, 700), (true, 0), (true, 3), (true, 512)] {
        for mut frame in frames(udp, len) {
            let what = format!("udp {udp}, {len} octets, Ethertype {:x}{:x}", frame[12], frame[13]);
            assert!(program.takes(&frame), "{what}");
            let at = checksum_at(&frame, udp);
            let sum = partial(&frame, udp);
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            assert!(!program.takes(&frame), "partial: {what}");
            // By one bit it is merely wrong, which is the fabric's business.
            frame[at + 1] ^= 1;
            assert!(program.takes(&frame), "wrong: {what}");
            frame[at..at + 2].fill(0);
            assert!(!program.takes(&frame), "none: {what}");
        }
    }
}

/// Sums with carries in all places.
#[test]
fn sums_as_the_kernel_does() {
    let program = Program::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for n in 0..2000 {
        let udp = n % 2 == 0;
        for mut frame in frames(udp, n % 64) {
            let addresses = if frame[12] == 8 { 26..34 } else { 22..54 };
            for octet in &mut frame[addresses] {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *octet = if seed & 3 == 0 { 0xff } else { (seed >> 32) as u8 };
            }
            let (at, sum) = (checksum_at(&frame, udp), partial(&frame, udp));
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            assert!(!program.takes(&frame), "{frame:02x?}");
            frame[at..at + 2].copy_from_slice(&sum.wrapping_add(1).max(1).to_be_bytes());
            assert!(program.takes(&frame), "{frame:02x?}");
        }
    }
}

#[test]
fn ip_options_do_not_hide_a_partial_checksum() {
    let program = Program::new();
    for options in [0usize, 4, 40] {
        let mut header = etherparse::Ipv4Header::new(20, 64, IpNumber::TCP, V4.0, V4.1).unwrap();
        header.options = vec![1u8; options].as_slice().try_into().unwrap();
        header.set_payload_len(20).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut frame = [&[2u8; 12][..], &[8, 0]].concat();
        frame.extend_from_slice(&header.to_bytes());
        let tcp = TcpHeader::new(1, 2, 3, 4);
        let mut whole = frame.clone();
        let mut right = tcp.clone();
        right.checksum = right.calc_checksum_ipv4_raw(V4.0, V4.1, &[]).unwrap();
        whole.extend_from_slice(&right.to_bytes());
        assert!(program.takes(&whole), "{options}");
        frame.extend_from_slice(&tcp.to_bytes());
        let words = [V4.0, V4.1].concat();
        let sum: u32 = words.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>() + 20 + 6;
        let sum = (sum & 0xffff) + (sum >> 16);
        let at = 14 + 20 + options + 16;
        frame[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        assert!(!program.takes(&frame), "{options}");
    }
}

#[test]
fn takes_what_answers_are_made_of() {
    let program = Program::new();
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[7; 20], &[0; 18]].concat();
    assert!(program.takes(&arp));
    let mut echo = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(V4.0, V4.1, 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, &[])
        .unwrap();
    assert!(program.takes(&echo));
    echo.clear();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(V6.0, V6.1, 64)
        .icmpv6_echo_request(1, 2)
        .write(&mut echo, &[])
        .unwrap();
    assert!(program.takes(&echo));
}

#[test]
fn leaves_what_it_does_not_know() {
    let program = Program::new();
    let [v4, v6] = frames(true, 64);
    let with = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        frame
    };
    let mut lldp = vec![2; 60];
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    let tagged = [&v4[..12], &[0x81, 0, 0, 7], &v4[12..]].concat();
    let mut encapsulated = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    ethernet.ipv4(V4.0, V4.1, 64).write(&mut encapsulated, IpNumber::GRE, &[0; 30]).unwrap();
    for (what, frame) in [
        ("LLDP", lldp),
        ("a tag", tagged),
        ("GRE", encapsulated),
        ("hop-by-hop options", with(&v6, 20, 0)),
        ("a fragment header", with(&v6, 20, 44)),
        ("SCTP", with(&v4, 23, 132)),
        ("a header of less than 20 octets", with(&v4, 14, 0x44)),
        ("a header longer than the packet", [&with(&v4, 17, 30)[..14], &[0x4f, 0, 0, 30], &v4[18..]].concat()),
        ("a header beyond the frame", [&v4[..14], &[0x4f], &v4[15..50]].concat()),
        ("half an IPv6 header", v6[..50].to_vec()),
        ("half a UDP header", v4[..40].to_vec()),
        ("half a TCP header", frames(false, 0)[1][..70].to_vec()),
        ("an Ethernet header", v4[..14].to_vec()),
    ] {
        assert!(!program.takes(&frame), "{what}");
    }
}

#[test]
fn leaves_what_no_chunk_holds() {
    let program = Program::new();
    let length = |frame: &[u8]| frame.len() as i32;
    for udp in [false, true] {
        for headers in frames(udp, 0) {
            let room = LONGEST as usize - headers.len();
            let version = usize::from(headers[12] != 8);
            let [longest, longer] = [room, room + 1].map(|len| frames(udp, len)[version].clone());
            assert_eq!((length(&longest), length(&longer)), (LONGEST, LONGEST + 1));
            assert!(program.takes(&longest) && !program.takes(&longer));
            // In several pages.
            assert!(!program.takes(&frames(udp, 20_000)[version]));
        }
    }
    // The kernel's own headroom comes first.
    assert!(LONGEST as usize + 256 <= socket::CHUNK);
}

/// A verifier that refuses says why.
#[test]
fn an_error_says_what_the_verifier_said() {
    let map = bpf::socket_map(1).unwrap();
    let mut code = assemble(map.as_raw_fd(), PASS);
    // Without its beginning, registers are used that nothing was put into.
    code.drain(..1);
    let error = bpf::load(&code).unwrap_err().to_string();
    assert!(error.contains("R6 !read_ok"), "{error}");
}
