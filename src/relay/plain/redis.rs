//! Redis: commands as arrays of strings (RESP 2), or as lines.

use std::collections::VecDeque;

use super::line::{Lines, Message};
use super::{Observer, Stream};
use crate::relay::tape::{Credential, Entry, Text};

/// Parts of a command that are told.
const PARTS: usize = 16;
/// Octets of each.
const PART: usize = 256;
/// Parts that a command may have; Redis' own limit is 1,048,576.
const MOST: u64 = 1 << 20;
/// Commands whose answers may be due.
const DUE: usize = 128;

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
    /// Commands whose answers are to come, of which the first line is told, and the log-ins among them.
    due: VecDeque<Option<(Text, Text)>>,
    /// Answers to earlier ones that are to come as well.
    forgotten: u64,
    answer: Answer,
}

/// An answer that comes (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
#[derive(Default)]
struct Answer {
    /// Parts that are still to come.
    due: u64,
    /// Octets of a part that are still to come.
    skip: u64,
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
        match line.split_first() {
            Some((b'*', count)) if self.left == 0 => {
                self.left = number(count).filter(|count| *count <= MOST).ok_or("no number of parts")?;
            }
            Some((b'$', len)) if self.left > 0 => self.part = Some(Message::new(number(len).ok_or("no length")?)),
            Some(_) if self.left > 0 => return Err("no part of a command"),
            // That is not answered.
            Some(_) if line.trim_ascii().is_empty() => {}
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
        if self.due.len() >= DUE {
            // Whose answers are not waited for is told without them, and they are nobody else's.
            self.forgotten = self.forgotten.saturating_add(self.due.len() as u64);
            self.end(told);
        }
        let mut login = None;
        let is = |at: usize, word: &[u8]| parts.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word));
        let shown = match parts.as_slice() {
            [_, password] if is(0, b"auth") => {
                return self.due.push_back(Some((Text::new("default"), Text::new(password))));
            }
            [_, user, password] if is(0, b"auth") => {
                return self.due.push_back(Some((Text::new(user), Text::new(password))));
            }
            // A log-in may come with the version of the protocol, before or behind a name of the client.
            [_, _, rest @ ..] if is(0, b"hello") => {
                let at = rest.iter().position(|part| part.eq_ignore_ascii_case(b"auth"));
                if let Some([_, user, password, ..]) = at.and_then(|at| rest.get(at..)) {
                    login = Some((Text::new(user), Text::new(password)));
                }
                at.map_or(&*parts, |at| &parts[..at + 2])
            }
            all => all,
        };
        told.push(Entry::Command { text: Text::command(shown.join(&b' ')) });
        self.due.push_back(login);
    }

    /// A line of an answer.
    fn answer(&mut self, line: &[u8], told: &mut Vec<Entry>) {
        let (kind, count) = line.split_first().map_or((0, None), |(kind, count)| (*kind, number(count)));
        if self.answer.due == 0 {
            self.answer = Answer { due: 1, skip: 0 };
            // What is pushed answers nothing.
            let is_pushed = kind == b'>';
            if !is_pushed && self.forgotten > 0 {
                self.forgotten -= 1;
            } else if !is_pushed && let Some(login) = self.due.pop_front() {
                if let Some((user, password)) = login {
                    // `+OK`, or what there is to say of the server.
                    let accepted = !line.starts_with(b"-") && !line.starts_with(b"!");
                    told.push(attempt(user, password, accepted));
                }
                told.push(Entry::Answer { text: Text::new(line) });
            }
        }
        let Answer { due, skip } = &mut self.answer;
        *due -= 1;
        match (kind, count) {
            (b'*' | b'~' | b'>', Some(count)) => *due = due.saturating_add(count),
            (b'%', Some(pairs)) => *due = due.saturating_add(pairs.saturating_mul(2)),
            // Attributes stand in front of what they belong to.
            (b'|', Some(pairs)) => *due = due.saturating_add(pairs.saturating_mul(2)).saturating_add(1),
            (b'$' | b'!' | b'=', Some(len)) => *skip = len.saturating_add(2),
            // Of a length below zero there is nothing.
            _ => {}
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn attempt(user: Text, password: Text, accepted: bool) -> Entry {
    Entry::Attempt { user, credential: Credential::Password { password }, accepted }
}

impl Observer for Redis {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut at = 0;
        while at < octets.len() || (from == Stream::Input && self.part.as_ref().is_some_and(Message::is_complete)) {
            let rest = &octets[at..];
            at += match from {
                Stream::Input => self.input(rest, told)?,
                _ if self.answer.skip > 0 => {
                    let n = rest.len().min(usize::try_from(self.answer.skip).unwrap_or(usize::MAX));
                    self.answer.skip -= n as u64;
                    n
                }
                _ => {
                    let (line, n) = self.answers.take(rest);
                    line.into_iter().for_each(|line| self.answer(&line, told));
                    n
                }
            };
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        for (user, password) in self.due.drain(..).flatten() {
            told.push(attempt(user, password, false));
        }
    }
}
