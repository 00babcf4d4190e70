//! SSH in the middle, between real clients and real servers, all on the loopback.

mod forwards;
mod guessers;
pub mod lab;
mod moving;
mod others;
mod refusals;

use std::io::Write;
use std::process::Stdio;

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::{ChannelKind, Credential, Entry, Stream, Text};
use lab::{Lab, noise, octets, opened, password, run};

#[test]
fn a_command_runs_and_is_recorded() {
    let lab = Lab::new(Policy::Any);
    let output = run(lab.ssh(&[]).arg("echo hello; echo oops >&2; exit 7"));
    assert_eq!(
        (output.status.code(), &output.stdout[..], &output.stderr[..]),
        (Some(7), &b"hello\n"[..], &b"oops\n"[..])
    );
    let told = lab.ended();
    let Entry::Hello { banner, kex, hassh, .. } = &told[0] else { panic!("{told:?}") };
    assert!(banner.as_str().starts_with("SSH-2.0-OpenSSH_"), "{banner}");
    assert!(kex.as_str().contains("curve25519-sha256,") && hassh.len() == 32, "{kex} {hassh}");
    let channel = 0;
    let asked = Entry::Attempt { user: Text::new("root"), credential: Credential::None, accepted: false };
    let command = Entry::Exec { channel, command: Text::new("echo hello; echo oops >&2; exit 7") };
    for expected in [
        asked,
        password("root", "hunter2", true),
        Entry::Opened { channel, kind: ChannelKind::Session },
        command,
        Entry::Exit { channel, status: Some(7), signal: None },
        Entry::Closed { channel },
    ] {
        assert!(told.contains(&expected), "{expected:?} is missing:\n{told:#?}");
    }
    assert_eq!(octets(&told, 0, Stream::Output), "hello\n");
    assert_eq!(octets(&told, 0, Stream::Error), "oops\n");
}

#[test]
fn what_goes_in_comes_back_however_much_it_is() {
    let lab = Lab::new(Policy::Any);
    let data = noise(24 << 20);
    let mut child = lab.ssh(&[]).arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == data, "{} octets came back", output.stdout.len());
    lab.ended();
    let used = lab.used();
    assert!(used.inward < 3 << 20 && used.outward < 3 << 20, "{used:?}");
}

#[test]
fn a_shell_has_a_terminal_whose_size_changes() {
    let lab = Lab::new(Policy::Any);
    // A terminal of its own for the client, which changes its size.
    let script = r##"
import fcntl, os, pty, struct, sys, termios, time, select, signal
def size(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def until(what):
    global seen
    end = time.time() + 30
    while what not in seen:
        if not select.select([fd], [], [], max(0, end - time.time()))[0]: raise SystemExit("no %r in %r" % (what, seen))
        try: seen += os.read(fd, 4096)
        except OSError: raise SystemExit("ended before %r: %r" % (what, seen))
until(b"# ")
size(33, 111)
os.write(fd, b"while ! stty size | grep '33 111'; do :; done; echo re''sized; exit 5\n")
until(b"resized")
try:
    while os.read(fd, 4096): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"##;
    // sshpass makes a terminal of its own, which is none that changes.
    let mut ssh = std::process::Command::new("timeout");
    ssh.args(["60", "python3", "-c", script, "ssh", "-F", "none", "-o", "StrictHostKeyChecking=yes", "-o"]);
    ssh.arg(format!("UserKnownHostsFile={}", lab.path("known").display()));
    ssh.args(["-o", "IdentityFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "NumberOfPasswordPrompts=1"]);
    ssh.args(["-p", &lab.port.to_string(), "root@127.0.0.1"]);
    ssh.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", lab.askpass()).env("TERM", "xterm-256color");
    let output = run(ssh.stdin(Stdio::null()));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let told = lab.ended();
    assert!(told.iter().any(|entry| matches!(entry, Entry::Pty { channel: 0, term, .. } if *term == "xterm-256color")));
    assert!(told.contains(&Entry::Shell { channel: 0 }));
    assert!(told.contains(&Entry::Resize { channel: 0, columns: 111, rows: 33 }), "{told:#?}");
    assert!(octets(&told, 0, Stream::Input).contains("stty size"));
    assert!(octets(&told, 0, Stream::Output).contains("resized\r\n"));
    // The times are in order.
    assert!(lab.timed().is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn signals_environment_and_agents_pass() {
    let lab = Lab::new(Policy::Any);
    let output = run(lab.ssh(&["-o", "SetEnv=LC_SECRET=42"]).arg("echo $LC_SECRET; kill -TERM $$"));
    assert_eq!(&output.stdout[..], b"42\n");
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let told = lab.ended();
    assert!(told.contains(&Entry::Env { channel: 0, name: Text::new("LC_SECRET"), value: Text::new("42") }));
    assert!(told.contains(&Entry::Exit { channel: 0, status: None, signal: Some(Text::new("TERM")) }), "{told:#?}");

    let agent = lab.path("agent");
    let mut running = std::process::Command::new("ssh-agent").args(["-D", "-a"]).arg(&agent).spawn().unwrap();
    crate::net::wait_for("the agent", || agent.exists().then_some(()));
    let key = lab.path("own");
    run(std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f"]).arg(&key));
    run(std::process::Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &agent));
    let output = run(lab.ssh(&["-A"]).arg("ssh-add -l").env("SSH_AUTH_SOCK", &agent));
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("mine (ED25519)"), "{output:?}");
    let told = lab.ended();
    assert!(told.contains(&Entry::Agent { channel: 0, accepted: true }), "{told:#?}");
    assert!(opened(&told).contains(&ChannelKind::Agent));
}

#[test]
fn the_servers_own_accounts_open_it() {
    let lab = Lab::new(Policy::Container);
    let try_as = |user: &str, secret: &str| {
        let mut ssh = lab.openssh_with(secret, "ssh");
        let output = run(ssh.args(["-p", &lab.port.to_string()]).arg(format!("{user}@127.0.0.1")).arg("echo $HOME"));
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(try_as("alice", "hunter2"), (false, String::new()));
    assert_eq!(try_as("alice", "wonderland"), (true, lab.path("alice").display().to_string()));
    assert_eq!(try_as("root", "wonderland"), (false, String::new()));
    assert_eq!(try_as("root", "toor"), (true, lab.path("root").display().to_string()));
    let told = lab.ended();
    for expected in [
        password("alice", "hunter2", false),
        password("alice", "wonderland", true),
        password("root", "wonderland", false),
        password("root", "toor", true),
    ] {
        assert!(told.contains(&expected), "{expected:?}");
    }
}

#[test]
fn sessions_share_a_connection() {
    let lab = Lab::new(Policy::Any);
    let socket = lab.path("control");
    let control = format!("ControlPath={}", socket.display());
    let mut master = lab.ssh_alone(&["-M", "-N", "-o", &control]).spawn().unwrap();
    crate::net::wait_for("the master", || socket.exists().then_some(()));
    // Something long, and others beside it.
    let mut long = lab.ssh_alone(&["-o", &control]);
    let mut long = long.arg("dd if=/dev/zero bs=1M count=64 2>/dev/null").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = long.stdout.take().unwrap();
    let reading = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    for i in 0..5 {
        let output = run(lab.ssh_alone(&["-o", &control]).arg(format!("echo {i}")));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{i}\n"), "{output:?}");
    }
    assert_eq!(reading.join().unwrap().unwrap(), 64 << 20);
    assert!(long.wait().unwrap().success());
    master.kill().unwrap();
    master.wait().unwrap();
    let told = lab.ended();
    assert_eq!(opened(&told), vec![ChannelKind::Session; 6]);
    assert_eq!(told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count(), 1);
    let zeros: usize = told
        .iter()
        .map(|entry| match entry {
            Entry::Data { stream: Stream::Output, data, .. } if data.starts_with(&[0]) => data.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(zeros, 64 << 20);
}

#[test]
fn a_program_that_reads_late_gets_everything() {
    let lab = Lab::new(Policy::Any);
    std::fs::write(lab.path("sent"), noise(24 << 20)).unwrap();
    // Long enough for everything between to be full.
    let input = std::fs::File::open(lab.path("sent")).unwrap();
    let output = run(lab.ssh(&[]).arg("sleep 2; sha256sum").stdin(input));
    let digest = lab::sha256(&noise(24 << 20)).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{digest}  -\n"));
    lab.ended();
    let used = lab.used();
    assert!(used.inward > 512 << 10 && used.inward < 3 << 20, "{used:?}");
}
