//! By the stopwatch: hosts whose container's own accounts decide who gets in, before their container runs and while it does.

use crate::lab::Lab;

const TOPOLOGY: &str = r#"
name: stopwatch
templates:
  small: {personality: linux, tcp: {22: {container: ssh, opens: container}}, backend: {image: small, idle: 1h}}
  deb: {personality: linux, tcp: {22: {container: ssh, opens: container, refusal: 100ms}}, backend: {image: debian, idle: 1h}}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  small: {kind: hosts, addresses: 192.0.2.10-192.0.2.29, template: small}
  deb: {kind: hosts, addresses: 192.0.2.30-192.0.2.49, template: deb}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [small, "core:2"]
  - endpoints: [deb, "core:3"]
"#;

/// A client that says how long it took, in microseconds: what a password was answered by, and what was heard first after that. It asks for
/// nothing before, so that nothing has begun when the password comes.
const STOPWATCH: &str = r#"
import paramiko, sys, time
transport = paramiko.Transport((sys.argv[1], 22))
transport.start_client(timeout=30)
begun = time.monotonic()
try:
    transport.auth_password(sys.argv[2], sys.argv[3])
except paramiko.AuthenticationException:
    print("refused", int((time.monotonic() - begun) * 1e6), 0)
    sys.exit()
answered = time.monotonic()
channel = transport.open_session()
channel.get_pty()
channel.invoke_shell()
channel.recv(1)
print("accepted", int((answered - begun) * 1e6), int((time.monotonic() - begun) * 1e6))
transport.close()
"#;

const HOSTS: u8 = 6;
/// What the way inside has to be ready in.
const ACCEPTANCE: u64 = 300_000;

/// A host's answer to a password, and how long that and what was heard first behind it took, in microseconds.
type Answer = (String, u64, u64);

#[test]
fn nobody_can_tell_whether_the_container_that_decides_was_running_by_itself() {
    let lab = Lab::up_alone(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let ask = |host: &str, user: &str, password: &str| -> Answer {
        let said = lab.attacker.sh(&["/usr/bin/python3", "-W", "ignore", "-c", STOPWATCH, host, user, password]);
        let words: Vec<&str> = said.split_whitespace().collect();
        (words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap())
    };
    for (what, first) in [("dropbear", 10), ("OpenSSH", 30)] {
        for (password, answer, at) in [("toor", "accepted", first), ("nonsense", "refused", first + 10)] {
            let hosts: Vec<String> = (at..at + HOSTS).map(|last| format!("192.0.2.{last}")).collect();
            // One after the other, so that what else the machine does falls on both.
            let (cold, warm): (Vec<_>, Vec<_>) =
                hosts.iter().map(|host| (ask(host, "root", password), ask(host, "root", password))).unzip();
            for host in &hosts {
                let started =
                    |event: &&serde_json::Value| event["event"] == "container.start" && event["dst"]["ip"] == **host;
                assert_eq!(lab.events().iter().filter(started).count(), 1, "{host}: cold is cold, warm is warm");
            }
            assert!(cold.iter().chain(&warm).all(|said| said.0 == answer), "{what}: {cold:?} {warm:?}");
            println!("{what}, {answer}, (answer, first octet) in us: cold {cold:?}, warm {warm:?}");
            if (what, answer) == ("OpenSSH", "refused") {
                // PAM has a wrong password wait for as long as it draws by lot; and what OpenSSH then adds makes of that one of
                // few times that are its own, each twice the one before. Were the start in it, it would be none of these.
                let apart = |(cold, warm): (&Answer, &Answer)| {
                    let doublings = ((cold.1 - ACCEPTANCE) as f64 / (warm.1 - ACCEPTANCE) as f64).log2();
                    (doublings - doublings.round()).abs()
                };
                let mut apart: Vec<f64> = cold.iter().zip(&warm).map(apart).collect();
                apart.sort_by(f64::total_cmp);
                println!("apart by {apart:?} of a doubling");
                // A start of 100 ms in two seconds would be 0.07.
                assert!(apart[apart.len() / 2] < 0.03, "{apart:?}");
                continue;
            }
            // The best of each, as this machine may be busy with something else.
            for (name, of) in [("answer", (|t| t.1) as fn(&Answer) -> u64), ("first octet", |t| t.2)] {
                let least = |times: &[Answer]| times.iter().map(of).min().unwrap();
                let (cold, warm) = (least(&cold), least(&warm));
                // Less than half of what a start takes.
                assert!(cold.abs_diff(warm) < 30_000, "{what}, {name}: {cold} us cold, {warm} us warm");
            }
        }
    }
}
