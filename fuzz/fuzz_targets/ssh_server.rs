//! The SSH server in the middle as a whole. Either whatever comes in place of a key exchange, or a real client that logs in and
//! asks for what a fuzzer likes, of whose stream an octet may be wrong or missing; the server inside answers what it likes.
//! Time is virtual. However it goes, the connection has one end, and nobody is let in who was not.
#![no_main]

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::Arbitrary;
use honeyweave::relay::ssh::{Login, Policy, Settings, host_key, serve};
use honeyweave::relay::tape::{Entry, Recorder};
use honeyweave_fuzz::virtually;
use libfuzzer_sys::fuzz_target;
use russh::keys::PublicKeyOrCertificate;
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Sig, client, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};
use tokio::time::timeout;

const WIRE: usize = 64 * 1024;
/// How long a step may take: who is not answered goes on.
const STEP: Duration = Duration::from_secs(1);
/// After the client has gone: what is inside may not answer, several times.
const END: Duration = Duration::from_secs(300);

#[derive(Arbitrary, Debug)]
struct Story {
    policy: u8,
    is_dropbear: bool,
    attack: Attack,
}

#[derive(Arbitrary, Debug)]
enum Attack {
    Keyless(Vec<Piece>),
    Client { wrong: Option<Wrong>, tries: Vec<(bool, String)>, acts: Vec<Act>, answer: Answer },
}

/// What comes before there are keys.
#[derive(Arbitrary, Debug)]
enum Piece {
    Octets(Vec<u8>),
    Line(Vec<u8>),
    /// A packet whose lengths are right.
    Packet(u8, Vec<u8>),
    Wait(u8),
}

/// What becomes of a client's stream at an octet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Wrong {
    at: u16,
    /// Another one; none if nothing comes from there on.
    flip: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Open,
    Direct(String, u16),
    Listen(String, u16),
    Pty(String, u16, u16, Vec<(u8, u32)>),
    Env(String, String),
    Exec(Vec<u8>),
    Shell,
    Subsystem(u8, String),
    Window(u16, u16),
    Signal(u8),
    Data(Vec<u8>),
    Extended(u8, Vec<u8>),
    Eof,
    Close,
}

/// What the server inside does with whatever it is asked for.
#[derive(Arbitrary, Clone, Debug)]
struct Answer {
    refuses_channels: bool,
    refuses: bool,
    says: Vec<Vec<u8>>,
    echoes: bool,
    status: Option<u8>,
    leaves: bool,
}

struct Program(Answer);

impl server::Handler for Program {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if password == "toor" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if !self.0.refuses_channels {
            reply.accept().await;
        }
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.exec_request(id, b"", session).await
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        self.exec_request(id, b"", session).await
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        if self.0.refuses {
            return session.channel_failure(id);
        }
        session.channel_success(id)?;
        for (number, piece) in self.0.says.iter().take(8).enumerate() {
            match number % 4 {
                3 => session.extended_data(id, 1, piece.clone())?,
                _ => session.data(id, piece.clone())?,
            }
        }
        if let Some(status) = self.0.status {
            session.exit_status_request(id, status.into())?;
            session.eof(id)?;
            session.close(id)?;
        }
        if self.0.leaves {
            return Err(russh::Error::Disconnect);
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        if self.0.echoes { session.data(id, data.to_vec()) } else { Ok(()) }
    }
}

struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn settings(story: &Story) -> Settings {
    let policy = match story.policy % 5 {
        0 => Policy::Any,
        1 => Policy::Container,
        2 => Policy::List(vec![("root".into(), "toor".into())]),
        3 => Policy::After(1),
        _ => Policy::Never,
    };
    let banner = if story.is_dropbear { "SSH-2.0-dropbear_2022.83" } else { "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3" };
    Settings {
        banner: banner.into(),
        host_keys: vec![host_key([1; 32])],
        rsa: None,
        policy,
        login: Some(Login::new("root", "toor")),
        refusal: Duration::from_millis(100),
        acceptance: Duration::from_millis(100),
        keyboard_interactive: true,
        keep: 1 << 12,
    }
}

/// Says what comes in place of a key exchange.
async fn keyless(mut wire: DuplexStream, pieces: &[Piece]) {
    for piece in pieces.iter().take(32) {
        let octets: Cow<[u8]> = match piece {
            Piece::Octets(octets) => octets.into(),
            Piece::Line(line) => [line, &b"\r\n"[..]].concat().into(),
            Piece::Packet(kind, payload) => {
                let payload = &payload[..payload.len().min(40_000)];
                let padding = 4 + (8 - (6 + payload.len() + 4) % 8) % 8;
                let length = ((2 + payload.len() + padding) as u32).to_be_bytes();
                [&length[..], &[padding as u8, *kind], payload, &vec![0; padding]].concat().into()
            }
            Piece::Wait(seconds) => {
                tokio::time::sleep(Duration::from_secs((*seconds).into())).await;
                continue;
            }
        };
        let _ = timeout(STEP, wire.write_all(&octets)).await;
    }
}

/// Passes a client's octets on, all but what is to be wrong with them.
async fn spoil(theirs: DuplexStream, wire: DuplexStream, wrong: Option<Wrong>) {
    let (mut from, mut to) = split(theirs);
    let (mut back, mut forth) = split(wire);
    let (mut passed, mut piece) = (0, [0; 4096]);
    let inward = async {
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let mut piece = &mut piece[..count];
            if let Some(Wrong { at, flip }) = wrong
                && let at = usize::from(at) % 8192
                && at < passed + count
            {
                match flip {
                    Some(flip) if at >= passed => piece[at - passed] ^= flip,
                    Some(_) => {}
                    None => piece = &mut piece[..at.saturating_sub(passed)],
                }
            }
            passed += count;
            if forth.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let _ = copy(&mut back, &mut to).await;
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

async fn ask(channel: &Channel<client::Msg>, act: &Act) -> Result<(), russh::Error> {
    match act {
        Act::Pty(term, columns, rows, modes) => {
            // Numbers of modes that exist, and some.
            let modes: Vec<_> =
                modes.iter().filter_map(|(mode, value)| Some((russh::Pty::from_u8(*mode)?, *value))).collect();
            channel.request_pty(true, term, (*columns).into(), (*rows).into(), 0, 0, &modes).await
        }
        Act::Env(name, value) => channel.set_env(true, name, value).await,
        Act::Exec(command) => channel.exec(true, &command[..]).await,
        Act::Shell => channel.request_shell(true).await,
        Act::Subsystem(which, name) => {
            channel.request_subsystem(true, ["sftp", "scp", name][usize::from(which % 3)]).await
        }
        Act::Window(columns, rows) => channel.window_change((*columns).into(), (*rows).into(), 0, 0).await,
        Act::Signal(which) => {
            channel.signal([Sig::INT, Sig::KILL, Sig::Custom("x".into())][usize::from(which % 3)].clone()).await
        }
        Act::Data(data) => channel.data_bytes(data.clone()).await,
        Act::Extended(kind, data) => channel.extended_data_bytes((*kind).into(), data.clone()).await,
        Act::Eof => channel.eof().await,
        Act::Close => channel.close().await,
        Act::Open | Act::Direct(..) | Act::Listen(..) => Ok(()),
    }
}

/// Logs in and acts.
async fn act(wire: DuplexStream, tries: &[(bool, String)], acts: &[Act]) -> Result<(), russh::Error> {
    let connecting = client::connect_stream(Arc::default(), wire, Client);
    let Ok(client) = timeout(STEP, connecting).await else { return Ok(()) };
    let mut client = client?;
    for (is_right, word) in tries.iter().take(8) {
        let word = if *is_right { "toor" } else { word };
        if let Ok(tried) = timeout(STEP, client.authenticate_password("root", word)).await
            && tried?.success()
        {
            break;
        }
    }
    let mut channels = Vec::new();
    for act in acts.iter().take(48) {
        match act {
            Act::Open => {
                if let Ok(opened) = timeout(STEP, client.channel_open_session()).await {
                    channels.extend(opened);
                }
            }
            Act::Direct(host, port) => {
                let opening = client.channel_open_direct_tcpip(host, u32::from(*port), "192.0.2.2", 1);
                if let Ok(opened) = timeout(STEP, opening).await {
                    channels.extend(opened);
                }
            }
            Act::Listen(host, port) => _ = timeout(STEP, client.tcpip_forward(host, u32::from(*port))).await,
            act => {
                if let Some(channel) = channels.last() {
                    let _ = timeout(STEP, ask(channel, act)).await;
                }
            }
        }
    }
    Ok(())
}

fuzz_target!(|story: Story| {
    let told = virtually(async {
        let tape = Arc::<Mutex<Vec<(u64, Entry)>>>::default();
        let answer = match &story.attack {
            Attack::Keyless(_) => None,
            Attack::Client { answer, .. } => Some(answer.clone()),
        };
        let dial = move || {
            let answer = answer.clone();
            async move {
                let answer = answer.ok_or_else(|| io::Error::other("nobody has logged in"))?;
                let (ours, theirs) = duplex(WIRE);
                tokio::spawn(async move {
                    let keys = vec![host_key([2; 32])];
                    let config =
                        server::Config { keys, auth_rejection_time: Duration::ZERO, ..server::Config::default() };
                    if let Ok(session) = server::run_stream(Arc::new(config), theirs, Program(answer)).await {
                        let _ = session.await;
                    }
                });
                Ok::<_, io::Error>(ours)
            }
        };
        let (wire, stream) = duplex(WIRE);
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let served = tokio::spawn(serve(Arc::new(settings(&story)), stream, dial, recorder));
        match &story.attack {
            Attack::Keyless(pieces) => keyless(wire, pieces).await,
            Attack::Client { wrong, tries, acts, answer: _ } => {
                let (theirs, ours) = duplex(WIRE);
                let spoiling = tokio::spawn(spoil(ours, wire, *wrong));
                let _ = act(theirs, tries, acts).await;
                // Then the client's machine is gone.
                spoiling.abort();
                let _ = spoiling.await;
            }
        }
        timeout(END, served).await.expect("it has an end").expect("it does not panic");
        let told = tape.lock().unwrap();
        told.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>()
    });
    assert!(matches!(told.last(), Some(Entry::End { .. })), "{told:?}");
    assert_eq!(told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count(), 1, "{told:?}");
    let let_in = told.iter().position(|entry| matches!(entry, Entry::Attempt { accepted: true, .. }));
    let opened = told.iter().position(|entry| matches!(entry, Entry::Opened { .. }));
    assert!(opened.is_none_or(|opened| let_in.is_some_and(|let_in| let_in < opened)), "{told:?}");
    let is_keyless = matches!(story.attack, Attack::Keyless(_));
    assert!(!is_keyless || !told.iter().any(|entry| matches!(entry, Entry::Attempt { .. })), "{told:?}");
    assert!(story.policy % 5 != 4 || let_in.is_none(), "{told:?}");
});
