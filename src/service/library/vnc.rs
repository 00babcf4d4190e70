//! VNC (RFC 6143): VNC authentication, which nobody passes.

use super::profile::Profile;
use super::say::{Login, Turn, at};

/// A connection.
#[derive(Default)]
pub struct Vnc {
    step: Step,
    /// The minor version that both speak: 3, 7 or 8.
    minor: u8,
}

#[derive(Default)]
enum Step {
    #[default]
    Version,
    Security,
    Response,
}

impl Vnc {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let mut numbers = profile.version.split('.').map(|number| number.parse().unwrap_or(0u16).min(999));
        let (major, minor) = (numbers.next().unwrap_or(3), numbers.next().unwrap_or(8));
        turn.say(format!("RFB {major:03}.{minor:03}\n"));
    }

    pub(super) fn data(&mut self, _: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        match self.step {
            Step::Version => {
                let Some(version) = at::<12>(input, 0) else { return 0 };
                if !version.starts_with(b"RFB 003.") {
                    turn.close = true;
                    return 12;
                }
                turn.request(&version[..11]);
                self.minor = match &version[8..11] {
                    b"008" => 8,
                    b"007" => 7,
                    _ => 3,
                };
                if self.minor == 3 {
                    turn.say([0, 0, 0, 2]);
                    self.challenge(turn);
                } else {
                    turn.say([1, 2]);
                    self.step = Step::Security;
                }
                12
            }
            Step::Security => {
                if input.first() == Some(&2) {
                    self.challenge(turn);
                } else {
                    turn.close = true;
                }
                1
            }
            Step::Response => {
                let Some(response) = at::<16>(input, 0) else { return 0 };
                turn.login(&Login {
                    method: "VNC",
                    challenge: Some(&turn.caller.octets::<16>(4)),
                    response: Some(&response),
                    ..Login::default()
                });
                turn.say([0, 0, 0, 1]);
                if self.minor == 8 {
                    let why = b"Authentication failed";
                    turn.say((why.len() as u32).to_be_bytes());
                    turn.say(why);
                }
                turn.close = true;
                16
            }
        }
    }

    fn challenge(&mut self, turn: &mut Turn<'_>) {
        turn.say(turn.caller.octets::<16>(4));
        self.step = Step::Response;
    }
}
