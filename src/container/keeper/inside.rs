//! Which containers are watched from outside ([`crate::sys::inside`], [`crate::sys::fanotify`]), and whose they are. What they do
//! is not read here.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::cgroup::Layout;
use super::host;
use super::lease::{Container, Stage};
use super::orders::ROWS;
use super::process::Keeper;
use crate::container::{KeeperConfig, KeeperSays, Lessee, Watched};
use crate::event::SessionId;
use crate::sys::fanotify;
use crate::sys::inside::Containers;
use crate::wire::Mac;

/// By what containers are watched.
#[derive(Debug)]
pub enum Inside {
    /// Their cgroups.
    Cgroups(Containers),
    /// Their mounts: a group of fanotify's.
    Mounts(OwnedFd),
}

impl Inside {
    /// What the supervisor has made.
    pub fn new(fd: OwnedFd, by_mounts: bool) -> Inside {
        if by_mounts { Inside::Mounts(fd) } else { Inside::Cgroups(Containers::new(fd)) }
    }

    /// Watches the container `name` with this init, and returns by what it is told.
    fn add(&self, layout: &Layout, name: &str, init: i32) -> io::Result<Vec<u64>> {
        match self {
            Inside::Cgroups(containers) => {
                let cgroup = layout.number(name).ok_or_else(|| io::Error::other("it has no cgroup of version 2"))?;
                let namespace = fs::metadata(format!("/proc/{init}/ns/pid"))?;
                containers.add(cgroup, (namespace.dev(), namespace.ino()))?;
                Ok(vec![cgroup])
            }
            Inside::Mounts(group) => fanotify::mark_all(group.as_fd(), init),
        }
    }

    /// Ends that. Mounts end with the container.
    fn remove(&self, key: u64) {
        if let Inside::Cgroups(containers) = self {
            containers.remove(key);
        }
    }
}

/// Whose a container is; nobody's if it is kept ready.
pub(super) fn lessee(config: &KeeperConfig, container: &Container) -> Option<Lessee> {
    let leased = container.lease.and_then(|lease| lease.by);
    let (attacker, session) = leased.filter(|(_, session)| *session != SessionId::default()).unzip();
    let (node, host) = container.host?;
    let mac = host::find(config, node, host).map_or(Mac::ZERO, |host| host.mac);
    Some(Lessee { node, host, mac, session, attacker })
}

/// The container, as the console is told of it: once for each of its keys.
fn told(config: &KeeperConfig, container: &Container) -> impl Iterator<Item = Watched> {
    let (number, of) = (container.place.number, lessee(config, container));
    container.watched.iter().map(move |key| Watched { number, key: *key, of })
}

impl Keeper {
    /// Has whatever happens in container `number` told, whose init runs.
    pub(super) fn watch_inside(&mut self, number: u32) {
        let (Some(inside), Some(container)) = (&self.inside, self.containers.get_mut(&number)) else { return };
        let Stage::Live(running) = &container.stage else { return };
        let name = &container.place.name;
        match inside.add(&self.layout, name, running.pid) {
            Ok(keys) => container.watched = keys,
            Err(error) => tracing::warn!(%error, container = name, "what happens in a container is not told"),
        }
        self.tell_whose(number);
    }

    /// Tells the console whose container `number` is. Should that be lost, the console asks.
    pub(super) fn tell_whose(&self, number: u32) {
        let containers = self.containers.get(&number).into_iter();
        for watched in containers.flat_map(|container| told(&self.config, container)) {
            self.answer(&KeeperSays::Watches(watched), None);
        }
    }

    /// Container `number` has no processes any more.
    pub(super) fn unwatch_inside(&mut self, number: u32) {
        let Some(inside) = &self.inside else { return };
        let keys = self.containers.get_mut(&number).map(|container| std::mem::take(&mut container.watched));
        for key in keys.into_iter().flatten() {
            inside.remove(key);
            self.answer(&KeeperSays::Unwatches(key), None);
        }
    }

    /// No longer watches what a keeper before this one has, and what ended while there was none.
    pub(super) fn forget_inside(&self) {
        let Some(Inside::Cgroups(inside)) = &self.inside else { return };
        let ours: HashSet<u64> =
            self.containers.values().flat_map(|container| container.watched.iter().copied()).collect();
        inside.all().iter().filter(|cgroup| !ours.contains(cgroup)).for_each(|cgroup| inside.remove(*cgroup));
    }

    /// Those that are watched, of the containers with greater numbers than `after`, as many as go into an answer; none of
    /// them in part.
    pub(super) fn watched(&self, after: u32) -> Vec<Watched> {
        let mut all = Vec::new();
        for (_, container) in self.containers.range(after.saturating_add(1)..) {
            if all.len() + container.watched.len() > ROWS {
                break;
            }
            all.extend(told(&self.config, container));
        }
        all
    }
}
