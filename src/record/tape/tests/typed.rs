use super::*;

#[test]
fn what_is_typed_into_a_shell_is_told_line_by_line() {
    let mut lab = Lab::with(TapeLimits { events: 3, ..TapeLimits::default() }, false);
    lab.begin(7, SESSION);
    // A shell, a command with a terminal, one without, and a subsystem.
    for channel in 0..4 {
        lab.put(7, 1, opened(channel));
    }
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
    assert_eq!(lab.told(EventId::SshClose)[0]["untold"], 1);
}
