//! SSH in the middle: a server toward the attacker (RFC 4251 to 4254), a client toward the container's own server, and
//! a [`Tape`](crate::relay::tape::Tape) of everything that passes between the two.
//!
//! * `hello`: how the client introduces itself; `offer`: how we do; `watch`: what else its stream shows
//! * `policy`: who is let in; `auth`: what is tried, and how often; `server`: what the attacker talks to
//! * `inner`: the way inside; `middle`: what both sides share
//! * `channel`: one channel's octets, both ways; `lane`: what waits in it, and why that is little
//! * `observe`: files that move by SFTP and SCP
//!
//! Nothing inside is needed before somebody is let in, or the container's own server is asked whether to do so. A container
//! that does not run takes a moment to start, by which nobody must be able to tell it from one that does. Hence:
//!
//! * Banner and key exchange start nothing, so neither does who only looks (scanners, `ssh-keyscan`).
//! * The container starts with the first request for authentication after which the next attempt needs it: with the first of all
//!   by [`Policy::Any`] and [`Policy::Container`] (clients ask for the methods before they try one), with the last refusal by
//!   [`Policy::After`], whose two seconds are more than a start takes; by [`Policy::List`] with the attempt that is right,
//!   as everybody tries others on end, and would keep every host's container running. [`Policy::Never`] starts none.
//! * Until somebody is let in the connection inside is without a log-in, which its log would tell of.
//! * Whoever is let in learns it [`Settings::acceptance`] after they asked, whether or not there is a way inside by then; what they
//!   ask for next waits until there is.
//! * The container's own server is asked about a password [`Settings::acceptance`] after the way to it was begun: otherwise its first
//!   refusal would take longer by a start than those that follow.
//!
//! What cannot be passed: public keys, which sign the key exchange (RFC 4252 §7); X11 and listening Unix sockets, which are refused.
//!
//! What else differs from OpenSSH, as the library has it so, and a verbose client or one of one's own shows:
//!
//! * It lacks `sntrup761x25519-sha512@openssh.com`, UMACs, the announcement of further host keys, and of the extensions (RFC 8308)
//!   all but the one that tells of users' keys, so `publickey-hostbound@openssh.com`.
//! * The answer to an attempt is its own, and nobody may say anything before it: the last refusal, and that of another user, is
//!   followed by the end of the connection, where OpenSSH says only the latter. (Dropbear says neither, and so it is here.)
//! * It ends a connection whose client's first line has more than 255 octets, OpenSSH one with more than 8,192, or is of a version
//!   2 that is not 2.0.
//! * Its algorithms follow the client's first line, as OpenSSH's do. Dropbear does not wait for that.
//! * Channels begin with a window of 512 KiB, where OpenSSH begins sessions with none, and opens it once their program runs.
//! * What is said when a channel is not opened is said in English (`en`), and not in no language. Of two that are refused
//!   for one reason at the same moment each may have the other's words.
//!
//! At most 64 channels are open at a time, forwards among them: each may need its windows. OpenSSH has no limit for forwards.
//!
//! Of hosts' keys RSA takes a third of a second to make, and whoever asks all addresses of a network for their keys would have
//! us make one for each. So it is offered without being there, and made when a key exchange has chosen it ([`RsaLater`]).

mod auth;
mod channel;
mod hello;
mod inner;
mod lane;
mod middle;
mod observe;
mod offer;
mod policy;
mod server;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use inner::Inside;
pub use policy::Login;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::Mpint;
use russh::keys::ssh_key::private::{EcdsaKeypair, Ed25519Keypair, RsaKeypair, RsaPrivateKey};
use russh::keys::ssh_key::public::RsaPublicKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::tape::{Entry, Reason, Recorder, Text};
use crate::emulate::RsaKey;
pub use crate::service::Policy;
use crate::service::is_dropbear;
use middle::Middle;
use watch::{Manners, Watch, Watched};

/// How long a client may take to log in: OpenSSH's `LoginGraceTime`, and Dropbear's `AUTH_TIMEOUT`.
const GRACE: Duration = Duration::from_secs(120);
const GRACE_DROPBEAR: Duration = Duration::from_secs(300);
/// How long a client may keep a connection open after its end was said. Those that are there close at once.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the container's server may take to answer a connection or a log-in: a cold start, and the seconds that PAM lets
/// a wrong password wait.
const DIAL: Duration = Duration::from_secs(30);
/// How long either side may take to answer a request in a channel. The attacker's side stands still meanwhile.
const ANSWER: Duration = Duration::from_secs(15);
/// How long what still waits may take to arrive inside when the client has gone.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Attempts to log in that may fail in a connection: OpenSSH's `MaxAuthTries`, and Dropbear's `MAX_AUTH_TRIES`.
const ATTEMPTS: u32 = 6;
const ATTEMPTS_DROPBEAR: u32 = 10;
/// Attempts in a connection, however little they count.
const TRIES: u32 = 256;
/// Longest text of OpenSSH's with which it ends a connection.
const DISCONNECT: usize = 1023;
/// Channels open at a time in a connection. A browser behind a dynamic forward has some dozens; OpenSSH's `MaxSessions`
/// is 10. At worst each costs its windows ([`lane::WINDOW`]).
const CHANNELS: usize = 64;
/// Messages of the library's that wait for a channel. They are taken at once; more are only memory.
const MESSAGES: usize = 16;
/// Octets in a packet: OpenSSH's.
const PACKET: u32 = 32 * 1024;

/// What a host's SSH server is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its identification (RFC 4253 §4.2) without the line's end, such as `SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3`.
    pub banner: String,
    /// Its keys, which are those of the container's own server.
    pub host_keys: Vec<PrivateKey>,
    /// One more, which is made when somebody wants it.
    pub rsa: Option<RsaLater>,
    /// Who is let in.
    pub policy: Policy,
    /// How the middle logs in inside; unused by [`Policy::Container`].
    pub login: Option<Login>,
    /// How long a refusal takes at least. PAM's is about two seconds.
    pub refusal: Duration,
    /// How long it takes at least to accept a log-in: in that time a container starts, if it has to.
    pub acceptance: Duration,
    /// Whether it asks for passwords by keyboard-interactive, too (RFC 4256). OpenSSH's default does, Debian's does not.
    pub keyboard_interactive: bool,
    /// Octets of each file's content that are put on the tape; of what is longer, the beginning.
    pub keep: u64,
}

/// The key pair of a host whose private half is `seed` (RFC 8032 §5.1.5), as containers have it.
pub fn host_key(seed: [u8; 32]) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// The same on P-256, whose private half is `scalar`; none if that is no scalar of the group.
pub fn host_key_ecdsa(scalar: [u8; 32]) -> Option<PrivateKey> {
    let secret = p256::SecretKey::from_slice(&scalar).ok()?;
    let public = secret.public_key().into();
    Some(PrivateKey::from(EcdsaKeypair::NistP256 { public, private: secret.into() }))
}

/// The same of RSA.
pub fn host_key_rsa(key: &RsaKey) -> Option<PrivateKey> {
    let number = |octets: &[u8]| Mpint::from_positive_bytes(octets);
    let public = RsaPublicKey::new(number(&key.e), number(&key.n)).ok()?;
    let private = RsaPrivateKey::new(number(&key.d), number(&key.iqmp), number(&key.p), number(&key.q)).ok()?;
    Some(PrivateKey::from(RsaKeypair::new(public, private).ok()?))
}

/// An RSA key that is made when somebody wants it, as that takes a while.
#[derive(Clone)]
pub struct RsaLater(Arc<dyn Fn() -> Making + Send + Sync>);

/// A key that is being made; none if that is not possible.
type Making = Pin<Box<dyn Future<Output = Option<PrivateKey>> + Send>>;

impl RsaLater {
    /// One that `make` makes, each time that somebody wants it.
    pub fn new<F: Future<Output = Option<PrivateKey>> + Send + 'static>(
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> RsaLater {
        RsaLater(Arc::new(move || Box::pin(make())))
    }

    fn make(&self) -> Making {
        (self.0)()
    }
}

impl fmt::Debug for RsaLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaLater(..)")
    }
}

/// What a connection has needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Most octets that waited on their way inside at a time.
    pub inward: usize,
    /// And on their way out.
    pub outward: usize,
}

/// Serves one client until its connection is over, which the last entry, [`Entry::End`], says. `dial` opens a stream to the
/// container's server; it is called when somebody is about to be let in, or by [`Policy::Container`] to find out.
pub async fn serve<S, D, F, I>(settings: Arc<Settings>, stream: S, dial: D, recorder: Recorder) -> Used
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<I>> + Send + 'static,
    I: Inside + 'static,
{
    let dial = Box::new(move || {
        let dialing = dial();
        Box::pin(async move { Ok(Box::new(dialing.await?) as Box<dyn Inside>) }) as inner::Dialing
    });
    let config = Arc::new(offer::config(&settings));
    let watch = Arc::new(Watch::default());
    let grace = if is_dropbear(&settings.banner) { GRACE_DROPBEAR } else { GRACE };
    let manners = Manners { grace, farewell: FAREWELL, complains: !is_dropbear(&settings.banner) };
    let middle = Middle::new(settings, dial, recorder.clone(), watch.clone());
    let watched = Watched::new(stream, watch.clone(), manners);
    let ended = match russh::server::run_stream(config, watched, server::Host::new(middle.clone())).await {
        Ok(session) => {
            middle.runs(session.handle());
            session.await
        }
        Err(error) => Err(error),
    };
    let (reason, detail) = match (middle.why(), ended) {
        // What was said before it ended; that the other side goes, too, once the client has gone, is no reason.
        (Some((reason, detail)), _) => (*reason, detail.clone()),
        _ if watch.was_late() => (Reason::TimedOut, Some(Text::new(format!("no log-in for {} s", grace.as_secs())))),
        (None, Ok(())) => match middle.closed() {
            // They went since they could not get in.
            Some(why) => (Reason::Unreachable, Some(why)),
            None => (Reason::ClientClosed, None),
        },
        (None, Err(error)) => why(&error),
    };
    middle.desist().await;
    // What is on its way still arrives.
    if timeout(LAST_WORDS, middle.finish()).await.is_err() {
        middle.abandon().await;
    }
    middle.leave().await;
    middle.introduce().await;
    recorder.put(Entry::End { reason, detail }).await;
    middle.used()
}

/// Why a connection has ended by an error. A panic is one here, too.
fn why(error: &russh::Error) -> (Reason, Option<Text>) {
    use russh::Error;
    let reason = match error {
        Error::IO(error) => return Reason::of_io(error),
        Error::Disconnect | Error::HUP => return (Reason::ClientClosed, None),
        Error::ConnectionTimeout | Error::InactivityTimeout | Error::KeepaliveTimeout | Error::Elapsed(_) => {
            return (Reason::TimedOut, None);
        }
        Error::NoCommonAlgo { .. } | Error::KexInit | Error::Kex | Error::UnknownAlgo => Reason::NoAgreement,
        Error::Join(_) => Reason::Failed,
        _ => Reason::ProtocolError,
    };
    (reason, Some(Text::new(error.to_string())))
}
