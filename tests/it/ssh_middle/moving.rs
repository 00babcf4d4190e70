//! Files that move: SFTP and SCP by OpenSSH's clients.

use std::process::Command;

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::{Direction, Entry, FileAct, Text};

use super::lab::{Lab, Moved, moved, noise, run, sha256};

/// Files of these names and contents, and their directory.
fn tree(lab: &Lab) -> Vec<(&'static str, Vec<u8>)> {
    let files = vec![
        ("empty", Vec::new()),
        ("big", noise(3_000_000)),
        ("deep/new\nline", b"#!/bin/sh\n".to_vec()),
        ("deep/\x1b]0;title\x07", b"escape".to_vec()),
    ];
    std::fs::create_dir_all(lab.path("kit/deep")).unwrap();
    for (name, content) in &files {
        std::fs::write(lab.path("kit").join(name), content).unwrap();
    }
    files
}

/// What is to be told of a file that moved whole: its last name, and its beginning.
fn check(moved: &[Moved], name: &str, direction: Direction, content: &[u8]) {
    let shown = Text::new(name);
    let found = moved.iter().find(|file| file.path.as_str().ends_with(shown.as_str()) && file.direction == direction);
    let found =
        found.unwrap_or_else(|| panic!("no `{shown}` among {:?}", moved.iter().map(|m| &m.path).collect::<Vec<_>>()));
    assert_eq!(found.size, content.len() as u64, "{shown}");
    assert_eq!(found.sha256, sha256(content), "{shown}");
    let keep = content.len().min(1 << 20);
    assert!(found.content == content[..keep], "{shown}");
    assert_eq!(found.kept, keep == content.len(), "{shown}");
}

/// Both ways through `scp` with `options`.
fn scp_both_ways(options: &[&str]) {
    let lab = Lab::new(Policy::Any);
    let mut files = tree(&lab);
    if options.contains(&"-O") {
        // A line ends a name there, and the client writes another one.
        files.retain(|(name, _)| !name.contains('\n'));
        std::fs::remove_file(lab.path("kit/deep/new\nline")).unwrap();
    }
    let scp = |from: &str, to: &str| {
        let mut scp = lab.openssh("scp");
        run(scp.args(["-r", "-P", &lab.port.to_string()]).args(options).args([from, to]))
    };
    let kit = lab.path("kit").display().to_string();
    let output = scp(&kit, "root@127.0.0.1:up");
    assert!(output.status.success(), "{output:?}");
    let back = lab.path("back").display().to_string();
    let output = scp("root@127.0.0.1:up", &back);
    assert!(output.status.success(), "{output:?}");
    let moved = moved(&lab.ended());
    assert_eq!(moved.len(), 2 * files.len(), "{:?}", moved.iter().map(|file| &file.path).collect::<Vec<_>>());
    for (name, content) in &files {
        assert!(std::fs::read(lab.path("root/up").join(name)).unwrap() == *content, "{name}");
        assert!(std::fs::read(lab.path("back").join(name)).unwrap() == *content, "{name}");
        check(&moved, name, Direction::Upload, content);
        check(&moved, name, Direction::Download, content);
    }
    assert!(!lab.told().iter().any(|entry| matches!(entry, Entry::Strange { .. })));
}

#[test]
fn scp_over_sftp_moves_trees() {
    scp_both_ways(&[]);
}

#[test]
fn scp_of_old_moves_trees() {
    // -T: a client that does not insist on the names it asked for, which have been escaped.
    scp_both_ways(&["-O", "-T"]);
}

#[test]
fn sftp_tells_what_else_is_done() {
    let lab = Lab::new(Policy::Any);
    tree(&lab);
    let batch = format!(
        "put {0}/kit/big bot\nchmod 755 bot\nrename bot .bot\nmkdir d\nln -s .bot d/link\nls\nget .bot {0}/got\nrm .bot\nrm d/link\nrmdir d\n",
        lab.dir.path().display()
    );
    std::fs::write(lab.path("batch"), batch).unwrap();
    let mut sftp = lab.openssh("sftp");
    // A batch asks for no password; the earlier option wins.
    let batch = lab.path("batch").display().to_string();
    let output = run(sftp.args(["-P", &lab.port.to_string(), "-o", "BatchMode=no", "-b", &batch, "root@127.0.0.1"]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read(lab.path("got")).unwrap(), std::fs::read(lab.path("kit/big")).unwrap());
    let told = lab.ended();
    let big = std::fs::read(lab.path("kit/big")).unwrap();
    let moved = moved(&told);
    check(&moved, "bot", Direction::Upload, &big);
    check(&moved, ".bot", Direction::Download, &big);
    let root = lab.path("root").display().to_string();
    let acts: Vec<_> = told
        .iter()
        .filter_map(|entry| match entry {
            Entry::File { act, path, .. } => Some((*act, path.as_str().replace(&format!("{root}/"), ""))),
            _ => None,
        })
        .collect();
    for expected in [
        (FileAct::SetAttributes, "bot"),
        (FileAct::Rename, "bot"),
        (FileAct::MakeDirectory, "d"),
        (FileAct::Link, "d/link"),
        (FileAct::Remove, ".bot"),
        (FileAct::RemoveDirectory, "d"),
    ] {
        assert!(acts.contains(&(expected.0, expected.1.to_owned())), "{expected:?} is missing in {acts:?}");
    }
}

#[test]
fn a_copy_that_is_broken_off_is_told() {
    let lab = Lab::new(Policy::Any);
    // `scp -t` on the other side, and a client that goes away in the middle of a file.
    let mut ssh = lab.ssh(&[]);
    ssh.arg("scp -t cut").stdin(std::process::Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"C0644 1000 cut\nonly this").unwrap();
    drop(stdin);
    child.wait().unwrap();
    let moved = moved(&lab.ended());
    assert_eq!(moved[0].path, "cut");
    assert_eq!((moved[0].size, &moved[0].sha256, moved[0].kept), (9, &None, false));
    assert_eq!(moved[0].content, b"only this");
}

#[test]
fn what_is_no_scp_passes_all_the_same() {
    let lab = Lab::new(Policy::Any);
    std::fs::write(lab.path("root/scp"), "#!/bin/sh\ncat\n").unwrap();
    run(Command::new("chmod").arg("755").arg(lab.path("root/scp")));
    let mut ssh = lab.ssh(&[]);
    ssh.arg("./scp -t x").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"hello there\n").unwrap();
    drop(stdin);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"hello there\n");
    let told = lab.ended();
    assert!(told.iter().any(|entry| matches!(entry, Entry::Strange { channel: 0, .. })), "{told:#?}");
    assert_eq!(super::octets(&told, 0, super::Stream::Input), "hello there\n");
}

/// A shell behind a copy reads what the copy has not, and what is typed there looks like a part of it.
#[test]
fn a_shell_behind_a_copy_is_recorded() {
    let lab = Lab::new(Policy::Any);
    let mut ssh = lab.ssh(&[]);
    ssh.arg("scp -t .; sh").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    std::io::Write::write_all(&mut stdin, b"E\n").unwrap();
    // That it is there, and that it has heard this.
    std::io::Read::read_exact(&mut stdout, &mut [0; 2]).unwrap();
    std::io::Write::write_all(&mut stdin, b"T=; echo hidden >h\n").unwrap();
    drop(stdin);
    child.wait().unwrap();
    assert_eq!(std::fs::read(lab.path("root/h")).unwrap(), b"hidden\n");
    assert_eq!(super::octets(&lab.ended(), 0, super::Stream::Input), "E\nT=; echo hidden >h\n");
}

/// Two files are opened by one number, and the record must not say that one is the other.
#[test]
fn files_that_cannot_be_told_apart_are_octets() {
    let lab = Lab::new(Policy::Any);
    let script = r#"
import paramiko, sys, struct
transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
transport.start_client(timeout=30)
transport.auth_password("root", "hunter2")
channel = transport.open_session()
channel.invoke_subsystem("sftp")
def string(s): return struct.pack(">I", len(s)) + s
def packet(kind, body): return string(bytes([kind]) + body)
def said(n):
    got = b""
    while len(got) < n: got += channel.recv(n - len(got))
    return got
def answer(): return said(struct.unpack(">I", said(4))[0])
channel.sendall(packet(1, struct.pack(">I", 3)))
answer()
def opened(name): return packet(3, struct.pack(">I", 1) + string(name) + struct.pack(">II", 0x1a, 0))
channel.sendall(opened(b"decoy") + opened(b"evil"))
handles = [answer()[9:] for _ in range(2)]
for handle, data in zip(handles, (b"innocent", b"malicious")):
    channel.sendall(packet(6, struct.pack(">I", 2) + string(handle) + struct.pack(">Q", 0) + string(data)))
    answer()
transport.close()
"#;
    let mut python = Command::new("timeout");
    python.args(["60", "/usr/bin/python3", "-W", "ignore", "-c", script, &lab.port.to_string()]);
    let output = run(python.stdin(std::process::Stdio::null()));
    assert!(output.status.success(), "{output:?}");
    // The server has written both.
    assert_eq!(std::fs::read(lab.path("root/decoy")).unwrap(), b"innocent");
    assert_eq!(std::fs::read(lab.path("root/evil")).unwrap(), b"malicious");
    let told = lab.ended();
    assert!(moved(&told).is_empty(), "{told:#?}");
    assert!(told.iter().any(|entry| matches!(entry, Entry::Strange { channel: 0, .. })), "{told:#?}");
    let said = super::octets(&told, 0, super::Stream::Input);
    assert!(said.contains("evil") && said.contains("malicious"), "{said:?}");
}
