//! Reads what programs in containers say to their logs ([`crate::record::syslog`]), and has the recorder write it down.
//!
//! A task for each container, which reads a little at a time: what says more than that waits, as it would for a slow log
//! daemon, and has no more memory than the kernel gives to ten messages.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keeper::Keeper;
use super::to_recorder::ToRecorder;
use crate::container::{Lessee, Logged};
use crate::record::syslog::{LONGEST, Telling};
use crate::sys::clock;

/// How often it is asked which containers there are, in case that a word of the keeper's was lost.
const LOOK: Duration = Duration::from_secs(10);
/// Messages that are read at once, and how long none is then.
const AT_ONCE: usize = 64;
const REST: Duration = Duration::from_millis(10);
/// The same for one that has said more than is told.
const LONG_REST: Duration = Duration::from_millis(50);
/// How long it is waited to be told whose a container is.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long what was said last may take to be read.
const LATE: Duration = Duration::from_secs(1);
/// Containers that are read from.
const MOST: usize = 16_384;

type Whose = Arc<Mutex<Option<Lessee>>>;

/// The containers whose programs log.
#[derive(Debug, Default)]
pub struct Logs {
    all: Mutex<HashMap<u32, Entry>>,
    changed: Notify,
}

#[derive(Debug)]
struct Entry {
    of: Whose,
    reader: Option<(Arc<UnixDatagram>, AbortHandle)>,
    /// Whether the keeper has to be asked for the log, or has to be given it.
    is_due: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some((_, task)) = self.reader.take() else { return };
        // Without a runtime there is no task either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(LATE).await;
                task.abort();
            });
        }
    }
}

impl Logs {
    fn all(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns of a container, and whose it is.
    pub fn learn(&self, logged: &Logged) {
        let mut all = self.all();
        if all.len() >= MOST && !all.contains_key(&logged.number) {
            return;
        }
        let new = || Entry { of: Arc::default(), reader: None, is_due: false };
        let entry = all.entry(logged.number).or_insert_with(new);
        *entry.of.lock().unwrap_or_else(PoisonError::into_inner) = logged.of;
        // One of us has it, and the other has not.
        entry.is_due = entry.reader.is_some() != logged.has;
        if entry.is_due {
            self.changed.notify_one();
        }
    }

    /// A container is gone.
    pub fn forget(&self, number: u32) {
        self.all().remove(&number);
    }

    /// Those that the keeper is to be asked about.
    fn due(&self) -> Vec<u32> {
        let due = |(number, entry): (&u32, &mut Entry)| std::mem::take(&mut entry.is_due).then_some(*number);
        self.all().iter_mut().filter_map(due).collect()
    }

    fn socket(&self, number: u32) -> Option<Arc<UnixDatagram>> {
        Some(self.all().get(&number)?.reader.as_ref()?.0.clone())
    }

    /// Reads from `log` what container `number` says.
    fn begin(&self, number: u32, log: OwnedFd, to_recorder: &ToRecorder) -> io::Result<()> {
        let log = std::os::unix::net::UnixDatagram::from(log);
        log.set_nonblocking(true)?;
        let log = Arc::new(UnixDatagram::from_std(log)?);
        let mut all = self.all();
        // It may be gone by now.
        let Some(entry) = all.get_mut(&number).filter(|entry| entry.reader.is_none()) else { return Ok(()) };
        let task = tokio::spawn(read(log.clone(), entry.of.clone(), to_recorder.clone()));
        entry.reader = Some((log, task.abort_handle()));
        Ok(())
    }
}

/// Has what containers log read, for ever.
pub async fn run(keeper: Arc<Keeper>, to_recorder: ToRecorder) {
    let logs = &keeper.logs;
    loop {
        // A keeper that is being started is asked again.
        if let Ok(listed) = keeper.list_logs().await {
            let numbers: HashSet<u32> = listed.iter().map(|logged| logged.number).collect();
            logs.all().retain(|number, _| numbers.contains(number));
            listed.iter().for_each(|logged| logs.learn(logged));
        }
        let next = Instant::now() + LOOK;
        loop {
            for number in logs.due() {
                match logs.socket(number) {
                    Some(socket) => {
                        // It is tried again when it is looked next.
                        let _ = keeper.keep_log(number, socket.as_fd()).await;
                    }
                    None => {
                        let Ok(log) = keeper.log(number).await else { continue };
                        if let Err(error) = logs.begin(number, log, &to_recorder) {
                            tracing::warn!(%error, number, "what a container says to its log cannot be read");
                        }
                    }
                }
            }
            tokio::select! {
                () = logs.changed.notified() => {}
                () = sleep_until(next) => break,
            }
        }
    }
}

/// Reads one container's.
async fn read(log: Arc<UnixDatagram>, of: Whose, to_recorder: ToRecorder) {
    let mut telling = Telling::new(clock::monotonic_micros());
    let mut octets = vec![0; LONGEST];
    loop {
        if telling.has_untold() {
            let _ = timeout(LATE, log.readable()).await;
        } else if log.readable().await.is_err() {
            return;
        }
        let whose = || *of.lock().unwrap_or_else(PoisonError::into_inner);
        if whose().is_none() {
            sleep(PATIENCE).await;
        }
        let whose = whose();
        for _ in 0..AT_ONCE {
            // Descriptors that come with it are closed by the kernel, as nobody asks for them.
            let len = match log.try_recv(&mut octets) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "what a container says to its log cannot be read");
                    return;
                }
            };
            // What a container says before it is anybody's is no attacker's doing.
            if let Some(of) = whose
                && let Some(next) = telling.tell(octets.get(..len).unwrap_or_default(), &of, clock::monotonic_micros())
                && !to_recorder.tell(next).await
            {
                return;
            }
        }
        if let Some(next) = telling.untold(clock::monotonic_micros())
            && !to_recorder.tell(next).await
        {
            return;
        }
        sleep(if telling.has_untold() { LONG_REST } else { REST }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use crate::sys::eventfd::EventFd;

    fn logged(has: bool) -> Logged {
        Logged { number: 7, of: Some(Lessee::of(0, "10.0.0.1", 0)), has }
    }

    #[tokio::test]
    async fn whoever_has_a_log_gives_it_to_who_has_not() {
        let logs = Logs::default();
        let (to_recorder, hear) = ToRecorder::new(EventFd::new().unwrap());
        logs.learn(&logged(true));
        assert_eq!((logs.due(), logs.due()), (vec![7], vec![]));
        assert!(logs.socket(7).is_none());
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        logs.begin(7, ours.into(), &to_recorder).unwrap();
        logs.learn(&logged(true));
        assert!(logs.due().is_empty());
        // A keeper that follows one that died.
        logs.learn(&logged(false));
        assert_eq!(logs.due(), [7]);
        assert!(logs.socket(7).is_some());
        theirs.send(b"<13>a: b").unwrap();
        let first = timeout(Duration::from_secs(10), async {
            loop {
                match hear.try_recv() {
                    Ok(said) => return said,
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        });
        assert_eq!(first.await.unwrap().said.event.id, EventId::ContainerLog);
        logs.forget(7);
        assert!(logs.socket(7).is_none());
    }
}
