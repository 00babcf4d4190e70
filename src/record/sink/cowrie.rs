//! JSON as the honeypot Cowrie writes it (<https://docs.cowrie.org/en/latest/OUTPUT.html>): a line an event, told apart
//! by `eventid`. Events and fields are those of Cowrie 3.1; `tests/golden/cowrie-events.txt` lists them.
//!
//! Cowrie's session is a connection, ours is all that an attacker does on a host: `session` here is a number made of our
//! session and the connection's ports, `honeyweave_session` is ours. Cowrie tells of connections that SSH or Telnet
//! listens for, so `tcp.open` and `tcp.close` are told where that is by custom, and elsewhere the beginning
//! and end of what turned out to be SSH.

use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use super::Origin;
use super::fields::{LONGEST, clean, connection, details, password, text};
use crate::event::EventId;
use crate::record::base64;
use crate::record::schema::Record;
use crate::wire::hex;

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
        EventId::SshLogin => &["cowrie.client.fingerprint", "cowrie.login.success", "cowrie.login.failed"],
        EventId::ServiceLogin => &["cowrie.login.success", "cowrie.login.failed"],
        EventId::ServiceRequest | EventId::ShellCommand => &["cowrie.command.input"],
        EventId::SshCommand => &["cowrie.session.params", "cowrie.command.input"],
        EventId::SshEnv => &["cowrie.client.var"],
        EventId::SshShell | EventId::TelnetShell => &["cowrie.client.size", "cowrie.session.params"],
        EventId::SshExit => &["cowrie.command.failed", "cowrie.log.closed"],
        EventId::TelnetExit => &["cowrie.log.closed"],
        EventId::SshFile => &["cowrie.session.file_upload", "cowrie.session.file_download"],
        EventId::SshForward => &["cowrie.direct-tcpip.request"],
        EventId::SshForwardData => &["cowrie.direct-tcpip.data"],
        EventId::SshClose => &["cowrie.session.closed"],
        EventId::ContainerExit => &["cowrie.session.file_download", "cowrie.session.file_download.failed"],
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
        EventId::SshShell | EventId::TelnetShell if text(&details, "kind") == Some("shell") => {
            size(&word("size")).into_iter().chain([params()]).collect()
        }
        EventId::SshCommand => vec![params(), input(&word("command"))],
        EventId::ShellCommand => vec![input(&word("command"))],
        EventId::SshEnv => vec![variable(&word("name"), &word("value"))],
        EventId::SshExit | EventId::TelnetExit => exit(record, &details),
        EventId::ServiceRequest if usual(port) == Some("telnet") => {
            record.text.iter().map(|text| input(&clean(text, LONGEST))).collect()
        }
        EventId::SshFile if text(&details, "direction") == Some("upload") => vec![upload(&details)],
        EventId::SshFile if text(&details, "direction") == Some("input") => vec![read(&details)],
        EventId::SshForward if text(&details, "kind") == Some("direct-tcpip") => vec![forward(&details)],
        EventId::SshForwardData => vec![forwarded(&details)],
        EventId::SshClose if usual(port) != Some("ssh") => vec![closed(record)],
        EventId::ContainerExit => fetched(&details),
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

/// How long it took: in milliseconds, and in seconds as before version 3.
fn lasted(record: &Record) -> (u64, f64) {
    let micros = record.duration_us.unwrap_or(0);
    (micros.saturating_add(500) / 1000, micros as f64 / 1e6)
}

fn closed(record: &Record) -> Told {
    let (millis, seconds) = lasted(record);
    let message = format!("Connection lost after {millis} milliseconds");
    ("cowrie.session.closed", message, json!({"duration_ms": millis, "duration": seconds}))
}

fn hello(record: &Record, details: &Map<String, Value>, begins: bool) -> Vec<Told> {
    let mut told = if begins { vec![connect(record)] } else { Vec::new() };
    let word = |name| text(details, name).unwrap_or("");
    let version = word("banner");
    told.push(("cowrie.client.version", format!("Remote SSH version: {version}"), json!({"version": version})));
    let hassh = word("hassh");
    if !hassh.is_empty() {
        let list = |name| word(name).split(',').collect::<Vec<_>>();
        let all = ["kex", "ciphers", "macs", "compression"].map(word).join(";");
        let members = json!({
            "hassh": hassh,
            "hasshAlgorithms": all,
            "kexAlgs": list("kex"),
            "keyAlgs": list("keys"),
            "encCS": list("ciphers"),
            "macCS": list("macs"),
            "compCS": list("compression"),
            "langCS": list("languages"),
        });
        told.push(("cowrie.client.kex", format!("SSH client hassh fingerprint: {hassh}"), members));
    }
    told
}

fn login(details: &Map<String, Value>) -> Vec<Told> {
    let user = text(details, "user").unwrap_or("");
    let is_in = details.get("accepted").and_then(Value::as_bool).unwrap_or(false);
    let (id, how) = if is_in { ("cowrie.login.success", "succeeded") } else { ("cowrie.login.failed", "failed") };
    let Some(fingerprint) = text(details, "fingerprint") else {
        let password = password(details).unwrap_or("");
        let message = format!("login attempt [{user}/{password}] {how}");
        return vec![(id, message, json!({"username": user, "password": password}))];
    };
    let key = text(details, "key").unwrap_or("");
    // What signs with `rsa-sha2-256` is a key of the type `ssh-rsa`.
    let kind = key.split(' ').next().filter(|kind| !kind.is_empty());
    let kind = kind.or_else(|| text(details, "algorithm")).unwrap_or("");
    let fingerprint = md5_of(key).unwrap_or_else(|| fingerprint.to_owned());
    let members = json!({"username": user, "fingerprint": fingerprint, "key": key, "type": kind});
    let message = format!("public key attempt for user {user} of type {kind} with fingerprint {fingerprint}");
    let mut told = vec![("cowrie.client.fingerprint", message, members.clone())];
    // Whose key would do has not shown yet that it is theirs.
    if !is_in || details.get("signed").and_then(Value::as_bool) == Some(true) {
        told.push((id, format!("public key login attempt for [{user}] {how}"), members));
    }
    told
}

/// The fingerprint of a line of `authorized_keys` as it was before OpenSSH 6.8: the MD5, with colons.
fn md5_of(key: &str) -> Option<String> {
    let blob = base64::decode(key.split(' ').nth(1)?)?;
    Some(Md5::digest(blob).iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"))
}

fn size(size: &str) -> Option<Told> {
    let (width, height) = size.split_once('x')?;
    let (width, height): (u16, u16) = (width.parse().ok()?, height.parse().ok()?);
    let message = format!("Terminal Size: {width} {height}");
    Some(("cowrie.client.size", message, json!({"width": width, "height": height})))
}

/// The machine that a container has: ours, by the name that Cowrie gives to it.
fn params() -> Told {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "linux-x64-lsb".to_owned(),
        other => format!("linux-{other}-lsb"),
    };
    ("cowrie.session.params", String::new(), json!({"arch": arch}))
}

fn variable(name: &str, value: &str) -> Told {
    ("cowrie.client.var", format!("request_env: {name}={value}"), json!({"name": name, "value": value}))
}

fn input(command: &str) -> Told {
    ("cowrie.command.input", format!("CMD: {command}"), json!({"input": command}))
}

/// The status of a shell that has not found the command.
const NOT_FOUND: u64 = 127;

fn exit(record: &Record, details: &Map<String, Value>) -> Vec<Told> {
    let mut told = Vec::new();
    if let Some(command) = text(details, "command")
        && details.get("status").and_then(Value::as_u64) == Some(NOT_FOUND)
    {
        told.push(("cowrie.command.failed", format!("Command not found: {command}"), json!({"input": command})));
    }
    if let Some(transcript) = text(details, "transcript") {
        let (millis, seconds) = lasted(record);
        let members = json!({
            "ttylog": transcript,
            // Which Cowrie has each time: where none is known it is empty, as that of a file.
            "shasum": text(details, "sha256").unwrap_or(""),
            "size": record.bytes_in.unwrap_or(0).saturating_add(record.bytes_out.unwrap_or(0)),
            "duplicate": false,
            "duration_ms": millis,
            "duration": seconds,
        });
        let message = format!("Closing TTY Log: {transcript} after {millis} milliseconds");
        told.push(("cowrie.log.closed", message, members));
    }
    told
}

fn is_known(details: &Map<String, Value>) -> bool {
    details.get("duplicate").and_then(Value::as_bool) == Some(true)
}

fn upload(details: &Map<String, Value>) -> Told {
    let word = |name| text(details, name).unwrap_or("");
    let (path, content) = (word("path"), word("content"));
    let name = path.rsplit('/').next().unwrap_or(path);
    let members = json!({
        "filename": name,
        "url": path,
        "destfile": path,
        "outfile": content,
        "shasum": word("sha256"),
        "duplicate": is_known(details),
        "size": details.get("size"),
    });
    ("cowrie.session.file_upload", format!("Uploaded file \"{name}\" to {content}"), members)
}

/// What a command has read. Cowrie knows no name for it either.
fn read(details: &Map<String, Value>) -> Told {
    let word = |name| text(details, name).unwrap_or("");
    let (sha256, content) = (word("sha256"), word("content"));
    let message = format!("Saved stdin contents with SHA-256 {sha256} to {content}");
    let members = json!({
        "destfile": "",
        "outfile": content,
        "shasum": sha256,
        "duplicate": is_known(details),
        "size": details.get("size"),
    });
    ("cowrie.session.file_download", message, members)
}

/// What a program inside was to fetch, by its own account. Nobody has read what that was: no digest is known.
fn fetched(details: &Map<String, Value>) -> Vec<Told> {
    let urls: Vec<&str> =
        details.get("urls").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let is_done = details.get("code").and_then(Value::as_u64) == Some(0);
    // Of several it is not known which went where.
    let path = text(details, "to").filter(|_| urls.len() == 1).unwrap_or("");
    let told = urls.into_iter().map(|url| {
        if !is_done {
            let message = format!("Attempt to download file(s) from URL ({url}) failed");
            return ("cowrie.session.file_download.failed", message, json!({"url": url}));
        }
        let members = json!({"url": url, "destfile": path, "outfile": "", "shasum": "", "duplicate": false});
        ("cowrie.session.file_download", format!("Downloaded URL ({url}) to {path}"), members)
    });
    told.collect()
}

/// Where a connection beyond the host goes to.
fn target(details: &Map<String, Value>) -> (&str, u64) {
    (text(details, "host").unwrap_or(""), details.get("port").and_then(Value::as_u64).unwrap_or(0))
}

fn forward(details: &Map<String, Value>) -> Told {
    let (host, port) = target(details);
    let from = text(details, "from").unwrap_or("");
    // What is no port, or behind no address, stands behind a word.
    let (orig, orig_port) = from.rsplit_once(" port ").or_else(|| from.rsplit_once(':')).unwrap_or((from, ""));
    let orig = orig.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(orig);
    let orig_port: u32 = orig_port.parse().unwrap_or(0);
    let message = format!("direct-tcp connection request to {host}:{port} from {orig}:{orig_port}");
    let members = json!({"dst_ip": host, "dst_port": port, "orig_ip": orig, "orig_port": orig_port});
    ("cowrie.direct-tcpip.request", message, members)
}

fn forwarded(details: &Map<String, Value>) -> Told {
    let (host, port) = target(details);
    let (id, data) = (details.get("channel").and_then(Value::as_u64).unwrap_or(0), text(details, "octets"));
    let data = literal(data.unwrap_or(""));
    let message = format!("direct-tcp forward {id} to {host}:{port} with data {data}");
    let members = json!({"dst_ip": host, "dst_port": port, "id": id, "data": data});
    ("cowrie.direct-tcpip.data", message, members)
}

/// What stands for octets in our texts, as a literal of Python's.
fn literal(shown: &str) -> String {
    let mut text = String::with_capacity(shown.len() + 3);
    let octets = |text: &mut String, c: char| {
        c.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| text.push_str(&format!("\\x{octet:02x}")));
    };
    text.push_str("b'");
    // What was too long ends with an ellipsis, and may have half an escape before it.
    let mut rest = shown.strip_suffix('…').unwrap_or(shown).chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('u') => {
                    let Some((code, behind)) = rest.as_str().split_once('}') else { break };
                    rest = behind.chars();
                    let code = u32::from_str_radix(code.trim_start_matches('{'), 16).ok().and_then(char::from_u32);
                    octets(&mut text, code.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                // Those of one octet are the same in both.
                Some('x') => {
                    let Some((code, behind)) = rest.as_str().split_at_checked(2) else { break };
                    rest = behind.chars();
                    text.push_str("\\x");
                    text.push_str(code);
                }
                Some(_) => text.push_str("\\\\"),
                None => break,
            },
            '\'' => text.push_str("\\'"),
            ' '..='~' => text.push(c),
            c => octets(&mut text, c),
        }
    }
    text.push('\'');
    text
}

/// Twelve hexadecimal digits, as Cowrie's have.
fn session(record: &Record) -> String {
    format!("{:012x}", connection(record) >> 16)
}

/// A number for who sends, the same each time: RFC 9562's version 8.
fn uuid(origin: &Origin) -> String {
    let mut octets = Md5::digest([origin.honeynet.as_bytes(), &[0], origin.host.as_bytes()].concat());
    for (number, bits) in [(6, 0x80), (8, 0x80)] {
        let keeps = if number == 6 { 0x0f } else { 0x3f };
        if let Some(octet) = octets.get_mut(number) {
            *octet = *octet & keeps | bits;
        }
    }
    let digits = hex(&octets);
    let mut text = String::with_capacity(36);
    for (number, digit) in digits.chars().enumerate() {
        if matches!(number, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
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
        "uuid": uuid(origin),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tape::Text;

    /// The octets that Python has of a literal, which is ASCII.
    fn octets(literal: &str) -> Vec<u8> {
        let inner = literal.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\'')).unwrap();
        let (mut octets, mut rest) = (Vec::new(), inner);
        while let Some(c) = rest.chars().next() {
            let taken = match &rest.as_bytes()[..rest.len().min(4)] {
                [b'\\', b'x', code @ ..] => {
                    assert!(code.len() == 2 && code.iter().all(u8::is_ascii_hexdigit), "{literal}");
                    octets.push(u8::from_str_radix(&rest[2..4], 16).unwrap());
                    4
                }
                [b'\\', c @ (b'\\' | b'\''), ..] => {
                    octets.push(*c);
                    2
                }
                _ => {
                    assert!(matches!(c, ' '..='~') && c != '\\' && c != '\'', "{literal}");
                    octets.push(c as u8);
                    1
                }
            };
            rest = &rest[taken..];
        }
        octets
    }

    #[test]
    fn octets_are_a_literal_wherever_they_are_cut() {
        let cycle = |of: &[u8]| of.iter().copied().cycle().take(512).collect::<Vec<u8>>();
        let all: Vec<u8> = (0..=255).collect();
        for sent in [
            cycle(&all),
            cycle(b"\xff"),
            cycle("a'\\\u{202e}ü\u{1f600}…}{x".as_bytes()),
            cycle(b"\\x4u{2"),
            cycle(b"}"),
        ] {
            let shown = Text::new(&sent);
            assert_eq!(octets(&literal(shown.as_str())), sent);
            for (at, _) in shown.as_str().char_indices() {
                let cut = format!("{}…", &shown.as_str()[..at]);
                let read = octets(&literal(&cut));
                assert!(sent.starts_with(&read), "{cut}: {read:?}");
                // No more is missing than what was cut.
                let more = sent.get(..read.len() + 4).map(Text::new);
                assert!(more.is_none_or(|more| more.as_str().len() > at), "{cut}");
            }
        }
    }
}
