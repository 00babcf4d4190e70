//! How much waits when somebody does not read, and who else has to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelWriteHalf, client};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::peers::{Lab, still, text};
use crate::relay::ssh::lane::WINDOW;
use crate::relay::ssh::{PACKET, Policy};

/// The whole of what is allowed to wait in one direction: a full lane, the window that was given before it was, and packets that
/// the library holds.
const ALLOWED: usize = 2 * WINDOW as usize + 40 * PACKET as usize;

/// Sends so much into a channel, and counts what was taken.
fn send(
    into: ChannelWriteHalf<client::Msg>,
    total: usize,
    sent: &Arc<AtomicUsize>,
) -> JoinHandle<Result<(), russh::Error>> {
    let sent = sent.clone();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![7; 32 * 1024]);
        for _ in 0..total / piece.len() {
            into.data_bytes(piece.clone()).await?;
            sent.fetch_add(piece.len(), Ordering::Relaxed);
        }
        into.eof().await
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_read_stops_nobody_else() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let stuck = client.channel_open_session().await.unwrap();
    stuck.exec(true, "never").await.unwrap();
    let (_reading, writing) = stuck.split();
    let sent = Arc::default();
    let sending = send(writing, 64 << 20, &sent);
    let taken = timeout(Duration::from_secs(20), still(&sent)).await.unwrap();
    assert!(taken < 16 << 20, "{taken} octets were taken although nobody reads them");
    for i in 0..20 {
        let mut other = client.channel_open_session().await.unwrap();
        other.exec(true, "echo").await.unwrap();
        other.data_bytes(format!("{i}")).await.unwrap();
        let answered = async {
            loop {
                match other.wait().await {
                    Some(ChannelMsg::Data { data }) => return text(&data),
                    Some(_) => {}
                    None => panic!("no answer"),
                }
            }
        };
        assert_eq!(timeout(Duration::from_secs(20), answered).await.unwrap(), i.to_string());
    }
    assert!(!sending.is_finished());
    sending.abort();
    let (_, used) = lab.end(client).await;
    assert!(used.inward >= WINDOW as usize && used.inward < ALLOWED, "{}", used.inward);
}

#[tokio::test(flavor = "multi_thread")]
async fn much_goes_in_and_little_waits() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "count").await.unwrap();
    let (mut reading, writing) = channel.split();
    let total = 64usize << 20;
    let sending = send(writing, total, &Arc::default());
    let mut counted = String::new();
    let counting = async {
        while let Some(message) = reading.wait().await {
            if let ChannelMsg::Data { data } = message {
                counted += &text(&data);
            }
        }
    };
    timeout(Duration::from_secs(60), counting).await.unwrap();
    assert_eq!(counted, total.to_string());
    sending.await.unwrap().unwrap();
    let (_, used) = lab.end(client).await;
    assert!(used.inward < ALLOWED, "{}", used.inward);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_four_gigabytes_costs_nothing() {
    let lab = Lab::new(Policy::Any);
    let mut client = lab.connected(u32::MAX).await;
    assert!(client.authenticate_password("root", "hunter2").await.unwrap().success());
    let mut channel = client.channel_open_session().await.unwrap();
    let total = 128usize << 20;
    channel.exec(true, format!("zeros {total}")).await.unwrap();
    // It is let send, and nobody reads: the library's channel holds a hundred packets, then its connection stands.
    let taken = timeout(Duration::from_secs(20), still(&lab.sent)).await.unwrap();
    assert!(taken < 24 << 20, "{taken} octets were taken from inside although nobody reads them");
    let mut got = 0;
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { data } = message {
            got += data.len();
        }
    }
    assert_eq!(got, total);
    drop(channel);
    let (_, used) = lab.end(client).await;
    assert!(used.outward < ALLOWED, "{}", used.outward);
}
