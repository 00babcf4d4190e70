//! Services within TLS, as real clients meet them.

use std::collections::HashSet;

use serde_json::Value;

use crate::lab::Lab;

const SECURED: &str = r#"
name: secured
templates:
  server:
    personality: linux
    tcp:
      80: {http: {app: login-portal}}
      443: {http: {app: login-portal}, tls: true}
      444: {http: {server: "Apache/2.4.62 (Debian)", pages: {/: hello}}, tls: true}
      465: {smtp: {hostname: mx1}, tls: true}
      990: {ftp: {}, tls: true}
      993: {imap: {}, tls: {subject: {cn: "{host}.example.org", o: Example}, issuer: {cn: Example CA, o: Example, c: DE}, names: ["{host}.example.org", "{address}"], days: 90}}
      995: {pop3: {}, tls: true}
nodes:
  wan: {kind: uplink}
  web: {kind: host, address: 192.0.2.100, template: server}
  farm: {kind: hosts, addresses: 192.0.2.128/28, template: server}
  sw: {kind: switch, ports: 3}
links:
  - endpoints: [wan, "sw:1"]
  - endpoints: [web, "sw:2"]
  - endpoints: [farm, "sw:3"]
"#;

fn up() -> Lab {
    let lab = Lab::up(SECURED);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// What a command of the shell says in the attacker's place, errors included.
fn shell(lab: &Lab, command: &str) -> String {
    let output = lab.attacker.run(&["timeout", "30", "sh", "-c", &format!("{command} 2>&1")]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `openssl x509` shows of a host's certificate.
fn certificate(lab: &Lab, address: &str, port: u16, show: &str) -> String {
    let command =
        format!("openssl s_client -connect {address}:{port} </dev/null 2>/dev/null | openssl x509 -noout {show}");
    shell(lab, &command)
}

#[test]
fn browsers_get_pages_and_their_passwords_are_recorded() {
    let lab = up();
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"] {
        let said = shell(&lab, &format!("curl -skv {version} https://192.0.2.100/"));
        assert!(said.contains("HTTP/1.1 200 OK") && said.contains("Server: nginx/1.22.1"), "{said}");
        assert!(said.contains("<title>Employee Portal</title>"), "{said}");
        assert!(said.contains("ALPN: server accepted http/1.1"), "{said}");
    }
    // Over HTTPS as over HTTP.
    for scheme in ["http", "https"] {
        let said =
            shell(&lab, &format!("curl -sk -d 'username={scheme}&password=s3cret' {scheme}://192.0.2.100/login"));
        assert!(said.contains("incorrect"), "{said}");
        let port = if scheme == "http" { 80 } else { 443 };
        lab.wait_event("service.login", |event| {
            let text = event["text"].as_str().unwrap_or_default();
            event["dst"]["port"] == port && text.contains("s3cret") && text.contains(&format!("\"{scheme}\""))
        });
    }
    let hello = lab.wait_event("tls.hello", |event| event["dst"]["port"] == 443);
    assert!(hello["text"].as_str().is_some_and(|text| text.contains("\"alpn\":[\"h2\",\"http/1.1\"]")), "{hello}");
    // Whoever speaks HTTP to it is told so.
    let said = shell(&lab, "curl -si http://192.0.2.100:443/");
    assert!(said.starts_with("HTTP/1.1 400 Bad Request") && said.contains("was sent to HTTPS port"), "{said}");
    let said = shell(&lab, "curl -si http://192.0.2.100:444/");
    assert!(said.contains("plain HTTP to an SSL-enabled server port"), "{said}");
}

#[test]
fn openssl_sees_a_certificate_of_each_host_that_stays() {
    let mut lab = up();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = shell(&lab, &format!("openssl s_client {version} -connect 192.0.2.100:443 </dev/null"));
        assert!(said.contains("Peer signature type: ECDSA") && said.contains("Server Temp Key: X25519"), "{said}");
        assert!(said.contains("AES_256_GCM_SHA384") || said.contains("AES256-GCM-SHA384"), "{said}");
        assert!(said.contains("self-signed certificate"), "{said}");
        assert!(said.contains("CN = web\n"), "{said}");
    }
    let said = certificate(&lab, "192.0.2.130", 443, "-subject -issuer -ext subjectAltName,basicConstraints");
    assert!(said.contains("subject=CN = farm-03") && said.contains("issuer=CN = farm-03"), "{said}");
    assert!(said.contains("DNS:farm-03") && said.contains("CA:FALSE"), "{said}");
    let said = certificate(&lab, "192.0.2.130", 993, "-subject -issuer -ext subjectAltName");
    assert!(said.contains("subject=O = Example, CN = farm-03.example.org"), "{said}");
    assert!(said.contains("issuer=C = DE, O = Example, CN = Example CA"), "{said}");
    assert!(said.contains("DNS:farm-03.example.org, IP Address:192.0.2.130"), "{said}");
    assert_eq!(certificate(&lab, "192.0.2.130", 993, "-checkend 0"), "Certificate will not expire\n");
    // A session is resumed.
    let said = shell(&lab, "openssl s_client -tls1_2 -reconnect -connect 192.0.2.100:443 </dev/null");
    assert!(said.matches("Reused, TLSv1.2").count() >= 4, "{said}");

    let what = "-serial -fingerprint -sha256 -pubkey -dates";
    let addresses = ["192.0.2.100", "192.0.2.130", "192.0.2.131"];
    let before = addresses.map(|address| certificate(&lab, address, 443, what));
    let lines: Vec<HashSet<&str>> = before.iter().map(|text| text.lines().collect()).collect();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let shared: Vec<_> = lines[one].intersection(&lines[other]).filter(|line| !line.starts_with("-----")).collect();
        // The first line of a public key says what it is of.
        assert!(shared.iter().all(|line| line.starts_with("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA")), "{shared:?}");
    }
    assert!(before[0].contains("sha256 Fingerprint="), "{}", before[0]);
    lab.down();
    lab.start(SECURED);
    assert_eq!(addresses.map(|address| certificate(&lab, address, 443, what)), before);
}

#[test]
fn nmap_names_what_is_within() {
    let lab = up();
    let ports = "443,444,465,990,993,995";
    let all = ["nmap", "-n", "-Pn", "--disable-arp-ping", "-sV", "--script", "ssl-cert", "-p", ports, "192.0.2.100"];
    let said = lab.attacker.sh(&all);
    let lines: Vec<String> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for wanted in [
        "443/tcp open ssl/http nginx 1.22.1",
        "444/tcp open ssl/http Apache httpd 2.4.62 ((Debian))",
        "465/tcp open ssl/smtp Postfix smtpd",
        "990/tcp open ssl/ftp vsftpd 3.0.3",
        "993/tcp open ssl/imap Dovecot imapd",
        "995/tcp open ssl/pop3 Dovecot pop3d",
        "| ssl-cert: Subject: commonName=web",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {said}");
    }
}

/// Sends a ClientHello of Python's own, and prints its JA3 and JA4 as computed from their descriptions.
const CLIENT: &str = r#"
import hashlib, json, socket, ssl, struct, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["http/1.1"])
into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
session = context.wrap_bio(into, out, server_hostname="intranet.example.org")
def step(action):
    while True:
        try: return action()
        except ssl.SSLWantReadError: pass
        sock.sendall(out.read())
        into.write(sock.recv(65536))
try: session.do_handshake()
except ssl.SSLWantReadError: pass
hello = out.read()
sock = socket.create_connection(("192.0.2.100", 443), 10)
# In many segments.
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for octet in range(0, len(hello), 50): sock.sendall(hello[octet:octet + 50])
into.write(sock.recv(65536))
step(session.do_handshake)
session.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
page = step(lambda: session.read(100)).decode()
assert page.startswith("HTTP/1.1 200 OK"), page

at = 9
def take(form):
    global at
    value = struct.unpack_from(">" + form, hello, at); at += struct.calcsize(form)
    return value[0] if len(value) == 1 else value
def grease(n): return n & 0x0f0f == 0x0a0a
def numbers(data): return [n for n in struct.unpack(">%dH" % (len(data) // 2), data) if not grease(n)]
version = take("H"); at += 32; length = take("B"); at += length
length = take("H"); ciphers = numbers(hello[at:at + length]); at += length
length = take("B"); at += length; length = take("H"); end = at + length
found = {}
while at < end:
    kind, length = take("HH"); found[kind] = hello[at:at + length]; at += length
kinds = [k for k in found if not grease(k)]
join = lambda values: "-".join(map(str, values))
ja3 = ",".join([str(version), join(ciphers), join(kinds), join(numbers(found[10][2:])), join(found[11][1:])])
short = lambda text: hashlib.sha256(text.encode()).hexdigest()[:12]
words = lambda values: ",".join("%04x" % v for v in values)
ja4 = "t13d%02d%02dh1_" % (len(ciphers), len(kinds)) + short(words(sorted(ciphers))) + "_" + short(
    words(sorted(k for k in kinds if k not in (0, 16))) + "_" + words(numbers(found[13][2:])))
print(json.dumps({"sni": "intranet.example.org", "alpn": ["http/1.1"],
                  "ja3": hashlib.md5(ja3.encode()).hexdigest(), "ja4": ja4}))
"#;

#[test]
fn what_a_client_shows_is_what_it_has_sent() {
    let lab = up();
    let said = lab.attacker.sh(&["timeout", "30", "python3", "-c", CLIENT]);
    let computed: Value = serde_json::from_str(said.trim()).unwrap();
    let hello = lab.wait_event("tls.hello", |event| event["dst"]["port"] == 443);
    let told: Value = serde_json::from_str(hello["text"].as_str().unwrap()).unwrap();
    assert_eq!(told, computed);
}

#[test]
fn passwords_within_tls_are_recorded() {
    let lab = up();
    let curl = |args: &str| shell(&lab, &format!("curl -sk --max-time 20 {args}"));
    curl("-u imapuser:pw1 imaps://192.0.2.100/");
    curl("-u popuser:pw2 pop3s://192.0.2.100/");
    curl("-u ftpuser:pw3 ftps://192.0.2.100:990/");
    curl("-u smtpuser:pw4 --mail-from a@example.org --mail-rcpt b@example.org -T /etc/hostname smtps://192.0.2.100/");
    for (port, user, password) in
        [(993, "imapuser", "pw1"), (995, "popuser", "pw2"), (990, "ftpuser", "pw3"), (465, "smtpuser", "pw4")]
    {
        lab.wait_event("service.login", |event| {
            let text = event["text"].as_str().unwrap_or_default();
            event["dst"]["port"] == port && text.contains(user) && text.contains(password)
        });
    }
}

/// Opens connections, says nothing but a ClientHello on each, and prints how many were answered and how many closed.
const FLOOD: &str = r#"
import resource, selectors, socket, ssl, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
def hello():
    out = ssl.MemoryBIO(); session = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="x")
    try: session.do_handshake()
    except ssl.SSLWantReadError: return out.read()
data = hello()
socks = []
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
for n in range(3000):
    sock = socket.create_connection(("192.0.2.%d" % (128 + n % 16), 443), 10); sock.sendall(data); socks.append(sock)
ready, begin, answered, closed = selectors.DefaultSelector(), time.time(), 0, 0
for sock in socks: ready.register(sock, selectors.EVENT_READ)
while time.time() < begin + 4 and ready.get_map():
    for key, _ in ready.select(0.2):
        try: answer = key.fileobj.recv(100)
        except OSError: answer = b""
        answered += answer[:1] == b"\x16"; closed += answer == b""; ready.unregister(key.fileobj); key.fileobj.close()
print(answered, closed)
"#;

#[test]
fn a_flood_of_hellos_leaves_others_alone() {
    let lab = up();
    let other = lab.attacker.spawn(&["ping", "-q", "-i", "0.01", "-c", "300", "-W", "2", "192.0.2.100"]);
    let said = lab.attacker.sh(&["timeout", "60", "python3", "-c", FLOOD]);
    let counts: Vec<u32> = said.split_whitespace().map(|count| count.parse().unwrap()).collect();
    let (status, pings) = other.wait();
    assert!(status.success() && pings.contains("300 received"), "{pings}");
    // A burst, and what one source gets in the seconds that this took; the rest was left alone.
    assert!(counts[0] >= 64 && counts[1] > 0, "{counts:?}");
    let said = shell(&lab, "sleep 2; curl -sk https://192.0.2.100/ | grep -c title");
    assert_eq!(said.trim(), "1", "and then it is served again");
}

#[test]
fn a_certificate_from_files_is_shown_as_it_is() {
    let mut lab = Lab::shared();
    let (certificate, key) = (lab.path("cert.pem"), lab.path("key.pem"));
    let make = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /O=Real/CN=www.example.com -days 30 -keyout {} -out {}",
        key.display(),
        certificate.display()
    );
    crate::net::sh(&["sh", "-c", &format!("{make} 2>/dev/null")]);
    let topology = SECURED
        .replace("app: login-portal}, tls: true", "app: login-portal}, tls: {certificate: cert.pem, key: key.pem}");
    lab.start(&topology);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let own = crate::net::sh(&["openssl", "x509", "-noout", "-fingerprint", "-in", certificate.to_str().unwrap()]);
    assert_eq!(self::certificate(&lab, "192.0.2.100", 443, "-fingerprint"), own);
    let said = shell(&lab, "openssl s_client -tls1_2 -connect 192.0.2.100:443 </dev/null");
    assert!(said.contains("ECDHE-RSA-AES256-GCM-SHA384"), "{said}");
}

const SIGNED: &str = r#"
name: signed
templates:
  server:
    personality: linux
    tcp:
      443: {http: {app: webmail}, tls: {subject: {cn: "{host}.corp.example"}, ca: {certificate: ca.pem, key: ca.key}}}
      993: {imap: {}, tls: {names: [mail.corp.example], key: rsa.key, ca: {certificate: ca.pem, key: ca.key}}}
      995: {pop3: {}, tls: {key: rsa.key}}
nodes:
  wan: {kind: uplink}
  web: {kind: host, address: 192.0.2.100, template: server}
links:
  - endpoints: [wan, web]
"#;

#[test]
fn a_private_authority_signs_and_a_key_is_of_the_kind_that_is_given() {
    let mut lab = Lab::shared();
    // Where the topology lies.
    let ca = lab.file("ca.pem", "");
    let at = |name: &str| ca.with_file_name(name).display().to_string();
    let (pem, ca_key, rsa) = (at("ca.pem"), at("ca.key"), at("rsa.key"));
    let subject = ["-subj", "/O=Corp/CN=Corp Root", "-days", "30", "-nodes", "-newkey", "rsa:2048"];
    let made = ["openssl", "req", "-x509", "-keyout", &ca_key, "-out", &pem];
    crate::net::sh(&[&made[..], &subject, &["-addext", "keyUsage=keyCertSign"]].concat());
    crate::net::sh(&["openssl", "genrsa", "-out", &rsa, "2048"]);
    lab.start(SIGNED);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    for (port, name) in [(443, "web.corp.example"), (993, "mail.corp.example")] {
        let verified = shell(
            &lab,
            &format!(
                "openssl s_client -connect 192.0.2.100:{port} -CAfile {pem} -verify_hostname {name} -verify_return_error </dev/null"
            ),
        );
        assert!(verified.contains("Verify return code: 0 (ok)"), "{verified}");
        let issuer = certificate(&lab, "192.0.2.100", port, "-issuer");
        assert!(issuer.contains("Corp Root"), "{issuer}");
    }
    let kinds = [443, 993, 995].map(|port| certificate(&lab, "192.0.2.100", port, "-text"));
    assert!(kinds[0].contains("id-ecPublicKey"), "{}", kinds[0]);
    assert!(kinds[1].contains("Public-Key: (2048 bit)") && kinds[2].contains("Public-Key: (2048 bit)"), "{kinds:?}");
    assert!(!kinds[2].contains("Corp Root"), "{}", kinds[2]);
}
