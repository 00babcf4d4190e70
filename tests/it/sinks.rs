//! What happened, at those who collect it: rsyslog, and files that jq reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Ns, Running, free_port, sh, wait_for};
use crate::typist::{HANG_UP, typing};

/// A host with a web site and Telnet, and these sinks.
pub fn topology(sinks: &str) -> String {
    format!(
        r#"
name: sinks
sinks:
{sinks}
templates:
  box: {{personality: linux, tcp: {{80: {{http: {{server: nginx}}}}, 23: {{telnet: {{product: linux}}}}}}}}
nodes:
  wan: {{kind: uplink}}
  box: {{kind: host, address: 192.0.2.10, template: box}}
links:
  - endpoints: [wan, box]
"#
    )
}

/// rsyslog, which writes what it has understood of each message as a line of JSON.
struct Rsyslog {
    config: PathBuf,
    pid: PathBuf,
    out: PathBuf,
    running: Option<Running>,
}

impl Rsyslog {
    fn new(lab: &Lab, name: &str, global: &str, inputs: &str) -> Rsyslog {
        let (out, pid, work) = (lab.path(&format!("{name}.json")), lab.path(&format!("{name}.pid")), lab.path(name));
        std::fs::create_dir_all(&work).unwrap();
        let config = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"64k\" {global})\n{inputs}\n\
             template(name=\"parsed\" type=\"list\") {{ property(name=\"jsonmesg\") constant(value=\"\\n\") }}\n\
             *.* action(type=\"omfile\" file=\"{}\" template=\"parsed\" flushOnTXEnd=\"on\")\n",
            work.display(),
            out.display()
        );
        Rsyslog { config: lab.file(&format!("{name}.conf"), &config), pid, out, running: None }
    }

    fn start(&mut self, ns: &Ns) {
        let args = ["rsyslogd", "-n", "-C", "-f", self.config.to_str().unwrap(), "-i", self.pid.to_str().unwrap()];
        let _ = std::fs::remove_file(&self.pid);
        self.running = Some(ns.spawn(&args));
        wait_for("rsyslogd", || std::fs::read_to_string(&self.pid).ok().filter(|pid| !pid.is_empty()));
    }

    fn kill(&mut self) {
        self.running.take().unwrap().signal(libc::SIGKILL);
    }

    /// The messages of so many events that it was sent, by their numbers, in the order in which they came.
    fn has(&self, newest: u64) -> Vec<(u64, Value)> {
        wait_for(&format!("record {newest} in {}", self.out.display()), || {
            let text = std::fs::read_to_string(&self.out).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let told: Vec<(u64, Value)> = lines.filter_map(|line| Some((seq(&line)?, line))).collect();
            told.iter().any(|(seq, _)| *seq >= newest).then_some(told)
        })
    }
}

/// The number of the record that a message tells of: in its structured data, or in CEF.
fn seq(line: &Value) -> Option<u64> {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let after = |text: &str, start: &str, end: char| text.split(start).nth(1)?.split(end).next()?.parse().ok();
    after(text("structured-data"), "honeyweave@32473 seq=\"", '"').or_else(|| after(text("msg"), "externalId=", ' '))
}

/// Attackers come until the log has that many more records; returns the number of the newest.
pub fn attack(lab: &Lab, times: usize) -> u64 {
    for number in 0..times {
        lab.attacker.run(&[
            "curl",
            "-sg",
            "-m",
            "5",
            "-o",
            "/dev/null",
            &format!("http://192.0.2.10/{number}?a=\"]\\=|"),
        ]);
    }
    let wanted = format!("/{}?", times - 1);
    lab.wait_event("service.request", |event| event["text"].as_str().is_some_and(|text| text.contains(&wanted)))["seq"]
        .as_u64()
        .unwrap()
}

/// Everything once and in order, but for what came a second time.
fn assert_complete(lab: &Lab, name: &str, told: &[(u64, Value)], newest: u64, most_twice: usize) {
    let mut logged: Vec<u64> =
        lab.events().iter().map(|event| event["seq"].as_u64().unwrap()).filter(|seq| *seq <= newest).collect();
    // They are listed in the order of their times, and sent in that of their numbers.
    logged.sort_unstable();
    let mut seen: Vec<u64> = Vec::new();
    let mut twice = 0;
    for (seq, _) in told.iter().filter(|(seq, _)| *seq <= newest) {
        match seen.binary_search(seq) {
            Ok(_) => twice += 1,
            Err(at) => {
                assert_eq!(at, seen.len(), "{name}: {seq} comes after {:?}", seen.last());
                seen.push(*seq);
            }
        }
    }
    assert_eq!(seen, logged, "{name}");
    assert!(twice <= most_twice, "{name}: {twice} came twice");
}

/// A CA and a certificate of each of `names`, which are files in the lab.
pub fn certificates(lab: &Lab, names: &[&str]) {
    let dir = lab.path("pki");
    std::fs::create_dir_all(&dir).unwrap();
    let script = "cd \"$1\"; shift
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -keyout ca.key -out ca.pem -subj /CN=ca \
            -addext basicConstraints=critical,CA:TRUE
        for name; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
            printf 'subjectAltName=DNS:%s\\n' $name >$name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -out $name.pem -extfile $name.ext
        done";
    let mut args = vec!["sh", "-ec", script, "sh", dir.to_str().unwrap()];
    args.extend(names);
    sh(&args);
}

#[test]
fn syslog_receivers_understand_everything_and_miss_nothing_while_they_are_dead() {
    let mut lab = Lab::shared();
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let (plain, cef, tls) = (ports[0], ports[1], ports[2]);
    certificates(&lab, &["siem.example", "sensor"]);
    let pki = |name: &str| lab.path("pki").join(name).display().to_string();
    let listen = |kind: &str, port: u16| format!("input(type=\"{kind}\" address=\"127.0.0.1\" port=\"{port}\")\n");
    let modules = "module(load=\"imtcp\")\nmodule(load=\"imudp\")\n";
    let mut receivers = BTreeMap::new();
    receivers.insert("tcp", Rsyslog::new(&lab, "tcp", "", &format!("{modules}{}", listen("imtcp", plain))));
    receivers.insert("udp", Rsyslog::new(&lab, "udp", "", &format!("{modules}{}", listen("imudp", plain))));
    receivers.insert("cef", Rsyslog::new(&lab, "cef", "", &format!("{modules}{}", listen("imtcp", cef))));
    let driver = format!(
        "defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" \
         defaultNetstreamDriverKeyFile=\"{}\"",
        pki("ca.pem"),
        pki("siem.example.pem"),
        pki("siem.example.key")
    );
    // It lets in only who has a certificate.
    let module = "module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n";
    receivers.insert("tls", Rsyslog::new(&lab, "tls", &driver, &format!("{module}{}", listen("imtcp", tls))));
    receivers.values_mut().for_each(|receiver| receiver.start(&lab.wire.clone()));
    let sinks = format!(
        "  tcp: {{format: syslog, to: \"tcp://127.0.0.1:{plain}\"}}\n  \
           udp: {{format: syslog, to: \"udp://127.0.0.1:{plain}\", facility: auth}}\n  \
           cef: {{format: cef, to: \"tcp://127.0.0.1:{cef}\"}}\n  \
           tls: {{format: syslog, to: \"tls://127.0.0.1:{tls}\", server_name: siem.example, ca: {}, certificate: {}, key: {}}}\n",
        pki("ca.pem"),
        pki("sensor.pem"),
        pki("sensor.key")
    );
    lab.start(&topology(&sinks));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let newest = attack(&lab, 5);
    for (name, receiver) in &receivers {
        assert_complete(&lab, name, &receiver.has(newest), newest, 0);
    }
    // What they have understood is what was meant.
    let told = receivers["tcp"].has(newest);
    let (_, message) = told.iter().find(|(seq, _)| *seq == newest).unwrap();
    for (name, value) in [
        ("programname", "honeyweave"),
        ("msgid", "service.request"),
        ("syslogfacility", "16"),
        ("protocol-version", "1"),
    ] {
        assert_eq!(message[name], value, "{message}");
    }
    let data = message["structured-data"].as_str().unwrap();
    assert!(data.starts_with('[') && data.ends_with(']') && data.contains("src=\"192.0.2.2\""), "{data}");
    assert!(message["msg"].as_str().unwrap().contains("/4?a="), "{message}");
    let (_, message) = receivers["udp"].has(newest).pop().unwrap();
    assert_eq!(message["syslogfacility"], "4", "{message}");
    let (_, message) = receivers["cef"].has(newest).pop().unwrap();
    assert!(message["msg"].as_str().unwrap().trim().starts_with("CEF:0|honeyweave|honeyweave|"), "{message}");

    // All of them die, and come back.
    let before = lab.events().len();
    receivers.values_mut().for_each(Rsyslog::kill);
    let newest = attack(&lab, 20);
    for name in ["tcp", "cef", "tls"] {
        lab.wait_event("sink.state", |event| event["reason"].as_str().unwrap().starts_with(&format!("sink {name}: ")));
    }
    let status = lab.json(&["status"]);
    let tcp = status["sinks"].as_array().unwrap().iter().find(|sink| sink["sink"] == "tcp").unwrap();
    assert!(tcp["state"] == "down" && tcp["behind"].as_u64() > Some(0) && tcp["error"].is_string(), "{status}");
    receivers.values_mut().for_each(|receiver| receiver.start(&lab.wire.clone()));
    for name in ["tcp", "cef", "tls"] {
        // Twice only what was sent in the last second before.
        assert_complete(&lab, name, &receivers[name].has(newest), newest, before);
        lab.wait_event("sink.state", |event| {
            let reason = event["reason"].as_str().unwrap();
            reason.starts_with(&format!("sink {name}: ")) && reason.ends_with("takes records again")
        });
    }

    // Whoever dies when it has everything gets nothing twice.
    wait_for("everything to be with its receivers", || {
        let status = lab.json(&["status"]);
        status["sinks"].as_array()?.iter().all(|sink| sink["behind"] == 0 && sink["state"] == "up").then_some(())
    });
    let twice = |told: &[(u64, Value)]| told.len() - told.iter().map(|(seq, _)| seq).collect::<BTreeSet<_>>().len();
    let had = twice(&receivers["tcp"].has(newest));
    receivers.get_mut("tcp").unwrap().kill();
    let newest = attack(&lab, 21);
    receivers.get_mut("tcp").unwrap().start(&lab.wire.clone());
    let told = receivers["tcp"].has(newest);
    assert_complete(&lab, "tcp", &told, newest, before);
    assert_eq!(twice(&told), had);
    // The end of the honeynet is told, too.
    lab.down();
    let log = std::fs::read_to_string(lab.own_dir().join("events/events.ndjson")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    receivers["tcp"].has(last["seq"].as_u64().unwrap());
}

/// What jq makes of a file of a sink's.
pub fn jq(lab: &Lab, file: &str, program: &str) -> String {
    let path = lab.own_dir().join("sinks").join(file);
    sh(&["jq", "-rs", program, path.to_str().unwrap()]).trim().to_owned()
}

#[test]
fn files_are_what_their_readers_expect() {
    let sinks = "  ours: {format: ndjson, to: \"file:ours.json\"}\n  ecs: {format: ecs, to: \"file:ecs.json\"}\n  \
                 eve: {format: eve, to: \"file:eve.json\"}\n  cef: {format: cef, to: \"file:cef.log\"}\n  \
                 cowrie: {format: cowrie, to: \"file:cowrie.json\"}\n  quiet: {format: ndjson, to: \"file:quiet.json\", events: [tcp, \"!tcp.probe\"]}\n";
    let mut lab = Lab::up(&topology(sinks));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    attack(&lab, 3);
    let lines = [("login:", "root"), ("assword:", "hunter2"), ("incorrect", HANG_UP)];
    typing(&lines, &["telnet", "192.0.2.10"], |words| lab.attacker.sh(words));
    lab.wait_told("service.login", "192.0.2.10", &["hunter2"]);
    lab.wait_event("tcp.close", |event| event["dst"]["port"] == 23);
    let metrics = String::from_utf8(lab.command(&["status", "--metrics"]).stdout).unwrap();
    assert!(metrics.contains("honeyweave_sink_sent_total{sink=\"ecs\"}"), "{metrics}");
    let status = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    assert!(status.contains("Sinks") && status.contains("ecs file:ecs.json"), "{status}");
    lab.down();
    let log = std::fs::read_to_string(lab.own_dir().join("events/events.ndjson")).unwrap();
    let ours = std::fs::read_to_string(lab.own_dir().join("sinks/ours.json")).unwrap();
    assert_eq!(ours, log);
    assert_eq!(jq(&lab, "ecs.json", "map(.event.sequence) | . == [range(1; length + 1)]"), "true");
    assert_eq!(jq(&lab, "ecs.json", "length").parse(), Ok(log.lines().count()));
    let outcome = "map(select(.event.action == \"service.login\")) | .[0] | [.event.category[0], .event.outcome, .user.name] | @csv";
    let told = jq(&lab, "ecs.json", outcome);
    assert!(told.starts_with("\"authentication\",") && told.ends_with("\"root\""), "{told}");
    let flows = "map(select(.event_type == \"flow\" and .dest_port == 80 and .flow.state == \"closed\")) | length";
    assert_eq!(jq(&lab, "eve.json", flows), "3");
    assert_eq!(jq(&lab, "quiet.json", "map(.event) | unique | join(\" \")"), "tcp.close tcp.data tcp.open");
    let telnet = "sort_by(.timestamp) | map(select(.protocol == \"telnet\") | .eventid) | join(\" \")";
    let expected = "cowrie.session.connect cowrie.login.failed cowrie.session.closed";
    assert_eq!(jq(&lab, "cowrie.json", telnet), expected);
    assert_eq!(
        jq(&lab, "cowrie.json", "map(select(.password) | [.username, .password] | join(\"/\"))[0]"),
        "root/hunter2"
    );
    let cef = std::fs::read_to_string(lab.own_dir().join("sinks/cef.log")).unwrap();
    assert!(
        cef.lines().all(|line| line.starts_with("CEF:0|honeyweave|")) && cef.lines().count() == log.lines().count()
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(lab.own_dir().join("sinks")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}
