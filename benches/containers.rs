//! What containers cost an attacker's patience and the machine: first octets from warm, cold and frozen ones, a
//! sweep that brings many to life at once, hundreds that do nothing, thousands of lives one after the other, and what
//! others notice when something is killed.
//!
//! `cargo bench --bench containers -- [PART...] [KEY=NUMBER...]`; parts are `cold`, `warm`, `freeze`, `kills`, `sweep`,
//! `idle`, `soak`, and `all`; without any the first three, which take a minute. Numbers: `samples` (20) of each latency, `hosts` (50) of the sweep, `idle` (500)
//! containers, `cycles` (2000) of the soak and `minutes` (30) that it may take, `seconds` (5) before and during each kill. Rows go to target/containers.json;
//! the exit code is 1 if a figure is not what was asked for.

// What is measured is the real time that real processes take.
#![allow(clippy::disallowed_methods)]

#[path = "containers/figures.rs"]
mod figures;
#[path = "containers/kills.rs"]
mod kills;
// The parts of the integration tests that make namespaces and bring honeynets up.
#[path = "../tests/it/lab.rs"]
mod lab;
#[path = "../tests/it/net.rs"]
mod net;
#[path = "containers/soak.rs"]
mod soak;
#[path = "containers/state.rs"]
mod state;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use figures::Rows;
use lab::Lab;
use net::wait_for;

const PARTS: [&str; 7] = ["cold", "warm", "freeze", "kills", "sweep", "idle", "soak"];
/// Those that every bench runs.
const SHORT: usize = 3;

/// What was asked for on the command line.
pub struct Settings {
    parts: Vec<String>,
    numbers: BTreeMap<&'static str, u64>,
    /// The topology language, which says what this honeyweave can do.
    schema: String,
}

impl Settings {
    fn read() -> Result<Settings, String> {
        let mut numbers = BTreeMap::from([
            ("samples", 20),
            ("hosts", 50),
            ("idle", 500),
            ("cycles", 2000),
            ("minutes", 30),
            ("seconds", 5),
        ]);
        let mut parts = Vec::new();
        // cargo adds options of its own.
        for word in std::env::args().skip(1).filter(|word| !word.starts_with("--")) {
            match word.split_once('=') {
                Some((key, value)) => {
                    let number = value.parse().map_err(|_| format!("{word}: {value} is no number"))?;
                    let known = numbers.iter_mut().find(|(name, _)| **name == key);
                    *known.ok_or(format!("{word}: there is no number {key}"))?.1 = number;
                }
                None if word == "all" => parts = PARTS.map(str::to_owned).to_vec(),
                None if PARTS.contains(&&*word) => parts.push(word),
                None => return Err(format!("there is no part {word}; there are {}", PARTS.join(", "))),
            }
        }
        if parts.is_empty() {
            parts = PARTS[..SHORT].iter().map(|part| (*part).to_owned()).collect();
        }
        let schema = net::sh(&[lab::PROGRAM, "schema"]);
        Ok(Settings { parts, numbers, schema })
    }

    /// One of the numbers.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers[name]
    }

    /// Whether topologies may have `key`.
    pub fn knows(&self, key: &str) -> bool {
        self.schema.contains(&format!("\"{key}\":"))
    }
}

/// A segment of `hosts` hosts (10.9.0.0 and up) with a container each.
pub fn topology(hosts: u64, image: &str, image_keys: &str, backend: &str) -> String {
    // All come from one attacker.
    let (last, most) = (10 + hosts - 1, hosts + 8);
    format!(
        r#"
name: containers
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {{22: container}}
    backend: {{image: {image}, start: on-access{backend}}}
images:
  {image}:
    recipe: {image}
    users: [{{name: root, password: toor}}, {{name: guest, password: guest}}]{image_keys}
nodes:
  wan: {{kind: uplink, mac_limit: 1024}}
  core: {{kind: switch, ports: 4}}
  shells:
    kind: hosts
    addresses: 10.9.0.10-10.9.{}.{}
    template: shell
    prefix: [10.9.0.0/16]
    limits: {{containers: {most}, containers_per_source: {most}, sessions: 100000}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
"#,
        last / 256,
        last % 256,
    )
}

/// The address of a host.
pub fn host(number: u64) -> String {
    format!("10.9.{}.{}", (10 + number) / 256, (10 + number) % 256)
}

/// A honeynet of that topology, and an attacker on its segment.
pub fn up(topology: &str) -> Lab {
    let lab = Lab::up_alone(topology);
    lab.attacker.addr("eth0", "10.9.255.254/16");
    lab
}

/// Time from the completed handshake until the first octet.
pub fn first_octet(host: &str) -> std::io::Result<Duration> {
    let address: SocketAddr = format!("{host}:22").parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, net::DEADLINE)?;
    let open = Instant::now();
    stream.set_read_timeout(Some(net::DEADLINE))?;
    let mut octet = [0];
    stream.read_exact(&mut octet)?;
    Ok(open.elapsed())
}

/// The same in the attacker's place, the host's MAC being known already, as it is before any contact.
fn contact(lab: &Lab, host: &str) -> Duration {
    lab.attacker.enter(|| {
        let closed = format!("{host}:1").parse().expect("an address");
        let _ = TcpStream::connect_timeout(&closed, net::DEADLINE);
        first_octet(host).unwrap_or_else(|error| panic!("{host}: {error}"))
    })
}

fn cold(settings: &Settings, rows: &mut Rows) {
    let samples = settings.number("samples");
    for (image, called, asked) in [("small", "cold small image", 60.0), ("debian", "cold Debian", 100.0)] {
        let lab = up(&topology(samples, image, "", ""));
        let times = (0..samples).map(|n| contact(&lab, &host(n))).collect();
        rows.times(&format!("first byte, {called}"), times, Some(asked));
    }
}

fn warm(settings: &Settings, rows: &mut Rows) {
    const POOL: usize = 4;
    if !settings.knows("pool") {
        return skipped("warm", "its topologies know no `pool` of started containers");
    }
    let samples = settings.number("samples");
    let lab = up(&topology(samples, "small", &format!("\n    pool: {POOL}"), ""));
    let mut times = Vec::new();
    for n in 0..samples {
        wait_for("a full pool", || (state::frozen(&lab) >= POOL).then_some(()));
        times.push(contact(&lab, &host(n)));
    }
    rows.times("first byte, warm pool", times, Some(10.0));
}

fn sweep(settings: &Settings, rows: &mut Rows) {
    let hosts = settings.number("hosts");
    let lab = up(&topology(hosts, "small", "", ""));
    sweep_of("none kept ready", &lab, hosts, Some(1.5), rows);
    // What so many clients and servers take by themselves.
    sweep_of("all alive already", &lab, hosts, None, rows);
    drop(lab);
    for (pool, ready) in [(hosts / 2, "half of them kept ready"), (hosts, "all of them kept ready")] {
        let lab = up(&topology(hosts, "small", &format!("\n    pool: {pool}"), ""));
        wait_for("a full pool", || (state::frozen(&lab) >= pool as usize).then_some(()));
        sweep_of(ready, &lab, hosts, Some(1.5), rows);
    }
}

fn sweep_of(ready: &str, lab: &Lab, hosts: u64, asked: Option<f64>, rows: &mut Rows) {
    let began = Instant::now();
    // Started in the attacker's place by one thread; who is started later is at least not ahead.
    let clients: Vec<_> = lab.attacker.enter(|| (0..hosts).map(|n| (n, ssh(&host(n)))).collect());
    let waits: Vec<_> = clients
        .into_iter()
        .map(|(n, client)| {
            std::thread::spawn(move || {
                let output = client.wait_with_output().expect("its output");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let failed = String::from_utf8_lossy(&output.stderr).into_owned();
                (n, began.elapsed(), output.status.success() && said == "here\n", failed)
            })
        })
        .collect();
    let all: Vec<_> = waits.into_iter().map(|wait| wait.join().expect("a client")).collect();
    for (n, _, _, why) in all.iter().filter(|(_, _, answered, _)| !answered) {
        eprintln!("{}: {why}", host(*n));
    }
    let answered = all.iter().filter(|(_, _, answered, _)| *answered).count();
    let what = |text: &str| format!("{hosts} hosts touched at once by ssh, {ready}: {text}");
    rows.put(what("those that answer"), answered as f64, "hosts", Some(hosts as f64), false);
    let last = all.iter().map(|(_, took, _, _)| *took).max().unwrap_or_default();
    rows.put(what("the last one's answer"), last.as_secs_f64(), "s", asked, true);
}

fn ssh(host: &str) -> std::process::Child {
    let mut command = Command::new("sshpass");
    command.args([
        "-p",
        "toor",
        "ssh",
        "-F",
        "/dev/null",
        "-T",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "LogLevel=ERROR",
    ]);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no", "-o", "ConnectTimeout=30"]);
    command.args([&format!("root@{host}"), "echo here"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sshpass and ssh")
}

fn idle(settings: &Settings, rows: &mut Rows) {
    let count = settings.number("idle");
    // What each may write is promised by the disk: so many of the default size take more than most have free.
    let lab = up(&topology(count, "small", "", ", idle: 1h, limits: {disk: 64M}"));
    let before = state::available_kib();
    let began = Instant::now();
    let next = std::sync::atomic::AtomicU64::new(0);
    let (attacker, next) = (&lab.attacker, &next);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                attacker.enter(|| {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= count {
                            return;
                        }
                        if let Err(error) = first_octet(&host(n)) {
                            eprintln!("{}: {error}", host(n));
                        }
                        if n % 50 == 49 {
                            eprintln!(
                                "idle: {} of {count} touched after {:.1} s",
                                n + 1,
                                began.elapsed().as_secs_f64()
                            );
                        }
                    }
                });
            });
        }
    });
    let took = began.elapsed();
    let (inits, monitors) = state::containers(&lab);
    if inits.len() < count as usize {
        let mut reasons = BTreeMap::<String, u32>::new();
        for event in lab.events().iter().filter(|event| event["event"].as_str().is_some_and(is_end)) {
            *reasons.entry(format!("{} {}", event["event"], event["reason"])).or_default() += 1;
        }
        reasons.iter().for_each(|(reason, times)| eprintln!("idle: {times} times {reason}"));
    }
    let what = |text: &str| format!("{count} idle containers: {text}");
    rows.put(what("those that run"), inits.len() as f64, "containers", Some(count as f64), false);
    rows.put(what("until the last one speaks"), took.as_secs_f64(), "s", None, true);
    let used = before.saturating_sub(state::available_kib()) as f64 / 1024.0;
    rows.put(what("what the machine has less"), used, "MiB", Some(4096.0), true);
    let pss = |pids: &[i32]| pids.iter().map(|pid| state::pss_kib(*pid)).sum::<u64>() as f64 / 1024.0;
    rows.put(what("memory of their monitors"), pss(&monitors), "MiB", None, true);
    rows.put(what("memory of what runs in them"), pss(&inits), "MiB", None, true);
}

fn is_end(event: &str) -> bool {
    ["container.failed", "container.stop", "service.failed"].contains(&event)
}

fn freeze(settings: &Settings, rows: &mut Rows) {
    if !settings.knows("freeze") {
        return skipped("freeze", "its topologies know no `freeze`");
    }
    let samples = settings.number("samples");
    let (mut pauses, mut thawed) = (Vec::new(), Vec::new());
    let lab = up(&topology(1, "small", "", ", freeze: 1s, idle: 1h"));
    contact(&lab, &host(0));
    for _ in 0..samples {
        let began = Instant::now();
        wait_for("the container to be frozen", || (state::frozen(&lab) > 0).then_some(()));
        pauses.push(began.elapsed());
        thawed.push(contact(&lab, &host(0)));
    }
    let (freezes, thaws) = state::switch_freezer(&lab, samples);
    drop(lab);
    // What has waited as long without being frozen: caches have forgotten it as well.
    let lab = up(&topology(1, "small", "", ", freeze: 1h, idle: 1h"));
    contact(&lab, &host(0));
    let mut live = Vec::new();
    for pause in pauses {
        std::thread::sleep(pause);
        live.push(contact(&lab, &host(0)));
    }
    let median = |times: &[Duration]| figures::percentile(times, 50.0);
    let more = median(&thawed).saturating_sub(median(&live));
    rows.times("first byte, live container that was idle as long", live, None);
    rows.times("first byte, frozen container", thawed, None);
    rows.put("thaw: what a frozen one takes more, median".into(), more.as_secs_f64() * 1e3, "ms", Some(2.0), true);
    rows.times("freeze, by its cgroup", freezes, Some(2.0));
    rows.times("thaw, by its cgroup", thaws, Some(2.0));
}

fn skipped(part: &str, why: &str) {
    eprintln!("\n*** NOT MEASURED: `{part}`: this honeyweave cannot do it: {why}\n");
}

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    honeyweave::sys::privileges::raise_descriptors();
    let mut rows = Rows::default();
    for part in &settings.parts {
        eprintln!("== {part}");
        match &**part {
            "cold" => cold(&settings, &mut rows),
            "warm" => warm(&settings, &mut rows),
            "kills" => kills::run(&settings, &mut rows),
            "sweep" => sweep(&settings, &mut rows),
            "idle" => idle(&settings, &mut rows),
            "soak" => soak::run(&settings, &mut rows),
            _ => freeze(&settings, &mut rows),
        }
    }
    rows.report("containers", false)
}
