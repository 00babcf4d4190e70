//! Networks for tests: namespaces, wires and the processes inside them. All of
//! it vanishes when a test ends, also by a panic.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest that a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

static COUNTER: AtomicU32 = AtomicU32::new(0);
static SWEEP: std::sync::Once = std::sync::Once::new();

/// A network of namespaces.
pub struct Net {
    prefix: String,
    spaces: Mutex<Vec<String>>,
}

/// One network namespace.
#[derive(Clone)]
pub struct Ns {
    /// Its name, as `ip netns` knows it.
    pub name: String,
}

impl Net {
    /// An empty network.
    pub fn new() -> Net {
        assert!(rustix::process::geteuid().is_root(), "these tests need root: they make network namespaces");
        SWEEP.call_once(sweep);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        Net { prefix: format!("hwt-{}-{number}", std::process::id()), spaces: Mutex::default() }
    }

    /// A namespace of this network, with its loopback up.
    pub fn ns(&self, label: &str) -> Ns {
        let name = format!("{}-{label}", self.prefix);
        sh(&["ip", "netns", "add", &name]);
        self.spaces.lock().unwrap().push(name.clone());
        let ns = Ns { name };
        ns.sh(&["ip", "link", "set", "lo", "up"]);
        ns
    }

    /// Lays a wire (a veth pair) between two namespaces, both ends up, IPv6 addresses usable at once.
    pub fn wire(&self, a: (&Ns, &str), b: (&Ns, &str)) {
        sh(&["ip", "link", "add", a.1, "netns", &a.0.name, "type", "veth", "peer", "name", b.1, "netns", &b.0.name]);
        for (ns, name) in [a, b] {
            ns.sh(&["ip", "link", "set", name, "addrgenmode", "none"]);
            ns.sh(&["ip", "link", "set", name, "up"]);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.spaces.get_mut().unwrap_or_else(|e| e.into_inner()).drain(..) {
            delete(&name);
        }
    }
}

/// Removes a namespace and everything in it.
fn delete(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Removes what test processes that were killed have left.
fn sweep() {
    of_the_dead(std::path::Path::new("/run/netns")).for_each(|path| {
        path.file_name().into_iter().for_each(|name| delete(&name.to_string_lossy()));
    });
}

/// What in a directory is named after a process of tests' that has ended: `hwt-PID-...`.
pub fn of_the_dead(dir: &std::path::Path) -> impl Iterator<Item = std::path::PathBuf> {
    let is_dead = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let pid = name.strip_prefix("hwt-").and_then(|rest| rest.split('-').next()).and_then(|p| p.parse::<u32>().ok());
        pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    };
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_dead)
}

impl Ns {
    /// Gives an interface an address (`"10.0.0.1/24"`, `"fd00::1/64"`).
    pub fn addr(&self, interface: &str, address: &str) {
        let mut args = vec!["ip", "addr", "add", address, "dev", interface];
        if address.contains(':') {
            args.push("nodad");
        }
        self.sh(&args);
    }

    /// What a client says once it succeeds: the service may still be starting.
    pub fn ask(&self, args: &[&str]) -> String {
        wait_for(args[0], || {
            let output = self.run(&[&["timeout", "30"], args].concat());
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    /// Runs a program in the namespace; panics unless it succeeds. Returns its output.
    pub fn sh(&self, args: &[&str]) -> String {
        succeed(args, self.run(args))
    }

    /// Runs a program in the namespace to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }

    /// A program in the namespace, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(args);
        command
    }

    /// Starts a program in the namespace; it is killed when the result is dropped.
    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Does something in a thread inside the namespace.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let inside = move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind).unwrap();
            f()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|e| std::panic::resume_unwind(e))
    }
}

/// Has the kernel refuse a system call to a program and all that it starts.
pub fn deny(command: &mut Command, call: libc::c_long) {
    use std::os::unix::process::CommandExt;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The number of the call is first in what a filter looks at.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program and its steps outlive the call, which only reads them.
        let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// Runs a program; panics unless it succeeds.
pub fn sh(args: &[&str]) -> String {
    let output = Command::new(args[0]).args(&args[1..]).stdin(Stdio::null()).output();
    succeed(args, output.unwrap_or_else(|e| panic!("{args:?}: {e}")))
}

fn succeed(args: &[&str], output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// A program that runs beside the test; killed when dropped.
pub struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts it with its standard output and error read line by line.
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tx, lines) = std::sync::mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let tx = tx.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if tx.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Running { child, lines, seen: Vec::new() }
    }

    /// Its process number. (`ip netns exec` becomes the program.)
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`, and returns it.
    pub fn wait_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with `{text}` ({error}); it said:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The lines that were waited for or passed over so far.
    pub fn said(&self) -> &[String] {
        &self.seen
    }

    /// Sends a signal by number.
    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for its end and returns its status and everything it said.
    pub fn wait(mut self) -> (std::process::ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end; it said:\n{}", self.seen.join("\n")),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            self.seen.push(line);
        }
        (status, self.seen.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Connects to a server on the loopback as the switch connects into a container: without waiting for acknowledgments before a
/// small segment goes out.
pub async fn dial(port: u16) -> std::io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until `f` gives something.
pub fn wait_for<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
