//! A switch with VLANs: it changes nothing but the tag, invents nothing and returns nothing.
#![no_main]

use honeyweave_fuzz::{Story, bridge, tell};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    tell(bridge(), 6, &[], &story, |port, frame, sent| {
        assert!(sent.len() <= 5);
        for (i, (by, out)) in sent.iter().enumerate() {
            assert_ne!(by.0, port, "a frame came back");
            assert!(sent[..i].iter().all(|(other, _)| other != by), "twice by one port");
            assert_eq!(out[..12], frame[..12]);
            assert!(out.len().abs_diff(frame.len()) <= 4);
            let tail = frame.len().min(out.len()).saturating_sub(18);
            assert_eq!(out[out.len() - tail..], frame[frame.len() - tail..]);
        }
    });
});
