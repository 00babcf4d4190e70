//! How long an attacker waits for a host that comes to life: the SYN/ACK of a
//! cold one, and the first octet from its container, over a real (virtual) wire.
//! Fails if the medians are more than was promised.

// What is measured is the real time that real processes take.
#![allow(clippy::disallowed_methods)]

// The parts of the integration tests that make namespaces and bring honeynets up.
#[path = "../tests/it/lab.rs"]
mod lab;
#[path = "../tests/it/net.rs"]
mod net;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use lab::Lab;

/// Promised medians.
const SYN_ACK: Duration = Duration::from_millis(1);
const FIRST_OCTET: Duration = Duration::from_millis(150);

const SHELLS: &str = r#"
name: on-access
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {22: container}
    backend: {image: small, start: on-access, idle: 10m}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  shells: {kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: shell}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
"#;

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let lab = Lab::up_alone(SHELLS);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let (mut opens, mut firsts) = (Vec::new(), Vec::new());
    for host in 100..=119 {
        let (open, first) = lab.attacker.enter(|| {
            let address = format!("192.0.2.{host}:22").parse().expect("an address");
            // The attacker's kernel asks for the MAC first, as it would before any contact.
            let _ =
                TcpStream::connect_timeout(&format!("192.0.2.{host}:1").parse().expect("an address"), net::DEADLINE);
            let begin = now();
            let mut stream = TcpStream::connect_timeout(&address, net::DEADLINE).expect("it answers");
            let open = begin.elapsed();
            stream.set_read_timeout(Some(net::DEADLINE)).expect("a timeout");
            let mut octet = [0];
            stream.read_exact(&mut octet).expect("the container speaks");
            assert_eq!(octet[0], b'S');
            (open, begin.elapsed())
        });
        opens.push(open);
        firsts.push(first);
    }
    let (open, first) = (median(opens), median(firsts));
    println!("SYN/ACK of a cold on-access host: {open:?} at the median of 20 (at most {SYN_ACK:?})");
    println!("first octet from its container: {first:?} at the median of 20 (at most {FIRST_OCTET:?})");
    assert!(open <= SYN_ACK && first <= FIRST_OCTET);
}
