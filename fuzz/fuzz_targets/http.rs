//! The static web site, fed in pieces and with little room to answer.
#![no_main]

use std::collections::BTreeMap;

use honeyweave::service::{HttpSite, Inline, Page, Service, ServiceKind, Stream, Then};
use honeyweave::wire::Instant;
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Pieces {
    come: Vec<u8>,
    end: bool,
    sent: usize,
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
        self.sent += n;
        n
    }

    fn at_end(&mut self) -> bool {
        self.end && self.come.is_empty()
    }

    fn requested(&mut self, head: &[u8]) {
        assert!(head.len() <= 8192);
    }
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let page = Page { content_type: "text/html".into(), body: b"<h1>here</h1>".to_vec() };
    let site = HttpSite { server: "nginx".into(), pages: BTreeMap::from([("/".to_owned(), page)]) };
    let service = Service { name: "web".into(), kind: ServiceKind::Http(site) };
    let now = Instant::from_secs(1);
    let mut inline = Inline::new(&service, now).expect("it is an inline one");
    let mut stream = Pieces::default();
    for piece in &pieces {
        // A connection's receive buffer is bounded, too.
        let space = 8192usize.saturating_sub(stream.come.len());
        stream.come.extend_from_slice(&piece[..piece.len().min(space)]);
        stream.room = 100 + piece.len() % 4096;
        if inline.poll(&service, now, &mut stream) == Then::Close {
            return;
        }
    }
    stream.end = true;
    stream.come.clear();
    stream.room = usize::MAX / 2;
    assert!(inline.poll(&service, now, &mut stream) == Then::Close, "it goes on after the end");
});
