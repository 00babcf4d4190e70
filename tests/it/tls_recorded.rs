//! Containers whose TLS has somebody in the middle: real clients, in front of real servers that know nothing of it.

use crate::lab::Lab;
use crate::net::wait_for;

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
    lab.wait_told("tls.hello", "192.0.2.10", &["shop.acme.example", "ja4"]);
    let page = from.ask(&[
        "curl",
        "-skf",
        "-A",
        "evil/2",
        "--resolve",
        "www.acme.example:443:192.0.2.10",
        "https://www.acme.example/index.html?x",
    ]);
    assert_eq!(page, "<html>intranet</html>");
    lab.wait_told("service.request", "192.0.2.10", &["GET /index.html?x", "agent=evil/2", "host=www.acme.example"]);

    // Who forgot about TLS is told so, as a web server does, and reset is nobody.
    let page = from.ask(&["curl", "-si", "-A", "evil/3", "http://192.0.2.10:443/forgot"]);
    assert!(page.starts_with("HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nDate: "), "{page}");
    assert!(page.contains("<center>The plain HTTP request was sent to HTTPS port</center>"), "{page}");
    lab.wait_told("service.request", "192.0.2.10", &["GET /forgot", "agent=evil/3"]);
    // Others hang up.
    let silent = from.run(&["curl", "-sS", "--max-time", "20", "http://192.0.2.10:443/", "-X", "\u{80}"]);
    assert!(String::from_utf8_lossy(&silent.stderr).contains("Empty reply from server"), "{silent:?}");

    let inbox = from.ask(&["curl", "-skf", "--ssl-reqd", "-u", "svogt:Sabine1", "imap://192.0.2.11/INBOX?ALL"]);
    assert!(inbox.contains("SEARCH"), "{inbox}");
    lab.wait_told("service.login", "192.0.2.11", &["svogt", "Sabine1", "true"]);

    let server = "host=192.0.2.12 user=app password=app2021 dbname=customers connect_timeout=5 sslmode=require";
    assert_eq!(from.ask(&["psql", "-XAtc", "SELECT count(*) FROM orders", server]).trim(), "4000");
    lab.wait_told("service.request", "192.0.2.12", &["SELECT count(*) FROM orders"]);
    lab.wait_told("tls.hello", "192.0.2.12", &["ja3"]);

    // What is exported can be read by others: the capture decrypts itself, once all of it has been written.
    let sessions = lab.json(&["session", "ls", "--host", "192.0.2.10"]);
    let id = sessions[0]["session"].as_str().unwrap();
    let mut number = 0;
    wait_for("a capture that decrypts itself", || {
        number += 1;
        let (bundle, out) = (lab.path(&format!("{number}.tar.zst")), lab.path(&format!("exported-{number}")));
        let exported = lab.command(&["session", "export", id, "--plain", "--output", bundle.to_str().unwrap()]);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        std::fs::create_dir(&out).unwrap();
        let tar = bundle.with_extension("");
        std::fs::write(&tar, zstd::decode_all(std::fs::File::open(&bundle).unwrap()).unwrap()).unwrap();
        from.sh(&["tar", "-C", out.to_str().unwrap(), "-xf", tar.to_str().unwrap()]);
        // That of the wire, not the one of the container's device, where it is in the clear.
        let capture = out.join("captures/wan.pcapng");
        let fields = ["-Y", "tls && http.request", "-T", "fields", "-e", "http.request.uri", "-e", "tcp.stream"];
        let seen = from.sh(&[&["tshark", "-r", capture.to_str().unwrap()][..], &fields].concat());
        seen.contains("/index.html?x").then_some(())
    });
    lab.records_are_as_the_schema_says();
}
