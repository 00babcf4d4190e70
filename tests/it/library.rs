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
      80: {http: {app: webmail}}
      110: {pop3: {}}
      143: {imap: {product: cyrus, version: 2.5.10, hostname: box1}}
      445: {smb: {product: windows, workgroup: CORP}}
      502: {modbus: {product: M221}}
      3306: {mysql: {version: 8.0.36}}
      3389: {rdp: {}}
      5432: {postgresql: {version: "13.9"}}
      5900: {vnc: {}}
      6379: {redis: {version: 7.0.15}}
      6667: {irc: {}}
      # The other products of the same protocols.
      2121: {ftp: {product: proftpd, version: 1.3.8}}
      2222: {ssh: {product: dropbear, version: "2022.83"}}
      2323: {telnet: {product: linux}}
      2525: {smtp: {hostname: mx2}}
      3307: {mysql: {product: mariadb}}
      1445: {smb: {}}
      6668: {irc: {product: unrealircd}}
      6669: {irc: {product: ngircd}}
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

/// The products that are left.
const OTHERS: &str = r#"
name: others
templates:
  server:
    tcp:
      21: {ftp: {product: pure-ftpd}}
      2121: {ftp: {product: filezilla, version: 1.7.3}}
      2122: {ftp: {product: microsoft}}
      23: {telnet: {product: cisco}}
      25: {smtp: {product: sendmail, version: 8.17.1}}
      2525: {smtp: {version: 3.7.11}}
      110: {pop3: {product: cyrus}}
      143: {imap: {}}
      3306: {mysql: {}}
      3389: {rdp: {product: xrdp}}
      5432: {postgresql: {version: "15"}}
      80: {http: {app: login-portal}}
      8080: {http: {app: router-admin}}
    udp:
      53: {dns: {product: dnsmasq, version: "2.90"}}
      5060: {sip: {product: opensips}}
      161: {snmp: {community: secret}}
nodes:
  wan: {kind: uplink}
  box: {kind: host, address: 192.0.2.100, template: server}
links:
  - endpoints: [wan, box]
"#;

fn library() -> Lab {
    up(LIBRARY)
}

fn up(topology: &str) -> Lab {
    let lab = Lab::up(topology);
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
    let ports = "21,22,23,25,80,110,143,445,502,1445,2121,2222,2323,2525,3306,3307,3389,5432,5900,6379,6667,6668,6669";
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
            (6667, "InspIRCd", ""),
            (6668, "UnrealIRCd", ""),
            (6669, "ngircd", ""),
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

#[test]
fn nmap_names_the_other_products() {
    let lab = up(OTHERS);
    let table = versions(&lab, &["-p", "21,23,25,80,110,143,2121,2122,2525,3306,3389,5432,8080"]);
    assert_named(
        &table,
        &[
            (21, "Pure-FTPd", ""),
            (23, "Cisco IOS telnetd", ""),
            (25, "Sendmail", "8.17.1/8.17.1"),
            (80, "nginx", "1.22.1"),
            (110, "Cyrus POP3", "2.5.10"),
            (143, "Dovecot imapd", ""),
            (2121, "FileZilla ftpd", "1.7.3"),
            (2122, "Microsoft ftpd", ""),
            (2525, "Postfix smtpd", "3.7.11"),
            (3306, "MySQL", "8.0.39-0ubuntu0.22.04.1"),
            (3389, "xrdp", ""),
            (5432, "PostgreSQL DB", "15"),
            (8080, "lighttpd", "1.4.69"),
        ],
    );
    let table = versions(&lab, &["-sU", "-p", "U:53,161,5060"]);
    assert_named(
        &table,
        &[
            (53, "dnsmasq", "2.90"),
            (161, "net-snmp; net-snmp SNMPv3 server", ""),
            (5060, "OpenSIPS SIP Server", "3.4.2"),
        ],
    );
}

/// What a client is told, and which attempt is recorded of it.
const CLIENTS: &str = r#"
import ftplib, imaplib, poplib, smtplib, socket

HOST = "192.0.2.100"

def refused(attempt, kind):
    try:
        attempt()
    except kind as refusal:
        print(refusal)
    else:
        raise SystemExit("it was let in")

ftp = ftplib.FTP(HOST, timeout=10)
refused(lambda: ftp.login("ftpuser", "ftp pass"), ftplib.error_perm)
ftp.quit()

pop = poplib.POP3(HOST, timeout=10)
pop.capa()
pop.user("popuser")
refused(lambda: pop.pass_("poppass"), poplib.error_proto)
pop.quit()

imap = imaplib.IMAP4(HOST, timeout=10)
refused(lambda: imap.login("imapuser", 'imap"pass'), imaplib.IMAP4.error)
refused(lambda: imap.authenticate("PLAIN", lambda _: b"\0imapplain\0secret"), imaplib.IMAP4.error)
imap.logout()

smtp = smtplib.SMTP(HOST, timeout=10)
refused(lambda: smtp.login("smtpuser", "smtppass"), smtplib.SMTPAuthenticationError)
refused(lambda: smtp.sendmail("a@example.com", ["b@example.org"], "hi"), smtplib.SMTPRecipientsRefused)
smtp.quit()

def talk(port, *steps):
    with socket.create_connection((HOST, port), timeout=10) as connection:
        for say, awaited in steps:
            connection.sendall(say)
            heard = b""
            while awaited not in heard:
                more = connection.recv(4096)
                assert more, (port, heard)
                heard += more

talk(23, (b"", b"gw7 login: "), (b"telnetuser\r\n", b"Password: "), (b"telnetpass\r\n", b"Login incorrect"))
talk(6379, (b"*2\r\n$4\r\nAUTH\r\n$9\r\nredispass\r\n", b"-WRONGPASS"))
talk(3389, (b"\x03\0\0\x2d\x28\xe0\0\0\0\0\0Cookie: mstshash=rdpuser\r\n\x01\0\x08\0\x03\0\0\0", b"\x03\0\0\x13"))
talk(5900, (b"RFB 003.008\n", b"\x01\x02"), (b"\x02", b""), (b"0123456789abcdef", b"Authentication failed"))
"#;

#[test]
fn what_clients_log_in_with_is_recorded() {
    let lab = library();
    println!("{}", lab.attacker.sh(&["python3", "-c", CLIENTS]));
    let curl = |args: &[&str]| lab.attacker.run(&[&["curl", "-sS", "--max-time", "10"], args].concat());
    let form = curl(&["-d", "_user=webuser&_pass=web%20pass", "http://192.0.2.100/login"]);
    assert!(String::from_utf8_lossy(&form.stdout).contains("Login failed."));
    curl(&["-u", "basicuser:basicpass", "http://192.0.2.100/"]);
    // 67: the log-in was refused.
    assert_eq!(curl(&["-u", "curlftp:x", "ftp://192.0.2.100/"]).status.code(), Some(67));
    assert_eq!(curl(&["-u", "curlpop:x", "pop3://192.0.2.100/"]).status.code(), Some(67));
    assert_eq!(curl(&["-u", "curlimap:x", "imap://192.0.2.100/"]).status.code(), Some(67));
    let psql = "PGPASSWORD=pgpass PGCONNECT_TIMEOUT=10 psql -w -h 192.0.2.100 -U pguser -d shop -c 'select 1'";
    let refused = lab.attacker.run(&["sh", "-c", psql]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("password authentication failed for user \"pguser\""), "{said}");

    let wanted: [(u16, &str, &str, Option<&str>); 16] = [
        (21, "PASS", "ftpuser", Some("ftp pass")),
        (110, "PASS", "popuser", Some("poppass")),
        (143, "LOGIN", "imapuser", Some("imap\"pass")),
        (143, "PLAIN", "imapplain", Some("secret")),
        (25, "PLAIN", "smtpuser", Some("smtppass")),
        (23, "telnet", "telnetuser", Some("telnetpass")),
        (6379, "AUTH", "default", Some("redispass")),
        (3389, "mstshash", "rdpuser", None),
        (80, "form", "webuser", Some("web pass")),
        (80, "Basic", "basicuser", Some("basicpass")),
        (21, "PASS", "curlftp", Some("x")),
        (143, "PLAIN", "curlimap", Some("x")),
        (110, "PLAIN", "curlpop", Some("x")),
        (5432, "password", "pguser", Some("pgpass")),
        (5900, "VNC", "", None),
        (25, "LOGIN", "smtpuser", Some("smtppass")),
    ];
    for (port, method, user, password) in wanted {
        lab.wait_event("service.login", |event| {
            // `text` doubles backslashes, `data` is what was told.
            let text = event["text"].as_str().unwrap_or_default().replace("\\\\", "\\");
            let login: serde_json::Value = serde_json::from_str(&text).unwrap();
            event["dst"]["port"] == port
                && login["method"] == method
                && login["user"].as_str().unwrap_or_default() == user
                && login["password"].as_str() == password
        });
    }
    lab.wait_event("service.request", |event| {
        event["dst"]["port"] == 25 && event["text"].as_str().is_some_and(|text| text.starts_with("rcpt TO:"))
    });
}

#[test]
fn ssh_clients_are_left_at_the_key_exchange() {
    let lab = library();
    let output = lab.attacker.run(&[
        "ssh",
        "-v",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "root@192.0.2.100",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("remote software version OpenSSH_9.2p1 Debian-2+deb12u3"), "{said}");
    assert!(said.contains("SSH2_MSG_KEXINIT received") && said.contains("kex: algorithm: "), "{said}");
    assert!(said.contains("key exchange failed"), "{said}");
    let hello = lab.wait_event("service.request", |event| event["dst"]["port"] == 22);
    assert!(hello["text"].as_str().is_some_and(|text| text.starts_with("SSH-2.0-OpenSSH")), "{hello}");
}

#[test]
fn what_is_no_service_is_said_where_it_stands() {
    let lab = Lab::shared();
    let wrong = LIBRARY
        .replace("{product: vsftpd, version: 3.0.3}", "{product: vsftp}")
        .replace("445: {smb: {product: windows, workgroup: CORP}}", "445: {smb: {version: 4}}")
        .replace("app: webmail", "app: webmial");
    let file = lab.file("wrong.yaml", &wrong);
    let output = std::process::Command::new(crate::lab::PROGRAM).arg("check").arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for part in ["vsftpd", "`version` says nothing to `smb`", "webmail"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
