//! Frames whose addresses are rewritten and whose payload is left out before they are written down.
#![no_main]

use honeyweave::record::privacy::{Mask, Prefixes, Privacy, rewrite, without_payload};
use honeyweave::wire::{Packet, proto};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let kept = without_payload(frame);
    assert!(kept <= frame.len());
    // What is left is enough to find it again.
    assert_eq!(without_payload(&frame[..kept]), kept);
    let mut same = frame.to_vec();
    rewrite(&mut same, &|ip| ip);
    assert_eq!(same, frame);
    let privacy = Privacy { truncate: Some(Prefixes::default()), ..Privacy::default() };
    let mask = Mask::new(privacy, []);
    let mut once = frame.to_vec();
    rewrite(&mut once, &|ip| mask.ip(ip));
    let mut twice = once.clone();
    rewrite(&mut twice, &|ip| {
        assert_eq!(mask.ip(ip), ip, "it is still there");
        ip
    });
    assert_eq!(once, twice);
    // What was right stays so.
    if let Ok(before) = Packet::parse(frame) {
        let after = Packet::parse(&once).expect("it was a packet");
        let least = match (before.proto, before.is_v4()) {
            (proto::TCP, _) => 20,
            (proto::UDP, _) | (proto::ICMP, true) | (proto::ICMPV6, false) => 8,
            _ => usize::MAX,
        };
        // Behind the packet there may be anything.
        if !before.fragment && before.end == frame.len() && before.payload(frame).len() >= least {
            assert_eq!(before.checksum_ok(frame), after.checksum_ok(&once));
        }
        assert_eq!((mask.ip(before.src()), mask.ip(before.dst())), (after.src(), after.dst()));
    }
});
