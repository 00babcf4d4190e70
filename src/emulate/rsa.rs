//! RSA keys that are fixed for a host.
//!
//! To find the primes of one of 3,072 bits takes a third of a second of a processor, which is more than anything else that is fixed about a
//! host. So it is done when such a key is needed, by whoever has the time for it: [`RsaSeed::find`]. What was found is two small
//! numbers, by which the key is made at once: [`RsaSeed::key`].
//!
//! A prime is the least one from a number on that follows from the installation's secret. That says what it is, whichever
//! library looks for it: a key stays the same when that becomes another one.

use std::fmt;
use std::num::NonZeroU32;

use crypto_primes::hazmat::SmallFactorsSieve;
use crypto_primes::{Flavor, is_prime};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, RsaPrivateKey};
use serde::{Deserialize, Serialize};

/// The public exponent.
const EXPONENT: u64 = 65_537;

/// Where the primes of a host's key are looked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RsaSeed(Vec<u8>, Vec<u8>);

/// How far behind their beginnings the primes of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RsaFound([u32; 2]);

/// A key: numbers with the highest octet first, and no needless zeros in front.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RsaKey {
    /// The modulus.
    pub n: Vec<u8>,
    /// The public exponent.
    pub e: Vec<u8>,
    /// The private exponent.
    pub d: Vec<u8>,
    /// The inverse of `q` modulo `p`.
    pub iqmp: Vec<u8>,
    /// A prime.
    pub p: Vec<u8>,
    /// The other one.
    pub q: Vec<u8>,
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaKey(..)")
    }
}

impl fmt::Debug for RsaSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaSeed(..)")
    }
}

impl RsaSeed {
    /// From two numbers of half as many bits as the key is to have.
    pub fn new(p: Vec<u8>, q: Vec<u8>) -> RsaSeed {
        RsaSeed(p, q)
    }

    /// What tells it from others, in short.
    pub fn id(&self) -> u128 {
        self.0.iter().skip(1).take(16).fold(0, |id, octet| id << 8 | u128::from(*octet))
    }

    /// Looks for the primes. None only if there is none far and wide, which no secret has shown so far.
    pub fn find(&self) -> Option<RsaFound> {
        Some(RsaFound([found(&self.0)?, found(&self.1)?]))
    }

    /// The key whose primes were found; none if they were not those of this seed.
    pub fn key(&self, found: RsaFound) -> Option<RsaKey> {
        let RsaFound([p, q]) = found;
        let (p, q) = (prime(&self.0, p)?, prime(&self.1, q)?);
        let key = RsaPrivateKey::from_p_q(p, q, BoxedUint::from(EXPONENT)).ok()?;
        let [p, q] = key.primes() else { return None };
        Some(RsaKey {
            n: octets(key.n().as_ref()),
            e: octets(key.e()),
            d: octets(key.d()),
            iqmp: octets(&key.crt_coefficient()?),
            p: octets(p),
            q: octets(q),
        })
    }
}

/// Where a prime is looked for: an odd number whose two highest bits are set, so that a product of two has all its bits.
fn start(seed: &[u8]) -> Option<BoxedUint> {
    let mut octets = seed.to_vec();
    *octets.first_mut()? |= 0xc0;
    *octets.last_mut()? |= 1;
    BoxedUint::from_be_slice(&octets, 8 * octets.len() as u32).ok()
}

fn prime(seed: &[u8], behind: u32) -> Option<BoxedUint> {
    // No even number is, upon which a key cannot even be tried.
    if !behind.is_multiple_of(2) {
        return None;
    }
    Some(start(seed)?.wrapping_add(BoxedUint::from(behind)))
}

/// How far behind there the least prime is that a key can have.
fn found(seed: &[u8]) -> Option<u32> {
    let start = start(seed)?;
    let is_fit = |candidate: &BoxedUint| {
        // The exponent has an inverse only where it does not divide what is before the prime.
        octets(candidate).iter().fold(0, |rest, octet| (rest << 8 | u64::from(*octet)) % EXPONENT) != 1
    };
    let bits = NonZeroU32::new(start.bits_precision())?;
    let mut candidates = SmallFactorsSieve::new(start.clone(), bits, false).ok()?;
    let prime = candidates.find(|candidate| is_fit(candidate) && is_prime(Flavor::Any, candidate))?;
    let behind = octets(&prime.wrapping_sub(&start));
    (behind.len() <= 4).then(|| behind.iter().fold(0, |number, octet| number << 8 | u32::from(*octet)))
}

fn octets(number: &BoxedUint) -> Vec<u8> {
    number.to_be_bytes().iter().copied().skip_while(|octet| *octet == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::{Identity, Secret};

    #[test]
    fn a_host_has_a_key_of_its_own_and_keeps_it() {
        let seed = |ip: &str| Identity::new(Secret([7; 16]), "web").ssh_rsa(ip.parse().unwrap(), 3072);
        let of = seed("10.0.0.1");
        let found = of.find().unwrap();
        let key = of.key(found).unwrap();
        assert_eq!((key.n.len(), key.p.len(), key.q.len(), &key.e[..]), (384, 192, 192, &[1, 0, 1][..]));
        assert!(key.n[0] & 0x80 != 0 && key.p != key.q);
        // Whoever made it before this was written has the same one.
        let digest = ring::digest::digest(&ring::digest::SHA256, &key.n);
        assert_eq!(crate::wire::hex(digest.as_ref())[..16], *"8ad822d18d25eefa");
        assert_ne!(of.id(), seed("10.0.0.2").id());
        assert!(of.key(RsaFound([0, u32::MAX])).is_none());
    }
}
