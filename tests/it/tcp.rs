//! TCP with a kernel as the peer: bulk through a link that delays and loses, and what keeps an idle connection.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::lab::Lab;
use crate::net::{DEADLINE, Ns, sh, wait_for};
use crate::netdev::payload;

/// Octets in each direction.
const BULK: usize = 100 << 20;
/// What a program says that many of.
const NUMBERS: &str = "seq 1 20000000 | head -c 104857600";

fn lab(link: &str) -> Lab {
    let lab = Lab::up_alone(&format!(
        r#"
name: tcp
templates:
  # Announces 65,535 octets, and no scale.
  desktop:
    personality: windows-xp
    tcp:
      7: {{script: [/bin/cat]}}
      9: {{script: [/usr/bin/sha256sum]}}
      19: {{script: [/bin/sh, -c, "{NUMBERS}"]}}
nodes:
  wan: {{kind: uplink}}
  desktops: {{kind: hosts, addresses: 192.0.2.100-192.0.2.109, template: desktop}}
links:
  - endpoints: [wan, desktops]
    {link}
"#
    ));
    lab.attacker.addr("eth0", "192.0.2.1/24");
    // What the link loses is a segment, not dozens of them at once.
    lab.attacker.sh(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"]);
    lab.wire.sh(&["ethtool", "-K", "up0", "gro", "off"]);
    lab
}

/// What the kernel has counted in a namespace.
fn counters(ns: &Ns) -> HashMap<String, u64> {
    let text = ns.sh(&["cat", "/proc/net/netstat"]);
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| pair[0].split(' ').zip(pair[1].split(' ')).skip(1));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// What the kernel knows of a connection.
fn info(stream: &TcpStream) -> libc::tcp_info {
    // SAFETY: plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = std::mem::size_of_val(&info) as u32;
    let into = std::ptr::from_mut(&mut info).cast();
    // SAFETY: the kernel writes no more than `len` octets into `info`.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &mut len) };
    assert_eq!(result, 0);
    info
}

fn connect(lab: &Lab, port: u16) -> TcpStream {
    let stream = lab.attacker.enter(|| TcpStream::connect(("192.0.2.100", port)).unwrap());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let info = info(&stream);
    // TCPI_OPT_SACK; the lower half is the scale of the windows that come.
    assert_eq!((info.tcpi_options & 2, info.tcpi_snd_rcv_wscale & 15), (2, 0));
    stream
}

#[test]
fn a_hundred_megabytes_pass_a_lossy_link_each_way_by_itself() {
    let expected = sh(&["sh", "-c", &format!("{NUMBERS} | sha256sum")]);
    let lab = lab("delay: 2ms\n    loss: 1%");
    wait_for("an answer", || lab.attacker.run(&["ping", "-c1", "-W1", "192.0.2.100"]).status.success().then_some(()));
    let begin = Instant::now();
    let (mut upload, mut stream) = (connect(&lab, 9), connect(&lab, 19));
    let (sent, (took, again)) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let (piece, mut digest) = (payload(1 << 20), Sha256::new());
            for _ in 0..BULK / piece.len() {
                upload.write_all(&piece).unwrap();
                digest.update(&piece);
            }
            upload.shutdown(Shutdown::Write).unwrap();
            let mut said = String::new();
            upload.read_to_string(&mut said).unwrap();
            let ours: String = digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
            assert!(said.starts_with(&ours), "{said} and {ours}");
            (begin.elapsed(), info(&upload).tcpi_total_retrans)
        });
        let (mut buffer, mut digest, mut len) = (vec![0; 1 << 16], Sha256::new(), 0);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                n => {
                    digest.update(&buffer[..n]);
                    len += n;
                }
            }
        }
        let ours: String = digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(len, BULK);
        assert!(expected.starts_with(&ours), "{expected} and {ours}");
        (begin.elapsed(), sender.join().unwrap())
    });
    let counters = counters(&lab.attacker);
    let count = |name: &str| counters[name];
    let (repaired, timeouts) = (count("TCPSackRecovery"), count("TCPTimeouts"));
    let (early, twice) = (count("TCPOFOQueue"), count("TCPDSACKOldSent") + count("TCPDSACKOfoSent"));
    println!("to us in {took:?}: {again} segments again, {repaired} losses told by SACK, {timeouts} by time");
    println!("from us in {sent:?}: {early} segments out of order, {twice} twice");
    // Some 72,000 segments each way, of which 720 are lost. Those that the kernel has sent again are those that our
    // blocks have shown it, nearly all before time told.
    assert!((500..1500).contains(&again), "{again}");
    assert!(repaired > 200 && timeouts < 100, "{repaired} and {timeouts}");
    // Behind each of ours that was lost came others, which were not sent again: fewer came twice than were lost.
    assert!(early > 2000 && twice < 720, "{early} and {twice}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn an_idle_connection_is_kept_by_its_answers_by_itself() {
    let lab = lab("");
    let mut stream = connect(&lab, 7);
    let set = |level, name, value: i32| {
        let (value, len) = (std::ptr::from_ref(&value).cast(), std::mem::size_of_val(&value) as u32);
        // SAFETY: the kernel reads `len` octets.
        assert_eq!(unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, value, len) }, 0);
    };
    set(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 1);
    set(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 1);
    set(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 2);
    set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    // Whoever is not answered twice gives up.
    wait_for("five questions", || (counters(&lab.attacker)["TCPKeepAlive"] >= 5).then_some(()));
    stream.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
}
