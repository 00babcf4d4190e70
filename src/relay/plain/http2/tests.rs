//! What is told of HTTP/2, however it is cut into pieces, and that nothing is too much.

use proptest::prelude::*;

use super::super::web::Web;
use super::*;
use crate::relay::tape::Credential;

const IN: Stream = Stream::Input;
const OUT: Stream = Stream::Output;
const NO_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields that are not kept in a table.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

/// A head, with all of it in one frame.
fn head(stream: u32, all: &[(&str, &str)]) -> Vec<u8> {
    frame(1, END, stream, &fields(all))
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    head(stream, &[(":method", "GET"), (":path", path), (":authority", "a")])
}

const END: u8 = 0x4;
/// `root:toor`
const LOGIN: (&str, &str) = ("authorization", "Basic cm9vdDp0b29y");

fn short(entry: &Entry) -> String {
    match entry {
        Entry::Http { method, path, host, agent, stream: Some(stream) } => {
            format!("{stream}: {method} {path} {host} {agent}")
        }
        Entry::Status { status, length, stream: Some(stream) } => format!("{stream}: {status} {length:?}"),
        Entry::Unasked { user, credential: Credential::Password { password } } => format!("{user}:{password} unasked"),
        Entry::Attempt { user, credential: Credential::Password { password }, accepted } => {
            format!("{user}:{password} {accepted}")
        }
        other => format!("{other:?}"),
    }
}

/// What is told of turns that come in such pieces, and why it was given up.
fn told<'a>(turns: impl IntoIterator<Item = (Stream, &'a [u8])>) -> (Vec<String>, Option<&'static str>) {
    let (mut web, mut entries) = (Web::new(Asked::default()), Vec::new());
    let end = turns.into_iter().try_for_each(|(from, octets)| web.see(from, octets, &mut entries)).err();
    if end.is_none() {
        web.end(&mut entries);
    }
    (entries.iter().map(short).collect(), end)
}

/// Turns behind the beginnings of both sides.
fn begun(turns: &[(Stream, Vec<u8>)]) -> Vec<(Stream, Vec<u8>)> {
    let beginning = [(IN, [PREFACE, NO_SETTINGS].concat()), (OUT, NO_SETTINGS.to_vec())];
    beginning.into_iter().chain(turns.iter().cloned()).collect()
}

#[track_caller]
fn check(turns: &[(Stream, Vec<u8>)], expected: &[&str], end: Option<&'static str>) {
    let expected = (expected.iter().map(ToString::to_string).collect::<Vec<_>>(), end);
    let turns = begun(turns);
    assert_eq!(told(turns.iter().map(|(from, octets)| (*from, &octets[..]))), expected);
    let octet_by_octet = turns.iter().flat_map(|(from, octets)| octets.chunks(1).map(|octet| (*from, octet)));
    assert_eq!(told(octet_by_octet), expected, "octet by octet");
    // In two pieces, wherever that is cut.
    for (nth, (_, octets)) in turns.iter().enumerate().filter(|(_, (_, octets))| octets.len() < 2000) {
        for at in 0..=octets.len() {
            let pieces = turns.iter().enumerate().flat_map(|(other, (from, octets))| {
                let (before, behind) = octets.split_at(if other == nth { at } else { 0 });
                [(*from, before), (*from, behind)]
            });
            assert_eq!(told(pieces), expected, "turn {nth} cut at {at}");
        }
    }
}

#[test]
fn requests_and_answers_of_many_streams() {
    let first = [(":method", "POST"), (":path", "/login/?x"), (":authority", "web"), ("user-agent", "curl/8"), LOGIN];
    check(
        &[
            (IN, [frame(8, 0, 0, &[0, 0, 1, 0]), head(1, &first), frame(0, 0, 1, b"user=")].concat()),
            (IN, [get(3, "/a"), frame(0, 1, 1, b"GET / HTTP/1.1\r\n\r\n"), get(5, "/b")].concat()),
            (OUT, [frame(4, 1, 0, b""), head(5, &[(":status", "200"), ("content-length", "5")])].concat()),
            (OUT, [frame(0, 1, 5, b"hello"), head(3, &[(":status", "103")]), head(1, &[(":status", "100")])].concat()),
            (OUT, [head(1, &[(":status", "401")]), head(3, &[(":status", "404")])].concat()),
            // Trailers of both.
            (IN, head(1, &[("x", "y")])),
            (OUT, [head(1, &[("grpc-status", "0")]), frame(6, 0, 0, &[0; 8]), frame(0xf0, 0xff, 7, b"?")].concat()),
            (IN, head(7, &[(":method", "CONNECT"), (":authority", "mail:25"), LOGIN])),
            (OUT, [frame(3, 0, 7, &[0; 4]), frame(7, 0, 0, &[0; 8])].concat()),
            (IN, head(9, &[(":method", "GET"), (":path", "/c"), ("host", "old"), LOGIN])),
            (OUT, head(9, &[(":status", "301")])),
            (IN, head(11, &[(":method", "GET"), (":path", "/d"), LOGIN])),
            // Below what was asked for.
            (IN, head(13, &[(":method", "GET"), (":path", "/login/x"), LOGIN])),
            (OUT, head(13, &[(":status", "200")])),
        ],
        &[
            "1: POST /login/?x web curl/8",
            "3: GET /a a ",
            "5: GET /b a ",
            "5: 200 Some(5)",
            "3: 103 None",
            "1: 100 None",
            "1: 401 None",
            "root:toor false",
            "3: 404 None",
            "7: CONNECT mail:25 mail:25 ",
            "root:toor unasked",
            "9: GET /c old ",
            "9: 301 None",
            "root:toor unasked",
            "11: GET /d  ",
            "13: GET /login/x  ",
            "13: 200 None",
            "root:toor true",
            "root:toor unasked",
        ],
        None,
    );
}

#[test]
fn heads_in_parts_with_padding_and_priority() {
    let all = fields(&[(":method", "GET"), (":path", "/long"), (":authority", "a")]);
    let (begin, rest) = all.split_at(7);
    let padded = [&[3, 0x80, 0, 0, 0, 255][..], begin, &[0; 3]].concat();
    let promise = [&[2, 0, 0, 0, 2][..], &fields(&[(":method", "GET"), (":path", "/pushed")]), &[0; 2]].concat();
    check(
        &[
            (IN, frame(1, 0x28, 1, &padded)),
            (IN, [frame(9, 0, 1, b""), frame(9, 0, 1, &rest[..4]), frame(9, END, 1, &rest[4..])].concat()),
            (OUT, [frame(5, END | 0x8, 1, &promise), head(2, &[(":status", "200")])].concat()),
            (OUT, head(1, &[(":status", "204")])),
        ],
        &["1: GET /long a ", "1: 204 None"],
        None,
    );
}

#[test]
fn tables_are_as_each_side_lets_the_other() {
    let kept = |name: &str, value: &str| [&b"\x40"[..], &fields(&[(name, value)])[1..]].concat();
    let request = [&b"\x82\x84"[..], &kept(":authority", "web"), &kept("user-agent", "x")].concat();
    let size = |octets: u32| [&[0, 1][..], &octets.to_be_bytes(), &[0, 3, 0, 0, 0, 9]].concat();
    // 8192, which the server allows.
    let larger = [&b"\x3f\xe1\x3f"[..], b"\x82\x84\xbf\xbe"].concat();
    check(
        &[
            (IN, frame(1, END, 1, &request)),
            (OUT, frame(4, 0, 0, &size(8192))),
            (IN, [frame(4, 1, 0, b""), frame(1, END, 3, &larger)].concat()),
            // That of answers is another one, and the client allows none.
            (OUT, frame(1, END, 1, b"\x88")),
            (IN, frame(4, 0, 0, &size(0))),
            (OUT, frame(1, END, 3, b"\x20\x8d")),
            (OUT, frame(1, END, 5, b"\xbe")),
        ],
        &["1: GET / web x", "3: GET / web x", "1: 200 None", "3: 404 None"],
        Some("a field that nobody has told"),
    );
    check(&[(IN, frame(1, END, 1, &larger))], &[], Some("a table of more octets than were agreed on"));
}

#[test]
fn what_is_no_http_2_is_given_up() {
    let end = |turns: &[(Stream, Vec<u8>)], end| check(turns, &[], Some(end));
    end(&[(IN, frame(1, 0, 1, b"")), (IN, get(3, "/"))], "a head that is not gone on with");
    end(&[(IN, frame(1, 0, 1, b"")), (IN, frame(0, 0, 1, b""))], "a head that is not gone on with");
    end(&[(IN, frame(1, 0, 1, b"")), (IN, frame(9, 0, 3, b""))], "the rest of no head");
    end(&[(OUT, frame(9, 0, 1, b""))], "the rest of no head");
    end(&[(IN, get(0, "/"))], "a head of no stream");
    end(&[(IN, frame(5, END, 1, &[0; 4]))], "a promise of a client's");
    end(&[(OUT, frame(5, END, 1, &[0; 3]))], "a frame that is cut");
    end(&[(IN, frame(1, END | 0x8, 1, b""))], "a frame that is cut");
    end(&[(IN, frame(1, END | 0x8, 1, &[2, 0]))], "a frame that is cut");
    end(&[(IN, frame(1, END | 0x20, 1, &[0; 4]))], "a frame that is cut");
    end(&[(IN, frame(1, END, 1, b"\xff"))], "a field that is cut");
    // A server that knows but HTTP/1, and a client that begins otherwise.
    let told_of = |turns: &[(Stream, &[u8])]| told(turns.iter().copied());
    let asked = [PREFACE, NO_SETTINGS, &get(1, "/")].concat();
    let refused = told_of(&[(IN, &asked), (OUT, b"HTTP/1.1 400 Bad Request\r\n\r\n")]);
    assert_eq!(refused, (vec!["1: GET / a ".to_owned()], Some("no HTTP/2")));
    assert_eq!(told_of(&[(IN, PREFACE), (IN, &get(1, "/"))]), (vec![], Some("no HTTP/2")));
    assert_eq!(told_of(&[(IN, PREFACE), (IN, &frame(4, 1, 0, b""))]), (vec![], Some("no HTTP/2")));
}

#[test]
fn which_version_it_is_the_first_octets_say() {
    let early = |turns: &[(Stream, &[u8])]| told(turns.iter().copied());
    // A server that does not wait.
    let settings = frame(4, 0, 0, &[0, 1, 0, 0, 0x20, 0]);
    let asked = [PREFACE, NO_SETTINGS, &frame(1, END, 1, b"\x3f\xe1\x3f\x82\x84")].concat();
    let (one, two) = (vec!["1: GET /  ".to_owned()], None);
    assert_eq!(early(&[(OUT, &settings), (IN, &asked)]), (one.clone(), two));
    assert_eq!(early(&[(IN, &asked[..5]), (OUT, &settings), (IN, &asked[5..])]), (one, two));
    // HTTP/1, as far as it looks alike.
    let (said, end) = early(&[(IN, b"P"), (IN, b"RI"), (IN, b" /x HTTP/1.1\r\nHost: a\r\n\r\n")]);
    assert!(said[0].contains("\"PRI\"") && said[0].contains("\"/x\"") && end.is_none(), "{said:?}");
    let (said, end) = early(&[(IN, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\nGET / HTTP/1.0\r\n\r\n")]);
    assert!(said[0].contains("\"PRI\"") && end == Some("no request"), "{said:?}");
    let (said, end) = early(&[(IN, b"P"), (OUT, b"HTTP/1.1 408 Timeout\r\n\r\n"), (IN, b"OST / HTTP/1.0\r\n\r\n")]);
    assert!(said[0].contains("408") && said[1].contains("\"POST\"") && end.is_none(), "{said:?}");
    assert_eq!(early(&[(IN, b"PRI"), (OUT, &[4; 20_000])]), (vec![], Some("an answer before it is known to what")));
    assert_eq!(early(&[(IN, b"PRI * HTTP/2.0\r\n\r\nSM"), (OUT, b"\0\0")]), (vec![], None));
}

#[test]
fn floods_take_no_memory() {
    // A head without an end, in many frames, in one, and of nothing.
    let flood = |flood: Vec<u8>| {
        let mut turns = begun(&[(IN, frame(1, 0, 1, b""))]);
        turns.push((IN, flood));
        told(turns.iter().map(|(from, octets)| (*from, &octets[..]))).1
    };
    let endless = "a head, or settings, without an end";
    assert_eq!(flood(frame(9, 0, 1, &[0x82; 1000]).repeat(65)), None);
    assert_eq!(flood(frame(9, 0, 1, &[0x82; 1000]).repeat(66)), Some(endless));
    assert_eq!(flood(frame(9, 0, 1, &[0x82; BLOCK + 1])), Some(endless));
    assert_eq!(flood(frame(9, 0, 1, b"").repeat(100_000)), None);
    let mut http = Http2::default();
    let mut entries = Vec::new();
    http.see(IN, NO_SETTINGS, &mut entries).unwrap();
    assert_eq!(http.see(IN, &[1, 0, 1, 4, 0, 0, 0, 0, 0], &mut entries), Err(endless));
    // Log-ins that nobody answers.
    let mut http = Http2::default();
    http.see(IN, NO_SETTINGS, &mut entries).unwrap();
    for stream in 0..1000 {
        http.see(IN, &head(2 * stream + 1, &[(":method", "GET"), LOGIN]), &mut entries).unwrap();
    }
    let attempts = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::Unasked { .. })).count();
    assert_eq!((http.logins.len(), attempts(&entries)), (LOGINS, 1000 - LOGINS));
    // Two in one stream are two.
    http.see(IN, &head(1, &[(":method", "GET"), LOGIN]), &mut entries).unwrap();
    http.end(&mut entries);
    assert_eq!(attempts(&entries), 1001);
}

#[test]
fn a_few_octets_do_not_become_many() {
    let mut http = Http2::default();
    let (mut entries, mut size, mut end) = (Vec::new(), 0, None);
    http.see(IN, NO_SETTINGS, &mut entries).unwrap();
    // A path of 3,712 octets, which one stands for from then on; none of them is printed as it is.
    let block = [&b"\x82\x44\x7f\x81\x1c"[..], &[1; 3712]].concat();
    http.see(IN, &frame(1, END, 1, &block), &mut entries).unwrap();
    for stream in 1..10_000 {
        entries.clear();
        end = http.see(IN, &frame(1, END, 2 * stream + 1, b"\x82\xbe"), &mut entries).err();
        if end.is_some() {
            break;
        }
        let [Entry::Http { path, .. }] = &entries[..] else { panic!("{entries:?}") };
        size += path.as_str().len();
    }
    assert_eq!(end, Some("far more than came"));
    assert!((FIRST as usize..3 * FIRST as usize).contains(&size), "{size}");
    // What is asked for again and again is not that.
    let mut http = Http2::default();
    http.see(IN, NO_SETTINGS, &mut entries).unwrap();
    let block = [&b"\x82\x44\x28"[..], &[b'/'; 40], b"\x7a\x20", &[b'm'; 32]].concat();
    http.see(IN, &frame(1, END, 1, &block), &mut entries).unwrap();
    for stream in 1..100_000 {
        entries.clear();
        http.see(IN, &frame(1, END, 2 * stream + 1, b"\x82\xbf\xbe"), &mut entries).unwrap();
    }
    assert_eq!(short(&entries[0]), format!("199999: GET {}  {}", "/".repeat(40), "m".repeat(32)));
}

proptest! {
    #[test]
    fn whatever_comes_is_no_harm(
        turns in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0u8..11, any::<u8>(), 0u32..4, prop::collection::vec(any::<u8>(), 0..30)), 0..6)),
            0..6,
        ),
        piece in 1usize..20,
    ) {
        let turns: Vec<_> = turns.iter().map(|(input, frames)| {
            let all = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload));
            (if *input { IN } else { OUT }, all.collect::<Vec<u8>>())
        }).collect();
        let turns = begun(&turns);
        let whole = told(turns.iter().map(|(from, octets)| (*from, &octets[..])));
        let pieces = turns.iter().flat_map(|(from, octets)| octets.chunks(piece).map(|part| (*from, part)));
        prop_assert_eq!(whole, told(pieces));
    }
}

/// A request that asks to go on with HTTP/2, with settings that allow a table of 8192 octets, and a server that agrees.
const ASK: &[u8] =
    b"POST /up HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDp0b29y\r\nConnection: Upgrade, HTTP2-Settings\r\n\
    Upgrade: foo, h2c\r\nHTTP2-Settings: AAEAACAAAAMAAABk\r\nContent-Length: 2\r\n\r\nok";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

#[test]
fn what_was_http_1_goes_on() {
    // A table that only those settings allow.
    let answer = [&b"\x3f\xe1\x3f"[..], &fields(&[(":status", "401")])].concat();
    let answered = [AGREE, NO_SETTINGS, &frame(1, END, 1, &answer)].concat();
    let begun = [PREFACE, NO_SETTINGS, &get(3, "/b")].concat();
    let last = head(3, &[(":status", "200")]);
    let expected = [
        "Http { method: Text(\"POST\"), path: Text(\"/up\"), host: Text(\"a\"), agent: Text(\"\"), stream: None }",
        "Status { status: 101, length: None, stream: None }",
    ];
    for (turns, rest) in [
        // One that waits, and one that does not.
        (
            vec![(IN, ASK), (OUT, &answered), (IN, &begun), (OUT, &last)],
            ["1: 401 None", "root:toor false", "3: GET /b a ", "3: 200 None"],
        ),
        (
            vec![(IN, ASK), (IN, &begun), (OUT, &answered), (OUT, &last)],
            ["3: GET /b a ", "1: 401 None", "root:toor false", "3: 200 None"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().chain(&rest).map(ToString::to_string).collect();
        assert_eq!(told(turns.iter().copied()), (expected.clone(), None));
        let octet_by_octet = turns.iter().flat_map(|(from, octets)| octets.chunks(1).map(|octet| (*from, octet)));
        assert_eq!(told(octet_by_octet), (expected, None));
    }
    // Neither.
    let (seen, end) = told([(IN, ASK), (OUT, AGREE), (IN, &b"GET / HTTP/1.1\r\n\r\n"[..])]);
    assert_eq!((seen.len(), end), (2, Some("no HTTP/2")));
}

#[test]
fn who_asks_for_http_2_and_does_not_wait_is_read_all_the_same() {
    let more = b"GET /hidden HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
    let hidden = |seen: &[String]| seen.iter().filter(|entry| entry.contains("/hidden")).count();
    // No answer; one that refuses; another protocol; more than anybody says who waits.
    assert_eq!(hidden(&told([(IN, ASK), (IN, &more[..])]).0), 1);
    let refused = b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(hidden(&told([(IN, ASK), (IN, &more[..]), (OUT, &refused[..])]).0), 1);
    let other = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let (seen, end) = told([(IN, ASK), (OUT, &other[..]), (OUT, NO_SETTINGS), (IN, &more[..])]);
    assert_eq!((hidden(&seen), end), (0, None), "{seen:?}");
    let many = more.repeat(20_000);
    let (seen, end) = told([(IN, ASK), (IN, &many[..])]);
    assert_eq!((hidden(&seen), end), (20_000, None));
}
