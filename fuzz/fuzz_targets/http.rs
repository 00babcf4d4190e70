//! A web site with a form, fed in pieces and with little room to answer.
#![no_main]

use honeyweave::service::{Caller, Inline, Service, ServiceKind, Then, app};
use honeyweave::wire::Instant;
use honeyweave_fuzz::Pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let site = app("webmail", None).expect("there is such an application");
    let service = Service { name: "web".into(), kind: ServiceKind::Http(site) };
    let now = Instant::from_secs(1);
    let caller = Caller { from: [192, 0, 2, 9].into(), seed: 7, now };
    let mut inline = Inline::new(&service, caller).expect("it is an inline one");
    let mut stream = Pieces::default();
    for piece in &pieces {
        stream.get(piece);
        if inline.poll(&service, now, &mut stream) == Then::Close {
            return;
        }
    }
    stream.finish();
    assert!(inline.poll(&service, now, &mut stream) == Then::Close, "it goes on after the end");
});
