//! From clear to TLS within a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::peers::{Lab, client, face, leaf, octets, say, settings, until};
use crate::relay::tape::{Entry, Reason, Stream, Text};
use crate::relay::tls::secrets::Secrets;
use crate::relay::tls::{Dialect, Inside, Settings};

fn starttls(dialect: Dialect, inside: Inside) -> Settings {
    Settings { starttls: Some(dialect), inside, alpn: Vec::new(), ..settings() }
}

#[tokio::test]
async fn a_server_in_clear_gets_what_is_said_within_tls() {
    let (mut stream, mut rest) = Lab::new(starttls(Dialect::Smtp, Inside::Clear)).raw();
    let mut service = rest.service().await;
    say(&mut service, b"220 mx\r\n").await;
    until(&mut stream, "220 mx\r\n").await;
    say(&mut stream, b"EHLO a\r\n").await;
    until(&mut service, "EHLO a\r\n").await;
    say(&mut service, b"250 mx\r\n").await;
    assert_eq!(until(&mut stream, "STARTTLS\r\n").await, "250-mx\r\n250 STARTTLS\r\n");
    // Somebody on the way has put in a command.
    say(&mut stream, b"STARTTLS\r\nMAIL FROM:<evil>\r\n").await;
    until(&mut stream, "220 2.0.0 Ready to start TLS\r\n").await;
    let name = ServerName::try_from("mx.example.org").unwrap();
    let mut within = TlsConnector::from(Arc::new(client(&[&TLS13], &[]))).connect(name, stream).await.unwrap();
    say(&mut within, b"EHLO b\r\n").await;
    assert_eq!(until(&mut service, "EHLO b\r\n").await, "EHLO b\r\n");
    drop((within, service));
    let told = rest.ended().await;
    assert_eq!(octets(&told, Stream::Input), "EHLO a\r\nSTARTTLS\r\nEHLO b\r\n");
    assert!(told.contains(&Entry::Upgrade { command: Text::new("STARTTLS") }), "{told:?}");
    let data = "MAIL FROM:<evil>\r\n".into();
    assert!(told.contains(&Entry::Discarded { stream: Stream::Input, data }), "{told:?}");
}

#[tokio::test]
async fn a_server_with_starttls_is_asked_for_it() {
    let (mut stream, mut rest) = Lab::new(starttls(Dialect::Imap, Inside::Tls)).raw();
    let mut service = rest.service().await;
    say(&mut service, b"* OK ready\r\n").await;
    until(&mut stream, "ready\r\n").await;
    say(&mut stream, b"a1 STARTTLS\r\n").await;
    until(&mut service, "a1 STARTTLS\r\n").await;
    // At first it does not want to.
    say(&mut service, b"a1 NO later\r\n").await;
    until(&mut stream, "later\r\n").await;
    say(&mut stream, b"a2 STARTTLS\r\n").await;
    until(&mut service, "a2 STARTTLS\r\n").await;
    say(&mut service, b"a2 OK now\r\n* BYE evil\r\n").await;
    assert_eq!(until(&mut stream, "now\r\n").await, "a2 OK now\r\n");
    let config = face(9, leaf(), false).config(None, Vec::new(), Arc::new(Secrets::default())).unwrap();
    let name = ServerName::try_from("mx.example.org").unwrap();
    let connecting = TlsConnector::from(Arc::new(client(&[&TLS13], &[]))).connect(name, stream);
    let (within, inside) = tokio::join!(connecting, TlsAcceptor::from(config).accept(service));
    let (mut within, mut inside) = (within.unwrap(), inside.unwrap());
    say(&mut within, b"a3 NOOP\r\n").await;
    until(&mut inside, "a3 NOOP\r\n").await;
    drop((within, inside));
    let told = rest.ended().await;
    assert_eq!(octets(&told, Stream::Output), "* OK ready\r\na1 NO later\r\na2 OK now\r\n");
    let data = "* BYE evil\r\n".into();
    assert!(told.contains(&Entry::Discarded { stream: Stream::Output, data }), "{told:?}");
}

#[tokio::test]
async fn without_an_upgrade_all_passes_in_clear() {
    let (mut stream, mut rest) = Lab::new(starttls(Dialect::Pop3, Inside::Clear)).raw();
    let mut service = rest.service().await;
    say(&mut service, b"+OK ready\r\n").await;
    say(&mut stream, b"USER a\r\nPASS b\r\nSTAT\r\n").await;
    until(&mut service, "USER a\r\n").await;
    say(&mut service, b"+OK\r\n").await;
    until(&mut service, "PASS b\r\n").await;
    say(&mut service, b"+OK in\r\n").await;
    until(&mut service, "STAT\r\n").await;
    say(&mut stream, b"QUIT").await;
    stream.shutdown().await.unwrap();
    let mut last = String::new();
    service.read_to_string(&mut last).await.unwrap();
    assert_eq!(last, "QUIT");
    say(&mut service, b"+OK bye\r\n").await;
    drop(service);
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "+OK ready\r\n+OK\r\n+OK in\r\n+OK bye\r\n");
    let told = rest.ended().await;
    assert_eq!(octets(&told, Stream::Output), got);
    assert_eq!(octets(&told, Stream::Input), "USER a\r\nPASS b\r\nSTAT\r\nQUIT");
}

#[tokio::test]
async fn who_goes_on_in_clear_after_the_upgrade_gets_an_alert() {
    let (mut stream, mut rest) = Lab::new(starttls(Dialect::Ftp, Inside::Clear)).raw();
    let mut service = rest.service().await;
    say(&mut service, b"220 ready\r\n").await;
    until(&mut stream, "ready\r\n").await;
    say(&mut stream, b"AUTH TLS\r\n").await;
    until(&mut stream, "234 Proceed with negotiation.\r\n").await;
    say(&mut stream, b"USER x\r\n").await;
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [21, 3, 3, 0, 2, 2, 10]);
    let mut heard = Vec::new();
    service.read_to_end(&mut heard).await.unwrap();
    assert!(heard.is_empty(), "{heard:?}");
    rest.ended().await;
}

#[tokio::test(start_paused = true)]
async fn silence_before_the_upgrade_ends() {
    let (stream, mut rest) = Lab::new(starttls(Dialect::Smtp, Inside::Clear)).raw();
    let service = rest.service().await;
    let told = rest.ended().await;
    assert!(
        matches!(&told[..], [Entry::End { reason: Reason::TimedOut, detail: Some(why) }] if *why == "silence for 300 s"),
        "{told:?}"
    );
    drop((stream, service));
}

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

#[tokio::test]
async fn postgresql_is_asked_only_when_there_is_a_hello() {
    for inside in [Inside::Clear, Inside::Tls] {
        let lab = Lab::new(starttls(Dialect::Postgres, inside));
        let dialed = lab.dialed.clone();
        let (mut stream, mut rest) = lab.raw();
        say(&mut stream, &GSS).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
        say(&mut stream, &SSL).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        assert_eq!(dialed.load(Ordering::Relaxed), 0);
        let name = ServerName::try_from("db.example.org").unwrap();
        let connecting = TlsConnector::from(Arc::new(client(&[&TLS13], &[]))).connect(name, stream);
        let config = face(9, leaf(), false).config(None, Vec::new(), Arc::new(Secrets::default())).unwrap();
        let serving = async {
            let mut service = rest.service().await;
            if inside == Inside::Clear {
                return until(&mut service, "startup").await;
            }
            let mut asked = [0; 8];
            service.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, SSL);
            say(&mut service, b"S").await;
            until(&mut TlsAcceptor::from(config).accept(service).await.unwrap(), "startup").await
        };
        let speaking = async {
            let mut within = connecting.await.unwrap();
            say(&mut within, b"startup").await;
            within
        };
        let (_, heard) = tokio::join!(speaking, serving);
        assert_eq!(heard, "startup");
        assert!(octets(&rest.ended().await, Stream::Input).ends_with("startup"));
    }
}

#[tokio::test]
async fn postgresql_without_tls_passes() {
    let (mut stream, mut rest) = Lab::new(starttls(Dialect::Postgres, Inside::Clear)).raw();
    say(&mut stream, b"\0\0\0\x15\0\x03\0\0user\0root\0\0").await;
    let mut service = rest.service().await;
    until(&mut service, "root\0\0").await;
    drop((service, stream));
    assert!(octets(&rest.ended().await, Stream::Input).ends_with("root\0\0"));
    // Who only asks is not listened to for ever.
    let (mut stream, rest) = Lab::new(starttls(Dialect::Postgres, Inside::Clear)).raw();
    for _ in 0..4 {
        say(&mut stream, &GSS).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
    }
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    rest.ended().await;
}
