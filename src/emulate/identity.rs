//! What is fixed about a host, as keyed functions of the installation's secret.
//!
//! Nothing here is stored: eviction and restarts show nothing, and two
//! installations of one topology share no MAC, no clock and no sequence number.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::rsa::RsaSeed;
use crate::wire::{Mac, is_mapped, word_of};

/// The installation's secret.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A 64-bit keyed function of `label` and `parts`.
    #[inline]
    pub fn derive(&self, label: u8, parts: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(label);
        for part in parts {
            hasher.write_u64(*part);
        }
        hasher.finish()
    }
}

const MAC: u8 = 1;
const UPTIME: u8 = 2;
const ISN: u8 = 3;
const IP_ID: u8 = 4;
const CHOICE: u8 = 5;
const TS_OFFSET: u8 = 6;
const SSH_KEY: u8 = 7;
const MACHINE_ID: u8 = 8;
const COOKIE: u8 = 9;
const NAME: u8 = 10;
const TALK: u8 = 11;
const TLS: u8 = 12;
const NAMES: u8 = 13;
const SSH_RSA: u8 = 14;

/// The identities of one node's hosts.
#[derive(Clone, Debug)]
pub struct Identity {
    secret: Secret,
    names: Secret,
    round_keys: [u32; 4],
    choice_key: u64,
    ip_id_key: u64,
}

/// A keyed mixture of 64 bits (the finalizer of MurmurHash3): fast, spread
/// evenly, and not meant to withstand anyone. What an attacker could exploit (ISN)
/// is derived by SipHash.
#[inline]
fn mix(key: u64, value: u64) -> u64 {
    let mut x = value ^ key;
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The low 64 bits of an address, which tell hosts of one node apart.
#[inline]
fn low64(ip: IpAddr) -> u64 {
    low64_of(word_of(ip))
}

/// The same of an address that is a word.
#[inline]
fn low64_of(word: u128) -> u64 {
    if is_mapped(word) { u64::from(word as u32) } else { word as u64 ^ ((word >> 64) as u64).rotate_left(17) }
}

/// Octets made of words.
fn octets<const N: usize>(word: impl Fn(u64) -> u64) -> [u8; N] {
    let mut octets = [0; N];
    for (part, octets) in (0..).zip(octets.chunks_mut(8)) {
        octets.copy_from_slice(&word(part).to_be_bytes()[..octets.len()]);
    }
    octets
}

impl Identity {
    /// The identities of the node named `node`.
    pub fn new(secret: Secret, node: &str) -> Identity {
        let mut hasher = SipHasher13::new_with_key(&secret.0);
        hasher.write(node.as_bytes());
        let key = hasher.finish();
        let mut names = [0; 16];
        names[..8].copy_from_slice(&secret.derive(NAMES, &[0]).to_be_bytes());
        names[8..].copy_from_slice(&secret.derive(NAMES, &[1]).to_be_bytes());
        let mut own = [0; 16];
        own[..8].copy_from_slice(&secret.derive(0, &[key]).to_be_bytes());
        own[8..].copy_from_slice(&secret.derive(0, &[key, 1]).to_be_bytes());
        let secret = Secret(own);
        let round_keys = [0, 1, 2, 3].map(|i| secret.derive(MAC, &[i]) as u32);
        let (choice_key, ip_id_key) = (secret.derive(CHOICE, &[]), secret.derive(IP_ID, &[]));
        Identity { secret, names: Secret(names), round_keys, choice_key, ip_id_key }
    }

    /// The MAC of host `number`: the vendor's `oui` and a permutation of the low
    /// 24 bits of the number, so that no two of 2²⁴ hosts share one.
    #[inline]
    pub fn mac(&self, oui: [u8; 3], number: u64) -> Mac {
        // A four-round Feistel network over 2 × 12 bits: a permutation for any
        // round function; four keyed rounds leave no visible order.
        let mut left = (number >> 12) as u32 & 0xfff;
        let mut right = number as u32 & 0xfff;
        for key in self.round_keys {
            let mixed = (right ^ key).wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_mul(0x85eb_ca6b);
            (left, right) = (right, left ^ (mixed >> 20));
        }
        // One number, not six octets: what is written in pieces is slow to read whole.
        let [a, b, c] = oui;
        let bits = u64::from(a) << 40 | u64::from(b) << 32 | u64::from(c) << 24 | u64::from(left << 12 | right);
        let [_, _, octets @ ..] = bits.to_be_bytes();
        Mac(octets)
    }

    /// A number below `total` that is fixed for the host whose address is `word`: which of several
    /// weighted templates it has.
    #[inline]
    pub fn choice(&self, word: u128, total: u32) -> u32 {
        let hash = mix(self.choice_key, low64_of(word));
        ((u128::from(hash) * u128::from(total)) >> 64) as u32
    }

    /// Seconds that host `ip` claims to have been up at monotonic time 0: between
    /// one hour and 60 days.
    pub fn uptime_secs(&self, ip: IpAddr) -> u64 {
        3600 + self.secret.derive(UPTIME, &[low64(ip)]) % (60 * 86400 - 3600)
    }

    /// The part of an initial sequence number that RFC 6528 §3 calls F: keyed, fixed per four-tuple.
    #[inline]
    pub fn isn(&self, local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> u32 {
        self.secret.derive(ISN, &[low64(local), low64(remote), u64::from(local_port) << 16 | u64::from(remote_port)])
            as u32
    }

    /// What a SYN cookie consists of (RFC 4987 §3.6): a keyed function of the connection, of the peer's initial
    /// sequence number and of `value`.
    pub fn cookie(&self, local: (IpAddr, u16), remote: (IpAddr, u16), peer_isn: u32, value: u64) -> u64 {
        let numbers = u64::from(peer_isn) << 32 | u64::from(local.1) << 16 | u64::from(remote.1);
        // Whole addresses: nobody may answer in the name of one that differs in bits that were left out.
        let [local, remote] = [word_of(local.0), word_of(remote.0)];
        let words = [local as u64, (local >> 64) as u64, remote as u64, (remote >> 64) as u64];
        self.secret.derive(COOKIE, &[words[0], words[1], words[2], words[3], numbers, value])
    }

    /// Where a timestamp clock starts, per pair of addresses (as Linux offsets it).
    #[inline]
    pub fn ts_offset(&self, local: IpAddr, remote: IpAddr) -> u32 {
        self.secret.derive(TS_OFFSET, &[low64(local), low64(remote)]) as u32
    }

    /// The IPv6 flow label of what passes from `local` to `remote`, of 20 bits and never 0; `ports` tells
    /// connections apart.
    #[inline]
    pub fn flow_label(&self, local: u128, remote: u128, ports: u32) -> u32 {
        let key = self.choice_key.rotate_left(10);
        let hash = mix(mix(key, low64_of(local)) ^ low64_of(remote).rotate_left(32), u64::from(ports));
        (hash >> 44).max(1) as u32
    }

    /// What the addresses follow from that names outside the honeynet are given: the same at all nodes.
    pub fn names(&self) -> Secret {
        self.names
    }

    /// The private key (an RFC 8032 seed) of the SSH server of host `ip`.
    pub fn ssh_seed(&self, ip: IpAddr) -> [u8; 32] {
        octets(|part| self.secret.derive(SSH_KEY, &[low64(ip), part]))
    }

    /// The other private key of that server: a scalar of P-256.
    pub fn ssh_scalar(&self, ip: IpAddr) -> [u8; 32] {
        // Words behind those of the seed; one of 2³² numbers of 256 bits is no scalar of this group, then the next one is taken.
        let candidate =
            |attempt: u64| octets(|part| self.secret.derive(SSH_KEY, &[low64(ip), (attempt + 1) * 4 + part]));
        let is_scalar = |octets: &[u8; 32]| p256::SecretKey::from_slice(octets).is_ok();
        let found = (0..).map(candidate).find(is_scalar);
        found.unwrap_or_else(|| unreachable!("the candidates have no end"))
    }

    /// What the RSA key of that server is made from, which is to have so many bits.
    pub fn ssh_rsa(&self, ip: IpAddr, bits: u64) -> RsaSeed {
        let word = |which: u64, part| self.secret.derive(SSH_RSA, &[low64(ip), which, part]).to_be_bytes();
        let prime = |which| (0..bits / 128).flat_map(|part| word(which, part)).collect();
        RsaSeed::new(prime(0), prime(1))
    }

    /// Octets that are fixed for what host `ip` uses in TLS; `what` tells keys, serial numbers and dates apart.
    pub fn tls<const N: usize>(&self, ip: IpAddr, what: u64) -> [u8; N] {
        octets(|part| self.secret.derive(TLS, &[low64(ip), what, part]))
    }

    /// What the name of host `number` is made of.
    pub fn name_seed(&self, number: u64) -> u64 {
        self.secret.derive(NAME, &[number])
    }

    /// What the times follow from at which host `number` speaks by itself.
    pub fn talk_seed(&self, number: u64) -> u64 {
        self.secret.derive(TALK, &[number])
    }

    /// What systemd calls the machine id of host `ip`.
    pub fn machine_id(&self, ip: IpAddr) -> u128 {
        let half = |part| u128::from(self.secret.derive(MACHINE_ID, &[low64(ip), part]));
        half(0) << 64 | half(1)
    }

    /// Where an IP ID counter of the host whose address is `word` starts.
    #[inline]
    pub fn ip_id(&self, word: u128) -> u16 {
        mix(self.ip_id_key, low64_of(word)) as u16
    }

    /// A number of which as many low bits as 2¹⁶ counters need tell neighbors apart:
    /// no two hosts of a /16 have one counter, and which hosts of others have it is keyed.
    #[inline]
    pub fn counter(&self, word: u128) -> u16 {
        let low = low64_of(word);
        low as u16 ^ mix(self.ip_id_key, low >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_a_permutation() {
        let identity = Identity::new(Secret([7; 16]), "staff");
        let mut seen = vec![false; 1 << 24];
        for number in 0..1 << 24 {
            let Mac([a, b, c, d, e, f]) = identity.mac([0, 12, 41], number);
            assert_eq!([a, b, c], [0, 12, 41]);
            let suffix = u32::from_be_bytes([0, d, e, f]) as usize;
            assert!(!std::mem::replace(&mut seen[suffix], true));
        }
    }

    #[test]
    fn neighbors_have_counters_of_their_own() {
        let identity = Identity::new(Secret([7; 16]), "staff");
        let of = |ip: u32| identity.counter(word_of(IpAddr::from(ip.to_be_bytes())));
        let all: std::collections::HashSet<u16> = (0..1 << 16).map(|i| of(0x0a01_0000 | i)).collect();
        assert_eq!(all.len(), 1 << 16);
        assert_ne!(of(0x0a01_0005), of(0x0a02_0005));
    }

    #[test]
    fn nodes_and_secrets_differ() {
        let ip = "10.0.0.1".parse().unwrap();
        let one = Identity::new(Secret([7; 16]), "a");
        let two = Identity::new(Secret([7; 16]), "b");
        let three = Identity::new(Secret([8; 16]), "a");
        assert_ne!(one.uptime_secs(ip), two.uptime_secs(ip));
        assert_ne!(one.uptime_secs(ip), three.uptime_secs(ip));
        assert_ne!(one.mac([0; 3], 1), three.mac([0; 3], 1));
    }

    #[test]
    fn choices_follow_their_weights() {
        let identity = Identity::new(Secret([1; 16]), "n");
        let low = (0..10_000u32).filter(|i| identity.choice(word_of(IpAddr::from(i.to_be_bytes())), 100) < 25).count();
        assert!((2300..2700).contains(&low), "{low}");
    }
}
