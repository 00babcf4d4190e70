//! The switch process: the data plane's thread, and beside it a runtime that
//! passes word between it, the keeper and the console, and splices connections.
//!
//! Everything that an attacker sends is looked at here and nowhere else, so this
//! process has no capability, an empty network namespace, a user of its own and
//! a short list of system calls. What it needs from outside comes as descriptors.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::config::{Rings, SWITCH_UID, SwitchConfig, SwitchEnds};
use super::devices::{Used, tap_rings, uplink_devices};
use super::middle::{Call, HostKeys, Middles};
use super::protocol::{FIRST_TAP, FromSupervisor, Query, ToConsole, ToSupervisor, ToSwitch};
use super::waiting::Waiting;
use crate::container::{FromKeeper, ToKeeper};
use crate::emulate::{Secret, WallClock};
use crate::event::{RingCapture, RingSink, SessionId, Sink};
use crate::fabric::{Attachment, Workers};
use crate::frame::PortNo;
use crate::netdev::{Netdev, Tap, TapRing};
use crate::node::{Command, LeaseId, NodeConfig, NodeIdx, Request, TapConfig, UplinkConfig};
use crate::service::ServiceKind;
use crate::sys::ring::RingWriter;
use crate::sys::seqpacket::{AsyncChannel, Channel};
use crate::sys::{clock, eventfd, memory, privileges, sched, seccomp};
use crate::topology::{Plan, PlanNode};

/// Octets of each frame that go to the capture ring: all of a frame of a normal MTU.
const SNAP: usize = 2048;
/// The niceness of threads that move frames. The receive ring holds 20 ms of 200,000 frames a second, and a busy machine
/// keeps an ordinary thread waiting longer than that; Open vSwitch's daemon runs at the same priority for the same reason.
const AHEAD: i32 = -10;
/// The niceness of what relays connections: behind frames, and ahead of containers, whose programs compute as long as their
/// intruder likes. Behind one of them a relay was seen to wait for a millisecond at a time.
const RELAYS: i32 = -5;
/// Hosts begin when all uplinks are attached, or so long after the start: one that is not there keeps nobody waiting.
const WIRES: Duration = Duration::from_secs(2);

/// Gives up every right and runs the switch until the supervisor's channel closes.
///
/// # Errors
/// If the rights cannot be given up, the plan cannot be built, or the worker ends.
pub fn run(config: SwitchConfig, ends: SwitchEnds) -> io::Result<()> {
    privileges::raise_descriptors();
    privileges::leave_network()?;
    let in_a_hurry = sched::stand_back(AHEAD);
    privileges::drop_to(SWITCH_UID, SWITCH_UID)?;
    // The uid has changed, which forgets such a wish; no error if the parent has died: then the channel is closed.
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
    privileges::die_with_parent(parent)?;
    // The library's hasher has a random key, which is all that is needed here.
    let seed = RandomState::new().build_hasher().finish();
    let (mut sinks, mut captures) = (Vec::new(), Vec::new());
    for Rings { events, frames } in ends.rings {
        sinks.push(Box::new(RingSink::new(RingWriter::open(events)?)) as Box<dyn Sink + Send>);
        captures.push(RingCapture::new(RingWriter::open(frames)?, SNAP));
    }
    // The hosts' clock runs on from here: one that is set while a honeynet runs is followed from its next start on.
    let wall = WallClock { zero_micros: clock::realtime_micros() - clock::monotonic_micros() };
    let mut fabrics = super::build_fabrics(&config.plan, config.secret, seed, wall, sinks);
    if !config.plan.privacy.no_frames {
        let whole = config.plan.captures.rate_bytes;
        fabrics.iter_mut().zip(captures).for_each(|(fabric, capture)| fabric.capture_to(Box::new(capture), whole));
    }
    let workers = Workers::spawn(fabrics)?;
    if in_a_hurry {
        sched::stand_back(RELAYS - AHEAD);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let tap_rings = tap_rings(config.plan.tap_io, workers.count());
    let keys = HostKeys::start()?;
    // No frame, message or descriptor has come in so far.
    seccomp::confine()?;
    let (plan, secret) = (config.plan, config.secret);
    runtime.block_on(serve(plan, (secret, keys), (workers, tap_rings), (ends.supervisor, ends.keeper, ends.console)))
}

async fn serve(
    plan: Plan,
    (secret, keys): (Secret, HostKeys),
    (workers, tap_rings): (Workers, Vec<Option<TapRing>>),
    ends: (Channel, Channel, Channel),
) -> io::Result<()> {
    let (supervisor, keeper, console) =
        (AsyncChannel::new(ends.0)?, AsyncChannel::new(ends.1)?, AsyncChannel::new(ends.2)?);
    // What was meant for the switch before this one.
    while !matches!(keeper.get().recv_msg::<FromKeeper>(), Err(error) if error.kind() == ErrorKind::WouldBlock) {}
    let (to_keeper, keeper_box) = unbounded_channel();
    let (to_console, console_box) = unbounded_channel();
    let due = eventfd::watch(workers.request_fd().try_clone_to_owned()?)?;
    let (middles, tape_box) = Middles::new(secret, keys);
    let mut switch = Switch::new(plan, (workers, tap_rings), middles, to_keeper, to_console);
    let (keeper, console) = (std::rc::Rc::new(keeper), std::rc::Rc::new(console));
    let local = tokio::task::LocalSet::new();
    local.spawn_local(deliver(keeper.clone(), keeper_box));
    local.spawn_local(deliver(console.clone(), console_box));
    local.spawn_local(deliver_tapes(console.clone(), tape_box));
    switch.tell_keeper(ToKeeper::Hello);
    switch.say_ready(&supervisor);
    let late = tokio::time::sleep(WIRES);
    tokio::pin!(late);
    let mut pulse = tokio::time::interval(Duration::from_secs(1));
    local
        .run_until(async {
            loop {
                tokio::select! {
                    message = keeper.recv_msg::<FromKeeper>() => {
                        let Some((message, fds)) = heard(message)? else { continue };
                        switch.keeper_said(message, fds)?;
                        switch.say_ready(&supervisor);
                    }
                    message = console.recv_msg::<ToSwitch>() => {
                        let Some((message, fds)) = heard(message)? else { continue };
                        switch.console_said(message, fds.into_iter().next());
                    }
                    ready = due.readable() => {
                        ready?.clear_ready();
                        switch.requests()?;
                        switch.say_alive(&supervisor);
                    }
                    word = supervisor.recv_msg::<FromSupervisor>() => match word {
                        Ok(Some((FromSupervisor::Ping, _))) => switch.ping(),
                        Ok(None) => return switch.workers.end(),
                        Err(_) => {}
                    },
                    () = &mut late, if !switch.begun => switch.begin(),
                    _ = pulse.tick(), if !switch.waiting.is_empty() => switch.waiting.give_up(),
                }
            }
        })
        .await
}

/// Sends what is put into `outbox`, waiting for room, so that nothing else has to.
async fn deliver<T: Serialize>(
    channel: std::rc::Rc<AsyncChannel>,
    mut outbox: UnboundedReceiver<(T, Option<OwnedFd>)>,
) {
    while let Some((message, fd)) = outbox.recv().await {
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        if let Err(error) = channel.send_msg(&message, &fds).await {
            tracing::error!(%error, "a message to a process of ours is lost");
        }
    }
}

/// The same of what is recorded, of which only so much waits that whoever says more has to.
async fn deliver_tapes(channel: std::rc::Rc<AsyncChannel>, mut outbox: Receiver<ToConsole>) {
    while let Some(message) = outbox.recv().await {
        if let Err(error) = channel.send_msg(&message, &[]).await {
            tracing::error!(%error, "something that an attacker did is not recorded");
        }
    }
}

/// A message that arrived; `None` for one that is none.
fn heard<T>(message: io::Result<Option<(T, Vec<OwnedFd>)>>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    match message {
        Ok(None) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the supervisor has closed a channel")),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            tracing::warn!(%error, "a process of ours sent what is no message");
            Ok(None)
        }
        other => other,
    }
}

struct Lease {
    /// The shard of the data plane that keeps its host.
    shard: u16,
    node: NodeIdx,
    host: IpAddr,
    by: Option<(IpAddr, SessionId)>,
    attacker: Option<IpAddr>,
    tap: Option<LeaseTap>,
    /// Its end was asked for, and whether its files are to stay.
    released: Option<bool>,
}

/// The TAP of a container.
struct LeaseTap {
    /// Where it is attached.
    port: PortNo,
    /// Its number in captures.
    number: u32,
    /// For a keeper that follows one that died.
    fd: OwnedFd,
}

struct Switch {
    plan: Plan,
    workers: Workers,
    /// One for each thread of the data plane.
    tap_rings: Vec<Option<TapRing>>,
    to_keeper: UnboundedSender<(ToKeeper, Option<OwnedFd>)>,
    to_console: UnboundedSender<(ToConsole, Option<OwnedFd>)>,
    /// Uplinks and taps that have not been attached for the first time.
    missing: HashSet<NodeIdx>,
    used: Used,
    /// Time runs in the data plane.
    begun: bool,
    ready_said: bool,
    /// Pings of the supervisor's, and how many of them were answered.
    pings: (u64, u64),
    leases: HashMap<LeaseId, Lease>,
    waiting: Waiting,
    middles: Middles,
    next_tap: u32,
}

impl Switch {
    fn new(
        plan: Plan,
        (workers, tap_rings): (Workers, Vec<Option<TapRing>>),
        middles: Middles,
        to_keeper: UnboundedSender<(ToKeeper, Option<OwnedFd>)>,
        to_console: UnboundedSender<(ToConsole, Option<OwnedFd>)>,
    ) -> Switch {
        let has_device =
            |config: &NodeConfig| matches!(config, NodeConfig::Uplink(_) | NodeConfig::Tap(_) | NodeConfig::Mirror(_));
        let waiting = plan.nodes.iter().enumerate().filter(|(_, node)| has_device(&node.config));
        let missing = waiting.map(|(i, _)| NodeIdx(i as u16)).collect();
        Switch {
            plan,
            workers,
            tap_rings,
            to_keeper,
            to_console,
            missing,
            used: Used::default(),
            begun: false,
            ready_said: false,
            pings: (0, 0),
            leases: HashMap::new(),
            waiting: Waiting::new(),
            middles,
            next_tap: FIRST_TAP,
        }
    }

    fn begin(&mut self) {
        self.begun = true;
        self.workers.begin();
    }

    /// Tells the supervisor, once, that frames flow.
    fn say_ready(&mut self, supervisor: &AsyncChannel) {
        if !self.ready_said && self.missing.is_empty() {
            self.begin();
            self.ready_said = supervisor.get().send_msg(&ToSupervisor::Ready, &[]).is_ok();
        }
    }

    /// Asks every thread of the data plane whether it still takes orders.
    fn ping(&mut self) {
        self.pings.0 += 1;
        self.workers.ping();
    }

    /// Tells the supervisor, once for each ping, that all threads have answered.
    fn say_alive(&mut self, supervisor: &AsyncChannel) {
        let (asked, said) = self.pings;
        if said < asked && self.workers.pongs() >= asked {
            self.pings.1 = asked;
            let _ = supervisor.get().send_msg(&ToSupervisor::Alive, &[]);
        }
    }

    fn tell_keeper(&self, message: ToKeeper) {
        // The task that delivers lives as long as the runtime.
        let _ = self.to_keeper.send((message, None));
    }

    /// The same TAP for every shard.
    fn taps(&self, fd: &OwnedFd, tap: impl Fn(OwnedFd) -> Tap) -> io::Result<Vec<Box<dyn Netdev>>> {
        let of_shard = |ring: &Option<TapRing>| {
            io::Result::Ok(Box::new(tap(fd.try_clone()?).through(ring.as_ref())) as Box<dyn Netdev>)
        };
        self.tap_rings.iter().map(of_shard).collect()
    }

    fn keeper_said(&mut self, message: FromKeeper, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        match message {
            FromKeeper::Uplink { node, index, mtu, xdp } => {
                let program = xdp.and_then(|_| fds.next_back());
                let Some(NodeConfig::Uplink(uplink)) = self.plan.nodes.get(usize::from(node.0)).map(|n| &n.config)
                else {
                    return Ok(());
                };
                let Some(devices) =
                    uplink_devices(mtu, xdp.map(|mode| (mode, uplink.ring)), fds, self.workers.count())?
                else {
                    return Ok(());
                };
                // By AF_XDP, one shard receives for all.
                let home = xdp.is_some().then_some(0);
                let (name, capture) = (uplink.interface.clone(), Some(u32::from(node.0)));
                let port = Some(UplinkConfig::WIRE);
                self.workers.attach(Attachment { node, port, devices, home, name, capture })?;
                self.used.uplink(node, index, xdp.is_some(), program);
                self.missing.remove(&node);
            }
            FromKeeper::Tap { node, mtu } => {
                let Some(fd) = fds.next() else { return Ok(()) };
                let (tap, is_mirror) = match self.plan.nodes.get(usize::from(node.0)).map(|node| &node.config) {
                    Some(NodeConfig::Tap(tap)) => (tap, false),
                    Some(NodeConfig::Mirror(mirror)) => (&mirror.tap, true),
                    _ => return Ok(()),
                };
                let (name, capture) = (tap.interface.clone(), tap.capture.then_some(u32::from(node.0)));
                let (port, home) = (Some(TapConfig::WIRE), Some(node.0 % self.workers.count()));
                let devices = self.taps(&fd, |fd| match is_mirror {
                    // Sensors see frames as a wire would have them, whatever their length.
                    true => Tap::new(fd, u32::from(u16::MAX)).without_offload(),
                    false => Tap::new(fd, mtu),
                })?;
                self.workers.attach(Attachment { node, port, devices, home, name, capture })?;
                self.used.tap(node);
                self.missing.remove(&node);
            }
            FromKeeper::UplinkDown { node, gone } => self.unplugged(node, gone),
            FromKeeper::TapDown { node } => self.unplugged(node, true),
            FromKeeper::Follows => self.say_what_is_held(),
            FromKeeper::LeaseTap { lease, mtu } => self.tap(lease, mtu, fds.next())?,
            FromKeeper::LeaseLive { lease } => self.command(lease, Command::LeaseLive { lease }),
            FromKeeper::LeaseFrozen { lease } => self.command(lease, Command::LeaseFrozen { lease }),
            FromKeeper::LeaseBusy { lease } => self.command(lease, Command::LeaseBusy { lease }),
            FromKeeper::LeaseGone { lease, why } => {
                if let Some(Lease { node, tap: Some(tap), .. }) = self.leases.get(&lease) {
                    self.workers.detach(*node, tap.port);
                }
                self.command(lease, Command::LeaseGone { lease, why });
                self.leases.remove(&lease);
            }
            FromKeeper::ScriptOpen { conn } => self.waiting.open(conn, fds.next()),
            FromKeeper::ScriptFailed { conn, why } => self.waiting.refuse(conn, &why),
        }
        Ok(())
    }

    /// The device of a node went away.
    fn unplugged(&mut self, node: NodeIdx, gone: bool) {
        if let Some((name, port)) = self.plan.nodes.get(usize::from(node.0)).and_then(|node| node.config.device()) {
            self.workers.unplug(node, port, name, gone);
        }
        self.used.gone(node);
    }

    fn command(&self, lease: LeaseId, command: Command) {
        if let Some(Lease { shard, node, .. }) = self.leases.get(&lease) {
            self.workers.command(*shard, *node, command);
        }
    }

    /// Attaches the TAP of a lease that still is one.
    fn tap(&mut self, lease: LeaseId, mtu: u32, fd: Option<OwnedFd>) -> io::Result<()> {
        let Some(fd) = fd else { return Ok(()) };
        if !self.leases.contains_key(&lease) {
            // It was asked for twice, of two keepers, and was over for the first.
            self.tell_keeper(ToKeeper::Release { lease, keep: true });
        }
        let Some(Lease { shard, node, host, tap: None, .. }) = self.leases.get(&lease) else { return Ok(()) };
        let (home, node, host, number) = (Some(*shard), *node, *host, self.next_tap);
        self.next_tap = self.next_tap.checked_add(1).unwrap_or(FIRST_TAP);
        self.announce(number, node, host);
        let (devices, name, capture) =
            (self.taps(&fd, |fd| Tap::new(fd, mtu))?, format!("tap of {host}"), Some(number));
        let port = self.workers.attach(Attachment { node, port: None, devices, home, name, capture })?;
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.tap = Some(LeaseTap { port, number, fd });
        }
        self.command(lease, Command::LeaseTap { lease, port });
        Ok(())
    }

    fn release(&mut self, id: LeaseId, keep: bool) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.released = Some(keep);
        }
        self.tell_keeper(ToKeeper::Release { lease: id, keep });
    }

    /// Tells a keeper that follows another what there is, and once more what the other one may not have done.
    fn say_what_is_held(&self) {
        self.tell_keeper(self.used.told());
        for (id, lease) in &self.leases {
            let (id, node, host, by, attacker) = (*id, lease.node, lease.host, lease.by, lease.attacker);
            match (&lease.tap, lease.released) {
                (_, Some(keep)) => self.tell_keeper(ToKeeper::Release { lease: id, keep }),
                (None, None) => self.tell_keeper(ToKeeper::Lease { lease: id, node, host, by, attacker }),
                (Some(tap), None) => {
                    let _ = self.to_keeper.send((ToKeeper::Holds { lease: id }, tap.fd.try_clone().ok()));
                }
            }
        }
    }

    /// Tells the console whose frames carry `number`.
    fn announce(&self, number: u32, node: NodeIdx, host: IpAddr) {
        let _ = self.to_console.send((ToConsole::Interface { number, node, host }, None));
    }

    fn console_said(&mut self, message: ToSwitch, fd: Option<OwnedFd>) {
        match message {
            ToSwitch::Hello => {
                let taps = self.leases.values().filter_map(|lease| Some((lease, lease.tap.as_ref()?.number)));
                taps.for_each(|(lease, number)| self.announce(number, lease.node, lease.host));
                self.middles.say_again();
            }
            ToSwitch::Query { id, what } => self.query(id, what),
            ToSwitch::ProxyOpen { conn } => self.waiting.open(conn, fd),
            ToSwitch::ProxyFailed { conn, why } => self.waiting.refuse(conn, &why),
        }
    }

    /// Has the worker answer the console; another thread waits for that.
    fn query(&self, id: u64, what: Query) {
        match what {
            Query::Show { what, limit } => self.answer(id, self.workers.show(what, limit as usize)),
            Query::Status => self.answer(id, self.workers.status()),
        }
    }

    fn answer(&self, id: u64, answer: impl FnOnce() -> io::Result<Value> + Send + 'static) {
        let to_console = self.to_console.clone();
        tokio::task::spawn_blocking(move || match answer().and_then(|value| in_memory(&value)) {
            Ok(memory) => drop(to_console.send((ToConsole::Answer { id }, Some(memory)))),
            Err(error) => tracing::warn!(%error, "a question of the console has no answer"),
        });
    }

    /// What nodes ask of the control side.
    ///
    /// # Errors
    /// If a thread of the data plane has ended.
    fn requests(&mut self) -> io::Result<()> {
        for (shard, request) in self.workers.requests() {
            match request {
                Request::Lease { node, lease, host, by, attacker } => {
                    self.leases.insert(lease, Lease { shard, node, host, by, attacker, tap: None, released: None });
                    self.tell_keeper(ToKeeper::Lease { lease, node, host, by, attacker });
                }
                Request::Rebuilt { node } => self.end_leases(shard, node),
                Request::Freeze { lease } => self.tell_keeper(ToKeeper::Freeze { lease }),
                Request::Thaw { lease } => self.tell_keeper(ToKeeper::Thaw { lease }),
                Request::Release { lease, keep } => self.release(lease, keep),
                Request::Open { node, service, session, peer, local, pipe } => {
                    if let ServiceKind::Recorded(middle) = &service.kind {
                        let of = self.plan.nodes.get(usize::from(node.0));
                        if let Some(PlanNode { name, config: NodeConfig::Hosts(hosts), .. }) = of {
                            let call = Call { node, name, hosts, service: &service, session, peer, local };
                            self.middles.serve(&call, pipe, middle);
                        }
                        continue;
                    }
                    let Some(conn) = self.waiting.admit(pipe) else { continue };
                    match service.kind {
                        ServiceKind::Script(script) => {
                            self.tell_keeper(ToKeeper::Script { conn, script, peer, local });
                        }
                        ServiceKind::Proxy(proxy) => {
                            let _ = self.to_console.send((ToConsole::Proxy { conn, proxy, peer, local }, None));
                        }
                        _ => self.waiting.refuse(conn, "the service is neither a script nor a proxy"),
                    }
                }
            }
        }
        if self.workers.is_finished() { Err(io::Error::other("the data plane has ended")) } else { Ok(()) }
    }

    /// Ends the containers of a node's replica that no longer knows of them.
    fn end_leases(&mut self, shard: u16, node: NodeIdx) {
        for (id, lease) in self.leases.iter_mut().filter(|(_, lease)| (lease.shard, lease.node) == (shard, node)) {
            if let Some(tap) = lease.tap.take() {
                self.workers.detach(node, tap.port);
            }
            lease.released = Some(true);
            let _ = self.to_keeper.send((ToKeeper::Release { lease: *id, keep: true }, None));
        }
    }
}

fn in_memory(answer: &Value) -> io::Result<OwnedFd> {
    memory::sealed(c"honeyweave-answer", &serde_json::to_vec(answer)?)
}
