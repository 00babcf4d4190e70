//! Connections that somebody outside of the switch answers: scripts through the
//! keeper, proxy targets through the console.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use crate::honeynet::Honeynet;
use crate::net::{DEADLINE, Net, Ns, wait_for};

fn topology(target: u16, closed: u16) -> String {
    format!(
        "
name: services
templates:
  server:
    personality: linux
    tcp:
      7: {{script: [/bin/cat]}}
      13: {{script: [/bin/echo, it is noon]}}
      19: {{script: [/nonexistent/program]}}
      8080: {{proxy: '127.0.0.1:{target}'}}
      8081: {{proxy: '127.0.0.1:{closed}'}}
nodes:
  wan: {{kind: uplink}}
  servers: {{kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: server}}
links:
  - endpoints: [wan, servers]
"
    )
}

fn connect(attacker: &Ns, port: u16) -> TcpStream {
    let stream = attacker.enter(|| TcpStream::connect(("192.0.2.100", port)).unwrap());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends a megabyte, closes its side and expects every octet back.
fn echo(stream: TcpStream) {
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&stream).read_to_end(&mut got).unwrap();
        assert!(got == sent, "{} octets", got.len());
    });
}

#[test]
fn scripts_and_proxies_answer_connections() {
    let net = Net::new();
    let (attacker, honey) = (net.ns("attacker"), net.ns("honey"));
    net.wire((&attacker, "eth0"), (&honey, "eth1"));
    attacker.addr("eth0", "192.0.2.1/24");
    let target = honey.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let closed = honey.enter(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let port = target.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        let mut copy = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut copy).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let honeynet = Honeynet::up(&honey, "eth1", &topology(port, closed));

    echo(connect(&attacker, 7));
    let mut said = String::new();
    connect(&attacker, 13).read_to_string(&mut said).unwrap();
    assert_eq!(said, "it is noon\n");
    echo(connect(&attacker, 8080));

    // What does not answer resets that one connection, as a host in trouble would, and is an event.
    for port in [19, 8081] {
        // The reset may come before the client has even looked at its new connection.
        let opened = attacker.enter(|| TcpStream::connect(("192.0.2.100", port)));
        let error = opened.and_then(|mut stream| stream.read(&mut [0; 10])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{port}");
        let failed = wait_for("the event", || {
            let log = honeynet.log();
            let wanted = |line: &&str| line.contains("service.failed") && line.contains(&format!("\"port\":{port}"));
            log.lines().find(wanted).map(str::to_owned)
        });
        let why = if port == 19 { "/nonexistent/program" } else { "refused" };
        assert!(failed.contains(why), "{failed}");
        assert!(failed.contains("192.0.2.1\""), "the attacker is named: {failed}");
    }
    // The honeynet goes on.
    echo(connect(&attacker, 7));
}
