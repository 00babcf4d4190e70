//! Hosts that come to life: what an attacker meets at the door, and from inside.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::lab::{Lab, process};
use crate::net::Ns;
use crate::shell::shell;

/// Eight shells and twenty desktops in one network behind a router, and a second network.
const SHELLS: &str = r#"
name: shells
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {22: container}
    backend: {image: tools, start: on-access, idle: 10m}
  desktop:
    personality: windows
    vendor: dell
    tcp:
      80: {http: {server: Microsoft-IIS/10.0, pages: {/: "<html>intranet</html>"}}}
      445: open
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces:
      wan: [192.0.2.1/24]
      servers: [10.10.0.1/24]
      management: [10.20.0.1/24]
  core: {kind: switch, ports: 4}
  shells: {kind: hosts, addresses: 10.10.0.20-10.10.0.27, template: shell}
  desktops: {kind: hosts, addresses: 10.10.0.100-10.10.0.119, template: desktop}
  management: {kind: hosts, addresses: 10.20.0.10-10.20.0.19, template: desktop}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:servers", "core:1"]
  - endpoints: [shells, "core:2"]
  - endpoints: [desktops, "core:3"]
  - endpoints: ["edge:management", management]
"#;

fn shells() -> Lab {
    let lab = Lab::up(SHELLS);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab
}

#[test]
fn ssh_into_a_host_brings_it_to_life_and_shows_the_attackers_address() {
    let mut lab = shells();
    let said = shell(&lab.attacker, "10.10.0.20", "echo $SSH_CONNECTION; hostname; cat /proc/net/tcp | wc -l; id -u");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("192.0.2.2 ") && lines[0].ends_with(" 10.10.0.20 22"), "{said}");
    assert_eq!(lines[3], "0", "{said}");
    let own = shell(&lab.attacker, "10.10.0.20", "ip -4 -o addr show eth0");
    assert!(own.contains("inet 10.10.0.20/24 brd 10.10.0.255 "), "{own}");
    let start = lab.wait_event("container.start", |event| event["dst"]["ip"] == "10.10.0.20");
    assert_eq!(start["src"]["ip"], "192.0.2.2", "{start}");
    // The attacker's own MAC, although a router stands between.
    let mac = lab.attacker.sh(&["cat", "/sys/class/net/eth0/address"]);
    for id in ["session.start", "tcp.probe", "tcp.open", "tcp.data", "container.start", "container.live"] {
        let event = lab.wait_event(id, |event| event["dst"]["ip"] == "10.10.0.20");
        assert_eq!(event["src"]["mac"], mac.trim(), "{event}");
    }
    let live = lab.wait_event("container.live", |event| event["dst"]["ip"] == "10.10.0.20");
    println!("container.live: {live}");
    // What it is seen from outside does not change by that.
    let hosts = lab.json(&["hosts", "ls"]);
    let states: Vec<(&str, &str)> = hosts
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|host| Some((host["ip"].as_str()?, host["state"].as_str()?)))
        .collect();
    assert!(states.contains(&("10.10.0.20", "live")), "{hosts}");
    let took = lab.down();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

/// Times of a cold contact: until the SYN/ACK, and until the first octet from the container.
fn cold_contact(attacker: &Ns, host: &str) -> (Duration, Duration) {
    attacker.enter(|| {
        let address = format!("{host}:22").parse().unwrap();
        let begin = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let open = begin.elapsed();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting[..1]).unwrap();
        let first = begin.elapsed();
        stream.read_exact(&mut greeting[1..]).unwrap();
        assert_eq!(&greeting, b"SSH-2.0-");
        (open, first)
    })
}

#[test]
fn a_cold_host_answers_the_handshake_at_once_and_speaks_soon_by_itself() {
    let lab = Lab::up_alone(SHELLS);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let (mut opens, mut firsts) = (Vec::new(), Vec::new());
    for host in 20..=27 {
        let host = format!("10.10.0.{host}");
        lab.attacker.sh(&["ping", "-c", "1", "-W", "2", &host]);
        let (open, first) = cold_contact(&lab.attacker, &host);
        opens.push(open);
        firsts.push(first);
    }
    opens.sort();
    firsts.sort();
    println!("SYN/ACK: {opens:?}");
    println!("first octet: {firsts:?}");
    // The best of eight says what it takes; the others may wait for a busy machine, but never for a container.
    assert!(opens[0] < Duration::from_millis(1), "{opens:?}");
    assert!(opens[7] < firsts[0], "{opens:?} {firsts:?}");
    assert!(firsts[0] < Duration::from_millis(500), "{firsts:?}");
    // The second contact with one that lives is like the first.
    let (open, _) = cold_contact(&lab.attacker, "10.10.0.20");
    println!("SYN/ACK of a live one: {open:?}");
}

#[test]
fn pings_and_closed_ports_start_no_container() {
    let lab = shells();
    let sweep = lab.attacker.run(&["fping", "-q", "-s", "-r", "1", "-g", "10.10.0.20", "10.10.0.27"]);
    assert!(String::from_utf8_lossy(&sweep.stderr).contains("8 alive"), "{sweep:?}");
    // Half-open scans of all that is open and much that is not; whole connections to what is closed.
    lab.attacker.sh(&["nmap", "-n", "-Pn", "-sS", "-p", "1-100", "10.10.0.20-27"]);
    lab.attacker.sh(&["nmap", "-n", "-Pn", "-sU", "-p", "53,161", "10.10.0.20-21"]);
    let refused = lab.attacker.run(&["nc", "-z", "-w", "2", "10.10.0.20", "23"]);
    assert!(!refused.status.success());
    lab.wait_event("tcp.probe", |event| event["dst"]["ip"] == "10.10.0.27" && event["dst"]["port"] == 22);
    lab.wait_event("tcp.probe", |event| event["dst"]["ip"] == "10.10.0.20" && event["dst"]["port"] == 23);
    let started: Vec<_> =
        lab.events().into_iter().filter(|event| event["event"].as_str().unwrap().starts_with("container")).collect();
    assert!(started.is_empty(), "{started:?}");
    assert!(!lab.leftovers().iter().any(|left| left.starts_with("interface")), "no TAP was made");
}

#[test]
fn a_bind_shell_inside_is_reached_from_outside() {
    let lab = shells();
    let closed = lab.attacker.run(&["nc", "-z", "-w", "2", "10.10.0.21", "4444"]);
    assert!(!closed.status.success(), "nobody listens yet");
    shell(&lab.attacker, "10.10.0.21", "setsid nc -ll -p 4444 -e /bin/sh </dev/null >/dev/null 2>&1 &");
    let session = lab.attacker.run(&["sh", "-c", "echo 'echo pw''ned by $(id -u)' | nc -N -w 5 10.10.0.21 4444"]);
    assert_eq!(String::from_utf8_lossy(&session.stdout), "pwned by 0\n", "{session:?}");
    let open = lab.wait_event("tcp.open", |event| event["dst"]["port"] == 4444);
    assert_eq!(open["src"]["ip"], "192.0.2.2");
    // A scanner sees it too, and what is closed inside stays closed.
    let scan = lab.attacker.sh(&["nmap", "-n", "-Pn", "-sS", "-p", "22,4444,4445", "10.10.0.21"]);
    for line in ["22/tcp   open", "4444/tcp open", "4445/tcp closed"] {
        assert!(scan.contains(line), "{line}: {scan}");
    }
}

#[test]
fn scans_from_inside_find_the_neighbors_and_wake_them() {
    let lab = shells();
    let inside = |command: &str| shell(&lab.attacker, "10.10.0.20", command);
    let scan = inside("nmap -n -sn 10.10.0.16/28");
    for host in 20..=27 {
        assert!(scan.contains(&format!("Nmap scan report for 10.10.0.{host}\n")), "{scan}");
    }
    assert!(scan.contains("(8 hosts up)"), "{scan}");
    let scan = inside("nmap -n -sS -p 22,80,445,446 10.10.0.21,100");
    let (shell_host, desktop) = scan.split_once("report for 10.10.0.100").expect("both are up");
    assert!(shell_host.contains("22/tcp  open") && shell_host.contains("80/tcp  closed"), "{scan}");
    for line in ["22/tcp  closed", "80/tcp  open", "445/tcp open", "446/tcp closed"] {
        assert!(desktop.contains(line), "{line}: {scan}");
    }
    // Across the router.
    let scan = inside("nmap -n -sS -p 80,81 10.20.0.10-12");
    assert!(scan.contains("(3 hosts up)") && scan.matches("80/tcp open").count() == 3, "{scan}");
    let page = inside("wget -q -O - http://10.20.0.11/");
    assert_eq!(page, "<html>intranet</html>");
    let sweep = inside("for i in $(seq 100 119); do ping -c 1 -W 2 10.10.0.$i | grep -c ', 1 packets received'; done");
    assert_eq!(sweep.lines().filter(|line| *line == "1").count(), 20, "{sweep}");
    for trace in ["traceroute -n -q 1 -w 2 10.20.0.15", "traceroute -I -n -q 1 -w 2 10.20.0.15"] {
        let trace = inside(trace);
        let hops: Vec<&str> = trace.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(&hops[1..], ["10.10.0.1", "10.20.0.15"], "{trace}");
    }
    // All of that woke nobody; a connection does.
    let started =
        |host: &str| lab.events().iter().any(|event| event["event"] == "container.start" && event["dst"]["ip"] == host);
    assert!(started("10.10.0.20") && !started("10.10.0.21"));
    let greeting = inside("nc -w 10 10.10.0.21 22 </dev/null | head -c 8");
    assert_eq!(greeting, "SSH-2.0-");
    let live = lab.wait_event("container.live", |event| event["dst"]["ip"] == "10.10.0.21");
    assert_eq!(live["src"]["ip"], "10.10.0.20", "woken by its neighbor: {live}");
    // And a session through it, as an intruder who moves on would have.
    let moved =
        inside("DROPBEAR_PASSWORD=toor dbclient -y -y root@10.10.0.21 'echo $SSH_CONNECTION; hostname' </dev/null");
    assert!(moved.starts_with("10.10.0.20 ") && moved.contains(" 10.10.0.21 22\n"), "{moved}");
}

#[test]
fn iperf3_runs_through_two_containers_by_itself() {
    let lab = Lab::up_alone(SHELLS);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    shell(&lab.attacker, "10.10.0.22", "setsid iperf3 -s -1 </dev/null >/dev/null 2>&1 &");
    let report = shell(&lab.attacker, "10.10.0.23", "iperf3 -c 10.10.0.22 -t 2 -J");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let received = &report["end"]["sum_received"];
    println!("iperf3: {} Mbit/s", received["bits_per_second"].as_f64().unwrap() / 1e6);
    assert!(received["bytes"].as_u64() > Some(1_000_000), "{received}");
    shell(&lab.attacker, "10.10.0.22", "setsid iperf3 -s -1 </dev/null >/dev/null 2>&1 &");
    let report = shell(&lab.attacker, "10.10.0.23", "iperf3 -c 10.10.0.22 -t 1 -R -J");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["end"]["sum_received"]["bytes"].as_u64() > Some(1_000_000), "{report}");
    let udp = "setsid iperf3 -s -1 </dev/null >/dev/null 2>&1 &";
    shell(&lab.attacker, "10.10.0.22", udp);
    let report = shell(&lab.attacker, "10.10.0.23", "iperf3 -c 10.10.0.22 -u -b 10M -l 1200 -t 1 -J");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    // Nothing holds UDP back when the machine is busy with other tests; without them nothing is lost.
    assert!(report["end"]["sum"]["lost_percent"].as_f64().unwrap() < 10.0, "{report}");
}

#[test]
fn much_data_passes_both_ways_unharmed() {
    let lab = shells();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(lab.path("data"), &data).unwrap();
    let login = "sshpass -p toor ssh -T -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    let there = format!("timeout 60 {login} root@10.10.0.24 'cat >/tmp/copy' <{}", lab.path("data").display());
    lab.attacker.sh(&["sh", "-c", &there]);
    // A Linux host's connection that is open passes through to its container.
    // What is ended in the end is the log-in itself and not a shell around it.
    let login_there = format!("exec {login} root@10.10.0.24 'echo here; sleep 60'");
    let mut open = lab.attacker.spawn(&["sh", "-c", &login_there]);
    open.wait_line("here");
    let shown = lab.json(&["show", "flows"]).to_string();
    assert!(shown.contains("container, spliced"), "{shown}");
    drop(open);
    let back = format!("timeout 60 {login} root@10.10.0.24 'cat /tmp/copy' >{}", lab.path("copy").display());
    lab.attacker.sh(&["sh", "-c", &back]);
    assert!(std::fs::read(lab.path("copy")).unwrap() == data, "three megabytes come back as they went");
    // Between two containers, which both are behind the emulator. While its standard input stays open, dbclient
    // 2022.83 sometimes does not end although it has received everything, on a loopback interface, too.
    let relayed = shell(
        &lab.attacker,
        "10.10.0.25",
        "DROPBEAR_PASSWORD=toor dbclient -y -y root@10.10.0.24 'cat /tmp/copy' </dev/null 2>/dev/null | sha256sum",
    );
    let sum = crate::net::sh(&["sha256sum", lab.path("data").to_str().unwrap()]);
    assert_eq!(relayed.split(' ').next(), sum.split(' ').next());
}

#[test]
fn many_attackers_at_once_bring_many_hosts_to_life() {
    let mut lab = shells();
    let all = "for host in $(seq 20 27); do for i in 1 2 3; do \
        (timeout 30 sshpass -p toor ssh -T -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR root@10.10.0.$host \"echo here \\$(hostname)\") & done; done; wait";
    let said = lab.attacker.sh(&["sh", "-c", all]);
    let here: Vec<&str> = said.lines().filter(|line| line.starts_with("here ")).collect();
    assert_eq!(here.len(), 24, "{said}");
    let names: std::collections::HashSet<&str> = here.into_iter().collect();
    assert_eq!(names.len(), 8, "each is a host of its own: {said}");
    let starts = lab.events().iter().filter(|event| event["event"] == "container.start").count();
    assert_eq!(starts, 8, "one container a host");
    let took = lab.down();
    println!("ending eight containers took {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_container_with_two_addresses_is_reached_by_both() {
    let mut lab = Lab::up(
        r#"
name: dual
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: with-system, idle: 0}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24, "2001:db8::1/64"], lan: [10.3.0.1/24, "fd00:3::1/64"]}
  core: {kind: switch, ports: 4}
  build: {kind: container, address: [10.3.0.30, "fd00:3::30"], template: shell, hostname: build01}
  others: {kind: hosts, addresses: [10.3.0.40-10.3.0.49, "fd00:3::40-fd00:3::49"]}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [build, "core:2"]
  - endpoints: [others, "core:3"]
"#,
    );
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab.attacker.sh(&["ip", "-6", "route", "add", "default", "via", "2001:db8::1"]);
    // It was there before anyone came.
    lab.wait_event("container.start", |event| event["dst"]["ip"] == "10.3.0.30");
    let said = shell(&lab.attacker, "10.3.0.30", "hostname; echo $SSH_CONNECTION");
    assert!(said.starts_with("build01\n192.0.2.2 "), "{said}");
    let said = shell(&lab.attacker, "fd00:3::30", "hostname; echo $SSH_CONNECTION; ping -6 -c 1 -W 2 fd00:3::41");
    assert!(said.starts_with("build01\n2001:db8::2 ") && said.contains("1 packets received"), "{said}");
    let scan = shell(&lab.attacker, "fd00:3::30", "nmap -6 -n -sT -Pn -p 22,23 fd00:3::45");
    assert!(scan.contains("22/tcp closed"), "{scan}");
    let beyond = shell(&lab.attacker, "10.3.0.30", "ping -6 -c 1 -W 2 2001:db8::2");
    assert!(beyond.contains("1 packets received"), "an attacker inside the honeynet's own wire: {beyond}");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

fn kill(pid: i32) {
    crate::net::sh(&["kill", "-9", &pid.to_string()]);
}

#[test]
fn a_killed_switch_is_back_within_a_second_and_hosts_come_to_life_again_by_itself() {
    let mut lab = Lab::up_alone(SHELLS);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    shell(&lab.attacker, "10.10.0.20", "true");
    let before = process(&lab, "switch").expect("the switch runs");
    let killed = Instant::now();
    kill(before);
    let echo = ["fping", "-q", "-r", "200", "-B", "1", "-p", "10", "-t", "10", "10.10.0.100"];
    assert!(lab.attacker.run(&echo).status.success());
    let away = killed.elapsed();
    println!("the switch was away for {away:?}");
    assert!(away < Duration::from_secs(1), "{away:?}");
    let after = process(&lab, "switch").expect("a new one");
    assert_ne!(before, after);
    assert_eq!(shell(&lab.attacker, "10.10.0.20", "echo again"), "again\n");
    assert_eq!(shell(&lab.attacker, "10.10.0.21", "echo new"), "new\n");
    lab.wait_event("process.state", |event| event["reason"].as_str().is_some_and(|why| why.contains("signal 9")));
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_killed_keeper_costs_no_emulated_host() {
    let mut lab = shells();
    shell(&lab.attacker, "10.10.0.20", "true");
    let before = process(&lab, "keeper").expect("the keeper runs");
    kill(before);
    // Not one echo is lost meanwhile.
    let said = lab.attacker.sh(&["ping", "-q", "-c", "100", "-i", "0.005", "-W", "2", "10.10.0.100"]);
    assert!(said.contains(" 100 received"), "{said}");
    crate::net::wait_for("a new keeper", || process(&lab, "keeper").filter(|pid| *pid != before));
    assert_eq!(shell(&lab.attacker, "10.10.0.21", "echo new"), "new\n");
    assert_eq!(shell(&lab.attacker, "10.10.0.20", "echo again"), "again\n");
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
