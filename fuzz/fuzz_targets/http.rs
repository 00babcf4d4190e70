//! A web site with a form, fed in pieces and with little room to answer.
#![no_main]

use honeyweave::event::EventId;
use honeyweave::service::{Caller, Inline, Service, ServiceKind, Stream, Then, app};
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

    fn is_last(&mut self) -> bool {
        self.end
    }

    fn tell(&mut self, _: EventId, data: &[u8]) {
        assert!(data.len() <= 8192);
    }
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let site = app("webmail", None).expect("there is such an application");
    let service = Service { name: "web".into(), kind: ServiceKind::Http(site) };
    let now = Instant::from_secs(1);
    let caller = Caller { from: [192, 0, 2, 9].into(), seed: 7, now };
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
    }
    stream.end = true;
    stream.come.clear();
    stream.room = usize::MAX / 2;
    assert!(inline.poll(&service, now, &mut stream) == Then::Close, "it goes on after the end");
});
