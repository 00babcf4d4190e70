//! What happens inside containers, told from outside: real attackers by real SSH, and an intruder with root who looks for
//! whoever watches.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Lab, process};
use crate::net::wait_for;
use crate::shell::shell;

/// Dropbear itself answers `plain`; at `middle` somebody is in the middle; `plain` has one that is kept ready.
const TOPOLOGY: &str = r#"
name: inside
templates:
  plain: {personality: linux, tcp: {22: container}, backend: {image: small, idle: 1h}}
  middle: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small, idle: 1h}}
images:
  small: {recipe: small, packages: [openssh-client], users: [{name: root, password: toor}], pool: 1}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  plain: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: plain}
  middle: {kind: hosts, addresses: 192.0.2.20-192.0.2.29, template: middle}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [plain, "core:2"]
  - endpoints: [middle, "core:3"]
"#;

/// An attacker, 192.0.2.2, in front of these hosts.
pub fn lab(mut lab: Lab) -> Lab {
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// What is told of `host` under `id`: the record, and what belongs to it.
pub fn told(lab: &Lab, id: &str, host: &str) -> Vec<(Value, Value)> {
    let of_host = |event: &Value| event["event"] == id && event["dst"]["ip"] == host;
    let parsed = |event: Value| {
        let data = honeyweave::record::base64_decode(event["data"].as_str().unwrap()).unwrap();
        (event, serde_json::from_slice(&data).unwrap())
    };
    lab.events().into_iter().filter(of_host).map(parsed).collect()
}

pub fn wait_told(lab: &Lab, id: &str, host: &str, wanted: impl Fn(&Value) -> bool) -> (Value, Value) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let all = told(lab, id, host);
        if let Some(one) = all.iter().find(|(_, object)| wanted(object)) {
            return one.clone();
        }
        let lines: Vec<String> = all.iter().map(|(_, object)| object.to_string()).collect();
        assert!(Instant::now() < deadline, "no such {id}; there are:\n{}", lines.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a program with this last argument is told.
fn wait_program(lab: &Lab, host: &str, last: &str) -> (Value, Value) {
    wait_told(lab, "container.exec", host, |object| {
        object["args"].as_array().is_some_and(|args| args.last() == Some(&last.into()))
    })
}

#[test]
fn what_an_attacker_does_inside_is_told_with_the_session() {
    let mut lab = lab(Lab::shared());
    for host in ["192.0.2.10", "192.0.2.20"] {
        shell(
            &lab.attacker,
            host,
            "cd /tmp; /bin/echo 'a b' \"$(printf 'x\\377\\033[2J')\"; echo '#!/bin/sh\nexit 3' >worm; chmod 755 worm; ./worm; \
             mv worm /tmp/other; ln -s /etc/passwd link; rm other link; \
             (setsid nc -ll -p 4444 -e /bin/cat </dev/null >/dev/null 2>&1 &); nc -w 1 192.0.2.2 81 </dev/null; \
             /bin/sh -c 'kill -9 $$'; /bin/true \"$(head -c 5000 /dev/zero | tr '\\0' y)\" end; /bin/true the-end",
        );
        let (exec, _) = wait_program(&lab, host, "the-end");
        let session = exec["session"].as_str().unwrap();
        // The very connection.
        let open = lab.wait_event("tcp.open", |event| event["dst"]["ip"] == host && event["src"]["ip"] == "192.0.2.2");
        assert_eq!((&exec["src"]["ip"], &exec["src"]["port"]), (&open["src"]["ip"], &open["src"]["port"]), "{exec}");
        assert_eq!(open["session"], session);

        let programs = told(&lab, "container.exec", host);
        let program = |args: Value| {
            let found = programs.iter().find(|(_, object)| object["args"] == args);
            found.unwrap_or_else(|| panic!("{args} in {programs:#?}")).1.clone()
        };
        let echo = program(json!(["/bin/echo", "a b", "x\\xff\\x1b[2J"]));
        assert_eq!((&echo["path"], &echo["uid"]), (&"/bin/echo".into(), &0.into()));
        let worm = program(json!(["/bin/sh", "./worm"]));
        assert_eq!((&worm["path"], &worm["parent"]), (&"./worm".into(), &echo["parent"]), "{worm}");
        assert_eq!(worm["dir"], "/tmp");
        let cut = |object: &&(Value, Value)| object.1["args_cut"] == true && object.1["args_count"] == 3;
        assert!(programs.iter().find(cut).is_some(), "{programs:#?}");
        let exit = |pid: &Value| wait_told(&lab, "container.exit", host, |object| object["pid"] == *pid).1;
        assert_eq!(exit(&worm["pid"])["code"], 3);
        assert_eq!(exit(&program(json!(["/bin/sh", "-c", "kill -9 $$"]))["pid"])["killed"], true);

        let files: Vec<Value> = told(&lab, "container.file", host).into_iter().map(|(_, object)| object).collect();
        for (did, path, key, value) in [
            ("open", "worm", "flags", json!(["write", "create", "truncate"])),
            ("executable", "worm", "mode", json!("0755")),
            ("rename", "worm", "to", json!("/tmp/other")),
            ("symlink", "link", "to", json!("/etc/passwd")),
            ("delete", "other", "uid", json!(0)),
            ("delete", "link", "uid", json!(0)),
        ] {
            let is_it = |file: &&Value| {
                file["did"] == did && file["path"] == path && file[key] == value && file["dir"] == "/tmp"
            };
            assert!(files.iter().find(is_it).is_some(), "{did} {path} in {files:#?}");
        }
        let (_, connect) = wait_told(&lab, "container.connect", host, |object| object["port"] == 81);
        assert_eq!((&connect["ip"], &connect["name"]), (&"192.0.2.2".into(), &"nc".into()));
        let (listen, _) = wait_told(&lab, "container.listen", host, |object| object["port"] == 4444);
        assert_eq!(listen["session"], session);

        let shown = String::from_utf8(lab.command(&["session", "show", session]).stdout).unwrap();
        for part in ["programs inside", "/bin/echo 'a b'", "./worm", "4444", "/tmp/worm -> /tmp/other"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        let shown = lab.json(&["session", "show", session]);
        assert!(shown["inside"]["programs"].as_array().unwrap().len() >= 8, "{shown:#}");
    }
    let status = lab.json(&["status"]);
    assert_eq!((&status["inside"], status.get("inside_error")), (&"ebpf".into(), None), "{status}");
    // Nobody has the one that is kept ready, so that nobody does anything there.
    assert!(lab.events().iter().all(|event| event["event"] != "container.exec" || event["session"].is_string()));
    lab.records_are_as_the_schema_says();
    lab.down();
}

#[test]
fn each_of_two_attackers_on_one_host_has_their_own_session() {
    let lab = lab(Lab::shared());
    lab.attacker.addr("eth0", "192.0.2.3/24");
    let run = |from: &str, command: &str, word: &str| {
        let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-b", from];
        let line = [&["sshpass", "-p", "toor", "ssh"][..], &options, &["root@192.0.2.11", command]].concat();
        lab.attacker.sh(&line);
        let (event, _) = wait_program(&lab, "192.0.2.11", word);
        assert_eq!(event["src"]["ip"], from);
        event["session"].as_str().unwrap().to_owned()
    };
    let say = |from: &str, word: &str| run(from, &format!("/bin/true {word}"), word);
    let (first, second) = (say("192.0.2.2", "one"), say("192.0.2.3", "two"));
    assert_ne!(first, second);
    assert_eq!((say("192.0.2.2", "three"), say("192.0.2.3", "four")), (first, second.clone()));
    // Who connects to the host from the host itself, to be nobody, is still who they are.
    let around =
        "(nc -l -p 9 -e /bin/true around &) ; for i in $(seq 100); do nc -w 1 192.0.2.11 9 </dev/null && break; done";
    assert_eq!(run("192.0.2.3", around, "around"), second);
    // Who finds a shell that somebody else has left open is not whoever left it, though it never asks.
    let open = "(nc -ll -p 4444 -e /bin/sh </dev/null >/dev/null 2>&1 &) ; \
                while ! grep -q ':115C ' /proc/net/tcp /proc/net/tcp6; do :; done; /bin/true open";
    run("192.0.2.2", open, "open");
    let find = "import socket\n\
                s = socket.create_connection(('192.0.2.11', 4444), 20, ('192.0.2.3', 0))\n\
                s.sendall(b'/bin/true bound\\n'); s.shutdown(1); s.recv(9)";
    lab.attacker.sh(&["python3", "-c", find]);
    let (event, _) = wait_program(&lab, "192.0.2.11", "bound");
    assert_eq!((&event["src"]["ip"], &event["session"]), (&"192.0.2.3".into(), &second.as_str().into()));
}

/// A program of 32 bits for x86 that opens `hidden` to be written, removes it, and ends with 9.
const OF_32_BITS: &str = "\
    f0VMRgEBAQAAAAAAAAAAAAIAAwABAAAAVIAECDQAAAAAAAAAAAAAADQAIAABAAAAAAAAAAEAAAAAAAAAAIAECACABAiJAAAAiQAAAAUAAAAAEA\
     AAuAUAAAC7goAECLlBAAAAuqQBAADNgLgKAAAAu4KABAjNgLgBAAAAuwkAAADNgGhpZGRlbgA=";

#[test]
fn what_programs_of_32_bits_do_to_files_is_told_where_that_is_wanted() {
    let mut lab = Lab::shared();
    lab.inside = Some("all".to_owned());
    let lab = self::lab(lab);
    let host = "192.0.2.16";
    let run = format!("cd /tmp; echo {OF_32_BITS} | base64 -d >a; chmod 755 a; ./a; echo $?");
    if !cfg!(target_arch = "x86_64") || shell(&lab.attacker, host, &run).trim() != "9" {
        println!("this machine runs no programs of 32 bits");
        return;
    }
    for did in ["open", "delete"] {
        let (event, object) =
            wait_told(&lab, "container.file", host, |object| object["path"] == "hidden" && object["did"] == did);
        assert_eq!(
            (&object["name"], &object["dir"], &event["src"]["ip"]),
            (&"a".into(), &"/tmp".into(), &"192.0.2.2".into())
        );
    }
    let (_, end) = wait_told(&lab, "container.exit", host, |object| object["name"] == "a");
    assert_eq!(end["code"], 9, "{end}");
}

#[test]
fn whoever_dies_outside_what_happens_inside_is_told() {
    let lab = lab(Lab::shared());
    let host = "192.0.2.12";
    shell(&lab.attacker, host, "/bin/true first");
    let session = wait_program(&lab, host, "first").0["session"].clone();
    for kind in ["console", "keeper", "switch"] {
        let before = process(&lab, kind).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(before).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        wait_for("another one", || process(&lab, kind).filter(|pid| *pid != before));
        wait_for("a shell", || {
            let word = format!("/bin/true after-{kind}");
            crate::shell::ssh(&lab.attacker, host, &word).status.success().then_some(())
        });
        let (event, _) = wait_program(&lab, host, &format!("after-{kind}"));
        // Another switch knows no sessions of before.
        assert!(kind == "switch" || event["session"] == session, "{event}");
        assert_eq!(event["src"]["ip"], "192.0.2.2");
    }
}

#[test]
fn an_intruder_with_root_finds_nothing_and_stops_nothing_by_itself() {
    // What is lost is a matter of who else wants the processors.
    let lab = lab(Lab::alone());
    let host = "192.0.2.13";
    let hunt = "ps -ef 2>/dev/null || ps; cat /proc/mounts /proc/self/cgroup /proc/net/unix; ls -la /sys/fs/bpf /sys/kernel/tracing \
                /sys/kernel/debug 2>&1; ls -l /proc/*/fd 2>/dev/null; cat /proc/*/cmdline | tr '\\0' ' '; dmesg 2>&1; \
                grep TracerPid /proc/[0-9]*/status; true";
    let found = shell(&lab.attacker, host, hunt);
    for word in ["honeyweave", "bpf_prog", "bpf-prog", "perf_event", "fanotify", "inotify", "tracefs", "[timerfd]"] {
        assert!(!found.contains(word), "{word} in {found}");
    }
    assert!(
        found
            .lines()
            .filter(|line| line.starts_with("/proc/") && line.contains("TracerPid:"))
            .all(|line| line.ends_with(":\t0")),
        "{found}"
    );
    // What would end a recorder that can be reached.
    let fight = "mount -t tracefs none /mnt; mount -t bpf none /mnt; mount -t cgroup2 none /mnt; umount /sys; \
                 echo 0 >/sys/kernel/tracing/tracing_on; echo 0 >/proc/sys/kernel/ftrace_enabled; \
                 mkdir /sys/fs/cgroup/out; echo 1 >/sys/fs/cgroup/cgroup.procs; \
                 dd if=/dev/zero of=/big bs=1M count=100000; /bin/true disk-full; rm /big; \
                 timeout 3 sh -c 'while :; do : >/tmp/f; done'; /bin/true flooded; \
                 bomb() { bomb | bomb & }; (ulimit -u 400; bomb); sleep 2; true";
    crate::shell::ssh(&lab.attacker, host, fight);
    crate::shell::ssh(&lab.attacker, host, "kill -9 -1");
    wait_program(&lab, host, "disk-full");
    wait_program(&lab, host, "flooded");
    let untold = lab.wait_event("container.untold", |event| event["dst"]["ip"] == host);
    assert!(untold["count"].as_u64().unwrap() > 1000, "{untold}");
    let again = wait_for("a shell again", || {
        let output = crate::shell::ssh(&lab.attacker, host, "/bin/true still-seen");
        output.status.success().then_some(output)
    });
    assert!(again.status.success());
    wait_program(&lab, host, "still-seen");
    // And whoever is elsewhere meanwhile was not pushed out.
    shell(&lab.attacker, "192.0.2.14", "/bin/true neighbor");
    wait_program(&lab, "192.0.2.14", "neighbor");
    let gaps: Vec<Value> = lab.events().into_iter().filter(|event| event["event"] == "gap").collect();
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[test]
fn ten_thousand_short_processes_in_ten_seconds_are_told_one_and_all_by_itself() {
    const COUNT: usize = 10_000;
    let lab = lab(Lab::alone());
    let host = "192.0.2.15";
    // Half of them each, as many at once as there are processors.
    let half = COUNT / 2;
    let run = format!(
        "run() {{ i=$1; while [ $i -lt $2 ]; do /bin/true $i; i=$((i+1)); done; }}; run 0 {half} & run {half} {COUNT} & wait; \
         /bin/true the-end"
    );
    shell(&lab.attacker, host, "true");
    let begin = Instant::now();
    shell(&lab.attacker, host, &run);
    let took = begin.elapsed();
    wait_program(&lab, host, "the-end");
    let arguments = told(&lab, "container.exec", host);
    let number = |(_, object): &(Value, Value)| object["args"][1].as_str()?.parse::<usize>().ok();
    let seen: BTreeSet<usize> = arguments.iter().filter_map(number).filter(|number| *number < COUNT).collect();
    let exits = told(&lab, "container.exit", host).iter().filter(|(_, object)| object["name"] == "true").count();
    let lost =
        lab.events().iter().filter(|event| event["event"] == "gap" || event["event"] == "container.untold").count();
    println!("{COUNT} processes in {took:?}: {} told, {exits} of their ends, {lost} gaps", seen.len());
    assert_eq!((seen.len(), lost), (COUNT, 0));
    assert!(exits >= COUNT, "{exits}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}
