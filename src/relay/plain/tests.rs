//! What observers read, however it is cut into pieces, and that nothing is too much for them.

use proptest::prelude::*;

use super::*;
use crate::relay::tape::Credential;

/// What is told of a conversation, in short: the first sign of each turn says whose it is.
pub(super) fn told(spoken: Spoken, turns: &[(Stream, &[u8])], piece: usize) -> Vec<String> {
    let mut observer = observer(spoken, false, Asked::default()).unwrap();
    let mut entries = Vec::new();
    for (from, octets) in turns {
        for part in octets.chunks(piece) {
            if let Err(reason) = observer.see(*from, part, &mut entries) {
                entries.push(Entry::Strange { channel: 0, reason: Text::new(reason) });
                return short(&entries);
            }
        }
    }
    observer.end(&mut entries);
    short(&entries)
}

/// What is told, then the octets of both directions.
pub(super) fn short(entries: &[Entry]) -> Vec<String> {
    let (mut all, mut octets) = (Vec::new(), [Vec::new(), Vec::new()]);
    for entry in entries {
        all.push(match entry {
            Entry::Http { method, path, host, agent, stream } => {
                format!("{}{method} {path} {host} {agent}", of_stream(*stream))
            }
            Entry::Status { status, length, stream } => format!("{}{status} {length:?}", of_stream(*stream)),
            Entry::Command { text } => format!("> {text}"),
            Entry::Answer { text } => format!("< {text}"),
            Entry::Attempt { user, credential, accepted } => match credential {
                Credential::Password { password } => format!("{user}:{password} {accepted}"),
                Credential::Digest { scheme, value } => format!("{user} {scheme} {value} {accepted}"),
                other => format!("{user} {other:?} {accepted}"),
            },
            Entry::Unasked { user, credential: Credential::Password { password } } => {
                format!("{user}:{password} unasked")
            }
            Entry::Secret { .. } => continue,
            Entry::Data { stream, data, .. } => {
                octets[usize::from(*stream != Stream::Input)].extend_from_slice(data);
                continue;
            }
            other => format!("{other:?}"),
        });
    }
    for (name, octets) in ["Input", "Output"].into_iter().zip(octets) {
        if !octets.is_empty() {
            all.push(format!("{name} {}", Text::command(octets)));
        }
    }
    all
}

fn of_stream(number: Option<u32>) -> String {
    number.map_or_else(String::new, |number| format!("{number}: "))
}

#[track_caller]
pub(super) fn check(spoken: Spoken, turns: &[(Stream, &[u8])], expected: &[&str]) {
    for piece in [usize::MAX, 1, 2, 3, 7] {
        assert_eq!(told(spoken, turns, piece), expected, "in pieces of {piece}");
    }
}

pub(super) const IN: Stream = Stream::Input;
pub(super) const OUT: Stream = Stream::Output;

#[test]
fn requests_of_http() {
    check(
        Spoken::Http,
        &[
            (IN, b"GET /?q=1 HTTP/1.1\r\nHost: web\r\nUser-Agent: curl/7\r\nAuthorization: Basic cm9vdDp0b29y\r\n\r\n"),
            (OUT, b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\nHTTP/"),
            (IN, b"POST /a HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nT: 1\r\n\r\n"),
            (IN, b"HEAD /b HTTP/1.0\r\n\r\nGET /c HTTP/1.1\r\n\r\n"),
            (OUT, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            (OUT, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n"),
            (IN, b"\r\nGET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / not a request"),
            (OUT, b"HTTP/1.1 101 Switching\r\n\r\nHTTP/9 nor this an answer"),
        ],
        &[
            "GET /?q=1 web curl/7",
            "401 Some(5)",
            "root:toor false",
            "POST /a x ",
            "HEAD /b  ",
            "GET /c  ",
            "100 None",
            "200 None",
            "200 Some(99)",
            "304 None",
            "GET /ws  ",
            "101 None",
        ],
    );
    check(
        Spoken::Http,
        &[(IN, b"\x16\x03\x01\x02\n\r\n\r\n")],
        &["Strange { channel: 0, reason: Text(\"no request\") }"],
    );
}

/// Who sends a password to a page that is anybody's has not logged in by that.
#[test]
fn a_password_that_nobody_has_asked_for_is_told_as_such() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nAuthorization: Basic cm9vdDp0b29y\r\n\r\n").into_bytes();
    let answer = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let asked = Asked::default();
    let told = |turns: &[(&str, u16)]| {
        let (mut observer, mut entries) = (observer(Spoken::Http, false, asked.clone()).unwrap(), Vec::new());
        for (path, status) in turns {
            observer.see(IN, &get(path), &mut entries).unwrap();
            observer.see(OUT, &answer(*status), &mut entries).unwrap();
        }
        short(&entries).into_iter().filter(|said| said.starts_with("root")).collect::<Vec<_>>()
    };
    assert_eq!(told(&[("/", 200), ("/", 403), ("/admin/", 200)]), ["root:toor unasked"; 3]);
    assert_eq!(told(&[("/admin/", 401)]), ["root:toor false"]);
    // The host asks in one connection, and hears the right one in another.
    assert_eq!(
        told(&[("/admin/x", 403), ("/admin/x", 200), ("/", 200)]),
        ["root:toor false", "root:toor true", "root:toor unasked",]
    );
}

#[test]
fn who_asks_for_another_protocol_and_is_refused_is_read_on() {
    let upgrade: &[u8] =
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nCONNECT mail:25 HTTP/1.1\r\n\r\n";
    check(
        Spoken::Http,
        &[
            (IN, upgrade),
            (OUT, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"),
            (IN, b"GET /secret HTTP/1.1\r\n\r\nCONNECT mail:25 HTTP/1.1\r\n\r\n"),
            (OUT, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 Go on\r\n\r\n220 mail\r\n"),
            (IN, b"EHLO me\r\n"),
        ],
        &[
            "GET /  ",
            "200 Some(2)",
            "CONNECT mail:25  ",
            "405 Some(0)",
            "GET /secret  ",
            "CONNECT mail:25  ",
            "404 Some(0)",
            "200 None",
        ],
    );
}

#[test]
fn requests_far_ahead_of_their_answers_are_read() {
    let one = b"GET / HTTP/1.1\r\nAuthorization: Basic cm9vdDp0b29y\r\n\r\n";
    let (asked, answered) = (one.repeat(100), b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".repeat(100));
    let told = told(Spoken::Http, &[(IN, &asked), (OUT, &answered), (IN, b"GET /last HTTP/1.1\r\n\r\n")], 999);
    let count = |what: &str| told.iter().filter(|said| *said == what).count();
    assert_eq!((count("GET /  "), count("401 Some(0)")), (100, 100));
    // Of so many not all answers are waited for.
    assert_eq!((count("root:toor false"), count("root:toor unasked")), (64, 36));
    assert_eq!(told.last().unwrap(), "GET /last  ");
}

#[test]
fn a_terminal_by_telnet() {
    check(
        Spoken::Telnet,
        &[
            (OUT, b"\xff\xfd\x18\xff\xfd\x1f\xff\xfb\x01"),
            (IN, b"\xff\xfa\x1f\x00\x64\x00\x28\xff\xf0\xff\xfa\x18\x00xterm\xff\xf0"),
            (OUT, b"Welcome\r\nrouter login: "),
            (IN, b"root\r\0"),
            (OUT, b"root\r\nPassword: "),
            (IN, b"guess\r\n"),
            (OUT, b"\r\nLogin incorrect\r\nrouter login: "),
            (IN, b"root\r\0"),
            (OUT, b"Password: "),
            (IN, b"toor\r\n"),
            (OUT, b"\r\n"),
            (OUT, b"# "),
            (IN, b"uname -a\r\0"),
            (OUT, b"Linux \xff\xff\r\n# "),
        ],
        &[
            "Pty { channel: 0, term: Text(\"xterm\"), columns: 100, rows: 40 }",
            "Shell { channel: 0 }",
            "root:guess false",
            "root:toor true",
            "> uname -a",
            "Input root\\x0dguess\\x0d\\x0aroot\\x0dtoor\\x0d\\x0auname -a\\x0d",
            "Output Welcome\\x0d\\x0arouter login: root\\x0d\\x0aPassword: \\x0d\\x0aLogin incorrect\\x0d\\x0arouter login: \
             Password: \\x0d\\x0a# Linux \\xff\\x0d\\x0a# ",
        ],
    );
}

#[test]
fn log_ins_and_commands_in_lines() {
    check(
        Spoken::Ftp,
        &[
            (OUT, b"220 ready\r\n"),
            (IN, b"USER anna\r\n"),
            (OUT, b"331 more\r\n"),
            (IN, b"PASS a b\r\n"),
            (OUT, b"530 no\r\n"),
            (IN, b"LIST\r\nQUIT"),
        ],
        &["< 220 ready", "> USER anna", "< 331 more", "anna:a b false", "< 530 no", "> LIST", "> QUIT"],
    );
    check(
        Spoken::Smtp,
        &[
            (OUT, b"220 mail\r\n"),
            (IN, b"EHLO x\r\nAUTH LOGIN\r\n"),
            (OUT, b"250-mail\r\n250 AUTH\r\n334 VXNlcg==\r\n"),
            (IN, b"cm9vdA==\r\n"),
            (OUT, b"334 UGFzcw==\r\n"),
            (IN, b"dG9vcg==\r\n"),
            (OUT, b"235 in\r\n"),
            (IN, b"DATA\r\n"),
            (OUT, b"354 go\r\n"),
            (IN, b"AUTH is no command here\r\n.\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n"),
            (OUT, b"250 sent\r\n535 no\r\n"),
        ],
        &[
            "< 220 mail",
            "> EHLO x",
            "> AUTH LOGIN",
            "< 250-mail",
            "< 250 AUTH",
            "< 334 VXNlcg==",
            "< 334 UGFzcw==",
            "root:toor true",
            "< 235 in",
            "> DATA",
            "< 354 go",
            "> AUTH PLAIN",
            "< 250 sent",
            "user:secret false",
            "< 535 no",
        ],
    );
    check(
        Spoken::Imap,
        &[
            (OUT, b"* OK ready\r\n"),
            (IN, b"a LOGIN \"anna\" \"geheim\"\r\n"),
            (OUT, b"a NO failed\r\n"),
            (IN, b"b SELECT INBOX\r\n"),
        ],
        &["< * OK ready", "anna:geheim false", "< a NO failed", "> SELECT INBOX"],
    );
    check(
        Spoken::Pop3,
        &[
            (OUT, b"+OK ready\r\n"),
            (IN, b"USER anna\r\n"),
            (OUT, b"+OK\r\n"),
            (IN, b"PASS x\r\n"),
            (OUT, b"+OK in\r\n"),
        ],
        &["< +OK ready", "> USER anna", "< +OK", "anna:x true", "< +OK in"],
    );
    let sealed = "Strange { channel: 0, reason: Text(\"TLS begins\") }";
    check(Spoken::Smtp, &[(IN, b"\x16\x03\x01\x02\x00\x01")], &[sealed]);
}

#[test]
fn commands_of_redis() {
    check(
        Spoken::Redis,
        &[
            (IN, b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"),
            (OUT, b"-ERR no\r\n"),
            (IN, b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$3\r\ndir\r\n$5\r\n/r\r\no\r\nPING\r\n*1\r\n$0\r\n\r\n"),
            (OUT, b"+OK\r\n+PONG\r\n"),
        ],
        &["default:secret false", "< -ERR no", "> CONFIG SET dir /r\\x0d\\x0ao", "> PING", "> ", "< +OK", "< +PONG"],
    );
    check(
        Spoken::Redis,
        &[
            (IN, b"PING\r\nAUTH one\r\nAUTH anna two\r\nGET x\r\nKEYS *\r\nAUTH three\r\n\r\nAUTH four\r\n"),
            (OUT, b"+PONG\r\n-WRONGPASS\r\n>2\r\n+a\r\n+b\r\n+OK\r\n$5\r\n+OK\r\n\r\n"),
            (OUT, b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n-ERR no\r\n"),
        ],
        &[
            "> PING",
            "> GET x",
            "> KEYS *",
            "< +PONG",
            "default:one false",
            "< -WRONGPASS",
            "anna:two true",
            "< +OK",
            "< $5",
            "< *3",
            "default:three false",
            "< -ERR no",
            "default:four false",
        ],
    );
}

/// Who sends more commands than are remembered has none of them answered by what is to another one.
#[test]
fn answers_of_redis_that_are_not_waited_for() {
    let (mut observer, mut entries) = (observer(Spoken::Redis, false, Asked::default()).unwrap(), Vec::new());
    for (stream, octets) in
        [(IN, &b"AUTH wrong\r\n".repeat(129)[..]), (OUT, &b"+OK\r\n".repeat(128)), (OUT, b"-WRONGPASS\r\n")]
    {
        observer.see(stream, octets, &mut entries).unwrap();
    }
    observer.end(&mut entries);
    let tried = entries.iter().filter_map(|entry| match entry {
        Entry::Attempt { accepted, .. } => Some(*accepted),
        _ => None,
    });
    assert_eq!(tried.collect::<Vec<_>>(), [false; 129]);
    assert_eq!(entries.last(), Some(&Entry::Answer { text: Text::new("-WRONGPASS") }));
}

#[test]
fn statements() {
    let packet = |number: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, number][..], payload].concat();
    let greeting = packet(0, b"\x0a8.0.1\0rest");
    let login = packet(1, &[&0x0000_8200u32.to_le_bytes()[..], &[0; 28], b"root\0\x02\xab\xcdrest"].concat());
    let query = packet(0, b"\x03SELECT 'x'");
    check(
        Spoken::Mysql,
        &[
            (OUT, &greeting),
            (IN, &login),
            (OUT, &packet(2, b"\0\0\0\x02\0\0\0")),
            (IN, &query),
            (OUT, &packet(1, b"\xff\x15\x04#28000Denied")),
            (IN, &packet(0, b"\x02shop")),
            (OUT, &packet(1, b"\0\0\0\x02\0\0\0")),
        ],
        &["< 8.0.1", "root mysql abcd true", "> SELECT 'x'", "< Denied", "> USE shop", "< OK"],
    );
    let message = |kind: &[u8], body: &[u8]| [kind, &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    check(
        Spoken::Postgresql,
        &[
            (IN, &message(b"", &80_877_103u32.to_be_bytes())),
            (OUT, b"N"),
            (IN, &message(b"", b"\0\x03\0\0user\0postgres\0database\0shop\0\0")),
            (OUT, &message(b"R", &3u32.to_be_bytes())),
            (IN, &message(b"p", b"geheim\0")),
            (OUT, &message(b"R", &0u32.to_be_bytes())),
            (IN, &message(b"Q", b"SELECT 1\0")),
            (OUT, &message(b"C", b"SELECT 1\0")),
            (IN, &message(b"P", b"name\0DELETE FROM x\0\0\0")),
            (OUT, &message(b"E", b"SERROR\0Mnot allowed\0\0")),
        ],
        &["postgres:geheim true", "> SELECT 1", "< SELECT 1", "> DELETE FROM x", "< not allowed"],
    );
}

#[test]
fn endless_lines_take_no_memory() {
    for spoken in READ {
        let mut observer = observer(spoken, false, Asked::default()).unwrap();
        let mut told = Vec::new();
        for from in [IN, OUT] {
            for _ in 0..1000 {
                if observer.see(from, &[b'a'; 4096], &mut told).is_err() {
                    break;
                }
                told.clear();
            }
        }
        observer.end(&mut told);
        for entry in &told {
            let octets = postcard::to_stdvec(entry).unwrap().len();
            assert!(octets < 64 * 1024, "{spoken:?}: {octets}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_pieces_make_no_difference(
        which in 0..READ.len(),
        turns in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..64)), 0..8),
        piece in 1usize..20,
    ) {
        let turns: Vec<(Stream, &[u8])> =
            turns.iter().map(|(input, octets)| (if *input { IN } else { OUT }, octets.as_slice())).collect();
        prop_assert_eq!(told(READ[which], &turns, usize::MAX), told(READ[which], &turns, piece));
    }
}
