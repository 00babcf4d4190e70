//! The key that vouches for bundles: Ed25519 (RFC 8032), made by the console when it starts first.
//!
//! It lies in `STATE/NAME/key`, a directory of the console's alone. What reads it is root, who could read whatever the
//! console has: so an export signs by itself, whether the honeynet runs or not, and there is no order on the control
//! socket by which anything would be signed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::record::file::open_regular;
use crate::record::{base64_decode, base64_encode};

/// Below a honeynet's directory, where the key lies.
pub const KEY: &str = "key";
const FILE: &str = "signing.pk8";
/// Octets of a file that may be a key.
const LONGEST: u64 = 4096;
/// What precedes the 32 octets of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no key.
    #[error("it is no Ed25519 key")]
    NoKey,
}

/// The installation's key.
#[derive(Debug)]
pub struct Key(Ed25519KeyPair);

impl Key {
    /// The key of the honeynet in `dir`.
    ///
    /// # Errors
    /// If there is none: `NotFound` if none was ever made.
    pub fn open(dir: &Path) -> Result<Key, KeyError> {
        let mut octets = Vec::new();
        open_regular(&dir.join(KEY).join(FILE))?.take(LONGEST).read_to_end(&mut octets)?;
        Ed25519KeyPair::from_pkcs8(&octets).map(Key).map_err(|_| KeyError::NoKey)
    }

    /// The same; it is made if there is none. Its directory must exist.
    ///
    /// # Errors
    /// If it cannot be read or made. One that is damaged is left alone: whoever has its signatures may yet need it.
    pub fn open_or_make(dir: &Path) -> Result<Key, KeyError> {
        match Key::open(dir) {
            Err(KeyError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let made =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| io::Error::other("no randomness"))?;
        let folder = dir.join(KEY);
        // Linked into place: half of a key is none, and of two that make one at once both have the first.
        let half = folder.join(format!(".{FILE}.{}", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
            file.write_all(made.as_ref())?;
            file.sync_all()?;
            match std::fs::hard_link(&half, folder.join(FILE)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            File::open(&folder)?.sync_all()
        };
        let written = write();
        let _ = std::fs::remove_file(&half);
        written?;
        Key::open(dir)
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// What others verify its signatures with.
    pub fn public(&self) -> PublicKey {
        let mut octets = [0; 32];
        octets.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(octets)
    }
}

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether `signature` is that of the key's owner under `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    /// As a PEM file, as `openssl pkey -pubin` reads it (RFC 7468, section 13).
    pub fn pem(&self) -> String {
        format!("{BEGIN}\n{}\n{END}\n", base64_encode(&self.der()))
    }

    /// As a SubjectPublicKeyInfo, which is what other programs take the digest of.
    fn der(&self) -> Vec<u8> {
        [&SPKI[..], &self.0].concat()
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// If it is none, or of another kind of key.
    pub fn from_pem(text: &str) -> Result<PublicKey, KeyError> {
        let body = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END)).ok_or(KeyError::NoKey)?;
        let body: String = body.split_ascii_whitespace().collect();
        let octets = base64_decode(&body).ok_or(KeyError::NoKey)?;
        let key = octets.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or(KeyError::NoKey)
    }

    /// What tells it from others: the SHA-256 of its 32 octets, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        sha256(&self.0)
    }

    /// What `openssl pkey -pubin -outform DER | sha256sum` tells it from others by.
    pub fn der_sha256(&self) -> String {
        sha256(&self.der())
    }
}

fn sha256(octets: &[u8]) -> String {
    crate::wire::hex(ring::digest::digest(&ring::digest::SHA256, octets).as_ref())
}
