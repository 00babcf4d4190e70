//! The switch in the middle of connections to containers: the servers that attackers talk to, and the tape of what
//! they say, which goes to the console.

mod host_keys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::protocol::ToConsole;
use crate::emulate::{Identity, Secret, ServiceId};
use crate::event::{SessionId, Utc};
use crate::node::{HostsConfig, NodeIdx};
use crate::relay::ssh::Login;
use crate::relay::tape::{Begin, Clock, Entry, Protocol, Reason, Recorder, Tape, Word};
use crate::relay::{plain, ssh, tls};
use crate::service::tls::Owner;
use crate::service::{Middle, Service, Spoken, SshKeyKind, SshMiddle, TlsMiddle};
use crate::stack::RelayEnd;
use crate::sys::clock;

pub use host_keys::HostKeys;

/// Connections at once: each takes some hundred KiB. sshd turns down who comes when too many have not logged in, too.
const MOST: usize = 1024;
/// Of those, that come from one network of an attacker's (a /24, a /64): others still find somebody in the middle.
const SHARE: usize = MOST / 4;
/// What OpenSSH says to who is one too many, and then closes the connection.
const TOO_MANY: &[u8] = b"Exceeded MaxStartups\r\n";
/// Entries that wait for the console; then connections do.
const ENTRIES: usize = 64;
/// Hosts whose certificates are kept; past that, they are made anew, the same as before. Of as many it is known what they
/// have asked passwords for.
const FACES: usize = 1024;

/// A connection that wants somebody in the middle.
pub struct Call<'a> {
    /// The node that the host belongs to.
    pub node: NodeIdx,
    /// Its name.
    pub name: &'a str,
    /// Its hosts.
    pub hosts: &'a HostsConfig,
    /// What answers.
    pub service: &'a Service,
    /// The attacker's session.
    pub session: SessionId,
    /// The attacker.
    pub peer: SocketAddr,
    /// The host and its port.
    pub local: SocketAddr,
}

/// All connections that the switch is in the middle of.
pub struct Middles {
    secret: Secret,
    keys: HostKeys,
    to_console: mpsc::Sender<ToConsole>,
    open: Arc<Mutex<HashMap<u64, Begin>>>,
    next: u64,
    /// How many consoles have greeted the switch.
    consoles: Arc<AtomicU64>,
    /// What hosts show who begin TLS.
    faces: HashMap<(NodeIdx, IpAddr, u16), Arc<tls::Settings>>,
    /// Where web servers have asked for users and passwords.
    asked: HashMap<(NodeIdx, SocketAddr), plain::Asked>,
    /// Whose servers have refused the log-in that the topology says.
    refused: HashMap<(NodeIdx, SocketAddr), Arc<AtomicBool>>,
}

/// What somebody in the middle has to know.
enum Known {
    Ssh(Arc<ssh::Settings>),
    Plain(plain::Settings),
    Tls(Arc<tls::Settings>, plain::Settings),
}

impl Middles {
    /// None so far, and what they will tell the console.
    pub fn new(secret: Secret, keys: HostKeys) -> (Middles, mpsc::Receiver<ToConsole>) {
        let (to_console, told) = mpsc::channel(ENTRIES);
        // Numbers from the clock are none that a switch before this one has used.
        let next = clock::realtime_micros() as u64;
        let (open, consoles) = Default::default();
        let (faces, asked, refused) = Default::default();
        (Middles { secret, keys, to_console, open, next, consoles, faces, asked, refused }, told)
    }

    /// Serves a connection until it is over: `pipe` is the attacker's, `middle` who is in the middle.
    pub fn serve(&mut self, call: &Call<'_>, mut pipe: RelayEnd, middle: &Middle) {
        if let Some(why) = surplus(lock(&self.open).values().map(|begin| begin.peer.ip()), call.peer.ip()) {
            let word = match middle {
                Middle::Ssh(ssh) if ssh.identification.contains("OpenSSH") => TOO_MANY,
                _ => &[],
            };
            return pipe.turn_away(why, word);
        }
        let known = match self.known(call, middle) {
            Ok(known) => known,
            Err(why) => return pipe.fail(why),
        };
        let protocol = match &known {
            Known::Ssh(_) => Protocol::Ssh,
            Known::Plain(settings) => Protocol::Plain(settings.spoken),
            Known::Tls(..) => Protocol::Tls,
        };
        let (began, at) = (clock::monotonic_micros(), Utc::from_micros(clock::realtime_micros()));
        let Call { node, session, peer, local, .. } = *call;
        let begin = Begin { protocol, session, node, peer, local, at };
        let (conn, open) = (self.next, self.open.clone());
        let tape = Told::new(conn, begin.clone(), self.consoles.clone(), self.to_console.clone());
        self.next += 1;
        lock(&open).insert(conn, begin.clone());
        // Whatever ends it, a panic included: it counts no longer.
        let counted = Counted { conn, open };
        tokio::spawn(async move {
            tape.say(Word::Begin(begin)).await;
            let clock: Clock = Arc::new(move || (clock::monotonic_micros() - began) as u64);
            let tape: Arc<dyn Tape> = Arc::new(tape);
            let work = work(known, pipe, tape.clone(), clock.clone());
            to_the_end(work, &*tape, &clock).await;
            drop(counted);
        });
    }

    /// Tells a console which connections there are: what another one before it was recording is over, if it is not among
    /// them. Each of them begins again with what happens in it next, which a console that knows it passes over.
    pub fn say_again(&self) {
        self.consoles.fetch_add(1, Ordering::Relaxed);
        let (to_console, open) = (self.to_console.clone(), self.open.clone());
        tokio::spawn(async move {
            let Ok(room) = to_console.reserve().await else { return };
            // As long as nobody can be added to them: the beginning of who is missing comes after this.
            let open = lock(&open);
            room.send(ToConsole::Open { conns: open.keys().copied().collect() });
        });
    }

    /// Where the host that is called asks for users and passwords.
    fn asked(&mut self, call: &Call<'_>) -> plain::Asked {
        of_host(&mut self.asked, call)
    }

    fn known(&mut self, call: &Call<'_>, middle: &Middle) -> Result<Known, String> {
        let identity = Identity::new(self.secret, call.name);
        Ok(match middle {
            Middle::Ssh(ssh) => Known::Ssh(Arc::new(self.of_ssh(ssh, &identity, call))),
            Middle::Plain { spoken, keep } => {
                let asked = self.asked(call);
                Known::Plain(plain::Settings { spoken: *spoken, within: false, keep: *keep, asked })
            }
            Middle::Tls(tls) => {
                let asked = self.asked(call);
                let within = plain::Settings { spoken: tls.spoken, within: true, keep: tls.keep, asked };
                let at = call.hosts.services.iter().position(|service| service == call.service).unwrap_or_default();
                let owner = call.hosts.owner_of(&identity, call.local.ip(), ServiceId(at as u16), call.service);
                let key = (call.node, owner.ip, owner.service);
                if let Some(known) = self.faces.get(&key) {
                    return Ok(Known::Tls(known.clone(), within));
                }
                if self.faces.len() >= FACES {
                    self.faces.clear();
                }
                let made = Arc::new(of_tls(tls, identity, owner)?);
                self.faces.insert(key, made.clone());
                Known::Tls(made, within)
            }
        })
    }
}

impl Middles {
    /// What a host's SSH server is.
    fn of_ssh(&mut self, ssh: &SshMiddle, identity: &Identity, call: &Call<'_>) -> ssh::Settings {
        let login = ssh
            .login
            .as_ref()
            .map(|(user, password)| Login { refused: of_host(&mut self.refused, call), ..Login::new(user, password) });
        let host = call.hosts.host_of(call.local.ip());
        // As containers have them.
        let key = |kind: &SshKeyKind| match kind {
            SshKeyKind::Ed25519 => Some(ssh::host_key(identity.ssh_seed(host))),
            SshKeyKind::Ecdsa => ssh::host_key_ecdsa(identity.ssh_scalar(host)),
            SshKeyKind::Rsa => None,
        };
        let rsa = ssh.rsa(identity, host).map(|seed| {
            // Who asks for a key mostly asks for the others, too.
            self.keys.soon(seed.clone());
            let (keys, peer) = (self.keys.clone(), call.peer.ip());
            ssh::RsaLater::new(move || {
                let (keys, seed) = (keys.clone(), seed.clone());
                async move { keys.key(peer, seed).await }
            })
        });
        ssh::Settings {
            banner: ssh.identification.clone(),
            host_keys: ssh.host_keys.iter().filter_map(key).collect(),
            rsa,
            policy: ssh.opens.clone(),
            login,
            refusal: Duration::from_millis(u64::from(ssh.refusal_ms)),
            acceptance: Duration::from_millis(u64::from(ssh.acceptance_ms)),
            keyboard_interactive: ssh.keyboard_interactive,
            keep: ssh.keep,
        }
    }
}

/// What is remembered of the port that is called.
fn of_host<T: Clone + Default>(all: &mut HashMap<(NodeIdx, SocketAddr), T>, call: &Call<'_>) -> T {
    let key = (call.node, call.local);
    if all.len() >= FACES && !all.contains_key(&key) {
        all.clear();
    }
    all.entry(key).or_default().clone()
}

/// Is in the middle of a connection until that is over.
async fn work(known: Known, pipe: RelayEnd, tape: Arc<dyn Tape>, clock: Clock) {
    let dialer = pipe.dialer();
    let dial = move || std::future::ready(Ok(dialer.dial()));
    match known {
        Known::Ssh(settings) => {
            ssh::serve(settings, pipe, dial, Recorder::new(tape, clock)).await;
        }
        Known::Plain(settings) => plain::serve(settings, pipe, dial, Recorder::new(tape, clock)).await,
        Known::Tls(settings, within) => {
            let tape = Arc::new(plain::Reading::begin(tape, within).await);
            tls::serve(settings, pipe, dial, Recorder::new(tape, clock)).await;
        }
    }
}

/// Waits for `work` on a connection, whose tape has an end even if that panics.
async fn to_the_end(work: impl Future<Output = ()> + Send + 'static, tape: &dyn Tape, clock: &Clock) {
    if tokio::spawn(work).await.is_err_and(|error| error.is_panic()) {
        tape.put(clock(), Reason::Failed.end()).await;
    }
}

/// Why somebody from `peer` is one too many beside those who are `there`, if so.
fn surplus(there: impl Iterator<Item = IpAddr>, peer: IpAddr) -> Option<String> {
    let (mut all, mut near) = (0, 0);
    for other in there {
        all += 1;
        near += usize::from(network(other) == network(peer));
    }
    match () {
        () if all >= MOST => Some("too many connections have somebody in the middle".to_owned()),
        () if near >= SHARE => Some("too many connections from one network have somebody in the middle".to_owned()),
        () => None,
    }
}

/// The network that an attacker most likely has all addresses of.
fn network(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !0xff)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

/// A connection that counts as open until this is dropped.
struct Counted {
    conn: u64,
    open: Arc<Mutex<HashMap<u64, Begin>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.conn);
    }
}

fn lock(open: &Mutex<HashMap<u64, Begin>>) -> MutexGuard<'_, HashMap<u64, Begin>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a host's TLS is.
fn of_tls(middle: &TlsMiddle, identity: Identity, owner: Owner) -> Result<tls::Settings, String> {
    let is_http = middle.spoken == Spoken::Http;
    let wall: tls::Wall = Arc::new(|| clock::realtime_micros() / 1_000_000);
    let dialect = match middle.spoken {
        Spoken::Smtp => Some(tls::Dialect::Smtp),
        Spoken::Imap => Some(tls::Dialect::Imap),
        Spoken::Pop3 => Some(tls::Dialect::Pop3),
        Spoken::Ftp => Some(tls::Dialect::Ftp),
        Spoken::Postgresql => Some(tls::Dialect::Postgres),
        _ => None,
    };
    Ok(tls::Settings {
        face: tls::Face::new(identity, owner, middle.credentials.clone(), middle.asks_clients, is_http, wall)?,
        inside: if middle.inside { tls::Inside::Tls } else { tls::Inside::Clear },
        starttls: dialect.filter(|_| middle.starttls),
        foreign: match () {
            // A server that speaks TLS itself has an answer of its own.
            () if middle.inside => tls::Foreign::Pass,
            () if is_http => tls::Foreign::Web(middle.server.clone()),
            () => tls::Foreign::Close,
        },
        alpn: if is_http { vec!["http/1.1".to_owned()] } else { Vec::new() },
    })
}

/// The tape of one connection.
struct Told {
    conn: u64,
    begin: Begin,
    consoles: Arc<AtomicU64>,
    /// The last console that was told of its beginning.
    told: AtomicU64,
    /// The channel in which a password may pass, and 1; or 0.
    secret: AtomicU64,
    to_console: mpsc::Sender<ToConsole>,
}

impl Told {
    fn new(conn: u64, begin: Begin, consoles: Arc<AtomicU64>, to_console: mpsc::Sender<ToConsole>) -> Told {
        let told = AtomicU64::new(consoles.load(Ordering::Relaxed));
        Told { conn, begin, consoles, told, secret: AtomicU64::new(0), to_console }
    }

    async fn say(&self, word: Word) {
        // A switch whose channel to the console is gone is about to end.
        let _ = self.to_console.send(ToConsole::Tape { conn: self.conn, word }).await;
    }
}

impl Tape for Told {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let console = self.consoles.load(Ordering::Relaxed);
            if self.told.load(Ordering::Relaxed) != console {
                self.say(Word::Begin(self.begin.clone())).await;
                if let Some(channel) = self.secret.load(Ordering::Relaxed).checked_sub(1) {
                    self.say(Word::Entry(at, Entry::Secret { channel: channel as u32, begins: true })).await;
                }
                self.told.store(console, Ordering::Relaxed);
            }
            if let Entry::Secret { channel, begins } = entry {
                self.secret.store(if begins { u64::from(channel) + 1 } else { 0 }, Ordering::Relaxed);
            }
            self.say(Word::Entry(at, entry)).await;
        })
    }
}
