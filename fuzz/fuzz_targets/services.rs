//! Every service of the library, fed in pieces and with little room to answer; and their datagrams.
#![no_main]

use honeyweave::service::{Caller, Inline, Profile, Protocol, Service, ServiceKind, Then, answer};
use honeyweave::wire::Instant;
use honeyweave_fuzz::Pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, Vec<Vec<u8>>)| {
    let (number, product, pieces) = input;
    let all: Vec<Protocol> = Protocol::TCP.into_iter().chain(Protocol::UDP).collect();
    let protocol = all[usize::from(number) % all.len()];
    let products = protocol.products();
    let profile = Profile::new(protocol, Some(products[usize::from(product) % products.len()].0));
    let now = Instant::from_secs(1);
    let caller = Caller { from: [192, 0, 2, 9].into(), seed: 7, now };
    if Protocol::UDP.contains(&protocol) {
        let mut out = Vec::new();
        for piece in &pieces {
            answer(&profile, caller, piece, &mut out, &mut |_, data| assert!(data.len() <= piece.len().max(1024)));
            assert!(out.len() <= 3 * piece.len(), "it amplifies");
        }
        return;
    }
    let service = Service { name: "library".into(), kind: ServiceKind::Library(Box::new(profile)) };
    let mut inline = Inline::new(&service, caller).expect("it is an inline one");
    let mut stream = Pieces::default();
    for piece in &pieces {
        stream.get(piece);
        if inline.poll(&service, now, &mut stream) == Then::Close {
            return;
        }
        assert!(inline.kept() <= 8 * 1024, "it keeps {}", inline.kept());
    }
    stream.finish();
    assert!(inline.poll(&service, now, &mut stream) == Then::Close, "it goes on after the end");
});
