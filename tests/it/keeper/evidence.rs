//! Evidence of a real container that a real attacker was in.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Output;

use honeyweave::container::inspector::{
    Answer, Change, Contents, Differs, Directories, How, INSPECTOR_UID, Inspector, Job, Kind, Leased, Limits, Name,
    Taken, read,
};
use honeyweave::record::Utc;
use honeyweave::sys::clock;
use rustix::process::{Pid, WaitOptions};

use super::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_honeyweave");

fn now() -> Utc {
    Utc::from_micros(clock::realtime_micros())
}

/// The job for the only container of `keeper`.
fn job(keeper: &Keeper, prepared: Utc, contents: Contents) -> Job {
    let own = keeper.config.state_dir.join(&keeper.config.name);
    let containers = std::fs::read_dir(own.join("containers")).unwrap().flatten();
    let container = containers.map(|entry| entry.path()).find(|path| path.join("upper").is_dir()).unwrap();
    let image = image::find(&keeper.config.state_dir, &small()).unwrap();
    let leased = Leased {
        honeynet: keeper.config.name.clone(),
        container: container.file_name().unwrap().to_str().unwrap().into(),
        node: "web".into(),
        host: Ipv4Addr::new(10, 77, 0, 1).into(),
        hostname: "web-prod-03".into(),
        template: "server".into(),
        image: "small".into(),
        image_hash: image.manifest.hash.clone(),
        leases: vec![],
        more_leases: 0,
        attacker: Some(Ipv4Addr::new(10, 77, 0, 254).into()),
        session: None,
        began: prepared,
        ended: None,
        why: None,
    };
    let directories =
        Directories { upper: container.join("upper"), lower: image.rootfs(), evidence: own.join("evidence") };
    let (prepared, limits) = (Some(prepared), Limits::default());
    Job {
        directories,
        number: 1,
        now: now(),
        leased,
        prepared,
        late: Vec::new(),
        contents,
        list: false,
        note: None,
        limits,
    }
}

fn inspect(job: &Job) -> Answer {
    let inspector = Inspector::start(PROGRAM.as_ref(), job, 0).unwrap();
    rustix::process::waitpid(Pid::from_raw(inspector.pid), WaitOptions::empty()).unwrap();
    inspector.answer()
}

fn taken(job: &Job) -> Taken {
    match inspect(job) {
        Answer::Taken(taken) => taken,
        other => panic!("{other:?}"),
    }
}

fn evidence(keeper: &Keeper, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("evidence").args(args).args(["--name", &keeper.config.name, "--state-dir"]);
    command.arg(&keeper.config.state_dir).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

#[test]
fn what_an_intruder_leaves_is_evidence() {
    let mut keeper = Keeper::start(config(vec![]));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 1, "10.77.0.1");
    let tap = keeper.tap(1);
    // Its directory was prepared before the TAP was handed out.
    let prepared = now();
    let _wire = Wire::lay(tap, &attacker, &["10.77.0.254/24"]);
    keeper.live(1);
    let run = |command: &str| ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", command);
    run("true");
    let untouched = taken(&job(&keeper, prepared, Contents::Samples));
    let before: Vec<String> = changes(&keeper, &untouched).into_keys().collect();
    assert!(!before.iter().any(|path| path.starts_with("/etc/host") || path.contains("dropbear_")), "{before:?}");
    run("set -e
        echo 'backdoor:x:0:0::/:/bin/sh' >>/etc/passwd
        chmod 4755 /etc/profile
        rm /etc/shells
        rm -r /etc/ld.so.conf.d; mkdir /etc/ld.so.conf.d; echo /tmp >/etc/ld.so.conf.d/evil.conf
        mkdir -p /root/.hidden
        printf '#!/bin/sh\\nid\\n' >/root/.hidden/run; chmod 755 /root/.hidden/run
        cp /bin/busybox /root/.hidden/payload
        echo x >\"/root/$(printf 'odd\\nname\\033[2J')\"
        ln -s /etc/shadow /root/link
        ln /root/.hidden/run /root/hard
        mkfifo /root/pipe
        dd if=/dev/zero of=/root/holes bs=1 count=1 seek=1000000000 2>/dev/null
        chown 33:33 /root/pipe
        mv /etc/issue /root/moved");
    let frozen = taken(&job(&keeper, prepared, Contents::Samples));
    assert_eq!((frozen.counts.kept, frozen.new_samples), (0, 2), "{frozen:?}");
    let ended = taken(&job(&keeper, prepared, Contents::All));
    assert_eq!((ended.new_samples, ended.cut, ended.retention_failed.clone()), (0, 0, None), "{ended:?}");
    let told = changes(&keeper, &ended);
    let how = |path: &str| told.get(path).unwrap_or_else(|| panic!("{path}: {:?}", told.keys())).change;
    assert_eq!(how("/etc/passwd"), How::Changed);
    assert!(told["/etc/passwd"].differs.contains(&Differs::Content) && told["/etc/passwd"].kept);
    assert_eq!(told["/etc/profile"].differs, [Differs::Mode]);
    assert_eq!(String::from(told["/etc/profile"].entry.mode), "4755");
    assert_eq!((how("/etc/shells"), how("/etc/issue")), (How::Deleted, How::Deleted));
    assert!(told["/etc/ld.so.conf.d"].opaque, "{:?}", told["/etc/ld.so.conf.d"]);
    assert_eq!(how("/etc/ld.so.conf.d/evil.conf"), How::Added);
    assert!(told["/root/.hidden/payload"].sample && told["/root/.hidden/payload"].kept);
    assert_eq!(told["/root/link"].target, Some(Name::new("/etc/shadow")));
    assert_eq!((told["/root/pipe"].entry.kind, told["/root/pipe"].entry.uid), (Kind::Fifo, 33));
    let (hidden, hard) = (&told["/root/.hidden/run"], &told["/root/hard"]);
    assert!(hidden.same_as == Some(hard.path.clone()) && hidden.sample && hidden.sha256 == hard.sha256, "{hidden:?}");
    let holes = &told["/root/holes"];
    assert!(holes.entry.size == 1_000_000_001 && holes.entry.allocated < 100_000 && !holes.kept, "{holes:?}");
    assert!(told.contains_key("/root/odd\\x0aname\\x1b[2J") && told.contains_key("/root/moved"));
    assert!(!told.contains_key("/etc/hostname") && !told.contains_key("/etc"));
    // The commands tell the same, and nothing raw.
    let listed = evidence(&keeper, &["ls", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["host"].as_str()), (3, Some("10.77.0.1")), "{rows}");
    let shown = said(&evidence(&keeper, &["show", &ended.archive]));
    assert!(shown.contains("attacker   10.77.0.254") && shown.contains("/root/odd\\x0aname\\x1b[2J"), "{shown}");
    let manifest = evidence(&keeper, &["show", "--json", &ended.archive]);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
    assert_eq!(manifest["leased"]["node"], "web");
    let verified = evidence(&keeper, &["verify", &ended.archive]);
    assert!(verified.status.success() && said(&verified).starts_with("ok: "), "{verified:?}");
    // One octet of a sample, and the end of an archive.
    let own = keeper.config.state_dir.join(&keeper.config.name).join("evidence");
    let script = std::fs::read_dir(own.join("samples")).unwrap().flatten().map(|entry| entry.path());
    let script = script.min_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    std::fs::write(&script, zstd::encode_all(&b"#!/bin/sh\nls\n"[..], 3).unwrap()).unwrap();
    let verified = evidence(&keeper, &["verify", "--json", &ended.archive]);
    let verdict: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((verified.status.code(), verdict["ok"].as_bool()), (Some(1), Some(false)), "{verdict}");
    let path = own.join(&ended.archive);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(ended.octets / 2).unwrap();
    let verified = evidence(&keeper, &["verify", path.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let compared = evidence_diff(&keeper);
    assert!(compared.contains("added") && compared.contains("/root/.hidden/payload"), "{compared}");
    // What the keeper takes of this by itself may take longer than it has at its own end.
    keeper.say(&ToKeeper::Release { lease: LeaseId(1), keep: false });
    keeper.gone(1);
    wait_for("that nothing is left", || keeper.traces().is_empty().then_some(()));
    keeper.end();
}

/// What `evidence diff` says of the only container.
fn evidence_diff(keeper: &Keeper) -> String {
    let Directories { upper, lower, .. } = job(keeper, now(), Contents::All).directories;
    let args = ["evidence", "diff", "--upper", upper.to_str().unwrap(), "--lower", lower.to_str().unwrap()];
    said(&Command::new(PROGRAM).args(args).output().unwrap())
}

fn changes(keeper: &Keeper, taken: &Taken) -> BTreeMap<String, Change> {
    let path = keeper.config.state_dir.join(&keeper.config.name).join("evidence").join(&taken.archive);
    let archive = read::open(&path).unwrap();
    assert_eq!(archive.mistakes(|_| None), Vec::<String>::new());
    archive.manifest.changes.into_iter().map(|change| (change.path.to_string(), change)).collect()
}

#[test]
fn an_inspector_can_read_and_nothing_else() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("evidence");
    std::fs::create_dir(&own).unwrap();
    let handle = std::fs::File::open(&own).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["__inspector", "hwt"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    handed::hand_down(&mut command, &[handle.as_fd(); 4]).unwrap();
    let mut child = command.spawn().unwrap();
    // It confines itself before it reads a word.
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let status = wait_for("the inspector to confine itself", || {
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        status.contains("Seccomp:\t2").then_some(status)
    });
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    let uid = INSPECTOR_UID.to_string();
    assert_eq!(field("Uid:").split_whitespace().collect::<Vec<_>>(), [&uid; 4]);
    assert_eq!(field("Gid:").split_whitespace().collect::<Vec<_>>(), [&uid; 4]);
    assert_eq!((field("Groups:"), field("NoNewPrivs:")), (String::new(), "1".into()));
    for (set, has) in [("CapInh:", 0), ("CapPrm:", 4), ("CapEff:", 4), ("CapBnd:", 0), ("CapAmb:", 0)] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), has, "{set} of CAP_DAC_READ_SEARCH (bit 2)");
    }
    let devices = std::fs::read_to_string(proc.join("net/dev")).unwrap();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), 1, "{devices}");
    let root = std::fs::metadata(proc.join("root")).unwrap();
    assert_eq!(root.ino(), std::fs::metadata(&own).unwrap().ino(), "its root is the directory of evidence");
    child.stdin.take().unwrap().write_all(b"nonsense").unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Answer = serde_json::from_slice(&output.stdout).unwrap();
    assert!(matches!(&answer, Answer::Failed(why) if why.contains("request cannot be read")), "{answer:?}");
}
