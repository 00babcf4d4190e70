//! The key and certificate of a host: functions of its identity, so that they are the same after a restart and no
//! two hosts share one.
//!
//! The key is a scalar of P-256 that the identity yields. Signatures of certificates are deterministic (RFC 6979),
//! hence a certificate is the same to its last octet each time it is made. Its dates follow from the identity, too:
//! certificates of a host follow one another, each made when the host was set up or its last one was renewed.
//!
//! Where certificates are for the name that was asked for, each name has key, serial number and dates of its own.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, Issuer, KeyIdMethod,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Given, GivenKey, Leaf, Name, Owner};
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

/// Whom a certificate is for. What is random in others follows from that.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// The installation's part.
    pub identity: &'a Identity,
    /// The host.
    pub owner: &'a Owner,
    /// The name that was asked for, where certificates are made for it.
    pub asked: Option<&'a str>,
}

impl Whose<'_> {
    /// Octets for `what`; of a name, 32 at most.
    fn octets<const N: usize>(&self, what: u64) -> [u8; N] {
        let mut octets = self.identity.tls(self.owner.ip, what);
        if let Some(name) = self.asked {
            let digest = Sha256::new().chain_update(octets).chain_update(name).finalize();
            octets.iter_mut().zip(digest).for_each(|(octet, mixed)| *octet = mixed);
        }
        octets
    }
}

/// A key that was made elsewhere, for use.
pub(super) struct Loaded {
    signer: Arc<dyn rustls::sign::SigningKey>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
    /// What a certificate has in `subjectPublicKey` (RFC 5280 §4.1).
    public: Vec<u8>,
}

impl GivenKey {
    /// Takes a key as PEM.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn new(pem: &[u8]) -> Result<GivenKey, String> {
        let key = PrivateKeyDer::from_pem_slice(pem);
        let key = key.map_err(|error| format!("the private key cannot be read: {error}"))?;
        Ok(GivenKey { der: key.secret_der().to_vec(), loaded: OnceLock::new() })
    }

    /// The key for use. All providers here have the same keys, *ring*'s.
    fn load(&self, provider: &CryptoProvider) -> Result<Arc<Loaded>, String> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded.clone());
        }
        let loaded = Arc::new(self.load_anew(provider)?);
        Ok(self.loaded.get_or_init(|| loaded).clone())
    }

    fn load_anew(&self, provider: &CryptoProvider) -> Result<Loaded, String> {
        let key = PrivateKeyDer::try_from(self.der.clone())?;
        let signer = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
        let known = [
            (SignatureScheme::RSA_PKCS1_SHA256, &PKCS_RSA_SHA256),
            (SignatureScheme::ECDSA_NISTP256_SHA256, &PKCS_ECDSA_P256_SHA256),
            (SignatureScheme::ECDSA_NISTP384_SHA384, &PKCS_ECDSA_P384_SHA384),
            (SignatureScheme::ED25519, &PKCS_ED25519),
        ];
        let found = known.into_iter().find(|(scheme, _)| signer.choose_scheme(&[*scheme]).is_some());
        let (scheme, algorithm) = found.ok_or("certificates cannot be signed with such a key")?;
        let info = signer.public_key().ok_or("the private key does not say its public one")?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&info).map_err(|error| error.to_string())?;
        let public = info.subject_public_key.data.to_vec();
        Ok(Loaded { signer, scheme, algorithm, public })
    }
}

const OTHER_KEY: &str = "the private key is not that of the certificate";

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("the certificate cannot be read: {error}"))?;
    match chain.is_empty() {
        true => Err("there is no certificate (`BEGIN CERTIFICATE`) in its file".to_owned()),
        false => Ok(chain),
    }
}

/// What signs a certificate, or is signed in it.
enum Key {
    /// On P-256; it signs as RFC 6979 does.
    Own {
        secret: SigningKey,
        /// The point, as SEC 1 §2.3.3 writes it without compression.
        public: Vec<u8>,
    },
    Given(Arc<Loaded>),
}

impl Key {
    fn derive(whose: &Whose<'_>, what: u64) -> Key {
        // One of 2³² numbers of 256 bits is no scalar of this group: then the next one is taken.
        let candidates = (0u64..).map(|attempt| whose.octets::<32>(attempt << 8 | what));
        let secret = candidates.filter_map(|octets| SigningKey::from_bytes(&octets.into()).ok()).next();
        let secret = secret.unwrap_or_else(|| unreachable!("the candidates have no end"));
        let public = secret.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        Key::Own { secret, public }
    }

    /// RFC 5280 §4.2.1.2, method 1.
    fn id(&self) -> Vec<u8> {
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, self.der_bytes()).as_ref().to_vec()
    }

    /// What rustls signs handshakes with.
    fn signer(
        &self,
        provider: &CryptoProvider,
    ) -> Result<Arc<dyn rustls::sign::SigningKey>, Box<dyn std::error::Error>> {
        match self {
            Key::Own { secret, .. } => {
                let secret = secret.to_pkcs8_der()?;
                let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.as_bytes().to_vec()));
                Ok(provider.key_provider.load_private_key(secret)?)
            }
            Key::Given(given) => Ok(given.signer.clone()),
        }
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Key::Own { public, .. } => public,
            Key::Given(given) => &given.public,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Key::Own { .. } => &PKCS_ECDSA_P256_SHA256,
            Key::Given(given) => given.algorithm,
        }
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Key::Own { secret, .. } => {
                let signature: DerSignature = secret.sign(message);
                Ok(signature.as_bytes().to_vec())
            }
            Key::Given(given) => {
                let signer = given.signer.choose_scheme(&[given.scheme]).ok_or(rcgen::Error::RemoteKeyError)?;
                signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
            }
        }
    }
}

/// A host's certificate, and until when it is the host's.
pub struct Made {
    /// What rustls signs with.
    pub key: Arc<CertifiedKey>,
    /// Seconds since 1970 when the next one takes its place.
    pub until: i64,
}

/// The certificate that somebody has at `now`, in seconds since 1970.
///
/// # Errors
/// If a name in it cannot stand in a certificate.
pub fn make(
    provider: &CryptoProvider,
    whose: &Whose<'_>,
    leaf: &Leaf,
    now: i64,
) -> Result<Made, Box<dyn std::error::Error>> {
    let lasts = i64::from(leaf.days) * DAY;
    let period = lasts.min(RENEWED * DAY);
    let phase = (u64::from_be_bytes(whose.octets(what::PHASE)) % period.unsigned_abs()) as i64;
    let nth = (now - phase).div_euclid(period);
    let from = phase + nth * period;

    // Where the clock has not been set, certificates begin with it.
    let date = |second: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(second.max(0).unsigned_abs());
    let key = match &leaf.key {
        Some(given) => Key::Given(given.load(provider)?),
        None => Key::derive(whose, what::KEY),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&leaf.subject, whose.owner, whose.asked)?;
    params.not_before = date(from);
    params.not_after = date(from + lasts);
    params.serial_number = Some(serial(whose, nth));
    params.subject_alt_names = names(leaf, whose.owner, whose.asked)?;
    // `CA:FALSE`, not critical, as OpenSSL's configurations have it: an empty sequence.
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0])];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.id());
    params.use_authority_key_identifier_extension = leaf.authority.is_some() || leaf.issuer != Name::default();
    let certificate = if let Some(authority) = &leaf.authority {
        let first = authority.certificates().next().ok_or("the authority has no certificate")?;
        let issuer = Issuer::from_ca_cert_der(&first, Key::Given(authority.key.load(provider)?))?;
        params.signed_by(&key, &issuer)?
    } else if leaf.issuer == Name::default() {
        params.self_signed(&key)?
    } else {
        // Of the issuer's key nobody sees more than what it has signed.
        let any = Owner { ip: IpAddr::from([0; 4]), ..whose.owner.clone() };
        let mut above = CertificateParams::default();
        above.distinguished_name = name(&leaf.issuer, whose.owner, whose.asked)?;
        let signer = Key::derive(&Whose { identity: whose.identity, owner: &any, asked: None }, what::ISSUER);
        above.key_identifier_method = KeyIdMethod::PreSpecified(signer.id());
        params.signed_by(&key, &Issuer::new(above, signer))?
    };
    let above = leaf.authority.iter().flat_map(Given::above);
    let chain = std::iter::once(certificate.der().clone()).chain(above).collect();
    Ok(Made { key: Arc::new(CertifiedKey::new(chain, key.signer(provider)?)), until: from + period })
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
fn serial(whose: &Whose<'_>, nth: i64) -> SerialNumber {
    let mut octets: [u8; 20] = whose.octets(nth.unsigned_abs() << 8 | what::SERIAL);
    octets[0] = octets[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&octets)
}

fn filled(text: &str, owner: &Owner, asked: Option<&str>) -> String {
    let text = text.replace("{host}", &owner.name).replace("{address}", &owner.ip.to_string());
    text.replace("{sni}", asked.unwrap_or(&owner.name))
}

fn name(name: &Name, owner: &Owner, asked: Option<&str>) -> Result<DistinguishedName, rcgen::Error> {
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
            all.push(kind, filled(text, owner, asked));
        }
    }
    Ok(all)
}

fn names(leaf: &Leaf, owner: &Owner, asked: Option<&str>) -> Result<Vec<SanType>, rcgen::Error> {
    let listed = leaf.names.iter().map(|name| filled(name, owner, asked));
    let common = filled(&leaf.subject.common_name, owner, asked);
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
        let identity = Identity::new(crate::emulate::Secret([0; 16]), "check");
        let whose = Whose { identity: &identity, owner: &owner, asked: None };
        let made = make(&rustls::crypto::ring::default_provider(), &whose, self, 0);
        made.map(drop).map_err(|error| error.to_string())
    }
}

impl Given {
    /// Takes a certificate, perhaps with those above it, and its key, both as PEM.
    ///
    /// # Errors
    /// What is wrong with them, for whoever wrote them.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Given, String> {
        let chain = read_chain(chain)?.iter().map(|one| one.to_vec()).collect();
        let given = Given { chain, key: GivenKey::new(key)? };
        let loaded = given.load(&rustls::crypto::ring::default_provider())?;
        loaded.keys_match().map_err(|_| OTHER_KEY.to_owned())?;
        Ok(given)
    }

    /// The same of one who signs others.
    ///
    /// # Errors
    /// What is wrong with them, for whoever wrote them.
    pub fn authority(chain: &[u8], key: &[u8]) -> Result<Given, String> {
        let given = Given::new(chain, key)?;
        let first = given.chain.first().map(Vec::as_slice).unwrap_or_default();
        let (_, own) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
        match own.basic_constraints() {
            Ok(Some(may)) if may.value.ca => Ok(given),
            _ => Err("the certificate is none of an authority: it does not say `CA:TRUE`".to_owned()),
        }
    }

    /// What rustls signs with.
    ///
    /// # Errors
    /// If the key is of a kind that *ring* does not know.
    pub fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        Ok(CertifiedKey::new(self.certificates().collect(), self.key.load(provider)?.signer.clone()))
    }

    fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.chain.iter().map(|one| CertificateDer::from(one.clone()))
    }

    /// What servers show above a certificate that this one has signed: not a root, which clients have or do not have.
    fn above(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        let is_root = |certificate: &CertificateDer<'_>| {
            X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
        };
        self.certificates().filter(move |certificate| !is_root(certificate))
    }
}

/// A certificate and its key, in DER, that depend on `secret`.
#[cfg(test)]
pub fn sample(secret: u8) -> (Vec<u8>, Vec<u8>) {
    let identity = Identity::new(crate::emulate::Secret([secret; 16]), "sample");
    let owner = Owner { ip: IpAddr::from([192, 0, 2, 1]), name: "sample".to_owned(), service: 0 };
    let whose = Whose { identity: &identity, owner: &owner, asked: None };
    let provider = rustls::crypto::ring::default_provider();
    let made = make(&provider, &whose, &Leaf::default(), 1_700_000_000);
    let Key::Own { secret, .. } = Key::derive(&whose, what::KEY) else { unreachable!() };
    (made.unwrap().key.cert[0].to_vec(), secret.to_pkcs8_der().unwrap().as_bytes().to_vec())
}
