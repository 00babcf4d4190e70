//! What the server says that it can do: the lists of OpenSSH 9.2 or Dropbear 2022.83 in their order, as far as the library goes.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use super::lane::WINDOW;
use super::{MESSAGES, PACKET, Settings, TRIES, is_dropbear};

/// When keys are exchanged again: after 1 GiB, which is the library's limit and OpenSSH's for ChaCha20, and, as OpenSSH has it,
/// for no reason of time.
pub(super) fn limits() -> Limits {
    Limits { rekey_time_limit: Duration::from_secs(365 * 86_400), ..Limits::default() }
}

/// Ways to log in. They are named with every refusal, the one that was refused among them.
pub(super) fn methods(settings: &Settings) -> MethodSet {
    let mut methods = MethodSet::empty();
    methods.push(MethodKind::PublicKey);
    methods.push(MethodKind::Password);
    if settings.keyboard_interactive {
        methods.push(MethodKind::KeyboardInteractive);
    }
    methods
}

/// The server that a host shows.
pub(super) fn config(settings: &Settings) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Owned(settings.banner.clone())),
        methods: methods(settings),
        // Passwords take their time ([`LogIn`](super::auth::LogIn)), keys and questions do not.
        auth_rejection_time: Duration::ZERO,
        keys: settings.host_keys.clone(),
        host_key_algorithms: host_keys(settings),
        limits: limits(),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: MESSAGES,
        // What it says then is said by no other server: who has tried often enough is told so, or not, before this is reached.
        max_auth_attempts: 2 * TRIES as usize,
        // A shell may be left alone for days. TCP notices clients that are gone.
        inactivity_timeout: None,
        preferred: if is_dropbear(&settings.banner) { dropbear() } else { openssh() },
        ..Config::default()
    }
}

/// The host keys that a server offers, as its own kind orders them.
fn host_keys(settings: &Settings) -> Vec<Algorithm> {
    let rsa = |hash| Algorithm::Rsa { hash };
    let ecdsa = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
    let (sha256, sha512) = (rsa(Some(HashAlg::Sha256)), rsa(Some(HashAlg::Sha512)));
    let mut all = match is_dropbear(&settings.banner) {
        true => vec![Algorithm::Ed25519, ecdsa, sha256, rsa(None)],
        false => vec![sha512, sha256, ecdsa, Algorithm::Ed25519],
    };
    all.retain(|algorithm| match algorithm {
        Algorithm::Rsa { .. } => settings.rsa.is_some(),
        _ => settings.host_keys.iter().any(|key| key.algorithm() == *algorithm),
    });
    all
}

fn openssh() -> Preferred {
    // Users' keys, of which the extension tells (RFC 8308 §3.1).
    let mut keys = vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::SkEcdsaSha2NistP256,
    ];
    keys.extend(Algorithm::new("webauthn-sk-ecdsa-sha2-nistp256@openssh.com"));
    keys.extend([
        Algorithm::Dsa,
        Algorithm::Rsa { hash: None },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    ]);
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
            kex::DH_GEX_SHA256,
            kex::DH_G16_SHA512,
            kex::DH_G18_SHA512,
            kex::DH_G14_SHA256,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Owned(keys),
        cipher: Cow::Borrowed(&[
            cipher::CHACHA20_POLY1305,
            cipher::AES_128_CTR,
            cipher::AES_192_CTR,
            cipher::AES_256_CTR,
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
        ]),
        mac: Cow::Borrowed(&[
            mac::HMAC_SHA256_ETM,
            mac::HMAC_SHA512_ETM,
            mac::HMAC_SHA1_ETM,
            mac::HMAC_SHA256,
            mac::HMAC_SHA512,
            mac::HMAC_SHA1,
        ]),
        compression: Cow::Borrowed(&[compression::NONE, compression::ZLIB_LEGACY]),
        ..Preferred::DEFAULT
    }
}

fn dropbear() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP521,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP256,
            kex::DH_G14_SHA256,
            kex::DH_G14_SHA1,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        // Users' keys.
        key: Cow::Borrowed(&[
            Algorithm::Ed25519,
            Algorithm::SkEd25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::SkEcdsaSha2NistP256,
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
            Algorithm::Rsa { hash: None },
            Algorithm::Dsa,
        ]),
        cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305, cipher::AES_128_CTR, cipher::AES_256_CTR]),
        mac: Cow::Borrowed(&[mac::HMAC_SHA1, mac::HMAC_SHA256]),
        compression: Cow::Borrowed(&[compression::ZLIB_LEGACY, compression::NONE]),
        ..Preferred::DEFAULT
    }
}
