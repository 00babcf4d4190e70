//! What somebody in the middle of SSH costs a copy into a container and out of it, by the whole of it: wire, switch, relay, recording and
//! the container's own server, beside the same host without anybody in the middle. What is copied does not compress, by `scp`, with the
//! protocol of SFTP and with its own.

use std::time::Instant;

use crate::Row;
use crate::export::Noise;
use crate::lab::Lab;
use crate::net::wait_for;

/// Octets that are copied.
const OCTETS: usize = 1 << 30;
/// Copies of each kind, of which the best counts: what else the machine does makes one worse, and never better.
const ROUNDS: usize = 2;
/// The host whose server is met by itself, and the one with somebody in the middle.
const HOSTS: [&str; 2] = ["192.0.2.10", "192.0.2.20"];
const TOPOLOGY: &str = r#"
name: copy
templates:
  direct: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h, limits: {disk: 3G}}}
  middle:
    personality: linux
    tcp: {22: {container: ssh, passwords: {root: toor}, login: "root:toor"}}
    backend: {image: small, idle: 1h, limits: {disk: 3G}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server]
    users: [{name: root, password: toor}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  direct: {kind: hosts, addresses: 192.0.2.10, template: direct}
  middle: {kind: hosts, addresses: 192.0.2.20, template: middle}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [direct, "core:2"]
  - endpoints: [middle, "core:3"]
"#;

/// Runs `program` (`ssh`, `scp`) with those words behind its options, and says what it complains of if it fails.
fn run(lab: &Lab, program: &[&str], words: &[&str]) -> Result<(), String> {
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let args = [&["timeout", "120", "sshpass", "-p", "toor"][..], program, &options, words].concat();
    let output = lab.attacker.run(&args);
    let complaint = || format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(()).ok_or_else(complaint)
}

/// Seconds that the processors of this machine were busy.
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // Of user, nice, system, idle, iowait, irq, softirq, steal: all but idle and waiting.
    let ticks = fields.take(7).enumerate().filter(|(at, _)| ![3, 4].contains(at));
    ticks.filter_map(|(_, field)| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Measures.
pub fn measure() -> Vec<Row> {
    let lab = Lab::up_alone(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let mut content = vec![0; OCTETS];
    Noise(0x9e37_79b9_7f4a_7c15).fill(&mut content);
    let (file, back) = (lab.path("copied"), lab.path("back"));
    std::fs::write(&file, &content).expect("a file");
    let (file, back_name) = (file.to_str().expect("a path"), back.to_str().expect("a path"));
    for host in HOSTS {
        let login = format!("root@{host}");
        wait_for("the host", || run(&lab, &["ssh", "-T"], &[&login, "true"]).ok());
    }
    let mut rows = Vec::new();
    for (which, is_in, way) in [
        ("SFTP, into a container", true, "-s"),
        ("SFTP, out of a container", false, "-s"),
        ("SCP, into a container", true, "-O"),
        ("SCP, out of a container", false, "-O"),
    ] {
        let mut best = [(f64::MAX, f64::MAX); 2];
        for _ in 0..ROUNDS {
            for (host, best) in HOSTS.into_iter().zip(&mut best) {
                let there = format!("root@{host}:/root/copied");
                let words = if is_in { [file, &there] } else { [&there, back_name] };
                let (began, busy_before) = (Instant::now(), busy());
                run(&lab, &["scp", way], &words).unwrap_or_else(|why| panic!("{which}, {host}: {why}"));
                let (took, cpu) = (began.elapsed().as_secs_f64(), busy() - busy_before);
                if !is_in {
                    assert!(std::fs::read(&back).expect("the copy") == content, "{which}, {host}: another file");
                    std::fs::remove_file(&back).expect("the copy");
                }
                *best = (best.0.min(took), best.1.min(cpu));
            }
        }
        let [(direct, direct_cpu), (middle, middle_cpu)] = best;
        let rate = |took: f64| OCTETS as f64 / 1e6 / took;
        let what = |what: &str| format!("scp of {} MiB by {which}: {what}", OCTETS >> 20);
        rows.push(Row::new(what("its own server"), rate(direct), "MB/s", "higher"));
        rows.push(Row::new(what("somebody in the middle"), rate(middle), "MB/s", "higher"));
        rows.push(Row::new(what("throughput of both"), direct / middle, "x", "higher").aim(0.5));
        rows.push(Row::new(what("busy processors of both"), middle_cpu / direct_cpu, "x", "lower").asked(2.5));
    }
    rows
}
