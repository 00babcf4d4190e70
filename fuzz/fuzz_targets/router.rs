//! A router between two networks.
#![no_main]

use honeyweave::wire::Packet;
use honeyweave_fuzz::{Story, router, tell};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    let (node, macs) = router();
    tell(node, 2, &macs, &story, |_, _, sent| {
        for (port, frame) in sent {
            assert!(Packet::parse(frame).is_ok(), "the router sent a frame that is none: {frame:02x?}");
            assert_eq!(frame[6..12], macs[usize::from(port.0)].0, "it sent in another's name");
        }
    });
});
