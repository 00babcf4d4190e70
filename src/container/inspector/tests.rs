//! Overlays as an attacker might leave them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, XattrFlags};

use super::*;

const NOW: Utc = Utc::EPOCH;

/// An image and the overlay of a container over it, and a directory of evidence.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub limits: Limits,
    prepared: Option<Utc>,
    pub late: Vec<(u64, Utc)>,
    contents: Contents,
    pub now: Utc,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        for made in ["upper", "lower", "evidence", "evidence/samples"] {
            fs::create_dir(dir.path().join(made)).unwrap();
        }
        let now = Utc::from_micros(1_769_903_999_000_000);
        Bench { dir, limits: Limits::default(), prepared: None, late: Vec::new(), contents: Contents::All, now }
    }

    pub fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(path.as_ref()))
    }

    pub fn dir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub fn file(&self, path: impl AsRef<[u8]>, contents: &[u8]) {
        let path = self.path(path);
        fs::write(&path, contents).unwrap();
        chown(&path, Some(1_000_000), Some(1_000_000)).unwrap();
    }

    /// The same in both, but for what is done to one of them later.
    pub fn both(&self, path: &str, contents: &[u8]) {
        for side in ["upper", "lower"] {
            let path = format!("{side}/{path}");
            self.dir(path.rsplit_once('/').unwrap().0);
            self.file(&path, contents);
            let file = File::options().write(true).open(self.path(&path)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000)).unwrap();
        }
    }

    pub fn node(&self, path: &str, kind: FileType, device: (u32, u32)) {
        let device = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(CWD, self.path(path), kind, Bits::from_raw_mode(0o600), device).unwrap();
    }

    pub fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
    }

    pub fn open(&self, path: &str) -> OwnedFd {
        super::open(&self.path(path)).unwrap().into()
    }

    fn diff(&self) -> BTreeMap<String, Change> {
        by_path(self.compare().changes)
    }

    fn ours(&self) -> Ours<'_> {
        Ours { prepared: self.prepared, late: &self.late }
    }

    fn compare(&self) -> Diff {
        compare(self.open("upper"), self.open("lower"), self.ours(), &self.limits, &mut Nothing).unwrap()
    }

    pub fn job(&self) -> Job {
        let leased = Leased {
            honeynet: "office".into(),
            container: "hw-abcdef-7".into(),
            node: "servers".into(),
            host: "10.1.0.10".parse().unwrap(),
            hostname: "web-prod-03".into(),
            template: "server".into(),
            image: "small".into(),
            image_hash: "0123456789abcdef".into(),
            attacker: Some("192.0.2.7".parse().unwrap()),
            session: Some("00000000000000ff".into()),
            began: NOW,
            ended: None,
            why: Some("released".into()),
            leases: vec![],
            more_leases: 0,
        };
        let directories = Directories::default();
        let (prepared, late, contents, limits) = (self.prepared, self.late.clone(), self.contents, self.limits.clone());
        Job { directories, number: 7, now: self.now, leased, prepared, late, contents, list: false, note: None, limits }
    }

    fn take(&self) -> Taken {
        let open = ["upper", "lower", "evidence/samples", "evidence"].map(|path| self.open(path));
        process::take(&self.job(), [&open[0], &open[1], &open[2], &open[3]]).unwrap()
    }

    fn archive(&self, name: &str) -> read::Archive {
        read::open(&self.path(format!("evidence/{name}"))).unwrap()
    }

    fn evidence(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("evidence")).unwrap();
        let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn by_path(changes: Vec<Change>) -> BTreeMap<String, Change> {
    changes.into_iter().map(|change| (change.path.to_string(), change)).collect()
}

pub(super) fn hash(octets: &[u8]) -> Sha256Hex {
    use sha2::Digest;
    Sha256Hex(sha2::Sha256::digest(octets).into())
}

#[test]
fn each_kind_of_change_is_told() {
    let bench = Bench::new();
    for path in ["etc/same", "etc/passwd", "bin/tool", "etc/owned", "etc/touched", "etc/kind"] {
        bench.both(path, b"what the image has");
    }
    bench.file("lower/etc/gone", b"deleted");
    bench.node("upper/etc/gone", FileType::CharacterDevice, (0, 0));
    bench.dir("lower/var/log");
    bench.file("lower/var/log/old", b"hidden by the opaque directory");
    bench.dir("upper/var/log");
    rustix::fs::lsetxattr(bench.path("upper/var/log"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    bench.file("upper/var/log/old", b"hidden by the opaque directory");
    bench.file("upper/etc/passwd", b"what the image had");
    bench.mode("upper/bin/tool", 0o4755);
    chown(bench.path("upper/etc/owned"), Some(1_000_033), Some(0)).unwrap();
    File::options()
        .write(true)
        .open(bench.path("upper/etc/touched"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    fs::remove_file(bench.path("upper/etc/kind")).unwrap();
    symlink("/etc/shadow", bench.path("upper/etc/kind")).unwrap();
    bench.dir("upper/root/.ssh");
    bench.file("upper/root/.ssh/authorized_keys", b"ssh-ed25519 AAAA");
    let diff = bench.compare();
    let counts = diff.counts;
    assert_eq!((counts.added, counts.changed, counts.deleted, counts.passed_over), (4, 6, 1, 1), "{counts:?}");
    let told = by_path(diff.changes);
    let say = |path: &str| (told[path].change, told[path].differs.clone());
    assert_eq!(say("/etc/gone"), (How::Deleted, vec![]));
    assert_eq!(told["/etc/gone"].entry.size, 7);
    assert_eq!(say("/etc/passwd").1[..1], [Differs::Content]);
    assert_eq!(told["/etc/passwd"].sha256, Some(hash(b"what the image had")));
    assert_eq!(say("/bin/tool"), (How::Changed, vec![Differs::Mode]));
    assert_eq!(told["/bin/tool"].entry.mode, Mode(0o4755));
    assert_eq!(told["/bin/tool"].was.as_ref().unwrap().mode, Mode(0o644));
    assert_eq!(say("/etc/owned"), (How::Changed, vec![Differs::Owner]));
    assert_eq!((told["/etc/owned"].entry.uid, told["/etc/owned"].entry.gid), (33, 65_534));
    assert_eq!(say("/etc/touched"), (How::Changed, vec![Differs::Time]));
    assert_eq!(told["/etc/touched"].entry.mtime, NOW);
    assert_eq!(say("/etc/kind").1[0], Differs::Kind);
    assert_eq!(told["/etc/kind"].target, Some(Name::new("/etc/shadow")));
    assert_eq!(told["/etc/kind"].sha256, None, "links are not followed");
    assert!(told["/var/log"].opaque && told["/var/log"].change == How::Changed);
    // The image's file of that name is out of sight: this one is new.
    assert_eq!(say("/var/log/old"), (How::Added, vec![]));
    assert_eq!(say("/root/.ssh").0, How::Added);
    assert!(!told.contains_key("/etc") && !told.contains_key("/etc/same"), "{:?}", told.keys());
}

#[test]
fn what_takes_too_long_to_read_is_told_as_that() {
    let mut bench = Bench::new();
    bench.limits.read_secs = 1;
    bench.file("upper/small", b"read first");
    bench.limits.read = u64::MAX;
    File::create(bench.path("upper/holes")).unwrap().set_len(1 << 40).unwrap();
    let began = crate::sys::clock::monotonic_micros();
    let diff = bench.diff();
    let took = crate::sys::clock::monotonic_micros() - began;
    assert!(took < 10_000_000, "{took}");
    assert_eq!(diff["/small"].sha256, Some(hash(b"read first")));
    assert_eq!((diff["/holes"].sha256, diff["/holes"].why), (None, Some(Why::ReadEnough)));
}

#[test]
fn what_honeyweave_made_is_passed_over_whatever_it_says_of_its_time() {
    let mut bench = Bench::new();
    bench.dir("lower/etc");
    bench.dir("upper/etc");
    bench.file("upper/etc/hostname", b"web-prod-03\n");
    let prepared = fs::metadata(bench.path("upper/etc/hostname")).unwrap();
    let made = Utc::from_micros(tree::ctime(&prepared).micros());
    bench.prepared = Some(Utc::from_micros(made.micros() + 1));
    // The kernel's clock for files moves some times a second.
    let deadline = crate::sys::clock::monotonic_micros() + 10_000_000;
    loop {
        bench.file("upper/etc/left", b"by an intruder, who knows how to set clocks");
        let file = File::options().write(true).open(bench.path("upper/etc/left")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        if tree::ctime(&file.metadata().unwrap()) > made || crate::sys::clock::monotonic_micros() > deadline {
            break;
        }
    }
    let diff = bench.compare();
    assert_eq!(diff.counts.passed_over, 1);
    assert_eq!(by_path(diff.changes).keys().collect::<Vec<_>>(), ["/etc/left"]);
}

#[test]
fn absurd_trees_are_told_in_bounds() {
    let mut bench = Bench::new();
    bench.limits = Limits { per_directory: 100, changes: 2000, file: 1000, read: 1 << 20, ..Limits::default() };
    for name in [&b"new\nline"[..], b"\xff\xfe", b"\x1b[2J", b"back\\slash", b" ", b"..."] {
        bench.file([b"upper/", name].concat(), b"x");
    }
    bench.node("upper/pipe", FileType::Fifo, (0, 0));
    bench.node("upper/disk", FileType::BlockDevice, (7, 200));
    bench.node("upper/tty", FileType::CharacterDevice, (5, 1));
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("upper/socket")).unwrap();
    symlink("loop", bench.path("upper/loop")).unwrap();
    symlink("..", bench.path("upper/up")).unwrap();
    File::create(bench.path("upper/holes")).unwrap().set_len(1 << 40).unwrap();
    let large = File::create(bench.path("upper/large")).unwrap();
    large.write_all_at(b"end", 5000).unwrap();
    fs::hard_link(bench.path("upper/large"), bench.path("upper/again")).unwrap();
    bench.dir("upper/flood");
    (0..150).for_each(|n| bench.file(format!("upper/flood/{n}"), b""));
    // A tree that is deeper than a path can be long.
    let mut at = super::open(&bench.path("upper")).unwrap();
    let step = "d".repeat(200);
    for _ in 0..30 {
        rustix::fs::mkdirat(&at, &*step, Bits::from_raw_mode(0o755)).unwrap();
        at = File::from(rustix::fs::openat(&at, &*step, OFlags::PATH | OFlags::CLOEXEC, Bits::empty()).unwrap());
    }
    let diff = bench.compare();
    let cut = |why: Why| diff.cut.iter().filter(|cut| cut.why == why).count();
    assert_eq!((cut(Why::TooManyEntries), cut(Why::PathTooLong), diff.cut.len()), (1, 1, 2), "{:?}", diff.cut);
    let told = by_path(diff.changes);
    for (path, kind) in [
        ("/pipe", Kind::Fifo),
        ("/disk", Kind::BlockDevice),
        ("/tty", Kind::CharDevice),
        ("/socket", Kind::Socket),
        ("/loop", Kind::Symlink),
        ("/up", Kind::Symlink),
        ("/new\\x0aline", Kind::File),
        ("/\\xff\\xfe", Kind::File),
        ("/\\x1b[2J", Kind::File),
        ("/back\\\\slash", Kind::File),
    ] {
        assert_eq!(told[path].entry.kind, kind, "{path}");
    }
    assert_eq!(told["/disk"].entry.device, Some((7, 200)));
    let holes = &told["/holes"];
    assert_eq!((holes.why, holes.sha256, holes.entry.size), (Some(Why::ReadEnough), None, 1 << 40));
    assert_eq!(holes.entry.allocated, 0);
    let large = &told["/again"];
    assert_eq!((large.why, large.sha256.is_some(), large.kept), (Some(Why::FileTooLarge), true, false));
    assert_eq!((&told["/large"].same_as, told["/large"].sha256), (&Some(Name::new("/again")), large.sha256));
    // The same tree with less room.
    bench.limits.changes = 10;
    let diff = bench.compare();
    assert_eq!(diff.changes.len(), 10);
    assert!(diff.cut.iter().any(|cut| cut.why == Why::TooManyChanges), "{:?}", diff.cut);
}

#[test]
fn a_flood_deep_down_hides_nothing_above_it() {
    let mut bench = Bench::new();
    bench.limits.changes = 60;
    bench.dir("upper/a/a/a");
    (0..500).for_each(|n| bench.file(format!("upper/a/a/a/{n}"), b""));
    bench.dir("upper/z");
    bench.file("upper/z/payload", b"#!/bin/sh\n");
    assert!(bench.diff().contains_key("/z/payload"));
}

#[test]
fn an_archive_holds_what_its_manifest_says() {
    let mut bench = Bench::new();
    bench.both("etc/passwd", b"root:x:0:0");
    bench.file("upper/etc/passwd", b"evil:x:0:0");
    bench.dir("upper/tmp");
    bench.file("upper/tmp/payload", b"\x7fELF and so on");
    bench.file("upper/tmp/copy\n", b"\x7fELF and so on");
    bench.file("upper/tmp/run.sh", b"#!/bin/sh\nid\n");
    symlink("/etc/passwd", bench.path("upper/tmp/link")).unwrap();
    let taken = bench.take();
    assert_eq!(taken.archive, "20260131T235959Z-10.1.0.10-7.tar.zst");
    assert_eq!((taken.counts.kept, taken.counts.samples, taken.new_samples, taken.cut), (4, 3, 2, 0));
    assert_eq!(bench.evidence(), [&taken.archive, "samples"]);
    let path = bench.path(format!("evidence/{}", taken.archive));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&path).unwrap().len(), taken.octets);
    let archive = bench.archive(&taken.archive);
    assert_eq!(archive.manifest.leased, bench.job().leased);
    assert_eq!(archive.files.len(), 3, "the same contents are there once");
    let told = by_path(archive.manifest.changes.clone());
    assert_eq!(told["/tmp/payload"].sha256, Some(hash(b"\x7fELF and so on")));
    assert!(told["/tmp/payload"].sample && told["/tmp/copy\\x0a"].kept && !told["/etc/passwd"].sample);
    assert_eq!(archive.mistakes(|_| None), Vec::<String>::new());
    // Executables and scripts are also kept by hash, once for all archives.
    let sample = bench.path(format!("evidence/samples/{}.zst", hash(b"#!/bin/sh\nid\n")));
    assert_eq!(zstd::decode_all(File::open(&sample).unwrap()).unwrap(), b"#!/bin/sh\nid\n");
    bench.contents = Contents::Samples;
    let again = bench.take();
    assert_eq!(again.archive, "20260131T235959Z-10.1.0.10-7.1.tar.zst", "two in a second");
    assert_eq!((again.counts.kept, again.counts.samples, again.new_samples), (0, 3, 0));
    let listed = bench.archive(&again.archive);
    assert_eq!((listed.files.len(), listed.manifest.changes.len()), (0, archive.manifest.changes.len()));
    assert_eq!(listed.mistakes(|_| None), Vec::<String>::new());
}

#[test]
fn what_does_not_fit_is_told() {
    let mut bench = Bench::new();
    bench.limits.archive = 100;
    let (small, larger) = ([b"#!"[..].to_vec(), vec![1; 58]].concat(), [b"#!"[..].to_vec(), vec![2; 59]].concat());
    bench.file("upper/small", &small);
    bench.file("upper/larger", &larger);
    let taken = bench.take();
    let archive = bench.archive(&taken.archive);
    let told = by_path(archive.manifest.changes.clone());
    assert!(told["/small"].kept && !told["/larger"].kept);
    assert_eq!(told["/larger"].why, Some(Why::ArchiveFull));
    assert_eq!(told["/larger"].sha256, Some(hash(&larger)));
    assert_eq!((taken.counts.samples, taken.new_samples), (2, 1), "nor does every sample");
    assert_eq!(archive.mistakes(|_| None), Vec::<String>::new());
}

#[test]
fn an_archive_that_was_changed_does_not_pass() {
    let bench = Bench::new();
    bench.file("upper/one", b"contents");
    bench.file("upper/two.sh", b"#!/bin/sh\n");
    let archive = bench.archive(&bench.take().archive);
    let mistakes = |change: &dyn Fn(&mut read::Archive)| {
        let mut changed = archive.clone();
        change(&mut changed);
        changed.mistakes(|_| None).join("; ")
    };
    assert_eq!(mistakes(&|_| {}), "");
    assert!(mistakes(&|a| assert!(a.files.pop_first().is_some())).contains("is missing"));
    assert!(mistakes(&|a| assert!(a.files.insert(hash(b"more"), 4).is_none())).contains("nowhere in the manifest"));
    assert!(mistakes(&|a| a.damaged.push(hash(b"contents"))).contains("other contents"));
    assert!(mistakes(&|a| a.manifest.changes[0].entry.size = 9).contains("has 9 octets"));
    assert!(mistakes(&|a| drop(a.manifest.changes.pop())).contains("counts other changes"));
    assert!(mistakes(&|a| a.manifest.changes[0].sha256 = None).contains("has no hash"));
    let sample = hash(b"#!/bin/sh\n");
    assert_eq!(archive.mistakes(|asked| Some(Ok(*asked))), Vec::<String>::new());
    assert!(archive.mistakes(|_| Some(Ok(hash(b"")))).join("").contains(&format!("samples/{sample}")));
}

/// An archive with an entry that none has.
fn forged(name: &str, kind: tar::EntryType, contents: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    tar.append(&header, contents).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn what_is_no_archive_is_refused() {
    let named = format!("files/{}", hash(b"x"));
    for (tar, why) in [
        (vec![], "it has no manifest"),
        (vec![0; 1024], "it has no manifest"),
        (forged("../../etc/passwd", tar::EntryType::Regular, b"x"), "an entry of another name"),
        (forged(&named, tar::EntryType::Symlink, b""), "no regular file"),
        (forged(&named, tar::EntryType::XHeader, b"x"), "no regular file"),
        (forged(&named, tar::EntryType::GNULongName, b"x"), "no regular file"),
        (forged(&named, tar::EntryType::GNUSparse, b"x"), "no regular file"),
        (forged("manifest.json", tar::EntryType::Regular, b"{}"), "cannot be read"),
        (forged("manifest.json", tar::EntryType::Regular, br#"{"version": 9}"#), "of version 9"),
        (forged("manifest.json", tar::EntryType::Regular, &b"[".repeat(100_000)), "cannot be read"),
        (forged(&named, tar::EntryType::Regular, b"x")[..512].to_vec(), ""),
    ] {
        let error = read::read(&tar[..]).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let bench = Bench::new();
    let packed = zstd::encode_all(&[0; 1024][..], 1).unwrap();
    let error = |octets: &[u8]| {
        bench.file("evidence/none", octets);
        read::open(&bench.path("evidence/none")).unwrap_err().to_string()
    };
    assert!(error(b"").ends_with("it is empty") && error(b"no zstd").ends_with("not compressed by zstd"));
    assert!([2, packed.len() - 1].iter().all(|len| error(&packed[..*len]) == "it is cut off"));
}

#[test]
fn the_oldest_evidence_goes_first() {
    let mut bench = Bench::new();
    bench.file("upper/payload", b"#!/bin/sh\necho one of them\n");
    let first = bench.take();
    let size = first.octets;
    let sample = fs::metadata(bench.path(format!("evidence/samples/{}.zst", hash(b"#!/bin/sh\necho one of them\n"))));
    let sample = sample.unwrap().len();
    // Another file of somebody's is none of ours, and an unfinished one has its time.
    bench.file("evidence/notes.txt", &[0; 100_000]);
    bench.file("evidence/.tmp-fresh", b"");
    bench.file("evidence/.tmp-stale", b"");
    let day = |days: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_769_904_000 + days * 86_400);
    let set = |name: &str, days: u64| {
        File::options()
            .write(true)
            .open(bench.path(format!("evidence/{name}")))
            .unwrap()
            .set_modified(day(days))
            .unwrap();
    };
    set(".tmp-stale", 0);
    set(".tmp-fresh", 2);
    let day_micros = 86_400_000_000;
    bench.limits.total = 2 * size + sample + 20;
    bench.now = Utc::from_micros(bench.now.micros() + day_micros);
    let second = bench.take();
    assert_eq!(second.removed, Vec::<String>::new());
    bench.now = Utc::from_micros(bench.now.micros() + day_micros);
    let third = bench.take();
    // The sample belongs to the new archives as well, so it stays.
    assert_eq!((third.removed, third.removed_samples), (vec![first.archive], 0));
    let names = bench.evidence();
    assert_eq!(names, [".tmp-fresh", &second.archive, &third.archive, "notes.txt", "samples"]);
    // Too old: all but the one just taken, and samples that it has none of.
    fs::remove_file(bench.path("upper/payload")).unwrap();
    bench.now = Utc::from_micros(bench.now.micros() + 91 * day_micros);
    let last = bench.take();
    assert_eq!((last.removed_archives, last.removed_samples), (2, 1));
    assert_eq!(bench.evidence(), [&*last.archive, "notes.txt", "samples"]);
    // Nobody adds any more, and yet it goes.
    let now = Utc::from_micros(bench.now.micros() + 91 * day_micros);
    assert_eq!(forget(&bench.path("evidence"), &bench.limits, now).unwrap().archives, [last.archive]);
    assert_eq!(bench.evidence(), ["notes.txt", "samples"]);
    assert_eq!(forget(&bench.path("nowhere"), &bench.limits, now).unwrap(), Pruned::default());
}

#[test]
fn a_failure_leaves_no_unfinished_archive() {
    let bench = Bench::new();
    bench.file("upper/one", b"contents");
    let open = ["upper", "lower", "evidence/samples", "evidence"].map(|path| bench.open(path));
    let writer = archive::Writer::new(
        open[3].as_fd(),
        open[2].as_fd(),
        archive::stem(bench.now, "fd00::5".parse().unwrap(), 3),
        bench.now,
        Contents::All,
        100,
    );
    assert_eq!(bench.evidence(), [".tmp-20260131T235959Z-fd00__5-3", "samples"]);
    drop(writer);
    assert_eq!(bench.evidence(), ["samples"]);
    assert!(archive::is_archive("20260131T235959Z-fd00__5-3.tar.zst"));
    for name in ["notes.tar.zst", "20260131T235959Z-\n.tar.zst", "20260131.tar.zst", "20260131T235959Z-10.1.0.10-7.tar"]
    {
        assert!(!archive::is_archive(name), "{name}");
    }
    let mut request = bench.job();
    request.leased.why = Some("x".repeat(100_000));
    let error = Inspector::start("/nonexistent/program".as_ref(), &request, 0).unwrap_err();
    assert!(error.to_string().contains("told too long"), "{error}");
    request.leased.why = None;
    request.directories.evidence = bench.path("evidence");
    let error = Inspector::start("/nonexistent/program".as_ref(), &request, 0).unwrap_err();
    assert!(error.to_string().contains("cannot open the directory"), "{error}");
    // Nobody who has the directory of evidence gets another one by it.
    (request.directories.upper, request.directories.lower) = (bench.path("upper"), bench.path("lower"));
    fs::remove_dir(bench.path("evidence/samples")).unwrap();
    symlink(bench.path("lower"), bench.path("evidence/samples")).unwrap();
    let error = Inspector::start("/nonexistent/program".as_ref(), &request, 0).unwrap_err();
    assert!(error.to_string().contains("cannot make the directory of evidence"), "{error}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(bench.path("lower")).unwrap()), 0);
}
