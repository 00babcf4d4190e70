//! The way inside: a connection to the container's server, as a client of it.
//!
//! That server belongs to whoever is root in the container by now: it is no more trusted than the attacker.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use russh::client::{
    self, AuthResult, ChannelOpenHandle, DisconnectReason, KeyboardInteractiveAuthResponse, Msg, Session,
};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, ChannelOpenFailure, Preferred, SshId, cipher, compression, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lane::WINDOW;
use super::middle::Middle;
use super::offer;
use super::policy::Login;
use super::{ANSWER, CHANNELS, DIAL, MESSAGES, PACKET};
use crate::relay::tape::{ChannelKind, Entry, Text};

/// Octets of what the server says to a channel that it does not open.
const WORD: usize = 1024;

/// A stream to the container's server.
pub trait Inside: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Inside for S {}

/// Opens one.
pub(super) type Dial = Box<dyn Fn() -> Dialing + Send + Sync>;

/// One that is being opened.
pub(super) type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Inside>>> + Send>>;

/// A connection inside, logged in or not.
pub(super) struct Inner {
    /// What it is driven by.
    pub(super) handle: client::Handle<Callee>,
    /// Whether this is the one that the attacker is connected to: its end is theirs, too.
    chosen: Arc<AtomicBool>,
    refusals: Arc<Refusals>,
}

impl Inner {
    /// The attacker is connected to this one from now on.
    pub(super) fn choose(&self) {
        self.chosen.store(true, Ordering::Relaxed);
    }

    /// What the server has said when it refused to open a channel for this reason.
    pub(super) async fn refusal(&self, why: &ChannelOpenFailure) -> Option<String> {
        timeout(ANSWER, self.refusals.take(why.code())).await.ok()
    }
}

/// What the server says when it refuses to open a channel. The library tells that, but not of which channel: of two that are
/// refused at the same time for the same reason the first word is the first one's, most likely.
#[derive(Default)]
struct Refusals {
    said: Mutex<VecDeque<(u32, String)>>,
    heard: Notify,
}

impl Refusals {
    fn said(&self) -> MutexGuard<'_, VecDeque<(u32, String)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, code: u32, word: &str) {
        let mut said = self.said();
        // Whom it was for does not wait any more.
        if said.len() >= CHANNELS {
            said.pop_front();
        }
        said.push_back((code, word.get(..word.floor_char_boundary(WORD)).unwrap_or_default().to_owned()));
        drop(said);
        self.heard.notify_waiters();
    }

    fn first(&self, code: u32) -> Option<String> {
        let mut said = self.said();
        let at = said.iter().position(|(of, _)| *of == code)?;
        said.remove(at).map(|(_, word)| word)
    }

    async fn take(&self, code: u32) -> String {
        loop {
            let heard = self.heard.notified();
            if let Some(word) = self.first(code) {
                return word;
            }
            heard.await;
        }
    }
}

fn config() -> client::Config {
    client::Config {
        // What an intruder finds in the container's log is a client like any other.
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3")),
        limits: offer::limits(),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: MESSAGES,
        preferred: Preferred {
            // What a processor does fastest; Dropbear has no GCM.
            kex: Cow::Borrowed(&[
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::ECDH_SHA2_NISTP256,
                kex::DH_G14_SHA256,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            cipher: Cow::Borrowed(&[
                cipher::AES_128_GCM,
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_128_CTR,
                cipher::AES_256_CTR,
            ]),
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA256, mac::HMAC_SHA1]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        nodelay: true,
        ..client::Config::default()
    }
}

/// Why there is no way inside.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("no connection: {0}")]
    Dial(#[from] io::Error),
    #[error("SSH: {0}")]
    Ssh(#[from] russh::Error),
    #[error("no answer for {} s", DIAL.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the log-in is refused")]
    Refused,
    #[error("there is no log-in for it")]
    NoLogin,
}

/// Connects up to the key exchange.
pub(super) async fn connect(dial: &Dial, middle: Weak<Middle>) -> Result<Inner, Closed> {
    timeout(DIAL, async {
        let stream = dial().await?;
        let (chosen, refusals) = (Arc::new(AtomicBool::new(false)), Arc::<Refusals>::default());
        let callee = Callee { middle, chosen: chosen.clone(), refusals: refusals.clone() };
        Ok(Inner { handle: client::connect_stream(Arc::new(config()), stream, callee).await?, chosen, refusals })
    })
    .await?
}

/// Logs in as the middle was told to.
pub(super) async fn log_in(inner: &mut client::Handle<Callee>, login: &Login) -> Result<(), Closed> {
    if try_password(inner, &login.user, &login.password).await? { Ok(()) } else { Err(Closed::Refused) }
}

/// Tries a password, by the method that the server has.
pub(super) async fn try_password(
    inner: &mut client::Handle<Callee>,
    user: &str,
    password: &str,
) -> Result<bool, Closed> {
    timeout(DIAL, async {
        let answered = inner.authenticate_password(user, password).await?;
        let AuthResult::Failure { remaining_methods, .. } = answered else { return Ok(true) };
        // A server with PAM alone asks, and has not even looked at the password.
        let asks = remaining_methods.contains(&russh::MethodKind::KeyboardInteractive);
        if !asks || remaining_methods.contains(&russh::MethodKind::Password) {
            return Ok(false);
        }
        let mut answer = inner.authenticate_keyboard_interactive_start(user, None).await?;
        // One question for the password, then perhaps one without prompts.
        for _ in 0..3 {
            match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| password.to_owned()).collect();
                    answer = inner.authenticate_keyboard_interactive_respond(answers).await?;
                }
            }
        }
        Ok(false)
    })
    .await?
}

/// What the container's server asks of us.
pub(super) struct Callee {
    middle: Weak<Middle>,
    chosen: Arc<AtomicBool>,
    refusals: Arc<Refusals>,
}

impl Callee {
    /// Opens a channel to the attacker for one that the container has opened.
    fn pass(&self, channel: Channel<Msg>, kind: ChannelKind, reply: ChannelOpenHandle, to: Back) {
        let Some(middle) = self.middle.upgrade() else { return };
        middle.clone().spawn(async move {
            let Some(client) = middle.client() else { return };
            let opening = async {
                match to {
                    Back::Forwarded { host, port, from, from_port } => {
                        client.channel_open_forwarded_tcpip(host, port, from, from_port).await
                    }
                    Back::Agent => client.channel_open_agent().await,
                }
            };
            match middle.slot() {
                None => middle.recorder.put(Entry::Refused { kind, reason: Text::new("too many channels") }).await,
                Some(slot) => match timeout(ANSWER, opening).await {
                    Ok(Ok(outer)) => {
                        reply.accept().await;
                        middle.carry(middle.join(slot, kind, outer, channel).await).await;
                    }
                    Ok(Err(error)) => {
                        middle.recorder.put(Entry::Refused { kind, reason: Text::new(error.to_string()) }).await;
                    }
                    Err(_) => middle.recorder.put(Entry::Refused { kind, reason: Text::new("no answer") }).await,
                },
            }
        });
    }
}

/// An address and a port as one word.
pub(super) fn end(address: &str, port: u32) -> String {
    match (address.parse::<IpAddr>(), u16::try_from(port)) {
        (Ok(ip), Ok(port)) => SocketAddr::new(ip, port).to_string(),
        // No port, but still an address, in words that are one to who truncates addresses.
        _ => format!("{address} port {port}"),
    }
}

/// What is asked of the attacker's client.
enum Back {
    Forwarded { host: String, port: u32, from: String, from_port: u32 },
    Agent,
}

impl client::Handler for Callee {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        // There is no one in the middle of us and our own container.
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        if let Some(middle) = self.middle.upgrade()
            && self.chosen.load(Ordering::Relaxed)
        {
            let word = match reason {
                DisconnectReason::ReceivedDisconnect(word) => Some((word.reason_code, word.message)),
                DisconnectReason::Error(_) => None,
            };
            middle.clone().spawn(async move { middle.hang_up(word).await });
        }
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        why: ChannelOpenFailure,
        word: &str,
        _: &str,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refusals.put(why.code(), word);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let kind = ChannelKind::ForwardedTcpip { host: Text::new(host), port, from: Text::new(end(from, from_port)) };
        self.pass(channel, kind, reply, Back::Forwarded { host: host.into(), port, from: from.into(), from_port });
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.pass(channel, ChannelKind::Agent, reply, Back::Agent);
        Ok(())
    }

    // No server asks a client for these; the library would accept. To drop the reply is to refuse.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_written_as_such_are_read() {
        for (address, port, written) in [
            ("192.0.2.1", 555, "192.0.2.1:555"),
            ("2001:db8::1", 555, "[2001:db8::1]:555"),
            ("UNKNOWN", 65_535, "UNKNOWN port 65535"),
            ("192.0.2.1", 65_536, "192.0.2.1 port 65536"),
            ("2001:db8::1", 65_536, "2001:db8::1 port 65536"),
        ] {
            assert_eq!(end(address, port), written);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whose_word_it_is_follows_from_the_reason() {
        let refusals = Refusals::default();
        for code in 0..2 * CHANNELS as u32 {
            refusals.put(code, "nobody waits for it");
        }
        refusals.put(2, &"é".repeat(WORD));
        refusals.put(1, "open failed");
        refusals.put(2, "second");
        assert_eq!(refusals.take(1).await, "open failed");
        assert_eq!(refusals.take(2).await, "é".repeat(WORD / 2));
        assert_eq!(refusals.take(2).await, "second");
        assert_eq!(refusals.said().len(), CHANNELS - 3);
        let waiting = refusals.take(4);
        assert!(timeout(ANSWER, waiting).await.is_err());
    }
}
