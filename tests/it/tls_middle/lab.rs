//! A service on the loopback, the middle before it, and clients.

#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use honeyweave::emulate::{Identity, Secret};
use honeyweave::relay::tape::{Entry, Recorder, Stream, Tape};
use honeyweave::relay::tls::{Dialect, Face, Foreign, Inside, Settings, serve};
use honeyweave::service::tls::{Credentials, Leaf, Name, Owner};

pub use crate::net::free_port;
use crate::net::{Running, wait_for};

/// What is on the tape, with the times.
pub type Told = Mutex<Vec<(u64, Entry)>>;

/// What a middle is, apart from what is behind it.
pub struct Setup {
    pub inside: Inside,
    pub starttls: Option<Dialect>,
    pub asks_clients: bool,
    pub alpn: Vec<String>,
    pub leaf: Leaf,
    pub foreign: Foreign,
}

impl Default for Setup {
    fn default() -> Setup {
        let subject = Name { common_name: "{sni}".into(), organization: "Acme".into(), ..Name::default() };
        Setup {
            inside: Inside::Clear,
            starttls: None,
            asks_clients: false,
            alpn: vec!["http/1.1".into()],
            leaf: Leaf { subject, ..Leaf::default() },
            foreign: Foreign::Pass,
        }
    }
}

impl Setup {
    fn settings(self) -> Settings {
        let owner = Owner { ip: [192, 0, 2, 1].into(), name: "web01".into(), service: 0 };
        let identity = Identity::new(Secret([5; 16]), "web");
        let Setup { inside, starttls, asks_clients, alpn, leaf, foreign } = self;
        let credentials = Credentials::Own(Box::new(leaf));
        let wall = Arc::new(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64);
        let face = Face::new(identity, owner, credentials, asks_clients, true, wall).unwrap();
        Settings { face, inside, starttls, foreign, alpn }
    }
}

/// The middle; ends when dropped.
pub struct Lab {
    /// Where it listens.
    pub port: u16,
    tape: Arc<Told>,
    connections: Arc<AtomicUsize>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Lab {
    /// The middle before what listens on port `inside`.
    pub fn new(setup: Setup, inside: u16) -> Lab {
        let tape = Arc::<Told>::default();
        Lab::on(setup, inside, tape.clone(), tape)
    }

    /// The same with a tape of another kind; what it is told is not looked at here.
    pub fn on(setup: Setup, inside: u16, tape: Arc<dyn Tape>, told: Arc<Told>) -> Lab {
        let settings = Arc::new(setup.settings());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let begun = tokio::time::Instant::now();
        let recorder = Recorder::new(tape, Arc::new(move || begun.elapsed().as_micros() as u64));
        let counted = connections.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let dial = move || crate::net::dial(inside);
                tokio::spawn(serve(settings.clone(), stream, dial, recorder.clone()));
            }
        });
        Lab { port, tape: told, connections, runtime: Some(runtime) }
    }

    /// What was told so far.
    pub fn told(&self) -> Vec<Entry> {
        self.tape.lock().unwrap().iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// What was told when all connections have ended.
    pub fn ended(&self) -> Vec<Entry> {
        wait_for("the end of all connections", || {
            let told = self.told();
            let ends = told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count();
            (ends > 0 && ends == self.connections.load(Ordering::Relaxed)).then_some(told)
        })
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

/// All octets of one direction.
pub fn octets(told: &[Entry], which: Stream) -> Vec<u8> {
    let pieces = told.iter().filter_map(|entry| match entry {
        Entry::Data { channel: 0, stream, data } if *stream == which => Some(&data[..]),
        _ => None,
    });
    pieces.collect::<Vec<_>>().concat()
}

/// The same as text.
pub fn text(told: &[Entry], which: Stream) -> String {
    String::from_utf8_lossy(&octets(told, which)).into_owned()
}

/// Waits until somebody listens there.
pub fn wait_port(port: u16) {
    wait_for("the server", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
}

/// What a command of the shell says within a minute, errors included.
pub fn shell(command: &str) -> String {
    let output = shell_output(command);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same with all of it.
pub fn shell_output(command: &str) -> Output {
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", &format!("{command} 2>&1")]).stdin(Stdio::null());
    shell.output().unwrap()
}

/// A key and a certificate for it in `dir`, made by OpenSSL: `NAME.key`, `NAME.pem`.
pub fn certificate(dir: &Path, name: &str, options: &str) {
    let at = dir.join(name).display().to_string();
    let output = shell_output(&format!(
        "openssl req -x509 -nodes -days 30 -subj '/O=Inside/CN={name}' -keyout {at}.key -out {at}.pem {options}"
    ));
    assert!(output.status.success(), "{output:?}");
}

/// nginx in clear on one port and within TLS on another, with HTTP/2, before the files of a directory; on a third with nothing
/// but HTTP/2, in clear. Of what is below `/private/` it asks for a password.
pub struct Nginx {
    pub dir: tempfile::TempDir,
    pub clear: u16,
    pub tls: u16,
    pub two: u16,
    running: Running,
}

impl Nginx {
    pub fn start() -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "inner", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1");
        std::fs::create_dir(dir.path().join("www")).unwrap();
        std::fs::write(dir.path().join("www/index.html"), "<h1>inside</h1>\n").unwrap();
        std::fs::create_dir(dir.path().join("www/private")).unwrap();
        std::fs::write(dir.path().join("www/private/index.html"), "<h1>let in</h1>\n").unwrap();
        std::fs::write(dir.path().join("users"), "root:{PLAIN}toor\n").unwrap();
        let (clear, tls, two) = (free_port(), free_port(), free_port());
        let at = dir.path().display();
        let config = format!(
            "user root;\nworker_processes 1;\ndaemon off;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off;\nsendfile on;\ntypes {{text/html html;}}\n\
             client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
             server {{ listen 127.0.0.1:{clear}; listen 127.0.0.1:{tls} ssl http2; listen 127.0.0.1:{two} http2; root {at}/www;\n\
             location /private/ {{ auth_basic private; auth_basic_user_file {at}/users; }}\n\
             ssl_certificate inner.pem; ssl_certificate_key inner.key; }}\n}}\n"
        );
        std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(dir.path()).arg("-e").arg("stderr").arg("-c").arg(dir.path().join("nginx.conf"));
        let running = Running::start(&mut command);
        wait_port(clear);
        Nginx { dir, clear, tls, two, running }
    }

    /// Its process, which has children.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it if it is told to, and not if it is killed.
        let mut stop = Command::new("/usr/sbin/nginx");
        stop.arg("-p").arg(self.dir.path()).args(["-e", "stderr", "-s", "stop", "-c"]).arg(self.path("nginx.conf"));
        let _ = stop.stderr(Stdio::null()).status();
        let is_gone = || !self.path("pid").exists() || std::thread::panicking();
        wait_for("its end", || is_gone().then_some(()));
    }
}
