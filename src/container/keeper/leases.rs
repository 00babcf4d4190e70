//! What the keeper does with containers: each of these takes one a step further.

use std::fs;
use std::io;
use std::net::IpAddr;

use rustix::process::Signal;

use super::lease::{Container, Lease, Rest, Running, Stage, Worker, init_handle, kill};
use super::machine::{Age, Machine};
use super::process::{Keeper, SECOND};
use super::settings::{self, Place};
use super::{disk, hide, host, identity, kept, leftovers};
use crate::container::FromKeeper;
use crate::container::image::Image;
use crate::container::worker::{Done, Start, Work};
use crate::event::{EventId, Utc};
use crate::node::{LeaseId, NodeIdx};
use crate::sys::{clock, interface, netlink, tap};

/// A start that takes longer hangs: a healthy one takes 30 ms.
pub const START_DEADLINE: i64 = 10 * SECOND;
/// One that takes longer than this does not keep others waiting.
const SLOW: i64 = SECOND;
/// Slow starts that others do not wait for, in multiples of those at once.
const MOST_SLOW: usize = 8;
/// How long a monitor may take to end after its init was killed.
const DEATH_DEADLINE: i64 = 3 * SECOND;
const REMOVE_DEADLINE: i64 = 60 * SECOND;
/// For how long it is seen whether a container has something to do before it is frozen.
pub(super) const WATCH: i64 = SECOND;
/// What a container with nothing to do may use of a processor in that time, in microseconds.
const IDLE_USE: u64 = 20_000;

impl Keeper {
    pub(super) fn lease(&mut self, lease: Lease, now: i64) -> Result<(), String> {
        if cfg!(not(feature = "lxc")) {
            return Err(crate::container::NO_LXC.into());
        }
        let host = host::find(&self.config, lease.node, lease.host)?;
        host.may_grant(lease.attacker)?;
        let lease = Lease { host: host.ip, ..lease };
        let limit = host.hosts.limits.containers as usize;
        let of_node = |container: &&Container| {
            container.unclaimed.is_none() && container.lease.is_some_and(|other| other.node == lease.node)
        };
        let running = self.containers.values().filter(of_node).count();
        if running >= limit {
            return Err(format!("{running} containers of this node run already, which is its limit"));
        }
        let is_same = |container: &Container| {
            container.lease.is_some_and(|other| {
                (other.node, other.host, other.attacker) == (lease.node, lease.host, lease.attacker)
            }) && container.why.is_none()
                && container.unclaimed.is_none()
        };
        if self.containers.values().any(is_same) {
            return Err(format!("{} has a container already", lease.host));
        }
        self.last_lease = now;
        self.make_room(&lease, limit, now);
        let host = host::find(&self.config, lease.node, lease.host)?;
        let image = host.image(&self.config)?;
        if let Some(number) = self.unclaimed_of(&lease, &image) {
            self.claim(number, lease);
            return Ok(());
        }
        if let Some(number) = self.kept_for(&lease, &image) {
            return self.start_again(number, lease);
        }
        let is_usual = self.is_usual(&host);
        if let Some(number) = self.spare_of(&image).filter(|_| is_usual) {
            match self.lend(number, lease) {
                Ok(()) => return Ok(()),
                // It is of no use any more; the host gets one of its own.
                Err(error) => self.end(number, &format!("it could not be given to a host: {error}"), now),
            }
        }
        let place = self.new_place();
        let host = self.search.with_key(host::find(&self.config, lease.node, lease.host)?);
        self.check_ways(&place, &image)?;
        let limit = host.template.backend.as_ref().map_or(disk::LEAST, |backend| backend.limits.disk);
        let size = self.grant(limit)?;
        let machine = Machine::of(&host, self.config.secret, &self.here);
        let made = (Age::of(&host), machine, size);
        let start = settings::start(Some(&host), made, &image, &place, (&self.layout, &self.seccomp));
        let disk = (&mut self.disks, size);
        settings::prepare(Some(&host), image.manifest.host_key, &place, &image.rootfs(), disk)
            .map_err(|error| unmade(&place, &error))?;
        let number = self.begin((place, size), image, start, (lease.node, lease.host))?;
        self.hand_over(number, lease);
        Ok(())
    }

    /// Octets of the disk of a new container that is to have `limit`.
    ///
    /// # Errors
    /// If the machine's disk is too full.
    pub(super) fn grant(&self, limit: u64) -> Result<u64, String> {
        let others = self.containers.values().map(|container| (container.place.dir.as_path(), container.disk));
        self.disks.grant(limit, others)
    }

    /// A name that was never used.
    pub(super) fn new_place(&mut self) -> Place {
        self.number += 1;
        Place::of(&leftovers::containers_dir(&self.config), &self.tag, self.number)
    }

    /// # Errors
    /// If the users that containers run as cannot reach their files.
    pub(super) fn check_ways(&self, place: &Place, image: &Image) -> Result<(), String> {
        match [&place.containers, &image.dir].into_iter().find_map(|path| leftovers::closed_to_containers(path)) {
            Some(dir) => {
                let dir = dir.display();
                Err(format!("the users of containers may not pass through {dir}: run `chmod o+x {dir}`"))
            }
            None => Ok(()),
        }
    }

    /// Puts a container whose directory is there into the queue of those that are to start. A host of node
    /// [`NodeIdx`] is whom its files are for, if that is known.
    pub(super) fn begin(
        &mut self,
        (place, disk): (Place, u64),
        image: Image,
        start: Start,
        host: impl Into<Option<(NodeIdx, IpAddr)>>,
    ) -> Result<u32, String> {
        let stage = Stage::Queued(Box::new(start));
        let (number, dir, tap) = (place.number, place.dir.clone(), place.tap.clone());
        let container = Container::new(place, disk, image, stage).map_err(|error| error.to_string());
        let opened = container.and_then(|container| match tap::open(&tap, tap::Offload::Tcp) {
            Ok((tap, _)) => Ok(Container { tap: Some(tap), host: host.into(), ..container }),
            Err(error) => Err(format!("cannot open a TAP: {error}")),
        });
        // What somebody had before is worth more than that.
        let is_new = kept::read(&dir).is_none();
        let container = opened.inspect_err(|_| drop(is_new.then(|| disk::remove(&dir))))?;
        self.containers.insert(number, container);
        self.queue.push_back(number);
        Ok(number)
    }

    /// Container `number` is that lease's from now on, and its TAP the switch's.
    pub(super) fn hand_over(&mut self, number: u32, lease: Lease) {
        self.handed(number, lease);
        let Some(container) = self.containers.get_mut(&number) else { return };
        container.lease = Some(lease);
        container.host = Some((lease.node, lease.host));
        container.attacker = lease.attacker;
        let mtu = interface::mtu(&container.place.tap).unwrap_or(1500);
        container.unclaimed = None;
        // Without a descriptor for a copy, the container ends with the switch.
        let tap = container.tap.as_ref().and_then(|tap| tap.try_clone().ok()).or_else(|| container.tap.take());
        if let Err(error) = kept::write(container) {
            let dir = container.place.dir.display();
            tracing::warn!(%error, %dir, "what this container is for cannot be written down");
        }
        self.tell_whose(number);
        self.tell_log(number);
        self.send(FromKeeper::LeaseTap { lease: lease.id, mtu }, tap);
    }

    /// Starts what waits, as far as there is room for more starts.
    pub(super) fn start_queued(&mut self, now: i64) {
        let mut starting: (usize, usize) = (0, 0);
        for container in self.containers.values() {
            if let Stage::Starting(worker) = &container.stage {
                let is_slow = now - worker.since > SLOW;
                starting = (starting.0 + usize::from(!is_slow), starting.1 + 1);
            }
        }
        while starting.0 < self.starts_at_once
            && starting.1 < MOST_SLOW * self.starts_at_once
            && let Some(number) = self.queue.pop_front()
        {
            let Some(container) = self.containers.get_mut(&number) else { continue };
            if !matches!(container.stage, Stage::Queued(_)) {
                continue;
            }
            let Stage::Queued(mut start) = std::mem::replace(&mut container.stage, Stage::failed(now)) else {
                continue;
            };
            start.logs = self.config.logs;
            let name = container.place.name.clone();
            match Worker::start(&self.worker, &name, &Work::Start(*start), now, START_DEADLINE) {
                Ok(worker) => {
                    container.stage = Stage::Starting(worker);
                    starting = (starting.0 + 1, starting.1 + 1);
                }
                Err(error) => {
                    let program = self.worker.display();
                    container.why.get_or_insert(format!("the worker {program} cannot be started: {error}"));
                    self.sweep(number, now);
                }
            }
        }
    }

    pub(super) fn started(&mut self, number: u32, done: Done, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let live = match done {
            Done::Started { init: pid, monitor } => init_handle(pid, &container.place.name)
                .map(|init| Running { init, pid, monitor, since: now, rest: Rest::Awake })
                .map_err(|error| error.to_string()),
            Done::Failed(why) => Err(why),
            other => Err(format!("its worker answered {other:?}")),
        };
        match live {
            Ok(running) => {
                let ended = container.why.is_some();
                container.stage = Stage::Live(running);
                if let Some(used) = &mut container.used {
                    used.ran = true;
                }
                let lease = container.lease;
                if let Err(error) = kept::write(container) {
                    let name = &container.place.name;
                    tracing::warn!(%error, name, "should the keeper die, this container ends with it");
                }
                self.watch_inside(number);
                self.tell_log(number);
                match lease {
                    _ if ended => self.kill_live(number, now),
                    Some(lease) => self.send(FromKeeper::LeaseLive { lease: lease.id }, None),
                    None => {}
                }
            }
            Err(why) => {
                // What does not start has nothing that is worth another try.
                container.keep = None;
                container.stage = Stage::failed(now);
                let spare = container.is_spare().then(|| container.image.manifest.name.clone());
                let why = container.why.get_or_insert(why).clone();
                if let Some(image) = spare {
                    self.spare_failed(&image, &why, now);
                }
                self.sweep(number, now);
            }
        }
    }

    /// The container that lease `id` has.
    pub(super) fn of_lease(&self, id: LeaseId) -> Option<u32> {
        let has = |(number, container): (&u32, &Container)| {
            (container.lease.is_some_and(|lease| lease.id == id)).then_some(*number)
        };
        self.containers.iter().find_map(has)
    }

    /// Begins to end container `number`, whose files stay for who comes back, or do not.
    pub(super) fn end_and(&mut self, number: u32, keep: bool, why: &str, now: i64) {
        let secs = if keep { self.keep_secs(number) } else { None };
        if let Some(container) = self.containers.get_mut(&number) {
            container.keep = secs;
        }
        self.end(number, why, now);
    }

    /// Begins to end container `number`.
    pub(super) fn end(&mut self, number: u32, why: &str, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        if container.why.is_some() {
            return;
        }
        container.why = Some(why.into());
        match container.stage {
            Stage::Queued(_) => {
                container.stage = Stage::ended(now);
                self.sweep(number, now);
            }
            Stage::Live(_) => self.kill_live(number, now),
            Stage::Kept { .. } => self.dispose(number, now),
            // A start that was begun is waited for: what it would leave when killed is harder to find.
            _ => {}
        }
    }

    fn kill_live(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Stage::Live(running) = &container.stage else { return };
        // For a moment its other processes may run.
        container.listed.goes_on();
        // Its process namespace dies with its init; an error means that it is dead already.
        let _ = rustix::process::pidfd_send_signal(&running.init, Signal::KILL);
        // What is frozen dies only when it goes on, in version 1 of cgroups.
        let _ = self.layout.freeze(&container.place.name, false);
        container.stage = Stage::Dying { monitor: running.monitor, deadline: now + DEATH_DEADLINE };
    }

    /// Its monitor did not end by itself.
    pub(super) fn kill_monitor(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        if let Stage::Dying { monitor, .. } = container.stage
            && !self.inherited.kill(monitor)
        {
            kill(monitor);
        }
        container.stage = Stage::ended(now);
        self.sweep(number, now);
    }

    /// Its monitor has ended.
    pub(super) fn monitor_ended(&mut self, number: u32, now: i64) {
        let secs = self.keep_secs(number);
        let Some(container) = self.containers.get_mut(&number) else { return };
        if let Stage::Live(running) = std::mem::replace(&mut container.stage, Stage::ended(now)) {
            // It may have been killed alone: then the container still runs.
            let _ = rustix::process::pidfd_send_signal(&running.init, Signal::KILL);
            if container.why.is_none() {
                container.why = Some("its init ended".into());
                container.keep = secs;
            }
        }
        self.sweep(number, now);
    }

    /// Kills and removes what is left of container `number` but its files, as far as it goes by now.
    pub(super) fn sweep(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Stage::Sweeping { deadline, strays } = container.stage else { return };
        let name = &container.place.name;
        let mut alive = self.layout.kill(name);
        if strays {
            alive += kill_strays(name);
        }
        let left = self.layout.remove(name);
        if alive + left > 0 && now < deadline {
            return;
        }
        self.unwatch_inside(number);
        self.forget_log(number);
        let Some(container) = self.containers.get_mut(&number) else { return };
        // The device is back here, or gone with the container's network namespace.
        let _ = netlink::delete_link(&container.place.tap);
        container.tap = None;
        if let Some(used) = &mut container.used {
            used.rested(container.why.as_deref(), Utc::from_micros(clock::realtime_micros()));
        }
        match container.keep {
            Some(secs) if secs > 0 && self.ending.is_none() => {
                if let Err(error) = settings::rest(&container.place) {
                    let name = &container.place.name;
                    tracing::warn!(%error, container = name, "what was mounted for a container that has ended stays");
                }
                container.stage = Stage::Kept { until: now + i64::from(secs) * SECOND };
                if let Err(error) = kept::write(container) {
                    tracing::warn!(%error, container = container.place.name, "that it has ended cannot be written down");
                }
                self.rests(number);
                self.gone(number);
            }
            _ => self.dispose(number, now),
        }
    }

    /// Has the files of container `number` removed.
    pub(super) fn remove(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        // What is there was inspected, and nobody needs another list of it.
        container.listed.kill();
        let work = Work::Remove { path: container.place.dir.clone() };
        match Worker::start(&self.worker, &container.place.name, &work, now, REMOVE_DEADLINE) {
            Ok(worker) => container.stage = Stage::Removing(worker),
            Err(_) => {
                let _ = disk::remove(&container.place.dir);
                self.removed(number, now);
            }
        }
    }

    /// The files of container `number` are gone.
    pub(super) fn removed(&mut self, number: u32, now: i64) {
        self.gone(number);
        let Some(mut container) = self.containers.remove(&number) else { return };
        self.look_in_vain(container.look.take());
        if container.host.is_some() || container.used.is_some() {
            let why = container.why.as_deref().unwrap_or_default();
            let archive = container.used.as_ref().and_then(|used| used.archive.as_deref()).unwrap_or_default();
            self.tell_of_container(EventId::ContainerDestroyed, &container, (archive, why), 1, now);
        }
        if let Some(host) = container.host {
            self.make_again(host);
        }
    }

    /// Container `number` is nobody's any more.
    pub(super) fn gone(&mut self, number: u32) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(lease) = container.lease.take() else { return };
        let why = match container.stage {
            Stage::Kept { .. } => container.why.take().unwrap_or_default(),
            _ => container.why.clone().unwrap_or_default(),
        };
        self.send(FromKeeper::LeaseGone { lease: lease.id, why }, None);
    }

    pub(super) fn end_containers(&mut self, why: &str, now: i64, which: impl Fn(&Container) -> bool) {
        let numbers = self.containers.iter().filter(|(_, container)| which(container)).map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            self.end(number, why, now);
        }
    }

    /// How long the files of container `number` are to stay when it has ended.
    pub(super) fn keep_secs(&self, number: u32) -> Option<u32> {
        let (node, host) = self.containers.get(&number)?.host?;
        let host = host::find(&self.config, node, host).ok()?;
        Some(host.template.backend.as_ref()?.destroy_secs)
    }

    /// Sees whether container `number` has something to do, to freeze it if it has not.
    pub(super) fn watch(&mut self, number: u32, now: i64) {
        let Some(Container { stage: Stage::Live(running), place, .. }) = self.containers.get_mut(&number) else {
            return;
        };
        if running.rest == Rest::Awake {
            let used = self.layout.processor_use(&place.name).unwrap_or(0);
            running.rest = Rest::Watched { used, until: now + WATCH };
        }
    }

    /// Freezes container `number` if it had nothing to do while it was watched.
    pub(super) fn freeze(&mut self, number: u32) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let (Stage::Live(running), Some(lease)) = (&mut container.stage, container.lease) else { return };
        let Rest::Watched { used, .. } = running.rest else { return };
        let name = &container.place.name;
        let had = self.layout.processor_use(name).map_or(0, |now| now.saturating_sub(used));
        let frozen = had <= IDLE_USE && self.layout.freeze(name, true).is_ok();
        running.rest = if frozen { Rest::Frozen } else { Rest::Awake };
        let lease = lease.id;
        if frozen {
            self.rests(number);
        }
        self.send(if frozen { FromKeeper::LeaseFrozen { lease } } else { FromKeeper::LeaseBusy { lease } }, None);
    }

    /// Has the processes of container `number` go on.
    pub(super) fn thaw(&mut self, number: u32) {
        self.goes_on(number, clock::monotonic_micros());
        let Some(Container { stage: Stage::Live(running), place, .. }) = self.containers.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut running.rest, Rest::Awake) == Rest::Frozen
            && let Err(error) = self.layout.freeze(&place.name, false)
        {
            tracing::error!(%error, container = %place.name, "a frozen container cannot be thawed");
        }
    }

    /// Makes a container that was kept ready that of a lease.
    fn lend(&mut self, number: u32, lease: Lease) -> Result<(), String> {
        let host = self.search.with_key(host::find(&self.config, lease.node, lease.host)?);
        let of_image = settings::usual(&self.config, host.template.backend.as_ref().map(|own| own.image.as_str()));
        let Some((usual, _)) = of_image else { return Err("no template has containers of its image".into()) };
        let Some(container) = self.containers.get_mut(&number) else { return Err("it is gone".into()) };
        let Stage::Live(running) = &mut container.stage else { return Err("it does not run".into()) };
        let name = &container.place.name;
        running.rest = Rest::Awake;
        let limits = settings::limits(host.template.backend.as_ref(), &self.layout);
        let made = Machine::of_nobody(usual, number, self.config.secret, &self.here);
        let machine = Machine::of(&host, self.config.secret, &self.here);
        let dir = hide::dir_in(&container.place.dir);
        let failed = |error: io::Error| error.to_string();
        identity::write(&host, &container.image, running.pid).map_err(failed)?;
        let given = self.layout.freeze(name, false);
        let given = given.and_then(|()| identity::connect(&host, running.pid));
        let given = given.and_then(|()| self.layout.set(name, &limits));
        given.and_then(|()| hide::write_over((&made, &machine), &self.here, container.disk, &dir)).map_err(failed)?;
        if let Some(tap) = &container.tap {
            identity::forget_frames(tap);
        }
        self.hand_over(number, lease);
        self.send(FromKeeper::LeaseLive { lease: lease.id }, None);
        Ok(())
    }
}

/// Removes what there is of a directory that could not be made, and says so.
pub fn unmade(place: &Place, error: &io::Error) -> String {
    let _ = disk::remove(&place.dir);
    format!("cannot make its directory {}: {error}", place.dir.display())
}

/// Kills children whose command line names container `name`: a monitor without a cgroup of its own. Returns how many.
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
