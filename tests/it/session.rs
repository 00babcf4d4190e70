//! Sessions as a whole: an attacker at work, and what is listed, exported and proven of that, with the field's own tools.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use honeyweave::record::Utc;
use honeyweave::record::transcript::{Cast, Terminal, Transcript, TranscriptLimits};
use serde_json::Value;

use crate::lab::{Lab, PROGRAM, state_dir};
use crate::net::{Running, sh, wait_for};
use crate::shell::{shell, ssh};

const TOPOLOGY: &str = r#"
name: sessions
templates:
  shell:
    personality: linux
    vendor: vmware
    tcp: {22: container}
    backend: {image: small, start: on-access, idle: 10m}
  desktop:
    personality: windows
    vendor: dell
    tcp: {80: {http: {server: Microsoft-IIS/10.0, pages: {/: "<html>intranet</html>"}}}}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  lan: {kind: uplink}
  shells: {kind: hosts, addresses: 10.30.0.20-10.30.0.21, template: shell}
  desktops: {kind: hosts, addresses: 10.30.0.100-10.30.0.101, template: desktop}
  core: {kind: switch, ports: 3}
links:
  - endpoints: [lan, "core:1"]
  - endpoints: [shells, "core:2"]
  - endpoints: [desktops, "core:3"]
"#;

const PASSWORD: &str = "correct horse battery staple";

/// Runs one of the program's commands outside of any honeynet's.
fn program(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env("HONEYWEAVE_PASSWORD", PASSWORD).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a bundle holds, by the field's own `tar`.
fn unpack(bundle: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let packed = zstd::decode_all(fs::File::open(bundle).unwrap()).unwrap();
    fs::write(to.with_extension("tar"), packed).unwrap();
    sh(&["tar", "-C", text(to), "-xf", text(&to.with_extension("tar"))]);
}

/// What asciinema's own reader takes to be shown in a cast, and in which second. (`asciinema cat` needs a terminal.)
pub fn moments(cast: &Path) -> Vec<(f64, String)> {
    let python = "import json, sys\n\
        from asciinema.asciicast import open_from_url\n\
        with open_from_url(sys.argv[1]) as cast:\n\
        \x20   print(json.dumps([[event[0], event[2]] for event in cast.stdout_events()]))";
    // That of the system, for which the package is.
    serde_json::from_str(&sh(&["/usr/bin/python3", "-c", python, text(cast)])).unwrap()
}

/// All of that together.
fn asciinema(cast: &Path) -> String {
    moments(cast).into_iter().map(|(_, shown)| shown).collect()
}

/// The session of the attacker with `host` that has containers or connections.
fn session_with(lab: &Lab, host: &str) -> Value {
    let listed = lab.json(&["session", "ls", "--host", host, "--since", "1h"]);
    let sessions = listed.as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{listed}");
    assert_eq!(sessions[0]["attacker"], "10.30.0.2", "{listed}");
    sessions[0].clone()
}

/// Exports a session not encrypted.
fn export(lab: &Lab, id: &str, name: &str) -> PathBuf {
    let path = lab.path(name);
    let output = lab.command(&["session", "export", id, "--plain", "-o", text(&path)]);
    assert!(output.status.success(), "{}", said(&output));
    // What it says that it wrote is what is found to be in it.
    let (wrote, key) = (said(&output), lab.file("export.pem", &said(&lab.command(&["session", "key"]))));
    let found = said(&program(&["session", "verify", text(&path), "--key", text(&key)]));
    let counts = wrote.split_once(": ").unwrap().1.split_once(" octets").unwrap().0;
    assert!(found.contains(&format!(": {counts} octets, signed")), "{wrote}{found}");
    let size = fs::metadata(&path).unwrap().len().to_string();
    assert!(wrote.replace(',', "").contains(&format!("in a file of {size}")), "{wrote}{size}");
    path
}

#[test]
fn an_intrusion_is_listed_exported_and_proven() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "10.30.0.2/24");
    lab.attacker.sh(&["curl", "-s", "-o", "/dev/null", "http://10.30.0.100/"]);
    shell(&lab.attacker, "10.30.0.20", "echo worm >/tmp/dropped; echo done");
    // A name that would do something to a terminal.
    ssh(&lab.attacker, "10.30.0.20", "printf '\\033]0;owned\\007'");
    lab.wait_event("tcp.close", |event| event["dst"]["ip"] == "10.30.0.20");
    lab.wait_event("service.request", |event| event["dst"]["ip"] == "10.30.0.100");

    let session = session_with(&lab, "10.30.0.20");
    let id = session["session"].as_str().unwrap().to_owned();
    assert_eq!(session["containers"].as_array().unwrap().len(), 1, "{session}");
    assert_eq!(session["ports"][0]["port"], 22, "{session}");
    let web = session_with(&lab, "10.30.0.100");
    assert_eq!(web["ports"][0]["requests"], 1, "{web}");
    assert_eq!(lab.json(&["session", "ls", "--attacker", "10.30.0.3"]), Value::Array(vec![]));

    // What another part of the recording puts in the session's directory belongs to it.
    let files = lab.own_dir().join("sessions").join(&id);
    assert_eq!(fs::metadata(files.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o750);
    fs::create_dir(&files).unwrap();
    let now = Utc::from_micros(1_800_000_000_000_000);
    let terminal = Terminal { width: 80, height: 24, ..Terminal::default() };
    let mut cast = Transcript::create(&files, "ssh-1", terminal, TranscriptLimits::default(), now).unwrap();
    cast.input(now, b"id\r");
    cast.output(now, b"uid=0(root)\r\n\x1b]0;owned\x07");
    cast.finish(now).unwrap();

    let archive = lab.json(&["container", "snapshot", "10.30.0.20"]);
    let archive = archive["archive"].as_str().unwrap();
    lab.wait_event("evidence.taken", |event| event["archive"] == archive);
    let shown = lab.command(&["session", "show", &id]);
    let shown = said(&shown);
    for part in ["attacker", "10.30.0.2", archive, "ssh-1-0001.cast", "container.live"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let text_of = said(&lab.command(&["session", "replay", &id, "--text"]));
    assert!(text_of.contains("uid=0(root)"), "{text_of}");
    let replayed = said(&lab.command(&["session", "replay", &id, "--speed", "100", "--terminal"]));
    assert!(replayed.contains("uid=0(root)\r\n") && !replayed.contains("owned"), "{replayed:?}");

    // While it runs and when it has ended, in the open and encrypted.
    let open = export(&lab, &id, "open.tar.zst");
    assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o600);
    let key = lab.file("key.pem", &said(&lab.command(&["session", "key"])));
    lab.down();
    let again = export(&lab, &id, "again.tar.zst");
    for bundle in [&open, &again] {
        let output = program(&["session", "verify", text(bundle), "--key", text(&key)]);
        assert!(output.status.success() && said(&output).starts_with("ok: session "), "{}", said(&output));
    }
    let output = lab.command(&["session", "verify", text(&open)]);
    assert!(output.status.success(), "by the key of the honeynet on this machine: {}", said(&output));
    look_into(&lab, &open, &id, archive, &key);

    let sealed = lab.path("sealed.tar.zst.age");
    let mut command = Command::new(PROGRAM);
    command.args(["session", "export", &id, "-o", text(&sealed), "--name", &lab.name, "--state-dir"]);
    let output = command.arg(crate::lab::state_dir()).env("HONEYWEAVE_PASSWORD", PASSWORD).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let output = program(&["session", "verify", text(&sealed), "--key", text(&key)]);
    assert!(output.status.success(), "{}", said(&output));
    let wrong = lab.file("password", "another\n");
    let output = program(&["session", "verify", text(&sealed), "--key", text(&key), "--password-file", text(&wrong)]);
    assert!(!output.status.success() && said(&output).contains("the password is another"), "{}", said(&output));

    // One octet that is another.
    let mut octets = fs::read(&open).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    let changed = lab.path("changed.tar.zst");
    fs::write(&changed, octets).unwrap();
    let output = program(&["session", "verify", text(&changed), "--key", text(&key)]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // Nobody's bundle is written over.
    let output = lab.command(&["session", "export", &id, "--plain", "-o", text(&open)]);
    assert!(!output.status.success() && said(&output).contains("cannot create"), "{}", said(&output));
    assert!(said(&output).contains("-o FILE"), "{}", said(&output));
    // What is no bundle, or not all of one, is said with what to do.
    let whole = fs::read(&open).unwrap();
    for (octets, why, help) in [
        (&b""[..], "it is empty", "copy it once more"),
        (&whole[..whole.len() / 2], "it is cut off", "copy it once more"),
        (b"GIF89a", "it is no bundle of a session", "session export"),
        (b"age-encryption.org/v1\n-> scrypt ", "it is cut off", "copy it once more"),
    ] {
        fs::write(&changed, octets).unwrap();
        let output = program(&["session", "verify", text(&changed), "--key", text(&key)]);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(why) && said.contains(help), "{said}");
    }
}

/// What others' tools find in a bundle.
fn look_into(lab: &Lab, bundle: &Path, id: &str, archive: &str, key: &Path) {
    let dir = lab.path("unpacked");
    unpack(bundle, &dir);
    let member = |name: &str| dir.join(name);
    let manifest: Value = serde_json::from_slice(&fs::read(member("manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["session"], &manifest["left_out"]), (&id.into(), &Value::Null), "{manifest}");
    for told in manifest["members"].as_array().unwrap() {
        let path = member(told["path"].as_str().unwrap());
        let sum = sh(&["sha256sum", text(&path)]);
        assert!(sum.starts_with(told["sha256"].as_str().unwrap()), "{sum} {told}");
    }
    let verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", text(key)];
    let (signature, signed) = (member("manifest.sig"), member("manifest.json"));
    let said = sh(&[&verify[..], &["-sigfile", text(&signature), "-in", text(&signed)]].concat());
    assert!(said.contains("Signature Verified Successfully"), "{said}");

    for line in fs::read_to_string(member("events.ndjson")).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(record["session"] == id || record["cause"] == id || record["archive"] == archive, "{line}");
    }
    let captures: Vec<_> = fs::read_dir(member("captures")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut seen = String::new();
    for capture in &captures {
        let infos = sh(&["capinfos", "-M", text(capture)]);
        assert!(infos.contains("pcapng") && infos.contains("Strict time order:   True"), "{infos}");
        assert!(infos.contains("Number of interfaces in file: 1"), "{infos}");
        assert!(infos.contains(&format!("session {id}")), "{infos}");
        let fields = ["ip.src", "ip.dst", "frame.interface_name", "ssh.protocol"].map(|field| ["-e", field]).concat();
        let frames = sh(&[&["tshark", "-r", text(capture), "-Y", "ip", "-T", "fields"][..], &fields].concat());
        assert!(frames.lines().count() > 10, "{frames}");
        for line in frames.lines() {
            let ends: Vec<&str> = line.split('\t').take(2).collect();
            assert!(ends == ["10.30.0.2", "10.30.0.20"] || ends == ["10.30.0.20", "10.30.0.2"], "{line}");
        }
        seen += &frames;
    }
    assert_eq!(captures.len(), 2, "{captures:?}");
    assert!(seen.contains("\tup0\t") && seen.contains("\t10.30.0.20\t") && seen.contains("SSH-2.0-"), "{seen}");
    let evidence = member(&format!("evidence/{archive}"));
    let output = program(&["evidence", "show", text(&evidence)]);
    assert!(self::said(&output).contains("/tmp/dropped"), "{}", self::said(&output));
    let shown = asciinema(&member("transcripts/ssh-1-0001.cast"));
    assert!(shown.contains("uid=0(root)"), "{shown}");
}

#[test]
fn what_age_encrypts_and_decrypts_is_the_same() {
    let lab = Lab::shared();
    let (plain, sealed) = (lab.file("plain", "text\n"), lab.path("sealed"));
    let mut out = honeyweave::record::bundle::seal(fs::File::create(&sealed).unwrap(), PASSWORD, 10).unwrap();
    std::io::copy(&mut fs::File::open(&plain).unwrap(), &mut out).unwrap();
    out.finish().unwrap();
    // It asks a terminal and nobody else.
    let python = "import pty, os, sys, time\n\
        pid, fd = pty.fork()\n\
        if pid == 0: os.execvp('age', ['age', '--decrypt', '-o', sys.argv[2], sys.argv[1]])\n\
        seen = b''\n\
        while b'passphrase' not in seen: seen += os.read(fd, 100)\n\
        os.write(fd, sys.argv[3].encode() + b'\\n')\n\
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let opened = lab.path("opened");
    sh(&["timeout", "60", "python3", "-c", python, text(&sealed), text(&opened), PASSWORD]);
    assert_eq!(fs::read_to_string(&opened).unwrap(), "text\n");
}

#[test]
fn a_transcript_of_ours_is_one_of_asciinemas() {
    let lab = Lab::shared();
    let dir = lab.path("casts");
    fs::create_dir(&dir).unwrap();
    let at = |micros: i64| Utc::from_micros(1_800_000_000_000_000 + micros);
    let terminal = Terminal {
        width: 80,
        height: 24,
        command: Some("\u{1b}[2J \"quoted\"\n".into()),
        env: [("TERM".into(), "xterm\u{0}".into())].into(),
    };
    let mut cast = Transcript::create(&dir, "hostile", terminal, TranscriptLimits::default(), at(0)).unwrap();
    let octets: Vec<u8> = (0..=255).collect();
    for (second, piece) in octets.chunks(7).enumerate() {
        cast.output(at(second as i64 * 3_600_000_000), piece);
        cast.input(at(-5), piece);
        cast.resize(at(0), second as u16, 1);
    }
    cast.finish(at(0)).unwrap();
    let path = dir.join("hostile-0001.cast");
    assert_eq!(asciinema(&path), String::from_utf8_lossy(&octets));
    let mut cast = Cast::open(BufReader::new(fs::File::open(&path).unwrap())).unwrap();
    while cast.next_moment().unwrap().is_some() {}
    assert_eq!(cast.skipped(), 0);
}

#[test]
fn on_a_full_disk_nothing_is_half_exported_and_the_transcript_counts_what_it_lost() {
    let mut lab = Lab::shared();
    lab.on_small_disk(64);
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "10.30.0.2/24");
    lab.attacker.sh(&["curl", "-s", "-o", "/dev/null", "http://10.30.0.100/"]);
    lab.wait_event("tcp.close", |event| event["dst"]["ip"] == "10.30.0.100");
    let id = session_with(&lab, "10.30.0.100")["session"].as_str().unwrap().to_owned();
    let files = lab.own_dir().join("sessions").join(&id);
    fs::create_dir(&files).unwrap();
    let now = Utc::from_micros(0);
    let limits = TranscriptLimits::default();
    let mut cast = Transcript::create(&files, "x", Terminal::default(), limits, now).unwrap();
    cast.output(now, b"before");
    cast.flush().unwrap();

    let filler = lab.fill_disk();
    // What the file system had set aside for itself comes back when it has written.
    let mut rest = fs::File::options().append(true).open(&filler[1]).unwrap();
    for _ in 0..5 {
        sh(&["sync", "-f", text(&filler[1])]);
        while rest.write_all(&[1; 4096]).is_ok() {}
    }
    cast.output(now, &[b'x'; 100_000]);
    assert!(cast.flush().is_err());
    let bundle = lab.own_dir().join("bundle.tar.zst");
    let output = lab.command(&["session", "export", &id, "--plain", "-o", text(&bundle)]);
    assert!(!output.status.success() && said(&output).contains("No space left"), "{}", said(&output));
    // Lines are broken where they are long.
    let told = said(&output).replace("\n        ", " ");
    assert!(told.contains("bundle.tar.zst") && told.contains("say another place with -o"), "{told}");
    assert!(!bundle.exists(), "half a bundle is none");
    assert!(lab.command(&["session", "show", &id]).status.success(), "what is there can be read");

    filler.iter().for_each(|file| fs::remove_file(file).unwrap());
    cast.output(now, b"after");
    let stats = cast.finish(now).unwrap();
    assert!(stats.lost > 0 && stats.octets == 100_011, "{stats:?}");
    let shown = said(&lab.command(&["session", "replay", &id, "--text"]));
    let gap = "before\n(recording: 100000 octets before this were lost: the disk took nothing)\nafter\n";
    assert!(shown.contains(gap), "{shown}");
    wait_for("an export when there is room again", || {
        let output = lab.command(&["session", "export", &id, "--plain", "-o", text(&bundle)]);
        output.status.success().then_some(())
    });
    // Ctrl-C in the midst of one, of which the password alone takes most of a second.
    let late = lab.own_dir().join("late.tar.zst.age");
    let mut command = Command::new(PROGRAM);
    command.args(["session", "export", &id, "-o", text(&late), "--name", &lab.name, "--state-dir"]).arg(state_dir());
    let exporting = Running::start(command.env("HONEYWEAVE_PASSWORD", "geheim"));
    wait_for("the file without a name", || {
        let open = fs::read_dir(format!("/proc/{}/fd", exporting.pid())).ok()?;
        let links = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let is_nameless = |link: &PathBuf| link.starts_with(lab.own_dir()) && text(link).ends_with(" (deleted)");
        links.into_iter().any(|link| is_nameless(&link)).then_some(())
    });
    exporting.signal(libc::SIGINT);
    assert!(!exporting.wait().0.success());
    assert!(!late.exists(), "nor is one that was ended");
    let mut magic = [0; 4];
    fs::File::open(&bundle).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(magic, [0x28, 0xb5, 0x2f, 0xfd]);
}
