//! What proves who somebody is, in records.

use serde_json::{Map, Value};

use crate::event::EventId;
use crate::record::Record;
use crate::record::base64;

/// Headers of HTTP whose values let somebody in.
const HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
/// Members of what is told of a log-in.
const MEMBERS: [&str; 3] = ["password", "challenge", "response"];

/// Leaves out of `record` what an attacker has said to prove who they are. First octets, of which nobody knows what they
/// are, go altogether.
pub fn redact(record: &mut Record) {
    let told = record.data.as_deref().and_then(base64::decode);
    let Some(data) = told else { return };
    let redacted = match record.event {
        EventId::TcpData => None,
        EventId::UdpDatagram if is_snmp(record) => None,
        EventId::ServiceLogin => log_in(&data),
        EventId::ServiceRequest => Some(request(&data)),
        _ => return,
    };
    let text = redacted.as_deref().map(|data| String::from_utf8_lossy(data).into_owned());
    record.text = record.text.take().and(text).map(|text| crate::record::escape(&text).into_owned());
    record.data = redacted.map(|data| base64::encode(&data));
}

fn is_snmp(record: &Record) -> bool {
    record.dst.as_ref().and_then(|dst| dst.port).is_some_and(|port| matches!(port, 161 | 162))
}

/// A log-in without the password. What is no JSON object, or was cut, is not told at all.
fn log_in(data: &[u8]) -> Option<Vec<u8>> {
    let mut told: Map<String, Value> = serde_json::from_slice(data).ok()?;
    for member in MEMBERS {
        // Tapes have left it out already where they tell of a log-in.
        if let Some(value) = told.get_mut(member).filter(|value| !value.as_str().is_some_and(is_length)) {
            let count = value.as_str().map_or(0, |text| text.chars().count());
            *value = format!("({count} characters)").into();
        }
    }
    Some(ascii(&Value::Object(told)))
}

/// The text of `value` in ASCII, as events tell it.
pub(super) fn ascii(value: &Value) -> Vec<u8> {
    let octets = |c: char| match c {
        ' '..='~' => c.to_string(),
        c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    value.to_string().chars().flat_map(|c| octets(c).into_bytes()).collect()
}

/// Whether that is what stands for a secret.
fn is_length(text: &str) -> bool {
    let count = text.strip_prefix('(').and_then(|text| text.strip_suffix(" characters)"));
    count.is_some_and(|count| !count.is_empty() && count.bytes().all(|octet| octet.is_ascii_digit()))
}

fn begins_with_length(text: &[u8]) -> bool {
    let end = text.iter().position(|octet| *octet == b')').map_or(0, |at| at + 1);
    std::str::from_utf8(&text[..end]).is_ok_and(is_length)
}

/// A request without the query of its first line, and the values of headers that let somebody in.
fn request(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for (number, line) in data.split_inclusive(|octet| *octet == b'\n').enumerate() {
        let end = line.len() - line.iter().rev().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let (text, end) = line.split_at(end);
        match text.iter().position(|octet| if number == 0 { *octet == b'?' } else { *octet == b':' }) {
            // Tapes have left it out already.
            Some(at) if number == 0 && !begins_with_length(&text[at + 1..]) => {
                let (before, query) = text.split_at(at + 1);
                let len = query.iter().position(|octet| *octet == b' ').unwrap_or(query.len());
                out.extend_from_slice(before);
                out.extend_from_slice(format!("({len} characters)").as_bytes());
                out.extend_from_slice(query.get(len..).unwrap_or_default());
            }
            Some(at) if HEADERS.iter().any(|name| text[..at].trim_ascii().eq_ignore_ascii_case(name.as_bytes())) => {
                out.extend_from_slice(&text[..at]);
                let value = text[at + 1..].trim_ascii();
                out.extend_from_slice(format!(": ({} characters)", value.len()).as_bytes());
            }
            _ => out.extend_from_slice(text),
        }
        out.extend_from_slice(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Utc;
    use crate::record::End;

    fn told(event: EventId, port: u16, data: &str) -> (Option<String>, Option<String>) {
        let mut record = Record::bare(1, Utc::EPOCH, event);
        record.dst = Some(End { port: Some(port), ..End::default() });
        (record.data, record.text) =
            (Some(base64::encode(data.as_bytes())), Some(crate::record::escape(data).into_owned()));
        redact(&mut record);
        let data = record.data.map(|data| String::from_utf8(base64::decode(&data).unwrap()).unwrap());
        assert_eq!(record.text, data.as_deref().map(|data| crate::record::escape(data).into_owned()));
        (data, record.text)
    }

    #[test]
    fn nothing_that_lets_somebody_in_is_told() {
        let login = r#"{"method":"ftp","user":"r\u00f6\\ot","password":"hunter2\u0000","response":"abcd"}"#;
        let (data, _) = told(EventId::ServiceLogin, 21, login);
        let value: Value = serde_json::from_str(&data.clone().unwrap()).unwrap();
        assert_eq!(value["user"], "rö\\ot");
        assert_eq!((&value["password"], &value["response"]), (&"(8 characters)".into(), &"(4 characters)".into()));
        assert!(data.as_ref().unwrap().is_ascii());
        assert_eq!(told(EventId::ServiceLogin, 21, data.as_deref().unwrap()).0, data, "once is enough");
        assert_eq!(told(EventId::ServiceLogin, 21, r#"{"password":"hun"#), (None, None));
        let http = "GET /login?user=a&pw=hunter2 HTTP/1.1\r\nHost: a:80\r\nAUTHORIZATION: Basic aHVudGVyMg==\r\nCookie:x\r\n\r\n";
        let without = "GET /login?(17 characters) HTTP/1.1\r\nHost: a:80\r\nAUTHORIZATION: (18 characters)\r\nCookie: (1 characters)\r\n\r\n";
        assert_eq!(told(EventId::ServiceRequest, 80, http).0.unwrap(), without);
        let once = "GET /login?(17 characters) host=a agent=b";
        assert_eq!(told(EventId::ServiceRequest, 80, once).0.unwrap(), once);
        assert_eq!(told(EventId::ServiceRequest, 6379, "CONFIG GET dir").0.unwrap(), "CONFIG GET dir");
        assert_eq!(told(EventId::TcpData, 9999, "USER a\r\nPASS hunter2\r\n"), (None, None));
        assert_eq!(told(EventId::UdpDatagram, 161, "public"), (None, None));
        assert_eq!(told(EventId::UdpDatagram, 53, "a question").0.unwrap(), "a question");
        assert_eq!(told(EventId::TlsHello, 443, "{}").0.unwrap(), "{}");
    }
}
