//! What proves who somebody is, in records.

use serde_json::{Map, Value};

use crate::event::EventId;
use crate::record::Record;
use crate::record::ascii::ascii;
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
        EventId::UdpDatagram if has_headers(line(&data).0) => Some(request(&data)),
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
            *value = length(count).into();
        }
    }
    Some(ascii(&Value::Object(told).to_string()).into_bytes())
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

/// A request without the query of its first line, the values of headers that let somebody in, and what follows the
/// headers. Of what has none, that is the first line: nobody knows what the others are.
fn request(data: &[u8]) -> Vec<u8> {
    let (first, mut rest) = line(data);
    let mut out = Vec::with_capacity(data.len());
    match first.iter().position(|octet| *octet == b'?').map(|at| first.split_at(at + 1)) {
        // Tapes have left it out already.
        Some((before, query)) if !begins_with_length(query) => {
            let len = query.iter().position(u8::is_ascii_whitespace).unwrap_or(query.len());
            out.extend_from_slice(before);
            out.extend_from_slice(length(len).as_bytes());
            out.extend_from_slice(query.get(len..).unwrap_or_default());
        }
        _ => out.extend_from_slice(first),
    }
    if has_headers(first) {
        while let (header, after) = line(rest)
            && let Some((name, value)) = named(header)
        {
            rest = after;
            if HEADERS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                let (value, end) = value.split_at(value.trim_ascii_end().len());
                left_out(value.trim_ascii_start(), &mut out);
                out.extend_from_slice(end);
            } else {
                out.extend_from_slice(header);
            }
        }
    }
    let (blank, rest) = rest.split_at(rest.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count());
    out.extend_from_slice(blank);
    if !rest.is_empty() {
        left_out(rest, &mut out);
    }
    out
}

/// Writes what stands for `secret`, which may have been left out already.
fn left_out(secret: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(secret) {
        Ok(text) if is_length(text) => out.extend_from_slice(secret),
        _ => out.extend_from_slice(length(secret.len()).as_bytes()),
    }
}

/// What stands for so many characters.
fn length(characters: usize) -> String {
    format!("({characters} characters)")
}

/// The first line of `data` with its end, and what follows.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    data.split_at(data.iter().position(|octet| *octet == b'\n').map_or(data.len(), |at| at + 1))
}

/// Whether that is the first line of a message with headers: of HTTP (RFC 9112 §3) or SIP (RFC 3261 §7.1).
fn has_headers(first: &[u8]) -> bool {
    let last = first.trim_ascii_end().rsplit(|octet| *octet == b' ').next().unwrap_or_default();
    [&b"HTTP/"[..], b"SIP/"].iter().any(|protocol| last.starts_with(protocol))
}

/// The name and the value of a header, if it is one: what precedes the colon is a token (RFC 9110 §5.6.2).
fn named(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = header.split_at(header.iter().position(|octet| *octet == b':')?);
    let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    let name = name.trim_ascii_end();
    (!name.is_empty() && name.iter().all(is_token)).then_some((name, value.get(1..).unwrap_or_default()))
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
        // What is no HTTP, or stops being one.
        for (sent, left) in [
            ("POST /login\r\n\r\npw=hunter2", "POST /login\r\n\r\n(10 characters)"),
            ("SSH-2.0-x\r\nAuthorization: hunter2\r\n", "SSH-2.0-x\r\n(24 characters)"),
            ("POST / HTTP/1.1\r\nA: b\r\n\r\npw=hunter2", "POST / HTTP/1.1\r\nA: b\r\n\r\n(10 characters)"),
            ("POST / HTTP/1.1\nA: b\npw=hunter2&a:b\n", "POST / HTTP/1.1\nA: b\n(15 characters)"),
            (
                "GET / HTTP/1.1\r\nCookie: a\r\n hunter2\r\n",
                "GET / HTTP/1.1\r\nCookie: (1 characters)\r\n(10 characters)",
            ),
        ] {
            assert_eq!(told(EventId::ServiceRequest, 80, sent).0.unwrap(), left);
            assert_eq!(told(EventId::ServiceRequest, 80, left).0.unwrap(), left, "once is enough");
        }
        let sip = |secret: &str| format!("REGISTER sip:a SIP/2.0\r\nVia: b\r\nAuthorization: {secret}\r\n\r\n");
        for event in [EventId::ServiceRequest, EventId::UdpDatagram] {
            assert_eq!(told(event, 5060, &sip("Digest response=\"0\"")).0.unwrap(), sip("(19 characters)"));
        }
        assert_eq!(told(EventId::TcpData, 9999, "USER a\r\nPASS hunter2\r\n"), (None, None));
        assert_eq!(told(EventId::UdpDatagram, 161, "public"), (None, None));
        assert_eq!(told(EventId::UdpDatagram, 53, "a question").0.unwrap(), "a question");
        assert_eq!(told(EventId::TlsHello, 443, "{}").0.unwrap(), "{}");
    }
}
