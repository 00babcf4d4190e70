//! What is refused, and how connections end: as by the real servers, which are asked the same beside it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::{Credential, Entry, Reason, Text};

use super::lab::{Lab, Server, password, run};

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// What was tried, as whom.
fn tried(told: &[Entry]) -> Vec<(String, Credential)> {
    let attempts = told.iter().filter_map(|entry| match entry {
        Entry::Attempt { user, credential, accepted: false } => Some((user.to_string(), credential.clone())),
        _ => None,
    });
    attempts.collect()
}

fn reason(told: &[Entry]) -> Reason {
    match told.last() {
        Some(Entry::End { reason, .. }) => *reason,
        other => panic!("{other:?}"),
    }
}

/// Requests for authentication, as they are, and the word with which the server ends the connection.
fn requests(lab: &Lab, port: u16, requests: &str) -> String {
    let script = r#"
import paramiko, sys, time
paramiko.util.log_to_file(sys.argv[2])
t = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
t.start_client(timeout=30)
try: t.auth_none("root")
except paramiko.BadAuthenticationType: pass
def ask(user, method, *fields):
    m = paramiko.Message()
    m.add_byte(bytes([50]))
    for field in (user, "ssh-connection", method) + fields:
        (m.add_boolean if isinstance(field, bool) else m.add_string)(field)
    try: t._send_message(m)
    except Exception: return
    # One after the other, as far as the other side is concerned.
    time.sleep(0.2)
def hostbased(): ask("root", "hostbased", "ssh-ed25519", b"key", "host", "user", b"signature")
def gssapi(): ask("root", "gssapi-with-mic", "mechanism")
def change(): ask("root", "password", True, "old", "new")
def keyboard(): ask("root", "keyboard-interactive", "", "")
def nothing(): ask("root", "none")
def unknown(): ask("root", "publickey", False, "ssh-unheard-of", bytes([0, 0, 0, 14]) + b"ssh-unheard-of")
def key(): ask("root", "publickey", False, "ssh-ed25519", paramiko.Message().add_string("x").asbytes())
def password(user="root"): ask(user, "password", False, "wrong")
exec(sys.argv[3])
until = time.monotonic() + 20
while t.is_active() and time.monotonic() < until: time.sleep(0.05)
print(t.is_active())
"#;
    let log = lab.path(&format!("log-{port}"));
    let _ = std::fs::remove_file(&log);
    let mut python = Command::new("timeout");
    python.args(["60", "/usr/bin/python3", "-W", "ignore", "-c", script, &port.to_string()]);
    let output = run(python.arg(&log).arg(requests).stdin(Stdio::null()));
    assert_eq!(text(&output.stdout), "False\n", "{output:?}");
    let log = std::fs::read_to_string(log).unwrap();
    let word = log.lines().find_map(|line| line.split_once("Disconnect (code "));
    word.map(|(_, word)| word.to_owned()).unwrap_or_default()
}

#[test]
fn whatever_is_tried_is_recorded_and_counts() {
    let other = |method| ("root".to_owned(), Credential::Digest { scheme: Text::new(method), value: Text::default() });
    let change = Credential::PasswordChange { old: Text::new("old"), new: Text::new("new") };
    let unknown = Credential::PublicKey {
        algorithm: Text::new("ssh-unheard-of"),
        fingerprint: Text::new("SHA256:SYEkguxV5zY3PK+oQRpnHeybEqvGzv5eCS8VHvtpy4k"),
        signed: false,
        key: Text::new("ssh-unheard-of AAAADnNzaC11bmhlYXJkLW9m"),
    };
    let none = || ("root".to_owned(), Credential::None);
    let keyboard = || ("root".to_owned(), Credential::KeyboardInteractive { answers: vec![] });
    let lab = Lab::tuned(Server::OpenSsh, Policy::Never, |settings| settings.keyboard_interactive = false);
    let six = "hostbased(); gssapi(); change(); keyboard(); nothing(); unknown(); password()";
    let word = requests(&lab, lab.port, six);
    assert_eq!(word, "2): Too many authentication failures");
    assert_eq!(word, requests(&lab, lab.direct, six));
    let told = lab.ended();
    let root = |credential| ("root".to_owned(), credential);
    let expected =
        [none(), other("hostbased"), other("gssapi-with-mic"), root(change), keyboard(), none(), root(unknown)];
    assert_eq!(tried(&told), expected);
    assert_eq!(reason(&told), Reason::TooManyAttempts);

    // Dropbear does not count questions, and says nothing in the end.
    let lab = Lab::tuned(Server::Dropbear, Policy::Never, |settings| settings.keyboard_interactive = false);
    let ten = "[nothing() for _ in range(7)]; [hostbased() for _ in range(5)]; [keyboard() for _ in range(3)]; password(); password()";
    assert_eq!(requests(&lab, lab.port, ten), "");
    let told = lab.ended();
    assert_eq!((tried(&told).len(), reason(&told)), (1 + 7 + 10, Reason::TooManyAttempts), "{told:#?}");
}

#[test]
fn nobody_becomes_somebody_else() {
    for server in [Server::OpenSsh, Server::Dropbear] {
        let lab = Lab::before(server, Policy::Container);
        let change = "password(); password('alice'); password()";
        let word = requests(&lab, lab.port, change);
        assert_eq!(word, requests(&lab, lab.direct, change));
        let says =
            word == "2): Change of username or service not allowed: (root,ssh-connection) -> (alice,ssh-connection)";
        assert_eq!((says, word.is_empty()), (server == Server::OpenSsh, server == Server::Dropbear), "{word}");
        let told = lab.ended();
        assert!(told.contains(&password("alice", "wrong", false)), "{told:#?}");
        assert_eq!((tried(&told).len(), reason(&told)), (3, Reason::ProtocolError), "{told:#?}");
    }
}

/// A key for OpenSSH's client, with a word without which it cannot sign.
fn key(lab: &Lab, name: &str, word: &str) -> String {
    let path = lab.path(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", word, "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    path.display().to_string()
}

/// OpenSSH's client with these keys and nothing else.
fn with_keys(lab: &Lab, port: u16, keys: &[String]) -> Output {
    let mut ssh = Command::new("timeout");
    ssh.args(["60", "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p", &port.to_string()]);
    ssh.args(["-o", &format!("UserKnownHostsFile={}", lab.path("known").display())]);
    for key in keys {
        ssh.args(["-i", key]);
    }
    run(ssh.args(["root@127.0.0.1", "true"]).env("SSH_AUTH_SOCK", "").stdin(Stdio::null()))
}

#[test]
fn keys_are_refused_at_once_and_passwords_are_not() {
    let refusal = Duration::from_secs(2);
    let lab = Lab::tuned(Server::OpenSsh, Policy::Never, |settings| settings.refusal = refusal);
    let keys = ["one", "two", "three"].map(|name| key(&lab, name, ""));
    let begun = Instant::now();
    assert!(!with_keys(&lab, lab.port, &keys).status.success());
    assert!(begun.elapsed() < refusal, "{:?}", begun.elapsed());
    let is_key = |(_, credential): &(String, Credential)| matches!(credential, Credential::PublicKey { .. });
    assert_eq!(tried(&lab.ended()).iter().filter(|one| is_key(one)).count(), 3);
    let begun = Instant::now();
    assert!(!run(lab.ssh(&[]).arg("true")).status.success());
    assert!(begun.elapsed() >= refusal, "{:?}", begun.elapsed());

    // Of Dropbear's ten attempts keys are none.
    let lab = Lab::before(Server::Dropbear, Policy::Never);
    let keys: Vec<_> = (0..12).map(|n| key(&lab, &format!("key-{n}"), "")).collect();
    let (ours, theirs) = (with_keys(&lab, lab.port, &keys), with_keys(&lab, lab.direct, &keys));
    assert!(text(&theirs.stderr).contains("Permission denied"), "{theirs:?}");
    assert!(text(&ours.stderr).contains("Permission denied"), "{ours:?}");
    assert_eq!(tried(&lab.ended()).iter().filter(|one| is_key(one)).count(), 12);
}

#[test]
fn a_key_that_does_not_sign_is_recorded() {
    let lab = Lab::new(Policy::Any);
    let locked = key(&lab, "locked", "a word that nobody says");
    assert!(!with_keys(&lab, lab.port, &[locked]).status.success());
    let found = tried(&lab.ended());
    assert!(
        matches!(&found[..], [(_, Credential::None), (user, Credential::PublicKey { signed: false, .. })] if user == "root"),
        "{found:?}"
    );
}

/// What a server says to these octets behind its identification.
fn answer(port: u16, octets: &str) -> String {
    let script = format!("printf '{octets}' | timeout 20 nc 127.0.0.1 {port}");
    let output = run(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()));
    let said = text(&output.stdout);
    let (identification, rest) = said.split_once('\n').unwrap_or_else(|| panic!("{said}"));
    assert!(identification.starts_with("SSH-2.0-"), "{said}");
    // What follows an answer to no SSH is none.
    rest.chars().take(40).collect()
}

#[test]
fn who_speaks_no_ssh_is_told_so() {
    let lab = Lab::new(Policy::Never);
    // One line: if a real server has not read something when it is over, its kernel resets the connection, and what
    // was said may be lost.
    for octets in ["GET / HTTP/1.0\\r\\n", "\\026\\003\\001\\002\\000", "SSH-1.5-old\\r\\n", "SSH-2\\n"] {
        let said = answer(lab.port, octets);
        assert_eq!(said, answer(lab.direct, octets), "{octets}");
        assert!(said.ends_with(".\r\n"), "{octets}: {said}");
    }
    let lab = Lab::before(Server::Dropbear, Policy::Never);
    // Dropbear does not even wait for the client to offer its algorithms, and says nothing else.
    let get = "GET / HTTP/1.0\\r\\n";
    assert_eq!((answer(lab.port, get), answer(lab.direct, get).contains("nvalid")), (String::new(), false));
}

/// What OpenSSH's client says, without the numbers that differ.
fn said(lab: &Lab, port: u16, options: &[&str], command: &[&str]) -> (Option<i32>, String) {
    let mut ssh = Command::new("timeout");
    ssh.args(["60", "sshpass", "-p", "toor", "ssh", "-F", "none", "-o", "IdentityFile=/dev/null"]).args(options);
    ssh.args(["-o", &format!("UserKnownHostsFile={}", lab.path("known").display()), "-p", &port.to_string()]);
    let output = run(ssh.arg("root@127.0.0.1").args(command).env("SSH_AUTH_SOCK", "").stdin(Stdio::null()));
    (output.status.code(), text(&output.stderr).replace(&port.to_string(), "PORT"))
}

#[test]
fn what_is_not_opened_is_refused_in_the_servers_words() {
    let lab = Lab::new(Policy::Any);
    let closed = format!("127.0.0.1:{}", super::lab::free_port());
    for target in [closed.as_str(), "no-such-host.invalid:1"] {
        let heard = said(&lab, lab.port, &["-W", target], &[]);
        assert_eq!(heard, said(&lab, lab.direct, &["-W", target], &[]));
        assert!(heard.1.contains("open failed"), "{heard:?}");
    }
    assert!(said(&lab, lab.port, &["-W", &closed], &[]).1.contains("connect failed: Connection refused"));
}

#[test]
fn a_server_that_is_killed_says_nothing() {
    let lab = Lab::new(Policy::Any);
    let command = ["echo last; kill -9 $PPID"];
    let heard = said(&lab, lab.port, &["-tt"], &command);
    assert_eq!(heard, said(&lab, lab.direct, &["-tt"], &command));
    assert!(heard.1.contains("closed by remote host"), "{heard:?}");
    assert!(!heard.1.contains("disconnect"), "{heard:?}");
}

/// The extension that tells of users' keys.
fn signatures(lab: &Lab, port: u16) -> String {
    let (_, said) = said(lab, port, &["-v", "-o", "NumberOfPasswordPrompts=0"], &["true"]);
    let line = said.lines().find(|line| line.contains("server-sig-algs=")).map(str::to_owned);
    line.unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn users_keys_are_those_of_the_server_that_it_says_it_is() {
    for server in [Server::OpenSsh, Server::Dropbear] {
        let lab = Lab::before(server, Policy::Never);
        assert_eq!(signatures(&lab, lab.port), signatures(&lab, lab.direct));
    }
}
