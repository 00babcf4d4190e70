//! What it costs a saturated stream that its frames are captured: two network namespaces on TAPs, which are what a
//! container is attached by, with a switch between them; captures lie in memory. Three honeynets, of which one captures
//! nothing, one all within the limits that there are if nobody says anything, and one all without any, have their turns in one run.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::Row;
use crate::honeynet::Honeynet;
use crate::net::{Net, Ns, sh};

/// Turns of each, of which the best counts: what else the machine does makes a turn worse, and never better.
const ROUNDS: usize = 5;
const SECONDS: &str = "4";
/// Half seconds that writing down what was captured may take at the end.
const SETTLES: usize = 40;
/// Octets of a frame of the stream that are no data: Ethernet, IPv4, TCP with timestamps. An acknowledgment has nothing else.
const HEADERS: f64 = 66.0;

/// Two ends of a stream, and what is between them.
struct Way {
    honeynet: Honeynet,
    left: Ns,
    right: Ns,
}

/// What became of frames, and of the octets of data in them.
#[derive(Clone, Copy)]
struct Shares {
    whole: f64,
    headers: f64,
    /// Only counted.
    counted: f64,
}

impl Shares {
    /// So many of them, of which there are `all`, in percent.
    fn of(whole: f64, headers: f64, all: f64) -> Shares {
        let share = |part: f64| part / all * 100.0;
        Shares { whole: share(whole), headers: share(headers), counted: share((all - whole - headers).max(0.0)) }
    }
}

impl Way {
    fn new(net: &Net, label: &str, how: &str) -> Way {
        let ns = |end: &str| net.ns(&format!("{label}{end}"));
        let (honey, left, right) = (ns("h"), ns("l"), ns("r"));
        let topology = format!(
            "{how}\nnodes:\n  core: {{kind: switch, ports: 2}}\n  \
             left: {{kind: tap, interface: hw-left}}\n  right: {{kind: tap, interface: hw-right}}\n\
             links:\n  - endpoints: [left, 'core:1']\n  - endpoints: [right, 'core:2']\n"
        );
        let honeynet = Honeynet::up(&honey, None, &topology);
        for (name, end, address) in [("hw-left", &left, "10.9.0.1/24"), ("hw-right", &right, "10.9.0.2/24")] {
            sh(&["ip", "-n", &honey.name, "link", "set", name, "netns", &end.name]);
            end.sh(&["ip", "link", "set", name, "up"]);
            end.addr(name, address);
        }
        Way { honeynet, left, right }
    }

    /// Gigabits in a second.
    fn stream(&self) -> f64 {
        let mut server = self.right.spawn(&["iperf3", "-s", "-1", "--forceflush"]);
        server.wait_line("Server listening");
        let said = self.left.sh(&["iperf3", "-J", "-c", "10.9.0.2", "-t", SECONDS, "-O", "1"]);
        let said: Value = serde_json::from_str(&said).expect("iperf3 says JSON");
        said["end"]["sum_received"]["bits_per_second"].as_f64().expect("a figure") / 1e9
    }

    /// Octets that have passed both TAPs. Their frames are of up to 64 KiB, so next to none of these are headers.
    fn passed(&self) -> f64 {
        let of = |end: &Ns, name: &str| {
            let said: Value = serde_json::from_str(&end.sh(&["ip", "-j", "-s", "link", "show", name])).expect("JSON");
            let of = |way: &str| said[0]["stats64"][way]["bytes"].as_f64().expect("a figure");
            of("rx") + of("tx")
        };
        of(&self.left, "hw-left") + of(&self.right, "hw-right")
    }

    /// What became of all frames so far, and of their data.
    fn shares(&self) -> (Shares, Shares) {
        // Whoever writes gives way to whoever moves frames, and so has some left.
        let captures = || self.honeynet.json(&["status"])["captures"].take();
        let mut told = captures();
        for _ in 0..SETTLES {
            std::thread::sleep(Duration::from_millis(500));
            let before = std::mem::replace(&mut told, captures());
            if before["frames"] == told["frames"] {
                break;
            }
        }
        let count = |name: &str| told[name].as_f64().expect("a figure");
        let (frames, whole) = (count("frames"), count("whole"));
        assert!(frames > 0.0, "it was to capture the stream");
        let lost = count("ring_lost") + count("dropped");
        let data = |octets: f64, frames: f64| (octets - frames * HEADERS).max(0.0);
        let of_whole = data(count("octets_whole"), whole);
        let of_others = data(count("octets") - count("octets_whole"), frames - whole);
        // What is sent again, and headers, make no more of it than there was.
        let all = self.passed().max(of_whole + of_others);
        (Shares::of(whole, frames - whole, frames + lost), Shares::of(of_whole, of_others, all))
    }
}

/// Measures.
pub fn measure() -> Vec<Row> {
    // Temporary directories, and so the states of honeynets, lie in memory.
    assert!(Path::new("/dev/shm").is_dir(), "there is no file system in memory");
    tempfile::env::override_temp_dir(Path::new("/dev/shm")).expect("nobody has set another");
    let net = Net::new();
    let ways = [
        Way::new(&net, "off", "privacy: {capture: false}"),
        Way::new(&net, "on", "captures: {total: 1G}"),
        Way::new(&net, "all", "captures: {total: 1G, rate: none, flow: none}"),
    ];
    let mut best = [0f64; 3];
    for _ in 0..ROUNDS {
        for (way, best) in ways.iter().zip(&mut best) {
            *best = best.max(way.stream());
        }
    }
    let [off, on, all] = &ways;
    assert_eq!(off.honeynet.json(&["status"])["captures"]["frames"], 0, "it was to capture nothing");
    let [without, within, full] = best;
    let mut rows = vec![Row::new("a stream between containers, nothing captured", without, "Gbit/s", "higher")];
    for (how, way, with) in [
        ("captured to memory within the limits that there are by default", on, within),
        ("captured to memory, no limit (rate: none, flow: none)", all, full),
    ] {
        rows.push(Row::new(format!("the same, {how}"), with, "Gbit/s", "higher"));
        rows.push(Row::new("slowed by that", (1.0 - with / without) * 100.0, "%", "lower").asked(30.0));
        let (frames, octets) = way.shares();
        for (of, shares) in [("frames", frames), ("octets of data", octets)] {
            for (what, share, better) in [
                ("written whole", shares.whole, "higher"),
                ("written as headers", shares.headers, "lower"),
                ("only counted", shares.counted, "lower"),
            ] {
                rows.push(Row::new(format!("{of} {what}"), share, "%", better));
            }
        }
    }
    rows
}
