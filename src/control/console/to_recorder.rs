//! The way to the recorder for whatever happened and is in no ring: what keeper and supervisor say, and the console's own
//! threads and tasks.
//!
//! The recorder waits for a disk. So does who speaks then; what else the console does goes on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::event::{Said, Utc};
use crate::sys::eventfd::EventFd;

/// What was said and the recorder has not read yet.
const WAITING: usize = 4096;
/// How soon a task looks again whether there is room.
const AGAIN: Duration = Duration::from_millis(20);

/// What the recorder hears.
#[derive(Debug)]
pub struct Heard {
    /// What happened.
    pub said: Said,
    /// When, by the wall's clock, where who says it knows: that clock may be set before it is written down.
    pub at: Option<Utc>,
}

impl From<Said> for Heard {
    fn from(said: Said) -> Heard {
        Heard { said, at: None }
    }
}

/// Tells the recorder.
#[derive(Clone, Debug)]
pub struct ToRecorder {
    said: SyncSender<Heard>,
    wake: Arc<EventFd>,
}

impl ToRecorder {
    /// To one that `wake` wakes, and where it hears.
    pub fn new(wake: EventFd) -> (ToRecorder, Receiver<Heard>) {
        ToRecorder::of(wake, WAITING)
    }

    fn of(wake: EventFd, waiting: usize) -> (ToRecorder, Receiver<Heard>) {
        let (said, hear) = sync_channel(waiting);
        (ToRecorder { said, wake: Arc::new(wake) }, hear)
    }

    /// Wakes it.
    pub fn wake(&self) {
        self.wake.raise();
    }

    /// Tells all of that, and waits for room. Returns whether there is a recorder; without one the console ends.
    pub fn say<M: Into<Heard>>(&self, messages: impl IntoIterator<Item = M>) -> bool {
        let mut is_any = false;
        for message in messages {
            let told = match self.said.try_send(message.into()) {
                // It is woken before it is waited for: it may sleep beside a full queue.
                Err(TrySendError::Full(message)) => {
                    self.wake();
                    self.said.send(message).is_ok()
                }
                told => told.is_ok(),
            };
            if !told {
                return false;
            }
            is_any = true;
        }
        if is_any {
            self.wake();
        }
        true
    }

    /// The same for one message of a task, which lets others go on while it waits.
    pub async fn tell(&self, message: impl Into<Heard>) -> bool {
        let mut message = message.into();
        loop {
            let told = self.said.try_send(message);
            self.wake();
            match told {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventId};
    use crate::wire::Instant;

    fn said(count: u64) -> Said {
        Said { event: Event { count, ..Event::new(EventId::Gap, Instant::ZERO) }, data: Vec::new() }
    }

    #[test]
    fn who_speaks_waits_for_room_and_wakes_who_is_to_make_it() {
        let wake = EventFd::new().unwrap();
        let woken = wake.try_clone().unwrap();
        let (to, hear) = ToRecorder::of(wake, 1);
        assert!(to.say([] as [Said; 0]) && !woken.take(), "nothing was said");
        std::thread::scope(|scope| {
            let speaker = scope.spawn(|| to.say((1..=3).map(said)));
            // Nobody but who sleeps makes room.
            for count in 1..=3 {
                let woken = [std::os::fd::AsFd::as_fd(&woken)];
                assert_ne!(crate::sys::eventfd::wait_readable(&woken, 20_000_000).unwrap(), 0, "nobody was woken");
                assert_eq!(hear.recv().unwrap().said.event.count, count);
            }
            assert!(speaker.join().unwrap());
        });
        woken.take();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            assert!(to.tell(said(4)).await && woken.take());
            let (told, heard) = tokio::join!(to.tell(said(5)), async { hear.recv().unwrap().said.event.count });
            assert!(told && heard == 4 && woken.take());
        });
        drop(hear);
        assert!(!to.say([said(6)]) && !runtime.block_on(to.tell(said(7))));
    }
}
