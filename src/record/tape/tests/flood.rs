//! One thing that is as long as its attacker likes, and what is left for those that come after it.

use super::*;

/// Of which an eighth is 8 MiB.
const TOTAL: u64 = 64 << 20;
/// Octets of a flood: as JSON has them they are six times as many.
const FLOOD: u64 = 16 << 20;

fn sum(octets: &[u8]) -> String {
    crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref())
}

/// Somebody is let in, in connection `conn`, and has a command run, with or without a terminal.
fn run(lab: &mut Lab, conn: u64, has_terminal: bool) {
    lab.begin(conn, SESSION);
    lab.put(conn, 1, attempt("root", "toor", true));
    lab.put(conn, 1, opened(0));
    if has_terminal {
        lab.put(conn, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
    }
    lab.put(conn, 1, Entry::Exec { channel: 0, command: text("head -c 200000000 /dev/zero") });
}

/// What the command says: `kept` octets of it are told as a file's, too.
fn flood(lab: &mut Lab, conn: u64, octets: u64, kept: u64) {
    let piece = Bytes::from(vec![0; 16 << 10]);
    let path = text("head");
    if kept > 0 {
        lab.put(conn, 2, Entry::FileBegin { channel: 0, file: 0, path, direction: Direction::Output });
    }
    for offset in (0..octets).step_by(piece.len()) {
        if offset < kept {
            lab.put(conn, 3, Entry::FilePiece { file: 0, offset, data: piece.clone() });
        }
        lab.put(conn, 3, Entry::Data { channel: 0, stream: Stream::Output, data: piece.clone() });
    }
    if kept > 0 {
        let sha256 = Some(sum(&vec![0; octets as usize]));
        lab.put(conn, 4, Entry::FileEnd { file: 0, size: octets, again: 0, sha256, kept: kept == octets });
    }
    lab.put(conn, 4, Entry::Closed { channel: 0 });
    lab.end(conn, 5);
    lab.tend();
}

/// What comes later: a file of 5 octets, and a shell.
fn later(lab: &mut Lab, conn: u64) {
    lab.begin(conn, SESSION);
    lab.put(conn, 1, attempt("root", "toor", true));
    lab.put(conn, 1, opened(0));
    lab.put(conn, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
    lab.put(conn, 1, Entry::Shell { channel: 0 });
    let content = format!("{conn:05}");
    lab.put(conn, 2, Entry::FileBegin { channel: 1, file: 0, path: text("mal"), direction: Direction::Upload });
    lab.put(conn, 2, Entry::FilePiece { file: 0, offset: 0, data: Bytes::copy_from_slice(content.as_bytes()) });
    let sha256 = Some(sum(content.as_bytes()));
    lab.put(conn, 2, Entry::FileEnd { file: 0, size: 5, again: 0, sha256, kept: true });
    lab.put(conn, 3, data(0, Stream::Output, b"# "));
    lab.end(conn, 5);
    lab.tend();
    let told = lab.told(EventId::SshFile).pop().unwrap();
    assert_eq!((told.get("cut"), told["content"].as_str().is_some()), (None, true), "{told}");
    let cast = format!("{conn:016x}-0000-0001.cast");
    assert_eq!(moments(&lab.file(&cast)).pop().unwrap().what, What::Output("# ".into()));
}

fn casts(lab: &Lab) -> u64 {
    let files = lab.files(SESSION).into_iter().filter(|(name, _)| name.ends_with(".cast"));
    files.map(|(_, path)| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn of_what_a_command_without_a_terminal_says_the_transcript_has_the_beginning() {
    let mut lab = Lab::new();
    run(&mut lab, 7, false);
    flood(&mut lab, 7, FLOOD, FLOOD);
    let length = casts(&lab);
    assert!((1 << 20..(1 << 20) + (200 << 10)).contains(&length), "{length}");
    let last = moments(&lab.file(".cast")).pop().unwrap().what;
    assert!(matches!(&last, What::Marker(text) if text.starts_with("the output after this is not in")), "{last:?}");
    // All of it is kept, and nothing is lost.
    let told = lab.told(EventId::SshFile).remove(0);
    assert_eq!((told.get("cut"), &told["size"]), (None, &json!(FLOOD)), "{told}");
    assert_eq!(lab.told(EventId::SshClose)[0].get("lost"), None);
    assert!(lab.failures().is_empty(), "{:?}", lab.failures());
}

#[test]
fn what_neither_the_transcript_nor_a_content_has_is_lost() {
    for (kept, lost) in [(FLOOD / 2, FLOOD / 2), (0, FLOOD)] {
        let mut lab = Lab::new();
        run(&mut lab, 7, false);
        flood(&mut lab, 7, FLOOD, kept);
        let told = lab.told(EventId::SshClose)[0]["lost"].as_u64().unwrap();
        assert!(told <= lost && told + (256 << 10) > lost, "{kept}: {told}");
    }
    // What it reads has room of its own, so that no flood hides the lines that a shell reads; and errors are in no file.
    let mut lab = Lab::new();
    run(&mut lab, 7, false);
    for stream in [Stream::Output, Stream::Error] {
        (0..100).for_each(|_| lab.put(7, 2, data(0, stream, &[0; 16 << 10])));
    }
    lab.put(7, 3, data(0, Stream::Input, b"id\n"));
    lab.put(7, 3, Entry::Closed { channel: 0 });
    let all = moments(&lab.file(".cast"));
    assert!(all.iter().any(|moment| moment.what == What::Input("id\n".into())));
    assert!(all.iter().any(|moment| matches!(&moment.what, What::Marker(text) if text.starts_with("the errors"))));
}

#[test]
fn however_much_one_thing_takes_there_is_room_for_what_comes_later() {
    let mut lab = Lab::with(TapeLimits { total: TOTAL, ..TapeLimits::default() }, false);
    // As many as it likes, with a terminal, so that all of it is in the transcript.
    for number in 0..12 {
        run(&mut lab, 100 + number, true);
        flood(&mut lab, 100 + number, FLOOD, 0);
        later(&mut lab, 200 + number);
        let most = TOTAL / 8 / 8 * 5;
        assert!(casts(&lab) <= most + (128 << 10) * (number + 1), "{number}: {}", casts(&lab));
        if number == 0 {
            assert!((most / 2 - (256 << 10)..most / 2 + (256 << 10)).contains(&casts(&lab)), "{}", casts(&lab));
        }
    }
    let failures = lab.failures();
    assert!(matches!(&failures[..], [why] if why.starts_with("limit: one transcript")), "{failures:?}");
    let name = format!("{:016x}-0000-0001.cast", 100);
    let last = moments(&lab.file(&name)).pop().unwrap().what;
    let told = "octets before this were lost: the session's recordings had as much as they may";
    assert!(matches!(&last, What::Marker(text) if text.ends_with(told)), "{last:?}");
}
