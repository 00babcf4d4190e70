//! What is read beside connections in the clear, between real clients and real servers, all on the loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use honeyweave::relay::plain::{Settings, serve};
use honeyweave::relay::tape::{Credential, Entry, Recorder, Stream};
use honeyweave::service::Spoken;

use crate::net::{Running, free_port, wait_for};
use crate::tls_middle::lab::Nginx;
use crate::tls_middle::web;
use crate::typist::{COLUMNS, ROWS, typing};

/// Somebody who reads before a server.
struct Lab {
    port: u16,
    tape: Arc<Mutex<Vec<(u64, Entry)>>>,
    connections: Arc<AtomicUsize>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Lab {
    fn new(spoken: Spoken, inside: u16) -> Lab {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tape = Arc::<Mutex<Vec<(u64, Entry)>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let counted = connections.clone();
        let settings = Settings { spoken, within: false, keep: 1 << 20, asked: Default::default() };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let dial = move || crate::net::dial(inside);
                tokio::spawn(serve(settings.clone(), stream, dial, recorder.clone()));
            }
        });
        Lab { port, tape, connections, runtime: Some(runtime) }
    }

    /// What was told, but for the octets, when all connections have ended.
    fn ended(&self) -> Vec<Entry> {
        wait_for("the end of all connections", || {
            let told: Vec<_> = self.tape.lock().unwrap().iter().map(|(_, entry)| entry.clone()).collect();
            let ends = told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count();
            (ends > 0 && ends == self.connections.load(Ordering::Relaxed)).then_some(told)
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a program to its end.
fn run(words: &[&str]) -> Output {
    let output = Command::new("timeout").arg("60").args(words).stdin(Stdio::null()).output();
    output.unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

/// What it says.
fn said(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Users and passwords that were tried, and whether they were right.
fn attempts(told: &[Entry]) -> Vec<(String, String, bool)> {
    let shown = |entry: &Entry| match entry {
        Entry::Attempt { user, credential, accepted } => {
            let word = match credential {
                Credential::Password { password } => password.to_string(),
                Credential::Digest { scheme, .. } => scheme.to_string(),
                other => format!("{other:?}"),
            };
            Some((user.to_string(), word, *accepted))
        }
        _ => None,
    };
    told.iter().filter_map(shown).collect()
}

fn commands(told: &[Entry]) -> Vec<&str> {
    told.iter()
        .filter_map(|entry| match entry {
            Entry::Command { text } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn is_strange(told: &[Entry]) -> bool {
    told.iter().any(|entry| matches!(entry, Entry::Strange { .. }))
}

fn attempt(user: &str, word: &str, accepted: bool) -> (String, String, bool) {
    (user.into(), word.into(), accepted)
}

/// A server for telnet with an account of its own: one process for each connection, as inetd has it.
fn telnetd(dir: &Path) -> u16 {
    let hash = said(&["openssl", "passwd", "-6", "wonderland"]);
    let passwd = "root:x:0:0::/tmp:/bin/sh\nalice:x:1000:1000::/tmp:/bin/sh\n";
    std::fs::write(dir.join("passwd"), passwd).unwrap();
    std::fs::write(dir.join("shadow"), format!("alice:{}:19000:0:99999:7:::\n", hash.trim())).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let accounts =
                "mount --bind $0/passwd /etc/passwd && mount --bind $0/shadow /etc/shadow && exec telnetd -h";
            let [stdin, stdout] = [stream.try_clone().unwrap(), stream].map(|end| Stdio::from(OwnedFd::from(end)));
            let mut server = Command::new("unshare");
            server.args(["-m", "sh", "-c", accounts]).arg(&dir).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            let mut server = server.stdin(stdin).stdout(stdout).spawn().unwrap();
            std::thread::spawn(move || server.wait());
        }
    });
    port
}

#[test]
fn telnet() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lab = Lab::new(Spoken::Telnet, telnetd(dir.path()));
    // A wrong password, the right one, two commands.
    let lines = [
        ("login:", "alice"),
        ("assword:", "wonder"),
        ("login:", "alice"),
        ("assword:", "wonderland"),
        (r"\$ ", "echo $((6*7))"),
        (r"42\r\n.*\$ ", "stty size; exit"),
    ];
    let shown = typing(&lines, &["telnet", "127.0.0.1", &lab.port.to_string()], said);
    assert!(shown.contains("Connection closed"), "{shown}");
    let told = lab.ended();
    assert!(!is_strange(&told), "{told:#?}");
    assert_eq!(attempts(&told), [attempt("alice", "wonder", false), attempt("alice", "wonderland", true)], "{told:#?}");
    assert_eq!(commands(&told), ["echo $((6*7))", "stty size; exit"]);
    let pty = told.iter().find_map(|entry| match entry {
        Entry::Pty { term, columns, rows, .. } => Some((term.to_string().to_lowercase(), *columns, *rows)),
        _ => None,
    });
    let (columns, rows) = (COLUMNS.into(), ROWS.into());
    let is_size =
        |entry: &Entry| matches!(entry, Entry::Resize { columns: c, rows: r, .. } if (*c, *r) == (columns, rows));
    let resized = told.iter().any(is_size);
    assert!(pty == Some(("vt220".into(), columns, rows)) || (pty.is_some() && resized), "{pty:?} {told:#?}");
    let shown: Vec<u8> = told
        .iter()
        .filter_map(|entry| match entry {
            Entry::Data { stream: Stream::Output, data, .. } => Some(data.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    // Where the password is asked for it may be in it, and nowhere else.
    let (mut is_secret, mut parts) = (false, [String::new(), String::new()]);
    for entry in &told {
        match entry {
            Entry::Secret { begins, .. } => is_secret = *begins,
            Entry::Data { data, .. } => parts[usize::from(is_secret)] += &String::from_utf8_lossy(data),
            _ => {}
        }
    }
    assert!(parts[1].contains("wonder\r") && parts[1].contains("wonderland\r"), "{parts:?}");
    assert!(!parts[0].contains("wonder") && parts[0].contains("echo $((6*7))"), "{parts:?}");
    // As they came, the options are in them: what the client has said of its terminal (RFC 1091).
    let raw = |which| {
        let pieces = told.iter().filter_map(move |entry| match entry {
            Entry::Raw { stream, data, .. } if *stream == which => Some(data.to_vec()),
            _ => None,
        });
        pieces.flatten().collect::<Vec<u8>>()
    };
    let sent = raw(Stream::Input);
    assert!(sent.windows(4).any(|part| part == [255, 250, 24, 0]) && raw(Stream::Output).contains(&255), "{sent:?}");
    // What a terminal shows, without the options between.
    assert!(!shown.contains(&255) && String::from_utf8_lossy(&shown).contains("\r\n42\r\n"), "{shown:?}");
}

#[test]
fn redis() {
    let dir = tempfile::tempdir().unwrap();
    let (port, at) = (free_port().to_string(), dir.path().display().to_string());
    let options = ["--bind", "127.0.0.1", "--requirepass", "geheim", "--save", "", "--dir", &at];
    let _server = Running::start(Command::new("redis-server").args(["--port", &port]).args(options));
    wait_for("the server", || {
        let pong = run(&["redis-cli", "-p", &port, "-a", "geheim", "PING"]);
        pong.stdout.starts_with(b"PONG").then_some(())
    });
    let lab = Lab::new(Spoken::Redis, port.parse().unwrap());
    let port = lab.port.to_string();
    let client = ["redis-cli", "--no-auth-warning", "-p", &port];
    let ask = |words: &[&str]| said(&[&client[..], words].concat());
    assert!(ask(&["PING"]).contains("NOAUTH"));
    run(&[&client[..], &["-a", "admin", "PING"]].concat());
    assert_eq!(ask(&["-a", "geheim", "SET", "x", "\n\n*/1 * * * * root id\n"]), "OK\n");
    // Its version of the protocol, and a log-in within that.
    assert!(ask(&["-3", "-a", "geheim", "GET", "x"]).contains("root id"));
    assert!(ask(&["HELLO", "3", "AUTH", "default", "geheim"]).contains("redis"));
    // Several in one connection, one of them long.
    let long = "A".repeat(20_000);
    let script = format!(
        "printf 'CONFIG GET dir\\nSET y {long}\\nGET y\\nFLUSHALL\\n' | redis-cli --no-auth-warning -a geheim -p {port}"
    );
    assert!(said(&["sh", "-c", &script]).contains(&long));
    let told = lab.ended();
    assert!(!is_strange(&told), "{told:#?}");
    let attempts = attempts(&told);
    let right = attempt("default", "geheim", true);
    assert_eq!(attempts.iter().filter(|one| **one == right).count(), 4, "{attempts:?}");
    assert!(attempts.contains(&attempt("default", "admin", false)), "{attempts:?}");
    assert!(!commands(&told).iter().any(|command| command.contains("geheim")), "{told:#?}");
    let commands = commands(&told);
    for expected in ["CONFIG GET dir", "GET y", "FLUSHALL", "SET x \\n\\n*/1 * * * * root id\\n"] {
        assert!(commands.iter().any(|command| command.replace("\\x0a", "\\n") == expected), "{expected}: {commands:?}");
    }
    assert!(commands.iter().any(|command| command.starts_with("SET y AAAA") && command.len() < 5000), "{commands:?}");
}

#[test]
fn http_2_in_clear() {
    let nginx = Nginx::start();
    let lab = Lab::new(Spoken::Http, nginx.two);
    let host = format!("127.0.0.1:{}", lab.port);
    // This curl breaks off what it asks for in the same connection, with nobody in the middle, too.
    let ask = |path: &str, login: &str| {
        let at = format!("http://{host}{path}");
        said(&["curl", "-sS", "--http2-prior-knowledge", "-A", "evil/2", "-u", login, &at])
    };
    // Where the host has asked for it, whomever in which connection, and where it has not.
    assert!(ask("/private/", "root:wrong").contains("401 Authorization Required"));
    let said = ["/private/", "/?2"].map(|path| ask(path, "root:toor"));
    assert_eq!(said, ["<h1>let in</h1>\n", "<h1>inside</h1>\n"]);
    let told = lab.ended();
    let web: Vec<String> = told.iter().filter_map(|entry| web(entry, &host)).collect();
    let (first, private, answer) = ("1 GET /private/ evil/2", "root:toor true", "1 200 Some(16)");
    assert_eq!((web[0].as_str(), web[2].as_str()), (first, "root:wrong false"), "{web:?}");
    assert_eq!(web[3..], [first, answer, private, "1 GET /?2 evil/2", answer, "root:toor unasked"]);
    // It is kept as it came.
    let first = told.iter().find_map(|entry| match entry {
        Entry::Data { stream: Stream::Input, data, .. } => Some(data),
        _ => None,
    });
    assert!(first.unwrap().starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
}

/// Apache, whose clear port goes on with HTTP/2 if it is asked to; of what is below `/private/` it asks for a password.
fn apache(dir: &Path) -> (Running, u16) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("www/private")).unwrap();
    std::fs::write(dir.join("www/index.html"), "<h1>inside</h1>\n").unwrap();
    std::fs::write(dir.join("www/private/index.html"), "<h1>let in</h1>\n").unwrap();
    std::fs::write(dir.join("users"), format!("root:{}", said(&["openssl", "passwd", "-apr1", "toor"]))).unwrap();
    let modules = ["mpm_event", "http2", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dir"];
    let load = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let (at, port) = (dir.display(), free_port());
    let config = format!(
        "{}ServerName inside\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nErrorLog {at}/log\nDefaultRuntimeDir {at}\n\
         User www-data\nGroup www-data\nDocumentRoot {at}/www\nProtocols h2c http/1.1\n<Location /private/>\nAuthType Basic\n\
         AuthName private\nAuthUserFile {at}/users\nRequire valid-user\n</Location>\n",
        modules.map(load).concat()
    );
    std::fs::write(dir.join("conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/apache2");
    let running = Running::start(command.args(["-D", "FOREGROUND", "-f"]).arg(dir.join("conf")));
    crate::tls_middle::lab::wait_port(port);
    (running, port)
}

#[test]
fn http_2_that_was_asked_for_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let (apache, port) = apache(dir.path());
    let lab = Lab::new(Spoken::Http, port);
    let host = format!("127.0.0.1:{}", lab.port);
    // This curl breaks off what it asks for in the same connection, as above.
    let ask = |password: &str| {
        said(&["curl", "-sS", "--http2", "-A", "up/2", "-u", password, &format!("http://{host}/private/")])
    };
    assert_eq!(ask("root:toor"), "<h1>let in</h1>\n");
    assert!(ask("root:wrong").contains("<title>401 Unauthorized</title>"));
    let told = lab.ended();
    let web: Vec<String> = told.iter().filter_map(|entry| web(entry, &host)).collect();
    // The request is of HTTP/1, and stream 1 has its answer. Of whom Apache refuses it wants no other protocol.
    let asked = format!(
        "Http {{ method: Text(\"GET\"), path: Text(\"/private/\"), host: Text(\"{host}\"), agent: Text(\"up/2\"), stream: None }}"
    );
    let agreed = "Status { status: 101, length: None, stream: None }";
    assert_eq!(web[..5], [&asked, agreed, "1 200 Some(16)", "root:toor unasked", &asked]);
    assert!(web[5].starts_with("Status { status: 401,"), "{web:?}");
    assert_eq!(web[6..], ["root:wrong false"]);
    apache.signal(libc::SIGTERM);
    assert!(apache.wait().0.success());
}

#[test]
fn mariadb() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, port) = (format!("--datadir={}", at("data")), free_port());
    // As little as it needs: a test of what passes is none of what is stored.
    let install = ["mariadb-install-db", "--no-defaults", "--skip-test-db", "--user=root", &data];
    let small = ["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"];
    said(&[&install[..], &small].concat());
    let accounts = "CREATE USER app@'%' IDENTIFIED BY 'geheim';\nGRANT ALL ON *.* TO app@'%';\n";
    std::fs::write(dir.path().join("init"), accounts).unwrap();
    let mut server = Command::new("mariadbd");
    server.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve", &data]);
    server.args([
        format!("--port={port}"),
        format!("--socket={}", at("socket")),
        format!("--init-file={}", at("init")),
    ]);
    let _server = Running::start(server.args(small));
    let at_port = |port: u16| format!("--port={port}");
    let client = ["mariadb", "--no-defaults", "--host=127.0.0.1", "--user=app"];
    let direct = at_port(port);
    wait_for("the server", || {
        run(&[&client[..], &[&direct, "--password=geheim", "-e", "SELECT 1"]].concat()).status.success().then_some(())
    });
    let lab = Lab::new(Spoken::Mysql, port);
    let port = at_port(lab.port);
    let ask = |words: &[&str]| said(&[&client[..], &[&port, "--password=geheim", "-N"], words].concat());
    assert_eq!(ask(&["-e", "SELECT 6*7"]), "42\n");
    assert!(!run(&[&client[..], &[&port, "--password=wrong", "-e", "SELECT 1"]].concat()).status.success());
    // A result of many packets, an error, and a statement longer than is looked at.
    let long = format!("SELECT LENGTH('{}')", "x".repeat(100_000));
    let statements = format!("USE mysql; SELECT seq FROM seq_1_to_5000; {long}; SELECT nonsense");
    std::fs::write(dir.path().join("statements"), statements).unwrap();
    let script = format!("exec {} {port} --password=geheim -fN <{}", client.join(" "), at("statements"));
    let output = run(&["sh", "-c", &script]);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("5000\n100000\n"), "{output:?}");
    let told = lab.ended();
    assert!(!is_strange(&told), "{told:#?}");
    let digest = |accepted| attempt("app", "mysql", accepted);
    assert_eq!(attempts(&told), [digest(true), digest(false), digest(true)]);
    let commands = commands(&told);
    for expected in ["SELECT 6*7", "USE mysql", "SELECT seq FROM seq_1_to_5000", "SELECT nonsense"] {
        assert!(commands.contains(&expected), "{expected}: {commands:?}");
    }
    let has =
        |part: &str| told.iter().any(|entry| matches!(entry, Entry::Answer { text } if text.as_str().contains(part)));
    assert!(has("Access denied") && has("Unknown column") && has("MariaDB"), "{told:#?}");
}
