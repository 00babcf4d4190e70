//! Who is not let in, again and again, in the clear.

use super::plain::begin;
use super::*;
use crate::relay::plain::{Settings, Watch};
use crate::relay::tape::Recorder;
use crate::service::Spoken;

const IN: Stream = Stream::Input;
const OUT: Stream = Stream::Output;

/// What is told of a conversation.
pub(super) fn told(spoken: Spoken, turns: &[(Stream, &[u8])]) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 2));
    runtime.block_on(async {
        let mut watch = Watch::new(Settings { spoken, within: false, keep: 1 << 20, asked: Default::default() });
        watch.begin(&recorder).await;
        for (from, octets) in turns {
            watch.see(*from, octets, &recorder).await;
        }
        watch.end(&recorder).await;
    });
    let told = std::mem::take(&mut *tape.lock().unwrap());
    told.into_iter().map(|(_, entry)| entry).collect()
}

/// A password at a Telnet server's, and what it says then.
fn telnet(password: &str, answer: &[u8]) -> Vec<Entry> {
    let (password, answer) = (format!("{password}\r\0"), [b"\r\n", answer].concat());
    let turns = [
        (OUT, &b"\xff\xfb\x01login: "[..]),
        (IN, b"root\r\0"),
        (OUT, b"root\r\nPassword: "),
        (IN, password.as_bytes()),
        (OUT, &answer),
    ];
    told(Spoken::Telnet, &turns)
}

/// Guesses by FTP, and by HTTP.
const FTP: [(Stream, &[u8]); 8] = [
    (OUT, b"220 ready\r\n"),
    (IN, b"USER root\r\n"),
    (OUT, b"331 password\r\n"),
    (IN, b"PASS x\r\n"),
    (OUT, b"530 incorrect\r\n"),
    (IN, b"SYST\r\nQUIT\r\n"),
    (OUT, b"530 log in first\r\n"),
    (OUT, b"221 bye\r\n"),
];
const BASIC: [(Stream, &[u8]); 2] = [
    (IN, b"GET / HTTP/1.1\r\nAuthorization: Basic cm9vdDp4\r\n\r\n"),
    (OUT, b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"),
];
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn one(lab: &mut Lab, conn: u64, spoken: Spoken, told: &[Entry]) {
    lab.tapes.take(conn, Word::Begin(begin(spoken)), utc(lab.now));
    told.iter().for_each(|entry| lab.put(conn, 2, entry.clone()));
    lab.end(conn, 3);
}

/// Whether the files of a connection are there.
fn is_kept(lab: &Lab, conn: u64) -> bool {
    lab.files(SESSION).keys().any(|name| name.contains(&format!("-{conn:016x}")))
}

fn limits() -> TapeLimits {
    TapeLimits { strangers: 12, unsure: 40, files: 80, ..TapeLimits::default() }
}

/// The only thing that failed.
#[track_caller]
fn failed(lab: &mut Lab) -> String {
    lab.tend();
    let mut failures = lab.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    failures.remove(0)
}

#[test]
fn who_guesses_in_the_clear_leaves_few_files_and_all_events() {
    for (spoken, guess) in [
        (Spoken::Telnet, telnet("wrong", b"Login incorrect\r\nlogin: ")),
        (Spoken::Ftp, told(Spoken::Ftp, &FTP)),
        (Spoken::Http, told(Spoken::Http, &BASIC)),
    ] {
        let mut lab = Lab::with(limits(), false);
        for conn in 0..1000 {
            one(&mut lab, conn, spoken, &guess);
        }
        assert_eq!(lab.files(SESSION).len(), 12, "{spoken:?}");
        assert_eq!(lab.told(EventId::ServiceLogin).len(), 1000, "{spoken:?}");
        assert!(is_kept(&lab, 0) && !is_kept(&lab, 999));
        let why = failed(&mut lab);
        assert!(why.contains("more than 12 files"), "{why}");
        // What is gone takes no room.
        let octets: u64 = lab.files(SESSION).values().map(|path| fs::metadata(path).unwrap().len() + 4096).sum();
        assert_eq!(lab.tapes.store.octets(SESSION), octets);
    }
}

#[test]
fn who_is_let_in_after_a_thousand_guesses_is_kept() {
    let mut lab = Lab::with(limits(), false);
    let wrong = telnet("wrong", b"Login incorrect\r\n");
    for conn in 0..1000 {
        one(&mut lab, conn, Spoken::Telnet, &wrong);
    }
    one(&mut lab, 2000, Spoken::Telnet, &telnet("toor", b"Last failed login: Mon Nov 30\r\n# "));
    let shell = told(Spoken::Telnet, &[(OUT, b"# "), (IN, b"id\r\0"), (OUT, b"id\r\nuid=0\r\n# ")]);
    one(&mut lab, 2001, Spoken::Telnet, &shell);
    // What is more than anybody's name may be what breaks in.
    one(&mut lab, 2002, Spoken::Telnet, &told(Spoken::Telnet, &[(OUT, b"login: "), (IN, &[b'x'; 5000])]));
    // So may be a command that is none of a log-in's, and one that is much.
    let mut site = FTP;
    site[5] = (IN, b"SITE EXEC sh\r\nQUIT\r\n");
    one(&mut lab, 2003, Spoken::Ftp, &told(Spoken::Ftp, &site));
    let name = [&b"USER "[..], &[0x90; 200], b"\r\n"].concat();
    let mut long = FTP;
    long[1] = (IN, &name);
    one(&mut lab, 2004, Spoken::Ftp, &told(Spoken::Ftp, &long));
    for conn in 2000..=2004 {
        assert!(is_kept(&lab, conn), "{conn}: {:?}", lab.files(SESSION).keys());
    }
}

#[test]
fn small_connections_without_a_log_in_leave_room_for_others() {
    let mut lab = Lab::with(limits(), false);
    let get = told(Spoken::Http, &[(IN, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (OUT, OK)]);
    for conn in 0..1000 {
        one(&mut lab, conn, Spoken::Http, &get);
    }
    assert_eq!(lab.files(SESSION).len(), 40);
    let requests = lab.told.iter().filter(|told| told.event.id == EventId::ServiceRequest).count();
    assert_eq!(requests, 1000);
    let why = failed(&mut lab);
    assert!(why.contains("more than 40 files"), "{why}");
    // What is sent to a page is more, and a log-in tells.
    let body = [&b"POST /upload HTTP/1.1\r\nContent-Length: 5000\r\n\r\n"[..], &[b'x'; 5000]].concat();
    one(&mut lab, 2000, Spoken::Http, &told(Spoken::Http, &[(IN, &body), (OUT, OK)]));
    one(&mut lab, 2001, Spoken::Telnet, &telnet("toor", b"# "));
    assert!(is_kept(&lab, 2000) && is_kept(&lab, 2001), "{:?}", lab.files(SESSION).keys());
}

#[test]
fn who_may_have_been_let_in_before_a_death_is_kept() {
    let limits = TapeLimits { strangers: 0, ..limits() };
    for dies in [false, true] {
        let mut lab = Lab::with(limits, false);
        lab.tapes.take(7, Word::Begin(begin(Spoken::Telnet)), utc(0));
        telnet("wrong", b"Login incorrect\r\n").into_iter().for_each(|entry| lab.put(7, 2, entry));
        lab.tend();
        if dies {
            lab = lab.die_and(limits, false);
        }
        lab.end(7, 3);
        assert_eq!(is_kept(&lab, 7), dies);
    }
}
