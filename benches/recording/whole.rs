//! What somebody in the middle costs by the whole of it (wire, switch, relay, recording, container): a keystroke's echo, hundreds of
//! sessions at once, a program that guesses passwords, and a file by TLS.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{End, cat, key};
use crate::figures::percentile;
use crate::lab::Lab;
use crate::net::wait_for;
use crate::{Row, honeynet};

/// Keystrokes that are timed, of each host.
const SAMPLES: usize = 500;
/// Sessions at once. One network has at most 256 of them, and a container so many as it has processes and memory for.
const SESSIONS: usize = 500;
const NETWORKS: usize = 4;
const HOSTS: usize = 20;
/// Passwords that are guessed.
const GUESSES: usize = 10_000;
/// The file that is fetched.
const OCTETS: usize = 256 << 20;
/// Times that it is fetched from each, of which the best counts.
const ROUNDS: usize = 3;
const DIRECT: [u8; 4] = [10, 66, 9, 1];
const TOPOLOGY: &str = r#"
name: whole
templates:
  direct: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h}}
  middle:
    personality: linux
    tcp: {22: {container: ssh, passwords: {root: toor}, login: "root:toor"}}
    backend: {image: small, idle: 1h}
  web: {personality: linux, tcp: {443: container}, backend: {image: tls, idle: 1h}}
  tls: {personality: linux, tcp: {443: {container: http, inside: tls, tls: {}}}, backend: {image: tls, idle: 1h}}
  clear: {personality: linux, tcp: {443: {container: http, inside: clear, tls: {}}}, backend: {image: clear, idle: 1h}}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
  tls: {recipe: ./tls}
  clear: {recipe: ./clear}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 6}
  direct: {kind: hosts, addresses: 10.66.9.1, prefix: 10.66.0.0/16, template: direct}
  middle: {kind: hosts, addresses: 10.66.9.100-10.66.9.119, prefix: 10.66.0.0/16, template: middle, limits: {containers_per_source: 64}}
  web: {kind: hosts, addresses: 10.66.9.2, prefix: 10.66.0.0/16, template: web, outward: {rate: 10gbit}}
  tls: {kind: hosts, addresses: 10.66.9.3, prefix: 10.66.0.0/16, template: tls, outward: {rate: 10gbit}}
  clear: {kind: hosts, addresses: 10.66.9.4, prefix: 10.66.0.0/16, template: clear, outward: {rate: 10gbit}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [direct, "core:2"]
  - endpoints: [middle, "core:3"]
  - endpoints: [web, "core:4"]
  - endpoints: [tls, "core:5"]
  - endpoints: [clear, "core:6"]
"#;

fn middle(host: usize) -> [u8; 4] {
    [10, 66, 9, 100 + (host % HOSTS) as u8]
}

/// A session of the attacker's address in one of his networks, with something that comes back.
async fn session(network: usize, host: [u8; 4]) -> Result<End, russh::Error> {
    let at = |address: [u8; 4], port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(address), port));
    let from = at([10, 66, (network % NETWORKS) as u8, 2], 0);
    let mut end = cat(from, at(host, 22), "toor", true).await?;
    key(&mut end.1).await;
    Ok(end)
}

/// Does something in the attacker's network. His sockets are those of the thread.
fn there<T: Send>(lab: &Lab, what: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(what);
    lab.attacker.enter(run)
}

/// What processes have in memory, in octets.
fn resident(processes: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
    };
    processes.iter().map(of).sum()
}

/// How long an octet takes to come back from a terminal.
fn keystrokes(lab: &Lab) -> Vec<Row> {
    let times = there(lab, async {
        let mut ends = Vec::new();
        for host in [DIRECT, middle(0)] {
            ends.push(session(0, host).await.expect("a session"));
        }
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..SAMPLES {
            for (end, times) in ends.iter_mut().zip(&mut times) {
                let before = Instant::now();
                key(&mut end.1).await;
                times.push(before.elapsed());
            }
        }
        times
    });
    let [direct, middle] = times.map(|times| percentile(&times, 50.0).as_secs_f64() * 1e3);
    vec![
        Row::new("keystroke in a container's terminal, directly, median", direct, "ms", "lower"),
        Row::new("the same with somebody in the middle", middle, "ms", "lower"),
        Row::new("what that adds", middle - direct, "ms", "lower").asked(2.0),
    ]
}

/// What the honeynet needs for sessions at once.
fn sessions(lab: &Lab) -> Vec<Row> {
    let own = [honeynet::children(lab.pid()), vec![lab.pid()]].concat();
    let before = resident(&own);
    let opened = there(lab, async {
        // Servers let a moment pass before they agree to a password, so a few are opened at a time.
        let (mut open, mut opening) = (Vec::new(), tokio::task::JoinSet::new());
        for number in 0..SESSIONS {
            if opening.len() >= HOSTS {
                open.extend(opening.join_next().await);
            }
            opening.spawn(session(number, middle(number / NETWORKS)));
        }
        open.extend(opening.join_all().await.into_iter().map(Ok));
        let mut open: Vec<End> = open.into_iter().map(|end| end.expect("a task").expect("a session")).collect();
        // All of them still answer.
        for (_, channel) in &mut open {
            key(channel).await;
        }
        (open.len(), resident(&own))
    });
    let (open, now) = opened;
    let what = |what: &str| format!("{SESSIONS} sessions in {HOSTS} containers at once: {what}");
    vec![
        Row::new(what("open"), open as f64, "sessions", "higher").asked(SESSIONS as f64),
        Row::new(what("memory of switch, keeper, console and supervisor"), now / 1e6, "MB", "lower").asked(1024.0),
        Row::new(what("more than before, each"), (now - before) / 1e3 / SESSIONS as f64, "kB", "lower"),
    ]
}

/// The passwords of which an event says that they were tried.
fn tried(lab: &Lab) -> BTreeSet<String> {
    let logins = lab.events().into_iter().filter(|event| event["event"] == "ssh.login");
    let data = logins.filter_map(|event| honeyweave::record::base64_decode(event["data"].as_str()?));
    let objects = data.filter_map(|data| serde_json::from_slice::<Value>(&data).ok());
    objects.filter_map(|object| object["password"].as_str().map(str::to_owned)).collect()
}

/// Whether each guess is told.
fn guesses(lab: &Lab, tool: &str, host: usize) -> Vec<Row> {
    let words: Vec<String> = (1..=GUESSES).map(|number| format!("{tool}-{number}")).collect();
    let file = lab.file(tool, &(words.join("\n") + "\n"));
    let target = format!("ssh://{}:22", Ipv4Addr::from(middle(host)));
    let began = Instant::now();
    let words_of = match tool {
        // As many workers as it can have: its library waits for half a minute at the end of each connection.
        "hydra" => &["timeout", "600", "hydra", "-I", "-t", "64", "-l", "root", "-P"][..],
        _ => &["timeout", "600", "ncrack", "-T5", "--user", "root", "-P"],
    };
    let output = lab.attacker.command(words_of).arg(file).arg(target).env("HOME", lab.path("")).output().expect(tool);
    // Hydra calls it a failure if one of its workers waits so at the end.
    assert!(output.status.success() || (tool == "hydra" && output.status.code() != Some(124)), "{output:?}");
    let took = began.elapsed();
    let missing = |lab: &Lab| {
        let tried = tried(lab);
        words.iter().filter(|word| !tried.contains(*word)).count()
    };
    // The last ones are on their way to the disk.
    let settled = Instant::now() + Duration::from_secs(10);
    while missing(lab) > 0 && Instant::now() < settled {
        std::thread::sleep(Duration::from_millis(100));
    }
    let what = |what: &str| format!("{GUESSES} passwords that {tool} tries: {what}");
    vec![
        Row::new(what("all tried"), took.as_secs_f64(), "s", "lower"),
        Row::new(what("without an event `ssh.login`"), missing(lab) as f64, "guesses", "lower").asked(0.0),
    ]
}

/// Writes a recipe of a web server that has a file, with TLS or without it.
fn recipe(lab: &Lab, name: &str, has_tls: bool) {
    let listen = if has_tls {
        "listen 443 ssl; ssl_certificate /etc/nginx/c.pem; ssl_certificate_key /etc/nginx/k.pem;"
    } else {
        "listen 443;"
    };
    let server = format!("server {{ {listen} root /var/www/html; }}\n");
    lab.file(&format!("{name}/files/etc/nginx/sites-available/default"), &server);
    let make = format!(
        "#!/bin/sh\nset -e\nhead -c {OCTETS} /dev/urandom >/var/www/html/file\n\
                        echo yes >/var/www/html/ready\n"
    );
    lab.file(&format!("{name}/tasks/20-file.sh"), &make);
    lab.file(
        &format!("{name}/recipe.yaml"),
        &format!(
            "name: {name}\npackages: [nginx-light]\nservices:\n  \
             - {{name: https, port: 443, run: '/usr/sbin/nginx -g \"daemon off;\"'}}\n"
        ),
    );
    if has_tls {
        let dir = lab.path(&format!("{name}/files/etc/nginx"));
        let (key, certificate) = (dir.join("k.pem"), dir.join("c.pem"));
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl
            .args(["-subj", "/CN=files.example.org", "-days", "30", "-keyout"])
            .arg(key)
            .arg("-out")
            .arg(certificate);
        let output = openssl.output().expect("openssl");
        assert!(output.status.success(), "{output:?}");
    }
}

/// A file by TLS.
fn download(lab: &Lab) -> Vec<Row> {
    let ways = ["10.66.9.2", "10.66.9.4", "10.66.9.3"];
    let fetch = |host: &str, name: &str| {
        let url = format!("https://{host}/{name}");
        let args =
            ["curl", "-sSfk", "--http1.1", "--max-time", "120", "-o", "/dev/null", "-w", "%{size_download}", &url];
        let output = lab.attacker.run(&args);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for host in ways {
        wait_for("the web server", || fetch(host, "ready").0.then_some(()));
    }
    let mut best = [f64::MAX; 3];
    for _ in 0..ROUNDS {
        for (host, best) in ways.into_iter().zip(&mut best) {
            let before = Instant::now();
            assert_eq!(fetch(host, "file"), (true, OCTETS.to_string()), "{host}");
            *best = best.min(before.elapsed().as_secs_f64());
        }
    }
    let [direct, clear, tls] = best;
    let rate = |took: f64| OCTETS as f64 / 1e6 / took;
    let what = |what: &str| format!("{} MiB by TLS from a container: {what}", OCTETS >> 20);
    vec![
        Row::new(what("nginx directly"), rate(direct), "MB/s", "higher"),
        Row::new(what("in the middle, inside in clear"), rate(clear), "MB/s", "higher"),
        Row::new(what("in the middle, inside by TLS"), rate(tls), "MB/s", "higher"),
        Row::new(what("throughput of both, inside in clear"), direct / clear, "x", "higher").asked(0.6),
        Row::new(what("throughput of both, inside by TLS"), direct / tls, "x", "higher").aim(0.6),
    ]
}

/// Measures.
pub fn measure() -> Vec<Row> {
    let mut lab = Lab::alone();
    recipe(&lab, "tls", true);
    recipe(&lab, "clear", false);
    lab.start(TOPOLOGY);
    for network in 0..NETWORKS {
        lab.attacker.addr("eth0", &format!("10.66.{network}.2/16"));
    }
    // Containers start, of which nothing is asked here.
    for host in (0..HOSTS).map(middle).chain([DIRECT]) {
        wait_for("a container", || there(&lab, async { session(0, host).await.is_ok() }).then_some(()));
    }
    let (ncrack, hydra) = (|lab: &Lab| guesses(lab, "ncrack", 1), |lab: &Lab| guesses(lab, "hydra", 2));
    let parts: [fn(&Lab) -> Vec<Row>; 5] = [keystrokes, sessions, ncrack, hydra, download];
    let told = |row: &Row| eprintln!("{}: {:.3} {}", row.what, row.measured, row.unit);
    parts.into_iter().flat_map(|part| part(&lab)).inspect(told).collect()
}
