//! A population, its half-open connections and flows included.
#![no_main]

use honeyweave::wire::Packet;
use honeyweave_fuzz::{Story, hosts, tell};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    let (node, mac) = hosts();
    tell(node, 1, &[mac], &story, |_, _, sent| {
        for (_, frame) in sent {
            assert!(Packet::parse(frame).is_ok(), "a host sent a frame that is none: {frame:02x?}");
        }
    });
});
