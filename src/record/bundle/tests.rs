use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use proptest::prelude::*;

use super::manifest::{MANIFEST, SIGNATURE, is_path};
use super::*;
use crate::event::{SessionId, Utc};
use crate::record::{CaptureLimits, CaptureSet, CaptureSource, Direction, EventLog, LogLimits, Record, SESSIONS};

const ID: SessionId = SessionId(0xabc);
const ARCHIVE: &str = "20260131T235959Z-10.0.0.1-7.tar.zst";

/// The directory of a honeynet with a session.
fn honeynet() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let mut log = EventLog::open(&place("events"), LogLimits::default(), Utc::EPOCH).unwrap();
    let ends = r#""src":{"ip":"192.0.2.9","port":4000},"dst":{"ip":"10.0.0.1","port":22},"proto":"tcp""#;
    for (second, rest) in [
        (20, format!(r#""event":"tcp.open",{ends}"#)),
        (21, format!(r#""event":"tcp.close",{ends},"bytes_in":5,"bytes_out":7"#)),
        (22, r#""event":"evidence.taken","archive":"20260131T235959Z-10.0.0.1-7.tar.zst""#.to_owned()),
        (23, r#""event":"evidence.taken","archive":"20260131T235959Z-10.0.0.1-8.tar.zst""#.to_owned()),
        (24, r#""event":"evidence.taken","archive":"../../../etc/shadow""#.to_owned()),
        (25, r#""event":"session.end""#.to_owned()),
    ] {
        let time = Utc::from_micros(second * 1_000_000);
        let text = format!(r#"{{"v":1,"seq":0,"time":"{time}","session":"{ID}",{rest}}}"#);
        log.push(&mut serde_json::from_str::<Record>(&text).unwrap());
    }
    log.flush(Utc::EPOCH);
    let mut captures = CaptureSet::open(&place("captures"), CaptureLimits::default()).unwrap();
    let source = CaptureSource { series: "wan".into(), interface: "eth1".into(), about: "uplink wan".into() };
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 9, 10, 0, 0, 1]);
    for number in 0..100 {
        captures.frame(&source, 20_000_000_000 + number, Direction::In, 34, &frame);
    }
    captures.close_all();
    let files = place(&format!("{SESSIONS}/{ID}"));
    fs::write(files.join("ssh-1-0001.cast"), "{\"version\":2,\"width\":80,\"height\":24}\n").unwrap();
    fs::write(files.join("upload.bin"), vec![7; 100_000]).unwrap();
    fs::write(files.join("new\nline"), "x").unwrap();
    fs::write(place("evidence").join(ARCHIVE), "an archive").unwrap();
    place(KEY);
    Key::open_or_make(dir.path()).unwrap();
    dir
}

fn made(dir: &Path) -> (Vec<u8>, Manifest) {
    let key = Key::open(dir).unwrap();
    let now = Utc::from_micros(1_000_000_000);
    export(&Job { dir, honeynet: "office", session: ID, key: &key, scratch: dir, now }, || Ok(Vec::new())).unwrap()
}

fn public(dir: &Path) -> PublicKey {
    Key::open(dir).unwrap().public()
}

fn told(packed: &[u8], key: &PublicKey) -> String {
    match verify(packed, key) {
        Ok(verified) if verified.is_good() => "good".into(),
        Ok(verified) => format!("{:?} {}", verified.signature, verified.mistakes.join("; ")),
        Err(error) => error.to_string(),
    }
}

/// What a bundle holds.
fn unpack(packed: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut octets = Vec::new();
        entry.read_to_end(&mut octets).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), octets)
    });
    entries.collect()
}

fn pack(members: &[(String, Vec<u8>)], kind: tar::EntryType) -> Vec<u8> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (path, octets) in members {
        let mut header = tar::Header::new_ustar();
        // Names that the crate would refuse.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(octets.len() as u64);
        header.set_mode(0o4777);
        header.set_entry_type(kind);
        header.set_cksum();
        tar.append(&header, &octets[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_bundle_holds_everything_and_is_proven() {
    let dir = honeynet();
    let (packed, manifest) = made(dir.path());
    let members = unpack(&packed);
    let paths: Vec<&str> = members.iter().map(|(path, _)| path.as_str()).collect();
    let archive = format!("evidence/{ARCHIVE}");
    let all = ["events.ndjson", "captures/wan.pcapng", "transcripts/ssh-1-0001.cast", "files/upload.bin", &archive];
    assert_eq!(paths, [&all[..], &[MANIFEST, SIGNATURE]].concat());
    assert_eq!(manifest.members.iter().map(|member| member.path.as_str()).collect::<Vec<_>>(), all);
    assert_eq!(members[0].1.iter().filter(|octet| **octet == b'\n').count(), 6);
    assert_eq!((manifest.frames.frames, manifest.frames.interfaces), (100, 1));
    assert_eq!(manifest.about["attacker"], "192.0.2.9");
    assert_eq!(manifest.left_out.len(), 3, "{:?}", manifest.left_out);
    for (member, (_, octets)) in manifest.members.iter().zip(&members) {
        assert_eq!((member.octets, &member.sha256), (octets.len() as u64, &sha256(octets)));
    }
    let verified = verify(&packed[..], &public(dir.path())).unwrap();
    assert_eq!(
        (verified.signature.clone(), verified.is_good(), &verified.manifest),
        (Signature::Good, true, &manifest)
    );
    // The scratch files are gone.
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    let key = Key::open(dir.path()).unwrap();
    let job =
        Job { dir: dir.path(), honeynet: "x", session: SessionId(1), key: &key, scratch: dir.path(), now: Utc::EPOCH };
    assert!(matches!(export(&job, || Ok(Vec::new())), Err(ExportError::Unknown(SessionId(1)))));
}

/// A disk that is full after so many octets.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(octets.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn why_nothing_is_written_is_told() {
    let dir = honeynet();
    // More than waits for the compressor, and does not compress.
    let noise: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8 ^ (n >> 7) as u8).collect();
    fs::write(dir.path().join(format!("{SESSIONS}/{ID}/noise")), noise).unwrap();
    let key = Key::open(dir.path()).unwrap();
    let job = Job { dir: dir.path(), honeynet: "x", session: ID, key: &key, scratch: dir.path(), now: Utc::EPOCH };
    for room in [0, 1000, 100_000] {
        let error = export(&job, || Ok(Full(room))).map(drop).unwrap_err();
        assert!(
            matches!(&error, ExportError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
            "{error}"
        );
    }
    let error = export(&job, || std::io::Result::<Vec<u8>>::Err(std::io::ErrorKind::PermissionDenied.into()));
    assert!(
        matches!(&error, Err(ExportError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied)
    );
}

fn sha256(octets: &[u8]) -> String {
    crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref())
}

#[test]
fn whatever_is_changed_is_told() {
    let dir = honeynet();
    let key = public(dir.path());
    let (packed, _) = made(dir.path());
    let whole = unpack(&packed);
    let regular = tar::EntryType::Regular;
    let told_of = |members: &[(String, Vec<u8>)]| told(&pack(members, regular), &key);
    assert_eq!(told_of(&whole), "good");

    let mut changed = whole.clone();
    changed[3].1[50_000] ^= 1;
    assert!(told_of(&changed).starts_with("Good files/upload.bin was changed: its SHA-256 is "));
    let mut shorter = whole.clone();
    shorter[0].1.pop();
    let told_shorter = told_of(&shorter);
    assert!(told_shorter.contains("events.ndjson has ") && told_shorter.contains(" in the manifest"), "{told_shorter}");
    let mut missing = whole.clone();
    missing.remove(4);
    assert_eq!(told_of(&missing), format!("Good evidence/{ARCHIVE} is missing"));
    let mut more = whole.clone();
    more.insert(0, ("files/more".into(), b"x".to_vec()));
    assert_eq!(told_of(&more), "Good files/more is not in the manifest");
    // Who changes the manifest, too, has no signature for that.
    let mut forged = whole.clone();
    forged[5].1 = String::from_utf8(forged[5].1.clone()).unwrap().replace("office", "factory").into_bytes();
    assert_eq!(told_of(&forged), "Bad ");
    assert_eq!(told_of(&whole[..6]), "Missing ");
    let other = honeynet();
    let theirs = public(other.path());
    assert_eq!(told(&packed, &theirs), format!("OtherKey(\"{}\") ", key.fingerprint()));

    let twice = [&whole[..1], &whole].concat();
    assert_eq!(told_of(&twice), "it is no bundle of a session: it has events.ndjson twice");
    assert_eq!(told_of(&whole[..5]), "it is no bundle of a session: it has no manifest");
    let mut after = whole.clone();
    after.push(("files/later".into(), vec![]));
    assert_eq!(told_of(&after), "it is no bundle of a session: files/later follows its signature");
    let mut between = whole.clone();
    between.swap(4, 5);
    assert_eq!(told_of(&between), format!("it is no bundle of a session: evidence/{ARCHIVE} follows its manifest"));
    for path in [
        "../x",
        "/etc/passwd",
        "files/../x",
        "files/a/b",
        "files/",
        "a\u{1b}[2Jb",
        "files/.x",
        "other",
        "files\\x",
        "manifest.json/x",
    ] {
        let told = told_of(&[(path.into(), vec![])]);
        assert!(told.contains("it has a member called `") && !told.contains('\u{1b}'), "{told}");
    }
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Directory,
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
        tar::EntryType::Char,
    ] {
        let told = told(&pack(&whole[2..3], kind), &key);
        assert_eq!(told, "it is no bundle of a session: its transcripts/ssh-1-0001.cast is no regular file");
    }
    let text = |text: &str| told_of(&[(MANIFEST.into(), text.as_bytes().to_vec())]);
    assert!(text("{").contains("its manifest cannot be read"));
    assert!(
        text(r#"{"kind":"honeyweave session","version":2}"#)
            .contains("of version 2, and this honeyweave reads version 1")
    );
    assert!(text(r#"{"kind":"a joke","version":1}"#).contains("that of something else"));
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    let dir = honeynet();
    let key = public(dir.path());
    let (packed, _) = made(dir.path());
    let mut said = std::collections::BTreeSet::new();
    for len in 0..packed.len() {
        let told = told(&packed[..len], &key);
        assert_ne!(told, "good", "{len} of {}", packed.len());
        said.insert(told);
    }
    assert!(said.iter().any(|told| told.starts_with("it is cut off: it ends within")), "{said:?}");
    assert_eq!(told(b"", &key), "it is empty");
    assert!(told(&packed[..3], &key).starts_with("it is cut off"), "{}", told(&packed[..3], &key));
    for other in [&b"\x1f\x8b\x08 gzip"[..], b"PK\x03\x04", b"x", b"{\"event\":\"tcp.open\"}\n"] {
        assert!(told(other, &key).starts_with("it is no bundle of a session: it is neither"), "{}", told(other, &key));
    }
    let appended = [&packed[..], &zstd::encode_all(&b"more"[..], 1).unwrap()].concat();
    assert!(told(&appended, &key).contains("something follows its end"), "{}", told(&appended, &key));
    let garbage = [&packed[..], b"garbage"].concat();
    assert_ne!(told(&garbage, &key), "good");
    for at in (0..packed.len()).step_by(packed.len() / 50) {
        let mut flipped = packed.clone();
        flipped[at] ^= 0x55;
        assert_ne!(told(&flipped, &key), "good", "{at}");
    }
}

#[test]
fn bombs_are_refused() {
    let dir = honeynet();
    let key = public(dir.path());
    // One that says that it is larger than anything.
    let mut header = tar::Header::new_ustar();
    header.set_path("captures/wan.pcapng").unwrap();
    header.set_size(UNPACKED + 1);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let packed = zstd::encode_all(&header.as_bytes()[..], 1).unwrap();
    assert!(told(&packed, &key).contains("and none has more than"), "{}", told(&packed, &key));
    header.set_path(MANIFEST).unwrap();
    header.set_size(MANIFEST_OCTETS + 1);
    header.set_cksum();
    let packed = zstd::encode_all(&header.as_bytes()[..], 1).unwrap();
    assert!(told(&packed, &key).contains("its manifest.json has"), "{}", told(&packed, &key));
    let many: Vec<(String, Vec<u8>)> = (0..=MEMBERS).map(|number| (format!("files/{number}"), vec![])).collect();
    assert_eq!(
        told(&pack(&many, tar::EntryType::Regular), &key),
        format!("it is no bundle of a session: it has more than {MEMBERS} members")
    );
    // A window of 2 GiB: magic number, no checksum, window descriptor.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(
        told(&window, &key).starts_with("it is damaged") || told(&window, &key).starts_with("it is cut off"),
        "{}",
        told(&window, &key)
    );
}

#[test]
fn a_key_is_made_once_and_others_read_it() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Key::open(dir.path()), Err(KeyError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound));
    assert!(Key::open_or_make(dir.path()).is_err());
    fs::create_dir(dir.path().join(KEY)).unwrap();
    let first = Key::open_or_make(dir.path()).unwrap().public();
    assert_eq!(Key::open_or_make(dir.path()).unwrap().public(), first);
    let file = dir.path().join("key/signing.pk8");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path().join(KEY)).unwrap().count(), 1);
    assert_eq!(PublicKey::from_pem(&first.pem()).unwrap(), first);
    for text in
        ["", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", &first.pem().replace("MCow", "MCox"), "\u{1b}"]
    {
        assert!(PublicKey::from_pem(text).is_err(), "{text}");
    }
    // A damaged one is not replaced, and a link not followed.
    fs::write(&file, "x").unwrap();
    assert!(matches!(Key::open_or_make(dir.path()), Err(KeyError::NoKey)));
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    assert!(Key::open_or_make(dir.path()).is_err());
}

#[test]
fn a_sealed_bundle_opens_with_its_password_only() {
    let dir = honeynet();
    let (packed, _) = made(dir.path());
    let mut sealed = seal(Vec::new(), "correct horse", 4).unwrap();
    sealed.write_all(&packed).unwrap();
    let file = sealed.finish().unwrap();
    let look = |file: Vec<u8>| match Sealed::look(Cursor::new(file)).unwrap() {
        Sealed::Yes(sealed) => sealed,
        Sealed::No(_) => panic!("it is encrypted"),
    };
    assert_eq!(told_sealed(unseal(look(file.clone()), "correct horse"), dir.path()), "good");
    assert_eq!(unseal(look(file.clone()), "another").map(drop).unwrap_err(), "the password is another");
    assert!(matches!(Sealed::look(&packed[..]).unwrap(), Sealed::No(_)));
    assert!(matches!(Sealed::look(&b""[..]).unwrap(), Sealed::No(_)));
    for len in [30, 100, file.len() / 2, file.len() - 1] {
        let cut = file[..len].to_vec();
        let told = match Sealed::look(Cursor::new(cut)) {
            Ok(Sealed::Yes(sealed)) => told_sealed(unseal(sealed, "correct horse"), dir.path()),
            _ => "refused".into(),
        };
        assert_ne!(told, "good", "{len}");
    }
    let begun = Sealed::look(&file[..30]).map(drop).unwrap_err();
    assert!(begun.to_string().starts_with("it is cut off"), "{begun}");
    let endless = [b"age-encryption.org/v1\n-> scrypt ".to_vec(), vec![b'a'; 1 << 20]].concat();
    assert!(Sealed::look(Cursor::new(endless)).is_err());
    let costly = String::from_utf8_lossy(&file[..80]).replace(" 4\n", " 30\n");
    let costly = [costly.as_bytes(), &file[80..]].concat();
    let told = unseal(look(costly), "correct horse").map(drop).unwrap_err();
    assert!(told.contains("memory") || told.contains("damaged"), "{told}");
}

fn told_sealed(opened: Result<impl Read, String>, dir: &Path) -> String {
    match opened {
        Ok(reader) => match verify(reader, &public(dir)) {
            Ok(verified) if verified.is_good() => "good".into(),
            Ok(_) => "not good".into(),
            Err(error) => error.to_string(),
        },
        Err(why) => why,
    }
}

proptest! {
    #[test]
    fn paths_lead_into_the_bundle(path in "[./a-z\\\\~]{0,12}") {
        if is_path(&path) {
            prop_assert!(!path.contains("..") || !path.contains("/.."));
            prop_assert!(Path::new(&path).components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn any_file_is_refused(octets: Vec<u8>, packed: bool) {
        let key = PublicKey::from_pem(&Key::open(honeynet_once()).unwrap().public().pem()).unwrap();
        let file = if packed { zstd::encode_all(&octets[..], 1).unwrap() } else { octets };
        prop_assert!(verify(&file[..], &key).is_err());
    }
}

#[test]
fn what_was_not_recorded_is_left_out_and_said() {
    let dir = honeynet();
    // One connection has a tape with a hole, another has none.
    let tape = "{\"at\":0,\"begin\":{\"protocol\":\"ssh\",\"time\":\"1970-01-01T00:00:20.100000Z\",\
        \"attacker\":\"192.0.2.9:4000\",\"host\":\"10.0.0.1:22\"}}\n{\"at\":3,\"lost\":{\"lines\":7}}\n\
        {\"at\":4,\"total\":{\"lost\":6126}}\n";
    fs::write(dir.path().join(format!("{SESSIONS}/{ID}/19700101T000020Z-ssh-0000000000000001.ndjson")), tape).unwrap();
    let mut log = EventLog::open(&dir.path().join("events"), LogLimits::default(), Utc::EPOCH).unwrap();
    for port in [4000, 4001] {
        let text = format!(
            r#"{{"v":1,"seq":0,"time":"{}","session":"{ID}","event":"ssh.hello","src":{{"ip":"192.0.2.9","port":{port}}},
                "dst":{{"ip":"10.0.0.1","port":22}},"proto":"tcp"}}"#,
            Utc::from_micros(20_200_000)
        );
        log.push(&mut serde_json::from_str::<Record>(&text).unwrap());
    }
    log.flush(Utc::EPOCH);
    let (_, manifest) = made(dir.path());
    let said = |part: &str| manifest.left_out.iter().filter(|what| what.starts_with(part)).count();
    assert_eq!(said("7 lines of tapes and 6126 octets of connections"), 1, "{:?}", manifest.left_out);
    assert_eq!(said("1 connections that are not recorded"), 1, "{:?}", manifest.left_out);
}

fn honeynet_once() -> &'static Path {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    DIR.get_or_init(honeynet).path()
}
