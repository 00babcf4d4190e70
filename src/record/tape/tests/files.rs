use super::*;

#[test]
fn what_is_copied_is_kept_once_by_its_digest() {
    let limits = TapeLimits { content: 100_000, ..TapeLimits::default() };
    let mut lab = Lab::with(limits, false);
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Exec { channel: 0, command: Text::command("scp -t /tmp") });
    upload(&mut lab, 0, "worm\u{1b}[2J", b"abc", true);
    upload(&mut lab, 1, "again", b"abc", true);
    upload(&mut lab, 2, "empty", b"", true);
    upload(&mut lab, 3, "large", &vec![7; 200_000], true);
    upload(&mut lab, 4, "holes", b"half of it", false);
    // SFTP moves several at once, and the connection ends in the middle.
    let download = Entry::FileBegin { channel: 1, file: 5, path: text("/etc/shadow"), direction: Direction::Download };
    lab.put(7, 4, download);
    lab.put(7, 4, Entry::FilePiece { file: 5, offset: 0, data: Bytes::from_static(b"root:") });
    upload(&mut lab, 6, "too much", &vec![8; 160_000], true);
    lab.put(7, 5, Entry::FilePiece { file: 42, offset: 0, data: Bytes::from_static(b"of nothing") });
    lab.end(7, 6);

    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let contents: Vec<PathBuf> =
        lab.files(SESSION).into_iter().filter(|(name, _)| name.starts_with("sha256-")).map(|(_, path)| path).collect();
    assert_eq!(fs::read(lab.file(abc)).unwrap(), b"abc");
    for path in &contents {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        let name = path.file_name().unwrap().to_str().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(path).unwrap());
        assert_eq!(name, format!("sha256-{}", crate::wire::hex(digest.as_ref())));
    }
    let mut sizes: Vec<u64> = contents.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 5, 10, 98_304, 98_304]);
    assert!(lab.files(SESSION).keys().all(|name| !name.ends_with(".part")));

    let told = lab.told(EventId::SshFile);
    let content = format!("sha256-{abc}");
    let expected = json!({
        "path": "worm\\x1b[2J", "direction": "upload", "size": 3, "sha256": abc, "content": content,
    });
    assert_eq!(told[0], expected);
    assert_eq!((&told[1]["path"], &told[1]["content"]), (&json!("again"), &json!(content)));
    assert_eq!(told[2], json!({"path": "empty", "direction": "upload", "size": 0}));
    assert_eq!((&told[3]["cut"], &told[3]["sha256"]), (&json!("file-too-large"), &Value::Null));
    assert_eq!(told[4]["cut"], "not-from-first-to-last");
    assert_eq!((&told[5]["path"], &told[5]["cut"]), (&json!("too much"), &json!("file-too-large")));
    assert_eq!((&told[6]["path"], &told[6]["cut"]), (&json!("/etc/shadow"), &json!("not-from-first-to-last")));
    let read = connection(&lab.file(TAPE)).unwrap();
    assert_eq!(read.files.len(), 7);
    assert_eq!((read.files[0].sha256.as_deref(), read.files[0].content.as_deref()), (Some(abc), Some(&*content)));
    assert_eq!((read.files[6].direction.as_str(), read.files[6].size), ("download", 5));
}

#[test]
fn what_moves_twice_counts_once_in_its_file_and_twice_in_its_connection() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Subsystem { channel: 0, name: text("sftp") });
    for (file, direction) in [(0, Direction::Download), (1, Direction::Upload)] {
        lab.put(7, 2, Entry::FileBegin { channel: 0, file, path: text("x"), direction });
        lab.put(7, 2, Entry::FilePiece { file, offset: 0, data: Bytes::from_static(b"worm") });
        lab.put(7, 3, Entry::FileEnd { file, size: 4, again: 3 * u64::from(file == 0), sha256: None, kept: true });
    }
    lab.put(7, 4, Entry::Closed { channel: 0 });
    lab.end(7, 5);
    let told = lab.told(EventId::SshFile);
    assert_eq!((&told[0]["size"], &told[0]["again"], told[0].get("cut")), (&json!(4), &json!(3), None));
    assert_eq!((&told[1]["size"], told[1].get("again")), (&json!(4), None));
    let closed = lab.told(EventId::SshClose).remove(0);
    assert_eq!((&closed["input"], &closed["output"]), (&json!(4), &json!(7)));
    let exit = lab.told.iter().find(|notice| notice.event.id == EventId::SshExit).unwrap();
    assert_eq!((exit.event.bytes_in, exit.event.bytes_out), (4, 7));
    let tape = lines(&lab.file(TAPE));
    let again: Vec<_> = tape.iter().filter_map(|line| line["file-end"]["again"].as_u64()).collect();
    assert_eq!(again, [3, 0]);
}
