//! The whole console in this process, with a switch, a keeper and a supervisor that are tests.

mod private;
mod recordings;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::container::KeeperSays;
use crate::control::{Query, Rings, ToConsole, ToSupervisor, ToSwitch};
use crate::event::{Capture, Event, EventId, RingCapture, RingSink, SessionId, Sink};
use crate::node::{BridgeConfig, NodeConfig, NodeIdx, UplinkConfig};
use crate::record::{Filter, Record, search};
use crate::service::Proxy;
use crate::sys::ring::{self, RingFds, RingWriter};
use crate::sys::seqpacket::Channel;
use crate::sys::{clock, memory};
use crate::topology::{Plan, PlanNode};
use crate::wire::Instant;

const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn plan(proxies: Vec<Proxy>) -> Plan {
    let uplink = UplinkConfig { mac_limit: 1, ..UplinkConfig::new("eth7") };
    let bridge = BridgeConfig { ports: vec![], fdb_capacity: 1, aging_secs: 1 };
    Plan {
        name: "hwt".into(),
        nodes: vec![
            PlanNode { name: "wan".into(), config: NodeConfig::Uplink(uplink) },
            PlanNode { name: "core".into(), config: NodeConfig::Bridge(bridge) },
        ],
        tap_io: Default::default(),
        links: vec![],
        images: vec![],
        evidence: Default::default(),
        privacy: Default::default(),
        sinks: vec![],
        captures: Default::default(),
        eve: None,
        scripts: vec![],
        proxies,
    }
}

pub(super) struct Harness {
    pub dir: tempfile::TempDir,
    pub socket: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
    pub supervisor: Option<Channel>,
    switch: Channel,
    pub keeper: Channel,
    pub events: RingFds,
    pub frames: RingFds,
    // The console's own ends, which in the product the supervisor keeps.
    kept: Vec<OwnedFd>,
}

impl Harness {
    pub fn new() -> Harness {
        Harness::with(plan(vec![]), ring::create(c"honeyweave-test", 1 << 20).unwrap())
    }

    fn with(plan: Plan, events: RingFds) -> Harness {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("events")).unwrap();
        std::fs::create_dir(dir.path().join("captures")).unwrap();
        let socket = dir.path().join("hwt.sock");
        let control = UnixListener::bind(&socket).unwrap();
        let (switch, switch_end) = Channel::pair().unwrap();
        let (keeper, keeper_end) = Channel::pair().unwrap();
        let kept = vec![
            switch_end.as_fd().try_clone_to_owned().unwrap(),
            keeper_end.as_fd().try_clone_to_owned().unwrap(),
            control.as_fd().try_clone_to_owned().unwrap(),
        ];
        let mut harness = Harness {
            socket,
            thread: None,
            supervisor: None,
            switch,
            keeper,
            events,
            frames: ring::create(c"honeyweave-test", 1 << 20).unwrap(),
            kept,
            dir,
        };
        harness.start(plan);
        harness
    }

    pub fn start(&mut self, plan: Plan) {
        let (supervisor, supervisor_end) = Channel::pair().unwrap();
        self.supervisor = Some(supervisor);
        let config = ConsoleConfig {
            plan,
            dir: self.dir.path().to_owned(),
            started_micros: clock::realtime_micros(),
            threads: 1,
            supervisor: 4711,
            inside: crate::control::Inside::Nothing,
        };
        let ends = ConsoleEnds {
            supervisor: supervisor_end,
            switch: Channel::from_fd(self.kept[0].try_clone().unwrap()),
            keeper: Channel::from_fd(self.kept[1].try_clone().unwrap()),
            rings: vec![Rings { events: self.events.try_clone().unwrap(), frames: self.frames.try_clone().unwrap() }],
            control: self.kept[2].try_clone().unwrap(),
            inside: None,
            metrics: None,
        };
        self.thread = Some(std::thread::spawn(move || run(config, ends, None)));
        let (message, _) = self.switch.recv_msg::<ToSwitch>().unwrap().unwrap();
        assert_eq!(message, ToSwitch::Hello);
    }

    pub fn stop(&mut self) {
        drop(self.supervisor.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    pub fn sink(&self) -> RingSink {
        RingSink::new(RingWriter::open(self.events.try_clone().unwrap()).unwrap())
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub fn ask(&self, request: &str) -> Vec<Value> {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(stream).lines() {
            let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let last = value.get("ok").is_some() || value.get("error").is_some();
            lines.push(value);
            if last {
                break;
            }
        }
        lines
    }

    /// Answers the next question of the console.
    pub fn answer(&self, what: Query, value: &Value) {
        let (message, _) = self.switch.recv_msg::<ToSwitch>().unwrap().unwrap();
        let ToSwitch::Query { id, what: asked } = message else { panic!("{message:?}") };
        assert_eq!(asked, what);
        let memory = memory::sealed(c"honeyweave-test", value.to_string().as_bytes()).unwrap();
        self.switch.send_msg(&ToConsole::Answer { id }, &[memory.as_fd()]).unwrap();
    }

    pub fn records(&self) -> Vec<Record> {
        let lines = search(&self.dir.path().join("events"), &Filter::default(), usize::MAX).unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        drop(self.supervisor.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a condition, which must come.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = clock::monotonic_micros() + DEADLINE.as_micros() as i64;
    while !holds() {
        assert!(clock::monotonic_micros() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn now() -> Instant {
    Instant::from_micros(clock::monotonic_micros())
}

pub(super) fn probe(session: u64) -> Event {
    let mut event = Event::new(EventId::TcpProbe, now());
    event.session = SessionId(session);
    event.node = 1;
    event.src.ip = IpAddr::from([192, 0, 2, 9]).into();
    event.dst.l4_port = 22;
    event.proto = 6;
    event
}

#[test]
fn events_go_from_the_ring_to_log_status_and_followers() {
    let mut harness = Harness::new();
    let mut sink = harness.sink();
    sink.emit(&probe(1), b"");
    until("the first record is logged", || harness.records().len() == 1);

    let mut follower = harness.connect();
    follower.write_all(b"{\"request\":\"events\",\"last\":10,\"follow\":true,\"event\":\"tcp\"}\n").unwrap();
    let mut told = BufReader::new(follower).lines();
    let mut next = || serde_json::from_str::<Value>(&told.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!(first["record"]["seq"], 1);
    sink.emit(&Event::new(EventId::IcmpEcho, now()), b"");
    sink.emit(&probe(2), b"SSH-2.0-x\r\n");
    let second = next();
    assert_eq!(second["record"]["seq"], 3, "what does not fit is not told");
    assert_eq!(second["record"]["node"], "core");
    assert_eq!(second["record"]["text"], "SSH-2.0-x\\r\\n");
    let record: Record = serde_json::from_value(second["record"].clone()).unwrap();
    let age = clock::realtime_micros() - record.time.micros();
    assert!((0..DEADLINE.as_micros() as i64).contains(&age), "{age}");

    let lines = harness.ask(r#"{"request":"events","last":2,"session":"0000000000000002"}"#);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["record"]["seq"], 3);
    assert_eq!(lines[1], json!({"ok": null}));

    let asker = std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(r#"{"request":"status"}"#));
        let nodes = json!([{"node": "core", "rx": 5, "tx": 6, "dropped": 0}]);
        harness.answer(Query::Status, &json!({"nodes": nodes, "devices": [{"device": "eth7", "io": "packet (ring)"}]}));
        asker.join().unwrap()
    });
    let status: crate::control::request::Status = serde_json::from_value(asker[0]["ok"].clone()).unwrap();
    assert_eq!((status.name.as_str(), status.supervisor, status.switch_error), ("hwt", 4711, None));
    assert_eq!(status.nodes, [json!({"node": "core", "rx": 5, "tx": 6, "dropped": 0})]);
    assert_eq!(status.devices, [json!({"device": "eth7", "io": "packet (ring)"})]);
    assert_eq!(status.summary.attackers[0].events, 2);
    harness.stop();
}

#[test]
fn what_a_full_ring_lost_is_a_gap() {
    let events = ring::create(c"honeyweave-test", 4096).unwrap();
    // More than fits, before anyone reads.
    let mut sink = RingSink::new(RingWriter::open(events.try_clone().unwrap()).unwrap());
    let mut sent = 0;
    while sink.lost() < 3 {
        sink.emit(&probe(sent), &[7; 500]);
        sent += 1;
    }
    let mut harness = Harness::with(plan(vec![]), events);
    until("everything is logged", || harness.records().len() as u64 == sent - 3 + 1);
    let records = harness.records();
    let gap = records.last().unwrap();
    assert_eq!((gap.event, gap.count), (EventId::Gap, Some(3)));
    assert!(gap.reason.as_deref().unwrap().starts_with("ring"));
    let metrics = std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(r#"{"request":"metrics"}"#));
        harness.answer(Query::Status, &json!({"nodes": [{"node": "core", "rx": 5, "tx": 6}]}));
        asker.join().unwrap()
    });
    let text = metrics[0]["ok"].as_str().unwrap();
    assert!(text.contains("honeyweave_events_lost_total 3\n"), "{text}");
    assert!(text.contains("honeyweave_frames_total{node=\"core\",direction=\"rx\"} 5\n"), "{text}");

    // The next console does not tell it again, and numbers go on.
    harness.stop();
    harness.start(plan(vec![]));
    harness.sink().emit(&probe(99), b"");
    // Between them the supervisor went without a word.
    until("the next record is logged", || harness.records().len() as u64 == sent - 3 + 3);
    let records = harness.records();
    assert_eq!(records.last().unwrap().event, EventId::TcpProbe);
    assert_eq!(records.last().unwrap().seq, sent - 3 + 3);
}

#[test]
fn what_is_in_the_ring_at_the_end_is_written() {
    let mut harness = Harness::new();
    let mut sink = harness.sink();
    for session in 0..5000 {
        sink.emit(&probe(session), b"");
    }
    let lost = sink.lost();
    harness.stop();
    let probes = harness.records().iter().filter(|record| record.event == EventId::TcpProbe).count() as u64;
    assert_eq!(probes, 5000 - lost);
}

#[test]
fn tables_come_from_the_switch_in_rows() {
    let harness = Harness::new();
    let lines = std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(r#"{"request":"show","table":"fdb","limit":5}"#));
        // One more than is told.
        let what = Query::Show { what: crate::node::Show::Fdb, limit: 6 };
        harness.answer(what, &json!([{"node": "core", "rows": [{"mac": "00:0c:29:aa:00:11", "vlan": 1}]}]));
        asker.join().unwrap()
    });
    assert_eq!(lines, [json!({"ok": [{"node": "core", "mac": "00:0c:29:aa:00:11", "vlan": 1}]})]);
    let lines = std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(r#"{"request":"show","table":"drops"}"#));
        harness.answer(Query::Status, &json!({"drops": [{"node": "core", "reason": "guard", "count": 2}]}));
        asker.join().unwrap()
    });
    assert_eq!(lines, [json!({"ok": [{"node": "core", "reason": "guard", "count": 2}]})]);
}

#[test]
fn a_switch_that_is_silent_or_talks_nonsense_is_only_an_error() {
    let harness = Harness::new();
    harness.switch.send(b"\xff\xff\xff\xff", &[]).unwrap();
    harness.switch.send_msg(&ToConsole::Answer { id: 1 }, &[]).unwrap();
    let (pipe, _held) = io::pipe().unwrap();
    let lines = std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(r#"{"request":"hosts"}"#));
        let (message, _) = harness.switch.recv_msg::<ToSwitch>().unwrap().unwrap();
        let ToSwitch::Query { id, .. } = message else { panic!("{message:?}") };
        harness.switch.send_msg(&ToConsole::Answer { id }, &[pipe.as_fd()]).unwrap();
        asker.join().unwrap()
    });
    assert!(lines[0]["error"].as_str().unwrap().contains("no memory"), "{lines:?}");
    let lines = harness.ask(r#"{"request":"show","table":"fib"}"#);
    assert!(lines[0]["error"].as_str().unwrap().contains("does not answer"), "{lines:?}");
}

#[test]
fn down_reaches_the_supervisor() {
    let harness = Harness::new();
    assert_eq!(harness.ask(r#"{"request":"down"}"#), [json!({"ok": null})]);
    let supervisor = harness.supervisor.as_ref().unwrap();
    assert_eq!(supervisor.recv_msg::<ToSupervisor>().unwrap().unwrap().0, ToSupervisor::Down);
}

#[test]
fn keeper_and_supervisor_are_heard() {
    let harness = Harness::new();
    let said = |id, text: &str| Said { event: Event::new(id, now()), data: text.as_bytes().to_vec() };
    let flapped = said(EventId::DeviceState, "eth7: \u{1b}[2Jgone");
    harness.keeper.send_msg(&KeeperSays::Said(flapped), &[]).unwrap();
    harness.keeper.send(b"junk", &[]).unwrap();
    let supervisor = harness.supervisor.as_ref().unwrap();
    supervisor.send_msg(&said(EventId::ProcessState, "switch started"), &[]).unwrap();
    until("both are logged", || harness.records().len() == 2);
    let mut reasons: Vec<String> = harness.records().into_iter().filter_map(|record| record.reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["eth7: \\u{1b}[2Jgone", "switch started"]);
}

#[test]
fn frames_go_to_the_capture_of_their_interface() {
    let mut harness = Harness::new();
    let mut capture = RingCapture::new(RingWriter::open(harness.frames.try_clone().unwrap()).unwrap(), 2048);
    capture.frame(0, false, now(), 60, &[1; 60]);
    // Announced only after its first frame.
    capture.frame(70_000, true, now(), 60, &[2; 60]);
    let host = "10.0.0.5".parse().unwrap();
    harness.switch.send_msg(&ToConsole::Interface { number: 70_000, node: NodeIdx(1), host }, &[]).unwrap();
    capture.frame(99_999, true, now(), 60, &[3; 60]);
    let names = || {
        let entries = std::fs::read_dir(harness.dir.path().join("captures")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let all = ["core-10.0.0.5-000001.pcapng", "unknown-000001.pcapng", "wan-000001.pcapng"];
    until("three captures", || names() == all);
    harness.stop();
    for (name, octet) in all.iter().zip([2u8, 3, 1]) {
        let bytes = std::fs::read(harness.dir.path().join("captures").join(name)).unwrap();
        assert!(bytes.windows(60).any(|window| window == [octet; 60]), "{name}");
    }
}

#[test]
fn a_proxys_target_is_opened_and_passed_on() {
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxies: Vec<Proxy> = [&target, &closed]
        .map(|listener| Proxy { target: listener.local_addr().unwrap(), connect_timeout_ms: 5000 })
        .into();
    drop(closed);
    let harness = Harness::with(plan(proxies), ring::create(c"honeyweave-test", 1 << 16).unwrap());
    let peer = "192.0.2.9:1".parse().unwrap();
    for (conn, proxy) in [(10, 0), (11, 1), (12, 2)] {
        harness.switch.send_msg(&ToConsole::Proxy { conn, proxy, peer, local: peer }, &[]).unwrap();
    }
    let mut failed = Vec::new();
    for _ in 0..3 {
        match harness.switch.recv_msg::<ToSwitch>().unwrap().unwrap() {
            (ToSwitch::ProxyOpen { conn: 10 }, mut fds) => {
                let mut ours = std::net::TcpStream::from(fds.remove(0));
                ours.set_nonblocking(false).unwrap();
                ours.write_all(b"hello").unwrap();
                drop(ours);
                let mut text = String::new();
                target.accept().unwrap().0.read_to_string(&mut text).unwrap();
                assert_eq!(text, "hello");
            }
            (ToSwitch::ProxyFailed { conn, why }, _) => failed.push((conn, why)),
            other => panic!("{other:?}"),
        }
    }
    failed.sort();
    assert_eq!(failed.iter().map(|(conn, _)| *conn).collect::<Vec<_>>(), [11, 12]);
    assert!(failed[0].1.contains("refused"), "{failed:?}");
    assert!(failed[1].1.contains("no proxy number 2"), "{failed:?}");
}
