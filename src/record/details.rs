//! What the JSON objects of events have in them: the members of each event's, which are all that this version knows.
//!
//! An object is `data` of a record, in base64. The published schema has it as the `contentSchema` of that, which validators
//! leave to whoever decodes the content; `demo/valid.py` does.

use serde_json::{Map, Value, json};

use crate::event::EventId;
use crate::relay::tape::Reason;

/// A path, with the directory that it is relative to, if that is known.
pub fn placed(directory: Option<&[u8]>, path: &[u8]) -> Vec<u8> {
    match directory.filter(|_| !path.starts_with(b"/")) {
        Some(directory) => {
            let directory = directory.strip_suffix(b"/").unwrap_or(directory);
            [directory, b"/", path.strip_prefix(b"./").unwrap_or(path)].concat()
        }
        None => path.to_vec(),
    }
}

/// The path of an event from inside, in the same way.
pub fn placed_path(object: &Map<String, Value>) -> Option<String> {
    let text = |name| object.get(name).and_then(Value::as_str).map(str::as_bytes);
    Some(String::from_utf8_lossy(&placed(text("dir"), text("path")?)).into_owned())
}

/// What a member is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A text, most of them an attacker's.
    Text,
    /// The same; nothing in records of a version before this one.
    TextOrNull,
    /// One of these.
    Word(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A number that is not negative.
    Number,
    /// Yes or no.
    Flag,
    /// Not yes or no, but the former or nothing.
    Yes,
}

/// A member of an event's object.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    name: &'static str,
    kind: Kind,
    /// Whether each has it.
    always: bool,
}

const fn may(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, always: false }
}

const fn has(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, always: true }
}

use Kind::{Flag, Number, Text, TextOrNull, Texts, Word, Yes};

const FORWARDS: &[&str] =
    &["direct-tcpip", "direct-streamlocal", "forwarded-tcpip", "agent", "x11", "listen", "agent-offer"];
const DEEDS: &[&str] =
    &["open", "write", "delete", "rename", "link", "symlink", "truncate", "executable", "mkdir", "mknod"];
const NODES: &[&str] = &["file", "fifo", "socket", "character", "block"];

const UID: Member = may("uid", Number);
const PID: Member = may("pid", Number);
const PARENT: Member = may("parent", Number);
const NAME: Member = may("name", Text);
/// Who told, where that is not eBPF.
const SOURCE: Member = may("source", Word(&["fanotify"]));
const SOCKET: &[Member] = &[may("ip", Text), may("port", Number), may("protocol", Text), NAME, UID, PID, PARENT];

/// A list that is there for good.
macro_rules! list {
    ($($member:expr),* $(,)?) => { const { &[$($member),*] as &'static [Member] } };
}

/// The members of an event's object; none if it has no object.
pub fn members(id: EventId) -> Option<&'static [Member]> {
    use EventId::*;
    Some(match id {
        ServiceLogin => list![
            has("method", Text),
            may("user", Text),
            may("password", Text),
            may("answers", Texts),
            may("realm", Text),
            may("challenge", Text),
            may("response", Text),
            may("accepted", Flag),
            may("asked", Flag),
        ],
        TlsHello => list![may("sni", Text), may("alpn", Texts), may("ja3", Text), may("ja4", Text)],
        TlsCertificate => list![has("sha256", Text), may("subject", Text)],
        SshHello => list![
            has("banner", Text),
            has("hassh", Text),
            may("kex", Text),
            may("keys", Text),
            may("ciphers", Text),
            may("macs", Text),
            may("compression", Text),
            may("languages", Text),
        ],
        SshLogin => list![
            has("user", Text),
            has("method", Text),
            has("accepted", Flag),
            may("password", Text),
            may("new_password", Text),
            may("answers", Texts),
            may("response", Text),
            may("algorithm", Text),
            may("fingerprint", Text),
            may("signed", Flag),
            may("key", Text),
        ],
        SshShell => {
            list![has("kind", Word(&["shell", "subsystem"])), may("name", Text), may("term", Text), may("size", Text)]
        }
        SshEnv => list![has("name", Text), has("value", Text)],
        SshCommand | ShellCommand => list![has("command", Text)],
        SshExit => list![
            has("kind", Word(&["shell", "command", "subsystem"])),
            may("command", Text),
            NAME,
            may("status", Number),
            may("signal", Text),
            may("sha256", Text),
            may("transcript", Text),
            may("no_text", Number),
            may("resumed", Yes),
        ],
        TelnetShell => list![has("kind", Word(&["shell"])), may("term", Text), may("size", Text)],
        TelnetExit => {
            list![has("kind", Word(&["shell"])), may("sha256", Text), may("transcript", Text), may("resumed", Yes),]
        }
        SshFile => list![
            may("path", Text),
            may("direction", Word(&["upload", "download", "input", "output"])),
            has("size", Number),
            may("again", Number),
            may("sha256", Text),
            may("content", Text),
            may("cut", Text),
            may("duplicate", Yes),
        ],
        SshForward => list![
            has("kind", Word(FORWARDS)),
            has("accepted", Flag),
            may("host", Text),
            may("port", Number),
            may("path", Text),
            may("from", Text),
            may("reason", Text),
        ],
        SshForwardData => list![has("host", Text), has("port", Number), has("channel", Number), may("octets", Text)],
        SshClose => list![
            has("reason", Word(&Reason::NAMES)),
            may("detail", Text),
            may("attempts", Number),
            may("channels", Number),
            may("shells", Number),
            may("commands", Number),
            may("files", Number),
            may("forwards", Number),
            may("input", Number),
            may("output", Number),
            may("lost", Number),
            may("lost_lines", Number),
            may("untold", Number),
        ],
        ContainerExec => list![
            has("path", Text),
            may("dir", Text),
            may("args", Texts),
            may("args_cut", Yes),
            may("args_count", Number),
            UID,
            PID,
            PARENT,
            SOURCE,
        ],
        ContainerExit => {
            list![may("code", Number), may("killed", Yes), may("urls", Texts), may("to", Text), NAME, UID, PID, PARENT]
        }
        ContainerFile => list![
            has("did", Word(DEEDS)),
            may("path", TextOrNull),
            may("dir", Text),
            may("to", Text),
            may("flags", Texts),
            may("mode", Text),
            may("kind", Word(NODES)),
            may("device", Text),
            NAME,
            UID,
            PID,
            PARENT,
            SOURCE,
        ],
        ContainerConnect | ContainerListen => SOCKET,
        ContainerRaw => {
            list![has("family", Word(&["ipv4", "ipv6", "packet"])), has("protocol", Text), NAME, UID, PID, PARENT,]
        }
        ContainerLog => {
            list![has("facility", Text), has("severity", Text), may("tag", Text), PID, has("text", Text)]
        }
        ContainerLogin => list![
            has("facility", Text),
            has("severity", Text),
            may("tag", Text),
            PID,
            has("text", Text),
            has("program", Word(&["sshd", "dropbear", "su", "sudo", "login"])),
            has("accepted", Flag),
            may("user", Text),
            may("by", Text),
            may("method", Text),
            may("from", Text),
            may("port", Number),
        ],
        IdsAlert => list![
            has("sid", Number),
            has("gid", Number),
            has("rev", Number),
            has("signature", Text),
            has("category", Text),
            has("severity", Number),
            may("action", Text),
            may("app_proto", Text),
        ],
        _ => return None,
    })
}

/// The JSON Schema of an event's object.
fn schema(members: &[Member]) -> Value {
    let member = |member: &Member| {
        let schema = match member.kind {
            Text => json!({"type": "string"}),
            TextOrNull => json!({"type": ["string", "null"]}),
            Word(words) => json!({"type": "string", "enum": words}),
            Texts => json!({"type": "array", "items": {"type": "string"}}),
            Number => json!({"type": "integer", "minimum": 0}),
            Flag => json!({"type": "boolean"}),
            Yes => json!({"const": true}),
        };
        (member.name.to_owned(), schema)
    };
    let always: Vec<&str> = members.iter().filter(|member| member.always).map(|member| member.name).collect();
    json!({
        "type": "object",
        "properties": members.iter().map(member).collect::<Map<_, _>>(),
        "required": always,
    })
}

/// Adds to the schema of a record what the objects of each event are.
pub fn add_to(record: &mut Value) {
    let (mut rules, mut all) = (Vec::new(), Map::new());
    for id in EventId::ALL {
        let Some(members) = members(*id) else { continue };
        all.insert(id.as_str().to_owned(), schema(members));
        let content = json!({"$ref": format!("#/$defs/{}", id.as_str())});
        let data =
            json!({"contentEncoding": "base64", "contentMediaType": "application/json", "contentSchema": content});
        rules.push(json!({
            "if": {"properties": {"event": {"const": id.as_str()}}},
            "then": {"properties": {"data": data}},
        }));
    }
    if let Some(defs) = record.get_mut("$defs").and_then(Value::as_object_mut) {
        defs.extend(all);
    }
    record["allOf"] = rules.into();
}

/// What is wrong with an event's object that this version writes.
#[cfg(test)]
pub fn complaint(id: EventId, object: &Value) -> Option<String> {
    let Some(members) = members(id) else { return Some(format!("{id:?} has no object")) };
    let Some(object) = object.as_object() else { return Some(format!("{object} is none")) };
    for (name, value) in object {
        let Some(member) = members.iter().find(|member| member.name == name) else {
            return Some(format!("{id:?} has no {name}"));
        };
        let fits = match member.kind {
            Text | TextOrNull => value.is_string(),
            Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
            Number => value.is_u64(),
            Flag => value.is_boolean(),
            Yes => *value == Value::Bool(true),
        };
        if !fits {
            return Some(format!("{id:?}: {name} is {value}"));
        }
    }
    let missing = members.iter().find(|member| member.always && !object.contains_key(member.name));
    missing.map(|member| format!("{id:?} lacks {}: {object:?}", member.name))
}
