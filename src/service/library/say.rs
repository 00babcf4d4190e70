//! What the services of the library share: what they say and tell, and small readers of what comes.

use std::net::IpAddr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::event::{EventId, MAX_DATA};
use crate::wire::Instant;

/// Octets of a line that are kept (RFC 5321 §4.5.3.1.4 asks for as many).
pub const MAX_LINE: usize = 512;

/// Where a connection comes from, and a number that no two connections share, for challenges.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The peer's address.
    pub from: IpAddr,
    /// Where challenges and cookies of this connection begin.
    pub seed: u64,
    /// The time.
    pub now: Instant,
}

impl Caller {
    /// `N` octets that look random: the `nth` block of them (SplitMix64, Steele et al. 2014).
    pub fn octets<const N: usize>(&self, nth: u64) -> [u8; N] {
        let mut octets = [0; N];
        let mut state = self.seed ^ nth.wrapping_mul(0xA076_1D64_78BD_642F);
        for chunk in octets.chunks_mut(8) {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes()[..chunk.len()]);
        }
        octets
    }
}

/// An attempt to log in.
#[derive(Clone, Copy, Default, Debug)]
pub struct Login<'a> {
    /// By which command or mechanism.
    pub method: &'a str,
    /// Whom the client says it is.
    pub user: Option<&'a [u8]>,
    /// The password or community, where it came in clear.
    pub password: Option<&'a [u8]>,
    /// The database or domain.
    pub realm: Option<&'a [u8]>,
    /// What the client was to encrypt or hash with the password.
    pub challenge: Option<&'a [u8]>,
    /// What it made of that.
    pub response: Option<&'a [u8]>,
}

impl Login<'_> {
    /// The attempt as a JSON object of printable ASCII, at most [`MAX_DATA`] octets.
    pub fn write(&self, tell: &mut dyn FnMut(EventId, &[u8])) {
        let mut json = Json::default();
        json.put(b"{");
        json.member("method", self.method.as_bytes(), 64);
        for (name, value, most) in
            [("user", self.user, 300), ("password", self.password, 300), ("realm", self.realm, 100)]
        {
            if let Some(value) = value {
                json.put(b",");
                json.member(name, value, most);
            }
        }
        for (name, value) in [("challenge", self.challenge), ("response", self.response)] {
            if let Some(value) = value {
                json.put(b",\"");
                json.put(name.as_bytes());
                json.put(b"\":\"");
                value.iter().take(40).for_each(|octet| json.hex(*octet));
                json.put(b"\"");
            }
        }
        json.put(b"}");
        tell(EventId::ServiceLogin, json.text());
    }
}

/// A JSON text of printable ASCII, at most [`MAX_DATA`] octets.
pub struct Json {
    text: [u8; MAX_DATA],
    len: usize,
}

impl Default for Json {
    fn default() -> Json {
        Json { text: [0; MAX_DATA], len: 0 }
    }
}

impl Json {
    /// What was written.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// Writes `bytes` as they are, if there is room for all of them.
    pub fn put(&mut self, bytes: &[u8]) {
        if let Some(space) = self.text.get_mut(self.len..self.len + bytes.len()) {
            space.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn hex(&mut self, octet: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.put(&[DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
    }

    /// A name and as much of a value as fits into `most` octets.
    pub fn member(&mut self, name: &str, value: &[u8], most: usize) {
        self.put(b"\"");
        self.put(name.as_bytes());
        self.put(b"\":");
        self.string(value, most);
    }

    /// As much of a value as fits into `most` octets (RFC 8259 §7). What is no UTF-8 becomes U+FFFD.
    pub fn string(&mut self, value: &[u8], most: usize) {
        self.put(b"\"");
        let end = self.len + most - 12;
        for chunk in value.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.char(c, end);
            }
            if !chunk.invalid().is_empty() {
                self.char('\u{fffd}', end);
            }
        }
        self.put(b"\"");
    }

    fn char(&mut self, c: char, end: usize) {
        if self.len >= end {
            return;
        }
        match c {
            '"' => self.put(b"\\\""),
            '\\' => self.put(b"\\\\"),
            ' '..='~' => self.put(&[c as u8]),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    self.put(b"\\u");
                    unit.to_be_bytes().into_iter().for_each(|octet| self.hex(octet));
                }
            }
        }
    }
}

/// One turn of a service: what it says, and what it tells of.
pub struct Turn<'a> {
    /// Who is served.
    pub caller: Caller,
    /// What is said.
    pub out: &'a mut Vec<u8>,
    /// Takes what it tells of.
    pub tell: &'a mut dyn FnMut(EventId, &[u8]),
    /// Whether that was its last word.
    pub close: bool,
}

impl Turn<'_> {
    /// Says something.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.out.extend_from_slice(bytes.as_ref());
    }

    /// Says its last word.
    pub fn end(&mut self, bytes: impl AsRef<[u8]>) {
        self.say(bytes);
        self.close = true;
    }

    /// Tells of a command that was understood.
    pub fn request(&mut self, command: &[u8]) {
        (self.tell)(EventId::ServiceRequest, command);
    }

    /// Tells of an attempt to log in.
    pub fn login(&mut self, login: &Login<'_>) {
        login.write(self.tell);
    }

    /// Tells of an attempt with a name and a password.
    pub fn password(&mut self, method: &str, user: &[u8], password: &[u8]) {
        self.login(&Login { method, user: Some(user), password: Some(password), ..Login::default() });
    }
}

/// The first line of `input` without its end, and how long it is with it. What is longer than [`MAX_LINE`] is cut.
pub fn line(input: &[u8]) -> Option<(usize, &[u8])> {
    let (taken, text) = match input.iter().position(|octet| *octet == b'\n') {
        Some(at) => (at + 1, &input[..at]),
        None if input.len() >= MAX_LINE => (input.len(), input),
        None => return None,
    };
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Some((taken, &text[..text.len().min(MAX_LINE)]))
}

/// The first word of a line, and the rest without the blanks around it.
pub fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii();
    let end = line.iter().position(|octet| octet.is_ascii_whitespace()).unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii())
}

/// Clients are not all careful: padding, and what is left over in the last digit, are no matter.
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What `text` is in base64 (RFC 4648 §4), at most [`MAX_LINE`] octets of it; nothing if it is none.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let text = &text[..text.iter().position(|octet| *octet == b'=').unwrap_or(text.len())];
    if text.is_empty() || text.len() > MAX_LINE {
        return None;
    }
    UNPADDED.decode(text).ok()
}

/// What `digits` are in hexadecimal, or themselves if they are none.
pub fn octets(digits: &[u8]) -> Vec<u8> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>().unwrap_or_else(|| digits.to_vec())
}

/// Name and password of a PLAIN message (RFC 4616 §2).
pub fn plain(message: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = message.split(|octet| *octet == 0);
    let _acts_for = parts.next();
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// What stands before the first NUL, and what behind it.
pub fn to_nul(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|octet| *octet == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// `N` octets at `at`, if they are there.
pub fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// As much of `bytes` as is kept of a name.
pub fn kept(bytes: &[u8]) -> Box<[u8]> {
    bytes[..bytes.len().min(128)].into()
}

/// `bytes` as they may stand in a line that is said.
pub fn printable(bytes: &[u8]) -> String {
    bytes.iter().take(128).map(|octet| if matches!(octet, b' '..=b'~') { char::from(*octet) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(login: &Login<'_>) -> String {
        let mut text = String::new();
        login.write(&mut |_, data| text = String::from_utf8(data.to_vec()).unwrap());
        text
    }

    #[test]
    fn an_attempt_is_a_json_object_whatever_it_contains() {
        let login =
            Login { method: "x", user: Some(b"a\"\\\xff"), password: Some("é\n💥".as_bytes()), ..Login::default() };
        let text = json(&login);
        assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["user"], "a\"\\\u{fffd}");
        assert_eq!(value["password"], "é\n💥");
        let long = [0x1; 5000];
        let login = Login {
            method: "m",
            user: Some(&long),
            password: Some(&long),
            realm: Some(&long),
            challenge: Some(&long),
            response: Some(&long),
        };
        let text = json(&login);
        assert!(text.len() <= MAX_DATA && serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(base64(b"AHJvb3QAdG9vcg==").unwrap(), b"\0root\0toor");
        assert_eq!(plain(&base64(b"AHJvb3QAdG9vcg").unwrap()), (&b"root"[..], &b"toor"[..]));
        assert_eq!((base64(b"no!"), base64(b"=")), (None, None));
    }
}
