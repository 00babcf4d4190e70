//! Containers whose services in the clear have somebody beside them who reads: real clients and real servers.

use serde_json::Value;

use crate::lab::Lab;
use crate::net::wait_for;

const TOPOLOGY: &str = r#"
name: plain
templates:
  weak: {personality: linux, tcp: {80: {container: http}}, backend: {image: weak}}
  file: {personality: linux, tcp: {21: {container: ftp}, 20000-65000: container}, backend: {image: file}}
  mail: {personality: linux, tcp: {25: {container: smtp}, 143: {container: imap}}, backend: {image: mail}}
  database: {personality: linux, tcp: {5432: {container: postgresql, keep: 64K}}, backend: {image: database}}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 5}
  weak: {kind: host, address: 192.0.2.10, template: weak}
  file: {kind: host, address: 192.0.2.11, template: file}
  mail: {kind: host, address: 192.0.2.12, template: mail}
  database: {kind: host, address: 192.0.2.13, template: database}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [weak, "core:2"]
  - endpoints: [file, "core:3"]
  - endpoints: [mail, "core:4"]
  - endpoints: [database, "core:5"]
"#;

/// What `session show` tells of the connection in which that command was given.
pub fn connection(lab: &Lab, host: &str, command: &str) -> Value {
    wait_for(command, || {
        let sessions = lab.json(&["session", "ls", "--host", host]);
        let shown = lab.json(&["session", "show", sessions[0]["session"].as_str()?]);
        let is_it = |connection: &&Value| {
            let commands = connection["commands"].as_array();
            connection["end"].is_string() && commands.into_iter().flatten().any(|row| row["command"] == command)
        };
        shown["connections"].as_array()?.iter().find(is_it).cloned()
    })
}

/// What is kept of the octets of the only connection of a protocol, by their direction.
fn octets(lab: &Lab, protocol: &str) -> [Vec<u8>; 2] {
    let sessions = std::fs::read_dir(lab.own_dir().join("sessions")).unwrap().flatten();
    let files = sessions.flat_map(|session| std::fs::read_dir(session.path()).unwrap().flatten());
    let is_it = |name: &str| name.contains(&format!("-{protocol}-")) && name.ends_with(".octets");
    let mut files = files.filter(|file| is_it(&file.file_name().to_string_lossy()));
    let file = files.next().unwrap_or_else(|| panic!("no octets of {protocol}"));
    assert!(files.next().is_none(), "there is but one connection");
    let mut kept = [Vec::new(), Vec::new()];
    for line in std::fs::read_to_string(file.path()).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(data) = line["data"].as_str() {
            kept[usize::from(line["stream"] != "input")].extend(honeyweave::record::base64_decode(data).unwrap());
        }
    }
    kept
}

#[test]
fn what_is_said_in_the_clear_is_read() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;

    let url = "http://192.0.2.10/?a=b";
    let asked = from.run(&["curl", "-sfiv", "--raw", "-m", "60", "-A", "evil/1.0", "-u", "admin:geheim", url]);
    assert!(asked.status.success() && String::from_utf8_lossy(&asked.stdout).contains("<html>"), "{asked:?}");
    lab.wait_told("service.request", "192.0.2.10", &["GET /?a=b", "agent=evil/1.0", "host=192.0.2.10"]);
    // The page is anybody's: that the password was let pass says nothing.
    let login = lab.wait_told("service.login", "192.0.2.10", &["admin", "geheim", "\"asked\":false"]);
    assert!(!login["text"].as_str().unwrap().contains("accepted"), "{login}");
    let shown = connection(&lab, "192.0.2.10", "GET /?a=b");
    assert_eq!(
        (&shown["protocol"], &shown["attempts"][0]["credential"], &shown["attempts"][0]["accepted"]),
        (&"http".into(), &"geheim".into(), &serde_json::Value::Null),
        "{shown}"
    );
    // All octets are there, too: those that curl says it has sent, and those that it got.
    let said = String::from_utf8_lossy(&asked.stderr);
    let sent = said.lines().filter_map(|line| line.strip_prefix("> ")).map(|line| format!("{}\r\n", line.trim_end()));
    let kept = octets(&lab, "http");
    assert_eq!(String::from_utf8_lossy(&kept[0]), sent.collect::<String>());
    assert_eq!(String::from_utf8_lossy(&kept[1]), String::from_utf8_lossy(&asked.stdout));

    let list = from.ask(&["curl", "-sf", "-u", "scanner:scanner", "ftp://192.0.2.11/incoming/"]);
    assert!(list.contains("scan_0031.txt"), "{list}");
    assert!(!from.run(&["curl", "-sf", "-u", "scanner:wrong", "ftp://192.0.2.11/incoming/"]).status.success());
    lab.wait_told("service.login", "192.0.2.11", &["scanner", "\"scanner\"", "true"]);
    lab.wait_told("service.login", "192.0.2.11", &["scanner", "wrong", "false"]);
    lab.wait_told("service.request", "192.0.2.11", &["CWD incoming"]);

    let letter = lab.file("letter", "From: a@b.example\r\nSubject: hi\r\n\r\nmeet me at noon\r\n");
    let send = ["--mail-from", "a@b.example", "--mail-rcpt", "svogt@localhost", "-T", letter.to_str().unwrap()];
    from.ask(&[&["curl", "-sf", "smtp://192.0.2.12"][..], &send].concat());
    lab.wait_told("service.request", "192.0.2.12", &["RCPT TO:<svogt@localhost>"]);
    from.ask(&["curl", "-sf", "-u", "svogt:Sabine1", "imap://192.0.2.12/INBOX?ALL"]);
    lab.wait_told("service.login", "192.0.2.12", &["svogt", "Sabine1", "true"]);

    let server = "host=192.0.2.13 user=app password=app2021 dbname=customers connect_timeout=5";
    let rows = from.ask(&["psql", "-XAtc", "SELECT count(*) FROM orders", server]);
    assert_eq!(rows.trim(), "4000");
    lab.wait_told("service.login", "192.0.2.13", &["app", "scram", "true"]);
    lab.wait_told("service.request", "192.0.2.13", &["SELECT count(*) FROM orders"]);
    let shown = connection(&lab, "192.0.2.13", "SELECT count(*) FROM orders");
    assert_eq!((&shown["user"], &shown["lost"]), (&"app".into(), &0.into()), "{shown}");
}

/// Each guess is a connection of two files; the session's are for whoever is let in.
#[test]
fn who_guesses_for_long_leaves_events_and_room_for_who_is_let_in() {
    const HOST: &str = "192.0.2.13";
    const GUESSES: usize = 560;
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;
    let server = |word: &str| {
        format!("host={HOST} user=app password={word} dbname=customers sslmode=disable connect_timeout=20")
    };
    let guess = format!("seq {GUESSES} | xargs -P 8 -I NO psql -XAtc 'SELECT 1' '{}'", server("wrong-NO"));
    let said = from.run(&["sh", "-c", &guess]);
    // Where the machine is slow, a client may have given up before.
    let refused = String::from_utf8_lossy(&said.stderr).matches("password authentication failed").count();
    assert!(refused > GUESSES * 9 / 10, "{said:?}");
    let logins = || {
        let events = lab.events();
        events.iter().filter(|event| event["event"] == "service.login" && event["dst"]["ip"] == HOST).count()
    };
    wait_for("an event for each", || (logins() >= refused).then_some(()));
    let failed = lab.wait_event("recording.failed", |event| {
        event["reason"].as_str().is_some_and(|why| why.contains("more than 1000 files"))
    });
    let dir = lab.own_dir().join("sessions").join(failed["session"].as_str().unwrap());
    let files = || std::fs::read_dir(&dir).unwrap().count();
    wait_for("the last files to go", || (files() <= 1000).then_some(()));
    assert!(files() >= 990, "{}", files());

    let rows = from.ask(&["psql", "-XAtc", "SELECT count(*) FROM orders", &server("app2021")]);
    assert_eq!(rows.trim(), "4000");
    let shown = connection(&lab, HOST, "SELECT count(*) FROM orders");
    assert_eq!((&shown["user"], &shown["lost"]), (&"app".into(), &0.into()), "{shown}");
    assert!(files() > 1000);
}

/// Somebody is in the middle of ports at which nothing listens: in the clear, and within TLS.
const DEAF: &str = r#"
name: deaf
templates:
  deaf:
    personality: linux
    tcp: {80: {container: http}, 443: {container: http, tls: true, inside: clear}, 3306: {container: mysql}}
    backend: {image: small}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 2}
  deaf: {kind: host, address: 192.0.2.10, template: deaf}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [deaf, "core:2"]
"#;

#[test]
fn a_port_at_which_nothing_listens_inside_is_unreachable() {
    let lab = Lab::up(DEAF);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let asked = "for url in http://192.0.2.10/ https://192.0.2.10/ http://192.0.2.10:3306/; do curl -sk -m 60 $url & done; wait";
    lab.attacker.run(&["sh", "-c", asked]);
    for port in [80, 443, 3306] {
        lab.wait_event("service.failed", |event| event["dst"]["port"] == port);
    }
    let sessions = lab.json(&["session", "ls", "--host", "192.0.2.10"]);
    let id = sessions[0]["session"].as_str().unwrap();
    let connections = wait_for("their ends", || {
        let shown = lab.json(&["session", "show", id]);
        let all = shown["connections"].as_array()?.clone();
        (all.len() == 3 && all.iter().all(|one| one["end"].is_string())).then_some(all)
    });
    for one in &connections {
        assert_eq!(one["end"], "unreachable", "{one}");
        assert_eq!(one["detail"], "the container does not take the connection", "{one}");
    }
    let shown = lab.command(&["session", "show", id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.matches("nothing inside could be reached: the container").count(), 3, "{shown}");
}
