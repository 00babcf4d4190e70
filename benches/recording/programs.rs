//! Whether all programs are told that are begun in a container in a hurry: ten thousand short ones, as fast as two shells
//! begin them.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Row;
use crate::lab::Lab;
use crate::net::wait_for;

const COUNT: usize = 10_000;
const HOST: &str = "192.0.2.10";
const TOPOLOGY: &str = r#"
name: programs
templates:
  shell: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h}}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 2}
  shells: {kind: hosts, addresses: 192.0.2.10, template: shell}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
"#;

fn shell(lab: &Lab, command: &str) {
    let login = format!("root@{HOST}");
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let args = [&["timeout", "60", "sshpass", "-p", "toor", "ssh", "-T"][..], &options, &[&login, command]].concat();
    let Output { status, stderr, .. } = lab.attacker.run(&args);
    assert!(status.success(), "{command}: {status} {}", String::from_utf8_lossy(&stderr));
}

/// The numbers of the programs that were told, whether the last one was, and what was lost.
fn told(lab: &Lab) -> (BTreeSet<usize>, bool, u64) {
    let (mut numbers, mut ended, mut lost) = (BTreeSet::new(), false, 0);
    for event in lab.events() {
        match event["event"].as_str() {
            Some("gap" | "container.untold") => lost += event["count"].as_u64().unwrap_or(1),
            Some("container.exec") => {
                let data = event["data"].as_str().and_then(honeyweave::record::base64_decode).unwrap_or_default();
                let object: Value = serde_json::from_slice(&data).unwrap_or_default();
                let argument = object["args"][1].as_str().unwrap_or_default();
                ended |= argument == "the-end";
                numbers.extend(argument.parse::<usize>().ok().filter(|number| *number < COUNT));
            }
            _ => {}
        }
    }
    (numbers, ended, lost)
}

/// Measures.
pub fn measure() -> Vec<Row> {
    let lab = Lab::up_alone(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    shell(&lab, "true");
    let half = COUNT / 2;
    let began = Instant::now();
    shell(
        &lab,
        &format!(
            "run() {{ i=$1; while [ $i -lt $2 ]; do /bin/true $i; i=$((i+1)); done; }}; \
             run 0 {half} & run {half} {COUNT} & wait; /bin/true the-end"
        ),
    );
    let took = began.elapsed();
    // Records gather for a moment. What was lost is lost then, and is no reason to wait on.
    wait_for("the last program", || told(&lab).1.then_some(()));
    let settled = Instant::now() + Duration::from_secs(5);
    while told(&lab).0.len() < COUNT && Instant::now() < settled {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (numbers, _, lost) = told(&lab);
    let of = |what: &str| format!("{COUNT} programs in a container: {what}");
    vec![
        Row::new(of("all begun"), took.as_secs_f64(), "s", "lower").asked(10.0),
        Row::new(of("told"), numbers.len() as f64, "programs", "higher").asked(COUNT as f64),
        Row::new("records lost meanwhile", lost as f64, "records", "lower").asked(0.0),
    ]
}
