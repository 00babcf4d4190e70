//! One container with many services, others with mail and files, and real clients of all of them with somebody in the middle: what is
//! recorded, what of it others can decrypt, and that no password is anywhere where none shall be.

use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Ns, sh, wait_for};
use crate::plain_recorded::connection;
use crate::privacy::{contains, files, unpacked};
use crate::session_diff::export;
use crate::ssh_middle::lab::noise;
use crate::ssh_recorded::OPTIONS;
use crate::tls_middle::lab::certificate;
use crate::typist::typing;

/// `privacy` may be put in front of it.
const TOPOLOGY: &str = r#"
name: many
templates:
  many:
    personality: linux
    tcp:
      22: {container: ssh, refusal: 100ms}
      23: {container: telnet}
      443: {container: http, inside: clear, client_certificates: true, tls: {subject: {cn: "{sni}", o: ACME}}}
      3306: {container: mysql}
      6379: {container: redis}
    backend: {image: many}
  mail:
    personality: linux
    tcp:
      143: {container: imap, tls: true, starttls: true, inside: clear}
    backend: {image: mail}
  file: {personality: linux, tcp: {21: {container: ftp}, 20000-65000: container}, backend: {image: file}}
images:
  many: {recipe: ./many}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 4}
  many: {kind: host, address: 192.0.2.10, template: many}
  mail: {kind: host, address: 192.0.2.11, template: mail}
  file: {kind: host, address: 192.0.2.12, template: file}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [many, "core:2"]
  - endpoints: [mail, "core:3"]
  - endpoints: [file, "core:4"]
"#;

const MANY: &str = "192.0.2.10";
const MAIL: &str = "192.0.2.11";
const FILE: &str = "192.0.2.12";

/// What opens the first of them, and `svogt`'s and `mweber`'s of the others.
const SECRET: &str = "hunter2correcthorse";
const OF_MAIL: &str = "Sabine1";
const OF_FILE: &str = "Sommer2023";

const RECIPE: &str = "
name: many
method: unpack
packages: [busybox-static, dropbear-bin, libc-bin, git, redis-server, mariadb-server-core]
services:
  - {name: ssh, port: 22, run: '/bin/sh -c \"exec dropbear -F -p 22\"'}
  - {name: telnet, port: 23, run: /bin/busybox telnetd -F -p 23 -l /bin/login}
  - {name: web, port: 443, run: /bin/busybox httpd -f -p 443 -h /var/www}
  - {name: mysql, port: 3306, run: /usr/sbin/mariadbd --defaults-file=/etc/many.cnf}
  - {name: redis, port: 6379, run: /usr/bin/redis-server /etc/redis.conf}
users:
  - {name: root, password: hunter2correcthorse}
files:
  - path: /etc/many.cnf
    content: |
      [mariadbd]
      user = root
      datadir = /var/lib/mysql
      socket = /tmp/mysql
      skip-name-resolve
      skip-innodb
      default-storage-engine = Aria
      aria-log-file-size = 8M
  - {path: /etc/redis.conf, content: \"bind 0.0.0.0\\nrequirepass hunter2correcthorse\\nsave \\\"\\\"\\ndir /tmp\\n\"}
  - {path: /var/www/index.html, content: \"<html>inside</html>\"}
";

const TASK: &str = r#"
set -eu
mkdir -p /var/lib/mysql
{
    printf 'CREATE DATABASE mysql;\nUSE mysql;\n'
    cat /usr/share/mysql/mysql_system_tables.sql /usr/share/mysql/mysql_system_tables_data.sql
    printf "FLUSH PRIVILEGES;\nCREATE USER app@'%%' IDENTIFIED BY 'hunter2correcthorse';\nGRANT ALL ON *.* TO app@'%%';\n"
} | /usr/sbin/mariadbd --defaults-file=/etc/many.cnf --bootstrap
git init -q --bare -b main /srv/tools.git
"#;

fn lab(privacy: &str) -> Lab {
    let mut lab = Lab::shared();
    lab.file("many/recipe.yaml", RECIPE);
    lab.file("many/tasks/20-tables.sh", TASK);
    lab.start(&format!("{TOPOLOGY}{privacy}"));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// What a client of Redis with that password hears.
fn redis(from: &Ns, password: &str, words: &[&str]) -> String {
    let client = ["redis-cli", "--no-auth-warning", "-h", MANY, "-a", password];
    String::from_utf8_lossy(&from.run(&[&client[..], words].concat()).stdout).into_owned()
}

fn mariadb(from: &Ns, password: &str, statement: &str) -> Output {
    let (host, password) = (format!("--host={MANY}"), format!("--password={password}"));
    let words = ["--no-defaults", &host, "--user=app", &password, "-Ne", statement];
    from.run(&[&["timeout", "60", "mariadb"][..], &words].concat())
}

/// Git, whose own words reach the host by SSH with that password.
fn git(lab: &Lab, directory: &Path, password: &str, words: &[&str]) -> Output {
    let shell = format!("sshpass -p {password} ssh {}", OPTIONS.join(" "));
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"];
    let directory = ["timeout", "60", "git", "-C", directory.to_str().unwrap()];
    let mut command = lab.attacker.command(&[&directory[..], &who, words].concat());
    command.env("GIT_SSH_COMMAND", shell).env("HOME", lab.path("home")).stdin(Stdio::null()).output().unwrap()
}

/// What it says if it succeeds.
fn git_says(lab: &Lab, directory: &Path, words: &[&str]) -> String {
    let output = git(lab, directory, SECRET, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn session(lab: &Lab, host: &str) -> String {
    let sessions = lab.json(&["session", "ls", "--host", host, "--attacker", "192.0.2.2"]);
    sessions[0]["session"].as_str().unwrap_or_else(|| panic!("{sessions}")).to_owned()
}

#[test]
fn databases_are_asked_and_what_is_pushed_by_git_can_be_had_again() {
    let lab = lab("");
    let from = &lab.attacker;
    wait_for("Redis", || redis(from, SECRET, &["PING"]).starts_with("PONG").then_some(()));
    assert!(redis(from, "wrong", &["GET", "x"]).contains("NOAUTH"));
    assert_eq!(redis(from, SECRET, &["SET", "x", "\n\n*/1 * * * * root id\n"]), "OK\n");
    assert!(redis(from, SECRET, &["-3", "GET", "x"]).contains("root id"));
    lab.wait_told("service.login", MANY, &["default", SECRET, "true"]);
    lab.wait_told("service.login", MANY, &["default", "wrong", "false"]);
    lab.wait_told("service.request", MANY, &["SET x ", "*/1 * * * * root id"]);
    let shown = connection(&lab, MANY, "GET x");
    assert_eq!((&shown["protocol"], &shown["lost"]), (&"redis".into(), &0.into()), "{shown}");

    let rows = wait_for("MariaDB", || Some(mariadb(from, SECRET, "SELECT 6*7")).filter(|said| said.status.success()));
    assert_eq!(rows.stdout, b"42\n");
    let refused = mariadb(from, "wrong", "SELECT 1");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Access denied for user 'app'"), "{refused:?}");
    lab.wait_told("service.login", MANY, &["app", "mysql", "true"]);
    lab.wait_told("service.login", MANY, &["app", "mysql", "false"]);
    let shown = connection(&lab, MANY, "SELECT 6*7");
    let told = (&shown["protocol"], &shown["user"], &shown["lost"]);
    assert_eq!(told, (&"mysql".into(), &"app".into(), &0.into()), "{shown}");

    let (work, clone) = (lab.path("work"), lab.path("clone"));
    std::fs::create_dir(&work).unwrap();
    let content = noise(200_000);
    std::fs::write(work.join("implant"), &content).unwrap();
    for words in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "all of it"]] {
        git_says(&lab, &work, words);
    }
    let there = format!("root@{MANY}:/srv/tools.git");
    git_says(&lab, &work, &["push", "-q", &there, "HEAD:refs/heads/main"]);
    git_says(&lab, &work, &["clone", "-q", &there, clone.to_str().unwrap()]);
    assert!(std::fs::read(clone.join("implant")).unwrap() == content);
    let refused = git(&lab, &work, "wrong", &["ls-remote", &there]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    lab.wait_told("ssh.login", MANY, &["\"wrong\"", "false"]);
    // What it has moved is no file with a name, and there is all of it: the pack, behind lines of Git's own.
    let head = git_says(&lab, &work, &["rev-parse", "HEAD"]);
    for (direction, program) in [("input", "git-receive-pack"), ("output", "git-upload-pack")] {
        lab.wait_told("ssh.command", MANY, &[program]);
        let told = lab.wait_told("ssh.file", MANY, &[program, &format!("\"{direction}\"")]);
        let file: Value = serde_json::from_str(told["text"].as_str().unwrap()).unwrap();
        let kept = lab.own_dir().join("sessions").join(told["session"].as_str().unwrap());
        let kept = std::fs::read(kept.join(file["content"].as_str().unwrap())).unwrap();
        if direction == "output" {
            // Within lines, so that pieces of it are all that can be looked for.
            assert!(contains(&kept, b"PACK") && kept.len() > content.len(), "{} octets: {file}", kept.len());
            continue;
        }
        let at = kept.windows(4).position(|part| part == b"PACK").unwrap_or_else(|| panic!("no pack: {file}"));
        let (pack, again) = (lab.path("pack"), lab.path("again"));
        std::fs::write(&pack, &kept[at..]).unwrap();
        std::fs::create_dir(&again).unwrap();
        git_says(&lab, &again, &["init", "-q"]);
        let unpack = format!("git -C {} unpack-objects -q <{}", again.display(), pack.display());
        sh(&["sh", "-c", &unpack]);
        git_says(&lab, &again, &["checkout", "-q", head.trim()]);
        assert!(std::fs::read(again.join("implant")).unwrap() == content, "{file}");
    }
    lab.records_are_as_the_schema_says();
}

/// What tshark finds in a capture, by a filter, of some fields.
fn tshark(capture: &Path, filter: &str, fields: &[&str]) -> String {
    let fields: Vec<&str> = fields.iter().flat_map(|field| ["-e", field]).collect();
    sh(&[&["tshark", "-r", capture.to_str().unwrap(), "-Y", filter, "-T", "fields"][..], &fields].concat())
}

/// The capture of the wire in a session's bundle, once tshark finds by `filter` what `wanted` says, and that without the secrets in it
/// nobody would.
fn decrypted(lab: &Lab, host: &str, filter: &str, fields: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let id = session(lab, host);
    let mut number = 0;
    // All of it must have been written, and may be so a moment later.
    let (capture, seen) = wait_for("a capture that decrypts itself", || {
        number += 1;
        let capture = export(lab, &id, &format!("exported-{host}-{number}")).join("captures/wan.pcapng");
        let seen = tshark(&capture, filter, fields);
        wanted(&seen).then_some((capture, seen))
    });
    let bare = capture.with_extension("bare.pcapng");
    sh(&["editcap", "--discard-all-secrets", capture.to_str().unwrap(), bare.to_str().unwrap()]);
    assert_eq!(tshark(&bare, filter, fields), "");
    seen
}

#[test]
fn what_is_said_within_tls_1_2_and_starttls_can_be_decrypted_from_a_bundle() {
    let lab = lab("");
    let from = &lab.attacker;
    let dir = lab.path("certificates");
    std::fs::create_dir(&dir).unwrap();
    certificate(&dir, "guest", "-newkey rsa:2048");
    let at = |name: &str| dir.join(name).display().to_string();
    let (pem, key) = (at("guest.pem"), at("guest.key"));
    let shop = format!("shop.example:443:{MANY}");
    let curl = |version: &[&str], rest: &[&str]| {
        from.ask(
            &[&["curl", "-skf", "--resolve", &shop][..], version, rest, &["https://shop.example/index.html?at"]]
                .concat(),
        )
    };
    let old = ["--tlsv1.2", "--tls-max", "1.2"];
    assert_eq!(curl(&old, &["--cert", &pem, "--key", &key, "-A", "with/1.2"]), "<html>inside</html>");
    assert_eq!(curl(&["--tlsv1.3"], &["--cert", &pem, "--key", &key, "-A", "with/1.3"]), "<html>inside</html>");
    assert_eq!(curl(&old, &["-A", "without/1.2"]), "<html>inside</html>");
    for agent in ["with/1.2", "with/1.3", "without/1.2"] {
        lab.wait_told("service.request", MANY, &["GET /index.html?at", &format!("agent={agent}")]);
    }
    // The client's certificate is on the tapes of those who have shown it.
    let print = sh(&["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", &pem]);
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    lab.wait_told("tls.certificate", MANY, &[&print, "O=Inside, CN=guest"]);
    let tapes = || {
        let all = files(&lab.own_dir().join("sessions").join(session(&lab, MANY)));
        let tapes = all.iter().filter(|path| path.extension().is_some_and(|name| name == "ndjson"));
        let tapes: Vec<String> = tapes.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        (tapes.len() >= 3 && tapes.iter().all(|tape| tape.contains("\"total\""))).then_some(tapes)
    };
    let tapes = wait_for("three tapes", tapes);
    let shown = tapes.iter().filter(|tape| tape.contains(&print) && tape.contains("O=Inside, CN=guest"));
    assert_eq!(shown.count(), 2, "{tapes:#?}");

    let url = format!("imap://{MAIL}/INBOX?ALL");
    let user = format!("svogt:{OF_MAIL}");
    assert!(from.ask(&["curl", "-skf", "--ssl-reqd", "-u", &user, &url]).contains("SEARCH"));
    lab.wait_told("service.login", MAIL, &["svogt", OF_MAIL, "true"]);

    let fields = ["http.user_agent", "http.request.uri", "tcp.stream"];
    let seen = decrypted(&lab, MANY, "tls && http.request", &fields, |seen| seen.lines().count() >= 3);
    for agent in ["with/1.2\t/index.html?at", "with/1.3\t/index.html?at", "without/1.2\t/index.html?at"] {
        assert!(seen.contains(agent), "{agent}: {seen}");
    }
    let seen = decrypted(&lab, MAIL, "tls && imap.request", &["imap.request"], |seen| seen.contains("SEARCH"));
    assert!(seen.contains("AUTHENTICATE") || seen.contains("LOGIN"), "{seen}");
    lab.records_are_as_the_schema_says();
}

/// What stands for `secret` in base 64, wherever in something longer it is: by how many octets precede it, of three.
fn in_base64(secret: &str) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let encoded = BASE64_STANDARD.encode([&vec![0; before][..], secret.as_bytes()].concat());
        // Without the characters that what precedes it and what follows it are part of.
        let (from, to) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        encoded[from..to].to_owned()
    })
}

/// What is in base 64 in the lines of JSON of a tape or a log, one after the other.
fn octets_in(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let data = lines.filter_map(|line| BASE64_STANDARD.decode(line["data"].as_str()?).ok());
    data.flatten().collect()
}

/// What is said in a place of the first of them, as it is accepted and as it is not.
fn log_in_at_many(lab: &Lab) {
    let (from, wrong) = (&lab.attacker, format!("{SECRET}-2023"));
    wait_for("Redis", || redis(from, SECRET, &["PING"]).starts_with("PONG").then_some(()));
    redis(from, &wrong, &["GET", "x"]);
    redis(from, "", &["HELLO", "3", "AUTH", "default", SECRET, "SETNAME", "x"]);
    wait_for("MariaDB", || mariadb(from, SECRET, "SELECT 6*7").status.success().then_some(()));
    mariadb(from, &wrong, "SELECT 1");
    for password in [SECRET, &wrong] {
        git(lab, &lab.path(""), password, &["ls-remote", &format!("root@{MANY}:/srv/tools.git")]);
    }
    let (login, form) = (format!("svogt:{SECRET}"), format!("user=svogt&password={SECRET}"));
    let (cookie, url) = (format!("Cookie: session={SECRET}"), format!("https://{MANY}/index.html?at={SECRET}"));
    for rest in [&["-u", &login][..], &["--digest", "-u", &login], &["-d", &form], &["-H", &cookie]] {
        from.run(&[&["curl", "-sk", "-m", "60"][..], rest, &[&url]].concat());
    }
    let lines = [("login: ", "root"), ("assword: ", SECRET), ("# ", "echo $((6*7))"), ("42.*# ", "exit")];
    typing(&lines, &["telnet", MANY], |words| from.sh(words));
}

/// The same by mail, in ways that clients have for passwords with other characters and for tokens, and with nothing at the end.
fn log_in_at_mail(from: &Ns) {
    let (login, inbox) = (format!("svogt:{OF_MAIL}"), format!("imap://{MAIL}/INBOX?ALL"));
    from.ask(&["curl", "-skf", "-m", "60", "--ssl-reqd", "-u", &login, "--login-options", "AUTH=PLAIN", &inbox]);
    let quoted = format!("a LOGIN \"svogt\" \"{OF_MAIL}\"\\r\\nb LOGOUT\\r\\n");
    let literals = format!("a LOGIN {{5+}}\\r\\nsvogt {{{}+}}\\r\\nx {SECRET}\\r\\n", SECRET.len() + 2);
    let bearer = BASE64_STANDARD.encode(format!("user=svogt\u{1}auth=Bearer {SECRET}\u{1}\u{1}"));
    let token = format!("a AUTHENTICATE XOAUTH2 {bearer}\\r\\n");
    let cut = format!("a LOGIN svogt {OF_MAIL}");
    let by_hand = |said: &str| {
        let client = format!("timeout 30 openssl s_client -quiet -no_ign_eof -starttls imap -connect {MAIL}:143");
        from.run(&["sh", "-c", &format!("{{ printf '{said}'; sleep 1; }} | {client}")])
    };
    std::thread::scope(|scope| {
        let all = [&quoted, &literals, &token, &cut].map(|said| scope.spawn(|| by_hand(said)));
        all.into_iter().for_each(|one| drop(one.join().unwrap()));
    });
}

/// The same for files.
fn log_in_for_files(from: &Ns) {
    from.ask(&["curl", "-sf", "-m", "60", "-u", &format!("mweber:{OF_FILE}"), &format!("ftp://{FILE}/")]);
    from.run(&["curl", "-s", "-m", "60", "-u", &format!("mweber:{SECRET}"), &format!("ftp://{FILE}/")]);
    let said = format!("USER mweber\\r\\nPASS {SECRET}");
    from.run(&["sh", "-c", &format!("printf '{said}' | nc -q 1 -w 10 {FILE} 21")]);
}

#[test]
fn no_password_that_was_relayed_is_anywhere() {
    let mut lab = lab("privacy: {redact_credentials: true}\n");
    std::thread::scope(|scope| {
        let mail = scope.spawn(|| log_in_at_mail(&lab.attacker));
        let files = scope.spawn(|| log_in_for_files(&lab.attacker));
        log_in_at_many(&lab);
        [mail, files].into_iter().for_each(|one| one.join().unwrap());
    });
    // Each of them was seen, by its length.
    for (event, host, port, password) in [
        ("ssh.login", MANY, 22, SECRET),
        ("service.login", MANY, 23, SECRET),
        ("service.login", MANY, 443, SECRET),
        ("service.login", MANY, 6379, SECRET),
        ("service.login", MAIL, 143, OF_MAIL),
        ("service.login", FILE, 21, OF_FILE),
    ] {
        let length = format!("({} characters)", password.len());
        lab.wait_event(event, |event| {
            let told = event["text"].as_str().unwrap_or_default();
            event["dst"]["ip"] == host && event["dst"]["port"] == port && told.contains(&length)
        });
    }
    lab.wait_event("service.login", |event| event["dst"]["port"] == 3306);
    for part in [&format!("({} characters)", SECRET.len() + 2), "\"xoauth2\""] {
        lab.wait_told("service.login", MAIL, &[part, "false"]);
    }
    lab.wait_told("service.login", MAIL, &["svogt", &format!("({} characters)", OF_MAIL.len()), "false"]);
    lab.wait_told("service.request", MANY, &["echo $((6*7))"]);
    let sessions = [MANY, MAIL, FILE].map(|host| session(&lab, host));
    // What `session show` and `replay` tell is made of the same files.
    for id in &sessions {
        export(&lab, id, &format!("live-{id}"));
    }
    lab.down();
    let own = lab.own_dir();
    let mut all = files(&own);
    assert!(all.iter().any(|path| path.extension().is_some_and(|name| name == "pcapng")), "{all:?}");
    assert!(all.iter().any(|path| path.starts_with(own.join("sessions"))), "{all:?}");
    for id in &sessions {
        all.extend(files(&lab.path(&format!("live-{id}"))));
        all.extend(files(&export(&lab, id, &format!("ended-{id}"))));
    }
    for path in all {
        let octets = unpacked(&path);
        let inner = octets_in(&octets);
        let secrets = [SECRET, OF_MAIL, OF_FILE];
        for secret in secrets.map(in_base64).as_flattened().iter().map(String::as_str).chain(secrets) {
            for (octets, what) in [(&octets, "in"), (&inner, "within")] {
                let at = octets.windows(secret.len()).position(|part| part == secret.as_bytes());
                let around = at.map(|at| &octets[at.saturating_sub(200)..octets.len().min(at + 200)]);
                let around = around.map(|around| String::from_utf8_lossy(around).into_owned());
                assert!(at.is_none(), "{what} {}: {around:?}", path.display());
            }
        }
    }
}
