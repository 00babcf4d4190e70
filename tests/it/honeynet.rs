//! A honeynet that runs beside a test, as a user would start it.

#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::{Ns, Running, wait_for};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_honeyweave");

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A running honeynet. It is ended when dropped.
pub struct Honeynet {
    /// Its name, which no other test uses.
    pub name: String,
    /// What `up` was started as.
    pub up: Running,
    dir: tempfile::TempDir,
}

/// A name that no other test uses.
pub fn unique_name() -> String {
    format!("hwt-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

impl Honeynet {
    /// Brings `topology` (YAML) up in `ns` with its uplink (if it has one) on `interface`, and waits until frames flow.
    pub fn up<'a>(ns: &Ns, interface: impl Into<Option<&'a str>>, topology: &str) -> Honeynet {
        let mut honeynet = Honeynet::start(ns, interface, topology);
        let ready = format!("ready {}", honeynet.name);
        honeynet.up.wait_line(&ready);
        honeynet
    }

    /// The same without waiting.
    pub fn start<'a>(ns: &Ns, interface: impl Into<Option<&'a str>>, topology: &str) -> Honeynet {
        let (dir, name) = (tempfile::tempdir().unwrap(), unique_name());
        let file = dir.path().join("topology.yaml");
        std::fs::write(&file, topology).unwrap();
        let state = dir.path().join("state");
        let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
        let mut args = vec![PROGRAM, "up", file, "--name", &name, "--state-dir", state];
        args.extend(interface.into().into_iter().flat_map(|interface| ["--uplink", interface]));
        Honeynet { up: ns.spawn(&args), name, dir }
    }

    /// Where its state lies.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Runs one of the other commands on it.
    pub fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).args(["--name", &self.name]);
        command.arg("--state-dir").arg(self.state_dir()).output().unwrap()
    }

    /// Runs one of the other commands with `--json`; panics unless it succeeds.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.command(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// The supervisor and its three processes by name; `None` while one of them is missing.
    pub fn processes(&self) -> Option<[(&'static str, u32); 3]> {
        let children = children(self.up.pid());
        let find = |kind: &'static str| {
            let wanted = format!("honeyweave\0__{kind}\0{}\0", self.name);
            let pid = children
                .iter()
                .find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes()));
            pid.map(|pid| (kind, *pid))
        };
        Some([find("keeper")?, find("switch")?, find("console")?])
    }

    /// Ends it as a service manager does, and waits for that.
    pub fn down(self) -> String {
        self.up.signal(libc::SIGTERM);
        let pid = self.up.pid();
        wait_for("the end of the supervisor", || (!is_alive(pid)).then_some(()));
        self.log()
    }

    /// What happened, one JSON record a line.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state_dir().join(&self.name).join("events/events.ndjson")).unwrap_or_default()
    }
}

impl Drop for Honeynet {
    fn drop(&mut self) {
        let pid = self.up.pid();
        if is_alive(pid) {
            self.up.signal(libc::SIGTERM);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(12);
            while is_alive(pid) && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        for end in ["lock", "sock"] {
            let _ = std::fs::remove_file(format!("/run/honeyweave/{}.{end}", self.name));
        }
    }
}

/// Child processes of `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether a process runs (and is not merely waiting to be reaped).
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}
