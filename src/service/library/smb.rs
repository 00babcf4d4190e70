//! SMB up to the log-in: the negotiation of both versions (MS-SMB 2.2.4.5, MS-SMB2 2.2.3), then NTLM.

use super::ntlm;
use super::profile::Profile;
use super::say::{Turn, at};

const NEGOTIATE_1: u8 = 0x72;
const NEGOTIATE: u16 = 0;
const SESSION_SETUP: u16 = 1;
const MORE_PROCESSING: u32 = 0xc000_0016;
const LOGON_FAILURE: u32 = 0xc000_006d;
const NOT_SUPPORTED: u32 = 0xc000_00bb;
const ACCESS_DENIED: u32 = 0xc000_0022;
/// Messages that are read; longer ones would have data that nobody may write here.
const MAX_MESSAGE: usize = 8000;

/// A connection.
#[derive(Default)]
pub struct Smb {
    tries: u8,
}

impl Smb {
    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some([kind, a, b, c]) = at(input, 0) else { return 0 };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // RFC 1002 §4.3: a session is asked for on port 139 only, and granted.
        if kind == 0x81 && length <= 256 {
            if input.len() < 4 + length {
                return 0;
            }
            turn.say([0x82, 0, 0, 0]);
            return 4 + length;
        }
        if kind != 0 || !(32..=MAX_MESSAGE).contains(&length) {
            turn.close = true;
            return input.len();
        }
        let Some(message) = input.get(4..4 + length) else { return 0 };
        match &message[..4] {
            b"\xffSMB" if message[4] == NEGOTIATE_1 => negotiate_1(profile, message, turn),
            b"\xfeSMB" if length >= 64 => self.version_2(profile, message, turn),
            _ => turn.close = true,
        }
        4 + length
    }

    fn version_2(&mut self, profile: &Profile, message: &[u8], turn: &mut Turn<'_>) {
        let command = at(message, 12).map_or(0, u16::from_le_bytes);
        match command {
            NEGOTIATE => {
                let count = at(message, 66).map_or(0, u16::from_le_bytes);
                let offered = message.get(100..).unwrap_or_default().chunks_exact(2).take(usize::from(count));
                let best = offered.map(|dialect| u16::from_le_bytes([dialect[0], dialect[1]]));
                // 3.1.1 would want its contexts.
                match best.filter(|dialect| (0x202..=0x302).contains(dialect)).max() {
                    Some(dialect) => negotiate(profile, message, dialect, turn),
                    None => answer(message, NOT_SUPPORTED, 0, &[9, 0, 0, 0, 0, 0, 0, 0, 0], turn),
                }
            }
            SESSION_SETUP => {
                let offset = at(message, 76).map_or(0, u16::from_le_bytes);
                let length = at(message, 78).map_or(0, u16::from_le_bytes);
                let blob = message.get(usize::from(offset)..).unwrap_or_default();
                let blob = &blob[..blob.len().min(usize::from(length))];
                match ntlm::read(blob) {
                    Some(ntlm::Message::Negotiate) => {
                        let challenge = ntlm::challenge(profile, turn);
                        let mut body = vec![9, 0, 0, 0, 72, 0];
                        body.extend_from_slice(&(challenge.len() as u16).to_le_bytes());
                        body.extend_from_slice(&challenge);
                        answer(message, MORE_PROCESSING, session(turn), &body, turn);
                    }
                    Some(ntlm::Message::Authenticate(who)) => {
                        who.tell(turn);
                        self.refuse(message, turn);
                    }
                    None => self.refuse(message, turn),
                }
            }
            _ => answer(message, ACCESS_DENIED, 0, &[9, 0, 0, 0, 0, 0, 0, 0, 0], turn),
        }
    }

    fn refuse(&mut self, message: &[u8], turn: &mut Turn<'_>) {
        answer(message, LOGON_FAILURE, session(turn), &[9, 0, 0, 0, 0, 0, 0, 0, 0], turn);
        self.tries += 1;
        turn.close = self.tries >= 3;
    }
}

fn session(turn: &Turn<'_>) -> u64 {
    u64::from_le_bytes(turn.caller.octets::<8>(11)) & 0xffff_ffff | 1
}

fn say(message: &[u8], turn: &mut Turn<'_>) {
    turn.say((message.len() as u32).to_be_bytes());
    turn.say(message);
}

/// An answer of version 2 to `message`: its header (2.2.1.2) and `body`.
fn answer(message: &[u8], status: u32, session: u64, body: &[u8], turn: &mut Turn<'_>) {
    let mut out = b"\xfeSMB\x40\0\x01\0".to_vec();
    out.extend_from_slice(&status.to_le_bytes());
    out.extend_from_slice(&message[12..14]);
    // One credit; a response; nothing follows; the request's number and process.
    out.extend_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&message[24..32]);
    out.extend_from_slice(&message[32..40]);
    out.extend_from_slice(&session.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(body);
    say(&out, turn);
}

fn negotiate(profile: &Profile, message: &[u8], dialect: u16, turn: &mut Turn<'_>) {
    let token = ntlm::offer();
    let mut body = vec![65, 0, 1, 0];
    body.extend_from_slice(&dialect.to_le_bytes());
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&guid(profile));
    // Distributed file system and leases; a megabyte at once.
    body.extend_from_slice(&[if dialect == 0x202 { 1 } else { 7 }, 0, 0, 0]);
    body.extend_from_slice(&[0, 0, 0x10, 0].repeat(3));
    // Its clock and when it was started: not told.
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&[128, 0]);
    body.extend_from_slice(&(token.len() as u16).to_le_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&token);
    answer(message, 0, 0, &body, turn);
}

/// Sixteen octets that a server keeps, made of its name.
fn guid(profile: &Profile) -> [u8; 16] {
    let mut guid = [0x5cu8; 16];
    for (at, octet) in profile.hostname.bytes().enumerate() {
        guid[at % 16] = guid[at % 16].wrapping_mul(31).wrapping_add(octet);
    }
    guid
}

/// The negotiation of version 1: a list of dialects by name.
fn negotiate_1(profile: &Profile, message: &[u8], turn: &mut Turn<'_>) {
    let dialects = message.get(35..).unwrap_or_default();
    let names = || dialects.split(|octet| *octet == 0).filter_map(|name| name.strip_prefix(b"\x02"));
    if names().any(|name| name.starts_with(b"SMB 2.")) {
        // 3.3.5.3.1: the wildcard has the client ask again in version 2.
        let dialect = if names().any(|name| name == b"SMB 2.???") { 0x2ff } else { 0x202 };
        return negotiate(profile, &[0; 64], dialect, turn);
    }
    let chosen = names().position(|name| name == b"NT LM 0.12");
    let mut out = b"\xffSMB\x72\0\0\0\0\x88".to_vec();
    // Flags 2: long names, and Unicode where it is spoken.
    out.extend_from_slice(&if profile.is("windows") { [1, 0x40] } else { [3, 0xc0] });
    out.extend_from_slice(&[0; 14]);
    out.extend_from_slice(&message[26..28]);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&message[30..32]);
    match chosen {
        Some(chosen) if profile.is("windows") => {
            out.push(17);
            out.extend_from_slice(&(chosen as u16).to_le_bytes());
            // Passwords by user, encrypted; ten requests at once on one circuit; buffers of 4,356 octets.
            out.extend_from_slice(&[3, 10, 0, 1, 0, 4, 0x11, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
            out.extend_from_slice(&0x0001_e3fcu32.to_le_bytes());
            // Time and time zone are not told; a challenge of eight octets.
            out.extend_from_slice(&[0; 10]);
            out.push(8);
            let names: Vec<u8> = [&profile.workgroup, &profile.hostname]
                .into_iter()
                .flat_map(|name| ntlm::utf16(&format!("{name}\0")))
                .collect();
            out.extend_from_slice(&(8 + names.len() as u16).to_le_bytes());
            out.extend_from_slice(&turn.caller.octets::<8>(12));
            out.extend_from_slice(&names);
        }
        // Samba since 4.11 speaks version 1 no more: none of the dialects.
        _ => out.extend_from_slice(&[1, 0xff, 0xff, 0, 0]),
    }
    say(&out, turn);
    turn.close = !profile.is("windows");
}
