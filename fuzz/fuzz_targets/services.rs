//! Every service of the library, fed in pieces and with little room to answer; and their datagrams.
#![no_main]

use honeyweave::event::EventId;
use honeyweave::service::{Caller, Inline, Profile, Protocol, Service, ServiceKind, Stream, Then, answer};
use honeyweave::wire::Instant;
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Pieces {
    come: Vec<u8>,
    end: bool,
    room: usize,
}

impl Stream for Pieces {
    fn peek(&mut self) -> &[u8] {
        &self.come
    }

    fn take(&mut self, n: usize) {
        self.come.drain(..n);
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room);
        self.room -= n;
        n
    }

    fn at_end(&mut self) -> bool {
        self.end && self.come.is_empty()
    }

    fn is_last(&mut self) -> bool {
        self.end
    }

    fn tell(&mut self, id: EventId, data: &[u8]) {
        assert!(data.len() <= 1024);
        if id == EventId::ServiceLogin {
            assert!(data.iter().all(|octet| (b' '..=b'~').contains(octet)), "it is not printable");
        }
    }
}

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
        // A connection's receive buffer is bounded, too.
        let space = 8192usize.saturating_sub(stream.come.len());
        stream.come.extend_from_slice(&piece[..piece.len().min(space)]);
        stream.room = 100 + piece.len() % 4096;
        if inline.poll(&service, now, &mut stream) == Then::Close {
            return;
        }
        assert!(inline.kept() <= 8 * 1024, "it keeps {}", inline.kept());
    }
    stream.end = true;
    stream.come.clear();
    stream.room = usize::MAX / 2;
    assert!(inline.poll(&service, now, &mut stream) == Then::Close, "it goes on after the end");
});
