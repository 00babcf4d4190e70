//! Random parts of a honeynet are killed at random moments, while attackers use containers and others ping.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::crash::TOPOLOGY;
use crate::lab::{Lab, process};
use crate::net::{Ns, wait_for};

/// How long that goes on.
const SECONDS: u64 = 20;
const PARTS: [&str; 6] = ["keeper", "worker", "monitor", "init", "switch", "console"];

/// A generator of chance that can be repeated: `HONEYWEAVE_SEED=7 cargo test --test it kills::`.
struct Chance(u64);

impl Chance {
    fn new() -> Chance {
        let seed = std::env::var("HONEYWEAVE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        println!("seed {seed}");
        Chance(seed)
    }

    /// A number below `most` (splitmix64).
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The processes of a kind, at this moment.
fn of_kind(lab: &Lab, kind: &str) -> Vec<i32> {
    let line = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Monitors are the keeper's children, or the supervisor's if they have outlived one.
    let parents = [Some(lab.pid() as i32), process(lab, "keeper")];
    let all = parents.into_iter().flatten().flat_map(children);
    match kind {
        "worker" => all.filter(|pid| line(pid).windows(6).any(|part| part == b"\0__lxc")).collect(),
        "monitor" => all.filter(|pid| line(pid).starts_with(b"[lxc monitor]")).collect(),
        "init" => all.filter(|pid| line(pid).starts_with(b"[lxc monitor]")).flat_map(children).collect(),
        _ => process(lab, kind).into_iter().collect(),
    }
}

/// Kills one of them, if there is any.
fn kill_one(pids: &[i32], chance: &mut Chance) -> bool {
    if pids.is_empty() {
        return false;
    }
    let victim = pids[chance.below(pids.len() as u64) as usize];
    // It may have ended since.
    let _ = rustix::process::Pid::from_raw(victim)
        .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    true
}

/// Logs in and out until it is told to stop; returns how often that went well.
fn attack(from: &Ns, host: &str, stop: &AtomicBool, done: &AtomicU32) {
    while !stop.load(Ordering::Relaxed) {
        if logs_in(from, host) {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn logs_in(from: &Ns, host: &str) -> bool {
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let login = format!("root@{host}");
    // Who is cut off by the death of a switch does not always learn of it.
    let args = [&["timeout", "5", "sshpass", "-p", "toor", "ssh", "-T"][..], &options, &[&login, "echo here"]].concat();
    from.run(&args).stdout == b"here\n"
}

#[test]
fn whatever_is_killed_whenever_nothing_is_left_and_nobody_else_notices() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let hosts = ["192.0.2.20", "192.0.2.21", "192.0.2.22"];
    let (stop, done) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; 3]);
    let mut chance = Chance::new();
    let mut killed = std::collections::BTreeMap::new();
    std::thread::scope(|scope| {
        let (from, stop) = (&lab.attacker, &stop);
        for (host, done) in hosts.into_iter().zip(&done) {
            scope.spawn(move || attack(from, host, stop, done));
        }
        // Whatever goes wrong here, those must end.
        let _stop = Stop(stop);
        let until = Instant::now() + Duration::from_secs(SECONDS);
        let mut parts = Vec::new();
        while Instant::now() < until {
            // Each of them now and then, in any order.
            if parts.is_empty() {
                parts.extend(PARTS);
            }
            let part = parts.swap_remove(chance.below(parts.len() as u64) as usize);
            let neighbors = ["192.0.2.100", "192.0.2.101", "192.0.2.102"];
            let fping = (part != "switch").then(|| {
                lab.attacker.spawn(
                    &[&["fping", "-q", "-i", "1", "-c", "100", "-p", "5", "-t", "2000"][..], &neighbors].concat(),
                )
            });
            let moment = Instant::now() + Duration::from_millis(chance.below(400));
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
            // A worker is there for some milliseconds, when a container starts: another takes the place of one that ends.
            if part == "worker" {
                kill_one(&of_kind(&lab, "init"), &mut chance);
            }
            let patience = Instant::now() + Duration::from_millis(500);
            let mut victims = of_kind(&lab, part);
            while victims.is_empty() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
                victims = of_kind(&lab, part);
            }
            if kill_one(&victims, &mut chance) {
                *killed.entry(part).or_insert(0) += 1;
            }
            match fping {
                Some(fping) => {
                    let (_, said) = fping.wait();
                    assert_eq!(said.matches("= 100/100/0%").count(), neighbors.len(), "{part}: {said}");
                }
                None => wait_for("another switch", || {
                    lab.attacker.run(&["ping", "-c1", "-W1", "192.0.2.100"]).status.success().then_some(())
                }),
            }
        }
    });
    println!("killed {killed:?}, logged in {done:?}");
    assert!(killed.values().sum::<u32>() >= 10 && killed.len() >= PARTS.len() - 1, "{killed:?}");
    // Everybody can still be had.
    for host in hosts {
        wait_for("a log-in", || logs_in(&lab.attacker, host).then_some(()));
    }
    let running = lab.json(&["container", "ls"]);
    println!("{running}");
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

/// Tells the others to stop when it goes out of scope.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
