//! One channel: what the attacker's side says goes inside, what comes from there goes back, and both onto the tape.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client, server};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ANSWER;
use super::lane::{Item, Lane, Load};
use super::middle::{Middle, Slot};
use super::observe::Observer;
use crate::relay::tape::{ChannelKind, Entry, Recorder, Stream, Text};

/// How long the end of what a program says waits for how it ended: both come together, unless it goes on in silence.
const END: Duration = Duration::from_millis(100);

/// By what requests in a channel are passed inside.
pub(super) struct Control {
    /// The channel's number.
    pub(super) number: u32,
    /// Its end inside.
    pub(super) inner: Arc<ChannelWriteHalf<client::Msg>>,
    /// What its server says to requests, in their order.
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>,
    observers: Arc<Observers>,
    outward: Arc<Load>,
    /// What runs in it has a terminal.
    terminal: AtomicBool,
}

/// Who looks at what a channel carries.
#[derive(Default)]
struct Observers {
    now: Mutex<Observer>,
    /// Who does as soon as what was asked for is granted. What is refused changes nothing.
    then: Mutex<Option<Observer>>,
}

impl Observers {
    fn now(&self) -> MutexGuard<'_, Observer> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn then(&self) -> MutexGuard<'_, Option<Observer>> {
        self.then.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is granted: what comes from now on is its program's.
    fn granted(&self) {
        if let Some(next) = self.then().take() {
            let mut now = self.now();
            // No server has two programs in a channel.
            if now.is_blind() {
                *now = next;
            }
        }
    }
}

impl Control {
    /// Passes a request for a program, whose octets are looked at by `observer`, and returns whether the server inside grants it.
    pub(super) async fn begin<F>(
        &self,
        observer: Observer,
        request: impl FnOnce(Arc<ChannelWriteHalf<client::Msg>>) -> F,
    ) -> bool
    where
        F: Future<Output = Result<(), russh::Error>>,
    {
        *self.observers.then() = Some(observer);
        let granted = self.ask(request).await;
        self.observers.then().take();
        granted
    }

    /// Passes a request, and returns whether the server inside grants it.
    pub(super) async fn ask<F>(&self, request: impl FnOnce(Arc<ChannelWriteHalf<client::Msg>>) -> F) -> bool
    where
        F: Future<Output = Result<(), russh::Error>>,
    {
        let _expecting = self.outward.expect();
        let mut answers = self.answers.lock().await;
        // To something that was given up.
        while answers.try_recv().is_ok() {}
        let asking = async { request(self.inner.clone()).await.is_ok() && answers.recv().await == Some(true) };
        timeout(ANSWER, asking).await.unwrap_or(false)
    }

    /// The channel has a terminal from now on.
    pub(super) fn gets_terminal(&self) {
        self.terminal.store(true, Ordering::Relaxed);
    }

    /// Whether it has one.
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.load(Ordering::Relaxed)
    }

    /// Passes what has no answer.
    pub(super) async fn tell<F>(&self, word: impl FnOnce(Arc<ChannelWriteHalf<client::Msg>>) -> F)
    where
        F: Future<Output = Result<(), russh::Error>>,
    {
        let _expecting = self.outward.expect();
        let _ = timeout(ANSWER, word(self.inner.clone())).await;
    }
}

/// A channel with both its ends, that has not begun.
pub(super) struct Carried {
    slot: Slot,
    outer: Channel<server::Msg>,
    inner_read: ChannelReadHalf,
    answered: mpsc::UnboundedSender<bool>,
    pub(super) control: Arc<Control>,
}

impl Middle {
    /// Joins the two ends of a channel, and tells that it is open. The attacker hears of it later, and has asked for nothing in
    /// it until then.
    pub(super) async fn join(
        &self,
        slot: Slot,
        kind: ChannelKind,
        outer: Channel<server::Msg>,
        inner: Channel<client::Msg>,
    ) -> Carried {
        self.recorder.put(Entry::Opened { channel: slot.number, kind }).await;
        let (inner_read, inner) = inner.split();
        let (answered, answers) = mpsc::unbounded_channel();
        let control = Control {
            number: slot.number,
            inner: Arc::new(inner),
            answers: answers.into(),
            observers: Arc::default(),
            outward: self.outward.clone(),
            terminal: AtomicBool::new(false),
        };
        Carried { slot, outer, inner_read, answered, control: Arc::new(control) }
    }

    /// Carries a channel until it is closed.
    pub(super) async fn carry(&self, channel: Carried) {
        let Carried { slot, outer, inner_read, answered, control } = channel;
        let number = slot.number;
        let (inward, outward) = (Lane::new(self.inward.clone()), Lane::new(self.outward.clone()));
        let (outer_read, outer) = outer.split();
        let Some(client) = self.client() else { return };
        let passer = Passer { channel: number, recorder: &self.recorder, observers: &control.observers };
        let out = Outer { client, channel: &outer };
        // Whichever side closes has been heard to its end; what the other still says has nowhere to go.
        let is_gone = tokio::select! {
            _ = async { tokio::join!(from_client(outer_read, &inward), passer.inside(&inward, &control.inner)) } => false,
            ((), is_gone) = async {
                let reading = from_inside(inner_read, &outward, answered, &control.observers);
                tokio::join!(reading, passer.outside(&outward, &out))
            } => is_gone,
        };
        let _ = control.inner.close().await;
        match is_gone {
            // Nobody is there who would close a channel.
            true => self.watch.cut(),
            false => _ = outer.close().await,
        }
        for entry in passer.end() {
            self.recorder.put(entry).await;
        }
        self.recorder.put(Entry::Closed { channel: number }).await;
    }
}

/// Takes everything from the client at once.
async fn from_client(mut from: ChannelReadHalf, lane: &Lane) {
    loop {
        match from.wait().await {
            Some(ChannelMsg::Data { data }) => lane.push(Item::Data(data)),
            Some(ChannelMsg::ExtendedData { ext, data }) => lane.push(Item::Extended(ext, data)),
            Some(ChannelMsg::Eof) => lane.push(Item::Eof),
            None | Some(ChannelMsg::Close) => return lane.push(Item::Close),
            // Requests come to the server as calls.
            Some(_) => {}
        }
    }
}

/// Takes from inside what there is room for.
async fn from_inside(
    mut from: ChannelReadHalf,
    lane: &Lane,
    answered: mpsc::UnboundedSender<bool>,
    observers: &Observers,
) {
    loop {
        lane.room().await;
        match from.wait().await {
            Some(ChannelMsg::Data { data }) => lane.push(Item::Data(data)),
            Some(ChannelMsg::ExtendedData { ext, data }) => lane.push(Item::Extended(ext, data)),
            Some(ChannelMsg::Eof) => lane.push(Item::Eof),
            Some(ChannelMsg::ExitStatus { exit_status }) => lane.push(Item::Exit(exit_status)),
            Some(ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, .. }) => {
                lane.push(Item::Killed { signal: signal_name, core_dumped, message: error_message });
            }
            // Nobody asks any more when the channel is over.
            Some(ChannelMsg::Success) => {
                observers.granted();
                let _ = answered.send(true);
            }
            Some(ChannelMsg::Failure) => _ = answered.send(false),
            Some(ChannelMsg::Close) => return lane.push(Item::Close),
            // The connection is gone.
            None => return lane.push(Item::Gone),
            Some(_) => {}
        }
    }
}

/// The attacker's end.
struct Outer<'a> {
    client: &'a server::Handle,
    channel: &'a ChannelWriteHalf<server::Msg>,
}

/// A signal without its `SIG` (RFC 4254 §6.10).
pub(super) fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

/// Passes what waits in lanes on, once the tape has it.
struct Passer<'a> {
    channel: u32,
    recorder: &'a Recorder,
    observers: &'a Observers,
}

impl Passer<'_> {
    async fn record(&self, stream: Stream, data: &Bytes) {
        let entries = self.observers.now().look(self.channel, stream, data);
        match entries {
            None => self.recorder.data(self.channel, stream, data).await,
            Some(entries) => {
                for entry in entries {
                    self.recorder.put(entry).await;
                }
            }
        }
    }

    /// What is left of files that were moving.
    fn end(&self) -> Vec<Entry> {
        self.observers.now().end()
    }

    async fn inside(&self, lane: &Lane, to: &ChannelWriteHalf<client::Msg>) {
        loop {
            let passed = match lane.pop().await {
                Item::Data(data) => {
                    self.record(Stream::Input, &data).await;
                    to.data_bytes(data).await
                }
                Item::Extended(kind, data) => {
                    self.recorder.data(self.channel, Stream::Input, &data).await;
                    to.extended_data_bytes(kind, data).await
                }
                Item::Eof => to.eof().await,
                Item::Exit(_) | Item::Killed { .. } => Ok(()),
                Item::Close | Item::Gone => return,
            };
            if passed.is_err() {
                return;
            }
        }
    }

    /// Passes on what comes from inside; whether that ended because the connection is gone.
    async fn outside(&self, lane: &Lane, to: &Outer<'_>) -> bool {
        while let Some(item) = self.next_outside(lane, to).await {
            let passed = match item {
                Item::Data(data) => {
                    self.record(Stream::Output, &data).await;
                    to.channel.data_bytes(data).await
                }
                Item::Extended(kind, data) => {
                    self.recorder.data(self.channel, Stream::Error, &data).await;
                    to.channel.extended_data_bytes(kind, data).await
                }
                Item::Eof => to.channel.eof().await,
                Item::Gone => return true,
                ended => self.ended(ended, to).await,
            };
            if passed.is_err() {
                return false;
            }
        }
        false
    }

    /// The next thing to be passed on; none when the channel is closed.
    ///
    /// How the program ended goes before the end of what it says, which servers say first as often as not: a client that has
    /// said its own last word may close the channel upon that, and would not hear more.
    async fn next_outside(&self, lane: &Lane, to: &Outer<'_>) -> Option<Item> {
        let item = lane.pop().await;
        if !matches!(item, Item::Eof) {
            return (!matches!(item, Item::Close)).then_some(item);
        }
        match timeout(END, lane.pop()).await {
            Ok(Item::Close) => {
                let _ = to.channel.eof().await;
                None
            }
            Ok(Item::Gone) => {
                let _ = to.channel.eof().await;
                Some(Item::Gone)
            }
            Ok(ended @ (Item::Exit(_) | Item::Killed { .. })) => {
                self.ended(ended, to).await.is_ok().then_some(Item::Eof)
            }
            Ok(other) => Some(other),
            Err(_) => Some(Item::Eof),
        }
    }

    /// Passes on how the program ended.
    async fn ended(&self, item: Item, to: &Outer<'_>) -> Result<(), russh::Error> {
        match item {
            Item::Exit(status) => {
                let entry = Entry::Exit { channel: self.channel, status: Some(status), signal: None };
                self.recorder.put(entry).await;
                to.channel.exit_status(status).await
            }
            Item::Killed { signal, core_dumped, message } => {
                let name = Some(Text::new(signal_name(&signal)));
                self.recorder.put(Entry::Exit { channel: self.channel, status: None, signal: name }).await;
                let id = to.channel.id();
                let told = to.client.exit_signal_request(id, signal, core_dumped, message, String::new()).await;
                told.map_err(|()| russh::Error::SendError)
            }
            _ => Ok(()),
        }
    }
}
