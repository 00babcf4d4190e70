//! What a disk that gets full costs, and in which order: old captures first, then frames, contents of files, transcripts and
//! tapes, and events last. Meanwhile attackers notice nothing.

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::crash::{Session, init};
use crate::lab::Lab;
use crate::net::wait_for;
use crate::ssh_recorded::OPTIONS;

const TOPOLOGY: &str = "
name: full
captures: {file: 1M, flow: none, compress: false}
templates:
  read:
    personality: linux
    tcp: {22: {container: ssh, opens: any}}
    backend: {image: small, idle: 1h}
  desktop: {personality: windows, tcp: {445: open}}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  read: {kind: host, address: 192.0.2.30, template: read}
  desktops: {kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: desktop}
links:
  - endpoints: [wan, 'core:1']
  - endpoints: [read, 'core:2']
  - endpoints: [desktops, 'core:3']
";

const HOST: &str = "192.0.2.30";
const MIB: u64 = 1 << 20;
/// Of the disk, in MiB: nobody can have a container where there is less than one GiB.
const SIZE: u64 = 4096;

/// The honeynet and its disk.
struct Disk {
    lab: Lab,
    ballast: PathBuf,
}

impl Disk {
    fn space(&self) -> (u64, u64) {
        let stat = rustix::fs::statvfs(self.lab.own_dir()).unwrap();
        (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)
    }

    /// Leaves so many octets of it, by blocks that nobody has to write.
    fn leave(&self, octets: u64) {
        let file = std::fs::File::options().create(true).append(true).open(&self.ballast).unwrap();
        let held = file.metadata().unwrap().len();
        let length = (held + self.space().0).saturating_sub(octets);
        if length <= held {
            return file.set_len(length).unwrap();
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), held, length - held).unwrap();
    }

    /// A part of the whole disk, in thousandths.
    fn part(&self, thousandths: u64) -> u64 {
        self.space().1 / 1000 * thousandths
    }

    /// Captures of the uplink, the oldest first.
    fn captures(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.lab.own_dir().join("captures")).unwrap();
        let mut names: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("wan-") || name.starts_with("up0"));
        names.sort();
        names
    }

    fn ssh(&self, command: &str) -> Output {
        let login = format!("root@{HOST}");
        let words = ["timeout", "60", "sshpass", "-p", "guessed", "ssh", "-T"];
        self.lab.attacker.run(&[&words[..], &OPTIONS, &[&login, command]].concat())
    }

    /// Sends a file to a program inside; returns what became of it on the tape, as the log has it.
    fn send(&self, word: &str) -> Value {
        let octets = format!("content of {word}").repeat(1000);
        let file = self.lab.file(word, &octets);
        let digest = self.lab.attacker.sh(&["sha256sum", file.to_str().unwrap()]);
        let digest = digest.split(' ').next().unwrap();
        let command = format!("cat >/tmp/{word}; wc -c </tmp/{word}");
        let script = format!("sshpass -p guessed ssh -T \"$@\" root@{HOST} '{command}' <{}", file.display());
        let said = self.lab.attacker.sh(&[&["timeout", "60", "sh", "-c", &script, "sh"][..], &OPTIONS].concat());
        assert_eq!(said.trim(), octets.len().to_string(), "{word}: it arrives, whatever is kept of it");
        let event =
            self.lab.wait_event("ssh.file", |event| event["text"].as_str().is_some_and(|text| text.contains(word)));
        let told: Value = serde_json::from_str(event["text"].as_str().unwrap()).unwrap();
        assert!(told.get("sha256").is_none_or(|sha256| sha256 == digest), "{told} {digest}");
        told
    }

    /// Traffic goes on: who is emulated answers, and so does who is logged in.
    fn goes_on(&self, intruder: &mut Session, word: &str) {
        let fping = self.lab.attacker.run(&[
            "fping",
            "-q",
            "-c",
            "50",
            "-p",
            "10",
            "-t",
            "1000",
            "192.0.2.100",
            "192.0.2.101",
            HOST,
        ]);
        let said = String::from_utf8_lossy(&fping.stderr).into_owned();
        assert_eq!(said.matches("= 50/50/0%").count(), 3, "{word}: {said}");
        self.lab.attacker.sh(&["nc", "-z", "-w", "2", "192.0.2.102", "445"]);
        intruder.say(&format!("echo {word}-$((40+2))"));
        while !intruder.line().contains(&format!("{word}-42")) {
            assert!(init(&self.lab, HOST).is_some(), "the shell has ended before {word}");
        }
        let said = self.ssh(&format!("echo also {word}"));
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("also {word}\n"), "{said:?}");
    }

    /// Waits for an event of that id about the disk which says so.
    fn told(&self, id: &str, part: &str) -> Value {
        self.lab.wait_event(id, |event| {
            event["reason"].as_str().is_some_and(|why| why.starts_with("disk: ") && why.contains(part))
        })
    }

    /// What `status` says is in trouble.
    fn trouble(&self) -> String {
        let status = String::from_utf8(self.lab.command(&["status"]).stdout).unwrap();
        status.lines().filter(|line| line.starts_with("TROUBLE")).collect::<Vec<_>>().join("\n")
    }

    /// Octets of everything recorded of sessions whose name ends so.
    fn recorded(&self, ending: &str) -> u64 {
        let sessions = std::fs::read_dir(self.lab.own_dir().join("sessions")).unwrap().flatten();
        let files = sessions.filter_map(|session| std::fs::read_dir(session.path()).ok()).flatten().flatten();
        let wanted = files.filter(|file| file.file_name().to_string_lossy().ends_with(ending));
        wanted.map(|file| file.metadata().unwrap().len()).sum()
    }

    fn logged(&self) -> u64 {
        std::fs::metadata(self.lab.own_dir().join("events/events.ndjson")).unwrap().len()
    }
}

#[test]
fn a_disk_that_gets_full_costs_captures_first_and_events_last() {
    let mut lab = Lab::shared();
    lab.on_small_disk(SIZE);
    lab.start(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    let ballast = lab.own_dir().join("ballast");
    let mut disk = Disk { lab, ballast };
    let mut intruder = Session::running(&disk.lab, "guessed", &["-tt", &format!("root@{HOST}")]);
    disk.goes_on(&mut intruder, "before");
    // Captures of a megabyte each.
    disk.lab.attacker.sh(&["ping", "-q", "-f", "-c", "4000", "-s", "1400", "192.0.2.100"]);
    let all = wait_for("captures", || Some(disk.captures()).filter(|names| names.len() > 8));
    assert!(disk.send("plenty").get("cut").is_none());
    assert_eq!(disk.trouble(), "");

    // A little less than captures leave: the oldest go, and nothing else changes.
    disk.leave(disk.part(75) - 3 * MIB / 2);
    let deleted = disk.told("capture.deleted", "");
    assert!(deleted["reason"].as_str().unwrap().contains(&format!("the oldest was {}", all[0])), "{deleted}");
    let left = disk.captures();
    assert!(
        left.len() + 4 > all.len() && !left.contains(&all[0]) && left.contains(&all[all.len() - 2]),
        "{all:?} {left:?}"
    );
    disk.goes_on(&mut intruder, "old");
    assert!(disk.send("old-file").get("cut").is_none());
    assert_eq!(disk.trouble(), "", "captures, tapes and contents go on");

    // Less than that: all go that are over, and no more frames are taken.
    disk.leave(disk.part(55));
    disk.goes_on(&mut intruder, "frames");
    disk.told("recording.failed", "frames are not captured");
    wait_for("that captures go", || (disk.captures().len() < 2).then_some(()));
    assert!(disk.trouble().contains("the captures: disk: it is nearly full"), "{}", disk.trouble());
    assert!(disk.send("frames-file").get("cut").is_none(), "contents are kept still");
    disk.goes_on(&mut intruder, "frames-2");

    // Then recordings: contents, transcripts, tapes.
    disk.leave(disk.part(40));
    disk.goes_on(&mut intruder, "contents");
    disk.told("recording.failed", "contents of files are not");
    assert_eq!(disk.send("contents-file")["cut"], "disk");
    wait_for("that the last capture goes", || disk.captures().is_empty().then_some(()));
    disk.goes_on(&mut intruder, "contents-2");
    disk.leave(disk.part(15));
    disk.goes_on(&mut intruder, "transcripts");
    disk.told("recording.failed", "neither transcripts nor");
    let (casts, tapes) = (disk.recorded(".cast"), disk.recorded(".ndjson"));
    disk.goes_on(&mut intruder, "transcripts-2");
    wait_for("tapes", || (disk.recorded(".ndjson") > tapes).then_some(()));
    assert_eq!(disk.recorded(".cast"), casts);
    disk.leave(disk.part(5));
    disk.goes_on(&mut intruder, "tapes");
    disk.told("recording.failed", "events go on, but connections are not");
    let (tapes, events) = (disk.recorded(".ndjson"), disk.logged());
    disk.goes_on(&mut intruder, "tapes-2");
    // Events are on the disk, not only in somebody's memory.
    disk.lab.wait_told("ssh.command", HOST, &["also tapes-2"]);
    assert!(disk.logged() > events + 1000, "{} {events}", disk.logged());
    assert_eq!(disk.recorded(".ndjson"), tapes);
    assert!(!disk.trouble().contains("the event log"), "{}", disk.trouble());

    // At last nothing is left for them either: they wait.
    let files = disk.lab.fill_disk();
    disk.goes_on(&mut intruder, "nothing");
    wait_for("that the log is in trouble", || disk.trouble().contains("the event log").then_some(()));
    disk.goes_on(&mut intruder, "nothing-2");

    // With room again all is as before, and no event is missing.
    files.iter().chain([&disk.ballast]).for_each(|file| std::fs::remove_file(file).unwrap());
    wait_for("that nothing is in trouble", || (disk.trouble().is_empty()).then_some(()));
    disk.lab.wait_told("ssh.command", HOST, &["also nothing-2"]);
    assert!(!disk.lab.events().iter().any(|event| event["event"] == "gap"));
    disk.goes_on(&mut intruder, "after");
    assert!(disk.send("after-file").get("cut").is_none());
    disk.lab.attacker.sh(&["ping", "-q", "-f", "-c", "1500", "-s", "1400", "192.0.2.100"]);
    wait_for("captures", || (disk.captures().len() > 2).then_some(()));
    intruder.say("exit");
    let tty = |event: &Value| event["event"] == "ssh.shell";
    let shell = disk.lab.events().into_iter().find(tty).unwrap();
    let id = shell["session"].as_str().unwrap().to_owned();
    let text = String::from_utf8(disk.lab.command(&["session", "replay", &id, "--text"]).stdout).unwrap();
    for (word, is_kept) in [("before", true), ("contents-2", true), ("tapes-2", false), ("after", true)] {
        assert_eq!(text.contains(&format!("{word}-42\n")), is_kept, "{word}: {text}");
    }
    // Where something is missing is said, and why; so are the connections of which there is nothing.
    let hole = text.split("contents-2-42").nth(1).and_then(|rest| rest.split("after-42").next()).unwrap();
    assert!(hole.contains("octets before this were lost: the disk was nearly full)\n"), "{hole}");
    let said = |words: &[&str]| String::from_utf8(disk.lab.command(words).stdout).unwrap();
    let typed: Value = serde_json::from_str(&said(&["session", "replay", &id, "--commands", "--json"])).unwrap();
    let gaps = |cast: &Value| cast["gaps"].as_array().map_or(0, Vec::len);
    assert!(typed.as_array().unwrap().iter().map(gaps).sum::<usize>() > 0, "{typed}");
    let told: Value = serde_json::from_str(&said(&["session", "show", &id, "--json"])).unwrap();
    let unrecorded = told["unrecorded"].as_array().unwrap();
    assert!(!unrecorded.is_empty(), "{told}");
    let known = |row: &Value| row["protocol"] == "ssh" && row["attempts"].as_u64() > Some(0) && row["commands"] == 1;
    assert!(unrecorded.iter().all(known), "{unrecorded:?}");
    let shown = said(&["session", "show", &id]);
    assert!(shown.contains("; not recorded: ") && shown.contains("connections that are not recorded"), "{shown}");
    assert!(disk.lab.down().as_secs() < 10);
    assert_eq!(disk.lab.leftovers(), Vec::<String>::new());
}
