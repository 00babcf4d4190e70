//! One lease: from the request to the last trace of its container.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::settings::Place;
use crate::container::worker::{Done, Start, Work};
use crate::node::NodeIdx;

/// How far it is.
#[derive(Debug)]
pub enum Stage {
    /// It waits for its turn to start.
    Queued(Box<Start>),
    /// A worker starts it.
    Starting(Worker),
    /// Its init runs.
    Live {
        /// Its init.
        init: OwnedFd,
        /// liblxc's process that watches over it: a child of the keeper.
        monitor: i32,
    },
    /// Its init is killed; its monitor gives the TAP back and ends.
    Dying {
        /// liblxc's process that watches over it.
        monitor: i32,
        /// When patience ends.
        deadline: i64,
    },
    /// Whatever is left of it is killed and removed.
    Sweeping {
        /// When it is given up.
        deadline: i64,
    },
    /// A worker removes its files.
    Removing(Worker),
}

/// One use of one container.
#[derive(Debug)]
pub struct Lease {
    /// The node that asked.
    pub node: NodeIdx,
    /// The host that it is for.
    pub host: IpAddr,
    /// Where its things lie.
    pub place: Place,
    /// Keeps its image from being removed.
    pub image: File,
    /// How far it is.
    pub stage: Stage,
    /// Why it ends, once it is to end.
    pub why: Option<String>,
    /// The switch that asked for it is gone: tell nobody.
    pub silent: bool,
}

/// A process that makes one call.
#[derive(Debug)]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    answer: PipeReader,
    /// When it is killed.
    pub deadline: i64,
}

impl Worker {
    /// Starts `program` as a worker that does `work`. `name` is what its command line shows.
    pub fn start(program: &Path, name: &str, work: &Work, deadline: i64) -> io::Result<Worker> {
        let request = serde_json::to_vec(work)?;
        let (answer, output) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(["__lxc", name]).stdin(Stdio::piped()).stdout(output).stderr(Stdio::null());
        // liblxc asks newuidmap to set up ids if it finds it, which then wants an entry
        // in /etc/subuid. Root needs neither: without a path it writes the map itself.
        command.env_clear().env("PATH", "/nonexistent");
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // The request is smaller than a pipe's buffer, so this does not wait.
            stdin.write_all(&request)?;
        }
        Ok(Worker { pid: child.id() as i32, answer, deadline })
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

    /// Kills it.
    pub fn kill(&self) {
        kill(self.pid);
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
