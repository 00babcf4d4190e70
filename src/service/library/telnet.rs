//! Telnet (RFC 854): options are negotiated as the server of a product does, and a login is asked for.

use super::profile::Profile;
use super::say::Turn;

const TRIES: u8 = 3;
/// Octets that are said before it is seen whether they leave.
const MAX_SAID: usize = 1024;
/// Octets of a name or password that are kept.
const TYPED: usize = 128;

const SE: u8 = 240;
const SB: u8 = 250;
const WILL: u8 = 251;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

/// A connection.
#[derive(Default)]
pub struct Telnet {
    command: Command,
    /// What was typed of the present line.
    typed: Vec<u8>,
    /// The name, once it was given.
    user: Option<Vec<u8>>,
    /// The prompt was shown.
    prompted: bool,
    /// The octet before was a CR, whose LF or NUL is no line of its own.
    after_cr: bool,
    tries: u8,
}

/// Where in a command the input is (RFC 854, RFC 855).
#[derive(Clone, Copy, Default)]
enum Command {
    #[default]
    None,
    Begun,
    /// WILL, WON'T, DO or DON'T, whose option follows.
    Option(u8),
    Sub,
    SubBegun,
}

impl Telnet {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        match profile.product.as_str() {
            // Terminal type, speed, X display and environment; the prompt waits for the client's answer.
            "linux" => turn.say([IAC, DO, 24, IAC, DO, 32, IAC, DO, 35, IAC, DO, 39]),
            "cisco" => {
                turn.say([IAC, WILL, 1, IAC, WILL, 3, IAC, DO, 24, IAC, DO, 31]);
                self.prompt(profile, turn);
            }
            _ => {
                turn.say([IAC, DO, 1, IAC, DO, 31, IAC, WILL, 1, IAC, WILL, 3]);
                self.prompt(profile, turn);
            }
        }
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        for (at, octet) in input.iter().enumerate() {
            self.octet(*octet, profile, turn);
            // Empty lines are answered by prompts, which are longer.
            if turn.close || turn.out.len() > MAX_SAID {
                return at + 1;
            }
        }
        if !self.prompted {
            turn.say([IAC, WILL, 3, IAC, WILL, 1]);
            self.prompt(profile, turn);
        }
        input.len()
    }

    fn octet(&mut self, octet: u8, profile: &Profile, turn: &mut Turn<'_>) {
        self.command = match (self.command, octet) {
            (Command::None, IAC) => Command::Begun,
            (Command::None, _) => {
                self.character(octet, profile, turn);
                Command::None
            }
            (Command::Begun, SB) => Command::Sub,
            (Command::Begun, WILL..=DONT) => Command::Option(octet),
            (Command::Begun, _) => Command::None,
            // What was not offered is refused: WON'T to DO. Answers to what was offered want no answer.
            (Command::Option(DO), option) if !matches!(option, 1 | 3) => {
                turn.say([IAC, WILL + 1, option]);
                Command::None
            }
            (Command::Option(_), _) => Command::None,
            (Command::Sub, IAC) => Command::SubBegun,
            (Command::Sub, _) => Command::Sub,
            (Command::SubBegun, SE) => Command::None,
            (Command::SubBegun, _) => Command::Sub,
        };
    }

    fn character(&mut self, octet: u8, profile: &Profile, turn: &mut Turn<'_>) {
        let after_cr = std::mem::replace(&mut self.after_cr, octet == b'\r');
        match octet {
            b'\n' | 0 if after_cr => {}
            b'\r' | b'\n' => self.line(profile, turn),
            8 | 127 => self.rub_out(turn),
            3 | 4 => turn.close = true,
            b' '.. if self.typed.len() < TYPED => {
                self.typed.push(octet);
                if self.user.is_none() {
                    turn.say([octet]);
                }
            }
            _ => {}
        }
    }

    fn rub_out(&mut self, turn: &mut Turn<'_>) {
        if self.typed.pop().is_some() && self.user.is_none() {
            turn.say(b"\x08 \x08");
        }
    }

    fn line(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let typed = std::mem::take(&mut self.typed);
        turn.say("\r\n");
        match self.user.take() {
            None if typed.is_empty() => self.ask(profile, turn),
            None => {
                self.user = Some(typed);
                turn.say("Password: ");
            }
            Some(user) => {
                turn.password("telnet", &user, &typed);
                self.tries += 1;
                if profile.is("cisco") {
                    turn.say("% Login invalid\r\n\r\n");
                } else {
                    turn.say("Login incorrect\r\n");
                }
                if self.tries >= TRIES {
                    turn.close = true;
                } else {
                    self.ask(profile, turn);
                }
            }
        }
    }

    fn prompt(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        self.prompted = true;
        if let Some(banner) = &profile.banner {
            turn.say(format!("{}\r\n", banner.trim_end().replace("\r\n", "\n").replace('\n', "\r\n")));
        } else if profile.is("cisco") {
            turn.say("\r\n\r\nUser Access Verification\r\n\r\n");
        } else if profile.is("linux") {
            turn.say("Debian GNU/Linux 12\r\n");
        }
        self.ask(profile, turn);
    }

    fn ask(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        match profile.hostname.as_str() {
            _ if profile.is("cisco") => turn.say("Username: "),
            "" => turn.say("login: "),
            host => turn.say(format!("{host} login: ")),
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.typed.capacity() + self.user.as_ref().map_or(0, Vec::capacity)
    }
}
