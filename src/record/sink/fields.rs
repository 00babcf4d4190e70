//! What the forms have in common: a record's details, texts that break nothing, and numbers for connections.

use std::net::IpAddr;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::event::{EventId, Utc};
use crate::record::base64;
use crate::record::details::members;
use crate::record::schema::{Proto, Record, escape, is_harmless};

/// Characters of a text in a message.
pub const LONGEST: usize = 1024;

/// `text` with whatever is no printable character written out as `\u{N}`, at most `most` characters of it.
pub fn clean(text: &str, most: usize) -> String {
    written_out(text, most, is_harmless, "…")
}

/// The same in ASCII.
pub fn ascii(text: &str, most: usize) -> String {
    written_out(text, most, |c| matches!(c, ' '..='~'), "...")
}

fn written_out(text: &str, most: usize, stays: impl Fn(char) -> bool, more: &str) -> String {
    let mut written = String::with_capacity(text.len().min(most) + 8);
    for (number, c) in text.chars().enumerate() {
        if number == most {
            written.push_str(more);
            break;
        }
        match c {
            c if stays(c) => written.push(c),
            c => written.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    written
}

/// What belongs to an event, if that is a JSON object: each text in it clean, whatever is nested deeper than a list left
/// out.
pub fn details(record: &Record) -> Map<String, Value> {
    let has_any = members(record.event).is_some();
    let data = record.data.as_deref().filter(|_| has_any).and_then(base64::decode).unwrap_or_default();
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(&data) else { return Map::new() };
    // Emulated services tell what was sent as it was, all others as it is shown. The latter know whether somebody was
    // let in.
    let is_bare =
        record.event == EventId::ServiceLogin && !["accepted", "asked"].iter().any(|name| members.contains_key(*name));
    let shown = |text: String| if is_bare { clean(&escape(&text), LONGEST) } else { clean(&text, LONGEST) };
    let plain = |value: Value| match value {
        Value::String(text) => Some(Value::String(shown(text))),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other),
    };
    let member = |(name, value): (String, Value)| {
        let value = match value {
            Value::Array(items) => Value::Array(items.into_iter().filter_map(plain).collect()),
            other => plain(other)?,
        };
        let is_name = !name.is_empty()
            && name.len() <= 32
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_name.then_some((name, value))
    };
    members.into_iter().filter_map(member).collect()
}

/// A text among the details.
pub fn text<'a>(details: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    details.get(name).and_then(Value::as_str)
}

/// What was said to prove who it is: a password, or the first of the answers.
pub fn password(details: &Map<String, Value>) -> Option<&str> {
    let answer = details.get("answers").and_then(|answers| answers.get(0)).and_then(Value::as_str);
    text(details, "password").or(answer).or_else(|| text(details, "response"))
}

/// The record in one line for people, in ASCII.
pub fn sentence(record: &Record, details: &Map<String, Value>) -> String {
    let mut line = record.event.as_str().to_owned();
    if let Some(src) = &record.src {
        line.push_str(&format!(" {src}"));
    }
    if let Some(dst) = &record.dst {
        line.push_str(&format!(" -> {dst}"));
    }
    for (name, number) in [("count", record.count), ("in", record.bytes_in), ("out", record.bytes_out)] {
        if let Some(number) = number {
            line.push_str(&format!(" {name}={number}"));
        }
    }
    if let Some(reason) = &record.reason {
        line.push_str(&format!(": {}", ascii(reason, LONGEST)));
    }
    if !details.is_empty() {
        line.push(' ');
        line.push_str(&ascii(&Value::Object(details.clone()).to_string(), LONGEST));
    } else if let Some(text) = &record.text {
        line.push_str(&format!(" \"{}\"", ascii(text, LONGEST)));
    }
    line
}

/// An address, and a port if there is one.
type Socket = (IpAddr, Option<u16>);

/// The ends of what happened, if both have an address: addresses and ports.
pub fn ends(record: &Record) -> Option<(Socket, Socket)> {
    let (src, dst) = (record.src.as_ref()?, record.dst.as_ref()?);
    Some(((src.ip?, src.port), (dst.ip?, dst.port)))
}

/// The number of a connection: the same in all that tells of it.
pub fn connection(record: &Record) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x686f_6e65_7977_6561, 0x7665_2073_696e_6b73);
    hasher.write_u64(record.session.map_or(0, |session| session.0));
    for end in [&record.src, &record.dst].into_iter().flatten() {
        hasher.write(end.ip.map(|ip| ip.to_string()).unwrap_or_default().as_bytes());
        hasher.write_u16(end.port.unwrap_or(0));
    }
    hasher.finish()
}

/// The Community ID of a flow, version 1 with seed 0 (<https://github.com/corelight/community-id-spec>).
pub fn community_id(record: &Record) -> Option<String> {
    let ((src, src_port), (dst, dst_port)) = ends(record)?;
    let proto = match record.proto? {
        Proto::Tcp => 6u8,
        Proto::Udp => 17,
        _ => return None,
    };
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (one, other) = ((octets(src), src_port?), (octets(dst), dst_port?));
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let mut hashed = vec![0, 0];
    hashed.extend_from_slice(&first.0);
    hashed.extend_from_slice(&second.0);
    hashed.extend_from_slice(&[proto, 0]);
    hashed.extend_from_slice(&first.1.to_be_bytes());
    hashed.extend_from_slice(&second.1.to_be_bytes());
    Some(format!("1:{}", base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed).as_ref())))
}

/// When what ended now began.
pub fn began(record: &Record) -> Utc {
    let lasted = i64::try_from(record.duration_us.unwrap_or(0)).unwrap_or(i64::MAX);
    Utc::from_micros(record.time.micros().saturating_sub(lasted))
}
