//! IMAP (RFC 3501) up to the password, literals (RFC 7888) included.

use super::profile::Profile;
use super::say::{MAX_LINE, Turn, base64, line, plain, printable, word};

const TRIES: u8 = 4;
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN";

/// A connection.
#[derive(Default)]
pub struct Imap {
    /// A command of which a literal is still to come, or the tag of an exchange.
    held: Vec<u8>,
    awaits: Awaits,
    tries: u8,
}

/// What comes next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Awaits {
    #[default]
    Line,
    /// So many octets of a literal.
    Literal(usize),
    /// A PLAIN message.
    Plain,
}

impl Imap {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        turn.say(match &profile.banner {
            Some(banner) => format!("* OK {}\r\n", banner.trim_end()),
            None if profile.is("cyrus") => format!(
                "* OK [CAPABILITY {CAPABILITIES}] {} Cyrus IMAP v{} server ready\r\n",
                profile.hostname, profile.version
            ),
            None => format!("* OK [CAPABILITY {CAPABILITIES}] Dovecot ready.\r\n"),
        });
    }

    pub(super) fn data(&mut self, _: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        if let Awaits::Literal(length) = self.awaits {
            let Some(literal) = input.get(..length) else { return 0 };
            self.held.push(b'"');
            for octet in literal {
                if matches!(octet, b'"' | b'\\') {
                    self.held.push(b'\\');
                }
                self.held.push(*octet);
            }
            self.held.push(b'"');
            self.awaits = Awaits::Line;
            return length;
        }
        let Some((taken, line)) = line(input) else { return 0 };
        if self.awaits == Awaits::Plain {
            self.awaits = Awaits::Line;
            let tag = std::mem::take(&mut self.held);
            self.plain(&tag, line, turn);
            return taken;
        }
        if let Some((length, asks)) = literal(line)
            && self.held.len() + line.len() + 2 * length <= MAX_LINE
        {
            self.held.extend_from_slice(&line[..line.iter().rposition(|octet| *octet == b'{').unwrap_or(0)]);
            self.awaits = Awaits::Literal(length);
            if asks {
                turn.say("+ OK\r\n");
            }
            return taken;
        }
        let mut command = std::mem::take(&mut self.held);
        command.extend_from_slice(line);
        self.command(&command, turn);
        taken
    }

    fn command(&mut self, command: &[u8], turn: &mut Turn<'_>) {
        let (tag, rest) = word(command);
        let (verb, rest) = word(rest);
        let name = printable(tag);
        match verb.to_ascii_uppercase().as_slice() {
            b"CAPABILITY" => turn.say(format!(
                "* CAPABILITY {CAPABILITIES}\r\n{name} OK Pre-login capabilities listed, post-login capabilities have more.\r\n"
            )),
            b"LOGIN" => {
                let (user, rest) = string(rest);
                let (password, _) = string(rest);
                turn.password("LOGIN", &user, &password);
                self.refuse(&name, turn);
            }
            b"AUTHENTICATE" => {
                let (mechanism, initial) = word(rest);
                if !mechanism.eq_ignore_ascii_case(b"PLAIN") {
                    turn.say(format!("{name} NO Unsupported authentication mechanism.\r\n"));
                } else if initial.is_empty() {
                    self.held = tag.to_vec();
                    self.awaits = Awaits::Plain;
                    turn.say("+ \r\n");
                } else {
                    self.plain(tag, initial, turn);
                }
            }
            b"LOGOUT" => turn.end(format!("* BYE Logging out\r\n{name} OK Logout completed.\r\n")),
            b"NOOP" => turn.say(format!("{name} OK NOOP completed.\r\n")),
            b"ID" => turn.say(format!("* ID NIL\r\n{name} OK ID completed.\r\n")),
            b"" => turn.say("* BAD Error in IMAP command received by server.\r\n"),
            _ => {
                turn.request(command);
                turn.say(format!("{name} BAD Error in IMAP command received by server.\r\n"));
            }
        }
    }

    fn plain(&mut self, tag: &[u8], line: &[u8], turn: &mut Turn<'_>) {
        let tag = printable(tag);
        match base64(line) {
            Some(message) => {
                let (user, password) = plain(&message);
                turn.password("PLAIN", user, password);
                self.refuse(&tag, turn);
            }
            None => turn.say(format!("{tag} BAD Authentication aborted by client.\r\n")),
        }
    }

    fn refuse(&mut self, tag: &str, turn: &mut Turn<'_>) {
        turn.say(format!("{tag} NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"));
        self.tries += 1;
        if self.tries >= TRIES {
            turn.end("* BYE Too many authentication failures.\r\n");
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.held.capacity()
    }
}

/// The length of a literal that a line ends with, and whether it is to be asked for.
fn literal(line: &[u8]) -> Option<(usize, bool)> {
    let line = line.strip_suffix(b"}")?;
    let at = line.iter().rposition(|octet| *octet == b'{')?;
    let digits = &line[at + 1..];
    let (digits, asks) = digits.strip_suffix(b"+").map_or((digits, true), |digits| (digits, false));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|length| *length <= MAX_LINE).map(|length| (length, asks))
}

/// The first `astring` of `text`, and the rest.
fn string(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let text = text.trim_ascii_start();
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (atom, rest) = word(text);
        return (atom.to_vec(), rest);
    };
    let (mut value, mut escaped) = (Vec::new(), false);
    for (at, octet) in quoted.iter().enumerate() {
        match octet {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return (value, &quoted[at + 1..]),
            octet => {
                value.push(*octet);
                escaped = false;
            }
        }
    }
    (value, &[])
}
