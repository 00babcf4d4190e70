//! Telnet (RFC 854): a terminal's input and output without the options between, and what the client says of its terminal.

use std::collections::VecDeque;

use bytes::Bytes;

use super::line::Lines;
use super::{CHANNEL, Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};

const SE: u8 = 240;
const SB: u8 = 250;
const WILL: u8 = 251;
const DONT: u8 = 254;
const IAC: u8 = 255;
/// Options: the terminal's type (RFC 1091) and its size (RFC 1073).
const TTYPE: u8 = 24;
const NAWS: u8 = 31;
/// Octets of a subnegotiation that are kept.
const MOST: usize = 256;
/// Octets of what was last shown, in which a prompt is looked for.
const SHOWN: usize = 256;
/// Lines that are typed ahead of the answer to a password, and that it depends on what they are.
const AHEAD: usize = 32;

/// A connection.
#[derive(Default)]
pub(super) struct Telnet {
    ways: [Way; 2],
    begun: bool,
    term: Option<Text>,
    size: Option<(u32, u32)>,
    /// The last that was shown of the present line.
    shown: Vec<u8>,
    /// Whether anything was.
    has_shown: bool,
    typed: Lines,
    /// What the line that is typed is for.
    asked: Asked,
    /// Lines that were typed since a password was of which it is not known whether it is right.
    ahead: VecDeque<Vec<u8>>,
    /// A line has just ended by a carriage return.
    cr: bool,
    login: Login,
    /// A log-in was right.
    is_in: bool,
    /// What was put on last may be a password.
    secret: bool,
}

/// What a line is for.
#[derive(Clone, Copy, Default, PartialEq)]
enum Asked {
    User,
    Password,
    /// That shows what comes next.
    Later,
    #[default]
    Command,
}

/// How far a log-in is.
#[derive(Default)]
enum Login {
    /// Nobody has said who they are.
    #[default]
    None,
    /// A user was typed.
    User(Text),
    /// And a password; whether that is right shows what comes next.
    Password {
        user: Text,
        password: Text,
        /// Not typed ahead.
        was_asked: bool,
    },
}

#[derive(Default)]
struct Way {
    state: State,
    sub: Vec<u8>,
    /// A carriage return was the last octet.
    cr: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Data,
    /// Behind IAC.
    Command,
    /// Behind WILL, WON'T, DO or DON'T.
    Option,
    /// In a subnegotiation.
    Sub,
    /// Behind IAC in one.
    SubCommand,
}

impl Way {
    /// Takes octets up to the end of a subnegotiation, which is returned, or all of them; what is data goes to `data`.
    /// How many were taken.
    fn strip(&mut self, octets: &[u8], data: &mut Vec<u8>) -> (Option<Vec<u8>>, usize) {
        for (at, &octet) in octets.iter().enumerate() {
            self.state = match (self.state, octet) {
                (State::Data, IAC) => State::Command,
                (State::Data, _) => {
                    // CR NUL is a carriage return (RFC 854).
                    if !(self.cr && octet == 0) {
                        data.push(octet);
                    }
                    self.cr = octet == b'\r';
                    State::Data
                }
                (State::Command, IAC) => {
                    data.push(IAC);
                    State::Data
                }
                (State::Command, SB) => {
                    self.sub.clear();
                    State::Sub
                }
                (State::Command, WILL..=DONT) => State::Option,
                (State::Command | State::Option, _) => State::Data,
                (State::Sub, IAC) => State::SubCommand,
                (State::SubCommand, SE) => {
                    self.state = State::Data;
                    return (Some(std::mem::take(&mut self.sub)), at + 1);
                }
                (State::Sub | State::SubCommand, _) => {
                    if self.sub.len() < MOST {
                        self.sub.push(octet);
                    }
                    State::Sub
                }
            };
        }
        (None, octets.len())
    }
}

impl Observer for Telnet {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut rest = octets;
        while !rest.is_empty() {
            let mut data = Vec::with_capacity(rest.len());
            let (sub, n) = self.ways[usize::from(from != Stream::Input)].strip(rest, &mut data);
            rest = &rest[n..];
            if !data.is_empty() {
                self.begin(told);
                self.put(from, &data, told);
            }
            if let Some(sub) = sub.filter(|_| from == Stream::Input) {
                self.negotiated(&sub, told);
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        self.decide(true, told);
        let (user, password) = match std::mem::take(&mut self.login) {
            Login::None => return,
            Login::User(_) if self.is_in => return,
            Login::User(user) => (user, Text::default()),
            Login::Password { user, password, .. } => (user, password),
        };
        told.push(Entry::Attempt { user, credential: Credential::Password { password }, accepted: false });
    }
}

impl Telnet {
    /// A terminal is there from the first octet on.
    fn begin(&mut self, told: &mut Vec<Entry>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let (columns, rows) = self.size.unwrap_or((80, 24));
        let term = self.term.clone().unwrap_or_else(|| Text::new("network"));
        told.push(Entry::Pty { channel: CHANNEL, term, columns, rows });
        told.push(Entry::Shell { channel: CHANNEL });
    }

    /// The client has said what its terminal is.
    fn negotiated(&mut self, sub: &[u8], told: &mut Vec<Entry>) {
        match *sub {
            [NAWS, w1, w0, h1, h0] => {
                let (columns, rows) =
                    (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
                if self.begun {
                    told.push(Entry::Resize { channel: CHANNEL, columns, rows });
                }
                self.size = Some((columns, rows)).filter(|_| columns > 0 && rows > 0);
            }
            [TTYPE, 0, ref term @ ..] => self.term = Some(Text::new(term)),
            _ => {}
        }
    }

    /// Puts on octets of one direction, and where those of a password begin and end.
    fn put(&mut self, from: Stream, data: &[u8], told: &mut Vec<Entry>) {
        let mut part = 0;
        for (at, &octet) in data.iter().enumerate() {
            // What is shown may be an echo up to the line that says how it went, and that was typed ahead.
            let is_secret = match from {
                Stream::Input => {
                    self.typed(octet, told);
                    self.is_secret()
                }
                _ => {
                    let is_secret = self.is_secret();
                    self.showed(octet, told);
                    is_secret
                }
            };
            if is_secret != self.secret {
                if part < at {
                    let data = Bytes::copy_from_slice(&data[part..at]);
                    told.push(Entry::Data { channel: CHANNEL, stream: from, data });
                }
                told.push(Entry::Secret { channel: CHANNEL, begins: is_secret });
                (self.secret, part) = (is_secret, at);
            }
        }
        told.push(Entry::Data { channel: CHANNEL, stream: from, data: Bytes::copy_from_slice(&data[part..]) });
    }

    /// Whether what passes may be a password: from its first sign until what is shown tells whether it was right.
    fn is_secret(&self) -> bool {
        match &self.login {
            Login::Password { .. } => true,
            Login::User(_) => self.asked == Asked::Password && !self.typed.rest().is_empty(),
            Login::None => self.asked == Asked::Password && !self.typed.rest().is_empty(),
        }
    }

    fn typed(&mut self, octet: u8, told: &mut Vec<Entry>) {
        // A line ends with CR, CR LF or CR NUL, of which the NUL is gone.
        if std::mem::replace(&mut self.cr, octet == b'\r') && octet == b'\n' {
            return;
        }
        // Before the first sign is echoed.
        if self.typed.rest().is_empty() {
            self.decide(true, told);
            self.asked = self.asks(told);
        }
        let octet = if octet == b'\r' { b'\n' } else { octet };
        let (Some(line), _) = self.typed.take(&[octet]) else { return };
        match self.asked {
            Asked::User => {
                // Whoever is in says what their prompt is: a command may not pass for a name.
                if self.is_in && !line.is_empty() {
                    told.push(Entry::Command { text: Text::command(&line) });
                }
                self.login = Login::User(Text::new(&line));
            }
            Asked::Password => {
                let was_asked = !self.shown.trim_ascii().is_empty();
                let user = match std::mem::take(&mut self.login) {
                    Login::User(user) | Login::Password { user, .. } => user,
                    Login::None => Text::default(),
                };
                // What was typed ahead was thrown away, as he is asked once more.
                self.ahead.clear();
                self.login = Login::Password { user, password: Text::new(&line), was_asked };
            }
            Asked::Later if self.ahead.len() < AHEAD => self.ahead.push_back(line),
            Asked::Command if !line.is_empty() => told.push(Entry::Command { text: Text::command(&line) }),
            Asked::Later | Asked::Command => {}
        }
        // What is typed ahead has no prompt.
        self.shown.clear();
    }

    /// What a line is for that is typed now.
    fn asks(&mut self, told: &mut Vec<Entry>) -> Asked {
        let prompt = self.shown.trim_ascii_end().to_ascii_lowercase();
        let ends = |words: &[&[u8]]| words.iter().any(|word| prompt.ends_with(word));
        if ends(&[b"login:", b"username:", b"user:"]) {
            return Asked::User;
        }
        match &self.login {
            // Whoever does not wait for the prompt says first who they are.
            Login::None if !self.is_in && !self.has_shown => Asked::User,
            Login::None if !self.is_in && ends(&[b"password:"]) => Asked::Password,
            Login::None => Asked::Command,
            // There is no password.
            Login::User(user) if ends(&[b"$", b"#", b">", b"%", b"]"]) => {
                let credential = Credential::Password { password: Text::default() };
                told.push(Entry::Attempt { user: user.clone(), credential, accepted: true });
                (self.login, self.is_in) = (Login::None, true);
                Asked::Command
            }
            Login::User(_) => Asked::Password,
            Login::Password { .. } if ends(&[b"password:"]) => Asked::Password,
            Login::Password { .. } => Asked::Later,
        }
    }

    fn showed(&mut self, octet: u8, told: &mut Vec<Entry>) {
        self.has_shown |= octet.is_ascii_graphic();
        if octet == b'\n' {
            self.decide(false, told);
            self.shown.clear();
            return;
        }
        if self.shown.len() >= SHOWN {
            self.shown.drain(..SHOWN / 2);
        }
        self.shown.push(octet);
    }

    /// Says whether a password was right, if what was shown tells: a line, or, if the client goes on typing, a prompt.
    fn decide(&mut self, is_prompt: bool, told: &mut Vec<Entry>) {
        let Login::Password { user, password, was_asked } = &self.login else { return };
        let line = self.shown.trim_ascii();
        // Of what was typed ahead there is an echo, by itself or behind a prompt.
        let word = line.rsplit(|octet| *octet == b':').next().unwrap_or_default().trim_ascii();
        let is_typed = |shown: &[u8]| {
            let text = Text::new(shown);
            !shown.is_empty() && (text == *user || text == *password || self.ahead.iter().any(|line| line == shown))
        };
        if is_typed(line) || is_typed(word) || !line.iter().any(u8::is_ascii_graphic) {
            return;
        }
        let line = line.to_ascii_lowercase();
        let says = |what: &[u8]| line.windows(what.len()).any(|part| part == what);
        let asks_password = line.ends_with(b"password:");
        // The prompt that it was typed ahead of, or that it was typed at.
        if asks_password && !(is_prompt && *was_asked) {
            return;
        }
        // "Last login:" is shown to who is in.
        let asks_again = asks_password || (is_prompt && (line.ends_with(b"login:") || says(b"username:")));
        // What failed before is told to who is in.
        let is_past = says(b"last failed login") || says(b"since the last successful login");
        let has_failed = says(b"incorrect") || says(b"failed") || says(b"denied") || says(b"invalid");
        let accepted = !asks_again && (is_past || !has_failed);
        let credential = Credential::Password { password: password.clone() };
        told.push(Entry::Attempt { user: user.clone(), credential, accepted });
        self.is_in |= accepted;
        self.login = if asks_password { Login::User(user.clone()) } else { Login::None };
        if accepted {
            let commands = self.ahead.drain(..).filter(|line| !line.is_empty());
            told.extend(commands.map(|line| Entry::Command { text: Text::command(&line) }));
        } else if let Some(user) = self.ahead.pop_front() {
            // It was not for a shell, then.
            let user = Text::new(&user);
            self.login = match self.ahead.pop_front() {
                Some(password) => Login::Password { user, password: Text::new(&password), was_asked: false },
                None => Login::User(user),
            };
        }
    }
}

#[cfg(test)]
#[path = "telnet_tests.rs"]
mod tests;
