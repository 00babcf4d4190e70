//! Connections in the clear, from who is in the middle to what is kept.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::relay::plain::{Settings, serve};
use crate::relay::tape::Recorder;
use crate::service::Spoken;

const MEGABYTE: usize = 1_000_000;

/// What is told of a connection in which both sides say something, and hear it.
fn told(spoken: Spoken, keep: u64, said: [&[u8]; 2]) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 1));
    runtime.block_on(async {
        let (attacker, outside) = tokio::io::duplex(1 << 16);
        let (server, inside) = tokio::io::duplex(1 << 16);
        let settings = Settings { spoken, within: false, keep, asked: Default::default() };
        let served = serve(settings, outside, move || std::future::ready(Ok(inside)), recorder);
        let talk = async |mut end: DuplexStream, says: &[u8], hears: &[u8]| {
            let (mut reading, mut writing) = tokio::io::split(&mut end);
            let mut heard = Vec::new();
            let speaking = async {
                writing.write_all(says).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            tokio::join!(speaking, async { reading.read_to_end(&mut heard).await.unwrap() });
            assert!(heard == hears, "{} octets of {}", heard.len(), hears.len());
        };
        tokio::join!(served, talk(attacker, said[0], said[1]), talk(server, said[1], said[0]));
    });
    let told = std::mem::take(&mut *tape.lock().unwrap());
    told.into_iter().map(|(_, entry)| entry).collect()
}

/// Has it recorded.
fn recorded(spoken: Spoken, told: Vec<Entry>, redacts: bool) -> Lab {
    let limits = TapeLimits::default();
    let limits = if redacts { TapeLimits { stream: 0, plain: 0, ..limits } } else { limits };
    let mut lab = Lab::with(limits, redacts);
    lab.tapes.take(7, Word::Begin(begin(spoken)), utc(0));
    told.into_iter().for_each(|entry| lab.put(7, 2, entry));
    lab
}

pub(super) fn begin(spoken: Spoken) -> Begin {
    Begin {
        protocol: Protocol::Plain(spoken),
        session: SESSION,
        node: NodeIdx(1),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:9000".parse().unwrap(),
        at: utc(0),
    }
}

/// What is kept of each direction, and the last line.
fn kept(lab: &Lab) -> ([Vec<u8>; 2], Value) {
    let mut kept = [Vec::new(), Vec::new()];
    let mut lines = lines(&lab.file(".octets"));
    for line in &lines {
        if let Some(data) = line["data"].as_str() {
            kept[usize::from(line["stream"] != "input")].extend(crate::record::base64::decode(data).unwrap());
        }
    }
    (kept, lines.pop().unwrap())
}

fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|n| (n ^ (n >> 8) ^ (n >> 15)) as u8).collect()
}

#[test]
fn of_each_direction_there_is_what_the_topology_says() {
    let (input, output) = (noise(3 * MEGABYTE), noise(3 * MEGABYTE + 7));
    for keep in [4 << 20, 1 << 20] {
        let told = told(Spoken::Raw, keep, [&input, &output]);
        let lab = recorded(Spoken::Raw, told, false);
        let (there, last) = kept(&lab);
        let most = usize::try_from(keep).unwrap();
        assert!(there[0] == input[..most.min(input.len())], "{keep}: {}", there[0].len());
        assert!(there[1] == output[..most.min(output.len())], "{keep}: {}", there[1].len());
        // The rest is counted.
        let more = [&input, &output].map(|said| said.len().saturating_sub(most));
        assert_eq!(last["more"], json!({"input": more[0], "output": more[1], "error": 0}));
        let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
        assert_eq!((&total["input"], &total["output"]), (&json!(input.len()), &json!(output.len())));
        assert_eq!(total["lost"], more[0] + more[1]);
        assert_eq!(connection(&lab.file(TAPE)).unwrap().lost, (more[0] + more[1]) as u64);
    }
}

#[test]
fn small_pieces_do_not_fill_the_disk() {
    let mut lab = recorded(Spoken::Raw, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
    for _ in 0..200_000 {
        lab.put(7, 2, data(0, Stream::Input, b"x"));
    }
    // What comes in large ones then has room again.
    for _ in 0..100 {
        lab.put(7, 2, data(0, Stream::Output, &[0xff; 16 << 10]));
    }
    lab.end(7, 3);
    let length = fs::metadata(lab.file(".octets")).unwrap().len();
    let ([input, output], last) = kept(&lab);
    assert!(length < 6 << 20, "{length}");
    assert_eq!(input.len() as u64 + last["more"]["input"].as_u64().unwrap(), 200_000);
    assert_eq!(output.len() as u64 + last["more"]["output"].as_u64().unwrap(), 100 << 14);
    assert!(
        (30_000..60_000).contains(&input.len()) && output.len() == 100 << 14,
        "{} and {}",
        input.len(),
        output.len()
    );
}

#[test]
fn nothing_that_is_said_to_be_missing_is_too_much() {
    let mut lab = recorded(Spoken::Raw, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
    for channel in [0, 0, 9] {
        lab.put(7, 2, Entry::Beyond { channel, stream: Stream::Output, octets: u64::MAX });
    }
    lab.put(7, 2, data(9, Stream::Input, b"of nobody"));
    lab.end(7, 3);
    let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
    assert_eq!((&total["lost"], &total["output"]), (&json!(u64::MAX), &json!(u64::MAX)));
}

/// Options that a client agrees to, with its terminal's size and type, and what is typed then.
const TYPED: &[u8] =
    b"\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0\xff\xfa\x18\x00XTERM\xff\xf0root\r\0toor\r\0id\r\0";
const SHOWN: &[u8] = b"\xff\xfd\x1f\xff\xfd\x18\xff\xfb\x01login: Password: # ";

#[test]
fn a_telnet_client_that_was_let_in_has_a_shell_until_the_connection_ends() {
    for accepted in [true, false] {
        let mut lab = recorded(Spoken::Telnet, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
        lab.put(7, 3, Entry::Pty { channel: 0, term: text("XTERM"), columns: 80, rows: 24 });
        lab.put(7, 3, Entry::Shell { channel: 0 });
        lab.put(7, 4, data(0, Stream::Output, b"login: "));
        lab.put(7, 5, attempt("root", "toor", accepted));
        lab.put(7, 6, data(0, Stream::Input, b"id\r"));
        lab.put(7, 7, data(0, Stream::Output, b"uid=0"));
        lab.end(7, 9);
        let exits: Vec<_> = lab.told.iter().filter(|notice| notice.event.id == EventId::TelnetExit).collect();
        if !accepted {
            assert_eq!((lab.told(EventId::TelnetShell).len(), exits.len()), (0, 0));
            continue;
        }
        assert_eq!(lab.told(EventId::TelnetShell), [json!({"kind": "shell", "term": "XTERM", "size": "80x24"})]);
        assert_eq!(
            exits.iter().map(|it| (it.event.bytes_in, it.event.bytes_out, it.event.count)).collect::<Vec<_>>(),
            [(3, 5, 4)]
        );
        let told = lab.told(EventId::TelnetExit).remove(0);
        let digest = crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, b"id\r").as_ref());
        assert_eq!(told["sha256"], digest);
        assert_eq!(told["transcript"], lab.file(".cast").file_name().unwrap().to_str().unwrap());
    }
}

#[test]
fn of_telnet_there_is_what_came_beside_what_it_says() {
    for redacts in [false, true] {
        let told = told(Spoken::Telnet, 1 << 20, [TYPED, SHOWN]);
        let lab = recorded(Spoken::Telnet, told, redacts);
        let cast = fs::read_to_string(lab.file(".cast")).unwrap();
        assert!(cast.contains("login: ") && !cast.contains("XTERM\\"), "{cast}");
        let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
        assert_eq!((&total["input"], &total["lost"]), (&json!(b"root\rtoor\rid\r".len()), &json!(0)), "{total}");
        if redacts {
            assert!(!lab.files(SESSION).keys().any(|name| name.ends_with(".octets")), "{:?}", lab.files(SESSION));
            continue;
        }
        let (there, last) = kept(&lab);
        assert_eq!(there, [TYPED, SHOWN]);
        assert_eq!(last["more"], json!({"input": 0, "output": 0, "error": 0}));
    }
    // Beyond `keep` the transcript goes on.
    let lab = recorded(Spoken::Telnet, told(Spoken::Telnet, 8, [TYPED, SHOWN]), false);
    let (there, last) = kept(&lab);
    assert_eq!(there, [&TYPED[..8], &SHOWN[..8]]);
    assert_eq!(last["more"], json!({"input": TYPED.len() - 8, "output": SHOWN.len() - 8, "error": 0}));
    assert!(fs::read_to_string(lab.file(".cast")).unwrap().contains("Password: "));
    assert_eq!(lines(&lab.file(TAPE)).pop().unwrap()["total"]["lost"], 0);
}

/// A log-in by HTTP/2 (`root:hunter2`) with a form, and how it is answered. The fields stand in the code of RFC 7541.
const ASKED: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x24\x01\x04\0\0\0\x01\x83\x44\x8d\x62\x83\xcc\x6a\xbf\xca\xfc\x41\x3d\xb5\x24\xb6\x0b\
    \x57\x91\xba\x34\x18\x8a\x12\x97\xfb\xc9\x7e\xb3\xc9\xc9\xb0\x7e\xfe\x64\xf5\x86\
    \0\0\x0a\0\x01\0\0\0\x01pw=hunter2";
const ANSWERED: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88";

#[test]
fn of_http_2_nothing_that_lets_somebody_in_is_kept() {
    for redacts in [false, true] {
        let turns = [(Stream::Input, ASKED), (Stream::Output, ANSWERED)];
        let mut lab = recorded(Spoken::Http, super::strangers::told(Spoken::Http, &turns), redacts);
        lab.end(7, 3);
        let [login] = &lab.told(EventId::ServiceLogin)[..] else { panic!("{:?}", lab.told) };
        let password = if redacts { "(7 characters)" } else { "hunter2" };
        assert_eq!(
            (&login["user"], &login["password"], &login["accepted"]),
            (&json!("root"), &json!(password), &Value::Null)
        );
        let requests: Vec<_> = lab.told.iter().filter(|notice| notice.event.id == EventId::ServiceRequest).collect();
        let path = if redacts { "/login?(10 characters)" } else { "/login?pw=hunter2" };
        assert_eq!(String::from_utf8_lossy(&requests[0].data), format!("POST {path} host= agent="));
        assert_eq!(requests.len(), 1);
        if !redacts {
            assert_eq!(kept(&lab).0, [ASKED, ANSWERED]);
            continue;
        }
        let files = lab.files(SESSION);
        assert!(!files.is_empty() && !files.keys().any(|name| name.ends_with(".octets")), "{files:?}");
        for path in files.values() {
            let there = fs::read_to_string(path).unwrap();
            assert!(!there.contains("hunter2") && !there.contains("\"data\""), "{there}");
        }
    }
}

#[test]
fn it_goes_on_beyond_a_death() {
    // In the midst of the options, and of the terminal.
    for shell in [false, true] {
        let (before, after) = TYPED.split_at(5);
        let raw =
            |data: &'static [u8]| Entry::Raw { channel: 0, stream: Stream::Input, data: Bytes::from_static(data) };
        let mut lab = recorded(Spoken::Telnet, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
        let begin_shell = |lab: &mut Lab| {
            lab.put(7, 2, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
            lab.put(7, 2, Entry::Shell { channel: 0 });
            lab.put(7, 2, data(0, Stream::Input, b"root"));
        };
        lab.put(7, 2, raw(before));
        if shell {
            begin_shell(&mut lab);
        }
        lab.tend();
        let mut lab = lab.die_and(TapeLimits::default(), false);
        lab.put(7, 3, raw(after));
        if !shell {
            begin_shell(&mut lab);
        }
        lab.put(7, 4, data(0, Stream::Input, b"\r"));
        lab.put(7, 5, Entry::Closed { channel: 0 });
        lab.end(7, 6);
        let (there, last) = kept(&lab);
        assert_eq!(there[0], TYPED);
        assert_eq!(last["more"]["input"], 0);
        let cast = moments(&lab.file(".cast"));
        assert!(cast.iter().any(|moment| moment.what == What::Input("\r".into())), "{cast:?}");
        assert_eq!(lab.tapes.stats().failing, None);
        assert!(lab.failures().iter().all(|why| !why.starts_with("limit")), "{:?}", lab.failures());
    }
}
