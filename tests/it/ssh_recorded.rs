//! Containers whose SSH has somebody in the middle: real clients in front of a real server, over the whole honeynet.

use std::process::Output;

use crate::lab::Lab;
use crate::net::Ns;

const TOPOLOGY: &str = r#"
name: recorded
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}}
  own: {personality: linux, tcp: {22: {container: ssh, refusal: 100ms}}, backend: {image: small}}
  list: {personality: linux, tcp: {22: {container: ssh, passwords: {admin: [letmein, "123456"]}, refusal: 100ms}}, backend: {image: small}}
  after: {personality: linux, tcp: {22: {container: ssh, after: 2, refusal: 100ms}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 5}
  any: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: any}
  own: {kind: host, address: 192.0.2.20, template: own}
  list: {kind: host, address: 192.0.2.21, template: list}
  after: {kind: host, address: 192.0.2.22, template: after}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
  - endpoints: [own, "core:3"]
  - endpoints: [list, "core:4"]
  - endpoints: [after, "core:5"]
"#;

pub const OPTIONS: [&str; 10] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "PreferredAuthentications=password",
    "-o",
    "NumberOfPasswordPrompts=1",
];

fn lab() -> Lab {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

fn ssh(from: &Ns, password: &str, target: &str, command: &str) -> Output {
    from.run(&[&["sshpass", "-p", password, "ssh"][..], &OPTIONS, &[target, command]].concat())
}

/// What a command says to somebody who is let in.
fn said(from: &Ns, password: &str, target: &str, command: &str) -> String {
    let output = ssh(from, password, target, command);
    assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a password is taken.
fn is_let_in(from: &Ns, password: &str, target: &str) -> bool {
    let output = ssh(from, password, target, "true");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || why.contains("Permission denied (publickey,password)"), "{target}: {why}");
    output.status.success()
}

#[test]
fn anybody_is_let_in_and_lands_in_the_container() {
    let lab = lab();
    let from = &lab.attacker;
    // Who only looks starts nothing, and sees the host's own key.
    let scanned = from.sh(&["ssh-keyscan", "-T", "10", "192.0.2.10"]);
    let key = scanned.split_whitespace().nth(2).unwrap();
    assert!(key.starts_with("AAAAC3NzaC1lZDI1NTE5"), "{scanned}");
    assert_eq!(lab.json(&["container", "ls"]).as_array().map(Vec::len), Some(0));
    let output = from.run(&["sh", "-c", "echo | timeout 5 nc -w 2 192.0.2.10 22"]);
    let banner = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(banner.starts_with("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"), "{banner:?}");

    let text = said(from, "no such password", "root@192.0.2.10", "echo $SSH_CONNECTION; hostname; id -u");
    let lines: Vec<&str> = text.lines().collect();
    // The container sees the very connection that the attacker has made.
    let opened = lab.wait_event("tcp.open", |event| {
        event["dst"]["ip"] == "192.0.2.10" && lines[0].contains(&format!(" {} ", event["src"]["port"]))
    });
    assert_eq!(lines[0], format!("192.0.2.2 {} 192.0.2.10 22", opened["src"]["port"]));
    assert_eq!(lines[2], "0", "{text}");
    // The same key inside, so that a container that is reached otherwise is the same machine.
    let inside =
        said(from, "x", "nobody-known@192.0.2.10", "dropbearkey -y -f /etc/dropbear/dropbear_ed25519_host_key");
    assert!(inside.contains(key), "{inside}\n{scanned}");
}

#[test]
fn each_policy_lets_in_whom_it_says() {
    let lab = lab();
    let from = &lab.attacker;
    assert!(!is_let_in(from, "guess", "root@192.0.2.20"));
    assert!(is_let_in(from, "toor", "root@192.0.2.20"));
    assert_eq!(said(from, "guest", "guest@192.0.2.20", "id -un"), "guest\n");
    assert!(!is_let_in(from, "toor", "root@192.0.2.21"));
    assert!(is_let_in(from, "123456", "admin@192.0.2.21"));
    assert!(!is_let_in(from, "one", "root@192.0.2.22"));
    // Three in one connection.
    let script = "for word in one two three; do echo $word; done >/tmp/words.$$; \
                  SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=$1 ssh $2 root@192.0.2.22 'echo in' </dev/null";
    let asked = lab
        .file("askpass", "#!/bin/sh\nread n <\"$0.n\" 2>/dev/null; n=$((${n:-0}+1)); echo $n >\"$0.n\"; echo word$n\n");
    std::fs::set_permissions(&asked, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let options = OPTIONS.join(" ").replace("NumberOfPasswordPrompts=1", "NumberOfPasswordPrompts=3");
    let output = from.run(&["sh", "-c", script, "sh", asked.to_str().unwrap(), &options]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_come_in_and_go_out() {
    let lab = lab();
    let from = &lab.attacker;
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let (there, back) = (lab.path("there"), lab.path("back"));
    std::fs::write(&there, &content).unwrap();
    // By SFTP, and by the old protocol.
    for way in ["-s", "-O"] {
        let scp = |from_to: [&str; 2]| {
            let output = from.run(&[&["sshpass", "-p", "x", "scp", way][..], &OPTIONS, &from_to].concat());
            assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let inside = format!("root@192.0.2.11:/tmp/there{way}");
        scp([there.to_str().unwrap(), &inside]);
        let sum = said(from, "x", "root@192.0.2.11", &format!("sha256sum </tmp/there{way}"));
        let own = from.sh(&["sha256sum", there.to_str().unwrap()]);
        assert_eq!(sum.split(' ').next(), own.split(' ').next());
        scp([&inside, back.to_str().unwrap()]);
        assert!(std::fs::read(&back).unwrap() == content, "{way}");
        std::fs::remove_file(&back).unwrap();
    }
}

#[test]
fn a_container_that_dies_ends_the_session_and_the_next_one_has_another() {
    let lab = lab();
    let from = &lab.attacker;
    assert_eq!(said(from, "x", "root@192.0.2.12", "touch /tmp/mark; echo in"), "in\n");
    let command = ["root@192.0.2.12", "echo ready; sleep 100"];
    let mut session = from.spawn(&[&["sshpass", "-p", "x", "ssh"][..], &OPTIONS, &command].concat());
    session.wait_line("ready");
    assert!(lab.command(&["container", "stop", "192.0.2.12"]).status.success());
    assert!(!session.wait().0.success());
    assert_eq!(said(from, "x", "root@192.0.2.12", "echo again"), "again\n");
}

#[test]
fn a_client_that_is_killed_leaves_nothing_inside() {
    let lab = lab();
    let from = &lab.attacker;
    // Nobody but the client itself is to be killed.
    let asked = lab.file("askpass", "#!/bin/sh\necho x\n");
    std::fs::set_permissions(&asked, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let answers = format!("SSH_ASKPASS={}", asked.display());
    let client = ["env", "SSH_ASKPASS_REQUIRE=force", &answers, "ssh", "-tt"];
    let session = from.spawn(&[&client[..], &OPTIONS, &["root@192.0.2.13", "exec sleep 4711"]].concat());
    let running = || said(from, "x", "root@192.0.2.13", "ps -o args | grep -c '^sleep 4711' || true").trim() == "1";
    crate::net::wait_for("the command", || running().then_some(()));
    session.signal(libc::SIGKILL);
    session.wait();
    crate::net::wait_for("its end", || (!running()).then_some(()));
}

/// What real clients do is what events and the session's files tell of them.
#[test]
fn everything_that_clients_do_is_recorded() {
    const HOST: &str = "192.0.2.14";
    const TARGET: &str = "root@192.0.2.14";
    let lab = lab();
    let from = &lab.attacker;
    let content: Vec<u8> = (0..300_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let worm = lab.path("worm");
    std::fs::write(&worm, &content).unwrap();
    let digest = from.sh(&["sha256sum", worm.to_str().unwrap()]).split(' ').next().unwrap().to_owned();
    let run =
        |words: &[&str], rest: &[&str]| from.run(&[&["sshpass", "-p", "guessed"][..], words, &OPTIONS, rest].concat());

    assert_eq!(said(from, "guessed", TARGET, "printf '\\033]0;owned\\007'; echo out"), "\u{1b}]0;owned\u{7}out\n");
    let typed = "printf 'echo $((6*7))\\nexit\\n' | sshpass -p guessed ssh -tt \"$@\"";
    let shell = from.run(&[&["sh", "-c", typed, "sh"][..], &OPTIONS, &[TARGET]].concat());
    assert!(String::from_utf8_lossy(&shell.stdout).contains("42"), "{shell:?}");
    for way in ["-s", "-O"] {
        let to = format!("{TARGET}:/tmp/worm{way}");
        let copied = run(&["scp", way], &[worm.to_str().unwrap(), &to]);
        assert!(copied.status.success(), "{way}: {}", String::from_utf8_lossy(&copied.stderr));
    }
    run(&["timeout", "10", "ssh", "-W", "127.0.0.1:22"], &[TARGET]);

    let closes = || {
        let of_host = |event: &&serde_json::Value| event["event"] == "ssh.close" && event["dst"]["ip"] == HOST;
        lab.events().iter().filter(of_host).cloned().collect::<Vec<_>>()
    };
    let closed = crate::net::wait_for("the end of five connections", || Some(closes()).filter(|all| all.len() == 5));
    let id = closed[0]["session"].as_str().unwrap().to_owned();
    assert!(closed.iter().all(|event| event["session"] == id.as_str()), "one attacker, one host: {closed:?}");
    let told = |name: &str| {
        let of_session = |event: &&serde_json::Value| event["event"] == name && event["session"] == id.as_str();
        let text = |event: &serde_json::Value| serde_json::from_str(event["text"].as_str().unwrap()).unwrap();
        lab.events().iter().filter(of_session).map(text).collect::<Vec<serde_json::Value>>()
    };
    assert!(told("ssh.hello").iter().all(|hello| hello["banner"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH")));
    let logins = told("ssh.login");
    assert_eq!(logins.len(), 5, "{logins:?}");
    assert!(logins.iter().all(|login| login["password"] == "guessed" && login["accepted"] == true), "{logins:?}");
    assert_eq!(told("ssh.shell")[0]["kind"], "shell");
    assert!(told("ssh.command")[0]["command"].as_str().unwrap().starts_with("printf"), "{:?}", told("ssh.command"));
    let files = told("ssh.file");
    assert_eq!(files.len(), 2, "{files:?}");
    let kept = format!("sha256-{digest}");
    for file in &files {
        assert_eq!((&file["sha256"], &file["content"]), (&digest.as_str().into(), &kept.as_str().into()), "{file}");
    }
    let forward = &told("ssh.forward")[0];
    assert_eq!((&forward["kind"], &forward["port"]), (&"direct-tcpip".into(), &22.into()), "{forward}");

    let dir = lab.own_dir().join("sessions").join(&id);
    assert!(std::fs::read(dir.join(&kept)).unwrap() == content);
    let shown = String::from_utf8(lab.command(&["session", "show", &id]).stdout).unwrap();
    for part in ["guessed", "echo $((6*7))", &kept, "to 127.0.0.1:22", "worm"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let text = String::from_utf8(lab.command(&["session", "replay", &id, "--text"]).stdout).unwrap();
    assert!(text.contains("out\n") && text.contains("42\n") && !text.contains("owned"), "{text}");
}
