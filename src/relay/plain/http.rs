//! HTTP/1 (RFC 9112): who asks for what, and how that is answered.
//!
//! Where a client asks to go on with HTTP/2 (`Upgrade: h2c`, RFC 7540 §3.2, which RFC 9113 has dropped and servers have not),
//! what it says next waits for the answer, which says what that is.

use std::collections::VecDeque;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::Stream;
use super::asked::{Asked, Place};
use super::line::{Lines, Message};
use crate::relay::tape::{Credential, Entry, Text};

/// Lines of a head. Servers take a hundred, or a few.
const LINES: usize = 256;
/// Requests that wait for their answers: more than lie in the buffers on the way to a server, which reads no further when nobody
/// takes its answers.
const WAITING: usize = 1 << 16;
/// Of those, how many may have come with a user and password whose acceptance is waited for.
const LOGINS: usize = 64;
/// Octets that wait until it is known whether they are HTTP/2. Who means that waits for the answer, and says nothing.
const HELD: usize = 64 << 10;

/// A connection.
#[derive(Default)]
pub(super) struct Http {
    requests: Side,
    answers: Side,
    /// Requests that are not answered.
    waiting: VecDeque<Waiting>,
    /// Users and passwords of those, in their order.
    logins: VecDeque<(Text, Text)>,
    /// Where the host has asked for some.
    asked: Asked,
    /// The client has asked for HTTP/2, with these settings, and has said this since.
    upgrade: Option<Upgrade>,
    /// Whether it is waited for no answer any more.
    is_hasty: bool,
    agreed: Option<Agreed>,
}

/// What a client has said that has asked for HTTP/2.
#[derive(Default)]
struct Upgrade {
    settings: Vec<u8>,
    held: Vec<u8>,
}

/// What goes on as HTTP/2, in which the last request is stream 1.
pub(super) struct Agreed {
    /// The payload of the client's settings.
    pub(super) settings: Vec<u8>,
    /// With what that request came.
    pub(super) login: Option<(Text, Text)>,
    /// What it was for, and where the host has asked for users and passwords.
    pub(super) place: Place,
    pub(super) asked: Asked,
    /// What the client has said behind it.
    pub(super) held: Vec<u8>,
}

/// A request that is not answered. There may be many, so it is small.
#[derive(Clone, Copy, Default)]
struct Waiting {
    /// Its answer has no body.
    is_head: bool,
    /// If it is granted, what follows is no HTTP.
    is_connect: bool,
    /// It came with a user and password.
    has_login: bool,
    /// If it is granted, what follows is HTTP/2.
    asks: bool,
    /// What it is for.
    place: Place,
}

/// One direction.
#[derive(Default)]
struct Side {
    lines: Lines,
    head: Head,
    state: State,
}

#[derive(Default)]
enum State {
    /// In a head.
    #[default]
    Head,
    /// In a body of known length.
    Body(Message),
    /// A chunk's length comes.
    Chunk,
    /// Fields behind the last chunk.
    Trailer,
    /// Until the end of the connection, or no HTTP any more: `CONNECT`, an upgrade.
    Rest,
}

#[derive(Default)]
struct Head {
    first: Vec<u8>,
    lines: usize,
    host: Vec<u8>,
    agent: Vec<u8>,
    authorization: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    /// Of `Upgrade`, whether it names HTTP/2.
    is_h2c: bool,
    /// The client's settings of that, in base 64.
    settings: Vec<u8>,
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { return };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        match name.as_slice() {
            b"host" => self.host = value.to_vec(),
            b"user-agent" => self.agent = value.to_vec(),
            b"authorization" => self.authorization = value.to_vec(),
            b"content-length" => self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            b"upgrade" => self.is_h2c |= value.split(|octet| *octet == b',').any(|name| name.trim_ascii() == b"h2c"),
            b"http2-settings" => self.settings = value.to_vec(),
            b"transfer-encoding" => self.chunked = value.to_ascii_lowercase().ends_with(b"chunked"),
            _ => {}
        }
    }

    /// What follows it, if it has a body.
    fn body(&self) -> State {
        match self.length {
            _ if self.chunked => State::Chunk,
            Some(len) if len > 0 => State::Body(Message::new(len)),
            _ => State::Head,
        }
    }
}

impl Side {
    /// Takes octets up to the end of a head, which is returned, or all of them. How many were taken.
    fn take(&mut self, octets: &[u8]) -> Result<(Option<Head>, usize), &'static str> {
        match &mut self.state {
            State::Rest => Ok((None, octets.len())),
            State::Body(body) => {
                let n = body.take(octets);
                if body.is_complete() {
                    self.state = State::Head;
                }
                Ok((None, n))
            }
            State::Head => {
                let (line, n) = self.lines.take(octets);
                let Some(line) = line else { return Ok((None, n)) };
                self.head.lines += 1;
                match () {
                    () if self.head.lines > LINES => Err("a head without an end"),
                    // Empty lines before a request are to be ignored (RFC 9112 §2.2).
                    () if line.is_empty() && self.head.first.is_empty() => Ok((None, n)),
                    () if line.is_empty() => Ok((Some(std::mem::take(&mut self.head)), n)),
                    () if self.head.first.is_empty() => {
                        self.head.first = line;
                        Ok((None, n))
                    }
                    () => {
                        self.head.field(&line);
                        Ok((None, n))
                    }
                }
            }
            State::Chunk => {
                let (line, n) = self.lines.take(octets);
                let Some(line) = line else { return Ok((None, n)) };
                let digits = line.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
                // The end of the chunk before.
                if digits.is_empty() {
                    return Ok((None, n));
                }
                let len = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
                match len {
                    Some(0) => self.state = State::Trailer,
                    Some(len) => self.state = State::Body(Message::new(len)),
                    None => return Err("no length of a chunk"),
                }
                Ok((None, n))
            }
            State::Trailer => {
                let (line, n) = self.lines.take(octets);
                if line.is_some_and(|line| line.is_empty()) {
                    (self.state, self.head.chunked) = (State::Head, false);
                }
                Ok((None, n))
            }
        }
    }
}

impl Http {
    /// Takes octets up to where it goes on as HTTP/2 (see [`Http::agreed`]), or all of them. How many were taken.
    pub(super) fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < octets.len() && self.agreed.is_none() {
            let rest = octets.get(at..).unwrap_or_default();
            if from == Stream::Input
                && let Some(upgrade) = self.upgrade.as_mut().filter(|_| matches!(self.requests.state, State::Head))
            {
                at = octets.len();
                upgrade.held.extend_from_slice(rest);
                if upgrade.held.len() > HELD {
                    self.is_hasty = true;
                    self.read_held(told)?;
                }
                continue;
            }
            let side = if from == Stream::Input { &mut self.requests } else { &mut self.answers };
            let was_chunk = matches!(side.state, State::Body(_)) && side.head.chunked;
            let (head, n) = side.take(rest)?;
            at += n;
            if was_chunk && matches!(side.state, State::Head) {
                side.state = State::Chunk;
            }
            let Some(head) = head else { continue };
            if from == Stream::Input { self.request(head, told)? } else { self.answer(head, told)? }
        }
        Ok(at)
    }

    /// What goes on as HTTP/2 from where [`Http::see`] has stopped.
    pub(super) fn agreed(&mut self) -> Option<Agreed> {
        self.agreed.take()
    }

    /// Reads what was never answered.
    pub(super) fn end(&mut self, told: &mut Vec<Entry>) {
        self.is_hasty = true;
        // What is wrong with it nobody needs to know any more.
        let _ = self.read_held(told);
        for request in std::mem::take(&mut self.waiting).into_iter().filter(|request| request.has_login) {
            told.extend(self.logins.pop_front().map(|login| answered(login, request.place, None)));
        }
    }

    /// Reads as HTTP/1 what has waited.
    fn read_held(&mut self, told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let Some(upgrade) = self.upgrade.take() else { return Ok(()) };
        self.see(Stream::Input, &upgrade.held, told).map(drop)
    }

    /// A connection with a host that has asked for users and passwords there.
    pub(super) fn new(asked: Asked) -> Http {
        Http { asked, ..Http::default() }
    }

    fn request(&mut self, head: Head, told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut words = head.first.split(|octet| *octet == b' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next());
        let Some(path) = path.filter(|_| method.iter().all(u8::is_ascii_graphic)) else { return Err("no request") };
        let place = self.asked.place(path);
        let [method_text, path, host, agent] =
            [method, path, head.host.as_slice(), head.agent.as_slice()].map(Text::new);
        told.push(Entry::Http { method: method_text, path, host, agent, stream: None });
        if self.waiting.len() >= WAITING {
            return Err("too many requests without an answer");
        }
        let login = basic(&head.authorization);
        let waiting = Waiting {
            is_head: method == b"HEAD",
            is_connect: method == b"CONNECT",
            has_login: login.is_some() && self.logins.len() < LOGINS,
            asks: head.is_h2c && !self.is_hasty,
            place,
        };
        self.waiting.push_back(waiting);
        match login {
            Some(login) if waiting.has_login => self.logins.push_back(login),
            Some(login) => told.push(answered(login, place, None)),
            None => {}
        }
        // Whether something else follows (`CONNECT`, an upgrade) is the server's affair: one that refuses reads on, and who
        // means it waits for the answer. HTTP/2 may follow at once, as Apache reads on with what it has.
        if waiting.asks {
            let settings = BASE64_URL_SAFE_NO_PAD.decode(&head.settings).unwrap_or_default();
            self.upgrade = Some(Upgrade { settings, held: Vec::new() });
        }
        self.requests.state = head.body();
        self.requests.head.chunked = head.chunked;
        Ok(())
    }

    fn answer(&mut self, head: Head, told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut words = head.first.splitn(3, |octet| *octet == b' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = std::str::from_utf8(status).ok().and_then(|text| text.parse::<u16>().ok());
        let Some(status) = status.filter(|_| version.starts_with(b"HTTP/1.")) else { return Err("no answer") };
        told.push(Entry::Status { status, length: head.length, stream: None });
        if (100..200).contains(&status) && status != 101 {
            return Ok(());
        }
        let request = self.waiting.pop_front().unwrap_or_default();
        let login = if request.has_login { self.logins.pop_front() } else { None };
        if status == 101
            && head.is_h2c
            && let Some(Upgrade { settings, held }) = self.upgrade.take_if(|_| request.asks)
        {
            // How that request is answered is told in HTTP/2.
            let (place, asked) = (request.place, self.asked.clone());
            self.agreed = Some(Agreed { settings, login, place, asked, held });
            return Ok(());
        }
        told.extend(login.map(|login| answered(login, request.place, Some(status))));
        if status == 401 {
            self.asked.refused(request.place);
        }
        let is_over = status == 101 || (request.is_connect && (200..300).contains(&status));
        if is_over {
            self.requests = Side { state: State::Rest, ..Side::default() };
        }
        self.answers.state = match head.body() {
            _ if is_over => State::Rest,
            _ if request.is_head || matches!(status, 204 | 304) => State::Head,
            State::Head if head.length.is_none() => State::Rest,
            state => state,
        };
        self.answers.head.chunked = head.chunked;
        if request.asks { self.read_held(told) } else { Ok(()) }
    }
}

/// What is told of a user and password with which something at `place` was asked for, and how that was answered, if at all.
pub(super) fn answered((user, password): (Text, Text), place: Place, status: Option<u16>) -> Entry {
    let credential = Credential::Password { password };
    match status {
        Some(401) => Entry::Attempt { user, credential, accepted: false },
        _ if !place.was_asked => Entry::Unasked { user, credential },
        Some(403) | None => Entry::Attempt { user, credential, accepted: false },
        Some(_) => Entry::Attempt { user, credential, accepted: true },
    }
}

/// User and password of RFC 7617, as a field has them.
pub(super) fn basic(authorization: &[u8]) -> Option<(Text, Text)> {
    let plain = BASE64_STANDARD.decode(authorization.strip_prefix(b"Basic ")?.trim_ascii()).ok()?;
    let colon = plain.iter().position(|octet| *octet == b':')?;
    Some((Text::new(&plain[..colon]), Text::new(&plain[colon + 1..])))
}
