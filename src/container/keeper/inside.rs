//! Which containers are watched from outside ([`crate::sys::inside`]), and whose they are. What they do is not read here.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::lease::{Container, Stage};
use super::orders::ROWS;
use super::process::Keeper;
use crate::container::{KeeperSays, Lessee, Watched};
use crate::event::SessionId;

/// Whose a container is; nobody's if it is kept ready.
pub(super) fn lessee(container: &Container) -> Option<Lessee> {
    let leased = container.lease.and_then(|lease| lease.by).map(|(_, session)| session);
    let session = leased.filter(|session| *session != SessionId::default());
    container.host.map(|(node, host)| Lessee { node, host, session })
}

/// The container, as the console is told of it.
fn told(container: &Container) -> Option<Watched> {
    Some(Watched { number: container.place.number, cgroup: container.watched?, of: lessee(container) })
}

impl Keeper {
    /// Has whatever happens in container `number` told, whose init runs.
    pub(super) fn watch_inside(&mut self, number: u32) {
        let (Some(inside), Some(container)) = (&self.inside, self.containers.get_mut(&number)) else { return };
        let Stage::Live(running) = &container.stage else { return };
        let name = &container.place.name;
        let cgroup = self.layout.number(name);
        let namespace = fs::metadata(format!("/proc/{}/ns/pid", running.pid));
        let added = match (cgroup, namespace) {
            (Some(cgroup), Ok(namespace)) => inside.add(cgroup, (namespace.dev(), namespace.ino())).map(|()| cgroup),
            (None, _) => Err(std::io::Error::other("it has no cgroup of version 2")),
            (_, Err(error)) => Err(error),
        };
        match added {
            Ok(cgroup) => container.watched = Some(cgroup),
            Err(error) => tracing::warn!(%error, container = name, "what happens in a container is not told"),
        }
        self.tell_whose(number);
    }

    /// Tells the console whose container `number` is. Should that be lost, the console asks.
    pub(super) fn tell_whose(&self, number: u32) {
        if let Some(watched) = self.containers.get(&number).and_then(told) {
            self.answer(&KeeperSays::Watches(watched), None);
        }
    }

    /// Container `number` has no processes any more.
    pub(super) fn unwatch_inside(&mut self, number: u32) {
        let cgroup = self.containers.get_mut(&number).and_then(|container| container.watched.take());
        if let (Some(inside), Some(cgroup)) = (&self.inside, cgroup) {
            inside.remove(cgroup);
            self.answer(&KeeperSays::Unwatches(cgroup), None);
        }
    }

    /// Those that are watched, of the containers with greater numbers than `after`, as many as go into an answer.
    pub(super) fn watched(&self, after: u32) -> Vec<Watched> {
        let later = self.containers.range(after.saturating_add(1)..);
        later.filter_map(|(_, container)| told(container)).take(ROWS).collect()
    }
}
