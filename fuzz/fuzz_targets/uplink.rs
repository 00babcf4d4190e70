//! The guard between us and a real wire: a frame passes as it is, or not at all.
#![no_main]

use honeyweave_fuzz::{Story, tell, uplink};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    tell(uplink(), 2, &[], &story, |port, frame, sent| {
        assert!(sent.len() <= 1);
        for (by, out) in sent {
            assert_ne!(by.0, port, "a frame came back");
            assert_eq!(out, frame);
        }
    });
});
