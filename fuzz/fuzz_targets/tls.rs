//! A service within TLS, fed a ClientHello that a fuzzer wrote, or octets after a real one, in pieces and with little room
//! to answer.
#![no_main]

use honeyweave::emulate::{Identity, Secret, WallClock};
use honeyweave::service::tls::{Credentials, First, Notary, Owner, Secured, first};
use honeyweave::service::{Caller, Inline, Service, ServiceKind, Then, app};
use honeyweave::wire::Instant;
use honeyweave_fuzz::Pieces;
use libfuzzer_sys::fuzz_target;

/// What OpenSSL 3.0 begins with, for TLS 1.3 and 1.2.
const HELLO: &[u8] = include_bytes!("../hello.bin");

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (real, mut pieces) = input;
    if real {
        pieces.insert(0, HELLO.to_vec());
    }
    if let First::Hello(hello) = first(&pieces.concat()) {
        hello.write(&mut |_, data| assert!(data.len() <= 1024));
    }
    let site = app("webmail", None).expect("there is such an application");
    let inner = Service { name: "web".into(), kind: ServiceKind::Http(site) };
    let secured = Secured { credentials: Credentials::Own(Box::default()), inner };
    let service = Service { name: "tls".into(), kind: ServiceKind::Tls(Box::new(secured)) };
    let mut notary = Notary::new(Identity::new(Secret([1; 16]), "web"), WallClock::default(), 1, 7);
    let owner = |_: &Service| Owner { ip: [192, 0, 2, 1].into(), name: "web".into(), service: 0 };
    let now = Instant::from_secs(1_700_000_000);
    let caller = Caller { from: [192, 0, 2, 9].into(), seed: 7, now };
    let mut inline = Inline::new(&service, caller).expect("it is an inline one");
    let mut stream = Pieces::default();
    for piece in &pieces {
        stream.get(piece);
        let mut then = inline.poll(&service, now, &mut stream);
        if inline.serve(&service, &mut notary, &owner, now) {
            then = inline.poll(&service, now, &mut stream);
        }
        if then == Then::Close {
            return;
        }
        assert!(inline.kept() <= 64 * 1024, "it keeps {}", inline.kept());
    }
    stream.finish();
    // Once to read the end, and once more to have sent what is left.
    for _ in 0..2 {
        if inline.poll(&service, now, &mut stream) == Then::Close {
            return;
        }
    }
    panic!("it goes on after the end");
});
