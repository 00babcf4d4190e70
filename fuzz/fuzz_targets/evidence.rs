//! Archives of evidence, as anybody could have made them, and names as an attacker chose them.
#![no_main]

use honeyweave::container::inspector::{Name, between, host_of, listing_of, read, read_listing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(archive) = read::read(data) {
        let mistakes = archive.mistakes(|_| None);
        assert!(mistakes.iter().all(|text| !text.chars().any(char::is_control)), "{mistakes:?}");
        let text = serde_json::to_vec(&archive.manifest).expect("it came from JSON");
        assert_eq!(read::read_manifest(&text[..]).expect("it was one"), archive.manifest);
    }
    if let Ok(manifest) = read::read_manifest(data) {
        for change in &manifest.changes {
            assert!(!change.path.to_string().chars().any(char::is_control));
        }
    }
    if let Ok(listing) = read_listing(data) {
        // A hostile one may tell the same path twice.
        let _ = between(Some(&listing), &listing);
        assert!(between(None, &listing).len() <= listing.changes.len());
    }
    let name = Name::new(data);
    let text = name.to_string();
    assert!(!text.chars().any(char::is_control));
    assert_eq!(Name::parse(&text), Ok(name));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = host_of(text);
        let _ = listing_of(text);
        if let Ok(name) = Name::parse(text) {
            assert_eq!(name.to_string(), text);
        }
    }
});
