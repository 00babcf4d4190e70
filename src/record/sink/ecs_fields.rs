//! What some kinds of events have of the Elastic Common Schema besides what all have.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::fields::text;
use super::table;
use crate::event::EventId;
use crate::record::details::placed_path;
use crate::record::schema::{End, Record};

/// Who did it to whom. A connection that begins inside a container is from there to where it goes; the event has the host
/// that it is about, and whose connection that follows from.
pub fn ends(record: &Record, details: &Map<String, Value>) -> (Option<End>, Option<End>) {
    match record.event {
        EventId::ContainerConnect => {
            let host = record.dst.as_ref().map(|dst| End { port: None, ..dst.clone() });
            let target = End { ip: address(details), mac: None, port: port(details) };
            (host, (target.ip.is_some()).then_some(target))
        }
        _ => (record.src.clone(), record.dst.clone()),
    }
}

fn address(details: &Map<String, Value>) -> Option<IpAddr> {
    text(details, "ip")?.parse().ok()
}

fn port(details: &Map<String, Value>) -> Option<u16> {
    details.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())
}

fn number(details: &Map<String, Value>, name: &str) -> Option<u64> {
    details.get(name).and_then(Value::as_u64)
}

/// `event.kind`: what somebody should look at is an alert.
pub fn kind(id: EventId) -> &'static str {
    if table::of(id).category.contains(&"intrusion_detection") { "alert" } else { "event" }
}

/// Which of the types in the table it is.
pub fn types(record: &Record, details: &Map<String, Value>) -> Vec<&'static str> {
    let all = table::of(record.event).types;
    // A file that was opened has a mode if it was not there before.
    let creates = details.contains_key("mode");
    let one = match (record.event, text(details, "did"), text(details, "direction")) {
        (EventId::ContainerFile, Some("open"), _) if creates => "creation",
        (EventId::ContainerFile, Some("open"), _) => "access",
        (EventId::ContainerFile, Some("link" | "symlink" | "mkdir" | "mknod"), _) => "creation",
        (EventId::ContainerFile, Some("delete"), _) => "deletion",
        (EventId::ContainerFile, _, _) => "change",
        (EventId::SshFile, _, Some("upload" | "input")) => "creation",
        (EventId::SshFile, _, _) => "access",
        _ => return all.to_vec(),
    };
    all.iter().copied().filter(|kind| *kind == one).collect()
}

/// `event.severity`: the sensor's own if it is a sensor's.
pub fn severity(record: &Record, details: &Map<String, Value>) -> u64 {
    let sensors = number(details, "severity").filter(|_| record.event == EventId::IdsAlert);
    sensors.unwrap_or_else(|| table::of(record.event).severity.into())
}

/// `event.outcome`.
pub fn outcome(record: &Record, details: &Map<String, Value>) -> Option<&'static str> {
    let is_fine = match record.event {
        EventId::ContainerExit if details.contains_key("killed") => false,
        EventId::ContainerExit => number(details, "code")? == 0,
        EventId::SshExit if details.contains_key("signal") => false,
        EventId::SshExit => number(details, "status")? == 0,
        _ => details.get("accepted")?.as_bool()?,
    };
    Some(if is_fine { "success" } else { "failure" })
}

/// What such events have.
pub fn of_kind(record: &Record, details: &Map<String, Value>) -> Value {
    let word = |name| text(details, name);
    let (src, dst) = ends(record, details);
    let mut ips: Vec<IpAddr> = [&src, &dst, &record.src, &record.dst]
        .into_iter()
        .filter_map(|end| end.as_ref().and_then(|end| end.ip))
        .chain(address(details))
        .collect();
    let mut seen = Vec::new();
    ips.retain(|ip| !seen.contains(ip) && (seen.push(*ip), true).1);
    let hashes: Vec<&str> =
        ["sha256", "hassh", "ja3"].into_iter().filter_map(word).filter(|hash| !hash.is_empty()).collect();
    let users: Vec<&str> = ["user", "by"].into_iter().filter_map(word).collect();
    let mut more = json!({
        "user": {"name": word("user")},
        "related": {"ip": ips, "user": users, "hash": hashes},
    });
    if let (Value::Object(more), Value::Object(own)) = (&mut more, own(record, details)) {
        more.extend(own);
    }
    more
}

fn own(record: &Record, details: &Map<String, Value>) -> Value {
    let word = |name| text(details, name);
    match record.event {
        EventId::SshCommand | EventId::ShellCommand => json!({"process": {"command_line": word("command")}}),
        EventId::SshExit => {
            json!({"process": {"command_line": word("command"), "exit_code": number(details, "status")}})
        }
        EventId::SshFile => json!({"file": file(details)}),
        EventId::SshHello => json!({"user_agent": {"original": word("banner")}}),
        EventId::TlsHello => json!({"tls": {"client": {"server_name": word("sni"), "ja3": word("ja3")}}}),
        EventId::TlsCertificate => {
            json!({"tls": {"client": {"subject": word("subject"), "hash": {"sha256": word("sha256")}}}})
        }
        EventId::ProcessState => json!({"process": {"name": "honeyweave"}}),
        EventId::ContainerExec | EventId::ContainerExit => inside(details),
        EventId::ContainerFile => {
            let mut own = inside(details);
            own["file"] = file(details);
            own
        }
        EventId::ContainerConnect | EventId::ContainerRaw => inside(details),
        EventId::ContainerListen => {
            let mut own = inside(details);
            own["server"] = json!({"address": address(details), "ip": address(details), "port": port(details)});
            own
        }
        EventId::ContainerLog => log(details),
        EventId::ContainerLogin => {
            let mut own = log(details);
            own["process"] = json!({"name": word("program"), "pid": number(details, "pid")});
            // Whoever becomes somebody else is `user`, as whom is `user.effective`.
            own["user"] = match word("by") {
                Some(by) => json!({"name": by, "effective": {"name": word("user")}}),
                None => json!({"name": word("user")}),
            };
            own
        }
        EventId::IdsAlert => {
            let text = |name| number(details, name).map(|number| number.to_string());
            json!({"rule": {
                "id": text("sid"), "name": word("signature"), "category": word("category"), "version": text("rev"),
            }})
        }
        id if kind(id) == "alert" => {
            json!({"rule": {"id": id.as_str(), "name": table::of(id).title, "ruleset": "honeyweave"}})
        }
        _ => Value::Null,
    }
}

fn file(details: &Map<String, Value>) -> Value {
    let path = placed_path(details);
    json!({
        "path": path,
        "name": path.as_deref().map(name_of),
        "size": number(details, "size"),
        "mode": text(details, "mode"),
        "hash": {"sha256": text(details, "sha256")},
        // Of a link, what it leads to; where something is moved to is another path of its own.
        "target_path": text(details, "to").filter(|_| matches!(text(details, "did"), Some("link" | "symlink"))),
        "type": match text(details, "did") {
            Some("symlink") => Some("symlink"),
            Some("mkdir") => Some("dir"),
            _ => None,
        },
    })
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A process in a container, and as whom it runs there: numbers, as names are what the container says they are.
fn inside(details: &Map<String, Value>) -> Value {
    let path = placed_path(details).filter(|_| !details.contains_key("did"));
    let args = details.get("args").and_then(Value::as_array);
    let line = args.map(|args| args.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    let uid = number(details, "uid").map(|uid| uid.to_string());
    let count = number(details, "args_count").or(args.map(|args| args.len() as u64));
    json!({
        "process": {
            "executable": path,
            "name": text(details, "name").or(path.as_deref().map(name_of)),
            "args": args,
            "args_count": count,
            "command_line": line.filter(|line| !line.is_empty()),
            "pid": number(details, "pid"),
            "parent": {"pid": number(details, "parent")},
            "exit_code": number(details, "code"),
            "user": {"id": uid},
        },
        "user": {"id": uid},
    })
}

fn log(details: &Map<String, Value>) -> Value {
    json!({"log": {"syslog": {
        "appname": text(details, "tag"),
        "procid": number(details, "pid").map(|pid| pid.to_string()),
        "facility": {"name": text(details, "facility")},
        "severity": {"name": text(details, "severity")},
    }}})
}
