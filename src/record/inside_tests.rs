use super::*;
use crate::event::SessionId;

fn lessee() -> Lessee {
    Lessee::of(3, "10.0.0.5", 7)
}

fn happened(kind: Kind) -> Happened<'static> {
    Happened {
        cgroup: 1,
        at: 5 * SECOND,
        kind,
        uid: 1_000_033,
        process: 4000,
        pid: 40,
        parent: 39,
        number: u32::MAX,
        name: b"sh",
        origin: None,
        flags: 0,
        made: 0,
        result: 0,
        path: b"",
        is_cut: false,
        rest: b"",
        names: b"",
    }
}

fn told(telling: &mut Telling, happened: Happened<'_>) -> Option<(Event, Value)> {
    let said = telling.tell(&happened, &lessee())?;
    assert!(said.data.len() <= MAX_DATA && said.data.iter().all(|octet| matches!(octet, b' '..=b'~')), "{said:?}");
    let object: Value = serde_json::from_slice(&said.data).unwrap();
    assert_eq!(crate::record::details::complaint(said.event.id, &object), None);
    Some((said.event, object))
}

#[test]
fn a_program_is_told_with_who_began_it() {
    let mut telling = Telling::default();
    let program = Happened {
        path: b"/tmp/x\x1b[2J\xff",
        rest: b"x\0-c\0a\nb\0",
        number: 3,
        origin: Some("192.0.2.9:40000".parse().unwrap()),
        ..happened(Kind::Execute)
    };
    let (event, object) = told(&mut telling, program).unwrap();
    let wanted =
        json!({"path": "/tmp/x\\x1b[2J\\xff", "args": ["x", "-c", "a\\x0ab"], "uid": 33, "pid": 40, "parent": 39});
    assert_eq!(object, wanted);
    assert_eq!((event.id, event.session, event.node), (EventId::ContainerExec, SessionId(7), 3));
    assert_eq!((event.src.ip.get(), event.src.l4_port), ("192.0.2.9".parse().ok(), 40000));
    assert_eq!((event.dst.ip.get(), event.at), ("10.0.0.5".parse().ok(), Instant::from_micros(5 * SECOND)));
    // As many arguments as there is room for, and how many there were.
    let rest = "word\0".repeat(205);
    let long = Happened { rest: rest.as_bytes(), number: 4000, ..program };
    let (_, object) = told(&mut telling, long).unwrap();
    assert_eq!((&object["args_cut"], &object["args_count"]), (&true.into(), &4000.into()));
    let id = |happened| told(&mut Telling::default(), happened).map(|(_, object)| object);
    let code = Happened { flags: 1 << 29 | 3, ..happened(Kind::Exit) };
    assert_eq!(id(code), Some(json!({"code": 3, "name": "sh", "uid": 33, "pid": 40, "parent": 39})));
    assert_eq!(
        id(Happened { pid: 0, parent: 0, ..happened(Kind::Exit) }),
        Some(json!({"killed": true, "name": "sh", "uid": 33}))
    );
}

#[test]
fn what_a_program_has_fetched_its_end_tells() {
    let mut telling = Telling::default();
    let program = |rest| Happened { path: b"/usr/bin/wget", rest, number: 4, ..happened(Kind::Execute) };
    let open = |path, flags| Happened { path, flags, ..happened(Kind::Open) };
    let end = Happened { flags: 1 << 29, ..happened(Kind::Exit) };
    let fetched = |telling: &mut Telling, end| {
        let (_, object) = told(telling, end).unwrap();
        (object["urls"].clone(), object["to"].clone())
    };
    told(&mut telling, program(b"wget\0-O\0x\0http://a/\x1b\0"));
    told(&mut telling, open(b"/root/.wget-hsts", O_RDWR | O_CREAT));
    told(&mut telling, open(b"log", O_WRONLY));
    assert_eq!(told(&mut telling, open(b"/dev/null", O_WRONLY | O_CREAT)), None);
    told(&mut telling, Happened { process: 4001, ..open(b"other", O_WRONLY | O_CREAT) });
    told(&mut telling, open(b"x", O_WRONLY | O_CREAT | O_TRUNC));
    told(&mut telling, open(b"y", O_WRONLY | O_CREAT | O_TRUNC));
    assert_eq!(fetched(&mut telling, Happened { cgroup: 2, ..end }), (Value::Null, Value::Null));
    assert_eq!(fetched(&mut telling, end), (json!(["http://a/\\x1b"]), "x".into()));
    assert_eq!(fetched(&mut telling, end), (Value::Null, Value::Null), "it was told");
    // Where it was put, as far as that is known.
    for (path, names, to) in [
        (&b"./x"[..], &b"b\0a\0\0"[..], "/a/b/x"),
        (b"../x", b"\0", "/../x"),
        (b"/x", b"a\0\0", "/x"),
        (b"x", b"a\0", "x"),
    ] {
        told(&mut telling, program(b"wget\0-O\0x\0a\0"));
        let (_, object) = told(&mut telling, Happened { names, ..open(path, O_CREAT) }).unwrap();
        assert_eq!(object.get("dir").is_some(), names.ends_with(b"\0\0") || names.len() == 1, "{object}");
        assert_eq!(fetched(&mut telling, end).1, to);
    }
    // The same process runs another program.
    told(&mut telling, program(b"wget\0-O\0x\0a\0"));
    told(&mut telling, Happened { path: b"/bin/sh", rest: b"sh\0", number: 1, ..happened(Kind::Execute) });
    assert_eq!(fetched(&mut telling, end), (Value::Null, Value::Null));
    // Of those that never end not more than so many are remembered.
    for process in 0..3 * FETCHES as u32 {
        telling.tell(&Happened { process, ..program(b"wget\0-O\0x\0a\0") }, &lessee());
        assert!(telling.fetches.len() <= FETCHES);
    }
}

/// The address and port are what the host's own connection says: of whoever that is not, the session is not.
#[test]
fn what_somebody_else_has_begun_is_of_no_session() {
    let session = |origin: &str, of: &Lessee| {
        let origin = Some(origin.parse().unwrap());
        let said = Telling::default().tell(&Happened { origin, ..happened(Kind::Execute) }, of).unwrap();
        assert_eq!(said.event.src.ip.get().zip(Some(said.event.src.l4_port)), origin.map(|end| (end.ip(), end.port())));
        (said.event.session, said.event.node, said.event.dst.ip.get())
    };
    let host = "10.0.0.5".parse().ok();
    for (origin, of, wanted) in [
        ("192.0.2.9:40000", lessee(), 7),
        ("192.0.2.9:1", lessee(), 7),
        // Another one's, by whatever address, that of this host included.
        ("192.0.2.8:40000", lessee(), 0),
        ("10.0.0.5:40000", lessee(), 0),
        ("[2001:db8::9]:40000", lessee(), 0),
        // Nobody's container: it came to life by itself.
        ("192.0.2.9:40000", Lessee::of(3, "10.0.0.5", 0), 0),
        // Whose session that was is not known any more.
        ("192.0.2.9:40000", Lessee { attacker: None, ..lessee() }, 0),
    ] {
        assert_eq!(session(origin, &of), (SessionId(wanted), 3, host), "{origin}");
    }
    // What nobody's connection has begun is of whoever the container is for.
    let alone = Telling::default().tell(&happened(Kind::Execute), &lessee()).unwrap();
    assert_eq!((alone.event.session, alone.event.src), (SessionId(7), Party::default()));
}

#[test]
fn files_are_told_by_their_names() {
    let mut telling = Telling::default();
    let mut file = |happened| {
        told(&mut telling, happened).map(|(event, mut object)| {
            assert_eq!(event.id, EventId::ContainerFile);
            ["name", "uid", "pid", "parent"].iter().for_each(|key| drop(object.as_object_mut().unwrap().remove(*key)));
            object
        })
    };
    let open = Happened { path: b"/root/.ssh/x", flags: O_WRONLY | O_CREAT, result: 3, ..happened(Kind::Open) };
    assert_eq!(file(open), Some(json!({"did": "open", "path": "/root/.ssh/x", "flags": ["write", "create"]})));
    let mode = Happened { number: 3, flags: 0o755, ..happened(Kind::Mode) };
    assert_eq!(file(mode), Some(json!({"did": "executable", "path": "/root/.ssh/x", "mode": "0755"})));
    let other = Happened { process: 4001, ..mode };
    assert_eq!(file(other), Some(json!({"did": "executable", "mode": "0755"})));
    let two = Happened { path: b"a", rest: b"b\0", ..happened(Kind::Rename) };
    assert_eq!(file(two), Some(json!({"did": "rename", "path": "a", "to": "b"})));
    assert_eq!(file(Happened { kind: Kind::Symlink, ..two }), Some(json!({"did": "symlink", "path": "b", "to": "a"})));
    // Whatever was asked for: what it has become.
    let copied = Happened { path: b"x", flags: O_WRONLY | O_CREAT, made: 0o100_750, ..happened(Kind::Open) };
    let wanted = json!({"did": "open", "path": "x", "flags": ["write", "create"], "mode": "0750"});
    assert_eq!(file(copied), Some(wanted));
    let nameless = Happened { path: b".", flags: O_RDWR | O_TMPFILE, ..copied };
    let wanted = json!({"did": "open", "path": ".", "flags": ["write", "tmpfile"], "mode": "0750"});
    assert_eq!(file(nameless), Some(wanted));
    let directory = Happened { path: b"d", flags: 0o1777, made: 0o022, ..happened(Kind::Directory) };
    assert_eq!(file(directory), Some(json!({"did": "mkdir", "path": "d", "mode": "1755"})));
    let disk = Happened { path: b"sda", flags: 0o060_660 | 0x800 << 32, made: 0o022, ..happened(Kind::Node) };
    let wanted = json!({"did": "mknod", "path": "sda", "kind": "block", "device": "8:0", "mode": "0640"});
    assert_eq!(file(disk), Some(wanted));
    let pipe = Happened { path: b"p", flags: 0o010_666, ..happened(Kind::Node) };
    assert_eq!(file(pipe), Some(json!({"did": "mknod", "path": "p", "kind": "fifo", "mode": "0666"})));
    for path in [&b"/dev/null"[..], b"/dev/urandom", b"/dev/pts/7", b"/dev/stderr", b"/dev/fd/2"] {
        assert_eq!(file(Happened { path, ..open }), None);
    }
    // A disk, a memory, and what is called like a device that no container has.
    for path in [&b"/dev/sda"[..], b"/dev/mem", b"/dev/tty99", b"/dev/pts/", b"/dev/pts/7x", b"/dev/fd/../x"] {
        assert!(file(Happened { path, ..open }).is_some());
    }
    assert_eq!(
        file(Happened { path: b"p", is_cut: true, ..happened(Kind::Delete) }),
        Some(json!({"did": "delete", "path": "p…"}))
    );
    for number in 0..2 * FILES as u64 {
        let _ = telling.tell(&Happened { result: number, ..open }, &lessee());
    }
    assert!(telling.files.len() <= FILES && telling.order.len() <= FILES);
}

#[test]
fn ports_and_sockets_are_told_with_their_protocol() {
    let mut telling = Telling::default();
    let mut socket = |happened| {
        told(&mut telling, happened).map(|(event, mut object)| {
            ["name", "uid", "pid", "parent"].iter().for_each(|key| drop(object.as_object_mut().unwrap().remove(*key)));
            (event.id, object)
        })
    };
    let number = |protocol: u16| {
        let [one, other] = protocol.to_ne_bytes();
        u32::from_ne_bytes([10, 0, one, other])
    };
    let port = Happened { path: &[0; 16], number: number(17), flags: 4444, ..happened(Kind::Bind) };
    let object = |protocol| json!({"ip": "::", "port": 4444, "protocol": protocol});
    assert_eq!(socket(port), Some((EventId::ContainerListen, object("udp"))));
    let tcp = Happened { kind: Kind::Listen, number: number(6), ..port };
    assert_eq!(socket(tcp), Some((EventId::ContainerListen, object("tcp"))));
    let begun = Happened { kind: Kind::Connect, number: number(132), flags: 4444 << 16, ..port };
    assert_eq!(socket(begun), Some((EventId::ContainerConnect, object("sctp"))));
    let raw = Happened { flags: 17 | u64::from(3u16.to_be()) << 32, ..happened(Kind::Raw) };
    assert_eq!(socket(raw), Some((EventId::ContainerRaw, json!({"family": "packet", "protocol": "all"}))));
}

#[test]
fn what_is_too_much_is_counted_and_programs_go_on() {
    let mut telling = Telling::default();
    let file = Happened { path: b"f", ..happened(Kind::Delete) };
    for _ in 0..AT_ONCE {
        assert!(telling.tell(&file, &lessee()).is_some());
    }
    for _ in 0..50 {
        assert!(telling.tell(&file, &lessee()).is_none());
    }
    let program = happened(Kind::Execute);
    assert!(telling.tell(&program, &lessee()).is_some());
    // Another container's are not less for it.
    assert!(telling.tell(&Happened { cgroup: 2, ..file }, &lessee()).is_some());
    assert!(telling.untold(file.at + SECOND - 1).is_empty() && telling.has_untold());
    telling.forget(1);
    let untold = telling.untold(file.at + SECOND);
    assert_eq!((untold.len(), untold[0].event.count, untold[0].event.id), (1, 50, EventId::ContainerUntold));
    assert!(!telling.has_untold() && telling.untold(i64::MAX).is_empty());
    // A second later there is a little room again.
    let later = Happened { at: file.at + SECOND, ..file };
    let again = (0..100).filter(|_| telling.tell(&later, &lessee()).is_some()).count();
    assert_eq!(again as u64, A_SECOND);
    telling.untold(i64::MAX);
    telling.forget(1);
    assert!(telling.tell(&later, &lessee()).is_some());
}
