//! What the keeper does with leases: each of these takes one a step further.

use std::fs;
use std::net::IpAddr;

use rustix::process::Signal;

use super::lease::{Lease, Stage, Worker, init_handle, kill};
use super::process::{Keeper, SECOND};
use super::settings::{self, Place};
use super::{host, leftovers};
use crate::container::FromKeeper;
use crate::container::worker::{Done, Work};
use crate::node::{LeaseId, NodeIdx};
use crate::sys::{interface, netlink, tap};

/// A start that takes longer hangs: a healthy one takes 30 ms.
pub const START_DEADLINE: i64 = 10 * SECOND;
/// How long a monitor may take to end after its init was killed.
const DEATH_DEADLINE: i64 = 3 * SECOND;
/// How long processes that were killed may take to vanish.
pub const SWEEP_DEADLINE: i64 = 3 * SECOND;
const REMOVE_DEADLINE: i64 = 60 * SECOND;

impl Keeper {
    pub(super) fn lease(&mut self, id: LeaseId, node: NodeIdx, ip: IpAddr) -> Result<(), String> {
        if cfg!(not(feature = "lxc")) {
            return Err(crate::container::NO_LXC.into());
        }
        let host = host::find(&self.config, node, ip)?;
        let running = self.leases.values().filter(|lease| lease.node == node).count();
        if running >= host.hosts.limits.containers as usize {
            return Err(format!("{running} containers of this node run already, which is its limit"));
        }
        if self.leases.values().any(|lease| lease.node == node && lease.host == host.ip && lease.why.is_none()) {
            return Err(format!("{ip} has a container already"));
        }
        let image = host.image(&self.config)?;
        let held = image.hold().map_err(|error| error.to_string())?;
        self.number += 1;
        let containers = leftovers::containers_dir(&self.config);
        let name = leftovers::container_name(&self.tag, self.number);
        let place =
            Place { tap: leftovers::tap_name(&self.tag, self.number), dir: containers.join(&name), containers, name };
        for path in [&place.containers, &image.dir] {
            if let Some(dir) = leftovers::closed_to_containers(path) {
                let dir = dir.display();
                return Err(format!("the users of containers may not pass through {dir}: run `chmod o+x {dir}`"));
            }
        }
        let start = settings::start(&host, &image, &place, &self.layout, &self.seccomp);
        let key = host.ip;
        let opened = settings::prepare(&host, image.manifest.host_key, &place)
            .and_then(|()| fs::write(place.dir.join(leftovers::LEASE), id.0.to_string()))
            .map_err(|error| format!("cannot make its directory {}: {error}", place.dir.display()))
            .and_then(|()| {
                tap::open(&place.tap, tap::Offload::Tcp).map_err(|error| format!("cannot open a TAP: {error}"))
            });
        let tap = match opened {
            Ok((tap, _)) => tap,
            Err(why) => {
                let _ = fs::remove_dir_all(&place.dir);
                return Err(why);
            }
        };
        let mtu = interface::mtu(&place.tap).unwrap_or(1500);
        self.leases.insert(
            id,
            Lease {
                node,
                host: key,
                place,
                image: held,
                stage: Stage::Queued(Box::new(start)),
                why: None,
                silent: false,
            },
        );
        self.queue.push_back(id);
        self.send(FromKeeper::LeaseTap { lease: id, mtu }, Some(tap));
        Ok(())
    }

    pub(super) fn start_queued(&mut self, now: i64) {
        let mut starting = self.leases.values().filter(|lease| matches!(lease.stage, Stage::Starting(_))).count();
        while starting < self.starts_at_once
            && let Some(id) = self.queue.pop_front()
        {
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let sweeping = Stage::Sweeping { deadline: now + SWEEP_DEADLINE };
            match std::mem::replace(&mut lease.stage, sweeping) {
                Stage::Queued(start) => {
                    let work = Work::Start(*start);
                    match Worker::start(&self.worker, &lease.place.name, &work, now + START_DEADLINE) {
                        Ok(worker) => {
                            lease.stage = Stage::Starting(worker);
                            starting += 1;
                        }
                        Err(error) => {
                            let program = self.worker.display();
                            lease.why.get_or_insert(format!("the worker {program} cannot be started: {error}"));
                            self.sweep(id, now);
                        }
                    }
                }
                other => lease.stage = other,
            }
        }
    }

    pub(super) fn started(&mut self, id: LeaseId, done: Done, now: i64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let live = match done {
            Done::Started { init, monitor } => {
                init_handle(init, &lease.place.name).map(|init| (init, monitor)).map_err(|error| error.to_string())
            }
            Done::Failed(why) => Err(why),
            other => Err(format!("its worker answered {other:?}")),
        };
        match live {
            Ok((init, monitor)) => {
                let ended = lease.why.is_some();
                lease.stage = Stage::Live { init, monitor };
                if ended {
                    self.kill_live(id, now);
                } else if !lease.silent {
                    self.send(FromKeeper::LeaseLive { lease: id }, None);
                }
            }
            Err(why) => {
                lease.why.get_or_insert(why);
                self.sweep(id, now);
            }
        }
    }

    /// Begins to end lease `id`.
    pub(super) fn end(&mut self, id: LeaseId, why: &str, now: i64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if lease.why.is_some() {
            return;
        }
        lease.why = Some(why.into());
        match lease.stage {
            Stage::Queued(_) => {
                lease.stage = Stage::Sweeping { deadline: now + SWEEP_DEADLINE };
                self.sweep(id, now);
            }
            Stage::Live { .. } => self.kill_live(id, now),
            // A start that was begun is waited for: what it would leave when killed is harder to find.
            _ => {}
        }
    }

    fn kill_live(&mut self, id: LeaseId, now: i64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let Stage::Live { init, monitor } = &lease.stage else { return };
        // Its process namespace dies with its init; an error means that it is dead already.
        let _ = rustix::process::pidfd_send_signal(init, Signal::KILL);
        lease.stage = Stage::Dying { monitor: *monitor, deadline: now + DEATH_DEADLINE };
    }

    /// Kills and removes what is left of lease `id`, as far as it goes by now.
    pub(super) fn sweep(&mut self, id: LeaseId, now: i64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let Stage::Sweeping { deadline } = lease.stage else { return };
        let name = lease.place.name.clone();
        // liblxc appends a number if the name was taken.
        let own =
            move |found: &str| found.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let alive = self.layout.kill(&own) + kill_strays(&lease.place.name);
        let left = self.layout.remove(&own);
        if alive + left > 0 && now < deadline {
            return;
        }
        // The device is back here, or gone with the container's network namespace.
        let _ = netlink::delete_link(&lease.place.tap);
        let work = Work::Remove { path: lease.place.dir.clone() };
        match Worker::start(&self.worker, &lease.place.name, &work, now + REMOVE_DEADLINE) {
            Ok(worker) => lease.stage = Stage::Removing(worker),
            Err(_) => {
                let _ = fs::remove_dir_all(&lease.place.dir);
                self.gone(id);
            }
        }
    }

    pub(super) fn gone(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        drop(lease.image);
        if !lease.silent {
            let why = lease.why.unwrap_or_default();
            self.send(FromKeeper::LeaseGone { lease: id, why }, None);
        }
    }

    pub(super) fn end_leases(&mut self, why: &str, now: i64) {
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        for id in ids {
            self.end(id, why, now);
        }
    }
}

/// Kills children whose command line names container `name`: a monitor that is
/// in no cgroup of its own yet. Returns how many there were.
fn kill_strays(name: &str) -> usize {
    let me = rustix::process::getpid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    let named = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split(['\0', ' ']).any(|word| word == name)
    };
    let strays: Vec<i32> = children.split_whitespace().filter_map(|word| word.parse().ok()).filter(named).collect();
    strays.iter().for_each(|pid| kill(*pid));
    strays.len()
}
