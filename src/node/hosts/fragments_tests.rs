use super::rewrite_tests::{bench_of, headers};
use super::*;
use crate::emulate::Normalize;
use crate::node::testing::Bench;
use crate::wire::{Duration, checksum};

/// A container's fragment of a datagram with identification `id`, `at` octets from its beginning.
fn fragment(bench: &Bench<Hosts>, proto: u8, id: u16, (at, more): (u16, bool), l4: &[u8]) -> Vec<u8> {
    let headers = crate::wire::Headers { ip_id: id, df: false, ..headers(bench, proto, true) };
    let mut frame = vec![0; headers.len() + l4.len()];
    let from = headers.write(&mut frame, l4.len());
    frame[from..].copy_from_slice(l4);
    let field = (at / 8) | if more { 0x2000 } else { 0 };
    frame[ETH + 6..ETH + 8].copy_from_slice(&field.to_be_bytes());
    frame[ETH + 10..ETH + 12].fill(0);
    let sum = checksum::of(&frame[ETH..ETH + 20]);
    frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What leaves of it: its identification, flags and offset, and payload.
fn leaves(bench: &mut Bench<Hosts>, frame: &[u8]) -> (u16, u16, Vec<u8>) {
    let out = bench.rx(1, frame);
    let [(crate::frame::PortNo(0), sent)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(checksum::of(&sent[ETH..ETH + 20]), 0);
    (be16(sent, ETH + 4), be16(sent, ETH + 6), sent[ETH + 20..].to_vec())
}

#[test]
fn the_pieces_of_a_datagram_have_one_number_and_the_next_datagram_the_next() {
    let mut bench = bench_of(Builtin::Windows, Normalize::default());
    let mut last = None;
    // The second ends while the third has begun; what is in the middle looks like an ICMP error.
    let order = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (2, 2), (3, 1), (3, 2)];
    let mut numbers = std::collections::BTreeMap::new();
    for (id, piece) in order {
        let l4 = [if piece == 0 { 8 } else { 3 }; 1480];
        let (at, more) = (1480 * piece, piece < 2);
        let frame = fragment(&bench, proto::ICMP, id, (at, more), &l4);
        let (number, field, payload) = leaves(&mut bench, &frame);
        assert_eq!((field, &payload[..]), (be16(&frame, ETH + 6), &l4[..]), "nothing else changes");
        assert_eq!(*numbers.entry(id).or_insert(number), number, "{id} {piece}");
        if piece == 0 {
            assert!(last.is_none_or(|last: u16| number == last.wrapping_add(1)) && number != id);
            last = Some(number);
        }
    }
    assert_eq!(numbers.len(), 3);
    // A container's kernel begins anew with its numbers, and a piece that comes too late belongs to nothing.
    let begin = fragment(&bench, proto::ICMP, 1, (0, true), &[8; 1480]);
    let (number, ..) = leaves(&mut bench, &begin);
    assert_eq!(Some(number), last.map(|last| last.wrapping_add(1)));
    bench.now += Duration::from_secs(31);
    let late = fragment(&bench, proto::ICMP, 1, (1480, false), &[8; 80]);
    assert_ne!(leaves(&mut bench, &late).0, number);
    // Nobody's kernel cuts up TCP.
    let own = fragment(&bench, proto::TCP, 77, (0, true), &[0x50; 24]);
    assert_eq!(leaves(&mut bench, &own).0, 77);
}

#[test]
fn pieces_are_put_together_of_hosts_without_numbers_too() {
    let mut bench = bench_of(Builtin::MacOs, Normalize::default());
    assert_eq!(Builtin::MacOs.get().ip_id, crate::emulate::IpIdClass::Zero);
    let numbers = [1, 2, 3].map(|id| {
        let pieces = [0, 1].map(|piece| {
            let frame = fragment(&bench, proto::UDP, id, (1480 * piece, piece == 0), &[0; 1480]);
            leaves(&mut bench, &frame).0
        });
        assert_eq!(pieces[0], pieces[1]);
        pieces[0]
    });
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
}
