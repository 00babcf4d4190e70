//! What clients say, octet by octet, and what servers that mean no good say.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::machine_tests::{IP, MAC, SERVER};
use super::testing::option;
use super::*;
use crate::wire::{DhcpFlags, DhcpMessageType, DhcpPacket};

/// A message of [`SERVER`].
pub(super) fn answer(kind: u8, xid: u32, ip: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    testing::reply(kind, (xid, MAC), ip, &[&option(54, &SERVER.octets()), options].concat())
}

const HOUR: [u8; 4] = 3600u32.to_be_bytes();

fn judged(ip: [u8; 4], options: &[Vec<u8>]) -> Result<Lease, Refusal> {
    Reply::parse(&answer(2, 1, ip.into(), &options.concat())).and_then(|reply| reply.judge())
}

#[test]
fn a_sound_offer_is_read() {
    let options = [
        option(51, &HOUR),
        option(58, &600u32.to_be_bytes()),
        option(59, &900u32.to_be_bytes()),
        vec![0, 0],
        option(1, &[255, 255, 254, 0]),
        option(3, &[192, 0, 3, 254, 192, 0, 3, 253]),
        option(6, &[9, 9, 9, 9]),
    ];
    let lease = judged(IP.octets(), &options).unwrap();
    let router = Some(Ipv4Addr::new(192, 0, 3, 254));
    assert_eq!(lease, Lease { ip: IP, prefix: 23, router, server: SERVER, secs: 3600, t1: 600, t2: 900 });
    let far = [option(51, &HOUR), option(1, &[255, 255, 255, 0]), option(3, &[10, 0, 0, 1])];
    assert_eq!(judged(IP.octets(), &far).unwrap().router, None, "a way out that cannot be reached is none");
}

#[test]
fn what_no_host_can_believe_is_refused() {
    let plain = |ip: [u8; 4]| judged(ip, &[option(51, &HOUR)]);
    for ip in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [169, 254, 1, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        [192, 0, 2, 0],
        [192, 0, 2, 255],
    ] {
        assert_eq!(plain(ip), Err(Refusal::Address), "{ip:?}");
    }
    assert_eq!(plain(SERVER.octets()), Err(Refusal::Gateway));
    let with = |options: &[Vec<u8>]| judged(IP.octets(), options);
    assert_eq!(with(&[option(51, &HOUR), option(3, &IP.octets())]), Err(Refusal::Gateway));
    for (secs, expected) in [(0u32, None), (59, None), (60, Some(60)), (u32::MAX, Some(Lease::LONGEST))] {
        let got = with(&[option(51, &secs.to_be_bytes())]).map(|lease| lease.secs);
        assert_eq!(got.ok(), expected, "{secs} seconds");
    }
    assert_eq!(with(&[]), Err(Refusal::LeaseTime));
    for mask in [[0, 0, 0, 0], [255, 255, 255, 255], [255, 255, 255, 254], [255, 0, 255, 0], [0, 255, 255, 255]] {
        assert_eq!(with(&[option(51, &HOUR), option(1, &mask)]), Err(Refusal::Mask), "{mask:?}");
    }
    assert_eq!(with(&[option(51, &HOUR), option(51, &HOUR)]), Err(Refusal::Duplicate));
    assert_eq!(with(&[option(51, &HOUR), option(54, &SERVER.octets())]), Err(Refusal::Duplicate));
    assert_eq!(with(&[option(51, &HOUR), option(53, &[5])]), Err(Refusal::Duplicate));
    assert_eq!(with(&[option(51, &HOUR[1..])]), Err(Refusal::Malformed));
    assert_eq!(with(&[option(51, &HOUR), option(3, &[1, 2, 3, 4, 5])]), Err(Refusal::Malformed));
    for server in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let reply = testing::reply(2, (1, MAC), IP, &[option(54, &server), option(51, &HOUR)].concat());
        assert_eq!(Reply::parse(&reply), Err(Refusal::Server), "{server:?}");
    }
    assert_eq!(Reply::parse(&testing::reply(2, (1, MAC), IP, &option(51, &HOUR))), Err(Refusal::Server));
    // Times that contradict themselves are as if there were none.
    let odd = [option(51, &HOUR), option(58, &3601u32.to_be_bytes()), option(59, &1u32.to_be_bytes())];
    assert_eq!(with(&odd).map(|lease| (lease.t1, lease.t2)), Ok((1800, 3150)));
}

#[test]
fn what_is_no_answer_is_none() {
    let good = answer(2, 1, IP, &option(51, &HOUR));
    assert!(Reply::parse(&good).is_ok());
    for len in 0..240 {
        assert_eq!(Reply::parse(&good[..len]), Err(Refusal::Malformed), "{len}");
    }
    for (at, octet) in [(0, 1), (1, 6), (2, 7), (236, 0)] {
        let mut bad = good.clone();
        bad[at] = octet;
        assert_eq!(Reply::parse(&bad), Err(Refusal::Malformed), "octet {at}");
    }
    for kind in [0, 1, 3, 4, 7, 8, 9] {
        assert_eq!(Reply::parse(&answer(kind, 1, IP, &[])), Err(Refusal::Malformed), "type {kind}");
    }
    // Options that are said to be elsewhere are not looked for there, and half of one is none.
    let mut overloaded = answer(2, 1, IP, &option(52, &[3]));
    overloaded[44..50].copy_from_slice(&option(51, &HOUR));
    overloaded[108..114].copy_from_slice(&option(51, &HOUR));
    assert_eq!(Reply::parse(&overloaded).unwrap().judge(), Err(Refusal::LeaseTime));
    let cut = &good[..good.len() - 3];
    assert_eq!(Reply::parse(cut).unwrap().judge(), Err(Refusal::LeaseTime));
}

/// The options of a message, in their order.
fn said(message: &Message, client: Client) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let mut payload = vec![7; 3];
    message.write(&Speaker { habits: client.habits(), mac: MAC, name: "NPI010203" }, &mut payload);
    let packet = DhcpPacket::new_checked(&payload).unwrap();
    let options = packet.options().map(|option| (option.kind, option.data.to_vec())).collect();
    (payload, options)
}

fn kinds(options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    options.iter().map(|(kind, _)| *kind).collect()
}

const DISCOVER: Message = Message {
    kind: DhcpMessageType::Discover,
    xid: 0x0102_0304,
    secs: 9,
    ciaddr: None,
    requested: None,
    server: None,
    to_server: false,
};

#[test]
fn each_system_says_what_it_is_known_by() {
    let request = Message { kind: DhcpMessageType::Request, requested: Some(IP), server: Some(SERVER), ..DISCOVER };
    let (payload, options) = said(&DISCOVER, Client::Windows);
    assert_eq!(kinds(&options), [53, 61, 12, 60, 55]);
    assert_eq!(options[0].1, [1]);
    assert_eq!(options[1].1, [1, 0, 0x0c, 0x29, 1, 2, 3]);
    assert_eq!((options[2].1.as_slice(), options[3].1.as_slice()), (&b"NPI010203"[..], &b"MSFT 5.0"[..]));
    assert_eq!(options[4].1, [1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252]);
    assert_eq!(payload[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 9, 0, 0]);
    assert_eq!(payload.len(), 300);
    let (_, options) = said(&request, Client::Windows);
    assert_eq!(kinds(&options), [53, 61, 50, 54, 12, 81, 60, 55]);
    assert_eq!(options[5].1, [&[0, 0, 0], &b"NPI010203"[..]].concat());
    let (_, options) = said(&request, Client::Dhclient);
    assert_eq!(kinds(&options), [53, 54, 50, 12, 55]);
    let (_, options) = said(&DISCOVER, Client::WindowsXp);
    assert_eq!(kinds(&options), [53, 116, 61, 12, 60, 55]);
    let (payload, options) = said(&DISCOVER, Client::Ios);
    assert_eq!(options[2], (61, b"\0cisco-000c.2901.0203-Vl1".to_vec()));
    assert_eq!(DhcpPacket::new_checked(&payload).unwrap().flags(), DhcpFlags::BROADCAST);
    let decline = Message { kind: DhcpMessageType::Decline, ..request };
    for client in ALL {
        let (payload, options) = said(&decline, client);
        let mut all = kinds(&options);
        all.sort_unstable();
        all.retain(|kind| *kind != 61);
        assert_eq!(all, [50, 53, 54], "{client:?}");
        let end = 240 + options.iter().map(|(_, data)| 2 + data.len()).sum::<usize>();
        assert_eq!((payload[end], payload.len().max(300)), (255, payload.len()), "{client:?}");
        let (payload, options) = said(&request, client);
        assert_eq!(options[0], (53, vec![3]), "{client:?}");
        assert!(options.iter().any(|(kind, _)| *kind == 55));
        assert!(payload.len() < 576, "what every server takes (RFC 2131 §2)");
    }
}

const ALL: [Client; 10] = [
    Client::Dhclient,
    Client::Windows,
    Client::Windows7,
    Client::WindowsXp,
    Client::Android,
    Client::Macos,
    Client::Bsd,
    Client::JetDirect,
    Client::Ios,
    Client::Lwip,
];

proptest! {
    #[test]
    fn names_of_any_length_fit(name in ".{0,300}", client in proptest::sample::select(ALL.to_vec())) {
        let request = Message { kind: DhcpMessageType::Request, requested: Some(IP), server: Some(SERVER), ..DISCOVER };
        let mut payload = Vec::new();
        request.write(&Speaker { habits: client.habits(), mac: MAC, name: &name }, &mut payload);
        prop_assert!(payload.len() < 576);
        prop_assert!(DhcpPacket::new_checked(&payload).unwrap().options().all(|option| !option.data.is_empty()));
    }

    #[test]
    fn octets_of_any_kind_are_read_or_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..600), mend: bool) {
        if mend && octets.len() > 240 {
            octets[..3].copy_from_slice(&[2, 1, 6]);
            octets[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        }
        if let Ok(lease) = Reply::parse(&octets).and_then(|reply| reply.judge()) {
            prop_assert!((Lease::SHORTEST..=Lease::LONGEST).contains(&lease.secs));
            prop_assert!(lease.t1 < lease.t2 && lease.t2 < lease.secs);
        }
    }

    #[test]
    fn options_of_any_kind_are_read_or_refused(
        options in proptest::collection::vec(
            (proptest::sample::select(vec![1u8, 3, 12, 51, 52, 53, 54, 55, 58, 59, 82]), proptest::collection::vec(any::<u8>(), 0..9)),
            0..9,
        ),
        ip: [u8; 4],
    ) {
        let options: Vec<Vec<u8>> = options.iter().map(|(kind, data)| option(*kind, data)).collect();
        if let Ok(lease) = judged(ip, &options) {
            prop_assert!(lease.ip != lease.server && Some(lease.ip) != lease.router);
            prop_assert!(!lease.ip.is_multicast() && !lease.ip.is_unspecified() && !lease.ip.is_broadcast());
        }
    }
}
