//! What a TLS handshake costs the data plane: a client and an emulated host's HTTPS, joined in memory, and of the two only
//! the host's side is timed. Exit 1 if a page is not what it should be.
//!
//! ```sh
//! cargo run --release --example tls_handshakes
//! ```

// What is measured is real time.
#![allow(clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration as Span, Instant as Clock};

use honeyweave::emulate::{Identity, Secret, WallClock};
use honeyweave::event::EventId;
use honeyweave::service::tls::{Credentials, Notary, Owner, Secured, believer};
use honeyweave::service::{Caller, HttpSite, Inline, Page, Service, ServiceKind, Stream, Then};
use honeyweave::wire::{Duration, Instant};
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

/// Counts what is allocated.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Default)]
struct Wire {
    came: Vec<u8>,
    sent: Vec<u8>,
}

impl Stream for Wire {
    fn peek(&mut self) -> &[u8] {
        &self.came
    }
    fn take(&mut self, n: usize) {
        self.came.drain(..n);
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.sent.extend_from_slice(bytes);
        bytes.len()
    }
    fn at_end(&mut self) -> bool {
        false
    }
    fn is_last(&mut self) -> bool {
        false
    }
    fn tell(&mut self, _: EventId, _: &[u8]) {}
}

/// One host's HTTPS.
struct Bench {
    service: Service,
    notary: Notary,
    now: Instant,
    /// Time that the host's side took.
    took: Span,
}

impl Bench {
    fn new() -> Bench {
        let page = Page { content_type: "text/html".into(), body: b"<h1>hi</h1>".to_vec() };
        let pages = BTreeMap::from([("/".to_owned(), page)]);
        let site = HttpSite { server: "nginx/1.22.1".into(), pages, ..HttpSite::default() };
        let inner = Service { name: "web".into(), kind: ServiceKind::Http(site) };
        let secured = Secured { credentials: Credentials::Own(Box::default()), inner };
        Bench {
            service: Service { name: "tls".into(), kind: ServiceKind::Tls(Box::new(secured)) },
            notary: Notary::new(Identity::new(Secret([1; 16]), "web"), WallClock::default(), 1, 7),
            now: Instant::from_secs(1_700_000_000),
            took: Span::ZERO,
        }
    }

    fn poll(&mut self, inline: &mut Inline, wire: &mut Wire, host: u32) -> Then {
        let owner = |_: &Service| Owner { ip: host.to_be_bytes().into(), name: "web".into(), service: 0 };
        let begin = Clock::now();
        let mut then = inline.poll(&self.service, self.now, wire);
        if inline.serve(&self.service, &mut self.notary, &owner, self.now) {
            then = inline.poll(&self.service, self.now, wire);
        }
        self.took += begin.elapsed();
        then
    }

    /// A handshake with `host`, and a page.
    fn visit(&mut self, config: &Arc<ClientConfig>, host: u32) -> Inline {
        // Virtual time passes, so that each has its turn at once.
        self.now += Duration::from_millis(50);
        let caller = Caller { from: [192, 0, 2, 9].into(), seed: 7, now: self.now };
        let mut inline = Inline::new(&self.service, caller).expect("it is an inline one");
        let mut client = ClientConnection::new(config.clone(), "web".try_into().expect("a name")).expect("a client");
        client.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("there is room");
        let (mut wire, mut page) = (Wire::default(), Vec::new());
        while !page.ends_with(b"<h1>hi</h1>") {
            while client.wants_write() {
                client.write_tls(&mut wire.came).expect("memory takes everything");
            }
            let then = self.poll(&mut inline, &mut wire, host);
            assert!(then == Then::Stay && !wire.sent.is_empty(), "no answer");
            let mut sent = &std::mem::take(&mut wire.sent)[..];
            while !sent.is_empty() {
                client.read_tls(&mut sent).expect("memory gives everything");
                client.process_new_packets().expect("TLS");
            }
            // "Would block" is the end of what there is.
            let _ = client.reader().read_to_end(&mut page);
        }
        inline
    }

    fn measure(&mut self, what: &str, count: u32, mut visit: impl FnMut(&mut Bench, u32)) {
        self.took = Span::ZERO;
        (0..count).for_each(|number| visit(self, number));
        let each = self.took / count;
        println!("{what:42} {:>6.0} µs, {:>6.0} a second and core", each.as_secs_f64() * 1e6, 1.0 / each.as_secs_f64());
    }
}

fn client(version: &'static SupportedProtocolVersion, resumes: bool) -> Arc<ClientConfig> {
    // What the client does is not measured.
    let mut config = believer(&[version]).expect("a version");
    if !resumes {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Arc::new(config)
}

fn main() {
    let mut bench = Bench::new();
    for (name, version) in [("1.3", &rustls::version::TLS13), ("1.2", &rustls::version::TLS12)] {
        for (kind, resumes) in [("full", false), ("resumed", true)] {
            let config = client(version, resumes);
            bench.visit(&config, 1);
            bench.measure(&format!("TLS {name}, {kind} handshake and a page"), 500, |bench, _| {
                bench.visit(&config, 1);
            });
        }
    }
    let config = client(&rustls::version::TLS13, false);
    bench.measure("TLS 1.3, full, a certificate made for it", 500, |bench, number| {
        bench.visit(&config, 1000 + number);
    });
    bench.visit(&config, 1);
    let before = HELD.load(Relaxed);
    let idle: Vec<Inline> = (0..200).map(|_| bench.visit(&config, 1)).collect();
    let (held, said) = (HELD.load(Relaxed) - before, idle[0].kept());
    println!("an idle connection keeps {} octets, and says that it keeps {said}", held / idle.len());
}
