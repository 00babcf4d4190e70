//! Other clients, another server, and programs that bring their own protocol.

use std::process::{Command, Stdio};

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::{Credential, Direction, Entry, Stream, Text};

use super::lab::{Lab, Server, moved, noise, octets, password, run, sha256};

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// The first line that the client has said.
fn banner(told: &[Entry]) -> String {
    match told.first() {
        Some(Entry::Hello { banner, hassh, .. }) if hassh.len() == 32 => banner.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn dropbears_client() {
    let lab = Lab::new(Policy::Any);
    let mut dbclient = Command::new("timeout");
    dbclient.args(["60", "dbclient", "-y", "-y", "-p", &lab.port.to_string(), "root@127.0.0.1", "echo hi; exit 4"]);
    dbclient.env("DROPBEAR_PASSWORD", "hunter2").env("HOME", lab.dir.path()).stdin(Stdio::null());
    let output = run(&mut dbclient);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), "hi\n".into()), "{output:?}");
    let told = lab.ended();
    assert!(banner(&told).starts_with("SSH-2.0-dropbear"), "{}", banner(&told));
    // It answers rather than says.
    let credential = Credential::KeyboardInteractive { answers: vec![Text::new("hunter2")] };
    let attempt = Entry::Attempt { user: Text::new("root"), credential, accepted: true };
    assert!(told.contains(&attempt), "{told:#?}");
    assert!(told.contains(&Entry::Exit { channel: 0, status: Some(4), signal: None }));
}

#[test]
fn putty() {
    let lab = Lab::new(Policy::Any);
    let key = run(Command::new("ssh-keygen").args(["-l", "-f"]).arg(lab.path("key.pub")));
    let fingerprint = text(&key.stdout).split(' ').nth(1).unwrap().to_owned();
    let port = lab.port.to_string();
    let options = ["-batch", "-P", &port, "-hostkey", &fingerprint, "-pw", "hunter2"];
    let mut plink = Command::new("timeout");
    plink.args(["60", "plink", "-ssh"]).args(options).args(["root@127.0.0.1", "echo hi; echo no >&2; exit 3"]);
    let output = run(plink.env("HOME", lab.dir.path()).stdin(Stdio::null()));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), "hi\n".into()), "{output:?}");
    assert!(banner(&lab.ended()).starts_with("SSH-2.0-PuTTY"));
    let data = noise(500_000);
    std::fs::write(lab.path("sent"), &data).unwrap();
    for (how, name) in [("-sftp", "by-sftp"), ("-scp", "by-scp")] {
        let mut pscp = Command::new("timeout");
        pscp.args(["60", "pscp", how]).args(options).arg(lab.path("sent")).arg(format!("root@127.0.0.1:{name}"));
        let output = run(pscp.env("HOME", lab.dir.path()).stdin(Stdio::null()));
        assert!(output.status.success(), "{output:?}");
        assert!(std::fs::read(lab.path("root").join(name)).unwrap() == data);
    }
    let moved = moved(&lab.ended());
    assert_eq!(moved.len(), 2);
    for file in moved {
        assert_eq!(
            (file.size, file.sha256, file.direction),
            (500_000, sha256(&data), Direction::Upload),
            "{}",
            file.path
        );
    }
}

#[test]
fn paramiko() {
    let lab = Lab::new(Policy::List(vec![("root".into(), "second".into())]));
    std::fs::write(lab.path("sent"), noise(2_000_000)).unwrap();
    let script = r#"
import faulthandler, paramiko, sys, time
# Where it stands if it does not get on.
faulthandler.dump_traceback_later(45, exit=True)
port, folder = int(sys.argv[1]), sys.argv[2]
def connected():
    transport = paramiko.Transport(("127.0.0.1", port))
    transport.start_client(timeout=30)
    return transport
key = paramiko.RSAKey.generate(2048)
# It asks for the service with each attempt, and waits for the answer.
transport = connected()
for attempt in (lambda: transport.auth_publickey("root", key), lambda: transport.auth_password("root", "first")):
    try: attempt()
    except paramiko.AuthenticationException: pass
    else: raise SystemExit("let in")
transport.auth_password("root", "second")
print(transport.is_authenticated())
transport.close()
# What programs use: it tries the keys that it finds before the password.
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
key.write_private_key_file(folder + "/id_rsa")
client.connect("127.0.0.1", port, "root", "second", key_filename=folder + "/id_rsa", allow_agent=False, timeout=30)
print(client.exec_command("echo in")[1].read().decode())
client.close()
transport = connected()
transport.auth_interactive("root", lambda title, text, prompts: ["second" for _ in prompts])
channel = transport.open_session()
channel.get_pty("vt100", 100, 30)
channel.exec_command("stty size; tty >/dev/null && echo tty")
print(channel.makefile().read().decode(), channel.recv_exit_status())
sftp = paramiko.SFTPClient.from_transport(transport)
sftp.put(folder + "/sent", "there")
sftp.get("there", folder + "/back")
print(sftp.stat("there").st_size)
# What it does by itself where answers overtake the thread that asks for all of a file.
twice = sftp.open("there")
twice.prefetch()
first = twice.read()
twice.seek(0)
print(first == twice.read())
twice.close()
transport.close()
"#;
    let mut python = Command::new("timeout");
    // Debian's, whose module it is.
    python.args(["60", "/usr/bin/python3", "-W", "ignore", "-c", script, &lab.port.to_string()]).arg(lab.dir.path());
    let output = run(python.stdin(Stdio::null()));
    assert_eq!(text(&output.stdout), "True\nin\n\n30 100\r\ntty\r\n 0\n2000000\nTrue\n", "{output:?}");
    assert!(std::fs::read(lab.path("back")).unwrap() == noise(2_000_000));
    let told = lab.ended();
    assert!(banner(&told).starts_with("SSH-2.0-paramiko"));
    let answers = Credential::KeyboardInteractive { answers: vec![Text::new("second")] };
    // One after the other, in one connection.
    let third = told.iter().position(|entry| *entry == password("root", "second", true)).expect("it is let in");
    let count = |what: fn(&Entry) -> bool| told[..third].iter().filter(|entry| what(entry)).count();
    let (hellos, attempts) =
        (count(|entry| matches!(entry, Entry::Hello { .. })), count(|entry| matches!(entry, Entry::Attempt { .. })));
    assert_eq!((hellos, attempts), (1, 2), "{told:#?}");
    assert!(told[..third].contains(&password("root", "first", false)), "{told:#?}");
    assert!(told.contains(&Entry::Attempt { user: Text::new("root"), credential: answers, accepted: true }));
    assert!(told.iter().any(|entry| matches!(
        entry,
        Entry::Attempt { credential: Credential::PublicKey { algorithm, fingerprint, signed: false, key }, accepted: false, .. }
            if key.as_str().starts_with("ssh-rsa AAAAB3NzaC1yc2E") && algorithm.as_str().starts_with("rsa-sha2") && fingerprint.as_str().starts_with("SHA256:")
    )));
    assert!(told.contains(&Entry::Pty { channel: 0, term: Text::new("vt100"), columns: 100, rows: 30 }));
    let moved = moved(&told);
    let ways = [Direction::Upload, Direction::Download, Direction::Download];
    assert_eq!(moved.iter().map(|file| file.direction).collect::<Vec<_>>(), ways);
    assert!(moved[2].again >= 2_000_000, "{}", moved[2].again);
    for file in moved {
        assert_eq!((file.size, file.sha256), (2_000_000, sha256(&noise(2_000_000))), "{:?}", file.direction);
    }
}

#[test]
fn rsync_and_git() {
    let lab = Lab::new(Policy::Any);
    let ssh = lab.ssh(&[]);
    // `timeout 60 sshpass … ssh …` without the host, which these add.
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
    let shell = format!("timeout {}", words[..words.len() - 1].join(" "));
    std::fs::create_dir(lab.path("tree")).unwrap();
    for i in 0..200 {
        std::fs::write(lab.path("tree").join(format!("{i}")), noise(1000 * i)).unwrap();
    }
    let rsync =
        |from: &str, to: &str| run(Command::new("rsync").args(["-az", "-e", &shell, from, to]).stdin(Stdio::null()));
    let (tree, back) = (format!("{}/", lab.path("tree").display()), format!("{}/", lab.path("back").display()));
    let output = rsync(&tree, "root@127.0.0.1:tree/");
    assert!(output.status.success(), "{output:?}");
    let output = rsync("root@127.0.0.1:tree/", &back);
    assert!(output.status.success(), "{output:?}");
    for i in 0..200 {
        assert!(std::fs::read(lab.path("back").join(format!("{i}"))).unwrap() == noise(1000 * i), "{i}");
    }
    let git = |directory: &str, args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-C", directory, "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "safe.directory=*"])
            .args(args);
        let output = run(git.env("GIT_SSH_COMMAND", &shell).env("HOME", lab.dir.path()).stdin(Stdio::null()));
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    let root = lab.path("root").display().to_string();
    git(&root, &["init", "-q", "--bare", "repo"]);
    git(&tree, &["init", "-q"]);
    git(&tree, &["add", "."]);
    git(&tree, &["commit", "-qm", "all"]);
    let there = format!("root@127.0.0.1:{root}/repo");
    git(&tree, &["push", "-q", &there, "HEAD:refs/heads/main"]);
    let clone = lab.path("clone").display().to_string();
    git(&root, &["clone", "-q", "-b", "main", &there, &clone]);
    assert!(std::fs::read(lab.path("clone/150")).unwrap() == noise(150_000));
    let told = lab.ended();
    let commands: Vec<_> = told
        .iter()
        .filter_map(|entry| match entry {
            Entry::Exec { command, .. } => command.as_str().split(' ').next(),
            _ => None,
        })
        .collect();
    assert_eq!(commands, ["rsync", "rsync", "git-receive-pack", "git-upload-pack"]);
}

#[test]
fn dropbear_inside() {
    let lab = Lab::before(Server::Dropbear, Policy::Container);
    let mut ssh = lab.openssh_with("toor", "ssh");
    let output = run(ssh.args(["-tt", "-p", &lab.port.to_string(), "root@127.0.0.1", "echo hi; exit 6"]));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(6), "hi\r\n".into()), "{output:?}");
    let told = lab.ended();
    assert!(told.contains(&password("root", "toor", true)), "{told:#?}");
    assert_eq!(octets(&told, 0, Stream::Output), "hi\r\n");
    // Three wrong ones in one connection.
    let mut ssh = lab.ssh_alone(&["-o", "NumberOfPasswordPrompts=3"]);
    let output = run(ssh.arg("true"));
    assert!(!output.status.success());
    let refused = lab.ended().iter().filter(|entry| **entry == password("root", "hunter2", false)).count();
    assert_eq!(refused, 3, "{output:?}");
}

/// The algorithms that a server offers, as OpenSSH's client shows them.
fn offer(port: u16) -> Vec<String> {
    let mut ssh = Command::new("timeout");
    ssh.args(["60", "ssh", "-vv", "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-p", &port.to_string(), "root@127.0.0.1"]);
    let said = text(&run(ssh.stdin(Stdio::null())).stderr);
    let server = said.split("peer server KEXINIT proposal").nth(1).unwrap_or_else(|| panic!("{said}"));
    let lines = server.lines().skip(1).take(8).map(|line| line.trim_start_matches("debug2: ").to_owned());
    lines.collect()
}

/// The keys that a server shows, as lines without its address.
fn keys(port: u16) -> Vec<String> {
    let mut scan = Command::new("ssh-keyscan");
    scan.args(["-T", "20", "-t", "rsa,ecdsa,ed25519", "-p", &port.to_string(), "127.0.0.1"]);
    let output = run(scan.stdin(Stdio::null()));
    let lines = text(&output.stdout);
    let mut keys: Vec<_> =
        lines.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key.to_owned()).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn whichever_key_is_chosen_it_is_the_servers() {
    for server in [Server::OpenSsh, Server::Dropbear] {
        let lab = Lab::before(server, Policy::Any);
        let all = keys(lab.direct);
        assert_eq!((all.len(), &keys(lab.port)), (3, &all));
        let known: String = all.iter().map(|key| format!("[127.0.0.1]:{} {key}\n", lab.port)).collect();
        std::fs::write(lab.path("all"), known).unwrap();
        let algorithms: &[&str] = match server {
            Server::OpenSsh => &["rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"],
            Server::Dropbear => &["ssh-rsa", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"],
        };
        for algorithm in algorithms {
            let file = format!("UserKnownHostsFile={}", lab.path("all").display());
            let chosen = format!("HostKeyAlgorithms={algorithm}");
            let mut ssh = lab.ssh_alone(&["-o", &file, "-o", &chosen]);
            let output = run(ssh.arg("echo in"));
            assert_eq!(text(&output.stdout), "in\n", "{algorithm}: {output:?}");
        }
        // It is not offered, whatever keys there are.
        let output =
            run(lab.ssh_alone(&["-o", "LogLevel=INFO", "-o", "HostKeyAlgorithms=ecdsa-sha2-nistp521"]).arg("echo in"));
        assert!(text(&output.stderr).contains("no matching host key type found"), "{output:?}");
    }
}

#[test]
fn the_lists_are_those_of_the_server_that_it_says_it_is() {
    // What the library does not have.
    let lacks =
        |name: &&str| !(name.starts_with("sntrup761") || name.starts_with("umac-") || name.starts_with("kexguess2"));
    for server in [Server::OpenSsh, Server::Dropbear] {
        let lab = Lab::before(server, Policy::Never);
        let real = offer(lab.direct).into_iter().map(|line| match line.split_once(": ") {
            Some((what, names)) => {
                let mut known = Vec::new();
                for name in names.split(',').filter(lacks) {
                    // OpenSSH says Ed25519 once for each place it looks in.
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
                format!("{what}: {}", known.join(","))
            }
            None => line,
        });
        assert_eq!(offer(lab.port), real.collect::<Vec<_>>());
    }
}
