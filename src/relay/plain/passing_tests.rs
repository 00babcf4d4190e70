//! What passes through while somebody reads: all of it, whoever waits for whom.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::short;
use super::*;

#[tokio::test]
async fn octets_pass_and_the_first_of_them_are_kept() {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 1));
    let (mut attacker, outside) = tokio::io::duplex(64);
    let (mut server, inside) = tokio::io::duplex(64);
    let settings = Settings { spoken: Spoken::Raw, within: false, keep: 10, asked: Asked::default() };
    let served = tokio::spawn(serve(settings, outside, move || std::future::ready(Ok(inside)), recorder));
    attacker.write_all(b"0123456789abcdef").await.unwrap();
    let mut heard = [0; 16];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"0123456789abcdef");
    // Half-closed: the other direction goes on.
    attacker.shutdown().await.unwrap();
    assert_eq!(server.read(&mut heard).await.unwrap(), 0);
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    attacker.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"bye");
    served.await.unwrap();
    let entries: Vec<Entry> = tape.lock().unwrap().drain(..).map(|(_, entry)| entry).collect();
    assert_eq!(
        short(&entries),
        [
            "Opened { channel: 0, kind: Stream }",
            "Beyond { channel: 0, stream: Input, octets: 6 }",
            "Closed { channel: 0 }",
            "End { reason: ClientClosed, detail: None }",
            "Input 0123456789",
            "Output bye",
        ]
    );
}

#[tokio::test]
async fn floods_in_both_directions_do_not_hold_up_each_other() {
    let recorder = Recorder::new(Arc::new(Mutex::new(Vec::new())), Arc::new(|| 1));
    // More is read at once than finds room all the way there and back.
    let (attacker, outside) = tokio::io::duplex(PIECE);
    let (server, inside) = tokio::io::duplex(64);
    let settings = Settings { spoken: Spoken::Raw, within: false, keep: 10, asked: Asked::default() };
    tokio::spawn(serve(settings, outside, move || std::future::ready(Ok(inside)), recorder));
    // An echo service that reads no further while nobody takes what it says.
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(server);
        tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(64, &mut from), &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let (mut answers, mut says) = tokio::io::split(attacker);
    let flood: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    let expected = flood.clone();
    let saying = async move {
        says.write_all(&flood).await.unwrap();
        says.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let both = async { tokio::join!(saying, answers.read_to_end(&mut heard)).1.unwrap() };
    tokio::time::timeout(std::time::Duration::from_secs(20), both).await.expect("it goes on");
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_container_that_does_not_come_is_told() {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 1));
    let (mut attacker, outside) = tokio::io::duplex(64);
    let dial = || std::future::ready(Err::<tokio::io::DuplexStream, _>(io::Error::other("no image")));
    serve(Settings { spoken: Spoken::Http, within: false, keep: 10, asked: Asked::default() }, outside, dial, recorder)
        .await;
    assert_eq!(attacker.read(&mut [0; 8]).await.unwrap(), 0);
    let entries: Vec<Entry> = tape.lock().unwrap().drain(..).map(|(_, entry)| entry).collect();
    assert!(entries.contains(&Entry::Unreachable { reason: Text::new("no image") }), "{entries:?}");
}

/// A stream that was there at once, behind which nothing listens.
struct Nobody;

impl tokio::io::AsyncRead for Nobody {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens")))
    }
}

impl tokio::io::AsyncWrite for Nobody {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens")))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn that_nothing_listens_inside_is_told() {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 1));
    let (_attacker, outside) = tokio::io::duplex(64);
    let settings = Settings { spoken: Spoken::Http, within: false, keep: 10, asked: Asked::default() };
    serve(settings, outside, || std::future::ready(Ok(Nobody)), recorder).await;
    let mut entries: Vec<Entry> = tape.lock().unwrap().drain(..).map(|(_, entry)| entry).collect();
    let why = Text::new("nobody listens");
    let end = Entry::End { reason: Reason::Unreachable, detail: Some(why.clone()) };
    assert_eq!(entries.pop(), Some(end), "{entries:?}");
    assert!(entries.contains(&Entry::Unreachable { reason: why }), "{entries:?}");
}
