//! What programs without a terminal read and say.

use super::*;

/// What no text is: all octets, over and over.
fn bot(count: u32) -> Vec<u8> {
    (0..count).map(|n| (n ^ (n >> 8)) as u8).collect()
}

fn sum(octets: &[u8]) -> String {
    crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref())
}

fn begin(lab: &mut Lab) {
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Exec { channel: 0, command: Text::command("cat >/tmp/bot") });
    let path = text("cat >/tmp/bot");
    lab.put(7, 2, Entry::FileBegin { channel: 0, file: 0, path, direction: Direction::Input });
}

/// As whoever is in the middle tells of it: as a file, and as octets of the channel.
fn read(lab: &mut Lab, content: &[u8], from: usize) {
    for (number, piece) in content.chunks(16 << 10).enumerate() {
        let (offset, piece) = ((from + (number << 14)) as u64, Bytes::copy_from_slice(piece));
        lab.put(7, 3, Entry::FilePiece { file: 0, offset, data: piece.clone() });
        lab.put(7, 3, Entry::Data { channel: 0, stream: Stream::Input, data: piece });
    }
}

fn end(lab: &mut Lab, content: &[u8]) {
    let (size, sha256) = (content.len() as u64, Some(sum(content)));
    lab.put(7, 4, Entry::FileEnd { file: 0, size, again: 0, sha256, kept: true });
    lab.put(7, 4, Entry::Closed { channel: 0 });
    lab.end(7, 5);
}

#[test]
fn what_a_command_reads_is_kept_as_it_is() {
    for redacts in [false, true] {
        let mut lab = Lab::with(TapeLimits::default(), redacts);
        let content = bot(100_000);
        begin(&mut lab);
        read(&mut lab, &content, 0);
        end(&mut lab, &content);
        let told = lab.told(EventId::SshFile).remove(0);
        assert_eq!((&told["path"], &told["direction"]), (&json!("cat >/tmp/bot"), &json!("input")), "{told}");
        assert_eq!(told["size"], 100_000);
        let name = format!("sha256-{}", sum(&content));
        if redacts {
            // Of a short password the digest is as good as itself.
            assert_eq!((told.get("sha256"), told.get("content")), (None, None), "{told}");
            assert_eq!(told["cut"], "redacted");
            assert!(!lab.files(SESSION).keys().any(|name| name.starts_with("sha256-")), "{:?}", lab.files(SESSION));
        } else {
            assert_eq!((&told["content"], told.get("cut")), (&json!(name), None), "{told}");
            assert!(fs::read(lab.file(&name)).unwrap() == content);
        }
        // The transcript is there besides, and nothing counts twice.
        assert!(lab.file(".cast").exists());
        let closed = lab.told(EventId::SshClose).remove(0);
        assert_eq!((&closed["input"], &closed["files"], closed.get("lost")), (&json!(100_000), &json!(1), None));
        let moved = connection(&lab.file(TAPE)).unwrap().files.remove(0);
        assert_eq!((moved.direction.as_str(), moved.size), ("input", 100_000));
        assert_eq!(moved.content, (!redacts).then_some(name));
    }
}

#[test]
fn what_it_says_is_kept_the_same_way() {
    for redacts in [false, true] {
        let mut lab = Lab::with(TapeLimits::default(), redacts);
        let content = bot(100_000);
        lab.begin(7, SESSION);
        lab.put(7, 1, opened(0));
        lab.put(7, 1, Entry::Exec { channel: 0, command: Text::command("cat /bin/ls") });
        let path = text("cat /bin/ls");
        lab.put(7, 2, Entry::FileBegin { channel: 0, file: 0, path, direction: Direction::Output });
        for (number, piece) in content.chunks(16 << 10).enumerate() {
            let (offset, piece) = ((number << 14) as u64, Bytes::copy_from_slice(piece));
            lab.put(7, 3, Entry::FilePiece { file: 0, offset, data: piece.clone() });
            lab.put(7, 3, Entry::Data { channel: 0, stream: Stream::Output, data: piece });
        }
        end(&mut lab, &content);
        let told = lab.told(EventId::SshFile).remove(0);
        let name = format!("sha256-{}", sum(&content));
        // Nobody has typed it: it is no password.
        assert_eq!((&told["direction"], &told["content"]), (&json!("output"), &json!(name)), "{told}");
        assert_eq!((&told["sha256"], told.get("cut")), (&json!(sum(&content)), None), "{told}");
        assert!(fs::read(lab.file(&name)).unwrap() == content);
        let closed = lab.told(EventId::SshClose).remove(0);
        assert_eq!((&closed["output"], &closed["files"], closed.get("lost")), (&json!(100_000), &json!(1), None));
        let moved = connection(&lab.file(TAPE)).unwrap().files.remove(0);
        assert_eq!((moved.direction.as_str(), moved.content), ("output", Some(name)));
    }
}

#[test]
fn it_goes_on_beyond_a_death_and_says_where_something_is_missing() {
    for (missing, redacts) in [(0, false), (7, false), (0, true)] {
        let mut lab = Lab::with(TapeLimits::default(), redacts);
        let content = bot(60_000);
        begin(&mut lab);
        read(&mut lab, &content[..30_000], 0);
        lab.tend();
        let mut lab = lab.die_and(TapeLimits::default(), redacts);
        read(&mut lab, &content[30_000 + missing..], 30_000 + missing);
        end(&mut lab, &content);
        let told = lab.told(EventId::SshFile).remove(0);
        let cut = if redacts { Some("redacted") } else { (missing > 0).then_some("interrupted") };
        assert_eq!(told.get("cut"), cut.map(|why| json!(why)).as_ref(), "{told}");
        assert_eq!(told.get("content").is_some(), !redacts, "{told}");
        if let Some(name) = told["content"].as_str() {
            let mut expected = content.clone();
            expected[30_000..30_000 + missing].fill(0);
            assert!(fs::read(lab.file(name)).unwrap() == expected);
        }
    }
}

#[test]
fn there_is_an_end_to_what_is_kept_of_it() {
    let mut lab = Lab::with(TapeLimits { content: 50_000, ..TapeLimits::default() }, false);
    let content = bot(100_000);
    begin(&mut lab);
    read(&mut lab, &content, 0);
    end(&mut lab, &content);
    let told = lab.told(EventId::SshFile).remove(0);
    assert_eq!((&told["cut"], &told["sha256"]), (&json!("file-too-large"), &json!(sum(&content))), "{told}");
    let kept = fs::read(lab.file(told["content"].as_str().unwrap())).unwrap();
    assert!(kept == content[..49_152], "{}", kept.len());
}
