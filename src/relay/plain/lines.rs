//! Protocols whose commands and answers are lines: FTP (RFC 959), SMTP (RFC 5321), POP3 (RFC 1939) and IMAP (RFC 3501).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::line;
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};
use crate::service::Spoken;

/// Answers in a row that are told; the lines of a mailbox or a directory are no answers to commands.
const ANSWERS: u32 = 64;

/// A connection.
pub(super) struct Lines {
    spoken: Spoken,
    commands: line::Lines,
    answers: line::Lines,
    /// Answers since the last command.
    answered: u32,
    /// In a message or a file, until a dot on a line of its own.
    in_data: bool,
    login: Login,
    /// The last command wants TLS.
    asked_tls: bool,
    /// Within TLS from here on.
    is_sealed: bool,
    /// What is within is shown.
    within: bool,
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
    /// The next answer says whether it is accepted.
    Tried(Text, Text),
}

impl Lines {
    pub(super) fn new(spoken: Spoken, within: bool) -> Lines {
        Lines {
            spoken,
            commands: line::Lines::default(),
            answers: line::Lines::default(),
            answered: 0,
            in_data: false,
            login: Login::None,
            asked_tls: false,
            is_sealed: false,
            within,
        }
    }

    fn command(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        (self.answered, self.asked_tls) = (0, false);
        if self.in_data {
            self.in_data = line != b".";
            return;
        }
        let login = std::mem::take(&mut self.login);
        match login {
            Login::AskedUser => return self.login = Login::AskedPassword(decoded(line)),
            Login::AskedPassword(user) => return self.login = Login::Tried(user, decoded(line)),
            Login::AskedBoth => return self.login = plain(line),
            other => self.login = other,
        }
        // IMAP's commands have a tag in front.
        let line = match self.spoken {
            Spoken::Imap => line.splitn(2, |octet| *octet == b' ').nth(1).unwrap_or_default(),
            _ => line,
        };
        let mut words = line.splitn(2, |octet| *octet == b' ');
        let (verb, rest) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next().unwrap_or_default());
        self.asked_tls = verb == b"STARTTLS";
        match (verb.as_slice(), self.spoken) {
            (b"USER", _) => self.login = Login::User(Text::new(rest)),
            (b"PASS", _) => {
                let user = if let Login::User(user) = &self.login { user.clone() } else { Text::default() };
                self.login = Login::Tried(user, Text::new(rest));
            }
            (b"LOGIN", Spoken::Imap) => {
                let mut words = rest.splitn(2, |octet| *octet == b' ').map(unquoted);
                self.login = Login::Tried(words.next().unwrap_or_default(), words.next().unwrap_or_default());
            }
            (b"AUTH" | b"AUTHENTICATE", _) => {
                let mut words = rest.splitn(2, |octet| *octet == b' ');
                let way = words.next().unwrap_or_default().to_ascii_uppercase();
                let initial = words.next();
                self.login = match (way.as_slice(), initial) {
                    (b"LOGIN", None) => Login::AskedUser,
                    (b"LOGIN", Some(user)) => Login::AskedPassword(decoded(user)),
                    (b"PLAIN", None) => Login::AskedBoth,
                    (b"PLAIN", Some(both)) => plain(both),
                    _ => Login::None,
                };
                // What follows may be a password.
                told.push(Entry::Command { text: Text::new([verb.as_slice(), b" ", &way].concat()) });
                return;
            }
            _ => {}
        }
        let is_secret = matches!(verb.as_slice(), b"PASS") || (verb == b"LOGIN" && self.spoken == Spoken::Imap);
        if !is_secret && !line.is_empty() {
            told.push(Entry::Command { text: Text::command(line) });
        }
    }

    fn answer(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        // 354 of SMTP: a message follows.
        self.in_data |= self.spoken == Spoken::Smtp && line.starts_with(b"354");
        let (is_final, is_good) = verdict(self.spoken, line);
        if let (Login::Tried(user, password), true) = (&self.login, is_final) {
            let credential = Credential::Password { password: password.clone() };
            told.push(Entry::Attempt { user: user.clone(), credential, accepted: is_good });
            self.login = Login::None;
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
            let lines = if from == Stream::Input { &mut self.commands } else { &mut self.answers };
            // A handshake record of TLS; no line begins so.
            if self.is_sealed || (octets[at] == 22 && lines.rest().is_empty()) {
                return Err("TLS begins");
            }
            let (line, n) = lines.take(&octets[at..]);
            at += n;
            match line {
                Some(line) if from == Stream::Input => self.command(&line, told),
                Some(line) => self.answer(&line, told),
                None => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        if let Login::Tried(user, password) = std::mem::take(&mut self.login) {
            told.push(Entry::Attempt { user, credential: Credential::Password { password }, accepted: false });
        }
        if !self.in_data && !self.commands.rest().is_empty() {
            told.push(Entry::Command { text: Text::command(self.commands.rest()) });
            self.commands.clear();
        }
    }
}

/// Whether a line answers a command, and says yes.
fn verdict(spoken: Spoken, line: &[u8]) -> (bool, bool) {
    match spoken {
        // Of several lines all but the last have a hyphen behind the number.
        Spoken::Ftp | Spoken::Smtp => {
            let is_final = line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit) && line.get(3) != Some(&b'-');
            // 331 and 334 want more; the log-in is told of when it has all.
            (is_final && line[0] != b'3', line.first() == Some(&b'2'))
        }
        Spoken::Pop3 => (line.starts_with(b"+OK") || line.starts_with(b"-ERR"), line.starts_with(b"+OK")),
        _ => {
            let word = line.split(|octet| *octet == b' ').nth(1).unwrap_or_default().to_ascii_uppercase();
            let is_tagged = !line.starts_with(b"*") && !line.starts_with(b"+");
            (is_tagged && matches!(word.as_slice(), b"OK" | b"NO" | b"BAD"), word == b"OK")
        }
    }
}

fn unquoted(word: &[u8]) -> Text {
    let word = word.trim_ascii();
    let inner = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\""));
    Text::new(inner.unwrap_or(word))
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
    Login::Tried(Text::new(user), Text::new(password))
}
