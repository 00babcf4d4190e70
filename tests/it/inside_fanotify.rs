//! What happens inside containers where eBPF is not: by fanotify, told of the same attackers.

use serde_json::Value;

use crate::inside::{told, wait_told};
use crate::lab::{Lab, process};
use crate::net::wait_for;
use crate::shell::shell;

fn lab(source: &str) -> Lab {
    let mut lab = Lab::shared();
    lab.inside = Some(source.to_owned());
    crate::inside::lab(lab)
}

fn wait_path(lab: &Lab, id: &str, host: &str, path: &str) -> (Value, Value) {
    wait_told(lab, id, host, |object| object["path"] == path)
}

#[test]
fn where_the_kernel_denies_ebpf_programs_and_written_files_are_told_with_the_session() {
    let mut lab = Lab::shared();
    lab.without_bpf = true;
    let mut lab = crate::inside::lab(lab);
    let host = "192.0.2.10";
    // What lasts a moment is looked at; what does not is told anyway.
    let script = "echo pid=$$; echo secret >/root/loot; cp /bin/busybox /tmp/worm; cp /tmp/worm /dev/shm/hidden || cp /tmp/worm /dev/hidden; \
                  ln -s worm /tmp/sleep; /tmp/sleep 3; /dev/shm/hidden true || /dev/hidden true; /bin/true";
    let said = shell(&lab.attacker, host, script);
    let own: u64 = said.lines().find_map(|line| line.trim().strip_prefix("pid=")).unwrap().parse().unwrap();
    let (worm, object) = wait_path(&lab, "container.exec", host, "/tmp/worm");
    let session = worm["session"].as_str().unwrap();
    let open = lab.wait_event("tcp.open", |event| event["dst"]["ip"] == host && event["src"]["ip"] == "192.0.2.2");
    assert_eq!((&open["session"], &worm["dst"]["ip"]), (&session.into(), &host.into()));
    assert_eq!(object["source"], "fanotify");
    assert_eq!(object["args"], serde_json::json!(["/tmp/sleep", "3"]), "{object}");
    assert_eq!(object["uid"], 0);
    // As they are inside.
    assert_eq!(object["parent"], own, "{object}");
    assert!(object["pid"].as_u64().is_some_and(|pid| pid > own), "{object}");
    for (path, mode) in [("/root/loot", "0644"), ("/tmp/worm", "0755")] {
        let (file, object) = wait_path(&lab, "container.file", host, path);
        assert_eq!(object["mode"], mode, "{object}");
        assert_eq!((&file["session"], &object["did"]), (&session.into(), &"write".into()), "{object}");
    }
    // Another mount than that of the root.
    let hidden = |(_, object): &(Value, Value)| {
        object["path"].as_str().is_some_and(|path| path.starts_with("/dev") && path.ends_with("/hidden"))
    };
    wait_for("the program in /dev", || told(&lab, "container.exec", host).iter().any(hidden).then_some(()));
    assert!(told(&lab, "container.file", host).iter().any(hidden));

    let shown = String::from_utf8(lab.command(&["session", "show", session]).stdout).unwrap();
    assert!(shown.contains("programs inside") && shown.contains("/tmp/worm"), "{shown}");
    let status = lab.json(&["status"]);
    assert_eq!((&status["inside"], status.get("inside_error")), (&"fanotify".into(), None), "{status}");
    let why = status["inside_limit"].as_str().unwrap_or_default();
    assert!(why.contains("Operation not permitted"), "{status}");
    let status = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    assert!(status.contains("fanotify") && status.contains(why), "{status}");
    // Nobody has the one that is kept ready.
    assert!(lab.events().iter().all(|event| event["event"] != "container.exec" || event["session"].is_string()));
    lab.down();
}

#[test]
fn an_intruder_with_root_finds_and_stops_nothing_and_whoever_dies_outside_it_goes_on() {
    let lab = lab("fanotify");
    let host = "192.0.2.11";
    let hunt = "cat /proc/mounts /proc/net/unix; ls -l /proc/*/fd 2>/dev/null; cat /proc/*/fdinfo/* 2>/dev/null; \
                cat /proc/*/cmdline | tr '\\0' ' '; true";
    let found = shell(&lab.attacker, host, hunt);
    for word in ["honeyweave", "fanotify", "inotify"] {
        assert!(!found.contains(word), "{word} in {found}");
    }
    // Looking at what was written reads no pipe: whoever writes into one that nobody reads waits.
    let pipe = "mkfifo /tmp/p; cat /tmp/p >/dev/null & echo x >/tmp/p; wait; echo x >/tmp/other; \
                timeout 1 sh -c 'echo y >/tmp/p; echo read' 2>&1; rm /tmp/p; echo over";
    let waited = shell(&lab.attacker, host, pipe);
    assert!(waited.ends_with("over\n") && !waited.contains("read"), "{waited}");
    let fight = "mount -o remount /; umount /dev; echo 1 >/proc/sys/fs/fanotify/max_queued_events; \
                 timeout 2 sh -c 'while :; do : >/tmp/f; done'; echo x >/root/flooded; true";
    crate::shell::ssh(&lab.attacker, host, fight);
    wait_path(&lab, "container.file", host, "/root/flooded");
    for kind in ["console", "keeper"] {
        let before = process(&lab, kind).unwrap();
        let pid = rustix::process::Pid::from_raw(before).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_for("another one", || process(&lab, kind).filter(|pid| *pid != before));
        let word = format!("echo x >/root/after-{kind}");
        wait_for("a shell", || crate::shell::ssh(&lab.attacker, host, &word).status.success().then_some(()));
        wait_path(&lab, "container.file", host, &format!("/root/after-{kind}"));
    }
}

#[test]
fn nothing_is_watched_if_that_is_not_wanted() {
    let lab = lab("off");
    shell(&lab.attacker, "192.0.2.12", "/bin/true");
    let status = lab.json(&["status"]);
    assert!(status["inside_error"].is_string() && status.get("inside").is_none(), "{status}");
    let of = |event: &Value| event["event"] == "container.exec" || event["event"] == "container.file";
    assert!(!lab.events().iter().any(of));
}
