//! SSH in the middle, and the same server directly.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use honeyweave::relay::ssh::Policy;

use crate::client::{self, End, key};
use crate::figures::{Rows, percentile};
use crate::lab::Lab;
use crate::words::cpu_of;

/// What this process, its clients and the server have used.
fn cpu(lab: &Lab) -> f64 {
    cpu_of("self") + cpu_of(&lab.server().to_string())
}

/// Copies a file of so many megabytes in and out, directly and through the middle.
pub fn scp(megabytes: u64, rows: &mut Rows) {
    let lab = Lab::new(Policy::Any);
    let file = lab.path("file");
    std::fs::write(&file, crate::lab::noise((megabytes << 20) as usize)).unwrap();
    let gigabytes = megabytes as f64 / 1024.0;
    let copy = |port: u16, secret: &str, up: bool| {
        let mut scp = lab.openssh_with(secret, "scp");
        scp.args(["-P", &port.to_string()]);
        match up {
            true => scp.arg(&file).arg("root@127.0.0.1:copy"),
            false => scp.arg("root@127.0.0.1:copy").arg(lab.path("back")),
        };
        let (cpu_before, before) = (cpu(&lab), Instant::now());
        let output = scp.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let took = before.elapsed().as_secs_f64();
        // The server's own process for the connection ends a moment later.
        std::thread::sleep(Duration::from_millis(300));
        (cpu(&lab) - cpu_before, took)
    };
    for (up, which) in [(true, "in"), (false, "out")] {
        // The better of two each, taken in turn.
        let mut best = [(f64::MAX, f64::MAX); 2];
        for _ in 0..2 {
            for (at, (port, secret)) in [(lab.direct, "toor"), (lab.port, "hunter2")].into_iter().enumerate() {
                let (cpu, took) = copy(port, secret, up);
                best[at] = (best[at].0.min(cpu), best[at].1.min(took));
            }
        }
        let [(direct, direct_took), (middle, middle_took)] = best;
        rows.put(format!("scp {which}: directly, all processes"), direct / gigabytes, "s/GB", None, true);
        rows.put(format!("scp {which}: through the middle"), middle / gigabytes, "s/GB", None, true);
        rows.put(format!("scp {which}: cost of both"), middle / direct, "x", Some(2.5), true);
        rows.aim(format!("scp {which}: throughput of both"), direct_took / middle_took, "x", 0.5, false);
    }
    let most = lab.used.lock().unwrap().iter().map(|used| used.inward.max(used.outward)).max().unwrap_or(0);
    rows.aim("scp: most octets that waited".into(), most as f64 / 1e6, "MB", 4.0, true);
}

/// Logs in at a port of this machine and runs `cat`.
async fn cat(port: u16, secret: &str) -> End {
    let from = SocketAddr::from(([127, 0, 0, 1], 0));
    client::cat(from, SocketAddr::from(([127, 0, 0, 1], port)), secret, false).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// How long one octet takes to come back.
pub fn echo(samples: u64, rows: &mut Rows) {
    let lab = Lab::new(Policy::Any);
    let times = runtime().block_on(async {
        let mut ends = [cat(lab.direct, "toor").await, cat(lab.port, "hunter2").await];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..samples {
            for (end, times) in ends.iter_mut().zip(&mut times) {
                let before = Instant::now();
                key(&mut end.1).await;
                times.push(before.elapsed());
            }
        }
        times
    });
    let added = percentile(&times[1], 50.0).as_secs_f64() - percentile(&times[0], 50.0).as_secs_f64();
    let [direct, middle] = times;
    rows.times("keystroke, directly", direct, None);
    rows.times("keystroke, through the middle", middle, None);
    rows.put("keystroke: what the middle adds to the median".into(), added * 1e3, "ms", Some(2.0), true);
}

/// What one session needs in which much moves, with the recordings of it: client, middle, server and console are this process.
pub fn memory(megabytes: u64, rows: &mut Rows) {
    let dir = tempfile::tempdir().unwrap();
    let growth = runtime().block_on(crate::peers::move_much(dir.path(), (megabytes << 20) as usize / 2));
    let (resident, heap) = growth.grown();
    let what = format!("a session of {megabytes} MB: memory grown between a quarter and the whole");
    rows.put(format!("{what}, of the heap"), heap as f64 / 1e6, "MB", Some(4.0), true);
    rows.put(what, resident as f64 / 1e6, "MB", Some(16.0), true);
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) * 1024.0
}

/// Programs that guess so many passwords each, none of which is right.
pub fn guessers(guesses: u64, rows: &mut Rows) {
    for tool in ["hydra", "ncrack"] {
        let lab = Lab::new(Policy::Never);
        let words: String = (1..=guesses).map(|n| format!("word-{n}\n")).collect();
        std::fs::write(lab.path("words"), words).unwrap();
        let (before, cpu_before, memory) = (Instant::now(), cpu_of("self"), resident());
        let mut guesser = lab.guesser(tool, &lab.path("words"));
        if tool == "hydra" {
            // Its library waits for half a minute whenever a server ends the connection after the last attempt it allows, of
            // any server: as many workers as it can have.
            guesser.args(["-t", "64"]);
        }
        let output = guesser.output().unwrap();
        // Hydra calls it a failure if one of its workers waits so at the end.
        assert!(output.status.success() || tool == "hydra", "{output:?}");
        let took = before.elapsed().as_secs_f64();
        let cpu = cpu_of("self") - cpu_before;
        let grown = resident() - memory;
        lab.ended();
        let (tried, _) = lab.guesses();
        let missing = guesses as f64 - tried.len() as f64;
        let times: usize = tried.values().sum();
        rows.put(format!("{tool}: {guesses} attempts"), took, "s", None, true);
        rows.put(format!("{tool}: processor time, the tool's with it"), cpu, "s", None, true);
        rows.put(format!("{tool}: attempts without a record"), missing, "", Some(0.0), true);
        rows.put(format!("{tool}: attempts recorded twice"), (times - tried.len()) as f64, "", None, true);
        // The tape of all connections is kept in this process.
        rows.aim(format!("{tool}: memory, their tape with it"), grown / 1e6, "MB", 100.0, true);
    }
}

/// What this process needs for so many sessions at once, whose clients are another process.
pub fn sessions(count: u64, rows: &mut Rows) {
    let lab = Lab::new(Policy::Any);
    let before = resident();
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .arg(format!("clients={}:{count}", lab.port))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(clients.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    let used = resident() - before;
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
    rows.put(format!("{count} sessions at once: memory"), used / 1e6, "MB", Some(1024.0), true);
    rows.put(format!("{count} sessions at once: each"), used / 1e3 / count as f64, "kB", None, true);
}

/// The clients of [`sessions`]: `PORT:COUNT`. They stay until there is no more to be read.
pub fn clients(what: &str) -> ExitCode {
    let Some((port, count)) = what.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse::<u64>().ok()?)))
    else {
        return ExitCode::from(2);
    };
    let runtime = runtime();
    let _open = runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..count {
            let mut end = cat(port, "hunter2").await;
            key(&mut end.1).await;
            open.push(end);
        }
        open
    });
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}
