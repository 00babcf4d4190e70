//! Records as Suricata's EVE log has them (<https://docs.suricata.io/en/latest/output/eve/eve-json-format.html>): flows,
//! what SSH and TLS clients show, files, and alerts once more that a sensor has told. `tests/golden/eve-members.txt` has what its
//! schema says of these.
//!
//! Octets of a TCP flow are those of its data here, Suricata counts whole packets.

use serde_json::{Map, Value, json};

use super::Origin;
use super::fields::{began, community_id, connection, details, ends, text};
use crate::event::{EventId, Utc};
use crate::record::schema::{Answer, HONEYNET_ENDED, Proto, Record};

/// The `event_type` that tells of an event, if it is told at all.
pub fn kind(id: EventId) -> Option<&'static str> {
    match id {
        EventId::TcpClose
        | EventId::TcpProbe
        | EventId::UdpDatagram
        | EventId::IcmpEcho
        | EventId::OutwardFlow
        | EventId::OutwardReflect => Some("flow"),
        EventId::SshHello => Some("ssh"),
        EventId::TlsHello => Some("tls"),
        EventId::SshFile => Some("fileinfo"),
        EventId::IdsAlert => Some("alert"),
        _ => None,
    }
}

/// The message that tells of `record`.
pub fn message(record: &Record, origin: &Origin) -> Option<Vec<u8>> {
    let kind = kind(record.event)?;
    let ((src, src_port), (dst, dst_port)) = ends(record)?;
    let mut line = json!({
        "timestamp": time(record.time),
        // Some readers take numbers for floating point.
        "flow_id": connection(record) >> 12,
        "event_type": kind,
        "src_ip": src,
        "src_port": src_port,
        "dest_ip": dst,
        "dest_port": dst_port,
        "proto": match record.proto? {
            Proto::Tcp => "TCP",
            Proto::Udp => "UDP",
            Proto::Icmp => "ICMP",
            Proto::Icmp6 => "IPv6-ICMP",
            Proto::Arp => return None,
        },
        "ip_v": if src.is_ipv4() { 4 } else { 6 },
        "community_id": community_id(record),
        "host": origin.honeynet,
    });
    let more = match kind {
        "ssh" => ssh(record),
        "tls" => tls(record),
        "fileinfo" => file(record),
        "alert" => alert(record),
        _ => flow(record)?,
    };
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
        let own = json!({
            "seq": record.seq,
            "session": record.session.map(|session| session.to_string()),
            "event": record.event.as_str(),
        });
        line.insert("honeyweave".into(), own);
        line.retain(|_, value| !value.is_null());
    }
    Some(line.to_string().into_bytes())
}

/// As Suricata writes it: with a numeric zone.
fn time(time: Utc) -> String {
    let mut text = time.to_string();
    text.pop();
    text + "+0000"
}

fn flow(record: &Record) -> Option<Value> {
    let (state, reason) = match (record.event, record.reason.as_deref()) {
        (EventId::TcpClose, Some("evicted" | HONEYNET_ENDED)) => ("established", "forced"),
        (EventId::TcpClose, Some("timed-out")) => ("established", "timeout"),
        (EventId::TcpClose, _) => ("closed", "timeout"),
        // What it becomes, its end tells.
        (EventId::TcpProbe, _) if !matches!(record.answer, Some(Answer::Closed | Answer::Filtered)) => return None,
        _ => ("new", "timeout"),
    };
    let packets = (record.event != EventId::TcpClose).then(|| record.count.unwrap_or(1));
    let seconds = record.duration_us.unwrap_or(0) / 1_000_000;
    let octets = |count: Option<u64>| count.unwrap_or(0);
    let mut more = json!({"flow": {
        "bytes_toserver": octets(record.bytes_in),
        "bytes_toclient": octets(record.bytes_out),
        "start": time(began(record)),
        "end": time(record.time),
        "age": seconds,
        "state": state,
        "reason": reason,
        "alerted": false,
    }});
    if let Some(packets) = packets {
        more["flow"]["pkts_toserver"] = packets.into();
    }
    if record.event == EventId::IcmpEcho {
        (more["icmp_type"], more["icmp_code"]) =
            (if record.proto == Some(Proto::Icmp) { 8 } else { 128 }.into(), 0.into());
    }
    Some(more)
}

fn ssh(record: &Record) -> Value {
    let details = details(record);
    let banner = text(&details, "banner").unwrap_or("");
    let (version, software) = banner.strip_prefix("SSH-").and_then(|rest| rest.split_once('-')).unwrap_or(("", banner));
    let mut client = json!({"proto_version": version, "software_version": software});
    if let Some(hassh) = text(&details, "hassh").filter(|hassh| !hassh.is_empty()) {
        let word = |name| text(&details, name).unwrap_or("");
        let all = ["kex", "ciphers", "macs", "compression"].map(word).join(";");
        client["hassh"] = json!({"hash": hassh, "string": all});
    }
    json!({"app_proto": "ssh", "ssh": {"client": client}})
}

fn tls(record: &Record) -> Value {
    let details = details(record);
    let mut tls = json!({});
    if let Some(name) = text(&details, "sni") {
        tls["sni"] = name.into();
    }
    if let Some(hash) = text(&details, "ja3") {
        tls["ja3"] = json!({"hash": hash});
    }
    if let Some(ja4) = text(&details, "ja4") {
        tls["ja4"] = ja4.into();
    }
    if let Some(alpn) = details.get("alpn").filter(|alpn| alpn.is_array()) {
        tls["client_alpns"] = alpn.clone();
    }
    json!({"app_proto": "tls", "tls": tls})
}

/// What a sensor has said of a packet, as it said it.
fn alert(record: &Record) -> Value {
    let details = details(record);
    let mut alert = Map::new();
    for (ours, theirs) in [("gid", "gid"), ("sid", "signature_id"), ("rev", "rev"), ("severity", "severity")] {
        alert.insert(theirs.to_owned(), details.get(ours).and_then(Value::as_u64).unwrap_or(0).into());
    }
    for name in ["action", "signature", "category"] {
        if let Some(word) = text(&details, name) {
            alert.insert(name.to_owned(), word.into());
        }
    }
    json!({"app_proto": text(&details, "app_proto"), "alert": alert})
}

fn file(record: &Record) -> Value {
    let details = details(record);
    let is_cut = details.contains_key("cut");
    let mut file = json!({
        "filename": text(&details, "path").unwrap_or(""),
        "gaps": false,
        "state": if is_cut { "TRUNCATED" } else { "CLOSED" },
        "stored": details.contains_key("content"),
        "size": details.get("size").and_then(Value::as_u64).unwrap_or(0),
        "tx_id": 0,
    });
    if let Some(sha256) = text(&details, "sha256") {
        file["sha256"] = sha256.into();
    }
    json!({"app_proto": "ssh", "fileinfo": file})
}
