//! Questions for names: multicast DNS, LLMNR, NetBIOS.
#![no_main]

use honeyweave::emulate::talk::answer::{self, Asker, Own};
use honeyweave::emulate::talk::query::{QUESTIONS, Query};
use honeyweave::wire::Mac;
use libfuzzer_sys::fuzz_target;

/// Octets that an answer may have.
const LIMIT: usize = 400;

fuzz_target!(|message: &[u8]| {
    let own = Own {
        name: "a",
        v4: Some([10, 0, 0, 7].into()),
        v6: &["fe80::7".parse().expect("an address")],
        mac: Mac([2, 0, 0, 0, 0, 7]),
        services: &[("_ipp._tcp", 631)],
    };
    let mut out = Vec::new();
    if let Some(query) = Query::parse(message) {
        assert!((1..=QUESTIONS).contains(&query.questions.len()));
        for asker in [Asker::Participant, Asker::Resolver] {
            if answer::mdns(&mut out, &query, &own, asker, LIMIT).is_some() {
                assert!(out.len() <= LIMIT, "{} octets", out.len());
                assert_eq!(Query::parse(&out), None, "an answer asks nothing");
            }
        }
        answer::llmnr(&mut out, &query, &own, LIMIT);
    }
    if answer::netbios(&mut out, message, &own) {
        assert!(out.len() + 28 <= 3 * (message.len() + 28), "{} octets", out.len());
    }
});
