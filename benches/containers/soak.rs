//! Thousands of lives of containers, one after the other and some at once: nothing may be more in the end than it was
//! when the first of them were over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::figures::Rows;
use crate::lab::Lab;
use crate::{Settings, first_octet, host, state, topology, up};

/// Hosts that take turns; none is touched again before its container is long gone.
const HOSTS: u64 = 200;
/// Attackers at once.
const ATTACKERS: u64 = 4;
/// KiB that a process may have more.
const GROWTH_KIB: f64 = 4096.0;

/// Containers that were started so far.
fn started(lab: &Lab) -> u64 {
    lab.json(&["status"])["summary"]["containers"]["started"].as_u64().expect("a number")
}

/// Lets containers live until `cycles` were started in all, or the time is up; says so from time to time.
fn live(lab: &Lab, cycles: u64, until: Instant) -> u64 {
    let stop = AtomicBool::new(false);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let attacker = &lab.attacker;
    std::thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                attacker.enter(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        // A host whose container is just ending may refuse, which is no cycle.
                        if first_octet(&host(n % HOSTS)).is_err() {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
        let (mut said, mut done) = (Instant::now(), started(lab));
        while done < cycles && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
            done = started(lab);
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let rate = done as f64 / began.elapsed().as_secs_f64();
                let (inits, _) = state::containers(lab);
                eprintln!("soak: {done} of {cycles} started, {} live, {rate:.1} a second", inits.len());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let failed = failed.load(Ordering::Relaxed);
    if failed > 0 {
        eprintln!("soak: {failed} contacts had no answer");
    }
    failed
}

/// Measures it.
pub fn run(settings: &Settings, rows: &mut Rows) {
    let cycles = settings.number("cycles");
    let mut backend = String::from(", idle: 1s");
    for (key, value) in [("freeze", "0"), ("destroy", "1s")] {
        if settings.knows(key) {
            backend += &format!(", {key}: {value}");
        }
    }
    let lab = up(&topology(HOSTS, "small", "", &backend));
    let until = Instant::now() + Duration::from_secs(60 * settings.number("minutes"));
    // What every process has once, it has after a tenth of them.
    let first = (cycles / 10).max(20);
    let mut failed = live(&lab, first, until);
    let before = state::quiet(&lab);
    let began = Instant::now();
    failed += live(&lab, first + cycles, until);
    let took = began.elapsed();
    let after = state::quiet(&lab);
    let done = started(&lab).saturating_sub(first);
    let what = |text: &str| format!("soak: {text}");
    rows.put(what("containers that lived"), done as f64, "containers", Some(cycles as f64), false);
    rows.put(what("of those a second"), done as f64 / took.as_secs_f64(), "a second", None, false);
    rows.put(what("contacts without an answer"), failed as f64, "contacts", Some(0.0), true);
    for ((name, before, unit), (_, after, _)) in before.figures.iter().zip(&after.figures) {
        let asked = if *unit == "KiB" { GROWTH_KIB } else { 0.0 };
        rows.put(what(&format!("{name}, more than before")), after - before, unit, Some(asked), true);
    }
}
