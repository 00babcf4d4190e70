use super::*;
use crate::service::Spoken;

#[test]
fn what_is_typed_into_a_shell_is_told_line_by_line() {
    let mut lab = Lab::with(TapeLimits { events: 3, ..TapeLimits::default() }, false);
    lab.begin(7, SESSION);
    // A shell, a command with a terminal, one without, and a subsystem.
    for channel in 0..4 {
        lab.put(7, 1, opened(channel));
    }
    lab.put(7, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
    lab.put(7, 1, Entry::Shell { channel: 0 });
    lab.put(7, 1, Entry::Pty { channel: 1, term: text("xterm"), columns: 80, rows: 24 });
    lab.put(7, 1, Entry::Exec { channel: 1, command: Text::command("sh") });
    lab.put(7, 1, Entry::Exec { channel: 2, command: Text::command("cat >x") });
    lab.put(7, 1, Entry::Subsystem { channel: 3, name: text("sftp") });
    for (channel, typed) in
        [(0, &b"whoa"[..]), (2, b"data\n"), (3, b"more\n"), (0, b"\x7fmi \xc3"), (0, b"\xa9\x1b[2J\r\r\n")]
    {
        lab.put(7, 2, data(channel, Stream::Input, typed));
    }
    lab.put(7, 3, data(0, Stream::Output, b"root\r\n"));
    lab.put(7, 4, data(1, Stream::Input, b"id\rpwd\r"));
    assert_eq!(lab.told(EventId::ShellCommand), ["whomi é", "id", "pwd"].map(|command| json!({"command": command})));
    lab.put(7, 5, data(1, Stream::Input, b"one too many\r"));
    lab.put(7, 6, Entry::Closed { channel: 1 });
    lab.end(7, 6);
    assert_eq!(lab.told(EventId::ShellCommand).len(), 3);
    // Of four that ran one, too.
    let exits = lab.told(EventId::SshExit);
    assert_eq!((exits.len(), &exits[0]["kind"], &exits[0]["command"]), (3, &json!("command"), &json!("sh")));
    assert_eq!(lab.told(EventId::SshClose)[0]["untold"], 2);
}

/// `ssh host <script`, and what is sent after it.
#[test]
fn what_a_shell_without_a_terminal_reads_is_told_as_far_as_it_is_text() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Shell { channel: 0 });
    for part in [&b"una"[..], b"me -a\n\x7fELF\x02\x00\n", b"\xff\xfe\nid\n", b"cat /etc/pass\x7fwd\nexit"] {
        lab.put(7, 2, data(0, Stream::Input, part));
    }
    assert_eq!(lab.told(EventId::ShellCommand), ["uname -a", "id"].map(|command| json!({"command": command})));
    lab.put(7, 6, Entry::Closed { channel: 0 });
    lab.end(7, 6);
    // The last line has no end, and is run.
    assert_eq!(lab.told(EventId::ShellCommand)[2], json!({"command": "exit"}));
    let exit = &lab.told(EventId::SshExit)[0];
    assert_eq!((&exit["kind"], &exit["no_text"]), (&json!("shell"), &json!(3)), "{exit}");
    let at = |id| lab.told.iter().rposition(|notice| notice.event.id == id).unwrap();
    assert!(at(EventId::ShellCommand) < at(EventId::SshExit));
}

#[test]
fn what_is_sent_ahead_of_a_shell_takes_no_transcript_from_it() {
    for stream in [TapeLimits::default().stream, 0] {
        let mut lab = Lab::with(TapeLimits { stream, ..TapeLimits::default() }, false);
        lab.begin(7, SESSION);
        lab.put(7, 1, opened(0));
        lab.put(7, 2, data(0, Stream::Input, b"\n"));
        lab.put(7, 3, Entry::Pty { channel: 0, term: text("xterm"), columns: 132, rows: 24 });
        lab.put(7, 4, Entry::Shell { channel: 0 });
        lab.put(7, 5, data(0, Stream::Input, b"id\r"));
        lab.put(7, 6, data(0, Stream::Output, b"uid=0"));
        lab.put(7, 7, opened(1));
        lab.put(7, 7, data(1, Stream::Input, b"x"));
        lab.put(7, 8, Entry::Exec { channel: 1, command: Text::command("sh") });
        lab.put(7, 9, data(1, Stream::Output, b"# "));
        lab.end(7, 10);
        let shown: Vec<What> = moments(&lab.file("0000-0001.cast")).into_iter().map(|moment| moment.what).collect();
        assert_eq!(shown, [What::Input("id\r".into()), What::Output("uid=0".into())]);
        let cast = Cast::open(BufReader::new(fs::File::open(lab.file("0001-0001.cast")).unwrap())).unwrap();
        assert_eq!(cast.header().command.as_deref(), Some("sh"));
        // With credentials left out there is nothing of what came before.
        let before = lab.files(SESSION).into_keys().filter(|name| name.ends_with(".octets")).count();
        assert_eq!(before, if stream == 0 { 0 } else { 2 });
        let lost = if stream == 0 { json!(2) } else { Value::Null };
        assert_eq!(lab.told(EventId::SshClose)[0]["lost"], lost);
    }
}

#[test]
fn by_telnet_no_password_is_told_as_a_command_nor_kept_if_it_is_not_to_be() {
    for redacts in [false, true] {
        let mut lab = Lab::with(TapeLimits::default(), redacts);
        let begin = Begin {
            protocol: Protocol::Plain(Spoken::Telnet),
            session: SESSION,
            node: NodeIdx(1),
            peer: "192.0.2.9:40000".parse().unwrap(),
            local: "10.0.0.1:23".parse().unwrap(),
            at: utc(0),
        };
        lab.tapes.take(7, Word::Begin(begin), utc(0));
        let secret = |begins| Entry::Secret { channel: 0, begins };
        lab.put(7, 1, Entry::Opened { channel: 0, kind: ChannelKind::Stream });
        lab.put(7, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
        lab.put(7, 1, Entry::Shell { channel: 0 });
        lab.put(7, 2, data(0, Stream::Output, b"login: "));
        lab.put(7, 3, data(0, Stream::Input, b"root\r"));
        lab.put(7, 4, secret(true));
        lab.put(7, 4, data(0, Stream::Input, b"hunter2\r"));
        lab.put(7, 5, data(0, Stream::Output, b"hunter2\r\n"));
        lab.put(7, 6, attempt("root", "hunter2", true));
        lab.put(7, 6, secret(false));
        lab.put(7, 7, data(0, Stream::Output, b"# "));
        lab.put(7, 8, Entry::Command { text: text("id") });
        lab.put(7, 8, data(0, Stream::Input, b"id\r"));
        // Of a channel that nobody opened.
        lab.put(7, 8, Entry::Secret { channel: 1, begins: true });
        lab.put(7, 8, data(1, Stream::Input, b"?"));
        lab.end(7, 9);
        assert_eq!(lab.told(EventId::ShellCommand), Vec::<Value>::new(), "what reads Telnet tells of commands");
        let requests = lab.told.iter().filter(|told| told.event.id == EventId::ServiceRequest);
        assert_eq!(requests.map(|told| &told.data[..]).collect::<Vec<_>>(), [b"id"]);
        let (mut typed, mut shown) = (String::new(), String::new());
        for moment in moments(&lab.file(".cast")) {
            match moment.what {
                What::Input(text) => typed += &text,
                What::Output(text) => shown += &text,
                other => panic!("{other:?}"),
            }
        }
        let word = if redacts { "*******" } else { "hunter2" };
        assert_eq!((typed, shown), (format!("root\r{word}\rid\r"), format!("login: {word}\r\n# ")));
        let all: String = lab.files(SESSION).into_values().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(all.contains("hunter2"), !redacts, "{all}");
        assert!(!all.contains("secret"), "{all}");
    }
}
