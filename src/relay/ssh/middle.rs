//! What the two sides of a connection share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::{ChannelOpenFailure, server};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::inner::{self, Closed, Dial, Inner};
use super::lane::Load;
use super::observe::{Files, Shared};
use super::watch::Watch;
use super::{ATTEMPTS, ATTEMPTS_DROPBEAR, CHANNELS, DISCONNECT, LAST_WORDS, Settings, TRIES, Used, is_dropbear};
use crate::relay::tape::{Entry, Reason, Recorder, Text};

/// A connection inside that waits for whom it is for, and when it was begun.
type Ahead = tokio::sync::Mutex<Option<(Instant, Result<Inner, Closed>)>>;

/// What is known of the way inside.
#[derive(Clone, Debug)]
enum Way {
    /// Nothing, or the container's server is just being reached.
    Unknown,
    /// It has been asked about the log-in, since then.
    Asked(Instant),
    /// It is open.
    Open,
    /// The server has refused the log-in.
    Refused,
    /// There is none, for this reason.
    Closed(Text),
}

/// One attacker's connection, and the one inside.
pub(super) struct Middle {
    pub(super) settings: Arc<Settings>,
    pub(super) recorder: Recorder,
    pub(super) watch: Arc<Watch>,
    /// What waits on its way inside, and out.
    pub(super) inward: Arc<Load>,
    pub(super) outward: Arc<Load>,
    /// Files have numbers that are those of the connection.
    files: Shared,
    dial: Dial,
    /// What was connected ahead of time, or is just being: then it is locked.
    ahead: Arc<Ahead>,
    /// Who does that.
    connecting: OnceLock<AbortHandle>,
    inner: OnceCell<Inner>,
    way: watch::Sender<Way>,
    client: OnceLock<server::Handle>,
    /// The attacker's side from its beginning.
    outer: OnceLock<server::Handle>,
    /// Attempts to log in, and those of them that count.
    tried: AtomicU32,
    failures: AtomicU32,
    /// As whom.
    user: OnceLock<String>,
    turned_away: AtomicBool,
    introduced: AtomicBool,
    why: OnceLock<(Reason, Option<Text>)>,
    channels: AtomicU32,
    slots: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    this: Weak<Middle>,
}

/// A channel that may be open, and its number.
pub(super) struct Slot {
    pub(super) number: u32,
    _permit: OwnedSemaphorePermit,
}

impl Middle {
    pub(super) fn new(settings: Arc<Settings>, dial: Dial, recorder: Recorder, watch: Arc<Watch>) -> Arc<Middle> {
        Arc::new_cyclic(|this| Middle {
            settings,
            recorder,
            watch,
            inward: Arc::default(),
            outward: Arc::default(),
            files: Shared::default(),
            dial,
            ahead: Arc::default(),
            connecting: OnceLock::new(),
            inner: OnceCell::new(),
            way: watch::Sender::new(Way::Unknown),
            client: OnceLock::new(),
            outer: OnceLock::new(),
            tried: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            user: OnceLock::new(),
            turned_away: AtomicBool::new(false),
            introduced: AtomicBool::new(false),
            why: OnceLock::new(),
            channels: AtomicU32::new(0),
            slots: Arc::new(Semaphore::new(CHANNELS)),
            tasks: Mutex::default(),
            this: this.clone(),
        })
    }

    /// What files of a channel are numbered and kept by.
    pub(super) fn files(&self, channel: u32) -> Files {
        Files::new(self.files.clone(), self.settings.keep, channel)
    }

    /// Tells how the client introduced itself, once.
    pub(super) async fn introduce(&self) {
        if !self.introduced.swap(true, Ordering::Relaxed) {
            self.recorder.put(self.watch.take()).await;
        }
    }

    /// The attacker's side is there.
    pub(super) fn runs(&self, outer: server::Handle) {
        let _ = self.outer.set(outer);
    }

    /// Whether the server that the host says it is is Dropbear.
    pub(super) fn is_dropbear(&self) -> bool {
        is_dropbear(&self.settings.banner)
    }

    /// Attempts to log in so far.
    pub(super) fn tried(&self) -> u32 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Whether `user` is who the client has begun to log in as, which is said by asking first.
    pub(super) fn is_known_as(&self, user: &str) -> bool {
        self.user.get_or_init(|| user.to_owned()) == user
    }

    /// Tells of an attempt. However little attempts count, they are not endless.
    pub(super) async fn attempt(&self, attempt: Entry) {
        let before = self.tried.fetch_add(1, Ordering::Relaxed);
        self.recorder.put(attempt).await;
        if before + 1 == TRIES {
            self.enough().await;
        }
    }

    /// An attempt to log in has failed. After the last that may, the connection ends.
    pub(super) async fn failed(&self) {
        let most = if self.is_dropbear() { ATTEMPTS_DROPBEAR } else { ATTEMPTS };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == most {
            self.enough().await;
        }
    }

    async fn enough(&self) {
        self.turn_away((Reason::TooManyAttempts, None), "Too many authentication failures").await;
    }

    /// The client wants to log in as another user than it has begun with.
    pub(super) async fn changed(&self, user: &str) {
        let before = self.user.get().map_or("", String::as_str);
        let mut said =
            format!("Change of username or service not allowed: ({before},ssh-connection) -> ({user},ssh-connection)");
        said.truncate(said.floor_char_boundary(DISCONNECT));
        let why = (Reason::ProtocolError, Some(Text::new("another user in the same connection")));
        self.turn_away(why, &said).await;
    }

    /// Ends a connection on which nobody has logged in, as OpenSSH does, with a word, or as Dropbear does.
    async fn turn_away(&self, (reason, detail): (Reason, Option<Text>), said: &str) {
        if self.turned_away.swap(true, Ordering::Relaxed) {
            return;
        }
        self.because(reason, detail);
        match self.outer.get() {
            Some(outer) if !self.is_dropbear() => {
                // There is always room: nobody else says anything before somebody has logged in.
                let _ = outer.disconnect(russh::Disconnect::ProtocolError, said.to_owned(), String::new()).await;
            }
            _ => self.watch.cut(),
        }
    }

    /// Whether that was done.
    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// The attacker has logged in.
    pub(super) fn let_in(&self, client: server::Handle) {
        self.watch.let_in();
        let _ = self.client.set(client);
    }

    /// The attacker's side, once they are logged in.
    pub(super) fn client(&self) -> Option<&server::Handle> {
        self.client.get()
    }

    /// The other side went away: with a word, which is passed on, or without, as a process does that is killed.
    pub(super) async fn hang_up(&self, word: Option<(russh::Disconnect, String)>) {
        let said = word.as_ref().map(|(_, said)| Text::new(said)).filter(|said| !said.as_str().is_empty());
        self.because(Reason::ServerClosed, said);
        match (word, self.client()) {
            (Some((code, said)), Some(client)) => _ = client.disconnect(code, said, String::new()).await,
            _ => self.watch.cut(),
        }
    }

    /// A connection inside will be needed, most likely: it is begun now, which starts the container if it does not run.
    /// Nobody logs in on it before somebody was let in, as the container's log would tell of somebody who was not.
    pub(super) fn begin(&self) {
        if self.connecting.get().is_some() || self.inner.initialized() {
            return;
        }
        // From here on whoever needs one waits for this one.
        let (Some(this), Ok(mut ahead)) = (self.this.upgrade(), self.ahead.clone().try_lock_owned()) else { return };
        let now = Instant::now();
        let begun = async move { *ahead = Some((now, inner::connect(&this.dial, this.this.clone()).await)) };
        let _ = self.connecting.set(self.tasks().spawn(begun));
    }

    /// The client is gone: nobody waits for what was begun for it.
    pub(super) async fn desist(&self) {
        if let Some(connecting) = self.connecting.get() {
            connecting.abort();
        }
        // It knows who it was for, who knows it.
        self.ahead.lock().await.take();
    }

    /// A connection inside, not logged in.
    pub(super) async fn connect(&self) -> Result<Inner, Closed> {
        self.connect_since().await.map(|(_, inner)| inner)
    }

    /// The same, and when it was begun.
    pub(super) async fn connect_since(&self) -> Result<(Instant, Inner), Closed> {
        match self.ahead.lock().await.take() {
            // A server ends a connection on which nobody logs in.
            Some((_, Ok(inner))) if inner.handle.is_closed() => {}
            Some((since, begun)) => return begun.map(|inner| (since, inner)),
            None => {}
        }
        let now = Instant::now();
        inner::connect(&self.dial, self.this.clone()).await.map(|inner| (now, inner))
    }

    /// Somebody is let in, or will be as soon as this is said: the way inside is opened.
    pub(super) fn enter(&self) {
        if let Some(this) = self.this.upgrade()
            && !self.inner.initialized()
        {
            self.way.send_replace(Way::Unknown);
            self.spawn(async move { _ = this.inner().await });
        }
    }

    /// The attacker has opened the container with a credential of its own.
    pub(super) fn choose(&self, inner: Inner) {
        inner.choose();
        let _ = self.inner.set(inner);
        self.way.send_replace(Way::Open);
    }

    /// Whether the container's server refuses the log-in of whoever is [entering](Self::enter). What it has not said yet is
    /// waited for where it may well refuse, as it did before, or thinks for long about a container that ran all the time, as
    /// servers do before they refuse. A container that has only begun to run says it too late to be waited for.
    pub(super) async fn is_refused(&self) -> bool {
        let Some(login) = &self.settings.login else { return false };
        let long = (self.settings.acceptance / 2).max(Duration::from_millis(1));
        let is_doubted = login.is_doubted();
        let mut way = self.way.subscribe();
        let known = way.wait_for(|way| match way {
            Way::Unknown => !is_doubted,
            Way::Asked(since) => !is_doubted && since.elapsed() < long,
            Way::Open | Way::Refused | Way::Closed(_) => true,
        });
        known.await.is_ok_and(|way| match &*way {
            Way::Refused => true,
            // A server that has refused it before and says nothing now lets nobody in.
            Way::Closed(_) => is_doubted,
            Way::Unknown | Way::Asked(_) | Way::Open => false,
        })
    }

    /// Why there was no way inside when one was last looked for.
    pub(super) fn closed(&self) -> Option<Text> {
        match &*self.way.borrow() {
            Way::Closed(why) => Some(why.clone()),
            Way::Refused => Some(Text::new(Closed::Refused.to_string())),
            Way::Unknown | Way::Asked(_) | Way::Open => None,
        }
    }

    /// The way inside, which is opened now if it is not.
    pub(super) async fn inner(&self) -> Option<&Inner> {
        let opened = self.inner.get_or_try_init(|| async {
            let login = self.settings.login.as_ref().ok_or(Closed::NoLogin)?;
            let mut inner = self.connect().await?;
            self.way.send_replace(Way::Asked(Instant::now()));
            inner::log_in(&mut inner.handle, login).await?;
            login.tried(false);
            inner.choose();
            Ok(inner)
        });
        match opened.await {
            Ok(inner) => {
                self.way.send_replace(Way::Open);
                Some(inner)
            }
            Err(error) => {
                let is_refused = matches!(error, Closed::Refused);
                if let Some(login) = self.settings.login.as_ref().filter(|_| is_refused) {
                    login.tried(true);
                }
                let why = || Way::Closed(Text::new(error.to_string()));
                self.way.send_replace(if is_refused { Way::Refused } else { why() });
                self.unreachable(&error).await;
                None
            }
        }
    }

    /// What the server inside has said when it refused to open a channel for this reason.
    pub(super) async fn refusal(&self, why: &ChannelOpenFailure) -> String {
        let Some(inner) = self.inner.get() else { return String::new() };
        inner.refusal(why).await.unwrap_or_default()
    }

    /// There is no way inside.
    pub(super) async fn unreachable(&self, why: &Closed) {
        self.recorder.put(Entry::Unreachable { reason: Text::new(why.to_string()) }).await;
    }

    /// Room for one more channel.
    pub(super) fn slot(&self) -> Option<Slot> {
        let permit = self.slots.clone().try_acquire_owned().ok()?;
        Some(Slot { number: self.channels.fetch_add(1, Ordering::Relaxed), _permit: permit })
    }

    /// Says why the connection is about to end.
    pub(super) fn because(&self, reason: Reason, detail: Option<Text>) {
        let _ = self.why.set((reason, detail));
    }

    /// What was said about that.
    pub(super) fn why(&self) -> Option<&(Reason, Option<Text>)> {
        self.why.get()
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something beside; at the end it is waited for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits for everything that was spawned.
    pub(super) async fn finish(&self) {
        loop {
            // Tasks spawn tasks.
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Ends everything that was spawned.
    pub(super) async fn abandon(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    /// Says goodbye inside, as OpenSSH's client does.
    pub(super) async fn leave(&self) {
        if let Some(inner) = self.inner.get() {
            let goodbye = inner.handle.disconnect(russh::Disconnect::ByApplication, "disconnected by user", "");
            let _ = timeout(LAST_WORDS, goodbye).await;
        }
    }

    /// What was needed.
    pub(super) fn used(&self) -> Used {
        Used { inward: self.inward.most(), outward: self.outward.most() }
    }
}
