//! Syslog messages (RFC 5424), and where one ends in a stream (RFC 6587 §3.4.1, RFC 5425 §4.3).
//!
//! ```text
//! <133>1 2026-01-31T12:00:00.123456Z sensor honeyweave - ssh.login [honeyweave@32473 seq="7" ...] ssh.login 192.0.2.9:40000 -> ...
//! ```
//!
//! The event is the MSGID. Its fields are the parameters of one element of structured data, its details of another. All
//! is ASCII, with whatever is not written out, so that no receiver has to guess an encoding.

use serde_json::Value;

use super::fields::{LONGEST, ascii, details, sentence};
use super::{Origin, table};
use crate::record::schema::Record;

/// The longest message: what receivers take unless they are told otherwise.
pub const MOST: usize = 8192;
/// Octets of the structured data, so that there is room for the rest.
const MOST_DATA: usize = 6000;
/// RFC 5612 reserves this number for documentation: there is none of our own.
const ENTERPRISE: u32 = 32473;

/// The message that tells of `record`.
pub fn message(record: &Record, origin: &Origin) -> Vec<u8> {
    let details = details(record);
    let mut data = element("honeyweave", fields(record, origin));
    if !details.is_empty() {
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let more = element("details", details.iter().map(|(name, value)| (name.as_str(), shown(value))));
        if data.len() + more.len() <= MOST_DATA {
            data.push_str(&more);
        }
    }
    let mut line = format!("{} {data} {}", header(record, origin), sentence(record, &details));
    // The end is text, and all is ASCII.
    line.truncate(MOST);
    line.into_bytes()
}

/// `content`, which is a message of CEF, as one of syslog that has no structured data. What is not ASCII is written out in it:
/// a byte order mark, which RFC 5424 would have before it, stands in the way of those who look for CEF.
pub fn around(record: &Record, origin: &Origin, content: &[u8]) -> Vec<u8> {
    let mut message = format!("{} - ", header(record, origin));
    for c in String::from_utf8_lossy(content).chars() {
        match c {
            ' '..='~' => message.push(c),
            // With the two backslashes that one is in CEF.
            c => message.push_str(&format!("\\\\u{{{:x}}}", u32::from(c))),
        }
    }
    message.into_bytes()
}

/// A message with its length before it.
pub fn octet_counted(message: &[u8]) -> Vec<u8> {
    let mut framed = format!("{} ", message.len()).into_bytes();
    framed.extend_from_slice(message);
    framed
}

fn header(record: &Record, origin: &Origin) -> String {
    let priority = u16::from(origin.facility.min(23)) * 8 + u16::from(table::of(record.event).syslog());
    let host: String = origin.host.chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { host.as_str() };
    format!("<{priority}>1 {} {host} honeyweave - {}", record.time, record.event.as_str())
}

fn fields<'a>(record: &'a Record, origin: &'a Origin) -> impl Iterator<Item = (&'a str, String)> {
    let (src, dst) = (record.src.as_ref(), record.dst.as_ref());
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let word = |word: Option<&String>| word.map(|word| ascii(word, LONGEST));
    [
        ("seq", Some(record.seq.to_string())),
        ("honeynet", Some(ascii(&origin.honeynet, LONGEST))),
        ("session", record.session.map(|session| session.to_string())),
        ("cause", record.cause.map(|cause| cause.to_string())),
        ("node", word(record.node.as_ref())),
        ("src", src.and_then(|end| end.ip).map(|ip| ip.to_string())),
        ("spt", src.and_then(|end| end.port).map(|port| port.to_string())),
        ("smac", src.and_then(|end| end.mac).map(|mac| mac.to_string())),
        ("dst", dst.and_then(|end| end.ip).map(|ip| ip.to_string())),
        ("dpt", dst.and_then(|end| end.port).map(|port| port.to_string())),
        ("dmac", dst.and_then(|end| end.mac).map(|mac| mac.to_string())),
        ("proto", record.proto.map(|proto| proto.as_str().to_owned())),
        ("answer", record.answer.map(|answer| answer.as_str().to_owned())),
        ("scannerOs", record.scanner_os.map(|os| os.to_string())),
        ("reason", word(record.reason.as_ref())),
        ("archive", word(record.archive.as_ref())),
        ("count", number(record.count)),
        ("bytesIn", number(record.bytes_in)),
        ("bytesOut", number(record.bytes_out)),
        ("durationUs", number(record.duration_us)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

fn element<'a>(name: &str, parameters: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut element = format!("[{name}@{ENTERPRISE}");
    for (name, value) in parameters {
        element.push_str(&format!(" {name}=\""));
        for c in ascii(&value, LONGEST).chars() {
            if matches!(c, '"' | '\\' | ']') {
                element.push('\\');
            }
            element.push(c);
        }
        element.push('"');
    }
    element + "]"
}
