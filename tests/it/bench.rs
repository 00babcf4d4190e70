//! `honeyweave bench` against the kernel's own network stack, which can answer
//! for whole prefixes, and against a honeynet.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::honeynet::{Honeynet, PROGRAM};
use crate::net::{DEADLINE, Net, Ns, wait_for};

/// A generator and a Linux peer at the other end of a wire.
struct Pair {
    _net: Net,
    generator: Ns,
    peer: Ns,
}

/// The peer answers for all of `local` (AnyIP), besides 192.0.2.1 and fd00::1.
fn pair(local: &[&str]) -> Pair {
    let net = Net::new();
    let (generator, peer) = (net.ns("gen"), net.ns("peer"));
    net.wire((&generator, "eth0"), (&peer, "eth0"));
    for (ns, host) in [(&generator, 2), (&peer, 1)] {
        ns.addr("eth0", &format!("192.0.2.{host}/24"));
        ns.addr("eth0", &format!("fd00::{host}/64"));
        // The kernel asks for neighbors from it when it answers for an address that is on no interface.
        ns.addr("eth0", &format!("fe80::{host}/64"));
    }
    for prefix in local {
        peer.sh(&["ip", "route", "add", "local", prefix, "dev", "lo"]);
    }
    Pair { _net: net, generator, peer }
}

fn run(ns: &Ns, args: &str) -> Output {
    let args: Vec<&str> = [PROGRAM, "bench"].into_iter().chain(args.split(' ')).collect();
    ns.run(&args)
}

/// What `bench` measured.
fn bench(ns: &Ns, args: &str) -> Value {
    let output = run(ns, &format!("{args} --json"));
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {text}{said}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args}: {e}: {text}{said}"))
}

/// Members of a report by name.
fn numbers<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}")))
}

/// A server in `ns` on `port` of every address, one connection at a time.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    port: u16,
    ns: Ns,
}

impl Server {
    /// Serves every connection by `talk`.
    fn start(ns: &Ns, port: u16, talk: fn(std::net::TcpStream) -> std::io::Result<()>) -> Server {
        let listener = ns.enter(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let serve = move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                // A connection that fails is the client's business, which counts it.
                let _ = talk(stream);
            }
        };
        Server { stop, thread: Some(std::thread::spawn(serve)), port, ns: ns.clone() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let port = self.port;
        let _ = self.ns.enter(move || std::net::TcpStream::connect(("127.0.0.1", port)));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn every_address_of_a_slash_16_answers() {
    let Pair { generator, peer, _net } = pair(&["10.9.0.0/16"]);
    let report = bench(&generator, "echo -i eth0 --prefix 10.9.0.0/16 --via 192.0.2.1 --once --rate 40k");
    let counts = numbers(&report, ["targets", "sent", "answered", "responders", "lost", "duplicates", "unexpected"]);
    assert_eq!(counts, [65_536, 65_536, 65_536, 65_536, 0, 0, 0], "{report}");
    let latency = &report["latency_ns"];
    let [min, p50, p99, max] = numbers(latency, ["min", "p50", "p99", "max"]);
    assert!(0 < min && min <= p50 && p50 <= p99 && p99 <= max, "{latency}");
    let rate = report["rate"].as_f64().unwrap();
    assert!(rate > 1000.0 && rate < 41_000.0, "{report}");
    assert!(report["generator"]["cpu_percent"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!((&report["bench"], &report["interrupted"]), (&"echo".into(), &false.into()));

    let report = bench(&generator, "arp -i eth0 --prefix 10.9.0.0/16 --on-link --once --rate 40k");
    let counts = numbers(&report, ["sent", "answered", "responders", "lost", "duplicates"]);
    assert_eq!(counts, [65_536, 65_536, 65_536, 0, 0], "{report}");

    // Nobody listens there. Sources that nobody has are answered for by the generator.
    let from = "--source-prefix 192.0.2.128/25 --sources 100";
    let report = bench(
        &generator,
        &format!("syn -i eth0 --prefix 10.9.0.0/16 --via 192.0.2.1 --once --rate 40k --port 81 {from}"),
    );
    let counts = numbers(&report, ["sent", "answered", "responders", "lost"]);
    assert_eq!(counts, [65_536, 65_536, 65_536, 0], "{report}");
    assert_eq!(numbers(&report["syn"], ["rst", "syn_ack"]), [65_536, 0]);
    let neighbors = peer.sh(&["ip", "neigh"]);
    // Their MAC is not the interface's, but is made of it.
    let mac = generator.sh(&["cat", "/sys/class/net/eth0/address"]);
    let (first, rest) = mac.trim().split_once(':').unwrap();
    let mac = format!("{:02x}:{rest}", (u8::from_str_radix(first, 16).unwrap() | 2) ^ 4);
    for host in [129, 228] {
        let known = neighbors.lines().any(|line| line.starts_with(&format!("192.0.2.{host} ")) && line.contains(&mac));
        assert!(known, "192.0.2.{host} in {neighbors}");
    }
}

#[test]
fn ipv6_is_asked_the_same_way() {
    let Pair { generator, peer, _net } = pair(&["fd09::/112"]);
    let to = "-i eth0 --prefix fd09::/112 --via fd00::1";
    let report = bench(&generator, &format!("echo {to} --once --rate 40k"));
    assert_eq!(numbers(&report, ["sent", "answered", "responders"]), [65_536; 3], "{report}");
    let report = bench(&generator, &format!("syn {to} --count 300 --source-prefix fd00::100/120 --sources 7"));
    assert_eq!(numbers(&report["syn"], ["rst", "syn_ack"]), [300, 0], "{report}");
    for host in 0x10..0x18 {
        peer.addr("eth0", &format!("fd00::{host:x}/64"));
    }
    let report = bench(&generator, "arp -i eth0 --prefix fd00::10/124 --once");
    assert_eq!(numbers(&report, ["sent", "answered", "lost"]), [16, 8, 8], "{report}");
    let report = bench(&generator, "echo -i eth0 --prefix fd00::10/124 --once");
    assert_eq!(numbers(&report, ["targets", "unresolved", "sent", "answered"]), [8, 8, 8, 8], "{report}");
}

#[test]
fn who_does_not_answer_is_counted() {
    let Pair { generator, _net, .. } = pair(&["10.9.1.0/25"]);
    // By way of a router nobody knows who is there.
    let report = bench(&generator, "echo -i eth0 --prefix 10.9.1.0/24 --via 192.0.2.1 --count 768");
    let counts = numbers(&report, ["targets", "sent", "answered", "responders", "lost", "unresolved"]);
    assert_eq!(counts, [256, 768, 384, 128, 384, 0], "{report}");
    // On the link one knows, and asks only those who are.
    let report = bench(&generator, "echo -i eth0 --prefix 10.9.1.0/24 --on-link --count 384 --wait 200ms");
    let counts = numbers(&report, ["targets", "sent", "answered", "responders", "lost", "unresolved"]);
    assert_eq!(counts, [128, 384, 384, 128, 0, 128], "{report}");
    let report = bench(&generator, "arp -i eth0 --prefix 10.9.1.0/24 --on-link --once");
    assert_eq!(numbers(&report, ["sent", "answered", "lost"]), [256, 128, 128], "{report}");
    // A MAC that is nobody's.
    let nobody = "--gateway-mac 02:00:00:00:00:77";
    let report = bench(&generator, &format!("echo -i eth0 --prefix 10.9.1.0/25 {nobody} --once --wait 200ms"));
    assert_eq!(numbers(&report, ["sent", "answered", "lost"]), [128, 0, 128], "{report}");
    assert_eq!(report["latency_ns"], Value::Null);
    let text = run(&generator, "echo -i eth0 --prefix 10.9.1.0/24 --via 192.0.2.1 --once --wait 200ms");
    let text = String::from_utf8(text.stdout).unwrap();
    let squeezed: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["echo requests to 10.9.1.0/24 by eth0", "targets 256", "lost 128", "LATENCY MIN P50 P90 P99 P99.9 MAX"]
    {
        assert!(squeezed.iter().any(|have| have == line), "{line} in\n{text}");
    }
}

#[test]
fn handshakes_are_completed_answered_and_closed() {
    let Pair { generator, peer, _net } = pair(&["10.9.0.0/16"]);
    let to = "-i eth0 --prefix 10.9.0.0/16 --via 192.0.2.1 --rate 2k --source-prefix 192.0.2.128/25 --sources 20";
    let members = ["completed", "refused", "responses", "closed", "reset", "aborted"];
    // Who says something first, and closes at once.
    let server = Server::start(&peer, 22, |mut stream| stream.write_all(b"SSH-2.0-test\r\n"));
    let report = bench(&generator, &format!("handshake {to} --port 22 --count 1000"));
    assert_eq!(numbers(&report, ["sent", "answered", "lost"]), [1000, 1000, 0], "{report}");
    assert_eq!(numbers(&report["handshake"], members), [1000, 0, 1000, 1000, 0, 0], "{report}");
    let [first, answer] =
        [&report["handshake"]["response_latency_ns"], &report["latency_ns"]].map(|of| of["min"].as_u64());
    assert!(first > answer, "{report}");
    drop(server);
    // Who waits to be asked, and until the other side has closed.
    let server = Server::start(&peer, 80, |mut stream| {
        let mut request = [0; 7];
        stream.read_exact(&mut request)?;
        assert_eq!(&request, b"hello\r\n");
        stream.write_all(b"hello yourself")?;
        stream.read_exact(&mut request[..1])
    });
    let report = bench(&generator, &format!(r"handshake {to} --port 80 --count 1000 --request hello\r\n"));
    assert_eq!(numbers(&report["handshake"], members), [1000, 0, 1000, 1000, 0, 0], "{report}");
    // Without a request it says nothing. What stood is reset at the end, so that the server is free again.
    let report = bench(&generator, &format!("handshake {to} --port 80 --count 10 --wait 200ms"));
    assert_eq!(numbers(&report["handshake"], members), [10, 0, 0, 0, 0, 10], "{report}");
    let report = bench(&generator, &format!(r"handshake {to} --port 80 --count 10 --request hello\r\n"));
    assert_eq!(numbers(&report["handshake"], members), [10, 0, 10, 10, 0, 0], "{report}");
    drop(server);
    let report = bench(&generator, &format!("handshake {to} --port 80 --count 100"));
    assert_eq!(numbers(&report["handshake"], members), [0, 100, 0, 0, 0, 0], "{report}");
    assert_eq!(numbers(&report, ["answered", "lost"]), [100, 0], "{report}");
}

#[test]
fn a_honeynet_answers() {
    let net = Net::new();
    let (generator, wire) = (net.ns("gen"), net.ns("wire"));
    net.wire((&generator, "eth0"), (&wire, "up0"));
    generator.addr("eth0", "10.1.9.2/16");
    let topology = r#"
name: bench
templates:
  server: {personality: linux, tcp: {22: {banner: "SSH-2.0-OpenSSH_9.2p1\r\n"}, 443: filtered}}
nodes:
  wan: {kind: uplink}
  servers: {kind: hosts, addresses: 10.1.0.0/24, template: server}
links:
  - endpoints: [wan, servers]
"#;
    let honeynet = Honeynet::up(&wire, "up0", topology);
    let to = "-i eth0 --prefix 10.1.0.0/24";
    let report = bench(&generator, &format!("echo {to} --count 2560"));
    let counts = numbers(&report, ["targets", "sent", "answered", "responders", "duplicates", "unexpected"]);
    assert_eq!(counts, [256, 2560, 2560, 256, 0, 0], "{report}");
    let from = "--source-prefix 10.1.9.128/25 --sources 11";
    let members = ["completed", "refused", "responses", "closed", "reset", "aborted"];
    let report = bench(&generator, &format!("handshake {to} --port 22 --count 1000 --rate 2k {from}"));
    assert_eq!(numbers(&report["handshake"], members), [1000, 0, 1000, 1000, 0, 0], "{report}");
    let report = bench(&generator, &format!("syn {to} --port 23 --once {from}"));
    assert_eq!(numbers(&report["syn"], ["syn_ack", "rst"]), [0, 256], "{report}");
    let report = bench(&generator, &format!("syn {to} --port 443 --once --wait 200ms {from}"));
    assert_eq!(numbers(&report, ["answered", "lost"]), [0, 256], "{report}");
    // The other side has seen the same.
    let log = honeynet.down();
    let opened = log.lines().filter(|line| line.contains(r#""event":"tcp.open""#)).count();
    assert_eq!(opened, 1000);
}

#[test]
fn frames_are_counted_at_the_other_end() {
    let Pair { generator, peer, _net } = pair(&[]);
    let mut receiver = peer.spawn(&[PROGRAM, "bench", "frames", "-i", "eth0", "--receive", "--json"]);
    let ready = receiver.wait_line("receiving on eth0");
    let mac = peer.sh(&["cat", "/sys/class/net/eth0/address"]);
    assert!(ready.contains(mac.trim()), "{ready}");
    let send = format!("frames -i eth0 --to {}", mac.trim());
    let sent = bench(&generator, &format!("{send} --count 20000 --rate 40k --sources 5"));
    assert_eq!(numbers(&sent, ["sent", "size"]), [20_000, 64], "{sent}");
    assert!(sent.get("answered").is_none(), "{sent}");
    let (status, said) = receiver.wait();
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let counts = numbers(&report, ["received", "missing", "octets", "foreign"]);
    assert_eq!(counts, [20_000, 0, 20_000 * 64, 0], "{report}");
    assert!(report["rate"].as_f64().unwrap() > 1000.0, "{report}");

    // Both ends in one process: back by a bridge in the other namespace.
    let middle = _net.ns("mid");
    for (ours, theirs) in [("out0", "port0"), ("in0", "port1")] {
        _net.wire((&generator, ours), (&middle, theirs));
    }
    middle.sh(&["ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0"]);
    for port in ["port0", "port1"] {
        middle.sh(&["ip", "link", "set", port, "master", "br0"]);
    }
    middle.sh(&["ip", "link", "set", "br0", "up"]);
    let forwarding = || middle.sh(&["bridge", "link"]).matches("state forwarding").count() == 2;
    wait_for("the bridge", || forwarding().then_some(()));
    let mac = generator.sh(&["cat", "/sys/class/net/in0/address"]);
    let send = format!("frames -i out0 --to {} --count-on in0", mac.trim());
    let report = bench(&generator, &format!("{send} --count 5000 --size 1518"));
    assert_eq!(numbers(&report, ["sent", "answered", "lost", "duplicates"]), [5000, 5000, 0, 0], "{report}");
    assert!(report["latency_ns"]["min"].as_u64() > Some(0), "{report}");
    let refused = run(&generator, &format!("{send} --size 1519"));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

/// What a comparison of switches does: a process at each of two TAPs, in namespaces of their own.
#[test]
fn frames_pass_a_switch_between_taps() {
    let net = Net::new();
    let (honey, left, right) = (net.ns("honey"), net.ns("left"), net.ns("right"));
    let topology = "
name: bench-taps
nodes:
  core: {kind: switch, ports: 2}
  left: {kind: tap, interface: hw-left}
  right: {kind: tap, interface: hw-right}
links:
  - endpoints: [left, 'core:1']
  - endpoints: [right, 'core:2']
";
    let _honeynet = Honeynet::up(&honey, None, topology);
    for (name, ns) in [("hw-left", &left), ("hw-right", &right)] {
        crate::net::sh(&["ip", "-n", &honey.name, "link", "set", name, "netns", &ns.name]);
        ns.sh(&["ip", "link", "set", name, "up"]);
    }
    let mut receiver = right.spawn(&[PROGRAM, "bench", "frames", "-i", "hw-right", "--receive", "--json"]);
    receiver.wait_line("receiving on hw-right");
    let mac = right.sh(&["cat", "/sys/class/net/hw-right/address"]);
    let sent = bench(&left, &format!("frames -i hw-left --to {} --count 5000 --rate 5k", mac.trim()));
    assert_eq!(numbers(&sent, ["sent", "unsent"]), [5000, 0], "{sent}");
    let (status, said) = receiver.wait();
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(numbers(&report, ["received", "missing"]), [5000, 0], "{report}");
}

#[test]
fn an_interrupt_ends_it_with_the_figures_so_far() {
    let Pair { generator, peer, _net } = pair(&["10.9.0.0/16"]);
    let words = "echo -i eth0 --prefix 10.9.0.0/16 --via 192.0.2.1 --duration 100s --json";
    let args: Vec<&str> = [PROGRAM, "bench"].into_iter().chain(words.split(' ')).collect();
    let running = generator.spawn(&args);
    let arrived = || peer.sh(&["cat", "/sys/class/net/eth0/statistics/rx_packets"]).trim().parse::<u64>().unwrap();
    wait_for("some probes", || (arrived() > 500).then_some(()));
    running.signal(libc::SIGINT);
    let (status, said) = running.wait();
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(report["interrupted"], true);
    let [sent, answered] = numbers(&report, ["sent", "answered"]);
    assert!(sent > 400 && sent == answered, "{report}");
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_reason() {
    let Pair { generator, peer, _net } = pair(&[]);
    peer.sh(&["ip", "link", "add", "gone", "type", "veth", "peer", "name", "away"]);
    let refused = |ns: &Ns, args: &str, code: i32, why: &str| {
        let output = run(ns, args);
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        // The report wraps lines and draws a bar before them.
        let said = said.replace("│ ", "");
        assert_eq!(output.status.code(), Some(code), "{args}: {said}");
        assert!(said.contains(why), "{args}: {said}");
    };
    refused(&generator, "echo -i nosuch --prefix 10.9.0.0/24", 2, "no interface `nosuch`");
    refused(&generator, "echo -i lo --prefix 10.9.0.0/24", 2, "`lo` does not carry Ethernet");
    refused(&peer, "echo -i gone --prefix 10.9.0.0/24", 2, "is down or has no carrier");
    // Never to a router that was not named.
    generator.sh(&["ip", "route", "add", "default", "via", "192.0.2.1"]);
    refused(&generator, "echo -i eth0 --prefix 10.9.0.0/24", 2, "not on the link of `eth0` (192.0.2.2/24)");
    refused(&generator, "echo -i eth0 --prefix 192.0.0.0/16", 2, "not on the link of `eth0`");
    refused(&generator, "echo -i eth0 --prefix 224.0.0.0/24 --on-link", 2, "multicast");
    refused(&generator, "echo -i eth0 --prefix 0.0.0.0/0 --via 192.0.2.1", 2, "everything");
    refused(&generator, "echo -i eth0 --prefix 10.0.0.0/7 --via 192.0.2.1", 2, "16777216 are possible");
    refused(&generator, "echo -i eth0 --prefix fd00::/64", 2, "1048576 are possible");
    refused(&generator, "echo -i eth0 --prefix 10.9.0.0/24 --via fd00::1", 2, "not of the same IP version");
    refused(&generator, "arp -i eth0 --prefix 10.9.0.0/24 --via 192.0.2.1", 2, "does not cross a router");
    refused(&generator, "handshake -i eth0 --prefix 192.0.2.0/24", 2, "reset by its own kernel");
    let own = "handshake -i eth0 --prefix 192.0.2.0/24 --source-prefix 192.0.2.2";
    refused(&generator, own, 2, "reset by its own kernel");
    refused(
        &generator,
        "syn -i eth0 --prefix 192.0.2.0/24 --source-prefix 192.0.2.4/30 --sources 3",
        2,
        "has 2 addresses",
    );
    refused(
        &generator,
        "echo -i eth0 --prefix 10.9.0.0/24 --via 192.0.2.77 --wait 50ms",
        1,
        "192.0.2.77 does not answer",
    );
    refused(&generator, "echo -i eth0 --prefix 192.0.2.128/30 --wait 50ms", 1, "nobody in 192.0.2.128/30 answers");
    generator.sh(&["ip", "addr", "flush", "dev", "eth0"]);
    refused(&generator, "echo -i eth0 --prefix 10.9.0.0/24", 2, "no IPv4 address to send from");
}
