//! A honeynet whose uplink takes frames by AF_XDP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};

use crate::honeynet::{Honeynet, PROGRAM, is_alive};
use crate::net::{DEADLINE, Net, Ns, wait_for};
use crate::netdev::{af_packet, payload, receive_until, send};

/// `WAN` is the rest of the uplink, `PORT` the switch's port that it is linked to.
const TOPOLOGY: &str = r#"
name: taken
templates:
  server:
    personality: linux
    tcp:
      7: {script: [/bin/cat]}
      80: {http: {pages: {/: here we are}}}
    udp: {7: {reply: "who asks?"}}
nodes:
  wan: {kind: uplink WAN}
  core: {kind: switch, ports: {up: PORT, lan: {access: 7}}}
  servers: {kind: hosts, addresses: [192.0.2.100-192.0.2.119, "2001:db8::100-2001:db8::10f"], template: server}
links:
  - endpoints: [wan, "core:up"]
  - endpoints: [servers, "core:lan"]
"#;

const XDP: &str = "xdp (generic, copy)";
const PACKET: &str = "packet (ring)";

fn topology(wan: &str, port: &str) -> String {
    TOPOLOGY.replace("WAN", wan).replace("PORT", port)
}

/// An attacker at one end of a wire, and the namespace of the other end, `eth1`.
fn wire(net: &Net) -> (Ns, Ns) {
    let (attacker, honey) = (net.ns("attacker"), net.ns("honey"));
    net.wire((&attacker, "eth0"), (&honey, "eth1"));
    attacker.addr("eth0", "192.0.2.1/24");
    attacker.addr("eth0", "2001:db8::1/64");
    (attacker, honey)
}

fn answers(attacker: &Ns, address: &str) -> bool {
    attacker.run(&["ping", "-c1", "-W1", address]).status.success()
}

/// By what means the uplink receives.
fn io(honeynet: &Honeynet) -> String {
    let status = honeynet.json(&["status"]);
    let devices = status["devices"].as_array().unwrap();
    let uplink = devices.iter().find(|device| device["device"] == "eth1");
    uplink.map_or(String::new(), |uplink| uplink["io"].as_str().unwrap().to_owned())
}

fn wait_io(honeynet: &Honeynet, wanted: &str) {
    wait_for(wanted, || (io(honeynet) == wanted).then_some(()));
}

/// Whether a program is on the interface.
fn taken(honey: &Ns) -> bool {
    honey.sh(&["ip", "link", "show", "dev", "eth1"]).contains("prog/xdp")
}

/// Sends eight megabytes and expects them back.
fn echo(attacker: &Ns, address: &str) {
    let stream = attacker.enter(|| TcpStream::connect((address, 7)).unwrap());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let sent = payload(8 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&stream).read_to_end(&mut got).unwrap();
        assert!(got == sent, "{} octets", got.len());
    });
}

#[test]
fn every_protocol_passes_with_and_without_offloads() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", &topology("", "{access: 7}"));
    assert_eq!(io(&honeynet), XDP);
    assert!(taken(&honey));
    let table = String::from_utf8(honeynet.command(&["status"]).stdout).unwrap();
    assert!(table.contains(XDP), "{table}");
    // A veth's: checksums and segments are left to whoever receives. And those of whoever does it all himself.
    for offloads in ["on", "off"] {
        attacker.sh(&["ethtool", "-K", "eth0", "tx", offloads, "tso", offloads, "gso", offloads]);
        for address in ["192.0.2.100", "2001:db8::100"] {
            assert!(answers(&attacker, address), "{address}");
            assert_eq!(
                attacker.sh(&["curl", "-sgm5", &format!("http://{}/", bracketed(address))]),
                "here we are",
                "{address}"
            );
            echo(&attacker, address);
            let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = attacker.enter(|| UdpSocket::bind(any).unwrap());
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut answer = [0; 100];
            for len in [3, 16, 1000, 1400] {
                socket.send_to(&payload(len), (address, 7)).unwrap();
                let (len, _) = socket.recv_from(&mut answer).unwrap();
                assert_eq!(&answer[..len], b"who asks?");
            }
        }
    }
    honeynet.down();
    assert!(!taken(&honey));
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

#[test]
fn tags_stay_where_they_matter() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    // A virtual device may hide tags, so it is not for a trunk unless someone says so.
    let trunk = "{trunk: [7]}";
    let honeynet = Honeynet::up(&honey, "eth1", &topology("", trunk));
    assert_eq!((io(&honeynet).as_str(), taken(&honey)), (PACKET, false));
    honeynet.down();
    let honeynet = Honeynet::up(&honey, "eth1", &topology(", io: xdp", trunk));
    assert_eq!(io(&honeynet), XDP);
    let mut wire = af_packet(&attacker, "eth0");
    // Who has 192.0.2.100? In VLAN 7.
    let (own, nobody) = ([2, 0, 0, 0, 0, 9], [0; 6]);
    let (asking, asked) = ([192, 0, 2, 9], [192, 0, 2, 100]);
    let arp: [&[u8]; 8] =
        [&[0xff; 6], &own, &[0x81, 0, 0, 7], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &own, &asking, &nobody, &asked];
    assert_eq!(send(&mut wire, &[arp.concat()]), 1);
    receive_until(&mut wire, |bytes| bytes[..6] == own && bytes[12..18] == [0x81, 0, 0, 7, 8, 6]);
}

#[test]
fn an_address_of_the_machines_own_keeps_answering() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    honey.addr("eth1", "192.0.2.50/24");
    let mut honeynet = Honeynet::start(&honey, "eth1", &topology("", "{access: 7}"));
    let ready = format!("ready {}", honeynet.name);
    honeynet.up.wait_line(&ready);
    assert!(honeynet.up.said().iter().all(|line| !line.contains("warning:")), "{:?}", honeynet.up.said());
    assert_eq!((io(&honeynet).as_str(), taken(&honey)), (PACKET, false));
    assert!(answers(&attacker, "192.0.2.50") && answers(&attacker, "192.0.2.100"));
    // The address goes, and comes back.
    honey.sh(&["ip", "addr", "flush", "dev", "eth1"]);
    wait_io(&honeynet, XDP);
    assert!(taken(&honey) && answers(&attacker, "192.0.2.101"));
    honey.addr("eth1", "192.0.2.51/24");
    wait_io(&honeynet, PACKET);
    assert!(!taken(&honey) && answers(&attacker, "192.0.2.51") && answers(&attacker, "192.0.2.102"));
    honeynet.down();
    // Who insists is warned.
    let insisting = topology(", io: xdp, interface: eth1", "{access: 7}");
    let mut honeynet = Honeynet::start(&honey, "eth1", &insisting);
    let warning = honeynet.up.wait_line("warning:");
    assert!(warning.contains("this machine has an address on it"), "{warning}");
    let ready = format!("ready {}", honeynet.name);
    honeynet.up.wait_line(&ready);
    assert_eq!(io(&honeynet), XDP);
    assert!(answers(&attacker, "192.0.2.103"));
    attacker.sh(&["ip", "neigh", "flush", "dev", "eth0"]);
    assert!(!answers(&attacker, "192.0.2.51"), "its frames are taken");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("topology.yaml");
    std::fs::write(&file, insisting).unwrap();
    let checked: serde_json::Value =
        serde_json::from_str(&honey.sh(&[PROGRAM, "check", "--json", file.to_str().unwrap()])).unwrap();
    assert!(checked["warnings"][0].as_str().unwrap().contains("`eth1`"), "{checked}");
}

#[test]
fn the_program_goes_with_who_attached_it() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", &topology("", "{access: 7}"));
    let kill = |pid: u32| {
        // SAFETY: a process that the test has started.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
    };
    // The next switch, and the next keeper, take up where the one before has left off.
    for i in [1, 0] {
        assert_eq!(io(&honeynet), XDP);
        let (_, pid) = honeynet.processes().unwrap()[i];
        kill(pid);
        wait_for("the next process", || honeynet.processes().filter(|processes| processes[i].1 != pid));
        wait_for("an answer", || answers(&attacker, "192.0.2.100").then_some(()));
        let again = || {
            let status = honeynet.command(&["status", "--json"]);
            (taken(&honey) && String::from_utf8_lossy(&status.stdout).contains(XDP)).then_some(())
        };
        wait_for("AF_XDP", again);
        wait_for("an answer", || answers(&attacker, "192.0.2.101").then_some(()));
    }
    let all: Vec<u32> = honeynet.processes().unwrap().iter().map(|(_, pid)| *pid).collect();
    kill(honeynet.up.pid());
    all.into_iter().filter(|pid| is_alive(*pid)).for_each(kill);
    wait_for("the interface as it was", || (!taken(&honey)).then_some(()));
}
