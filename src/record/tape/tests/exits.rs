use super::*;
use crate::event::MAX_DATA;

#[test]
fn what_ran_is_told_of_when_it_is_over() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    for channel in 0..3 {
        lab.put(7, 1, opened(channel));
    }
    lab.put(7, 2, Entry::Exec { channel: 0, command: Text::command("nosuch\u{1b}") });
    // Twice in one channel is no second one.
    lab.put(7, 2, Entry::Shell { channel: 0 });
    lab.put(7, 2, Entry::Shell { channel: 1 });
    lab.put(7, 2, Entry::Env { channel: 1, name: text("LANG"), value: text("C") });
    lab.put(7, 3, data(0, Stream::Input, b"ab"));
    lab.put(7, 3, data(0, Stream::Input, b"c"));
    lab.put(7, 4, data(0, Stream::Error, b"not found"));
    lab.put(7, 5, Entry::Exit { channel: 0, status: Some(127), signal: None });
    lab.put(7, 1_000_002, Entry::Closed { channel: 0 });
    lab.put(7, 1_000_003, Entry::Exit { channel: 1, status: None, signal: Some(text("HUP")) });
    // A channel in which nothing ran tells nothing.
    lab.end(7, 1_000_004);
    let told = lab.told(EventId::SshExit);
    // SHA-256 of "abc", and of nothing.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let transcript =
        |number: u32| lab.file(&format!("{number:04}-0001.cast")).file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        told,
        [
            json!({
                "kind": "command", "command": "nosuch\\x1b", "status": 127, "sha256": abc, "transcript": transcript(0),
            }),
            json!({"kind": "shell", "signal": "HUP", "sha256": nothing, "transcript": transcript(1)}),
        ]
    );
    let first = lab.told.iter().find(|notice| notice.event.id == EventId::SshExit).unwrap();
    assert_eq!((first.event.count, first.event.bytes_in, first.event.bytes_out), (1_000_000, 3, 9));
    assert_eq!(lab.told(EventId::SshEnv), [json!({"name": "LANG", "value": "C"})]);
    assert_eq!(lab.told.last().unwrap().event.id, EventId::SshClose, "they come first");
}

/// What was told of the end of what ran, and how many octets came and went.
fn exits(lab: &Lab) -> Vec<(Value, u64, u64)> {
    let counts = lab.told.iter().filter(|notice| notice.event.id == EventId::SshExit);
    let counts = counts.map(|notice| (notice.event.bytes_in, notice.event.bytes_out));
    lab.told(EventId::SshExit).into_iter().zip(counts).map(|(told, (input, output))| (told, input, output)).collect()
}

#[test]
fn what_moves_as_files_is_counted_and_has_no_digest() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    let content = vec![7; 40_000];
    for (number, begins) in [
        Entry::Subsystem { channel: 0, name: text("sftp") },
        Entry::Exec { channel: 0, command: Text::command("scp -t /tmp") },
        // Who calls a program of files otherwise shows it by the file.
        Entry::Exec { channel: 0, command: Text::command("rcp -t /tmp") },
    ]
    .into_iter()
    .enumerate()
    {
        lab.put(7, 1, opened(0));
        lab.put(7, 1, begins);
        upload(&mut lab, number as u32, "/tmp/worm", &content, true);
        lab.put(7, 4, data(0, Stream::Error, b"said"));
        lab.put(7, 5, Entry::Closed { channel: 0 });
    }
    // Of what was asked for and is not there no file tells, nor anything else of what the client has said.
    lab.put(7, 6, opened(0));
    lab.put(7, 6, Entry::Exec { channel: 0, command: Text::command("/usr/bin/scp -f nothing") });
    lab.put(7, 7, Entry::Closed { channel: 0 });
    lab.end(7, 8);
    let told = exits(&lab);
    let counts: Vec<(u64, u64)> = told.iter().map(|(_, input, output)| (*input, *output)).collect();
    assert_eq!(counts, [(40_000, 4), (40_000, 4), (40_000, 4), (0, 0)]);
    assert!(told.iter().all(|(told, ..)| told.get("sha256").is_none()), "{told:?}");
    assert_eq!((&told[0].0["name"], &told[1].0["command"]), (&json!("sftp"), &json!("scp -t /tmp")));
}

#[test]
fn of_a_long_command_its_end_tells_the_beginning() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    let command = [&[b'a'; 767][..], &[0xff; 20_000]].concat();
    lab.put(7, 1, Entry::Exec { channel: 0, command: Text::command(&command) });
    lab.put(7, 2, Entry::Exit { channel: 0, status: Some(127), signal: None });
    lab.end(7, 3);
    // No escape is cut, and what else there is has room.
    let begun = format!("{}…", "a".repeat(767));
    let told = exits(&lab).remove(0).0;
    assert_eq!((&told["command"], &told["status"], told.get("sha256").is_some()), (&json!(begun), &json!(127), true));
}

#[test]
fn of_what_may_be_a_password_no_digest_is_told() {
    for (redacts, is_told) in [(false, true), (true, false)] {
        let mut lab = Lab::with(TapeLimits::default(), redacts);
        lab.begin(7, SESSION);
        lab.put(7, 1, opened(0));
        lab.put(7, 1, Entry::Exec { channel: 0, command: Text::command("sudo -S id") });
        lab.put(7, 2, data(0, Stream::Input, b"1234\n"));
        lab.end(7, 3);
        let told = exits(&lab);
        assert_eq!((told[0].0.get("sha256").is_some(), told[0].1), (is_told, 5), "{told:?}");
    }
}

#[test]
fn variables_are_told_256_times() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    for number in 0..=256 {
        lab.put(7, 1, Entry::Env { channel: 0, name: text("LC_X"), value: text(&number.to_string()) });
    }
    lab.end(7, 2);
    let told = lab.told(EventId::SshEnv);
    assert_eq!((told.len(), &told[255]["value"]), (256, &json!("255")));
    assert_eq!(lab.told(EventId::SshClose)[0]["untold"], 1);
    // All of them are on the tape.
    assert_eq!(lines(&lab.file(TAPE)).iter().filter(|line| line.get("env").is_some()).count(), 257);
}

#[test]
fn a_key_makes_a_log_in_no_larger_than_it_may_be() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    let attempt = |key: &str| {
        let credential = Credential::PublicKey {
            algorithm: text("rsa-sha2-512"),
            fingerprint: text("SHA256:x"),
            signed: false,
            key: Text::command(key),
        };
        Entry::Attempt { user: text(&"u".repeat(1024)), credential, accepted: false }
    };
    let key = format!("ssh-rsa {}", "A".repeat(700));
    lab.put(7, 1, attempt(&key));
    lab.put(7, 1, attempt(""));
    lab.end(7, 2);
    let sizes: Vec<usize> =
        lab.told.iter().filter(|notice| notice.event.id == EventId::SshLogin).map(|notice| notice.data.len()).collect();
    assert!(sizes[0] > MAX_DATA && sizes[0] <= EventId::SshLogin.most_data() && sizes[1] <= MAX_DATA, "{sizes:?}");
    let told = lab.told(EventId::SshLogin);
    assert_eq!((&told[0]["key"], told[1].get("key")), (&json!(key), None));
}
