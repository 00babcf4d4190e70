//! NTLM (MS-NLMP) within SPNEGO (RFC 4178), as far as it names who wants to log in.

use super::profile::Profile;
use super::say::{Login, Turn, at};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// 1.3.6.1.5.5.2: SPNEGO.
const SPNEGO: [u8; 6] = [0x2b, 6, 1, 5, 5, 2];
/// 1.3.6.1.4.1.311.2.2.10: NTLM.
const NTLM: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
/// Unicode, request target, NTLM, target info, extended security, 128 bit, version.
const FLAGS: u32 = 0x6289_8215;

/// A message of a client.
pub enum Message<'a> {
    /// It wants a challenge.
    Negotiate,
    /// It has answered one.
    Authenticate(Who<'a>),
}

/// Who wants to log in.
pub struct Who<'a> {
    user: &'a [u8],
    domain: &'a [u8],
    response: &'a [u8],
}

impl Who<'_> {
    /// Tells of it.
    pub fn tell(&self, turn: &mut Turn<'_>) {
        let (user, domain) = (from_utf16(self.user), from_utf16(self.domain));
        turn.login(&Login {
            method: "NTLM",
            user: Some(user.as_bytes()),
            realm: Some(domain.as_bytes()),
            challenge: Some(&turn.caller.octets::<8>(12)),
            // The first sixteen octets are the proof; what follows is the client's own part of it.
            response: Some(self.response),
            password: None,
        });
    }
}

/// The NTLM message in a security blob, wherever SPNEGO has put it.
pub fn read(blob: &[u8]) -> Option<Message<'_>> {
    let from = blob.windows(8).position(|window| window == SIGNATURE)?;
    let message = &blob[from..];
    match u32::from_le_bytes(at(message, 8)?) {
        1 => Some(Message::Negotiate),
        3 => {
            let field = |place: usize| -> Option<&[u8]> {
                let length = usize::from(u16::from_le_bytes(at(message, place)?));
                let offset = u32::from_le_bytes(at(message, place + 4)?) as usize;
                message.get(offset..offset.checked_add(length)?)
            };
            Some(Message::Authenticate(Who { response: field(20)?, domain: field(28)?, user: field(36)? }))
        }
        _ => None,
    }
}

/// A value of DER with a length below 65,536.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend_from_slice(&[0x81, length as u8]),
        _ => out.extend_from_slice(&[0x82, (length >> 8) as u8, length as u8]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The server's first token: NTLM and nothing else (RFC 4178 §4.2.1).
pub fn offer() -> Vec<u8> {
    let mechanisms = der(0xa0, &[&der(0x30, &[&der(6, &[&NTLM])])]);
    der(0x60, &[&der(6, &[&SPNEGO]), &der(0xa0, &[&der(0x30, &[&mechanisms])])])
}

/// The challenge (MS-NLMP 2.2.1.2) in SPNEGO's answer (RFC 4178 §4.2.2).
pub fn challenge(profile: &Profile, turn: &Turn<'_>) -> Vec<u8> {
    let (domain, host) = (utf16(&profile.workgroup), utf16(&profile.hostname));
    let mut info = Vec::new();
    for (id, value) in [(2u16, &domain), (1, &host), (4, &domain), (3, &host)] {
        info.extend_from_slice(&id.to_le_bytes());
        info.extend_from_slice(&(value.len() as u16).to_le_bytes());
        info.extend_from_slice(value);
    }
    info.extend_from_slice(&[0; 4]);
    let field = |length: usize, offset: usize| {
        let length = (length as u16).to_le_bytes();
        let [a, b, c, d] = (offset as u32).to_le_bytes();
        [length[0], length[1], length[0], length[1], a, b, c, d]
    };
    let mut message = SIGNATURE.to_vec();
    message.extend_from_slice(&2u32.to_le_bytes());
    message.extend_from_slice(&field(domain.len(), 56));
    message.extend_from_slice(&FLAGS.to_le_bytes());
    message.extend_from_slice(&turn.caller.octets::<8>(12));
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&field(info.len(), 56 + domain.len()));
    // Version: Windows 10, or what Samba says of itself.
    message.extend_from_slice(&if profile.is("windows") {
        [10, 0, 0x61, 0x4a, 0, 0, 0, 15]
    } else {
        [6, 1, 0, 0, 0, 0, 0, 15]
    });
    message.extend_from_slice(&domain);
    message.extend_from_slice(&info);
    // Accept-incomplete, with NTLM.
    let parts = [&der(0xa0, &[&[10, 1, 1]])[..], &der(0xa1, &[&der(6, &[&NTLM])]), &der(0xa2, &[&der(4, &[&message])])];
    der(0xa1, &[&der(0x30, &parts)])
}

/// `text` in UTF-16, at most 64 characters of it.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().take(64).flat_map(u16::to_le_bytes).collect()
}

fn from_utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).take(64).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
