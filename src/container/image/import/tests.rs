use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::compression::Compression;
use super::unpack::{Tally, Unpacker};
use super::worker::{Answer, Kind, Request, serve};
use super::*;
use crate::container::ID_BASE;
use crate::container::image::root::Root;
use crate::wire::hex;

const LIMITS: Limits = Limits { octets: 1 << 20, members: 1000 };

/// A tar archive: name, type, link or content.
fn archive(members: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, text) in members {
        let mut header = Header::new_gnu();
        // Not by the crate's own way, which refuses what we want to try.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if name.contains("bin/") { 0o4755 } else { 0o644 });
        header.set_uid(33);
        header.set_gid(70_000);
        header.set_mtime(1_600_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

use EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};

/// Unpacks `bytes`, a tar archive, into a folder of its own.
fn unpack(bytes: &[u8]) -> (TempDir, Result<Tally, ReadError>) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut unpacker = Unpacker { root: &root, id_base: ID_BASE, left: LIMITS, tally: Tally::default() };
    let mut left = LIMITS;
    let result = members(bytes, &mut left, &mut |member, content| unpacker.put(member, content));
    let tally = unpacker.tally;
    (dir, result.map(|()| tally))
}

#[test]
fn a_system_is_unpacked_with_modes_and_owners() {
    let (dir, tally) = unpack(&archive(&[
        ("./", Directory, ""),
        ("./etc/", Directory, ""),
        ("./etc/passwd", Regular, "root"),
        ("./usr/bin/su", Regular, "program"),
        ("bin", Symlink, "usr/bin"),
        ("bin/sh", Regular, "shell"),
        ("usr/bin/ash", Link, "/usr/bin/sh"),
        ("dev/sda", Char, ""),
        ("run/pipe", Fifo, ""),
    ]));
    assert_eq!(tally.unwrap(), Tally { made: 7, octets: 16, devices: 1, others: 1 });
    let meta = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap();
    let su = meta("usr/bin/su");
    // Whoever the archive says that does not exist inside is nobody.
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o4755, ID_BASE + 33, ID_BASE + 65_534));
    assert_eq!(su.mtime(), 1_600_000_000);
    assert_eq!((meta("usr").uid(), meta("etc").uid()), (ID_BASE, ID_BASE + 33));
    assert_eq!(meta("usr/bin/sh").ino(), meta("usr/bin/ash").ino());
    assert!(!dir.path().join("dev/sda").exists() && !dir.path().join("run/pipe").exists());
}

#[test]
fn names_that_lead_out_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let there = outside.path().to_str().unwrap();
    for (members, told) in [
        (vec![("../victim", Regular, "x")], Some("leads out")),
        (vec![("a/../../victim", Regular, "x")], Some("leads out")),
        (vec![("etc/x", Regular, "x"), ("y", Link, "../../../../../etc/shadow")], Some("leads out")),
        (vec![("y", Link, "/etc/shadow")], Some("cannot make `y`")),
        (vec![("link", Symlink, there), ("link/victim", Regular, "x")], None),
        (vec![("link", Symlink, there), ("name", Link, "link/victim")], None),
        (vec![("link", Symlink, "../../../../../../../.."), ("link/new", Regular, "x")], None),
        (vec![("a", Symlink, "a"), ("a/b", Regular, "x")], None),
        (vec![("", Regular, "x")], None),
    ] {
        let (dir, result) = unpack(&archive(&members));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{members:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{members:?}");
        assert!(!Path::new("/new").exists());
        if let Some(told) = told {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(told), "{members:?}: {error}");
        }
        // What stands there is only what was put there.
        for entry in fs::read_dir(dir.path()).unwrap().flatten() {
            assert_ne!(entry.metadata().unwrap().ino(), fs::metadata("/etc/passwd").unwrap().ino());
        }
    }
}

#[test]
fn what_an_archive_asks_for_is_bounded() {
    let large = "x".repeat(2 << 20);
    let error = unpack(&archive(&[("a", Regular, &large)])).1.unwrap_err().to_string();
    assert!(error.contains("more than is allowed"), "{error}");
    let many: Vec<_> = (0..1001).map(|_| ("a", Directory, "")).collect();
    assert!(unpack(&archive(&many)).1.unwrap_err().to_string().contains("too many members"));
    // A header that claims more than there is, and names without an end.
    let mut lying = archive(&[("a", Regular, "x")]);
    lying[124..136].copy_from_slice(b"77777777777\0");
    assert!(unpack(&lying).1.is_err());
    let name = "y".repeat(700_000);
    let error = unpack(&archive(&[("n", EntryType::GNULongName, &name), ("a", Regular, "x")])).1.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    let deep = "d/".repeat(300);
    let error = unpack(&archive(&[("n", EntryType::GNULongName, &deep), ("a", Directory, "")])).1.unwrap_err();
    assert!(error.to_string().contains("too deep"), "{error}");
}

#[test]
fn extended_headers_count() {
    let pax = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let len = rest.len() + if rest.len() + 2 < 100 { 2 } else { 3 };
        format!("{len}{rest}")
    };
    let long = format!("usr/{}/x", "n".repeat(150));
    let header = pax("path", &long) + &pax("uid", "1000") + &pax("mtime", "1500000000.25");
    let (dir, result) =
        unpack(&archive(&[("h", EntryType::XHeader, &header), ("short", Regular, "1"), ("b", Regular, "2")]));
    assert_eq!(result.unwrap().made, 2);
    let meta = fs::metadata(dir.path().join(&long)).unwrap();
    assert_eq!((meta.uid(), meta.mtime()), (ID_BASE + 1000, 1_500_000_000));
    // It holds for the one behind it only.
    assert_eq!(fs::metadata(dir.path().join("b")).unwrap().uid(), ID_BASE + 33);
    let lying = pax("size", "5");
    assert!(unpack(&archive(&[("h", EntryType::XHeader, &lying), ("a", Regular, "1")])).1.is_err());
    let sparse = pax("GNU.sparse.major", "1");
    let error = unpack(&archive(&[("h", EntryType::XHeader, &sparse), ("a", Regular, "1")])).1.unwrap_err();
    assert!(error.to_string().contains("sparse"), "{error}");
}

#[test]
fn compressions_are_told_and_read() {
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x1c, 0x00,
        0x00, 0x00, 0x10, 0xcf, 0x58, 0xcc, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00, 0x00, 0x00,
        0xa5, 0x60, 0x97, 0xf1, 0x94, 0xf6, 0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06, 0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6,
        0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];
    let text = b"hello\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    let zstd = || ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
    // Two frames with one between them that says nothing.
    let frames = [zstd(), vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], zstd()].concat();
    for (bytes, kind, times) in [
        (text.to_vec(), Compression::None, 1),
        (gzip.finish().unwrap(), Compression::Gzip, 1),
        (zstd(), Compression::Zstd, 1),
        (frames, Compression::Zstd, 2),
        (XZ.to_vec(), Compression::Xz, 1),
    ] {
        assert_eq!(Compression::of(&bytes), kind);
        let mut out = Vec::new();
        kind.reader(&bytes[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, text.repeat(times), "{kind:?}");
        if kind != Compression::None {
            let cut = kind.reader(&bytes[..bytes.len() - 3]).read_to_end(&mut Vec::new());
            assert!(cut.is_err(), "{kind:?}");
        }
    }
}

/// An OCI layout in a folder.
struct Oci {
    dir: TempDir,
}

impl Oci {
    fn new(layers: &[Vec<u8>], config: serde_json::Value) -> Oci {
        let oci = Oci { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(oci.dir.path().join("blobs/sha256")).unwrap();
        fs::write(oci.dir.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        let layers: Vec<_> = layers.iter().map(|layer| oci.put(layer)).collect();
        let config = oci.put(serde_json::json!({"architecture": "amd64", "config": config}).to_string().as_bytes());
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut manifest = oci.put(manifest.to_string().as_bytes());
        manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        manifest["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
        let mut other = oci.put(b"{}");
        other["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
        // The index of an index, as tools write it for several processors.
        let mut inner = oci.put(serde_json::json!({"manifests": [other, manifest]}).to_string().as_bytes());
        inner["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
        fs::write(oci.path().join("index.json"), serde_json::json!({"manifests": [inner]}).to_string()).unwrap();
        oci
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn put(&self, content: &[u8]) -> serde_json::Value {
        let digest = hex(Sha256::digest(content).as_slice());
        fs::write(self.path().join("blobs/sha256").join(&digest), content).unwrap();
        serde_json::json!({"digest": format!("sha256:{digest}"), "size": content.len(), "mediaType": "x"})
    }

    fn blob(&self, wanted: &[u8]) -> PathBuf {
        self.path().join("blobs/sha256").join(hex(Sha256::digest(wanted).as_slice()))
    }
}

/// Reads what is at `path` as the process does, without giving up rights.
fn read(path: &Path, init: &[&str]) -> (TempDir, Result<Answer, String>) {
    let dir = tempfile::tempdir().unwrap();
    let request = Request {
        kind: Kind::Brought,
        path: path.to_owned(),
        rootfs: dir.path().to_owned(),
        init: init.iter().map(|&word| word.into()).collect(),
        limits: LIMITS,
    };
    let answer = serve(&request, false).map_err(|error| error.to_string());
    (dir, answer)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn two_layers() -> [Vec<u8>; 2] {
    let lower = archive(&[
        ("usr/bin/app", Regular, "old"),
        ("etc/kept", Regular, "1"),
        ("etc/gone", Regular, "1"),
        ("var/cache/a", Regular, "1"),
        ("var/cache/b/c", Regular, "1"),
        ("opt/tool/x", Regular, "1"),
    ]);
    let upper = archive(&[
        ("etc/.wh.gone", Regular, ""),
        ("var/cache/new", Regular, "2"),
        // Behind what the same layer brings, which it does not hide.
        ("var/cache/.wh..wh..opq", Regular, ""),
        ("usr/bin/app", Regular, "new"),
        ("opt/.wh.tool", Regular, ""),
        ("opt/tool", Regular, "a file now"),
        ("../.wh.etc", Directory, ""),
    ]);
    // The last member is for another test; the layer ends with the content of the one before, as umoci's do.
    let end = upper.len() - 1024 - 512 - (512 - "a file now".len());
    [lower, gzip(&upper[..end])]
}

#[test]
fn layers_lie_upon_each_other() {
    let config = serde_json::json!({"Entrypoint": ["app"], "Cmd": ["-f"], "Env": ["PATH=/usr/bin", "A=1"],
        "WorkingDir": "/srv", "User": "www-data"});
    let oci = Oci::new(&two_layers(), config);
    let packed = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(fs::File::create(packed.path().join("layout.tar")).unwrap());
    builder.append_dir_all(".", oci.path()).unwrap();
    builder.finish().unwrap();
    for path in [oci.path().to_owned(), packed.path().join("layout.tar")] {
        let (dir, answer) = read(&path, &[]);
        let answer = answer.unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(text("usr/bin/app").as_deref(), Some("new"));
        assert_eq!((text("etc/kept").is_some(), text("etc/gone").is_some()), (true, false));
        assert_eq!((text("var/cache/new").as_deref(), text("var/cache/a")), (Some("2"), None));
        assert!(!dir.path().join("var/cache/b").exists());
        assert_eq!(text("opt/tool").as_deref(), Some("a file now"));
        assert!(!dir.path().join("etc/.wh.gone").exists());
        assert_eq!(answer.init, ["/usr/bin/app", "-f"]);
        assert_eq!(answer.environment, ["PATH=/usr/bin", "A=1"]);
        assert_eq!((answer.workdir.as_deref(), answer.user.as_deref()), (Some("/srv"), Some("www-data")));
        assert!(dir.path().join("proc").is_dir());
    }
    assert_eq!(read(oci.path(), &["/usr/bin/app", "-x"]).1.unwrap().init, ["/usr/bin/app", "-x"]);
    assert!(read(oci.path(), &["/usr/bin/other"]).1.unwrap_err().contains("--init"));
}

#[test]
fn a_layout_that_was_altered_is_refused() {
    let [lower, upper] = two_layers();
    let oci = || Oci::new(&[lower.clone(), upper.clone()], serde_json::json!({"Cmd": ["/usr/bin/app"]}));
    let altered = oci();
    let mut bytes = lower.clone();
    bytes[600] ^= 1;
    fs::write(altered.blob(&lower), bytes).unwrap();
    let (dir, answer) = read(altered.path(), &[]);
    assert!(answer.unwrap_err().contains("was altered"));
    // Nothing of a layer that was altered is written.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let shorter = oci();
    fs::write(shorter.blob(&upper), &upper[..100]).unwrap();
    assert!(read(shorter.path(), &[]).1.unwrap_err().contains("octets and not"));
    let missing = oci();
    fs::remove_file(missing.blob(&upper)).unwrap();
    assert!(read(missing.path(), &[]).1.unwrap_err().contains("cannot open"));
    let linked = oci();
    fs::remove_file(linked.blob(&upper)).unwrap();
    symlink("/etc/shadow", linked.blob(&upper)).unwrap();
    assert!(read(linked.path(), &[]).1.unwrap_err().contains("cannot open"));
    for (index, why) in [
        (r#"{"manifests": [{"digest": "sha256:../../../../etc/shadow", "size": 1}]}"#, "no SHA-256 digest"),
        (r#"{"manifests": []}"#, "no image for Linux"),
        ("{", "broken"),
    ] {
        let broken = oci();
        fs::write(broken.path().join("index.json"), index).unwrap();
        let error = read(broken.path(), &[]).1.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn an_archive_of_a_system_is_read_whatever_compressed_it() {
    let dir = tempfile::tempdir().unwrap();
    let system = archive(&[("lib/init", Regular, "init"), ("etc/sshd", Regular, "sshd")]);
    let path = dir.path().join("rootfs");
    for bytes in [system.clone(), gzip(&system)] {
        fs::write(&path, &bytes).unwrap();
        let error = read(&path, &[]).1.unwrap_err();
        assert!(error.contains("`/sbin/init`, is not there"), "{error}");
    }
    let system = archive(&[("bin/init", Regular, "init"), ("sbin", Symlink, "/bin")]);
    fs::write(&path, gzip(&system)).unwrap();
    let answer = read(&path, &[]).1.unwrap();
    assert_eq!(
        (answer.init, answer.digest),
        (vec!["/sbin/init".to_owned()], hex(Sha256::digest(gzip(&system)).as_slice()))
    );
    for (bytes, why) in [(&b"no archive at all, but text"[..], "cannot be read"), (b"", "empty")] {
        fs::write(&path, bytes).unwrap();
        let error = read(&path, &[]).1.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn an_overlay_is_laid_over_what_is_below() {
    let (upper, below, outside) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["etc/kept", "etc/gone", "var/lib/a", "opt/tool/x"] {
        let path = below.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "below").unwrap();
    }
    let up = |name: &str| upper.path().join(name);
    for dir in ["etc", "var/lib", "opt", "home/u"] {
        fs::create_dir_all(up(dir)).unwrap();
    }
    fs::write(up("etc/new"), "upper").unwrap();
    fs::hard_link(up("etc/new"), up("etc/again")).unwrap();
    symlink(outside.path(), up("opt/tool")).unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, up("etc/gone"), whiteout, 0o600.into(), 0).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, up("home/u/pipe"), pipe, 0o600.into(), 0).unwrap();
    assert!(fs::symlink_metadata(up("home/u/pipe")).unwrap().file_type().is_fifo());
    rustix::fs::setxattr(up("var/lib"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    std::os::unix::fs::chown(up("etc/new"), Some(ID_BASE + 7), Some(ID_BASE)).unwrap();
    let root = Root::open(below.path()).unwrap();
    let fd = |path: &Path| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    };
    let mut left = LIMITS;
    let tally = overlay::lay(fd(upper.path()), &root, &mut left).unwrap();
    assert_eq!((tally.octets, tally.others), (5, 1));
    let text = |name: &str| fs::read_to_string(below.path().join(name)).ok();
    assert_eq!((text("etc/kept").as_deref(), text("etc/gone"), text("var/lib/a")), (Some("below"), None, None));
    assert_eq!(text("etc/again").as_deref(), Some("upper"));
    assert_eq!(fs::metadata(below.path().join("etc/new")).unwrap().uid(), ID_BASE + 7);
    assert_eq!(fs::read_link(below.path().join("opt/tool")).unwrap(), outside.path());
    let mut none = Limits { octets: 4, members: 100 };
    assert!(overlay::lay(fd(upper.path()), &root, &mut none).is_err());
}
