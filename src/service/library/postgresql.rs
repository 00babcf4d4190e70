//! PostgreSQL up to the refusal (chapter "Frontend/Backend Protocol" of its manual, version 3). The password is
//! asked for in clear, which clients grant.

use super::profile::Profile;
use super::say::{Login, Turn, at, kept, printable, to_nul};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// A connection.
#[derive(Default)]
pub struct Postgresql {
    asked: Option<Startup>,
}

/// Who has asked for a session, and of which database.
#[derive(Default)]
struct Startup {
    user: Box<[u8]>,
    database: Box<[u8]>,
}

impl Postgresql {
    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        if self.asked.is_some() {
            return self.password(profile, input, turn);
        }
        let Some(length) = at(input, 0).map(u32::from_be_bytes) else { return 0 };
        // MAX_STARTUP_PACKET_LENGTH; servers hang up on longer ones.
        if !(8..=8000).contains(&length) {
            turn.close = true;
            return input.len();
        }
        let Some(packet) = input.get(..length as usize) else { return 0 };
        let code = at(packet, 4).map_or(0, u32::from_be_bytes);
        match (code, code >> 16, code & 0xffff) {
            (SSL_REQUEST | GSS_REQUEST, ..) => turn.say("N"),
            (CANCEL_REQUEST, ..) => turn.close = true,
            (_, 3, _) => self.startup(profile, &packet[8..], turn),
            (_, major, minor) => {
                let oldest = if major_version(profile) >= 14 { "3.0" } else { "2.0" };
                let message = format!("unsupported frontend protocol {major}.{minor}: server supports {oldest} to 3.0");
                let line = protocol_line(&profile.version);
                refuse(profile, "0A000", &message, ("postmaster.c", line, "ProcessStartupPacket"), turn);
            }
        }
        packet.len()
    }

    fn startup(&mut self, profile: &Profile, mut parameters: &[u8], turn: &mut Turn<'_>) {
        let (mut user, mut database) = (&[][..], &[][..]);
        while !parameters.is_empty() {
            let (name, rest) = to_nul(parameters);
            let (value, rest) = to_nul(rest);
            parameters = rest;
            match name {
                b"user" => user = value,
                b"database" => database = value,
                _ => {}
            }
        }
        if user.is_empty() {
            let message = "no PostgreSQL user name specified in startup packet";
            return refuse(profile, "28000", message, ("postmaster.c", 2300, "ProcessStartupPacket"), turn);
        }
        let database = if database.is_empty() { user } else { database };
        self.asked = Some(Startup { user: kept(user), database: kept(database) });
        // AuthenticationCleartextPassword.
        turn.say([b'R', 0, 0, 0, 8, 0, 0, 0, 3]);
    }

    fn password(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let (Some(kind), Some(length)) = (input.first(), at(input, 1).map(u32::from_be_bytes)) else { return 0 };
        if *kind != b'p' || !(4..=2000).contains(&length) {
            turn.close = true;
            return input.len();
        }
        let Some(message) = input.get(5..1 + length as usize) else { return 0 };
        let Startup { user, database } = self.asked.take().unwrap_or_default();
        turn.login(&Login {
            method: "password",
            user: Some(&user),
            password: Some(to_nul(message).0),
            realm: Some(&database),
            ..Login::default()
        });
        let text = format!("password authentication failed for user \"{}\"", printable(&user));
        refuse(profile, "28P01", &text, ("auth.c", 326, "auth_failed"), turn);
        1 + length as usize
    }
}

fn major_version(profile: &Profile) -> u32 {
    profile.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(15)
}

/// Where `version` refuses protocols that it does not speak: the server tells the place in its own source, by which
/// scanners know it.
fn protocol_line(version: &str) -> u32 {
    /// The first release of each branch that has the line.
    const LINES: &[(u32, u32, u32)] = &[
        (9, 4, 1849),
        (9, 5, 1991),
        (9, 6, 2008),
        (10, 0, 2065),
        (10, 2, 2064),
        (10, 8, 2065),
        (10, 15, 2086),
        (10, 19, 2099),
        (11, 0, 2015),
        (11, 3, 2016),
        (11, 10, 2037),
        (11, 14, 2050),
        (12, 0, 2060),
        (12, 3, 2071),
        (12, 5, 2092),
        (12, 6, 2095),
        (12, 9, 2119),
        (13, 0, 2108),
        (13, 2, 2109),
        (13, 5, 2133),
        (14, 0, 2114),
        (14, 1, 2138),
        (15, 0, 2194),
    ];
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let wanted = (numbers.next().unwrap_or(15), numbers.next().unwrap_or(0));
    let before = LINES.iter().take_while(|(major, minor, _)| (*major, *minor) <= wanted).last();
    before.or(LINES.first()).map_or(2194, |(.., line)| *line)
}

fn refuse(profile: &Profile, code: &str, message: &str, (file, line, routine): (&str, u32, &str), turn: &mut Turn<'_>) {
    // The severity that is not translated came with 9.6.
    let severity =
        if profile.version.starts_with("9.4") || profile.version.starts_with("9.5") { "" } else { "VFATAL\0" };
    let fields = format!("SFATAL\0{severity}C{code}\0M{message}\0F{file}\0L{line}\0R{routine}\0\0");
    turn.say("E");
    turn.say((4 + fields.len() as u32).to_be_bytes());
    turn.end(fields);
}
