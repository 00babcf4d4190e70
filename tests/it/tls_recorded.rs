//! Containers whose TLS has somebody in the middle: real clients, in front of real servers that know nothing of it.

use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Ns, wait_for};

const TOPOLOGY: &str = r#"
name: sealed
templates:
  web:
    personality: linux
    tcp:
      443: {container: http, inside: clear, tls: {subject: {cn: "{sni}", o: ACME}, issuer: {cn: ACME CA}}}
    backend: {image: web}
  mail: {personality: linux, tcp: {143: {container: imap, tls: true, starttls: true, inside: clear}}, backend: {image: mail}}
  database:
    personality: linux
    tcp: {5432: {container: postgresql, tls: true, starttls: true, inside: clear, client_certificates: true}}
    backend: {image: database}
images:
  web: {recipe: ./web}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  web: {kind: host, address: 192.0.2.10, hostname: web-01, template: web}
  mail: {kind: host, address: 192.0.2.11, template: mail}
  database: {kind: host, address: 192.0.2.12, template: database}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [web, "core:2"]
  - endpoints: [mail, "core:3"]
  - endpoints: [database, "core:4"]
"#;

const RECIPE: &str = "name: web
method: unpack
packages: [busybox-static, libc-bin]
services:
  - {name: web, port: 443, run: /bin/busybox httpd -f -p 443 -h /var/www}
";

fn ask(from: &Ns, args: &[&str]) -> String {
    wait_for(args[0], || {
        let output = from.run(&[&["timeout", "30"], args].concat());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

fn told(lab: &Lab, id: &str, host: &str, parts: &[&str]) -> Value {
    lab.wait_event(id, |event| {
        let text = event["text"].as_str().unwrap_or_default();
        event["dst"]["ip"] == host && parts.iter().all(|part| text.contains(part))
    })
}

#[test]
fn what_is_said_within_tls_is_read() {
    let mut lab = Lab::shared();
    lab.file("web/recipe.yaml", RECIPE);
    lab.file("web/files/var/www/index.html", "<html>intranet</html>");
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;

    // Who only looks at the certificate wakes nothing.
    let shown = from.sh(&[
        "sh",
        "-c",
        "openssl s_client -connect 192.0.2.10:443 -servername shop.acme.example </dev/null 2>&1",
    ]);
    assert!(shown.contains("O = ACME, CN = shop.acme.example") || shown.contains("CN=shop.acme.example"), "{shown}");
    told(&lab, "tls.hello", "192.0.2.10", &["shop.acme.example", "ja4"]);
    let page = ask(
        from,
        &[
            "curl",
            "-skf",
            "-A",
            "evil/2",
            "--resolve",
            "www.acme.example:443:192.0.2.10",
            "https://www.acme.example/index.html?x",
        ],
    );
    assert_eq!(page, "<html>intranet</html>");
    told(&lab, "service.request", "192.0.2.10", &["GET /index.html?x", "agent=evil/2", "host=www.acme.example"]);

    let inbox = ask(from, &["curl", "-skf", "--ssl-reqd", "-u", "svogt:Sabine1", "imap://192.0.2.11/INBOX?ALL"]);
    assert!(inbox.contains("SEARCH"), "{inbox}");
    told(&lab, "service.login", "192.0.2.11", &["svogt", "Sabine1", "true"]);

    let server = "host=192.0.2.12 user=app password=app2021 dbname=customers connect_timeout=5 sslmode=require";
    assert_eq!(ask(from, &["psql", "-XAtc", "SELECT count(*) FROM orders", server]).trim(), "4000");
    told(&lab, "service.request", "192.0.2.12", &["SELECT count(*) FROM orders"]);
    told(&lab, "tls.hello", "192.0.2.12", &["ja3"]);

    // What is exported can be read by others: the capture decrypts itself.
    let sessions = lab.json(&["session", "ls", "--host", "192.0.2.10"]);
    let (bundle, out) = (lab.path("web.tar.zst"), lab.path("exported"));
    let id = sessions[0]["session"].as_str().unwrap();
    let exported = lab.command(&["session", "export", id, "--plain", "--output", bundle.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    std::fs::create_dir(&out).unwrap();
    let packed = zstd::decode_all(std::fs::File::open(&bundle).unwrap()).unwrap();
    std::fs::write(lab.path("web.tar"), packed).unwrap();
    from.sh(&["tar", "-C", out.to_str().unwrap(), "-xf", lab.path("web.tar").to_str().unwrap()]);
    let capture = from.sh(&["find", out.to_str().unwrap(), "-name", "*.pcapng"]);
    let seen =
        from.sh(&["tshark", "-r", capture.trim(), "-Y", "http.request", "-T", "fields", "-e", "http.request.uri"]);
    assert!(seen.contains("/index.html?x"), "{seen}");
}
