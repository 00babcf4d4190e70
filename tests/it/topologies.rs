//! The topologies that come with the program, each brought up on a wire.

use crate::lab::{Lab, process};
use crate::shell::shell;
use crate::typist::typing;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies");

fn up(name: &str) -> Lab {
    up_with(name, &[])
}

/// The same with files beside it.
fn up_with(name: &str, files: &[&str]) -> Lab {
    let mut lab = Lab::shared();
    for file in files {
        lab.file(file, &std::fs::read_to_string(format!("{FOLDER}/{file}")).unwrap());
    }
    lab.start(&std::fs::read_to_string(format!("{FOLDER}/{name}.yaml")).unwrap());
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab
}

fn ping(lab: &Lab, address: &str) {
    lab.attacker.sh(&["ping", "-c", "1", "-W", "2", address]);
}

/// What an intruder fetches from elsewhere is asked of somebody.
fn reaches_the_world(lab: &Lab, host: &str) {
    let open = "bash -c 'exec 3<>/dev/tcp/203.0.113.5/80 && echo through' 2>&1";
    assert_eq!(shell(&lab.attacker, host, open), "through\n");
    lab.wait_event("outward.reflect", |event| event["src"]["ip"] == host && event["dst"]["ip"] == "203.0.113.5");
}

fn end(mut lab: Lab) {
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn minimal_answers() {
    let lab = up("minimal");
    ping(&lab, "192.0.2.100");
    ping(&lab, "192.0.2.119");
    let page = lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://192.0.2.110/"]);
    assert!(page.contains("It works!"), "{page}");
    end(lab);
}

#[test]
fn sixteen_million_hosts_of_a_campus_fit_into_little_memory() {
    let lab = up("campus");
    let switch = process(&lab, "switch").expect("the switch runs");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{switch}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let kib = resident();
    println!("the switch of a /8 has {kib} KiB");
    assert!(kib < 64 * 1024, "{kib} KiB");
    for address in ["10.0.0.0", "10.255.255.255", "10.1.2.3", "10.200.100.50"] {
        ping(&lab, address);
    }
    let output = lab.attacker.run(&["ping", "-c", "1", "-W", "1", "11.0.0.1"]);
    assert!(!output.status.success(), "that is no host of the campus");
    let hosts = lab.json(&["hosts", "ls"]);
    assert_eq!(hosts.as_array().map(Vec::len), Some(4), "only those that were spoken to: {hosts}");
    end(lab);
}

#[test]
fn office_has_its_desktops_its_servers_and_its_shells() {
    let lab = up_with("office", &["portal/recipe.yaml"]);
    ping(&lab, "10.1.0.0");
    ping(&lab, "10.1.255.255");
    let page = lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://10.10.0.10/phones.txt"]);
    assert_eq!(page, "reception 100\nit desk 117\n");
    let scan = lab.attacker.sh(&["nmap", "-n", "-sS", "-p", "80,631,9100", "10.20.0.50"]);
    assert_eq!(scan.matches(" open ").count(), 3, "{scan}");
    let inside = shell(&lab.attacker, "10.10.0.20", "ping -c 1 -W 2 10.1.77.78; ping -c 1 -W 2 10.20.0.2; hostname");
    assert_eq!(inside.matches("1 packets received").count(), 2, "{inside}");
    assert_eq!(shell(&lab.attacker, "10.10.0.30", "hostname"), "build01\n");
    let portal = lab.attacker.sh(&["curl", "-skf", "--retry", "5", "--retry-all-errors", "https://10.10.0.13/"]);
    assert!(portal.contains("<h1>Portal</h1>"), "{portal}");
    lab.wait_told("service.request", "10.10.0.13", &["GET /"]);
    assert_eq!(shell(&lab.attacker, "10.10.0.13", "hostname"), "portal\n");
    lab.wait_told("ssh.command", "10.10.0.13", &["hostname"]);
    end(lab);
}

#[test]
fn virtual_machines_live_among_emulated_ones() {
    let mut lab = up("virtual-machines");
    let machine = lab.ns("machine");
    crate::net::sh(&["ip", "-n", &lab.wire.name, "link", "set", "hw-vm1", "netns", &machine.name]);
    machine.sh(&["ip", "link", "set", "hw-vm1", "up"]);
    machine.addr("hw-vm1", "10.5.0.2/24");
    machine.sh(&["ip", "route", "add", "default", "via", "10.5.0.1"]);
    machine.sh(&["ping", "-c", "1", "-W", "2", "10.5.0.105"]);
    ping(&lab, "10.5.0.2");
    let mut server = machine.spawn(&["iperf3", "-s", "-1", "--forceflush"]);
    server.wait_line("Server listening");
    lab.attacker.sh(&["iperf3", "-c", "10.5.0.2", "-n", "2M"]);
    lab.down();
    assert!(!machine.sh(&["ip", "-o", "link"]).contains("hw-vm1"), "it is removed wherever it is");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn two_containers_measure_each_other() {
    let lab = up("two-containers");
    // They are there without being asked for; systems of that size take a moment.
    for host in ["192.0.2.11", "192.0.2.12"] {
        lab.wait_event("container.start", |event| event["dst"]["ip"] == host);
    }
    shell(&lab.attacker, "192.0.2.11", "iperf3 -s -1 -D");
    let report = shell(&lab.attacker, "192.0.2.12", "iperf3 -c 192.0.2.11 -n 3M");
    assert!(report.contains("receiver"), "{report}");
    reaches_the_world(&lab, "192.0.2.12");
    let greeting = lab.attacker.run(&["ssh-keyscan", "-t", "ed25519", "-T", "5", "192.0.2.12"]);
    assert!(String::from_utf8_lossy(&greeting.stderr).contains("OpenSSH"), "the real one: {greeting:?}");
    end(lab);
}

#[test]
fn what_is_said_to_containers_is_recorded() {
    let lab = up("recorded");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "id -u"), "0\n");
    lab.wait_event("ssh.command", |event| event["dst"]["ip"] == "192.0.2.20");
    reaches_the_world(&lab, "192.0.2.20");
    let page = ["curl", "-sf", "--retry", "5", "--retry-all-errors", "-A", "probe", "http://192.0.2.20/"];
    assert!(lab.attacker.sh(&page).contains("html"));
    let asked = lab.wait_event("service.request", |event| event["dst"]["ip"] == "192.0.2.20");
    assert!(asked["text"].as_str().is_some_and(|text| text.contains("agent=probe")), "{asked}");
    let sealed = ["openssl", "s_client", "-connect", "192.0.2.40:25", "-starttls", "smtp", "-quiet"];
    let quit = [&["sh", "-c", "echo QUIT | timeout 30 \"$@\" 2>/dev/null", "sh"][..], &sealed].concat();
    crate::net::wait_for("the mail server", || lab.attacker.run(&quit).status.success().then_some(()));
    lab.wait_event("tls.hello", |event| event["dst"]["ip"] == "192.0.2.40");
    end(lab);
}

#[test]
fn appliances_are_spoken_to_by_https_and_telnet() {
    let files =
        ["recipe.yaml", "tasks/20-appliance.sh", "files/var/www/index.html"].map(|file| format!("appliance/{file}"));
    let lab = up_with("appliances", &files.each_ref().map(String::as_str));
    let from = &lab.attacker;
    let name = "hvac3.example.org:443:192.0.2.50";
    let page = from.ask(&["curl", "-skf", "-A", "probe", "--resolve", name, "https://hvac3.example.org/"]);
    assert!(page.contains("HVAC-210"), "{page}");
    lab.wait_told("tls.hello", "192.0.2.50", &["hvac3.example.org"]);
    lab.wait_told("service.request", "192.0.2.50", &["GET /", "agent=probe"]);
    // Without TLS nothing is said, and nothing reset.
    let hung_up = from.run(&["curl", "-sS", "--max-time", "30", "http://192.0.2.50:443/"]);
    assert!(String::from_utf8_lossy(&hung_up.stderr).contains("Empty reply from server"), "{hung_up:?}");

    let lines = [("login: ", "admin"), ("assword: ", "admin"), (r"\$ ", "cat /etc/motd"), (r"1\.4\.2.*\$ ", "exit")];
    typing(&lines, &["telnet", "192.0.2.51"], |words| from.sh(words));
    lab.wait_told("service.login", "192.0.2.51", &["admin", "true"]);
    lab.wait_told("service.request", "192.0.2.51", &["cat /etc/motd"]);
    let sessions = lab.json(&["session", "ls", "--host", "192.0.2.51"]);
    let shown = lab.command(&["session", "show", sessions[0]["session"].as_str().unwrap()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let typed = shown.split_once("lines typed by Telnet\n").unwrap_or_else(|| panic!("{shown}")).1;
    assert!(typed.contains("cat /etc/motd") && !shown.contains("commands without a shell"), "{shown}");
    end(lab);
}
