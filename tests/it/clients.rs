//! Clients that an attacker uses, against emulated hosts.

use crate::lab::Lab;

/// A segment without a router, and a network behind one.
const PLAIN: &str = r#"
name: plain
templates:
  server:
    personality: linux
    vendor: supermicro
    tcp:
      22: {banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"}
      80: {http: {server: nginx/1.22.1, pages: {/: "<html><h1>It works!</h1></html>", /robots.txt: {body: "User-agent: *\n", type: text/plain}}}}
      443: filtered
    udp:
      53: {reply: "\0\0 who asks?"}
      161: open
      123: filtered
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  servers: {kind: hosts, addresses: [192.0.2.100-192.0.2.119, "2001:db8::100-2001:db8::13f"], template: server}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [servers, "core:2"]
"#;

fn plain() -> Lab {
    let lab = Lab::up(PLAIN);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab.attacker.addr("eth0", "2001:db8::2/64");
    lab
}

#[test]
fn ping_is_answered_and_recorded() {
    let mut lab = plain();
    let said = lab.attacker.sh(&["ping", "-c", "3", "-i", "0.05", "-W", "2", "192.0.2.100"]);
    assert!(said.contains("3 packets transmitted, 3 received"), "{said}");
    assert!(said.contains("ttl=64"), "{said}");
    let absent = lab.attacker.run(&["ping", "-c", "1", "-W", "1", "192.0.2.99"]);
    assert!(!absent.status.success(), "nobody is there");
    let echo = lab.wait_event("icmp.echo", |event| event["dst"]["ip"] == "192.0.2.100");
    assert_eq!(echo["src"]["ip"], "192.0.2.2");
    let mac = lab.attacker.sh(&["cat", "/sys/class/net/eth0/address"]);
    assert_eq!(echo["src"]["mac"], mac.trim());
    let start = lab.wait_event("session.start", |event| event["dst"]["ip"] == "192.0.2.100");
    assert_eq!(start["session"], echo["session"]);
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn ping_over_ipv6_finds_the_neighbor_and_is_answered() {
    let lab = plain();
    let said = lab.attacker.sh(&["ping", "-6", "-c", "3", "-i", "0.05", "-W", "2", "2001:db8::100"]);
    assert!(said.contains("3 packets transmitted, 3 received"), "{said}");
    assert!(said.contains("ttl=64"), "{said}");
    let neighbor = lab.attacker.sh(&["ip", "-6", "neigh", "show", "2001:db8::100"]);
    assert!(neighbor.contains("lladdr 00:25:90"), "a MAC of the template's vendor: {neighbor}");
    let large = lab.attacker.sh(&["ping", "-6", "-c", "1", "-s", "1452", "-W", "2", "2001:db8::101"]);
    assert!(large.contains("1460 bytes from 2001:db8::101"), "{large}");
    let absent = lab.attacker.run(&["ping", "-6", "-c", "1", "-W", "1", "2001:db8::99"]);
    assert!(!absent.status.success(), "nobody is there");
    let echo = lab.wait_event("icmp.echo", |event| event["dst"]["ip"] == "2001:db8::100");
    assert_eq!(echo["src"]["ip"], "2001:db8::2");
    let asked = lab.wait_event("arp.request", |event| event["dst"]["ip"] == "2001:db8::100");
    assert_eq!(asked["session"], echo["session"]);
}

#[test]
fn arping_gets_one_answer_for_each_request() {
    let lab = plain();
    let arping = |more: &[&str]| {
        let output = lab.attacker.run(&[&["arping", "-I", "eth0", "-w", "4"], more].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = arping(&["-c", "2", "192.0.2.100"]);
    assert!(said.contains("Received 2 response(s)"), "{said}");
    assert!(said.contains("[00:25:90:"), "a MAC of the template's vendor: {said}");
    let mac = |said: &str| said.split(['[', ']']).nth(1).map(str::to_owned);
    assert_eq!(mac(&said), mac(&arping(&["-c", "1", "192.0.2.100"])), "it keeps its MAC");
    assert_ne!(mac(&said), mac(&arping(&["-c", "1", "192.0.2.101"])), "its neighbor has another");
    // The test for duplicates that a client does before it takes an address.
    let taken = arping(&["-D", "-c", "1", "192.0.2.102"]);
    assert!(taken.contains("Received 1 response(s)"), "{taken}");
    let free = arping(&["-D", "-c", "1", "-w", "1", "192.0.2.50"]);
    assert!(free.contains("Received 0 response(s)"), "{free}");
}

#[test]
fn fping_finds_every_address_of_a_slash_16_by_itself() {
    let mut lab = Lab::up_alone(
        r#"
name: campus
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24], lan: [10.0.0.1/14]}
  desktops: {kind: hosts, addresses: 10.1.0.0/16, personality: windows, vendor: dell}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", desktops]
"#,
    );
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    // A fping has 65,535 sequence numbers, each of them taken for ten seconds: two halves.
    let begin = std::time::Instant::now();
    let half = |first: &str, last: &str| {
        lab.attacker.spawn(&["fping", "-q", "-s", "-i", "0.05", "-r", "2", "-t", "1000", "-g", first, last])
    };
    let halves = [half("10.1.0.0", "10.1.127.255"), half("10.1.128.0", "10.1.255.255")];
    for sweep in halves {
        let (_, said) = sweep.wait();
        assert!(said.lines().any(|line| line.trim() == "32768 alive"), "{said}");
        assert!(said.lines().any(|line| line.trim() == "0 unreachable"), "{said}");
        println!("{said}");
    }
    println!("fping over a /16: {:?}", begin.elapsed());
    // Nothing was answered by chance: next to the /16 there is nobody.
    let beside = lab.attacker.run(&["fping", "-q", "-s", "-r", "0", "-t", "300", "-g", "10.2.0.0", "10.2.0.9"]);
    assert!(String::from_utf8_lossy(&beside.stderr).contains("10 unreachable"), "{beside:?}");
    let echo = lab.wait_event("icmp.echo", |event| event["dst"]["ip"] == "10.1.255.255");
    let mac = lab.attacker.sh(&["cat", "/sys/class/net/eth0/address"]);
    assert_eq!(echo["src"]["mac"], mac.trim(), "the attacker's, not the router's");
    lab.down();
}

/// What nmap found: `(address, (port, protocol, state)...)`, from its XML.
fn nmap(lab: &Lab, args: &[&str]) -> Vec<(String, Vec<(u16, String)>)> {
    let xml = lab.attacker.sh(&[&["nmap", "-n", "-oX", "-"], args].concat());
    let attribute = |text: &str, name: &str| {
        let at = text.find(&format!("{name}=\""))? + name.len() + 2;
        text[at..].split('"').next().map(str::to_owned)
    };
    let mut hosts = Vec::new();
    for host in
        xml.replace("<host>", "<host ").split("<host ").skip(1).filter(|host| host.contains("<status state=\"up\""))
    {
        let address = host.split("<address ").nth(1).and_then(|rest| attribute(rest, "addr")).expect("an address");
        let ports = host.split("<port ").skip(1).map(|port| {
            let number = attribute(port, "portid").and_then(|number| number.parse().ok()).expect("a port's number");
            (number, attribute(port, "<state state").expect("a state"))
        });
        hosts.push((address, ports.collect()));
    }
    hosts
}

#[test]
fn nmap_sn_finds_the_hosts_and_nobody_else() {
    let lab = plain();
    let found: Vec<String> = nmap(&lab, &["-sn", "192.0.2.96/27"]).into_iter().map(|(address, _)| address).collect();
    let there: Vec<String> = (100..=119).map(|host| format!("192.0.2.{host}")).collect();
    assert_eq!(found, there);
    // By echo requests and probes of ports instead of ARP.
    let found = nmap(&lab, &["-sn", "--disable-arp-ping", "192.0.2.98-101"]);
    assert_eq!(found.iter().map(|(address, _)| address.as_str()).collect::<Vec<_>>(), ["192.0.2.100", "192.0.2.101"]);
}

#[test]
fn nmap_ss_reports_the_state_of_every_port() {
    let lab = plain();
    let found = nmap(&lab, &["-sS", "-Pn", "-p", "21-23,80,443,8080", "192.0.2.100,119"]);
    let states = [(21, "closed"), (22, "open"), (23, "closed"), (80, "open"), (443, "filtered"), (8080, "closed")];
    let states: Vec<(u16, String)> = states.map(|(port, state)| (port, state.to_owned())).to_vec();
    assert_eq!(found, [("192.0.2.100".to_owned(), states.clone()), ("192.0.2.119".to_owned(), states.clone())]);
    let found = nmap(&lab, &["-6", "-sS", "-Pn", "-p", "21-23,80,443,8080", "2001:db8::100"]);
    assert_eq!(found, [("2001:db8::100".to_owned(), states)]);
    for (port, answer) in [(22, "open"), (21, "closed"), (443, "filtered")] {
        let probe =
            lab.wait_event("tcp.probe", |event| event["dst"]["ip"] == "192.0.2.100" && event["dst"]["port"] == port);
        assert_eq!(probe["answer"], answer, "{probe}");
    }
    assert!(lab.events().iter().all(|event| event["event"] != "tcp.open"), "half-open scans open nothing");
}

#[test]
fn nmap_st_scans_every_port_of_a_host() {
    let lab = plain();
    let found = nmap(&lab, &["-sT", "-Pn", "-p-", "--max-retries", "2", "192.0.2.105"]);
    let [(_, ports)] = &found[..] else { panic!("{found:?}") };
    let told: Vec<(u16, &str)> = ports.iter().map(|(port, state)| (*port, state.as_str())).collect();
    assert_eq!(told, [(22, "open"), (80, "open"), (443, "filtered")], "65,532 others are closed");
}

#[test]
fn nmap_su_reports_the_state_of_every_port() {
    let lab = plain();
    let found = nmap(&lab, &["-sU", "-Pn", "-p", "53,54,123,161", "--max-retries", "2", "192.0.2.100"]);
    let states = [(53, "open"), (54, "closed"), (123, "open|filtered"), (161, "open|filtered")];
    let states: Vec<(u16, String)> = states.map(|(port, state)| (port, state.to_owned())).to_vec();
    assert_eq!(found, [("192.0.2.100".to_owned(), states)]);
    let closed = lab.wait_event("udp.datagram", |event| event["dst"]["port"] == 54);
    assert_eq!(closed["answer"], "closed");
}

#[test]
fn curl_gets_the_pages_of_a_static_site() {
    let lab = plain();
    let curl = |args: &[&str]| lab.attacker.sh(&[&["curl", "-sS", "--max-time", "5"], args].concat());
    let page = curl(&["-i", "http://192.0.2.100/"]);
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("Server: nginx/1.22.1"), "{head}");
    assert_eq!(body, "<html><h1>It works!</h1></html>");
    let robots = curl(&["-i", "http://192.0.2.100/robots.txt"]);
    assert!(robots.contains("text/plain") && robots.ends_with("User-agent: *\n"), "{robots}");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://192.0.2.100/nothing"]), "404");
    let head = curl(&["-I", "http://[2001:db8::100]/"]);
    assert!(head.starts_with("HTTP/1.1 200 OK") && !head.contains("It works"), "{head}");
    // Two requests on one connection.
    let twice = curl(&["-w", "%{num_connects} ", "http://192.0.2.101/", "http://192.0.2.101/robots.txt"]);
    assert_eq!(twice, "<html><h1>It works!</h1></html>1 User-agent: *\n0 ");
    let request = lab.wait_event("service.request", |event| event["dst"]["ip"] == "192.0.2.100");
    assert_eq!(request["dst"]["port"], 80);
    let closed = lab.wait_event("tcp.close", |event| event["session"] == request["session"]);
    assert!(closed["bytes_out"].as_u64() > Some(31), "{closed}");
}

#[test]
fn a_banner_is_said_at_once() {
    let lab = plain();
    let output = lab.attacker.run(&["ssh-keyscan", "-T", "2", "192.0.2.100"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"), "{said}");
    let data = lab.wait_event("tcp.data", |event| event["dst"]["port"] == 22);
    assert_eq!(data["src"]["ip"], "192.0.2.2");
}
