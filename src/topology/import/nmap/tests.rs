//! Scans of nmap.

use crate::topology::Plan;
use crate::topology::import::{Imported, Settings, is_builtin, nmap};
use crate::topology::tests::good;

/// A scan with two routers on the way, as nmap 7.93 writes it, and with a name that means no good.
pub const CAMPUS: &str = include_str!("campus.xml");

fn import(text: &str) -> (Imported, Plan) {
    let settings = Settings { name: "scan.xml", known: &is_builtin };
    let imported = nmap(text.as_bytes(), settings).unwrap_or_else(|error| panic!("{error}: {text}"));
    let plan = good(&imported.yaml);
    (imported, plan)
}

fn fails(text: &str) -> String {
    nmap(text.as_bytes(), Settings { name: "scan.xml", known: &is_builtin }).unwrap_err().to_string()
}

/// A scan of hosts whose elements are `inner`.
fn scan(inner: &[String]) -> String {
    let hosts: Vec<String> =
        inner.iter().map(|inner| format!("<host><status state=\"up\"/>{inner}</host>\n")).collect();
    format!("<nmaprun>\n<scaninfo protocol=\"tcp\"/>\n{}</nmaprun>\n", hosts.concat())
}

fn address(ip: &str) -> String {
    format!("<address addr=\"{ip}\" addrtype=\"ipv4\"/>")
}

#[test]
fn a_whole_scan_is_mimicked() {
    let (imported, plan) = import(CAMPUS);
    let wanted = [
        "  linux-22-80:\n    personality: linux # Linux 5.0 - 5.4\n    tcp:\n",
        "      22: {banner: \"SSH-2.0-OpenSSH_8.4p1 Debian-5+deb11u1\\r\\n\"}\n",
        "      80: {http: {server: \"Apache/2.4.57 (Debian)\", pages:",
        "  windows-21-443:\n    personality: windows # Microsoft Windows Server 2019\n    tcp_default: filtered\n    tcp:\n",
        "      21: {banner: \"220 Microsoft FTP Service\\r\\n\"}\n      113: closed\n      443: {http: {server: \"Microsoft-IIS/10.0\", pages:",
        "</h1></body></html>\"}}, tls: true}\n",
        "      25: {banner: \"220 mx.example.org ESMTP Postfix\\r\\n\"}\n",
        "  sensor.example.org: {kind: host, address: \"192.0.2.9\", template: linux-22-80, mac: \"b8:27:eb:10:20:30\"}\n",
        "  h-10-30-0-10: {kind: host, address: \"10.30.0.10\", template: windows-21-443}\n",
        "  two-31m-x-y: {kind: host, address: \"10.30.0.11\", template: windows-21-443}\n",
        "      up: [\"192.0.2.1/24\"]\n",
        "      up: [\"172.16.5.2/24\"]\n",
        ": [\"10.30.0.1/24\"]\n",
        "      - {to: \"10.30.0.0/24\", via: \"172.16.5.2\"}\n",
        "    delay: 5ms\n",
        "    delay: 10ms\n",
        "address: \"2001:db8::25\"",
    ];
    for part in wanted {
        assert!(imported.yaml.contains(part), "no `{part}`:\n{}", imported.yaml);
    }
    assert!(imported.yaml.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{}", imported.yaml);
    assert!(!imported.yaml.contains("192.0.2.7"), "who is down, or only assumed to be up, is not there");
    for part in ["10.30.0.1 is one hop nearer", "192.0.2.1 is on the way", "3 hops away", "`-Pn`", "`-O`"] {
        assert!(
            imported.warnings.iter().any(|w| w.line > 0 && w.text.contains(part)),
            "{part}: {:#?}",
            imported.warnings
        );
    }
    assert_eq!(plan.nodes.iter().filter(|node| node.host_count() == 1).count(), 4, "{}", imported.yaml);
}

#[test]
fn services_within_tls_are_so_if_they_are_known() {
    let port = |number: u16, service: &str| {
        format!("<port protocol=\"tcp\" portid=\"{number}\"><state state=\"open\"/><service {service}/></port>")
    };
    let ports = [
        port(443, "name=\"https\""),
        port(990, "name=\"ftp\" tunnel=\"ssl\" product=\"vsftpd\" version=\"3.0.3\""),
        port(993, "name=\"imap\" tunnel=\"ssl\" product=\"Dovecot imapd\""),
        port(8883, "name=\"mqtt\" tunnel=\"ssl\""),
    ];
    let (imported, _) = import(&scan(&[address("10.0.0.1") + "<ports>" + &ports.concat() + "</ports>"]));
    for part in [
        "      443: {http: {pages: {/: \"<html><body><h1>It works!</h1></body></html>\"}}, tls: true}\n",
        "      990: {banner: \"220 (vsFTPd 3.0.3)\\r\\n\", tls: true}\n",
        "Dovecot ready.\\r\\n\", tls: true}\n",
        "      8883: open\n",
    ] {
        assert!(imported.yaml.contains(part), "no `{part}`:\n{}", imported.yaml);
    }
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("within TLS is not known")));
}

#[test]
fn lines_are_those_of_the_file() {
    let text = scan(&[address("10.0.0.1"), address("10.0.0.1")]);
    let (imported, _) = import(&text);
    let twice = imported.warnings.iter().find(|warning| warning.text.contains("twice")).unwrap();
    assert_eq!(twice.line, 4);
}

#[test]
fn entities_of_its_own_are_refused() {
    let mut bomb = "<?xml version=\"1.0\"?>\n<!DOCTYPE nmaprun [\n<!ENTITY a \"aaaaaaaaaa\">\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        bomb.push_str(&format!("<!ENTITY {name} \"&{of};&{of};&{of};&{of};&{of};&{of};&{of};&{of};&{of};&{of};\">\n"));
    }
    bomb.push_str("]>\n<nmaprun><host><hostname name=\"&h;\"/></host></nmaprun>");
    let error = fails(&bomb);
    assert!(error.contains("declarations of its own"), "{error}");
    // Without declarations an entity is nothing at all.
    let host = format!("{}<hostnames><hostname name=\"&h;\"/></hostnames>", address("10.0.0.1"));
    let (imported, _) = import(&scan(&[host]));
    assert!(imported.yaml.contains("h-10-0-0-1"), "{}", imported.yaml);
    let external = "<!DOCTYPE nmaprun SYSTEM \"file:///etc/passwd\"><nmaprun>&x;</nmaprun>";
    assert!(fails(external).contains("no host of this scan is up"));
}

#[test]
fn broken_files_say_where() {
    for (text, part) in [
        ("<a/>", "scan.xml:1: this is no scan of nmap: it begins with `<a>`"),
        ("\n<nmaprun><host>", "scan.xml:2: the file ends before the scan does"),
        ("<nmaprun></nmaprun>", "no host of this scan is up"),
        ("<nmaprun>\n\n</host></nmaprun>", "scan.xml:3: this is no XML"),
        ("create web\n", "there is no element in it"),
        ("", "is empty"),
        ("<nmaprun>\0", "is no text"),
    ] {
        let error = fails(text);
        assert!(error.contains(part), "{text}: {error}");
    }
    let deep = format!("<nmaprun>{}", "<x>".repeat(100_000));
    assert!(fails(&deep).contains("more than 64 deep"));
    // What was whole before the end is taken.
    let text = scan(&[address("10.0.0.1"), address("10.0.0.2")]);
    let cut = &text[..text.len() - 60];
    let (imported, _) = import(cut);
    assert!(imported.yaml.contains("10.0.0.1") && !imported.yaml.contains("10.0.0.2"));
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("only what stands before")));
}

#[test]
fn every_cut_of_a_scan_is_survived() {
    for end in (0..CAMPUS.len()).filter(|end| CAMPUS.is_char_boundary(*end)).step_by(31) {
        let _ = nmap(&CAMPUS.as_bytes()[..end], Settings { name: "cut.xml", known: &is_builtin });
    }
}

#[test]
fn more_hosts_than_nodes_are_populations() {
    let port = "<ports><port protocol=\"tcp\" portid=\"22\"><state state=\"open\"/></port></ports>";
    let hosts = |count: u32, step: u32| -> Vec<String> {
        let ip = |at: u32| std::net::Ipv4Addr::from((10 << 24) + 1 + at * step).to_string();
        (0..count).map(|at| address(&ip(at)) + port).collect()
    };
    let (imported, plan) = import(&scan(&hosts(70_000, 1)));
    let count: u64 = plan.nodes.iter().map(|node| node.host_count()).sum();
    assert!((65_000..=65_536).contains(&count), "{count}");
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("more than 65536 hosts")));
    // Scattered ones do not all fit.
    let (imported, plan) = import(&scan(&hosts(10_000, 2)));
    let count: u64 = plan.nodes.iter().map(|node| node.host_count()).sum();
    assert!(count > 500, "{count}");
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("too scattered")), "{:#?}", imported.warnings);
}

#[test]
fn many_ports_and_many_kinds_stay_within_bounds() {
    let ports = |seed: u32| -> String {
        let port = |at: u32| {
            let number = 1 + (at * 17 + seed * 3) % 65_000;
            format!(
                "<port protocol=\"tcp\" portid=\"{number}\"><state state=\"open\"/><service name=\"ftp\" product=\"x{at}\"/></port>"
            )
        };
        (0..60).map(port).collect()
    };
    let hosts: Vec<String> = (0..1500u32)
        .map(|at| {
            address(&std::net::Ipv4Addr::from((10 << 24) + 2 + at).to_string()) + "<ports>" + &ports(at) + "</ports>"
        })
        .collect();
    let (imported, _) = import(&scan(&hosts));
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("too many")), "{:#?}", imported.warnings);
    let all: String = (1..=65_535)
        .map(|port| format!("<port protocol=\"tcp\" portid=\"{port}\"><state state=\"open\"/></port>"))
        .collect();
    let (imported, _) = import(&scan(&[address("10.0.0.1") + "<ports>" + &all + "</ports>"]));
    assert!(imported.yaml.contains("      1-4096: open\n"), "{}", imported.yaml);
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("at most 4096 ports")));
}

#[test]
fn long_ways_and_many_routers_stay_within_bounds() {
    let hosts: Vec<String> = (0..2000u32)
        .map(|at| {
            let hop = |ttl: u32| {
                let ip = std::net::Ipv4Addr::from((20 << 24) + ((at * 40 + ttl) << 8) + 1);
                format!("<hop ttl=\"{ttl}\" ipaddr=\"{ip}\" rtt=\"{ttl}.0\"/>")
            };
            let hops: String = (1..40).map(hop).collect();
            address(&std::net::Ipv4Addr::from((10 << 24) + (at << 8) + 9).to_string()) + "<trace>" + &hops + "</trace>"
        })
        .collect();
    let (imported, plan) = import(&scan(&hosts));
    assert!(plan.nodes.len() < 4096);
    assert!(
        imported.warnings.iter().any(|warning| warning.text.contains("too long and too many")),
        "{:#?}",
        imported.warnings
    );
}
