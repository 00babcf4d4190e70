//! POP3 (RFC 1939) with SASL (RFC 5034) up to the password.

use super::profile::Profile;
use super::say::{Turn, base64, kept, line, plain, word};

const TRIES: u8 = 4;

/// A connection.
#[derive(Default)]
pub struct Pop3 {
    user: Option<Box<[u8]>>,
    /// The next line is a PLAIN message.
    plain: bool,
    tries: u8,
}

impl Pop3 {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        turn.say(match &profile.banner {
            Some(banner) => format!("+OK {}\r\n", banner.trim_end()),
            None if profile.is("cyrus") => {
                format!("+OK {} Cyrus POP3 v{} server ready\r\n", profile.hostname, profile.version)
            }
            None => "+OK Dovecot ready.\r\n".to_owned(),
        });
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some((taken, line)) = line(input) else { return 0 };
        if std::mem::take(&mut self.plain) {
            self.sasl(line, turn);
            return taken;
        }
        let (verb, rest) = word(line);
        match verb.to_ascii_uppercase().as_slice() {
            b"CAPA" => {
                let implementation = if profile.is("cyrus") { "IMPLEMENTATION Cyrus POP3\r\n" } else { "" };
                turn.say(format!(
                    "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\nUSER\r\nSASL PLAIN\r\n\
                     {implementation}.\r\n"
                ));
            }
            b"USER" => {
                turn.request(line);
                self.user = Some(kept(rest));
                turn.say("+OK\r\n");
            }
            b"PASS" => match self.user.take() {
                Some(user) => {
                    turn.password("PASS", &user, rest);
                    self.refuse(turn);
                }
                None => turn.say("-ERR No username given.\r\n"),
            },
            b"APOP" => {
                let (user, digest) = word(rest);
                turn.password("APOP", user, digest);
                self.refuse(turn);
            }
            b"AUTH" => {
                let (mechanism, initial) = word(rest);
                if !mechanism.eq_ignore_ascii_case(b"PLAIN") {
                    turn.say("-ERR Unsupported authentication mechanism.\r\n");
                } else if initial.is_empty() {
                    self.plain = true;
                    turn.say("+ \r\n");
                } else {
                    self.sasl(initial, turn);
                }
            }
            b"QUIT" => turn.end("+OK Logging out\r\n"),
            b"NOOP" => turn.say("+OK\r\n"),
            _ => {
                turn.request(line);
                turn.say("-ERR Unknown command.\r\n");
            }
        }
        taken
    }

    fn sasl(&mut self, line: &[u8], turn: &mut Turn<'_>) {
        match base64(line) {
            Some(message) => {
                let (user, password) = plain(&message);
                turn.password("PLAIN", user, password);
                self.refuse(turn);
            }
            None => turn.say("-ERR Authentication aborted by client.\r\n"),
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>) {
        turn.say("-ERR [AUTH] Authentication failed.\r\n");
        self.tries += 1;
        turn.close = self.tries >= TRIES;
    }
}
