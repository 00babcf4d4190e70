//! Listings of a container that rests over and over.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::tests::{Bench, hash};
use super::*;

const HOUR: i64 = 3_600_000_000;

impl Bench {
    fn rest(&mut self, occasion: Occasion, rests: &dyn Fn() -> bool) -> Noted {
        self.dir("evidence/listings");
        let addresses = vec!["10.1.0.10".parse().unwrap(), "fd00::10".parse().unwrap()];
        let note = Some(Note { occasion, addresses, granted: None });
        let job = Job { note, ..self.job() };
        let open = ["upper", "lower", "evidence/samples", "evidence"].map(|path| self.open(path));
        process::note(&job, [&open[0], &open[1], &open[2], &open[3]], rests).unwrap()
    }

    fn frozen(&mut self) -> (Taken, bool, bool) {
        match self.rest(Occasion::Frozen, &|| true) {
            Noted::Made { taken, unchanged, partial } => (*taken, unchanged, partial),
            Noted::WentOn => panic!("it rests"),
        }
    }

    fn later(&mut self) {
        self.now = Utc::from_micros(self.now.micros() + HOUR);
    }

    fn listings(&self) -> Vec<Listing> {
        let names = fs::read_dir(self.path("evidence/listings")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().map(|path| read_listing(fs::File::open(path).unwrap()).unwrap()).collect()
    }
}

/// Whether it rests for so many questions more.
fn for_so_long(questions: usize) -> impl Fn() -> bool {
    let left = Cell::new(questions);
    move || {
        left.set(left.get().saturating_sub(1));
        left.get() > 0
    }
}

#[test]
fn each_rest_is_told_by_what_was_changed_since() {
    let mut bench = Bench::new();
    bench.both("etc/motd", b"welcome");
    bench.file("upper/tool", b"#!/bin/sh\nid\n");
    let (first, unchanged, partial) = bench.frozen();
    assert_eq!((first.counts.added, first.new_samples, unchanged, partial), (1, 1, false, false));
    assert_eq!(first.counts.kept, 0, "no contents but samples");
    let sample = format!("evidence/samples/{}.zst", hash(b"#!/bin/sh\nid\n"));
    assert!(bench.path(&sample).exists());
    // Nothing is changed: the first one holds until then.
    let began = bench.now;
    bench.later();
    let (second, unchanged, _) = bench.frozen();
    assert_eq!((unchanged, second.archive.as_str()), (true, first.archive.as_str()));
    let listings = bench.listings();
    assert_eq!((listings.len(), listings[0].taken, listings[0].until), (1, began, bench.now));
    // A permission is.
    bench.later();
    bench.mode("upper/tool", 0o4755);
    bench.file("upper/second", b"data");
    let (third, unchanged, _) = bench.frozen();
    assert!(!unchanged && third.archive > first.archive, "{third:?}");
    let listings = bench.listings();
    let own = between(Some(&listings[0]), &listings[1]);
    let told: Vec<_> = own.iter().map(|change| (change.path.to_string(), change.change)).collect();
    assert_eq!(told, [("/second".to_owned(), How::Added), ("/tool".to_owned(), How::Changed)]);
    assert_eq!(own[1].differs, [Differs::Mode]);
    assert_eq!(listings[1].sampled, 13, "what was new in all of them");
    assert!(listings[1].addresses.len() == 2 && listings[1].occasion == Occasion::Frozen);
    // Its end is one more, beside the archive.
    bench.later();
    fs::remove_file(bench.path("upper/second")).unwrap();
    let note = Some(Note { occasion: Occasion::Ended, addresses: vec![], granted: None });
    let job = Job { note, ..bench.job() };
    let open = ["upper", "lower", "evidence/samples", "evidence"].map(|path| bench.open(path));
    let taken = process::take(&job, [&open[0], &open[1], &open[2], &open[3]]).unwrap();
    assert_eq!((archive::is_archive(&taken.archive), taken.unlisted), (true, None));
    let listings = bench.listings();
    assert_eq!((listings.len(), listings[2].occasion), (3, Occasion::Ended));
    assert_eq!(listings[2].changes.len(), 1);
}

#[test]
fn what_is_long_settled_is_not_read_again() {
    let mut bench = Bench::new();
    bench.file("upper/large", b"as it was");
    // A day after it was written.
    bench.now = Utc::from_micros(crate::sys::clock::realtime_micros() + 24 * HOUR);
    bench.frozen();
    bench.later();
    bench.file("upper/new", b"another");
    // What has to be read cannot be.
    bench.limits.read = 0;
    bench.frozen();
    let listings = bench.listings();
    let of = |path: &str| listings[1].changes.iter().find(|change| change.path == Name::new(path)).unwrap();
    assert_eq!((of("/large").sha256, of("/large").why), (Some(hash(b"as it was")), None));
    assert_eq!((of("/new").sha256, of("/new").why), (None, Some(Why::ReadEnough)));
    // It is when anything about it has changed, whatever it says of its time.
    bench.limits.read = 1000;
    bench.later();
    fs::write(bench.path("upper/large"), b"as it is!").unwrap();
    bench.frozen();
    let changes = &bench.listings()[2].changes;
    assert_eq!(changes[0].sha256, Some(hash(b"as it is!")));
}

#[test]
fn a_container_that_goes_on_is_told_as_far_as_it_is_known() {
    let mut bench = Bench::new();
    bench.file("upper/a", b"small");
    bench.file("upper/b", b"something larger");
    bench.dir("upper/c");
    assert_eq!(bench.rest(Occasion::Frozen, &|| false), Noted::WentOn);
    // After two directories, before any file.
    assert_eq!(bench.rest(Occasion::Frozen, &for_so_long(2)), Noted::WentOn);
    assert_eq!(bench.listings(), []);
    let Noted::Made { partial, .. } = bench.rest(Occasion::Frozen, &for_so_long(6)) else { panic!("it was listed") };
    let listings = bench.listings();
    let [a, b, c] = &listings[0].changes[..] else { panic!("{listings:?}") };
    assert!(partial && listings[0].partial);
    assert_eq!((a.sha256, a.why), (Some(hash(b"small")), None), "the smallest first");
    assert_eq!((b.sha256, b.why, c.entry.kind), (None, Some(Why::WentOn), Kind::Directory));
    // The next time that it rests, it is known, and takes the place of what was not.
    bench.later();
    let (_, unchanged, partial) = bench.frozen();
    let listings = bench.listings();
    assert_eq!((listings.len(), unchanged, partial, listings[0].partial), (1, true, false, false));
    assert_eq!(listings[0].changes[1].sha256, Some(hash(b"something larger")));
    // One that is known is not made less by one that is not.
    bench.later();
    bench.rest(Occasion::Frozen, &for_so_long(4));
    let listings = bench.listings();
    assert_eq!((listings.len(), listings[0].partial, listings[0].until), (1, false, bench.now));
}

#[test]
fn one_container_does_not_fill_the_disk() {
    let mut bench = Bench::new();
    bench.limits.archive = 40;
    for round in 0..70 {
        bench.later();
        bench.file("upper/tool", format!("#!/bin/sh\necho {round}\n").as_bytes());
        bench.frozen();
    }
    let listings = bench.listings();
    assert_eq!((listings.len(), listings.last().unwrap().taken), (64, bench.now));
    assert!(listings.iter().all(|listing| listing.sampled <= 40), "samples are bounded for all of them");
    assert_eq!(fs::read_dir(bench.path("evidence/samples")).unwrap().count(), 2);
    // Another container's are not touched by that; together they have a limit, too.
    bench.limits.total = 1;
    bench.later();
    bench.file("upper/tool", b"#!/bin/sh\n");
    let (taken, ..) = bench.frozen();
    assert_eq!((bench.listings().len(), taken.removed_listings), (1, 63));
}

#[test]
fn hostile_trees_are_listed_as_they_are_archived() {
    let mut bench = Bench::new();
    bench.dir("lower/var/log");
    bench.file("lower/var/log/syslog", b"x");
    bench.dir("upper/var/log");
    rustix::fs::setxattr(bench.path("upper/var/log"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    bench.file(b"upper/new\nline\xff\x1b[2J", b"#!/bin/sh\n");
    bench.node("upper/pipe", rustix::fs::FileType::Fifo, (0, 0));
    bench.node("upper/disk", rustix::fs::FileType::BlockDevice, (8, 0));
    std::os::unix::fs::symlink("/etc/shadow", bench.path("upper/out")).unwrap();
    fs::hard_link(bench.path(b"upper/new\nline\xff\x1b[2J"), bench.path("upper/hard")).unwrap();
    for n in 0..3000 {
        fs::write(bench.path(format!("upper/{n}")), b"").unwrap();
    }
    bench.limits.changes = 2000;
    let (taken, unchanged, _) = bench.frozen();
    assert!(!unchanged && taken.cut >= 1, "{taken:?}");
    bench.later();
    let (_, unchanged, _) = bench.frozen();
    assert!(unchanged, "the same is the same");
    let mode = fs::metadata(bench.path(format!("evidence/listings/{}", taken.archive))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_came_late_is_honeyweaves_own_until_somebody_has_it_in_hand() {
    let mut bench = Bench::new();
    bench.dir("upper");
    bench.dir("lower");
    let late = bench.path("upper/late");
    bench.file("upper/late", b"a key");
    bench.file("upper/other", b"an intruder's");
    let meta = fs::metadata(&late).unwrap();
    bench.late.push((meta.ino(), tree::ctime(&meta)));
    bench.frozen();
    bench.later();
    // The kernel's clock for files moves some times a second.
    let deadline = crate::sys::clock::monotonic_micros() + 10_000_000;
    while tree::ctime(&fs::metadata(&late).unwrap()) == tree::ctime(&meta) {
        assert!(crate::sys::clock::monotonic_micros() < deadline);
        fs::set_permissions(&late, fs::Permissions::from_mode(0o777)).unwrap();
    }
    bench.frozen();
    let told: Vec<Vec<String>> = bench
        .listings()
        .iter()
        .map(|listing| listing.changes.iter().map(|change| change.path.to_string()).collect())
        .collect();
    assert_eq!(told, [&["/other"][..], &["/late", "/other"]]);
}
