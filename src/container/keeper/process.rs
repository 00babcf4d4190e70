//! The main loop: one thread, everything by events and deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::WaitOptions;

use super::adopt::Inherited;
use super::ahead;
use super::cgroup::Layout;
use super::disk::Disks;
use super::forget;
use super::inside::Inside;
use super::lease::{Container, Lease, Rest, Stage};
use super::leases::START_DEADLINE;
use super::leftovers;
use super::machine::Here;
use super::pool::{self, Pool};
use super::pressure::Pressure;
use super::rsa::Search;
use super::scripts::Scripts;
use super::settings;
use super::taps::Taps;
use super::uplinks::Uplinks;
use crate::container::{FromKeeper, KeeperConfig, KeeperSays, ToKeeper};
use crate::event::{Event, EventId, MAX_DATA, Said, Steps};
use crate::node::NodeIdx;
use crate::sys::seqpacket::Channel;
use crate::sys::signal::Signals;
use crate::sys::{clock, netlink};
use crate::wire::Instant;

pub(super) const MILLISECOND: i64 = 1_000;
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const SWEEP_INTERVAL: i64 = 10 * MILLISECOND;
/// Starts at once for each processor; the others wait for their turn.
const STARTS_PER_CPU: usize = 4;
/// How often uplinks are looked at even if the kernel said nothing about them.
const LOOK_INTERVAL: i64 = 5 * SECOND;
/// How often devices are looked at of which the kernel would not tell everything.
const CLOSE_LOOK_INTERVAL: i64 = 500 * MILLISECOND;
/// When everything must be gone after the order to end.
const END_DEADLINE: i64 = 7 * SECOND;
/// How long before that no more evidence is taken: what is left has to be laid aside.
pub(super) const LEAVE: i64 = 3 * SECOND / 2;
/// Messages that may wait for a switch that does not read.
const BACKLOG: usize = 16_384;

/// What the keeper speaks by.
#[derive(Debug)]
pub struct Ends {
    /// Life line: when it closes, the keeper ends.
    pub supervisor: Channel,
    /// Receives [`ToKeeper`], sends [`FromKeeper`].
    pub switch: Channel,
    /// Receives [`Ordered`](crate::container::Ordered), sends [`KeeperSays`].
    pub console: Channel,
    /// The TAPs of the configuration's tap nodes, in their order.
    pub taps: Vec<OwnedFd>,
    /// By what containers are watched, if any can be.
    pub inside: Option<OwnedFd>,
}

/// Runs the keeper until it is told to end (`SIGTERM`, `SIGINT`, or the
/// supervisor's end closes), then ends every container and removes what it made.
///
/// `worker` is the program that makes calls of liblxc: honeyweave itself.
///
/// # Errors
/// If another keeper has the honeynet's directory, or the kernel refuses what every keeper needs.
pub fn run(mut config: KeeperConfig, mut ends: Ends, worker: PathBuf) -> io::Result<()> {
    // liblxc and the overlay need absolute paths, and names are derived from it.
    config.state_dir = std::path::absolute(&config.state_dir)?;
    let signals = Signals::take(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD])?;
    // Monitors of liblxc's and what scripts leave behind become our children, to be waited for.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let (lock, follows) = leftovers::claim(&config)?;
    let layout = Layout::find();
    let found = leftovers::sweep_all(&config, &layout, 3 * SECOND);
    // After a loss of power they are whole by name only.
    Disks::remove_blanks(&leftovers::containers_dir(&config));
    let seccomp = leftovers::containers_dir(&config).join("seccomp");
    // A successor finds it, even on a disk that is full by now.
    if !fs::read(&seccomp).is_ok_and(|text| text == settings::SECCOMP.as_bytes()) {
        fs::write(&seccomp, settings::SECCOMP)?;
    }
    let usual_disk = settings::usual(&config, None).map(|(_, backend)| backend.limits.disk);
    let disks = Disks::new(&leftovers::containers_dir(&config), usual_disk, settings::most(&config));
    ends.switch.set_nonblocking(true)?;
    ends.console.set_nonblocking(true)?;
    let links = netlink::watch_links()?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let steps = forget::steps(&config);
    let mut keeper = Keeper {
        tag: leftovers::tag(&config),
        uplinks: Uplinks::new(&config.nodes, config.threads),
        taps: Taps::new(&config, std::mem::take(&mut ends.taps)),
        scripts: Scripts::new(&config.name, &config.scripts),
        layout,
        seccomp,
        disks,
        inside: ends.inside.take().map(|fd| Inside::new(fd, config.by_mounts)),
        here: Here::look(),
        search: Search::ahead(&config),
        worker,
        ends,
        links,
        signals,
        _lock: lock,
        starts_at_once: cpus * STARTS_PER_CPU,
        number: 0,
        containers: BTreeMap::new(),
        pools: pool::pools(&config),
        ahead: ahead::wanted(&config),
        last_lease: 0,
        queue: VecDeque::new(),
        outgoing: VecDeque::new(),
        greeted: false,
        next_look: 0,
        ending: None,
        pressure: Pressure::watch(),
        inherited: Inherited::new()?,
        next_tap_look: 0,
        next_forget: 0,
        steps,
        config,
    };
    keeper.adopt(found, clock::monotonic_micros());
    if follows {
        keeper.send(FromKeeper::Follows, None);
    }
    keeper.work();
    keeper.leave_uninspected(true);
    leftovers::remove_empty(&keeper.config, &keeper.layout);
    Ok(())
}

pub(super) struct Keeper {
    pub(super) config: KeeperConfig,
    pub(super) tag: String,
    pub(super) layout: Layout,
    pub(super) seccomp: PathBuf,
    pub(super) disks: Disks,
    pub(super) inside: Option<Inside>,
    pub(super) here: Here,
    /// RSA keys of hosts.
    pub(super) search: Search,
    pub(super) worker: PathBuf,
    pub(super) ends: Ends,
    pub(super) links: OwnedFd,
    pub(super) signals: Signals,
    pub(super) pressure: Option<Pressure>,
    _lock: File,
    pub(super) uplinks: Uplinks,
    pub(super) taps: Taps,
    pub(super) scripts: Scripts,
    pub(super) starts_at_once: usize,
    pub(super) number: u32,
    /// All containers, by their numbers.
    pub(super) containers: BTreeMap<u32, Container>,
    pub(super) pools: Vec<Pool>,
    /// Hosts whose containers are yet to be made ahead.
    pub(super) ahead: VecDeque<(NodeIdx, IpAddr)>,
    /// When somebody got a container last.
    pub(super) last_lease: i64,
    /// Monitors that a predecessor has started.
    pub(super) inherited: Inherited,
    /// When it is looked again whether TAPs are still there.
    pub(super) next_tap_look: i64,
    /// When old evidence goes next.
    pub(super) next_forget: i64,
    /// Whether the machine's clock is believed in what is old.
    pub(super) steps: Steps,
    /// Those that are to start.
    pub(super) queue: VecDeque<u32>,
    pub(super) outgoing: VecDeque<(FromKeeper, Vec<OwnedFd>)>,
    /// Whether a switch is there: devices are opened for one.
    pub(super) greeted: bool,
    pub(super) next_look: i64,
    /// Set by the order to end: when patience ends.
    pub(super) ending: Option<i64>,
}

impl Keeper {
    fn work(&mut self) {
        loop {
            let now = clock::monotonic_micros();
            self.pass_deadlines(now);
            self.start_queued(now);
            match self.ending {
                Some(until) if now >= until - LEAVE => self.leave_uninspected(false),
                _ => self.inspect_queued(now),
            }
            let next =
                self.refill(now).min(self.settle_spares(now)).min(self.look_after_old(now)).min(self.make_ahead(now));
            self.flush();
            // Nobody waits for these.
            let next = next.min(self.list_rested(now)).min(self.search_keys(now));
            if self
                .ending
                .is_some_and(|until| (self.containers.is_empty() && self.scripts.running() == 0) || now >= until)
            {
                return;
            }
            if self.ending.is_none() {
                self.disks.refill();
            }
            let next = next.min(self.forget_evidence(now));
            let ready = self.wait(self.next_deadline(now).min(next));
            let now = clock::monotonic_micros();
            if ready.supervisor && !self.supervisor_is_there() {
                self.end_all(now);
            }
            if ready.signals {
                self.take_signals(now);
            }
            if ready.links {
                netlink::drain(&self.links);
                self.next_look = 0;
            }
            if ready.inherited {
                self.inherited.ended().into_iter().for_each(|monitor| self.child_ended(monitor, now));
            }
            if ready.switch {
                self.take_messages(now);
            }
            if ready.console {
                self.take_orders(now);
            }
            if ready.pressure && self.ending.is_none() {
                self.relieve(now);
            }
        }
    }

    fn pass_deadlines(&mut self, now: i64) {
        if self.greeted && self.ending.is_none() && now >= self.next_look {
            self.look_at_devices(now);
        }
        self.scripts.expire(now);
        self.expire_kept(now);
        self.expire_inspectors(now);
        let due: Vec<u32> = self.containers.keys().copied().collect();
        for number in due {
            let Some(container) = self.containers.get_mut(&number) else { continue };
            match &mut container.stage {
                Stage::Starting(worker) if now >= worker.deadline => {
                    let why = format!("liblxc did not start it within {} s", START_DEADLINE / SECOND);
                    container.why.get_or_insert(why);
                    worker.kill();
                }
                Stage::Removing(worker) if now >= worker.deadline => worker.kill(),
                Stage::Dying { deadline, .. } if now >= *deadline => self.kill_monitor(number, now),
                Stage::Sweeping { .. } => self.sweep(number, now),
                Stage::Live(running) => match running.rest {
                    Rest::Watched { until, .. } if now >= until => self.freeze(number),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn take_signals(&mut self, now: i64) {
        while let Some(signal) = self.signals.next() {
            if signal != libc::SIGCHLD {
                self.end_all(now);
            }
        }
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.child_ended(pid.as_raw_nonzero().get(), now);
        }
    }

    fn child_ended(&mut self, pid: i32, now: i64) {
        if self.scripts.ended(pid) {
            self.scripts.kill_orphans();
            return;
        }
        if self.looker_ended(pid, now) || self.search_ended(pid, now) {
            return;
        }
        let owner = self.containers.iter().find(|(_, container)| container.is_process(pid)).map(|(number, _)| *number);
        let Some(number) = owner else { return };
        let Some(container) = self.containers.get_mut(&number) else { return };
        match std::mem::replace(&mut container.stage, Stage::ended(now)) {
            Stage::Starting(worker) => {
                container.log = worker.log(&container.place.name);
                let done = worker.answer();
                container.stage = Stage::failed(now);
                self.started(number, done, now);
            }
            Stage::Removing(_) => self.removed(number, now),
            Stage::Inspecting(Some(inspector)) => {
                container.stage = Stage::Inspecting(None);
                self.inspected(number, inspector, now);
            }
            other => {
                container.stage = other;
                self.monitor_ended(number, now);
            }
        }
    }

    fn supervisor_is_there(&self) -> bool {
        let mut bytes = [0; 64];
        match self.ends.supervisor.recv(&mut bytes) {
            Ok(received) => received.len > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn take_messages(&mut self, now: i64) {
        loop {
            match self.ends.switch.recv_msg::<ToKeeper>() {
                Ok(Some((message, fds))) => self.take(message, fds, now),
                // The supervisor keeps both ends: a closed channel means that it is gone, too.
                Ok(None) => return self.end_all(now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Not a message of ours: whoever sends such things gets nothing for it.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return self.end_all(now),
            }
        }
    }

    fn take(&mut self, message: ToKeeper, fds: Vec<OwnedFd>, now: i64) {
        match message {
            ToKeeper::Hello => {
                self.outgoing.clear();
                self.outlive_switch(now);
                self.scripts.kill();
                self.uplinks.forget();
                self.taps.forget();
                self.greeted = true;
                self.look_at_devices(now);
            }
            ToKeeper::Lease { lease, node, host, by, attacker } => {
                match self.of_lease(lease) {
                    Some(number) => self.asked_again(number, now),
                    None => match self.lease(Lease { id: lease, node, host, by, attacker }, now) {
                        Ok(()) => self.look_for_key(node, host),
                        Err(why) => self.send(FromKeeper::LeaseGone { lease, why }, None),
                    },
                }
                // Whoever asks next need not wait until all of them are prepared.
                self.start_queued(now);
                self.flush();
            }
            ToKeeper::Freeze { lease } => {
                if let Some(number) = self.of_lease(lease) {
                    self.watch(number, now);
                }
            }
            ToKeeper::Thaw { lease } => {
                if let Some(number) = self.of_lease(lease) {
                    self.thaw(number);
                }
            }
            ToKeeper::Uses { uplinks, taps } => self.inherit_devices(&uplinks, &taps, now),
            ToKeeper::Holds { lease } => self.held(lease, fds.into_iter().next(), now),
            ToKeeper::Release { lease, keep } => match self.of_lease(lease) {
                Some(number) => self.end_and(number, keep, "released", now),
                // What was asked for before may have been lost with a keeper that died.
                None => self.send(FromKeeper::LeaseGone { lease, why: "it is gone already".into() }, None),
            },
            ToKeeper::Script { conn, script, peer, local } => match self.scripts.start(now, script, peer, local) {
                Ok(socket) => self.send(FromKeeper::ScriptOpen { conn }, Some(socket)),
                Err(why) => self.send(FromKeeper::ScriptFailed { conn, why }, None),
            },
        }
    }

    fn end_all(&mut self, now: i64) {
        if self.ending.is_none() {
            self.ending = Some(now + END_DEADLINE);
            self.end_containers("the honeynet ends", now, |_| true);
            self.scripts.kill();
        }
    }

    pub(super) fn look_at_devices(&mut self, now: i64) {
        for news in self.uplinks.look().into_iter().chain(self.taps.look()) {
            if let Some((message, fds)) = news.message {
                self.send(message, fds);
            }
            if !news.text.is_empty() {
                self.tell(EventId::DeviceState, news.node, None, &news.text, now);
            }
        }
        // What happens to a TAP in another network namespace is not told here, nor when a queue is free.
        let closely = !self.taps.is_empty() || self.uplinks.is_waiting();
        self.next_look = now + if closely { CLOSE_LOOK_INTERVAL } else { LOOK_INTERVAL };
    }

    /// Tells the console of something that happened on `node`, to `host` if that was one.
    pub(super) fn tell(&self, id: EventId, node: NodeIdx, host: Option<IpAddr>, text: &str, now: i64) {
        let mut event = Event::new(id, Instant::from_micros(now));
        event.node = node.0;
        event.dst.ip = host.into();
        self.say(event, text);
    }

    /// Tells the console of something that happened.
    pub(super) fn say(&self, event: Event, text: &str) {
        let mut data = text.as_bytes().to_vec();
        data.truncate(MAX_DATA);
        self.answer(&KeeperSays::Said(Said { event, data }), None);
    }

    pub(super) fn send(&mut self, message: FromKeeper, fds: impl IntoIterator<Item = OwnedFd>) {
        if self.outgoing.len() < BACKLOG {
            self.outgoing.push_back((message, fds.into_iter().collect()));
        }
    }

    fn flush(&mut self) {
        while let Some((message, fds)) = self.outgoing.front() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match self.ends.switch.send_msg(message, &fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A closed end shows when it is read.
                Err(error) => tracing::error!(%error, "a message to the switch is lost"),
                Ok(()) => {}
            }
            self.outgoing.pop_front();
        }
    }
}
