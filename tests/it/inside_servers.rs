//! What real servers in a container say to its log of those who log in: OpenSSH's, `su`, `sudo` and `login`, as Debian has
//! them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::inside::{told, wait_told};
use crate::lab::Lab;
use crate::net::{sh, wait_for};
use crate::shell::shell;
use crate::ssh_recorded::OPTIONS;
use crate::typist::typing;

const HOST: &str = "192.0.2.10";

/// OpenSSH itself answers: nobody is in the middle.
const TOPOLOGY: &str = r#"
name: servers
templates:
  desk: {personality: linux, tcp: {22: container}, backend: {image: workstation, idle: 1h}}
nodes:
  wan: {kind: uplink}
  desk: {kind: host, address: 192.0.2.10, template: desk}
links:
  - endpoints: [wan, desk]
"#;

#[test]
fn what_real_servers_say_of_log_ins_is_understood() {
    let lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let from = &lab.attacker;
    let key = lab.path("key");
    sh(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let ssh = format!("timeout 60 ssh -F none {}", OPTIONS.join(" "));
    let run = |command: &str| from.run(&["sh", "-c", command]);
    let put = format!("sshpass -p linux123 {ssh} plindner@{HOST} 'mkdir -p .ssh; cat >>.ssh/authorized_keys'");
    wait_for("OpenSSH", || run(&format!("echo '{public}' | {put}")).status.success().then_some(()));
    // Whoever is refused waits for two seconds: all of them at once.
    let inside = "(echo wrong | su -c id) & (echo wrong | sudo -kSu akrause id) & sudo -n id; sudo -nu nosuch id; wait; \
                  echo linux123 | sudo -kS /bin/true USER=nobody";
    let with_key = format!("{} -i {}", ssh.replace("=password", "=publickey"), key.display());
    run(&format!(
        "sshpass -p wrong {ssh} plindner@{HOST} true & sshpass -p wrong {ssh} 'bob from 192.0.2.7 port 7 ssh2@{HOST}' true & \
         {with_key} plindner@{HOST} '{inside}'; wait"
    ));
    let typed = [
        ("assword:", "linux123"),
        (r"\$ ", "su -"),
        ("assword: ", "toor"),
        ("# ", "login -h 192.0.2.7 akrause"),
        ("assword: ", "Anja1984"),
        (r"\$ ", "exit"),
        ("# ", "exit"),
        (r"\$ ", "sudo id"),
        ("plindner: ", "linux123"),
        (r"uid=0.*\$ ", "exit"),
    ];
    let target = format!("plindner@{HOST}");
    typing(&typed, &[&["ssh", "-F", "none"][..], &OPTIONS, &[&target]].concat(), |words| from.sh(words));
    shell(from, HOST, "logger the-end");
    wait_told(&lab, "container.log", HOST, |object| object["text"] == "the-end");

    let logins = told(&lab, "container.login", HOST);
    let facts = |login: &Value| ["program", "user", "by", "method", "from", "accepted"].map(|key| login[key].clone());
    let mut said: Vec<Value> = logins.iter().map(|(_, login)| facts(login).to_vec().into()).collect();
    let ssh = |user: &str, method: &str, accepted: bool| json!(["sshd", user, null, method, "192.0.2.2", accepted]);
    let local = |program: &str, user: &str, accepted: bool| json!([program, user, "plindner", null, null, accepted]);
    let mut expected = vec![
        ssh("plindner", "password", true),
        ssh("plindner", "password", false),
        ssh("bob from 192.0.2.7 port 7 ssh2", "password", false),
        ssh("plindner", "publickey", true),
        local("su", "root", false),
        local("sudo", "akrause", false),
        local("sudo", "root", false),
        local("sudo", "nosuch", false),
        local("sudo", "root", true),
        ssh("plindner", "password", true),
        local("su", "root", true),
        json!(["login", "akrause", null, null, null, true]),
        local("sudo", "root", true),
        ssh("root", "password", true),
    ];
    for list in [&mut said, &mut expected] {
        list.sort_by_key(Value::to_string);
    }
    assert_eq!(said, expected);
    // The very connections; what has no address is of the session that the container was leased for.
    for (event, login) in &logins {
        let of_port = |open: &Value| open["src"]["port"] == login["port"] || login["port"].is_null();
        assert_eq!(lab.wait_event("tcp.open", of_port)["session"], event["session"], "{event}");
    }
    // PAM says all of it once more, and what becomes of it: that is no other log-in.
    let log: Vec<Value> =
        told(&lab, "container.log", HOST).into_iter().map(|(_, object)| object["text"].clone()).collect();
    for text in [
        "pam_unix(sshd:session): session opened for user plindner(uid=1000) by (uid=0)",
        "pam_unix(su-l:session): session closed for user root",
        "pam_unix(sudo:session): session opened for user root(uid=0) by plindner(uid=1000)",
    ] {
        assert!(log.contains(&text.into()), "{text} in {log:#?}");
    }
}

/// PostgreSQL's postmaster accepts for all of its backends, and begins workers by itself for as long as it runs.
#[test]
fn a_servers_own_workers_are_not_who_connected_last() {
    let topology =
        TOPOLOGY.replace("22: container", "5432: container").replace("image: workstation", "image: database");
    let lab = Lab::up(&topology);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let server = format!("host={HOST} user=app password=app2021 dbname=customers connect_timeout=5");
    let query = |words: &str| lab.attacker.run(&["psql", "-XAtc", words, &server]).status.success();
    wait_for("PostgreSQL", || query("CREATE TEMP TABLE mine AS SELECT 1").then_some(()));
    let (backend, object) = wait_told(&lab, "container.file", HOST, |object| {
        object["path"].as_str().is_some_and(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with('t')))
    });
    assert_eq!((&backend["src"]["ip"], &object["name"]), (&"192.0.2.2".into(), &"postgres".into()), "{backend}");
    let garbage = "import socket\ns = socket.create_connection(('192.0.2.10', 5432), 20)\n\
                   s.sendall(b'garbage' * 9); s.shutdown(1); s.recv(9)";
    lab.attacker.sh(&["python3", "-c", garbage]);
    let last = object["pid"].as_u64();
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        // Its autovacuum looks at one database after the other.
        let later = told(&lab, "container.file", HOST).into_iter().filter(|(_, file)| file["pid"].as_u64() > last);
        let later: Vec<(Value, Value)> = later.collect();
        assert!(later.iter().all(|(record, _)| record.get("src").is_none()), "{later:#?}");
        let workers: BTreeSet<Option<u64>> = later.iter().map(|(_, file)| file["pid"].as_u64()).collect();
        if workers.len() >= 2 {
            return;
        }
        assert!(Instant::now() < deadline, "no workers: {later:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
