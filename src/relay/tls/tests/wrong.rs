//! Octets that no client would send: whatever comes, the connection has one end, soon, and what is inside hears nothing
//! that the client has not said within TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::hostile::{hello, hello_record};
use super::peers::{Lab, WIRE, client, octets, say, server, settings};
use crate::relay::tape::{Entry, Stream};
use crate::relay::tls::{Dialect, Foreign, Inside, Settings};

/// A minute for the handshake, and what who is told of its end has to leave.
const AGREED_BY: Duration = Duration::from_secs(66);
/// How long a client waits that hears nothing.
const PATIENCE: Duration = Duration::from_secs(100);
/// What it says, each in a record of its own.
const SAID: [&[u8]; 3] = [b"GET / HTTP/1.1\r\n", b"Host: shop.example.org\r\n", b"\r\n"];
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// What becomes of a client's stream.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Nothing,
    /// The octet at this place is another one.
    Octet(usize, u8),
    /// It ends before the octet at this place.
    Cut(usize),
    /// Nothing comes from there on, and it stays open.
    Stuck(usize),
}

/// What came of it.
struct Outcome {
    told: Vec<Entry>,
    /// Connections that were opened inside.
    dialed: usize,
    /// What is inside has heard so much, within TLS where it speaks that.
    heard: Vec<u8>,
    /// Octets of the client's.
    passed: usize,
    took: Duration,
}

impl Outcome {
    fn is_agreed(&self) -> bool {
        self.told.iter().any(|entry| matches!(entry, Entry::TlsAgreed { .. }))
    }
}

/// Settings of a middle that lets nothing pass in clear.
fn strict(inside: Inside) -> Arc<Settings> {
    Arc::new(Settings { inside, foreign: Foreign::Close, ..settings() })
}

/// Passes a client's octets on until it has gone, all but what is to be wrong with them; tells how many there were.
async fn pass(ours: DuplexStream, middle: DuplexStream, wrong: Wrong) -> usize {
    let (mut from, mut to) = tokio::io::split(ours);
    let (mut back, mut wire) = tokio::io::split(middle);
    let (mut passed, mut piece) = (0, [0; 512]);
    let mut is_cut = false;
    let inward = async {
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let mut piece = &mut piece[..count];
            match wrong {
                Wrong::Nothing => {}
                Wrong::Octet(at, flip) => {
                    if let Some(octet) = at.checked_sub(passed).and_then(|at| piece.get_mut(at)) {
                        *octet ^= flip;
                    }
                }
                Wrong::Cut(at) | Wrong::Stuck(at) => {
                    let left = at.saturating_sub(passed).min(count);
                    piece = &mut piece[..left];
                    is_cut = matches!(wrong, Wrong::Cut(_)) && left < count;
                }
            }
            passed += count;
            if !piece.is_empty() && wire.write_all(piece).await.is_err() {
                break;
            }
            if is_cut {
                let _ = wire.shutdown().await;
            }
        }
        // The client has gone, or given up.
        let _ = wire.shutdown().await;
    };
    let outward = async {
        let _ = tokio::io::copy(&mut back, &mut to).await;
        let _ = to.shutdown().await;
    };
    tokio::join!(inward, outward);
    passed
}

/// What is inside: it hears everything, and answers a whole request.
async fn listen<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut service: S) -> Vec<u8> {
    let (mut heard, mut is_answered) = (Vec::new(), false);
    while let Ok(1..) = service.read_buf(&mut heard).await {
        if !is_answered && heard.ends_with(b"\r\n\r\n") {
            is_answered = true;
            let _ = service.write_all(ANSWER).await;
            let _ = service.flush().await;
        }
    }
    let _ = service.shutdown().await;
    heard
}

async fn outcome(settings: Arc<Settings>, version: &'static SupportedProtocolVersion, wrong: Wrong) -> Outcome {
    let inside = settings.inside;
    let lab = Lab::of(settings);
    let (dialed, start) = (lab.dialed.clone(), Instant::now());
    let (middle, mut rest) = lab.raw();
    let (theirs, ours) = tokio::io::duplex(WIRE);
    let passing = tokio::spawn(pass(ours, middle, wrong));
    let talking = tokio::spawn(timeout(PATIENCE, async move {
        let connector = TlsConnector::from(Arc::new(client(&[version], &["http/1.1"])));
        let mut stream = connector.connect(ServerName::try_from("shop.example.org").unwrap(), theirs).await?;
        for line in SAID {
            stream.write_all(line).await?;
            stream.flush().await?;
        }
        let mut answer = vec![0; ANSWER.len()];
        stream.read_exact(&mut answer).await?;
        stream.shutdown().await
    }));
    let heard = match rest.opened().await {
        None => Vec::new(),
        Some(service) if inside == Inside::Clear => listen(service).await,
        Some(service) => match server(&["http/1.1"]).accept(service).await {
            Ok(service) => listen(service).await,
            Err(_) => Vec::new(),
        },
    };
    let told = rest.ended().await;
    let took = start.elapsed();
    let _ = talking.await.unwrap();
    Outcome { told, dialed: dialed.load(Ordering::Relaxed), heard, passed: passing.await.unwrap(), took }
}

/// What holds whatever was wrong.
fn check(outcome: &Outcome, inside: Inside, what: &dyn std::fmt::Debug) {
    let Outcome { told, dialed, heard, passed: _, took } = outcome;
    assert!(matches!(told.last(), Some(Entry::End { .. })), "{what:?}: {told:?}");
    assert_eq!(told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count(), 1, "{what:?}: {told:?}");
    // Who goes on after an agreement has the time of the protocol within.
    assert!(*took <= if outcome.is_agreed() { PATIENCE + AGREED_BY } else { AGREED_BY }, "{what:?}: {took:?}");
    let said = SAID.concat();
    assert!(said.starts_with(heard), "{what:?}: {}", String::from_utf8_lossy(heard));
    if !outcome.is_agreed() {
        assert!(heard.is_empty(), "{what:?}: {heard:?}");
        // One that speaks TLS is asked as soon as there is a ClientHello; in clear nobody is, before there are keys.
        let has_hello = told.iter().any(|entry| matches!(entry, Entry::TlsHello { .. }));
        assert!(*dialed <= usize::from(has_hello && inside == Inside::Tls), "{what:?}: {told:?}");
    } else {
        assert!(said.starts_with(octets(told, Stream::Input).as_bytes()), "{what:?}: {told:?}");
    }
}

/// Of a client's stream each octet is another one once, is missing with all that follows, or is waited for.
#[tokio::test(start_paused = true)]
async fn one_octet_that_is_wrong_or_missing_has_an_end_and_says_nothing() {
    for version in [&TLS12, &TLS13] {
        for inside in [Inside::Clear, Inside::Tls] {
            let settings = strict(inside);
            let whole = outcome(settings.clone(), version, Wrong::Nothing).await;
            check(&whole, inside, &"whole");
            assert_eq!((whole.dialed, &whole.heard), (1, &SAID.concat()), "{:?}", whole.told);
            let mut spoiled = 0;
            for at in 0..whole.passed {
                for wrong in [Wrong::Octet(at, 1 << (at % 8)), Wrong::Cut(at), Wrong::Stuck(at)] {
                    let outcome = outcome(settings.clone(), version, wrong).await;
                    check(&outcome, inside, &(version, inside, wrong));
                    spoiled += usize::from(outcome.heard != SAID.concat());
                }
            }
            // All but what stands behind the request, and the minor versions that nobody looks at.
            assert!(spoiled > 2 * whole.passed, "{spoiled} of {}", whole.passed);
        }
    }
}

#[test]
fn any_octet_that_is_any_other_has_an_end_and_says_nothing() {
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let story = (0..800usize, 1..=255u8, any::<bool>(), any::<bool>());
    let tried = runner.run(&story, |(at, flip, is_old, is_clear)| {
        let inside = if is_clear { Inside::Clear } else { Inside::Tls };
        let version = if is_old { &TLS12 } else { &TLS13 };
        let wrong = Wrong::Octet(at, flip);
        let outcome = runtime().block_on(outcome(strict(inside), version, wrong));
        check(&outcome, inside, &wrong);
        Ok(())
    });
    tried.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// What is told of a client that says this and then closes, or stays; how often a connection was opened inside, and how
/// many octets were taken.
async fn told_of(settings: Settings, said: &[u8], stays: bool) -> (Vec<Entry>, usize, usize) {
    let lab = Lab::new(settings);
    let (dialed, start) = (lab.dialed.clone(), Instant::now());
    let (stream, rest) = lab.raw();
    let (mut back, mut wire) = tokio::io::split(stream);
    let talking = async {
        let mut taken = 0;
        for piece in said.chunks(512) {
            if wire.write_all(piece).await.is_err() {
                break;
            }
            taken += piece.len();
        }
        if !stays {
            let _ = wire.shutdown().await;
        }
        taken
    };
    let hearing = async {
        let mut heard = Vec::new();
        let _ = back.read_to_end(&mut heard).await;
        heard
    };
    let (told, taken, _) = tokio::join!(rest.ended(), talking, hearing);
    assert!(start.elapsed() <= AGREED_BY, "{:?}", start.elapsed());
    assert!(matches!(told.last(), Some(Entry::End { .. })), "{told:?}");
    (told, dialed.load(Ordering::Relaxed), taken)
}

/// A record with a length of its own, or the right one.
fn record(kind: u8, version: [u8; 2], announced: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let length = announced.unwrap_or(payload.len() as u16);
    [&[kind][..], &version, &length.to_be_bytes(), payload].concat()
}

#[test]
fn whatever_comes_in_place_of_a_handshake_has_an_end() {
    let beginning = prop_oneof![
        Just(hello()),
        Just(Vec::new()),
        // One with which nobody can agree.
        Just(hello_record(&[&[3, 3][..], &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat())),
        (0..200usize).prop_map(|at| hello()[..at].to_vec()),
    ];
    let kind = prop_oneof![4 => 20..25u8, 1 => any::<u8>()];
    let version = prop_oneof![4 => Just([3, 3]), 1 => Just([3, 1]), 1 => any::<[u8; 2]>()];
    let announced = prop_oneof![4 => Just(None), 1 => any::<u16>().prop_map(Some)];
    // A message of a handshake with its length, or anything.
    let message = (0..25u8, proptest::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(kind, body)| [&[kind, 0, 0, body.len() as u8][..], &body].concat());
    let payload = prop_oneof![message, proptest::collection::vec(any::<u8>(), 0..400)];
    let records = proptest::collection::vec((kind, version, announced, payload), 0..5);
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&(beginning, records, any::<bool>()), |(mut said, records, stays)| {
        for (kind, version, announced, payload) in records {
            said.extend(record(kind, version, announced, &payload));
        }
        let settings = Settings { foreign: Foreign::Close, ..settings() };
        let (told, dialed, _) = runtime().block_on(told_of(settings, &said, stays));
        prop_assert!(!told.iter().any(|entry| matches!(entry, Entry::TlsAgreed { .. })), "{told:?}");
        prop_assert_eq!(dialed, 0);
        Ok(())
    });
    tried.unwrap();
}

/// In two records, and in one that comes in two pieces.
#[tokio::test(start_paused = true)]
async fn a_hello_may_be_parted_at_every_octet() {
    let hello = hello();
    for at in 1..hello.len() {
        let mut ways = vec![[hello[..at].to_vec(), hello[at..].to_vec()]];
        if at > 5 {
            let version = [hello[1], hello[2]];
            ways.push([record(22, version, None, &hello[5..at]), record(22, version, None, &hello[at..])]);
        }
        for way in ways {
            let (mut stream, mut rest) = Lab::new(settings()).raw();
            say(&mut stream, &way[0]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            say(&mut stream, &way[1]).await;
            // A ServerHello.
            assert_eq!(stream.read_u8().await.unwrap(), 22, "{at}");
            drop(stream);
            assert!(rest.try_service().is_none());
            assert!(matches!(rest.ended().await[0], Entry::TlsHello { .. }));
        }
    }
}

/// Lengths in TLS have three octets at most, those of what stands before it have four and more: what is announced is not waited
/// for, and nothing is put aside for it.
#[tokio::test(start_paused = true)]
async fn what_is_announced_takes_no_memory() {
    // 16 MB, in records of 16 KiB.
    let mut message = vec![1, 255, 255, 255];
    message.resize(1 << 20, 0);
    let announced: Vec<u8> = message.chunks(1 << 14).flat_map(|part| record(22, [3, 1], None, part)).collect();
    for stays in [false, true] {
        let (told, dialed, taken) = told_of(settings(), &announced, stays).await;
        assert_eq!(dialed, 0);
        assert!(octets(&told, Stream::Input).len() <= 8192 && taken <= 128 * 1024, "{taken}");
        // After a ClientHello, where rustls counts.
        let (told, dialed, taken) = told_of(settings(), &[&hello()[..], &announced].concat(), stays).await;
        assert_eq!(dialed, 0);
        assert!(told.iter().all(|entry| !matches!(entry, Entry::TlsAgreed { .. })), "{told:?}");
        assert!(taken <= 128 * 1024, "{taken}");
    }
    // 4 GB for what is inside: it hears what came. What is no length is a command whose answer does not come.
    for (dialect, greeting, said, follows) in [
        (Dialect::Postgres, "", "\u{7f}\u{7f}\u{7f}\u{7f}\0\u{3}\0\0user\0", ""),
        (Dialect::Smtp, "220 mx\r\n", "BDAT 4294967296 LAST\r\nSTARTTLS\r\n", ""),
        (Dialect::Imap, "* OK\r\n", "a APPEND x {4294967295+}\r\na STARTTLS\r\n", ""),
        (Dialect::Imap, "* OK\r\n", "a APPEND x {4294967296+}\r\n", "a STARTTLS\r\n"),
        (Dialect::Smtp, "220 mx\r\n", "BDAT 99999999999999999999999 LAST\r\n", "STARTTLS\r\n"),
    ] {
        let lab = Lab::new(Settings { starttls: Some(dialect), alpn: Vec::new(), ..settings() });
        let (mut stream, mut rest) = lab.raw();
        let talking = async {
            say(&mut stream, &[said, follows].concat().into_bytes()).await;
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let serving = async {
            let mut service = rest.opened().await.unwrap();
            say(&mut service, greeting.as_bytes()).await;
            let mut heard = String::new();
            service.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let (answer, heard) = tokio::join!(talking, serving);
        assert_eq!((answer.as_str(), heard.as_str()), (greeting, said), "{dialect:?}");
        rest.ended().await;
    }
}

/// As many as fit, and more.
#[tokio::test(start_paused = true)]
async fn a_hello_may_have_thousands_of_extensions() {
    let hello = hello();
    // Behind the session and the cipher suites, and one way to compress.
    let session = 5 + 4 + 2 + 32;
    let ciphers = session + 1 + usize::from(hello[session]);
    let at = ciphers + 2 + usize::from(u16::from_be_bytes([hello[ciphers], hello[ciphers + 1]])) + 2;
    let (head, own) = (&hello[9..at], &hello[at + 2..]);
    let with = |more: &[u8]| {
        let extensions = [more, own].concat();
        hello_record(&[head, &(extensions.len() as u16).to_be_bytes(), &extensions].concat())
    };
    let unknown = |count: u16| (0..count).flat_map(|n| [(0x40 + (n >> 8)) as u8, n as u8, 0, 0]).collect::<Vec<u8>>();
    for (said, is_agreeable) in [
        (with(&unknown(0)), true),
        (with(&unknown(1900)), true),
        // More than a hello may have; one of them twice, 1,900 times; those that have lists, empty.
        (with(&unknown(3000)), false),
        (with(&[0x40, 0, 0, 0].repeat(2)), false),
        (with(&[0x40, 0, 0, 0].repeat(1900)), false),
        (with(&[0, 10, 0, 0].repeat(1900)), false),
        // Names of protocols, more than anybody has.
        (with(&[&[0, 16, 0x0f, 0xa2, 0x0f, 0xa0][..], &[1, b'x'].repeat(2000)].concat()), false),
    ] {
        for stays in [false, true] {
            let (told, dialed, taken) = told_of(settings(), &said, stays).await;
            assert_eq!(dialed, 0);
            assert!(taken <= said.len());
            let secrets = told.iter().any(|entry| matches!(entry, Entry::TlsSecrets { .. }));
            assert_eq!(secrets, is_agreeable, "{} octets: {told:?}", said.len());
            let size: usize = told.iter().map(|entry| format!("{entry:?}").len()).sum();
            assert!(size < 64 * 1024, "{size}");
        }
    }
}
