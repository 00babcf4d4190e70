use std::sync::mpsc::{Receiver, channel};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn due() -> (Due, Receiver<u32>) {
    let (queue, told) = channel();
    (Due { queue, token: 7, waker: Arc::new(()) }, told)
}

fn pipe_of(capacity: usize, budget: &Arc<Budget>) -> (PipeEnd, RelayEnd, Receiver<u32>) {
    let (due, told) = due();
    let (plane, relay) = pipe(capacity, due, budget.clone());
    (plane, relay, told)
}

#[tokio::test]
async fn carries_bytes_and_ends() {
    let budget = Budget::new(1000);
    let (mut plane, mut relay, told) = pipe_of(8, &budget);
    assert_eq!(plane.write(b"0123456789"), 8);
    assert_eq!((plane.writable(), budget.used(), plane.held()), (0, 8, 8));
    let (mut reader, mut writer) = relay.halves();
    assert_eq!(reader.peek().await, Ok(&b"01234567"[..]));
    reader.consume(3);
    assert_eq!((plane.writable(), told.try_recv().is_err()), (3, true), "little room, of which nobody is told");
    assert_eq!(reader.peek().await, Ok(&b"34567"[..]));
    reader.consume(1);
    assert_eq!((plane.writable(), told.try_recv()), (4, Ok(7)));
    assert_eq!(reader.peek().await, Ok(&b"4567"[..]));
    reader.consume(4);
    assert_eq!((budget.used(), told.try_recv().is_err()), (0, true), "told already");
    assert!(plane.take_due());
    assert_eq!(writer.room().await, Ok(8));
    writer.write(b"abc");
    writer.finish();
    assert!(!plane.at_end());
    let first = |bytes: &[u8]| usize::from(bytes[0] == b'a');
    assert_eq!(plane.read_with(first), 1);
    assert_eq!(plane.read_with(|bytes| bytes.len()), 2);
    assert!(plane.at_end());
    assert!(!plane.is_reset());
    plane.finish();
    assert_eq!(reader.peek().await, Ok(&b""[..]));
    assert_eq!((budget.used(), plane.held()), (0, 0));
}

#[tokio::test]
async fn whoever_does_not_wait_for_room_is_not_told_of_it() {
    let (mut plane, mut relay, told) = pipe_of(8, &Budget::new(1000));
    plane.write(b"key");
    let (mut reader, _) = relay.halves();
    assert_eq!(reader.peek().await, Ok(&b"key"[..]));
    reader.consume(3);
    assert!(told.try_recv().is_err() && !plane.take_due());
}

/// The data plane sends through the pipe what comes back through it, as fast as it goes; either side only looks again when
/// it was told to.
#[test]
fn nobody_waits_for_what_has_happened() {
    const OCTETS: usize = 2_000_000;
    let patience = std::time::Duration::from_secs(20);
    for (capacity, limit) in [(8, 1 << 20), (1000, 1 << 20), (65_536, 1 << 20), (1000, 0)] {
        let (mut plane, mut relay, told) = pipe_of(capacity, &Budget::new(limit));
        let octets = if capacity * limit > 8 << 20 { OCTETS } else { OCTETS / 20 };
        let echo = async move {
            let (mut lcg, mut passed) = (7u64, 0);
            let (mut reader, mut writer) = relay.halves();
            while passed < octets {
                let room = writer.room().await.unwrap();
                let data = reader.peek().await.unwrap();
                lcg = lcg.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let n = room.min(data.len()).min(1 + (lcg >> 33) as usize % 50_000);
                let data = data[..n].to_vec();
                reader.consume(n);
                writer.write(&data);
                passed += n;
            }
            relay
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let relay = std::thread::spawn(move || runtime.block_on(echo));
        let sent: Vec<u8> = (0..octets).map(|i| (i >> 3) as u8).collect();
        let (mut offered, mut got) = (0, Vec::new());
        while got.len() < octets {
            plane.take_due();
            offered += plane.write(&sent[offered..]);
            let before = got.len();
            while plane.read_with(|bytes| {
                got.extend_from_slice(bytes);
                bytes.len()
            }) > 0
            {}
            // Room that it finds without being told is no reason to go on.
            if got.len() == before && (offered == octets || plane.writable() == 0) {
                told.recv_timeout(patience).expect("word from the relay");
            }
        }
        assert!(got == sent, "{capacity}");
        relay.join().unwrap();
    }
}

#[tokio::test]
async fn a_dropped_end_is_a_reset() {
    let budget = Budget::new(1000);
    let (mut plane, mut relay, _told) = pipe_of(8, &budget);
    plane.write(b"lost");
    drop(plane);
    assert_eq!(relay.halves().0.peek().await, Err(PipeReset));
    drop(relay);
    assert_eq!(budget.used(), 0);
    let (plane, relay, _told) = pipe_of(8, &budget);
    drop(relay);
    assert!(plane.is_reset());
}

#[tokio::test]
async fn without_a_budget_it_goes_on_in_small_pieces() {
    let budget = Budget::new(1000);
    budget.charge(1000);
    let (mut plane, mut relay, _told) = pipe_of(65_536, &budget);
    let sent: Vec<u8> = (0..5000u32).map(|i| (i >> 3) as u8).collect();
    let (mut reader, mut got, mut offered) = (relay.halves().0, Vec::new(), 0);
    while got.len() < sent.len() {
        offered += plane.write(&sent[offered..]);
        assert!(plane.held() <= LEAST);
        let n = reader.peek().await.unwrap().len();
        got.extend_from_slice(reader.peek().await.unwrap());
        reader.consume(n);
    }
    assert_eq!((got, budget.used()), (sent, 1000));
}

#[tokio::test]
async fn a_relay_dials() {
    let budget = Budget::new(1000);
    let (mut plane, relay, told) = pipe_of(8, &budget);
    let dialer = relay.dialer();
    assert!(plane.take_dialed().is_none());
    let mut first = dialer.dial();
    let mut second = dialer.dial();
    assert_eq!(told.try_recv(), Ok(7));
    assert_eq!(first.halves().0.peek().await, Err(PipeReset), "the second has its place");
    let mut inside = plane.take_dialed().unwrap();
    assert!(plane.take_dialed().is_none() && !plane.is_reset() && !plane.at_end());
    second.halves().1.write(b"SSH");
    assert_eq!(inside.read_with(|bytes| bytes.len()), 3);
    // Nobody takes these.
    let mut third = dialer.dial();
    drop((relay, plane, inside));
    assert_eq!(third.halves().1.room().await, Err(PipeReset));
    assert_eq!(dialer.dial().halves().0.peek().await, Err(PipeReset));
}

#[tokio::test]
async fn a_relays_end_is_a_stream() {
    let budget = Budget::new(1000);
    let (mut plane, mut relay, _told) = pipe_of(8, &budget);
    plane.write(b"01234567");
    let mut four = [0; 4];
    relay.read_exact(&mut four).await.unwrap();
    assert_eq!((&four, plane.write(b"89ab")), (b"0123", 4));
    plane.finish();
    let mut rest = Vec::new();
    relay.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"456789ab");
    let said = tokio::spawn(async move {
        relay.write_all(b"SSH-2.0-dropbear\r\n").await.unwrap();
        relay.shutdown().await.unwrap();
        relay
    });
    let mut heard = Vec::new();
    while !plane.at_end() {
        plane.read_with(|bytes| {
            heard.extend_from_slice(bytes);
            bytes.len()
        });
        tokio::task::yield_now().await;
    }
    assert_eq!(heard, b"SSH-2.0-dropbear\r\n");
    let mut relay = said.await.unwrap();
    drop(plane);
    assert_eq!(relay.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_failure_says_why() {
    let budget = Budget::new(1000);
    let (plane, mut relay, _told) = pipe_of(8, &budget);
    assert_eq!(plane.failure(), None);
    relay.fail("connection refused".into());
    relay.fail("later".into());
    assert!(plane.is_reset() && plane.take_due());
    assert_eq!(plane.failure(), Some("connection refused"));
}
