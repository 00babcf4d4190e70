//! A container that takes all it can get, and what its neighbors' visitors notice of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::net::Ns;
use crate::shell::{shell, ssh};

const HOGS: &str = r#"
name: hogs
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, limits: {memory: 96M, processes: 120, cpu: 0.5, disk: 64M}}
  web:
    personality: linux
    tcp: {80: {http: {server: nginx, pages: {/: "<html>here</html>"}}}}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  shells: {kind: hosts, addresses: 192.0.2.20-192.0.2.21, template: shell, prefix: 192.0.2.0/24}
  web: {kind: host, address: 192.0.2.80, template: web, response_time: none, prefix: 192.0.2.0/24}
  core: {kind: switch, ports: 3}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
  - endpoints: [web, "core:3"]
"#;

const HOG: &str = "192.0.2.20";
const CONTAINER: &str = "192.0.2.21:22";
const EMULATED: &str = "192.0.2.80:80";
/// How long a hog goes on.
const SECONDS: u32 = 5;

/// Times until the first octet of an answer, sorted. Every request is answered, or the test fails.
fn measure(from: &Ns, service: &'static str, until: impl Fn(usize) -> bool + Send + Sync) -> Vec<Duration> {
    from.enter(|| {
        let mut times = Vec::new();
        while !until(times.len()) {
            let begin = Instant::now();
            let mut stream = TcpStream::connect_timeout(&service.parse().unwrap(), Duration::from_secs(10))
                .unwrap_or_else(|error| panic!("{service}: {error}"));
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            if service == EMULATED {
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            }
            stream.read_exact(&mut [0; 4]).unwrap_or_else(|error| panic!("{service}: {error}"));
            times.push(begin.elapsed());
        }
        times.sort();
        times
    })
}

/// Median and 99th percentile.
fn figures(times: &[Duration]) -> (Duration, Duration) {
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Measures both services, then again while `hog` runs inside a neighbor; returns what the hog said.
fn beside(lab: &Lab, what: &str, hog: &str) -> String {
    // The containers are there, and what a first contact takes is not measured.
    shell(&lab.attacker, HOG, "true");
    measure(&lab.attacker, CONTAINER, |count| count == 1);
    let before = [CONTAINER, EMULATED].map(|service| figures(&measure(&lab.attacker, service, |count| count == 100)));
    let done = std::sync::atomic::AtomicBool::new(false);
    let over = |count: usize| done.load(std::sync::atomic::Ordering::Relaxed) && count >= 20;
    let attacker = &lab.attacker;
    let (said, during) = std::thread::scope(|scope| {
        let hog = scope.spawn(|| {
            let output = ssh(attacker, HOG, hog);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        let [a, b] = [CONTAINER, EMULATED].map(|service| scope.spawn(move || measure(attacker, service, over)));
        let during = [a.join().unwrap(), b.join().unwrap()];
        (hog.join().unwrap(), during)
    });
    for ((name, before), times) in ["a neighbor's container", "an emulated host"].iter().zip(before).zip(&during) {
        let during = figures(times);
        println!("{what}: {name}: before {before:?}, during {during:?} (median, 99th percentile of {})", times.len());
        // A machine that runs other tests is no place to measure a little; being starved is not a little.
        assert!(during.0 < (before.0 * 10).max(Duration::from_millis(100)), "{what}: {name}: {before:?} {during:?}");
        assert!(during.1 < (before.1 * 20).max(Duration::from_millis(500)), "{what}: {name}: {before:?} {during:?}");
    }
    said
}

/// The numbers after `key` in a file of this name in the containers' cgroups.
fn counted(lab: &Lab, file: &str, key: &str) -> Vec<u64> {
    let of = |group: &Path| {
        let text = std::fs::read_to_string(group.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    lab.cgroups().iter().filter_map(|group| of(group)).collect()
}

#[test]
fn a_fork_bomb_stays_inside_by_itself() {
    let mut lab = Lab::up_alone(HOGS);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    // Each of its processes starts more until the time is over, or until it may not; `read` and `[` start none.
    let bomb = format!(
        "read up rest </proc/uptime; end=$((${{up%.*}} + {SECONDS})); \
         late() {{ read up rest </proc/uptime; [ ${{up%.*}} -ge $end ]; }}; \
         (bomb() {{ until late; do bomb & done; }}; bomb) 2>/dev/null; \
         until late; do :; done; echo over"
    );
    let said = beside(&lab, "fork bomb", &bomb);
    assert!(said.contains("over"), "{said}");
    // The limit is what held it back.
    let refused = counted(&lab, "pids.events", "max ");
    assert!(refused.iter().any(|count| *count > 0), "{refused:?}");
    // And the container is usable again.
    assert_eq!(shell(&lab.attacker, HOG, "echo still here"), "still here\n");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_memory_hog_stays_inside_by_itself() {
    let mut lab = Lab::up_alone(HOGS);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let hog = format!(
        "read up rest </proc/uptime; end=$((${{up%.*}} + {SECONDS})); \
         while read up rest </proc/uptime; [ ${{up%.*}} -lt $end ]; do \
         dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null && echo had it all; done; echo over"
    );
    let said = beside(&lab, "memory hog", &hog);
    assert!(said.contains("over") && !said.contains("had it all"), "{said}");
    let killed =
        [counted(&lab, "memory.oom_control", "oom_kill "), counted(&lab, "memory.events", "oom_kill ")].concat();
    assert!(killed.iter().any(|count| *count > 0), "{killed:?}");
    assert_eq!(shell(&lab.attacker, HOG, "echo still here"), "still here\n");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_disk_filler_stays_inside_by_itself() {
    let mut lab = Lab::up_alone(HOGS);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let filler = format!(
        "read up rest </proc/uptime; end=$((${{up%.*}} + {SECONDS})); \
         while read up rest </proc/uptime; [ ${{up%.*}} -lt $end ]; do \
         rm -f /root/fill; dd if=/dev/zero of=/root/fill bs=1M count=300 2>&1; done; du -k /root/fill; echo over"
    );
    let said = beside(&lab, "disk filler", &filler);
    assert!(said.contains("over") && said.contains("No space left on device"), "{said}");
    let written = said.lines().rev().find_map(|line| line.strip_suffix("\t/root/fill")?.parse::<u64>().ok()).unwrap();
    assert!(written > 30_000 && written < 65_536, "{written} KiB of 64 MiB");
    // Small files are limited, too: there are only so many.
    let files = shell(
        &lab.attacker,
        HOG,
        "rm /root/fill; i=0; while echo x >/root/f$i; do i=$((i+1)); done 2>/dev/null; echo $i",
    );
    let files: u32 = files.trim().parse().unwrap();
    assert!(files > 100 && files < 70_000, "{files}");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new(), "its disk is gone with it");
}
