//! The middle between a client and a server of the library's, all in memory. Real clients and servers: `tests/it/ssh_middle.rs`.

mod ahead;
mod flow;
mod hostile;
mod log_in;
mod peers;

use std::pin::Pin;
use std::sync::atomic::Ordering;

use peers::{Lab, text};
use russh::ChannelMsg;

use super::*;
use crate::relay::tape::{ChannelKind, Reason, Stream, Tape};

#[tokio::test]
async fn a_command_is_passed_with_its_status_and_recorded() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.set_env(true, "LANG", "C").await.unwrap();
    channel.request_pty(true, "xterm\x1b", 80, 25, 0, 0, &[]).await.unwrap();
    channel.exec(true, "say \x1b[31mhello").await.unwrap();
    let mut got = Vec::new();
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => got.push(text(&data)),
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => got.push(format!("error {}", text(&data))),
            Some(ChannelMsg::ExitStatus { exit_status }) => got.push(format!("exit {exit_status}")),
            Some(ChannelMsg::Success) => got.push("yes".into()),
            Some(ChannelMsg::Failure) => got.push("no".into()),
            Some(ChannelMsg::Eof) => got.push("eof".into()),
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    // This server takes no variables.
    assert_eq!(got, ["no", "yes", "yes", "\x1b[31mhello", "error oops", "exit 3", "eof"]);
    drop(channel);
    let (told, _) = lab.end(client).await;
    let mut told = told.into_iter();
    let Some(Entry::Hello { banner, hassh, .. }) = told.next() else { panic!("no hello") };
    assert!(banner.as_str().starts_with("SSH-2.0-russh") && hassh.len() == 32, "{banner} {hassh}");
    let channel = 0;
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            peers::password("root", "hunter2", true),
            Entry::Opened { channel, kind: ChannelKind::Session },
            Entry::Env { channel, name: Text::new("LANG"), value: Text::new("C") },
            Entry::Pty { channel, term: Text::new("xterm\x1b"), columns: 80, rows: 25 },
            Entry::Exec { channel, command: Text::new("say \x1b[31mhello") },
            Entry::Data { channel, stream: Stream::Output, data: "\x1b[31mhello".into() },
            Entry::Data { channel, stream: Stream::Error, data: "oops".into() },
            Entry::Exit { channel, status: Some(3), signal: None },
            Entry::Closed { channel },
            Reason::ClientClosed.end(),
        ]
    );
}

#[tokio::test]
async fn several_channels_are_told_apart() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let mut echoes = Vec::new();
    for _ in 0..5 {
        let channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "echo").await.unwrap();
        echoes.push(channel);
    }
    for (number, channel) in echoes.iter().enumerate() {
        channel.data_bytes(format!("to {number}")).await.unwrap();
        channel.eof().await.unwrap();
    }
    for (number, channel) in echoes.iter_mut().enumerate() {
        let mut got = String::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                got += &text(&data);
            }
        }
        assert_eq!(got, format!("to {number}"));
    }
    drop(echoes);
    let (told, _) = lab.end(client).await;
    for stream in [Stream::Input, Stream::Output] {
        for channel in 0..5 {
            let data = format!("to {channel}").into();
            let expected = Entry::Data { channel, stream, data };
            assert_eq!(told.iter().filter(|entry| **entry == expected).count(), 1, "{told:?}");
        }
    }
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_command_that_is_refused_changes_nothing() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo").await.unwrap();
    channel.exec(true, "scp -t x").await.unwrap();
    channel.data_bytes("T1 2 3 4\n").await.unwrap();
    channel.eof().await.unwrap();
    let mut answers = Vec::new();
    while let Some(message) = channel.wait().await {
        answers.extend(matches!(message, ChannelMsg::Success | ChannelMsg::Failure).then_some(message));
    }
    assert!(matches!(answers[..], [ChannelMsg::Success, ChannelMsg::Failure]), "{answers:?}");
    drop(channel);
    let (told, _) = lab.end(client).await;
    let typed = Entry::Data { channel: 0, stream: Stream::Input, data: "T1 2 3 4\n".into() };
    assert!(told.contains(&typed), "{told:?}");
}

#[tokio::test]
async fn more_channels_than_there_may_be_are_refused() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let mut open = Vec::new();
    for _ in 0..CHANNELS {
        open.push(client.channel_open_session().await.unwrap());
    }
    assert!(client.channel_open_session().await.is_err());
    open.pop().unwrap().close().await.unwrap();
    // Closing takes a moment on the other side.
    let reopened = async {
        while client.channel_open_session().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), reopened).await.unwrap();
    drop(open);
    let (told, _) = lab.end(client).await;
    assert!(told.iter().any(|entry| matches!(entry, Entry::Refused { reason, .. } if *reason == "too many channels")));
}

#[tokio::test]
async fn what_asks_for_too_much_is_refused_and_told() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let channel = client.channel_open_session().await.unwrap();
    channel.request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0).await.unwrap();
    assert!(client.streamlocal_forward("/tmp/socket").await.is_err());
    assert!(client.channel_open_direct_tcpip("10.0.0.1", 22, "127.0.0.1", 1).await.is_err());
    drop(channel);
    let (told, _) = lab.end(client).await;
    let target = ChannelKind::DirectTcpip { host: Text::new("10.0.0.1"), port: 22, from: Text::new("127.0.0.1:1") };
    for expected in [
        Entry::Refused { kind: ChannelKind::X11, reason: Text::new("not passed") },
        Entry::Listen { host: Text::new("/tmp/socket"), port: 0, accepted: false },
        // By the server inside.
        Entry::Refused { kind: target, reason: Text::new("administratively prohibited: Administratively prohibited") },
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
}

#[tokio::test]
async fn the_end_of_the_container_is_the_end_of_the_connection() {
    let lab = Lab::new(Policy::Any);
    let client = lab.logged_in().await;
    let channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "die").await.unwrap();
    let closed = async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), closed).await.unwrap();
    drop(channel);
    let (told, _) = lab.end(client).await;
    assert!(told.contains(&Entry::Closed { channel: 0 }), "{told:?}");
}

/// A tape that takes its time with what it is told of channels.
struct Slow(Arc<peers::Told>);

impl Tape for Slow {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if matches!(entry, Entry::Opened { .. }) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.0.put(at, entry).await;
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_told_of_before_what_is_asked_for_in_it() {
    let lab = Lab::taped(peers::settings(Policy::Any), Duration::ZERO, |tape| Arc::new(Slow(tape)));
    let client = lab.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "say hello").await.unwrap();
    while channel.wait().await.is_some() {}
    drop(channel);
    let (told, _) = lab.end(client).await;
    let at = |wanted: fn(&Entry) -> bool| told.iter().position(wanted).unwrap();
    // Or else its octets would be those of a channel in which nothing runs, which have no transcript.
    assert!(at(|entry| matches!(entry, Entry::Opened { .. })) < at(|entry| matches!(entry, Entry::Exec { .. })));
}
