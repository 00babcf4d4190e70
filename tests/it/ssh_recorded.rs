//! Containers whose SSH has somebody in the middle: real clients in front of a real server, over the whole honeynet.

use std::process::Output;

use crate::crash::{Session, init, killed};
use crate::lab::{Lab, process};
use crate::net::{Ns, wait_for};

const TOPOLOGY: &str = r#"
name: recorded
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}}
  deb: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: debian}}
  own: {personality: linux, tcp: {22: {container: ssh, refusal: 100ms}}, backend: {image: small}}
  list:
    personality: linux
    tcp: {22: {container: ssh, passwords: {admin: [letmein, "123456"]}, refusal: 100ms, identification: SSH-2.0-OpenSSH_9.2p1}}
    backend: {image: small}
  after: {personality: linux, tcp: {22: {container: ssh, after: 2, refusal: 100ms}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 6}
  any: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: any}
  own: {kind: host, address: 192.0.2.20, template: own}
  list: {kind: host, address: 192.0.2.21, template: list}
  after: {kind: host, address: 192.0.2.22, template: after}
  deb: {kind: host, address: 192.0.2.23, template: deb}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
  - endpoints: [own, "core:3"]
  - endpoints: [list, "core:4"]
  - endpoints: [after, "core:5"]
  - endpoints: [deb, "core:6"]
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

pub fn lab() -> Lab {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

pub fn ssh(from: &Ns, password: &str, target: &str, command: &str) -> Output {
    from.run(&[&["sshpass", "-p", password, "ssh"][..], &OPTIONS, &[target, command]].concat())
}

/// What a command says to somebody who is let in.
fn said(from: &Ns, password: &str, target: &str, command: &str) -> String {
    let output = ssh(from, password, target, command);
    assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a password is taken.
pub fn is_let_in(from: &Ns, password: &str, target: &str) -> bool {
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
    let scanned = from.sh(&["ssh-keyscan", "-T", "10", "-t", "ed25519", "192.0.2.10"]);
    let key = scanned.split_whitespace().nth(2).unwrap();
    assert!(key.starts_with("AAAAC3NzaC1lZDI1NTE5"), "{scanned}");
    assert_eq!(lab.json(&["container", "ls"]).as_array().map(Vec::len), Some(0));
    let output = from.run(&["sh", "-c", "echo | timeout 5 nc -w 2 192.0.2.10 22"]);
    let banner = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(banner.starts_with("SSH-2.0-dropbear_2022.83\r\n"), "{banner:?}");

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
        // Where it went. The old protocol does not tell whether that is a directory.
        let path = format!("/tmp/there{way}{}\"", if way == "-O" { "[/there]" } else { "" });
        lab.wait_told("ssh.file", "192.0.2.11", &["upload", &path]);
        lab.wait_told("ssh.file", "192.0.2.11", &["download", &format!("/tmp/there{way}\"")]);
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
    let typed = "printf 'echo $((6*7))\\nsleep 1\\necho slept-$((1+1))\\nexit\\n' | sshpass -p guessed ssh -tt \"$@\"";
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

    // Others play it as it was: the second in which nothing was shown is there.
    let files = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
    let casts = files.filter(|path| path.extension().is_some_and(|name| name == "cast"));
    let shells: Vec<_> = casts.map(|cast| crate::session::moments(&cast)).collect();
    let when = |part: &str| {
        let shown = shells.iter().flatten().find(|(_, shown)| shown.contains(part));
        shown.unwrap_or_else(|| panic!("no {part} in {shells:?}")).0
    };
    let slept = when("slept-2") - when("42\r\n");
    assert!((0.95..3.0).contains(&slept), "{slept} s");
    lab.records_are_as_the_schema_says();
}

#[test]
fn what_is_open_is_recorded_beyond_the_recorders_death() {
    const HOST: &str = "192.0.2.15";
    const TARGET: &str = "root@192.0.2.15";
    let lab = lab();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let worm = lab.path("worm");
    std::fs::write(&worm, &content).unwrap();
    let mut shell = Session::running(&lab, "guessed", &["-tt", TARGET]);
    let until = |shell: &mut Session, what: &str| {
        while !shell.line().contains(what) {
            assert!(init(&lab, HOST).is_some(), "the shell has ended before {what}");
        }
    };
    shell.say("echo one-$((40+2))");
    until(&mut shell, "one-42");
    // Two seconds, and the recorder dies in the midst of it.
    let to = format!("{TARGET}:/tmp/worm");
    let copying =
        [&["sshpass", "-p", "guessed", "scp", "-s", "-l", "12000"][..], &OPTIONS, &[worm.to_str().unwrap(), &to]];
    let copying = lab.attacker.spawn(&copying.concat());
    let session = lab.wait_event("ssh.shell", |event| {
        event["dst"]["ip"] == HOST && event["text"].as_str().is_some_and(|text| text.contains("sftp"))
    });
    let id = session["session"].as_str().unwrap();
    let dir = lab.own_dir().join("sessions").join(id);
    crate::net::wait_for("some of the file", || {
        let mut files = std::fs::read_dir(&dir).ok()?.flatten();
        files
            .find(|file| file.file_name().to_string_lossy().ends_with(".part"))
            .filter(|file| file.metadata().is_ok_and(|about| about.len() > 100_000))
    });
    let console = process(&lab, "console").unwrap();
    killed(console.into());
    shell.say("echo two-$((40+2))");
    until(&mut shell, "two-42");
    crate::net::wait_for("another console", || process(&lab, "console").filter(|pid| *pid != console));
    shell.say("echo three-$((40+2))");
    until(&mut shell, "three-42");
    shell.say("exit");
    let (status, said) = copying.wait();
    assert!(status.success(), "{said}");
    let closes = || {
        let of_host = |event: &serde_json::Value| event["event"] == "ssh.close" && event["dst"]["ip"] == HOST;
        Some(lab.events().into_iter().filter(of_host).collect::<Vec<_>>()).filter(|all| all.len() == 2)
    };
    let closed = crate::net::wait_for("the end of both", closes);
    assert!(closed.iter().all(|event| event["session"] == id), "{closed:?}");

    // Two connections, each with one tape, and one transcript that has everything.
    let told: serde_json::Value = lab.json(&["session", "show", id]);
    let connections = told["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2, "{told}");
    for connection in connections {
        assert_eq!((&connection["resumed"], &connection["lost_lines"]), (&1.into(), &0.into()), "{connection}");
        assert!(connection["end"].as_str().is_some_and(|end| !end.contains("broken")), "{connection}");
    }
    let file = connections.iter().find_map(|connection| connection["files"].get(0)).expect("the file is on a tape");
    let digest = honeyweave::wire::hex(ring::digest::digest(&ring::digest::SHA256, &content).as_ref());
    assert_eq!((&file["path"], &file["sha256"]), (&"/tmp/worm".into(), &digest.as_str().into()), "{file}");
    // What it had read and not written may be missing: zeros stand for it, and the tape says where.
    let kept = std::fs::read(dir.join(file["content"].as_str().unwrap())).unwrap();
    let tapes = std::fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().ends_with(".ndjson"));
    let lines: String = tapes.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
    let end = lines.lines().find(|line| line.contains("\"file-end\"")).expect("the end of the file is on a tape");
    let end: serde_json::Value = serde_json::from_str(end).unwrap();
    let mut expected = content[..kept.len()].to_vec();
    for gap in end["missing"].as_array().into_iter().flatten() {
        let (at, count) = (gap[0].as_u64().unwrap() as usize, gap[1].as_u64().unwrap() as usize);
        expected[at..at + count].fill(0);
    }
    assert!(kept == expected, "{} octets, {end}", kept.len());
    assert!(kept == content || file["cut"] == "interrupted", "{file}");
    assert!(kept.len() > content.len() / 2, "{} octets of {}", kept.len(), content.len());
    let text = String::from_utf8(lab.command(&["session", "replay", id, "--text"]).stdout).unwrap();
    let commands = String::from_utf8(lab.command(&["session", "replay", id, "--commands"]).stdout).unwrap();
    for number in ["one", "two", "three"] {
        assert!(text.contains(&format!("{number}-42\n")), "{number} in {text}");
        assert!(commands.contains(&format!("echo {number}-$((40+2))")), "{number} in {commands}");
    }
    let casts =
        std::fs::read_dir(&dir).unwrap().flatten().filter(|file| file.file_name().to_string_lossy().ends_with(".cast"));
    assert_eq!(casts.count(), 1);
    let typed =
        lab.events().iter().filter(|event| event["event"] == "shell.command" && event["dst"]["ip"] == HOST).count();
    assert_eq!(typed, 4);
    assert!(std::fs::read_dir(lab.own_dir().join("sessions/open")).unwrap().next().is_none());
}

#[test]
fn a_debian_has_the_keys_outside_that_it_has_inside() {
    let lab = lab();
    let scanned = lab.attacker.sh(&["ssh-keyscan", "-T", "10", "-t", "rsa,ecdsa,ed25519", "192.0.2.23"]);
    let mut outside: Vec<_> = scanned.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key).collect();
    outside.sort_unstable();
    // RSA takes a moment, which nobody is kept waiting for.
    let look = || {
        let inside = said(&lab.attacker, "x", "root@192.0.2.23", "cat /etc/ssh/ssh_host_*_key.pub");
        Some(inside).filter(|inside| inside.lines().count() == 3)
    };
    let inside = wait_for("the keys inside", look);
    let mut inside: Vec<_> = inside.lines().filter_map(|line| line.rsplit_once(' ')).map(|(key, _)| key).collect();
    inside.sort_unstable();
    assert_eq!(outside, inside);
    // OpenSSH's server there shows them, too, as its private halves are right.
    let scan = "ssh-keyscan -T 10 -t rsa,ecdsa,ed25519 127.0.0.1 2>/dev/null";
    let shown = said(&lab.attacker, "x", "root@192.0.2.23", scan);
    let mut shown: Vec<_> = shown.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key).collect();
    shown.sort_unstable();
    assert_eq!(outside, shown);
    // No intruder has made it.
    let diff = lab.json(&["container", "diff", "192.0.2.23"]);
    assert!(!diff.to_string().contains("ssh_host_"), "{diff}");
    // nmap 7.93 asks for RSA by SHA-1 only, which OpenSSH 9.2 does not have.
    let nmap = lab.attacker.sh(&["nmap", "-Pn", "-n", "-p", "22", "--script", "ssh-hostkey", "192.0.2.23"]);
    assert!(nmap.contains("(ECDSA)") && nmap.contains("(ED25519)"), "{nmap}");
}

#[test]
fn a_host_keeps_its_keys_whoever_ends() {
    let mut lab = lab();
    let scan = |lab: &Lab| {
        let scanned = lab.attacker.run(&["ssh-keyscan", "-T", "5", "192.0.2.10", "192.0.2.11", "192.0.2.23"]);
        let scanned = String::from_utf8_lossy(&scanned.stdout).into_owned();
        let mut keys: Vec<_> = scanned.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        keys.sort_unstable();
        (keys.len() == 9).then_some(keys)
    };
    let before = scan(&lab).expect("all keys");
    let keys: std::collections::BTreeSet<_> = before.iter().filter_map(|line| line.rsplit_once(' ')).collect();
    assert_eq!(keys.len(), 9, "no two are the same: {before:?}");
    let switch = process(&lab, "switch").expect("the switch runs");
    killed(i64::from(switch));
    assert_eq!(wait_for("another switch", || scan(&lab)), before);
    lab.down();
    lab.start(TOPOLOGY);
    assert_eq!(wait_for("the honeynet", || scan(&lab)), before);
}

/// A client that says how long it took, in microseconds: the log-in, and from its beginning to a shell's first octet.
const STOPWATCH: &str = r#"
import paramiko, sys, time
transport = paramiko.Transport((sys.argv[1], 22))
transport.start_client(timeout=30)
begun = time.monotonic()
transport.auth_password("root", "anything")
accepted = time.monotonic()
channel = transport.open_session()
channel.get_pty()
channel.invoke_shell()
channel.recv(1)
print(int((accepted - begun) * 1e6), int((time.monotonic() - begun) * 1e6))
transport.close()
"#;

#[test]
fn a_container_starts_behind_the_log_in_and_nobody_can_tell() {
    let lab = lab();
    let times = |host: &str| {
        let said = lab.attacker.ask(&["/usr/bin/python3", "-W", "ignore", "-c", STOPWATCH, host]);
        let times: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (times[0], times[1])
    };
    let hosts = ["192.0.2.15", "192.0.2.16", "192.0.2.17", "192.0.2.18"];
    let cold = hosts.map(times);
    for host in hosts {
        let at = |id: &str| lab.wait_event(id, |event| event["dst"]["ip"] == host)["time"].as_str().unwrap().to_owned();
        assert!(at("container.start") < at("ssh.login"), "{host}");
    }
    let warm = hosts.map(times);
    eprintln!("(log-in, first octet) in us: cold {cold:?}, warm {warm:?}");
    // The best of each, as this machine may be busy with something else.
    let least = |times: [(u64, u64); 4], of: fn(&(u64, u64)) -> u64| times.iter().map(of).min().unwrap();
    for (name, of) in [("log-in", (|t| t.0) as fn(&(u64, u64)) -> u64), ("first octet", |t| t.1)] {
        let (cold, warm) = (least(cold, of), least(warm, of));
        assert!(warm >= 300_000, "{name}: {warm}");
        // Less than half of what a start takes.
        assert!(cold.abs_diff(warm) < 30_000, "{name}: {cold} us cold, {warm} us warm");
    }
}
