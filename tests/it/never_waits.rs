//! Who moves frames never waits for who writes them down.

use serde_json::Value;

use crate::honeynet::Honeynet;
use crate::net::{Net, Ns, sh, wait_for};

const TOPOLOGY: &str = r#"
captures: {rate: none, flow: none}
nodes:
  core: {kind: switch, ports: 2}
  left: {kind: tap, interface: hw-left}
  right: {kind: tap, interface: hw-right}
links:
  - endpoints: [left, "core:1"]
  - endpoints: [right, "core:2"]
"#;

/// Octets a second, of 512 MiB that go from one end to the other: many times what the ring of frames holds.
fn stream(left: &Ns, right: &Ns) -> f64 {
    let mut server = right.spawn(&["iperf3", "-s", "-1", "--forceflush"]);
    server.wait_line("Server listening");
    let said = left.sh(&["timeout", "60", "iperf3", "-J", "-c", "10.9.0.2", "-n", "512M"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    said["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 8.0
}

#[test]
fn a_console_that_stands_still_costs_records_and_no_frames() {
    let net = Net::new();
    let [honey, left, right] = ["honey", "left", "right"].map(|name| net.ns(name));
    let honeynet = Honeynet::up(&honey, None, TOPOLOGY);
    for (name, end, address) in [("hw-left", &left, "10.9.0.1/24"), ("hw-right", &right, "10.9.0.2/24")] {
        sh(&["ip", "-n", &honey.name, "link", "set", name, "netns", &end.name]);
        end.sh(&["ip", "link", "set", name, "up"]);
        end.addr(name, address);
    }
    let captures = || honeynet.json(&["status"])["captures"].take();
    let before = stream(&left, &right);
    wait_for("a capture of it", || (captures()["frames"].as_u64()? > 0).then_some(()));
    let lost = captures()["ring_lost"].as_u64().unwrap();

    let [.., (_, console)] = honeynet.processes().unwrap();
    let console = rustix::process::Pid::from_raw(console as i32).unwrap();
    rustix::process::kill_process(console, rustix::process::Signal::STOP).unwrap();
    // Nobody takes anything out of the ring.
    let meanwhile = stream(&left, &right);
    let pinged = left.run(&["ping", "-c", "20", "-i", "0.05", "-W", "1", "10.9.0.2"]);
    rustix::process::kill_process(console, rustix::process::Signal::CONT).unwrap();
    let pinged = String::from_utf8_lossy(&pinged.stdout).into_owned();
    assert!(pinged.contains("20 received, 0% packet loss"), "{pinged}");
    // A stream that has to wait does not come to a tenth of what it was; other tests run beside this one.
    assert!(meanwhile > before / 10.0, "{before} octets a second, and {meanwhile}");

    // What found no room is counted, in the capture itself, too.
    wait_for("what was lost", || (captures()["ring_lost"].as_u64()? > lost).then_some(()));
    drop(honeynet.command(&["down"]));
    let dir = honeynet.state_dir().join(&honeynet.name).join("captures");
    let told = std::fs::read_dir(dir).unwrap().flatten().any(|entry| os_drops(&entry.path()) > 0);
    assert!(told, "no capture says how many frames found no room");
}

/// What the interface statistics of a capture say: frames that the ring had no room for (`isb_osdrop`, draft-ietf-opsawg-pcapng
/// §4.6).
fn os_drops(path: &std::path::Path) -> u64 {
    let octets = std::fs::read(path).unwrap();
    let octets =
        if path.extension().is_some_and(|end| end == "zst") { zstd::decode_all(&*octets).unwrap() } else { octets };
    let word = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().unwrap());
    let (mut at, mut drops) = (0, 0);
    while at + 12 <= octets.len() {
        let (kind, len) = (word(at), word(at + 4) as usize);
        if len < 12 || at + len > octets.len() {
            break;
        }
        // A block of statistics: its interface and a time come before the options.
        let mut option = at + 20;
        while kind == 5 && option + 4 <= at + len - 4 {
            let (code, size) = (word(option) >> 16, (word(option) & 0xffff) as usize);
            if code == 7 && size == 8 {
                drops = u64::from(word(option + 4)) << 32 | u64::from(word(option + 8));
            }
            if code == 0 {
                break;
            }
            option += 4 + size.next_multiple_of(4);
        }
        at += len;
    }
    drops
}
