//! The supervisor: starts keeper, switch and console, and starts each again
//! when it dies. It holds everything that must outlive them: channels, rings,
//! the control socket, the lock, the TAPs that users attach things to. It reads nothing from outside but the topology.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Pid, Signal, WaitOptions};

use super::config::{ConsoleConfig, ConsoleEnds, Inside, KeeperEnds, Rings, SwitchConfig, SwitchEnds};
use super::process::{Child, Ends};
use super::protocol::{FromSupervisor, ToSupervisor};
use super::watch::{Check, Watch};
use super::watching::{self, Given, Source};
use super::{ends, place};
use crate::container::KeeperConfig;
use crate::container::keeper::{Layout, open_tap};
use crate::event::{Event, EventId, Fate, HONEYNET_ENDS, Process, Said, process_state};
use crate::node::TapConfig;
use crate::sys::inside::Attached;
use crate::sys::seqpacket::Channel;
use crate::sys::signal::Signals;
use crate::sys::{clock, eventfd, privileges, ring};
use crate::topology::Plan;
use crate::wire::Instant;

const SECOND: i64 = 1_000_000;
/// How long `up` waits until frames flow.
const READY: i64 = 20 * SECOND;
/// How long keeper and switch may take to end; the keeper stops containers meanwhile.
const GRACE: i64 = 7 * SECOND + SECOND / 2;
/// How long of that the switch may take, before the keeper is told.
const SWITCH_GRACE: i64 = 2 * SECOND;
/// How long the console may take after that to write everything down.
const CONSOLE_GRACE: i64 = 3 * SECOND / 2;
/// How often a process may end before frames ever flowed.
const TRIES: u32 = 3;
/// Octets of the event ring and of the capture ring.
const EVENT_RING: usize = 16 << 20;
const CAPTURE_RING: usize = 32 << 20;

/// What a honeynet is started with.
#[derive(Debug)]
pub struct Setup {
    /// The checked topology; its name may have been replaced.
    pub plan: Plan,
    /// Where images, containers and the honeynet's own directory lie.
    pub state_dir: PathBuf,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// Threads of the data plane, at least 1.
    pub threads: u16,
    /// By what it is watched what happens inside containers.
    pub inside: Source,
}

/// Why a honeynet did not come up, or did not stay.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SupervisorError {
    /// Another one has the name.
    #[error("{0}")]
    #[diagnostic(help("end it with `honeyweave down`, or start this one with `--name` under another name"))]
    Running(io::Error),
    /// The state directory does not work.
    #[error("the state directory cannot be used: {0}")]
    #[diagnostic(help("choose another one with `--state-dir`"))]
    State(io::Error),
    /// The control socket does not work.
    #[error("the control socket cannot be opened: {0}")]
    Socket(io::Error),
    /// The metrics address does not work.
    #[error("metrics cannot be served on {0}: {1}")]
    #[diagnostic(help("choose another address with `--metrics`"))]
    Metrics(SocketAddr, io::Error),
    /// A TAP cannot be made.
    #[error("the TAP `{0}` cannot be made: {1}")]
    #[diagnostic(help("choose another `interface:`, or remove what has the name: `ip link del {0}`"))]
    Tap(String, io::Error),
    /// The kernel refused something.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
    /// A process does not stay up.
    #[error("the {0} process does not come up: it {1}")]
    #[diagnostic(help("its own words are above; `honeyweave doctor` says what this machine lacks"))]
    Start(&'static str, String),
    /// The switch never said that it is ready.
    #[error("no frame can flow yet after {} s: an interface may have vanished, or a process hangs", READY / SECOND)]
    NotReady,
}

/// Runs a honeynet until it is told to end. Calls `ready` once, when frames flow.
///
/// # Errors
/// See [`SupervisorError`]; whatever was started has ended then.
pub fn run(setup: &Setup, ready: impl FnOnce()) -> Result<(), SupervisorError> {
    let name = &setup.plan.name;
    let _lock = place::Lock::take(name).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => SupervisorError::Running(error),
        _ => SupervisorError::System("take the lock", error),
    })?;
    let dir = setup.state_dir.join(name);
    place::make_dirs(&dir).map_err(SupervisorError::State)?;
    let _home = place::Home::take(&dir).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => SupervisorError::Running(error),
        _ => SupervisorError::State(error),
    })?;
    // Before anything is started: no signal is lost.
    let signals = Signals::take(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD])
        .map_err(|e| SupervisorError::System("hold signals back", e))?;
    // What a dead keeper leaves running becomes ours.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| SupervisorError::System("become the reaper of orphans", e.into()))?;
    // Mounts that have to be made for that are ours: disks that the keeper puts there outlive it.
    Layout::find();
    privileges::raise_memlock();
    privileges::raise_descriptors();
    let (inside, watching) = watching::watch(&setup.plan, setup.inside);
    let (attached, fds) = watching::share(watching).map_err(|e| SupervisorError::System("share a descriptor", e))?;
    let processes = prepare(setup, inside, fds)?;
    let mut supervisor = Supervisor {
        signals,
        processes,
        _inside: attached,
        ready: false,
        name: name.clone(),
        watch: Watch::new(clock::monotonic_micros()),
    };
    let result = supervisor.keep_running(ready);
    let why = result.as_ref().map_or_else(ToString::to_string, Clone::clone);
    supervisor.say(&format!("{HONEYNET_ENDS}: {why}"));
    supervisor.end();
    result.map(drop)
}

fn prepare(setup: &Setup, inside: Inside, fds: Option<Given>) -> Result<[Child; 3], SupervisorError> {
    let plan = &setup.plan;
    let dir = setup.state_dir.join(&plan.name);
    let secret = place::secret(&dir).map_err(SupervisorError::State)?;
    let control = place::listen(&plan.name).map_err(SupervisorError::Socket)?;
    let metrics = match setup.metrics {
        None => None,
        Some(at) => Some(TcpListener::bind(at).map_err(|e| SupervisorError::Metrics(at, e))?.into()),
    };
    let keeper = KeeperConfig {
        name: plan.name.clone(),
        state_dir: setup.state_dir.clone(),
        secret,
        nodes: plan.nodes.iter().map(|node| (node.name.clone(), node.config.clone())).collect(),
        scripts: plan.scripts.clone(),
        images: plan.images.clone(),
        evidence: plan.evidence.clone(),
        truncate: plan.privacy.truncate,
        eve: plan.eve.clone(),
        threads: setup.threads,
        by_mounts: matches!(inside, Inside::Mounts(_)),
        logs: true,
    };
    let open = |tap: &TapConfig| open_tap(&tap.interface).map_err(|e| SupervisorError::Tap(tap.interface.clone(), e));
    let taps = keeper.taps().map(|(_, tap)| open(tap)).collect::<Result<_, _>>()?;
    // What receivers share with the console is none of the business of who faces the attacker.
    let plan_of_switch = Plan { sinks: Vec::new(), ..plan.clone() };
    let switch = SwitchConfig { plan: plan_of_switch, secret, threads: setup.threads };
    let console = ConsoleConfig {
        plan: plan.clone(),
        dir: std::path::absolute(&dir).map_err(SupervisorError::State)?,
        started_micros: clock::realtime_micros(),
        threads: setup.threads,
        supervisor: std::process::id(),
        inside,
    };
    connect(&keeper, taps, &switch, &console, (control, metrics), fds)
        .map_err(|e| SupervisorError::System("make channels between processes", e))
}

fn connect(
    keeper: &KeeperConfig,
    taps: Vec<OwnedFd>,
    switch: &SwitchConfig,
    console: &ConsoleConfig,
    (control, metrics): (OwnedFd, Option<OwnedFd>),
    inside: Option<Given>,
) -> io::Result<[Child; 3]> {
    let (keeper_switch, switch_keeper) = Channel::pair()?;
    let (keeper_console, console_keeper) = Channel::pair()?;
    let (switch_console, console_switch) = Channel::pair()?;
    let (keeper_line, keeper_supervisor) = Channel::pair()?;
    let (switch_line, switch_supervisor) = Channel::pair()?;
    let (console_line, console_supervisor) = Channel::pair()?;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..switch.threads {
        let events = ring::create(c"honeyweave-events", EVENT_RING)?;
        let frames = ring::create(c"honeyweave-frames", CAPTURE_RING)?;
        writers.push(Rings { events: events.try_clone()?, frames: frames.try_clone()? });
        readers.push(Rings { events, frames });
    }
    let process = |kind, config, line: Channel, ends| {
        line.set_nonblocking(true)?;
        let due = Some(0);
        io::Result::Ok(Child { kind, config, ends, line: Some(line), pid: None, started: 0, failures: 0, due })
    };
    let (containers, inside) = inside.unzip();
    let keeper_ends = KeeperEnds {
        supervisor: keeper_supervisor,
        switch: keeper_switch,
        console: keeper_console,
        taps,
        inside: containers,
    };
    let switch_ends =
        SwitchEnds { supervisor: switch_supervisor, keeper: switch_keeper, console: switch_console, rings: writers };
    let console_ends = ConsoleEnds {
        supervisor: console_supervisor,
        switch: console_switch,
        keeper: console_keeper,
        rings: readers,
        control,
        inside,
        metrics,
    };
    Ok([
        process(Process::Console, ends::config(console)?, console_line, Ends::Console(console_ends))?,
        process(Process::Keeper, ends::config(keeper)?, keeper_line, Ends::Keeper(keeper_ends))?,
        process(Process::Switch, ends::config(switch)?, switch_line, Ends::Switch(switch_ends))?,
    ])
}

struct Supervisor {
    signals: Signals,
    processes: [Child; 3],
    /// Held, so that it goes on.
    _inside: Option<Attached>,
    ready: bool,
    name: String,
    watch: Watch,
}

impl Supervisor {
    /// Keeps the processes running until someone says that it is enough. Returns who.
    fn keep_running(&mut self, ready: impl FnOnce()) -> Result<String, SupervisorError> {
        let mut ready = Some(ready);
        let deadline = clock::monotonic_micros() + READY;
        loop {
            self.start_due()?;
            let now = clock::monotonic_micros();
            if !self.ready && now > deadline {
                return Err(SupervisorError::NotReady);
            }
            // Until frames flow for the first time, `READY` bounds how long the switch may take.
            let also = if self.ready { self.watch.next } else { deadline };
            let next = self.processes.iter().filter_map(|process| process.due).chain([also]);
            let timeout = next.min().map_or(-1, |at| (at - now).max(0));
            self.wait(timeout);
            if self.hear() {
                return Ok("by `honeyweave down`".to_owned());
            }
            if self.ready
                && let Some(ready) = ready.take()
            {
                ready();
            }
            while let Some(signal) = self.signals.next() {
                if signal != libc::SIGCHLD {
                    tracing::info!(signal, "ending");
                    return Ok(format!("by signal {signal}"));
                }
            }
            self.reap(false)?;
            if self.ready {
                self.check();
            }
        }
    }

    /// Asks the switch whether it still answers, if it is time for that, and ends one that does not: what is left of it
    /// is in nobody's hands.
    fn check(&mut self) {
        let now = clock::monotonic_micros();
        if now < self.watch.next {
            return;
        }
        let Some(switch) = self.processes.iter().find(|process| process.kind == Process::Switch) else { return };
        let Some(pid) = switch.pid else {
            self.watch = Watch::new(now);
            return;
        };
        match self.watch.check(now) {
            Check::Ask => {
                // There is room, or it has left so much unread that the next checks find out.
                let _ = switch.line.as_ref().map(|line| line.send_msg(&FromSupervisor::Ping, &[]));
            }
            Check::Wait => {}
            Check::Hung => {
                let text = "the switch does not answer any more: it is ended and started again";
                tracing::warn!("{text}");
                self.say(text);
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                self.watch = Watch::new(now);
            }
        }
    }

    fn wait(&self, timeout: i64) {
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(self.processes.iter().filter_map(|process| process.line.as_ref()).map(AsFd::as_fd));
        if let Err(error) = eventfd::wait_readable(&fds, timeout) {
            tracing::error!(%error, "poll");
        }
    }

    fn start_due(&mut self) -> Result<(), SupervisorError> {
        let now = clock::monotonic_micros();
        for i in 0..self.processes.len() {
            let process = &mut self.processes[i];
            if process.due.is_none_or(|due| due > now) {
                continue;
            }
            if process.kind == Process::Switch {
                self.watch = Watch::new(now);
            }
            let (again, kind) = (process.failures > 0, process.kind);
            match process.start(&self.name) {
                Ok(()) => {
                    let pid = process.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
                    let fate = if again { Fate::StartedAgain } else { Fate::Started };
                    self.say(&process_state(kind, fate, &format!(" (process {pid})")));
                }
                Err(error) if self.ready => {
                    tracing::error!(%error, process = kind.name(), "cannot be started");
                    process.ended(now);
                }
                Err(error) => return Err(SupervisorError::System("start a process", error)),
            }
        }
        Ok(())
    }

    /// Reads what processes say; returns whether all is to end.
    fn hear(&mut self) -> bool {
        for process in &self.processes {
            let Some(line) = &process.line else { continue };
            // A process that says more than that at once waits for its turn.
            for _ in 0..16 {
                match line.recv_msg::<ToSupervisor>() {
                    Ok(Some((ToSupervisor::Ready, _))) if process.kind == Process::Switch => {
                        self.ready = true;
                        self.watch.answered();
                    }
                    Ok(Some((ToSupervisor::Alive, _))) if process.kind == Process::Switch => self.watch.answered(),
                    Ok(Some((ToSupervisor::Down, _))) if process.kind == Process::Console => {
                        tracing::info!("told to end");
                        return true;
                    }
                    Err(error) if error.kind() != ErrorKind::WouldBlock => {
                        tracing::warn!(%error, process = process.kind.name(), "said what is no message");
                    }
                    Ok(Some(_)) => tracing::warn!(process = process.kind.name(), "said what is not its to say"),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        false
    }

    /// Takes note of children that have ended, orphans included.
    fn reap(&mut self, ending: bool) -> Result<(), SupervisorError> {
        let now = clock::monotonic_micros();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(i) = self.processes.iter().position(|process| process.pid == Some(pid)) else { continue };
            let (fate, how) = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => (Fate::Ended, format!(" with exit code {code}")),
                (_, Some(signal)) => (Fate::Killed, format!(" by signal {signal}")),
                _ => (Fate::Ended, String::new()),
            };
            let process = &mut self.processes[i];
            process.ended(now);
            if ending {
                process.due = None;
                continue;
            }
            let (kind, failures) = (process.kind, process.failures);
            let text = process_state(kind, fate, &how);
            tracing::warn!("{text}");
            self.say(&text);
            if !self.ready && failures >= TRIES {
                return Err(SupervisorError::Start(kind.name(), format!("{}{how}", fate.words())));
            }
        }
        Ok(())
    }

    /// Tells the console. What it cannot take is only logged.
    fn say(&self, text: &str) {
        let at = Instant::from_micros(clock::monotonic_micros());
        let said = Said { event: Event::new(EventId::ProcessState, at), data: text.as_bytes().to_vec() };
        if let Some(line) = &self.processes[0].line
            && let Err(error) = line.send_msg(&said, &[])
        {
            tracing::warn!(%error, "the console cannot be told: {text}");
        }
    }

    /// Ends the switch, then the keeper, then the console, then whatever is left.
    fn end(&mut self) {
        self.processes.iter_mut().for_each(|process| process.due = None);
        let deadline = clock::monotonic_micros() + GRACE;
        // It says what ends with it: that of who is in a container is not the end of the container, which comes after.
        self.let_go(Process::Switch);
        self.wait_for_end(SWITCH_GRACE, |kind| kind == Process::Switch);
        self.let_go(Process::Keeper);
        self.wait_for_end(deadline - clock::monotonic_micros(), |kind| kind != Process::Console);
        self.let_go(Process::Console);
        self.wait_for_end(CONSOLE_GRACE, |_| true);
        self.end_orphans();
    }

    /// Closes the channel to a process, which ends with that.
    fn let_go(&mut self, kind: Process) {
        self.processes.iter_mut().filter(|process| process.kind == kind).for_each(|process| process.line = None);
    }

    /// Waits until those of `which` have ended, and kills them when the time is over.
    fn wait_for_end(&mut self, grace: i64, which: impl Fn(Process) -> bool) {
        let deadline = clock::monotonic_micros() + grace;
        let mut killed = false;
        while self.processes.iter().any(|process| which(process.kind) && process.pid.is_some()) {
            let left = deadline - clock::monotonic_micros();
            if left <= 0 && !killed {
                killed = true;
                for process in self.processes.iter().filter(|process| which(process.kind)) {
                    if let Some(pid) = process.pid {
                        tracing::warn!("the {} does not end by itself", process.kind.name());
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
            }
            // Life lines are not looked at any more; only signals wake this.
            let _ = eventfd::wait_readable(&[self.signals.as_fd()], left.clamp(SECOND / 100, SECOND));
            while self.signals.next().is_some() {}
            let _ = self.reap(true);
        }
    }

    /// What the processes started and did not end became ours when they died.
    fn end_orphans(&self) {
        let deadline = clock::monotonic_micros() + SECOND / 2;
        let mut told = Vec::new();
        loop {
            let children = children();
            if children.is_empty() || clock::monotonic_micros() > deadline {
                break;
            }
            for pid in children {
                if !told.contains(&pid) {
                    tracing::warn!(%pid, "an orphan is ended");
                    told.push(pid);
                }
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            let _ = eventfd::wait_readable(&[self.signals.as_fd()], SECOND / 100);
            while self.signals.next().is_some() {}
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        }
    }
}

/// Our children that have not been waited for.
fn children() -> Vec<Pid> {
    let pid = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}
