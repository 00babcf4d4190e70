//! One container: from the request that it be made to its last trace.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::evidence::Look;
use super::listings::Listed;
use super::logs;
use super::process::SECOND;
use super::settings::Place;
use super::used::Used;
use crate::container::image::{Image, ImageError};
use crate::container::inspector::Inspector;
use crate::container::worker::{Done, Start, Work};
use crate::event::SessionId;
use crate::node::{LeaseId, NodeIdx};
use crate::sys::seqpacket::Channel;

/// How long processes that were killed may take to vanish.
const SWEEP_DEADLINE: i64 = 3 * SECOND;

/// How far it is.
#[derive(Debug)]
pub enum Stage {
    /// It waits for its turn to start.
    Queued(Box<Start>),
    /// A worker starts it.
    Starting(Worker),
    /// Its init runs.
    Live(Running),
    /// Its init is killed; its monitor gives the TAP back and ends.
    Dying {
        /// liblxc's process that watches over it.
        monitor: i32,
        /// When patience ends.
        deadline: i64,
    },
    /// Whatever is left of its processes is killed, and its cgroups are removed.
    Sweeping {
        /// When it is given up.
        deadline: i64,
        /// Whether a process may be there that is in no cgroup of its own yet.
        strays: bool,
    },
    /// It has no processes; its files stay for who comes back.
    Kept {
        /// When they go.
        until: i64,
    },
    /// An inspector takes what was changed in it, or is to do so when others are done.
    Inspecting(Option<Inspector>),
    /// A worker removes its files.
    Removing(Worker),
}

impl Stage {
    /// Of one whose start has failed: a process of it may be in no cgroup of its own yet.
    pub fn failed(now: i64) -> Stage {
        Stage::Sweeping { deadline: now + SWEEP_DEADLINE, strays: true }
    }

    /// Of one whose init is dead and whose monitor has ended.
    pub fn ended(now: i64) -> Stage {
        Stage::Sweeping { deadline: now + SWEEP_DEADLINE, strays: false }
    }
}

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// Its init.
    pub init: OwnedFd,
    /// The number of that process.
    pub pid: i32,
    /// liblxc's process that watches over it: a child of the keeper, or of the supervisor if a predecessor started it.
    pub monitor: i32,
    /// Since when it runs.
    pub since: i64,
    /// Whether its processes rest.
    pub rest: Rest,
}

/// Whether the processes of a container rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// They run.
    Awake,
    /// It is being seen whether they have something to do.
    Watched {
        /// Microseconds of a processor that they had used by then.
        used: u64,
        /// When it is known.
        until: i64,
    },
    /// They are frozen.
    Frozen,
}

/// Who has a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The switch's name for it.
    pub id: LeaseId,
    /// The node that asked.
    pub node: NodeIdx,
    /// The host that it is for.
    pub host: IpAddr,
    /// Who brought it to life, and in which session.
    pub by: Option<(IpAddr, SessionId)>,
    /// The attacker that it is granted to, where each has one of its own.
    pub attacker: Option<IpAddr>,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// Who has it; nobody has what is kept ready, or kept for who comes back.
    pub lease: Option<Lease>,
    /// The host that its files are for; of one that is kept ready nobody knows yet.
    pub host: Option<(NodeIdx, IpAddr)>,
    /// The attacker that its files are for, where each has one of its own.
    pub attacker: Option<IpAddr>,
    /// Where its things lie.
    pub place: Place,
    /// Octets of its disk.
    pub disk: u64,
    /// What it was made from.
    pub image: Image,
    /// Keeps its image from being removed.
    pub _held: File,
    /// Its TAP. The switch has another descriptor, but it may die.
    pub tap: Option<OwnedFd>,
    /// How far it is.
    pub stage: Stage,
    /// Why it ends, once it is to end.
    pub why: Option<String>,
    /// Whether its files stay when it has ended, and for how many seconds.
    pub keep: Option<u32>,
    /// It has outlived the keeper or the switch of before, and ends then unless somebody says that it is theirs.
    pub unclaimed: Option<i64>,
    /// What is known of it, if anybody ever had it.
    pub used: Option<Used>,
    /// Somebody at the machine looks at what was changed in it.
    pub look: Option<Look>,
    /// The cgroup, or the mounts, by which what happens in it is watched.
    pub watched: Vec<u64>,
    /// The socket that its programs log to.
    pub log: Option<OwnedFd>,
    /// How far the listing is of what was changed by the time that it rests.
    pub listed: Listed,
}

impl Container {
    /// One of image `image` at `place`, of `disk` octets, which is nobody's.
    ///
    /// # Errors
    /// If its image is just being removed.
    pub fn new(place: Place, disk: u64, image: Image, stage: Stage) -> Result<Container, ImageError> {
        Ok(Container {
            lease: None,
            host: None,
            attacker: None,
            place,
            disk,
            _held: image.hold()?,
            image,
            tap: None,
            stage,
            why: None,
            keep: None,
            unclaimed: None,
            used: None,
            look: None,
            watched: Vec::new(),
            log: None,
            listed: Listed::Done,
        })
    }

    /// Whether process `pid` is the one that takes it to its next stage, or watches over it.
    pub fn is_process(&self, pid: i32) -> bool {
        match &self.stage {
            Stage::Starting(worker) | Stage::Removing(worker) => worker.pid == pid,
            Stage::Live(running) => running.monitor == pid,
            Stage::Dying { monitor, .. } => *monitor == pid,
            Stage::Inspecting(inspector) => inspector.as_ref().is_some_and(|inspector| inspector.pid == pid),
            Stage::Queued(_) | Stage::Sweeping { .. } | Stage::Kept { .. } => false,
        }
    }

    /// Whether it is kept ready for whoever comes: neither anybody's nor about to end.
    pub fn is_spare(&self) -> bool {
        self.host.is_none() && self.why.is_none()
    }
}

/// A process that makes one call.
#[derive(Debug)]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    answer: PipeReader,
    log: Channel,
    /// When it was started.
    pub since: i64,
    /// When it is killed.
    pub deadline: i64,
}

impl Worker {
    /// Starts `program` as a worker that does `work` and may take `patience` microseconds. `name` is what its command
    /// line shows.
    pub fn start(program: &Path, name: &str, work: &Work, now: i64, patience: i64) -> io::Result<Worker> {
        let request = serde_json::to_vec(work)?;
        let (answer, output) = io::pipe()?;
        let (log, sender) = Channel::pair()?;
        let mut command = Command::new(program);
        command.args(["__lxc", name]).stdin(Stdio::piped()).stdout(output).stderr(sender.into_fd());
        // liblxc asks newuidmap to set up ids if it finds it, which then wants an entry
        // in /etc/subuid. Root needs neither: without a path it writes the map itself.
        command.env_clear().env("PATH", "/nonexistent");
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // The request is smaller than a pipe's buffer, so this does not wait.
            stdin.write_all(&request)?;
        }
        Ok(Worker { pid: child.id() as i32, answer, log, since: now, deadline: now + patience })
    }

    /// The log of the container called `name` that it has started.
    pub fn log(&self, name: &str) -> Option<OwnedFd> {
        logs::received(&self.log, name)
    }

    /// What it answered, once it has ended.
    pub fn answer(mut self) -> Done {
        let mut text = Vec::new();
        // A process that it left behind may hold the pipe open: take what is there.
        let read = rustix::io::ioctl_fionbio(&self.answer, true).map_err(io::Error::from).and_then(|()| {
            match self.answer.read_to_end(&mut text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                other => other,
            }
        });
        match (read, serde_json::from_slice(&text)) {
            (_, Ok(done)) => done,
            (Err(error), _) => Done::Failed(format!("its worker's answer cannot be read: {error}")),
            (Ok(_), Err(_)) => Done::Failed("its worker was killed or crashed".into()),
        }
    }

    /// Kills it; that it has ended is told like the end of any child.
    pub fn kill(&mut self) {
        kill(self.pid);
        self.deadline = i64::MAX;
    }
}

/// Sends `SIGKILL` to process `pid`, a child of ours that was not waited for yet.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// A handle on process `pid` that stays its own when the number is used again,
/// if it belongs to container `name` (or the machine has no cgroup to tell by).
pub fn init_handle(pid: i32, name: &str) -> io::Result<OwnedFd> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "its init ended at once");
    let handle = rustix::process::pidfd_open(Pid::from_raw(pid).ok_or_else(gone)?, PidfdFlags::empty())?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|_| gone())?;
    if cgroups.contains("lxc.payload.") && !cgroups.contains(name) {
        return Err(gone());
    }
    Ok(handle)
}
