//! Redis: commands as arrays of strings (RESP 2), or as lines.

use super::line::{Lines, Message};
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};

/// Parts of a command that are told.
const PARTS: usize = 16;
/// Octets of each.
const PART: usize = 256;
/// Parts that a command may have; Redis' own limit is 1,048,576.
const MOST: u64 = 1 << 20;

/// A connection.
#[derive(Default)]
pub(super) struct Redis {
    lines: Lines,
    answers: Lines,
    /// Parts of the present command that are still to come.
    left: u64,
    /// The part that comes.
    part: Option<Message>,
    parts: Vec<Vec<u8>>,
    /// The line's end behind a part.
    end_due: bool,
    /// An answer is due; its first line is told.
    answer_due: bool,
    login: Option<(Text, Text)>,
}

impl Redis {
    fn input(&mut self, octets: &[u8], told: &mut Vec<Entry>) -> Result<usize, &'static str> {
        if let Some(part) = &mut self.part {
            let n = part.take(octets);
            if part.is_complete() {
                if self.parts.len() < PARTS {
                    let mut kept = std::mem::take(&mut part.kept);
                    kept.truncate(PART);
                    self.parts.push(kept);
                }
                (self.part, self.end_due) = (None, true);
            }
            return Ok(n);
        }
        let (line, n) = self.lines.take(octets);
        let Some(line) = line else { return Ok(n) };
        if std::mem::take(&mut self.end_due) {
            self.left -= 1;
            if self.left == 0 {
                self.command(told);
            }
            return Ok(n);
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        match line.split_first() {
            Some((b'*', count)) if self.left == 0 => {
                self.left = number(count).filter(|count| *count <= MOST).ok_or("no number of parts")?;
            }
            Some((b'$', len)) if self.left > 0 => self.part = Some(Message::new(number(len).ok_or("no length")?)),
            Some(_) if self.left > 0 => return Err("no part of a command"),
            Some(_) => {
                self.parts = line.split(u8::is_ascii_whitespace).take(PARTS).map(<[u8]>::to_vec).collect();
                self.command(told);
            }
            None => {}
        }
        Ok(n)
    }

    fn command(&mut self, told: &mut Vec<Entry>) {
        let parts = std::mem::take(&mut self.parts);
        self.answer_due = true;
        let is = |at: usize, word: &[u8]| parts.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word));
        let shown = match parts.as_slice() {
            [_, password] if is(0, b"auth") => return self.tried(Text::new("default"), Text::new(password), told),
            [_, user, password] if is(0, b"auth") => return self.tried(Text::new(user), Text::new(password), told),
            // A log-in may come with the version of the protocol, before or behind a name of the client.
            [_, _, rest @ ..] if is(0, b"hello") => {
                let at = rest.iter().position(|part| part.eq_ignore_ascii_case(b"auth"));
                if let Some([_, user, password, ..]) = at.and_then(|at| rest.get(at..)) {
                    self.tried(Text::new(user), Text::new(password), told);
                }
                at.map_or(&*parts, |at| &parts[..at + 2])
            }
            all => all,
        };
        told.push(Entry::Command { text: Text::command(shown.join(&b' ')) });
    }

    /// A log-in, which the next answer is to. One that nobody has waited to be answered is told as well.
    fn tried(&mut self, user: Text, password: Text, told: &mut Vec<Entry>) {
        self.end(told);
        self.login = Some((user, password));
    }

    fn answer(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        if !std::mem::take(&mut self.answer_due) {
            return;
        }
        if let Some((user, password)) = self.login.take() {
            // `+OK`, or what there is to say of the server.
            let accepted = !line.starts_with(b"-") && !line.starts_with(b"!");
            told.push(Entry::Attempt { user, credential: Credential::Password { password }, accepted });
        }
        told.push(Entry::Answer { text: Text::new(line) });
    }
}

impl Observer for Redis {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut at = 0;
        while at < octets.len() || (from == Stream::Input && self.part.as_ref().is_some_and(Message::is_complete)) {
            at += match from {
                Stream::Input => self.input(&octets[at..], told)?,
                _ => {
                    let (line, n) = self.answers.take(&octets[at..]);
                    line.into_iter().for_each(|line| self.answer(&line, told));
                    n
                }
            };
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        if let Some((user, password)) = self.login.take() {
            told.push(Entry::Attempt { user, credential: Credential::Password { password }, accepted: false });
        }
    }
}
