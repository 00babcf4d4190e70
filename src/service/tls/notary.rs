//! Who gets a certificate, and when.
//!
//! A handshake costs what thousands of frames cost. So there are so many of them a second, for all and for each
//! source; one whose turn has not come waits for it, and where too many wait already, the next one is closed. What was
//! made for a host is kept for the next handshake, in a bounded table.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite as suite, default_provider, kx_group};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;

use super::certificate::{self, Whose};
use super::{Credentials, Secured};
use crate::emulate::{ClockTable, Identity, WallClock};
use crate::service::ServiceKind;
use crate::wire::{Duration, Instant, word_of};

/// Handshakes a second of a node: a fifth of a processor, at the 175 µs that one takes (`examples/tls_handshakes.rs`,
/// without optimization).
const RATE: u64 = 1000;
/// How many of these one source gets.
const RATE_OF_SOURCE: u64 = 500;
/// Handshakes that may follow one another at once, after a while without any: all else waits for them, 3 ms at most.
const BURST: u64 = 16;
/// Handshakes that one counts for besides whose certificate has to be made first, what keys from elsewhere sign excepted.
const MAKING: u64 = 5;
/// How long the turn of a handshake may be away.
const LONGEST: Duration = Duration::from_secs(2);
/// Certificates that are kept, and sources that are known.
const KEPT: usize = 1024;
/// Seconds that a session may be resumed: nginx's `ssl_session_timeout`, and OpenSSL's default.
const RESUMED: [u32; 2] = [300, 7200];

/// Whose certificate it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The address that stands for the host.
    pub ip: IpAddr,
    /// What the host calls itself.
    pub name: String,
    /// Which of the node's services it speaks with.
    pub service: u16,
}

/// One series of turns (the generic cell rate algorithm, ITU-T I.371): when the next one is.
#[derive(Clone, Copy)]
struct Turns(Instant);

impl Turns {
    const NEW: Turns = Turns(Instant::ZERO);

    /// When the next turn is, and the series after it. Nothing if that is too far away.
    fn next(self, now: Instant, rate: u64, turns: u64) -> Option<(Instant, Turns)> {
        let each = Duration::from_micros(1_000_000 / rate);
        // What was not used is saved up to a burst.
        let at = self.0.max(now - each * BURST as u32);
        (at <= now + LONGEST).then(|| (at.max(now), Turns(at + each * turns as u32)))
    }
}

struct Entry {
    config: Arc<ServerConfig>,
    /// Seconds since 1970 when it is no longer the host's.
    until: i64,
}

/// What servers do their cryptography with: OpenSSL's choices, as far as rustls has them.
pub fn provider() -> CryptoProvider {
    // In OpenSSL's order, which is also the client's where it has no other.
    let cipher_suites = vec![
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    // The client chooses, and a key exchange on P-384 takes many times as long.
    let kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    CryptoProvider { cipher_suites, kx_groups, ..default_provider() }
}

/// Makes certificates, and lets handshakes begin.
pub struct Notary {
    identity: Identity,
    wall: WallClock,
    provider: Arc<CryptoProvider>,
    clock: Arc<Clock>,
    all: Turns,
    sources: ClockTable<u128, Turns>,
    made: ClockTable<(u128, u16), Entry>,
    /// So many replicas share what one node may do.
    replicas: u64,
}

impl Notary {
    /// The notary of a node, or of one of its `replicas`.
    pub fn new(identity: Identity, wall: WallClock, replicas: u16, seed: u64) -> Notary {
        Notary {
            identity,
            wall,
            provider: Arc::new(provider()),
            clock: Arc::default(),
            all: Turns::NEW,
            sources: ClockTable::new(KEPT, seed),
            made: ClockTable::new(KEPT.div_ceil(usize::from(replicas.max(1))), seed),
            replicas: u64::from(replicas.max(1)),
        }
    }

    /// When a handshake of `source` with `owner` may begin: now, or later. Nothing if too many wait already.
    /// It is with `credentials`, whose signatures count.
    pub(super) fn turn(
        &mut self,
        source: IpAddr,
        owner: &Owner,
        credentials: &Credentials,
        now: Instant,
    ) -> Option<Instant> {
        // One attacker may have a whole IPv6 network.
        let source = match source {
            IpAddr::V4(_) => word_of(source),
            IpAddr::V6(ip) => u128::from(ip) >> 64,
        };
        let making = if self.made.get(&key(owner)).is_some() { 0 } else { MAKING + credentials.weight_of_making() };
        let turns = credentials.weight() + making;
        let theirs = self.sources.get(&source).copied().unwrap_or(Turns::NEW);
        let (own, theirs) = theirs.next(now, RATE_OF_SOURCE.div_ceil(self.replicas), turns)?;
        let (at, all) = self.all.next(now, RATE.div_ceil(self.replicas), turns)?;
        self.all = all;
        self.sources.insert(source, theirs);
        Some(at.max(own))
    }

    /// How `owner` speaks TLS. Nothing if it has no certificate that could be made.
    pub(super) fn config(&mut self, secured: &Secured, owner: &Owner, now: Instant) -> Option<Arc<ServerConfig>> {
        let second = self.wall.second(now);
        self.clock.0.store(second.max(0).unsigned_abs(), Relaxed);
        if let Some(entry) = self.made.get(&key(owner)).filter(|entry| second < entry.until) {
            return Some(entry.config.clone());
        }
        let entry = self.make(secured, owner, second).ok()?;
        let config = entry.config.clone();
        self.made.insert(key(owner), entry);
        Some(config)
    }

    fn make(&self, secured: &Secured, owner: &Owner, now: i64) -> Result<Entry, Box<dyn std::error::Error>> {
        let (certified, until) = match &secured.credentials {
            Credentials::Own(leaf) => {
                let whose = Whose { identity: &self.identity, owner, asked: None };
                let made = certificate::make(&self.provider, &whose, leaf, now)?;
                (made.key, made.until)
            }
            Credentials::Given(given) => (Arc::new(given.load(&self.provider)?), i64::MAX),
        };
        let is_http = matches!(secured.inner.kind, ServiceKind::Http(_));
        let builder = ServerConfig::builder_with_details(self.provider.clone(), self.clock.clone());
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // nginx and Apache remember no sessions unless they are told to; tickets are OpenSSL's default.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets(&self.identity, owner, is_http)?;
        if is_http {
            config.alpn_protocols = ["http/1.1", "http/1.0", "http/0.9"].map(Into::into).to_vec();
        }
        Ok(Entry { config: Arc::new(config), until })
    }
}

fn key(owner: &Owner) -> (u128, u16) {
    (word_of(owner.ip), owner.service)
}

/// Tickets of a server whose key follows from its identity, which last as long as nginx's where it is a web server, and
/// else as OpenSSL's.
///
/// # Errors
/// None that is known; *ring* takes any key of this length.
pub fn tickets(identity: &Identity, owner: &Owner, is_http: bool) -> Result<Arc<dyn ProducesTickets>, String> {
    Ok(Arc::new(Tickets::new(identity, owner, RESUMED[usize::from(!is_http)])?))
}

/// The time, as far as rustls asks for it: it is told, not read.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.load(Relaxed))))
    }
}

/// Tickets by which sessions are resumed (RFC 5077 §4): nothing is kept for them here. Their key is the host's, so that
/// a session is resumed with the host that it was begun with and with no other.
struct Tickets {
    key: LessSafeKey,
    /// What they begin with, as OpenSSL's do.
    name: [u8; 16],
    lifetime: u32,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(..)")
    }
}

impl Tickets {
    fn new(identity: &Identity, owner: &Owner, lifetime: u32) -> Result<Tickets, String> {
        let (key, name) = certificate::ticket_key(identity, owner);
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|error| error.to_string())?;
        Ok(Tickets { key: LessSafeKey::new(key), name, lifetime })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(self.name);
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.strip_prefix(&self.name)?.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = sealed.to_vec();
        let opened = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(self.name), &mut plain);
        let len = opened.ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
#[path = "notary_tests.rs"]
mod tests;
