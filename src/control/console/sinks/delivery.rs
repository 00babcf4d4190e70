//! One sink at work: it reads the log, sends, and moves its place in the log when what it sent is taken.
//!
//! That a connection took octets is no promise that anybody reads them. So a record counts as taken when the receiver's
//! machine has acknowledged it and nothing has failed for a moment after that; whatever fails before is sent again. A
//! receiver that goes away and comes back gets everything, in order, and what was in flight twice.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{Wire, elsewhere};
use crate::control::console::shared::Shared;
use crate::control::console::to_recorder::ToRecorder;
use crate::event::{Event, EventId, Said, Utc};
use crate::record::Record;
use crate::record::sink::{Cursor, Next, Origin, SinkConfig, SinkStatus, Tail, framed, messages, pause};
use crate::sys::clock;
use crate::wire::Instant as Moment;

/// Records, and octets, that are sent at once.
const RECORDS: usize = 512;
const OCTETS: usize = 256 << 10;
/// Octets that a receiver may owe an acknowledgment for before it gets more.
const WINDOW: usize = 512 << 10;
/// How long records gather once there is one.
const GATHER: Duration = Duration::from_millis(20);
/// How soon, and how late, it is looked again whether a receiver has acknowledged.
const SOON: Duration = Duration::from_millis(2);
const LATE: Duration = Duration::from_millis(50);
/// How often the place in the log is written down.
const SAVE: Duration = Duration::from_secs(1);
/// A connection that lasted that long has worked: the next failure is the first.
const STEADY: Duration = Duration::from_secs(30);
/// How long there is at the end to send what there is.
const GRACE: Duration = Duration::from_millis(500);

/// A sink at work.
pub struct Delivery {
    sink: SinkConfig,
    origin: Origin,
    cursor: Cursor,
    dir: PathBuf,
    newest: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    shared: Arc<Shared>,
    to_recorder: ToRecorder,
    status: SinkStatus,
    /// Whether it was told that the receiver is away.
    is_told_down: bool,
    saved: Instant,
    is_unsaved: bool,
    /// Whether it was told that the disk does not take it.
    is_told_unsaved: bool,
    /// Whether something was sent of which it is not known that the disk has it, where that lies here.
    is_unsynced: bool,
    /// Who writes the place down has that: it may go on when nobody waits for it any more, and the next one comes after it.
    saving: Arc<tokio::sync::Mutex<()>>,
}

/// How a connection ended that did not fail.
enum Over {
    /// All is to end.
    Stopped,
    /// The receiver closed it, and lacks nothing.
    Idle,
}

/// Waits until a value is as `wanted`, or never changes again.
async fn is<T>(value: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    let _ = value.wait_for(wanted).await.map(drop);
}

/// Records up to a number, and what became of them.
struct Mark {
    seq: u64,
    /// Messages that were sent of them.
    messages: u64,
    /// Records that were deleted instead.
    lost: u64,
    /// The time of the last one; of deleted ones, that of the one after them.
    at: Option<Utc>,
    /// Since when the receiver's machine has it.
    taken: Option<Instant>,
}

#[derive(Default)]
struct Batch {
    messages: Vec<Vec<u8>>,
    octets: usize,
    /// Records that were passed over or sent, and those that were lost.
    marks: Vec<Mark>,
    is_full: bool,
}

impl Delivery {
    /// A sink that goes on at `cursor`. `dir` is the honeynet's directory.
    pub fn new(
        sink: SinkConfig,
        origin: Origin,
        cursor: Cursor,
        dir: &Path,
        (newest, stop): (watch::Receiver<u64>, watch::Receiver<bool>),
        shared: Arc<Shared>,
        to_recorder: ToRecorder,
    ) -> Delivery {
        let status = SinkStatus {
            sink: sink.name.clone(),
            to: format!("{} {}", sink.format.name(), sink.to),
            state: "starting".to_owned(),
            ..SinkStatus::default()
        };
        let delivery = Delivery {
            sink,
            origin,
            cursor,
            dir: dir.to_owned(),
            newest,
            stop,
            shared,
            to_recorder,
            status,
            is_told_down: false,
            saved: Instant::now(),
            // A place that was found new is to be found again.
            is_unsaved: true,
            is_told_unsaved: false,
            is_unsynced: false,
            saving: Arc::default(),
        };
        delivery.publish();
        delivery
    }

    /// Sends until all is to end.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.work() => {}
            // A disk that takes nothing keeps nobody from ending.
            () = async {
                is(&mut stop, |stop| *stop).await;
                tokio::time::sleep(2 * GRACE).await;
            } => {}
        }
        self.publish();
    }

    async fn work(&mut self) {
        let mut failures = 0;
        self.save().await;
        while !*self.stop.borrow() {
            self.pass_over_lost().await;
            let began = Instant::now();
            let mut stop = self.stop.clone();
            let over = tokio::select! {
                over = self.connected() => over,
                () = async {
                    is(&mut stop, |stop| *stop).await;
                    tokio::time::sleep(GRACE).await;
                } => Ok(Over::Stopped),
            };
            match over {
                Ok(Over::Stopped) => break,
                Ok(Over::Idle) => self.wait_for_more().await,
                Err(error) => {
                    failures = if began.elapsed() >= STEADY { 1 } else { failures + 1 };
                    self.down(&error, failures).await;
                }
            }
            self.save().await;
        }
        self.save().await;
    }

    async fn connected(&mut self) -> io::Result<Over> {
        let mut wire = Wire::connect(&self.sink.to, &self.dir).await?;
        let over = self.deliver(&mut wire).await;
        self.sync(&wire).await;
        over
    }

    async fn deliver(&mut self, wire: &mut Wire) -> io::Result<Over> {
        let mut tail = Tail::after(&self.dir.join("events"), self.cursor.seq());
        // Whoever stays for a moment is up, even if there is nothing to send.
        let first = Mark { seq: self.cursor.seq(), messages: 0, lost: 0, at: None, taken: Some(Instant::now()) };
        let mut marks = VecDeque::from([first]);
        let (mut in_flight, mut look) = (0, SOON);
        loop {
            self.newest.borrow_and_update();
            let is_ending = *self.stop.borrow();
            let mut is_more = false;
            if in_flight < WINDOW {
                let batch = self.read(&mut tail)?;
                is_more = batch.is_full;
                if !batch.messages.is_empty() {
                    self.is_unsynced = matches!(wire, Wire::File(_));
                    wire.send(&batch.messages).await?;
                    in_flight += batch.octets;
                }
                marks.extend(batch.marks);
            }
            if in_flight == 0 || wire.has_taken_all()? {
                (in_flight, look) = (0, SOON);
                marks.iter_mut().for_each(|mark| mark.taken = mark.taken.or_else(|| Some(Instant::now())));
            }
            let settle = if is_ending { Duration::ZERO } else { wire.settles_after() };
            self.confirm(&mut marks, settle).await;
            if self.is_unsaved && self.saved.elapsed() >= SAVE {
                self.sync(wire).await;
                self.save().await;
            }
            self.publish();
            if is_ending && marks.is_empty() && !is_more {
                return Ok(Over::Stopped);
            }
            if is_more && in_flight < WINDOW {
                tokio::task::yield_now().await;
                continue;
            }
            let settled = marks.front().and_then(|mark| mark.taken).map(|taken| taken + settle);
            let saved = self.is_unsaved.then(|| self.saved + SAVE);
            let looked = (in_flight > 0).then(|| Instant::now() + look);
            look = (look * 2).min(LATE);
            let next = [settled, saved, looked].into_iter().flatten().min();
            tokio::select! {
                error = wire.failed() => {
                    return match error.kind() {
                        io::ErrorKind::UnexpectedEof if marks.is_empty() => Ok(Over::Idle),
                        _ => Err(error),
                    };
                }
                changed = self.newest.changed(), if in_flight < WINDOW && !is_ending => {
                    // The recorder has ended: so does this, soon.
                    if changed.is_ok() { tokio::time::sleep(GATHER).await } else { tokio::time::sleep(LATE).await }
                }
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                _ = self.stop.changed(), if !is_ending => {}
            }
        }
    }

    /// The next messages.
    fn read(&self, tail: &mut Tail) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let before = tail.last();
        let (mut sent, mut at) = (0, None);
        let mut records = 0;
        while records < RECORDS && batch.octets < OCTETS {
            let next = tail.read().map_err(|error| io::Error::new(error.kind(), format!("the event log: {error}")))?;
            match next {
                Next::Record(_, line) => {
                    records += 1;
                    // Of another version of honeyweave it may be more than we know.
                    let Ok(record) = serde_json::from_str::<Record>(&line) else { continue };
                    at = Some(record.time);
                    if let Some(lost) = batch.marks.last_mut() {
                        lost.at = lost.at.or(at);
                    }
                    for message in self.messages(&record, &line) {
                        sent += 1;
                        batch.octets += message.len();
                        batch.messages.push(message);
                    }
                }
                Next::Lost(count, newest) => {
                    let (messages, at) = (std::mem::take(&mut sent), at.take());
                    batch.marks.push(Mark { seq: newest.saturating_sub(count), messages, lost: 0, at, taken: None });
                    batch.marks.push(Mark { seq: newest, messages: 0, lost: count, at: None, taken: None });
                }
                Next::End => break,
            }
        }
        batch.is_full = records == RECORDS || batch.octets >= OCTETS;
        if tail.last() != before {
            batch.marks.push(Mark { seq: tail.last(), messages: sent, lost: 0, at, taken: None });
        }
        Ok(batch)
    }

    fn messages(&self, record: &Record, line: &str) -> Vec<Vec<u8>> {
        if !self.sink.events.has(record.event) {
            return Vec::new();
        }
        let (format, to) = (self.sink.format, &self.sink.to);
        let told = messages(format, record, line, &self.origin);
        told.into_iter().map(|message| framed(format, to, message, record, &self.origin)).collect()
    }

    /// Moves on past what has been with the receiver for a moment.
    async fn confirm(&mut self, marks: &mut VecDeque<Mark>, settle: Duration) {
        let now = Instant::now();
        while let Some(mark) = marks.front()
            && mark.taken.is_some_and(|taken| now >= taken + settle)
        {
            let (seq, messages, lost, at) = (mark.seq, mark.messages, mark.lost, mark.at);
            marks.pop_front();
            self.is_unsaved |= seq > self.cursor.seq();
            if lost > 0 {
                self.lose(lost, seq, at).await;
            } else {
                self.cursor.done(seq, messages, at);
            }
            self.up().await;
        }
    }

    /// Counts what was deleted while nothing could be sent.
    async fn pass_over_lost(&mut self) {
        let mut tail = Tail::after(&self.dir.join("events"), self.cursor.seq());
        if let Ok(Next::Lost(count, newest)) = tail.read() {
            let until = match tail.read() {
                Ok(Next::Record(_, line)) => serde_json::from_str::<Record>(&line).ok().map(|record| record.time),
                _ => None,
            };
            self.is_unsaved = true;
            self.lose(count, newest, until).await;
            self.save().await;
        }
    }

    /// So many records up to `newest` are gone; the one that follows them is of the time `until`.
    async fn lose(&mut self, count: u64, newest: u64, until: Option<Utc>) {
        self.cursor.done(newest, 0, None);
        self.cursor.lose(count);
        let (name, first) = (&self.sink.name, newest.saturating_sub(count).saturating_add(1));
        let from = self.cursor.at().map(|from| format!(" from {from}")).unwrap_or_default();
        let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
        let text =
            format!("sink {name}: the log deleted records {first} to {newest}{from}{until} before they were sent");
        tracing::warn!(count, "{text}");
        self.say(EventId::SinkLost, count, text).await;
    }

    async fn up(&mut self) {
        if self.status.state == "up" {
            return;
        }
        self.status = SinkStatus { state: "up".to_owned(), error: None, retry: None, ..self.status.clone() };
        if std::mem::take(&mut self.is_told_down) {
            let text = format!("sink {}: {} takes records again", self.sink.name, self.sink.to);
            tracing::info!("{text}");
            self.say(EventId::SinkState, 1, text).await;
        }
    }

    /// It has failed: says so if that is new, and waits until it is time for another try.
    async fn down(&mut self, error: &io::Error, failures: u32) {
        let pause = pause(failures, std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), failures));
        let retry = clock::realtime_micros().saturating_add_unsigned(pause.as_micros() as u64);
        self.status.state = "down".to_owned();
        self.status.failures += 1;
        self.status.error = Some(crate::record::escape(&error.to_string()).chars().take(300).collect());
        self.status.retry = Some(Utc::from_micros(retry));
        if !std::mem::replace(&mut self.is_told_down, true) {
            let text = format!("sink {}: {} takes nothing: {error}; it is tried again", self.sink.name, self.sink.to);
            tracing::warn!("{text}");
            self.say(EventId::SinkState, 1, text).await;
        }
        self.publish();
        let until = Instant::now() + pause;
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = is(&mut stop, |stop| *stop) => return,
                // How far it is behind is news.
                changed = self.newest.changed() => {
                    tokio::time::sleep(LATE).await;
                    if changed.is_err() {
                        return;
                    }
                    self.publish();
                }
            }
        }
    }

    /// Waits until there is something to send.
    async fn wait_for_more(&mut self) {
        let (seq, mut stop) = (self.cursor.seq(), self.stop.clone());
        tokio::select! {
            () = is(&mut self.newest, |newest| *newest > seq) => {}
            () = is(&mut stop, |stop| *stop) => {}
        }
        // A receiver that hangs up on everybody is not asked without end.
        tokio::time::sleep(GATHER).await;
    }

    /// Has the disk take what was sent, before it is written down that this is done with.
    async fn sync(&mut self, wire: &Wire) {
        if self.is_unsynced {
            match wire.sync().await {
                Ok(()) => self.is_unsynced = false,
                Err(error) => self.complain(&error),
            }
        }
    }

    /// Writes down the place in the log. After a loss of power all that the disk may not have is sent again.
    async fn save(&mut self) {
        self.saved = Instant::now();
        if self.is_unsynced {
            return;
        }
        let (mut cursor, alone) = (self.cursor.clone(), self.saving.clone().lock_owned().await);
        let saved = elsewhere(move || {
            let _alone = alone;
            cursor.save().map(|()| cursor)
        });
        match saved.await {
            Ok(cursor) => (self.cursor, self.is_unsaved, self.is_told_unsaved) = (cursor, false, false),
            Err(error) => self.complain(&error),
        }
    }

    /// It is tried again every second, and said once.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_told_unsaved, true) {
            tracing::warn!(%error, sink = self.sink.name, "a sink's place in the log cannot be written down");
        }
    }

    fn publish(&self) {
        let newest = *self.newest.borrow();
        let mut status = self.status.clone();
        (status.seq, status.sent, status.lost) = (self.cursor.seq(), self.cursor.sent(), self.cursor.lost());
        status.behind = newest.saturating_sub(status.seq);
        self.shared.sink(status);
    }

    async fn say(&self, id: EventId, count: u64, text: String) {
        let at = Moment::from_micros(clock::monotonic_micros());
        let event = Event { count, ..Event::new(id, at) };
        let text: String = text.chars().take(250).collect();
        // Without a recorder the console ends anyway.
        self.to_recorder.tell(Said { event, data: text.into_bytes() }).await;
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
