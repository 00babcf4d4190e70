//! Who is not let in where SSH has somebody in the middle: guessers, too many connections, answers to questions.

use crate::lab::Lab;
use crate::ssh_recorded::{OPTIONS, is_let_in, lab, ssh};

#[test]
fn a_guesser_leaves_a_record_of_each_attempt_and_starts_nothing() {
    const HOST: &str = "192.0.2.21";
    let lab = lab();
    let words: String = (1..=300).map(|n| format!("word-{n}\n")).collect();
    let words = lab.file("words", &words);
    let hydra = ["hydra", "-I", "-l", "admin", "-P", words.to_str().unwrap(), "-t", "32", HOST, "ssh"];
    let output = lab.attacker.run(&[&["timeout", "300"][..], &hydra].concat());
    // It fails if one of its workers was in the middle of something at the end; what counts is what was tried.
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 of 1 target completed"), "{output:?}");
    let tried = || {
        let of_host = |event: &&serde_json::Value| event["event"] == "ssh.login" && event["dst"]["ip"] == HOST;
        let password = |event: &serde_json::Value| {
            let told: serde_json::Value = serde_json::from_str(event["text"].as_str().unwrap()).unwrap();
            assert_eq!(told["accepted"], false, "{told}");
            told["password"].as_str().unwrap().to_owned()
        };
        lab.events().iter().filter(of_host).map(password).collect::<std::collections::BTreeSet<_>>()
    };
    // It tries some twice, whose answer it has not waited for.
    let tried = crate::net::wait_for("all attempts", || Some(tried()).filter(|tried| tried.len() >= 300));
    assert_eq!(tried.len(), 300);
    assert_eq!(lab.json(&["container", "ls"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn one_network_leaves_connections_to_others() {
    use std::io::Read;
    let lab = lab();
    lab.attacker.enter(|| {
        let banner = |stream: &mut std::net::TcpStream| {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
            let mut line = [0; 22];
            stream.read_exact(&mut line).map(|()| String::from_utf8_lossy(&line).into_owned())
        };
        let connect = || std::net::TcpStream::connect(("192.0.2.21", 22)).unwrap();
        let mut there: Vec<_> = (0..256).map(|_| connect()).collect();
        assert!(there.iter_mut().all(|stream| banner(stream).unwrap().starts_with("SSH-2.0-OpenSSH")));
        let mut surplus = connect();
        assert_eq!(banner(&mut surplus).unwrap(), "Exceeded MaxStartups\r\n");
        assert_eq!(surplus.read(&mut [0]).unwrap_or_default(), 0);
        drop(there);
        let open_again = || banner(&mut connect()).ok().filter(|line| line.starts_with("SSH-2.0"));
        crate::net::wait_for("room", open_again);
    });
    lab.wait_event("service.failed", |event| event.to_string().contains("too many connections from one network"));
}

const ASKS: &str = r#"
name: asks
templates:
  asks:
    personality: linux
    tcp: {22: {container: ssh, opens: never, keyboard_interactive: true, refusal: 100ms}}
    backend: {image: small}
nodes:
  wan: {kind: uplink}
  asks: {kind: host, address: 192.0.2.20, template: asks}
links:
  - endpoints: [wan, asks]
"#;

#[test]
fn who_is_asked_by_keyboard_interactive_is_recorded_with_the_answers() {
    let lab = Lab::up(ASKS);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let options = OPTIONS.join(" ").replace("=password", "=keyboard-interactive");
    let command = format!("sshpass -p 'my answer' ssh {options} root@192.0.2.20 true");
    let output = lab.attacker.run(&["sh", "-c", &command]);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("Permission denied (publickey,password,keyboard-interactive)"), "{why}");
    lab.wait_told("ssh.login", "192.0.2.20", &["my answer", "keyboard-interactive", "\"accepted\":false"]);
}

const CHANGES: &str = r#"
name: changes
templates:
  listed:
    personality: linux
    tcp: {22: {container: ssh, passwords: {root: [toor, "123456"]}, login: "root:toor", refusal: 100ms}}
    backend: {image: small, idle: 1h}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  listed: {kind: host, address: 192.0.2.20, template: listed}
links:
  - endpoints: [wan, listed]
"#;

/// What most that break in do first.
#[test]
fn who_changes_roots_password_is_let_in_by_theirs_and_nobody_else_is() {
    let lab = Lab::up(CHANGES);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let target = "root@192.0.2.20";
    let changed = ssh(&lab.attacker, "123456", target, "printf 'hacked\\nhacked\\n' | passwd root && echo changed");
    assert!(String::from_utf8_lossy(&changed.stdout).contains("changed"), "{changed:?}");
    for (password, opens) in [("toor", false), ("123456", false), ("hacked", true), ("other", false), ("hacked", true)]
    {
        assert_eq!(is_let_in(&lab.attacker, password, target), opens, "{password}");
    }
    lab.wait_told("ssh.login", "192.0.2.20", &["hacked", "\"accepted\":true"]);
    lab.wait_told("ssh.login", "192.0.2.20", &["toor", "\"accepted\":false"]);
    // Whoever comes to the machine that is made anew finds the password that it had.
    assert!(lab.command(&["container", "destroy", "192.0.2.20"]).status.success());
    assert!(is_let_in(&lab.attacker, "toor", target));
    assert!(!is_let_in(&lab.attacker, "hacked", target));
}
