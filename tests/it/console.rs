//! The command line against a console: what people and programs read.

mod order;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use honeyweave::container::{Answered, KeeperSays, Order, Ordered, Wanted};
use honeyweave::control::{ConsoleConfig, ConsoleEnds, Rings, ToConsole, ToSwitch, console};
use honeyweave::event::{Event, EventId, RingSink, SessionId, Sink};
use honeyweave::relay::tape::{Begin, ChannelKind, Credential, Direction, Entry, Protocol, Reason, Stream, Text, Word};
use honeyweave::sys::ring::{self, RingFds, RingWriter};
use honeyweave::sys::seqpacket::Channel;
use honeyweave::sys::{clock, memory};
use honeyweave::topology::Plan;
use honeyweave::wire::Instant;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_honeyweave");
const DEADLINE: i64 = 20_000_000;
#[cfg(feature = "web")]
const SERVE_METRICS: Option<console::ServeMetrics> = Some(honeyweave::web::serve);
#[cfg(not(feature = "web"))]
const SERVE_METRICS: Option<console::ServeMetrics> = None;

/// A console called `hwt`, and a switch that answers every question.
struct Running {
    dir: tempfile::TempDir,
    supervisor: Option<Channel>,
    /// The switch's end, for what it says unasked.
    switch: Channel,
    events: RingFds,
    metrics: std::net::SocketAddr,
    threads: Vec<JoinHandle<()>>,
    attacks: Cell<usize>,
}

impl Running {
    fn start() -> Running {
        let dir = tempfile::tempdir().unwrap();
        for name in ["run", "state/hwt/events", "state/hwt/captures"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let control = UnixListener::bind(dir.path().join("run/hwt.sock")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = listener.local_addr().unwrap();
        let (supervisor, supervisor_end) = Channel::pair().unwrap();
        let (switch, switch_end) = Channel::pair().unwrap();
        let (keeper, keeper_end) = Channel::pair().unwrap();
        let unasked = switch.try_clone().unwrap();
        let events = ring::create(c"hwt-events", 1 << 20).unwrap();
        let ends = ConsoleEnds {
            supervisor: supervisor_end,
            switch: switch_end,
            keeper: keeper_end,
            rings: vec![Rings {
                events: events.try_clone().unwrap(),
                frames: ring::create(c"hwt-frames", 1 << 20).unwrap(),
            }],
            control: control.into(),
            inside: None,
            metrics: Some(listener.into()),
        };
        let plan = Plan {
            name: "hwt".into(),
            nodes: vec![],
            tap_io: Default::default(),
            links: vec![],
            images: vec![],
            evidence: Default::default(),
            privacy: Default::default(),
            sinks: vec![],
            captures: Default::default(),
            eve: None,
            scripts: vec![],
            proxies: vec![],
        };
        let config = ConsoleConfig {
            plan,
            dir: dir.path().join("state/hwt"),
            started_micros: clock::realtime_micros(),
            threads: 1,
            supervisor: 4711,
            inside: honeyweave::control::Inside::Nothing,
        };
        let console = std::thread::spawn(move || console::run(config, ends, SERVE_METRICS).unwrap());
        let keeper = std::thread::spawn(move || {
            while let Some((Ordered { id, what }, _)) = keeper.recv_msg::<Ordered>().unwrap() {
                let answer = match what {
                    Wanted::Order(Order::Ls(_)) => Ok(Answered::Containers(vec![])),
                    _ => Err("this keeper is a test".to_owned()),
                };
                keeper.send_msg(&KeeperSays::Answer { id, answer }, &[]).unwrap();
            }
        });
        let switch = std::thread::spawn(move || {
            while let Some((message, _)) = switch.recv_msg::<ToSwitch>().unwrap() {
                let ToSwitch::Query { id, what } = message else { continue };
                let answer = match what {
                    honeyweave::control::Query::Show { what: honeyweave::node::Show::Fib, .. } => json!([]),
                    honeyweave::control::Query::Show { .. } => {
                        json!([{"node": "core", "rows": [{"mac": "00:0c:29:aa:00:11", "name": "\u{1b}[31mred\u{9b}"}]}])
                    }
                    honeyweave::control::Query::Status => json!({
                        "nodes": [{"node": "core", "rx": 12, "tx": 3, "dropped": 0}],
                        "drops": [{"node": "core", "reason": "guard", "count": 2}],
                        "links": [{"a": "core:0", "b": "edge:1", "state": "up", "tx": 1, "dropped": 0}],
                        "standing": [{"node": "core", "sessions": 1, "flows": 0}],
                    }),
                };
                let memory = memory::sealed(c"hwt-answer", answer.to_string().as_bytes()).unwrap();
                switch.send_msg(&ToConsole::Answer { id }, &[memory.as_fd()]).unwrap();
            }
        });
        Running {
            dir,
            supervisor: Some(supervisor),
            switch: unasked,
            events,
            metrics,
            threads: vec![console, switch, keeper],
            attacks: Cell::new(0),
        }
    }

    fn command(&self, words: &str) -> Command {
        command(self.dir.path(), words)
    }

    fn out(&self, words: &str) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{words} printed a control character: {text:?}");
        text
    }

    fn attack(&self) {
        self.attack_at(clock::monotonic_micros());
    }

    fn attack_at(&self, micros: i64) {
        let mut sink = RingSink::new(RingWriter::open(self.events.try_clone().unwrap()).unwrap());
        let events = [
            (EventId::SessionStart, 1, true, &b""[..]),
            (EventId::TcpProbe, 1, false, b""),
            (EventId::TcpData, 1, false, b"\x1b]0;owned\x07"),
            (EventId::TcpData, 2, true, b"GET / HTTP/1.0\r\n\r\n"),
        ];
        for (after, (id, session, first, data)) in events.into_iter().enumerate() {
            let mut event = Event::new(id, Instant::from_micros(micros + after as i64));
            event.session = SessionId(session);
            event.first = first;
            event.src.ip = std::net::IpAddr::from([192, 0, 2, 9]).into();
            event.src.l4_port = 40000;
            event.dst.ip = std::net::IpAddr::from([10, 0, 0, 1]).into();
            event.dst.l4_port = 80;
            event.proto = 6;
            sink.emit(&event, data);
        }
        let end = clock::monotonic_micros() + DEADLINE;
        let log = self.dir.path().join("state/hwt/events/events.ndjson");
        // What the console says of itself stands there, too: only the last event of attacks is counted.
        let logged = || std::fs::read_to_string(&log).unwrap_or_default().matches("0000000000000002").count();
        let attacks = self.attacks.get() + 1;
        self.attacks.set(attacks);
        while logged() < attacks {
            assert!(clock::monotonic_micros() < end, "the events are not logged");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(&mut self) {
        drop(self.supervisor.take());
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn command(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(words.split(' '))
        .env("HONEYWEAVE_RUN_DIR", dir.join("run"))
        .env_remove("HONEYWEAVE_NAME")
        .env_remove("HONEYWEAVE_STATE_DIR")
        .env("NO_COLOR", "1");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn people_and_programs_read_what_happened() {
    let mut hwt = Running::start();
    hwt.attack();

    let text = hwt.out("events ls");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[1].contains("tcp.probe") && lines[1].contains("192.0.2.9:40000") && lines[1].contains("closed"));
    assert!(lines[2].contains("(10 octets)"), "{}", lines[2]);
    assert!(lines[3].contains("\"GET / HTTP/1.0\\r\\n\\r\\n\""), "{}", lines[3]);
    let json: Vec<Value> = hwt
        .out("events ls --last 2 --event tcp.data --json")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json.iter().map(|r| r["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(hwt.out("events --session 0000000000000002 --json").lines().count(), 1);

    assert_eq!(hwt.out("show fdb"), "NODE  MAC                NAME\ncore  00:0c:29:aa:00:11  \\u{1b}[31mred\\u{9b}\n");
    let rows: Value = serde_json::from_str(&hwt.out("hosts ls --json")).unwrap();
    assert_eq!(rows, json!([{"node": "core", "mac": "00:0c:29:aa:00:11", "name": "\u{1b}[31mred\u{9b}"}]));
    assert_eq!(hwt.out("show fib"), "");
    assert_eq!(hwt.out("show fib --json"), "[]\n");
    assert_eq!(hwt.out("show drops --node core"), "NODE  REASON  COUNT\ncore  guard       2\n");
    let output = hwt.command("show drops --node nobody --json").output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(said(&output).contains("there is no node `nobody`") && said(&output).contains("core"), "{}", said(&output));
    assert_eq!(hwt.out("show fib --node core --json"), "[]\n");
    let cut = hwt.out("show fdb --limit 0");
    assert_eq!(cut, "(core has more than these 0: `--limit` says how many are told)\n");
    assert_eq!(hwt.out("hosts ls --limit 0 --json"), "[\n{\"node\":\"core\",\"cut_at\":0}\n]\n");
    assert!(hwt.out("show links --node edge").contains("core:0  edge:1  up"));

    let status = hwt.out("status --name hwt");
    let sessions =
        "sessions    1 open, with 0 TCP connections; 2 begun; 1 went on after the first look, 0 of them ended";
    for part in ["honeynet    hwt, up ", sessions, "process 4711", "events      4, 0 lost", "192.0.2.9", "80/tcp"] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let status: Value = serde_json::from_str(&hwt.out("status --json")).unwrap();
    assert_eq!(status["nodes"][0]["rx"], 12);
    assert!(hwt.out("status --metrics").contains("honeyweave_events_total{event=\"tcp.data\"} 2\n"));
    if SERVE_METRICS.is_some() {
        let mut scrape = std::net::TcpStream::connect(hwt.metrics).unwrap();
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut scraped = String::new();
        scrape.read_to_string(&mut scraped).unwrap();
        assert!(scraped.contains("honeyweave_events_total{event=\"tcp.data\"} 2\n"), "{scraped}");
    }

    let rows: Value = serde_json::from_str(&hwt.out("session ls --json")).unwrap();
    let ids = rows.as_array().unwrap().iter().map(|row| row["session"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids, ["0000000000000001", "0000000000000002"]);
    assert_eq!((&rows[0]["attacker"], &rows[0]["ports"][0]["port"]), (&json!("192.0.2.9"), &json!(80)));
    assert_eq!(hwt.out("session ls --host 10.0.0.2 --json"), "[]\n");
    assert_eq!(hwt.out("session ls --attacker 192.0.2.9 --since 1h --last 1").lines().count(), 2);
    let files = hwt.dir.path().join("state/hwt/sessions/0000000000000001");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("1.cast"), "x").unwrap();
    std::fs::write(files.join("\u{1b}[2J"), "x").unwrap();
    let shown = hwt.out("session show 0000000000000001");
    for part in [
        "attacker  192.0.2.9\n",
        "80  closed",
        "tcp.probe            1\n",
        "1.cast       1\n",
        "(1 more: files, or what is none",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let output = hwt.command("session show 00000000000000ff").output().unwrap();
    assert!(said(&output).contains("no record of session 00000000000000ff"), "{}", said(&output));

    // What it told while it ran it tells when it has ended.
    hwt.stop();
    std::fs::remove_file(hwt.dir.path().join("run/hwt.sock")).unwrap();
    let state = hwt.dir.path().join("state");
    let words = format!("events ls --name hwt --state-dir {}", state.display());
    // That it was left without a supervisor is on record, too.
    assert_eq!(hwt.out(&words).lines().count(), 5);
    let shown_again = hwt.out(&format!("session show 0000000000000001 --name hwt --state-dir {}", state.display()));
    // Since that is on record, it says when it has ended.
    let but_its_end = |shown: &str| {
        let lines = shown.lines().filter(|line| !line.starts_with("until "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(but_its_end(&shown_again), but_its_end(&shown));
    assert!(shown_again.contains("the honeynet ended at ") && !shown.contains("the honeynet ended"), "{shown_again}");
    assert_eq!(hwt.out(&format!("session ls --json --state-dir {}", state.display())).lines().count(), 4);
}

/// What the switch tells of an SSH connection is what `session` shows of it, and no escape of the attacker's among it.
#[test]
fn connections_are_shown() {
    let hwt = Running::start();
    let say = |word| hwt.switch.send_msg(&ToConsole::Tape { conn: 7, word }, &[]).unwrap();
    say(Word::Begin(Begin {
        protocol: Protocol::Ssh,
        session: SessionId(1),
        node: honeyweave::node::NodeIdx(0),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: honeyweave::event::Utc::from_micros(clock::realtime_micros()),
    }));
    let attempt = |password: &str, accepted| Entry::Attempt {
        user: Text::new("ro\u{1b}[2Jot"),
        credential: Credential::Password { password: Text::new(password) },
        accepted,
    };
    let worm = Bytes::from_static(b"#!/bin/sh\n");
    let data = |stream, data: &'static [u8]| Entry::Data { channel: 0, stream, data: data.into() };
    let entries = [
        attempt("123456", false),
        attempt("C:\\", true),
        Entry::Opened { channel: 0, kind: ChannelKind::Session },
        Entry::Pty { channel: 0, term: Text::new("xterm"), columns: 100, rows: 40 },
        Entry::Shell { channel: 0 },
        data(Stream::Output, b"# "),
        data(Stream::Input, b"uname -a\r"),
        data(Stream::Output, b"\x1b]0;owned\x07Linux\r\n"),
        Entry::Opened { channel: 1, kind: ChannelKind::Session },
        Entry::Exec { channel: 1, command: Text::command("scp -t \u{9b}/tmp") },
        Entry::FileBegin { channel: 1, file: 0, path: Text::new("worm\n.sh"), direction: Direction::Upload },
        Entry::FilePiece { file: 0, offset: 0, data: worm.clone() },
        Entry::FileEnd { file: 0, size: worm.len() as u64, again: 0, sha256: None, kept: true },
        Entry::Opened {
            channel: 2,
            kind: ChannelKind::DirectTcpip { host: Text::new("10.0.0.2"), port: 25, from: Text::default() },
        },
        Reason::ClientClosed.end(),
    ];
    for (at, entry) in entries.into_iter().enumerate() {
        say(Word::Entry(at as u64 * 100_000, entry));
    }
    let end = clock::monotonic_micros() + DEADLINE;
    while !hwt.out("events ls --event ssh.close").contains("client-closed") {
        assert!(clock::monotonic_micros() < end, "the connection never ends");
        std::thread::sleep(Duration::from_millis(10));
    }
    let shown = hwt.out("session show 0000000000000001");
    for part in [
        "ssh.login            2\n",
        "ro\\x1b[2Jot  password  123456      no\n",
        "ro\\x1b[2Jot  password  C:\\\\        yes\n",
        "scp -t \\u{9b}/tmp",
        "worm\\x0a.sh",
        "sha256-a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf",
        "to 10.0.0.2:25",
        "closed by the client",
        "uname -a",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let told: Value = serde_json::from_str(&hwt.out("session show 0000000000000001 --json")).unwrap();
    let connection = &told["connections"][0];
    assert_eq!((&connection["user"], &connection["files"][0]["size"]), (&json!("ro\\x1b[2Jot"), &json!(10)));
    let content = connection["files"][0]["content"].as_str().unwrap();
    let files = hwt.dir.path().join("state/hwt/sessions/0000000000000001");
    assert_eq!(std::fs::read(files.join(content)).unwrap(), worm);
    assert_eq!(hwt.out("session replay 0000000000000001 --text"), "# Linux\n");
    let typed = hwt.out("session replay 0000000000000001 --commands");
    let (head, commands) = typed.split_once('\n').unwrap();
    assert!(head.starts_with("commands in 20") && head.ends_with(".cast") && commands.contains("uname -a"), "{typed}");
    // That of the command that was no shell is told, too.
    let (commands, other) = commands.split_once("\ncommands in ").unwrap();
    assert!(other.ends_with("scp -t \\u{9b}/tmp\n"), "{typed}");
    let cast = files.join(head.trim_start_matches("commands in "));
    assert_eq!(hwt.out(&format!("session replay --commands {}", cast.display())), commands);
    // A pipe gets the text, unless there is a terminal behind it.
    assert_eq!(hwt.out("session replay 0000000000000001 --max-idle 60"), "# Linux\n");
    let replayed = hwt.command("session replay 0000000000000001 --speed 100 --terminal").output().unwrap();
    let replayed = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.contains("Linux\r\n") && !replayed.contains("owned"), "{replayed:?}");
}

#[test]
fn followers_end_when_nobody_reads_when_interrupted_and_when_the_honeynet_ends() {
    let mut hwt = Running::start();
    let follow = |hwt: &Running| {
        // A shell that runs tests in the background has them ignore SIGINT, and so would their children.
        let program = hwt.command("events -f --json --last 0");
        let mut child = Command::new("env");
        child.arg("--default-signal=INT").arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => child.env(name, value),
                None => child.env_remove(name),
            };
        }
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    };
    let (mut reader_leaves, mut out_a) = follow(&hwt);
    let (mut interrupted, mut out_b) = follow(&hwt);
    let (honeynet_ends, mut out_c) = follow(&hwt);
    // They may not listen yet: what happens is repeated until each has been told.
    let mut told = [false; 3];
    let end = clock::monotonic_micros() + DEADLINE;
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (at, out) in [&mut out_a, &mut out_b, &mut out_c].into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut line = String::new();
                out.read_line(&mut line).unwrap();
                sender.send((at, line)).unwrap();
            });
        }
        while told != [true; 3] {
            assert!(clock::monotonic_micros() < end, "{told:?}");
            hwt.attack();
            while let Ok((at, line)) = lines.recv_timeout(Duration::from_millis(50)) {
                assert!(serde_json::from_str::<Value>(&line).is_ok_and(|record| record["v"] == 1), "{line}");
                told[at] = true;
            }
        }
    });
    drop(out_a);
    // It notices when it has something to say.
    while reader_leaves.try_wait().unwrap().is_none() {
        assert!(clock::monotonic_micros() < end, "it goes on although nobody reads");
        hwt.attack();
    }
    let output = reader_leaves.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(said(&output), "");

    let pid = rustix::process::Pid::from_raw(interrupted.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    interrupted.wait().unwrap();
    assert_eq!(said(&interrupted.wait_with_output().unwrap()), "");

    drop(out_b);
    let drained = std::thread::spawn(move || out_c.lines().count());
    hwt.stop();
    let output = honeynet_ends.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(said(&output), "the honeynet `hwt` went away\n");
    drained.join().unwrap();
}

#[test]
fn a_follower_goes_on_with_the_next_console() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let listener = UnixListener::bind(dir.path().join("run/hwt.sock")).unwrap();
    let console = std::thread::spawn(move || {
        for (last, seqs) in [(10, &[4, 5][..]), (10_000, &[5, 6])] {
            // The program first looks which honeynets run, then asks.
            let (mut stream, request) = listener
                .incoming()
                .map(|stream| {
                    let stream = stream.unwrap();
                    let mut request = String::new();
                    BufReader::new(&stream).read_line(&mut request).unwrap();
                    (stream, request)
                })
                .find(|(_, request)| !request.is_empty())
                .unwrap();
            let request: Value = serde_json::from_str(&request).unwrap();
            assert_eq!((&request["last"], &request["follow"]), (&json!(last), &json!(true)));
            for seq in seqs {
                let record = json!({"v": 1, "seq": seq, "time": "2026-01-31T12:00:00.000000Z", "event": "tcp.open"});
                stream.write_all(format!("{}\n", json!({ "record": record })).as_bytes()).unwrap();
            }
        }
    });
    let output = command(dir.path(), "events -f --json").output().unwrap();
    console.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let seqs: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].take()).collect();
    assert_eq!(seqs, [4, 5, 6]);
}

#[test]
fn nothing_runs_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for words in ["status", "events -f", "hosts ls", "show fdb"] {
        let output = command(dir.path(), words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        let said = said(&output);
        assert!(said.contains("no honeynet is running") && said.contains("honeyweave up TOPOLOGY"), "{words}: {said}");
    }
    let output = command(dir.path(), "show fdb --name office").output().unwrap();
    assert!(said(&output).contains("no honeynet called `office` is running"), "{}", said(&output));
    for words in ["events --event tcp.prob", "events --session 1", "show fbd", "status --json --metrics"] {
        let output = command(dir.path(), words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}: {}", said(&output));
    }
    let output = command(dir.path(), "events --event bogus").output().unwrap();
    assert!(said(&output).contains("they begin with address, arp, capture, container"), "{}", said(&output));
}
