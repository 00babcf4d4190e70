//! One of the three processes that a supervisor runs: what it is handed, how it is started, when it is started again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::config::{ConsoleEnds, KeeperEnds, SwitchEnds};
use crate::event::Process;
use crate::sys::seqpacket::Channel;
use crate::sys::{clock, handed};

const SECOND: i64 = 1_000_000;
/// A process that lived that long starts with a clean sheet.
const STEADY: i64 = 30 * SECOND;
/// The longest pause before a restart.
const LONGEST_PAUSE: i64 = 5 * SECOND;

pub(super) enum Ends {
    Keeper(KeeperEnds),
    Switch(SwitchEnds),
    Console(ConsoleEnds),
}

impl Ends {
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Ends::Keeper(ends) => ends.fds(),
            Ends::Switch(ends) => ends.fds(),
            Ends::Console(ends) => ends.fds(),
        }
    }
}

/// One of the three.
pub(super) struct Child {
    pub(super) kind: Process,
    pub(super) config: OwnedFd,
    /// What it is handed: kept, so that the next one continues.
    pub(super) ends: Ends,
    /// Our end of its life line.
    pub(super) line: Option<Channel>,
    pub(super) pid: Option<Pid>,
    pub(super) started: i64,
    pub(super) failures: u32,
    /// When to start it (again).
    pub(super) due: Option<i64>,
}

impl Child {
    pub(super) fn start(&mut self, name: &str) -> io::Result<()> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("honeyweave").arg(format!("__{}", self.kind.name())).arg(name);
        // A terminal's interrupt is for the supervisor, which ends the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        if self.kind != Process::Keeper {
            command.env_clear();
            let passed = ["HONEYWEAVE_LOG", "RUST_BACKTRACE", "NO_COLOR", "TERM"];
            command.envs(passed.into_iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        }
        let fds = [&[self.config.as_fd()][..], &self.ends.fds()].concat();
        handed::hand_down(&mut command, &fds)?;
        let child = command.spawn()?;
        self.pid = Pid::from_raw(child.id() as i32);
        self.started = clock::monotonic_micros();
        self.due = None;
        Ok(())
    }

    /// It has ended: decides when the next one starts.
    pub(super) fn ended(&mut self, now: i64) {
        self.pid = None;
        if now - self.started > STEADY {
            self.failures = 0;
        }
        let pause = match self.failures {
            0 => 0,
            n => ((SECOND / 10) << n.min(10)).min(LONGEST_PAUSE),
        };
        self.failures += 1;
        self.due = Some(now + pause);
    }
}
