//! A server with accounts of its own on the loopback, the middle before it, and clients.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeyweave::relay::ssh::{Login, Policy, RsaLater, Settings, Used, serve};
use honeyweave::relay::tape::{ChannelKind, Credential, Direction, Entry, Recorder, Stream, Text};
use russh::keys::PrivateKey;

pub use crate::net::free_port;
use crate::net::{Running, wait_for};

/// What servers and accounts need.
const ACCOUNTS: &str = "mount --bind $0/passwd /etc/passwd && mount --bind $0/shadow /etc/shadow && \
     mkdir -p /run/sshd && exec \"$@\"";

type Told = Arc<Mutex<Vec<(u64, Entry)>>>;

/// The server's keys: of OpenSSH, of Dropbear.
const KEYS: [(&str, &str, &str); 3] =
    [("ed25519", "key", "dropbear"), ("ecdsa", "ecdsa", "dropbear-ecdsa"), ("rsa", "rsa", "dropbear-rsa")];

/// Which server is inside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    OpenSsh,
    Dropbear,
}

/// All of it; ends when dropped.
pub struct Lab {
    pub dir: tempfile::TempDir,
    /// Where the middle listens, and the server itself.
    pub port: u16,
    pub direct: u16,
    pub used: Arc<Mutex<Vec<Used>>>,
    tape: Told,
    connections: Arc<AtomicUsize>,
    server: Running,
    runtime: Option<tokio::runtime::Runtime>,
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a program to its end, within a minute.
pub fn run(command: &mut Command) -> Output {
    let name = format!("{command:?}");
    command.output().unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn serve_with(kind: Server, dir: &Path, port: u16) -> Running {
    let at = |name: &str| dir.join(name).display().to_string();
    let server: Vec<String> = match kind {
        Server::OpenSsh => {
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\n{}PidFile none\nUsePAM no\nPasswordAuthentication yes\n\
                 PermitRootLogin yes\nStrictModes no\nSubsystem sftp /usr/lib/openssh/sftp-server\nAcceptEnv LANG LC_*\n\
                 MaxStartups 1000\nMaxSessions 100\nPrintMotd no\nPrintLastLog no\n",
                KEYS.iter().rev().map(|(_, name, _)| format!("HostKey {}\n", at(name))).collect::<String>()
            );
            write(&dir.join("config"), &config, 0o600);
            ["/usr/sbin/sshd", "-D", "-e", "-f", &at("config")].map(String::from).into()
        }
        Server::Dropbear => {
            let convert = ["dropbearconvert", "openssh", "dropbear"];
            let mut server =
                ["/usr/sbin/dropbear", "-F", "-E", "-p", &format!("127.0.0.1:{port}")].map(String::from).to_vec();
            for (_, from, to) in KEYS {
                let output = run(Command::new(convert[0]).args(&convert[1..]).args([at(from), at(to)]));
                assert!(output.status.success(), "{output:?}");
                server.extend(["-r".into(), at(to)]);
            }
            server
        }
    };
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", ACCOUNTS]).arg(dir).args(server);
    let running = Running::start(&mut command);
    wait_for("the server", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    running
}

impl Lab {
    pub fn new(policy: Policy) -> Lab {
        Lab::before(Server::OpenSsh, policy)
    }

    pub fn before(kind: Server, policy: Policy) -> Lab {
        Lab::tuned(kind, policy, |_| {})
    }

    /// One with other settings than the usual ones.
    pub fn tuned(kind: Server, policy: Policy, tune: impl FnOnce(&mut Settings)) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| dir.path().join(name);
        for home in ["root", "alice"] {
            std::fs::create_dir(at(home)).unwrap();
        }
        let hash = |password| {
            let output = run(Command::new("openssl").args(["passwd", "-6", password]));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let home = |name: &str| at(name).display().to_string();
        let passwd = format!(
            "root:x:0:0::{}:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nalice:x:0:0::{}:/bin/sh\n",
            home("root"),
            home("alice")
        );
        write(&at("passwd"), &passwd, 0o644);
        let line = |name, password| format!("{name}:{}:19000:0:99999:7:::\n", hash(password));
        write(&at("shadow"), &(line("root", "toor") + &line("alice", "wonderland")), 0o600);
        let keys = KEYS.map(|(kind, name, _)| {
            let bits = if kind == "rsa" { &["-b", "2048"][..] } else { &[] };
            // Of numbers with zeros in front, which one of 256 is, the library reads none.
            loop {
                let mut keygen = Command::new("ssh-keygen");
                keygen.args(["-q", "-t", kind, "-N", "", "-f"]).arg(at(name)).args(bits);
                assert!(keygen.status().unwrap().success());
                match PrivateKey::from_openssh(std::fs::read(at(name)).unwrap()) {
                    Ok(key) => break key,
                    Err(_) => std::fs::remove_file(at(name)).unwrap(),
                }
            }
        });
        let direct = free_port();
        let server = serve_with(kind, dir.path(), direct);

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = std::fs::read_to_string(at("key.pub")).unwrap();
        for port in [port, direct] {
            let known = std::fs::read_to_string(at("known")).unwrap_or_default();
            write(&at("known"), &format!("{known}[127.0.0.1]:{port} {public}"), 0o600);
        }
        let [ed25519, ecdsa, rsa] = keys;
        let banner = match kind {
            Server::OpenSsh => "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
            Server::Dropbear => "SSH-2.0-dropbear_2022.83",
        };
        let mut settings = Settings {
            banner: banner.into(),
            host_keys: vec![ed25519, ecdsa],
            rsa: Some(RsaLater::new(move || std::future::ready(Some(rsa.clone())))),
            policy,
            login: Some(Login::new("root", "toor")),
            refusal: Duration::from_millis(10),
            acceptance: Duration::from_millis(10),
            keyboard_interactive: true,
            keep: 1 << 20,
        };
        tune(&mut settings);
        let settings = Arc::new(settings);
        let tape = Told::default();
        let (used, connections) = (Arc::<Mutex<Vec<Used>>>::default(), Arc::<AtomicUsize>::default());
        let begun = tokio::time::Instant::now();
        let clock: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(move || begun.elapsed().as_micros() as u64);
        let recorder = Recorder::new(tape.clone(), clock);
        let (counted, kept) = (connections.clone(), used.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let dial = move || crate::net::dial(direct);
                let served = serve(settings.clone(), stream, dial, recorder.clone());
                let kept = kept.clone();
                tokio::spawn(async move {
                    let used = served.await;
                    kept.lock().unwrap().push(used);
                });
            }
        });
        Lab { dir, port, direct, used, tape, connections, server, runtime: Some(runtime) }
    }

    /// The server's process.
    pub fn server(&self) -> u32 {
        self.server.pid()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What was told so far.
    pub fn told(&self) -> Vec<Entry> {
        self.tape.lock().unwrap().iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// With the times.
    pub fn timed(&self) -> Vec<(u64, Entry)> {
        self.tape.lock().unwrap().clone()
    }

    /// What was told when all connections have ended.
    pub fn ended(&self) -> Vec<Entry> {
        wait_for("the end of all connections", || {
            let told = self.told();
            let ends = told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count();
            (ends == self.connections.load(Ordering::Relaxed)).then_some(told)
        })
    }

    /// What the first connection has needed, once it has ended.
    pub fn used(&self) -> Used {
        wait_for("the first connection's end", || self.used.lock().unwrap().first().copied())
    }

    /// OpenSSH's `program` with options for it that make it ask nobody; `-p` or `-P` and the host are the caller's.
    pub fn openssh(&self, program: &str) -> Command {
        self.openssh_with("hunter2", program)
    }

    /// The same with another password than the usual one.
    pub fn openssh_with(&self, secret: &str, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["300", "sshpass", "-p", secret, program]).args(self.options());
        command.stdin(Stdio::null()).env("SSH_AUTH_SOCK", "");
        command
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        let known = format!("UserKnownHostsFile={}", self.path("known").display());
        for option in [
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityFile=/dev/null",
            "PreferredAuthentications=password",
            "NumberOfPasswordPrompts=1",
            "LogLevel=ERROR",
            &known,
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// `ssh` to the middle with `options`, as root, as a process that can be ended.
    pub fn ssh_alone(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        // Of what is said twice OpenSSH takes the first.
        command.args(options).args(self.options()).args(["-p", &self.port.to_string(), "root@127.0.0.1"]);
        command.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", self.askpass()).stdin(Stdio::null());
        command
    }

    /// `tool` (hydra or ncrack) that tries root's password with each of the words in a file, by several connections at once.
    pub fn guesser(&self, tool: &str, words: &Path) -> Command {
        let (port, words) = (self.port.to_string(), words.display().to_string());
        let mut command = Command::new("timeout");
        match tool {
            "hydra" => {
                command.args(["900", "hydra", "-I", "-l", "root", "-P", &words, "-s", &port, "127.0.0.1", "ssh"])
            }
            _ => {
                let target = format!("ssh://127.0.0.1:{port}");
                command.args(["900", "ncrack", "-T5", "--user", "root", "-P", &words, &target])
            }
        };
        command.stdin(Stdio::null()).current_dir(self.dir.path()).env("HOME", self.dir.path());
        command
    }

    /// How often each password was tried, and which were accepted.
    pub fn guesses(&self) -> (BTreeMap<String, usize>, Vec<String>) {
        let (mut tried, mut accepted) = (BTreeMap::new(), Vec::new());
        for (_, entry) in self.tape.lock().unwrap().iter() {
            let Entry::Attempt { credential: Credential::Password { password }, accepted: is_right, .. } = entry else {
                continue;
            };
            *tried.entry(password.to_string()).or_default() += 1;
            if *is_right {
                accepted.push(password.to_string());
            }
        }
        (tried, accepted)
    }

    /// A program that says the usual password to whoever starts it.
    pub fn askpass(&self) -> PathBuf {
        let path = self.path("askpass");
        write(&path, "#!/bin/sh\necho hunter2\n", 0o700);
        path
    }

    /// `ssh` to the middle with `options`, as root; what it is to do follows.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = self.openssh("ssh");
        command.args(["-p", &self.port.to_string()]).args(options).arg("root@127.0.0.1");
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Without waiting for what is stuck.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// All octets of one direction of a channel.
pub fn octets(told: &[Entry], of: u32, which: Stream) -> String {
    let pieces = told.iter().filter_map(|entry| match entry {
        Entry::Data { channel, stream, data } if *channel == of && *stream == which => Some(&data[..]),
        _ => None,
    });
    String::from_utf8_lossy(&pieces.collect::<Vec<_>>().concat()).into_owned()
}

/// Channels that were opened, with what for.
pub fn opened(told: &[Entry]) -> Vec<ChannelKind> {
    told.iter()
        .filter_map(|entry| match entry {
            Entry::Opened { kind, .. } => Some(kind.clone()),
            _ => None,
        })
        .collect()
}

/// A file that moved.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    pub path: Text,
    pub direction: Direction,
    pub size: u64,
    /// Octets that moved more than once.
    pub again: u64,
    pub sha256: Option<String>,
    /// What was kept of it.
    pub content: Vec<u8>,
    pub kept: bool,
}

/// Files in the order in which they began to move, of one connection after the other.
pub fn moved(told: &[Entry]) -> Vec<Moved> {
    told.split(|entry| matches!(entry, Entry::End { .. })).flat_map(moved_by_one).collect()
}

fn moved_by_one(told: &[Entry]) -> Vec<Moved> {
    let mut moved = Vec::new();
    for entry in told {
        let Entry::FileBegin { file, path, direction, .. } = entry else { continue };
        let mut found = Moved {
            path: path.clone(),
            direction: *direction,
            size: 0,
            again: 0,
            sha256: None,
            content: Vec::new(),
            kept: false,
        };
        for entry in told {
            match entry {
                Entry::FilePiece { file: of, data, .. } if of == file => found.content.extend_from_slice(data),
                Entry::FileEnd { file: of, size, again, sha256, kept } if of == file => {
                    (found.size, found.again) = (*size, *again);
                    (found.sha256, found.kept) = (sha256.clone(), *kept);
                }
                _ => {}
            }
        }
        moved.push(found);
    }
    moved
}

/// What `sha256sum` says of it.
pub fn sha256(data: &[u8]) -> Option<String> {
    use sha2::Digest;
    Some(sha2::Sha256::digest(data).iter().map(|octet| format!("{octet:02x}")).collect())
}

/// An attempt with a password.
pub fn password(user: &str, password: &str, accepted: bool) -> Entry {
    let credential = Credential::Password { password: Text::new(password) };
    Entry::Attempt { user: Text::new(user), credential, accepted }
}

/// Octets that are no two times the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}
