//! Scripts in the way of Honeyd: a program for each connection, whose standard
//! input and output are the connection, under a user of its own and without network.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal};

use super::lease::kill;
use crate::service::Script;
use crate::sys::spawn::{self, Confinement};

/// User and group of scripts: no account of the system, and nothing of the system's belongs to it.
pub const SCRIPT_UID: u32 = 61_982;
const MEMORY: u64 = 1 << 30;
const FILE_SIZE: u64 = 16 << 20;
const DESCRIPTORS: u64 = 64;
/// Processes of all scripts together.
const PROCESSES: u64 = 1024;

/// The scripts that are running.
#[derive(Debug)]
pub struct Scripts {
    net: String,
    scripts: Vec<Script>,
    network: Option<OwnedFd>,
    running: HashMap<i32, Running>,
}

#[derive(Debug)]
struct Running {
    script: u16,
    deadline: i64,
}

impl Scripts {
    /// None is running.
    pub fn new(net: &str, scripts: &[Script]) -> Scripts {
        Scripts { net: net.to_owned(), scripts: scripts.to_vec(), network: None, running: HashMap::new() }
    }

    /// What scripts started and left behind becomes our child, and ends.
    pub fn kill_orphans(&self) {
        let me = rustix::process::getpid().as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
        for pid in text.split_whitespace().filter_map(|word| word.parse::<i32>().ok()) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uid =
                status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            if uid == Some(SCRIPT_UID) && !self.has(pid) {
                kill(pid);
            }
        }
    }

    /// Starts script `index` at `now`; returns the other end of its standard input and output.
    pub fn start(&mut self, now: i64, index: u16, peer: SocketAddr, local: SocketAddr) -> Result<OwnedFd, String> {
        let Some(script) = self.scripts.get(usize::from(index)) else {
            return Err(format!("there is no script {index}"));
        };
        let Some((program, arguments)) = script.command.split_first() else {
            return Err(format!("script {index} has no command"));
        };
        let same = self.running.values().filter(|running| running.script == index).count();
        if same >= script.max_running as usize {
            return Err(format!("{program} runs {same} times already, which is its max_running"));
        }
        let network = match &self.network {
            Some(network) => network,
            None => {
                let made = spawn::empty_network().map_err(|e| format!("cannot make an empty network: {e}"))?;
                self.network.insert(made)
            }
        };
        let timeout = u64::from(script.timeout_secs);
        let confinement = Confinement {
            uid: SCRIPT_UID,
            network: network.as_fd(),
            cpu_secs: timeout.clamp(1, 3600),
            memory: MEMORY,
            file_size: FILE_SIZE,
            descriptors: DESCRIPTORS,
            processes: PROCESSES,
        };
        let environment = environment(&self.net, peer, local);
        let started = spawn::confined(program, arguments, &environment, &confinement);
        let (pid, socket) = started.map_err(|error| format!("{program} cannot be started: {error}"))?;
        let deadline = now.saturating_add(i64::from(script.timeout_secs) * 1_000_000);
        self.running.insert(pid as i32, Running { script: index, deadline });
        Ok(socket)
    }

    /// Process `pid` has ended. Returns whether it was a script.
    pub fn ended(&mut self, pid: i32) -> bool {
        let was = self.running.remove(&pid).is_some();
        if was {
            // What it started and did not wait for ends with it.
            kill_group(pid);
        }
        was
    }

    /// Whether `pid` is a script.
    pub fn has(&self, pid: i32) -> bool {
        self.running.contains_key(&pid)
    }

    /// When the next one has run too long.
    pub fn next_deadline(&self) -> Option<i64> {
        self.running.values().map(|running| running.deadline).min()
    }

    /// Kills those that have run too long.
    pub fn expire(&mut self, now: i64) {
        for (pid, running) in &mut self.running {
            if running.deadline <= now {
                kill_group(*pid);
                running.deadline = i64::MAX;
            }
        }
    }

    /// Kills all.
    pub fn kill(&mut self) {
        self.expire(i64::MAX);
    }

    /// How many are running.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

fn kill_group(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // An empty group is gone already.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// Honeyd's variables, so that its scripts run as they are, and our own.
fn environment(net: &str, peer: SocketAddr, local: SocketAddr) -> Vec<(&'static str, String)> {
    let ip = |address: SocketAddr| address.ip().to_canonical().to_string();
    vec![
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ("LANG", "C.UTF-8".into()),
        ("HONEYD_IP_SRC", ip(peer)),
        ("HONEYD_SRC_PORT", peer.port().to_string()),
        ("HONEYD_IP_DST", ip(local)),
        ("HONEYD_DST_PORT", local.port().to_string()),
        ("HONEYWEAVE_NET", net.to_owned()),
        ("HONEYWEAVE_PEER", peer.to_string()),
        ("HONEYWEAVE_LOCAL", local.to_string()),
    ]
}
