use std::net::IpAddr;

use serde_json::{Value, json};

use super::fields::community_id;
use super::*;
use crate::event::{EventId, SessionId};
use crate::record::base64;
use crate::record::schema::{Answer, End, Proto};

#[path = "hostile_tests.rs"]
mod hostile;
#[path = "published_tests.rs"]
mod published;

fn origin() -> Origin {
    Origin { honeynet: "office".into(), host: "sensor".into(), facility: 16 }
}

fn record(event: EventId) -> Record {
    let end = |ip: [u8; 4], port| End { ip: Some(IpAddr::from(ip)), mac: None, port: Some(port) };
    let mut record = Record::bare(7, Utc::from_micros(1_769_860_800_123_456), event);
    record.session = Some(SessionId(0x8f3a_00c1_d2e4_b596));
    record.node = Some("lan".into());
    record.src = Some(end([192, 0, 2, 9], 40_000));
    record.dst = Some(end([10, 0, 0, 1], 22));
    record.proto = Some(Proto::Tcp);
    record
}

fn with(event: EventId, details: Value) -> Record {
    let data = details.to_string().into_bytes();
    Record { data: Some(base64::encode(&data)), text: None, ..record(event) }
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

fn rendered(format: Format, record: &Record) -> Vec<String> {
    let messages = messages(format, record, &line(record), &origin());
    messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
}

fn objects(format: Format, record: &Record) -> Vec<Value> {
    rendered(format, record).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn login(accepted: bool) -> Record {
    with(
        EventId::SshLogin,
        json!({"user": "root", "method": "password", "password": "a=b|\"]\\\\", "accepted": accepted}),
    )
}

/// One of each event that has details, with some.
fn detailed() -> Vec<Record> {
    let file = |direction: &str| json!({"path": "/tmp/x\\x0a", "direction": direction, "size": 3, "sha256": "ba78", "content": "sha256-ba78"});
    vec![
        with(
            EventId::SshHello,
            json!({
                "banner": "SSH-2.0-Go", "hassh": "ec7378c1", "kex": "curve25519-sha256,ext-info-c", "keys": "ssh-ed25519,ssh-rsa",
                "ciphers": "aes128-ctr", "macs": "hmac-sha1", "compression": "none,zlib", "languages": "",
            }),
        ),
        login(false),
        login(true),
        with(
            EventId::SshLogin,
            json!({
                "user": "git", "method": "publickey", "algorithm": "ssh-ed25519", "signed": true, "accepted": true,
                "fingerprint": "SHA256:x", "key": KEY,
            }),
        ),
        with(EventId::SshEnv, json!({"name": "LANG", "value": "C"})),
        with(EventId::SshShell, json!({"kind": "shell", "term": "xterm", "size": "132x43"})),
        with(EventId::SshCommand, json!({"command": "uname -a"})),
        with(EventId::ShellCommand, json!({"command": "wget http://192.0.2.1/x"})),
        with(EventId::SshFile, file("upload")),
        with(EventId::SshFile, file("input")),
        with(EventId::SshFile, file("download")),
        with(
            EventId::SshForward,
            json!({"kind": "direct-tcpip", "host": "smtp.example", "port": 25, "from": "[::1]:4000", "accepted": true}),
        ),
        with(
            EventId::SshForwardData,
            json!({"host": "smtp.example", "port": 25, "channel": 3, "octets": "EHLO 'ü'\\x0d\\x0a\\xff\\u{202e}\\\\"}),
        ),
        Record {
            duration_us: Some(2_500_400),
            bytes_in: Some(3),
            bytes_out: Some(40),
            ..with(
                EventId::SshExit,
                json!({"kind": "command", "command": "nosuch", "status": 127, "sha256": "e3b0", "transcript": "x-0001.cast"}),
            )
        },
        with(EventId::SshClose, json!({"reason": "client-closed", "attempts": 1})),
        with(
            EventId::ContainerExec,
            json!({"path": "/bin/sh", "args": ["sh", "-c", "id"], "args_cut": true, "args_count": 9, "uid": 0, "pid": 7, "parent": 6}),
        ),
        with(EventId::ContainerExit, json!({"code": 0, "name": "sh", "uid": 0, "pid": 7, "parent": 6})),
        with(EventId::ContainerExit, json!({"killed": true, "name": "sh", "uid": 0, "pid": 7, "parent": 6})),
        with(
            EventId::ContainerExit,
            json!({"code": 0, "urls": ["http://192.0.2.66/bot"], "to": "/tmp/bot", "name": "wget"}),
        ),
        with(EventId::ContainerExit, json!({"code": 4, "urls": ["http://a/b", "http://c/d"], "name": "wget"})),
        with(
            EventId::ContainerFile,
            json!({"did": "open", "path": "/tmp/x", "flags": ["write", "create"], "name": "sh", "uid": 0, "pid": 7, "parent": 6}),
        ),
        with(EventId::ContainerFile, json!({"did": "executable", "path": "/tmp/x", "mode": "0755", "name": "chmod"})),
        with(EventId::ContainerFile, json!({"did": "delete", "path": "./x", "dir": "/tmp", "name": "rm", "uid": 0})),
        with(EventId::ContainerFile, json!({"did": "symlink", "path": "/tmp/x", "to": "/etc", "name": "ln", "uid": 0})),
        with(
            EventId::ContainerFile,
            json!({"did": "open", "path": "x", "dir": "/tmp", "flags": ["write", "create"], "mode": "0755", "name": "cp", "uid": 0}),
        ),
        with(
            EventId::ContainerFile,
            json!({"did": "mkdir", "path": ".x", "dir": "/tmp", "mode": "0755", "name": "mkdir", "uid": 0}),
        ),
        with(
            EventId::ContainerFile,
            json!({"did": "mknod", "path": "/tmp/sda", "kind": "block", "device": "8:0", "mode": "0640", "name": "mknod"}),
        ),
        with(EventId::ContainerConnect, json!({"ip": "198.51.100.7", "port": 443, "name": "wget", "uid": 0, "pid": 7})),
        with(EventId::ContainerListen, json!({"ip": "::", "port": 4444, "name": "nc", "uid": 0, "pid": 7})),
        with(
            EventId::ContainerListen,
            json!({"ip": "0.0.0.0", "port": 4444, "protocol": "udp", "name": "nc", "uid": 0, "pid": 7}),
        ),
        with(EventId::ContainerRaw, json!({"family": "packet", "protocol": "all", "name": "tcpdump", "uid": 0})),
        with(
            EventId::ContainerLog,
            json!({"facility": "auth", "severity": "info", "tag": "cron", "pid": 7, "text": "a=b"}),
        ),
        with(
            EventId::ContainerLogin,
            json!({"facility": "auth", "severity": "info", "program": "su", "user": "root", "by": "www-data", "accepted": true, "tag": "su", "pid": 7, "text": "x"}),
        ),
        with(
            EventId::IdsAlert,
            json!({
                "sid": 9_000_001, "gid": 1, "rev": 2, "signature": "TEST", "category": "Leak", "severity": 2,
                "action": "allowed", "app_proto": "http",
            }),
        ),
        with(EventId::TlsHello, json!({"sni": "a.example", "alpn": ["h2"], "ja3": "abc", "ja4": "t13"})),
        with(EventId::TlsCertificate, json!({"sha256": "ab".repeat(32), "subject": "CN=guest"})),
        with(EventId::ServiceLogin, json!({"method": "telnet", "user": "admin", "password": "1234"})),
    ]
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN74HHNxR+/Dowe9lR4VYwO5JYo7a3iaoQ2FmfcA6u8j";

fn everything() -> Vec<Record> {
    let close = Record { duration_us: Some(9), reason: Some("closed".into()), ..record(EventId::TcpClose) };
    let mut six = record(EventId::TcpOpen);
    six.src =
        Some(End { ip: Some("2001:db8::9".parse().unwrap()), mac: "00:0c:29:aa:00:11".parse().ok(), port: Some(9) });
    six.dst.as_mut().unwrap().mac = "00:0c:29:aa:00:12".parse().ok();
    (six.bytes_in, six.bytes_out) = (Some(1), Some(2));
    EventId::ALL.iter().map(|id| record(*id)).chain(detailed()).chain([close, six]).collect()
}

#[test]
fn an_intrusion_reads_as_cowrie_has_it() {
    let mut told = vec![record(EventId::TcpOpen)];
    told.extend(detailed());
    told.push(Record { duration_us: Some(12_345_678), ..record(EventId::TcpClose) });
    let lines: Vec<Value> = told.iter().flat_map(|record| objects(Format::Cowrie, record)).collect();
    let ids: Vec<&str> = lines.iter().map(|line| line["eventid"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            "cowrie.session.connect",
            "cowrie.client.version",
            "cowrie.client.kex",
            "cowrie.login.failed",
            "cowrie.login.success",
            "cowrie.client.fingerprint",
            "cowrie.login.success",
            "cowrie.client.var",
            "cowrie.client.size",
            "cowrie.session.params",
            "cowrie.session.params",
            "cowrie.command.input",
            "cowrie.command.input",
            "cowrie.session.file_upload",
            "cowrie.session.file_download",
            "cowrie.direct-tcpip.request",
            "cowrie.direct-tcpip.data",
            "cowrie.command.failed",
            "cowrie.log.closed",
            "cowrie.session.file_download",
            "cowrie.session.file_download.failed",
            "cowrie.session.file_download.failed",
            "cowrie.login.failed",
            "cowrie.session.closed",
        ]
    );
    let session = lines[0]["session"].as_str().unwrap();
    assert!(session.len() == 12 && session.bytes().all(|b| b.is_ascii_hexdigit()), "{session}");
    for line in &lines {
        assert_eq!(line["session"], session);
        assert_eq!((&line["src_ip"], &line["sensor"]), (&json!("192.0.2.9"), &json!("office")));
        assert_eq!(line["timestamp"], "2026-01-31T12:00:00.123456Z");
        assert!(line["message"].is_string());
    }
    let of = |id: &str| lines.iter().filter(|line| line["eventid"] == format!("cowrie.{id}")).collect::<Vec<_>>();
    let kex = of("client.kex")[0];
    assert_eq!(kex["hasshAlgorithms"], "curve25519-sha256,ext-info-c;aes128-ctr;hmac-sha1;none,zlib");
    assert_eq!((&kex["keyAlgs"], &kex["langCS"]), (&json!(["ssh-ed25519", "ssh-rsa"]), &json!([""])));
    let failed = of("login.failed")[0];
    assert_eq!((&failed["username"], &failed["password"]), (&json!("root"), &json!("a=b|\"]\\\\")));
    assert_eq!(of("login.success")[0]["message"], "login attempt [root/a=b|\"]\\\\] succeeded");
    // As Cowrie 3.1.4 has it of this very key.
    let key = of("client.fingerprint")[0];
    assert_eq!(key["fingerprint"], "c4:d5:6a:a5:e5:fb:f7:e7:27:dd:5a:a6:27:88:ba:a8");
    assert_eq!((&key["key"], &key["type"]), (&json!(KEY), &json!("ssh-ed25519")));
    let size = of("client.size")[0];
    assert_eq!((&size["width"], &size["height"]), (&json!(132), &json!(43)));
    assert_eq!(of("command.input")[1]["input"], "wget http://192.0.2.1/x");
    let upload = of("session.file_upload")[0];
    assert_eq!((&upload["shasum"], &upload["filename"]), (&json!("ba78"), &json!("x\\x0a")));
    assert_eq!((&upload["destfile"], &upload["duplicate"]), (&json!("/tmp/x\\x0a"), &json!(false)));
    let forward = of("direct-tcpip.request")[0];
    assert_eq!((&forward["dst_ip"], &forward["dst_port"]), (&json!("smtp.example"), &json!(25)));
    assert_eq!((&forward["orig_ip"], &forward["orig_port"]), (&json!("::1"), &json!(4000)));
    assert_eq!(of("direct-tcpip.data")[0]["data"], "b'EHLO \\'\\xc3\\xbc\\'\\x0d\\x0a\\xff\\xe2\\x80\\xae\\\\'");
    let log = of("log.closed")[0];
    assert_eq!((&log["ttylog"], &log["size"], &log["duration_ms"]), (&json!("x-0001.cast"), &json!(43), &json!(2500)));
    let closed = of("session.closed")[0];
    assert_eq!((&closed["duration_ms"], &closed["duration"]), (&json!(12_346), &json!(12.345_678)));
    assert_eq!(closed["uuid"].as_str().unwrap().len(), 36);
}

#[test]
fn whence_a_forward_comes_is_read_however_it_is_written() {
    for (from, ip, port) in [
        ("192.0.2.9:40000", "192.0.2.9", 40_000),
        ("[2001:db8::9]:1", "2001:db8::9", 1),
        ("2001:db8::9 port 65536", "2001:db8::9", 65_536),
        ("UNKNOWN port 65535", "UNKNOWN", 65_535),
        ("a port b port 5", "a port b", 5),
        ("UNKNOWN:65535", "UNKNOWN", 65_535),
        ("", "", 0),
    ] {
        let told = json!({"kind": "direct-tcpip", "host": "a", "port": 25, "from": from, "accepted": true});
        let line = objects(Format::Cowrie, &with(EventId::SshForward, told)).remove(0);
        assert_eq!((&line["orig_ip"], &line["orig_port"]), (&json!(ip), &json!(port)), "{from}");
    }
}

#[test]
fn what_is_told_here_is_what_events_have() {
    for record in detailed() {
        let object = serde_json::from_slice(&base64::decode(&record.data.unwrap()).unwrap()).unwrap();
        assert_eq!(crate::record::details::complaint(record.event, &object), None);
    }
}

#[test]
fn a_key_that_is_offered_is_not_let_in() {
    let offer = |signed: bool, accepted: bool| {
        let key = json!({
            "user": "git", "method": "publickey", "algorithm": "rsa-sha2-256", "fingerprint": "SHA256:x", "signed": signed,
            "accepted": accepted,
        });
        let told = objects(Format::Cowrie, &with(EventId::SshLogin, key));
        told.iter().map(|line| line["eventid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offer(false, true), ["cowrie.client.fingerprint"]);
    assert_eq!(offer(true, true), ["cowrie.client.fingerprint", "cowrie.login.success"]);
    assert_eq!(offer(false, false), ["cowrie.client.fingerprint", "cowrie.login.failed"]);
}

#[test]
fn a_control_and_its_name_are_two_texts() {
    // An emulated service tells the octets, a relay what is shown of them.
    let login = |password: &str, accepted: Value| {
        let mut details = json!({"method": "telnet", "user": "a", "password": password});
        details.as_object_mut().unwrap().extend(accepted.as_object().unwrap().clone());
        with(EventId::ServiceLogin, details)
    };
    let (bare, shown, unasked) = (json!({}), json!({"accepted": false}), json!({"asked": false}));
    for (password, accepted, wanted) in [
        ("\u{1b}", &bare, "\\u{1b}"),
        ("\\u{1b}", &bare, "\\\\u{1b}"),
        ("\\x1b", &shown, "\\x1b"),
        ("\\\\x1b", &shown, "\\\\x1b"),
        ("\\x1b", &unasked, "\\x1b"),
    ] {
        let record = login(password, accepted.clone());
        let cowrie = objects(Format::Cowrie, &record);
        assert_eq!(cowrie[0]["password"], wanted);
        let ecs = objects(Format::Ecs, &record);
        assert_eq!(ecs[0]["honeyweave"]["service_login"]["password"], wanted);
    }
}

#[test]
fn a_connection_begins_and_ends_once_wherever_ssh_listens() {
    let at = |port: u16, mut record: Record| {
        record.dst.as_mut().unwrap().port = Some(port);
        record
    };
    let of = |port: u16| {
        let told =
            [record(EventId::TcpOpen), detailed().remove(0), record(EventId::SshClose), record(EventId::TcpClose)];
        let told = told.into_iter().flat_map(|record| objects(Format::Cowrie, &at(port, record)));
        told.map(|line| line["eventid"].as_str().unwrap().trim_start_matches("cowrie.").to_owned()).collect::<Vec<_>>()
    };
    let expected = ["session.connect", "client.version", "client.kex", "session.closed"];
    assert_eq!(of(22), expected);
    assert_eq!(of(8022), expected);
    // Telnet has no hello.
    let told = [record(EventId::TcpOpen), Record { text: Some("id".into()), ..record(EventId::ServiceRequest) }];
    let told: Vec<Value> = told.into_iter().flat_map(|record| objects(Format::Cowrie, &at(23, record))).collect();
    assert_eq!((&told[0]["protocol"], &told[1]["input"]), (&json!("telnet"), &json!("id")));
    let web = at(80, Record { text: Some("GET /".into()), ..record(EventId::ServiceRequest) });
    assert!(rendered(Format::Cowrie, &web).is_empty());
}

#[test]
fn syslog_is_as_the_rfc_has_it() {
    let text = rendered(Format::Syslog, &login(true)).remove(0);
    assert_eq!(
        text,
        "<133>1 2026-01-31T12:00:00.123456Z sensor honeyweave - ssh.login [honeyweave@32473 seq=\"7\" \
         honeynet=\"office\" session=\"8f3a00c1d2e4b596\" node=\"lan\" src=\"192.0.2.9\" spt=\"40000\" dst=\"10.0.0.1\" \
         dpt=\"22\" proto=\"tcp\"][details@32473 user=\"root\" method=\"password\" password=\"a=b|\\\"\\]\\\\\\\\\" \
         accepted=\"true\"] ssh.login 192.0.2.9:40000 -> 10.0.0.1:22 \
         {\"user\":\"root\",\"method\":\"password\",\"password\":\"a=b|\\\"]\\\\\\\\\",\"accepted\":true}"
    );
    let udp = Target::Udp(Peer { host: "a".into(), port: 514 });
    let tcp = Target::Tcp(Peer { host: "a".into(), port: 514 });
    let record = login(true);
    let sent = |to| framed(Format::Syslog, to, text.clone().into_bytes(), &record, &origin());
    assert_eq!(sent(&udp), text.as_bytes());
    assert_eq!(sent(&tcp), format!("{} {text}", text.len()).as_bytes());
    let cef = messages(Format::Cef, &record, "", &origin()).remove(0);
    let sent = String::from_utf8(framed(Format::Cef, &udp, cef, &record, &origin())).unwrap();
    assert!(sent.starts_with("<133>1 2026-01-31T12:00:00.123456Z sensor honeyweave - ssh.login - CEF:0|"), "{sent}");
}

#[test]
fn cef_is_as_its_guide_has_it() {
    let text = rendered(Format::Cef, &login(false)).remove(0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text,
        format!(
            "CEF:0|honeyweave|honeyweave|{version}|ssh.login|SSH log-in|5|rt=1769860800123 externalId=7 src=192.0.2.9 \
             spt=40000 dst=10.0.0.1 dpt=22 proto=TCP outcome=failure duser=root cs1=8f3a00c1d2e4b596 cs1Label=session \
             cs2=lan cs2Label=node cs4=a\\=b|\"]\\\\\\\\ cs4Label=password"
        )
    );
    let mut six = record(EventId::TcpOpen);
    six.src.as_mut().unwrap().ip = Some("2001:db8::9".parse().unwrap());
    let text = rendered(Format::Cef, &six).remove(0);
    assert!(text.contains(" c6a2=2001:db8::9 c6a2Label=Source IPv6 Address spt=40000 "), "{text}");
}

#[test]
fn flows_are_as_suricata_has_them() {
    let close = Record {
        duration_us: Some(61_000_000),
        bytes_in: Some(10),
        bytes_out: Some(20),
        reason: Some("closed".into()),
        ..record(EventId::TcpClose)
    };
    let flow = objects(Format::Eve, &close).remove(0);
    assert_eq!((&flow["event_type"], &flow["proto"]), (&json!("flow"), &json!("TCP")));
    assert_eq!((&flow["dest_ip"], &flow["dest_port"]), (&json!("10.0.0.1"), &json!(22)));
    assert_eq!(flow["timestamp"], "2026-01-31T12:00:00.123456+0000");
    assert_eq!(flow["flow"]["start"], "2026-01-31T11:58:59.123456+0000");
    assert_eq!((&flow["flow"]["age"], &flow["flow"]["bytes_toclient"]), (&json!(61), &json!(20)));
    let ssh = objects(Format::Eve, &detailed()[0]).remove(0);
    assert_eq!(ssh["flow_id"], flow["flow_id"]);
    assert_eq!(
        ssh["ssh"]["client"],
        json!({
            "proto_version": "2.0", "software_version": "Go",
            "hassh": {"hash": "ec7378c1", "string": "curve25519-sha256,ext-info-c;aes128-ctr;hmac-sha1;none,zlib"},
        })
    );
    // A probe that is answered becomes a connection, whose end tells of it.
    let probe = |answer| Record { answer: Some(answer), ..record(EventId::TcpProbe) };
    assert_eq!(objects(Format::Eve, &probe(Answer::Closed)).remove(0)["flow"]["state"], "new");
    assert!(objects(Format::Eve, &probe(Answer::Open)).is_empty());
    assert!(flow["flow_id"].as_u64().unwrap() < 1 << 53);
}

#[test]
fn a_community_id_is_the_one_that_others_calculate() {
    // From the baseline of the specification.
    let mut of = record(EventId::TcpOpen);
    of.src = Some(End { ip: Some("128.232.110.120".parse().unwrap()), mac: None, port: Some(34855) });
    of.dst = Some(End { ip: Some("66.35.250.204".parse().unwrap()), mac: None, port: Some(80) });
    assert_eq!(community_id(&of).as_deref(), Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg="));
    std::mem::swap(&mut of.src, &mut of.dst);
    assert_eq!(community_id(&of).as_deref(), Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg="));
}

#[test]
fn the_table_in_the_documentation_is_what_is_sent() {
    let page = include_str!("../../../docs/sinks.md");
    for id in EventId::ALL {
        let row = table::of(*id);
        let list = |names: &[&str]| match names {
            [] => "–".to_owned(),
            names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        let syslog = ["", "", "", "error", "warning", "notice", "informational"][usize::from(row.syslog())];
        let expected = format!(
            "| `{}` | {} | {}: {} | {} | {} ({syslog}): {} |",
            id.as_str(),
            list(cowrie::ids(*id)),
            list(row.category),
            list(row.types),
            list(eve::kind(*id).as_slice()),
            row.severity,
            row.title,
        );
        assert!(page.lines().any(|line| line == expected), "docs/sinks.md lacks the row\n{expected}");
        // And nothing else is.
        assert!(row.severity <= 10 && !row.title.is_empty());
    }
    for record in everything() {
        for line in objects(Format::Cowrie, &record) {
            assert!(cowrie::ids(record.event).contains(&line["eventid"].as_str().unwrap()), "{line}");
        }
        for line in objects(Format::Eve, &record) {
            assert_eq!(line["event_type"].as_str(), eve::kind(record.event));
        }
    }
    for id in EventId::ALL.iter().flat_map(|id| cowrie::ids(*id)) {
        let is_sent = |record: Record| objects(Format::Cowrie, &record).iter().any(|line| line["eventid"] == **id);
        assert!(everything().into_iter().any(is_sent), "{id} is never sent");
    }
}
