//! The sockets that programs in containers log to. The worker that starts a container makes its own; here a descriptor is
//! only kept, so that a console that follows one that died gets it, too. What is said there is not read here.
//!
//! A keeper that follows one that died has none: the console gives back what it reads from. If both die at once, a
//! container is as a machine whose log daemon is dead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::inside::lessee;
use super::lease::{Container, Stage};
use super::orders::ROWS;
use super::process::Keeper;
use crate::container::{KeeperConfig, KeeperSays, Logged};
use crate::sys::seqpacket::Channel;

/// What a worker has sent of a container's log; nothing if there is none.
pub(super) fn received(worker: &Channel, name: &str) -> Option<OwnedFd> {
    let mut text = [0; 512];
    let received = worker.set_nonblocking(true).and_then(|()| worker.recv(&mut text));
    match received {
        Ok(mut received) if !received.fds.is_empty() => received.fds.pop(),
        Ok(received) => {
            let why = why(text.get(..received.len).unwrap_or_default());
            tracing::info!(why, container = name, "what a container says to its log is not told");
            None
        }
        // It did not come so far.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            tracing::warn!(%error, container = name, "what a container says to its log is not told");
            None
        }
    }
}

/// Why there is no log, by what a worker has sent.
fn why(said: &[u8]) -> String {
    match said {
        // Its end of the socket is closed: it was to make none, or did not get that far.
        [] => "its worker has ended without making a socket for it".to_owned(),
        // One whose init is a log daemon has its own.
        said => String::from_utf8_lossy(said).into_owned(),
    }
}

fn told(config: &KeeperConfig, container: &Container) -> Option<Logged> {
    let has = container.log.is_some();
    let is_there = has || matches!(container.stage, Stage::Live(_));
    is_there.then(|| Logged { number: container.place.number, of: lessee(config, container), has })
}

impl Keeper {
    /// Tells the console whose container `number` is. Should that be lost, the console asks.
    pub(super) fn tell_log(&self, number: u32) {
        if let Some(logged) = self.containers.get(&number).and_then(|container| told(&self.config, container)) {
            self.answer(&KeeperSays::Logs(logged), None);
        }
    }

    /// Container `number` has no processes any more.
    pub(super) fn forget_log(&mut self, number: u32) {
        if let Some(container) = self.containers.get_mut(&number) {
            container.log = None;
            self.answer(&KeeperSays::Unlogs(number), None);
        }
    }

    /// Those that may have a log, of the containers with greater numbers than `after`, as many as go into an answer.
    pub(super) fn logs(&self, after: u32) -> Vec<Logged> {
        let later = self.containers.range(after.saturating_add(1)..);
        later.filter_map(|(_, container)| told(&self.config, container)).take(ROWS).collect()
    }

    /// The log of container `number`.
    ///
    /// # Errors
    /// A sentence, if there is none.
    pub(super) fn log(&self, number: u32) -> Result<BorrowedFd<'_>, String> {
        let log = self.containers.get(&number).and_then(|container| container.log.as_ref());
        log.map(AsFd::as_fd).ok_or_else(|| format!("there is no log of container {number}"))
    }

    /// The console has the log of container `number`.
    pub(super) fn keep_log(&mut self, number: u32, log: OwnedFd) {
        if let Some(container) = self.containers.get_mut(&number)
            && matches!(container.stage, Stage::Live(_))
        {
            container.log.get_or_insert(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_there_is_not_has_a_reason() {
        let (keeper, worker) = Channel::pair().unwrap();
        assert!(received(&keeper, "x").is_none(), "it did not come so far");
        worker.send(b"/dev/log: File exists", &[]).unwrap();
        assert!(received(&keeper, "x").is_none());
        drop(worker);
        let mut text = [0; 8];
        assert_eq!(keeper.recv(&mut text).unwrap().len, 0, "a worker that has ended says nothing");
        assert_eq!(why(b""), "its worker has ended without making a socket for it");
        assert_eq!(why(b"/dev/log: File exists"), "/dev/log: File exists");
    }
}
