//! The topology language: a plan that can be drawn, or mistakes with their places.
#![no_main]

use honeyweave::topology;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match topology::parse("fuzz.yaml", text) {
        Ok(plan) => {
            let _ = topology::mermaid(&plan);
            let _ = topology::dot(&plan);
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
