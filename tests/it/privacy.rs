//! What is left out of what is written, and who may read the rest: an attack by real clients, and then every file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::net::wait_for;

/// The image is the one of the other tests of SSH in the middle.
const TOPOLOGY: &str = r#"
name: private
privacy: {retention: 30d, truncate_addresses: true, redact_credentials: true}
sinks:
  ours: {format: ndjson, to: "file:ours.json"}
  ecs: {format: ecs, to: "file:ecs.json"}
  eve: {format: eve, to: "file:eve.json"}
  cef: {format: cef, to: "file:cef.log"}
  cowrie: {format: cowrie, to: "file:cowrie.json"}
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  any: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: any}
  own: {kind: host, address: 192.0.2.20, tcp: {21: {ftp: {}}, 80: {http: {}}}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
  - endpoints: [own, "core:3"]
"#;

/// What nobody may find anywhere afterward.
const SECRET: &str = "hunter2correcthorse";
/// The same in base 64, as `curl` sends `root:` and it.
const BASIC: &str = "cm9vdDpodW50ZXIyY29ycmVjdGhvcnNl";

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Attacks by SSH, FTP and HTTP, and leaves a program behind.
fn attack(lab: &Lab) {
    let from = &lab.attacker;
    let ssh = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "PreferredAuthentications=password",
    ];
    let program = lab.file("implant", "#!/bin/sh\necho implant\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let scp = [
        &["sshpass", "-p", SECRET, "scp", "-p"][..],
        &ssh,
        &[program.to_str().unwrap(), "root@192.0.2.10:/tmp/implant"],
    ];
    from.sh(&scp.concat());
    from.sh(&[&["sshpass", "-p", SECRET, "ssh", "-tt"][..], &ssh, &["root@192.0.2.10", "/tmp/implant; exit"]].concat());
    let login = format!("root:{SECRET}");
    from.run(&["curl", "-s", "-m", "10", "-u", &login, "ftp://192.0.2.20/"]);
    let page = format!("http://192.0.2.20/login?password={SECRET}");
    from.run(&["curl", "-s", "-m", "10", "-u", &login, &page]);
}

pub fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

/// Whether an address stands there as text, whatever comes before and after it, or not as part of another.
fn names(octets: &[u8], address: &[u8]) -> bool {
    octets.windows(address.len()).enumerate().filter(|(_, window)| *window == address).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| octets.get(at));
        let after = octets.get(at + address.len());
        !before.is_some_and(u8::is_ascii_digit) && !after.is_some_and(u8::is_ascii_digit)
    })
}

/// What a file says when it is unpacked.
pub fn unpacked(path: &Path) -> Vec<u8> {
    let octets = fs::read(path).unwrap();
    match path.extension().and_then(|name| name.to_str()) {
        Some("zst") => zstd::decode_all(&octets[..]).unwrap(),
        _ => octets,
    }
}

#[test]
fn what_is_private_is_in_no_file() {
    let mut lab = Lab::shared();
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    attack(&lab);
    lab.wait_event("ssh.close", |_| true);
    let login =
        lab.wait_event("ssh.login", |event| event["text"].as_str().is_some_and(|text| text.contains("password")));
    assert!(login["text"].as_str().unwrap().contains("(19 characters)"), "{login}");
    assert_eq!(login["src"]["ip"], "192.0.2.0", "{login}");
    assert_eq!(login["dst"]["ip"], "192.0.2.10", "{login}");
    let login = lab.wait_event("service.login", |event| event["dst"]["port"] == 21);
    assert!(login["text"].as_str().unwrap().contains("(19 characters)"), "{login}");
    lab.wait_event("service.request", |event| event["dst"]["port"] == 80);
    assert!(lab.command(&["container", "destroy", "192.0.2.10"]).status.success());
    let taken = lab.wait_event("evidence.taken", |event| event["dst"]["ip"] == "192.0.2.10");
    assert!(names(taken.to_string().as_bytes(), b"192.0.2.10") && !names(b"1192.0.2.2 192.0.2.20", b"192.0.2.2"));
    let session = lab.wait_event("ssh.close", |_| true)["session"].as_str().unwrap().to_owned();
    lab.down();
    let own = lab.own_dir();
    // What is exported has been written, too.
    let (bundle, tar, exported) = (lab.path("bundle.tar.zst"), lab.path("bundle.tar"), own.join("exported"));
    let output = lab.command(&["session", "export", &session, "--plain", "-o", bundle.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&tar, unpacked(&bundle)).unwrap();
    fs::create_dir(&exported).unwrap();
    crate::net::sh(&["tar", "-C", exported.to_str().unwrap(), "-xf", tar.to_str().unwrap()]);
    let mut looked = 0;
    for part in ["events", "captures", "sessions", "sinks", "evidence", "exported"] {
        let found = files(&own.join(part));
        assert!(!found.is_empty(), "nothing in {part}");
        for path in found {
            let octets = unpacked(&path);
            for (what, secret) in [("the password", SECRET.as_bytes()), ("the same in base 64", BASIC.as_bytes())] {
                assert!(!contains(&octets, secret), "{what} is in {}", path.display());
            }
            // Whatever a program in a container has said of its own accord is repeated as it is.
            let repeats = |line: &&[u8]| contains(line, b"container.log");
            for line in octets.split(|octet| *octet == b'\n').filter(|line| !repeats(line)) {
                let shown = || String::from_utf8_lossy(line).into_owned();
                assert!(!names(line, b"192.0.2.2"), "the address is in {}: {}", path.display(), shown());
            }
            assert!(!contains(&octets, b"192.0.2.2\""), "the address is in {}", path.display());
            if part == "captures" || path.extension().is_some_and(|name| name == "pcapng") {
                assert!(!contains(&octets, &[192, 0, 2, 2]), "the address is in {}", path.display());
                looked += usize::from(contains(&octets, &[192, 0, 2, 0, 192, 0, 2, 20]));
            }
        }
    }
    assert!(looked > 0, "the frames themselves are there");
    // Whoever reads them sees sound packets: no checksum of a header that was rewritten is wrong.
    let captures = files(&own.join("captures"));
    let wan = captures.iter().find(|path| path.to_str().unwrap().contains("wan-")).unwrap();
    let fields = ["-T", "fields", "-e", "ip.src"];
    let wrong =
        ["tshark", "-r", wan.to_str().unwrap(), "-o", "ip.check_checksum:TRUE", "-Y", "ip.checksum.status == 0"];
    assert_eq!(crate::net::sh(&[&wrong[..], &fields].concat()).trim(), "");
}

/// Whatever an attacker has brought is the console's alone, and no file that could be run.
#[test]
fn what_was_captured_is_nobody_elses_and_runs_nowhere() {
    let mut lab = Lab::shared();
    lab.start(&TOPOLOGY.replace("privacy: {retention: 30d, truncate_addresses: true, redact_credentials: true}\n", ""));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    attack(&lab);
    lab.wait_event("ssh.close", |_| true);
    let destroyed = lab.command(&["container", "destroy", "192.0.2.10"]);
    assert!(destroyed.status.success(), "{}", String::from_utf8_lossy(&destroyed.stderr));
    lab.wait_event("evidence.taken", |_| true);
    let own = lab.own_dir();
    let part = |name: &str| wait_for(name, || Some(files(&own.join(name))).filter(|files| !files.is_empty()));
    for name in ["captures", "sessions", "evidence", "events", "sinks"] {
        for path in part(name) {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    let all = part("sessions");
    assert!(all.iter().any(|path| contains(&fs::read(path).unwrap(), b"#!/bin/sh\necho implant")), "{all:?}");
    // What is exported is encrypted unless somebody says otherwise.
    let session = lab.wait_event("ssh.close", |_| true)["session"].as_str().unwrap().to_owned();
    let (bundle, password) = (lab.path("bundle"), lab.file("password", "a password\n"));
    let (to, file) = (bundle.to_str().unwrap(), password.to_str().unwrap());
    let output = lab.command(&["session", "export", &session, "-o", to, "--password-file", file]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let octets = fs::read(&bundle).unwrap();
    assert!(octets.starts_with(b"age-encryption.org/v1\n") && !contains(&octets, b"implant"));
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
}
