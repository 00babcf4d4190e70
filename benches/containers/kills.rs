//! What attackers elsewhere notice while something below is killed: echoes and connections of an emulated host, and the
//! first octets of a container, at a steady rate for some seconds before and as many seconds during which it happens.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::figures::{Rows, percentile};
use crate::lab::{Lab, process};
use crate::net::{self, Ns, sh, wait_for};
use crate::{Settings, first_octet};

const TOPOLOGY: &str = "
name: kills
templates:
  shell:
    personality: linux
    tcp: {22: container}
    backend: {image: small, idle: 1h}
  desktop:
    personality: windows
    tcp: {445: open}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  shells: {kind: hosts, addresses: 10.9.0.20-10.9.0.29, template: shell, prefix: [10.9.0.0/16]}
  desktops: {kind: hosts, addresses: 10.9.0.100-10.9.0.119, template: desktop, prefix: [10.9.0.0/16]}
links:
  - endpoints: [wan, 'core:1']
  - endpoints: [shells, 'core:2']
  - endpoints: [desktops, 'core:3']
";

/// The host whose container is killed, one whose container is not, and one that is emulated.
const VICTIM: &str = "10.9.0.20";
const NEIGHBOR: &str = "10.9.0.21";
const EMULATED: &str = "10.9.0.100";
/// Between two echoes, and two connections to the emulated host.
const RATE: Duration = Duration::from_millis(10);
/// Between two connections to the container: each costs it a process.
const CONTAINER_RATE: Duration = Duration::from_millis(25);
/// When it happens, after the beginning of the second half.
const MOMENT: Duration = Duration::from_millis(500);
/// How many times what it was before the 99th percentile may be.
const ASKED: f64 = 2.0;
/// One that does not answer has taken that long.
const LOST: Duration = Duration::from_secs(2);

/// The container of a host: its init and its monitor.
fn container(lab: &Lab, host: &str) -> Option<(i32, i32)> {
    let rows = lab.json(&["container", "ls"]);
    let row = rows.as_array()?.iter().find(|row| row["host"] == host && row["state"] == "live")?;
    let init = row["init"].as_i64()? as i32;
    Some((init, honeyweave::container::worker::parent_of(init)?))
}

/// Calls `contact` at a steady rate for a while; a call that takes longer lets some be left out.
fn steadily(rate: Duration, seconds: u64, contact: impl Fn() -> std::io::Result<Duration>) -> Vec<Duration> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        let next = Instant::now() + rate;
        times.push(contact().unwrap_or(LOST));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    times
}

fn connect(host: &str, port: u16) -> std::io::Result<Duration> {
    let address: SocketAddr = format!("{host}:{port}").parse().map_err(std::io::Error::other)?;
    let began = Instant::now();
    TcpStream::connect_timeout(&address, LOST).map(|_| began.elapsed())
}

/// Round trips of echoes, as fping tells them, and how many were answered more than once.
fn echoes(from: &Ns, seconds: u64) -> (Vec<Duration>, usize) {
    let count = (seconds as u128 * 1000 / RATE.as_millis()).to_string();
    let (rate, lost) = (RATE.as_millis().to_string(), LOST.as_millis().to_string());
    let output = from.run(&["fping", "-q", "-C", &count, "-p", &rate, "-t", &lost, EMULATED]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (twice, once): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.contains("duplicate"));
    let times = once.iter().find_map(|line| line.split_once(" : ")).unwrap_or_else(|| panic!("fping: {said}")).1;
    let time = |word: &str| word.parse().map_or(LOST, |millis: f64| Duration::from_secs_f64(millis / 1e3));
    (times.split_whitespace().map(time).collect(), twice.len())
}

/// What attackers elsewhere meet for some seconds, in the course of which `happens` does.
fn meet(lab: &Lab, seconds: u64, happens: impl FnOnce()) -> ([Vec<Duration>; 3], usize) {
    let attacker = &lab.attacker;
    std::thread::scope(|scope| {
        let echoes = scope.spawn(|| echoes(attacker, seconds));
        let enter = |contact: fn() -> std::io::Result<Duration>, rate| {
            scope.spawn(move || attacker.enter(move || steadily(rate, seconds, contact)))
        };
        let connects = enter(|| connect(EMULATED, 445), RATE);
        let octets = enter(|| first_octet(NEIGHBOR), CONTAINER_RATE);
        std::thread::sleep(MOMENT);
        happens();
        let (echoes, twice) = echoes.join().expect("a thread that measures");
        let [connects, octets] = [connects, octets].map(|thread| thread.join().expect("a thread that measures"));
        ([echoes, connects, octets], twice)
    })
}

/// Measures before and during.
fn beside(lab: &Lab, rows: &mut Rows, seconds: u64, what: &str, happens: impl FnOnce()) {
    let (before, _) = meet(lab, seconds, || ());
    let (during, twice) = meet(lab, seconds, happens);
    rows.put(format!("{what}: echoes that were answered twice"), twice as f64, "", Some(0.0), true);
    let named = ["echo of an emulated host", "connection to it", "first octet of a container"];
    for ((name, before), during) in named.iter().zip(&before).zip(&during) {
        let lost = during.iter().filter(|time| **time >= LOST).count();
        rows.put(format!("{what}: {name}, not answered of {}", during.len()), lost as f64, "", Some(0.0), true);
        let [was, is] = [before, during].map(|times| percentile(times, 99.0).as_secs_f64() * 1e3);
        rows.put(format!("{what}: {name}, p99 before"), was, "ms", None, true);
        rows.put(format!("{what}: {name}, p99 meanwhile / before"), is / was, "times", Some(ASKED), true);
    }
}

fn kill(pid: i32) {
    sh(&["kill", "-9", &pid.to_string()]);
}

/// How long it takes until all is as it was, when the switch is killed.
fn switch(lab: &Lab, rows: &mut Rows) {
    let before = container(lab, NEIGHBOR).expect("a container");
    let open: SocketAddr = format!("{NEIGHBOR}:22").parse().expect("an address");
    let mut session = lab.attacker.enter(|| TcpStream::connect_timeout(&open, net::DEADLINE)).expect("a connection");
    let mut octet = [0];
    session.read_exact(&mut octet).expect("an octet");
    let began = Instant::now();
    kill(process(lab, "switch").expect("the switch"));
    lab.attacker.enter(|| {
        wait_for("a connection", || {
            let address = format!("{EMULATED}:445").parse().expect("an address");
            TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok()
        });
    });
    let answer = began.elapsed();
    lab.attacker.enter(|| wait_for("the container", || first_octet(NEIGHBOR).ok()));
    let octet = began.elapsed();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let what = |text: &str| format!("switch killed: {text}");
    rows.put(what("until the first answer of an emulated host"), millis(answer), "ms", Some(1000.0), true);
    rows.put(what("until the first octet of a container"), millis(octet), "ms", Some(2000.0), true);
    let same = container(lab, NEIGHBOR) == Some(before);
    rows.put(what("containers that go on"), f64::from(u8::from(same)), "of 1", Some(1.0), false);
    // What a connection of before meets: the next octet that is sent is answered with a reset.
    session.set_read_timeout(Some(net::DEADLINE)).expect("a time-out");
    let _ = std::io::Write::write_all(&mut session, b"x\r\n");
    let mut rest = Vec::new();
    let over = session.read_to_end(&mut rest).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
    rows.put(what("connections of before that are reset"), f64::from(u8::from(over)), "of 1", None, true);
}

/// Measures it.
pub fn run(settings: &Settings, rows: &mut Rows) {
    let seconds = settings.number("seconds");
    let mut lab = Lab::alone();
    lab.on_small_disk(4096);
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "10.9.255.254/16");
    let touch = |host: &str| lab.attacker.enter(|| wait_for("a container", || first_octet(host).ok()));
    let victim = || {
        touch(VICTIM);
        wait_for("the container", || container(&lab, VICTIM))
    };
    touch(NEIGHBOR);
    let (init, _) = victim();
    beside(&lab, rows, seconds, "init killed", || kill(init));
    let (_, monitor) = victim();
    beside(&lab, rows, seconds, "monitor killed", || kill(monitor));
    let (init, _) = victim();
    beside(&lab, rows, seconds, "TAP removed", || {
        sh(&["nsenter", "-t", &init.to_string(), "-n", "ip", "link", "del", "eth0"]);
    });
    victim();
    let keeper = process(&lab, "keeper").expect("the keeper");
    beside(&lab, rows, seconds, "keeper killed", || kill(keeper));
    let mut files: Vec<PathBuf> = Vec::new();
    beside(&lab, rows, seconds, "disk filled", || files.extend(lab.fill_disk()));
    files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    switch(&lab, rows);
}
