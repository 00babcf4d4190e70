//! What passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::{Lab, client, octets, say, server, settings, until};
use crate::relay::tape::{Entry, Reason, Stream, Text};
use crate::relay::tls::{Inside, Settings};

#[tokio::test]
async fn what_passes_in_clear_is_recorded_in_both_versions() {
    for (version, number, lines) in [(&TLS12, 0x0303, 1), (&TLS13, 0x0304, 5)] {
        let lab = Lab::new(settings());
        let (stream, mut rest) = lab.connect(client(&[version], &["h2", "http/1.1"])).await;
        let mut stream = stream.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        say(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await;
        let mut service = rest.service().await;
        assert_eq!(until(&mut service, "\r\n\r\n").await, "GET / HTTP/1.1\r\n\r\n");
        say(&mut service, b"HTTP/1.1 200 OK\r\n\r\n").await;
        drop(service);
        let mut got = String::new();
        // Told goodbye: it is no error.
        stream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "HTTP/1.1 200 OK\r\n\r\n");
        stream.shutdown().await.unwrap();
        let told = rest.ended().await;
        let [hello, secrets, agreed, .., end] = &told[..] else { panic!("{told:?}") };
        let Entry::TlsHello { sni, alpn, versions, ja3, ja4 } = hello else { panic!("{hello:?}") };
        assert_eq!(sni.as_ref().unwrap(), &"shop.example.org");
        assert_eq!(alpn, &["h2", "http/1.1"].map(Text::new));
        assert!(versions.contains(&number) && ja3.len() == 32 && ja4.len() == 36, "{hello:?}");
        let Entry::TlsSecrets { lines: text } = secrets else { panic!("{secrets:?}") };
        assert_eq!((text.lines().count(), text.contains("CLIENT_RANDOM ")), (lines, number == 0x0303), "{text}");
        assert!(
            matches!(agreed, Entry::TlsAgreed { version, alpn: Some(alpn), resumed: false, .. }
                if *version == number && *alpn == "http/1.1"),
            "{agreed:?}"
        );
        assert_eq!(octets(&told, Stream::Input), "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(octets(&told, Stream::Output), "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(end, &Reason::ServerClosed.end());
    }
}

#[tokio::test]
async fn nothing_inside_is_opened_before_keys_are_agreed_on() {
    let lab = Lab::new(settings());
    let dialed = lab.dialed.clone();
    // It leaves within the handshake: that much anybody can see of a host.
    let mut config = client(&[&TLS12], &[]);
    config.alpn_protocols = vec![b"xyz".to_vec()];
    let (stream, rest) = lab.connect(config).await;
    assert!(stream.is_err());
    let told = rest.ended().await;
    assert_eq!(dialed.load(Ordering::Relaxed), 0);
    assert!(matches!(told.last(), Some(Entry::End { reason: Reason::NoAgreement, .. })), "{told:?}");
}

#[tokio::test]
async fn a_host_with_tls_inside_chooses_what_is_spoken() {
    for (offered, inside, chosen) in [
        (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], Some("h2")),
        (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        (&["h2"], &[], None),
        (&[], &["h2"], None),
    ] {
        let lab = Lab::new(Settings { inside: Inside::Tls, ..settings() });
        let (both, rest) = lab.connect_with(client(&[&TLS13], offered), server(inside)).await;
        let (mut stream, mut service) = both.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?} {inside:?}");
        assert_eq!(service.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        assert_eq!(service.get_ref().1.server_name(), Some("shop.example.org"));
        say(&mut stream, b"hello").await;
        assert_eq!(until(&mut service, "hello").await, "hello");
        drop((stream, service));
        let told = rest.ended().await;
        assert_eq!(octets(&told, Stream::Input), "hello");
    }
}

#[tokio::test]
async fn what_is_refused_inside_is_refused_outside() {
    let lab = Lab::new(Settings { inside: Inside::Tls, ..settings() });
    let (both, rest) = lab.connect_with(client(&[&TLS13], &["h2"]), server(&["imap"])).await;
    let error = both.unwrap_err();
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    assert_eq!(error, Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    let told = rest.ended().await;
    assert!(matches!(&told[..], [Entry::TlsHello { .. }, Entry::Unreachable { .. }, Entry::End { .. }]), "{told:?}");
}

#[tokio::test]
async fn either_side_ends_as_the_other_does() {
    for is_bare in [false, true] {
        // From inside.
        let lab = Lab::new(Settings { inside: Inside::Tls, ..settings() });
        let (both, rest) = lab.connect_with(client(&[&TLS13], &[]), server(&[])).await;
        let (mut stream, mut service) = both.unwrap();
        say(&mut service, b"x").await;
        match is_bare {
            true => service.get_mut().0.shutdown().await.unwrap(),
            false => service.shutdown().await.unwrap(),
        }
        let mut got = Vec::new();
        assert_eq!(stream.read_to_end(&mut got).await.is_err(), is_bare, "{is_bare}");
        assert_eq!(got, b"x");
        // The other way is still open, and ends likewise.
        say(&mut stream, b"y").await;
        match is_bare {
            true => stream.get_mut().0.shutdown().await.unwrap(),
            false => stream.shutdown().await.unwrap(),
        }
        let mut got = Vec::new();
        assert_eq!(service.read_to_end(&mut got).await.is_err(), is_bare, "{is_bare}");
        assert_eq!(got, b"y");
        rest.ended().await;
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_still_hears() {
    let (stream, mut rest) = Lab::new(settings()).connect(client(&[&TLS13], &[])).await;
    let mut stream = stream.unwrap();
    say(&mut stream, b"request").await;
    stream.shutdown().await.unwrap();
    let mut service = rest.service().await;
    let mut got = String::new();
    service.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "request");
    let answering = async move {
        say(&mut service, &[b'z'; 100_000]).await;
        drop(service);
    };
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(stream.read_to_end(&mut got), answering);
    assert_eq!(read.unwrap(), 100_000);
    assert_eq!(octets(&rest.ended().await, Stream::Output).len(), 100_000);
}

/// Who has gone without ending its side is not waited for: an hour passes.
#[tokio::test(start_paused = true)]
async fn who_stays_when_the_other_has_gone_is_given_up() {
    let (stream, mut rest) = Lab::new(settings()).connect(client(&[&TLS13], &[])).await;
    let stream = stream.unwrap();
    drop(rest.service().await);
    let told = rest.ended().await;
    assert_eq!(told.last(), Some(&Reason::ServerClosed.end()));
    drop(stream);
    let (stream, mut rest) = Lab::new(settings()).connect(client(&[&TLS13], &[])).await;
    let mut stream = stream.unwrap();
    stream.shutdown().await.unwrap();
    let service = rest.service().await;
    rest.ended().await;
    drop((stream, service));
}

#[tokio::test]
async fn a_slow_reader_is_waited_for() {
    // Either side says more than is taken; of 4 MB only what pipes and buffers hold is taken.
    const MUCH: usize = 4 << 20;
    for from_inside in [true, false] {
        let (stream, mut rest) = Lab::new(settings()).connect(client(&[&TLS13], &[])).await;
        let mut stream = stream.unwrap();
        let mut service = rest.service().await;
        let (mut sent, piece) = (0, vec![7; 4096]);
        let patience = std::time::Duration::from_millis(300);
        loop {
            let sending = async {
                match from_inside {
                    true => service.write(&piece).await,
                    false => stream.write(&piece).await,
                }
            };
            match tokio::time::timeout(patience, sending).await {
                Ok(n) => sent += n.unwrap(),
                Err(_) => break,
            }
            assert!(sent < MUCH);
        }
        // Two pipes, a chunk, what rustls keeps on either side of it.
        assert!(sent < 512 * 1024, "{sent}");
        let mut all = vec![0; sent];
        match from_inside {
            true => _ = stream.read_exact(&mut all).await.unwrap(),
            false => _ = tokio::try_join!(stream.flush(), service.read_exact(&mut all)).unwrap(),
        }
        drop((stream, service));
        rest.ended().await;
    }
}

#[tokio::test]
async fn sessions_are_resumed_by_tickets() {
    for version in [&TLS12, &TLS13] {
        let settings = Arc::new(settings());
        let config = client(&[version], &["http/1.1"]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (stream, mut rest) = Lab::of(settings.clone()).connect(config.clone()).await;
            let mut stream = stream.unwrap();
            let mut service = rest.service().await;
            say(&mut service, b"x").await;
            until(&mut stream, "x").await;
            kinds.push(stream.get_ref().1.handshake_kind());
            drop((stream, service));
            let told = rest.ended().await;
            let resumed = told.iter().any(|entry| matches!(entry, Entry::TlsAgreed { resumed: true, .. }));
            assert_eq!(resumed, kinds.len() == 2, "{told:?}");
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    }
}
