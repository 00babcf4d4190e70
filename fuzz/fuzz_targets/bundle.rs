//! Bundles of sessions, as anybody could have made them.
#![no_main]

use honeyweave::record::bundle::{PublicKey, verify, verify_unpacked};
use honeyweave::record::is_harmless;
use libfuzzer_sys::fuzz_target;

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

fuzz_target!(|data: &[u8]| {
    let key = PublicKey::from_pem(KEY).expect("the key of RFC 8032, section 7.1");
    for verified in [verify(data, &key), verify_unpacked(data, &key)] {
        match verified {
            Ok(verified) => {
                assert!(!verified.is_good(), "nobody here has that key");
                assert!(verified.mistakes.iter().all(|text| text.chars().all(is_harmless)), "{:?}", verified.mistakes);
            }
            Err(error) => {
                let _ = error.to_string();
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = PublicKey::from_pem(text) {
            assert_eq!(PublicKey::from_pem(&key.pem()).expect("it was one"), key);
        }
    }
});
