//! Elastic Common Schema, version 8.11 (<https://www.elastic.co/guide/en/ecs/8.11/>). What it has no field for is below
//! `honeyweave`, the details of an event in an object of that event's own, as two events may have a member of one name
//! that is a number here and a text there.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::fields::{LONGEST, began, clean, community_id, details, sentence, text};
use super::{Origin, table};
use crate::event::EventId;
use crate::record::schema::{End, Proto, Record, is_an_attackers};

/// The version that is written of.
pub const VERSION: &str = "8.11.0";

/// The message that tells of `record`.
pub fn message(record: &Record, origin: &Origin) -> Vec<u8> {
    let details = details(record);
    let row = table::of(record.event);
    let mut document = json!({
        "@timestamp": record.time,
        "ecs": {"version": VERSION},
        "message": sentence(record, &details),
        "event": {
            "kind": "event",
            "category": row.category,
            "type": row.types,
            "action": record.event.as_str(),
            "module": "honeyweave",
            "dataset": "honeyweave.events",
            "provider": "honeyweave",
            "sequence": record.seq,
            "severity": row.severity,
            "outcome": outcome(&details),
            "reason": record.reason.as_deref().map(|reason| clean(reason, LONGEST)),
            "duration": record.duration_us.map(|micros| micros.saturating_mul(1000)),
            "start": record.duration_us.map(|_| began(record)),
            "end": record.duration_us.map(|_| record.time),
        },
        "observer": {
            "vendor": "honeyweave",
            "product": "honeyweave",
            "type": "honeypot",
            "name": origin.honeynet,
            "hostname": origin.host,
            "version": env!("CARGO_PKG_VERSION"),
        },
        "source": end(record.src.as_ref(), record.bytes_in),
        "destination": end(record.dst.as_ref(), record.bytes_out),
        "network": network(record),
        "honeyweave": own(record, &details),
    });
    let more = of_kind(record, &details);
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    prune(&mut document);
    document.to_string().into_bytes()
}

fn outcome(details: &Map<String, Value>) -> Option<&'static str> {
    let accepted = details.get("accepted")?.as_bool()?;
    Some(if accepted { "success" } else { "failure" })
}

fn end(end: Option<&End>, bytes: Option<u64>) -> Value {
    let Some(end) = end else { return Value::Null };
    // RFC 7042, as the schema asks for: upper-case, with hyphens.
    let mac = end.mac.map(|mac| mac.to_string().to_uppercase().replace(':', "-"));
    json!({"address": end.ip, "ip": end.ip, "port": end.port, "mac": mac, "bytes": bytes})
}

fn network(record: &Record) -> Value {
    let ip = record.src.as_ref().and_then(|src| src.ip).or(record.dst.as_ref().and_then(|dst| dst.ip));
    let name = record.event.as_str();
    let direction = match record.event {
        id if is_an_attackers(id) => Some("inbound"),
        EventId::OutwardFlow | EventId::OutwardReflect | EventId::OutwardDrop | EventId::GateBlock => Some("outbound"),
        _ => None,
    };
    let protocol = match name.split('.').next() {
        Some("ssh" | "shell") => Some("ssh"),
        Some("tls") => Some("tls"),
        Some("dhcp") => Some("dhcp"),
        _ => None,
    };
    let bytes = record.bytes_in.zip(record.bytes_out).map(|(some, others)| some.saturating_add(others));
    json!({
        "transport": record.proto.and_then(|proto| match proto {
            Proto::Tcp => Some("tcp"),
            Proto::Udp => Some("udp"),
            Proto::Icmp => Some("icmp"),
            Proto::Icmp6 => Some("ipv6-icmp"),
            Proto::Arp => None,
        }),
        "type": ip.map(|ip| match ip {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        }),
        "direction": direction,
        "protocol": protocol,
        "bytes": bytes,
        "community_id": community_id(record),
    })
}

/// What some kinds of events have.
fn of_kind(record: &Record, details: &Map<String, Value>) -> Value {
    let word = |name| text(details, name);
    let ips = [&record.src, &record.dst].map(|end| end.as_ref().and_then(|end| end.ip));
    let ips: Vec<IpAddr> = ips.into_iter().flatten().collect();
    let hashes: Vec<&str> =
        ["sha256", "hassh", "ja3"].into_iter().filter_map(word).filter(|hash| !hash.is_empty()).collect();
    let mut more = json!({
        "user": {"name": word("user")},
        "related": {
            "ip": ips,
            "user": word("user").map(|user| [user]),
            "hash": hashes,
        },
    });
    let own = match record.event {
        EventId::SshCommand | EventId::ShellCommand => json!({"process": {"command_line": word("command")}}),
        EventId::SshFile => {
            let path = word("path");
            let name = path.map(|path| path.rsplit('/').next().unwrap_or(path));
            json!({"file": {
                "path": path, "name": name, "size": details.get("size").and_then(Value::as_u64),
                "hash": {"sha256": word("sha256")},
            }})
        }
        EventId::SshHello => json!({"user_agent": {"original": word("banner")}}),
        EventId::TlsHello => json!({"tls": {"client": {"server_name": word("sni"), "ja3": word("ja3")}}}),
        EventId::ProcessState => json!({"process": {"name": "honeyweave"}}),
        _ => Value::Null,
    };
    if let (Value::Object(more), Value::Object(own)) = (&mut more, own) {
        more.extend(own);
    }
    more
}

fn own(record: &Record, details: &Map<String, Value>) -> Value {
    let name = record.event.as_str().replace('.', "_");
    let mut own = json!({
        "session": record.session.map(|session| session.to_string()),
        "cause": record.cause.map(|cause| cause.to_string()),
        "node": record.node.as_deref().map(|node| clean(node, LONGEST)),
        "answer": record.answer.map(|answer| answer.as_str()),
        "scanner_os": record.scanner_os.map(|os| os.to_string()),
        "archive": record.archive.as_deref().map(|archive| clean(archive, LONGEST)),
        "count": record.count,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "data": record.data.as_deref().filter(|_| details.is_empty()).map(|data| clean(data, 2048)),
        "text": record.text.as_deref().filter(|_| details.is_empty()).map(|text| clean(text, 2048)),
    });
    if let Value::Object(own) = &mut own
        && !details.is_empty()
    {
        own.insert(name, Value::Object(details.clone()));
    }
    own
}

/// Leaves out what says nothing.
fn prune(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(prune);
        members.retain(|_, member| match member {
            Value::Null => false,
            Value::Object(members) => !members.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        });
    }
}
