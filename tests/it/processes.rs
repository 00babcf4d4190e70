//! The processes of a honeynet: their rights, their deaths and their end.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::honeynet::{Honeynet, PROGRAM, children, is_alive, unique_name};
use crate::net::{Net, Ns, wait_for};

const TOPOLOGY: &str = "
name: processes
templates:
  server:
    personality: linux
    tcp: {80: {http: {pages: {/: here we are}}}}
nodes:
  wan: {kind: uplink}
  core: {kind: switch}
  servers: {kind: hosts, addresses: 192.0.2.100-192.0.2.119, template: server}
links:
  - endpoints: [wan, 'core:1']
  - endpoints: [servers, 'core:2']
";

/// An attacker at one end of a wire, and the namespace of the other end, `eth1`.
fn wire(net: &Net) -> (Ns, Ns) {
    let (attacker, honey) = (net.ns("attacker"), net.ns("honey"));
    net.wire((&attacker, "eth0"), (&honey, "eth1"));
    attacker.addr("eth0", "192.0.2.1/24");
    (attacker, honey)
}

fn answers(attacker: &Ns, address: &str) -> bool {
    attacker.run(&["ping", "-c1", "-W1", address]).status.success()
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: a process that the test has started.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

#[test]
fn frames_come_before_what_else_the_machine_does() {
    let net = Net::new();
    let (_attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let mut priorities = Vec::new();
    for (role, pid) in honeynet.processes().unwrap() {
        let plain = if role == "switch" { -5 } else { 0 };
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            let name = stat.split(['(', ')']).nth(1).unwrap().to_owned();
            // proc_pid_stat(5): field 19 of all, the seventeenth behind the name.
            let niceness: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap();
            priorities.push((name, niceness, plain));
        }
    }
    for (name, niceness, plain) in &priorities {
        let expected = match name.as_str() {
            name if name.starts_with("fabric") => -10,
            // The kernel cuts names to fifteen octets.
            "recorder" | "recorder-urgent" | "recorder-urgen" => 19,
            // Threads of the library that makes requests to the kernel have the priority of whoever asked first.
            name if name.starts_with("iou-") => continue,
            _ => *plain,
        };
        assert_eq!(*niceness, expected, "{name} in {priorities:?}");
    }
    assert!(priorities.iter().any(|(name, ..)| name == "fabric"), "{priorities:?}");
    // The recorder runs where nothing else does, unless it starves.
    let [_, _, (_, console)] = honeynet.processes().unwrap();
    wait_for("the recorder to give way", || (recorder_policy(console)? == libc::SCHED_IDLE).then_some(()));
}

/// The scheduling policy of the recorder's thread.
fn recorder_policy(console: u32) -> Option<i32> {
    let threads = std::fs::read_dir(format!("/proc/{console}/task")).ok()?;
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // proc_pid_stat(5): field 41 of all.
    let policy = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(38)?.parse().ok();
    stats.filter(|stat| stat.contains("(recorder)")).find_map(|stat| policy(&stat))
}

#[test]
fn rights_are_given_up() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    assert!(answers(&attacker, "192.0.2.100"));
    let [(_, keeper), (_, switch), (_, console)] = honeynet.processes().unwrap();
    let status = |pid: u32| -> HashMap<String, String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines().filter_map(|l| Some((l.split_once(':')?.0.into(), l.split_once(':')?.1.trim().into()))).collect()
    };
    for (pid, uid) in [(switch, "61980"), (console, "61981")] {
        let status = status(pid);
        assert_eq!(status["Uid"], [uid; 4].join("\t"));
        assert_eq!(status["Gid"], [uid; 4].join("\t"));
        assert_eq!(status["Groups"], "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {uid}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
    }
    assert_eq!(status(switch)["Seccomp"], "2");
    // Every thread of it.
    for thread in std::fs::read_dir(format!("/proc/{switch}/task")).unwrap() {
        let text = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains("\nSeccomp:\t2\n") && text.contains("\nCapEff:\t0000000000000000\n"), "{text}");
    }
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(network(switch), network(keeper));
    assert_ne!(network(switch), std::fs::read_link("/proc/self/ns/net").unwrap());
    let interfaces = std::fs::read_to_string(format!("/proc/{switch}/net/dev")).unwrap();
    assert_eq!(interfaces.lines().skip(2).count(), 1, "nothing but a loopback: {interfaces}");
    // Not dumpable: its files belong to root, so that nobody of its uid can look into it.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(format!("/proc/{switch}/mem")).unwrap().uid(), 0);
    // It holds channels, rings and its uplink, and no file that it was not meant to have.
    for fd in std::fs::read_dir(format!("/proc/{switch}/fd")).unwrap() {
        let fd = fd.unwrap();
        let (number, target) = (fd.file_name(), std::fs::read_link(fd.path()).unwrap());
        let target = target.to_str().unwrap();
        let known = ["socket:", "anon_inode:", "/memfd:", "/dev/null"].iter().any(|kind| target.starts_with(kind));
        assert!(known || number == "2", "{number:?} is {target}");
    }
}

#[test]
fn a_killed_process_is_back_within_a_second_by_itself() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    for i in [1, 0, 2] {
        let (kind, pid) = honeynet.processes().unwrap()[i];
        let begin = Instant::now();
        kill(pid, libc::SIGKILL);
        let back = || honeynet.processes().filter(|processes| processes[i].1 != pid);
        wait_for("the next process", back);
        assert!(begin.elapsed() < Duration::from_secs(1), "{kind}: {:?}", begin.elapsed());
        match kind {
            // Frames flow again as soon as the keeper has opened the uplink for the new switch.
            "switch" => wait_for("an answer", || answers(&attacker, "192.0.2.101").then_some(())),
            "keeper" => assert!(answers(&attacker, "192.0.2.102"), "emulation goes on without the keeper"),
            // The control socket outlives the console: who asks meanwhile waits.
            _ => assert_eq!(honeynet.json(&["status"])["name"], honeynet.name.as_str()),
        }
        if kind == "switch" {
            assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
        }
        // What the console has heard and not written yet would end with it.
        wait_for("its record", || honeynet.log().contains(&format!("the {kind} was started again")).then_some(()));
    }
    let fetched = attacker.sh(&["curl", "-s", "-m5", "http://192.0.2.103/"]);
    assert_eq!(fetched, "here we are");
    let log = honeynet.down();
    for text in
        ["the switch was ended by signal 9", "the keeper was ended by signal 9", "the console was ended by signal 9"]
    {
        assert!(log.contains(text), "{text}\n{log}");
    }
    assert_eq!(log.matches("was started again").count(), 3, "{log}");
}

#[test]
fn a_switch_that_does_not_answer_is_replaced() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let [_, (_, stopped), _] = honeynet.processes().unwrap();
    kill(stopped, libc::SIGSTOP);
    let begin = Instant::now();
    assert!(!answers(&attacker, "192.0.2.100"));
    wait_for("the next switch", || honeynet.processes().filter(|[_, (_, pid), _]| *pid != stopped));
    // Asked every five seconds, and given ten.
    let took = begin.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
    wait_for("an answer", || answers(&attacker, "192.0.2.101").then_some(()));
    assert!(!is_alive(stopped));
    let log = honeynet.down();
    for text in
        ["the switch does not answer any more", "the switch was ended by signal 9", "the switch was started again"]
    {
        let told = log.lines().any(|line| line.contains(r#""event":"process.state""#) && line.contains(text));
        assert!(told, "{text}\n{log}");
    }
}

#[test]
fn a_switch_in_a_flood_is_left_alone() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let before = honeynet.processes().unwrap();
    // As fast as it goes, for longer than a switch may leave the supervisor without an answer.
    let flood = [PROGRAM, "bench", "syn", "-i", "eth0", "--prefix", "192.0.2.100/30", "--on-link", "--port", "80"];
    attacker.run(&[&flood[..], &["--rate", "max", "--duration", "17s"]].concat());
    assert_eq!(honeynet.processes(), Some(before));
    let rx = honeynet.json(&["status"])["nodes"][0]["rx"].as_u64().unwrap();
    assert!(rx > 100_000, "no flood: {rx} frames");
    assert!(!honeynet.down().contains("does not answer"));
}

#[test]
fn the_end_leaves_nothing_behind() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
        // Another secret, other MACs.
        attacker.sh(&["ip", "neigh", "flush", "all"]);
        assert!(answers(&attacker, "192.0.2.104"));
        let processes = honeynet.processes().unwrap();
        let (up, name) = (honeynet.up.pid(), honeynet.name.clone());
        assert!(std::path::Path::new(&format!("/run/honeyweave/{name}.sock")).exists());
        let begin = Instant::now();
        kill(up, signal);
        wait_for("the end", || (!is_alive(up)).then_some(()));
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert!(processes.iter().all(|(_, pid)| !is_alive(*pid)));
        for file in ["sock", "lock"] {
            assert!(!std::path::Path::new(&format!("/run/honeyweave/{name}.{file}")).exists());
        }
        assert!(!answers(&attacker, "192.0.2.105"));
        // What happened last is on disk.
        assert!(honeynet.log().contains("192.0.2.104"));
    }
}

/// A supervisor that is killed takes nothing along, but the others notice and end by themselves.
#[test]
fn processes_end_without_their_supervisor() {
    let net = Net::new();
    let (_attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let processes = honeynet.processes().unwrap();
    kill(honeynet.up.pid(), libc::SIGKILL);
    for (kind, pid) in processes {
        wait_for(kind, || (!is_alive(pid)).then_some(()));
    }
    // The name is free again.
    let live = honeyweave::control::place::Live::find(&honeynet.name).unwrap();
    assert!(live.is_none());
}

#[test]
fn a_name_runs_once_and_down_ends_it() {
    let net = Net::new();
    let (_attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let file = honeynet.state_dir().join("../topology.yaml");
    let second = honey.run(&[PROGRAM, "up", file.to_str().unwrap(), "--uplink", "eth1", "--name", &honeynet.name]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("runs already") && said.contains(&honeynet.up.pid().to_string()), "{said}");
    assert!(honeynet.processes().is_some(), "the first one goes on");
    let down = honeynet.command(&["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    // Its name is free; the process itself has a few more instructions to go.
    wait_for("the end of the process", || (!is_alive(honeynet.up.pid())).then_some(()));
    assert_eq!(honeynet.command(&["down"]).status.code(), Some(1));
}

/// `down` works although nobody serves the control socket.
#[test]
fn down_does_not_need_the_console() {
    let net = Net::new();
    let (_attacker, honey) = wire(&net);
    let honeynet = Honeynet::up(&honey, "eth1", TOPOLOGY);
    let [.., (_, console)] = honeynet.processes().unwrap();
    kill(console, libc::SIGSTOP);
    let begin = Instant::now();
    let down = honeynet.command(&["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // The kernel takes a moment to take a process apart whose lock is free already.
    let of_it = [console, honeynet.up.pid()];
    println!("still there: {:?}", of_it.map(is_alive));
    wait_for("their end", || (!of_it.iter().any(|pid| is_alive(*pid))).then_some(()));
}

#[test]
fn a_detached_one_goes_on_by_itself() {
    let net = Net::new();
    let (attacker, honey) = wire(&net);
    let (dir, name) = (tempfile::tempdir().unwrap(), unique_name());
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, TOPOLOGY).unwrap();
    let (file, state) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    let up = [PROGRAM, "up", file, "--uplink", "eth1", "--name", &name, "--state-dir", state, "--detach"];
    let begun = honey.run(&up);
    let said = String::from_utf8_lossy(&begun.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&begun.stdout), format!("ready {name}\n"), "{said}");
    let log = dir.path().join(&name).join("log");
    assert!(log.is_file() && said.contains(&format!("it logs to {}", log.display())), "{said}");
    let live = honeyweave::control::place::Live::find(&name).unwrap().expect("it runs");
    let pid = live.pid.unwrap();
    let pid_of = rustix::process::Pid::from_raw(pid as i32);
    assert_eq!(rustix::process::getsid(pid_of).ok(), pid_of, "it leads a session of its own");
    assert_eq!(children(pid).len(), 3);
    assert!(answers(&attacker, "192.0.2.106"));
    let down = Command::new(PROGRAM).args(["down", "--name", &name]).output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    // It has dismantled everything, and may have its last moment still before it.
    wait_for("its end", || (!is_alive(pid)).then_some(()));
    // A failure is told by the command that was typed.
    std::fs::write(dir.path().join(&name).join("secret"), "not 16 octets").unwrap();
    let failed = honey.run(&up);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("instead of 16"), "{failed:?}");
    assert!(!std::path::Path::new(&format!("/run/honeyweave/{name}.lock")).exists());
}

#[test]
fn what_cannot_work_is_refused_before_anything_starts() {
    let net = Net::new();
    let (_attacker, honey) = wire(&net);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, TOPOLOGY.replace("{kind: uplink}", "{kind: uplink, interface: eth9}")).unwrap();
    let (path, state) = (file.to_str().unwrap(), dir.path().join("state"));
    let up = |args: &[&str]| {
        let all = [&[PROGRAM, "up", path, "--state-dir", state.to_str().unwrap()], args].concat();
        let output = honey.run(&all);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = up(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no interface `eth9`") && said.contains("eth1") && said.contains("t.yaml:8"), "{said}");
    let (code, said) = up(&["--uplink", "lo"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("does not carry Ethernet"), "{said}");
    let (code, said) = up(&["--uplink", "eth1", "--name", "../x"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("cannot name a honeynet"), "{said}");
    assert!(!state.exists(), "nothing was started");
    // Somebody without rights.
    let program = dir.path().join("honeyweave");
    std::fs::copy(PROGRAM, &program).unwrap();
    use std::os::unix::fs::PermissionsExt;
    for path in [dir.path(), program.as_path(), file.as_path()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let args = ["up", path, "--uplink", "lo"];
    let output = Command::new(&program).args(args).uid(65534).gid(65534).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("needs root") && said.contains("sudo"), "{said}");
}

/// The hidden commands are no way in.
#[test]
fn inner_commands_want_a_supervisor() {
    for command in ["__keeper", "__switch", "__console"] {
        let output = Command::new(PROGRAM).args([command, "x"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("was not handed down"), "{said}");
    }
}
