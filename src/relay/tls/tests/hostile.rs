//! Who does not want to get on.

use std::sync::atomic::Ordering;

use rustls::ClientConnection;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::{Lab, client, octets, say, settings, until};
use crate::relay::tape::{Entry, Reason, Stream};
use crate::relay::tls::{Foreign, Settings};

const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// A ClientHello of rustls's, as one record.
pub(super) fn hello() -> Vec<u8> {
    let config = client(&[&TLS13], &["http/1.1"]);
    let mut client = ClientConnection::new(config.into(), "shop.example.org".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The same in records of so many octets.
fn fragmented(size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    hello()[5..].chunks(size).flat_map(record).collect()
}

/// What comes back if the middle gets this and nothing more, and what is told.
async fn answer(settings: Settings, what: &[u8]) -> (Vec<u8>, Vec<Entry>) {
    let lab = Lab::new(settings);
    let dialed = lab.dialed.clone();
    let (mut stream, rest) = lab.raw();
    // It may end before it has heard everything.
    let _ = stream.write_all(what).await;
    let _ = stream.shutdown().await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    let told = rest.ended().await;
    assert_eq!(dialed.load(Ordering::Relaxed), 0);
    (got, told)
}

#[tokio::test]
async fn a_hello_may_come_octet_by_octet_and_in_many_records() {
    for octets in [hello(), fragmented(10), fragmented(50)] {
        let (mut stream, mut rest) = Lab::new(settings()).raw();
        for octet in octets {
            say(&mut stream, &[octet]).await;
            tokio::task::yield_now().await;
        }
        // A ServerHello.
        assert_eq!(stream.read_u8().await.unwrap(), 22);
        drop(stream);
        assert!(rest.try_service().is_none());
        assert!(matches!(rest.ended().await[0], Entry::TlsHello { .. }));
    }
}

#[tokio::test]
async fn garbage_is_kept_and_answered_by_an_alert() {
    let mut long = hello();
    // 64 KiB are announced, and come.
    long[5..9].copy_from_slice(&[1, 0, 255, 255]);
    long.resize(65_536, 0);
    let mut cut = hello();
    cut[43] = 255;
    for broken in [&[22, 3, 1, 0, 0][..], &[22, 3, 1, 255, 255], &fragmented(2), &long, &cut] {
        let (got, told) = answer(settings(), broken).await;
        assert_eq!(got, DECODE_ERROR, "{:?}", &broken[..5]);
        assert!(matches!(&told[..], [Entry::Strange { .. }, .., Entry::End { .. }]), "{told:?}");
    }
    // One that is whole, and too old; and one that has nothing that TLS 1.2 needs.
    for (version, alert) in [(1, 70), (3, 40)] {
        let (got, told) = answer(settings(), &bare_hello(version)).await;
        assert_eq!((got[0], got[6]), (21, alert), "{got:?}");
        assert!(matches!(&told[..], [Entry::TlsHello { .. }, Entry::End { .. }]), "{told:?}");
    }
}

/// Of TLS 1.0 as version 1, and so on, without extensions.
fn bare_hello(version: u8) -> Vec<u8> {
    hello_record(&[&[3, version][..], &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat())
}

/// What stands in a ClientHello, as one record.
pub(super) fn hello_record(body: &[u8]) -> Vec<u8> {
    let length = |octets: usize| (octets as u16).to_be_bytes();
    [&[22, 3, 1][..], &length(4 + body.len()), &[1, 0], &length(body.len()), body].concat()
}

#[tokio::test]
async fn who_leaves_within_a_hello_is_told_of() {
    let half = &hello()[..100];
    let (got, told) = answer(settings(), half).await;
    assert!(got.is_empty());
    assert!(matches!(&told[..], [Entry::Strange { .. }, Entry::Data { data, .. }, _] if data == half), "{told:?}");
    let (_, told) = answer(settings(), b"").await;
    assert!(matches!(&told[..], [Entry::End { .. }]), "{told:?}");
}

#[tokio::test]
async fn who_speaks_in_clear_is_answered_as_the_settings_say() {
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let (got, told) = answer(Settings { foreign: Foreign::Close, ..settings() }, request).await;
    assert!(got.is_empty());
    assert_eq!(octets(&told, Stream::Input).as_bytes(), request);
    let (got, told) = answer(Settings { foreign: Foreign::Web("nginx/1.22.1".into()), ..settings() }, request).await;
    let got = String::from_utf8(got).unwrap();
    // Without a `Host`, that is no request.
    assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nDate: Fri, 15 Jan 2027"), "{got}");
    assert_eq!(octets(&told, Stream::Input).as_bytes(), request);
    assert_eq!(octets(&told, Stream::Output), got);
    assert!(matches!(told[0], Entry::Strange { .. }), "{told:?}");
    let (mut stream, mut rest) = Lab::new(settings()).raw();
    say(&mut stream, request).await;
    let mut service = rest.service().await;
    assert_eq!(until(&mut service, "\r\n\r\n").await.as_bytes(), request);
    say(&mut service, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    drop(service);
    until(&mut stream, "Bad Request\r\n\r\n").await;
    drop(stream);
    let told = rest.ended().await;
    assert!(matches!(told[0], Entry::Strange { .. }), "{told:?}");
    assert_eq!(octets(&told, Stream::Output), "HTTP/1.1 400 Bad Request\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_clear_may_come_octet_by_octet_but_not_for_long() {
    let web = || Settings { foreign: Foreign::Web("nginx/1.22.1".into()), ..settings() };
    let request = b"GET / HTTP/1.1\r\nHost: shop.example.org\r\n\r\n";
    let (mut stream, rest) = Lab::new(web()).raw();
    for octet in request {
        say(&mut stream, &[*octet]).await;
        tokio::task::yield_now().await;
    }
    assert!(until(&mut stream, "</html>").await.contains("The plain HTTP request was sent to HTTPS port"));
    drop(stream);
    assert_eq!(octets(&rest.ended().await, Stream::Input).as_bytes(), request);
    // Half of it, and one without an end.
    for part in [request[..20].to_vec(), [&b"GET /"[..], &[b'a'; 20_000]].concat()] {
        let (mut stream, rest) = Lab::new(web()).raw();
        let start = tokio::time::Instant::now();
        let _ = stream.write_all(&part).await;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        drop(stream);
        let told = rest.ended().await;
        assert!(octets(&told, Stream::Input).len() <= 8192 && start.elapsed().as_secs() <= 66);
        assert_eq!(got.is_empty(), part.len() < 8192, "{got:?}");
    }
}

/// An octet every ten seconds; time flies.
#[tokio::test(start_paused = true)]
async fn a_handshake_takes_a_minute_at_most() {
    for what in [vec![], hello()] {
        let (mut stream, rest) = Lab::new(settings()).raw();
        let start = tokio::time::Instant::now();
        let slowly = async {
            for octet in what.iter().take(40) {
                let _ = stream.write_all(&[*octet]).await;
                tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            }
            std::future::pending::<()>().await
        };
        let told = tokio::select! {
            told = rest.ended() => told,
            () = slowly => unreachable!(),
        };
        let took = start.elapsed().as_secs();
        assert!((60..=66).contains(&took), "{took}");
        assert!(
            matches!(told.last(), Some(Entry::End { reason: Reason::TimedOut, detail: Some(why) }) if why.as_str().contains("60 s")),
            "{told:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_within_the_handshake_is_given_up() {
    let (mut stream, rest) = Lab::new(settings()).raw();
    say(&mut stream, &hello()).await;
    let told = rest.ended().await;
    let lines = told.iter().any(|entry| matches!(entry, Entry::TlsSecrets { .. }));
    assert!(lines, "{told:?}");
    assert!(
        matches!(told.last(), Some(Entry::End { reason: Reason::TimedOut, detail: Some(why) }) if *why == "no agreement for 60 s"),
        "{told:?}"
    );
}
