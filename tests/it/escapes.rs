//! Names, passwords and commands that are made of what a terminal acts upon: no command of ours, no file and no sink shows them as
//! they are.

use std::path::PathBuf;

use honeyweave::record::is_harmless;

use crate::lab::Lab;
use crate::net::wait_for;

const TOPOLOGY: &str = r#"
name: escapes
sinks:
  ours: {format: ndjson, to: "file:ours.json"}
  cowrie: {format: cowrie, to: "file:cowrie.json"}
  ecs: {format: ecs, to: "file:ecs.json"}
  eve: {format: eve, to: "file:eve.json"}
  cef: {format: cef, to: "file:cef.log"}
  syslog: {format: syslog, to: "file:syslog.log"}
templates:
  shut: {personality: linux, tcp: {22: {container: ssh, opens: never, refusal: 0ms}}, backend: {image: small}}
nodes:
  wan: {kind: uplink}
  shut: {kind: host, address: 192.0.2.20, template: shut}
links:
  - endpoints: [wan, shut]
"#;

/// A title, a cleared screen, a question that a terminal answers, a clipboard, a link, an image, a bell, controls of eight bits, a
/// text that runs backward, a line of a log that nobody wrote, and what is special in CEF, syslog and JSON; as Python has it.
const ESCAPES: &str = "'\\x1b]0;owned\\x07\\x1b[2J\\x1b[6n\\x1b]52;c;b3duZWQ=\\x07\\x1b]8;;http://192.0.2.9/\\x1b\\\\\\x1bPq\\x1b\\\\\\x07\
    \\x9b31m\\u202egnp.exe\\u2066\\r\\n{\"event\":\"forged\"}\\n<13>1 forged\\n\\x00|=]\"\\\\'";

/// Tries to log in with 30 KB of it as a name, and as a password.
const CLIENT: &str = r#"
import paramiko, sys
bad = ESCAPES * 400
print(len(bad.encode()))
for user, password in [(bad, 'short'), ('root', bad)]:
    transport = paramiko.Transport((sys.argv[1], 22))
    transport.start_client(timeout=20)
    try:
        transport.auth_password(user, password)
        print('let in')
    except paramiko.AuthenticationException:
        print('refused')
    transport.close()
"#;

/// What in `text` a terminal would act upon.
fn harmful(text: &str) -> Vec<char> {
    text.chars().filter(|c| !is_harmless(*c) && *c != '\n').collect()
}

#[test]
fn thirty_kilobytes_of_escapes_as_a_name_are_written_out_everywhere() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let client = lab.file("client.py", &CLIENT.replace("ESCAPES", ESCAPES));
    let said = lab.attacker.sh(&["timeout", "60", "/usr/bin/python3", client.to_str().unwrap(), "192.0.2.20"]);
    let mut said = said.lines();
    assert!(said.next().unwrap().parse::<usize>().unwrap() > 30_000);
    assert_eq!(said.collect::<Vec<_>>(), ["refused", "refused"]);
    // OpenSSH's client takes no such name; dropbear's does.
    let name = "$(printf '\\033]0;owned\\007\\033[2J%.0s' $(seq 50))";
    let client = format!("DROPBEAR_PASSWORD=x dbclient -y -y -l \"{name}\" 192.0.2.20 true");
    let output = lab.attacker.run(&["sh", "-c", &client]);
    assert!(!output.status.success());
    let logins = || lab.events().into_iter().filter(|event| event["event"] == "ssh.login").collect::<Vec<_>>();
    let logins = wait_for("three log-ins", || Some(logins()).filter(|logins| logins.len() >= 3));
    let session = logins[0]["session"].as_str().unwrap();
    lab.wait_event("ssh.close", |_| true);

    for words in [
        &["session", "ls"][..],
        &["session", "show", session],
        &["session", "show", session, "--json"],
        &["session", "ls", "--json"],
        &["session", "replay", session, "--commands"],
        &["events", "ls"],
        &["events", "ls", "--json"],
        &["status"],
        &["status", "--json"],
    ] {
        let output = lab.command(words);
        for stream in [output.stdout, output.stderr] {
            let text = String::from_utf8(stream).unwrap();
            assert_eq!(harmful(&text), Vec::<char>::new(), "{words:?}");
            // The line that nobody wrote is within one that somebody did.
            assert!(!text.lines().any(|line| line.starts_with("{\"event\":\"forged\"}") || line.starts_with("<13>1")));
        }
    }
    let of_sinks: Vec<PathBuf> = ["ours.json", "cowrie.json", "ecs.json", "eve.json", "cef.log", "syslog.log"]
        .map(|name| lab.own_dir().join("sinks").join(name))
        .into();
    let log = lab.own_dir().join("events/events.ndjson");
    for path in of_sinks.iter().chain([&log]) {
        let text = wait_for("a sink", || {
            std::fs::read_to_string(path).ok().filter(|text| text.contains("root") || path.ends_with("eve.json"))
        });
        assert_eq!(harmful(&text), Vec::<char>::new(), "{}", path.display());
        for line in text.lines() {
            if path.extension().is_some_and(|ending| ending == "log") {
                assert!(!line.starts_with("<13>1 forged"), "{}: {line}", path.display());
            } else {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_ne!(value["event"], "forged", "{}", path.display());
            }
        }
    }
}
