//! Logging in: what is tried, how that is answered, and when it is enough.
//!
//! What counts against the number of attempts is what counts for the server that the host says it is. OpenSSH counts whatever is
//! refused but for the first question for the methods; Dropbear counts neither such questions nor keys.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use russh::keys::{HashAlg, PublicKey};
use russh::server::{Auth, Response};
use russh::{Error, MethodSet};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

use super::inner::{self, Closed, Inner};
use super::middle::Middle;
use super::offer;
use super::policy::Login;
use crate::relay::tape::{Credential, Entry, Text};

/// Answers to one keyboard-interactive request that are recorded. There was one prompt.
const ANSWERS: usize = 4;
/// The longest key that is told, as a line: one of RSA's with 8,192 bits, of which few are, has 1,410.
const LONGEST_KEY: usize = 1500;

/// One client's way in.
pub(super) struct LogIn {
    middle: Arc<Middle>,
    /// Passwords that were refused.
    refused: u32,
    /// Who was asked for a password and has not answered.
    asked: Option<String>,
    /// A key that was offered, would do, and has not signed.
    offered: Option<(String, Credential)>,
    /// The connection on which the container's own server is asked, and as whom.
    trial: Option<(String, Inner)>,
}

impl LogIn {
    pub(super) fn new(middle: Arc<Middle>) -> LogIn {
        LogIn { middle, refused: 0, asked: None, offered: None, trial: None }
    }

    /// The client asks what there is.
    pub(super) async fn nothing(&mut self, user: &str) -> Result<Auth, Error> {
        let is_first = self.middle.tried() == 0;
        self.comes(user).await;
        self.expect();
        self.refuse(user, Credential::None, !is_first && !self.middle.is_dropbear()).await
    }

    /// It says a password.
    pub(super) async fn password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        let begun = Instant::now();
        let opened = self.comes(user).await && self.opens(begun, user, password).await;
        self.answer(Some(begun), user, Credential::Password { password: Text::new(password) }, opened).await
    }

    /// It asks to be asked, or answers.
    pub(super) async fn interactive(&mut self, user: &str, response: Option<Response<'_>>) -> Result<Auth, Error> {
        let begun = Instant::now();
        let Some(response) = response else {
            let may = self.comes(user).await;
            if !may || !self.middle.settings.keyboard_interactive {
                return self.never(begun, user, Credential::KeyboardInteractive { answers: Vec::new() }).await;
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
        let opened = self.opens(begun, user, &password).await;
        let answers = answers.iter().map(Text::new).collect();
        self.answer(Some(begun), user, Credential::KeyboardInteractive { answers }, opened).await
    }

    /// It offers a key.
    pub(super) async fn offer(&mut self, user: &str, key: &PublicKey, algorithm: &str) -> Result<Auth, Error> {
        let may = self.comes(user).await;
        self.expect();
        let credential = key_credential(key, algorithm, false);
        if may && self.middle.settings.policy.public_key() {
            // It is told when it signs, or when something else comes instead.
            self.offered = Some((user.to_owned(), credential));
            return Ok(Auth::Accept);
        }
        self.refuse(user, credential, !self.middle.is_dropbear()).await
    }

    /// It has signed with one.
    pub(super) async fn signed(&mut self, user: &str, key: &PublicKey, algorithm: &str) -> Result<Auth, Error> {
        let begun = Instant::now();
        self.offered = None;
        let accepted = self.comes(user).await && self.middle.settings.policy.public_key();
        let credential = key_credential(key, algorithm, true);
        if !accepted || !self.welcome(begun).await {
            return self.refuse(user, credential, true).await;
        }
        self.attempt(user, credential, true).await;
        Ok(Auth::Accept)
    }

    /// It has signed with one that somebody vouches for.
    pub(super) async fn certified(&mut self, user: &str, key: &PublicKey, algorithm: &str) -> Result<Auth, Error> {
        self.offered = None;
        self.comes(user).await;
        self.expect();
        self.refuse(user, key_credential(key, algorithm, true), true).await
    }

    /// It wants another password, which neither server changes: they do not even look at the old one.
    pub(super) async fn change(&mut self, user: &str, old: &str, new: &str) -> Result<Auth, Error> {
        let begun = Instant::now();
        self.comes(user).await;
        self.expect();
        let credential = Credential::PasswordChange { old: Text::new(old), new: Text::new(new) };
        self.never(begun, user, credential).await
    }

    /// It tries a method that there is not.
    pub(super) async fn other(&mut self, user: &str, method: &str) -> Result<Option<MethodSet>, Error> {
        let begun = Instant::now();
        self.comes(user).await;
        self.expect();
        let credential = Credential::Digest { scheme: Text::new(method), value: Text::default() };
        self.never(begun, user, credential).await.map(methods_of)
    }

    /// It offers a key of a kind that is not known, or that cannot be right.
    pub(super) async fn unusable(
        &mut self,
        user: &str,
        algorithm: &str,
        key: &[u8],
    ) -> Result<Option<MethodSet>, Error> {
        self.comes(user).await;
        self.expect();
        let fingerprint = format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)));
        let shown = format!("{algorithm} {}", BASE64_STANDARD.encode(key));
        let key = if shown.len() <= LONGEST_KEY { Text::command(shown) } else { Text::default() };
        let (algorithm, fingerprint) = (Text::new(algorithm), Text::new(fingerprint));
        let credential = Credential::PublicKey { algorithm, fingerprint, signed: false, key };
        self.refuse(user, credential, !self.middle.is_dropbear()).await.map(methods_of)
    }

    /// The client is in.
    pub(super) fn succeeded(&mut self) {
        self.trial = None;
    }

    /// An attempt has come; whether it may be looked at. One as another user may not: servers end the connection.
    async fn comes(&mut self, user: &str) -> bool {
        // Some clients guess the service's name and skip what would have been the occasion.
        self.middle.introduce().await;
        // Who was asked and asks something else has not answered.
        for (user, credential) in self.unfinished() {
            self.attempt(&user, credential, false).await;
        }
        self.middle.is_known_as(user) && !self.middle.is_turned_away()
    }

    /// What was begun and not done.
    fn unfinished(&mut self) -> impl Iterator<Item = (String, Credential)> + use<> {
        let asked = self.asked.take().map(|user| (user, Credential::KeyboardInteractive { answers: Vec::new() }));
        asked.into_iter().chain(self.offered.take())
    }

    /// Tells of an attempt.
    async fn attempt(&self, user: &str, credential: Credential, accepted: bool) {
        self.middle.attempt(Entry::Attempt { user: Text::new(user), credential, accepted }).await;
    }

    /// Answers an attempt, whose refusal takes its time if it is told when it came.
    async fn answer(
        &self,
        begun: Option<Instant>,
        user: &str,
        credential: Credential,
        opened: bool,
    ) -> Result<Auth, Error> {
        if opened {
            self.attempt(user, credential, true).await;
            return Ok(Auth::Accept);
        }
        let refused = self.refuse(user, credential, true).await;
        if let Some(begun) = begun
            && self.middle.is_known_as(user)
        {
            sleep_until(begun + self.middle.settings.refusal).await;
        }
        refused
    }

    /// Answers what is refused whatever it is: OpenSSH has no time to lose with it.
    async fn never(&self, begun: Instant, user: &str, credential: Credential) -> Result<Auth, Error> {
        let begun = if self.middle.is_dropbear() { Some(begun) } else { None };
        self.answer(begun, user, credential, false).await
    }

    /// Refuses, and ends the connection if that was the last time.
    async fn refuse(&self, user: &str, credential: Credential, counts: bool) -> Result<Auth, Error> {
        self.attempt(user, credential, false).await;
        if !self.middle.is_known_as(user) {
            self.middle.changed(user).await;
        } else if counts {
            self.middle.failed().await;
        }
        if self.middle.is_turned_away() && self.middle.is_dropbear() {
            // Which says nothing in the end.
            return Err(Error::Disconnect);
        }
        // One that leaves everything to be tried again. (The library's own takes the method away.)
        let methods = offer::methods(&self.middle.settings);
        Ok(Auth::Reject { proceed_with_methods: Some(methods), partial_success: false })
    }

    /// An attempt has come: the container starts if the next one needs it.
    fn expect(&self) {
        if self.middle.settings.policy.expects(self.refused) {
            self.middle.begin();
        }
    }

    /// Whether a password opens the container. If it does, the answer takes its time, which is the same whether the container
    /// runs or only now begins to.
    async fn opens(&mut self, begun: Instant, user: &str, password: &str) -> bool {
        self.expect();
        let decided = self.middle.settings.policy.password(user, password, self.refused);
        let login = self.middle.settings.login.as_ref();
        let is_the_login = login.is_some_and(|login| (&*login.user, &*login.password) == (user, password));
        let is_doubted = login.is_some_and(Login::is_doubted);
        let opened = match decided {
            Some(true) => {
                self.welcome(begun).await || (!is_the_login && self.opens_by_itself(begun, user, password).await)
            }
            Some(false) if !is_doubted => false,
            // Whoever has changed the password comes back with theirs.
            Some(false) | None => self.opens_by_itself(begun, user, password).await,
        };
        if !opened {
            self.refused += 1;
            self.expect();
        }
        opened
    }

    /// Has somebody inside who is let in, by an attempt that came when it is `begun`, and waits as long as an answer takes.
    /// Whether that is so in the end: an intruder may have changed the password by which the middle itself logs in.
    async fn welcome(&self, begun: Instant) -> bool {
        self.middle.enter();
        sleep_until(begun + self.middle.settings.acceptance).await;
        !self.middle.is_refused().await
    }

    /// Whether the container's own server lets them in, which is asked.
    async fn opens_by_itself(&mut self, begun: Instant, user: &str, password: &str) -> bool {
        match self.opens_inside(user, password).await {
            Ok(true) => {
                sleep_until(begun + self.middle.settings.acceptance).await;
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.middle.unreachable(&error).await;
                false
            }
        }
    }

    /// A connection on which the container's own server is asked, as long after it was begun as an acceptance takes: how long the
    /// server thinks about a password is seen outside, whatever the answer, and how long the container took to start must
    /// not be seen in that.
    async fn ready(&self) -> Result<Inner, Closed> {
        let (since, inner) = self.middle.connect_since().await?;
        sleep_until(since + self.middle.settings.acceptance).await;
        Ok(inner)
    }

    /// Whether the container's own server takes it.
    async fn opens_inside(&mut self, user: &str, password: &str) -> Result<bool, Closed> {
        // A server allows no other user in the same connection, and ends it after some attempts.
        let before = self.trial.take().filter(|(who, inner)| who == user && !inner.handle.is_closed());
        let (mut inner, used) = match before {
            Some((_, inner)) => (inner, true),
            None => (self.ready().await?, false),
        };
        let mut opened = inner::try_password(&mut inner.handle, user, password).await?;
        if !opened && used && inner.handle.is_closed() {
            // It may have ended it before it looked at this one.
            inner = self.ready().await?;
            opened = inner::try_password(&mut inner.handle, user, password).await?;
        }
        match opened {
            true => self.middle.choose(inner),
            false => self.trial = Some((user.to_owned(), inner)),
        }
        Ok(opened)
    }
}

/// What may be tried instead.
fn methods_of(refused: Auth) -> Option<MethodSet> {
    match refused {
        Auth::Reject { proceed_with_methods, .. } => proceed_with_methods,
        _ => None,
    }
}

fn key_credential(key: &PublicKey, algorithm: &str, signed: bool) -> Credential {
    let fingerprint = Text::new(key.fingerprint(HashAlg::Sha256).to_string());
    let shown = key.to_openssh().ok().filter(|key| key.len() <= LONGEST_KEY);
    // A comment would be the library's.
    let shown = shown.as_deref().map(|key| key.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "));
    let key = shown.map(Text::command).unwrap_or_default();
    Credential::PublicKey { algorithm: Text::new(algorithm), fingerprint, signed, key }
}

impl Drop for LogIn {
    fn drop(&mut self) {
        // Who goes away while being asked has tried all the same.
        for (user, credential) in self.unfinished() {
            let recorder = self.middle.recorder.clone();
            let entry = Entry::Attempt { user: Text::new(user), credential, accepted: false };
            self.middle.spawn(async move { recorder.put(entry).await });
        }
    }
}
