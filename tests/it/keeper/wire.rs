//! The other side of a container's network.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use honeyweave::container::KeeperConfig;
use honeyweave::emulate::Identity;
use honeyweave::wire::Mac;
use rustix::event::{PollFd, PollFlags};

use crate::net::{Ns, wait_for};

/// The switch's end of a container's `eth0`.
pub struct Tap(pub OwnedFd);

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OUR_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
/// Octets of the virtio header in front of each frame.
const VNET: usize = 10;

impl Tap {
    pub fn send(&self, to: [u8; 6], ethertype: u16, payload: &[u8]) {
        let mut frame = vec![0; VNET];
        frame.extend(to);
        frame.extend(OUR_MAC);
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        // The device is down until the container has it, and gives EIO.
        let _ = rustix::io::write(&self.0, &frame);
    }

    pub fn recv(&self) -> Option<Vec<u8>> {
        let mut frame = [0; 2048];
        let got = rustix::io::read(&self.0, frame.as_mut_slice()).ok()?;
        frame.get(VNET..got).map(<[u8]>::to_vec)
    }

    /// Asks by ARP until `ip` answers; returns its MAC.
    pub fn arp(&self, ip: Ipv4Addr) -> Mac {
        let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
        request.extend(OUR_MAC);
        request.extend(OUR_IP.octets());
        request.extend([0; 6]);
        request.extend(ip.octets());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            self.send([0xff; 6], 0x0806, &request);
            std::thread::sleep(Duration::from_micros(500));
            while let Some(frame) = self.recv() {
                if frame[12..14] == [8, 6] && frame[21] == 2 && frame[28..32] == ip.octets() {
                    return Mac::from_slice(&frame[22..]).unwrap();
                }
            }
        }
        panic!("{ip} answers no ARP");
    }

    /// Sends an echo request and returns the TTL of the reply.
    pub fn ping(&self, mac: Mac, ip: Ipv4Addr) -> u8 {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0];
        packet.extend(OUR_IP.octets());
        packet.extend(ip.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        packet.extend(icmp);
        wait_for("an echo reply", || {
            self.send(mac.0, 0x0800, &packet);
            std::thread::sleep(Duration::from_millis(2));
            while let Some(frame) = self.recv() {
                if frame[12..14] == [8, 6] && frame[21] == 1 && frame[38..42] == OUR_IP.octets() {
                    // It wants to know where we are.
                    let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
                    reply.extend(OUR_MAC);
                    reply.extend(OUR_IP.octets());
                    reply.extend(&frame[22..32]);
                    self.send(mac.0, 0x0806, &reply);
                } else if frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0 {
                    return Some(frame[22]);
                }
            }
            None
        })
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// Carries frames between a container and an interface `t0` of the attacker's until it is dropped.
pub struct Wire {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Wire {
    pub fn lay(tap: Tap, attacker: &Ns, addresses: &[&str]) -> Wire {
        let (other, _) =
            attacker.enter(|| honeyweave::sys::tap::open("t0", honeyweave::sys::tap::Offload::Tcp).unwrap());
        attacker.sh(&["ip", "link", "set", "t0", "up"]);
        addresses.iter().for_each(|address| attacker.addr("t0", address));
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let ends = [tap.0, other];
            let mut frame = [0; 65_600];
            while !stopped.load(Ordering::Relaxed) {
                let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                let mut fds = [&ends[0], &ends[1]].map(|fd| PollFd::new(fd, PollFlags::IN));
                let _ = rustix::event::poll(&mut fds, Some(&timeout));
                for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
                    while let Ok(got) = rustix::io::read(from, frame.as_mut_slice()) {
                        let _ = rustix::io::write(to, &frame[..got]);
                    }
                }
            }
        });
        Wire { stop, thread: Some(thread) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Logs in to `user:password@ip` and runs `command`; the host's key must be the one derived for `host` of `node`.
pub fn ssh(ns: &Ns, config: &KeeperConfig, (node, host): (&str, &str), login: &str, command: &str) -> String {
    let (user, rest) = login.split_once(':').unwrap();
    let (password, ip) = rest.split_once('@').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let seed = Identity::new(config.secret, node).ssh_seed(host.parse().unwrap());
    let key = honeyweave::container::keeper::SshKey::from_seed(seed).unwrap();
    std::fs::write(path("known"), format!("{ip} {}", key.public_line(""))).unwrap();
    std::fs::write(path("ask"), format!("#!/bin/sh\necho '{password}'\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(path("ask"), executable).unwrap();
    let known = format!("UserKnownHostsFile={}", path("known"));
    let target = format!("{user}@{ip}");
    wait_for("a log-in", || {
        let mut call = ns.command(&["setsid", "-w", "ssh", "-F", "/dev/null", "-o", &known]);
        call.args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5", "-o", "PubkeyAuthentication=no"]);
        call.args(["-o", "NumberOfPasswordPrompts=1", &target, command]);
        call.env("SSH_ASKPASS", path("ask")).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", "none");
        let output = call.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // The server is some milliseconds behind the network.
        if error.contains("Connection refused") {
            return None;
        }
        assert!(output.status.success(), "{command}: {error}{}", String::from_utf8_lossy(&output.stdout));
        Some(String::from_utf8(output.stdout).unwrap())
    })
}
