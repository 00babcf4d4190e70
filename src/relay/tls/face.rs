//! What the attacker sees of a host: its certificates and tickets.
//!
//! Where the certificate's contents depend on the name that is asked for, there is one for each name, made when it is asked for
//! first. What is kept of them is bounded, and so is how many are made in a time: beyond that the host shows the one that
//! it has for who asks for no name, as servers do for names that they do not know.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{KeyLog, ServerConfig};
use tokio::time::Instant;

use super::guest::AnyClient;
use crate::emulate::{ClockTable, Identity};
use crate::service::tls::certificate::{self, Made, Whose};
use crate::service::tls::{Credentials, Leaf, Name, Owner, provider, tickets};

/// Certificates for names that are kept: each has 2 KB, more with a chain.
const KEPT: usize = 256;
/// How many of them may be made at once after a while without any, and how long one more takes to be allowed. One takes half
/// a millisecond.
const MADE: (u32, Duration) = (64, Duration::from_millis(50));
/// Octets of a name that a certificate may be made for: what fits into a common name (RFC 5280, appendix A.1).
const MOST: usize = 64;

/// Seconds since 1970, UTC.
pub type Wall = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the attacker sees of a host's TLS. It is for all its connections.
pub struct Face {
    identity: Identity,
    owner: Owner,
    wall: Arc<Time>,
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
    clients: Arc<dyn ClientCertVerifier>,
    source: Source,
}

enum Source {
    /// If `{sni}` is in what they say, there is one for each name that is asked for.
    Made(Box<Leaf>, Mutex<Kept>),
    Given(Arc<CertifiedKey>),
}

/// Certificates that were made.
struct Kept {
    /// For who asks for no name.
    own: Option<Made>,
    /// By the digest of the name.
    named: ClockTable<[u8; 16], Made>,
    /// When a budget of more that was never used up would be full again.
    full_at: Instant,
}

impl Kept {
    /// Whether one more may be made.
    fn afford(&mut self, now: Instant) -> bool {
        let (most, each) = MADE;
        let full_at = self.full_at.max(now) + each;
        let is_within = full_at <= now + each * most;
        if is_within {
            self.full_at = full_at;
        }
        is_within
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The time, as rustls asks for it.
struct Time(Wall);

impl Time {
    fn second(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time(..)")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.second().max(0).unsigned_abs())))
    }
}

/// A name as certificates have it. Nothing if none is made for such a one.
fn as_asked(sni: &[u8]) -> Option<String> {
    let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(is_part);
    let is_name = sni.len() <= MOST && sni.split(|octet| *octet == b'.').all(is_label);
    let name = std::str::from_utf8(sni).ok().filter(|_| is_name)?;
    Some(name.to_ascii_lowercase())
}

/// Whether there is a certificate for each name that is asked for.
fn is_named(leaf: &Leaf) -> bool {
    let in_name = |name: &Name| {
        let Name { country: _, state, locality, organization, unit, common_name } = name;
        [state, locality, organization, unit, common_name].iter().any(|text| text.contains("{sni}"))
    };
    in_name(&leaf.subject) || in_name(&leaf.issuer) || leaf.names.iter().any(|name| name.contains("{sni}"))
}

impl Face {
    /// Seconds since 1970, UTC, as the host knows them.
    pub(super) fn second(&self) -> i64 {
        self.wall.second()
    }

    /// The face of `owner`, which asks for certificates of clients or not. `is_http` says how long its tickets last: those
    /// of nginx five minutes, others two hours.
    ///
    /// # Errors
    /// Why no certificate can be made, or the given one not be used.
    pub fn new(
        identity: Identity,
        owner: Owner,
        credentials: Credentials,
        asks_clients: bool,
        is_http: bool,
        wall: Wall,
    ) -> Result<Face, String> {
        let provider = Arc::new(provider());
        let source = match credentials {
            Credentials::Own(leaf) => {
                let kept = Kept { own: None, named: ClockTable::new(KEPT, 0), full_at: Instant::now() };
                Source::Made(leaf, Mutex::new(kept))
            }
            Credentials::Given(given) => Source::Given(Arc::new(given.load(&provider)?)),
        };
        let clients: Arc<dyn ClientCertVerifier> = match asks_clients {
            true => Arc::new(AnyClient(provider.clone())),
            false => Arc::new(NoClientAuth),
        };
        let ticketer = tickets(&identity, &owner, is_http)?;
        let face = Face { identity, owner, wall: Arc::new(Time(wall)), provider, ticketer, clients, source };
        face.certificate(None)?;
        Ok(face)
    }

    /// What the host shows to who asks for this name.
    fn certificate(&self, sni: Option<&[u8]>) -> Result<Arc<CertifiedKey>, String> {
        let (leaf, kept) = match &self.source {
            Source::Given(given) => return Ok(given.clone()),
            Source::Made(leaf, kept) => (leaf, kept),
        };
        let now = self.wall.second();
        let is_current = |made: &&mut Made| now < made.until;
        let make = |asked: Option<&str>| {
            let whose = Whose { identity: &self.identity, owner: &self.owner, asked };
            let made = certificate::make(&self.provider, &whose, leaf, now);
            made.map_err(|error| error.to_string())
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = sni.filter(|_| is_named(leaf)).and_then(as_asked) {
            let mut key = [0; 16];
            key.copy_from_slice(&digest(&SHA256, name.as_bytes()).as_ref()[..16]);
            if let Some(made) = kept.named.get(&key).filter(is_current) {
                return Ok(made.key.clone());
            }
            if kept.afford(Instant::now()) {
                let made = make(Some(&name))?;
                let certified = made.key.clone();
                kept.named.insert(key, made);
                return Ok(certified);
            }
        }
        if let Some(made) = kept.own.as_mut().filter(is_current) {
            return Ok(made.key.clone());
        }
        let made = make(None)?;
        Ok(kept.own.insert(made).key.clone())
    }

    /// How the host speaks with a client that asks for `sni`, if it speaks one of `alpn` within.
    pub(super) fn config(
        &self,
        sni: Option<&[u8]>,
        alpn: Vec<Vec<u8>>,
        secrets: Arc<dyn KeyLog>,
    ) -> Result<Arc<ServerConfig>, String> {
        let certified = self.certificate(sni)?;
        let builder = ServerConfig::builder_with_details(self.provider.clone(), self.wall.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_client_cert_verifier(self.clients.clone());
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // nginx and Apache remember no sessions unless they are told to; tickets are OpenSSL's default.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = self.ticketer.clone();
        config.alpn_protocols = alpn;
        config.key_log = secrets;
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
impl Face {
    /// The certificate in DER, and how many are kept for names.
    pub(super) fn shown(&self, sni: Option<&str>) -> (Vec<u8>, usize) {
        let shown = self.certificate(sni.map(str::as_bytes)).unwrap().cert[0].to_vec();
        let kept = match &self.source {
            Source::Made(_, kept) => kept.lock().unwrap().named.len(),
            Source::Given(_) => 0,
        };
        (shown, kept)
    }
}
