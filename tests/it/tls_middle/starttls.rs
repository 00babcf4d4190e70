//! TLS that begins later, as OpenSSL, curl and psql have it.

use std::process::Command;

use honeyweave::relay::tape::{Entry, Stream};
use honeyweave::relay::tls::{Dialect, Inside};

use super::lab::{Lab, Setup, certificate, free_port, shell, text, wait_port};
use crate::net::Running;

/// A server of any of the protocols, with STARTTLS or without.
const SERVER: &str = r#"
import socket, ssl, sys, threading
dialect, has_tls, port, pem, key = sys.argv[1], sys.argv[2] == 'tls', int(sys.argv[3]), sys.argv[4], sys.argv[5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem, key)

GREETING = {'smtp': '220 mx ready', 'imap': '* OK ready', 'pop3': '+OK ready', 'ftp': '220 ready'}

# What is answered; `TLS` last if TLS begins then, nothing if the connection ends.
def answer(line, has_tls):
    words = line.upper().split() + ['', '']
    if dialect == 'smtp':
        if words[0] == 'EHLO': return ['250-mx', '250-STARTTLS', '250 SIZE'] if has_tls else ['250-mx', '250 SIZE']
        if words[0] == 'STARTTLS': return ['220 go', 'TLS'] if has_tls else ['502 no']
        return ['221 bye', None] if words[0] == 'QUIT' else ['250 ' + line]
    if dialect == 'imap':
        tag, word = line.split()[0], words[1]
        if word == 'CAPABILITY': return ['* CAPABILITY IMAP4rev1' + (' STARTTLS' if has_tls else ''), tag + ' OK']
        if word == 'STARTTLS': return [tag + ' OK go', 'TLS'] if has_tls else [tag + ' BAD']
        return ['* BYE', tag + ' OK', None] if word == 'LOGOUT' else [tag + ' OK ' + line]
    if dialect == 'pop3':
        if words[0] == 'CAPA': return ['+OK', 'USER'] + (['STLS'] if has_tls else []) + ['.']
        if words[0] == 'STLS': return ['+OK go', 'TLS'] if has_tls else ['-ERR']
        if words[0] == 'LIST': return ['+OK', '1 120', '.']
        return ['+OK bye', None] if words[0] == 'QUIT' else ['+OK ' + line]
    if words[0] == 'FEAT': return ['211-Features:'] + ([' AUTH TLS'] if has_tls else []) + [' PASV', '211 End']
    if words[0] == 'AUTH': return ['234 go', 'TLS'] if has_tls else ['500 no']
    return ['221 bye', None] if words[0] == 'QUIT' else ['200 ' + line]

def lines(conn, has_tls):
    conn.sendall((GREETING[dialect] + '\r\n').encode())
    data = b''
    while True:
        while b'\n' not in data:
            more = conn.recv(4096)
            if not more: return
            data += more
        line, data = data.split(b'\n', 1)
        for part in answer(line.decode().strip(), has_tls):
            if part is None: return
            if part == 'TLS':
                conn, has_tls, data = context.wrap_socket(conn, server_side=True), False, b''
            else:
                conn.sendall((part + '\r\n').encode())

def postgres(conn, has_tls):
    start = conn.recv(8, socket.MSG_WAITALL)
    if has_tls and start == b'\0\0\0\x08\x04\xd2\x16\x2f':
        conn.sendall(b'S')
        conn = context.wrap_socket(conn, server_side=True)
        start = conn.recv(8)
    conn.recv(4096)
    fields = b'SFATAL\0VFATAL\0C28P01\0Mthe one inside says no\0\0'
    conn.sendall(b'E' + (len(fields) + 4).to_bytes(4, 'big') + fields)

def serve(conn):
    try:
        (postgres if dialect == 'postgres' else lines)(conn, has_tls)
    except OSError:
        pass
    conn.close()

listener = socket.create_server(('127.0.0.1', port))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

struct Server {
    port: u16,
    _dir: tempfile::TempDir,
    _running: Running,
}

impl Server {
    fn start(dialect: &str, inside: Inside) -> Server {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "inner", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1");
        let port = free_port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let has_tls = if inside == Inside::Tls { "tls" } else { "clear" };
        let mut command = Command::new("python3");
        command.args(["-c", SERVER, dialect, has_tls, &port.to_string(), &at("inner.pem"), &at("inner.key")]);
        let running = Running::start(&mut command);
        wait_port(port);
        Server { port, _dir: dir, _running: running }
    }
}

fn before(name: &str, dialect: Dialect, inside: Inside) -> (Lab, Server) {
    let server = Server::start(name, inside);
    let setup = Setup { inside, starttls: Some(dialect), alpn: Vec::new(), ..Setup::default() };
    (Lab::new(setup, server.port), server)
}

#[test]
fn openssl_begins_tls_in_every_protocol() {
    for (name, dialect, said, last, heard) in [
        ("smtp", Dialect::Smtp, "NOOP x", "QUIT", "250 NOOP x"),
        ("imap", Dialect::Imap, "a1 NOOP", "a2 LOGOUT", "a1 OK a1 NOOP"),
        ("pop3", Dialect::Pop3, "NOOP", "QUIT", "+OK NOOP"),
        ("ftp", Dialect::Ftp, "NOOP", "QUIT", "200 NOOP"),
    ] {
        for inside in [Inside::Clear, Inside::Tls] {
            for version in ["-tls1_2", "-tls1_3"] {
                let (lab, _server) = before(name, dialect, inside);
                let to = format!("-connect 127.0.0.1:{} -servername mx.example.org", lab.port);
                let got = shell(&format!(
                    "printf '{said}\\r\\n{last}\\r\\n' | openssl s_client -quiet {version} -starttls {name} {to}"
                ));
                assert!(got.contains("CN = mx.example.org") && got.contains(heard), "{name} {inside:?}: {got}");
                assert!(!got.contains("trying anyway"), "{name} {inside:?}: {got}");
                let told = lab.ended();
                let at = told.iter().position(|entry| matches!(entry, Entry::Upgrade { .. })).unwrap();
                let hello = told.iter().position(|entry| matches!(entry, Entry::TlsHello { .. })).unwrap();
                assert!(at < hello, "{told:?}");
                let within = text(&told[hello..], Stream::Input);
                assert_eq!(within, format!("{said}\r\n{last}\r\n"), "{told:?}");
                assert!(text(&told[hello..], Stream::Output).contains(heard), "{told:?}");
                assert!(text(&told[..hello], Stream::Output).contains("ready\r\n"), "{told:?}");
            }
        }
    }
}

#[test]
fn curl_logs_in_within_tls_where_the_server_has_none() {
    for inside in [Inside::Clear, Inside::Tls] {
        let (lab, _server) = before("pop3", Dialect::Pop3, inside);
        let said = shell(&format!("curl -sSk --ssl-reqd pop3://root:hunter2@127.0.0.1:{}/", lab.port));
        assert!(said.contains("1 120"), "{said}");
        let told = lab.ended();
        let hello = told.iter().position(|entry| matches!(entry, Entry::TlsHello { .. })).unwrap();
        assert!(!text(&told[..hello], Stream::Input).contains("hunter2"), "{told:?}");
        assert!(text(&told[hello..], Stream::Input).contains("PASS hunter2\r\n"), "{told:?}");
    }
}

#[test]
fn psql_begins_tls_and_is_heard() {
    for inside in [Inside::Clear, Inside::Tls] {
        for mode in ["require", "disable"] {
            let (lab, _server) = before("postgres", Dialect::Postgres, inside);
            let said = shell(&format!(
                "PGSSLMODE={mode} PGCONNECT_TIMEOUT=20 psql -w -h 127.0.0.1 -p {} -U intruder secrets -c 'SELECT 1'",
                lab.port
            ));
            assert!(said.contains("the one inside says no"), "{said}");
            let told = lab.ended();
            let is_within = told.iter().any(|entry| matches!(entry, Entry::TlsAgreed { .. }));
            assert_eq!(is_within, mode == "require", "{told:?}");
            assert!(text(&told, Stream::Input).contains("user\0intruder\0database\0secrets\0"), "{told:?}");
        }
        let (lab, _server) = before("postgres", Dialect::Postgres, inside);
        let to = format!("-connect 127.0.0.1:{} -servername db.example", lab.port);
        let said = shell(&format!("openssl s_client -starttls postgres {to} </dev/null"));
        assert!(said.contains("CN = db.example"), "{said}");
    }
}
