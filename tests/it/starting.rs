//! Containers at the edges of their lives: what reaches one that starts, one that dies, one that has fallen silent.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::{Lab, PROGRAM, state_dir};
use crate::net::{DEADLINE, wait_for};
use crate::shell::shell;

/// Containers on the wire itself; UDP port 4000 echoes.
const EDGES: &str = r#"
name: edges
templates:
  shell:
    personality: linux
    tcp: {22: container, 4001: container}
    udp: {4000: container, 161: {snmp: {}}}
    backend: {image: datagrams, start: on-access, idle: 10m}
images:
  datagrams: {recipe: small, packages: [socat], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  shells: {kind: hosts, addresses: 192.0.2.100-192.0.2.107, template: shell, prefix: [192.0.2.0/24], gateway: [192.0.2.1]}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
"#;

/// Services that the recipe does not have, started with the container.
const SERVICES: &str = "::respawn:/usr/bin/socat UDP4-RECVFROM:4000,fork EXEC:/bin/cat
::respawn:/usr/bin/socat TCP4-LISTEN:4001,fork,reuseaddr,backlog=64 EXEC:/bin/cat
";

fn edges() -> Lab {
    static IMAGE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let mut lab = Lab::shared();
    let image = IMAGE.lock().unwrap_or_else(|e| e.into_inner());
    let topology = lab.file("image.yaml", EDGES);
    let state = state_dir();
    crate::net::sh(&[PROGRAM, "image", "build", topology.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]);
    for entry in std::fs::read_dir(state.join("images/datagrams")).unwrap().flatten() {
        let inittab = entry.path().join("rootfs/etc/inittab");
        let Ok(text) = std::fs::read_to_string(&inittab) else { continue };
        if !text.ends_with(SERVICES) {
            let own: String =
                text.lines().filter(|line| !line.contains("socat")).map(|line| format!("{line}\n")).collect();
            std::fs::write(&inittab, own + SERVICES).unwrap();
        }
    }
    drop(image);
    lab.start(EDGES);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

fn count(lab: &Lab, id: &str, host: &str) -> usize {
    lab.events().iter().filter(|event| event["event"] == id && event["dst"]["ip"] == host).count()
}

#[test]
fn datagrams_start_a_container_and_are_answered_once_each() {
    let lab = edges();
    let answers = lab.attacker.enter(|| {
        let clients: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind("192.0.2.2:0").unwrap()).collect();
        for (number, client) in clients.iter().enumerate() {
            client.connect("192.0.2.100:4000").unwrap();
            client.send(format!("hello {number}").as_bytes()).unwrap();
        }
        let began = Instant::now();
        let mut answers = Vec::new();
        for client in &clients {
            let mut answer = [0; 64];
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            let n = client.recv(&mut answer).expect("an answer");
            answers.push(String::from_utf8_lossy(&answer[..n]).into_owned());
        }
        println!("five answers after {:?}", began.elapsed());
        // And no second one, however long the first took.
        for client in &clients {
            client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            assert!(client.recv(&mut [0; 64]).is_err(), "answered twice");
        }
        answers
    });
    assert_eq!(answers, ["hello 0", "hello 1", "hello 2", "hello 3", "hello 4"]);
    assert_eq!(count(&lab, "container.start", "192.0.2.100"), 1);
    // While it lives: what the template lists is its own, the rest is the container's, refused as ever.
    let scan =
        lab.attacker.sh(&["nmap", "-n", "-Pn", "-sU", "--max-retries", "2", "-p", "161,4000,4001", "192.0.2.100"]);
    assert!(scan.contains("4001/udp closed"), "{scan}");
    assert!(scan.contains("161/udp  open"), "{scan}");
    let before = lab.attacker.sh(&["nmap", "-n", "-Pn", "-sU", "--max-retries", "2", "-p", "4001", "192.0.2.101"]);
    assert!(before.contains("4001/udp closed"), "{before}");
}

#[test]
fn connections_begun_while_it_starts_are_all_served_once() {
    let lab = edges();
    let echoes = lab.attacker.enter(|| {
        let client = |number: usize| {
            move || {
                // The namespace is the thread's that made this one.
                let mut stream = TcpStream::connect("192.0.2.100:4001").unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.write_all(format!("client {number}").as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut echo = String::new();
                stream.read_to_string(&mut echo).unwrap();
                echo
            }
        };
        let clients: Vec<_> = (0..20).map(|number| std::thread::spawn(client(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let expected: Vec<String> = (0..20).map(|number| format!("client {number}")).collect();
    assert_eq!(echoes, expected, "each is served, and once");
    assert_eq!(count(&lab, "container.start", "192.0.2.100"), 1);
    assert_eq!(count(&lab, "tcp.open", "192.0.2.100"), 20);
}

/// The processes of the honeynet's containers.
fn inside(lab: &Lab) -> Vec<u32> {
    let payload = |group: &PathBuf| group.to_string_lossy().contains("payload");
    let groups = lab.cgroups().into_iter().filter(payload);
    let procs = groups.filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
    let pids: BTreeSet<u32> =
        procs.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect();
    pids.into_iter().collect()
}

#[test]
fn a_container_that_dies_in_a_transfer_resets_it_and_the_next_connection_has_another() {
    let lab = edges();
    let host = "192.0.2.101";
    shell(&lab.attacker, host, "echo here >/tmp/mark");
    let inits = inside(&lab);
    let (sent, ending) = lab.attacker.enter(|| {
        let mut stream = TcpStream::connect((host, 4001)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut echo = [0; 4096];
        stream.write_all(&[7; 4096]).unwrap();
        stream.read_exact(&mut echo).unwrap();
        // Its first process: all others go with it.
        crate::net::sh(&["kill", "-9", &inits[0].to_string()]);
        let mut sent = 0;
        let ending = loop {
            match stream.write(&[7; 4096]).and_then(|n| stream.read(&mut echo).map(|m| (n, m))) {
                Ok((_, 0)) => break None,
                Ok((n, _)) => sent += n,
                Err(error) => break Some(error.kind()),
            }
        };
        (sent, ending)
    });
    println!("{sent} octets more, then {ending:?}");
    // Its kernel closes what its processes had open, or there is no kernel any more to do so.
    let ends = [None, Some(std::io::ErrorKind::ConnectionReset), Some(std::io::ErrorKind::BrokenPipe)];
    assert!(ends.contains(&ending), "{ending:?}");
    // Another container, with the files of the one before.
    assert_eq!(shell(&lab.attacker, host, "cat /tmp/mark"), "here\n");
    assert_eq!(count(&lab, "container.start", host), 2);
}

#[test]
fn a_half_closed_connection_still_brings_the_answer() {
    let lab = edges();
    let host = "192.0.2.102";
    shell(&lab.attacker, host, "setsid nc -ll -p 4445 -e /bin/wc -c </dev/null >/dev/null 2>&1 &");
    let answer = |count: usize| {
        lab.attacker.enter(|| {
            let mut stream = wait_for("the service", || TcpStream::connect((host, 4445)).ok());
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&vec![b'x'; count]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.trim().to_owned()
        })
    };
    for count in [0, 1, 1_000_000] {
        assert_eq!(answer(count), count.to_string());
    }
}

#[test]
fn whoever_takes_the_link_down_inside_locks_nobody_out() {
    let lab = edges();
    let host = "192.0.2.103";
    let down = "echo here >/tmp/mark; setsid sh -c 'sleep 0.2; ip link set eth0 down' </dev/null >/dev/null 2>&1 &";
    shell(&lab.attacker, host, down);
    assert!(count(&lab, "container.start", host) == 1);
    // Whom it still refuses, it still hears.
    lab.attacker.enter(|| {
        let client = UdpSocket::bind("192.0.2.2:0").unwrap();
        client.connect((host, 4999)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        wait_for("silence from inside", || {
            let _ = client.send(b"?");
            client.recv(&mut [0; 8]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock).then_some(())
        });
    });
    let echo = lab.attacker.run(&["ping", "-c", "1", "-W", "2", host]);
    assert!(echo.status.success(), "the host is there as ever");
    let said = shell(&lab.attacker, host, "cat /tmp/mark 2>/dev/null || echo new");
    assert_eq!(said, "new\n", "another container");
    assert_eq!(count(&lab, "container.start", host), 2);
}
