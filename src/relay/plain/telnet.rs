//! Telnet (RFC 854): a terminal's input and output without the options between, and what the client says of its terminal.

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

/// A connection.
#[derive(Default)]
pub(super) struct Telnet {
    ways: [Way; 2],
    begun: bool,
    term: Option<Text>,
    size: Option<(u32, u32)>,
    /// The last that was shown of the present line.
    shown: Vec<u8>,
    /// The same when the first sign of the line that is typed was.
    prompt: Vec<u8>,
    typed: Lines,
    /// A line has just ended by a carriage return.
    cr: bool,
    login: Login,
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
    Password(Text, Text),
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
                match from {
                    Stream::Input => self.typed(&data, told),
                    _ => self.showed(&data, told),
                }
                told.push(Entry::Data { channel: CHANNEL, stream: from, data: Bytes::from(data) });
            }
            if let Some(sub) = sub.filter(|_| from == Stream::Input) {
                self.negotiated(&sub, told);
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        if !self.shown.trim_ascii().is_empty() {
            self.decide(true, told);
        }
        if let Login::User(user) | Login::Password(user, _) = &self.login {
            let password =
                if let Login::Password(_, password) = &self.login { password.clone() } else { Text::default() };
            let credential = Credential::Password { password };
            told.push(Entry::Attempt { user: user.clone(), credential, accepted: false });
        }
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

    fn typed(&mut self, data: &[u8], told: &mut Vec<Entry>) {
        for &octet in data {
            // A line ends with CR, CR LF or CR NUL, of which the NUL is gone.
            if std::mem::replace(&mut self.cr, octet == b'\r') && octet == b'\n' {
                continue;
            }
            // Before the first sign is echoed.
            if self.typed.rest().is_empty() {
                self.decide(true, told);
                self.prompt = self.shown.trim_ascii_end().to_ascii_lowercase();
            }
            let octet = if octet == b'\r' { b'\n' } else { octet };
            let (Some(line), _) = self.typed.take(&[octet]) else { continue };
            let asks = |what: &[u8]| self.prompt.ends_with(what);
            if asks(b"login:") || asks(b"username:") || asks(b"user:") {
                self.login = Login::User(Text::new(&line));
            } else if let (Login::User(user), true) = (&self.login, asks(b"password:")) {
                self.login = Login::Password(user.clone(), Text::new(&line));
            } else if !line.is_empty() {
                told.push(Entry::Command { text: Text::command(&line) });
            }
            // What is typed ahead has no prompt.
            self.shown.clear();
        }
    }

    fn showed(&mut self, data: &[u8], told: &mut Vec<Entry>) {
        for &octet in data {
            if octet == b'\n' {
                self.decide(false, told);
                self.shown.clear();
                continue;
            }
            if self.shown.len() >= SHOWN {
                self.shown.drain(..SHOWN / 2);
            }
            self.shown.push(octet);
        }
    }

    /// Says whether a password was right, if what was shown tells: a line, or, if the client goes on typing, a prompt.
    fn decide(&mut self, is_prompt: bool, told: &mut Vec<Entry>) {
        let Login::Password(user, password) = &self.login else { return };
        if !is_prompt && !self.shown.iter().any(u8::is_ascii_graphic) {
            return;
        }
        let line = self.shown.to_ascii_lowercase();
        let says = |what: &[u8]| line.windows(what.len()).any(|part| part == what);
        // "Last login:" is shown to who is in.
        let asks_again = is_prompt && (line.trim_ascii_end().ends_with(b"login:") || says(b"username:"));
        let accepted = !(asks_again || says(b"incorrect") || says(b"failed") || says(b"denied") || says(b"invalid"));
        let credential = Credential::Password { password: password.clone() };
        told.push(Entry::Attempt { user: user.clone(), credential, accepted });
        self.login = Login::None;
    }
}
