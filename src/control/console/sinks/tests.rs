//! Sinks and receivers over the loopback.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::*;
use crate::control::console::tests::{plan, until};
use crate::control::console::to_recorder::Heard;
use crate::event::{EventId, Utc};
use crate::record::sink::{Format, Peer, Select, Target};
use crate::record::{EventLog, LogLimits, Record};
use crate::sys::clock;
use crate::sys::eventfd::EventFd;

const DEADLINE: Duration = Duration::from_secs(20);

/// A log, and who sends what is in it.
struct Desk {
    dir: tempfile::TempDir,
    log: EventLog,
    shared: Arc<Shared>,
    said: (ToRecorder, Receiver<Heard>),
    sinks: Option<Sinks>,
}

impl Desk {
    fn new(limits: LogLimits) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("events")).unwrap();
        let log = EventLog::open(&dir.path().join("events"), limits, Utc::EPOCH).unwrap();
        let said = ToRecorder::new(EventFd::new().unwrap());
        Desk { dir, log, shared: Arc::new(Shared::new(&plan(vec![]))), said, sinks: None }
    }

    fn start(&mut self, to: Target) {
        let sink = SinkConfig {
            name: "siem".into(),
            format: Format::Ndjson,
            to,
            events: Select::new(["icmp.echo"]).unwrap(),
            facility: 16,
        };
        self.shared.grown(self.log.next_seq() - 1);
        self.sinks = Sinks::start(&[sink], "hwt", self.dir.path(), &self.shared, &self.said.0).unwrap();
    }

    fn write(&mut self, records: u64) {
        for number in 0..records {
            // Every other one is of no interest.
            let id = if number % 2 == 0 { EventId::IcmpEcho } else { EventId::ArpRequest };
            self.log.push(&mut Record::bare(0, Utc::EPOCH, id));
        }
        self.log.flush(Utc::EPOCH);
        self.shared.grown(self.log.next_seq() - 1);
    }

    fn stop(&mut self) {
        self.sinks.take().unwrap().end();
    }

    fn status(&self) -> crate::record::sink::SinkStatus {
        self.shared.sinks().remove(0)
    }

    /// What was told, as text.
    fn told(&self, id: EventId) -> String {
        let said = self.said.1.recv_timeout(DEADLINE).unwrap().said;
        assert_eq!(said.event.id, id);
        format!("{} {}", said.event.count, String::from_utf8(said.data).unwrap())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(sinks) = self.sinks.take() {
            sinks.end();
        }
    }
}

fn peer(port: u16) -> Peer {
    Peer { host: "127.0.0.1".into(), port }
}

fn seq(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
}

/// The next `count` records of a connection.
fn take(reader: &mut BufReader<TcpStream>, count: usize) -> Vec<u64> {
    reader.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    (0..count)
        .map(|_| {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            seq(&line)
        })
        .collect()
}

#[test]
fn a_receiver_that_dies_gets_everything_in_order_when_it_is_back() {
    let mut desk = Desk::new(LogLimits::default());
    desk.write(10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    desk.start(Target::Tcp(peer(address.port())));
    // What was before it is none of its business.
    desk.write(6);
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    assert_eq!(take(&mut reader, 3), [11, 13, 15]);
    until("it is up", || desk.status().state == "up" && desk.status().seq == 16);
    desk.write(4);
    assert_eq!(take(&mut reader, 2), [17, 19]);
    // It dies before that has settled, and with it what it had not read.
    drop((reader, listener));
    assert!(desk.told(EventId::SinkState).starts_with("1 sink siem: tcp://127.0.0.1:"));
    desk.write(4);
    until("it is down", || desk.status().state == "down" && desk.status().behind >= 4);
    let listener = TcpListener::bind(address).unwrap();
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    assert_eq!(take(&mut reader, 4), [17, 19, 21, 23]);
    assert!(desk.told(EventId::SinkState).ends_with("takes records again"));
    until("all is done", || desk.status().behind == 0);
    assert_eq!((desk.status().sent, desk.status().error), (7, None));
    // Another console goes on where this one stopped.
    desk.stop();
    drop(reader);
    desk.write(2);
    desk.start(Target::Tcp(peer(address.port())));
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    assert_eq!(take(&mut reader, 1), [25]);
}

#[test]
fn what_the_log_forgets_meanwhile_is_counted() {
    let limits = LogLimits { file_bytes: 2000, total_bytes: 6000, ..LogLimits::default() };
    let mut desk = Desk::new(limits);
    desk.write(2);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.start(Target::Tcp(peer(port)));
    assert!(desk.told(EventId::SinkState).contains("takes nothing"));
    for _ in 0..200 {
        desk.write(2);
    }
    let told = desk.told(EventId::SinkLost);
    let lost: u64 = told.split(' ').next().unwrap().parse().unwrap();
    let (newest, epoch) = (2 + lost, Utc::EPOCH);
    // It had read nothing yet, and so it knows nothing of when.
    let which = format!("sink siem: the log deleted records 3 to {newest} until {epoch} before they were sent");
    assert!(lost > 100 && told.ends_with(&which), "{told}");
    until("it is counted", || desk.status().lost == lost);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    // Those after them come, and none twice.
    let first = take(&mut reader, 1)[0];
    assert!(first > 2 + lost && first <= 4 + lost, "{first} after {lost}");
    until("all is done", || desk.status().behind == 0);
    desk.stop();
    drop((reader, listener));
    let newest = desk.log.next_seq() - 1;
    for _ in 0..200 {
        desk.write(2);
    }
    desk.start(Target::Tcp(peer(port)));
    assert!(desk.told(EventId::SinkState).ends_with("takes records again"));
    let which = format!("the log deleted records {} to ", newest + 1);
    let told = desk.told(EventId::SinkLost);
    assert!(told.contains(&which) && told.contains(&format!(" from {epoch} until {epoch} before")), "{told}");
}

#[test]
fn one_that_takes_nothing_holds_nobody_up() {
    let mut desk = Desk::new(LogLimits::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    desk.start(Target::Tcp(peer(listener.local_addr().unwrap().port())));
    // It accepts, and reads nothing.
    let (held, _) = listener.accept().unwrap();
    let begin = clock::monotonic_micros();
    for _ in 0..400 {
        desk.write(500);
    }
    assert!(clock::monotonic_micros() - begin < DEADLINE.as_micros() as i64);
    let begin = clock::monotonic_micros();
    desk.stop();
    assert!(clock::monotonic_micros() - begin < 5_000_000);
    drop(held);
    assert!(desk.status().seq < 200_000);
}

#[test]
fn datagrams_and_files() {
    let mut desk = Desk::new(LogLimits::default());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    desk.start(Target::Udp(peer(socket.local_addr().unwrap().port())));
    desk.write(4);
    let mut octets = [0; 2048];
    let mut next = || {
        let count = socket.recv(&mut octets).unwrap();
        seq(std::str::from_utf8(&octets[..count]).unwrap())
    };
    assert_eq!([next(), next()], [1, 3]);
    until("they have settled", || desk.status().behind == 0);
    desk.stop();
    desk.start(Target::File("out.json".into()));
    desk.write(1);
    until("it is written", || desk.status().sent == 3);
    desk.write(3);
    // What happened last is written before the end.
    desk.stop();
    let text = std::fs::read_to_string(desk.dir.path().join("sinks/out.json")).unwrap();
    assert_eq!(text.lines().map(seq).collect::<Vec<_>>(), [5, 6, 8]);
}
