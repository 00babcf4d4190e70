//! An intrusion as Cowrie has it: what our sink writes of one, and what Cowrie itself does of the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Ns, Running, sh, wait_for};
use crate::python::packages;
use crate::sinks::jq;
use crate::ssh_recorded::OPTIONS;
use crate::typist::{COLUMNS, ROWS, typing};

const RECORDED: &str = r#"
name: intruded
sinks:
  cowrie: {format: cowrie, to: "file:cowrie.json"}
templates:
  any: {personality: linux, tcp: {22: {container: ssh, passwords: {root: [second]}, refusal: 100ms}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  any: {kind: host, address: 192.0.2.10, template: any}
  store: {kind: host, address: 192.0.2.66, tcp: {80: {http: {server: nginx, pages: {/bot: "echo bot"}}}}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
  - endpoints: [store, "core:3"]
"#;

#[test]
fn an_intrusion_by_ssh_reads_as_cowrie_has_it() {
    let mut lab = Lab::up(RECORDED);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;
    let ssh = |password: &str, args: &str| {
        let command = format!("sshpass -p {password} ssh {} {args}", OPTIONS.join(" "));
        from.run(&["sh", "-c", &command])
    };
    assert!(!ssh("first", "root@192.0.2.10 true").status.success());
    let output = ssh("second", "root@192.0.2.10 'uname -a'");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Typed, with a mistake that is mended.
    let lines = [
        ("assword:", "second"),
        ("# ", "echx\x7fo $((6*7))"),
        (r"42\r\n.*# ", "wget http://192.0.2.66/bot"),
        ("saved.*# ", "busybox wget -qO /tmp/x http://192.0.2.66/none"),
        ("404.*# ", "exit"),
    ];
    typing(&lines, &[&["ssh"][..], &OPTIONS, &["root@192.0.2.10"]].concat(), |words| from.sh(words));
    let bot = lab.file("bot", "#!/bin/sh\n:\n");
    let scp = format!("sshpass -p second scp -O {} {} root@192.0.2.10:/tmp/bot", OPTIONS.join(" "), bot.display());
    from.sh(&["sh", "-c", &scp]);
    lab.wait_told("shell.command", "192.0.2.10", &["\"wget http://192.0.2.66/bot\""]);
    lab.wait_told("ssh.file", "192.0.2.10", &["bot"]);
    wait_for("four connections to end", || {
        let ended = |event: &&Value| event["event"] == "tcp.close" && event["dst"]["port"] == 22;
        (lab.events().iter().filter(ended).count() >= 4).then_some(())
    });
    lab.down();

    let of_session = |number: usize| {
        let program = format!(
            "[group_by(.session)[] | sort_by(.timestamp)] | sort_by(.[0].timestamp) | .[{number}] | \
             map(.eventid | sub(\"cowrie.\"; \"\") | select(. != \"client.var\")) | join(\" \")"
        );
        jq(&lab, "cowrie.json", &program)
    };
    let hello = "session.connect client.version client.kex";
    assert_eq!(of_session(0), format!("{hello} login.failed session.closed"));
    assert_eq!(of_session(1), format!("{hello} login.success session.params command.input log.closed session.closed"));
    assert_eq!(
        of_session(2),
        format!(
            "{hello} login.success client.size session.params command.input command.input session.file_download command.input \
             session.file_download.failed command.input log.closed session.closed"
        )
    );
    assert!(of_session(3).contains("session.file_upload"), "{}", of_session(3));
    let inputs = jq(&lab, "cowrie.json", "sort_by(.timestamp) | map(.input // empty) | join(\";\")");
    assert!(inputs.starts_with("uname -a;echo $((6*7));wget http://192.0.2.66/bot;busybox wget"), "{inputs}");
    // What was fetched inside, by whose connection.
    let fetched = "map(select(.url // \"\" | startswith(\"http\")) | [.url, .destfile, .protocol, .dst_port] | map(tostring) | join(\" \"))";
    let fetched = jq(&lab, "cowrie.json", &format!("{fetched} | join(\";\")"));
    assert_eq!(fetched, "http://192.0.2.66/bot /root/bot ssh 22;http://192.0.2.66/none null ssh 22");
    let logins =
        "map(select(.eventid | startswith(\"cowrie.login\")) | [.username, .password] | join(\"/\"))[:2] | join(\" \")";
    assert_eq!(jq(&lab, "cowrie.json", logins), "root/first root/second");
    let digest = sh(&["sha256sum", bot.to_str().unwrap()]);
    let upload = jq(&lab, "cowrie.json", "map(select(.eventid == \"cowrie.session.file_upload\"))[0].shasum");
    assert_eq!(Some(upload.as_str()), digest.split(' ').next());
    let fields = "map(has(\"timestamp\") and has(\"src_ip\") and has(\"session\") and has(\"sensor\") and has(\"message\")) | all";
    assert_eq!(jq(&lab, "cowrie.json", fields), "true");
}

/// Cowrie and what it needs.
fn cowrie() -> std::path::PathBuf {
    packages("cowrie/core/events.py", &["cowrie==3.1.4"])
}

/// Cowrie, in `ns` at this port; its state, and what it writes.
fn start_cowrie(lab: &Lab, ns: &Ns, port: u16) -> (Running, std::path::PathBuf) {
    let dir = lab.path("cowrie-itself");
    for part in ["etc", "var/run", "var/log/cowrie", "var/lib/cowrie/tty", "var/lib/cowrie/downloads"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    let log = dir.join("cowrie.json");
    let config = format!(
        "[honeypot]\nsensor_name = itself\n[ssh]\nlisten_endpoints = tcp:{port}:interface=127.0.0.1\n\
         [telnet]\nenabled = true\nlisten_endpoints = tcp:2323:interface=127.0.0.1\n\
         [output_jsonlog]\nenabled = true\nlogfile = {}\n",
        log.display()
    );
    std::fs::write(dir.join("etc/cowrie.cfg"), config).unwrap();
    // It refuses to be root, and to whom files belong is the same where nobody has a name.
    let start = "cd \"$1\" && exec unshare -U /usr/bin/python3 \"$2\" --umask=0022 -n --pidfile= cowrie";
    let packages = cowrie();
    let twistd = packages.join("bin/twistd");
    let mut command = ns.command(&["sh", "-c", start, "sh", dir.to_str().unwrap(), twistd.to_str().unwrap()]);
    command.env("PYTHONPATH", &packages).env("PYTHONDONTWRITEBYTECODE", "1").env("TZ", "UTC").env("HOME", &dir);
    let running = Running::start(&mut command);
    let listens = format!("sport = :{port} or sport = :2323");
    wait_for("Cowrie to listen", || (ns.sh(&["ss", "-Hltn", &listens]).lines().count() == 2).then_some(()));
    (running, log)
}

/// Somebody breaks in at `host`, in all the ways that have an event of Cowrie's.
fn intrude(lab: &Lab, host: &str, port: u16) {
    let from = &lab.attacker;
    let key = lab.path("key");
    if !key.exists() {
        sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    }
    let (key, target) = (key.to_str().unwrap(), format!("root@{host}"));
    let common =
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o NumberOfPasswordPrompts=1";
    let run = |command: String| from.run(&["sh", "-c", &format!("export LC_ALL=C; {command}")]);
    let ssh = format!("sshpass -p second ssh -F none {common} -p {port} -o PreferredAuthentications=password");
    let wrong =
        format!("sshpass -p 123456 ssh -F none {common} -p {port} -o PreferredAuthentications=password {target} true");
    assert!(!run(wrong).status.success());
    let offers = ssh.replace("=password", "=publickey,password");
    let missing = run(format!("{offers} -i {key} -o SendEnv=LC_ALL {target} nosuch"));
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert!(run(format!("echo hello | {ssh} {target} 'cat >/tmp/x'")).status.success());
    let options: Vec<&str> = common.split(' ').chain(["-o", "PreferredAuthentications=password"]).collect();
    let port_text = port.to_string();
    let program =
        [&["sshpass", "-p", "second", "ssh", "-F", "none", "-p", &port_text][..], &options, &[&target]].concat();
    // No password is asked for where somebody can be told so: sshpass answers.
    typing(&[("# ", "id"), ("gid=.*# ", "exit")], &program, |words| from.sh(words));
    for (name, protocol) in [("first", "-O"), ("second", "-s")] {
        let file = lab.file(name, &format!("#!/bin/sh\n# {name}\n"));
        let scp = format!(
            "sshpass -p second scp {protocol} -F none {common} -P {port} {} {target}:/tmp/{name}",
            file.display()
        );
        let moved = run(scp);
        assert!(moved.status.success() || host == "127.0.0.1", "{moved:?}");
    }
    run(format!("echo EHLO | timeout 5 {ssh} -W 127.0.0.1:22 {target}"));
}

/// The types of JSON of an event's fields.
type Fields = BTreeMap<String, BTreeSet<&'static str>>;

/// The fields of each event, those that each of that kind has first, then those that some have.
fn fields(lines: &[Value]) -> BTreeMap<String, (Fields, Fields)> {
    let kind = |value: &Value| match value {
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Array(_) => "list",
        _ => "other",
    };
    let mut all: BTreeMap<String, (Fields, Fields)> = BTreeMap::new();
    for line in lines {
        let of: Fields =
            line.as_object().unwrap().iter().map(|(name, value)| (name.clone(), [kind(value)].into())).collect();
        let (always, some) =
            all.entry(line["eventid"].as_str().unwrap().to_owned()).or_insert_with(|| (of.clone(), Fields::new()));
        always.retain(|name, _| of.contains_key(name));
        for (name, kinds) in of {
            some.entry(name).or_default().extend(kinds);
        }
    }
    all
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What each event of a kind has in these fields.
fn values(lines: &[Value], id: &str, names: &[&str]) -> BTreeSet<String> {
    let of = lines.iter().filter(|line| line["eventid"] == format!("cowrie.{id}"));
    of.map(|line| names.iter().map(|name| line[name].to_string().replace(" \"", "\"") + ";").collect()).collect()
}

/// There are the same events, and what each of `theirs` has `ours` has, too, in the same types.
fn has_the_same_fields(ours: &[Value], theirs: &[Value]) {
    let (our_fields, their_fields) = (fields(ours), fields(theirs));
    assert_eq!(our_fields.keys().collect::<Vec<_>>(), their_fields.keys().collect::<Vec<_>>(), "events");
    for (id, (always, some)) in &their_fields {
        let (our_always, our_some) = &our_fields[id];
        for (name, kinds) in always {
            assert_eq!(our_always.get(name), Some(kinds), "{id} has {name}");
        }
        for (name, kinds) in some {
            assert!(our_some.get(name).is_none_or(|ours| ours == kinds), "{id}: {name} is {kinds:?}, not {our_some:?}");
        }
    }
}

/// What reads Cowrie's lines in Cowrie: its writers of other forms.
const READERS: &str = r#"
import json, sys
from cowrie.core.cef import formatCef
from cowrie.core.ocsf import formatOCSF

classes = {}
for line in open(sys.argv[1]):
    event = json.loads(line)
    assert formatCef(event).startswith("CEF:0|Cowrie|")
    classes[event["eventid"]] = formatOCSF(event).get("class_uid")
print(json.dumps(classes))
"#;

#[test]
fn the_same_intrusion_reads_as_cowrie_itself_has_it() {
    let mut lab = Lab::up(RECORDED);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let (itself, log) = start_cowrie(&lab, &lab.attacker, 2222);
    intrude(&lab, "127.0.0.1", 2222);
    intrude(&lab, "192.0.2.10", 22);
    let connections = 7;
    wait_for("all connections to end", || {
        let ended = lab.events().iter().filter(|event| event["event"] == "ssh.close").count();
        let of_cowrie = lines(&log).iter().filter(|line| line["eventid"] == "cowrie.session.closed").count();
        (ended >= connections && of_cowrie >= connections).then_some(())
    });
    lab.records_are_as_the_schema_says();
    lab.down();
    drop(itself);
    let written = lab.own_dir().join("sinks/cowrie.json");
    let (ours, theirs) = (lines(&written), lines(&log));
    has_the_same_fields(&ours, &theirs);
    // What does not depend on the host is the same.
    for (id, names) in [
        ("client.version", &["version", "protocol"][..]),
        (
            "client.kex",
            &["hassh", "hasshAlgorithms", "kexAlgs", "keyAlgs", "encCS", "macCS", "compCS", "langCS", "message"],
        ),
        ("client.fingerprint", &["username", "fingerprint", "key", "type", "message"]),
        ("client.var", &["name", "value", "message"]),
        ("client.size", &["width", "height", "message"]),
        ("session.params", &["arch", "message"]),
        ("login.failed", &["username", "password", "key", "message"]),
        ("login.success", &["username", "password", "message"]),
        ("command.failed", &["input"]),
        ("direct-tcpip.request", &["dst_ip", "dst_port", "orig_ip"]),
    ] {
        assert_eq!(values(&ours, id, names), values(&theirs, id, names), "{id}");
        assert!(!values(&ours, id, names).is_empty(), "{id}");
    }
    let inputs = values(&ours, "command.input", &["input"]);
    assert!(values(&theirs, "command.input", &["input"]).is_subset(&inputs), "{inputs:?}");
    let hashes = |lines: &[Value], id| values(lines, id, &["shasum"]);
    for id in ["session.file_upload", "session.file_download"] {
        assert_eq!(hashes(&ours, id), hashes(&theirs, id), "{id}");
        assert!(hashes(&ours, id).iter().all(|hash| hash.len() == 67), "{id}");
    }
    // And what is in Cowrie reads it.
    let readers = lab.file("readers.py", READERS);
    let mut python = std::process::Command::new("/usr/bin/python3");
    python.args([&readers, &written]).env("PYTHONPATH", cowrie()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let classes: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (id, class) in [("login.success", 3002), ("command.input", 1007), ("log.closed", 1001), ("client.kex", 4007)] {
        assert_eq!(classes[format!("cowrie.{id}")], class, "{classes}");
    }
}

const TYPED: &str = r#"
name: typed
sinks:
  cowrie: {format: cowrie, to: "file:cowrie.json"}
templates:
  any: {personality: linux, tcp: {23: {container: telnet}}, backend: {image: terminal}}
images:
  terminal: {recipe: ./terminal}
nodes:
  wan: {kind: uplink}
  any: {kind: host, address: 192.0.2.10, template: any}
links:
  - endpoints: [wan, any]
"#;

const TERMINAL: &str = "
name: terminal
method: unpack
packages: [busybox-static, libc-bin]
services:
  - {name: telnet, port: 23, run: /bin/busybox telnetd -F -p 23 -l /bin/login}
users:
  - {name: root, password: second}
";

#[test]
fn an_intrusion_by_telnet_reads_as_cowrie_itself_has_it() {
    let mut lab = Lab::shared();
    std::fs::create_dir_all(lab.path("terminal")).unwrap();
    lab.file("terminal/recipe.yaml", TERMINAL);
    lab.start(TYPED);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let (itself, log) = start_cowrie(&lab, &lab.attacker, 2222);
    let lines_typed = [
        ("login: ", "root"),
        ("assword: ", "123456"),
        ("login: ", "root"),
        ("assword: ", "second"),
        ("# ", "id"),
        ("gid=.*# ", "exit"),
    ];
    for program in [&["telnet", "127.0.0.1", "2323"][..], &["telnet", "192.0.2.10"]] {
        typing(&lines_typed, program, |words| lab.attacker.sh(words));
    }
    let is_over = |lines: &[Value]| lines.iter().any(|line| line["eventid"] == "cowrie.session.closed");
    lab.wait_event("tcp.close", |_| true);
    lab.wait_event("telnet.exit", |_| true);
    wait_for("Cowrie's end", || is_over(&lines(&log)).then_some(()));
    lab.records_are_as_the_schema_says();
    lab.down();
    drop(itself);
    let (mut ours, mut theirs) = (lines(&lab.own_dir().join("sinks/cowrie.json")), lines(&log));
    // The terminal's size is an option for Cowrie, of which it tells otherwise than of SSH's.
    let size = values(&ours, "client.size", &["width", "height"]);
    assert_eq!(size, [format!("{COLUMNS};{ROWS};")].into());
    ours.retain(|line| line["eventid"] != "cowrie.client.size");
    theirs.retain(|line| line["eventid"] != "cowrie.telnet.option");
    has_the_same_fields(&ours, &theirs);
    for (id, names) in [
        ("login.failed", &["username", "password", "protocol", "message"][..]),
        ("login.success", &["username", "password", "protocol", "message"]),
        ("session.params", &["arch", "protocol"]),
        ("command.input", &["input", "protocol"]),
    ] {
        assert_eq!(values(&ours, id, names), values(&theirs, id, names), "{id}");
    }
}
