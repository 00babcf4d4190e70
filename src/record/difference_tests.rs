use std::fs;

use super::*;
use crate::container::inspector::{Change, Entry, How, Kind, Leased, Mode, Name, Note, listing_name};
use crate::event::MaskedIp;
use crate::record::{EventLog, LogLimits};

const BEGAN: i64 = 1_800_000_000;
const FIRST: SessionId = SessionId(0xa1);
const SECOND: SessionId = SessionId(0xb2);

fn at(seconds: i64) -> Utc {
    Utc::from_micros((BEGAN + seconds) * 1_000_000)
}

fn event(event: &str, seconds: i64, session: SessionId, ends: (&str, &str), rest: &str) -> Record {
    let (src, dst) = ends;
    let text = format!(
        r#"{{"v":1,"seq":1,"time":"{}","event":"{event}","session":"{session}","node":"lan","src":{{"ip":"{src}","port":4000}},"dst":{{"ip":"{dst}","port":22}},"proto":"tcp"{rest}}}"#,
        at(seconds)
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A connection of so many seconds.
fn visit(session: SessionId, from: &str, seconds: std::ops::Range<i64>) -> [Record; 2] {
    let ends = (from, "10.0.0.1");
    let lasted = format!(r#","duration_us":{}"#, (seconds.end - seconds.start) * 1_000_000);
    [event("tcp.open", seconds.start, session, ends, ""), event("tcp.close", seconds.end, session, ends, &lasted)]
}

/// A honeynet's directory, whom its containers are granted to, and for which session they came to life.
struct Bench(tempfile::TempDir, Option<MaskedIp>, Option<SessionId>);

impl Bench {
    fn new(records: Vec<Record>) -> Bench {
        let bench = Bench(tempfile::tempdir().unwrap(), None, None);
        fs::create_dir_all(bench.0.path().join("evidence/listings")).unwrap();
        fs::create_dir(bench.0.path().join("events")).unwrap();
        let mut log = EventLog::open(&bench.0.path().join("events"), LogLimits::default(), Utc::EPOCH).unwrap();
        for mut record in records {
            log.push(&mut record);
        }
        log.flush(Utc::EPOCH);
        bench
    }

    /// Container `number`, which was the host's since `began`, rested, with these files.
    fn rested(&self, (number, began): (u32, i64), seconds: i64, occasion: Occasion, files: &[&str]) -> Listing {
        let leased = Leased {
            honeynet: "office".into(),
            container: format!("hw-abcdef-{number}"),
            node: "lan".into(),
            host: "10.0.0.1".parse().unwrap(),
            hostname: "web".into(),
            template: "server".into(),
            image: "small".into(),
            image_hash: "0".into(),
            attacker: None,
            session: self.2.map(|id| id.to_string()),
            began: at(began),
            ended: None,
            why: None,
            leases: vec![],
            more_leases: 0,
        };
        let addresses = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let note = Note { occasion, addresses, granted: self.1 };
        let changes = files.iter().map(|path| added(path)).collect();
        let listing = Listing { changes, ..Listing::new(number, at(seconds), leased, &note) };
        self.write(&listing);
        listing
    }

    fn write(&self, listing: &Listing) {
        let name = listing_name(listing.leased.began, listing.leased.host, listing.number, listing.taken);
        let packed = zstd::encode_all(&serde_json::to_vec(listing).unwrap()[..], 1).unwrap();
        fs::write(self.0.path().join("evidence/listings").join(name), packed).unwrap();
    }

    fn told(&self, id: SessionId) -> Difference {
        difference(self.0.path(), id, false).unwrap().unwrap()
    }

    /// The same for one that is granted to an attacker, who had it made in session `id`.
    fn granted(self, whom: &str, id: SessionId) -> Bench {
        Bench(self.0, Some(whom.parse().unwrap()), Some(id))
    }

    /// What session `id` has added, time by time.
    fn added(&self, id: SessionId) -> Vec<Vec<String>> {
        let containers = self.told(id).containers;
        let windows = containers.iter().flat_map(|container| &container.windows);
        windows.map(|window| window.changes.iter().map(|caused| caused.change.path.to_string()).collect()).collect()
    }
}

fn added(path: &str) -> Change {
    let entry = Entry {
        kind: Kind::File,
        size: 1,
        allocated: 0,
        mode: Mode(0o644),
        uid: 0,
        gid: 0,
        mtime: at(0),
        ctime: at(0),
        device: None,
    };
    Change {
        path: Name::new(path),
        change: How::Added,
        differs: vec![],
        entry,
        opaque: false,
        target: None,
        same_as: None,
        sha256: None,
        kept: false,
        sample: false,
        why: None,
        was: None,
    }
}

#[test]
fn each_is_told_its_own() {
    let visits =
        [visit(FIRST, "192.0.2.1", 0..10), visit(SECOND, "192.0.2.2", 100..110), visit(FIRST, "192.0.2.1", 200..210)];
    let bench = Bench::new(visits.concat());
    let own = (7, 0);
    bench.rested(own, 30, Occasion::Frozen, &["/one"]);
    bench.rested(own, 130, Occasion::Frozen, &["/one", "/two"]);
    assert_eq!(bench.added(FIRST), [["/one"]]);
    assert!(bench.told(FIRST).containers[0].unlisted, "it came again");
    assert_eq!(bench.added(SECOND), [["/two"]]);
    assert!(!bench.told(SECOND).containers[0].unlisted);
    bench.rested(own, 230, Occasion::Ended, &["/one", "/three", "/two"]);
    assert_eq!(bench.added(FIRST), [["/one"], ["/three"]]);
    let told = bench.told(FIRST);
    let windows = &told.containers[0].windows;
    assert_eq!((windows[0].since, windows[0].until, windows[1].since), (at(0), at(30), at(130)));
    assert_eq!((windows[0].listings.len(), windows[1].listings.len()), (1, 2));
    assert!(windows.iter().all(|window| window.with.is_empty()), "{windows:?}");
    assert!(!told.containers[0].unlisted, "its files are gone");
    let all = difference(bench.0.path(), SECOND, true).unwrap().unwrap();
    let [whole] = &all.containers[0].windows[..] else { panic!("{all:?}") };
    assert_eq!((whole.changes.len(), &whole.with), (3, &vec![FIRST.to_string()]));
    assert_eq!(difference(bench.0.path(), SessionId(1), false).unwrap(), None);
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Difference>(&text).unwrap(), told);
}

#[test]
fn who_was_there_at_the_same_time_is_told_of() {
    let visits = [visit(FIRST, "192.0.2.1", 0..50), visit(SECOND, "192.0.2.2", 20..40)];
    let bench = Bench::new(visits.concat());
    bench.rested((7, 0), 60, Occasion::Frozen, &["/one"]);
    for (id, other) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let told = bench.told(id);
        assert_eq!(told.containers[0].windows[0].with, [other.to_string()]);
    }
}

#[test]
fn what_did_not_change_is_nobodys() {
    let visits = [visit(FIRST, "192.0.2.1", 0..10), visit(SECOND, "192.0.2.2", 100..110)];
    let bench = Bench::new(visits.concat());
    let mut listing = bench.rested((7, 0), 30, Occasion::Frozen, &["/one"]);
    listing.until = at(130);
    bench.write(&listing);
    assert_eq!(bench.added(FIRST), [["/one"]]);
    let told = bench.told(SECOND);
    // It was there, and what there is was there before.
    assert_eq!((told.containers.len(), &told.containers[0].windows, told.containers[0].unlisted), (1, &vec![], false));
    bench.rested((7, 0), 230, Occasion::Stopped, &["/one", "/nobody's"]);
    assert_eq!(bench.added(FIRST), [["/one"]]);
    assert_eq!(bench.added(SECOND), Vec::<Vec<String>>::new());
}

#[test]
fn another_container_of_the_host_is_another_matter() {
    let probe = event("tcp.probe", 105, SessionId(0xc3), ("192.0.2.3", "10.0.0.1"), r#","answer":"open""#);
    let records = [
        &visit(FIRST, "192.0.2.1", 0..10)[..],
        &visit(SECOND, "192.0.2.2", 100..110),
        &[probe, event("tcp.open", 106, SessionId(0xd4), ("192.0.2.2", "10.0.0.9"), "")],
    ];
    let bench = Bench::new(records.concat());
    bench.rested((7, 0), 30, Occasion::Ended, &["/one"]);
    bench.rested((8, 101), 130, Occasion::Frozen, &["/two"]);
    assert_eq!(bench.told(FIRST).containers.iter().map(|of| of.number).collect::<Vec<_>>(), [7]);
    let second = bench.told(SECOND);
    assert_eq!((second.containers.len(), second.containers[0].number), (1, 8));
    assert!(second.containers[0].windows[0].with.is_empty(), "who only looked is not told of: {second:?}");
    assert_eq!(bench.told(SessionId(0xc3)).containers, []);
    assert_eq!(bench.told(SessionId(0xd4)).containers, []);
}

#[test]
fn a_damaged_listing_makes_nobody_elses_its_own() {
    let visits = [visit(FIRST, "192.0.2.1", 0..10), visit(SECOND, "192.0.2.2", 100..110)];
    let bench = Bench::new(visits.concat());
    let first = bench.rested((7, 0), 30, Occasion::Frozen, &["/one"]);
    bench.rested((7, 0), 130, Occasion::Frozen, &["/one", "/two"]);
    let name = listing_name(first.leased.began, first.leased.host, 7, first.taken);
    fs::write(bench.0.path().join("evidence/listings").join(name), b"damaged").unwrap();
    fs::write(bench.0.path().join("evidence/listings/\u{1b}[2J"), b"").unwrap();
    // Both were there by the time of the next one.
    let told = bench.told(SECOND);
    assert_eq!(told.containers[0].windows[0].with, [FIRST.to_string()]);
    assert_eq!(bench.added(FIRST), [["/one", "/two"]]);
}

#[test]
fn a_container_of_ones_own_is_known_by_as_much_of_the_address_as_is_written() {
    for (written, other, granted) in [
        ("192.0.2.1", "192.0.2.2", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.0", "198.51.100.0", ["192.0.2.0/24", "198.51.100.0/24"]),
        ("192.0.2.1", "198.51.100.2", ["192.0.2.0/24", "198.51.100.0/24"]),
        ("2001:db8:1::", "2001:db8:2::", ["2001:db8:1::/48", "2001:db8:2::/48"]),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", ["2001:db8:1:2::", "2001:db8:1:3::"]),
    ] {
        let visits = [visit(FIRST, written, 0..50), visit(SECOND, other, 20..40)];
        let bench = Bench::new(visits.concat()).granted(granted[0], FIRST);
        bench.rested((7, 0), 60, Occasion::Frozen, &["/one"]);
        let bench = bench.granted(granted[1], SECOND);
        bench.rested((8, 20), 60, Occasion::Frozen, &["/two"]);
        assert_eq!((bench.added(FIRST), bench.added(SECOND)), (vec![vec!["/one".into()]], vec![vec!["/two".into()]]));
        for id in [FIRST, SECOND] {
            assert!(bench.told(id).containers[0].windows[0].with.is_empty(), "{written}");
        }
    }
}

#[test]
fn neighbors_whose_addresses_are_truncated_are_told_apart_by_who_had_it_made() {
    const NETWORK: &str = "192.0.2.0";
    const LATER: SessionId = SessionId(0xc3);
    let visits = [
        visit(FIRST, NETWORK, 0..50),
        visit(SECOND, NETWORK, 20..40),
        // Who comes again in another session may be either of them.
        visit(LATER, NETWORK, 200..210),
    ];
    let bench = Bench::new(visits.concat()).granted("192.0.2.0/24", FIRST);
    bench.rested((7, 0), 60, Occasion::Frozen, &["/one"]);
    bench.rested((7, 0), 230, Occasion::Ended, &["/one", "/three"]);
    let bench = bench.granted("192.0.2.0/24", SECOND);
    bench.rested((8, 20), 60, Occasion::Frozen, &["/two"]);
    assert_eq!((bench.added(FIRST), bench.added(SECOND)), (vec![vec!["/one".into()]], vec![vec!["/two".into()]]));
    assert!([FIRST, SECOND].iter().all(|id| bench.told(*id).containers[0].windows[0].with.is_empty()));
    let later = bench.told(LATER).containers;
    assert_eq!(
        later.iter().map(|of| (of.number, of.windows.len(), of.unlisted)).collect::<Vec<_>>(),
        [(7, 1, false), (8, 0, true)]
    );
    // The one that followed when the other's had ended already.
    let bench = bench.granted("192.0.2.0/24", LATER);
    bench.rested((9, 190), 240, Occasion::Frozen, &["/four"]);
    assert_eq!(bench.added(LATER), [["/four"]]);
}

/// A file of the container's that was opened to be written, by a program of such a connection, or of none.
fn written(seconds: i64, path: &str, by: Option<&str>, more: &str) -> Record {
    let object = format!(r#"{{"did":"open","path":"{path}","flags":["write"]{more}}}"#);
    let mut record = event("container.file", seconds, FIRST, ("192.0.2.1", "10.0.0.1"), "");
    record.src = by.map(|_| record.src.take().unwrap());
    record.data = Some(crate::record::base64_encode(object.as_bytes()));
    record
}

/// What was changed when, by path.
fn changed(files: &[(&str, i64)]) -> Vec<Change> {
    let change = |(path, seconds): &(&str, i64)| {
        let mut change = added(path);
        change.entry.ctime = at(*seconds);
        change
    };
    files.iter().map(change).collect()
}

#[test]
fn what_a_container_did_by_itself_is_marked() {
    let live = event("container.live", 10, FIRST, ("192.0.2.1", "10.0.0.1"), "");
    let own = |path| written(40, path, None, "");
    let theirs = |path| written(41, path, Some("192.0.2.1"), "");
    let records =
        [&visit(FIRST, "192.0.2.1", 0..60)[..], &[live, own("/var/run/cron/"), own("/run/both"), theirs("both")]];
    let marks = |more: &[Record]| {
        let bench = Bench::new([&records.concat(), more].concat());
        let mut listing = bench.rested((7, 0), 100, Occasion::Frozen, &[]);
        let files =
            [("/etc/passwd", 20), ("/run/both", 41), ("/run/cron", 40), ("/run/dropbear.pid", 9), ("/run/late", 10)];
        listing.changes = changed(&files);
        let mut deleted = added("/etc/issue");
        (deleted.change, deleted.entry.ctime) = (How::Deleted, at(-1000));
        listing.changes.insert(0, deleted);
        bench.write(&listing);
        let told = bench.told(FIRST);
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Difference>(&text).unwrap(), told);
        told.containers[0].windows[0].changes.iter().map(|caused| caused.by).collect::<Vec<_>>()
    };
    // In the order of paths: /etc/issue, /etc/passwd, /run/both, /run/cron, /run/dropbear.pid, /run/late, which is not certain by its time alone.
    assert_eq!(marks(&[]), [None, None, None, Some(By::Itself), Some(By::Start), Some(By::Start)]);
    // Where not everything is told, and where nobody knows whose doing it is, nobody is cleared by what is.
    let untold = event("container.untold", 50, FIRST, ("192.0.2.1", "10.0.0.1"), "");
    let gap = Record { time: at(50), reason: Some("inside: lost".into()), ..Record::bare(1, at(50), EventId::Gap) };
    let by_mounts = written(50, "/x", None, r#","source":"fanotify""#);
    for more in [untold, gap, by_mounts] {
        assert_eq!(marks(&[more]), [None, None, None, None, Some(By::Start), None]);
    }
    // What is of another host's container says nothing.
    let other = event("container.untold", 50, FIRST, ("192.0.2.1", "10.0.0.9"), "");
    assert_eq!(marks(&[other])[3], Some(By::Itself));
}
