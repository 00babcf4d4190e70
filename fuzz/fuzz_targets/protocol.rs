//! What the keeper takes from the switch, and the console from who is in the middle of a connection: both face the attacker.
#![no_main]

use honeyweave::container::{FromKeeper, ToKeeper};
use honeyweave::record::tape::redact;
use honeyweave::relay::tape::Word;
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
    if let Ok((word, _)) = postcard::take_from_bytes::<Word>(data) {
        let again = postcard::to_stdvec(&word).expect("it was one");
        assert_eq!(postcard::from_bytes::<Word>(&again).expect("it is one"), word);
        if let Word::Entry(_, entry) = word {
            // Text that was not made here need not have its form.
            let _ = redact(entry, true);
        }
    }
});
