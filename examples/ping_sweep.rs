//! Sweeps a population with echo requests, in memory and in virtual time: real
//! frames through every node of a topology, each answer verified.
//!
//! ```text
//! cargo run --release --example ping_sweep [TOPOLOGY [PREFIX [GATEWAY]]]
//! ```
//!
//! Exits 1 if an address did not answer exactly once, or an answer was wrong.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;

use honeyweave::control::build_fabric;
use honeyweave::emulate::Secret;
use honeyweave::fabric::Fabric;
use honeyweave::netdev::Memory;
use honeyweave::node::{NodeConfig, NodeIdx, UplinkConfig};
use honeyweave::topology::{self, Options};
use honeyweave::wire::{Arp, Duration, ETH, Headers, Instant, Mac, Packet, dst_mac, ethertype, ethertype_of, proto};

const ATTACKER: Mac = Mac([0x02, 0x66, 0, 0, 0, 1]);
/// Requests on their way at once.
const WINDOW: u32 = 32;

/// A machine on the wire: it answers for its own address and counts echo replies.
struct Attacker {
    wire: Memory,
    ip: Ipv4Addr,
    gateway_mac: Option<Mac>,
    replies: HashSet<IpAddr>,
    wrong: Vec<String>,
}

impl Attacker {
    fn ask_gateway(&self, gateway: Ipv4Addr) {
        let arp = Arp {
            operation: Arp::REQUEST,
            sender_mac: ATTACKER,
            sender: self.ip,
            target_mac: Mac::ZERO,
            target: gateway,
        };
        let mut frame = [0; 42];
        arp.write(Mac::BROADCAST, ATTACKER, &mut frame);
        self.wire.send(&frame);
    }

    fn ping(&self, to: Ipv4Addr) {
        let Some(dst_mac) = self.gateway_mac else { return };
        let headers = Headers {
            dst_mac,
            src_mac: ATTACKER,
            src: self.ip.into(),
            dst: to.into(),
            proto: proto::ICMP,
            ttl: 64,
            tos: 0,
            ip_id: to.octets()[3].into(),
            df: false,
        };
        let mut frame = [0; ETH + 20 + 16];
        let at = headers.write(&mut frame, 16);
        frame[at] = 8;
        frame[at + 4..at + 8].copy_from_slice(&[0x12, 0x34, to.octets()[2], to.octets()[3]]);
        frame[at + 8..at + 12].copy_from_slice(&to.octets());
        headers.fill_checksum(&mut frame[at..]);
        self.wire.send(&frame);
    }

    fn listen(&mut self) {
        while let Some(frame) = self.wire.recv() {
            if ethertype_of(&frame) == ethertype::ARP {
                self.arp(&frame);
                continue;
            }
            let Ok(packet) = Packet::parse(&frame) else { continue };
            let message = packet.payload(&frame);
            if packet.proto != proto::ICMP || message.first() != Some(&0) {
                continue;
            }
            let IpAddr::V4(src) = packet.src() else { continue };
            let right = dst_mac(&frame) == ATTACKER
                && packet.checksum_ok(&frame)
                && packet.dst() == IpAddr::V4(self.ip)
                && message.get(8..12) == Some(&src.octets()[..]);
            if !right || !self.replies.insert(packet.src()) {
                self.wrong.push(format!("{src}: {frame:02x?}"));
            }
        }
    }

    fn arp(&mut self, frame: &[u8]) {
        let Some(arp) = Arp::parse(frame) else { return };
        if arp.operation == Arp::REPLY {
            self.gateway_mac = Some(arp.sender_mac);
        } else if arp.target == self.ip {
            let reply = Arp {
                operation: Arp::REPLY,
                sender_mac: ATTACKER,
                sender: self.ip,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            let mut frame = [0; 42];
            reply.write(arp.sender_mac, ATTACKER, &mut frame);
            self.wire.send(&frame);
        }
    }
}

/// Follows the deadlines until nothing moves for 50 ms: frames cross links with latency.
fn run(fabric: &mut Fabric, now: &mut Instant, attacker: &mut Attacker) {
    let end = *now + Duration::from_millis(50);
    loop {
        while fabric.step(*now, None) {}
        attacker.listen();
        while fabric.step(*now, None) {}
        match fabric.next_deadline().filter(|next| *next <= end) {
            Some(next) => *now = next.max(*now + Duration::from_micros(1)),
            None => return,
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "topologies/office.yaml".into());
    let prefix = args.next().unwrap_or_else(|| "10.1.0.0/16".into());
    let gateway = args.next().unwrap_or_else(|| "192.0.2.1".into());
    match sweep(&path, &prefix, &gateway) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ping_sweep: {error}");
            ExitCode::from(2)
        }
    }
}

fn sweep(path: &str, prefix: &str, gateway: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let options = Options { uplink: Some("memory".into()), ..Options::default() };
    let plan = topology::open(Path::new(path), &options)?.plan;
    let prefix: ipnet::Ipv4Net = prefix.parse()?;
    let gateway: Ipv4Addr = gateway.parse()?;
    let is_uplink = |node: &topology::PlanNode| matches!(node.config, NodeConfig::Uplink(_));
    let uplink = plan.nodes.iter().position(is_uplink).ok_or("the topology has no uplink")?;
    let mut fabric = build_fabric(&plan, Secret([7; 16]), 1, Box::new(()));
    let (inside, outside) = Memory::pair(1500)?;
    fabric.attach(NodeIdx(uplink as u16), Some(UplinkConfig::WIRE), Box::new(inside), "memory", None);
    let ip = Ipv4Addr::from(u32::from(gateway) + 99);
    let mut attacker = Attacker { wire: outside, ip, gateway_mac: None, replies: HashSet::new(), wrong: Vec::new() };

    let mut now = Instant::from_secs(1);
    attacker.ask_gateway(gateway);
    run(&mut fabric, &mut now, &mut attacker);
    if attacker.gateway_mac.is_none() {
        return Err(format!("{gateway} does not answer ARP").into());
    }
    let (first, last) = (u32::from(prefix.network()), u32::from(prefix.broadcast()));
    let expected = u64::from(last - first) + 1;
    for block in (first..=last).step_by(WINDOW as usize) {
        (block..=last.min(block + (WINDOW - 1))).for_each(|ip| attacker.ping(ip.into()));
        run(&mut fabric, &mut now, &mut attacker);
    }
    println!("{path}: {} of {expected} addresses of {prefix} answered", attacker.replies.len());
    for wrong in attacker.wrong.iter().take(5) {
        println!("wrong: {wrong}");
    }
    if fabric.frames_in_use() != 0 {
        println!("{} buffers were not given back", fabric.frames_in_use());
    }
    if attacker.replies.len() as u64 != expected {
        println!("drops: {}", fabric.show_drops());
    }
    Ok(attacker.replies.len() as u64 == expected && attacker.wrong.is_empty() && fabric.frames_in_use() == 0)
}
