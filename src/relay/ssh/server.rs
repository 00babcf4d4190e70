//! What the attacker talks to.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::{Certificate, HashAlg, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig, client};
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{Control, signal_name};
use super::inner::{self, Closed, Inner};
use super::middle::Middle;
use super::observe::Observer;
use super::{ANSWER, CHANNELS, DIAL, offer};
use crate::relay::tape::{ChannelKind, Credential, Entry, Text};

/// Answers to one keyboard-interactive request that are recorded. There was one prompt.
const ANSWERS: usize = 4;
/// How long a client is let wait that sends octets although its window is all but closed.
const TRICKLE: Duration = Duration::from_millis(5);

/// One attacker's server.
pub(super) struct Host {
    middle: Arc<Middle>,
    /// Passwords that were refused.
    refused: u32,
    /// Who was asked for a password and has not answered.
    asked: Option<String>,
    /// The connection on which the container's own server is asked, and as whom.
    trial: Option<(String, Inner)>,
    /// Channels of the attacker's, by the library's numbers.
    controls: Arc<Mutex<HashMap<ChannelId, Arc<Control>>>>,
}

impl Host {
    pub(super) fn new(middle: Arc<Middle>) -> Host {
        Host { middle, refused: 0, asked: None, trial: None, controls: Arc::default() }
    }

    async fn put(&self, entry: Entry) {
        self.middle.recorder.put(entry).await;
    }

    async fn attempt(&self, user: &str, credential: Credential, accepted: bool) -> Auth {
        // Some clients guess the service's name and skip what would have been the occasion.
        self.middle.introduce().await;
        // To ask for the methods is no attempt that fails.
        let has_failed = !accepted && credential != Credential::None;
        self.put(Entry::Attempt { user: Text::new(user), credential, accepted }).await;
        if has_failed {
            self.middle.failed();
        }
        if accepted { Auth::Accept } else { self.refusal() }
    }

    /// A refusal that leaves everything to be tried again. (The library's own takes the method away.)
    fn refusal(&self) -> Auth {
        let methods = offer::methods(&self.middle.settings);
        Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
    }

    /// An attempt has come: the container starts if the next one needs it.
    fn expect(&self) {
        self.middle.watch.heard();
        if self.middle.settings.policy.expects(self.refused) {
            self.middle.begin();
        }
    }

    /// Whether a password opens the container. If it does, the answer takes its time, which is the same whether the container
    /// runs or only now begins to.
    async fn opens(&mut self, user: &str, password: &str) -> bool {
        let begun = Instant::now();
        let opened = self.decide(user, password).await;
        match opened {
            true => self.welcome(begun).await,
            false => {
                self.refused += 1;
                self.expect();
            }
        }
        opened
    }

    /// Has somebody inside who is let in, by an attempt that came when it is `begun`, and waits as long as an answer takes.
    async fn welcome(&self, begun: Instant) {
        self.middle.enter();
        sleep_until(begun + self.middle.settings.acceptance).await;
    }

    async fn decide(&mut self, user: &str, password: &str) -> bool {
        self.expect();
        let decided = self.middle.settings.policy.password(user, password, self.refused);
        match decided {
            Some(decided) => decided,
            None => match self.opens_inside(user, password).await {
                Ok(opened) => opened,
                Err(error) => {
                    self.middle.unreachable(&error).await;
                    false
                }
            },
        }
    }

    /// Whether the container's own server takes it.
    async fn opens_inside(&mut self, user: &str, password: &str) -> Result<bool, Closed> {
        // A server allows no other user in the same connection, and ends it after some attempts.
        let before = self.trial.take().filter(|(who, inner)| who == user && !inner.handle.is_closed());
        let (mut inner, used) = match before {
            Some((_, inner)) => (inner, true),
            None => (self.middle.connect().await?, false),
        };
        let mut opened = inner::try_password(&mut inner.handle, user, password).await?;
        if !opened && used && inner.handle.is_closed() {
            // It may have ended it before it looked at this one.
            inner = self.middle.connect().await?;
            opened = inner::try_password(&mut inner.handle, user, password).await?;
        }
        match opened {
            true => self.middle.choose(inner),
            false => self.trial = Some((user.to_owned(), inner)),
        }
        Ok(opened)
    }

    fn control(&self, channel: ChannelId) -> Option<Arc<Control>> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).get(&channel).cloned()
    }

    /// Passes what the attacker asks for in a channel, and answers as the server inside does.
    async fn ask<F>(
        &self,
        channel: ChannelId,
        session: &mut Session,
        entry: impl FnOnce(u32) -> Entry,
        request: impl FnOnce(Arc<russh::ChannelWriteHalf<client::Msg>>) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let Some(control) = self.control(channel) else { return session.channel_failure(channel) };
        self.put(entry(control.number)).await;
        match control.ask(request).await {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }

    /// Opens inside what the attacker wants opened.
    fn open<F>(
        &self,
        channel: Channel<Msg>,
        kind: ChannelKind,
        reply: ChannelOpenHandle,
        opening: impl FnOnce(Arc<Middle>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<Channel<client::Msg>, Error>> + Send + 'static,
    {
        let (middle, controls) = (self.middle.clone(), self.controls.clone());
        self.middle.spawn(async move {
            let refuse = async |reply: ChannelOpenHandle, kind, why: ChannelOpenFailure, reason: &str| {
                middle.recorder.put(Entry::Refused { kind, reason: Text::new(reason) }).await;
                reply.reject(why).await;
            };
            let Some(slot) = middle.slot() else {
                return refuse(reply, kind, ChannelOpenFailure::ResourceShortage, "too many channels").await;
            };
            let expecting = middle.outward.expect();
            let opened = timeout(ANSWER + DIAL, opening(middle.clone())).await;
            drop(expecting);
            let inside = match opened {
                Ok(Ok(inside)) => inside,
                Ok(Err(Error::ChannelOpenFailure(why))) => {
                    let reason = format!("{why:?}");
                    return refuse(reply, kind, why, &reason).await;
                }
                Ok(Err(error)) => {
                    return refuse(reply, kind, ChannelOpenFailure::ConnectFailed, &error.to_string()).await;
                }
                Err(_) => return refuse(reply, kind, ChannelOpenFailure::ConnectFailed, "no answer").await,
            };
            let id = channel.id();
            let carried = middle.join(slot, kind, channel, inside);
            let lock = || controls.lock().unwrap_or_else(PoisonError::into_inner);
            lock().insert(id, carried.control.clone());
            reply.accept().await;
            middle.carry(carried).await;
            lock().remove(&id);
        });
    }

    async fn refuse_key(&self, user: &str, key: &PublicKey, algorithm: &str, signed: bool) -> Auth {
        let credential = key_credential(key, algorithm, signed);
        self.attempt(user, credential, false).await
    }
}

fn key_credential(key: &PublicKey, algorithm: &str, signed: bool) -> Credential {
    let fingerprint = Text::new(key.fingerprint(HashAlg::Sha256).to_string());
    Credential::PublicKey { algorithm: Text::new(algorithm), fingerprint, signed }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Who goes away while being asked has tried all the same.
        if let Some(user) = self.asked.take() {
            let recorder = self.middle.recorder.clone();
            let credential = Credential::KeyboardInteractive { answers: Vec::new() };
            let entry = Entry::Attempt { user: Text::new(user), credential, accepted: false };
            self.middle.spawn(async move { recorder.put(entry).await });
        }
    }
}

impl Handler for Host {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        self.middle.introduce().await;
        Ok(None)
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        self.expect();
        Ok(self.attempt(user, Credential::None, false).await)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        let opened = self.opens(user, password).await;
        Ok(self.attempt(user, Credential::Password { password: Text::new(password) }, opened).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let Some(response) = response else {
            if !self.middle.settings.keyboard_interactive {
                return Ok(self.refusal());
            }
            self.expect();
            self.asked = Some(user.to_owned());
            // What PAM asks, by OpenSSH.
            let prompts = Cow::Borrowed(&[(Cow::Borrowed("Password: "), false)][..]);
            return Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts });
        };
        let answers: Vec<_> = response.take(ANSWERS).collect();
        self.asked = None;
        let password = answers.first().map(|answer| String::from_utf8_lossy(answer)).unwrap_or_default();
        let opened = self.opens(user, &password).await;
        let answers = answers.iter().map(Text::new).collect();
        Ok(self.attempt(user, Credential::KeyboardInteractive { answers }, opened).await)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        self.expect();
        if self.middle.settings.policy.public_key() {
            // It counts when it is signed with.
            return Ok(Auth::Accept);
        }
        Ok(self.refuse_key(user, offer.public_key, offer.algorithm.as_str(), false).await)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        let begun = Instant::now();
        self.middle.watch.heard();
        let accepted = self.middle.settings.policy.public_key();
        if accepted {
            self.welcome(begun).await;
        }
        let credential = key_credential(key.public_key, key.algorithm.as_str(), true);
        Ok(self.attempt(user, credential, accepted).await)
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Error> {
        self.expect();
        let key = PublicKey::from(certificate.public_key().clone());
        Ok(self.refuse_key(user, &key, &certificate.algorithm().to_certificate_type(), true).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        self.trial = None;
        self.middle.let_in(session.handle());
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.open(channel, ChannelKind::Session, reply, async |middle: Arc<Middle>| {
            middle.inner().await.ok_or(Error::Disconnect)?.handle.channel_open_session().await
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::DirectTcpip { host: Text::new(host), port };
        let (host, from) = (host.to_owned(), from.to_owned());
        self.open(channel, kind, reply, async move |middle: Arc<Middle>| {
            let inner = middle.inner().await.ok_or(Error::Disconnect)?;
            inner.handle.channel_open_direct_tcpip(host, port, from, from_port).await
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::DirectStreamlocal { path: Text::new(path) };
        let path = path.to_owned();
        self.open(channel, kind, reply, async move |middle: Arc<Middle>| {
            let inner = middle.inner().await.ok_or(Error::Disconnect)?;
            inner.handle.channel_open_direct_streamlocal(path).await
        });
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.put(Entry::Refused { kind: ChannelKind::X11, reason: Text::new("a client opens none") }).await;
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.middle.inward.window()
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Error> {
        let load = &self.middle.inward;
        if load.is_broken(CHANNELS) {
            self.middle.because("the client sends more than it may");
            return Err(Error::Inconsistent);
        }
        if data.len() <= 2 && load.is_full() {
            let _ = timeout(TRICKLE, load.room()).await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let entry = |channel| Entry::Pty { channel, term: Text::new(term), columns, rows };
        let request = async |inner: Arc<russh::ChannelWriteHalf<client::Msg>>| {
            inner.request_pty(true, term, columns, rows, width, height, modes).await
        };
        self.ask(channel, session, entry, request).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.put(Entry::Refused { kind: ChannelKind::X11, reason: Text::new("not passed") }).await;
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let entry = |channel| Entry::Env { channel, name: Text::new(name), value: Text::new(value) };
        let request = async |inner: Arc<russh::ChannelWriteHalf<client::Msg>>| inner.set_env(true, name, value).await;
        self.ask(channel, session, entry, request).await
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        let request = async |inner: Arc<russh::ChannelWriteHalf<client::Msg>>| inner.request_shell(true).await;
        self.ask(channel, session, |channel| Entry::Shell { channel }, request).await
    }

    async fn exec_request(&mut self, channel: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Error> {
        if let Some(control) = self.control(channel) {
            control.observe(Observer::of_command(command, self.middle.files(control.number)));
        }
        let entry = |channel| Entry::Exec { channel, command: Text::command(command) };
        let request = async |inner: Arc<russh::ChannelWriteHalf<client::Msg>>| inner.exec(true, command).await;
        self.ask(channel, session, entry, request).await
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        if let Some(control) = self.control(channel) {
            control.observe(Observer::of_subsystem(name, self.middle.files(control.number)));
        }
        let entry = |channel| Entry::Subsystem { channel, name: Text::new(name) };
        let request =
            async |inner: Arc<russh::ChannelWriteHalf<client::Msg>>| inner.request_subsystem(true, name).await;
        self.ask(channel, session, entry, request).await
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &mut Session,
    ) -> Result<(), Error> {
        if let Some(control) = self.control(channel) {
            self.put(Entry::Resize { channel: control.number, columns, rows }).await;
            control.tell(async |inner| inner.window_change(columns, rows, width, height).await).await;
        }
        Ok(())
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Error> {
        if let Some(control) = self.control(channel) {
            self.put(Entry::Signal { channel: control.number, name: Text::new(signal_name(&signal)) }).await;
            control.tell(async |inner| inner.signal(signal).await).await;
        }
        Ok(())
    }

    async fn agent_request(&mut self, channel: ChannelId, _: &mut Session) -> Result<bool, Error> {
        let Some(control) = self.control(channel) else { return Ok(false) };
        let accepted = control.ask(async |inner| inner.agent_forward(true).await).await;
        self.put(Entry::Agent { channel: control.number, accepted }).await;
        Ok(accepted)
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, _: &mut Session) -> Result<bool, Error> {
        let accepted = match self.middle.inner().await {
            None => false,
            Some(inner) => {
                let _expecting = self.middle.outward.expect();
                match timeout(ANSWER, inner.handle.tcpip_forward(host, *port)).await {
                    Ok(Ok(given)) => {
                        // 0 if it is the one that was asked for.
                        *port = if *port == 0 { given } else { *port };
                        true
                    }
                    _ => false,
                }
            }
        };
        self.put(Entry::Listen { host: Text::new(host), port: *port, accepted }).await;
        Ok(accepted)
    }

    async fn cancel_tcpip_forward(&mut self, host: &str, port: u32, _: &mut Session) -> Result<bool, Error> {
        self.put(Entry::Unlisten { host: Text::new(host), port }).await;
        let Some(inner) = self.middle.inner().await else { return Ok(false) };
        let _expecting = self.middle.outward.expect();
        Ok(matches!(timeout(ANSWER, inner.handle.cancel_tcpip_forward(host, port)).await, Ok(Ok(()))))
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        self.put(Entry::Listen { host: Text::new(path), port: 0, accepted: false }).await;
        Ok(false)
    }
}
