//! Looking over an attacker's shoulder, until there is nothing more to see.

use std::process::Command;

use crate::lab::{Lab, PROGRAM, state_dir};
use crate::net::Running;

/// The image is the one of the other tests of SSH in the middle.
const TOPOLOGY: &str = r#"
name: followed
templates:
  any: {personality: linux, tcp: {22: {container: ssh, opens: any}}, backend: {image: small}}
images:
  small:
    recipe: small
    packages: [openssh-client, openssh-sftp-server, rsync]
    users: [{name: root, password: toor}, {name: guest, password: guest}]
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 2}
  any: {kind: hosts, addresses: 192.0.2.10-192.0.2.19, template: any, limits: {session_idle: 5s}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [any, "core:2"]
"#;

/// A shell on `host` in which a command runs.
fn shell(lab: &Lab, host: &str, command: &str) -> Running {
    let target = format!("root@{host}");
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    lab.attacker.spawn(&[&["sshpass", "-p", "x", "ssh", "-tt"][..], &options, &[&target, command]].concat())
}

fn follow(lab: &Lab, host: &str, options: &[&str]) -> Running {
    let event = lab.wait_event("ssh.command", |event| event["dst"]["ip"] == host);
    let mut command = Command::new(PROGRAM);
    command.args(["session", "follow", event["session"].as_str().unwrap(), "--name", &lab.name, "--state-dir"]);
    let mut following = Running::start(command.arg(state_dir()).args(options));
    following.wait_line("seen from afar");
    following
}

#[test]
fn it_ends_with_the_session_with_a_signal_and_with_the_honeynet() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let _short = shell(&lab, "192.0.2.10", "echo seen from afar; sleep 1");
    let mut with_session = follow(&lab, "192.0.2.10", &[]);
    with_session.wait_line("the connection is over");
    with_session.wait_line("(the session is over)");
    assert!(with_session.wait().0.success());

    let wait = "echo seen from afar; until test -e /tmp/over; do sleep 0.1; done; echo still here; sleep 120";
    let _long = shell(&lab, "192.0.2.11", wait);
    // Another one that comes and goes does not lead away from it.
    let mut following = follow(&lab, "192.0.2.11", &[]);
    let _beside = shell(&lab, "192.0.2.11", "echo just a moment");
    following.wait_line("just a moment");
    following.wait_line("(a connection is over; transcripts that go on: 1)");
    let _word = shell(&lab, "192.0.2.11", "touch /tmp/over");
    following.wait_line("still here");
    drop(following);
    // A terminal is left in order; a pipe gets lines of text.
    for (options, has_escapes) in [(&["--terminal"][..], true), (&[], false)] {
        let interrupted = follow(&lab, "192.0.2.11", options);
        interrupted.signal(libc::SIGINT);
        let (status, said) = interrupted.wait();
        assert!(status.success() && said.contains("\u{1b}[0m") == has_escapes, "{status} {said:?}");
    }

    let mut with_honeynet = follow(&lab, "192.0.2.11", &[]);
    lab.down();
    with_honeynet.wait_line("(the ");
    assert!(with_honeynet.wait().0.success());
}
