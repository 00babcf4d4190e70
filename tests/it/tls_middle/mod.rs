//! TLS in the middle, between real clients and real servers, all on the loopback.

pub mod client;
mod decrypted;
pub mod lab;
mod starttls;

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use client::client;
use honeyweave::relay::plain;
use honeyweave::relay::tape::{Credential, Entry, Stream};
use honeyweave::relay::tls::{Foreign, Inside};
use honeyweave::service::Spoken;
use honeyweave::service::tls::{Given, GivenKey, Leaf, Name};
use lab::{Lab, Nginx, Setup, Told, certificate, free_port, octets, shell, text, wait_port};

use crate::net::{Running, wait_for};

fn agreed(told: &[Entry]) -> Vec<(u16, Option<String>, bool)> {
    let agreed = told.iter().filter_map(|entry| match entry {
        Entry::TlsAgreed { version, alpn, resumed, .. } => {
            Some((*version, alpn.as_ref().map(|alpn| alpn.as_str().to_owned()), *resumed))
        }
        _ => None,
    });
    agreed.collect()
}

#[test]
fn curl_gets_pages_of_a_server_in_clear() {
    let nginx = Nginx::start();
    let lab = Lab::new(Setup::default(), nginx.clear);
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"] {
        let to = format!("--resolve shop.example.org:{0}:127.0.0.1 https://shop.example.org:{0}/", lab.port);
        let said = shell(&format!("curl -skv {version} {to}"));
        assert!(said.contains("HTTP/1.1 200 OK") && said.contains("<h1>inside</h1>"), "{said}");
        assert!(said.contains("ALPN: server accepted http/1.1"), "{said}");
        assert!(said.contains("CN=shop.example.org"), "{said}");
    }
    let told = lab.ended();
    assert_eq!(agreed(&told).iter().map(|agreed| agreed.0).collect::<Vec<_>>(), [0x0303, 0x0304]);
    let asked = text(&told, Stream::Input);
    assert_eq!(asked.matches("GET / HTTP/1.1\r\nHost: shop.example.org:").count(), 2, "{asked}");
    assert!(asked.starts_with("GET / HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n"), "{asked}");
    assert_eq!(text(&told, Stream::Output).matches("<h1>inside</h1>\n").count(), 2);
    let Entry::TlsHello { sni, alpn, ja4, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!(sni.as_ref().unwrap(), &"shop.example.org");
    assert!(alpn.len() == 2 && ja4.starts_with("t12d"), "{ja4}");
}

#[test]
fn a_server_with_http_2_speaks_it_through_the_middle() {
    let nginx = Nginx::start();
    let lab = Lab::new(Setup { inside: Inside::Tls, ..Setup::default() }, nginx.tls);
    let said = shell(&format!("curl -skv --http2 https://127.0.0.1:{}/", lab.port));
    assert!(said.contains("ALPN: server accepted h2") && said.contains("< HTTP/2 200"), "{said}");
    assert!(said.contains("<h1>inside</h1>"), "{said}");
    // What is not spoken inside is refused.
    let said = shell(&format!("openssl s_client -alpn imap -connect 127.0.0.1:{} </dev/null", lab.port));
    assert!(said.contains("no application protocol"), "{said}");
    let told = lab.ended();
    assert_eq!(agreed(&told), [(0x0304, Some("h2".to_owned()), false)]);
    assert!(octets(&told, Stream::Input).starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    // An address is no name.
    assert!(matches!(&told[0], Entry::TlsHello { sni: None, .. }), "{:?}", told[0]);
}

#[test]
fn what_is_asked_for_by_http_2_is_told() {
    let nginx = Nginx::start();
    // More fields than one frame takes.
    let many: String = (0..7).map(|number| format!("-H 'X-{number}: {}' ", "~".repeat(3000))).collect();
    let (said, told) = asked_by_http_2(&nginx, &|at| {
        let right = ("-u root:toor", "/private/");
        [right, ("-u root:wrong", "/private/?again"), right, ("-d pw=1", "/missing"), (&many, "/")]
            .map(|(options, path)| format!("-sk --http2 -A evil/2 {options} {at}{path}"))
            .join(" --next ")
    });
    assert!(said.starts_with("<h1>let in</h1>\n<html>") && said.ends_with("<h1>inside</h1>\n"), "{said}");
    assert_eq!(said.matches("<h1>let in</h1>\n").count(), 2, "{said}");
    assert_eq!(
        told,
        [
            "1 GET /private/ evil/2",
            "1 200 Some(16)",
            // Nobody knows yet that it is asked for there.
            "root:toor unasked",
            "3 GET /private/?again evil/2",
            "3 401 Some(179)",
            "root:wrong false",
            "5 GET /private/ evil/2",
            "5 200 Some(16)",
            "root:toor true",
            "7 POST /missing evil/2",
            "7 404 Some(153)",
            "9 GET / evil/2",
            "9 200 Some(16)",
        ]
    );
    // At the same time.
    let (said, told) = asked_by_http_2(&nginx, &|at| format!("-sSkZ --http2 -A evil/2 '{at}/?[1-50]'"));
    assert_eq!(said.matches("<h1>inside</h1>\n").count(), 50, "{said}");
    let count = |part: &str| told.iter().filter(|said| said.contains(part)).count();
    assert_eq!((count(" GET /?"), count(" 200 Some(16)"), told.len()), (50, 50, 100), "{told:#?}");
}

/// What curl says and what is told of one connection of it, to the server whose address `options` are given.
fn asked_by_http_2(nginx: &Nginx, options: &dyn Fn(&str) -> String) -> (String, Vec<String>) {
    let tape = Arc::<Told>::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let settings = plain::Settings { spoken: Spoken::Http, within: true, keep: 1 << 20, asked: Default::default() };
    let reading = Arc::new(runtime.block_on(plain::Reading::begin(tape.clone(), settings)));
    let lab = Lab::on(Setup { inside: Inside::Tls, ..Setup::default() }, nginx.tls, reading, tape);
    let host = format!("127.0.0.1:{}", lab.port);
    let said = shell(&format!("curl {}", options(&format!("https://{host}"))));
    let told = lab.ended();
    assert_eq!(agreed(&told), [(0x0304, Some("h2".to_owned()), false)], "all in one connection");
    (said, told.iter().filter_map(|entry| web(entry, &host)).collect())
}

/// What is told of HTTP/2, in short, with requests to `host`.
pub fn web(entry: &Entry, to: &str) -> Option<String> {
    Some(match entry {
        Entry::Http { method, path, host, agent, stream: Some(stream) } if *host == to => {
            format!("{stream} {method} {path} {agent}")
        }
        Entry::Status { status, length, stream: Some(stream) } => format!("{stream} {status} {length:?}"),
        Entry::Attempt { user, credential: Credential::Password { password }, accepted } => {
            format!("{user}:{password} {accepted}")
        }
        Entry::Unasked { user, credential: Credential::Password { password } } => format!("{user}:{password} unasked"),
        Entry::Http { .. } | Entry::Status { .. } | Entry::Attempt { .. } | Entry::Strange { .. } => {
            format!("{entry:?}")
        }
        _ => return None,
    })
}

#[test]
fn much_passes_unharmed_both_ways() {
    let nginx = Nginx::start();
    let data: Vec<u8> = (0..24u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(nginx.path("www/large"), &data).unwrap();
    for (inside, port) in [(Inside::Clear, nginx.clear), (Inside::Tls, nginx.tls)] {
        let lab = Lab::new(Setup { inside, ..Setup::default() }, port);
        let copy = nginx.path("copy");
        let said = shell(&format!("curl -sSk --http1.1 -o {} https://127.0.0.1:{}/large", copy.display(), lab.port));
        assert_eq!(said, "");
        assert!(std::fs::read(&copy).unwrap() == data);
        assert!(octets(&lab.ended(), Stream::Output).ends_with(&data));
    }
    // A server that sends all of it back: what comes in goes out.
    let server = echo();
    let lab = Lab::new(Setup::default(), server);
    let mut client = client(lab.port, "large.example.org");
    let sent = data[..8 << 20].to_vec();
    let got = std::thread::scope(|scope| {
        let half = scope.spawn(|| {
            let mut got = vec![0; sent.len()];
            let mut at = 0;
            for piece in sent.chunks(64 * 1024) {
                client.write_all(piece).unwrap();
                client.read_exact(&mut got[at..at + piece.len()]).unwrap();
                at += piece.len();
            }
            got
        });
        half.join().unwrap()
    });
    assert!(got == sent);
    drop(client);
    let told = lab.ended();
    assert!(octets(&told, Stream::Input) == sent && octets(&told, Stream::Output) == sent);
}

/// A server that says everything again.
fn echo() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

#[test]
fn openssl_trusts_an_authority_that_signs_for_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let ca = "-addext basicConstraints=critical,CA:TRUE";
    certificate(dir.path(), "ca", &format!("-newkey rsa:2048 {ca}"));
    certificate(dir.path(), "rsa", "-newkey rsa:2048");
    certificate(dir.path(), "p384", "-newkey ec -pkeyopt ec_paramgen_curve:secp384r1");
    let read = |name: &str| std::fs::read(at(name)).unwrap();
    assert!(Given::authority(&read("ca.pem"), &read("rsa.key")).is_err(), "another's key");
    assert!(Given::authority(&read("rsa.pem"), &read("rsa.key")).is_ok(), "OpenSSL makes authorities by default");
    let server = echo();
    for (key, shown) in [(None, "id-ecPublicKey"), (Some("rsa.key"), "rsaEncryption"), (Some("p384.key"), "secp384r1")]
    {
        let leaf = Leaf {
            subject: Name { common_name: "{sni}".into(), ..Name::default() },
            key: key.map(|key| GivenKey::new(&read(key)).unwrap()),
            authority: Some(Given::authority(&read("ca.pem"), &read("ca.key")).unwrap()),
            ..Leaf::default()
        };
        let lab = Lab::new(Setup { leaf, ..Setup::default() }, server);
        for version in ["-tls1_2", "-tls1_3"] {
            let said = shell(&format!(
                "openssl s_client {version} -connect 127.0.0.1:{} -servername a.example.org -verify_hostname a.example.org \
                 -CAfile {} -verify_return_error </dev/null",
                lab.port,
                at("ca.pem").display()
            ));
            assert!(said.contains("Verify return code: 0 (ok)") && said.contains("Verified peername"), "{said}");
        }
        let said = shell(&format!(
            "openssl s_client -connect 127.0.0.1:{} -servername a.example.org </dev/null | openssl x509 -noout -text",
            lab.port
        ));
        assert!(said.contains(shown) && said.contains("Issuer: O = Inside, CN = ca"), "{said}");
        lab.ended();
    }
}

#[test]
fn a_clients_certificate_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "guest", "-newkey rsa:2048");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let lab = Lab::new(Setup { asks_clients: true, ..Setup::default() }, echo());
    for version in ["-tls1_2", "-tls1_3"] {
        let (pem, key) = (at("guest.pem"), at("guest.key"));
        let to = format!("127.0.0.1:{}", lab.port);
        let said = shell(&format!(
            "echo hello | timeout 5 openssl s_client {version} -connect {to} -cert {pem} -key {key} -servername x.example"
        ));
        assert!(said.contains("CN = x.example"), "{said}");
    }
    let print = shell(&format!("openssl x509 -noout -fingerprint -sha256 -in {}", at("guest.pem")));
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    let told = lab.ended();
    let shown = told.iter().filter(|entry| {
        matches!(entry, Entry::TlsCertificate { sha256, subject } if *sha256 == print && *subject == "O=Inside, CN=guest")
    });
    assert_eq!(shown.count(), 2, "{told:?}");
    assert_eq!(text(&told, Stream::Input), "hello\nhello\n");
}

#[test]
fn sessions_are_resumed_as_by_nginx() {
    let lab = Lab::new(Setup::default(), echo());
    let to = format!("-connect 127.0.0.1:{} -servername x.example", lab.port);
    let said = shell(&format!("openssl s_client -tls1_2 -reconnect {to} </dev/null"));
    assert!(said.matches("Reused, TLSv1.2").count() == 5, "{said}");
    let told = lab.ended();
    assert_eq!(agreed(&told).iter().filter(|agreed| agreed.2).count(), 5);
}

#[test]
fn openssl_as_the_server_inside_and_a_client_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "inner", "-newkey rsa:2048");
    let port = free_port();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-tls1_2", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    let _server = Running::start(server.args(["-cert", &at("inner.pem"), "-key", &at("inner.key")]));
    wait_port(port);
    let lab = Lab::new(Setup { inside: Inside::Tls, ..Setup::default() }, port);
    // 1.3 outside, 1.2 inside.
    let said = shell(&format!("curl -sSkv --tlsv1.3 https://127.0.0.1:{}/", lab.port));
    assert!(said.contains("s_server") && said.contains("TLSv1.3"), "{said}");
    assert_eq!(agreed(&lab.ended()), [(0x0304, None, false)]);
    let nginx = Nginx::start();
    let lab = Lab::new(Setup::default(), nginx.clear);
    let said = shell(&format!("curl -si http://127.0.0.1:{}/", lab.port));
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.contains("<h1>inside</h1>"), "{said}");
    assert!(matches!(lab.ended()[0], Entry::Strange { .. }));
}

/// Of nginx itself only the time differs.
#[test]
fn who_does_not_speak_tls_hears_what_nginx_would_say() {
    let nginx = Nginx::start();
    let lab = Lab::new(Setup { foreign: Foreign::Web("nginx/1.22.1".into()), ..Setup::default() }, nginx.clear);
    let said = |port: u16, what: &[u8]| {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.write_all(what).unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        got.lines().filter(|line| !line.starts_with("Date: ")).map(|line| format!("{line}\n")).collect::<String>()
    };
    for request in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"HEAD /x HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n",
        b"OPTIONS * HTTP/1.0\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header\r\nHost: a\r\n\r\n",
        b"a LOGIN b c\r\n",
        b"HELP\r\n",
        b"\x01\x02\r\n\r\n",
    ] {
        assert_eq!(said(lab.port, request), said(nginx.tls, request), "{:?}", String::from_utf8_lossy(request));
    }
    let page = shell(&format!("curl -si http://127.0.0.1:{}/", lab.port));
    assert!(page.contains("<center>The plain HTTP request was sent to HTTPS port</center>"), "{page}");
    let told = lab.ended();
    assert!(text(&told, Stream::Input).contains("POST / HTTP/1.1\r\nHost: a\r\n"), "{told:?}");
    assert!(text(&told, Stream::Output).contains("The plain HTTP request"));
}

#[test]
fn a_thousand_names_are_answered() {
    let lab = Lab::new(Setup::default(), echo());
    let mut certificates = std::collections::HashSet::new();
    for number in 0..1000 {
        let mut client = client(lab.port, &format!("n{number}.example.org"));
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let shown = client.conn.peer_certificates().unwrap()[0].to_vec();
        certificates.insert(shown);
    }
    // One for each as long as there is a budget, and the host's own.
    assert!(certificates.len() > 64, "{}", certificates.len());
    let ended = wait_for("all of them", || Some(lab.ended()).filter(|told| agreed(told).len() == 1000));
    assert_eq!(octets(&ended, Stream::Input).len(), 1000);
}
