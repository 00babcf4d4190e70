//! An event as it is stored and passed on: one JSON object on a line.
//!
//! The form is versioned by `v`. Within a version fields and event ids are
//! added, never renamed or given another meaning, so readers skip what they do
//! not know. `docs/events.md` describes each event, `docs/events.schema.json` is
//! this type as a JSON Schema.
//!
//! What an attacker sent is in `data`, in base64, and never anywhere else
//! unescaped: `text` and `reason` hold printable characters only, so that a line
//! can be shown on a terminal as it is.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::emulate::{OsFamily, dhcp};
use crate::event::{Blocked, DropReason, Event, EventId, Party, PortAnswer, Release, SessionId, Utc};
use crate::wire::Mac;

/// Version of the record's form.
pub const VERSION: u32 = 1;
/// The reason of a `tcp.close` that the end of the honeynet brought about.
pub const HONEYNET_ENDED: &str = "honeynet-ended";

/// One thing that happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "honeyweave event record", description = "One line of the event stream: one thing that happened.")]
pub struct Record {
    /// Version of this form; 1.
    #[schemars(range(min = 1, max = 1))]
    pub v: u32,
    /// Number of the record within its log; they rise by one, except across a `gap`.
    pub seq: u64,
    /// When it happened: UTC, RFC 3339, microseconds.
    #[schemars(with = "String", regex(pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"))]
    pub time: Utc,
    /// What kind of thing: a stable dotted name.
    #[serde(with = "event_name")]
    #[schemars(schema_with = "event_names")]
    pub event: EventId,
    /// What one attacker does on one host: 16 hexadecimal digits, the same in every record of it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "session_hex")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9a-f]{16}$"))]
    pub session: Option<SessionId>,
    /// The session that it is a consequence of, if its source is a container: the one that the container was leased for.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "session_hex")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9a-f]{16}$"))]
    pub cause: Option<SessionId>,
    /// Name of the node in the topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<End>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<End>,
    /// The protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Proto>,
    /// How the host's port met it (`tcp.probe`, `udp.datagram`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What the attacker's SYN looks like, in the first `tcp.probe` of a session that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanner_os: Option<OsFamily>,
    /// Why: a short name where the event has a fixed set of them, otherwise a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The archive of what was changed in a container: a name in `STATE/NAME/evidence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// How many frames, attempts or events this stands for; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Octets that the attacker sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Octets that we sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Microseconds that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// What the attacker sent, cut to 1,024 octets (4,096 in `ssh.hello`, 2,048 in `ssh.login`), in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9+/]*={0,2}$"))]
    pub data: Option<String>,
    /// `data` once more, if it is printable ASCII; `\r`, `\n`, `\t` and `\\` stand for these four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[ -~]*$"))]
    pub text: Option<String>,
}

/// One end of what happened.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Network address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// MAC address as seen on the segment of the node: `00:0c:29:aa:00:11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"))]
    pub mac: Option<Mac>,
    /// TCP or UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match (self.ip, self.port, self.mac) {
            (Some(ip), Some(port), _) => std::net::SocketAddr::new(ip, port).to_string(),
            (Some(ip), None, _) => ip.to_string(),
            (None, _, Some(mac)) => mac.to_string(),
            (None, Some(port), None) => format!(":{port}"),
            (None, None, None) => "-".to_owned(),
        };
        f.pad(&text)
    }
}

/// The protocol of what happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMPv6, neighbor discovery included.
    Icmp6,
    /// ARP.
    Arp,
}

impl Proto {
    /// The name in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Icmp => "icmp",
            Proto::Icmp6 => "icmp6",
            Proto::Arp => "arp",
        }
    }
}

/// How a host's port met a segment or datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// RST or ICMP port unreachable.
    Closed,
    /// SYN/ACK or a reply.
    Open,
    /// Silence.
    Filtered,
    /// SYN/ACK, then a window that never opens.
    Tarpit,
    /// Held until the container has answered.
    Held,
}

impl Answer {
    /// The name in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Answer::Closed => "closed",
            Answer::Open => "open",
            Answer::Filtered => "filtered",
            Answer::Tarpit => "tarpit",
            Answer::Held => "held",
        }
    }

    fn of_code(code: u16) -> Option<Answer> {
        [
            (PortAnswer::Closed, Answer::Closed),
            (PortAnswer::Open, Answer::Open),
            (PortAnswer::Filtered, Answer::Filtered),
            (PortAnswer::Tarpit, Answer::Tarpit),
            (PortAnswer::Held, Answer::Held),
        ]
        .into_iter()
        .find_map(|(known, answer)| (known as u16 == code).then_some(answer))
    }
}

impl Record {
    /// A record with nothing but what every record has.
    pub fn bare(seq: u64, time: Utc, event: EventId) -> Record {
        Record {
            v: VERSION,
            seq,
            time,
            event,
            session: None,
            cause: None,
            node: None,
            src: None,
            dst: None,
            proto: None,
            answer: None,
            scanner_os: None,
            reason: None,
            archive: None,
            count: None,
            bytes_in: None,
            bytes_out: None,
            duration_us: None,
            data: None,
            text: None,
        }
    }

    /// The record of `event`, which happened at `time` on the node called `node`, with the octets that came with it.
    pub fn of_event(seq: u64, time: Utc, node: Option<&str>, event: &Event, data: &[u8]) -> Record {
        let data = &data[..data.len().min(event.id.most_data())];
        let ours = data_is_our_text(event.id);
        let mut record = Record::bare(seq, time, event.id);
        record.session = (event.session != SessionId::default()).then_some(event.session);
        record.node = node.map(|name| name.chars().take(256).collect());
        let (src_has_port, dst_has_port) = has_ports(event);
        record.src = End::of(&event.src, src_has_port);
        record.dst = End::of(&event.dst, dst_has_port);
        record.proto = proto(event);
        record.reason = reason(event);
        match event.id {
            EventId::ContainerLive | EventId::TcpClose | EventId::SshClose | EventId::SshExit | EventId::TelnetExit => {
                record.duration_us = Some(event.count);
            }
            // Whoever does not know how long it was leaves the count alone.
            EventId::ContainerFailed | EventId::ContainerStop => {
                record.duration_us = (event.count > 1).then_some(event.count);
            }
            EventId::SessionEnd
            | EventId::Gap
            | EventId::LogDeleted
            | EventId::RecordingDeleted
            | EventId::CaptureDeleted
            | EventId::ContainerUntold
            | EventId::SinkLost => {
                record.count = Some(event.count);
            }
            _ => record.count = (event.count != 1).then_some(event.count),
        }
        if matches!(event.id, EventId::TcpProbe | EventId::UdpDatagram) {
            let [os, answer] = event.code.to_be_bytes();
            record.answer = Answer::of_code(u16::from(answer));
            record.scanner_os = OsFamily::ALL.into_iter().find(|family| *family as u8 == os);
        }
        let always = matches!(
            event.id,
            EventId::SessionEnd | EventId::TcpClose | EventId::SshClose | EventId::SshExit | EventId::TelnetExit
        );
        record.bytes_in = (always || event.bytes_in != 0).then_some(event.bytes_in);
        record.bytes_out = (always || event.bytes_out != 0).then_some(event.bytes_out);
        if ours {
            let text = String::from_utf8_lossy(data);
            let (archive, why) = text.split_once('\0').filter(|_| names_archive(event.id)).unwrap_or(("", &text));
            let told = |text: &str| (!text.is_empty()).then(|| escape(text).into_owned());
            (record.archive, record.reason) = (told(archive), told(why));
        } else if !data.is_empty() {
            record.data = Some(super::base64::encode(data));
            record.text = printable(data);
        }
        record
    }

    /// Writes the record as a line of the log, its line feed included, over what `line` holds.
    pub fn write_line(&self, line: &mut String) -> Result<(), serde_json::Error> {
        let mut bytes = std::mem::take(line).into_bytes();
        bytes.clear();
        serde_json::to_writer(&mut bytes, self)?;
        bytes.push(b'\n');
        *line = String::from_utf8(bytes).map_err(serde::ser::Error::custom)?;
        Ok(())
    }
}

impl End {
    /// A port of 0 is one where there is a port at all.
    fn of(party: &Party, has_port: bool) -> Option<End> {
        let end = End {
            ip: party.ip.get(),
            mac: (party.mac != Mac::ZERO).then_some(party.mac),
            port: (has_port || party.l4_port != 0).then_some(party.l4_port),
        };
        (end != End::default()).then_some(end)
    }
}

/// Whether the packet that an event is about has ports, and the event tells that of its source and destination.
fn has_ports(event: &Event) -> (bool, bool) {
    let ports = matches!(event.proto, 6 | 17);
    match event.id {
        EventId::GuardBlock => (false, false),
        // A session is with a host, whichever ports the attacker uses; what it begins with is the port addressed.
        EventId::SessionStart => (false, ports),
        _ => (ports, ports),
    }
}

// These say something of honeyweave's own, so their data is a sentence and not evidence.
fn data_is_our_text(id: EventId) -> bool {
    names_archive(id)
        || matches!(
            id,
            EventId::ServiceFailed
                | EventId::ContainerFailed
                | EventId::ContainerStop
                | EventId::ContainerUntold
                | EventId::DeviceState
                | EventId::NodePanic
                | EventId::ProcessState
                | EventId::Gap
                | EventId::LogDeleted
                | EventId::RecordingFailed
                | EventId::RecordingDeleted
                | EventId::CaptureDeleted
                | EventId::SinkState
                | EventId::SinkLost
        )
}

/// Whether the text begins with the name of an archive and a zero octet.
fn names_archive(id: EventId) -> bool {
    use EventId::{ContainerDestroyed, EvidenceDeleted, EvidenceFailed, EvidenceListed, EvidenceTaken};
    matches!(id, ContainerDestroyed | EvidenceTaken | EvidenceFailed | EvidenceDeleted | EvidenceListed)
}

fn proto(event: &Event) -> Option<Proto> {
    match event.proto {
        1 => Some(Proto::Icmp),
        6 => Some(Proto::Tcp),
        17 => Some(Proto::Udp),
        58 => Some(Proto::Icmp6),
        _ if event.id == EventId::ArpRequest => match event.src.ip.get().or(event.dst.ip.get()) {
            Some(IpAddr::V6(_)) => Some(Proto::Icmp6),
            _ => Some(Proto::Arp),
        },
        _ => None,
    }
}

fn reason(event: &Event) -> Option<String> {
    const CLOSED: [&str; 6] = ["closed", "reset-by-peer", "reset-by-us", "timed-out", "evicted", HONEYNET_ENDED];
    let name = match event.id {
        EventId::TcpClose => CLOSED.get(usize::from(event.code)).copied(),
        EventId::AddressReleased => Release::NAMES.get(usize::from(event.code)).copied(),
        EventId::DhcpLost => dhcp::Loss::NAMES.get(usize::from(event.code)).copied(),
        EventId::DhcpRefused => dhcp::Refusal::NAMES.get(usize::from(event.code)).copied(),
        EventId::OutwardDrop => ["policy", "limit"].get(usize::from(event.code)).copied(),
        EventId::GateBlock => Blocked::ALL.get(usize::from(event.code)).map(|why| why.as_str()),
        EventId::GuardBlock => DropReason::ALL.get(usize::from(event.code)).map(|reason| reason.as_str()),
        _ => return None,
    };
    Some(name.map_or_else(|| format!("code-{}", event.code), str::to_owned))
}

fn printable(data: &[u8]) -> Option<String> {
    if !data.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n' | b'\t')) {
        return None;
    }
    std::str::from_utf8(data).ok().map(|text| escape(text).into_owned())
}

/// `text` with everything that a terminal might act upon written as an escape, and each backslash doubled.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c != '\\' && is_harmless(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\r' => escaped.push_str("\\r"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c if is_harmless(c) => escaped.push(c),
            c => escaped.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal shows `c` and does nothing else: not for controls, the
/// invisible, and those that change the direction of what follows.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}' | '\u{e0000}'..='\u{e0fff}')
}

/// JSON with everything that a terminal might act upon as `\u` escapes; the line feeds between members stay.
pub fn safe_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmless(c) || c == '\n' {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// Whether the source of such events is an attacker. In the others it is a container, or nobody.
pub(super) fn is_an_attackers(id: EventId) -> bool {
    matches!(
        id,
        EventId::SessionStart
            | EventId::ArpRequest
            | EventId::IcmpEcho
            | EventId::TcpProbe
            | EventId::TcpOpen
            | EventId::TcpClose
            | EventId::TcpData
            | EventId::UdpDatagram
            | EventId::ServiceRequest
            | EventId::ServiceLogin
            | EventId::TlsHello
            | EventId::TlsCertificate
            | EventId::SshHello
            | EventId::SshLogin
            | EventId::SshShell
            | EventId::SshCommand
            | EventId::SshFile
            | EventId::SshForward
            | EventId::SshClose
            | EventId::SshEnv
            | EventId::SshExit
            | EventId::TelnetShell
            | EventId::TelnetExit
            | EventId::SshForwardData
            | EventId::ShellCommand
    )
}

/// The JSON Schema of [`Record`].
pub fn event_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Record).to_value();
    super::details::add_to(&mut schema);
    schema
}

fn event_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names: Vec<&str> = EventId::ALL.iter().map(|id| id.as_str()).collect();
    schemars::json_schema!({ "type": "string", "enum": names })
}

mod event_name {
    use super::*;

    pub fn serialize<S: Serializer>(id: &EventId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(id.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventId, D::Error> {
        let name = String::deserialize(deserializer)?;
        let id = EventId::ALL.iter().find(|id| id.as_str() == name).copied();
        id.ok_or_else(|| serde::de::Error::custom(format!("unknown event {}", escape(&name))))
    }
}

pub(super) mod session_hex {
    use super::*;

    pub fn serialize<S: Serializer>(session: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
        match session {
            Some(SessionId(number)) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let text: [u8; 16] = std::array::from_fn(|at| HEX[(number >> (60 - 4 * at) & 15) as usize]);
                serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
            }
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SessionId>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = hex.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        number.map(|n| Some(SessionId(n))).ok_or_else(|| serde::de::Error::custom("a session is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
