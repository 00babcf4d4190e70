//! PostgreSQL's protocol, version 3: log-ins and statements
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).

use super::line::{Message, until_nul};
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};

/// Codes in place of a version: TLS, GSSAPI, cancel.
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;
/// How the server wants a log-in to be proved.
const CLEAR: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
/// Octets of a start message, PostgreSQL's own limit.
const START: u32 = 10_000;

/// A connection.
#[derive(Default)]
pub(super) struct Postgresql {
    ways: [Way; 2],
    /// The next message of the client's has no type.
    started: bool,
    /// One octet of the server's answers a wish for TLS.
    wish: bool,
    user: Text,
    asked: u32,
    proof: Option<Text>,
    /// What is within TLS is shown.
    within: bool,
}

#[derive(Default)]
struct Way {
    head: Vec<u8>,
    packet: Option<(u8, Message)>,
}

impl Way {
    /// The next message that is complete, of `octets` from `at` on: its type and content. `typed`: there is a type.
    fn next(&mut self, octets: &[u8], at: &mut usize, typed: bool) -> Result<Option<(u8, Vec<u8>)>, &'static str> {
        while *at < octets.len() || self.packet.as_ref().is_some_and(|(_, packet)| packet.is_complete()) {
            if let Some((kind, packet)) = &mut self.packet {
                *at += packet.take(&octets[*at..]);
                if packet.is_complete() {
                    let message = (*kind, std::mem::take(&mut packet.kept));
                    self.packet = None;
                    return Ok(Some(message));
                }
                continue;
            }
            self.head.push(octets[*at]);
            *at += 1;
            let (kind, len) = match self.head[..] {
                [kind, a, b, c, d] if typed => (kind, u32::from_be_bytes([a, b, c, d])),
                [a, b, c, d] if !typed => (0, u32::from_be_bytes([a, b, c, d])),
                _ => continue,
            };
            self.head.clear();
            if len < 4 || (!typed && len > START) {
                return Err("no message");
            }
            self.packet = Some((kind, Message::new(u64::from(len) - 4)));
        }
        Ok(None)
    }
}

impl Observer for Postgresql {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut at = 0;
        if from == Stream::Input {
            while let Some((kind, message)) = self.ways[0].next(octets, &mut at, self.started)? {
                self.client(kind, &message, told);
            }
            return Ok(());
        }
        if self.wish
            && let Some(answer) = octets.first()
        {
            (self.wish, at) = (false, 1);
            if matches!(answer, b'S' | b'G') && !self.within {
                return Err("encryption begins");
            }
        }
        while let Some((kind, message)) = self.ways[1].next(octets, &mut at, true)? {
            self.server(kind, &message, told);
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        self.verdict(false, told);
    }
}

impl Postgresql {
    pub(super) fn new(within: bool) -> Postgresql {
        Postgresql { within, ..Postgresql::default() }
    }

    fn client(&mut self, kind: u8, message: &[u8], told: &mut Vec<Entry>) {
        if !self.started {
            let code = message.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
            match code {
                SSL | GSS => self.wish = true,
                CANCEL => told.push(Entry::Command { text: Text::new("cancel") }),
                _ => {
                    self.started = true;
                    self.user = parameter(message.get(4..).unwrap_or_default(), b"user");
                }
            }
            return;
        }
        match kind {
            b'p' => {
                let proof = match self.asked {
                    // What proves it is of no use without the rest, but tells one try from another.
                    SASL => message,
                    _ => until_nul(message).0,
                };
                self.proof.get_or_insert_with(|| Text::new(proof));
            }
            b'Q' => told.push(Entry::Command { text: Text::command(until_nul(message).0) }),
            // A statement's name, the statement.
            b'P' => told.push(Entry::Command { text: Text::command(until_nul(until_nul(message).1).0) }),
            _ => {}
        }
    }

    fn server(&mut self, kind: u8, message: &[u8], told: &mut Vec<Entry>) {
        match kind {
            b'R' => match message.first_chunk().map_or(0, |code| u32::from_be_bytes(*code)) {
                0 => self.verdict(true, told),
                code @ (CLEAR | MD5 | SASL) => self.asked = code,
                _ => {}
            },
            b'E' => {
                self.verdict(false, told);
                let mut rest = message;
                while let [field, text @ ..] = rest {
                    let (text, after) = until_nul(text);
                    if *field == b'M' {
                        told.push(Entry::Answer { text: Text::new(text) });
                    }
                    rest = after;
                }
            }
            b'C' => told.push(Entry::Answer { text: Text::new(until_nul(message).0) }),
            _ => {}
        }
    }

    /// Says how the log-in ended, once; nothing if there was none.
    fn verdict(&mut self, accepted: bool, told: &mut Vec<Entry>) {
        if self.user == "" {
            return;
        }
        let user = std::mem::take(&mut self.user);
        let credential = match (self.asked, self.proof.take()) {
            (_, None) => Credential::None,
            (CLEAR, Some(password)) => Credential::Password { password },
            (MD5, Some(value)) => Credential::Digest { scheme: Text::new("postgresql-md5"), value },
            (_, Some(value)) => Credential::Digest { scheme: Text::new("scram"), value },
        };
        told.push(Entry::Attempt { user, credential, accepted });
    }
}

/// The value of a parameter of a start message: names and values, each with a NUL behind it.
fn parameter(mut rest: &[u8], wanted: &[u8]) -> Text {
    while !rest.is_empty() {
        let (name, after) = until_nul(rest);
        let (value, after) = until_nul(after);
        if name == wanted {
            return Text::new(value);
        }
        rest = after;
    }
    Text::default()
}
