//! What somebody in the middle of SSH costs a copy into a container and out of it, by the whole of it: wire, switch, relay, recording and
//! the container's own server, beside the same host without anybody in the middle.

use std::process::Output;
use std::time::Instant;

use crate::Row;
use crate::lab::Lab;
use crate::net::wait_for;

/// Octets that are copied.
const OCTETS: usize = 256 << 20;
/// Copies of each kind, of which the best counts: what else the machine does makes one worse, and never better.
const ROUNDS: usize = 3;
/// The host whose server is met by itself, and the one with somebody in the middle.
const HOSTS: [&str; 2] = ["192.0.2.10", "192.0.2.20"];
const TOPOLOGY: &str = r#"
name: copy
templates:
  direct: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h}}
  middle:
    personality: linux
    tcp: {22: {container: ssh, passwords: {root: toor}, login: "root:toor"}}
    backend: {image: small, idle: 1h}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
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

fn ssh(lab: &Lab, host: &str, command: &str) -> Output {
    let options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    lab.attacker.run(&[
        "timeout",
        "120",
        "sh",
        "-c",
        &format!("sshpass -p toor ssh -T {options} root@{host} {command}"),
    ])
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
    let file = lab.file("copied", &"a line that is copied, and as good as any\n".repeat(OCTETS / 42));
    for host in HOSTS {
        wait_for("the host", || ssh(&lab, host, "true").status.success().then_some(()));
    }
    let mut rows = Vec::new();
    for (which, command) in [
        ("into a container", format!("'cat >/dev/null' <{}", file.display())),
        ("out of a container", format!("'head -c {OCTETS} /dev/zero' | wc -c")),
    ] {
        let mut best = [(f64::MAX, f64::MAX); 2];
        for _ in 0..ROUNDS {
            for (host, best) in HOSTS.into_iter().zip(&mut best) {
                let (began, busy_before) = (Instant::now(), busy());
                let output = ssh(&lab, host, &command);
                let (took, cpu) = (began.elapsed().as_secs_f64(), busy() - busy_before);
                assert!(output.status.success(), "{output:?}");
                let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                assert!(said.is_empty() || said == OCTETS.to_string(), "{said}");
                *best = (best.0.min(took), best.1.min(cpu));
            }
        }
        let [(direct, direct_cpu), (middle, middle_cpu)] = best;
        let rate = |took: f64| OCTETS as f64 / 1e6 / took;
        let mut row = |what: String, measured, unit, asked, better| {
            rows.push(Row { what: format!("SSH {which}: {what}"), measured, unit, asked, better });
        };
        row("its own server".into(), rate(direct), "MB/s", None, "higher");
        row("somebody in the middle".into(), rate(middle), "MB/s", None, "higher");
        row("throughput of both".into(), direct / middle, "x", Some(0.5), "higher");
        row("busy processors of both".into(), middle_cpu / direct_cpu, "x", Some(2.5), "lower");
    }
    rows
}
