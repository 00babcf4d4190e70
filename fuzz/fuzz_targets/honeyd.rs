//! Configurations of Honeyd: a topology that is sound, or an error that says why not.
#![no_main]

use honeyweave::topology::{self, import};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match import::honeyd(bytes, import::Settings { name: "fuzz", known: &import::is_builtin }) {
        Ok(imported) => {
            assert!(topology::parse("fuzz.yaml", &imported.yaml).is_ok());
            let mut texts = imported.warnings.iter().map(|warning| &warning.text).chain([&imported.yaml]);
            assert!(texts.all(|text| text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b))));
        }
        Err(mistakes) => assert!(!mistakes.to_string().contains("no sound topology"), "{mistakes}"),
    }
});
