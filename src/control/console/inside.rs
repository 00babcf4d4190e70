//! The thread that reads what happens inside containers ([`crate::sys::inside`], [`crate::sys::fanotify`]) and has the recorder write it down.
//!
//! It is slow to look, on purpose: what is new then was told by the switch and the keeper before, such as whose a container
//! is, and which connections there are. The ring has room for what comes meanwhile, and the kernel counts what it has not.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use super::shared::Shared;
use super::to_recorder::ToRecorder;
use crate::container::{Lessee, Watched};
use crate::control::config::InsideFds;
use crate::record::inside::{Telling, lost};
use crate::record::mounts::Found;
use crate::sys::clock;
use crate::sys::eventfd::{EventFd, wait_readable};
use crate::sys::fanotify;
use crate::sys::inside::{Happened, RING, Reader};
use crate::sys::process::Process;

const SECOND: i64 = 1_000_000;
/// How long what happens gathers before it is read.
const REST: i64 = 25_000;
/// How long it is waited to be told whose a container is.
const PATIENCE: i64 = 2 * SECOND;
/// Records that wait for that, and what they may have in them.
const WAITING: usize = 4096;
/// How long what happened in a container that is gone may still be read.
const LATE: i64 = 10 * SECOND;
/// Records between two looks at whether to stop.
const AT_ONCE: usize = 4096;

/// Whose the containers are that are watched, by their keys ([`Watched::key`]).
#[derive(Debug, Default)]
pub struct Known {
    containers: Mutex<HashMap<u64, Entry>>,
    missing: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    of: Option<Lessee>,
    /// Since when there is none any more.
    gone: Option<i64>,
}

impl Known {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns whose a container is.
    pub fn learn(&self, watched: &Watched) {
        self.all().insert(watched.key, Entry { of: watched.of, gone: None });
    }

    /// Learns that one is gone. What it did last is yet to be read.
    pub fn forget(&self, key: u64, now: i64) {
        if let Some(entry) = self.all().get_mut(&key) {
            entry.gone = Some(now);
        }
    }

    /// Forgets those that are gone for long, and returns them.
    fn tidy(&self, now: i64) -> Vec<u64> {
        let gone = |entry: &Entry| entry.gone.is_some_and(|gone| now - gone >= LATE);
        self.all().extract_if(|_, entry| gone(entry)).map(|(key, _)| key).collect()
    }

    /// Waits until there is a container that nothing was heard of.
    pub async fn missing(&self) {
        self.missing.notified().await;
    }
}

/// The thread.
pub struct Watching {
    stop: EventFd,
    thread: JoinHandle<()>,
}

impl Watching {
    /// Ends it when it has read what there is.
    pub fn stop(self) {
        self.stop.raise();
        if self.thread.join().is_err() {
            tracing::error!("the thread that reads what happens inside containers panicked");
        }
    }
}

/// Starts it. Events go to the recorder.
///
/// # Errors
/// If what was handed down is no ring, or there can be no thread.
pub fn start(
    fds: InsideFds,
    known: &Arc<Known>,
    to_recorder: ToRecorder,
    shared: &Arc<Shared>,
) -> io::Result<Watching> {
    let source = match fds {
        InsideFds::Ring { ring, lost } => Source::Ring(Reader::open(ring, &lost, RING)?),
        InsideFds::Mounts(group) => Source::Mounts(fanotify::Reader::new(group)),
    };
    let stop = EventFd::new()?;
    let (known, shared) = (known.clone(), shared.clone());
    let mut watcher = Watcher {
        source,
        known,
        to_recorder,
        shared,
        telling: Telling::default(),
        waiting: VecDeque::new(),
        nobodys: 0,
        tidied: 0,
    };
    let stopped = stop.try_clone()?;
    let thread = std::thread::Builder::new().name("inside".into()).spawn(move || watcher.work(&stopped))?;
    Ok(Watching { stop, thread })
}

/// Where it is read.
enum Source {
    Ring(Reader),
    Mounts(fanotify::Reader),
}

impl Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Ring(reader) => reader.as_fd(),
            Source::Mounts(reader) => reader.as_fd(),
        }
    }

    /// Whether it has to be waited for. Of a queue only waiting tells.
    fn is_empty(&self) -> bool {
        match self {
            Source::Ring(reader) => reader.is_empty(),
            Source::Mounts(_) => true,
        }
    }

    /// Takes some records; none if there are none.
    fn read(&mut self, now: i64) -> Vec<Record> {
        match self {
            Source::Ring(reader) => {
                let mut record = Vec::new();
                if reader.read(&mut record) { vec![Record::Ring(record)] } else { Vec::new() }
            }
            Source::Mounts(reader) => {
                let found = |seen: fanotify::Seen| {
                    let by = Process::look(seen.process).filter(|_| seen.process != 0);
                    Record::Found(Box::new(Found { seen, at: now, by }))
                };
                reader.read().into_iter().map(found).collect()
            }
        }
    }

    fn lost(&mut self) -> u64 {
        match self {
            Source::Ring(reader) => reader.lost(),
            Source::Mounts(reader) => reader.lost(),
        }
    }
}

/// What was read.
enum Record {
    Ring(Vec<u8>),
    Found(Box<Found>),
}

struct Watcher {
    source: Source,
    known: Arc<Known>,
    to_recorder: ToRecorder,
    shared: Arc<Shared>,
    telling: Telling,
    /// Records of containers that nothing was heard of, and since when they wait.
    waiting: VecDeque<(i64, Record)>,
    /// Records whose container nobody knew in time.
    nobodys: u64,
    tidied: i64,
}

impl Watcher {
    fn work(&mut self, stop: &EventFd) {
        let mut read = 0;
        loop {
            let is_idle = self.waiting.is_empty() && !self.telling.has_untold();
            let timeout = if is_idle { -1 } else { SECOND / 10 };
            if self.source.is_empty()
                && let Err(error) = wait_readable(&[stop.as_fd(), self.source.as_fd()], timeout)
            {
                tracing::error!(%error, "cannot wait for what happens inside containers");
            }
            // In a flood there is no time to rest.
            let rest = if read < AT_ONCE { REST } else { 0 };
            let is_over = wait_readable(&[stop.as_fd()], rest).is_ok_and(|ready| ready & 1 != 0);
            let now = clock::monotonic_micros();
            for waited in std::mem::take(&mut self.waiting) {
                self.take(waited.1, waited.0, now);
            }
            read = 0;
            // What waits for its container waits in the source when there is no room for it here.
            while read < AT_ONCE && self.waiting.len() < WAITING {
                let records = self.source.read(now);
                if records.is_empty() {
                    break;
                }
                read += records.len();
                records.into_iter().for_each(|record| self.take(record, now, now));
            }
            self.tend(now);
            if is_over && read < AT_ONCE {
                return;
            }
        }
    }

    /// Tells what is in a record that was read at `since`, or has it wait.
    fn take(&mut self, record: Record, since: i64, now: i64) {
        let happened = match &record {
            Record::Ring(octets) => Happened::parse(octets),
            Record::Found(_) => None,
        };
        let key = match (&record, &happened) {
            (Record::Found(found), _) => found.seen.mount,
            (Record::Ring(_), Some(happened)) => happened.cgroup,
            (Record::Ring(_), None) => return,
        };
        let entry = self.known.all().get(&key).copied();
        match entry {
            Some(Entry { of: Some(of), .. }) => {
                let told = match (&record, &happened) {
                    (Record::Found(found), _) => self.telling.tell_found(found, &of),
                    (Record::Ring(_), happened) => {
                        happened.iter().filter_map(|happened| self.telling.tell(happened, &of)).collect()
                    }
                };
                self.to_recorder.say(told);
            }
            // What a container does before it is anybody's is no attacker's doing.
            Some(Entry { of: None, .. }) => {}
            None if now - since < PATIENCE => {
                self.known.missing.notify_one();
                self.waiting.push_back((since, record));
            }
            // One that was gone before this console was there: nobody knows whose it was.
            None => self.nobodys += 1,
        }
    }

    fn tend(&mut self, now: i64) {
        self.to_recorder.say(self.telling.untold(now));
        let count = self.source.lost() + std::mem::take(&mut self.nobodys);
        if count > 0 {
            self.shared.metrics.lost(count);
            self.to_recorder.say([lost(count, now)]);
        }
        if now - self.tidied >= SECOND {
            self.tidied = now;
            self.known.tidy(now).into_iter().for_each(|key| self.telling.forget(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_gone_is_known_a_while_longer() {
        let known = Known::default();
        let of = Some(Lessee::of(0, "10.0.0.1", 0));
        for key in [1, 2] {
            known.learn(&Watched { number: key as u32, key, of: None });
        }
        known.learn(&Watched { number: 1, key: 1, of });
        known.forget(1, SECOND);
        known.forget(3, SECOND);
        assert_eq!(known.tidy(SECOND + LATE - 1), Vec::<u64>::new());
        assert_eq!(known.all().get(&1).map(|entry| entry.of), Some(of));
        assert_eq!(known.tidy(SECOND + LATE), [1]);
        assert_eq!(known.all().len(), 1);
    }
}
