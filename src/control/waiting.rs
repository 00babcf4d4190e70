//! Connections that wait in the switch for a script or for a proxy's target.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::relay;
use crate::stack::RelayEnd;
use crate::sys::clock;

/// So many may wait at once.
const MOST: usize = 4096;
/// So long one may wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Those that wait, by number.
pub struct Waiting {
    all: HashMap<u64, One>,
    next: u64,
}

struct One {
    pipe: RelayEnd,
    since: i64,
}

impl Waiting {
    /// None so far.
    pub fn new() -> Waiting {
        // Numbers from the clock are none that a switch before this one has used.
        Waiting { all: HashMap::new(), next: clock::monotonic_micros() as u64 }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Has a connection wait; its number, or `None` if too many do: then it is closed.
    pub fn admit(&mut self, mut pipe: RelayEnd) -> Option<u64> {
        if self.all.len() >= MOST {
            pipe.fail("too many connections wait for scripts and proxy targets".to_owned());
            return None;
        }
        let conn = self.next;
        self.next += 1;
        self.all.insert(conn, One { pipe, since: clock::monotonic_micros() });
        Some(conn)
    }

    /// Splices a connection with who answers it.
    pub fn open(&mut self, conn: u64, fd: Option<OwnedFd>) {
        let Some(fd) = fd else { return self.refuse(conn, "its descriptor got lost") };
        let Some(one) = self.all.remove(&conn) else { return };
        tokio::task::spawn_local(async move {
            if let Err(error) = relay::serve(one.pipe, fd).await {
                tracing::debug!(%error, conn, "a connection is over");
            }
        });
    }

    /// Closes a connection that nobody answers; its host says so as an event.
    pub fn refuse(&mut self, conn: u64, why: &str) {
        if let Some(mut one) = self.all.remove(&conn) {
            tracing::debug!(conn, why, "nobody answers a connection");
            one.pipe.fail(why.to_owned());
        }
    }

    /// Refuses those that have waited for too long.
    pub fn give_up(&mut self) {
        let now = clock::monotonic_micros();
        for (_, mut one) in self.all.extract_if(|_, one| now - one.since > PATIENCE.as_micros() as i64) {
            one.pipe.fail("nobody took the connection in time".to_owned());
        }
    }
}
