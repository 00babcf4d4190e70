//! Protocols in which TLS begins later, as far as that takes knowing them: which line asks for it, and which answer is whose.
//!
//! Nothing here does anything: [`Talk`] is told what either side has said, and says what may go on. A client's next line goes on when
//! the one before has its answer, so that there is no doubt what the answer to `STARTTLS` is, and what of a client is a command:
//! a line within a message, a literal or a log-in is none.

use bytes::{Bytes, BytesMut};

/// Octets of a line that is looked at. A longer one goes on in pieces and is no command.
pub(super) const LINE: usize = 8 * 1024;

/// A protocol in which TLS may begin later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 3207.
    Smtp,
    /// RFC 3501 §6.2.1.
    Imap,
    /// RFC 2595 §4.
    Pop3,
    /// RFC 4217: the control connection.
    Ftp,
    /// `SSLRequest`, which is no line: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>.
    Postgres,
}

/// What a piece of what a client says is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something that is answered.
    Ask,
    /// A part of something.
    Tell,
    /// The wish for TLS.
    Upgrade,
}

/// A piece of what a server says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// It.
    pub data: Bytes,
    /// What the client is to see in its place.
    pub shown: Option<Bytes>,
    /// Whether it is the end of an answer, and then whether that is a yes.
    pub done: Option<bool>,
}

/// What a command is waited for that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    /// A message follows if the answer says so.
    Message,
    /// The server says what it can: SMTP's EHLO, POP3's CAPA, FTP's FEAT.
    Abilities,
    /// A list of lines, in POP3.
    List,
    /// The client is logged in if the answer is a yes.
    LogIn,
}

/// The state of one conversation before TLS.
#[derive(Debug)]
pub struct Talk {
    dialect: Dialect,
    /// Whether what the server can is completed by TLS: it does not have it, but we do.
    announces: bool,
    /// Answers that the server owes; first a greeting.
    owed: u32,
    /// It has begun to answer, and the client may speak already: FTP's 1xx.
    is_under_way: bool,
    pending: Pending,
    /// Octets of the client's that are no lines.
    raw: u64,
    /// The same once the server asks for them.
    literal: u64,
    /// The client's next line belongs to the one before.
    is_continued: bool,
    /// The client's lines are a message.
    is_message: bool,
    /// The rest of a line that was too long is yet to come: of the client's, of the server's.
    is_within: [bool; 2],
    /// IMAP's, of the last command.
    tag: Vec<u8>,
    /// The code of an answer of several lines, or that there is a list.
    lines: Option<[u8; 3]>,
    /// It can TLS already.
    has_tls: bool,
    /// From here on, TLS does not begin.
    is_free: bool,
}

/// The first line, or as much as is looked at, and whether it ends there.
fn line_of(from: &[u8]) -> Option<(usize, bool)> {
    let start = from.get(..LINE).unwrap_or(from);
    match start.iter().position(|octet| *octet == b'\n') {
        Some(end) => Some((end + 1, true)),
        None => (start.len() == LINE).then_some((LINE, false)),
    }
}

/// A line without its end and the spaces before that.
fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

/// The first word, and the rest.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let (first, rest) = text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()));
    (first, rest.trim_ascii())
}

/// The same with the word in capitals.
fn word(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (first, rest) = split(text);
    (first.to_ascii_uppercase(), rest)
}

/// The literal that a line of IMAP ends with (RFC 3501 §4.3, RFC 7888): how long it is, and whether the server asks for it.
fn literal(text: &[u8]) -> Option<(u64, bool)> {
    let number = &text[text.iter().rposition(|octet| *octet == b'{')? + 1..].strip_suffix(b"}")?;
    let (number, waits) = number.strip_suffix(b"+").map_or((*number, true), |number| (number, false));
    std::str::from_utf8(number).ok()?.parse::<u32>().ok().map(|number| (number.into(), waits))
}

/// The code that an answer begins with (RFC 5321 §4.2, RFC 959 §4.2), and whether more lines follow.
fn code_of(line: &[u8]) -> Option<([u8; 3], bool)> {
    let code: [u8; 3] = line.get(..3)?.try_into().ok()?;
    code.iter().all(u8::is_ascii_digit).then_some((code, line.get(3) == Some(&b'-')))
}

fn has(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what))
}

impl Talk {
    /// A conversation that begins. `announces` adds TLS to what the server says that it can.
    pub fn new(dialect: Dialect, announces: bool) -> Talk {
        Talk {
            dialect,
            announces,
            owed: 1,
            is_under_way: false,
            pending: Pending::Nothing,
            raw: 0,
            literal: 0,
            is_continued: false,
            is_message: false,
            is_within: [false; 2],
            tag: Vec::new(),
            lines: None,
            has_tls: false,
            is_free: false,
        }
    }

    /// Whether TLS does not begin any more.
    pub fn is_free(&self) -> bool {
        self.is_free
    }

    /// Whether every answer is there.
    pub fn owes_nothing(&self) -> bool {
        self.owed == 0
    }

    /// Takes what may go on of what the client has said.
    pub fn take(&mut self, from: &mut BytesMut) -> Option<(Bytes, Said)> {
        if self.raw > 0 && !from.is_empty() {
            let n = self.raw.min(from.len() as u64);
            self.raw -= n;
            return Some((from.split_to(n as usize).freeze(), Said::Tell));
        }
        let (n, ends) = line_of(from)?;
        let is_within = std::mem::replace(&mut self.is_within[0], !ends);
        let line = &from[..n];
        let is_held = self.owed > 0 && (!self.is_under_way || self.is_wish(line));
        if is_held && !is_within {
            self.is_within[0] = false;
            return None;
        }
        let said = match (is_within, ends) {
            (false, true) => self.said(trimmed(&from[..n])),
            // Too long for a command, but it is answered all the same.
            (true, true) if !self.is_message => Said::Ask,
            _ => Said::Tell,
        };
        if !is_within && !ends && !self.is_message && !std::mem::take(&mut self.is_continued) {
            self.pending = Pending::Nothing;
            self.tag = split(&from[..n]).0.to_vec();
        }
        self.owed += u32::from(said != Said::Tell);
        Some((from.split_to(n).freeze(), said))
    }

    fn is_wish(&self, line: &[u8]) -> bool {
        // Some servers pass over spaces before a command.
        let (first, rest) = word(line.trim_ascii());
        match self.dialect {
            Dialect::Smtp => first == b"STARTTLS" && rest.is_empty(),
            Dialect::Imap => word(rest) == (b"STARTTLS".to_vec(), &[]),
            Dialect::Pop3 => first == b"STLS" && rest.is_empty(),
            Dialect::Ftp => first == b"AUTH" && [&b"TLS"[..], b"TLS-C", b"SSL", b"TLS-P"].contains(&&*word(rest).0),
            Dialect::Postgres => false,
        }
    }

    /// What a whole line of the client's is.
    fn said(&mut self, line: &[u8]) -> Said {
        let is_continued = std::mem::take(&mut self.is_continued);
        if self.is_message {
            self.is_message = line != b".";
            return if self.is_message { Said::Tell } else { Said::Ask };
        }
        let (first, rest) = word(line);
        if !is_continued {
            self.pending = Pending::Nothing;
            self.tag = split(line).0.to_vec();
            if self.is_wish(line) {
                return Said::Upgrade;
            }
            self.pending = match (self.dialect, &first[..]) {
                (Dialect::Smtp, b"DATA") => Pending::Message,
                (Dialect::Smtp, b"EHLO") | (Dialect::Pop3, b"CAPA") | (Dialect::Ftp, b"FEAT") => Pending::Abilities,
                (Dialect::Pop3, b"AUTH") if rest.is_empty() => Pending::List,
                (Dialect::Pop3, b"PASS" | b"APOP" | b"AUTH") => Pending::LogIn,
                (Dialect::Imap, _) if matches!(&word(rest).0[..], b"LOGIN" | b"AUTHENTICATE") => Pending::LogIn,
                _ => Pending::Nothing,
            };
            self.has_tls = false;
            if self.dialect == Dialect::Smtp && first == b"BDAT" {
                // RFC 3030 §2 sets no end to it.
                let size = std::str::from_utf8(&word(rest).0).ok().and_then(|size| size.parse().ok());
                self.raw = size.unwrap_or(0);
            }
        }
        if self.dialect != Dialect::Imap {
            return Said::Ask;
        }
        match literal(line) {
            Some((octets, true)) => self.literal = octets,
            Some((octets, false)) => {
                (self.raw, self.is_continued) = (octets, true);
                return Said::Tell;
            }
            None => {}
        }
        Said::Ask
    }

    /// Takes a piece of what the server has said.
    pub fn answered(&mut self, from: &mut BytesMut) -> Option<Answer> {
        let (n, ends) = line_of(from)?;
        let data = from.split_to(n).freeze();
        let is_within = std::mem::replace(&mut self.is_within[1], !ends);
        if is_within || !ends {
            return Some(Answer { data, shown: None, done: None });
        }
        let (shown, done) = match self.dialect {
            Dialect::Smtp | Dialect::Ftp => self.coded(&data),
            Dialect::Imap => self.tagged(&data),
            Dialect::Pop3 => self.signed(&data),
            Dialect::Postgres => (None, None),
        };
        if done.is_some() {
            self.owed = self.owed.saturating_sub(1);
            self.is_under_way &= self.owed > 0;
        }
        let shown = shown.filter(|_| self.announces).map(Bytes::from);
        Some(Answer { data, shown, done })
    }

    /// SMTP and FTP.
    fn coded(&mut self, line: &[u8]) -> (Option<Vec<u8>>, Option<bool>) {
        let is_list = self.lines.is_some();
        self.has_tls |= has(line, b"STARTTLS") || has(line, b"AUTH TLS") || has(line, b"AUTH SSL");
        let Some((code, more)) = code_of(line).filter(|(code, _)| self.lines.is_none_or(|lines| lines == *code)) else {
            return (None, None);
        };
        self.lines = more.then_some(code);
        if more {
            return (None, None);
        }
        if self.dialect == Dialect::Ftp && code[0] == b'1' {
            self.is_under_way = true;
            return (None, None);
        }
        let is_yes = code[0] == b'2';
        let mut shown = None;
        match self.pending {
            Pending::Message if code == *b"354" => self.is_message = true,
            Pending::Abilities if is_yes && !self.has_tls && self.dialect == Dialect::Smtp => {
                shown = Some([b"250-", &line[4.min(line.len())..], b"250 STARTTLS\r\n"].concat());
            }
            Pending::Abilities if is_yes && !self.has_tls && is_list => shown = Some([b" AUTH TLS\r\n", line].concat()),
            _ => {}
        }
        self.is_continued = self.dialect == Dialect::Smtp && code == *b"334";
        (shown, Some(is_yes))
    }

    /// IMAP.
    fn tagged(&mut self, line: &[u8]) -> (Option<Vec<u8>>, Option<bool>) {
        let (first, rest) = split(trimmed(line));
        let second = word(rest).0;
        match first {
            b"+" => {
                self.raw = std::mem::take(&mut self.literal);
                self.is_continued = true;
                (None, Some(true))
            }
            b"*" => {
                // Nobody has asked yet: this is the greeting.
                let is_greeting = self.tag.is_empty();
                self.is_free |= is_greeting && second == b"PREAUTH";
                (with_capability(line), is_greeting.then_some(true).filter(|_| self.owed > 0))
            }
            tag if tag.eq_ignore_ascii_case(&self.tag) && self.owed > 0 => {
                let is_yes = second == b"OK";
                (self.literal, self.is_continued) = (0, false);
                self.is_free |= is_yes && self.pending == Pending::LogIn;
                (None, Some(is_yes))
            }
            _ => (None, None),
        }
    }

    /// POP3.
    fn signed(&mut self, line: &[u8]) -> (Option<Vec<u8>>, Option<bool>) {
        self.has_tls |= trimmed(line).eq_ignore_ascii_case(b"STLS");
        if self.lines.is_some() {
            let ends = trimmed(line) == b".";
            self.lines = self.lines.filter(|_| !ends);
            let adds = ends && self.pending == Pending::Abilities && !self.has_tls;
            return (adds.then(|| b"STLS\r\n.\r\n".to_vec()), ends.then_some(true));
        }
        match (&word(trimmed(line)).0[..], self.pending) {
            (b"+OK", Pending::Abilities | Pending::List) => {
                self.lines = Some(*b"+OK");
                (None, None)
            }
            (b"+OK", pending) => {
                self.is_free |= pending == Pending::LogIn;
                (None, Some(true))
            }
            (b"+", _) => {
                self.is_continued = true;
                (None, Some(true))
            }
            (b"-ERR", _) => (None, Some(false)),
            _ => (None, None),
        }
    }

    /// What a server answers to the wish for TLS that goes on with it, as Postfix, Dovecot and vsftpd do. The wish is not
    /// waited for any longer.
    pub fn agree(&mut self) -> Vec<u8> {
        self.owed = 0;
        match self.dialect {
            Dialect::Smtp => b"220 2.0.0 Ready to start TLS\r\n".to_vec(),
            Dialect::Imap => [&self.tag, &b" OK Begin TLS negotiation now.\r\n"[..]].concat(),
            Dialect::Pop3 => b"+OK Begin TLS negotiation now.\r\n".to_vec(),
            Dialect::Ftp => b"234 Proceed with negotiation.\r\n".to_vec(),
            Dialect::Postgres => b"S".to_vec(),
        }
    }
}

/// A line in which an IMAP server says what it can (RFC 3501 §7.2.1), with TLS added.
fn with_capability(line: &[u8]) -> Option<Vec<u8>> {
    const WORD: &[u8] = b"CAPABILITY ";
    if has(line, b"STARTTLS") {
        return None;
    }
    let at = line.windows(WORD.len()).position(|part| part.eq_ignore_ascii_case(WORD))?;
    let end = at + line[at..].iter().position(|octet| matches!(octet, b']' | b'\r' | b'\n'))?;
    Some([&line[..end], b" STARTTLS", &line[end..]].concat())
}
