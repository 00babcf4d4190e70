//! Who talks to the middle from both sides.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{HashAlg, PublicKeyOrCertificate};
use russh::server::{Auth, ChannelOpenHandle, Msg, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, Pty, client, server};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::relay::ssh::{Login, Policy, Settings, Used, host_key, serve};
use crate::relay::tape::{Credential, Entry, Recorder, Tape, Text};

/// Octets between any two of them.
const WIRE: usize = 64 * 1024;

pub(super) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// An attempt with a password.
pub(super) fn password(user: &str, password: &str, accepted: bool) -> Entry {
    let credential = Credential::Password { password: Text::new(password) };
    Entry::Attempt { user: Text::new(user), credential, accepted }
}

/// What is on a tape.
pub(super) type Told = Mutex<Vec<(u64, Entry)>>;

/// One middle.
pub(super) struct Lab {
    pub(super) tape: Arc<Told>,
    /// Connections that were opened inside.
    pub(super) dialed: Arc<AtomicUsize>,
    /// Octets that the server inside has sent.
    pub(super) sent: Arc<AtomicUsize>,
    /// Passwords that it was asked about.
    pub(super) asked: Arc<AtomicUsize>,
    stream: Mutex<Option<DuplexStream>>,
    served: Mutex<Option<JoinHandle<Used>>>,
}

/// The settings of a server whose inside is logged into as root.
pub(super) fn settings(policy: Policy) -> Settings {
    Settings {
        banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3".into(),
        host_keys: vec![host_key([1; 32])],
        rsa: None,
        policy,
        login: Some(Login::new("root", "toor")),
        refusal: Duration::ZERO,
        acceptance: Duration::ZERO,
        keyboard_interactive: true,
        keep: 1 << 20,
    }
}

impl Lab {
    pub(super) fn new(policy: Policy) -> Lab {
        Lab::with(settings(policy))
    }

    pub(super) fn with(settings: Settings) -> Lab {
        Lab::cold(settings, Duration::ZERO)
    }

    /// One whose server inside takes so long to start.
    pub(super) fn cold(settings: Settings, start: Duration) -> Lab {
        Lab::taped(settings, start, |tape| tape)
    }

    /// The same with a tape in front of the one that is looked at.
    pub(super) fn taped<T: Tape + 'static>(
        settings: Settings,
        start: Duration,
        before: impl FnOnce(Arc<Told>) -> Arc<T>,
    ) -> Lab {
        let tape = Arc::<Told>::default();
        let [dialed, sent, asked] = std::array::from_fn(|_| Arc::<AtomicUsize>::default());
        let (ours, theirs) = tokio::io::duplex(WIRE);
        let recorder = Recorder::new(before(tape.clone()), Arc::new(|| 0));
        let (count, counted, questions) = (dialed.clone(), sent.clone(), asked.clone());
        let dial = move || {
            count.fetch_add(1, Ordering::Relaxed);
            let (sent, asked) = (counted.clone(), questions.clone());
            async move {
                tokio::time::sleep(start).await;
                let (ours, theirs) = tokio::io::duplex(WIRE);
                tokio::spawn(async move {
                    let config = server::Config {
                        keys: vec![host_key([2; 32])],
                        auth_rejection_time: Duration::ZERO,
                        channel_buffer_size: 1000,
                        ..server::Config::default()
                    };
                    if let Ok(session) = server::run_stream(
                        Arc::new(config),
                        theirs,
                        Program { channels: HashMap::new(), sent, asked, stuck: None },
                    )
                    .await
                    {
                        let _ = session.await;
                    }
                });
                Ok::<_, io::Error>(ours)
            }
        };
        let served = tokio::spawn(serve(Arc::new(settings), theirs, dial, recorder));
        Lab { tape, dialed, sent, asked, stream: Mutex::new(Some(ours)), served: Mutex::new(Some(served)) }
    }

    /// The attacker's end of the wire.
    pub(super) fn wire(&self) -> DuplexStream {
        self.stream.lock().unwrap().take().expect("one client")
    }

    /// A client after the key exchange, with windows of so many octets.
    pub(super) async fn connected(&self, window_size: u32) -> client::Handle<Client> {
        let config = client::Config { window_size, ..client::Config::default() };
        client::connect_stream(Arc::new(config), self.wire(), Client).await.unwrap()
    }

    /// One that has logged in with the first password that came to mind.
    pub(super) async fn logged_in(&self) -> client::Handle<Client> {
        let mut client = self.connected(2 << 20).await;
        assert!(client.authenticate_password("root", "hunter2").await.unwrap().success());
        client
    }

    /// Ends the connection, and returns what was told and used.
    pub(super) async fn end(&self, client: client::Handle<Client>) -> (Vec<Entry>, Used) {
        let _ = client.disconnect(russh::Disconnect::ByApplication, "", "").await;
        drop(client);
        self.over().await
    }

    /// The same when the client has gone.
    pub(super) async fn over(&self) -> (Vec<Entry>, Used) {
        let served = self.served.lock().unwrap().take().expect("one end");
        let used = timeout(Duration::from_secs(20), served).await.expect("the middle ends with its client").unwrap();
        let told: Vec<Entry> = self.tape.lock().unwrap().iter().map(|(_, entry)| entry.clone()).collect();
        assert!(matches!(told.last(), Some(Entry::End { .. })), "{told:?}");
        assert_eq!(told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count(), 1);
        (told, used)
    }
}

/// Waits until a count stands still, and returns it.
pub(super) async fn still(count: &AtomicUsize) -> usize {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

/// The attacker's client.
pub(super) struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        assert_eq!(key.fingerprint(HashAlg::Sha256), host_key([1; 32]).public_key().fingerprint(HashAlg::Sha256));
        Ok(true)
    }
}

/// The server inside: root's password is `toor`, another's is `secret`; commands are few.
struct Program {
    channels: HashMap<ChannelId, Channel<Msg>>,
    sent: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    stuck: Option<Channel<Msg>>,
}

impl server::Handler for Program {
    type Error = russh::Error;

    fn adjust_window(&mut self, _: ChannelId, window: u32) -> u32 {
        if self.stuck.is_some() { 1 } else { window }
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let right = matches!((user, password), ("root", "toor") | ("other", "secret"));
        Ok(if right { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::reject())
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::reject())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.remove(&id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let command = text(command);
        let (word, argument) = command.split_once(' ').unwrap_or((&command, ""));
        match word {
            "die" => return Err(russh::Error::Disconnect),
            "say" => tokio::spawn(say(channel, argument.to_owned())),
            "echo" => tokio::spawn(echo(channel)),
            "count" => tokio::spawn(count(channel)),
            "never" => {
                // Its window does not open again. (The library's would, and then let everybody wait.)
                self.stuck = Some(channel);
                return Ok(());
            }
            "zeros" => tokio::spawn(zeros(channel, argument.parse().unwrap(), self.sent.clone())),
            _ => return session.channel_failure(id),
        };
        Ok(())
    }
}

async fn say(channel: Channel<Msg>, word: String) {
    channel.data_bytes(word).await.unwrap();
    channel.extended_data_bytes(1, "oops").await.unwrap();
    channel.exit_status(3).await.unwrap();
    channel.eof().await.unwrap();
    channel.close().await.unwrap();
}

async fn echo(mut channel: Channel<Msg>) {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => channel.data_bytes(data).await.unwrap(),
            ChannelMsg::Eof => break,
            _ => {}
        }
    }
    let _ = channel.close().await;
}

/// Counts what comes.
async fn count(mut channel: Channel<Msg>) {
    let mut total = 0;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => total += data.len(),
            ChannelMsg::Eof => break,
            _ => {}
        }
    }
    let _ = channel.data_bytes(total.to_string()).await;
    let _ = channel.close().await;
}

async fn zeros(channel: Channel<Msg>, total: usize, sent: Arc<AtomicUsize>) {
    let piece = Bytes::from(vec![0; 32 * 1024]);
    for _ in 0..total / piece.len() {
        if channel.data_bytes(piece.clone()).await.is_err() {
            return;
        }
        sent.fetch_add(piece.len(), Ordering::Relaxed);
    }
    let _ = channel.close().await;
}
