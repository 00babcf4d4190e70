//! Processes that die in the midst of it, and those that go on.

use super::*;
use crate::record::transcript::Commands;
use crate::service::Spoken;

impl Lab {
    /// The process dies, and another one follows.
    fn die(self) -> Lab {
        self.die_and(TapeLimits::default(), false)
    }

    pub(super) fn die_and(mut self, limits: TapeLimits, redacts: bool) -> Lab {
        let next = Lab::tapes(self.dir.path(), limits, redacts, &self.space);
        // What it had not handed over goes with it, and nothing is put in order.
        std::mem::forget(std::mem::replace(&mut self.tapes, next));
        self.now += 300_000;
        self.tapes.remember(utc(self.now));
        self
    }

    fn typed(&self) -> Vec<String> {
        self.told(EventId::ShellCommand).into_iter().map(|told| told["command"].as_str().unwrap().into()).collect()
    }
}

fn shell(lab: &mut Lab, conn: u64) {
    let micros = lab.now as u64;
    lab.begin(conn, SESSION);
    lab.put(conn, 1, attempt("root", "toor", true));
    lab.put(conn, 2, opened(0));
    lab.put(conn, 3, Entry::Pty { channel: 0, term: text("xterm"), columns: 120, rows: 40 });
    lab.put(conn, 1_500_000, Entry::Shell { channel: 0 });
    lab.put(conn, micros + 2_000_000, data(0, Stream::Output, b"# "));
    lab.now += 2_000_000;
}

#[test]
fn a_shell_goes_on_in_the_same_files() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    lab.put(7, 2_100_000, data(0, Stream::Input, b"id\runa"));
    lab.put(7, 2_100_001, Entry::Resize { channel: 0, columns: 100, rows: 30 });
    lab.tend();
    let mut lab = lab.die();
    lab.tapes.retain(&[7, 8], utc(lab.now));
    // The switch says it again, and that is not another connection.
    lab.tapes.take(7, Word::Begin(begin_of(SESSION)), utc(lab.now));
    lab.put(7, 2_600_000, data(0, Stream::Input, b"me -a\r"));
    lab.put(7, 2_600_001, data(0, Stream::Output, b"Linux"));
    lab.put(7, 2_600_002, Entry::Closed { channel: 0 });
    lab.end(7, 2_700_000);
    assert_eq!(lab.tapes.stats(), TapeStats { open: 0, dropped: 0, failing: None });

    assert_eq!(lab.files(SESSION).len(), 2, "{:?}", lab.files(SESSION));
    let tape = lab.file(".ndjson");
    let told = connection(&tape).unwrap();
    assert_eq!((told.resumed, told.end.as_deref(), told.tried), (1, Some("client-closed"), 1), "{told:?}");
    assert_eq!(told.user.as_deref(), Some("root"));
    let total = lines(&tape).pop().unwrap()["total"].clone();
    for (what, count) in [("attempts", 1), ("channels", 1), ("shells", 1), ("input", 12), ("output", 7), ("lost", 0)] {
        assert_eq!(total[what], count, "{what} in {total}");
    }
    let closed = lab.told(EventId::SshClose).remove(0);
    assert_eq!((&closed["reason"], &closed["input"]), (&json!("client-closed"), &json!(12)));

    let cast = moments(&lab.file(".cast"));
    let shown: Vec<(i64, What)> = cast.into_iter().map(|moment| (moment.at, moment.what)).collect();
    // Since the shell began, to the microsecond, though the header tells seconds.
    let times: Vec<i64> = shown.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [500_000, 600_000, 600_001, 600_001, 1_100_000, 1_100_001]);
    assert!(matches!(&shown[3].1, What::Marker(text) if text.contains("was restarted")), "{shown:?}");
    assert_eq!(shown[5].1, What::Output("Linux".into()));
    // The line that was being typed is one command, in the log and on the cast.
    assert_eq!(lab.typed(), ["id", "uname -a"]);
    let mut commands = Commands::default();
    for (at, what) in &shown {
        if let What::Input(text) = what {
            commands.push(*at, text);
        }
    }
    assert_eq!(commands.take().len(), 2);
    assert_eq!(lab.failures().len(), 1, "{:?}", lab.failures());
    assert!(lab.failures()[0].starts_with("restart: recordings of connections go on"), "{:?}", lab.failures());
}

fn begin_of(session: SessionId) -> Begin {
    Begin {
        protocol: Protocol::Ssh,
        session,
        node: NodeIdx(1),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: utc(0),
    }
}

#[test]
fn what_nobody_is_in_the_middle_of_any_more_is_over() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    shell(&mut lab, 8);
    lab.tend();
    let mut lab = lab.die();
    assert_eq!(lab.tapes.stats().open, 2);
    // Words that were on their way are no loss.
    lab.put(8, 3_000_000, data(0, Stream::Output, b"last"));
    lab.tapes.retain(&[], utc(lab.now));
    lab.told.extend(lab.tapes.told());
    assert_eq!(lab.tapes.stats(), TapeStats { open: 0, dropped: 0, failing: None });
    let closed = lab.told(EventId::SshClose);
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|told| told["reason"] == "not-seen"), "{closed:?}");
    assert!(lab.failures().is_empty());
    // Nobody ends them once more.
    let lab = lab.die();
    assert_eq!(lab.tapes.stats().open, 0);
}

#[test]
fn a_file_on_its_way_keeps_its_name_and_its_octets() {
    for gap in [false, true] {
        let mut lab = Lab::new();
        let content: Vec<u8> = (0..100_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
        let digest = crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, &content).as_ref());
        let (first, second) = content.split_at(50_000);
        lab.begin(7, SESSION);
        lab.put(7, 1, opened(0));
        lab.put(7, 1, Entry::FileBegin { channel: 0, file: 3, path: text("/tmp/worm"), direction: Direction::Upload });
        lab.put(7, 2, Entry::FilePiece { file: 3, offset: 0, data: Bytes::copy_from_slice(first) });
        lab.tend();
        let mut lab = lab.die();
        let (offset, second) = if gap { (50_001, &second[1..]) } else { (50_000, second) };
        lab.put(7, 3, Entry::FilePiece { file: 3, offset, data: Bytes::copy_from_slice(second) });
        let size = content.len() as u64;
        lab.put(7, 4, Entry::FileEnd { file: 3, size, again: 0, sha256: Some(digest.clone()), kept: true });
        lab.end(7, 5);
        let told = lab.told(EventId::SshFile).remove(0);
        assert_eq!(
            (&told["path"], &told["direction"], &told["sha256"]),
            (&json!("/tmp/worm"), &json!("upload"), &json!(digest))
        );
        assert_eq!(told.get("cut"), gap.then_some(&json!("interrupted")), "{told}");
        let name = told["content"].as_str().unwrap();
        let kept = fs::read(lab.dir.path().join("sessions").join(SESSION.to_string()).join(name)).unwrap();
        // What lies behind a gap is where it belongs, and the tape says where the gap is.
        let mut expected = content.clone();
        if gap {
            expected[50_000] = 0;
        }
        assert!(kept == expected, "{}", kept.len());
        let end = lines(&lab.file(".ndjson")).into_iter().find(|line| line.get("file-end").is_some()).unwrap();
        assert_eq!(end.get("missing"), gap.then_some(&json!([[50_000, 1]])), "{end}");
        let sum = |octets: &[u8]| crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref());
        assert_eq!(name, format!("sha256-{}", sum(&kept)));
        let total = lines(&lab.file(".ndjson")).pop().unwrap()["total"].clone();
        assert_eq!((&total["lost"], &total["files"]), (&json!(u64::from(gap)), &json!(1)));
        assert!(!lab.files(SESSION).keys().any(|name| name.ends_with(".part")), "{:?}", lab.files(SESSION));
    }
}

#[test]
fn what_misses_something_is_never_whole_however_often_somebody_dies() {
    let mut lab = Lab::new();
    let content: Vec<u8> = (0..90_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let digest = crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, &content).as_ref());
    let piece = |lab: &mut Lab, from: usize, to: usize| {
        let data = Bytes::copy_from_slice(&content[from..to]);
        lab.put(7, 2, Entry::FilePiece { file: 3, offset: from as u64, data });
    };
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::FileBegin { channel: 0, file: 3, path: text("x"), direction: Direction::Upload });
    piece(&mut lab, 0, 30_000);
    lab.tend();
    let mut lab = lab.die();
    piece(&mut lab, 30_100, 60_000);
    lab.tend();
    // The one that knew of the gap is dead, too.
    let mut lab = lab.die();
    piece(&mut lab, 60_000, 90_000);
    lab.put(7, 4, Entry::FileEnd { file: 3, size: 90_000, again: 0, sha256: Some(digest.clone()), kept: true });
    lab.end(7, 5);
    let told = lab.told(EventId::SshFile).remove(0);
    assert_eq!((&told["cut"], &told["sha256"]), (&json!("interrupted"), &json!(digest)), "{told}");
}

#[test]
fn nobody_has_zeros_written_without_end() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::FileBegin { channel: 0, file: 3, path: text("x"), direction: Direction::Upload });
    lab.put(7, 2, Entry::FilePiece { file: 3, offset: 60 << 20, data: Bytes::from_static(b"x") });
    lab.put(7, 4, Entry::FileEnd { file: 3, size: (60 << 20) + 1, again: 0, sha256: None, kept: true });
    lab.end(7, 5);
    let told = lab.told(EventId::SshFile).remove(0);
    assert_eq!((&told["cut"], told.get("content")), (&json!("interrupted"), None), "{told}");
}

#[test]
fn octets_and_a_line_that_was_half_written_go_on() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(
        7,
        1,
        Entry::Opened {
            channel: 4,
            kind: ChannelKind::DirectTcpip { host: text("10.0.0.9"), port: 80, from: Text::default() },
        },
    );
    lab.put(7, 2, data(4, Stream::Input, b"GET"));
    lab.tend();
    for ending in [".octets", ".ndjson"] {
        let path = lab.file(ending);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"at\":0.1,\"str")).unwrap();
    }
    let mut lab = lab.die();
    lab.put(7, 3, data(4, Stream::Output, b"200"));
    // It was opened, and the process that was told died with that.
    lab.put(7, 4, data(5, Stream::Output, b"?"));
    lab.put(7, 5, data(3, Stream::Output, b"never"));
    lab.end(7, 6);
    let octets: Vec<_> = lines(&lab.file("0004.octets")).iter().map(|line| line["data"].clone()).collect();
    assert_eq!(octets, [json!("R0VU"), json!("MjAw"), Value::Null]);
    assert_eq!(lines(&lab.file("0005.octets"))[0]["data"], "Pw==");
    let total = lines(&lab.file(".ndjson")).pop().unwrap()["total"].clone();
    assert_eq!((&total["lost"], &total["output"]), (&json!(5), &json!(9)));
    assert_eq!(lab.tapes.stats().failing, None);
}

#[test]
fn nobody_learns_a_password_that_was_half_typed() {
    let mut lab = Lab::with(TapeLimits::default(), true);
    let telnet = Begin { protocol: Protocol::Plain(Spoken::Telnet), ..begin_of(SESSION) };
    lab.tapes.take(7, Word::Begin(telnet.clone()), utc(0));
    lab.put(7, 1, Entry::Opened { channel: 0, kind: ChannelKind::Stream });
    lab.put(7, 1, Entry::Shell { channel: 0 });
    lab.put(7, 2, Entry::Secret { channel: 0, begins: true });
    lab.put(7, 3, data(0, Stream::Input, b"hun"));
    lab.tend();
    let mut lab = lab.die_and(TapeLimits::default(), true);
    // The switch knows only with its next word of its own that somebody else listens; until then anything may be one.
    lab.put(7, 4, data(0, Stream::Input, b"ter2\r"));
    lab.put(7, 5, data(0, Stream::Output, b"hunter2"));
    lab.tapes.take(7, Word::Begin(telnet), utc(0));
    lab.put(7, 6, Entry::Secret { channel: 0, begins: true });
    lab.put(7, 7, data(0, Stream::Output, b"ter2\r\n"));
    lab.put(7, 8, Entry::Secret { channel: 0, begins: false });
    lab.put(7, 9, data(0, Stream::Input, b"id\r"));
    lab.end(7, 10);
    let cast = fs::read_to_string(lab.file(".cast")).unwrap();
    assert!(cast.contains("\"***\"") && cast.contains("****\\r") && cast.contains("\"id\\r\""), "{cast}");
    assert!(!cast.contains("ter2"), "{cast}");
    // Of SSH nobody tells when somebody types one, and nothing is left out.
    shell(&mut lab, 8);
    lab.tend();
    let mut lab = lab.die_and(TapeLimits::default(), true);
    lab.put(8, 2_500_000, data(0, Stream::Output, b"plain"));
    let is_there =
        |lab: &Lab| lab.files(SESSION).values().any(|path| fs::read_to_string(path).unwrap().contains("plain"));
    lab.tend();
    assert!(is_there(&lab));
}

#[test]
fn words_that_died_with_the_process_are_made_good() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, attempt("root", "toor", true));
    lab.tend();
    let mut lab = lab.die();
    // That a channel was opened, nobody has heard.
    lab.put(7, 2_000_000, Entry::Pty { channel: 0, term: text("xterm"), columns: 120, rows: 40 });
    lab.put(7, 2_000_001, Entry::Shell { channel: 0 });
    lab.put(7, 2_000_002, data(0, Stream::Input, b"id\r"));
    // Nor that a file began to move.
    lab.put(7, 2_000_003, Entry::FilePiece { file: 3, offset: 5, data: Bytes::from_static(b"worm") });
    lab.put(7, 2_000_004, Entry::FileEnd { file: 3, size: 9, again: 0, sha256: Some("ab".into()), kept: true });
    lab.end(7, 2_000_005);
    assert_eq!(lab.typed(), ["id"]);
    assert_eq!(moments(&lab.file(".cast")).len(), 1);
    let told = lab.told(EventId::SshFile).remove(0);
    assert_eq!((&told["cut"], &told["size"]), (&json!("interrupted"), &json!(9)), "{told}");
    assert_eq!(lines(&lab.file(".ndjson")).pop().unwrap()["total"]["lost"], 4, "each piece is lost once");
    let total = lines(&lab.file(".ndjson")).pop().unwrap()["total"].clone();
    assert_eq!(
        (&total["channels"], &total["shells"], &total["attempts"]),
        (&json!(1), &json!(1), &json!(1)),
        "{total}"
    );
}

#[test]
fn a_tape_without_a_beginning_gets_one_and_one_with_an_end_gets_no_other() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    shell(&mut lab, 8);
    lab.tend();
    let open = lab.dir.path().join("sessions/open");
    let ended = fs::read(open.join("0000000000000008")).unwrap();
    lab.end(8, 2_500_000);
    // As if it had been killed before it took the mark away.
    fs::write(open.join("0000000000000008"), ended).unwrap();
    let tape = lab.file("7.ndjson");
    fs::write(&tape, "").unwrap();
    let mut lab = lab.die();
    lab.tapes.retain(&[7], utc(lab.now));
    lab.end(7, 3_000_000);
    let told = connection(&lab.file("7.ndjson")).unwrap();
    assert_eq!((told.protocol.as_str(), told.resumed), ("ssh", 1), "{told:?}");
    let other = lines(&lab.file("8.ndjson"));
    assert_eq!(other.iter().filter(|line| line.get("total").is_some()).count(), 1, "{other:?}");
    assert_eq!(lab.told(EventId::SshClose).len(), 2);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn who_is_gone_has_gone_when_something_was_heard_last() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    let hours = 3 * 3_600_000_000;
    lab.now += hours as i64;
    lab.put(7, hours, data(0, Stream::Output, b"late"));
    lab.tend();
    let mut lab = lab.die();
    lab.now += 86_400_000_000;
    let files = lab.files(SESSION).len();
    lab.tapes.retain(&[], utc(lab.now));
    lab.told.extend(lab.tapes.told());
    let closed = lab.told.iter().find(|notice| notice.event.id == EventId::SshClose).unwrap();
    assert_eq!((closed.event.count, closed.at), (hours, utc(hours as i64)));
    let tape = lines(&lab.file(".ndjson"));
    assert_eq!(tape.last().unwrap()["at"], json!(hours as f64 / 1e6));
    assert!(tape.iter().all(|line| line.get("resumed").is_none()), "nobody goes on with it: {tape:?}");
    assert_eq!(lab.files(SESSION).len(), files);
}

#[test]
fn what_kills_who_goes_on_is_tried_once() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    lab.tend();
    // It died as it went on.
    let open = lab.dir.path().join("sessions/open");
    fs::rename(open.join("0000000000000007"), open.join("0000000000000007.trying")).unwrap();
    let mut lab = lab.die();
    assert_eq!(lab.tapes.stats().open, 0);
    lab.tapes.take(7, Word::Begin(begin_of(SESSION)), utc(0));
    lab.put(7, 3_000_000, opened(1));
    lab.end(7, 3_000_001);
    assert!(lab.file("7-r2.ndjson").exists());
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn marks_that_are_none_stop_nobody() {
    let mut lab = Lab::new();
    shell(&mut lab, 7);
    lab.tend();
    let open = lab.dir.path().join("sessions/open");
    fs::write(open.join("0000000000000009"), "{}").unwrap();
    fs::write(open.join("000000000000000a"), vec![b'['; 1 << 20]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", open.join("000000000000000b")).unwrap();
    fs::write(open.join("notes"), "").unwrap();
    // A tape that is none, and a cast that is none.
    fs::write(lab.file(".ndjson"), b"\xff\xff{}\n[[\n").unwrap();
    fs::write(lab.file(".cast"), b"\x00").unwrap();
    let mut lab = lab.die();
    assert_eq!(lab.tapes.stats().open, 1);
    lab.put(7, 3_000_000, data(0, Stream::Output, b"more"));
    lab.end(7, 3_000_001);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    assert_eq!(lab.told(EventId::SshClose).len(), 1);
}

#[test]
fn limits_hold_beyond_a_death() {
    let limits = TapeLimits { open: 2, of_connection: 2, ..TapeLimits::default() };
    let mut lab = Lab::new();
    for conn in 7..11 {
        shell(&mut lab, conn);
    }
    for channel in 1..5 {
        lab.put(7, 2_200_000, opened(channel));
    }
    lab.tend();
    let mut lab = lab.die_and(limits, false);
    assert_eq!(lab.tapes.stats().open, 2);
    for conn in 7..11 {
        for channel in 0..9 {
            lab.put(conn, 2_300_000, data(channel, Stream::Output, b"!"));
        }
        lab.end(conn, 2_400_000);
    }
    let closed = lab.told(EventId::SshClose);
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|told| told["lost"] == 7), "{closed:?}");
}

#[test]
fn what_is_beyond_a_limit_is_counted_on() {
    let limits = TapeLimits { stream: 100, ..TapeLimits::default() };
    let mut lab = Lab::with(limits, false);
    lab.begin(7, SESSION);
    let target = ChannelKind::DirectTcpip { host: text("10.0.0.9"), port: 80, from: Text::default() };
    for channel in 0..40 {
        lab.put(7, 1, Entry::Opened { channel, kind: target.clone() });
    }
    let more = |lab: &mut Lab| {
        for channel in 0..40 {
            lab.put(7, 2, data(channel, Stream::Input, &[b'x'; 200]));
            lab.put(7, 2, data(channel, Stream::Output, &[b'y'; 300]));
        }
        lab.tend();
    };
    more(&mut lab);
    // Twice, and the second time nothing happens meanwhile.
    let mut lab = lab.die_and(limits, false);
    more(&mut lab);
    let mut lab = lab.die_and(limits, false);
    lab.put(7, 3, data(0, Stream::Error, &[b'z'; 50]));
    lab.tend();
    let mut lab = lab.die_and(limits, false);
    lab.end(7, 4);
    let more_of = |lab: &Lab, channel: u32| {
        let path = lab.file(&format!("-{channel:04}.octets"));
        let kept: u64 = lines(&path)
            .iter()
            .filter_map(|line| line["data"].as_str())
            .map(|data| crate::record::base64::decode(data).unwrap().len() as u64)
            .sum();
        let more = lines(&path).pop().unwrap()["more"].clone();
        kept + more["input"].as_u64().unwrap() + more["output"].as_u64().unwrap() + more["error"].as_u64().unwrap()
    };
    assert_eq!(more_of(&lab, 0), 1050);
    assert_eq!(more_of(&lab, 23), 1000);
    // There is an end to what is remembered.
    assert!(more_of(&lab, 39) < 1000);
    let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
    assert_eq!((&total["input"], &total["output"]), (&json!(16_000), &json!(24_050)), "{total}");

    // The octets beside the transcript of Telnet, for which there is no room from the beginning on.
    let telnet = Begin { protocol: Protocol::Plain(Spoken::Telnet), ..begin_of(SESSION) };
    let limits = TapeLimits { plain: 0, ..TapeLimits::default() };
    let mut lab = Lab::with(limits, false);
    lab.tapes.take(7, Word::Begin(telnet), utc(0));
    lab.put(7, 1, Entry::Opened { channel: 0, kind: ChannelKind::Stream });
    lab.put(7, 1, Entry::Shell { channel: 0 });
    let raw = |lab: &mut Lab| {
        let octets = Bytes::from_static(b"id\r\0");
        lab.put(7, 2, Entry::Raw { channel: 0, stream: Stream::Input, data: octets });
        lab.put(7, 2, data(0, Stream::Input, b"id\r"));
        lab.put(7, 2, Entry::Beyond { channel: 0, stream: Stream::Output, octets: 9 });
        lab.tend();
    };
    raw(&mut lab);
    let mut lab = lab.die_and(TapeLimits::default(), false);
    raw(&mut lab);
    lab.end(7, 4);
    let last = lines(&lab.file(".octets")).pop().unwrap();
    assert_eq!(last["more"], json!({"input": 4, "output": 18, "error": 0}));
}
