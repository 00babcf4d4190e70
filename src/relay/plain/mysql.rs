//! MySQL's client protocol: log-ins and statements
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>).

use super::line::{Message, until_nul};
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};

/// Capabilities of a client: TLS follows; of how the length of what proves it is written.
const SSL: u32 = 0x800;
const SECURE: u32 = 0x8000;
const LENENC: u32 = 0x20_0000;
/// Commands: use a database, a statement, a prepared one.
const INIT_DB: u8 = 2;
const QUERY: u8 = 3;
const PREPARE: u8 = 0x16;

/// A connection.
#[derive(Default)]
pub(super) struct Mysql {
    ways: [Way; 2],
    phase: Phase,
    user: Text,
    proof: Text,
    /// An answer to a command is due.
    answer_due: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Phase {
    /// The server introduces itself.
    #[default]
    Greeting,
    /// The client answers.
    Login,
    /// The server says yes or no, or wants more.
    Verdict,
    Commands,
}

/// Packets of one direction: a length of three octets, a number, a payload.
#[derive(Default)]
struct Way {
    head: Vec<u8>,
    packet: Option<Message>,
}

impl Way {
    /// The next packet that is complete, of `octets` from `at` on.
    fn next(&mut self, octets: &[u8], at: &mut usize) -> Option<Vec<u8>> {
        while *at < octets.len() || self.packet.as_ref().is_some_and(Message::is_complete) {
            match &mut self.packet {
                Some(packet) => {
                    *at += packet.take(&octets[*at..]);
                    if packet.is_complete() {
                        return self.packet.take().map(|packet| packet.kept);
                    }
                }
                None => {
                    self.head.push(octets[*at]);
                    *at += 1;
                    if let [a, b, c, _] = self.head[..] {
                        self.head.clear();
                        self.packet = Some(Message::new(u64::from(u32::from_le_bytes([a, b, c, 0]))));
                    }
                }
            }
        }
        None
    }
}

impl Observer for Mysql {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut at = 0;
        let way = usize::from(from != Stream::Input);
        while let Some(packet) = self.ways[way].next(octets, &mut at) {
            match from {
                Stream::Input => self.client(&packet, told)?,
                _ => self.server(&packet, told),
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        if self.phase == Phase::Verdict {
            self.verdict(false, told);
        }
    }
}

impl Mysql {
    fn client(&mut self, packet: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        match (self.phase, packet) {
            (Phase::Greeting | Phase::Login, [a, b, c, d, ..]) => {
                let capabilities = u32::from_le_bytes([*a, *b, *c, *d]);
                let Some(rest) = packet.get(32..) else { return Err("no log-in") };
                if rest.is_empty() && capabilities & SSL != 0 {
                    return Err("TLS begins");
                }
                let (user, rest) = until_nul(rest);
                let proof = match rest {
                    [len, proof @ ..] if capabilities & (LENENC | SECURE) != 0 => {
                        &proof[..usize::from(*len).min(proof.len())]
                    }
                    proof => until_nul(proof).0,
                };
                let hex: String = proof.iter().map(|octet| format!("{octet:02x}")).collect();
                (self.user, self.proof, self.phase) = (Text::new(user), Text::new(hex), Phase::Verdict);
            }
            (Phase::Commands, [INIT_DB, name @ ..]) => {
                told.push(Entry::Command { text: Text::command([b"USE ", name].concat()) });
                self.answer_due = true;
            }
            (Phase::Commands, [QUERY | PREPARE, statement @ ..]) => {
                told.push(Entry::Command { text: Text::command(statement) });
                self.answer_due = true;
            }
            // More of the log-in, and commands that say nothing.
            _ => {}
        }
        Ok(())
    }

    fn server(&mut self, packet: &[u8], told: &mut Vec<Entry>) {
        let error = |message: &[u8]| {
            // A number, and behind it `#` and a state of five octets.
            let text = message.get(2..).unwrap_or_default();
            Text::new(if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text })
        };
        match (self.phase, packet) {
            (Phase::Greeting, [0xff, message @ ..]) => told.push(Entry::Answer { text: error(message) }),
            (Phase::Greeting, [_, version @ ..]) => {
                told.push(Entry::Answer { text: Text::new(until_nul(version).0) });
                self.phase = Phase::Login;
            }
            (Phase::Verdict, [0xff, message @ ..]) => {
                self.verdict(false, told);
                told.push(Entry::Answer { text: error(message) });
            }
            (Phase::Verdict, [0, ..]) => self.verdict(true, told),
            (Phase::Commands, [0xff, message @ ..]) => {
                self.answer_due = false;
                told.push(Entry::Answer { text: error(message) });
            }
            (Phase::Commands, [first, ..]) if std::mem::take(&mut self.answer_due) => {
                let text = if *first == 0 { "OK".to_owned() } else { format!("{first} columns") };
                told.push(Entry::Answer { text: Text::new(text) });
            }
            _ => {}
        }
    }

    fn verdict(&mut self, accepted: bool, told: &mut Vec<Entry>) {
        self.phase = Phase::Commands;
        let (user, value) = (std::mem::take(&mut self.user), std::mem::take(&mut self.proof));
        let credential = Credential::Digest { scheme: Text::new("mysql"), value };
        told.push(Entry::Attempt { user, credential, accepted });
    }
}
