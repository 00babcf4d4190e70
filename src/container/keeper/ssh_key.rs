//! SSH host keys (Ed25519, RFC 8032 and RFC 8709; ECDSA, RFC 5656; RSA, RFC 4253 §6.6) in the files of two servers.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::emulate::RsaKey;

/// Where below `/etc` dropbear has its key.
pub const DROPBEAR: &str = "dropbear/dropbear_ed25519_host_key";
/// The file that takes that place when the container becomes a host's.
pub const DROPBEAR_LATER: &str = "dropbear/.later";
/// Where it has others.
pub const DROPBEAR_ECDSA: &str = "dropbear/dropbear_ecdsa_host_key";
pub const DROPBEAR_RSA: &str = "dropbear/dropbear_rsa_host_key";

/// The name that a file has which takes its place when the container becomes a host's, if it is one that dropbear must not
/// find empty.
pub fn later(path: &str) -> Option<&'static str> {
    match path {
        DROPBEAR => Some(DROPBEAR_LATER),
        DROPBEAR_ECDSA => Some("dropbear/.later-ecdsa"),
        DROPBEAR_RSA => Some("dropbear/.later-rsa"),
        _ => None,
    }
}

const RSA: &str = "ssh-rsa";
const ED25519: &str = "ssh-ed25519";
const ECDSA: &str = "ecdsa-sha2-nistp256";
/// The curve of the latter.
const CURVE: &str = "nistp256";

/// A host's key pair.
pub struct SshKey {
    kind: &'static str,
    /// What follows the kind in a public key.
    public: Vec<u8>,
    /// What follows it in a private one of OpenSSH's.
    openssh: Vec<u8>,
    /// And of dropbear's.
    dropbear: Vec<u8>,
}

impl SshKey {
    /// The Ed25519 pair whose private half is `seed`.
    ///
    /// # Errors
    /// Never, as long as every seed is a key, which RFC 8032 says.
    pub fn from_seed(seed: [u8; 32]) -> Result<SshKey, ring::error::KeyRejected> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)?;
        let point = pair.public_key().as_ref();
        let (mut public, mut private) = (Vec::new(), Vec::new());
        put(&mut public, point);
        put(&mut private, &[&seed, point].concat());
        let openssh = [&public[..], &private].concat();
        Ok(SshKey { kind: ED25519, public, openssh, dropbear: private })
    }

    /// The ECDSA pair on P-256 whose private half is `scalar`; none if that is no scalar of the group.
    pub fn from_scalar(scalar: [u8; 32]) -> Option<SshKey> {
        let secret = p256::ecdsa::SigningKey::from_slice(&scalar).ok()?;
        let point = secret.verifying_key().to_sec1_point(false);
        let (mut public, mut private) = (Vec::new(), Vec::new());
        put(&mut public, CURVE.as_bytes());
        put(&mut public, point.as_bytes());
        put_number(&mut private, &scalar);
        let both = [public.clone(), private].concat();
        Some(SshKey { kind: ECDSA, public, openssh: both.clone(), dropbear: both })
    }

    /// The RSA pair.
    pub fn from_rsa(key: &RsaKey) -> SshKey {
        let numbers = |all: &[&[u8]]| {
            let mut put = Vec::new();
            all.iter().for_each(|number| put_number(&mut put, number));
            put
        };
        let RsaKey { n, e, d, iqmp, p, q } = key;
        SshKey {
            kind: RSA,
            public: numbers(&[e, n]),
            openssh: numbers(&[n, e, d, iqmp, p, q]),
            dropbear: numbers(&[e, n, d, p, q]),
        }
    }

    /// Dropbear's host key file.
    pub fn dropbear(&self) -> Vec<u8> {
        let mut file = Vec::new();
        put(&mut file, self.kind.as_bytes());
        file.extend(&self.dropbear);
        file
    }

    /// OpenSSH's private key file (`openssh-key-v1`, not encrypted).
    pub fn openssh(&self, comment: &str) -> String {
        let mut private = Vec::new();
        // Two equal numbers, by which a decryption is checked: any will do.
        for _ in 0..2 {
            private.extend(self.public.iter().rev().take(4));
        }
        put(&mut private, self.kind.as_bytes());
        private.extend(&self.openssh);
        put(&mut private, comment.as_bytes());
        private.extend((1..).take(private.len().next_multiple_of(8) - private.len()));
        let mut file = b"openssh-key-v1\0".to_vec();
        for part in [&b"none"[..], b"none", b""] {
            put(&mut file, part);
        }
        file.extend(1u32.to_be_bytes());
        put(&mut file, &self.public_blob());
        put(&mut file, &private);
        let mut text = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        let encoded = BASE64_STANDARD.encode(&file);
        for line in encoded.as_bytes().chunks(70) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        text + "-----END OPENSSH PRIVATE KEY-----\n"
    }

    /// OpenSSH's public key file.
    pub fn public_line(&self, comment: &str) -> String {
        format!("{} {} {comment}\n", self.kind, BASE64_STANDARD.encode(self.public_blob()))
    }

    fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, self.kind.as_bytes());
        blob.extend(&self.public);
        blob
    }
}

/// Appends a number, whose highest octet is the first, as RFC 4251 §5 has it: no needless zeros in front, and no sign.
fn put_number(to: &mut Vec<u8>, number: &[u8]) {
    let digits = number.iter().position(|octet| *octet != 0).and_then(|first| number.get(first..)).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_some_and(|octet| octet & 0x80 != 0) { &[0] } else { &[] };
    put(to, &[sign, digits].concat());
}

/// Appends `value` as a string of RFC 4251 §5.
fn put(to: &mut Vec<u8>, value: &[u8]) {
    to.extend((value.len() as u32).to_be_bytes());
    to.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_that_of_rfc_8032() {
        // §7.1, test 1.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let key = SshKey::from_seed(seed.clone().try_into().unwrap()).unwrap();
        assert_eq!(key.public[4..], public[..]);
        let file = key.dropbear();
        assert_eq!(file.len(), 4 + 11 + 4 + 64);
        assert_eq!(file[19..51], seed[..]);
    }

    #[test]
    fn openssh_reads_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        // A scalar with its highest bit set, and one with octets of zeros in front.
        let mut small = [0; 32];
        small[2..].fill(0x7f);
        let ecdsa = |scalar| SshKey::from_scalar(scalar).unwrap();
        let seed = crate::emulate::RsaSeed::new(vec![5; 128], vec![6; 128]);
        let rsa = SshKey::from_rsa(&seed.key(seed.find().unwrap()).unwrap());
        let keys = [SshKey::from_seed([7; 32]).unwrap(), ecdsa([0x91; 32]), ecdsa(small), rsa];
        for key in keys {
            std::fs::write(dir.path().join("dropbear"), key.dropbear()).unwrap();
            let output = std::process::Command::new("dropbearkey")
                .args(["-y", "-f"])
                .arg(dir.path().join("dropbear"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = key.public_line("x");
            assert!(said.contains(line.trim_end().trim_end_matches(" x")), "{said}{output:?}");
            std::fs::write(&path, key.openssh("root@web")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let output = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), key.public_line("root@web"));
        }
        assert!(SshKey::from_scalar([0; 32]).is_none() && SshKey::from_scalar([0xff; 32]).is_none());
    }
}
