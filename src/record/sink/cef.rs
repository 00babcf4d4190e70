//! ArcSight's Common Event Format, version 0 (*Implementing ArcSight Common Event Format*): a header between bars, and
//! pairs of key and value.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::fields::{clean, details, password, text};
use super::table;
use crate::event::EventId::{ContainerConnect, ContainerListen};
use crate::record::details::placed_path;
use crate::record::schema::Record;

/// Characters of a value before the one that says that it is cut: the format gives 1,023 to those that are longest.
const LONG: usize = 1022;

/// The message that tells of `record`.
pub fn message(record: &Record) -> Vec<u8> {
    let row = table::of(record.event);
    let mut line = format!(
        "CEF:0|honeyweave|honeyweave|{}|{}|{}|{}|",
        env!("CARGO_PKG_VERSION"),
        record.event.as_str(),
        header(row.title),
        row.severity
    );
    let details = details(record);
    for (number, (key, value)) in pairs(record, &details).into_iter().enumerate() {
        if number > 0 {
            line.push(' ');
        }
        line.push_str(key);
        line.push('=');
        extension(&mut line, &value);
    }
    line.into_bytes()
}

fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|")
}

fn extension(line: &mut String, value: &str) {
    for c in clean(value, LONG).chars() {
        if matches!(c, '=' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
}

fn pairs(record: &Record, details: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let mut pair = |key: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            pairs.push((key, value));
        }
    };
    let word = |name: &str| text(details, name).map(str::to_owned);
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let count = |name: &str| number(details.get(name).and_then(Value::as_u64));
    pair("rt", Some((record.time.micros() / 1000).to_string()));
    pair("externalId", Some(record.seq.to_string()));
    // Addresses of version 6 have keys of their own.
    for (end, keys) in [
        (&record.src, ["src", "c6a2", "c6a2Label", "Source IPv6 Address", "spt", "smac"]),
        (&record.dst, ["dst", "c6a3", "c6a3Label", "Destination IPv6 Address", "dpt", "dmac"]),
    ] {
        let Some(end) = end else { continue };
        match end.ip {
            Some(IpAddr::V4(ip)) => pair(keys[0], Some(ip.to_string())),
            Some(IpAddr::V6(ip)) => {
                pair(keys[1], Some(ip.to_string()));
                pair(keys[2], Some(keys[3].to_owned()));
            }
            None => {}
        }
        pair(keys[4], end.port.map(|port| port.to_string()));
        pair(keys[5], end.mac.map(|mac| mac.to_string()));
    }
    let inside = word("protocol").filter(|_| matches!(record.event, ContainerConnect | ContainerListen));
    pair("proto", record.proto.map(|proto| proto.as_str().to_uppercase()).or(inside.map(|name| name.to_uppercase())));
    pair("act", record.answer.map(|answer| answer.as_str().to_owned()));
    pair("cnt", number(record.count));
    pair("in", number(record.bytes_in));
    pair("out", number(record.bytes_out));
    pair("reason", record.reason.clone());
    let outcome = details.get("accepted").and_then(Value::as_bool);
    pair("outcome", outcome.map(|accepted| if accepted { "success" } else { "failure" }.to_owned()));
    pair("duser", word("user"));
    pair("duid", count("uid"));
    pair("dproc", word("name").filter(|_| record.event.is_inside()).or(word("program")));
    pair("dpid", count("pid"));
    let path = placed_path(details);
    pair("fname", path.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()));
    pair("filePath", path);
    pair("filePermission", word("mode"));
    pair("fsize", count("size"));
    pair("fileHash", word("sha256"));
    pair("requestClientApplication", word("banner"));
    pair("dhost", word("sni").or_else(|| word("host")));
    for (keys, label, value) in [
        (["cs1", "cs1Label"], "session", record.session.map(|session| session.to_string())),
        (["cs2", "cs2Label"], "node", record.node.clone()),
        (["cs3", "cs3Label"], "command", word("command").or_else(|| arguments(details))),
        (["cs4", "cs4Label"], "password", password(details).map(str::to_owned)),
        (["cs5", "cs5Label"], "fingerprint", word("hassh").or(word("ja4")).or(word("fingerprint"))),
        (["cs6", "cs6Label"], "cause", record.cause.map(|cause| cause.to_string())),
    ] {
        if value.as_deref().is_some_and(|value| !value.is_empty()) {
            pair(keys[0], value);
            pair(keys[1], Some(label.to_owned()));
        }
    }
    let said = record.text.as_ref().filter(|_| details.is_empty());
    pair("msg", said.cloned().or_else(|| word("signature")).or_else(|| word("text")));
    pairs
}

/// A program's, as one line.
fn arguments(details: &Map<String, Value>) -> Option<String> {
    let args = details.get("args")?.as_array()?;
    Some(args.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
}
