//! What programs in containers say to the log, read from outside: a real dropbear that lets attackers in or does not, and
//! an intruder who says what no program would.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::inside::{lab, told, wait_told};
use crate::lab::{Lab, process};
use crate::net::{Ns, wait_for};
use crate::shell::{shell, ssh};

fn wait_text(lab: &Lab, host: &str, text: &str) -> (Value, Value) {
    wait_told(lab, "container.log", host, |object| object["text"] == text)
}

fn log_in(from: &Ns, host: &str, password: &str) -> bool {
    let options =
        ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1"];
    let login = format!("root@{host}");
    from.run(&[&["timeout", "60", "sshpass", "-p", password, "ssh"][..], &options, &[&login, "true"]].concat())
        .status
        .success()
}

#[test]
fn what_a_server_says_of_log_ins_is_told_with_the_session() {
    let mut lab = lab(Lab::shared());
    // The first host may have the one that was kept ready, the second has its own.
    for host in ["192.0.2.10", "192.0.2.11"] {
        assert!(!log_in(&lab.attacker, host, "wrong"));
        let (refused, object) = wait_told(&lab, "container.login", host, |object| object["accepted"] == false);
        assert_eq!((&object["program"], &object["user"]), (&"dropbear".into(), &"root".into()), "{object}");
        assert_eq!((&object["method"], &object["from"]), (&"password".into(), &"192.0.2.2".into()), "{object}");
        assert!(log_in(&lab.attacker, host, "toor"));
        let (accepted, object) = wait_told(&lab, "container.login", host, |object| object["accepted"] == true);
        assert_eq!((&object["user"], &object["facility"]), (&"root".into(), &"authpriv".into()), "{object}");
        // The very connections.
        for login in [&refused, &accepted] {
            let open = lab.wait_event("tcp.open", |event| {
                event["dst"]["ip"] == host && event["src"]["port"] == login["src"]["port"]
            });
            assert_eq!((&open["session"], &open["src"]["ip"]), (&login["session"], &login["src"]["ip"]), "{login}");
        }
        let session = accepted["session"].as_str().unwrap();
        shell(&lab.attacker, host, "logger -t web -p local3.warn 'one line'");
        let (said, object) = wait_text(&lab, host, "one line");
        assert_eq!(
            (&object["tag"], &object["facility"], &object["severity"]),
            (&"web".into(), &"local3".into(), &"warning".into())
        );
        assert_eq!(said["session"], session);
        let shown = String::from_utf8(lab.command(&["session", "show", session]).stdout).unwrap();
        for part in
            ["whoever is inside may say so, too", "dropbear", "accepted", "refused", "to the log inside", "one line"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
    lab.down();
}

#[test]
fn an_intruder_who_fights_the_log_only_loses_their_own() {
    let lab = lab(Lab::shared());
    let host = "192.0.2.12";
    let listed = shell(&lab.attacker, host, "ls -ln /dev/log; grep -c ' /dev/log$' /proc/net/unix; cat /proc/net/unix");
    assert!(listed.starts_with("srw-rw-rw-    1 0        0 "), "{listed}");
    assert_eq!(listed.lines().nth(1), Some("1"), "{listed}");
    assert!(!listed.contains("/proc/self") && !listed.contains("honeyweave"), "{listed}");
    let descriptors = shell(&lab.attacker, host, "ls -l /proc/1/fd");
    assert!(!descriptors.contains("socket:"), "{descriptors}");
    // From outside, as busybox sends nothing but text: what an intruder's own program could.
    let socket = wait_for("the container's socket", || {
        let row = lab.json(&["container", "ls"]).as_array()?.iter().find(|row| row["host"] == host)?.clone();
        Some(format!("/proc/{}/root/dev/log", row["init"].as_i64()?))
    });
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // A call with a time limit is not taken up again behind a signal, such as that a child has ended.
    let send = |octets: &[u8]| loop {
        match sender.send_to(octets, &socket) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            sent => break sent.unwrap(),
        }
    };
    send(b"<13>evil: a\nb\x1b[2J\xff\xfe\0c");
    let (event, object) = wait_text(&lab, host, "a\\x0ab\\x1b[2J\\xff\\xfe\\x00c");
    assert!(event["session"].is_string() && object["tag"] == "evil", "{event}");
    send(&[&b"<13>big: "[..], &vec![b'x'; 64 << 10]].concat());
    send(b"");
    send(&[0xff; 200]);
    wait_told(&lab, "container.log", host, |object| {
        object["tag"] == "big"
            && object["text"].as_str().is_some_and(|text| text.starts_with("xxx") && text.len() < 1024)
    });
    let begin = Instant::now();
    for number in 0..32_000 {
        send(format!("<13>flood: {number}").as_bytes());
    }
    println!("32,000 messages in {:?}", begin.elapsed());
    let untold = lab.wait_event("container.untold", |event| event["dst"]["ip"] == host);
    assert!(untold["count"].as_u64().unwrap() > 0, "{untold}");
    // Neighbors are heard meanwhile and afterwards, and whoever removes it has none.
    shell(&lab.attacker, "192.0.2.13", "logger neighbor");
    wait_text(&lab, "192.0.2.13", "neighbor");
    shell(&lab.attacker, host, "rm /dev/log; logger gone; ln -s /etc/passwd /dev/log; logger gone; true");
    shell(&lab.attacker, "192.0.2.13", "logger again");
    wait_text(&lab, "192.0.2.13", "again");
    assert!(ssh(&lab.attacker, host, "true").status.success());
    assert!(told(&lab, "container.log", host).iter().all(|(_, object)| object["text"] != "gone"));
}

#[test]
fn a_log_outlives_console_and_keeper_and_a_stop() {
    let lab = lab(Lab::shared());
    let host = "192.0.2.14";
    shell(&lab.attacker, host, "logger first");
    wait_text(&lab, host, "first");
    // The console has what the keeper had, and the other way round.
    for kind in ["console", "keeper", "console"] {
        let before = process(&lab, kind).unwrap();
        let pid = rustix::process::Pid::from_raw(before).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_for("another one", || process(&lab, kind).filter(|pid| *pid != before));
        let mut number = 0;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            number += 1;
            let word = format!("after-{kind}-{before}-{number}");
            ssh(&lab.attacker, host, &format!("timeout 5 logger {word}"));
            std::thread::sleep(Duration::from_millis(200));
            if told(&lab, "container.log", host).iter().any(|(_, object)| object["text"] == word.as_str()) {
                break;
            }
            assert!(Instant::now() < deadline, "nothing is told after {kind}");
        }
        if kind == "keeper" {
            // Given back at once, as its successor says what it has.
            wait_for("the keeper has it", || {
                let keeper = process(&lab, "keeper")?;
                let sockets = std::fs::read_dir(format!("/proc/{keeper}/fd")).ok()?.flatten();
                let inode = inode_of_log(&lab, host)?;
                sockets.filter_map(|fd| std::fs::read_link(fd.path()).ok()).find(|to| to.to_string_lossy() == inode)
            });
        }
    }
    // One that starts again has another.
    let rows = lab.json(&["container", "ls"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["host"] == host).unwrap();
    assert!(lab.command(&["container", "stop", &row["number"].to_string()]).status.success());
    wait_for("a shell again", || ssh(&lab.attacker, host, "logger after-stop").status.success().then_some(()));
    wait_text(&lab, host, "after-stop");
}

/// What a descriptor of the socket links to.
fn inode_of_log(lab: &Lab, host: &str) -> Option<String> {
    let row = lab.json(&["container", "ls"]).as_array()?.iter().find(|row| row["host"] == host)?.clone();
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/unix", row["init"].as_i64()?)).ok()?;
    let line = sockets.lines().find(|line| line.ends_with(" /dev/log"))?.to_owned();
    Some(format!("socket:[{}]", line.split_whitespace().nth(6)?))
}
