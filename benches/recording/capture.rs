//! What it costs a saturated stream that all of its frames are captured: two network namespaces on TAPs, which are what a
//! container is attached by, with a switch between them; captures lie in memory. Two honeynets, of which one captures
//! nothing, have their turns in one run.

use std::path::Path;

use crate::Row;
use crate::honeynet::Honeynet;
use crate::net::{Net, Ns, sh};

/// Turns of each, of which the best counts: what else the machine does makes a turn worse, and never better.
const ROUNDS: usize = 5;
const SECONDS: &str = "4";

/// Two ends of a stream, and what is between them.
struct Way {
    honeynet: Honeynet,
    left: Ns,
    right: Ns,
}

impl Way {
    fn new(net: &Net, label: &str, captures: bool) -> Way {
        let ns = |end: &str| net.ns(&format!("{label}{end}"));
        let (honey, left, right) = (ns("h"), ns("l"), ns("r"));
        let topology = format!(
            "privacy: {{capture: {captures}}}\nnodes:\n  core: {{kind: switch, ports: 2}}\n  \
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
        let said: serde_json::Value = serde_json::from_str(&said).expect("iperf3 says JSON");
        said["end"]["sum_received"]["bits_per_second"].as_f64().expect("a figure") / 1e9
    }

    fn captures(&self) -> (u64, u64) {
        let status = self.honeynet.json(&["status"]);
        let count = |name: &str| status["captures"][name].as_u64().unwrap_or(0);
        (count("frames"), count("ring_lost") + count("dropped"))
    }
}

/// Measures.
pub fn measure() -> Vec<Row> {
    // Temporary directories, and so the states of honeynets, lie in memory.
    assert!(Path::new("/dev/shm").is_dir(), "there is no file system in memory");
    tempfile::env::override_temp_dir(Path::new("/dev/shm")).expect("nobody has set another");
    let net = Net::new();
    let (off, on) = (Way::new(&net, "off", false), Way::new(&net, "on", true));
    let (mut without, mut with) = (0f64, 0f64);
    for _ in 0..ROUNDS {
        without = without.max(off.stream());
        with = with.max(on.stream());
    }
    let (none, (frames, lost)) = (off.captures().0, on.captures());
    assert_eq!(none, 0, "it was to capture nothing");
    assert!(frames > 0, "it was to capture everything");
    let row = |what: &str, measured, unit, asked, better| Row { what: what.into(), measured, unit, asked, better };
    vec![
        row("a stream between containers, nothing captured", without, "Gbit/s", None, "higher"),
        row("the same, all of it captured to memory", with, "Gbit/s", None, "higher"),
        row("slowed by the capture", (1.0 - with / without) * 100.0, "%", Some(30.0), "lower"),
        row("frames that the capture lost", lost as f64 / (frames + lost) as f64 * 100.0, "%", None, "lower"),
    ]
}
