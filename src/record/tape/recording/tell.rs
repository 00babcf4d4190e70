//! What events tell of a connection.

use serde_json::{Map, Value, json};

use super::super::notice::{Notice, forward, login};
use super::{Counts, Desk, Recording};
use crate::event::{EventId, Utc};
use crate::record::tape::channel::Channel;
use crate::relay::tape::{Begin, ChannelKind, Credential, Entry, Protocol, Reason, Text};
use crate::service::Spoken;

/// Variables of the environment of which events tell, of each connection.
const VARIABLES: u32 = 256;

impl Recording {
    /// Tells of an entry by an event, if it is one of those.
    pub(super) fn tell(&mut self, entry: &Entry, at: Utc, desk: &mut Desk<'_>) {
        if self.about.begin.protocol != Protocol::Ssh {
            return self.tell_plain(entry, at, desk);
        }
        let (id, told) = match entry {
            Entry::Hello { banner, kex, keys, ciphers, macs, compression, languages, hassh } => {
                let mut told = json!({"banner": banner, "hassh": hassh});
                // Empty lists say something, no key exchange does not.
                if !hassh.is_empty() {
                    for (name, list) in [
                        ("kex", kex),
                        ("keys", keys),
                        ("ciphers", ciphers),
                        ("macs", macs),
                        ("compression", compression),
                        ("languages", languages),
                    ] {
                        told[name] = list.as_str().into();
                    }
                }
                (EventId::SshHello, told)
            }
            // Who asks what there is has not tried anything.
            Entry::Attempt { credential: Credential::None, accepted: false, .. } => return,
            Entry::Attempt { user, credential, accepted } => {
                (EventId::SshLogin, login(user, credential, Some(*accepted)))
            }
            Entry::Shell { channel } => {
                let terminal = self.channels.get(channel).and_then(Channel::size);
                let (term, size) = terminal.unzip();
                (EventId::SshShell, json!({"kind": "shell", "term": term, "size": size}))
            }
            Entry::Subsystem { name, .. } => (EventId::SshShell, json!({"kind": "subsystem", "name": name})),
            Entry::Exec { command, .. } => (EventId::SshCommand, json!({"command": command})),
            Entry::Opened { kind, .. } if *kind != ChannelKind::Session => (EventId::SshForward, forward(kind, None)),
            Entry::Refused { kind, reason } if *kind != ChannelKind::Session => {
                (EventId::SshForward, forward(kind, Some(reason)))
            }
            Entry::Listen { host, port, accepted } => {
                (EventId::SshForward, json!({"kind": "listen", "host": host, "port": port, "accepted": accepted}))
            }
            Entry::Agent { accepted, .. } => {
                (EventId::SshForward, json!({"kind": "agent-offer", "accepted": accepted}))
            }
            Entry::Env { name, value, .. } => (EventId::SshEnv, json!({"name": name, "value": value})),
            _ => return,
        };
        self.notice(id, at, told, desk);
    }

    /// The same of what is spoken in the clear, as emulated services do.
    fn tell_plain(&mut self, entry: &Entry, at: Utc, desk: &mut Desk<'_>) {
        match entry {
            Entry::Attempt { credential: Credential::None, accepted: false, .. } => {}
            Entry::Attempt { user, credential, accepted } => {
                self.notice(EventId::ServiceLogin, at, login(user, credential, Some(*accepted)), desk);
                if *accepted && self.about.begin.protocol == Protocol::Plain(Spoken::Telnet) {
                    let terminal = self.channels.values().find_map(Channel::size);
                    let (term, size) = terminal.unzip();
                    self.notice(EventId::TelnetShell, at, json!({"kind": "shell", "term": term, "size": size}), desk);
                }
            }
            Entry::Unasked { user, credential } => {
                self.notice(EventId::ServiceLogin, at, login(user, credential, None), desk);
            }
            Entry::Http { method, path, host, agent, .. } => {
                self.request(at, format!("{method} {path} host={host} agent={agent}"), desk);
            }
            Entry::Command { text } => self.request(at, text.to_string(), desk),
            Entry::TlsHello { sni, alpn, ja3, ja4, .. } => {
                let told = json!({"sni": sni, "alpn": alpn, "ja3": ja3, "ja4": ja4});
                self.notice(EventId::TlsHello, at, told, desk);
            }
            Entry::TlsCertificate { sha256, subject } => {
                self.notice(EventId::TlsCertificate, at, json!({"sha256": sha256, "subject": subject}), desk);
            }
            _ => {}
        }
    }

    fn request(&mut self, at: Utc, text: String, desk: &mut Desk<'_>) {
        if self.may_tell(EventId::ServiceRequest, desk) {
            desk.told.push(Notice::of_text(EventId::ServiceRequest, at, &self.about.begin, &text));
        }
    }

    fn may_tell(&mut self, id: EventId, desk: &Desk<'_>) -> bool {
        let count = self.events.entry(id).or_default();
        // What needs nothing but a message of the client's is cheaper to ask for than to write down.
        let most = if id == EventId::SshEnv { desk.limits.events.min(VARIABLES) } else { desk.limits.events };
        let may = *count < most;
        *count += u32::from(may);
        self.counts.untold += u64::from(!may);
        may
    }

    pub(super) fn notice(&mut self, id: EventId, at: Utc, told: Value, desk: &mut Desk<'_>) {
        if !self.may_tell(id, desk) {
            return;
        }
        let Value::Object(mut told) = told else { return };
        told.retain(|_, value| !value.is_null());
        desk.told.push(Notice::of_connection(id, at, &self.about.begin, told));
    }
}

/// That a connection is over, `micros` after it began.
pub(super) fn closed(
    begin: &Begin,
    counts: &Counts,
    (micros, at): (u64, Utc),
    (reason, detail): (Reason, Option<&Text>),
) -> Notice {
    let mut told = Map::from_iter([("reason".to_owned(), reason.as_str().into())]);
    told.extend(detail.map(|detail| ("detail".to_owned(), detail.as_str().into())));
    if let Ok(Value::Object(counts)) = serde_json::to_value(counts) {
        told.extend(counts.into_iter().filter(|(_, count)| count.as_u64() != Some(0)));
    }
    let mut notice = Notice::of_connection(EventId::SshClose, at, begin, told);
    notice.event.count = micros;
    (notice.event.bytes_in, notice.event.bytes_out) = (counts.input, counts.output);
    notice
}
