//! The thread that turns what happened into records: it reads the rings and what
//! keeper and supervisor say, and writes log and captures.
//!
//! Disks wait, so this has a thread of its own and no runtime. An event leaves
//! its ring only when its record was handed to the kernel (or is kept for a disk
//! that takes nothing), so the death of a console loses none.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use super::alerts::Alerts;
use super::private::Private;
use super::shared::{Shared, lock};
use super::to_recorder::Heard;
use crate::control::config::Rings;
use crate::event::{Captured, Event, EventId, Fate, Now, Process, decode};
use crate::record::{
    CaptureLimits, CaptureSet, CaptureSource, Causes, Contacts, Direction, EventLog, LogLimits, Record, Summary, Trust,
    Utc,
};
use crate::sys::clock;
use crate::sys::eventfd::{EventFd, wait_readable};
use crate::sys::ring::RingReader;
use crate::sys::sched;

/// Events that are written at once.
const EVENTS_AT_ONCE: usize = 4096;
/// Frames that are written before events are looked at again.
const FRAMES_AT_ONCE: usize = 4096;
/// How long a frame of an interface that nobody announced waits for its announcement.
const PATIENCE_MICROS: i64 = 200_000;
/// How often gathered frames are handed to the kernel.
const FLUSH_MICROS: i64 = 250_000;
/// How often captures are looked after while nothing comes: some are closed by their age.
const IDLE_MICROS: i64 = 2_000_000;
/// How long records gather after there were some.
const REST_MICROS: i64 = 10_000;
/// For how long it is measured whether a thread starves.
const WINDOW_MICROS: i64 = 1_000_000;
/// A thread that gets less than this part of a processor starves; one that takes its turns at niceness 19 beside a single
/// busy thread gets less.
const STARVING: i64 = 50;
/// One that gets more than this part is not alone in that it needs it.
const PLENTY: i64 = 4;

/// A frame of an interface that was not announced yet.
struct Waiting {
    since: i64,
    record: Vec<u8>,
}

struct Readers {
    events: RingReader,
    frames: RingReader,
}

/// Reads and writes.
pub struct Recorder {
    shared: Arc<Shared>,
    log: EventLog,
    captures: CaptureSet,
    /// What each thread of the data plane writes.
    rings: Vec<Readers>,
    said: Receiver<Heard>,
    /// Which session each container was leased for.
    causes: Causes,
    /// What is left out of what is written.
    private: Private,
    /// Whether the machine's clock is believed.
    trust: Trust,
    /// What a sensor has told.
    alerts: Alerts,
    wake: EventFd,
    waiting: Vec<Waiting>,
    /// Where frames of interfaces go that nobody announced in time.
    unknown: Arc<CaptureSource>,
    /// Whether the last step found anything.
    busy: bool,
    /// Since when it is measured whether this thread starves, and what it had used of a processor by then.
    window: (i64, i64),
    // Told to those who follow only when it is on disk: who begins to listen finds everything older there.
    lines: Vec<Arc<str>>,
    flushed: i64,
    /// Whether frames have been gathered since.
    unflushed: bool,
    buffer: Vec<u8>,
}

impl Recorder {
    /// Opens log and captures below `dir`.
    ///
    /// # Errors
    /// If they or the rings cannot be opened.
    pub fn open(
        shared: Arc<Shared>,
        dir: &Path,
        limits: CaptureLimits,
        rings: Vec<Rings>,
        said: Receiver<Heard>,
        wake: EventFd,
    ) -> io::Result<Recorder> {
        let now = Utc::from_micros(clock::realtime_micros());
        // What is there was written before: what this run writes says nothing of how long nothing was.
        let trust = Trust::new(&dir.join("events"), Now { utc: now, steady: clock::boottime_micros() });
        let open = |rings: Rings| {
            io::Result::Ok(Readers { events: RingReader::open(rings.events)?, frames: RingReader::open(rings.frames)? })
        };
        let privacy = shared.privacy;
        let log_limits = LogLimits { age_secs: privacy.retention_secs, ..LogLimits::default() };
        let mut captures = CaptureSet::open(&dir.join("captures"), limits)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.join("captures").display())))?;
        let private = Private::new(privacy, shared.mask.clone(), dir, trust.clone());
        captures.contacts = Contacts::of_log(&dir.join("events"));
        private.edit().into_iter().for_each(|edit| captures.edit(edit));
        let mut log = EventLog::open(&dir.join("events"), log_limits, now).map_err(io::Error::other)?;
        log.trusting(trust.clone());
        shared.grown(log.next_seq() - 1);
        Ok(Recorder {
            shared,
            log,
            captures,
            private,
            trust,
            rings: rings.into_iter().map(open).collect::<io::Result<_>>()?,
            said,
            causes: Causes::of_log(&dir.join("events")),
            alerts: Alerts::default(),
            wake,
            waiting: Vec::new(),
            // The switch faces the attacker: it must not make as many series as it likes.
            unknown: Arc::new(CaptureSource {
                series: "unknown".into(),
                interface: "unknown".into(),
                about: "interfaces that were not announced".into(),
            }),
            busy: false,
            window: (0, 0),
            lines: Vec::new(),
            flushed: 0,
            unflushed: false,
            buffer: Vec::new(),
        })
    }

    /// Whether anything may go for being old.
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// Works until `stop` is set (and the eventfd raised), then writes what is left.
    ///
    /// The calling thread gives way to everything else, so that whoever moves frames has a processor for itself. When it
    /// starves while a ring fills, a second thread goes on that takes its turns: nobody who keeps the machine busy keeps
    /// anything from being recorded. It takes two, as a thread without rights does not come back from giving way.
    pub fn run(self, stop: &AtomicBool) -> io::Result<()> {
        let (to_patient, patient) = std::sync::mpsc::channel::<Recorder>();
        let (to_urgent, urgent) = std::sync::mpsc::channel::<Recorder>();
        std::thread::scope(|scope| {
            // If this thread panics, the other one's wait is over.
            let (to_urgent, patient) = (to_urgent, patient);
            std::thread::Builder::new().name("recorder-urgent".into()).spawn_scoped(scope, move || {
                while let Ok(mut recorder) = urgent.recv() {
                    recorder.work(stop, true);
                    if stop.load(Ordering::Acquire) {
                        return recorder.finish();
                    }
                    let _ = to_patient.send(recorder);
                }
            })?;
            sched::give_way();
            let mut next = Ok(self);
            while let Ok(mut recorder) = next {
                recorder.work(stop, false);
                let _ = to_urgent.send(recorder);
                next = patient.recv();
            }
            Ok(())
        })
    }

    /// Works until it starves, or no longer does, or `stop` is set.
    fn work(&mut self, stop: &AtomicBool, starving: bool) {
        self.window = (clock::monotonic_micros(), clock::thread_micros());
        while !stop.load(Ordering::Acquire) {
            self.busy = false;
            let more = self.step(clock::realtime_micros(), clock::monotonic_micros());
            if self.starves(clock::monotonic_micros(), starving).is_some_and(|starves| starves != starving) {
                return;
            }
            match (more, self.busy) {
                (true, _) => {}
                (false, true) => self.rest(),
                (false, false) => self.wait(),
            }
        }
    }

    /// Writes what is left.
    fn finish(mut self) {
        // The switch may still be writing: bounded, so that the end comes.
        for _ in 0..256 {
            if !self.step(clock::realtime_micros(), clock::monotonic_micros()) {
                break;
            }
        }
        // The supervisor waits only so long, and a disk may take longer to say that it has everything.
        self.captures.close_all();
        let now = clock::realtime_micros();
        let shared = self.shared.clone();
        // Whoever waits for its session waits no longer.
        self.tell_alerts(&mut shared.summary(), i64::MAX, now - clock::monotonic_micros());
        self.tell_deleted(&mut shared.summary(), Utc::from_micros(now));
        self.publish();
        self.log.close(Utc::from_micros(clock::realtime_micros()));
    }

    /// Whether the calling thread had next to nothing of a processor in the last second, and has not kept up; whether it did
    /// `before`, it would as one that gives way, unless there is plenty now or little to do. Nothing while it is too early to
    /// tell. `now` is monotonic, in microseconds.
    fn starves(&mut self, now: i64, before: bool) -> Option<bool> {
        let elapsed = now - self.window.0;
        if elapsed < WINDOW_MICROS {
            return None;
        }
        let used = clock::thread_micros();
        let had = used - std::mem::replace(&mut self.window, (now, used)).1;
        let (share, room) = if before { (PLENTY, 8) } else { (STARVING, 2) };
        let mut rings = self.rings.iter().flat_map(|Readers { events, frames }| [events.fill(), frames.fill()]);
        Some(had * share < elapsed && rings.any(|(used, size)| used > size / room))
    }

    /// Lets something gather. Meanwhile nobody has to wake this thread, which would cost the data plane a call and
    /// a part of its processor for every frame of a trickle.
    fn rest(&self) {
        if let Err(error) = wait_readable(&[self.wake.as_fd()], REST_MICROS) {
            tracing::error!(%error, "cannot wait for events");
        }
        self.wake.take();
    }

    fn wait(&mut self) {
        let mut asleep = true;
        for Readers { events, frames } in &mut self.rings {
            asleep &= events.prepare_sleep() & frames.prepare_sleep();
        }
        if asleep {
            let rings = self.rings.iter().flat_map(|rings| [rings.events.wake_fd(), rings.frames.wake_fd()]);
            let fds: Vec<_> = [self.wake.as_fd()].into_iter().chain(rings).collect();
            let busy = !self.waiting.is_empty() || !self.alerts.is_empty() || self.log.stats().failing.is_some();
            let timeout = match (busy, self.unflushed) {
                (true, _) => 50_000,
                (false, true) => FLUSH_MICROS,
                (false, false) => IDLE_MICROS,
            };
            if let Err(error) = wait_readable(&fds, timeout) {
                tracing::error!(%error, "cannot wait for events");
                std::thread::yield_now();
            }
        }
        self.wake.take();
        for Readers { events, frames } in &mut self.rings {
            events.awake();
            frames.awake();
        }
    }

    /// Writes what there is, a bounded share of it. Returns whether there may be more.
    pub fn step(&mut self, utc: i64, monotonic: i64) -> bool {
        let offset = utc - monotonic;
        self.trust.look(Now { utc: Utc::from_micros(utc), steady: clock::boottime_micros() });
        let mut more = self.take_events(utc, offset, monotonic);
        more |= self.take_frames(utc, offset, monotonic);
        if monotonic - self.flushed >= FLUSH_MICROS || monotonic < self.flushed {
            (self.flushed, self.unflushed) = (monotonic, false);
            // Whatever else the log fails of, no capture is in its way.
            if self.log.is_disk_full() {
                self.captures.make_room();
            }
            self.captures.flush(nanos(utc));
            if let Some(space) = self.private.space() {
                self.captures.look(space);
            }
        }
        self.publish();
        more
    }

    fn take_events(&mut self, utc: i64, offset: i64, monotonic: i64) -> bool {
        let now = Utc::from_micros(utc);
        let shared = self.shared.clone();
        let mut summary = shared.summary();
        for _ in 0..EVENTS_AT_ONCE {
            let Ok(Heard { said, at }) = self.said.try_recv() else { break };
            match said.process() {
                Some((Process::Switch, fate)) if fate.is_end() => {
                    summary.switch_restarted();
                    shared.metrics.switch_ended();
                }
                Some((Process::Console, Fate::StartedAgain)) => shared.follow(),
                _ => {}
            }
            if said.event.id == EventId::IdsAlert {
                self.alerts.push(said, monotonic);
                continue;
            }
            let at = at.unwrap_or_else(|| time(&said.event, offset));
            self.write(&mut summary, &said.event, &said.data, at);
        }
        let (mut more, mut unreadable) = (false, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        for ring in 0..self.rings.len() {
            let mut taken = 0;
            while taken < EVENTS_AT_ONCE && self.rings[ring].events.read(&mut buffer) {
                taken += 1;
                match decode(&buffer) {
                    Some((event, data)) => self.write(&mut summary, &event, data, time(&event, offset)),
                    None => unreadable += 1,
                }
            }
            self.busy |= taken > 0;
            more |= taken == EVENTS_AT_ONCE;
        }
        self.buffer = buffer;
        if let Some(before) = self.private.due(now) {
            self.captures.forget(before);
        }
        self.tell_alerts(&mut summary, monotonic, offset);
        self.tell_deleted(&mut summary, now);
        let untold: Vec<u64> = self.rings.iter_mut().map(|rings| rings.events.untold()).collect();
        let lost: u64 = untold.iter().sum();
        for (count, why) in [(lost, "ring: more happened than was taken"), (unreadable, "ring: not readable")] {
            if count > 0 {
                let mut gap = Record::bare(0, now, EventId::Gap);
                gap.count = Some(count);
                gap.reason = Some(why.to_owned());
                shared.metrics.lost(count);
                self.tell(&mut summary, gap);
            }
        }
        // Disks wait, and those who ask for the figures must not.
        drop(summary);
        // What the log says of itself (a gap, a deleted file) is told like everything else.
        for line in self.log.flush(now) {
            if let Ok(mut record) = serde_json::from_str::<Record>(&line) {
                shared.metrics.record(&record);
                let mut summary = shared.summary();
                summary.add(&mut record);
                summary.keep(record);
            }
            self.lines.push(Arc::from(line.trim_end()));
        }
        for (rings, lost) in self.rings.iter_mut().zip(untold) {
            rings.events.release();
            rings.events.tell(lost);
        }
        shared.grown(self.log.next_seq() - 1);
        for line in self.lines.drain(..) {
            // That nobody listens is nobody's loss.
            let _ = shared.feed.send(line);
        }
        more
    }

    fn write(&mut self, summary: &mut Summary, event: &Event, data: &[u8], time: Utc) {
        let node = self.shared.nodes.get(usize::from(event.node)).map(String::as_str);
        let record = Record::of_event(0, time, node, event, data);
        if event.first {
            summary.session_began();
            self.shared.metrics.session_began();
        }
        self.tell(summary, record);
    }

    /// Tells the alerts that have waited long enough at `now`, monotonic and in microseconds.
    fn tell_alerts(&mut self, summary: &mut Summary, now: i64, offset: i64) {
        for (said, contact) in self.alerts.take(&self.captures.contacts, now, offset) {
            let mut record = Record::of_event(0, time(&said.event, offset), None, &said.event, &said.data);
            (record.session, record.cause) = (contact.map(|c| c.session), contact.and_then(|c| c.cause));
            self.tell(summary, record);
        }
    }

    fn tell(&mut self, summary: &mut Summary, mut record: Record) {
        record.seq = self.log.next_seq();
        if record.event != EventId::IdsAlert {
            self.causes.add(&mut record);
            self.captures.contacts.add(&record);
        }
        self.private.apply(&mut record);
        summary.add(&mut record);
        self.shared.metrics.record(&record);
        if let Some(line) = self.log.push(&mut record)
            && self.shared.feed.receiver_count() > 0
        {
            self.lines.push(Arc::from(line.trim_end()));
        }
        summary.keep(record);
    }

    /// Says which captures went, and that there will be no more for now.
    fn tell_deleted(&mut self, summary: &mut Summary, now: Utc) {
        for deleted in self.captures.take_deleted() {
            let mut record = Record::bare(0, now, EventId::CaptureDeleted);
            (record.count, record.reason) = (Some(deleted.files), Some(deleted.reason));
            self.tell(summary, record);
        }
        if let Some(why) = self.captures.take_trouble() {
            let mut record = Record::bare(0, now, EventId::RecordingFailed);
            (record.count, record.reason) = (Some(1), Some(why.to_owned()));
            self.tell(summary, record);
        }
    }

    fn take_frames(&mut self, utc: i64, offset: i64, monotonic: i64) -> bool {
        for waiting in std::mem::take(&mut self.waiting) {
            let patient = monotonic - waiting.since < PATIENCE_MICROS;
            if !self.frame(&waiting.record, utc, offset, patient) {
                self.waiting.push(waiting);
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = false;
        for ring in 0..self.rings.len() {
            let mut taken = 0;
            while taken < FRAMES_AT_ONCE && self.rings[ring].frames.read(&mut buffer) {
                taken += 1;
                let patient = self.waiting.len() < FRAMES_AT_ONCE;
                if !self.frame(&buffer, utc, offset, patient) {
                    self.waiting.push(Waiting { since: monotonic, record: buffer.clone() });
                }
            }
            self.busy |= taken > 0;
            more |= taken == FRAMES_AT_ONCE;
            let frames = &mut self.rings[ring].frames;
            frames.release();
            let lost = frames.untold();
            if lost > 0 {
                self.captures.count_ring_lost(lost);
                frames.tell(lost);
            }
        }
        self.buffer = buffer;
        more
    }

    /// Writes one frame; `false` if its interface is not known yet and there is patience left.
    fn frame(&mut self, record: &[u8], utc: i64, offset: i64, patient: bool) -> bool {
        let Some(captured) = Captured::decode(record) else {
            self.captures.count_ring_lost(1);
            return true;
        };
        let known = lock(&self.shared.interfaces).get(&captured.interface).cloned();
        let source = match known {
            Some(source) => source,
            None if patient => return false,
            None => self.unknown.clone(),
        };
        // Times that cannot be are those of now: a capture is sorted by them.
        let at = captured.at.total_micros().saturating_add(offset);
        let at = if at.saturating_sub(utc).unsigned_abs() > 3_600_000_000 { utc } else { at };
        let direction = if captured.outgoing { Direction::Out } else { Direction::In };
        self.unflushed = true;
        self.captures.frame(&source, nanos(at), direction, captured.original, captured.bytes);
        true
    }

    fn publish(&self) {
        let mut stats = lock(&self.shared.stats);
        stats.0.clone_from(self.log.stats());
        stats.1.clone_from(self.captures.stats());
        self.shared.metrics.update(&stats.0, &stats.1);
    }
}

/// When that was, by a clock that is `offset` ahead of the monotonic one.
fn time(event: &Event, offset: i64) -> Utc {
    Utc::from_micros(event.at.total_micros().saturating_add(offset))
}

fn nanos(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
