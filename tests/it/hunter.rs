//! Intruders with root who fight with what a system has for that: they look at every process as a debugger does, and start
//! processes until there may be no more. Somebody is in the middle of their SSH, and what they do is recorded all the same.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::inside::{told, wait_told};
use crate::lab::Lab;
use crate::net::wait_for;
use crate::shell::{shell, ssh};

/// Limits are those that a container has by itself.
const TOPOLOGY: &str = r#"
name: hunter
templates:
  middle: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: hunted, idle: 1h}}
images:
  hunted: {recipe: small, packages: [strace, gdbserver, netcat-openbsd], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  middle: {kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: middle}
links:
  - endpoints: [wan, middle]
"#;

/// Processes and threads of a container whose backend says nothing of them.
const PROCESSES: u64 = 512;
/// How long the bomb goes off.
const SECONDS: u32 = 4;

pub fn lab(mut lab: Lab) -> Lab {
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// Waits until a program with this last argument is told.
fn wait_program(lab: &Lab, host: &str, last: &str) -> Value {
    let is_it =
        |object: &Value| object["args"].as_array().is_some_and(|args| args.last().is_some_and(|arg| arg == last));
    wait_told(lab, "container.exec", host, is_it).0
}

/// What the recording of a session shows of its terminals and commands.
fn replayed(lab: &Lab, session: &Value) -> String {
    let id = session.as_str().unwrap();
    String::from_utf8(lab.command(&["session", "replay", id, "--text"]).stdout).unwrap()
}

#[test]
fn whoever_traces_every_process_finds_only_their_own_and_is_recorded() {
    traces_every_process(&lab(Lab::shared()));
}

#[test]
fn where_fanotify_tells_of_it_they_find_no_more() {
    let mut lab = Lab::shared();
    lab.inside = Some("fanotify".to_owned());
    traces_every_process(&self::lab(lab));
}

/// Where only the path of a program is told, each has one of its own.
const TRACED: [&str; 3] = ["/tmp/seen-while-traced", "/tmp/below-a-tracer", "/tmp/by-a-debugger"];

fn traces_every_process(lab: &Lab) {
    let host = "192.0.2.20";
    shell(&lab.attacker, host, &format!("for file in {}; do cp /bin/true $file; done", TRACED.join(" ")));
    // Whoever answers a signal is in the list, and so are its threads: nobody is hidden, and nobody from outside is there. In
    // /proc a thread has a directory that no list shows.
    let count = "for n in $(seq 1 4000); do kill -0 $n 2>/dev/null && { [ -d /proc/$n ] || echo hidden $n; }; done; \
                 for n in $(seq 4001 97 4194304 | head -n 3000); do kill -0 $n 2>/dev/null && echo far $n; done; \
                 grep -h TracerPid /proc/[0-9]*/status | sort -u; echo over";
    let found = shell(&lab.attacker, host, count);
    assert_eq!(found, "TracerPid:\t0\nover\n");
    // Everybody is stopped and looked at, the first process and the server of this very connection among them. A process may
    // do that to those of its own machine, which is what this is to look like; to one that does not exist it may not.
    let trace = "for n in 1 $(ps -o pid,args | sed -n 's/ *\\([0-9]*\\) .*dropbear.*/\\1/p'); do \
                 timeout -s INT 2 strace -f -o /tmp/trace.$n -p $n 2>&1 | grep -v '^strace: Process .* detached' & done; \
                 sleep 1; grep TracerPid /proc/1/status; /tmp/seen-while-traced true; wait; \
                 timeout 5 strace -p 3999999 2>&1; echo traced";
    let traced = shell(&lab.attacker, host, trace);
    let tracer = traced.lines().find_map(|line| line.strip_prefix("TracerPid:\t")).unwrap_or_default();
    assert!(tracer.parse::<u32>().is_ok_and(|pid| pid > 0), "{traced}");
    assert!(traced.contains("attach: ptrace(PTRACE_SEIZE, 3999999): No such process"), "{traced}");
    assert!(traced.ends_with("traced\n"), "{traced}");
    // What they have seen is what every SSH server does: nothing that goes to anybody else.
    let seen = shell(&lab.attacker, host, "cat /tmp/trace.*; cat /proc/1/maps /proc/1/environ");
    assert!(seen.contains("read(") || seen.contains("select("), "{seen}");
    for word in ["honeyweave", "/run/hw", "memfd:", "bpf", "fanotify"] {
        assert!(!seen.contains(word), "{word} in {seen}");
    }
    // Who runs below a tracer, which changes what becomes of its calls, is told as it was begun.
    shell(
        &lab.attacker,
        host,
        "strace -f -o /dev/null -e inject=openat,execve:retval=0:when=2+ /tmp/below-a-tracer true; \
         gdbserver --once --no-startup-with-shell 127.0.0.1:9 /tmp/by-a-debugger true </dev/null >/dev/null 2>&1 & \
         sleep 1; kill -9 %1; true",
    );
    let [(told, _), ..] = TRACED.map(|path| wait_told(lab, "container.exec", host, |object| object["path"] == path));
    let close = lab.wait_event("ssh.close", |event| event["dst"]["ip"] == host);
    assert_eq!(close["session"], told["session"]);
    let commands = lab.json(&["session", "show", told["session"].as_str().unwrap()]).to_string();
    assert!(commands.contains("strace") && commands.contains("by-a-debugger"), "{commands}");
}

/// The container's cgroup that counts processes, in either version.
fn counting(lab: &Lab) -> Vec<PathBuf> {
    lab.cgroups().into_iter().filter(|group| group.join("pids.max").is_file()).collect()
}

fn number(path: PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[test]
fn a_fork_bomb_behind_the_middle_is_bounded_and_what_follows_is_recorded_by_itself() {
    let mut lab = lab(Lab::alone());
    let (host, neighbor) = ("192.0.2.21", "192.0.2.22");
    shell(&lab.attacker, host, "/bin/true before-the-bomb");
    shell(&lab.attacker, neighbor, "/bin/true neighbor-before");
    let session = wait_program(&lab, host, "before-the-bomb")["session"].clone();
    // The limit is there, or nothing is set off.
    let limits: Vec<u64> = counting(&lab).iter().filter_map(|group| number(group.join("pids.max"))).collect();
    assert!(limits.len() >= 2 && limits.iter().all(|limit| *limit == PROCESSES), "{limits:?}");

    // Each of its processes starts more until the time is over, or until it may not; `read` and `[` start none. There is no
    // `ulimit`, and if the clock were not believed, a second one ends it.
    let bomb = format!(
        "echo lit; (sleep $(({SECONDS} * 5)); kill -9 -1) & \
         read up rest </proc/uptime; end=$((${{up%.*}} + {SECONDS})); \
         late() {{ read up rest </proc/uptime; [ ${{up%.*}} -ge $end ]; }}; \
         (bomb() {{ until late; do bomb & bomb & done; }}; bomb) 2>/dev/null; until late; do :; done; kill %1; echo over"
    );
    let done = std::sync::atomic::AtomicBool::new(false);
    let (said, most) = std::thread::scope(|scope| {
        let attacker = &lab.attacker;
        let bomb = scope.spawn(|| {
            let output = ssh(attacker, host, &bomb);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        let mut most = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let counts = counting(&lab).iter().filter_map(|group| number(group.join("pids.current"))).max();
            most = most.max(counts.unwrap_or(0));
            // Who is elsewhere works on, and is recorded.
            shell(attacker, neighbor, "/bin/true neighbor-during");
            std::thread::sleep(Duration::from_millis(50));
        }
        (bomb.join().unwrap(), most)
    });
    assert!(said.starts_with("lit\n"), "{said}");
    println!("{most} processes of {PROCESSES} at most: {said:?}");
    assert!(most > PROCESSES / 2 && most <= PROCESSES, "{most}");
    // It was refused, and by that limit.
    let refused = |group: &PathBuf| {
        let text = std::fs::read_to_string(group.join("pids.events")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse::<u64>().ok())
    };
    assert!(counting(&lab).iter().filter_map(refused).any(|count| count > 0));
    wait_program(&lab, neighbor, "neighbor-during");

    wait_for("a shell again", || ssh(&lab.attacker, host, "true").status.success().then_some(()));
    assert_eq!(shell(&lab.attacker, host, "/bin/true after-the-bomb; echo still here"), "still here\n");
    let after = wait_program(&lab, host, "after-the-bomb");
    assert_eq!(after["session"], session);
    wait_for("the transcript", || {
        let text = replayed(&lab, &session);
        (text.contains("lit") && text.contains("still here")).then_some(())
    });
    // A process that was begun by nothing but a fork is none that is told, so nothing was lost of others.
    let lost = |event: &Value| event["event"] == "gap" || event["event"] == "session.gap";
    let gaps: Vec<Value> = lab.events().into_iter().filter(lost).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
    assert!(told(&lab, "container.exec", neighbor).len() >= 2);
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
