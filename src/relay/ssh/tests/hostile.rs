//! Octets that no client would send: whatever comes, the connection has one end, which the tape tells.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use russh::client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::peers::{Client, Lab};
use super::*;

/// Octets of a client that logs in and runs a command, and more.
const WHOLE: usize = 4096;

/// A packet before there are keys (RFC 4253 §6), its lengths right.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

/// What is told of a client that says this and closes.
async fn told_of(octets: &[u8]) -> Vec<Entry> {
    let lab = Lab::new(Policy::Any);
    let mut wire = lab.wire();
    // It may end before it has heard everything.
    let _ = wire.write_all(octets).await;
    let _ = wire.shutdown().await;
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), wire.read_to_end(&mut rest)).await.expect("it hangs up").unwrap();
    lab.over().await.0
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn whatever_comes_in_place_of_a_key_exchange_has_an_end() {
    let introduction = prop_oneof![
        Just(b"SSH-2.0-x\r\n".to_vec()),
        Just(b"SSH-1.5-x\n".to_vec()),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    let packets = proptest::collection::vec(
        (prop_oneof![1..32u8, 50..60u8, 80..100u8, any::<u8>()], proptest::collection::vec(any::<u8>(), 0..400)),
        0..4,
    );
    let raw = proptest::collection::vec(any::<u8>(), 0..200);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let story = (introduction, packets, raw);
    let tried = runner.run(&story, |(mut octets, packets, raw)| {
        for (kind, rest) in packets {
            octets.extend(packet(&[&[kind][..], &rest].concat()));
        }
        octets.extend(raw);
        let told = runtime().block_on(told_of(&octets));
        prop_assert!(matches!(told.first(), Some(Entry::Hello { .. } | Entry::End { .. })), "{told:?}");
        prop_assert!(told.iter().all(|entry| !matches!(entry, Entry::Attempt { .. })), "{told:?}");
        Ok(())
    });
    tried.unwrap();
}

/// What is told of a client whose octet number `at` arrives as another one.
async fn with_one_wrong(at: usize, flip: u8) -> Vec<Entry> {
    let lab = Lab::new(Policy::Any);
    let (theirs, ours) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(ours);
    let (mut back, mut wire) = tokio::io::split(lab.wire());
    let passing = tokio::spawn(async move {
        let (mut passed, mut piece) = (0, [0; 512]);
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if let Some(octet) = at.checked_sub(passed).and_then(|at| piece[..count].get_mut(at)) {
                *octet ^= flip;
            }
            passed += count;
            if wire.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
        let _ = wire.shutdown().await;
    });
    let returning = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut back, &mut to).await;
        let _ = to.shutdown().await;
    });
    let attempt = async {
        let mut client = client::connect_stream(Arc::default(), theirs, Client).await?;
        client.authenticate_password("root", "hunter2").await?;
        let mut channel = client.channel_open_session().await?;
        channel.exec(true, "say hello").await?;
        while channel.wait().await.is_some() {}
        Ok::<_, russh::Error>(())
    };
    // A length that is wrong lets both sides wait for what never comes.
    let _ = timeout(Duration::from_millis(300), attempt).await;
    // Then the client's machine is gone.
    for half in [passing, returning] {
        half.abort();
        let _ = half.await;
    }
    lab.over().await.0
}

#[test]
fn one_octet_that_is_wrong_lets_nobody_in_and_has_an_end() {
    let whole = runtime().block_on(with_one_wrong(usize::MAX, 1));
    assert!(whole.iter().any(|entry| matches!(entry, Entry::Exec { .. })), "{whole:?}");
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&(0..WHOLE, 1..=255u8), |(at, flip)| {
        let told = runtime().block_on(with_one_wrong(at, flip));
        // Behind the one that was wrong nothing is taken for what the client has said.
        let commands = told.iter().filter(|entry| matches!(entry, Entry::Exec { .. }));
        prop_assert!(commands.count() <= 1, "{told:?}");
        for entry in &told {
            if let Entry::Exec { command, .. } = entry {
                prop_assert_eq!(command.as_str(), "say hello");
            }
            if let Entry::Attempt { user, .. } = entry {
                prop_assert_eq!(user.as_str(), "root");
            }
        }
        Ok(())
    });
    tried.unwrap();
}

/// A packet that announces 4 GB, or anything that no packet has, is not waited for, and nothing is put aside for it.
#[tokio::test(start_paused = true)]
async fn a_length_that_no_packet_has_ends_the_connection() {
    for length in [u32::MAX, 1 << 31, 1 << 24, 0, 1, 7] {
        for stays in [false, true] {
            let lab = Lab::new(Policy::Any);
            let (mut back, mut wire) = tokio::io::split(lab.wire());
            let talking = async {
                let _ = wire.write_all(b"SSH-2.0-x\r\n").await;
                let _ = wire.write_all(&length.to_be_bytes()).await;
                let mut taken = 0;
                while taken < 4 << 20 && wire.write_all(&[7; 4096]).await.is_ok() {
                    taken += 4096;
                }
                if !stays {
                    let _ = wire.shutdown().await;
                }
                taken
            };
            let start = tokio::time::Instant::now();
            let hearing = async { back.read_to_end(&mut Vec::new()).await };
            let (taken, _) = tokio::join!(talking, hearing);
            lab.over().await;
            assert!(taken < 512 * 1024, "{length}: {taken} octets were taken");
            assert!(start.elapsed() <= GRACE + FAREWELL, "{length}: {:?}", start.elapsed());
        }
    }
}
