//! Captures, read by a parser that is not ours: every frame that honeyweave
//! writes has the lengths and checksums that it should have, and a known
//! conversation has the very octets that it always had.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etherparse::{LaxPacketHeaders, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use honeyweave::control::build_fabric;
use honeyweave::emulate::Secret;
use honeyweave::fabric::Fabric;
use honeyweave::netdev::Memory;
use honeyweave::node::{NodeIdx, UplinkConfig};
use honeyweave::wire::Instant;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

use crate::lab::Lab;
use crate::shell::shell;

/// What is wrong with a frame, as etherparse sees it; `None` if nothing is.
fn flaw(frame: &[u8]) -> Option<String> {
    let packet = match PacketHeaders::from_ethernet_slice(frame) {
        Ok(packet) => packet,
        Err(error) => return Some(error.to_string()),
    };
    let payload = packet.payload.slice();
    if let Some(NetHeaders::Ipv4(ip, _)) = &packet.net
        && ip.header_checksum != ip.calc_header_checksum()
    {
        return Some("the IPv4 header's checksum is wrong".into());
    }
    let (found, right) = match (&packet.net, &packet.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
            (tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).ok()?)
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
            (tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).ok()?)
        }
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Udp(udp))) => {
            (udp.checksum, udp.calc_checksum_ipv4(ip, payload).ok()?)
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Udp(udp))) => {
            (udp.checksum, udp.calc_checksum_ipv6(ip, payload).ok()?)
        }
        (Some(NetHeaders::Ipv4(..)), Some(TransportHeader::Icmpv4(icmp))) => {
            (icmp.checksum, icmp.icmp_type.calc_checksum(payload))
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            (icmp.checksum, icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload).ok()?)
        }
        _ => return None,
    };
    (found != right).then(|| format!("the checksum is {found:04x} instead of {right:04x}"))
}

/// The frames of a capture of ours, as tcpdump reads them.
fn frames(file: &Path, filter: &str) -> Vec<Vec<u8>> {
    let output = Command::new("tcpdump").arg("-r").arg(file).args(["-w", "-", "-U", filter]).output().unwrap();
    assert!(output.status.success(), "{file:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut reader = PcapReader::new(&output.stdout[..]).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        assert_eq!(packet.orig_len as usize, packet.data.len(), "whole frames are kept");
        frames.push(packet.data.into_owned());
    }
    frames
}

#[test]
fn captures_of_a_real_attack_verify() {
    let mut lab = Lab::up(
        r#"
name: captures
templates:
  server:
    personality: linux
    tcp:
      80: {http: {pages: {/: "<h1>It works!</h1>"}}}
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, start: on-access}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24, "2001:db8::1/64"], lan: [10.3.0.1/24, "fd00:3::1/64"]}
  core: {kind: switch, ports: 4}
  lan: {kind: hosts, addresses: [10.3.0.10-10.3.0.20, "fd00:3::10-fd00:3::1f"], template: server}
  shells: {kind: hosts, addresses: 10.3.0.100-10.3.0.101, template: shell}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", "core:1"]
  - endpoints: [lan, "core:2"]
  - endpoints: [shells, "core:3"]
"#,
    );
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab.attacker.sh(&["ip", "-6", "route", "add", "default", "via", "2001:db8::1"]);
    // What comes from the attacker's kernel is complete then, too.
    lab.attacker.sh(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"]);
    lab.attacker.sh(&["ping", "-c", "2", "-i", "0.01", "-s", "1401", "10.3.0.10"]);
    lab.attacker.sh(&["ping", "-c", "2", "-i", "0.01", "-s", "77", "fd00:3::10"]);
    lab.attacker.run(&["traceroute", "-n", "-q", "1", "-w", "1", "10.3.0.12"]);
    lab.attacker.run(&["traceroute", "-6", "-n", "-q", "1", "-w", "1", "fd00:3::12"]);
    lab.attacker.run(&["nmap", "-n", "-Pn", "-sS", "-p", "79-81", "10.3.0.10-12"]);
    lab.attacker.run(&["nmap", "-n", "-Pn", "-sU", "-p", "53", "10.3.0.10"]);
    lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://10.3.0.11/"]);
    lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://[fd00:3::11]/"]);
    // Enough that a kernel would send it in super-frames.
    let sum = shell(
        &lab.attacker,
        "10.3.0.100",
        "iperf3 -s -1 -D; nmap -n -sS -p 80 10.3.0.10; wget -q -O - http://10.3.0.11/",
    );
    assert!(sum.contains("80/tcp open") && sum.ends_with("<h1>It works!</h1>"), "{sum}");
    lab.attacker.sh(&["iperf3", "-c", "10.3.0.100", "-n", "300K"]);
    lab.down();

    let captures = lab.own_dir().join("captures");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(&captures).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let frames = frames(&entry.path(), "");
        assert!(frames.len() > 20, "{name}: {} frames", frames.len());
        // The container's own kernel leaves checksums to its device: only what honeyweave wrote is complete.
        let own = name.starts_with("wan");
        let container = frames.iter().find(|f| f.len() > 42 && f[12..14] == [8, 0] && f[26..30] == [10, 3, 0, 100]);
        let container_mac = container.map(|frame| frame[6..12].to_vec());
        let mut checked = 0;
        for frame in frames.iter().filter(|frame| own || Some(&frame[6..12]) != container_mac.as_deref()) {
            if let Some(flaw) = flaw(frame) {
                let headers = LaxPacketHeaders::from_ethernet(frame);
                panic!("{name}: {flaw}: {headers:?}\n{frame:02x?}");
            }
            assert!(frame.len() <= 1514, "{name}: {} octets", frame.len());
            checked += 1;
        }
        println!("{name}: {checked} of {} frames verified", frames.len());
        kinds.push(name);
    }
    assert!(kinds.iter().any(|name| name.starts_with("wan")), "{kinds:?}");
    assert!(kinds.len() >= 2, "one for the container: {kinds:?}");
}

const MAC: [u8; 6] = [2, 0x66, 0, 0, 0, 1];
const ME: [u8; 4] = [192, 0, 2, 2];

/// A conversation in virtual time with a honeynet in memory; all frames of both sides.
struct Talk {
    fabric: Fabric,
    wire: Memory,
    now: Instant,
    frames: Vec<(Instant, Vec<u8>)>,
}

impl Talk {
    fn new(topology: &str) -> Talk {
        let plan = honeyweave::topology::parse("golden.yaml", topology).unwrap();
        let mut fabric = build_fabric(&plan, Secret([7; 16]), 42, Box::new(()));
        let (wire, device) = Memory::pair(1500).unwrap();
        fabric.attach(NodeIdx(0), Some(UplinkConfig::WIRE), Box::new(device), "wire", None);
        Talk { fabric, wire, now: Instant::from_micros(1_000_000), frames: Vec::new() }
    }

    /// Sends a frame and returns what comes back within a millisecond.
    fn say(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.frames.push((self.now, frame.to_vec()));
        self.wire.send(frame);
        self.listen(1_000)
    }

    fn listen(&mut self, micros: i64) -> Vec<Vec<u8>> {
        let end = self.now + honeyweave::wire::Duration::from_micros(micros as u64);
        let mut heard = Vec::new();
        loop {
            while self.fabric.step(self.now, None) {}
            while let Some(frame) = self.wire.recv() {
                self.frames.push((self.now, frame.clone()));
                heard.push(frame);
            }
            match self.fabric.next_deadline().filter(|next| *next < end) {
                Some(next) => self.now = next.max(self.now + honeyweave::wire::Duration::from_micros(1)),
                None => break self.now = end,
            }
        }
        heard
    }
}

fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MAC);
    frame.extend(ME);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

fn tcp(host: [u8; 4], mac: [u8; 6], l4_port: u16, seq: u32, ack: Option<u32>, flags: &str, data: &[u8]) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2(MAC, mac).ipv4(ME, host, 64).tcp(40_000, l4_port, seq, 64_240);
    builder = if flags.contains('S') { builder.syn() } else { builder };
    builder = if flags.contains('F') { builder.fin() } else { builder };
    builder = if flags.contains('P') { builder.psh() } else { builder };
    builder = match ack {
        Some(ack) => builder.ack(ack),
        None => builder,
    };
    let mut frame = Vec::new();
    builder.write(&mut frame, data).unwrap();
    frame
}

#[test]
fn a_known_conversation_has_the_octets_it_always_had() {
    let mut talk = Talk::new(
        r#"
name: golden
templates:
  server:
    personality: linux
    vendor: dell
    tcp: {80: {http: {server: nginx, pages: {/: "<h1>It works!</h1>"}}}}
  desktop: {personality: windows, vendor: lenovo, tcp: {445: open}}
  router: {personality: cisco-ios, vendor: cisco}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  server: {kind: host, address: 192.0.2.10, template: server}
  desktop: {kind: host, address: 192.0.2.11, template: desktop}
  router: {kind: host, address: 192.0.2.12, template: router}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [server, "core:2"]
  - endpoints: [desktop, "core:3"]
  - endpoints: [router, "core:4"]
"#,
    );
    let mut macs = Vec::new();
    for last in [10, 11, 12] {
        let host = [192, 0, 2, last];
        let heard = talk.say(&arp_request(host));
        let reply = heard.iter().find(|frame| frame[12..14] == [8, 6]).expect("an ARP reply");
        let mac: [u8; 6] = reply[22..28].try_into().unwrap();
        assert_eq!(reply[28..32], host);
        macs.push(mac);
        for seq in 1..=2 {
            let mut frame = Vec::new();
            let echo = PacketBuilder::ethernet2(MAC, mac).ipv4(ME, host, 64).icmpv4_echo_request(0x1234, seq);
            echo.write(&mut frame, b"0123456789abcdef").unwrap();
            assert_eq!(talk.say(&frame).len(), 1, "{host:?} answers");
        }
        // A closed port, and one that nobody listens on by UDP.
        assert_eq!(talk.say(&tcp(host, mac, 1, 1000, None, "S", b"")).len(), 1);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MAC, mac).ipv4(ME, host, 64).udp(40_000, 9).write(&mut frame, b"anyone?").unwrap();
        assert_eq!(talk.say(&frame).len(), 1);
    }
    // A whole connection with the server.
    let (host, mac) = ([192, 0, 2, 10], macs[0]);
    let heard = talk.say(&tcp(host, mac, 80, 5000, None, "S", b""));
    let ack = |frame: &[u8]| match PacketHeaders::from_ethernet_slice(frame).unwrap() {
        PacketHeaders { transport: Some(TransportHeader::Tcp(tcp)), payload, .. } => {
            tcp.sequence_number.wrapping_add(payload.slice().len() as u32).wrapping_add(u32::from(tcp.syn || tcp.fin))
        }
        other => panic!("{other:?}"),
    };
    let isn = ack(&heard[0]);
    talk.say(&tcp(host, mac, 80, 5001, Some(isn), "", b""));
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let heard = talk.say(&tcp(host, mac, 80, 5001, Some(isn), "P", request));
    assert!(heard.iter().any(|frame| frame.windows(18).any(|w| w == b"<h1>It works!</h1>")), "{heard:02x?}");
    let last = ack(heard.last().unwrap());
    let next = 5001 + request.len() as u32;
    talk.say(&tcp(host, mac, 80, next, Some(last), "F", b""));
    talk.listen(300_000_000);

    for (at, frame) in &talk.frames {
        assert_eq!(flaw(frame), None, "at {at}: {frame:02x?}");
    }
    let mut written = PcapWriter::new(Vec::new()).unwrap();
    for (at, frame) in &talk.frames {
        let at = Duration::from_micros(at.total_micros() as u64);
        written.write_packet(&PcapPacket::new(at, frame.len() as u32, frame)).unwrap();
    }
    let written = written.into_writer();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/conversation.pcap");
    if std::env::var_os("HONEYWEAVE_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &written).unwrap();
    }
    let expected = std::fs::read(&golden).unwrap();
    if written != expected {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conversation.pcap");
        std::fs::write(&beside, &written).unwrap();
        panic!(
            "the conversation in {} differs from {}: compare them, and if the change is meant run this test \
             with HONEYWEAVE_BLESS=1",
            beside.display(),
            golden.display()
        );
    }
}
