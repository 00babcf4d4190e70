//! What the keeper takes from the switch, which faces the attacker.
#![no_main]

use honeyweave::container::{FromKeeper, ToKeeper};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((message, _)) = postcard::take_from_bytes::<ToKeeper>(data) {
        let again = postcard::to_stdvec(&message).expect("it was one");
        assert_eq!(postcard::from_bytes::<ToKeeper>(&again).expect("it is one"), message);
    }
    if let Ok((message, _)) = postcard::take_from_bytes::<FromKeeper>(data) {
        let again = postcard::to_stdvec(&message).expect("it was one");
        assert_eq!(postcard::from_bytes::<FromKeeper>(&again).expect("it is one"), message);
    }
});
