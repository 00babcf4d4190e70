//! Scratch network namespaces: the attacker's and the honeynet's, the wires
//! between them, and the programs inside.
//!
//! Everything is named `hwaudit-PID-…`, so that the next run knows what a killed
//! one has left. A child leads its own process group, so that Ctrl-C reaches this
//! process alone, which then ends them and removes all of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::sys::clock::monotonic_micros;
use crate::sys::signal::Signals;

/// What names of namespaces and folders begin with.
const PREFIX: &str = "hwaudit-";
/// Where namespaces have their names.
const NAMESPACES: &str = "/run/netns";
/// Octets of a program's output that are kept.
const MOST_OUTPUT: usize = 4 << 20;
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Longest time that setting something up takes.
const SETTING_UP: Duration = Duration::from_secs(10);
/// Longest time that the honeynet takes to come up, and to end.
const COMING_UP: Duration = Duration::from_secs(30);
const ENDING: Duration = Duration::from_secs(12);

/// Why something did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Somebody asked for it.
    #[error("interrupted")]
    Interrupted,
    /// The time of the whole audit is up.
    #[error("the time is up; `--seconds` gives more")]
    TimeUp,
    /// This one took too long or did not work.
    #[error("{0}")]
    Failed(String),
}

impl Stop {
    fn io(what: &str) -> impl FnOnce(std::io::Error) -> Stop {
        move |error| Stop::Failed(format!("{what}: {error}"))
    }
}

/// What a program said.
pub struct Said {
    /// Standard output, its beginning if there is too much.
    pub out: String,
    /// Standard error, likewise.
    pub err: String,
    /// Whether it ended well.
    pub ok: bool,
}

/// The scratch network.
pub struct Lab {
    prefix: String,
    dir: PathBuf,
    up: Option<Child>,
    signals: Signals,
    interrupted: AtomicBool,
    end: i64,
}

impl Lab {
    /// Two namespaces with nothing between them. Everything together is to take at most `seconds`.
    ///
    /// # Errors
    /// If this machine does not let us.
    pub fn new(seconds: u64) -> Result<Lab, Stop> {
        // Before the first thread: they inherit what is blocked.
        let taken = Signals::take(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
        let signals = taken.map_err(Stop::io("cannot take over signals"))?;
        sweep();
        let prefix = format!("{PREFIX}{}", std::process::id());
        let dir = Path::new("/run").join(&prefix);
        // The processes that have no rights go through it, but list nothing.
        let made = std::fs::DirBuilder::new().mode(0o711).create(&dir);
        made.map_err(|error| Stop::Failed(format!("cannot make {}: {error}", dir.display())))?;
        let end = monotonic_micros().saturating_add(i64::try_from(seconds * 1_000_000).unwrap_or(i64::MAX));
        let lab = Lab { prefix, dir, up: None, signals, interrupted: AtomicBool::new(false), end };
        for side in [Side::Attacker, Side::Honeynet] {
            lab.ip(&["netns", "add", &lab.namespace(side)])?;
            lab.ip(&["-n", &lab.namespace(side), "link", "set", "lo", "up"])?;
        }
        Ok(lab)
    }

    /// A folder that vanishes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The honeynet's name.
    pub fn name(&self) -> &str {
        &self.prefix
    }

    /// Where the honeynet keeps its state.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn namespace(&self, side: Side) -> String {
        let label = match side {
            Side::Attacker => "attacker",
            Side::Honeynet => "honeynet",
        };
        format!("{}-{label}", self.prefix)
    }

    /// Lays a wire from the attacker's `outside` to the honeynet's `inside`.
    pub fn wire(&self, outside: &str, inside: &str) -> Result<(), Stop> {
        let (attacker, honeynet) = (self.namespace(Side::Attacker), self.namespace(Side::Honeynet));
        let pair = ["link", "add", outside, "netns", &attacker, "type", "veth", "peer", "name", inside];
        self.ip(&[&pair[..], &["netns", &honeynet]].concat())?;
        for (side, interface) in [(&attacker, outside), (&honeynet, inside)] {
            // Nothing of these machines' own is to be heard on the wire.
            self.ip(&["-n", side, "link", "set", interface, "addrgenmode", "none"])?;
            self.ip(&["-n", side, "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// Runs `ip` on the attacker's side.
    pub fn attacker_ip(&self, args: &[&str]) -> Result<(), Stop> {
        self.ip(&[&["-n", &self.namespace(Side::Attacker)], args].concat())
    }

    fn ip(&self, args: &[&str]) -> Result<(), Stop> {
        let mut command = Command::new("ip");
        let said = self.finish(command.args(args), None, SETTING_UP)?;
        let why = || Stop::Failed(format!("`ip {}`: {}", args.join(" "), super::report::clean(said.err.trim())));
        if said.ok { Ok(()) } else { Err(why()) }
    }

    /// Does something in a thread on that side.
    pub fn inside<T: Send>(&self, side: Side, f: impl FnOnce() -> T + Send) -> Result<T, Stop> {
        let path = Path::new(NAMESPACES).join(self.namespace(side));
        let file = File::open(&path).map_err(Stop::io("cannot open a network namespace"))?;
        let entered = move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind).map(|()| f())
        };
        let done = std::thread::scope(|scope| scope.spawn(entered).join());
        let done = done.map_err(|_| Stop::Failed("a thread of the audit panicked".to_owned()))?;
        done.map_err(|error| Stop::Failed(format!("cannot enter a network namespace: {error}")))
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<(), Stop> {
        while self.signals.next().is_some() {
            self.interrupted.store(true, Ordering::Relaxed);
        }
        if self.interrupted.load(Ordering::Relaxed) {
            Err(Stop::Interrupted)
        } else if monotonic_micros() >= self.end {
            Err(Stop::TimeUp)
        } else {
            Ok(())
        }
    }

    /// Waits, unless it is to end earlier.
    pub fn pause(&self, time: Duration) -> Result<(), Stop> {
        let until = monotonic_micros() + time.as_micros() as i64;
        while monotonic_micros() < until {
            self.check()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Runs a program of the attacker's to its end, for `limit` at most.
    pub fn run(&self, program: &str, args: &[&str], limit: Duration) -> Result<Said, Stop> {
        self.finish(Command::new(program).args(args), Some(Side::Attacker), limit)
    }

    /// Starts a program of the attacker's that runs until it is dropped.
    pub fn start(&self, program: &str, args: &[&str]) -> Result<Running, Stop> {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        self.spawn(&mut command, Some(Side::Attacker)).map(Running)
    }

    fn spawn(&self, command: &mut Command, side: Option<Side>) -> Result<Child, Stop> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
        let child = match side {
            Some(side) => self.inside(side, || command.spawn())?,
            None => command.spawn(),
        };
        child.map_err(|error| Stop::Failed(format!("cannot start {program}: {error}")))
    }

    fn finish(&self, command: &mut Command, side: Option<Side>, limit: Duration) -> Result<Said, Stop> {
        self.check()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(self.spawn(command, side)?);
        let out = child.0.stdout.take().map(|stream| std::thread::spawn(|| gather(stream)));
        let err = child.0.stderr.take().map(|stream| std::thread::spawn(|| gather(stream)));
        let until = monotonic_micros() + limit.as_micros() as i64;
        let status = loop {
            match child.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => self.check()?,
                Err(error) => return Err(Stop::Failed(format!("cannot wait for a program: {error}"))),
            }
            if monotonic_micros() >= until {
                let program = command.get_program().to_string_lossy();
                return Err(Stop::Failed(format!("{program} took longer than {} s", limit.as_secs())));
            }
            std::thread::sleep(POLL);
        };
        // What it started itself may hold the pipes open.
        drop(child);
        let text = |thread: Option<std::thread::JoinHandle<String>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        Ok(Said { out: text(out), err: text(err), ok: status.success() })
    }

    /// Brings a topology up and waits until frames flow.
    pub fn up(&mut self, args: &[String]) -> Result<(), Stop> {
        let log = self.dir.join("log");
        let file = File::create(&log).map_err(Stop::io("cannot write a log"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("up").args(args).arg("--state-dir").arg(self.state()).args(["--name", &self.prefix]);
        command.stdout(Stdio::piped()).stderr(file);
        let mut child = self.spawn(&mut command, Some(Side::Honeynet))?;
        let (told, said) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout.take(MOST_OUTPUT as u64)).lines().map_while(Result::ok) {
                    let _ = told.send(line);
                }
            });
        }
        self.up = Some(child);
        let until = monotonic_micros() + COMING_UP.as_micros() as i64;
        loop {
            self.check()?;
            match said.recv_timeout(POLL) {
                Ok(line) if line.starts_with("ready ") => return Ok(()),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) if monotonic_micros() < until => {}
                Err(_) => break,
            }
        }
        let mut text = String::new();
        let _ = File::open(&log).and_then(|file| file.take(MOST_OUTPUT as u64).read_to_string(&mut text));
        let tail: Vec<&str> = text.lines().rev().take(12).collect();
        let tail: Vec<String> = tail.into_iter().rev().map(super::report::clean).collect();
        Err(Stop::Failed(format!("the topology did not come up:\n{}", tail.join("\n"))))
    }
}

/// One of both namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where the tools are.
    Attacker,
    /// Where the uplinks are.
    Honeynet,
}

/// A program that is killed, with all that it started, when this is dropped.
pub struct Running(Child);

impl Running {
    /// Asks it to end, and gives it a moment.
    pub fn end(mut self) {
        if let Some(pid) = pid_of(&self.0) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..100 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = pid_of(&self.0) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            if let Some(pid) = pid_of(&up) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let until = monotonic_micros() + ENDING.as_micros() as i64;
            while matches!(up.try_wait(), Ok(None)) && monotonic_micros() < until {
                std::thread::sleep(POLL);
            }
            drop(Running(up));
        }
        remove(&self.prefix);
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Everything that is read, but only the beginning of it kept: a program that goes on is not held up.
fn gather(stream: impl Read) -> String {
    let mut stream = stream;
    let mut kept = Vec::new();
    let mut buffer = [0; 16 << 10];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        let room = MOST_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..got.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Removes what runs that were killed have left.
fn sweep() {
    let mut names: Vec<String> = Vec::new();
    for place in [NAMESPACES, "/run"] {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if let Some(pid) = pid.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                names.push(format!("{PREFIX}{pid}"));
            }
        }
    }
    names.sort();
    names.dedup();
    names.iter().for_each(|name| remove(name));
}

/// Ends what still runs in the namespaces of a run, and removes all that has its name.
fn remove(prefix: &str) {
    for label in ["honeynet", "attacker"] {
        let name = format!("{prefix}-{label}");
        if !Path::new(NAMESPACES).join(&name).exists() {
            continue;
        }
        for signal in [Signal::TERM, Signal::KILL] {
            for _ in 0..200 {
                let inside = pids(&name);
                if inside.is_empty() {
                    break;
                }
                for pid in inside {
                    let _ = kill_process(pid, signal);
                }
                std::thread::sleep(POLL * 2);
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &name]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
    let _ = std::fs::remove_dir_all(Path::new("/run").join(prefix));
    for ending in ["sock", "lock"] {
        let _ = std::fs::remove_file(Path::new(crate::control::place::RUN_DIR).join(format!("{prefix}.{ending}")));
    }
}

/// The processes in a namespace of ours.
fn pids(namespace: &str) -> Vec<Pid> {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).stdin(Stdio::null()).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 1)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_without_an_end_is_read_to_its_end_and_not_kept() {
        let endless = std::io::repeat(b'x').take(3 * MOST_OUTPUT as u64);
        assert_eq!(gather(endless).len(), MOST_OUTPUT);
        assert_eq!(gather(&b"\xffok"[..]), "\u{fffd}ok");
    }
}
