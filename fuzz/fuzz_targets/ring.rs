//! What the console takes from the rings that the switch writes.
#![no_main]

use honeyweave::event::{Captured, MAX_DATA, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((event, octets)) = decode(data) {
        assert!(octets.len() <= MAX_DATA);
        let _ = event.id.as_str();
    }
    if let Some(captured) = Captured::decode(data) {
        assert!(captured.bytes.len() <= captured.original as usize);
    }
});
