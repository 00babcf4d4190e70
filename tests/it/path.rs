//! Whether everything that tells a host's distance tells the same one: routers that traceroute lists, the
//! distance that nmap reckons, and the TTL or hop limit of all that a host sends.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::lab::Lab;
use crate::listener::Listener;

/// Three routers in a row. Behind the second and the third are hosts.
const TOPOLOGY: &str = r#"
name: path
defaults: {tcp: {80: open}}
nodes:
  wan: {kind: uplink}
  r1:
    kind: router
    interfaces: {wan: [192.0.2.1/24, 2001:db8::1/64], east: [10.255.1.1/30, fd00:1::1/64]}
    routes: [{to: 10.0.0.0/8, via: 10.255.1.2}, {to: fd00::/16, via: "fd00:1::2"}]
  r2:
    kind: router
    interfaces:
      west: [10.255.1.2/30, fd00:1::2/64]
      lan: [10.2.0.1/24, fd00:20::1/64]
      east: [10.255.2.1/30, fd00:2::1/64]
    routes:
      - {to: default, via: 10.255.1.1}
      - {to: default, via: "fd00:1::1"}
      - {to: 10.3.0.0/24, via: 10.255.2.2}
      - {to: fd00:30::/64, via: "fd00:2::2"}
  r3:
    kind: router
    interfaces: {west: [10.255.2.2/30, fd00:2::2/64], lan: [10.3.0.1/24, fd00:30::1/64]}
    routes: [{to: default, via: 10.255.2.1}, {to: default, via: "fd00:2::1"}]
  near: {kind: switch, ports: 8}
  far: {kind: switch, ports: 8}
  n-linux: {kind: host, address: [10.2.0.10, "fd00:20::10"], personality: linux}
  n-windows: {kind: host, address: [10.2.0.11, "fd00:20::11"], personality: windows}
  f-linux: {kind: host, address: [10.3.0.10, "fd00:30::10"], personality: linux}
  f-windows: {kind: host, address: [10.3.0.11, "fd00:30::11"], personality: windows}
  f-cisco: {kind: host, address: [10.3.0.12, "fd00:30::12"], personality: cisco-ios}
  f-plc: {kind: host, address: [10.3.0.13, "fd00:30::13"], personality: plc}
  NAMED
links:
  - endpoints: [wan, "r1:wan"]
  - endpoints: ["r1:east", "r2:west"]
  - endpoints: ["r2:east", "r3:west"]
  - endpoints: ["r2:lan", "near:1"]
  - endpoints: ["r3:lan", "far:1"]
  - endpoints: [n-linux, "near:2"]
  - endpoints: [n-windows, "near:3"]
  - endpoints: [f-linux, "far:2"]
  - endpoints: [f-windows, "far:3"]
  - endpoints: [f-cisco, "far:4"]
  - endpoints: [f-plc, "far:5"]
  LINK
"#;

/// One of nmap's own, where nmap's database is there.
const NAMED: &str = "f-named: {kind: host, address: [10.3.0.14, \"fd00:30::14\"], personality: \
                     \"Microsoft Windows 10 1607\"}";

const ROUTERS_V4: [&str; 3] = ["192.0.2.1", "10.255.1.2", "10.255.2.2"];
const ROUTERS_V6: [&str; 3] = ["2001:db8::1", "fd00:1::2", "fd00:2::2"];

/// A host: its address, the routers before it, and the TTLs that it begins with, of TCP and UDP and of ICMP.
struct Far {
    ip: &'static str,
    routers: usize,
    ttl: [u8; 2],
}

impl Far {
    fn is_v6(&self) -> bool {
        self.ip.contains(':')
    }

    /// The addresses on the way to it, its own included.
    fn way(&self) -> Vec<&'static str> {
        let routers = if self.is_v6() { ROUTERS_V6 } else { ROUTERS_V4 };
        routers[..self.routers].iter().copied().chain([self.ip]).collect()
    }
}

fn hosts(named: bool) -> Vec<Far> {
    let far = |ip, routers, ttl| Far { ip, routers, ttl };
    let mut all = vec![
        far("10.2.0.10", 2, [64, 64]),
        far("10.2.0.11", 2, [128, 128]),
        far("10.3.0.10", 3, [64, 64]),
        far("10.3.0.11", 3, [128, 128]),
        far("10.3.0.12", 3, [255, 255]),
        far("10.3.0.13", 3, [30, 30]),
        far("fd00:20::10", 2, [64, 64]),
        far("fd00:20::11", 2, [128, 128]),
        far("fd00:30::10", 3, [64, 64]),
        far("fd00:30::11", 3, [128, 128]),
        far("fd00:30::12", 3, [64, 64]),
        far("fd00:30::13", 3, [64, 64]),
    ];
    if named {
        all.extend([far("10.3.0.14", 3, [128, 128]), far("fd00:30::14", 3, [128, 128])]);
    }
    all
}

/// The addresses that a traceroute lists.
fn traceroute(lab: &Lab, args: &[&str]) -> Vec<String> {
    let said = lab.attacker.sh(&[&["traceroute", "-n", "-q", "1", "-w", "2", "-m", "8"], args].concat());
    said.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

/// What nmap says of each host that it scans together: the distance, if it does, and the hops of its traceroute.
fn nmap(lab: &Lab, hosts: &[&Far]) -> Vec<(Option<usize>, Vec<String>)> {
    let mut args = vec!["nmap", "-O", "--traceroute", "-n", "-Pn", "-p", "80,81", "--max-os-tries", "1", "-oX", "-"];
    if hosts.iter().any(|host| host.is_v6()) {
        args.push("-6");
    }
    args.extend(hosts.iter().map(|host| host.ip));
    let said = lab.attacker.sh(&args);
    let value = |part: &str, key: &str| -> Option<String> {
        Some(part.split_once(&format!("{key}=\""))?.1.split('"').next()?.to_owned())
    };
    let of_host = |host: &&Far| {
        let address = format!("<address addr=\"{}\"", host.ip);
        let said = said.split("<host ").find(|part| part.contains(&address)).unwrap_or_default();
        let distance = said.split_once("<distance ").and_then(|(_, rest)| value(rest, "value"));
        let hops = said.split("<hop ").skip(1).map(|rest| value(rest, "ipaddr").unwrap()).collect();
        (distance.map(|distance| distance.parse().unwrap()), hops)
    };
    hosts.iter().map(of_host).collect()
}

/// Asks for everything that a host may answer from afar.
fn provoke(lab: &Lab, ip: &str) {
    lab.attacker.sh(&["ping", "-c", "1", "-W", "5", ip]);
    let ip: std::net::IpAddr = ip.parse().unwrap();
    lab.attacker.enter(|| {
        drop(TcpStream::connect_timeout(&SocketAddr::new(ip, 80), Duration::from_secs(5)).unwrap());
        TcpStream::connect_timeout(&SocketAddr::new(ip, 81), Duration::from_secs(5)).unwrap_err();
        let any: SocketAddr = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(SocketAddr::new(ip, 9999)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 8]).unwrap_err();
    });
}

/// Whether every frame that `filter` chooses, at least one, has that TTL or hop limit in its outer header: an ICMP
/// error quotes another one.
fn outer_ttls(heard: &Listener, filter: &str, field: &str, wanted: u8) {
    heard.wait(&[filter]);
    for row in heard.decoded(filter, &[field]) {
        assert_eq!(row[0].split(',').next(), Some(&*wanted.to_string()), "{filter}: {row:?}");
    }
}

#[test]
fn everything_tells_the_same_distance() {
    let named = std::path::Path::new("/usr/share/nmap/nmap-os-db").exists() && cfg!(feature = "nmap-db");
    let with = |text: &'static str| if named { text } else { "" };
    let lab =
        Lab::up(&TOPOLOGY.replace("NAMED", with(NAMED)).replace("LINK", with("- endpoints: [f-named, \"far:6\"]")));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab.attacker.sh(&["ip", "-6", "route", "add", "default", "via", "2001:db8::1"]);
    let heard = Listener::start(&lab);
    let hosts = hosts(named);
    let (v6, v4): (Vec<&Far>, Vec<&Far>) = hosts.iter().partition(|host| host.is_v6());
    for family in [v4, v6] {
        for (host, (distance, hops)) in family.iter().zip(nmap(&lab, &family)) {
            assert_eq!(hops, host.way(), "nmap's traceroute");
            assert_eq!(distance, Some(host.routers + 1), "nmap's distance of {}", host.ip);
        }
    }
    for host in &hosts {
        let (v6, ip) = (host.is_v6(), host.ip);
        let family = if v6 { "-6" } else { "-4" };
        for probes in [&[][..], &["-I"], &["-T", "-p", "80"], &["-T", "-p", "81"]] {
            let found = traceroute(&lab, &[&[family], probes, &[ip]].concat());
            assert_eq!(found, host.way(), "traceroute {probes:?}");
        }
        provoke(&lab, ip);
        let (source, ttl) = if v6 { ("ipv6.src", "ipv6.hlim") } else { ("ip.src", "ip.ttl") };
        let (pong, unreachable) = if v6 {
            ("icmpv6.type == 129", "icmpv6.type == 1 && icmpv6.code == 4")
        } else {
            ("icmp.type == 0", "icmp.type == 3 && icmp.code == 3")
        };
        let tcp = host.ttl[0] - host.routers as u8;
        let icmp = host.ttl[1] - host.routers as u8;
        for (kind, wanted) in [
            ("tcp.flags == 0x12 && tcp.srcport == 80", tcp),
            ("tcp.flags & 4 && tcp.srcport == 81", tcp),
            (pong, icmp),
            (unreachable, icmp),
        ] {
            outer_ttls(&heard, &format!("{kind} && {source} == {ip}"), ttl, wanted);
        }
    }
    // What the routers say of a packet that went too far, and what they answer themselves, as Cisco's do.
    for (routers, initial, source, ttl, expired, pong) in [
        (ROUTERS_V4, 255, "ip.src", "ip.ttl", "icmp.type == 11", "icmp.type == 0"),
        (ROUTERS_V6, 64, "ipv6.src", "ipv6.hlim", "icmpv6.type == 3", "icmpv6.type == 129"),
    ] {
        for (before, ip) in routers.into_iter().enumerate() {
            lab.attacker.sh(&["ping", "-c", "1", "-W", "5", ip]);
            for kind in [expired, pong] {
                outer_ttls(&heard, &format!("{kind} && {source} == {ip}"), ttl, initial - before as u8);
            }
        }
    }
}
