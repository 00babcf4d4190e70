//! Credentials that are not to be kept.
//!
//! Octets of a channel that is no terminal are left out by [`TapeLimits::stream`](super::TapeLimits), as a log-in in the
//! clear is in them.

use crate::record::privacy::Mask;
use crate::relay::tape::{ChannelKind, Credential, Entry, Text};

/// `entry`, in which, if that is `wanted`, the length stands for a password or an answer. What was typed into a terminal
/// is not looked at: it has no form by which a secret could be told from a command. Where a password is asked for by Telnet,
/// who reads that says so ([`Entry::Secret`], `starred`).
pub fn redact(mut entry: Entry, wanted: bool) -> Entry {
    match &mut entry {
        _ if !wanted => {}
        Entry::Attempt { credential, .. } | Entry::Unasked { credential, .. } => match credential {
            Credential::Password { password } => *password = length(password),
            Credential::PasswordChange { old, new } => {
                [old, new].into_iter().for_each(|secret| *secret = length(secret))
            }
            Credential::KeyboardInteractive { answers } => {
                answers.iter_mut().for_each(|answer| *answer = length(answer))
            }
            Credential::Digest { value, .. } => *value = length(value),
            Credential::None | Credential::PublicKey { .. } => {}
        },
        // A form that is sent by GET.
        Entry::Http { path, .. } => {
            if let Some((before, query)) = path.original().split_once('?') {
                *path = Text::new(format!("{before}?({} characters)", query.chars().count()));
            }
        }
        Entry::Discarded { data, .. } | Entry::Raw { data, .. } => *data = bytes::Bytes::new(),
        _ => {}
    }
    entry
}

/// `entry`, in which addresses that it tells as such are truncated by `mask`.
pub fn truncate(mut entry: Entry, mask: &Mask) -> Entry {
    let truncate = |text: &mut Text| {
        if let Some(masked) = mask.text(&text.original()) {
            *text = Text::new(masked);
        }
    };
    match &mut entry {
        _ if !mask.is_any() => {}
        Entry::Opened { kind, .. } | Entry::Refused { kind, .. } => match kind {
            ChannelKind::DirectTcpip { host, from, .. } | ChannelKind::ForwardedTcpip { host, from, .. } => {
                truncate(host);
                truncate(from);
            }
            ChannelKind::Session
            | ChannelKind::Stream
            | ChannelKind::DirectStreamlocal { .. }
            | ChannelKind::Agent
            | ChannelKind::X11 => {}
        },
        Entry::Listen { host, .. } | Entry::Unlisten { host, .. } => truncate(host),
        _ => {}
    }
    entry
}

/// Octets of a terminal, each but the end of a line as an asterisk.
pub fn starred(data: &[u8]) -> Vec<u8> {
    data.iter().map(|octet| if matches!(octet, b'\r' | b'\n') { *octet } else { b'*' }).collect()
}

fn length(text: &Text) -> Text {
    Text::new(format!("({} characters)", text.original().chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tape::Stream;

    #[test]
    fn an_address_is_one_however_it_is_written() {
        let privacy = crate::record::privacy::Privacy { truncate: Some(Default::default()), ..Default::default() };
        let mask = Mask::new(privacy, [("10.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap())]);
        for (text, expected) in [
            ("198.51.100.7", Some("198.51.100.0")),
            (" 198.51.100.7", Some("198.51.100.0")),
            ("198.51.100.7:555", Some("198.51.100.0:555")),
            ("198.51.100.7 port 555", Some("198.51.100.0 port 555")),
            ("198.51.100.7  port 65536", Some("198.51.100.0 port 65536")),
            ("2001:db8:1:2::3 port 65536", Some("2001:db8:1:: port 65536")),
            ("[2001:db8:1:2::3]", Some("2001:db8:1::")),
            ("[2001:db8:1:2::3]:5", Some("[2001:db8:1::]:5")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("smtp.example", None),
            ("smtp.example port 5", None),
            ("", None),
        ] {
            assert_eq!(mask.text(text).as_deref(), expected, "{text}");
        }
        let listen = |host| Entry::Listen { host: Text::new(host), port: 80, accepted: true };
        assert_eq!(truncate(listen("198.51.100.7"), &mask), listen("198.51.100.0"));
        assert_eq!(truncate(listen("a\\b\x1b"), &mask), listen("a\\b\x1b"));
        assert_eq!(truncate(listen("198.51.100.7"), &Mask::default()), listen("198.51.100.7"));
    }

    #[test]
    fn a_length_stands_for_a_secret() {
        let attempt = |credential| Entry::Attempt { user: Text::new("root"), credential, accepted: true };
        let password = |password| attempt(Credential::Password { password: Text::new(password) });
        assert_eq!(redact(password("a\\b\x1b\u{202e}é"), true), password("(6 characters)"));
        assert_eq!(redact(password("hunter2"), false), password("hunter2"));
        assert_eq!(redact(password(""), true), password("(0 characters)"));
        let change = |old, new| attempt(Credential::PasswordChange { old: Text::new(old), new: Text::new(new) });
        assert_eq!(redact(change("abc", "12"), true), change("(3 characters)", "(2 characters)"));
        let answers =
            |answers: [&str; 2]| attempt(Credential::KeyboardInteractive { answers: answers.map(Text::new).to_vec() });
        assert_eq!(redact(answers(["abc", "12"]), true), answers(["(3 characters)", "(2 characters)"]));
        let http = |path: &str| Entry::Http {
            method: Text::new("GET"),
            path: Text::new(path),
            host: Text::new("a"),
            agent: Text::new("b"),
            stream: None,
        };
        assert_eq!(redact(http("/login?user=a&password=b"), true), http("/login?(17 characters)"));
        assert_eq!(redact(http("/login"), true), http("/login"));
        let discarded = |data: &'static [u8]| Entry::Discarded { stream: Stream::Input, data: data.into() };
        assert_eq!(redact(discarded(b"PASS hunter2"), true), discarded(b""));
        let command = Entry::Exec { channel: 0, command: Text::command("id") };
        assert_eq!(redact(command.clone(), true), command);
    }
}
