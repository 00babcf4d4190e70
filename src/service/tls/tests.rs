//! A client of rustls's own and the adapter, joined octet by octet in virtual time.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    SupportedProtocolVersion,
};

use super::*;
use crate::emulate::{Identity, Secret, WallClock};
use crate::event::EventId;
use crate::service::{Caller, HttpSite, Inline, Page, Profile, Protocol, ServiceKind, Stream, Then};
use crate::wire::{Duration, Instant};

/// Takes any certificate, and looks at signatures all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn client_config(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let verifier = Arc::new(Anyone(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// What carries records: `room` octets leave at each call.
#[derive(Default)]
struct Wire {
    came: Vec<u8>,
    sent: Vec<u8>,
    room: usize,
    end: bool,
    told: Vec<(EventId, String)>,
}

impl Stream for Wire {
    fn peek(&mut self) -> &[u8] {
        &self.came[..self.came.len().min(8192)]
    }
    fn take(&mut self, n: usize) {
        self.came.drain(..n);
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room);
        self.sent.extend_from_slice(&bytes[..n]);
        n
    }
    fn at_end(&mut self) -> bool {
        self.end && self.came.is_empty()
    }
    fn is_last(&mut self) -> bool {
        self.end && self.came.len() <= 8192
    }
    fn tell(&mut self, id: EventId, data: &[u8]) {
        self.told.push((id, String::from_utf8_lossy(data).into_owned()));
    }
}

/// A service within TLS and what it needs.
struct Server {
    service: Service,
    inline: Inline,
    notary: Notary,
    wire: Wire,
    now: Instant,
    then: Then,
    /// Most that it kept.
    kept: usize,
}

fn site() -> ServiceKind {
    let page = |body: Vec<u8>| Page { content_type: "text/html".into(), body };
    let large: Vec<u8> = (0..100_000u32).map(|i| b'a' + (i % 23) as u8).collect();
    let pages = BTreeMap::from([("/".to_owned(), page(b"<h1>hi</h1>".to_vec())), ("/large".to_owned(), page(large))]);
    ServiceKind::Http(HttpSite { server: "nginx/1.22.1".into(), pages, ..HttpSite::default() })
}

impl Server {
    fn new(kind: ServiceKind, room: usize) -> Server {
        let notary = Notary::new(Identity::new(Secret([3; 16]), "web"), WallClock::default(), 1, 7);
        Server::with(kind, room, notary)
    }

    fn with(kind: ServiceKind, room: usize, notary: Notary) -> Server {
        let now = Instant::from_secs(1_700_000_000);
        let inner = Service { name: "inner".into(), kind };
        let secured = Secured { credentials: Credentials::Own(Box::default()), inner };
        let service = Service { name: "tls".into(), kind: ServiceKind::Tls(Box::new(secured)) };
        let inline = Inline::new(&service, Caller { from: [192, 0, 2, 9].into(), seed: 7, now }).unwrap();
        let wire = Wire { room, ..Wire::default() };
        Server { service, inline, notary, wire, now, then: Then::Stay, kept: 0 }
    }

    fn poll(&mut self) {
        if self.then == Then::Close {
            return;
        }
        let owner = |_: &Service| Owner { ip: [192, 0, 2, 1].into(), name: "web01".into(), service: 0 };
        self.then = self.inline.poll(&self.service, self.now, &mut self.wire);
        if self.inline.serve(&self.service, &mut self.notary, &owner, self.now) {
            self.then = self.inline.poll(&self.service, self.now, &mut self.wire);
        }
        self.kept = self.kept.max(self.inline.kept());
    }

    fn get(&mut self, bytes: &[u8]) {
        self.wire.came.extend_from_slice(bytes);
        self.poll();
    }
}

/// A client, and what it has heard.
struct Client {
    conn: ClientConnection,
    heard: Vec<u8>,
    /// It was told goodbye.
    is_over: bool,
    error: Option<Error>,
}

impl Client {
    fn new(config: Arc<ClientConfig>) -> Client {
        let conn = ClientConnection::new(config, "web01.example.org".try_into().unwrap()).unwrap();
        Client { conn, heard: Vec::new(), is_over: false, error: None }
    }

    fn say(&mut self, text: &str) {
        self.conn.writer().write_all(text.as_bytes()).unwrap();
    }

    fn records(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.conn.wants_write() {
            self.conn.write_tls(&mut out).unwrap();
        }
        out
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.error.is_none() {
            self.conn.read_tls(&mut bytes).unwrap();
            match self.conn.process_new_packets() {
                Ok(state) => self.is_over |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            // "Would block" is the end of what there is.
            let _ = self.conn.reader().read_to_end(&mut self.heard);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }
}

/// Carries octets to and fro in pieces of `piece` until nothing moves any more.
fn talk(client: &mut Client, server: &mut Server, piece: usize) {
    for _ in 0..20_000 {
        let said = client.records();
        for piece in said.chunks(piece) {
            server.get(piece);
        }
        server.poll();
        let answer = std::mem::take(&mut server.wire.sent);
        client.hear(&answer);
        if said.is_empty() && answer.is_empty() {
            return;
        }
    }
    panic!("they do not come to an end");
}

#[test]
fn pages_pass_in_both_versions_and_in_pieces_of_any_size() {
    for version in [&TLS12, &TLS13] {
        for (piece, room) in [(1, usize::MAX), (7, 13), (1000, 1000), (usize::MAX, usize::MAX)] {
            let mut server = Server::new(site(), room);
            let mut client = Client::new(client_config(&[version], &["h2", "http/1.1"]));
            client.say("GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n");
            talk(&mut client, &mut server, piece);
            let text = client.text();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"), "{piece} {room}: {text}");
            assert!(text.ends_with("<h1>hi</h1>") && text.len() > 100_000, "{piece} {room}");
            assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert!(client.is_over && server.then == Then::Close, "a goodbye, then the end");
            let ids: Vec<EventId> = server.wire.told.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, [EventId::TlsHello, EventId::ServiceRequest, EventId::ServiceRequest]);
            assert!(server.wire.told[0].1.contains(r#""sni":"web01.example.org","alpn":["h2","http/1.1"]"#));
            assert!(server.kept < 64 * 1024, "it kept {}", server.kept);
        }
    }
}

#[test]
fn whoever_waits_keeps_little() {
    let mut server = Server::new(site(), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS13], &[]));
    client.say("GET / HTTP/1.1\r\n\r\n");
    talk(&mut client, &mut server, usize::MAX);
    assert!(client.text().ends_with("<h1>hi</h1>") && server.then == Then::Stay);
    assert!(server.inline.kept() < 8 * 1024, "{}", server.inline.kept());
}

#[test]
fn a_service_that_speaks_first_waits_for_the_handshake() {
    let profile = Profile::new(Protocol::Imap, None);
    let mut server = Server::new(ServiceKind::Library(Box::new(profile)), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS13], &["h2"]));
    server.poll();
    assert!(server.wire.sent.is_empty());
    talk(&mut client, &mut server, 50);
    assert!(client.text().starts_with("* OK ["), "{}", client.text());
    assert_eq!(client.conn.alpn_protocol(), None);
    client.say("a LOGIN root toor\r\n");
    talk(&mut client, &mut server, 50);
    assert!(client.text().contains("a NO [AUTHENTICATIONFAILED]"));
    assert!(server.wire.told.iter().any(|(id, data)| *id == EventId::ServiceLogin && data.contains("toor")));
}

#[test]
fn a_client_that_hangs_up_half_way_ends_it() {
    for with_goodbye in [false, true] {
        let mut server = Server::new(site(), usize::MAX);
        let mut client = Client::new(client_config(&[&TLS13], &[]));
        talk(&mut client, &mut server, usize::MAX);
        client.say("GET / HT");
        if with_goodbye {
            client.conn.send_close_notify();
        }
        talk(&mut client, &mut server, usize::MAX);
        server.wire.end = true;
        server.poll();
        assert_eq!(server.then, Then::Close);
    }
    // A whole request is answered though the client has finished (RFC 8446 §6.1).
    let mut server = Server::new(site(), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS13], &[]));
    client.say("GET / HTTP/1.1\r\n\r\n");
    talk(&mut client, &mut server, 1);
    client.say("GET / HTTP/1.1\r\n\r\n");
    client.conn.send_close_notify();
    server.wire.end = true;
    talk(&mut client, &mut server, usize::MAX);
    assert_eq!(client.text().matches("<h1>hi</h1>").count(), 2);
    assert_eq!(server.then, Then::Close);
    // In the middle of a handshake there is nothing to answer.
    for len in [0, 3, 50] {
        let mut server = Server::new(site(), usize::MAX);
        let hello = Client::new(client_config(&[&TLS13], &[])).records();
        server.get(&hello[..len]);
        assert_eq!(server.then, Then::Stay);
        server.wire.end = true;
        server.poll();
        assert_eq!(server.then, Then::Close, "{len}");
    }
}

#[test]
fn sessions_are_resumed_with_the_same_host_only() {
    for version in [&TLS12, &TLS13] {
        let config = client_config(&[version], &[]);
        let mut kinds = Vec::new();
        for secret in [3, 3, 4] {
            let notary = Notary::new(Identity::new(Secret([secret; 16]), "web"), WallClock::default(), 1, 7);
            let mut server = Server::with(site(), usize::MAX, notary);
            let mut client = Client::new(config.clone());
            client.say("GET / HTTP/1.1\r\n\r\n");
            talk(&mut client, &mut server, usize::MAX);
            assert!(client.text().ends_with("<h1>hi</h1>"), "{:?}", client.error);
            kinds.push(client.conn.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed), Some(HandshakeKind::Full)]);
    }
}

#[test]
fn requests_in_clear_are_answered_as_the_product_does() {
    let answer = |server: &str, request: &[u8]| {
        let site = HttpSite { server: server.into(), ..HttpSite::default() };
        let mut server = Server::new(ServiceKind::Http(site), usize::MAX);
        server.get(request);
        (String::from_utf8(server.wire.sent).unwrap(), server.then)
    };
    let (said, then) = answer("nginx/1.22.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\n"), "{said}");
    assert!(said.contains("<title>400 The plain HTTP request was sent to HTTPS port</title>"), "{said}");
    assert_eq!(then, Then::Close);
    let (said, _) = answer("Apache/2.4.62 (Debian)", b"GET / HTTP/1.0\r\n\r\n");
    assert!(said.contains("You're speaking plain HTTP to an SSL-enabled server port."), "{said}");
    let (said, _) = answer("nginx/1.22.1", b"\x01\x02\r\n\r\n");
    assert!(said.contains("<title>400 Bad Request</title>"), "{said}");
    assert_eq!(answer("lighttpd/1.4.69", b"GET / HTTP/1.1\r\n\r\n"), (String::new(), Then::Close));
    let mut mail = Server::new(ServiceKind::Library(Box::new(Profile::new(Protocol::Imap, None))), usize::MAX);
    mail.get(b"a LOGIN b c\r\n");
    assert_eq!((mail.wire.sent.len(), mail.then), (0, Then::Close));
}

#[test]
fn nobody_is_waited_for_longer_than_a_minute() {
    let hello = Client::new(client_config(&[&TLS13], &[])).records();
    for said in [&hello[..0], &hello[..20], &hello[..]] {
        let mut server = Server::new(site(), usize::MAX);
        server.get(said);
        let start = server.now;
        let end = start + Duration::from_secs(60);
        assert_eq!(server.inline.deadline(&server.service), Some(end), "{}", said.len());
        server.now = end - Duration::from_millis(1);
        server.get(b"");
        assert_eq!(server.then, Then::Stay);
        server.now = end;
        server.get(b"");
        assert_eq!(server.then, Then::Close, "{}", said.len());
    }
    // Whoever takes nothing of an answer is left, too.
    let mut server = Server::new(site(), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS13], &[]));
    talk(&mut client, &mut server, usize::MAX);
    server.wire.room = 0;
    client.say("GET /large HTTP/1.1\r\n\r\n");
    talk(&mut client, &mut server, usize::MAX);
    for _ in 0..2 {
        server.now = server.inline.deadline(&server.service).unwrap();
        server.poll();
    }
    assert_eq!(server.then, Then::Close);
}

#[test]
fn a_flood_of_hellos_waits_and_is_cut() {
    let hello = Client::new(client_config(&[&TLS13], &[])).records();
    let mut notary = Notary::new(Identity::new(Secret([3; 16]), "web"), WallClock::default(), 1, 7);
    let (mut answered, mut waiting, mut closed) = (0, 0, 0);
    for _ in 0..3000 {
        let mut server = Server::with(site(), usize::MAX, notary);
        server.get(&hello);
        match (server.then, server.wire.sent.is_empty()) {
            (Then::Stay, false) => answered += 1,
            (Then::Stay, true) => {
                waiting += 1;
                assert!(server.inline.kept() < 1024, "{}", server.inline.kept());
                assert!(
                    server.inline.deadline(&server.service).is_some_and(|at| at <= server.now + Duration::from_secs(2))
                );
            }
            (Then::Close, _) => closed += 1,
        }
        notary = server.notary;
    }
    // One source: a burst at once, what two seconds bring waits, the others are left.
    assert!(
        (10..17).contains(&answered) && (990..1010).contains(&waiting) && closed > 1900,
        "{answered} {waiting} {closed}"
    );
    let mut server = Server::with(site(), usize::MAX, notary);
    server.now += Duration::from_secs(10);
    server.get(&hello);
    assert!(!server.wire.sent.is_empty(), "then there is room again");
}

#[test]
fn records_that_are_too_large_or_never_whole_end_it() {
    let start = |version| {
        let mut server = Server::new(site(), usize::MAX);
        let mut client = Client::new(client_config(&[version], &[]));
        talk(&mut client, &mut server, usize::MAX);
        assert_eq!(server.then, Then::Stay);
        server
    };
    for version in [&TLS12, &TLS13] {
        let mut server = start(version);
        server.get(&[23, 3, 3, 255, 255]);
        server.get(&[0; 40_000]);
        assert_eq!(server.then, Then::Close, "a record of 64 KiB");
        let mut server = start(version);
        for _ in 0..40 {
            server.get(&[[23, 3, 3, 0x40, 0].as_slice(), &[0; 0x4000]].concat());
        }
        assert_eq!(server.then, Then::Close, "nothing that was encrypted by the client");
        assert!(server.kept < 64 * 1024, "{}", server.kept);
    }
    // A message of the handshake that goes on for ever.
    let mut server = Server::new(site(), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS12], &[]));
    server.get(&client.records());
    for number in 0..40 {
        let fragment = if number == 0 { [16, 0, 0xff, 0xff].as_slice() } else { &[0; 4] };
        server.get(&[[22, 3, 3, 0x10, 0].as_slice(), fragment, &[0; 0x0ffc]].concat());
    }
    assert_eq!(server.then, Then::Close);
    assert!(server.kept < 48 * 1024, "{}", server.kept);
    let _ = client.conn.process_new_packets();
}

#[test]
fn what_failed_says_why_and_stops() {
    let mut server = Server::new(site(), usize::MAX);
    let mut client = Client::new(client_config(&[&TLS13], &["h2x"]));
    talk(&mut client, &mut server, usize::MAX);
    assert_eq!(client.error, Some(Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)));
    assert_eq!(server.then, Then::Close);
    let mut broken = Server::new(site(), usize::MAX);
    broken.get(&[22, 3, 1, 0, 4, 2, 0, 0, 0]);
    assert_eq!((&broken.wire.sent[..], broken.then), (&[21, 3, 3, 0, 2, 2, 50][..], Then::Close));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_octets_end_it_or_are_awaited(
        tls12: bool,
        keep in 0usize..2000,
        noise in prop::collection::vec(any::<u8>(), 0..6000),
        piece in 1usize..3000,
        room in prop::sample::select(vec![0, 1, 100, usize::MAX]),
        finished: bool,
    ) {
        let version = if tls12 { &TLS12 } else { &TLS13 };
        let mut server = Server::new(site(), usize::MAX);
        let mut client = Client::new(client_config(&[version], &[]));
        if finished {
            talk(&mut client, &mut server, usize::MAX);
        }
        client.conn.refresh_traffic_keys().ok();
        client.conn.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut said = client.records();
        said.truncate(keep);
        said.extend_from_slice(&noise);
        server.wire.room = room;
        for piece in said.chunks(piece) {
            server.get(piece);
        }
        prop_assert!(server.kept < 64 * 1024, "{}", server.kept);
        server.wire.end = true;
        server.wire.room = usize::MAX;
        for _ in 0..4 {
            server.poll();
        }
        prop_assert_eq!(server.then, Then::Close);
    }
}
