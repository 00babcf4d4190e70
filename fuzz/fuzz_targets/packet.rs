//! Everything that reads headers from a wire.
#![no_main]

use honeyweave::wire::gso::{Segments, complete_checksum};
use honeyweave::wire::{Arp, Neighbor, Packet, TcpHeader, TcpOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Arp::parse(data);
    if let Ok(packet) = Packet::parse(data) {
        let payload = packet.payload(data);
        assert!(payload.len() <= data.len());
        let _ = packet.checksum_ok(data);
        let _ = Neighbor::parse(&packet, data);
        let _ = TcpHeader::parse(payload);
    }
    let _ = TcpHeader::parse(data);
    let _ = TcpOptions::parse(data);
    let Some((&[size, offset], frame)) = data.split_first_chunk() else { return };
    let _ = complete_checksum(&mut frame.to_vec(), usize::from(size), usize::from(offset));
    if let Some(mut segments) = Segments::new(frame, usize::from(size) * 8) {
        let mut out = [0; 65_600];
        let mut n = 0;
        while let Some(len) = segments.next_into(&mut out) {
            assert!(len <= out.len());
            n += 1;
            assert!(n <= frame.len(), "more segments than octets");
        }
    }
});
