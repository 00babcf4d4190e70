//! What recording costs: TLS in the middle against nginx without it, side by side.
//!
//! `cargo bench --bench tls_middle -- [PART...] [KEY=NUMBER...]`; parts are `download` and `handshakes`, without any both. Numbers:
//! `megabytes` (1024) of the file that is fetched, `handshakes` (4000). Rows go to target/tls_middle.json; the exit code is 1 if a
//! figure is not what was asked for.

// What is measured is the real time that real processes take.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/it/tls_middle/client.rs"]
mod client;
#[path = "containers/figures.rs"]
mod figures;
#[path = "../tests/it/tls_middle/lab.rs"]
mod lab;
#[path = "../tests/it/net.rs"]
mod net;
#[path = "ssh_middle/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use figures::Rows;
use honeyweave::relay::tape::{Entry, Tape};
use honeyweave::relay::tls::Inside;
use lab::{Lab, Nginx, Setup};
use words::cpu_of;

const PARTS: [&str; 2] = ["download", "handshakes"];
/// Times that each way is taken; the best counts.
const ROUNDS: usize = 3;
/// Connections whose beginning is timed.
const SAMPLES: usize = 300;
/// Clients at a time.
const CLIENTS: u64 = 4;

/// Counts octets, and keeps nothing: what a tape does with them is measured elsewhere.
#[derive(Default)]
struct Counting(AtomicU64);

impl Tape for Counting {
    fn put(&self, _: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        if let Entry::Data { data, .. } = entry {
            self.0.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Box::pin(std::future::ready(()))
    }
}

fn main() -> ExitCode {
    let mut numbers = BTreeMap::from([("megabytes", 1024), ("handshakes", 4000)]);
    let parts = match words::parts(&PARTS, &mut numbers, clients) {
        Ok(parts) => parts,
        Err(code) => return code,
    };
    let mut rows = Rows::default();
    let is_part = parts.len() < PARTS.len();
    for part in parts {
        match part {
            "download" => download(numbers["megabytes"], &mut rows),
            _ => handshakes(numbers["handshakes"], &mut rows),
        }
    }
    rows.report("tls_middle", is_part)
}

fn middle(inside: Inside, port: u16) -> (Lab, Arc<Counting>) {
    let tape = Arc::<Counting>::default();
    (Lab::on(Setup { inside, ..Setup::default() }, port, tape.clone(), Arc::default()), tape)
}

/// Fetches a file of so many megabytes from nginx, directly and through the middle.
fn download(megabytes: u64, rows: &mut Rows) {
    let nginx = Nginx::start();
    let size = megabytes << 20;
    let file = std::fs::File::create(nginx.path("www/file")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    let piece: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    (0..megabytes).for_each(|_| file.write_all(&piece).unwrap());
    drop(file);
    let (clear, clear_tape) = middle(Inside::Clear, nginx.clear);
    let (tls, tls_tape) = middle(Inside::Tls, nginx.tls);
    let ways = [nginx.tls, clear.port, tls.port];
    let mut best = [f64::MAX; 3];
    for _ in 0..ROUNDS {
        for (port, best) in ways.iter().zip(&mut best) {
            let before = Instant::now();
            let mut curl = Command::new("curl");
            let url = format!("https://127.0.0.1:{port}/file");
            let output = curl.args(["-sSk", "--http1.1", "-o", "/dev/null", "-w", "%{size_download}", &url]).output();
            let output = output.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), size.to_string(), "{output:?}");
            *best = best.min(before.elapsed().as_secs_f64());
        }
    }
    for tape in [clear_tape, tls_tape] {
        assert!(tape.0.load(Ordering::Relaxed) > size * ROUNDS as u64, "not all of it was recorded");
    }
    let gigabytes = megabytes as f64 / 1024.0;
    let [direct, clear, tls] = best;
    rows.put("download: nginx directly".into(), gigabytes / direct, "GB/s", None, false);
    rows.put("download: through the middle, inside in clear".into(), gigabytes / clear, "GB/s", None, false);
    rows.put("download: through the middle, inside by TLS".into(), gigabytes / tls, "GB/s", None, false);
    rows.put("download: throughput of both, inside in clear".into(), direct / clear, "x", Some(0.6), false);
    rows.put("download: throughput of both, inside by TLS".into(), direct / tls, "x", Some(0.6), false);
}

/// How long a client takes from its first octet to the first one of a page.
fn first_octet(port: u16) -> Duration {
    let before = Instant::now();
    let mut client = client::client(port, "shop.example.org");
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.org\r\n\r\n").unwrap();
    client.read_exact(&mut [0]).unwrap();
    before.elapsed()
}

/// Full handshakes, ECDSA on P-256, of clients that are another process. Each opens a connection inside, too.
fn handshakes(count: u64, rows: &mut Rows) {
    let nginx = Nginx::start();
    let (lab, _tape) = middle(Inside::Clear, nginx.clear);
    // One after the other, in turn.
    let times = |port: u16| (0..SAMPLES).map(move |_| first_octet(port));
    let (direct, middle): (Vec<_>, Vec<_>) = times(nginx.tls).zip(times(lab.port)).unzip();
    rows.times("first octet of a page, directly", direct, None);
    rows.times("first octet of a page, through the middle", middle, None);
    for (names, kind) in [(1, "handshakes"), (count, "handshakes of as many names, each with a certificate of its own")]
    {
        let (per_core, per_second) = shake_hands(lab.port, count, names);
        rows.put(format!("{kind}: for a second of a core"), per_core, "1/s", Some(1000.0), false);
        rows.put(format!("{kind}: with the clients beside it"), per_second, "1/s", None, false);
    }
}

/// How many handshakes there are for a second of a core, and in a second, of clients that ask for so many names in turn.
fn shake_hands(port: u16, count: u64, names: u64) -> (f64, f64) {
    let (before, begun) = (cpu_of("self"), Instant::now());
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .arg(format!("clients={port}:{count}:{names}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(clients.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "done\n");
    // As long as they have not ended, they do not count.
    let (used, took) = (cpu_of("self") - before, begun.elapsed().as_secs_f64());
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
    (count as f64 / used, count as f64 / took)
}

/// The clients of [`shake_hands`]: `PORT:COUNT:NAMES`. They stay until there is no more to be read.
fn clients(what: &str) -> ExitCode {
    let numbers: Option<Vec<u64>> = what.split(':').map(|number| number.parse().ok()).collect();
    let Some(&[port, count, names]) = numbers.as_deref() else { return ExitCode::from(2) };
    let port = u16::try_from(port).unwrap();
    std::thread::scope(|scope| {
        for first in 0..CLIENTS {
            scope.spawn(move || {
                for number in (first..count).step_by(CLIENTS as usize) {
                    let mut client = client::client(port, &format!("shop-{}.example.org", number % names));
                    while client.conn.is_handshaking() {
                        client.conn.complete_io(&mut client.sock).unwrap();
                    }
                }
            });
        }
    });
    println!("done");
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}
