//! Hosts that lease their addresses from a real server, dnsmasq, in a namespace of its own.

use std::path::PathBuf;

use crate::claim::{neighbor, pings};
use crate::lab::Lab;
use crate::listener::Listener;
use crate::net::{Ns, Running, wait_for};

/// Two nodes, so that different systems are clients.
const TOPOLOGY: &str = r#"
name: leases
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  staff:
    kind: hosts
    dhcp: {hosts: 3}
    personality: windows
    vendor: dell
    tcp: {80: {http: {pages: {/: leased}}}, 445: open}
  servers: {kind: hosts, dhcp: {hosts: 1}, personality: linux, tcp: {21: {ftp: {}}}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [staff, "core:2"]
  - endpoints: [servers, "core:3"]
"#;

/// dnsmasq on the attacker's side of the wire, and what it has leased.
struct Server {
    _dnsmasq: Running,
    leases: PathBuf,
}

/// A lease in dnsmasq's file.
#[derive(Clone, PartialEq, Debug)]
struct Lease {
    mac: String,
    ip: String,
    name: String,
    client_id: String,
}

impl Server {
    /// A pool of 192.0.2.`range`, for two minutes each: the least that dnsmasq gives.
    fn start(lab: &Lab, ns: &Ns, interface: &str, range: (u8, u8)) -> Server {
        let leases = lab.path("dnsmasq.leases");
        let (first, last) = range;
        let pool = format!("--dhcp-range=192.0.2.{first},192.0.2.{last},255.255.255.0,120");
        let file = format!("--dhcp-leasefile={}", leases.display());
        let interface = format!("--interface={interface}");
        let mut dnsmasq = ns.spawn(&[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--group=root",
            "--pid-file=",
            "--log-facility=-",
            "--log-dhcp",
            "--dhcp-authoritative",
            "--bind-interfaces",
            &interface,
            &pool,
            &file,
        ]);
        dnsmasq.wait_line("DHCP, sockets bound exclusively to interface");
        Server { _dnsmasq: dnsmasq, leases }
    }

    fn leases(&self) -> Vec<Lease> {
        let text = std::fs::read_to_string(&self.leases).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let (_, mac, ip, name, client_id) =
                (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
            Some(Lease { mac, ip, name, client_id })
        });
        lines.collect()
    }
}

/// Waits until so many hosts have told that they have a lease; returns their addresses and MACs.
fn wait_leased(lab: &Lab, count: usize) -> Vec<(String, String)> {
    wait_for("leases", || {
        let all = lab.events().into_iter().filter(|event| event["event"] == "dhcp.leased");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
        let all: Vec<_> = all.map(|event| (text(&event["dst"]["ip"]), text(&event["dst"]["mac"]))).collect();
        (all.len() == count).then_some(all)
    })
}

fn leases_from_a_real_server(threads: u16) {
    let mut lab = Lab::shared();
    lab.threads = threads;
    lab.attacker.addr("eth0", "192.0.2.1/24");
    let server = Server::start(&lab, &lab.attacker, "eth0", (100, 150));
    let heard = Listener::start(&lab);
    lab.start(TOPOLOGY);
    let leased = wait_leased(&lab, 4);
    // What the server has written down is what they say they have.
    let known = server.leases();
    assert_eq!(known.len(), 4, "{known:?}");
    for (ip, mac) in &leased {
        let lease = known.iter().find(|lease| lease.ip == *ip).unwrap_or_else(|| panic!("{ip} of {known:?}"));
        assert_eq!(lease.mac, *mac);
        if lease.name.starts_with("DESKTOP-") {
            assert_eq!(lease.client_id, format!("01:{mac}"));
        } else {
            assert_eq!((lease.name.as_str(), lease.client_id.as_str()), ("servers-01", "*"));
        }
        assert!(pings(&lab.attacker, ip), "{ip}");
        let neighbor = lab.attacker.sh(&["ip", "neigh", "show", ip, "dev", "eth0"]);
        assert!(neighbor.contains(mac.as_str()), "{neighbor}");
    }
    let linux = known.iter().find(|lease| lease.name == "servers-01").unwrap();
    let windows: Vec<&Lease> = known.iter().filter(|lease| lease.name.starts_with("DESKTOP-")).collect();
    assert_eq!(windows.len(), 3);
    // They are hosts like any other: services, closed ports, sessions.
    let page = lab.attacker.sh(&["curl", "-s", "--max-time", "5", &format!("http://{}/", windows[0].ip)]);
    assert_eq!(page, "leased");
    lab.wait_event("tcp.open", |event| event["dst"]["ip"] == *windows[0].ip);
    assert!(!lab.attacker.run(&["nc", "-z", "-w", "2", &windows[0].ip, "81"]).status.success());
    let rows = lab.json(&["hosts", "ls"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().all(|row| row["state"] == "leased"), "{rows:?}");
    let status = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    assert!(status.contains("leases      4 taken, 0 lost"), "{status}");

    // What a listener sees.
    let fields =
        ["ip.ttl", "ip.id", "dhcp.option.type", "dhcp.option.request_list_item", "dhcp.option.vendor_class_id"];
    let of = |lease: &Lease, kind: u8| {
        let rows = heard.decoded(&format!("dhcp.option.dhcp == {kind} && eth.src == {}", lease.mac), &fields);
        rows.into_iter().next().unwrap_or_else(|| panic!("no message {kind} of {lease:?}"))
    };
    let discover = of(windows[0], 1);
    assert_eq!((discover[0].as_str(), discover[4].as_str()), ("128", "MSFT 5.0"));
    assert_eq!(discover[3], "1,3,6,15,31,33,43,44,46,47,119,121,249,252");
    assert!(discover[2].starts_with("53,61,12,60,55"), "{discover:?}");
    let discover = of(linux, 1);
    assert_eq!(discover, ["128", "0x0000", "53,12,55,0", "1,28,2,3,15,6,119,12,44,47,26,121,42", ""]);
    let fqdn = heard.decoded(&format!("dhcp.option.dhcp == 3 && eth.src == {}", windows[1].mac), &["dhcp.fqdn.name"]);
    assert_eq!(fqdn[0][0], windows[1].name);
    for lease in &known {
        let arp =
            |filter: &str| heard.decoded(&format!("{filter} && eth.src == {}", lease.mac), &["frame.number"]).len();
        let probes = if lease.name == "servers-01" { 1 } else { 3 };
        assert_eq!(arp(&format!("arp.isprobe && arp.dst.proto_ipv4 == {}", lease.ip)), probes);
        assert!(arp(&format!("arp.isannouncement && arp.src.proto_ipv4 == {}", lease.ip)) >= 1);
    }
    assert_eq!(heard.decoded("udp.srcport == 68 && !(dhcp.option.end == 255)", &["frame.number"]).len(), 0);
    let odd = "dhcp && (_ws.malformed || udp.checksum.status == 0 || ip.checksum.status == 0) && udp.srcport == 68";
    assert!(heard.decoded(odd, &["frame.number"]).is_empty());
    // Nothing of it is a server's.
    assert!(heard.decoded("udp.srcport == 67 && ip.src != 192.0.2.1", &["frame.number"]).is_empty());
}

#[test]
fn hosts_lease_from_dnsmasq_and_answer_there() {
    leases_from_a_real_server(1);
}

#[test]
fn so_they_do_on_several_threads() {
    leases_from_a_real_server(3);
}

#[test]
fn an_address_that_a_real_machine_has_is_declined() {
    let mut lab = Lab::shared();
    // The server, and a machine that has an address of the pool without having asked for it, behind one bridge.
    let owner = neighbor(&lab);
    lab.attacker.addr("br0", "192.0.2.1/24");
    owner.addr("eth0", "192.0.2.100/24");
    // It does not answer pings, by which dnsmasq would find it.
    owner.sh(&["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"]);
    let server = Server::start(&lab, &lab.attacker, "br0", (100, 101));
    lab.start(
        "name: leases\nnodes:\n  wan: {kind: uplink}\n  staff: {kind: hosts, dhcp: {hosts: 2}, personality: linux}\n\
         links:\n  - endpoints: [wan, staff]\n",
    );
    let declined = lab.wait_event("dhcp.declined", |event| event["dst"]["ip"] == "192.0.2.100");
    let own = owner.sh(&["cat", "/sys/class/net/eth0/address"]);
    assert_eq!(declined["src"]["mac"], own.trim());
    let leased = wait_leased(&lab, 1);
    assert_eq!(leased[0].0, "192.0.2.101");
    assert!(pings(&lab.attacker, "192.0.2.101"));
    let neighbor = lab.attacker.run(&["arping", "-I", "br0", "-c", "3", "192.0.2.100"]);
    let said = String::from_utf8_lossy(&neighbor.stdout).to_lowercase();
    assert!(said.contains(own.trim()) && said.matches("reply from").count() <= 3, "{said}");
    // The server knows that it is in use: the other host gets nothing, and nobody else does.
    assert!(server.leases().iter().all(|lease| lease.ip == "192.0.2.101"), "{:?}", server.leases());
    let rows = lab.json(&["hosts", "ls"]);
    let seeking = rows.as_array().unwrap().iter().filter(|row| row["ip"].is_null()).count();
    assert_eq!(seeking, 1, "{rows}");
}
