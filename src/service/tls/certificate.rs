//! The key and certificate of a host: functions of its identity, so that they are the same after a restart and no
//! two hosts share one.
//!
//! The key is a scalar of P-256 that the identity yields. Signatures of certificates are deterministic (RFC 6979),
//! hence a certificate is the same to its last octet each time it is made. Its dates follow from the identity, too:
//! certificates of a host follow one another, each made when the host was set up or its last one was renewed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, Issuer, KeyIdMethod,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{Given, Leaf, Name, Owner};
use crate::emulate::Identity;

const DAY: i64 = 86_400;
/// Days after which a certificate is renewed that would be valid for longer: servers are set up anew every other year.
const RENEWED: i64 = 730;

/// What is derived of an identity: [`Identity::tls`].
mod what {
    pub const KEY: u64 = 0;
    pub const ISSUER: u64 = 1;
    pub const PHASE: u64 = 2;
    pub const TICKETS: u64 = 3;
    pub const SERIAL: u64 = 4;
}

/// A key on P-256 that signs as RFC 6979 does.
struct Key {
    secret: SigningKey,
    /// The point, as SEC 1 §2.3.3 writes it without compression.
    public: Vec<u8>,
}

impl Key {
    fn derive(identity: &Identity, ip: IpAddr, what: u64) -> Key {
        // One of 2³² numbers of 256 bits is no scalar of this group: then the next one is taken.
        let candidates = (0u64..).map(|attempt| identity.tls::<32>(ip, attempt << 8 | what));
        let secret = candidates.filter_map(|octets| SigningKey::from_bytes(&octets.into()).ok()).next();
        let secret = secret.unwrap_or_else(|| unreachable!("the candidates have no end"));
        let public = secret.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        Key { secret, public }
    }

    /// RFC 5280 §4.2.1.2, method 1.
    fn id(&self) -> Vec<u8> {
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &self.public).as_ref().to_vec()
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.secret.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// A host's certificate, and until when it is the host's.
pub struct Made {
    /// What rustls signs with.
    pub key: Arc<CertifiedKey>,
    /// Seconds since 1970 when the next one takes its place.
    pub until: i64,
}

/// The certificate that a host has at `now`, in seconds since 1970.
///
/// # Errors
/// If a name in it cannot stand in a certificate.
pub fn make(
    provider: &CryptoProvider,
    identity: &Identity,
    owner: &Owner,
    leaf: &Leaf,
    now: i64,
) -> Result<Made, Box<dyn std::error::Error>> {
    let lasts = i64::from(leaf.days) * DAY;
    let period = lasts.min(RENEWED * DAY);
    let phase = (u64::from_be_bytes(identity.tls(owner.ip, what::PHASE)) % period.unsigned_abs()) as i64;
    let nth = (now - phase).div_euclid(period);
    let from = phase + nth * period;

    // Where the clock has not been set, certificates begin with it.
    let date = |second: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(second.max(0).unsigned_abs());
    let key = Key::derive(identity, owner.ip, what::KEY);
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&leaf.subject, owner)?;
    params.not_before = date(from);
    params.not_after = date(from + lasts);
    params.serial_number = Some(serial(identity, owner.ip, nth));
    params.subject_alt_names = names(leaf, owner)?;
    // `CA:FALSE`, not critical, as OpenSSL's configurations have it: an empty sequence.
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0])];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.id());
    let certificate = if leaf.issuer == Name::default() {
        params.self_signed(&key)?
    } else {
        // Of the issuer's key nobody sees more than what it has signed.
        let any = IpAddr::from([0; 4]);
        let mut above = CertificateParams::default();
        above.distinguished_name = name(&leaf.issuer, owner)?;
        let signer = Key::derive(identity, any, what::ISSUER);
        above.key_identifier_method = KeyIdMethod::PreSpecified(signer.id());
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&key, &Issuer::new(above, signer))?
    };
    let secret = key.secret.to_pkcs8_der()?;
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.as_bytes().to_vec()));
    let signer = provider.key_provider.load_private_key(secret)?;
    Ok(Made { key: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)), until: from + period })
}

/// What tickets of a host's service are sealed with, and what they begin with.
pub fn ticket_key(identity: &Identity, owner: &Owner) -> ([u8; 32], [u8; 16]) {
    let octets: [u8; 48] = identity.tls(owner.ip, u64::from(owner.service) << 8 | what::TICKETS);
    let (mut key, mut name) = ([0; 32], [0; 16]);
    key.copy_from_slice(&octets[..32]);
    name.copy_from_slice(&octets[32..]);
    (key, name)
}

/// What OpenSSL draws: 20 octets, positive.
fn serial(identity: &Identity, ip: IpAddr, nth: i64) -> SerialNumber {
    let mut octets: [u8; 20] = identity.tls(ip, (nth.unsigned_abs()) << 8 | what::SERIAL);
    octets[0] = octets[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&octets)
}

fn filled(text: &str, owner: &Owner) -> String {
    text.replace("{host}", &owner.name).replace("{address}", &owner.ip.to_string())
}

fn name(name: &Name, owner: &Owner) -> Result<DistinguishedName, rcgen::Error> {
    let mut all = DistinguishedName::new();
    if !name.country.is_empty() {
        all.push(DnType::CountryName, DnValue::PrintableString(name.country.as_str().try_into()?));
    }
    for (kind, text) in [
        (DnType::StateOrProvinceName, &name.state),
        (DnType::LocalityName, &name.locality),
        (DnType::OrganizationName, &name.organization),
        (DnType::OrganizationalUnitName, &name.unit),
        (DnType::CommonName, &name.common_name),
    ] {
        if !text.is_empty() {
            all.push(kind, filled(text, owner));
        }
    }
    Ok(all)
}

fn names(leaf: &Leaf, owner: &Owner) -> Result<Vec<SanType>, rcgen::Error> {
    let listed = leaf.names.iter().map(|name| filled(name, owner));
    let common = filled(&leaf.subject.common_name, owner);
    let is_host = |name: &String| {
        let mut octets = name.bytes();
        !name.is_empty() && octets.all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'*'))
    };
    let usual = Some(common).filter(|name| leaf.names.is_empty() && is_host(name));
    let name = |name: String| match name.parse() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => name.try_into().map(SanType::DnsName),
    };
    listed.chain(usual).map(name).collect()
}

impl Leaf {
    /// Why no certificate can be made of it, if none can.
    ///
    /// # Errors
    /// The reason, for whoever wrote it.
    pub fn check(&self) -> Result<(), String> {
        let owner = Owner { ip: IpAddr::from([192, 0, 2, 1]), name: "host".to_owned(), service: 0 };
        let sound = name(&self.subject, &owner).and(name(&self.issuer, &owner)).and(names(self, &owner).map(drop));
        sound.map_err(|error| error.to_string())
    }
}

impl Given {
    /// Takes a certificate, perhaps with those above it, and its key, both as PEM.
    ///
    /// # Errors
    /// What is wrong with them, for whoever wrote them.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Given, String> {
        let chain = CertificateDer::pem_slice_iter(chain).map(|one| one.map(|one| one.to_vec()));
        let chain: Vec<Vec<u8>> =
            chain.collect::<Result<_, _>>().map_err(|error| format!("the certificate cannot be read: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate (`BEGIN CERTIFICATE`) in its file".to_owned());
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the private key cannot be read: {error}"))?;
        let given = Given { chain, key: key.secret_der().to_vec() };
        let loaded = given.load(&rustls::crypto::ring::default_provider())?;
        loaded.keys_match().map_err(|_| "the private key is not that of the certificate".to_owned())?;
        Ok(given)
    }

    /// What rustls signs with.
    ///
    /// # Errors
    /// If the key is of a kind that *ring* does not know.
    pub fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let chain = self.chain.iter().map(|one| CertificateDer::from(one.clone())).collect();
        let key = PrivateKeyDer::try_from(self.key.clone())?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
        Ok(CertifiedKey::new(chain, key))
    }
}

/// A certificate and its key, in DER, that depend on `secret`.
#[cfg(test)]
pub fn sample(secret: u8) -> (Vec<u8>, Vec<u8>) {
    let identity = Identity::new(crate::emulate::Secret([secret; 16]), "sample");
    let owner = Owner { ip: IpAddr::from([192, 0, 2, 1]), name: "sample".to_owned(), service: 0 };
    let made = make(&rustls::crypto::ring::default_provider(), &identity, &owner, &Leaf::default(), 1_700_000_000);
    let key = Key::derive(&identity, owner.ip, what::KEY).secret.to_pkcs8_der().unwrap();
    (made.unwrap().key.cert[0].to_vec(), key.as_bytes().to_vec())
}
