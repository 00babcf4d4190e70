//! One host before, while and after a container takes its place, as tshark sees it field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::lab::Lab;
use crate::net::{Ns, Running, wait_for};
use crate::shell::shell;

/// A Linux and a Windows host on the very segment of the wire.
const PAIR: &str = r#"
name: identity
templates:
  linux: {personality: linux, vendor: dell, tcp: {22: container}, backend: {image: tools, idle: 10m}, outward: allow}
  windows: {personality: windows, vendor: dell, tcp: {22: container}, backend: {image: tools, idle: 10m}, outward: allow}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  one: {kind: host, address: 192.0.2.100, template: linux, prefix: [192.0.2.0/24], gateway: [192.0.2.1]}
  two: {kind: host, address: 192.0.2.101, template: windows, prefix: [192.0.2.0/24], gateway: [192.0.2.1]}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [one, "core:2"]
  - endpoints: [two, "core:3"]
"#;

/// A frame of the host's.
#[derive(Debug)]
struct Seen {
    at: f64,
    /// What it is: `arp`, `echo`, `unreachable`, `syn`, `syn-ack`, `rst`, `data`, `udp` or another.
    kind: &'static str,
    /// All fields that are to stay what they are.
    fields: String,
    id: u16,
    clock: Option<u32>,
}

const FIELDS: [&str; 18] = [
    "frame.time_epoch",
    "eth.src",
    "arp.opcode",
    "frame.len",
    "ip.ttl",
    "ip.flags.df",
    "ip.dsfield",
    "ip.id",
    "ip.len",
    "ip.proto",
    "icmp.type",
    "icmp.code",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.seq_raw",
    "tcp.options",
    "tcp.options.timestamp.tsval",
    "udp.length",
];

/// The frames of `host` in a capture.
fn frames(file: &str, host: &str) -> Vec<Seen> {
    let filter = format!("ip.src == {host} || arp.src.proto_ipv4 == {host}");
    let mut args = vec!["tshark", "-r", file, "-Y", &filter, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"];
    args.extend(FIELDS.iter().flat_map(|field| ["-e", *field]));
    let text = crate::net::sh(&args);
    text.lines().map(seen).collect()
}

fn seen(line: &str) -> Seen {
    let values: Vec<&str> = line.split('|').collect();
    let of = |name: &str| values[FIELDS.iter().position(|field| *field == name).unwrap()];
    let number = |name: &str| {
        let text = of(name);
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
    };
    let flags = number("tcp.flags").unwrap_or(0) as u8;
    let kind = match (of("arp.opcode"), of("icmp.type"), of("ip.proto")) {
        (opcode, ..) if !opcode.is_empty() => "arp",
        (_, "0", "1") => "echo",
        (_, "3", "1") => "unreachable",
        (_, "8", "1") => "ping",
        (_, _, "17") => "udp",
        (_, _, "6") if flags & 0x17 == 0x02 => "syn",
        (_, _, "6") if flags & 0x12 == 0x12 => "syn-ack",
        (_, _, "6") if flags & 4 != 0 => "rst",
        (_, _, "6") => "data",
        _ => "other",
    };
    let ip = format!("ttl {} df {} tos {}", of("ip.ttl"), of("ip.flags.df"), of("ip.dsfield"));
    // Values of timestamps differ, and are looked at by themselves.
    let mut options = of("tcp.options").replace(':', "");
    if let Some(at) = options.find("080a") {
        let end = (at + 20).min(options.len());
        options.replace_range(at + 4..end, &"x".repeat(end - at - 4));
    }
    let fields = match kind {
        "arp" => format!("{} opcode {} len {}", of("eth.src"), of("arp.opcode"), of("frame.len")),
        "echo" | "unreachable" | "ping" | "udp" => {
            format!("{} {ip} len {} code {}", of("eth.src"), of("ip.len"), of("icmp.code"))
        }
        "data" => format!("{} {ip} options {}", of("eth.src"), if options.is_empty() { "none" } else { &options[..8] }),
        _ => format!(
            "{} {ip} len {} flags {flags:02x} window {} options {options} seq {}",
            of("eth.src"),
            of("ip.len"),
            of("tcp.window_size_value"),
            if of("tcp.seq_raw") == "0" { "0" } else { "some" }
        ),
    };
    let clock = number("tcp.options.timestamp.tsval").map(|clock| clock as u32);
    let at = of("frame.time_epoch").parse().unwrap();
    Seen { at, kind, fields, id: number("ip.id").unwrap_or(0) as u16, clock }
}

/// What is seen of each kind of answer.
fn picture(frames: &[&Seen]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut picture: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for frame in frames.iter().filter(|frame| ["arp", "echo", "unreachable", "syn-ack", "rst"].contains(&frame.kind)) {
        picture.entry(frame.kind).or_default().insert(frame.fields.clone());
    }
    picture
}

fn capture(lab: &Lab, name: &str) -> (Running, String) {
    let file = lab.path(name).display().to_string();
    let mut tcpdump = lab.attacker.spawn(&["tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-w", &file]);
    tcpdump.wait_line("listening on");
    (tcpdump, file)
}

/// Ends a capture when the host's answer to a last ping of `len` octets is in it.
fn end(capture: Running, file: &str, attacker: &Ns, host: &str, len: u32) {
    attacker.sh(&["ping", "-c", "1", "-W", "2", "-s", &len.to_string(), host]);
    let filter = format!("icmp and src host {host} and ip[2:2] == {}", len + 28);
    wait_for("the last echo in the capture", || {
        let text = std::process::Command::new("tcpdump").args(["-n", "-r", file, &filter]).output().ok()?;
        (!text.stdout.is_empty()).then_some(())
    });
    drop(capture);
}

fn scan(attacker: &Ns, host: &str) {
    attacker.sh(&["ip", "neigh", "flush", "dev", "eth0"]);
    attacker.sh(&["ping", "-c", "3", "-i", "0.05", "-W", "2", host]);
    attacker.sh(&["nmap", "-O", "-n", "-p", "22,81", host]);
}

/// How a number goes on: the class that nmap would tell.
fn class(ids: &[u16]) -> &'static str {
    let steps: Vec<i16> = ids.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as i16).collect();
    match &steps[..] {
        _ if ids.iter().all(|id| *id == 0) => "zero",
        steps if steps.iter().all(|step| (-20..2000).contains(step)) && steps.iter().any(|step| *step != 0) => "counts",
        _ => "random",
    }
}

/// `nmap -O` before, `nmap -O` in whose middle somebody logs in, `nmap -O` afterwards.
fn stays_itself(host: &str, expected_ids: [(&str, &str); 3], ts_hz: Option<f64>) {
    let lab = Lab::up_alone(PAIR);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let (first, before) = capture(&lab, "before.pcap");
    scan(&lab.attacker, host);
    end(first, &before, &lab.attacker, host, 401);
    let (second, during) = capture(&lab, "during.pcap");
    let answers = format!("src host {host} and tcp[13] & 0x12 == 0x12");
    let mut watch = lab.attacker.spawn(&["tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", &answers]);
    watch.wait_line("listening on");
    lab.attacker.sh(&["ip", "neigh", "flush", "dev", "eth0"]);
    lab.attacker.sh(&["ping", "-c", "3", "-i", "0.05", "-W", "2", host]);
    let nmap = lab.attacker.spawn(&["nmap", "-O", "-n", "-p", "22,81", host]);
    // The port scan, and the first probes of the OS detection.
    (0..3).for_each(|_| drop(watch.wait_line("Flags [S.]")));
    shell(&lab.attacker, host, "true");
    let (status, said) = nmap.wait();
    assert!(status.success(), "{said}");
    drop(watch);
    end(second, &during, &lab.attacker, host, 402);
    let live = lab.json(&["hosts", "ls"]).to_string();
    assert!(live.contains("\"state\":\"live\""), "{live}");
    let (third, after) = capture(&lab, "after.pcap");
    scan(&lab.attacker, host);
    end(third, &after, &lab.attacker, host, 403);

    let files = [before, during, after].map(|file| frames(&file, host));
    // It did come to life in the middle.
    let times =
        |kind: &str| files[1].iter().filter(move |frame| frame.kind == kind).map(|frame| frame.at).collect::<Vec<_>>();
    let (data, answers) = (times("data"), times("unreachable"));
    assert!(!data.is_empty() && !answers.is_empty(), "{data:?} {answers:?}");
    assert!(data[0] < *answers.last().unwrap() && data[0] > times("syn-ack")[0], "{data:?} {answers:?}");
    // The last ping is of another length each time.
    let pictures =
        files.each_ref().map(|frames| picture(&frames.iter().filter(|frame| !is_last(frame)).collect::<Vec<_>>()));
    for kind in ["arp", "echo", "unreachable", "syn-ack", "rst"] {
        assert!(pictures[0].contains_key(kind), "no {kind}: {:#?}", pictures[0]);
        assert_eq!(pictures[0].get(kind), pictures[1].get(kind), "{kind}: before and meanwhile");
        assert_eq!(pictures[0].get(kind), pictures[2].get(kind), "{kind}: before and afterwards");
    }
    // Data, whoever sends them, look alike.
    let data: BTreeSet<&str> =
        files.iter().flatten().filter(|frame| frame.kind == "data").map(|frame| &*frame.fields).collect();
    println!("{host}: {:#?}\ndata: {data:#?}", pictures[0]);
    assert_eq!(data.len(), 1, "{data:#?}");
    let all: Vec<&Seen> = files.iter().flatten().collect();
    for (kinds, expected) in expected_ids {
        let ids: Vec<u16> =
            all.iter().filter(|frame| kinds.split(' ').any(|kind| kind == frame.kind)).map(|frame| frame.id).collect();
        assert_eq!(class(&ids), expected, "{kinds}: {ids:?}");
    }
    clocks_tick(&all, ts_hz);
}

fn is_last(frame: &Seen) -> bool {
    frame.kind == "echo" && [401, 402, 403].iter().any(|len| frame.fields.contains(&format!(" len {} ", len + 28)))
}

/// All timestamps are of one clock.
fn clocks_tick(frames: &[&Seen], hz: Option<f64>) {
    let clocks: Vec<(f64, u32)> = frames.iter().filter_map(|frame| Some((frame.at, frame.clock?))).collect();
    let Some(hz) = hz else {
        assert!(clocks.is_empty(), "{clocks:?}");
        return;
    };
    assert!(clocks.len() > 10, "{clocks:?}");
    let (began, first) = clocks[0];
    for (at, clock) in &clocks {
        let ticks = f64::from(clock.wrapping_sub(first) as i32);
        let expected = (at - began) * hz;
        // What is told with a frame that waits for a busy processor is not older than that.
        assert!((ticks - expected).abs() < 0.1 * hz, "{ticks} ticks instead of {expected}: {clocks:?}");
    }
}

#[test]
fn nmap_sees_no_difference_when_a_linux_host_comes_to_life_by_itself() {
    stays_itself(
        "192.0.2.100",
        [("syn-ack", "zero"), ("rst echo unreachable", "counts"), ("echo", "counts")],
        Some(1000.0),
    );
}

#[test]
fn nmap_sees_no_difference_when_a_windows_host_comes_to_life_by_itself() {
    let all = "syn-ack rst echo unreachable data";
    stays_itself("192.0.2.101", [(all, "counts"), ("syn-ack", "counts"), ("unreachable", "counts")], None);
}

/// What a container begins, to an attacker who listens.
fn begins(lab: &Lab, host: &str) -> Vec<Seen> {
    shell(&lab.attacker, host, "true");
    let (capture, file) = capture(lab, "begins.pcap");
    let data = 3_000_000;
    let sink = lab.attacker.enter(|| std::net::TcpListener::bind("192.0.2.2:9000").unwrap());
    let datagrams = lab.attacker.enter(|| std::net::UdpSocket::bind("192.0.2.2:53").unwrap());
    let received = std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            let (mut stream, _) = sink.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.len()
        });
        let send = format!("head -c {data} /dev/zero | nc 192.0.2.2 9000");
        shell(&lab.attacker, host, &send);
        received.join().unwrap()
    });
    assert_eq!(received, data, "everything arrives");
    let said = shell(&lab.attacker, host, "ping -c 3 -W 2 192.0.2.2; timeout 1 nslookup honey.example 192.0.2.2; true");
    assert!(said.contains("3 packets received"), "{said}");
    let mut datagram = [0; 512];
    datagrams.set_read_timeout(Some(crate::net::DEADLINE)).unwrap();
    let n = datagrams.recv(&mut datagram).unwrap();
    assert!(datagram[..n].windows(5).any(|octets| octets == b"honey"), "{datagram:?}");
    // To nobody.
    shell(&lab.attacker, host, "nc -w 1 192.0.2.2 9002 </dev/null || true");
    end(capture, &file, &lab.attacker, host, 404);
    frames(&file, host)
}

#[test]
fn a_windows_host_begins_connections_as_windows_does() {
    let lab = Lab::up(PAIR);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let seen = begins(&lab, "192.0.2.101");
    let of = |kind: &str| seen.iter().filter(|frame| frame.kind == kind).collect::<Vec<_>>();
    let syns: BTreeSet<&str> = of("syn").iter().map(|frame| frame.fields.split_once(' ').unwrap().1).collect();
    let expected = "ttl 128 df 1 tos 0x00 len 52 flags 02 window 64240 options 020405b40103030801010402 seq some";
    assert_eq!(syns, BTreeSet::from([expected]), "{syns:#?}");
    assert!(seen.iter().all(|frame| frame.kind == "arp" || frame.fields.contains("ttl 128 ")), "{seen:#?}");
    assert!(seen.iter().all(|frame| frame.kind == "arp" || frame.fields.contains("tos 0x00")), "{seen:#?}");
    assert_eq!(of("ping").len(), 3);
    assert!(of("ping").iter().all(|frame| frame.fields.contains("df 0 ")));
    let ids: Vec<u16> = seen.iter().filter(|frame| frame.kind != "arp").map(|frame| frame.id).collect();
    assert_eq!(class(&ids), "counts", "one counter for all of it");
    clocks_tick(&seen.iter().collect::<Vec<_>>(), None);
}

#[test]
fn a_linux_host_begins_connections_as_itself() {
    let lab = Lab::up(PAIR);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let seen = begins(&lab, "192.0.2.100");
    let of = |kind: &str| seen.iter().filter(|frame| frame.kind == kind).collect::<Vec<_>>();
    let syns: BTreeSet<&str> = of("syn").iter().map(|frame| frame.fields.split_once(' ').unwrap().1).collect();
    let options = "020405b40402080axxxxxxxxxxxxxxxx01030307";
    let expected = format!("ttl 64 df 1 tos 0x00 len 60 flags 02 window 64240 options {options} seq some");
    assert_eq!(syns, BTreeSet::from([&*expected]), "{syns:#?}");
    assert!(seen.iter().all(|frame| frame.kind == "arp" || frame.fields.contains("ttl 64 ")), "{seen:#?}");
    // Connections to it and from it have one clock.
    clocks_tick(&seen.iter().collect::<Vec<_>>(), Some(1000.0));
}

/// Two hosts of one node.
const NEIGHBORS: &str = r#"
name: neighbors
templates:
  box: {personality: PERSONALITY, vendor: dell, tcp: {22: container}, backend: {image: tools, idle: 10m}, outward: allow}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  both:
    kind: hosts
    addresses: 192.0.2.100-192.0.2.101
    template: box
    prefix: [192.0.2.0/24]
    gateway: [192.0.2.1]
links:
  - endpoints: [wan, both]
"#;

const ONE: &str = "192.0.2.100";
const OTHER: &str = "192.0.2.101";

/// The first SYNs from a container to a neighbor on its node and to the attacker, as these see them, besides their time.
fn first_words(lab: &Lab) -> [Vec<Seen>; 2] {
    shell(&lab.attacker, ONE, "true");
    shell(&lab.attacker, OTHER, "true");
    let (capture, file) = capture(lab, "words.pcap");
    // What the neighbor hears at a port of its own, which nobody has listed.
    let listen = "tcpdump -Z root -i eth0 -U --immediate-mode -w /tmp/words.pcap src host 192.0.2.100 >/dev/null 2>/tmp/said & \
                  while ! grep -q listening /tmp/said; do sleep 0.05; done; \
                  (sleep 8 | nc -l -p 4444 >/tmp/got; md5sum </tmp/got >/tmp/sum) >/dev/null 2>&1 & \
                  while ! grep -q ':115C .* 0A ' /proc/net/tcp*; do sleep 0.05; done; echo";
    shell(&lab.attacker, OTHER, &format!("({listen}) 2>/dev/null"));
    let sent = shell(
        &lab.attacker,
        ONE,
        "nc -w 1 192.0.2.2 9002 </dev/null; sleep 1; \
         head -c 2000000 /dev/urandom >/tmp/data; nc -w 5 192.0.2.101 4444 </tmp/data; \
         nc -w 1 192.0.2.2 9003 </dev/null; nc -w 5 192.0.2.101 22 </dev/null | head -n 1; md5sum </tmp/data",
    );
    assert!(sent.starts_with("SSH-2.0-"), "{sent}");
    let sum = sent.lines().last().unwrap().to_owned();
    wait_for("all of it at the neighbor", || {
        (shell(&lab.attacker, OTHER, "cat /tmp/sum 2>/dev/null || true").trim() == sum.trim()).then_some(())
    });
    shell(&lab.attacker, OTHER, "killall tcpdump");
    let inside = shell(&lab.attacker, OTHER, "base64 /tmp/words.pcap");
    let copy = lab.path("inside.pcap");
    std::fs::write(&copy, decode(&inside)).unwrap();
    end(capture, &file, &lab.attacker, ONE, 404);
    [frames(copy.to_str().unwrap(), ONE), frames(&file, ONE)]
}

fn decode(base64: &str) -> Vec<u8> {
    use std::io::Write;
    let mut decoder = std::process::Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = decoder.stdin.take().unwrap();
    let text = base64.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = decoder.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// A neighbor on the same node is met as everybody is: with the host's options, and with its clock.
fn is_the_same_to_neighbors(personality: &str, hz: Option<f64>) {
    let lab = Lab::up_alone(&NEIGHBORS.replace("PERSONALITY", personality));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let [inside, outside] = first_words(&lab);
    // The connection proper, once it is known that somebody listens, is of another window inside.
    let syns = |frames: &[Seen]| -> BTreeSet<String> {
        let all = frames.iter().filter(|frame| frame.kind == "syn").map(|frame| {
            let (before, after) = frame.fields.split_once("window ").unwrap();
            format!("{before}{}", after.split_once(' ').unwrap().1)
        });
        all.collect()
    };
    // The MAC is the host's there, too.
    assert_eq!(syns(&inside), syns(&outside), "{personality}");
    assert_eq!(syns(&inside).len(), 1);
    let of_syns = |frames: Vec<Seen>| frames.into_iter().filter(|frame| frame.kind == "syn");
    let mut all: Vec<Seen> = of_syns(inside).chain(of_syns(outside)).collect();
    all.sort_by(|a, b| a.at.total_cmp(&b.at));
    println!("{personality}: {all:#?}");
    let clocks: Vec<(f64, u32)> = all.iter().filter_map(|frame| Some((frame.at, frame.clock?))).collect();
    let Some(hz) = hz else { return assert!(clocks.is_empty()) };
    let (began, first) = clocks[0];
    for (at, clock) in &clocks {
        let ticks = f64::from(clock.wrapping_sub(first) as i32);
        assert!((ticks - (at - began) * hz).abs() < 0.1 * hz + 1.0, "{clocks:?}");
    }
}

#[test]
fn a_windows_host_is_the_same_to_its_neighbors_by_itself() {
    is_the_same_to_neighbors("windows", None);
}

#[test]
fn an_old_linux_host_is_the_same_to_its_neighbors_by_itself() {
    is_the_same_to_neighbors("linux-2.6", Some(250.0));
}

#[test]
fn what_a_container_sends_in_pieces_can_be_put_together() {
    let lab = Lab::up(PAIR);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    shell(&lab.attacker, "192.0.2.101", "true");
    let (capture, file) = capture(&lab, "pieces.pcap");
    // Echo requests of 4000 octets: the attacker's kernel answers what it could put together.
    shell(&lab.attacker, "192.0.2.101", "ping -c 3 -s 4000 -W 1 192.0.2.2 || true");
    end(capture, &file, &lab.attacker, "192.0.2.101", 405);
    let fields = |filter: &str, field: &str| -> Vec<String> {
        let text = crate::net::sh(&[
            "tshark",
            "-o",
            "ip.defragment:FALSE",
            "-r",
            &file,
            "-Y",
            filter,
            "-T",
            "fields",
            "-e",
            field,
        ]);
        text.lines().map(str::to_owned).collect()
    };
    let pieces = "ip.src == 192.0.2.101 && (ip.flags.mf == 1 || ip.frag_offset > 0)";
    let ids: Vec<u16> = fields(pieces, "ip.id")
        .iter()
        .map(|id| u16::from_str_radix(id.trim_start_matches("0x"), 16).unwrap())
        .collect();
    assert_eq!(ids.len(), 9, "{ids:?}");
    for datagram in ids.chunks(3) {
        assert!(datagram.iter().all(|id| *id == datagram[0]), "{ids:?}");
    }
    assert_eq!(class(&[ids[0], ids[3], ids[6]]), "counts", "as Windows numbers all that it sends: {ids:?}");
    let answered = fields("ip.src == 192.0.2.2 && icmp.type == 0 && ip.frag_offset == 0 && ip.flags.mf == 1", "ip.len");
    assert_eq!(answered.len(), 3, "the attacker's kernel put them together");
}
