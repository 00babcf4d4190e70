//! Forwards: local, dynamic and remote.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Child;

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::{ChannelKind, Entry, Stream, Text};

use super::lab::{Lab, free_port, noise, octets, opened, run};
use crate::net::wait_for;

/// A server that answers one line with it and a greeting, for as many connections as there are.
fn greeter() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut line = [0; 64];
                let n = stream.read(&mut line).unwrap_or(0);
                let _ = stream.write_all(&[b"HTTP/1.0 200 OK\r\n\r\nhello ", &line[..n]].concat());
            });
        }
    });
    port
}

struct Ssh(Child);

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn forwarding(lab: &Lab, how: &str, what: &str) -> Ssh {
    Ssh(lab.ssh_alone(&["-N", "-o", "ExitOnForwardFailure=yes", how, what]).spawn().unwrap())
}

fn say(port: u16, text: &[u8]) -> String {
    let mut stream = wait_for("the port", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    stream.write_all(text).unwrap();
    let mut answer = String::new();
    // A connection that is closed with something unread is reset, to who wrote it.
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Where it goes, without the port that the client happens to have for it, which it has to tell.
fn unsourced(kind: &ChannelKind) -> ChannelKind {
    match kind.clone() {
        ChannelKind::DirectTcpip { host, port, from } => {
            assert!(from.as_str().starts_with("127.0.0.1:"), "{from}");
            ChannelKind::DirectTcpip { host, port, from: Text::default() }
        }
        other => other,
    }
}

#[test]
fn a_local_forward_reaches_its_target() {
    let lab = Lab::new(Policy::Any);
    let (target, local) = (greeter(), free_port());
    let ssh = forwarding(&lab, "-L", &format!("{local}:127.0.0.1:{target}"));
    assert_eq!(say(local, b"first"), "HTTP/1.0 200 OK\r\n\r\nhello first");
    assert_eq!(say(local, b"second"), "HTTP/1.0 200 OK\r\n\r\nhello second");
    drop(ssh);
    let told = lab.ended();
    let kind = ChannelKind::DirectTcpip { host: Text::new("127.0.0.1"), port: target.into(), from: Text::default() };
    assert_eq!(opened(&told).iter().map(unsourced).collect::<Vec<_>>(), [kind.clone(), kind]);
    assert_eq!(octets(&told, 0, Stream::Input), "first");
    assert_eq!(octets(&told, 1, Stream::Output), "HTTP/1.0 200 OK\r\n\r\nhello second");
}

#[test]
fn a_forward_to_nowhere_is_refused_as_the_server_inside_does() {
    let lab = Lab::new(Policy::Any);
    let (target, local) = (free_port(), free_port());
    let ssh = forwarding(&lab, "-L", &format!("{local}:127.0.0.1:{target}"));
    assert_eq!(say(local, b"anyone?"), "");
    drop(ssh);
    let told = lab.ended();
    let kind = ChannelKind::DirectTcpip { host: Text::new("127.0.0.1"), port: target.into(), from: Text::default() };
    let reason = Text::new("connect failed: Connection refused");
    let refused = told.iter().any(|entry| match entry {
        Entry::Refused { kind: of, reason: why } => unsourced(of) == kind && *why == reason,
        _ => false,
    });
    assert!(refused, "{told:#?}");
}

#[test]
fn a_dynamic_forward_is_a_proxy() {
    let lab = Lab::new(Policy::Any);
    let (target, local) = (greeter(), free_port());
    let ssh = forwarding(&lab, "-D", &local.to_string());
    wait_for("the proxy", || TcpStream::connect((Ipv4Addr::LOCALHOST, local)).ok());
    let output = run(std::process::Command::new("curl").args(["-sS", "-m", "20", "--noproxy", ""]).args([
        "--socks5-hostname",
        &format!("127.0.0.1:{local}"),
        &format!("http://localhost:{target}/x"),
    ]));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("hello GET /x HTTP/1.1"), "{output:?}");
    drop(ssh);
    let told = lab.ended();
    let kind = ChannelKind::DirectTcpip { host: Text::new("localhost"), port: target.into(), from: Text::default() };
    assert_eq!(opened(&told).iter().map(unsourced).collect::<Vec<_>>(), [kind]);
    assert!(octets(&told, 0, Stream::Input).starts_with("GET /x HTTP/1.1"));
}

#[test]
fn a_remote_forward_comes_back() {
    let lab = Lab::new(Policy::Any);
    let (target, remote) = (greeter(), free_port());
    let ssh = forwarding(&lab, "-R", &format!("127.0.0.1:{remote}:127.0.0.1:{target}"));
    assert_eq!(say(remote, b"from inside"), "HTTP/1.0 200 OK\r\n\r\nhello from inside");
    drop(ssh);
    let told = lab.ended();
    let host = Text::new("127.0.0.1");
    assert!(told.contains(&Entry::Listen { host: host.clone(), port: remote.into(), accepted: true }), "{told:#?}");
    assert!(matches!(
        &opened(&told).iter().map(unsourced).collect::<Vec<_>>()[..],
        [ChannelKind::ForwardedTcpip { host: at, port, from }] if *at == host && *port == u32::from(remote)
            && from.as_str().parse::<SocketAddr>().is_ok_and(|from| from.ip().is_loopback())
    ));
    // Its input is what the attacker's side says: here, the greeter.
    assert_eq!(octets(&told, 0, Stream::Output), "from inside");
    assert_eq!(octets(&told, 0, Stream::Input), "HTTP/1.0 200 OK\r\n\r\nhello from inside");
}

#[test]
fn a_port_that_the_server_chooses_is_told() {
    let lab = Lab::new(Policy::Any);
    let target = greeter();
    let ssh = forwarding(&lab, "-R", &format!("127.0.0.1:0:127.0.0.1:{target}"));
    let port = wait_for("the port", || {
        lab.told().iter().find_map(|entry| match entry {
            Entry::Listen { port, accepted: true, .. } => Some(*port as u16),
            _ => None,
        })
    });
    assert_ne!(port, 0);
    assert_eq!(say(port, b"x"), "HTTP/1.0 200 OK\r\n\r\nhello x");
    drop(ssh);
    lab.ended();
}

#[test]
fn much_passes_a_forward_while_another_is_stuck() {
    let lab = Lab::new(Policy::Any);
    // Takes a connection and never reads from it.
    let stuck = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (target, local, stuck_local) = (greeter(), free_port(), free_port());
    let both = format!("{local}:127.0.0.1:{target}");
    let other = format!("{stuck_local}:127.0.0.1:{}", stuck.local_addr().unwrap().port());
    let ssh = Ssh(lab.ssh_alone(&["-N", "-L", &both, "-L", &other]).spawn().unwrap());
    let mut stream = wait_for("the port", || TcpStream::connect((Ipv4Addr::LOCALHOST, stuck_local)).ok());
    stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    // Until nothing more goes in: buffers of kernels, clients and servers, and ours.
    assert!(stream.write_all(&noise(64 << 20)).is_err(), "64 MB went to where nobody reads");
    for i in 0..10 {
        assert_eq!(say(local, format!("{i}").as_bytes()), format!("HTTP/1.0 200 OK\r\n\r\nhello {i}"));
    }
    drop(ssh);
    lab.ended();
    let used = lab.used();
    assert!(used.inward < 3 << 20, "{used:?}");
}
