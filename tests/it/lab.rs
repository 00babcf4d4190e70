//! A honeynet under test, as a user meets it: the real program on one end of a
//! wire, an attacker on the other, each in a network namespace of its own.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::{DEADLINE, Net, Ns, Running};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_honeyweave");

static COUNTER: AtomicU32 = AtomicU32::new(0);
/// Tests that measure time have the machine for themselves; the others share it.
static MACHINE: RwLock<()> = RwLock::new(());
/// Images are built one at a time.
static IMAGES: Mutex<()> = Mutex::new(());

enum Share {
    Some(RwLockReadGuard<'static, ()>),
    All(RwLockWriteGuard<'static, ()>),
}

/// An attacker, a wire, and a honeynet behind it.
///
/// The attacker's end of the wire is `eth0`, the honeynet's uplink is `up0`.
pub struct Lab {
    /// Name of the honeynet, which no other test has.
    pub name: String,
    /// Where the attacker is.
    pub attacker: Ns,
    /// Where the honeynet's uplink is.
    pub wire: Ns,
    /// Threads of the data plane: one, unless the test is about them, however many processors there are.
    pub threads: u16,
    /// Whether the honeynet finds version 2 of cgroups only, as on a machine with a systemd of today.
    pub only_cgroup2: bool,
    /// By what it is watched what happens inside containers, if not by the best that there is.
    pub inside: Option<String>,
    /// Whether the kernel denies eBPF to all of it, as a container's or a hardened machine's does.
    pub without_bpf: bool,
    /// Files that it, and nobody else, finds in `/etc`.
    pub over_etc: Option<PathBuf>,
    up: Option<Running>,
    small_disk: bool,
    dir: tempfile::TempDir,
    net: Net,
    _share: Share,
}

/// Where images of tests are built, once for all tests and test runs.
pub fn state_dir() -> PathBuf {
    let dir = std::env::var_os("HONEYWEAVE_TEST_STATE").map(PathBuf::from);
    dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-state"))
}

/// Removes the disks of containers of test processes that were killed: a thousand mounts slow every start down.
fn sweep() {
    for dir in crate::net::of_the_dead(&state_dir()) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|path| Path::new(path).starts_with(&dir));
        for path in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir_all(&dir);
    }
}

/// `HONEYWEAVE_THREADS=3 cargo test --test it` runs every lab on so many threads.
fn threads() -> u16 {
    std::env::var("HONEYWEAVE_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1)
}

impl Lab {
    /// Brings a topology up and waits until frames flow.
    pub fn up(topology: &str) -> Lab {
        let mut lab = Lab::shared();
        lab.start(topology);
        lab
    }

    /// The same for a test that measures time: no other lab runs beside it.
    pub fn up_alone(topology: &str) -> Lab {
        let mut lab = Lab::alone();
        lab.start(topology);
        lab
    }

    /// A wire of such a test whose honeynet is yet to be started. `scripts/test.sh` runs those whose names end in `_by_itself` one after
    /// the other, so that no other test has to wait for each of them, and they for it.
    pub fn alone() -> Lab {
        let test = std::thread::current().name().unwrap_or("main").to_owned();
        assert!(test == "main" || test.ends_with("_by_itself"), "{test} runs alone: call it {test}_by_itself");
        Lab::new(Share::All(MACHINE.write().unwrap_or_else(|e| e.into_inner())))
    }

    /// A wire whose honeynet is yet to be started.
    pub fn shared() -> Lab {
        Lab::new(Share::Some(MACHINE.read().unwrap_or_else(|e| e.into_inner())))
    }

    fn new(share: Share) -> Lab {
        static SWEPT: std::sync::Once = std::sync::Once::new();
        SWEPT.call_once(sweep);
        let net = Net::new();
        let (attacker, wire) = (net.ns("attacker"), net.ns("wire"));
        net.wire((&attacker, "eth0"), (&wire, "up0"));
        let name = format!("hwt-{}-l{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        Lab {
            name,
            attacker,
            wire,
            threads: threads(),
            only_cgroup2: false,
            inside: None,
            without_bpf: false,
            over_etc: None,
            up: None,
            small_disk: false,
            dir: tempfile::tempdir().unwrap(),
            net,
            _share: share,
        }
    }

    /// Gives the honeynet's own directory a disk of so many MiB, before it is started.
    pub fn on_small_disk(&mut self, mib: u64) {
        let (file, dir) = (self.path("disk"), self.own_dir());
        std::fs::File::create(&file).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
        let options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"];
        crate::net::sh(&[&["mkfs.ext4"][..], &options, &[file]].concat());
        crate::net::sh(&["mount", "-o", "loop", file, dir]);
        self.small_disk = true;
    }

    /// Fills that disk to its last block, until the files that are returned are removed.
    pub fn fill_disk(&self) -> [PathBuf; 2] {
        let files = ["filler", "rest"].map(|name| self.own_dir().join(name));
        let stat = rustix::fs::statvfs(self.own_dir()).unwrap();
        // Blocks that nobody has to write.
        let most = (stat.f_bavail * stat.f_frsize).saturating_sub(8 << 20);
        crate::net::sh(&["fallocate", "-l", &most.to_string(), files[0].to_str().unwrap()]);
        let mut rest = std::fs::File::create(&files[1]).unwrap();
        let full = std::iter::repeat_with(|| std::io::Write::write(&mut rest, &[1; 1 << 16])).find_map(Result::err);
        assert_eq!(full.map(|error| error.kind()), Some(std::io::ErrorKind::StorageFull));
        files
    }

    /// Another namespace of the same network.
    pub fn ns(&self, label: &str) -> Ns {
        self.net.ns(label)
    }

    /// Another wire.
    pub fn wire_between(&self, a: (&Ns, &str), b: (&Ns, &str)) {
        self.net.wire(a, b);
    }

    /// A file of the test's own.
    pub fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        path.parent().into_iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// A path in a directory of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Brings a topology up on `up0` and waits until frames flow.
    pub fn start(&mut self, topology: &str) {
        let topology = self.file("topology.yaml", topology);
        let topology = topology.to_str().unwrap();
        let images = IMAGES.lock().unwrap_or_else(|e| e.into_inner());
        let state = state_dir();
        let build = [PROGRAM, "image", "build", topology, "--state-dir", state.to_str().unwrap()];
        if std::fs::read_to_string(topology).unwrap().contains("backend:") {
            crate::net::sh(&build);
        }
        drop(images);
        // Not `ip netns exec`, which also hides the cgroups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.wire.name));
        if self.only_cgroup2 {
            let mounts = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
            command.args(["unshare", "--mount", "sh", "-c", mounts, "sh"]);
        }
        if let Some(dir) = &self.over_etc {
            let mounts = format!("mount -t overlay none -o lowerdir={}:/etc /etc && exec \"$@\"", dir.display());
            command.args(["unshare", "--mount", "sh", "-c", &mounts, "sh"]);
        }
        command.args([PROGRAM, "up", topology, "--uplink", "up0"]);
        command.args(["--name", &self.name, "--threads", &self.threads.to_string(), "--state-dir"]).arg(&state);
        if let Some(source) = &self.inside {
            command.env("HONEYWEAVE_INSIDE", source);
        }
        if self.without_bpf {
            crate::net::deny(&mut command, libc::SYS_bpf);
        }
        let mut up = Running::start(&mut command);
        up.wait_line(&format!("ready {}", self.name));
        self.up = Some(up);
    }

    /// The attacker's address on the wire, and the way to everything else.
    pub fn attacker_at(&self, address: &str, gateway: &str) {
        self.attacker.addr("eth0", address);
        self.attacker.sh(&["ip", "route", "add", "default", "via", gateway]);
    }

    /// Waits for a line of its log that contains `text`, and returns it.
    pub fn said(&mut self, text: &str) -> String {
        self.up.as_mut().expect("it runs").wait_line(text)
    }

    /// The supervisor's process number.
    pub fn pid(&self) -> u32 {
        self.up.as_ref().expect("it runs").pid()
    }

    /// Where the honeynet keeps what it writes.
    pub fn own_dir(&self) -> PathBuf {
        state_dir().join(&self.name)
    }

    /// Runs one of the program's other commands on this honeynet.
    pub fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).args(["--name", &self.name, "--state-dir"]).arg(state_dir());
        command.output().unwrap()
    }

    /// The same, with `--json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.out(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    fn out(&self, args: &[&str]) -> String {
        let output = self.command(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// What has happened so far, as the command line tells it.
    pub fn events(&self) -> Vec<Value> {
        let text = self.out(&["events", "ls", "--json", "--last", "100000"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Holds every record so far against the schema that is published, as the demonstration does.
    pub fn records_are_as_the_schema_says(&self) {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(self.own_dir().join("events")).unwrap().flatten() {
            if entry.path().extension().is_some_and(|name| name == "ndjson") {
                let octets = std::fs::read(entry.path()).unwrap();
                // The last line may be on its way.
                let whole = octets.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
                records.extend_from_slice(&octets[..whole]);
            }
        }
        let schema = self.file("records.schema.json", &crate::net::sh(&[PROGRAM, "schema", "--events"]));
        let all = self.path("records.ndjson");
        std::fs::write(&all, &records).unwrap();
        let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/valid.py");
        // By the system's own Python, for which the package is.
        let words = ["/usr/bin/python3", valid.to_str().unwrap(), schema.to_str().unwrap(), all.to_str().unwrap()];
        let count: usize = crate::net::sh(&words).trim().parse().unwrap();
        assert!(count > 0 && count == records.iter().filter(|octet| **octet == b'\n').count(), "{count} records");
    }

    /// Waits for an event of that id for which `wanted` holds.
    pub fn wait_event(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let events = self.events();
            if let Some(event) = events.iter().find(|event| event["event"] == id && wanted(event)) {
                return event.clone();
            }
            if Instant::now() > deadline {
                let all: Vec<String> = events.iter().map(Value::to_string).collect();
                panic!("no such event `{id}`; there are:\n{}", all.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for an event about `host` whose text has all `parts` in it.
    pub fn wait_told(&self, id: &str, host: &str, parts: &[&str]) -> Value {
        self.wait_event(id, |event| {
            let text = event["text"].as_str().unwrap_or_default();
            event["dst"]["ip"] == host && parts.iter().all(|part| text.contains(part))
        })
    }

    /// Ends it as a service manager does; returns how long that took.
    pub fn down(&mut self) -> Duration {
        let up = self.up.take().expect("it runs");
        let begin = Instant::now();
        up.signal(libc::SIGTERM);
        let (status, said) = up.wait();
        assert!(status.success(), "{status}: {said}");
        begin.elapsed()
    }

    /// What of the honeynet is still on the machine: processes, interfaces, mounts, loop devices, cgroups.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if name.parse::<u32>().is_ok() && line.contains(&self.name) {
                left.push(format!("process {name}: {line}"));
            }
        }
        let tag = self.tag();
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            let own_disk = self.small_disk && line.split(' ').nth(4) == self.own_dir().to_str();
            if !own_disk && (line.contains(&self.name) || line.contains(&tag)) {
                left.push(format!("mount {line}"));
            }
        }
        for ns in [None, Some(&self.wire)] {
            let links = match ns {
                None => crate::net::sh(&["ip", "-o", "link"]),
                Some(ns) => ns.sh(&["ip", "-o", "link"]),
            };
            left.extend(links.lines().filter(|line| line.contains(&tag)).map(|line| format!("interface {line}")));
        }
        for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if file.contains(&self.name) {
                left.push(format!("{} of {file}", entry.file_name().to_string_lossy()));
            }
        }
        left.extend(self.cgroups().iter().map(|group| format!("cgroup {}", group.display())));
        if self.own_dir().join("containers").exists() {
            left.push(format!("directory {}", self.own_dir().join("containers").display()));
        }
        left
    }

    /// The cgroups of its containers.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let (tag, mut own) = (self.tag(), Vec::new());
        let mut groups = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(group) = groups.pop() {
            for entry in std::fs::read_dir(&group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if entry.file_name().to_string_lossy().contains(&tag) {
                        own.push(entry.path());
                    }
                    groups.push(entry.path());
                }
            }
        }
        own
    }

    /// What the names of its containers and devices contain.
    fn tag(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut digest = Sha256::new();
        digest.update(&self.name);
        digest.update([0]);
        digest.update(state_dir().as_os_str().as_encoded_bytes());
        digest.finalize()[..3].iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(up) = self.up.take() {
            up.signal(libc::SIGTERM);
            // It has more time than it needs; whoever drops this has other worries.
            let end = Instant::now() + Duration::from_secs(12);
            let alive = |pid: u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|s| s != "Z")
            };
            while alive(up.pid()) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if self.small_disk {
            let _ = Command::new("umount").arg("-l").arg(self.own_dir()).status();
        }
        let _ = std::fs::remove_dir_all(self.own_dir());
        let _ = std::fs::remove_file(format!("/run/honeyweave/{}.lock", self.name));
    }
}

/// The process of a kind, by its command line.
pub fn process(lab: &Lab, kind: &str) -> Option<i32> {
    let wanted = format!("honeyweave\0__{kind}\0{}\0", lab.name);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", lab.pid())).ok()?;
    let mut pids = children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap());
    pids.find(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes()))
}
