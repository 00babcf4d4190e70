//! The switch in the middle of connections to containers: the servers that attackers talk to, and the tape of what
//! they say, which goes to the console.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::protocol::ToConsole;
use crate::emulate::{Identity, Secret};
use crate::event::{SessionId, Utc};
use crate::node::NodeIdx;
use crate::relay::plain;
use crate::relay::ssh::{self, Login, Policy, Settings};
use crate::relay::tape::{Begin, Entry, Protocol, Recorder, Tape, Word};
use crate::service::{Middle, Opens, SshMiddle};
use crate::stack::RelayEnd;
use crate::sys::clock;

/// Connections at once: each takes some hundred KiB. sshd turns down who comes when too many have not logged in, too.
const MOST: usize = 1024;
/// Entries that wait for the console; then connections do.
const ENTRIES: usize = 64;

/// A connection that wants somebody in the middle.
pub struct Call {
    /// The node that the host belongs to, and its name.
    pub node: NodeIdx,
    pub name: String,
    /// The attacker's session.
    pub session: SessionId,
    /// The attacker.
    pub peer: SocketAddr,
    /// The host and its port.
    pub local: SocketAddr,
    /// To the attacker.
    pub pipe: RelayEnd,
}

/// All connections that the switch is in the middle of.
pub struct Middles {
    secret: Secret,
    to_console: mpsc::Sender<ToConsole>,
    open: Arc<AtomicUsize>,
    next: u64,
}

impl Middles {
    /// None so far, and what they will tell the console.
    pub fn new(secret: Secret) -> (Middles, mpsc::Receiver<ToConsole>) {
        let (to_console, told) = mpsc::channel(ENTRIES);
        // Numbers from the clock are none that a switch before this one has used.
        let next = clock::realtime_micros() as u64;
        (Middles { secret, to_console, open: Arc::default(), next }, told)
    }

    /// Serves a connection until it is over.
    pub fn serve(&mut self, mut call: Call, middle: &Middle) {
        if self.open.load(Ordering::Relaxed) >= MOST {
            return call.pipe.fail("too many connections have somebody in the middle".to_owned());
        }
        let conn = self.next;
        self.next += 1;
        let tape = Told { conn, to_console: self.to_console.clone() };
        let Call { node, name, session, peer, local, pipe } = call;
        let began = clock::monotonic_micros();
        let at = Utc::from_micros(clock::realtime_micros());
        let protocol = match middle {
            Middle::Ssh(_) => Protocol::Ssh,
            Middle::Plain { spoken, .. } => Protocol::Plain(*spoken),
        };
        let begin = Begin { protocol, session, node, peer, local, at };
        let (open, secret, middle) = (self.open.clone(), self.secret, middle.clone());
        open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            tape.say(Word::Begin(begin)).await;
            let passed = move || (clock::monotonic_micros() - began) as u64;
            let recorder = Recorder::new(Arc::new(tape), Arc::new(passed));
            let dialer = pipe.dialer();
            let dial = move || std::future::ready(Ok(dialer.dial()));
            match middle {
                Middle::Ssh(ssh) => {
                    let settings = Arc::new(settings(&ssh, &Identity::new(secret, &name), local.ip()));
                    ssh::serve(settings, pipe, dial, recorder).await;
                }
                Middle::Plain { spoken, keep } => {
                    plain::serve(plain::Settings { spoken, keep }, pipe, dial, recorder).await;
                }
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn settings(ssh: &SshMiddle, identity: &Identity, host: IpAddr) -> Settings {
    let policy = match &ssh.opens {
        Opens::Container => Policy::Container,
        Opens::List(pairs) => Policy::List(pairs.clone()),
        Opens::Any => Policy::Any,
        Opens::After(refused) => Policy::After(*refused),
        Opens::Never => Policy::Never,
    };
    let login = ssh.login.as_ref();
    Settings {
        banner: ssh.identification.clone(),
        host_keys: vec![ssh::host_key(identity.ssh_seed(host))],
        policy,
        login: login.map(|(user, word)| Login { user: user.clone(), secret: ssh::Secret::Password(word.clone()) }),
        refusal: Duration::from_millis(u64::from(ssh.refusal_ms)),
        keyboard_interactive: false,
        keep: ssh.keep,
    }
}

/// The tape of one connection.
struct Told {
    conn: u64,
    to_console: mpsc::Sender<ToConsole>,
}

impl Told {
    async fn say(&self, word: Word) {
        // A switch whose channel to the console is gone is about to end.
        let _ = self.to_console.send(ToConsole::Tape { conn: self.conn, word }).await;
    }
}

impl Tape for Told {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.say(Word::Entry(at, entry)))
    }
}
