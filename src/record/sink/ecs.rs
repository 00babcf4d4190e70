//! Elastic Common Schema, version 8.11 (<https://www.elastic.co/guide/en/ecs/8.11/>). What it has no field for is below
//! `honeyweave`, the details of an event in an object of that event's own, as two events may have a member of one name
//! that is a number here and a text there.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::fields::{LONGEST, began, clean, community_id, details, sentence, text};
use super::{Origin, ecs_fields, table};
use crate::event::EventId;
use crate::record::schema::{End, Proto, Record, is_an_attackers};

/// The version that is written of.
pub const VERSION: &str = "8.11.0";

/// The message that tells of `record`.
pub fn message(record: &Record, origin: &Origin) -> Vec<u8> {
    let details = details(record);
    let (src, dst) = ecs_fields::ends(record, &details);
    let row = table::of(record.event);
    let mut document = json!({
        "@timestamp": record.time,
        "ecs": {"version": VERSION},
        "message": sentence(record, &details),
        "event": {
            "kind": ecs_fields::kind(record.event),
            "category": row.category,
            "type": ecs_fields::types(record, &details),
            "action": record.event.as_str(),
            "module": "honeyweave",
            "dataset": "honeyweave.events",
            "provider": "honeyweave",
            "sequence": record.seq,
            "severity": ecs_fields::severity(record, &details),
            "outcome": ecs_fields::outcome(record, &details),
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
        "source": end(src.as_ref(), record.bytes_in),
        "destination": end(dst.as_ref(), record.bytes_out),
        "network": network(record, &details, src.as_ref().or(dst.as_ref())),
        "honeyweave": own(record, &details),
    });
    let more = ecs_fields::of_kind(record, &details);
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    prune(&mut document);
    document.to_string().into_bytes()
}

fn end(end: Option<&End>, bytes: Option<u64>) -> Value {
    let Some(end) = end else { return Value::Null };
    // RFC 7042, as the schema asks for: upper-case, with hyphens.
    let mac = end.mac.map(|mac| mac.to_string().to_uppercase().replace(':', "-"));
    json!({"address": end.ip, "ip": end.ip, "port": end.port, "mac": mac, "bytes": bytes})
}

fn network(record: &Record, details: &Map<String, Value>, end: Option<&End>) -> Value {
    let ip = end.and_then(|end| end.ip);
    let name = record.event.as_str();
    let direction = match record.event {
        id if is_an_attackers(id) => Some("inbound"),
        EventId::OutwardFlow
        | EventId::OutwardReflect
        | EventId::OutwardDrop
        | EventId::GateBlock
        | EventId::ContainerConnect => Some("outbound"),
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
        "transport": transport(record, details),
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

fn transport<'a>(record: &Record, details: &'a Map<String, Value>) -> Option<&'a str> {
    // What programs begin and wait for inside containers; records of before this version tell of TCP alone.
    if matches!(record.event, EventId::ContainerConnect | EventId::ContainerListen) {
        return Some(text(details, "protocol").unwrap_or("tcp"));
    }
    match record.proto? {
        Proto::Tcp => Some("tcp"),
        Proto::Udp => Some("udp"),
        Proto::Icmp => Some("icmp"),
        Proto::Icmp6 => Some("ipv6-icmp"),
        Proto::Arp => None,
    }
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
