//! JSON as the honeypot Cowrie writes it (<https://docs.cowrie.org/en/latest/OUTPUT.html>): a line an event, told apart
//! by `eventid`.
//!
//! Cowrie's session is a connection, ours is all that an attacker does on a host: `session` here is a number made of our
//! session and the connection's ports, `honeyweave_session` is ours. Cowrie tells of connections that SSH or Telnet
//! listens for, so `tcp.open` and `tcp.close` are told where that is by custom, and elsewhere the beginning
//! and end of what turned out to be SSH.

use serde_json::{Map, Value, json};

use super::Origin;
use super::fields::{LONGEST, clean, connection, details, password, text};
use crate::event::EventId;
use crate::record::schema::Record;

/// What SSH or Telnet is by custom at a port.
fn usual(port: Option<u16>) -> Option<&'static str> {
    match port? {
        22 | 2222 => Some("ssh"),
        23 | 2323 => Some("telnet"),
        _ => None,
    }
}

/// Every `eventid` that may tell of an event.
#[cfg(test)]
pub fn ids(id: EventId) -> &'static [&'static str] {
    match id {
        EventId::TcpOpen => &["cowrie.session.connect"],
        EventId::TcpClose => &["cowrie.session.closed"],
        EventId::SshHello => &["cowrie.session.connect", "cowrie.client.version", "cowrie.client.kex"],
        EventId::SshLogin => &["cowrie.login.success", "cowrie.login.failed", "cowrie.client.fingerprint"],
        EventId::ServiceLogin => &["cowrie.login.success", "cowrie.login.failed"],
        EventId::ServiceRequest | EventId::SshCommand | EventId::ShellCommand => &["cowrie.command.input"],
        EventId::SshShell => &["cowrie.client.size"],
        EventId::SshFile => &["cowrie.session.file_upload"],
        EventId::SshForward => &["cowrie.direct-tcpip.request"],
        EventId::SshClose => &["cowrie.session.closed"],
        _ => &[],
    }
}

/// The messages that tell of `record`.
pub fn messages(record: &Record, origin: &Origin) -> Vec<Vec<u8>> {
    let told = told(record);
    told.into_iter().map(|(id, message, members)| line(record, origin, id, message, members)).collect()
}

type Told = (&'static str, String, Value);

fn told(record: &Record) -> Vec<Told> {
    let details = details(record);
    let port = record.dst.as_ref().and_then(|dst| dst.port);
    let word = |name: &str| text(&details, name).unwrap_or("").to_owned();
    match record.event {
        EventId::TcpOpen if usual(port).is_some() => vec![connect(record)],
        EventId::TcpClose if usual(port).is_some() => vec![closed(record)],
        EventId::SshHello => hello(record, &details, usual(port) != Some("ssh")),
        EventId::SshLogin => login(&details),
        EventId::ServiceLogin if is_telnet(record, &details) => login(&details),
        EventId::SshShell => size(&word("size")).into_iter().collect(),
        EventId::SshCommand | EventId::ShellCommand => vec![input(&word("command"))],
        EventId::ServiceRequest if usual(port) == Some("telnet") => {
            record.text.iter().map(|text| input(&clean(text, LONGEST))).collect()
        }
        EventId::SshFile if matches!(text(&details, "direction"), Some("upload" | "input")) => vec![upload(&details)],
        EventId::SshForward if text(&details, "kind") == Some("direct-tcpip") => vec![forward(&details)],
        EventId::SshClose if usual(port) != Some("ssh") => vec![closed(record)],
        _ => Vec::new(),
    }
}

fn is_telnet(record: &Record, details: &Map<String, Value>) -> bool {
    let port = record.dst.as_ref().and_then(|dst| dst.port);
    text(details, "method") == Some("telnet") || usual(port) == Some("telnet")
}

fn connect(record: &Record) -> Told {
    let shown = |end: &Option<crate::record::End>| {
        let ip = end.as_ref().and_then(|end| end.ip).map(|ip| ip.to_string()).unwrap_or_default();
        format!("{ip}:{}", end.as_ref().and_then(|end| end.port).unwrap_or(0))
    };
    let message =
        format!("New connection: {} ({}) [session: {}]", shown(&record.src), shown(&record.dst), session(record));
    ("cowrie.session.connect", message, json!({}))
}

fn closed(record: &Record) -> Told {
    let seconds = record.duration_us.unwrap_or(0) as f64 / 1e6;
    let message = format!("Connection lost after {seconds:.1} seconds");
    ("cowrie.session.closed", message, json!({"duration": seconds}))
}

fn hello(record: &Record, details: &Map<String, Value>, begins: bool) -> Vec<Told> {
    let mut told = if begins { vec![connect(record)] } else { Vec::new() };
    let version = text(details, "banner").unwrap_or("");
    told.push(("cowrie.client.version", format!("Remote SSH version: {version}"), json!({"version": version})));
    if let Some(hassh) = text(details, "hassh").filter(|hassh| !hassh.is_empty()) {
        let message = format!("SSH client hassh fingerprint: {hassh}");
        told.push(("cowrie.client.kex", message, json!({"hassh": hassh})));
    }
    told
}

fn login(details: &Map<String, Value>) -> Vec<Told> {
    let user = text(details, "user").unwrap_or("");
    let is_in = details.get("accepted").and_then(Value::as_bool).unwrap_or(false);
    let mut told = Vec::new();
    if let Some(fingerprint) = text(details, "fingerprint") {
        let kind = text(details, "algorithm").unwrap_or("");
        let message = format!("public key attempt for user {user} of type {kind} with fingerprint {fingerprint}");
        let members = json!({"username": user, "fingerprint": fingerprint, "type": kind});
        told.push(("cowrie.client.fingerprint", message, members));
        if !is_in {
            return told;
        }
    }
    let password = password(details).unwrap_or("");
    let (id, how) = if is_in { ("cowrie.login.success", "succeeded") } else { ("cowrie.login.failed", "failed") };
    let message = format!("login attempt [{user}/{password}] {how}");
    told.push((id, message, json!({"username": user, "password": password})));
    told
}

fn size(size: &str) -> Option<Told> {
    let (width, height) = size.split_once('x')?;
    let (width, height): (u16, u16) = (width.parse().ok()?, height.parse().ok()?);
    let message = format!("Terminal Size: {width} {height}");
    Some(("cowrie.client.size", message, json!({"width": width, "height": height})))
}

fn input(command: &str) -> Told {
    ("cowrie.command.input", format!("CMD: {command}"), json!({"input": command}))
}

fn upload(details: &Map<String, Value>) -> Told {
    let word = |name| text(details, name).unwrap_or("");
    let (name, content) = (word("path"), word("content"));
    let members = json!({
        "filename": name,
        "outfile": content,
        "shasum": word("sha256"),
        "size": details.get("size"),
    });
    ("cowrie.session.file_upload", format!("Uploaded file \"{name}\" to {content}"), members)
}

fn forward(details: &Map<String, Value>) -> Told {
    let host = text(details, "host").unwrap_or("");
    let port = details.get("port").and_then(Value::as_u64).unwrap_or(0);
    let message = format!("direct-tcp connection request to {host}:{port}");
    ("cowrie.direct-tcpip.request", message, json!({"dst_ip": host, "dst_port": port}))
}

/// Twelve hexadecimal digits, as Cowrie's have.
fn session(record: &Record) -> String {
    format!("{:012x}", connection(record) >> 16)
}

fn line(record: &Record, origin: &Origin, id: &str, message: String, members: Value) -> Vec<u8> {
    let port = record.dst.as_ref().and_then(|dst| dst.port);
    let is_ssh = record.event.as_str().starts_with("ssh.") || record.event == EventId::ShellCommand;
    let mut line = json!({
        "eventid": id,
        "timestamp": record.time,
        "session": session(record),
        "src_ip": record.src.as_ref().and_then(|src| src.ip),
        "src_port": record.src.as_ref().and_then(|src| src.port),
        "dst_ip": record.dst.as_ref().and_then(|dst| dst.ip),
        "dst_port": port,
        "protocol": if is_ssh { "ssh" } else { usual(port).unwrap_or("telnet") },
        "sensor": origin.honeynet,
        "message": message,
    });
    if let (Value::Object(line), Value::Object(members)) = (&mut line, members) {
        line.extend(members);
        line.insert("honeyweave_session".into(), json!(record.session.map(|session| session.to_string())));
        line.insert("honeyweave_seq".into(), json!(record.seq));
        line.retain(|_, value| !value.is_null());
    }
    line.to_string().into_bytes()
}
