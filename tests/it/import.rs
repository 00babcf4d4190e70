//! A network is scanned, and what is made of the scan answers like the network.

use std::process::{Command, Output};

use crate::lab::{Lab, PROGRAM};

const SCANNED: &str = r#"
name: scanned
templates:
  server:
    personality: linux
    tcp_default: filtered
    tcp:
      22: {banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"}
      80: {http: {server: nginx/1.22.1, pages: {/: "<h1>Intranet</h1>"}}}
      443: closed
  desktop: {personality: windows, tcp: {445: open, 23: filtered}}
nodes:
  wan: {kind: uplink}
  edge:
    kind: router
    interfaces: {wan: [192.0.2.1/24], lan: [10.3.0.1/24]}
  core: {kind: switch}
  web: {kind: host, address: 10.3.0.10, template: server}
  desktops: {kind: hosts, addresses: 10.3.0.20-10.3.0.21, template: desktop}
  near: {kind: host, address: 192.0.2.50, template: desktop, mac: "b8:ca:3a:01:02:03"}
  front: {kind: switch}
links:
  - endpoints: [wan, "front:1"]
  - endpoints: [near, "front:2"]
  - endpoints: ["edge:wan", "front:3"]
  - endpoints: ["edge:lan", "core:1"]
  - {endpoints: [web, "core:2"], delay: 20ms}
  - endpoints: [desktops, "core:3"]
"#;

fn honeyweave(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

/// Attributes of interest of a scan: address, port and state, in the order of the scan.
fn ports(xml: &str) -> Vec<(String, String)> {
    let attribute = |text: &str, name: &str| {
        let at = text.find(&format!("{name}=\"")).map(|at| at + name.len() + 2)?;
        text[at..].split('"').next().map(str::to_owned)
    };
    let mut found = Vec::new();
    for host in xml.split("<host ").skip(1).filter(|host| host.contains("state=\"up\"")) {
        let address = host.split("<address ").nth(1).and_then(|rest| attribute(rest, "addr")).expect("an address");
        for port in host.split("<port ").skip(1) {
            let (number, state) = (attribute(port, "portid").unwrap(), attribute(port, "<state state").unwrap());
            let said = attribute(port.split("</port>").next().unwrap(), "product").unwrap_or_default();
            found.push((address.clone(), format!("{number} {state} {said}")));
        }
    }
    found
}

fn scan(lab: &Lab) -> String {
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let args = [
        "nmap",
        "-n",
        "-sS",
        "-sV",
        "--version-intensity",
        "0",
        "-Pn",
        "--traceroute",
        "-T4",
        "-p",
        "22,23,80,443,445",
    ];
    lab.attacker.sh(&[&args[..], &["-oX", "-", "192.0.2.50", "10.3.0.10", "10.3.0.20-21"]].concat())
}

#[test]
fn a_scanned_network_is_mimicked() {
    let lab = Lab::up(SCANNED);
    let xml = scan(&lab);
    let file = lab.file("scan.xml", &xml);
    let output = lab.path("mimicked.yaml");
    let (file, output) = (file.to_str().unwrap(), output.to_str().unwrap());
    let imported = honeyweave(&["import", "nmap", file, "-o", output]);
    let said = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(imported.status.success(), "{said}");
    let text = std::fs::read_to_string(output).unwrap();
    let checked = honeyweave(&["check", output]);
    assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
    assert!(text.contains("mac: \"b8:ca:3a:01:02:03\"") && text.contains("up: [\"192.0.2.1/24\"]"), "{text}");
    let again = honeyweave(&["import", "nmap", file, "-o", output]);
    assert_eq!(again.status.code(), Some(1), "it does not overwrite");
    assert!(honeyweave(&["import", "nmap", file, "-o", output, "--force"]).status.success());
    drop(lab);

    let lab = Lab::up(&text);
    let mimicked = scan(&lab);
    assert_eq!(ports(&mimicked), ports(&xml), "{text}");
    assert_eq!(ports(&xml).len(), 20, "{xml}");
}

#[test]
fn a_honeyd_configuration_comes_to_life() {
    let mut lab = Lab::shared();
    let conf = lab.file(
        "honeyd.conf",
        "create web\nset web personality \"Linux 2.6.20\"\nset web default tcp action reset\nadd web tcp port 7 \"/bin/cat\"\n\
         route entry 10.0.0.1 network 10.0.0.0/8\nroute 10.0.0.1 link 10.0.0.0/24\n\
         route 10.0.0.1 add net 10.1.0.0/24 10.1.0.1 latency 20ms\nroute 10.1.0.1 link 10.1.0.0/24\nbind 10.1.0.5 web\n",
    );
    let imported = honeyweave(&["import", "honeyd", conf.to_str().unwrap(), "--json"]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let value: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(value["warnings"][0]["line"], 5, "{value:#}");
    lab.start(value["yaml"].as_str().unwrap());
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let said = lab.attacker.sh(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.1.0.5"]);
    assert!(said.contains("ttl=62"), "two routers are on the way: {said}");
    let shortest = said.split("min/avg/max/mdev = ").nth(1).and_then(|rest| rest.split('/').next());
    let ms: f64 = shortest.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(ms >= 40.0, "20 ms in either direction: {said}");
    let echo = lab.attacker.sh(&["bash", "-c", "exec 3<>/dev/tcp/10.1.0.5/7; echo hello >&3; head -n 1 <&3"]);
    assert_eq!(echo, "hello\n");
}

#[test]
fn input_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty");
    std::fs::write(&file, "").unwrap();
    for args in
        [["import", "nmap", file.to_str().unwrap()], ["import", "honeyd", "/bin/true"], ["import", "honeyd", "/none"]]
    {
        let output = honeyweave(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}
