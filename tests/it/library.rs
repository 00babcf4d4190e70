//! Services of the library, as scanners and clients meet them.

use std::collections::BTreeMap;

use crate::lab::Lab;

const LIBRARY: &str = r#"
name: library
templates:
  server:
    personality: linux
    tcp:
      21: {ftp: {product: vsftpd, version: 3.0.3}}
      22: {ssh: {version: "OpenSSH_9.2p1 Debian-2+deb12u3"}}
      23: {telnet: {hostname: gw7}}
      25: {smtp: {product: exim, version: "4.96", hostname: mx1}}
      80: {http: {server: "Apache/2.4.62 (Debian)", pages: {/: x}}}
      110: {pop3: {}}
      143: {imap: {product: cyrus, version: 2.5.10, hostname: box1}}
      445: {smb: {product: windows, workgroup: CORP}}
      502: {modbus: {product: M221}}
      3306: {mysql: {version: 8.0.36}}
      3389: {rdp: {}}
      5432: {postgresql: {version: "13.9"}}
      5900: {vnc: {}}
      6379: {redis: {version: 7.0.15}}
      # The other products of the same protocols.
      2121: {ftp: {product: proftpd, version: 1.3.8}}
      2222: {ssh: {product: dropbear, version: "2022.83"}}
      2323: {telnet: {product: linux}}
      2525: {smtp: {hostname: mx2}}
      3307: {mysql: {product: mariadb}}
      1445: {smb: {}}
    udp:
      53: {dns: {version: 9.18.28}}
      123: {ntp: {}}
      161: {snmp: {hostname: core-sw, community: [public, private]}}
      5060: {sip: {product: asterisk, version: 20.6.0}}
nodes:
  wan: {kind: uplink}
  box: {kind: host, address: 192.0.2.100, template: server}
links:
  - endpoints: [wan, box]
"#;

fn library() -> Lab {
    let lab = Lab::up(LIBRARY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// What nmap says of each port: service, product, version, and the rest.
fn versions(lab: &Lab, args: &[&str]) -> BTreeMap<u16, [String; 4]> {
    let all = ["nmap", "-n", "-Pn", "--disable-arp-ping", "-sV", "--version-intensity", "9", "-oX", "-"];
    let xml = lab.attacker.sh(&[&all[..], args, &["192.0.2.100"]].concat());
    let attribute = |text: &str, name: &str| {
        let value = text.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.map(|(value, _)| value.to_owned()).unwrap_or_default()
    };
    let ports = xml.split("<port ").skip(1).map(|port| {
        let number = attribute(&format!(" {port}"), "portid").parse().unwrap();
        let service = port.split_once("<service").map_or("", |(_, rest)| rest.split('>').next().unwrap_or_default());
        let rest = format!("{} {}", attribute(service, "extrainfo"), attribute(service, "hostname"));
        (number, [attribute(service, "name"), attribute(service, "product"), attribute(service, "version"), rest])
    });
    let table: BTreeMap<_, _> = ports.collect();
    for (port, [name, product, version, rest]) in &table {
        println!("{port:>5} {name:16} {product} {version} ({rest})");
    }
    table
}

#[track_caller]
fn assert_named(table: &BTreeMap<u16, [String; 4]>, wanted: &[(u16, &str, &str)]) {
    let mut wrong = Vec::new();
    for (port, product, version) in wanted {
        let found = table.get(port).map(|[_, product, version, _]| (product.as_str(), version.as_str()));
        if found != Some((*product, *version)) {
            wrong.push(format!("{port}: {found:?} instead of {product} {version}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nmap_names_every_product_and_version_over_tcp() {
    let lab = library();
    let ports = "21,22,23,25,80,110,143,445,502,1445,2121,2222,2323,2525,3306,3307,3389,5432,5900,6379";
    let table = versions(&lab, &["-p", ports]);
    assert_named(
        &table,
        &[
            (21, "vsftpd", "3.0.3"),
            (22, "OpenSSH", "9.2p1 Debian 2+deb12u3"),
            (23, "BusyBox telnetd", ""),
            (25, "Exim smtpd", "4.96"),
            (80, "Apache httpd", "2.4.62"),
            (110, "Dovecot pop3d", ""),
            (143, "Cyrus imapd", "2.5.10"),
            (445, "Microsoft Windows 7 - 10 microsoft-ds", ""),
            (502, "Modbus TCP", ""),
            (1445, "Samba smbd", "4.6.2"),
            (2121, "ProFTPD", "1.3.8"),
            (2222, "Dropbear sshd", "2022.83"),
            (2323, "Linux telnetd", ""),
            (2525, "Postfix smtpd", ""),
            (3306, "MySQL", "8.0.36"),
            (3307, "MySQL", "5.5.5-10.11.6-MariaDB-0+deb12u1"),
            (3389, "Microsoft Terminal Services", ""),
            (5432, "PostgreSQL DB", "13.5 - 13.8"),
            (5900, "VNC", ""),
            (6379, "Redis key-value store", "7.0.15"),
        ],
    );
    assert!(table[&445][3].contains("CORP") && table[&23][3].contains("gw7") && table[&5900][3].contains("3.8"));
}

#[test]
fn nmap_names_every_product_and_version_over_udp() {
    let lab = library();
    let table = versions(&lab, &["-sU", "-p", "U:53,123,161,5060"]);
    assert_named(
        &table,
        &[
            (53, "ISC BIND", "9.18.28"),
            (123, "NTP", "v4"),
            (161, "SNMPv1 server; net-snmp SNMPv3 server", ""),
            (5060, "Asterisk PBX", "20.6.0"),
        ],
    );
    assert!(table[&161][3].contains("public"), "{table:?}");
}
