//! SMTP (RFC 5321) with AUTH (RFC 4954). Nothing is ever taken for delivery.

use super::profile::Profile;
use super::say::{Turn, base64, kept, line, plain, printable, word};

/// Refused commands until the line is cut.
const TRIES: u8 = 10;

/// A connection.
#[derive(Default)]
pub struct Smtp {
    awaits: Awaits,
    user: Box<[u8]>,
    sender: bool,
    tries: u8,
}

/// What the next line is.
#[derive(Default)]
enum Awaits {
    #[default]
    Command,
    Plain,
    User,
    Password,
}

impl Smtp {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let (version, host) = (&profile.version, &profile.hostname);
        turn.say(match (&profile.banner, profile.product.as_str()) {
            (Some(banner), _) => format!("220 {}\r\n", banner.trim_end()),
            (_, "exim") => format!("220 {host} ESMTP Exim {version}\r\n"),
            (_, "sendmail") => format!("220 {host} ESMTP Sendmail {version}/{version}\r\n"),
            _ if version.is_empty() => format!("220 {host} ESMTP Postfix (Debian/GNU)\r\n"),
            _ => format!("220 {host} ESMTP Postfix ({version}) (Debian)\r\n"),
        });
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some((taken, line)) = line(input) else { return 0 };
        match std::mem::take(&mut self.awaits) {
            Awaits::Command => self.command(profile, line, turn),
            _ if line == b"*" => turn.say("501 5.7.0 Authentication aborted\r\n"),
            Awaits::Plain => self.plain(line, turn),
            Awaits::User => self.user(line, turn),
            Awaits::Password => {
                let password = base64(line).unwrap_or_else(|| line.to_vec());
                turn.password("LOGIN", &self.user, &password);
                self.refuse(turn);
            }
        }
        taken
    }

    fn command(&mut self, profile: &Profile, line: &[u8], turn: &mut Turn<'_>) {
        let (verb, rest) = word(line);
        if !verb.is_empty() && !verb.eq_ignore_ascii_case(b"AUTH") {
            turn.request(line);
        }
        let host = &profile.hostname;
        match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => turn.say(format!(
                "250-{host}\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-AUTH PLAIN LOGIN\r\n\
                 250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 DSN\r\n"
            )),
            b"HELO" => turn.say(format!("250 {host}\r\n")),
            b"AUTH" => {
                let (mechanism, initial) = word(rest);
                match mechanism.to_ascii_uppercase().as_slice() {
                    b"PLAIN" if initial.is_empty() => {
                        self.awaits = Awaits::Plain;
                        turn.say("334 \r\n");
                    }
                    b"PLAIN" => self.plain(initial, turn),
                    b"LOGIN" if initial.is_empty() => {
                        self.awaits = Awaits::User;
                        turn.say("334 VXNlcm5hbWU6\r\n");
                    }
                    b"LOGIN" => self.user(initial, turn),
                    _ => turn.say("504 5.5.4 Unrecognized authentication type\r\n"),
                }
            }
            b"MAIL" => {
                self.sender = true;
                turn.say("250 2.1.0 Ok\r\n");
            }
            b"RCPT" if !self.sender => turn.say("503 5.5.1 Error: need MAIL command\r\n"),
            b"RCPT" => {
                let (_, to) = rest.split_at(rest.iter().position(|octet| *octet == b':').map_or(0, |at| at + 1));
                turn.say(format!("554 5.7.1 {}: Relay access denied\r\n", printable(to.trim_ascii())));
                self.count(turn);
            }
            b"DATA" => turn.say("503 5.5.1 Error: need RCPT command\r\n"),
            b"RSET" => {
                self.sender = false;
                turn.say("250 2.0.0 Ok\r\n");
            }
            b"NOOP" => turn.say("250 2.0.0 Ok\r\n"),
            b"VRFY" => turn.say("252 2.0.0 Cannot verify\r\n"),
            b"HELP" => turn.say("502 5.5.1 Error: command not implemented\r\n"),
            b"QUIT" => turn.end("221 2.0.0 Bye\r\n"),
            b"" => turn.say("500 5.5.2 Error: bad syntax\r\n"),
            _ => {
                turn.say("502 5.5.2 Error: command not recognized\r\n");
                self.count(turn);
            }
        }
    }

    fn plain(&mut self, line: &[u8], turn: &mut Turn<'_>) {
        match base64(line) {
            Some(message) => {
                let (user, password) = plain(&message);
                turn.password("PLAIN", user, password);
                self.refuse(turn);
            }
            None => turn.say("501 5.5.2 Cannot decode\r\n"),
        }
    }

    fn user(&mut self, line: &[u8], turn: &mut Turn<'_>) {
        self.user = kept(&base64(line).unwrap_or_else(|| line.to_vec()));
        self.awaits = Awaits::Password;
        turn.say("334 UGFzc3dvcmQ6\r\n");
    }

    fn refuse(&mut self, turn: &mut Turn<'_>) {
        turn.say("535 5.7.8 Error: authentication failed: authentication failure\r\n");
        self.count(turn);
    }

    fn count(&mut self, turn: &mut Turn<'_>) {
        self.tries += 1;
        if self.tries >= TRIES {
            turn.end("421 4.7.0 Error: too many errors\r\n");
        }
    }
}
