//! Protocols whose commands and answers are lines: FTP (RFC 959), SMTP (RFC 5321), POP3 (RFC 1939) and IMAP (RFC 3501).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::line::{self, Message};
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};
use crate::service::Spoken;

/// Answers in a row that are told; the lines of a mailbox or a directory are no answers to commands.
const ANSWERS: u32 = 64;

/// Octets of a literal that are told; a message that is stored is none of a command.
const LITERAL: u64 = 256;

/// A connection.
pub(super) struct Lines {
    spoken: Spoken,
    commands: line::Lines,
    answers: line::Lines,
    /// Answers since the last command.
    answered: u32,
    /// In a message or a file, until a dot on a line of its own.
    in_data: bool,
    /// An IMAP command whose lines go on behind literals (RFC 3501 §4.3), without the end of its present line.
    held: Vec<u8>,
    /// What is still to come of a literal, which is part of it; none if another line is due.
    literal: Option<Literal>,
    login: Login,
    /// What the log-in asked for was refused; the next line may be a command, or what was to come all the same.
    is_refused: bool,
    /// Of IMAP: the tag of the command that the log-in began with.
    tag: Vec<u8>,
    /// Of the others: answers that are still to come, of which the greeting is one, and how many of them come before that
    /// to the log-in. Commands may be sent at once.
    due: u32,
    before_login: u32,
    /// The last command wants TLS.
    asked_tls: bool,
    /// Within TLS from here on.
    is_sealed: bool,
    /// What is within is shown.
    within: bool,
}

/// Octets within an IMAP command.
struct Literal {
    message: Message,
    len: u64,
    /// It comes without being asked for.
    unasked: bool,
}

/// How far a log-in is.
#[derive(Default)]
enum Login {
    #[default]
    None,
    /// A user was named.
    User(Text),
    /// The next line is a user in base 64 (SMTP's `AUTH LOGIN`).
    AskedUser,
    /// The next line is a password in base 64.
    AskedPassword(Text),
    /// The next line is both in base 64 (`AUTH PLAIN`, RFC 4616).
    AskedBoth,
    /// The next line is a response of that mechanism (RFC 4422), as were these.
    AskedOther(Text, Vec<u8>),
    /// The next answer is another challenge, or says whether these responses are accepted.
    Responded(Text, Vec<u8>),
    /// The next answer says whether it is accepted.
    Tried(Text, Credential),
}

impl Login {
    fn password(user: Text, password: Text) -> Login {
        Login::Tried(user, Credential::Password { password })
    }

    /// As responses were said, one after the other.
    fn response(way: Text, mut before: Vec<u8>, said: &[u8]) -> Login {
        if !before.is_empty() {
            before.push(b' ');
        }
        let room = line::MOST.saturating_sub(before.len());
        before.extend_from_slice(&said[..said.len().min(room)]);
        Login::Responded(way, before)
    }

    /// Whether the next line is part of it.
    fn is_asked(&self) -> bool {
        matches!(self, Login::AskedUser | Login::AskedPassword(_) | Login::AskedBoth | Login::AskedOther(..))
    }

    /// What was tried, if all of it was said.
    fn attempt(self, accepted: bool) -> Option<Entry> {
        let (user, credential) = match self {
            Login::Tried(user, credential) => (user, credential),
            Login::Responded(way, said) => {
                let scheme = Text::new(way.as_str().to_ascii_lowercase());
                (Text::default(), Credential::Digest { scheme, value: Text::new(said) })
            }
            _ => return None,
        };
        Some(Entry::Attempt { user, credential, accepted })
    }
}

impl Lines {
    pub(super) fn new(spoken: Spoken, within: bool) -> Lines {
        Lines {
            spoken,
            commands: line::Lines::default(),
            answers: line::Lines::default(),
            answered: 0,
            in_data: false,
            held: Vec::new(),
            literal: None,
            login: Login::None,
            is_refused: false,
            tag: Vec::new(),
            due: 1,
            before_login: 0,
            asked_tls: false,
            is_sealed: false,
            within,
        }
    }

    /// A line from the client, which may be part of a command.
    fn line(&mut self, line: Vec<u8>, told: &mut Vec<Entry>) {
        let announced = if self.spoken == Spoken::Imap { announced(&line) } else { None };
        let room = line::MOST.saturating_sub(self.held.len());
        let is_part = announced.is_some() || !self.held.is_empty();
        if is_part {
            let end = announced.map_or(line.len(), |(at, ..)| at);
            self.held.extend_from_slice(&line[..end.min(room)]);
        }
        match announced {
            Some((_, len, unasked)) => {
                self.literal = Some(Literal { message: Message::new(len), len, unasked });
                if len == 0 {
                    self.put_literal();
                }
            }
            None if is_part => {
                let whole = std::mem::take(&mut self.held);
                self.command(&whole, told);
            }
            None => self.command(&line, told),
        }
    }

    /// A literal is over: a short one stands in its command as what it could have been as well, of a long one its length.
    fn put_literal(&mut self) {
        let Some(Literal { message, len, .. }) = self.literal.take() else { return };
        // However many of them a command has.
        if self.held.len() >= line::MOST {
            return;
        }
        if len > LITERAL {
            self.held.extend_from_slice(format!("{{{len}}}").as_bytes());
            return;
        }
        self.held.push(b'"');
        for octet in message.kept {
            if matches!(octet, b'"' | b'\\') {
                self.held.push(b'\\');
            }
            self.held.push(octet);
        }
        self.held.push(b'"');
    }

    fn command(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        (self.answered, self.asked_tls) = (0, false);
        // Servers do as they like with empty lines.
        self.due = self.due.saturating_add(u32::from(if self.in_data { line == b"." } else { !line.is_empty() }));
        if self.in_data {
            self.in_data = line != b".";
            return;
        }
        if std::mem::take(&mut self.is_refused) && self.is_command(line) {
            self.login = Login::None;
        }
        match std::mem::take(&mut self.login) {
            // The client has changed its mind.
            login if login.is_asked() && line == b"*" => return,
            Login::AskedUser => return self.log_in(Login::AskedPassword(decoded(line)), told),
            Login::AskedPassword(user) => return self.log_in(Login::password(user, decoded(line)), told),
            Login::AskedBoth => return self.log_in(plain(line), told),
            Login::AskedOther(way, before) => return self.log_in(Login::response(way, before, line), told),
            other => self.login = other,
        }
        // IMAP's commands have a tag in front.
        let (tag, line) = match self.spoken {
            Spoken::Imap => (word(line), line.splitn(2, |octet| *octet == b' ').nth(1).unwrap_or_default()),
            _ => (&[][..], line),
        };
        let mut words = line.splitn(2, |octet| *octet == b' ');
        let (verb, rest) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next().unwrap_or_default());
        self.asked_tls = verb == b"STARTTLS";
        match (verb.as_slice(), self.spoken) {
            (b"USER", _) => self.log_in(Login::User(Text::new(rest)), told),
            (b"PASS", _) => {
                let user = if let Login::User(user) = &self.login { user.clone() } else { Text::default() };
                return self.log_in(Login::password(user, Text::new(rest)), told);
            }
            (b"APOP", Spoken::Pop3) => {
                let mut words = rest.splitn(2, |octet| *octet == b' ').map(Text::new);
                let (user, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                return self.log_in(Login::Tried(user, Credential::Digest { scheme: Text::new("apop"), value }), told);
            }
            (b"LOGIN", Spoken::Imap) => {
                let (user, rest) = string(rest);
                self.log_in(Login::password(user, string(rest).0), told);
                self.tag = tag.to_vec();
                return;
            }
            (b"AUTH" | b"AUTHENTICATE", _) => {
                let mut words = rest.splitn(2, |octet| *octet == b' ');
                let way = words.next().unwrap_or_default().to_ascii_uppercase();
                let initial = words.next();
                let login = match (way.as_slice(), initial) {
                    (b"LOGIN", None) => Login::AskedUser,
                    (b"LOGIN", Some(user)) => Login::AskedPassword(decoded(user)),
                    // Of POP3 it asks which ways there are.
                    (b"", None) => Login::None,
                    (b"PLAIN", None) => Login::AskedBoth,
                    (b"PLAIN", Some(both)) => plain(both),
                    // Of FTP it is what secures the connection (RFC 2228).
                    _ if self.spoken == Spoken::Ftp => Login::None,
                    (way, None) => Login::AskedOther(Text::new(way), Vec::new()),
                    (way, Some(initial)) => Login::response(Text::new(way), Vec::new(), initial),
                };
                self.log_in(login, told);
                self.tag = tag.to_vec();
                // What follows may be a password.
                told.push(Entry::Command { text: Text::new([verb.as_slice(), b" ", &way].concat()) });
                return;
            }
            _ => {}
        }
        if !line.is_empty() {
            told.push(Entry::Command { text: Text::command(line) });
        }
    }

    /// A log-in begins or goes on with the last command. One whose answer was not waited for is told as well.
    fn log_in(&mut self, next: Login, told: &mut Vec<Entry>) {
        self.before_login = self.due.saturating_sub(1);
        told.extend(std::mem::replace(&mut self.login, next).attempt(false));
    }

    /// Whether a line where something else was asked for is a command.
    fn is_command(&self, line: &[u8]) -> bool {
        const VERBS: [&str; 26] = [
            "EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP", "AUTH",
            "STARTTLS", "USER", "PASS", "APOP", "STAT", "LIST", "RETR", "DELE", "TOP", "UIDL", "CAPA", "STLS", "UTF8",
        ];
        match self.spoken {
            Spoken::Imap => line.contains(&b' '),
            _ => VERBS.iter().any(|verb| word(line).eq_ignore_ascii_case(verb.as_bytes())),
        }
    }

    /// Whether an answer is that to the log-in, if it is final.
    fn is_to_login(&mut self, line: &[u8], is_reply: bool) -> bool {
        if self.spoken == Spoken::Imap {
            return word(line) == self.tag;
        }
        let is_earlier = is_reply && self.before_login > 0;
        self.due = self.due.saturating_sub(is_reply.into());
        self.before_login = self.before_login.saturating_sub(is_reply.into());
        !is_earlier
    }

    fn answer(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        // 354 of SMTP: a message follows.
        self.in_data |= self.spoken == Spoken::Smtp && line.starts_with(b"354");
        let (is_final, is_good) = verdict(self.spoken, line);
        let is_challenge = match self.spoken {
            Spoken::Smtp => line.starts_with(b"334"),
            _ => line.starts_with(b"+ ") || line == b"+",
        };
        let is_reply = is_challenge || is_final || is_intermediate(self.spoken, line);
        let is_to_login = self.is_to_login(line, is_reply) || (is_challenge && self.spoken == Spoken::Imap);
        match std::mem::take(&mut self.login) {
            login if !is_to_login => self.login = login,
            Login::Responded(way, said) if is_challenge => self.login = Login::AskedOther(way, said),
            // Not by this way. What says yes answers an earlier one.
            login if login.is_asked() && is_final && !is_good => (self.login, self.is_refused) = (login, true),
            login @ (Login::Tried(..) | Login::Responded(..)) if is_final => told.extend(login.attempt(is_good)),
            login => self.login = login,
        }
        // A literal that was announced is refused with its command, and does not come if it was to be asked for.
        let is_awaited = self.literal.as_ref().is_some_and(|literal| !literal.unasked);
        if is_final && !is_good && is_awaited && word(line) == word(&self.held) {
            self.literal = None;
            let held = std::mem::take(&mut self.held);
            self.command(&held, told);
            let attempt = std::mem::take(&mut self.login).attempt(false);
            let is_nobody = |entry: &Entry| matches!(entry, Entry::Attempt { user, .. } if user.as_str().is_empty());
            told.extend(attempt.filter(|entry| !is_nobody(entry)));
        }
        // Upgrades (RFC 3207, 2595, 4217): what follows is nothing that could be read.
        let starts_tls = matches!(self.spoken, Spoken::Ftp) && line.starts_with(b"234")
            || matches!(self.spoken, Spoken::Smtp) && line.starts_with(b"220") && self.asked_tls;
        self.is_sealed |= starts_tls && !self.within;
        self.answered = self.answered.saturating_add(1);
        if self.answered <= ANSWERS {
            told.push(Entry::Answer { text: Text::new(line) });
        }
    }
}

impl Observer for Lines {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut at = 0;
        while at < octets.len() {
            if let (Some(literal), Stream::Input) = (&mut self.literal, from) {
                at += literal.message.take(&octets[at..]);
                if literal.message.is_complete() {
                    self.put_literal();
                }
                continue;
            }
            let lines = if from == Stream::Input { &mut self.commands } else { &mut self.answers };
            // A handshake record of TLS; no line begins so.
            if self.is_sealed || (octets[at] == 22 && lines.rest().is_empty()) {
                return Err("TLS begins");
            }
            let (line, n) = lines.take(&octets[at..]);
            at += n;
            match line {
                Some(line) if from == Stream::Input => self.line(line, told),
                Some(line) => self.answer(&line, told),
                None => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        if self.literal.is_some() {
            self.put_literal();
        }
        let rest = [std::mem::take(&mut self.held), self.commands.rest().to_vec()].concat();
        self.commands.clear();
        // It may be a log-in like any other.
        if !rest.is_empty() {
            self.command(&rest, told);
        }
        told.extend(std::mem::take(&mut self.login).attempt(false));
    }
}

/// Whether a line answers a command, and says yes.
fn verdict(spoken: Spoken, line: &[u8]) -> (bool, bool) {
    match spoken {
        // Of several lines all but the last have a hyphen behind the number.
        Spoken::Ftp | Spoken::Smtp => {
            let is_final = line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit) && line.get(3) != Some(&b'-');
            // After 150 another one comes; 331 and 334 want more, and the log-in is told of when it has all.
            (is_final && !matches!(line[0], b'1' | b'3'), line.first() == Some(&b'2'))
        }
        Spoken::Pop3 => (line.starts_with(b"+OK") || line.starts_with(b"-ERR"), line.starts_with(b"+OK")),
        _ => {
            let word = line.split(|octet| *octet == b' ').nth(1).unwrap_or_default().to_ascii_uppercase();
            let is_tagged = !line.starts_with(b"*") && !line.starts_with(b"+");
            (is_tagged && matches!(word.as_slice(), b"OK" | b"NO" | b"BAD"), word == b"OK")
        }
    }
}

/// Whether a line answers a command, which something has to follow (RFC 959 §4.2).
fn is_intermediate(spoken: Spoken, line: &[u8]) -> bool {
    let is_number = line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit);
    matches!(spoken, Spoken::Ftp | Spoken::Smtp) && is_number && line[0] == b'3' && line.get(3) != Some(&b'-')
}

/// The tag of a command, or of its answer.
fn word(line: &[u8]) -> &[u8] {
    line.split(|octet| *octet == b' ').next().unwrap_or_default()
}

/// A literal that a line ends with, `{5}`, or `{5+}` that is not asked for (RFC 7888): where it is announced, how many octets it
/// has, and whether it comes unasked.
fn announced(line: &[u8]) -> Option<(usize, u64, bool)> {
    let inner = line.strip_suffix(b"}")?;
    let at = inner.iter().rposition(|octet| *octet == b'{')?;
    // It is a word of its own, or a binary one (RFC 3516).
    let is_word = at.checked_sub(1).is_none_or(|before| matches!(inner[before], b' ' | b'~' | b'('));
    let digits = &inner[at + 1..];
    let (digits, unasked) = digits.strip_suffix(b"+").map_or((digits, false), |digits| (digits, true));
    let is_number = is_word && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let len = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    Some((at, len, unasked))
}

/// IMAP's next string, quoted or not, and what follows it.
fn string(line: &[u8]) -> (Text, &[u8]) {
    let line = line.trim_ascii_start();
    let Some(quoted) = line.strip_prefix(b"\"") else {
        let end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        return (Text::new(&line[..end]), &line[end..]);
    };
    let (mut inner, mut octets) = (Vec::new(), quoted.iter().enumerate());
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'"' => return (Text::new(inner), &quoted[at + 1..]),
            b'\\' => inner.extend(octets.next().map(|(_, octet)| *octet)),
            octet => inner.push(*octet),
        }
    }
    // It does not end, so that it is none.
    (Text::new(line), &[])
}

fn decoded(line: &[u8]) -> Text {
    match BASE64_STANDARD.decode(line.trim_ascii()) {
        Ok(plain) => Text::new(plain),
        Err(_) => Text::new(line),
    }
}

/// `AUTH PLAIN`'s one message: who to be, who one is, and the password, with NULs between.
fn plain(encoded: &[u8]) -> Login {
    let octets = BASE64_STANDARD.decode(encoded.trim_ascii()).unwrap_or_default();
    let (_, rest) = line::until_nul(&octets);
    let (user, password) = line::until_nul(rest);
    Login::password(Text::new(user), Text::new(password))
}
