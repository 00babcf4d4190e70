//! MySQL and MariaDB up to the refusal: the greeting (protocol 10, "Connection Phase" of the MySQL
//! internals manual), and who asked.

use super::profile::Profile;
use super::say::{Login, Turn, at, kept, printable, to_nul};

const PROTOCOL_41: u32 = 0x200;
const SSL: u32 = 0x800;
const CONNECT_WITH_DB: u32 = 0x8;
const LENENC_AUTH: u32 = 0x20_0000;
/// What a server of either kind can do, encryption excepted.
const CAPABILITIES: u32 = 0xc3ff_f7ff & !SSL;

/// A connection.
#[derive(Default)]
pub struct Mysql;

impl Mysql {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let mariadb = profile.is("mariadb");
        let challenge = challenge(turn);
        let mut greeting = vec![10];
        if mariadb {
            // Old replicas take no version above 5: MariaDB has said this ever since it went on to 10.
            greeting.extend_from_slice(b"5.5.5-");
        }
        greeting.extend_from_slice(profile.version.as_bytes());
        greeting.push(0);
        let [a, b, ..] = turn.caller.octets::<8>(3);
        greeting.extend_from_slice(&[a, b & 3, 0, 0]);
        greeting.extend_from_slice(&challenge[..8]);
        greeting.push(0);
        greeting.extend_from_slice(&(CAPABILITIES as u16).to_le_bytes());
        // Character set utf8mb4; the status is autocommit.
        greeting.extend_from_slice(&[if mariadb { 45 } else { 255 }, 2, 0]);
        greeting.extend_from_slice(&((CAPABILITIES >> 16) as u16).to_le_bytes());
        greeting.push(21);
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(&challenge[8..]);
        greeting.push(0);
        greeting.extend_from_slice(plugin(profile));
        greeting.push(0);
        say(0, &greeting, turn);
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some([a, b, c, number]) = at(input, 0) else { return 0 };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let packet = input.get(4..4 + length);
        if length > 4096 {
            refuse(number.wrapping_add(1), 1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes", turn);
            return input.len();
        }
        let Some(packet) = packet else { return 0 };
        let next = number.wrapping_add(1);
        let Some(asked) = Response::read(packet) else {
            refuse(next, 1043, "08S01", "Bad handshake", turn);
            return 4 + length;
        };
        turn.login(&Login {
            method: std::str::from_utf8(plugin(profile)).unwrap_or("mysql"),
            user: Some(&asked.user),
            realm: (!asked.database.is_empty()).then_some(&*asked.database),
            challenge: Some(&challenge(turn)),
            response: (!asked.response.is_empty()).then_some(&*asked.response),
            password: None,
        });
        let given = if asked.response.is_empty() { "NO" } else { "YES" };
        let (user, from) = (printable(&asked.user), turn.caller.from);
        let message = format!("Access denied for user '{user}'@'{from}' (using password: {given})");
        refuse(next, 1045, "28000", &message, turn);
        4 + length
    }
}

/// What a client answers to the greeting (`HandshakeResponse41`, or 320 before).
struct Response {
    user: Box<[u8]>,
    response: Box<[u8]>,
    database: Box<[u8]>,
}

impl Response {
    fn read(packet: &[u8]) -> Option<Response> {
        let low = u32::from(u16::from_le_bytes(at(packet, 0)?));
        if low & PROTOCOL_41 == 0 {
            let (user, rest) = to_nul(packet.get(5..)?);
            return Some(Response { user: kept(user), response: kept(to_nul(rest).0), database: Box::default() });
        }
        let flags = u32::from_le_bytes(at(packet, 0)?);
        // Four octets of flags, four of a packet's size, the character set and 23 that are not used.
        let (user, rest) = to_nul(packet.get(32..)?);
        let (length, rest) = rest.split_first().map_or((0, rest), |(length, rest)| (usize::from(*length), rest));
        // A response of more than 250 octets would have a longer length; passwords make 20 or 32.
        let length = if flags & LENENC_AUTH != 0 && length > 250 { 0 } else { length.min(rest.len()) };
        let (response, rest) = rest.split_at(length);
        let database = if flags & CONNECT_WITH_DB != 0 { to_nul(rest).0 } else { &[] };
        Some(Response { user: kept(user), response: kept(response), database: kept(database) })
    }
}

fn plugin(profile: &Profile) -> &'static [u8] {
    let old = profile.is("mariadb") || profile.version.starts_with('5');
    if old { b"mysql_native_password" } else { b"caching_sha2_password" }
}

/// Twenty octets without a NUL, as servers choose them.
fn challenge(turn: &Turn<'_>) -> [u8; 20] {
    turn.caller.octets::<20>(2).map(|octet| 0x21 + octet % 0x5e)
}

fn say(number: u8, packet: &[u8], turn: &mut Turn<'_>) {
    let [a, b, c, _] = (packet.len() as u32).to_le_bytes();
    turn.say([a, b, c, number]);
    turn.say(packet);
}

fn refuse(number: u8, code: u16, state: &str, message: &str, turn: &mut Turn<'_>) {
    let mut packet = vec![0xff];
    packet.extend_from_slice(&code.to_le_bytes());
    packet.extend_from_slice(format!("#{state}{message}").as_bytes());
    say(number, &packet, turn);
    turn.close = true;
}
