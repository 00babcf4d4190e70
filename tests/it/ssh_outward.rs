//! What clients of SSH do besides typing, through a whole honeynet: forwards that leave by the container's gate, agents, other
//! programs than OpenSSH, and file names that are no text.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use honeyweave::relay::tape::Text;
use serde_json::Value;

use crate::crash::Session;
use crate::inside::{told, wait_told};
use crate::isolation::server;
use crate::lab::Lab;
use crate::net::{sh, wait_for};
use crate::shell::shell;
use crate::ssh_recorded::OPTIONS;

const TOPOLOGY: &str = r#"
name: outward
templates:
  open: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}, outward: reflect}
  shut: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}, outward: drop}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  edge: {kind: router, interfaces: {wan: [192.0.2.1/24], servers: [10.10.0.1/24]}}
  core: {kind: switch, ports: 3}
  open: {kind: host, address: 10.10.0.20, template: open}
  shut: {kind: host, address: 10.10.0.30, template: shut}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:servers", "core:1"]
  - endpoints: [open, "core:2"]
  - endpoints: [shut, "core:3"]
"#;

const HOST: &str = "10.10.0.20";
const SHUT: &str = "10.10.0.30";
/// Somewhere in the world, which is made up.
const OUTSIDE: &str = "203.0.113.9";

#[test]
fn what_clients_do_besides_typing_passes_the_gate_and_is_recorded() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let mut watch = lab.attacker.spawn(&["tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", "not", "port", "22"]);
    watch.wait_line("listening on");
    forwards_and_an_agent(&lab);
    nothing_leaves_where_nothing_may(&lab);
    // Of all that the real world saw nothing.
    lab.attacker.sh(&["ping", "-c", "1", "-W", "2", HOST]);
    watch.wait_line(&format!("{HOST} > 192.0.2.2: ICMP echo reply"));
    let leaked: Vec<_> = watch.said().iter().filter(|line| line.contains(" IP ") && !line.contains("ICMP")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    drop(watch);
    other_programs(&lab);
    names_that_are_no_text(&lab);
    lab.records_are_as_the_schema_says();
}

/// Waits for the forward of `host` for which `wanted` holds.
fn forward(lab: &Lab, host: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_told(lab, "ssh.forward", host, wanted).0
}

/// A log-in that forwards, from when `ready` was said inside.
fn forwarding(lab: &Lab, host: &str, how: &[&str], command: &str) -> (Session, String) {
    let target = format!("root@{host}");
    let args = [&["-T", "-o", "ExitOnForwardFailure=yes"][..], how, &[&target, command]].concat();
    let mut session = Session::running(lab, "guessed", &args);
    let mut said = String::new();
    while !said.ends_with("ready\n") {
        let line = session.line();
        assert!(!line.is_empty(), "it has ended: {said}");
        said += &line;
    }
    (session, said)
}

fn forwards_and_an_agent(lab: &Lab) {
    let from = &lab.attacker;
    // What it holds is the attacker's alone.
    let (key, agent) = (lab.path("key"), lab.path("agent"));
    let (key, socket) = (key.to_str().unwrap(), agent.to_str().unwrap());
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
    let fingerprint = sh(&["ssh-keygen", "-l", "-f", key]).split(' ').nth(1).unwrap().to_owned();
    let _agent = from.spawn(&["ssh-agent", "-D", "-a", socket]);
    let address = format!("SSH_AUTH_SOCK={socket}");
    wait_for("the agent", || from.run(&["env", &address, "ssh-add", "-q", key]).status.success().then_some(()));
    // Something that is near the attacker, and nowhere in the honeynet.
    from.addr("lo", "198.51.100.7/32");
    let _near = server(from);

    let local = format!("8080:{OUTSIDE}:80");
    let agent = format!("IdentityAgent={socket}");
    let how = [
        "-A",
        "-o",
        &agent,
        "-o",
        "PubkeyAuthentication=no",
        "-L",
        &local,
        "-D",
        "1080",
        "-R",
        "4000:198.51.100.7:8080",
    ];
    let command = "ssh-add -l; wget -q -O - http://127.0.0.1:4000/; echo ready; cat";
    let (session, said) = forwarding(lab, HOST, &how, command);
    // The agent, and what comes back through the port that the client has asked for.
    assert!(said.contains(&fingerprint), "{said}");
    assert!(said.contains("real\n"), "{said}");
    let page = from.ask(&["curl", "-s", "-f", "http://127.0.0.1:8080/"]);
    assert!(page.contains("Welcome to nginx!"), "{page}");
    // By a name that is known inside alone.
    let page =
        from.ask(&["curl", "-s", "-f", "--socks5-hostname", "127.0.0.1:1080", "http://drop.worm.example.net:8080/"]);
    assert!(page.contains("Welcome to nginx!"), "{page}");
    drop(session);

    let opened = forward(lab, HOST, |told| told["kind"] == "direct-tcpip" && told["host"] == OUTSIDE);
    let out = lab.wait_event("outward.reflect", |event| event["dst"]["ip"] == OUTSIDE && event["dst"]["port"] == 80);
    assert_eq!((&out["src"]["ip"], &out["cause"]), (&HOST.into(), &opened["session"]), "{out}");
    forward(lab, HOST, |told| {
        told["kind"] == "direct-tcpip" && told["host"] == "drop.worm.example.net" && told["port"] == 8080
    });
    let out = lab.wait_event("outward.reflect", |event| event["dst"]["port"] == 8080);
    assert_eq!((&out["src"]["ip"], &out["cause"]), (&HOST.into(), &opened["session"]), "{out}");
    forward(lab, HOST, |told| told["kind"] == "listen" && told["port"] == 4000 && told["accepted"] == true);
    forward(lab, HOST, |told| told["kind"] == "forwarded-tcpip" && told["port"] == 4000);
    forward(lab, HOST, |told| told["kind"] == "agent-offer");
    forward(lab, HOST, |told| told["kind"] == "agent");
    let id = opened["session"].as_str().unwrap();
    let shown = String::from_utf8(lab.command(&["session", "show", id]).stdout).unwrap();
    for part in [&*format!("to {OUTSIDE}:80"), "to drop.worm.example.net:8080", "4000", "to the client's agent"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

fn nothing_leaves_where_nothing_may(lab: &Lab) {
    let local = format!("8081:{OUTSIDE}:80");
    let (_session, _) = forwarding(lab, SHUT, &["-L", &local], "echo ready; cat");
    let page = lab.attacker.run(&["curl", "-s", "-f", "--max-time", "1", "http://127.0.0.1:8081/"]);
    assert!(!page.status.success(), "{page:?}");
    let dropped = lab.wait_event("outward.drop", |event| event["dst"]["ip"] == OUTSIDE && event["dst"]["port"] == 80);
    assert_eq!(dropped["src"]["ip"], SHUT, "{dropped}");
}

fn other_programs(lab: &Lab) {
    let from = &lab.attacker;
    let home = format!("HOME={}", lab.file("home/none", "").parent().unwrap().display());
    let target = format!("root@{HOST}");
    let known = lab.file("known", &from.sh(&["ssh-keyscan", "-T", "10", "-t", "ed25519", HOST]));
    let key = sh(&["ssh-keygen", "-l", "-f", known.to_str().unwrap()]).split(' ').nth(1).unwrap().to_owned();
    let run = |words: &[&str], status| {
        let output = from.run(&[&["timeout", "60", "env", &home, "DROPBEAR_PASSWORD=by-dropbear"], words].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {output:?}");
        said
    };
    let plink = ["plink", "-ssh", "-batch", "-hostkey", &key, "-pw", "by-putty", &target, "id -u; exit 3"];
    assert_eq!(run(&plink, 3), "0\n");
    assert_eq!(run(&["dbclient", "-y", "-y", &target, "id -u; exit 4"], 4), "0\n");
    let content: Vec<u8> = (0..300_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let binary = lab.path("binary");
    fs::write(&binary, &content).unwrap();
    let by = format!("sshpass -p by-rsync ssh {}", OPTIONS.join(" "));
    run(&["rsync", "-az", "-e", &by, binary.to_str().unwrap(), &format!("{target}:/tmp/binary")], 0);
    let sum = |said: String| said.split(' ').next().unwrap().to_owned();
    let inside = sum(shell(from, HOST, "sha256sum /tmp/binary"));
    assert_eq!(inside, sum(sh(&["sha256sum", binary.to_str().unwrap()])));
    for (client, password) in [("SSH-2.0-PuTTY", "by-putty"), ("SSH-2.0-dropbear", "by-dropbear")] {
        wait_told(lab, "ssh.hello", HOST, |told| told["banner"].as_str().is_some_and(|said| said.starts_with(client)));
        lab.wait_told("ssh.login", HOST, &[password]);
    }
    wait_told(lab, "ssh.command", HOST, |told| {
        told["command"].as_str().is_some_and(|command| command.starts_with("rsync --server"))
    });
}

/// A line, what sets a terminal's title, and what is no UTF-8.
const NAMES: [&[u8]; 3] = [b"new\nline", b"\x1b]0;owned\x07", b"\xff\xfe"];

/// The files in a directory, by their names.
fn names_in(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn sha256(content: &[u8]) -> String {
    honeyweave::wire::hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref())
}

/// Panics if a terminal would do something, or a line ended where none should.
fn assert_harmless(what: &str, text: &str) {
    let bad = |c: char| c.is_control() && c != '\n' || c == char::REPLACEMENT_CHARACTER;
    assert!(!text.contains(bad), "{what}: {text:?}");
}

fn names_that_are_no_text(lab: &Lab) {
    let from = &lab.attacker;
    for (way, number) in [("-s", 1), ("-O", 2)] {
        let kit = lab.path(&format!("kit{number}"));
        fs::create_dir(&kit).unwrap();
        let content = |name: &[u8]| [&b"by "[..], way.as_bytes(), b": ", name].concat();
        for name in NAMES {
            fs::write(kit.join(OsStr::from_bytes(name)), content(name)).unwrap();
        }
        let scp = |from_to: [&str; 2]| {
            let words = [&["timeout", "60", "sshpass", "-p", "x", "scp", "-r", "-T", way][..], &OPTIONS, &from_to];
            let output = from.run(&words.concat());
            assert!(output.status.success(), "{way}: {output:?}");
        };
        let (there, back) = (format!("root@{HOST}:/root/kit{number}"), lab.path(&format!("back{number}")));
        scp([kit.to_str().unwrap(), &there]);
        scp([&there, back.to_str().unwrap()]);
        // The old protocol has no line in a name: the client writes it otherwise.
        let sent =
            |name: &[u8]| if way == "-O" && name.contains(&b'\n') { b"new\\^Jline".to_vec() } else { name.into() };
        let expected: BTreeSet<OsString> = NAMES.iter().map(|name| OsString::from_vec(sent(name))).collect();
        assert_eq!(names_in(&back), expected, "{way}");
        for name in NAMES {
            assert_eq!(fs::read(back.join(OsStr::from_bytes(&sent(name)))).unwrap(), content(name), "{way}");
            let digest = sha256(&content(name));
            let shown = Text::new(sent(name));
            for direction in ["upload", "download"] {
                let (record, _) = wait_told(lab, "ssh.file", HOST, |told| {
                    let is_named =
                        told["path"].as_str().is_some_and(|path| path.trim_end_matches(']').ends_with(shown.as_str()));
                    is_named && told["direction"] == direction && told["sha256"] == digest.as_str()
                });
                assert_harmless("a record", record["text"].as_str().unwrap());
            }
        }
    }
    let id = told(lab, "ssh.file", HOST)[0].0["session"].as_str().unwrap().to_owned();
    assert!(lab.command(&["container", "snapshot", HOST]).status.success());
    let taken = lab.wait_event("evidence.taken", |event| event["dst"]["ip"] == HOST);
    let archive = taken["archive"].as_str().unwrap();
    for args in
        [&["session", "show", &id][..], &["session", "diff", &id], &["evidence", "show", archive], &["events", "ls"]]
    {
        let output = lab.command(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_harmless(args[0], &shown);
        if args[1] == "show" {
            assert!(shown.contains("owned") && shown.contains("line"), "{args:?}: {shown}");
        }
    }
    look_into(lab, &id, archive);
}

/// A bundle, by the field's own `tar`: its names are plain, and the files of the container have those that they had.
fn look_into(lab: &Lab, id: &str, archive: &str) {
    let (bundle, out) = (lab.path("bundle.tar.zst"), lab.path("exported"));
    let output = lab.command(&["session", "export", id, "--plain", "-o", bundle.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_harmless("an export", &String::from_utf8(output.stdout).unwrap());
    let unpack = |packed: &Path, to: &Path| {
        fs::create_dir(to).unwrap();
        sh(&["tar", "--zstd", "-C", to.to_str().unwrap(), "-xf", packed.to_str().unwrap()]);
        sh(&["tar", "--zstd", "-tf", packed.to_str().unwrap()])
    };
    let members = unpack(&bundle, &out);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./\n".contains(c);
    assert!(members.chars().all(plain), "{members}");
    for name in NAMES {
        let content = [&b"by -s: "[..], name].concat();
        let digest = sha256(&content);
        assert_eq!(fs::read(out.join("files").join(format!("sha256-{digest}"))).unwrap(), content);
    }
    let inside = lab.path("inside");
    let members = unpack(&out.join("evidence").join(archive), &inside);
    assert!(members.chars().all(plain), "{members}");
    let manifest: Value = serde_json::from_slice(&fs::read(inside.join("manifest.json")).unwrap()).unwrap();
    let paths: BTreeSet<&str> = manifest["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|change| change["path"].as_str()?.strip_prefix("/root/kit1/"))
        .collect();
    assert_eq!(paths, [r"\x1b]0;owned\x07", r"\xff\xfe", r"new\x0aline"].into());
}
