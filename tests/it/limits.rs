//! What a honeynet costs while nothing happens, and what it says when there is more than it can take.

use std::time::{Duration, Instant};

use crate::lab::{Lab, process};
use crate::net::wait_for;
use crate::netdev::{af_packet, test_frame};
use crate::shell::shell;
use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::Netdev;

/// A /16 of hosts behind a router, one of which comes to life.
const TOPOLOGY: &str = r#"
name: limits
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: on-access, idle: 10m}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink, IO}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24], lan: [10.10.0.1/16]}
  core: {kind: switch, ports: 2}
  hosts: {kind: hosts, addresses: 10.10.0.0/16, except: [10.10.0.1], template: shell}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [hosts, "core:2"]
"#;

/// Processor time that a process has used so far, its threads and the children that it has waited for included.
fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let ticks = rustix::param::clock_ticks_per_second();
    Duration::from_millis(fields[11..15].iter().sum::<u64>() * 1000 / ticks)
}

/// How often the threads of a process have gone to sleep.
fn wakes(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |task: std::fs::DirEntry| -> Option<u64> {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    tasks.flatten().filter_map(of).sum()
}

/// What a thread has used, if the kernel keeps account of it.
fn schedstat(task: &std::path::Path) -> Option<Duration> {
    let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The same to the nanosecond, as far as the kernel keeps account of it, of all threads that live.
fn used_exactly(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().map(|task| schedstat(&task.path())).sum()
}

/// All processes of the honeynet that are children of its supervisor, or theirs, and itself.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        found.extend(crate::honeynet::children(found[at]));
        at += 1;
    }
    found
}

#[test]
fn an_idle_honeynet_is_rarely_woken_by_itself() {
    let lab = Lab::up_alone(&TOPOLOGY.replace("IO", "io: auto"));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    shell(&lab.attacker, "10.10.0.20", "true");
    lab.wait_event("container.live", |event| event["dst"]["ip"] == "10.10.0.20");
    lab.wait_event("tcp.close", |event| event["dst"]["ip"] == "10.10.0.20");
    let pids = family(lab.pid());
    assert!(pids.len() >= 5, "supervisor, keeper, switch, console, and who looks after the container: {pids:?}");
    let all = || -> Vec<Duration> { pids.iter().map(|pid| used_exactly(*pid).unwrap_or_else(|| used(*pid))).collect() };
    let (begin, before) = (Instant::now(), all());
    let woken = || -> u64 { pids.iter().map(|pid| wakes(*pid)).sum() };
    let woken_before = woken();
    // Not to wait for anything: this is what is measured.
    std::thread::sleep(Duration::from_secs(5));
    let (wall, after, woken) = (begin.elapsed(), all(), woken() - woken_before);
    let each: Vec<(String, Duration)> = pids
        .iter()
        .zip(after.iter().zip(&before))
        .map(|(pid, (after, before))| {
            let name = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (String::from_utf8_lossy(&name).replace('\0', " "), *after - *before)
        })
        .collect();
    let sum: Duration = each.iter().map(|(_, used)| *used).sum();
    let said = format!("{sum:?} in {wall:?}, woken {woken} times: {each:?}");
    println!("{said}");
    // How often somebody is woken is ours. How long that takes is the machine's: on a virtual one whose host has taken an
    // idle guest's memory away it is milliseconds, which `make compare` measures with the optimized program.
    assert!(woken < 10 * wall.as_secs(), "{said}");
}

/// What the uplink has received, and what was discarded there because a queue was full, as the command line tells it.
fn counted(lab: &Lab) -> (u64, u64) {
    let (status, drops) = (lab.json(&["status"]), lab.json(&["show", "drops"]));
    let devices = status["devices"].as_array().unwrap();
    let uplink = devices.iter().find(|device| device["device"] == "up0").unwrap_or_else(|| panic!("{status}"));
    let rows = drops.as_array().unwrap();
    let lost = rows.iter().find(|row| row["node"] == "up0" && row["reason"] == "tail-drop");
    (uplink["rx"].as_u64().unwrap(), lost.map_or(0, |row| row["count"].as_u64().unwrap()))
}

fn signal(pid: i32, number: i32) {
    // SAFETY: a process that the test has started.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0);
}

/// A ring holds what comes while nobody looks, and what it does not hold is counted.
fn overrun(io: &str, ethertype: u16, ring: u64) {
    const SENT: u64 = 30_000;
    let lab = Lab::up(&TOPOLOGY.replace("IO", io));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let ping = || lab.attacker.run(&["ping", "-c", "1", "-W", "1", "10.10.0.99"]).status.success();
    assert!(ping());
    let (before, none) = counted(&lab);
    assert_eq!(none, 0);
    let switch = process(&lab, "switch").unwrap();
    signal(switch, libc::SIGSTOP);
    wait_for("it to stop", || {
        let stat = std::fs::read_to_string(format!("/proc/{switch}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T').then_some(())
    });
    let mut wire = af_packet(&lab.attacker, "eth0");
    let (mut pool, mut batch, mut sent) = (Pool::new(256), Batch::default(), 0);
    while sent < SENT {
        batch.extend((0..64).map(|_| pool.copy_of(&test_frame(ethertype, 1)).unwrap()));
        sent += wire.tx(&mut pool, &mut batch) as u64;
    }
    signal(switch, libc::SIGCONT);
    let (came, lost) = wait_for("everything to be counted", || {
        let (received, lost) = counted(&lab);
        (received - before + lost >= sent).then_some((received - before, lost))
    });
    println!("{sent} sent, {came} received, {lost} lost");
    assert!(came >= ring, "as many as the ring holds: {came}");
    // The machines on the wire say a word of their own now and then.
    assert!(came + lost < sent + 50 && lost > sent - 2 * ring, "{came} and {lost} of {sent}");
    assert!(ping(), "and it goes on");
    assert_eq!(process(&lab, "switch"), Some(switch), "nobody has died of it");
}

#[test]
fn a_ring_at_its_limit_is_counted_as_a_full_queue() {
    overrun("io: packet", 0x88b5, 8192);
}

#[test]
fn sockets_at_their_limit_are_counted_as_a_full_queue() {
    overrun("io: xdp", 0x0806, 4096);
}
