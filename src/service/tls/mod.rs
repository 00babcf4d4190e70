//! TLS around the services of emulated hosts (RFC 8446, RFC 5246), spoken by rustls.
//!
//! * `hello`: what a client shows of itself
//! * `certificate`: the key and certificate of a host, functions of its identity
//! * `notary`: who gets one, and when: signatures cost far more than segments, so a node makes so many a second
//! * `channel`: one connection's records; `wrapped`: what is spoken within them
//! * `believer`: the other side, where it is ours
//!
//! A service knows nothing of it: what it sees is a [`Stream`](super::Stream) like any other. Unlike everything else
//! here, key shares and nonces come from the system's randomness: *ring* takes no other.

mod believer;
pub mod certificate;
mod channel;
mod hello;
mod notary;
#[cfg(test)]
mod tests;
mod wrapped;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::Service;
pub use believer::believer;
#[cfg(test)]
pub use certificate::sample;
pub use hello::{ClientHello, First, MOST as MOST_OF_HELLO, first};
pub use notary::{Notary, Owner, provider, tickets};
pub(super) use wrapped::Wrapped;

/// A service within TLS.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Secured {
    /// What the server proves to be.
    pub credentials: Credentials,
    /// What is spoken inside.
    pub inner: Service,
}

/// Where a server's certificate comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Credentials {
    /// Each host has one of its own.
    Own(Box<Leaf>),
    /// All hosts have this one.
    Given(Given),
}

impl Credentials {
    /// What the signature of a handshake costs, in those with ECDSA on P-256.
    fn weight(&self) -> u64 {
        let key = match self {
            Credentials::Own(leaf) => leaf.key.as_ref(),
            Credentials::Given(given) => Some(&given.key),
        };
        key.map_or(1, GivenKey::weight)
    }

    /// What that of a certificate costs which is made, where the key that signs it was made elsewhere.
    fn weight_of_making(&self) -> u64 {
        match self {
            Credentials::Own(leaf) => leaf.signed_with().map_or(0, GivenKey::weight),
            Credentials::Given(_) => 0,
        }
    }
}

/// What the certificate of a host says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leaf {
    /// Whom it is about.
    pub subject: Name,
    /// Who signed it; nobody else if it is empty.
    pub issuer: Name,
    /// DNS names and addresses of the server; the subject's common name if there are none and it is one.
    pub names: Vec<String>,
    /// How many days it is valid, 1 to 36,500.
    pub days: u32,
    /// The key of all of them, made elsewhere; none if each host has its own, on P-256.
    pub key: Option<GivenKey>,
    /// Who signs them, made elsewhere: then `issuer` says nothing.
    pub authority: Option<Given>,
}

impl Leaf {
    /// The key that signs them, if it was made elsewhere.
    fn signed_with(&self) -> Option<&GivenKey> {
        let own = self.key.as_ref().filter(|_| self.issuer == Name::default());
        self.authority.as_ref().map(|authority| &authority.key).or(own)
    }
}

impl Default for Leaf {
    /// As Debian's `make-ssl-cert` makes it: for the host's name, signed by itself, for ten years.
    fn default() -> Leaf {
        let subject = Name { common_name: "{host}".to_owned(), ..Name::default() };
        Leaf { subject, issuer: Name::default(), names: Vec::new(), days: 3650, key: None, authority: None }
    }
}

/// A distinguished name (RFC 5280 §4.1.2.4); what is empty is left out. `{host}` stands for the host's name,
/// `{address}` for its address, and `{sni}` for the name that a client asks for where certificates are made for that; elsewhere
/// it is the host's.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Name {
    /// `C`: two letters.
    pub country: String,
    /// `ST`
    pub state: String,
    /// `L`
    pub locality: String,
    /// `O`
    pub organization: String,
    /// `OU`
    pub unit: String,
    /// `CN`
    pub common_name: String,
}

/// A certificate that was made elsewhere, and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The certificate and those that lead to its issuer, in DER.
    chain: Vec<Vec<u8>>,
    key: GivenKey,
}

/// A private key that was made elsewhere, RSA, ECDSA on P-256 or P-384, or Ed25519: PKCS #8, PKCS #1 or SEC 1, in DER.
#[derive(Clone, Serialize, Deserialize)]
pub struct GivenKey {
    der: Vec<u8>,
    /// It is loaded when it is first used, and once: an RSA key is checked at length for that.
    #[serde(skip)]
    loaded: OnceLock<Arc<certificate::Loaded>>,
}

impl GivenKey {
    /// What a signature costs, in those with ECDSA on P-256: *ring* takes some six times as long for RSA with 2,048 bits,
    /// and thirty times for 4,096.
    fn weight(&self) -> u64 {
        match self.der.len() {
            // In DER an elliptic key has 250 octets at most, an RSA key more than half as many as it has bits.
            0..=500 => 1,
            501..=1400 => 6,
            _ => 32,
        }
    }
}

impl PartialEq for GivenKey {
    fn eq(&self, other: &GivenKey) -> bool {
        self.der == other.der
    }
}

impl Eq for GivenKey {}

impl std::fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GivenKey(..)")
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}
