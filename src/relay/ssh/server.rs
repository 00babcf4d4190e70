//! What the attacker talks to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::{Algorithm, Certificate, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, MethodSet, Pty, Sig, client};
use tokio::time::timeout;

use super::auth::LogIn;
use super::channel::{Control, signal_name};
use super::inner::end;
use super::middle::Middle;
use super::observe::Observer;
use super::{ANSWER, CHANNELS, DIAL};
use crate::relay::tape::{ChannelKind, Entry, Reason, Text};

/// How long a client is let wait that sends octets although its window is all but closed.
const TRICKLE: Duration = Duration::from_millis(5);

/// One attacker's server.
pub(super) struct Host {
    middle: Arc<Middle>,
    log_in: LogIn,
    /// Channels of the attacker's, by the library's numbers.
    controls: Arc<Mutex<HashMap<ChannelId, Arc<Control>>>>,
}

impl Host {
    pub(super) fn new(middle: Arc<Middle>) -> Host {
        Host { log_in: LogIn::new(middle.clone()), middle, controls: Arc::default() }
    }

    async fn put(&self, entry: Entry) {
        self.middle.recorder.put(entry).await;
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

    /// Who looks at what a program carries that is about to begin: `known`, or who keeps what it reads and says if it has no
    /// terminal.
    fn observer(&self, control: &Control, known: Observer, program: impl FnOnce() -> Text) -> Observer {
        match control.has_terminal() {
            true => known,
            false => known.or_program(program, self.middle.files(control.number)),
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
                    let word = middle.refusal(&why).await;
                    let reason = reason(&why, &word);
                    // The library has words of its own for what it knows; the client is to hear the server's.
                    let why = ChannelOpenFailure::Other { code: why.code(), reason: word };
                    return refuse(reply, kind, why, &reason).await;
                }
                Ok(Err(error)) => {
                    return refuse(reply, kind, ChannelOpenFailure::ConnectFailed, &error.to_string()).await;
                }
                Err(_) => return refuse(reply, kind, ChannelOpenFailure::ConnectFailed, "no answer").await,
            };
            let id = channel.id();
            let carried = middle.join(slot, kind, channel, inside).await;
            let lock = || controls.lock().unwrap_or_else(PoisonError::into_inner);
            lock().insert(id, carried.control.clone());
            reply.accept().await;
            middle.carry(carried).await;
            lock().remove(&id);
        });
    }
}

/// Why a channel is not opened, as OpenSSH's client shows it.
fn reason(why: &ChannelOpenFailure, word: &str) -> String {
    let known = match why.code() {
        1 => "administratively prohibited",
        2 => "connect failed",
        3 => "unknown channel type",
        4 => "resource shortage",
        _ => "unknown reason",
    };
    if word.is_empty() { known.to_owned() } else { format!("{known}: {word}") }
}

impl Handler for Host {
    type Error = Error;

    async fn host_key(&mut self, algorithm: &Algorithm) -> Result<Option<PrivateKey>, Error> {
        Ok(match &self.middle.settings.rsa {
            Some(rsa) if matches!(algorithm, Algorithm::Rsa { .. }) => rsa.make().await,
            _ => None,
        })
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        self.middle.introduce().await;
        Ok(None)
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        self.log_in.nothing(user).await
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        self.log_in.password(user, password).await
    }

    async fn auth_password_change(&mut self, user: &str, old: &str, new: &str) -> Result<Auth, Error> {
        self.log_in.change(user, old, new).await
    }

    async fn auth_unsupported(&mut self, user: &str, method: &str) -> Result<Option<MethodSet>, Error> {
        self.log_in.other(user, method).await
    }

    async fn auth_publickey_unusable(
        &mut self,
        user: &str,
        algorithm: &str,
        key: &[u8],
    ) -> Result<Option<MethodSet>, Error> {
        self.log_in.unusable(user, algorithm, key).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        self.log_in.interactive(user, response).await
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        self.log_in.offer(user, offer.public_key, offer.algorithm.as_str()).await
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        self.log_in.signed(user, key.public_key, key.algorithm.as_str()).await
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Error> {
        let key = PublicKey::from(certificate.public_key().clone());
        self.log_in.certified(user, &key, &certificate.algorithm().to_certificate_type()).await
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        self.log_in.succeeded();
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
        let kind = ChannelKind::DirectTcpip { host: Text::new(host), port, from: Text::new(end(from, from_port)) };
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
            let why = Text::new("the client sends more than it may");
            self.middle.because(Reason::ProtocolError, Some(why));
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
        let Some(control) = self.control(channel) else { return session.channel_failure(channel) };
        self.put(entry(control.number)).await;
        if !control.ask(request).await {
            return session.channel_failure(channel);
        }
        control.gets_terminal();
        session.channel_success(channel)
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
        let Some(control) = self.control(channel) else { return session.channel_failure(channel) };
        self.put(Entry::Shell { channel: control.number }).await;
        let observer = self.observer(&control, Observer::Octets, || Text::new("shell"));
        match control.begin(observer, async |inner| inner.request_shell(true).await).await {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }

    async fn exec_request(&mut self, channel: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Error> {
        let Some(control) = self.control(channel) else { return session.channel_failure(channel) };
        self.put(Entry::Exec { channel: control.number, command: Text::command(command) }).await;
        let observer = Observer::of_command(command, self.middle.files(control.number));
        let observer = self.observer(&control, observer, || Text::command(command));
        match control.begin(observer, async |inner| inner.exec(true, command).await).await {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        let Some(control) = self.control(channel) else { return session.channel_failure(channel) };
        self.put(Entry::Subsystem { channel: control.number, name: Text::new(name) }).await;
        let observer = Observer::of_subsystem(name, self.middle.files(control.number));
        match control.begin(observer, async |inner| inner.request_subsystem(true, name).await).await {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
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
