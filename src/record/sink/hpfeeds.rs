//! hpfeeds, by which honeypots publish (<https://hpfeeds.org/wire-protocol>): each message is its length in four octets,
//! itself included, an operation, and parts, of which all but the last have their length in an octet before them.
//!
//! The broker speaks first, with its name and a nonce; the client answers who it is and the SHA-1 of nonce and secret. That
//! it is believed is not said, that it is not is an error.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::fields::clean;

const ERROR: u8 = 0;
const INFO: u8 = 1;
const AUTH: u8 = 2;
const PUBLISH: u8 = 3;
/// Octets of a message that is listened to.
const MOST: usize = 64 << 10;

/// What a broker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Who it is, and what is to be answered.
    Info {
        /// Its name.
        name: String,
        /// The nonce.
        nonce: Vec<u8>,
    },
    /// What it does not like.
    Error(String),
    /// Something that does not concern us.
    Other,
}

/// The broker said what is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the broker says what is no message of hpfeeds")]
pub struct NotHpfeeds;

fn message(operation: u8, parts: &[&[u8]], last: &[u8]) -> Vec<u8> {
    let length = 5 + parts.iter().map(|part| 1 + part.len().min(255)).sum::<usize>() + last.len();
    let mut message = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    message.push(operation);
    for part in parts {
        let part = part.get(..255).unwrap_or(part);
        message.push(part.len() as u8);
        message.extend_from_slice(part);
    }
    message.extend_from_slice(last);
    message
}

/// Who we are.
pub fn auth(ident: &str, secret: &str, nonce: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(nonce);
    context.update(secret.as_bytes());
    message(AUTH, &[ident.as_bytes()], context.finish().as_ref())
}

/// Something to be published.
pub fn publish(ident: &str, channel: &str, payload: &[u8]) -> Vec<u8> {
    message(PUBLISH, &[ident.as_bytes(), channel.as_bytes()], payload)
}

/// What a broker says, as it comes.
#[derive(Debug, Default)]
pub struct Ear {
    octets: Vec<u8>,
}

impl Ear {
    /// Takes what came.
    ///
    /// # Errors
    /// If it is no message, or a very long one.
    pub fn push(&mut self, octets: &[u8]) -> Result<(), NotHpfeeds> {
        self.octets.extend_from_slice(octets);
        let length = self.octets.first_chunk().map_or(5, |length| u32::from_be_bytes(*length) as usize);
        if (5..=MOST).contains(&length) && self.octets.len() <= 2 * MOST { Ok(()) } else { Err(NotHpfeeds) }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// If it is none.
    pub fn hear(&mut self) -> Result<Option<Heard>, NotHpfeeds> {
        let Some(length) = self.octets.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(5..=MOST).contains(&length) {
            return Err(NotHpfeeds);
        }
        if self.octets.len() < length {
            return Ok(None);
        }
        let message: Vec<u8> = self.octets.drain(..length).collect();
        let (operation, rest) = (message.get(4).copied(), message.get(5..).unwrap_or_default());
        match operation {
            Some(ERROR) => Ok(Some(Heard::Error(clean(&String::from_utf8_lossy(rest), 200)))),
            Some(INFO) => {
                let (length, rest) = rest.split_first().ok_or(NotHpfeeds)?;
                let (name, nonce) = rest.split_at_checked(usize::from(*length)).ok_or(NotHpfeeds)?;
                let name = clean(&String::from_utf8_lossy(name), 200);
                Ok(Some(Heard::Info { name, nonce: nonce.to_vec() }))
            }
            _ => Ok(Some(Heard::Other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_heard_in_any_pieces_and_answered() {
        let mut said = message(INFO, &[b"@hp2"], &[1, 2, 3, 4]);
        said.extend(message(9, &[], b"x"));
        said.extend(message(ERROR, &[], b"Authkey not \x1b allowed"));
        for size in [1, 3, said.len()] {
            let (mut ear, mut heard) = (Ear::default(), Vec::new());
            for piece in said.chunks(size) {
                ear.push(piece).unwrap();
                while let Some(next) = ear.hear().unwrap() {
                    heard.push(next);
                }
            }
            let info = Heard::Info { name: "@hp2".into(), nonce: vec![1, 2, 3, 4] };
            assert_eq!(heard, [info, Heard::Other, Heard::Error("Authkey not \\u{1b} allowed".into())]);
        }
        // SHA-1 of the nonce and "secret".
        let auth = auth("me", "secret", &[1, 2, 3, 4]);
        assert_eq!((&auth[..8], auth.len()), (&[0, 0, 0, 28, 2, 2, b'm', b'e'][..], 28));
        assert_eq!(publish("me", "ch", b"{}"), b"\0\0\0\x0d\x03\x02me\x02ch{}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_broker_says_is_bounded(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut ear = Ear::default();
            if ear.push(&octets).is_ok() {
                while let Ok(Some(_)) = ear.hear() {}
            }
            let long = publish(&"i".repeat(300), &"c".repeat(300), &octets);
            proptest::prop_assert_eq!(long.len(), 5 + 2 * 256 + octets.len());
        }
    }
}
