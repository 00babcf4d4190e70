//! Events that tell of a connection, or of how it is recorded.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::event::{Event, EventId, MAX_DATA, Party, SessionId, Utc};
use crate::record::ascii::ascii;
use crate::relay::tape::{Begin, ChannelKind, Credential, Text};
use crate::wire::Instant;

const TCP: u8 = 6;

/// An event that is to be written into the log. The event's own time means nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// When it happened.
    pub at: Utc,
    /// What.
    pub event: Event,
    /// What belongs to it.
    pub data: Vec<u8>,
}

impl Notice {
    /// Something about the recording itself, of which it is one of `count`.
    pub(super) fn of_recording(id: EventId, at: Utc, count: u64, why: &str) -> Notice {
        let event = Event { count, ..Event::new(id, Instant::ZERO) };
        Notice { at, event, data: why.bytes().take(MAX_DATA).collect() }
    }

    /// The same of the recording of one session.
    pub(super) fn of_session(id: EventId, at: Utc, session: SessionId, why: &str) -> Notice {
        let mut notice = Notice::of_recording(id, at, 1, why);
        notice.event.session = session;
        notice
    }

    /// Something that an attacker did in the connection that `begin` tells of.
    pub(super) fn of_connection(id: EventId, at: Utc, begin: &Begin, data: Map<String, Value>) -> Notice {
        // There are many log-ins, and few need more room for a key.
        let is_small = id == EventId::SshLogin && !data.contains_key("key");
        let most = if is_small { MAX_DATA } else { id.most_data() };
        Notice::of(id, at, begin, fitted_to(data, most))
    }

    /// The same, in words.
    pub(super) fn of_text(id: EventId, at: Utc, begin: &Begin, text: &str) -> Notice {
        Notice::of(id, at, begin, text.bytes().take(MAX_DATA).collect())
    }

    fn of(id: EventId, at: Utc, begin: &Begin, data: Vec<u8>) -> Notice {
        let mut event = Event::new(id, Instant::ZERO);
        event.session = begin.session;
        event.node = begin.node.0;
        (event.src, event.dst, event.proto) = (party(begin.peer), party(begin.local), TCP);
        Notice { at, event, data }
    }
}

fn party(addr: SocketAddr) -> Party {
    Party { ip: addr.ip().into(), l4_port: addr.port(), ..Party::default() }
}

/// `object` in ASCII, its longest strings cut until all of it goes along with an event.
pub(in crate::record) fn fitted(object: Map<String, Value>) -> Vec<u8> {
    fitted_to(object, MAX_DATA)
}

fn fitted_to(object: Map<String, Value>, most: usize) -> Vec<u8> {
    let mut value = Value::Object(object);
    loop {
        let text = ascii(&value.to_string());
        if text.len() <= most {
            return text.into_bytes();
        }
        // Each cut halves a string or a list, and what has neither is small.
        if !cut_longest(&mut value) && !cut_most(&mut value) {
            return b"{}".to_vec();
        }
    }
}

/// Whether all of `object` goes along with an event.
pub(in crate::record) fn fits(object: &Map<String, Value>) -> bool {
    serde_json::to_string(object).is_ok_and(|json| ascii(&json).len() <= MAX_DATA)
}

/// Halves the longest string in `value`; returns whether there is one worth it.
fn cut_longest(value: &mut Value) -> bool {
    fn strings<'a>(value: &'a mut Value, found: &mut Vec<&'a mut String>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.iter_mut().for_each(|item| strings(item, found)),
            Value::Object(members) => members.values_mut().for_each(|member| strings(member, found)),
            _ => {}
        }
    }
    // More answers than could be told at all are not cut one by one.
    const MOST: usize = 32;
    if let Value::Object(members) = value {
        for member in members.values_mut() {
            if let Value::Array(items) = member
                && items.len() > MOST
            {
                items.truncate(MOST);
                return true;
            }
        }
    }
    let mut found = Vec::new();
    strings(value, &mut found);
    let Some(longest) = found.into_iter().max_by_key(|text| text.len()) else { return false };
    let count = longest.chars().count();
    if count < 4 {
        return false;
    }
    *longest = longest.chars().take(count / 2 - 1).chain(['…']).collect();
    true
}

/// Halves the longest list in `value`; returns whether there is one of more than one item.
fn cut_most(value: &mut Value) -> bool {
    let Value::Object(members) = value else { return false };
    let lists = members.values_mut().filter_map(Value::as_array_mut);
    match lists.max_by_key(|items| items.len()) {
        Some(items) if items.len() > 1 => {
            items.truncate(items.len() / 2);
            true
        }
        _ => false,
    }
}

/// What an older tape does not tell is left out.
pub(super) fn said(text: &Text) -> Option<&Text> {
    Some(text).filter(|text| !text.as_str().is_empty())
}

/// What is told of an attempt to log in; of one that nobody had asked for nothing tells whether it was accepted.
pub(super) fn login(user: &Text, credential: &Credential, accepted: Option<bool>) -> Value {
    let mut told = match credential {
        Credential::None => json!({"user": user, "method": "none"}),
        Credential::Password { password } => json!({"user": user, "method": "password", "password": password}),
        Credential::PasswordChange { old, new } => {
            json!({"user": user, "method": "password-change", "password": old, "new_password": new})
        }
        Credential::KeyboardInteractive { answers } => {
            json!({"user": user, "method": "keyboard-interactive", "answers": answers})
        }
        Credential::PublicKey { algorithm, fingerprint, signed, key } => json!({
            "user": user, "method": "publickey", "algorithm": algorithm, "fingerprint": fingerprint, "signed": signed,
            "key": said(key),
        }),
        Credential::Digest { scheme, value } => json!({"user": user, "method": scheme, "response": value}),
    };
    match accepted {
        Some(accepted) => told["accepted"] = accepted.into(),
        None => told["asked"] = false.into(),
    }
    told
}

/// What is told of a connection that was wanted beyond the host.
pub(super) fn forward(kind: &ChannelKind, refused: Option<&Text>) -> Value {
    let mut told = match kind {
        ChannelKind::Session => json!({"kind": "session"}),
        ChannelKind::Stream => json!({"kind": "stream"}),
        ChannelKind::DirectTcpip { host, port, from } => {
            json!({"kind": "direct-tcpip", "host": host, "port": port, "from": said(from)})
        }
        ChannelKind::DirectStreamlocal { path } => json!({"kind": "direct-streamlocal", "path": path}),
        ChannelKind::ForwardedTcpip { host, port, from } => {
            json!({"kind": "forwarded-tcpip", "host": host, "port": port, "from": from})
        }
        ChannelKind::Agent => json!({"kind": "agent"}),
        ChannelKind::X11 => json!({"kind": "x11"}),
    };
    told["accepted"] = refused.is_none().into();
    if let Some(reason) = refused {
        told["reason"] = reason.as_str().into();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: Value) -> (usize, Value) {
        let Value::Object(object) = value else { panic!() };
        let data = fitted(object);
        assert!(data.iter().all(|octet| matches!(octet, b' '..=b'~')), "{data:?}");
        (data.len(), serde_json::from_slice(&data).unwrap())
    }

    #[test]
    fn whatever_is_told_fits_into_an_event() {
        let small = json!({"user": "root", "password": "пароль", "accepted": true});
        assert_eq!(told(small.clone()).1, small);
        assert_eq!(told(json!({"user": "\u{7f}\u{1b}"})).1, json!({"user": "\u{7f}\u{1b}"}));
        let long = "\\x1b".repeat(1000);
        let (len, cut) = told(json!({"user": long, "password": "secret", "accepted": false}));
        assert!((400..=MAX_DATA).contains(&len), "{len}");
        assert_eq!((&cut["password"], &cut["accepted"]), (&json!("secret"), &json!(false)));
        assert!(cut["user"].as_str().unwrap().starts_with("\\x1b") && cut["user"].as_str().unwrap().ends_with('…'));
        let (_, many) = told(json!({"answers": vec!["漢字".repeat(500); 5000]}));
        assert_eq!(many["answers"].as_array().unwrap().len(), 32);
        // What is too short to be cut may be too much all the same: `\ud840\udc00` is one letter.
        let (_, short) = told(json!({"path": "/bin/sh", "args": vec!["\u{20000}\u{20000}\u{20000}"; 32]}));
        assert_eq!((&short["path"], short["args"].as_array().unwrap().len()), (&json!("/bin/sh"), 16));
    }
}
