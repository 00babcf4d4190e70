//! The database of reference fingerprints: whatever is in it, what is chosen of it can be shown, and is scored.
#![no_main]

use honeyweave::emulate::nmap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    match nmap::Db::parse(text) {
        Ok(db) => {
            for at in 0..db.records().len().min(4) {
                let Some(choice) = nmap::of_record(&db, at, 1) else { continue };
                let Some(fingerprint) = &choice.personality.fingerprint else { continue };
                let seen = nmap::observe(fingerprint);
                assert!(!choice.is_perfect || db.score(&db.records()[at], &seen).is_perfect());
                assert!(
                    !db.search(&db.records()[at].name).is_empty()
                        || !db.records()[at].name.contains(char::is_alphanumeric)
                );
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
