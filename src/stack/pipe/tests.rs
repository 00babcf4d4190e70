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
    assert_eq!((plane.writable(), told.try_recv()), (3, Ok(7)));
    assert_eq!(reader.peek().await, Ok(&b"34567"[..]));
    reader.consume(5);
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
