//! What real clients learn of hosts that talk by asking their segment, and what tshark makes of the answers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::lab::Lab;
use crate::listener::Listener;
use crate::net::wait_for;

const TOPOLOGY: &str = r#"
name: answers
defaults: {talk: auto}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 5}
  pc: {kind: host, address: 192.0.2.10, hostname: DESKTOP-7QK2M4A, personality: windows, vendor: dell, gateway: 192.0.2.2}
  avahi: {kind: host, address: 192.0.2.11, personality: linux, talk: [arp, ipv6, mdns], gateway: 192.0.2.2}
  printer: {kind: host, address: 192.0.2.12, personality: printer, tcp: {631: open, 9100: open}, gateway: 192.0.2.2}
  server: {kind: host, address: 192.0.2.13, personality: linux, gateway: 192.0.2.2}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [pc, "core:2"]
  - endpoints: [avahi, "core:3"]
  - endpoints: [printer, "core:4"]
  - endpoints: [server, "core:5"]
"#;

/// Sends a datagram to a group from a port of its own and returns what comes back by unicast.
fn ask(lab: &Lab, group: Ipv4Addr, port: u16, message: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    lab.attacker.enter(|| {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(message, (group, port)).unwrap();
        let mut answer = [0; 1500];
        let (len, from) = socket.recv_from(&mut answer).ok()?;
        Some((from, answer[..len].to_vec()))
    })
}

/// A question of the DNS for the address of a name.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// nmap, for a minute at most: its scripts may wait for what never comes.
fn nmap(lab: &Lab, args: &[&str]) -> String {
    let output = lab.attacker.run(&[&["timeout", "60", "nmap"], args].concat());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn clients_find_hosts_by_their_names() {
    let mut lab = Lab::shared();
    lab.attacker.addr("eth0", "192.0.2.2/24");
    // To where multicast goes.
    lab.attacker.sh(&["ip", "route", "add", "default", "dev", "eth0"]);
    let heard = Listener::start(&lab);
    lab.start(TOPOLOGY);
    // Names are theirs once they have been probed and announced.
    let announced = ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
        .map(|ip| format!("mdns && dns.flags.response == 1 && ip.src == {ip} && dns.a == {ip}"));
    heard.wait(&announced.each_ref().map(String::as_str));
    // Membership comes before, and again when somebody asks.
    heard.wait(&["igmp.type == 0x22 && ip.src == 192.0.2.10 && igmp.maddr == 224.0.0.252"]);

    // nmap: the names of NetBIOS, and the MAC that the host has on the wire.
    let said = nmap(&lab, &["-n", "-sU", "-p", "137,9999", "--script", "nbstat", "192.0.2.10", "192.0.2.13"]);
    let (pc, server) = said.split_once("for 192.0.2.13").unwrap();
    assert!(pc.contains("137/udp  open  ") && pc.contains("NetBIOS name: DESKTOP-7QK2M4A"), "{said}");
    let mac = pc.split_once("MAC Address: ").unwrap().1.split_whitespace().next().unwrap().to_lowercase();
    assert!(pc.contains(&format!("NetBIOS MAC: {}", mac.replace(':', ""))), "{said}");
    assert!(server.contains("137/udp  closed"), "{said}");
    // nmap: LLMNR.
    let resolve = |name: &str| {
        let name = format!("llmnr-resolve.hostname={name},llmnr-resolve.timeout=2s");
        nmap(&lab, &["-e", "eth0", "--script", "llmnr-resolve", "--script-args", &name])
    };
    // The script gives up when it listens too late.
    wait_for("the answer to llmnr-resolve", || {
        resolve("desktop-7qk2m4a").contains("DESKTOP-7QK2M4A : 192.0.2.10").then_some(())
    });
    assert!(!resolve("avahi").contains("192.0.2.11"));
    // nmap: services by multicast DNS, of the segment and of one host.
    let said = nmap(&lab, &["-e", "eth0", "--script", "broadcast-dns-service-discovery"]);
    for part in ["Address=192.0.2.12", "631/tcp ipp", "9100/tcp pdl-datastream"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = nmap(&lab, &["-n", "-sU", "-p", "5353", "--script", "dns-service-discovery", "192.0.2.12"]);
    assert!(said.contains("5353/udp open ") && said.contains("631/tcp ipp"), "{said}");

    // Simple resolvers.
    for (name, ip) in [("avahi.local", [192, 0, 2, 11]), ("desktop-7qk2m4a.local", [192, 0, 2, 10])] {
        let (from, answer) = ask(&lab, Ipv4Addr::new(224, 0, 0, 251), 5353, &question(name)).expect("an answer");
        assert_eq!(from, SocketAddr::from((ip, 5353)));
        assert!(answer.starts_with(&[0x12, 0x34, 0x84, 0]) && answer.ends_with(&ip), "{answer:x?}");
    }
    assert_eq!(ask(&lab, Ipv4Addr::new(224, 0, 0, 251), 5353, &question("server.local")), None);
    // dig takes no answer from another address than it asked, hence no group.
    for (program, args, found) in [
        ("dig", &["+short", "+time=2", "-p", "5353", "@192.0.2.11", "avahi.local"][..], "192.0.2.11"),
        ("nmblookup", &["-A", "192.0.2.10"], "DESKTOP-7QK2M4A"),
        ("nmblookup", &["-B", "192.0.2.255", "DESKTOP-7QK2M4A"], "192.0.2.10 DESKTOP-7QK2M4A<00>"),
    ] {
        let said = lab.attacker.sh(&[&[program], args].concat());
        assert!(said.contains(found), "{program}: {said}");
    }

    // Nothing of it is malformed, and no checksum is wrong.
    let odd = "!(ip.src == 192.0.2.2) && (_ws.malformed || _ws.expert.severity == 0x800000 || ip.checksum.status == 0 \
               || udp.checksum.status == 0 || igmp.checksum.status == 0)";
    let odd = heard.decoded(odd, &["frame.number", "frame.protocols", "ip.src"]);
    assert!(odd.is_empty(), "{odd:?}");
    // Each answer to one of us is at most three times what we sent: the longest question has some 80 octets.
    let answers = heard.decoded("ip.dst == 192.0.2.2 && !icmp && udp.srcport in {137, 5353, 5355}", &["ip.len"]);
    assert!(answers.len() >= 6 && answers.iter().all(|row| row[0].parse::<u32>().unwrap() <= 240), "{answers:?}");
}
