//! `honeyweave audit`, from a topology to what gives it away.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, PROGRAM};

const TOPOLOGY: &str = r#"
name: audited
templates:
  server: {personality: linux, vendor: vmware, tcp: {22: {ssh: {}}, 80: {http: {server: nginx/1.22.1}}}}
  named: {personality: "Microsoft Windows 10 1607", vendor: dell, tcp: {21: {ftp: {product: microsoft}}}}
  bad: {personality: cisco-ios, vendor: dell, tcp: {23: open}}
  # Nothing is built or started for it.
  shell: {personality: linux, tcp: {22: container}, backend: {image: small, start: with-system}}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 8}
  servers: {kind: hosts, addresses: 192.0.2.100-192.0.2.103, template: server}
  named: {kind: host, address: 192.0.2.20, template: named}
  bad: {kind: host, address: 192.0.2.30, template: bad}
  edge: {kind: router, interfaces: {wan: [192.0.2.1/24], lan: [10.1.0.1/24]}}
  shell: {kind: container, address: 10.1.0.10, template: shell}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [servers, "core:2"]
  - endpoints: [named, "core:3"]
  - endpoints: [bad, "core:4"]
  - endpoints: ["edge:wan", "core:5"]
  - endpoints: ["edge:lan", shell]
    delay: 5ms
"#;

fn there(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|place| std::path::Path::new(place).join(program).exists())
}

/// What an audit of that process number has left.
fn leftovers(pid: u32) -> Vec<String> {
    let name = format!("hwaudit-{pid}");
    let mut left = Vec::new();
    for place in ["/run/netns", "/run", "/run/honeyweave"] {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        left.extend(names.filter(|entry| entry.starts_with(&name)));
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&name) {
            left.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    left
}

#[test]
fn what_is_bad_comes_first_and_what_is_good_has_nothing_bad() {
    for program in ["nmap", "p0f", "arp-fingerprint", "traceroute"] {
        if !there(program) {
            println!("SKIPPED: {program} is not installed");
            return;
        }
    }
    let lab = Lab::shared();
    let file = lab.file("audited.yaml", TOPOLOGY);
    let child = Command::new(PROGRAM)
        .args(["audit", "--json", "--hosts", "1"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    println!("{text}");

    let findings = report["findings"].as_array().unwrap();
    assert_eq!((&findings[0]["template"], &findings[0]["severity"]), (&"bad".into(), &3.into()), "{text}");
    let of = |template: &str| -> std::vec::IntoIter<&Value> {
        findings.iter().filter(|found| found["template"] == template).collect::<Vec<_>>().into_iter()
    };
    let seen = |template: &str, part: &str| {
        assert!(of(template).any(|found| found["seen"].as_str().is_some_and(|seen| seen.contains(part))), "{text}");
    };
    seen("bad", "is a MAC of Dell");
    seen("bad", "port 23: an open port that says nothing");
    for good in ["server", "named", "shell"] {
        assert!(of(good).all(|found| found["severity"] != 3), "{good}: {text}");
    }
    let templates = report["templates"].as_array().unwrap();
    assert_eq!((&templates[0]["template"], templates.len()), (&"bad".into(), 4));
    let row = |name: &str| templates.iter().find(|row| row["template"] == name).unwrap();
    #[cfg(feature = "nmap-db")]
    {
        let named = row("named");
        assert_eq!(named["nmap"], "Microsoft Windows 10 1607", "{text}");
        assert_eq!((&named["accuracy"], &named["named"]), (&100.into(), &serde_json::json!([1, 1])));
        assert_eq!(row("server")["named"], serde_json::json!([2, 2]));
    }
    // p0f's database is older than that system, whose SYN/ACK is still the one of those before it.
    #[cfg(feature = "nmap-db")]
    assert_eq!(row("named")["p0f"], "Windows 7 or 8", "{text}");
    // Linux has other windows today than when p0f's database ended.
    assert_eq!(row("server")["p0f"], "?", "{text}");
    // The way through the router takes 5 ms in each direction, and a SYN is answered without a container.
    let micros = row("shell")["syn_us"].as_u64().unwrap();
    assert!((9_900..13_000).contains(&micros), "{micros}");
    assert!(of("shell").all(|found| found["check"] != "traceroute"), "{text}");
    assert!(report["tools"].as_array().unwrap().iter().all(|tool| tool["path"].is_string()), "{text}");
    assert_eq!(leftovers(pid), Vec::<String>::new());
}

#[test]
fn whatever_ends_it_nothing_stays() {
    let lab = Lab::shared();
    let file = lab.file("audited.yaml", TOPOLOGY);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let mut command = Command::new(PROGRAM);
        let mut run = crate::net::Running::start(command.args(["audit", "--only", "timing"]).arg(&file));
        run.wait_line("taking times of");
        let pid = run.pid();
        assert!(!leftovers(pid).is_empty());
        run.signal(signal);
        let (status, said) = run.wait();
        assert!(!status.success(), "{said}");
        if signal == libc::SIGKILL {
            // The next one cleans up.
            assert!(!leftovers(pid).is_empty());
            let next = Command::new(PROGRAM).args(["audit", "--only", "timing"]).arg(&file).output().unwrap();
            assert!(next.status.success(), "{}", String::from_utf8_lossy(&next.stderr));
        } else {
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("interrupted"), "{said}");
        }
        let begin = Instant::now();
        while !leftovers(pid).is_empty() && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(leftovers(pid), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn what_cannot_be_audited_is_bad_input() {
    let lab = Lab::shared();
    let file = lab.file("inside.yaml", "nodes:\n  a: {kind: host, address: 10.0.0.1}\n");
    let output = Command::new(PROGRAM).arg("audit").arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("has no uplink"), "{said}");
    let output = Command::new(PROGRAM).args(["audit", "/nonexistent.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
