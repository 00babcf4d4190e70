//! RSA host keys, each made when somebody wants it, by one thread that gives way to all others.
//!
//! Whoever waits for one comes first, and no network of attackers keeps the others waiting while it asks for the keys of all
//! hosts. What nobody waits for yet is made ahead when there is nothing else to do.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::keys::PrivateKey;
use tokio::sync::oneshot;

use super::network;
use crate::emulate::{RsaFound, RsaSeed};
use crate::relay::ssh;
use crate::sys::sched;

/// Hosts whose primes are remembered, in some dozens of octets each; past that, they are looked for anew.
const MOST: usize = 65_536;
/// Keys that nobody waits for, and that are to be made.
const AHEAD: usize = 64;
/// How often the thread sees whether it is still needed.
const PATIENCE: Duration = Duration::from_secs(60);

/// All keys of the hosts, and who makes them.
#[derive(Clone)]
pub struct HostKeys(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    found: HashMap<u128, RsaFound>,
    /// Keys that somebody waits for, and the network of who was the first.
    asked: VecDeque<(IpAddr, RsaSeed)>,
    /// Who waits for them.
    waiting: HashMap<u128, Vec<oneshot::Sender<()>>>,
    /// When one was made last for each network that somebody waits in, in keys.
    served: HashMap<IpAddr, u64>,
    made: u64,
    ahead: VecDeque<RsaSeed>,
}

impl HostKeys {
    /// None so far. A process that is confined afterwards could not have the thread give way.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start() -> io::Result<HostKeys> {
        let shared = Arc::<Shared>::default();
        let working = Arc::downgrade(&shared);
        std::thread::Builder::new().name("host-keys".into()).spawn(move || {
            sched::give_way();
            while let Some(shared) = working.upgrade() {
                shared.work();
            }
        })?;
        Ok(HostKeys(shared))
    }

    /// Somebody may want the key made from `seed`, soon.
    pub fn soon(&self, seed: RsaSeed) {
        let mut state = self.0.state();
        let is_there = state.found.contains_key(&seed.id()) || state.ahead.contains(&seed);
        if !is_there && state.ahead.len() < AHEAD {
            state.ahead.push_back(seed);
            self.0.wanted.notify_one();
        }
    }

    /// The key made from `seed`, which somebody at `peer` waits for.
    pub async fn key(&self, peer: IpAddr, seed: RsaSeed) -> Option<PrivateKey> {
        if let Some(done) = self.ask(peer, &seed) {
            let _ = done.await;
        }
        let found = self.0.state().found.get(&seed.id()).copied()?;
        ssh::host_key_rsa(&seed.key(found)?)
    }

    /// Has a key made that is not there.
    fn ask(&self, peer: IpAddr, seed: &RsaSeed) -> Option<oneshot::Receiver<()>> {
        let mut state = self.0.state();
        if state.found.contains_key(&seed.id()) {
            return None;
        }
        let (done, waits) = oneshot::channel();
        let waiting = state.waiting.entry(seed.id()).or_default();
        waiting.push(done);
        if let [_] = waiting[..] {
            state.asked.push_back((network(peer), seed.clone()));
            self.0.wanted.notify_one();
        }
        Some(waits)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next key, or waits a while for one that is wanted.
    fn work(&self) {
        let mut state = self.state();
        let Some(seed) = state.next() else {
            drop(self.wanted.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner));
            return;
        };
        let is_there = state.found.contains_key(&seed.id());
        drop(state);
        let found = if is_there { None } else { seed.find() };
        let mut state = self.state();
        if let Some(found) = found {
            if state.found.len() >= MOST {
                state.found.clear();
            }
            state.found.insert(seed.id(), found);
        }
        for done in state.waiting.remove(&seed.id()).unwrap_or_default() {
            let _ = done.send(());
        }
    }
}

impl State {
    /// What is made next: what the network has waited for longest that was served longest ago.
    fn next(&mut self) -> Option<RsaSeed> {
        // Who has gone waits no longer.
        let waiting = &mut self.waiting;
        self.asked.retain(|(_, seed)| {
            let waits = waiting.get(&seed.id()).is_some_and(|all| all.iter().any(|done| !done.is_closed()));
            if !waits {
                waiting.remove(&seed.id());
            }
            waits
        });
        let asked = &self.asked;
        self.served.retain(|network, _| asked.iter().any(|(waits, _)| waits == network));
        let ago = |(_, (network, _)): &(usize, &(IpAddr, RsaSeed))| self.served.get(network).copied();
        let next = self.asked.iter().enumerate().min_by_key(ago).map(|(at, _)| at);
        match next.and_then(|at| self.asked.remove(at)) {
            Some((network, seed)) => {
                self.made += 1;
                self.served.insert(network, self.made);
                Some(seed)
            }
            None => self.ahead.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of a key that nobody would use.
    fn seed(number: u8) -> RsaSeed {
        RsaSeed::new(vec![number; 64], vec![!number; 64])
    }

    #[tokio::test]
    async fn whoever_asks_has_the_same_key() {
        let keys = HostKeys::start().unwrap();
        let peer = "192.0.2.1".parse().unwrap();
        keys.soon(seed(3));
        let (one, two) = tokio::join!(keys.key(peer, seed(3)), keys.key(peer, seed(3)));
        let again = HostKeys::start().unwrap().key(peer, seed(3)).await;
        let public = |key: Option<PrivateKey>| key.unwrap().public_key().to_openssh().unwrap();
        let one = public(one);
        assert_eq!([&one, &one], [&public(two), &public(again)]);
        assert_ne!(one, public(keys.key(peer, seed(4)).await));
    }

    #[test]
    fn no_network_keeps_the_others_waiting() {
        let mut state = State::default();
        let mut waits = Vec::new();
        for (number, peer) in
            ["192.0.2.0", "192.0.2.0", "192.0.2.0", "198.51.100.0", "198.51.100.0", "203.0.113.0"].iter().enumerate()
        {
            let seed = seed(number as u8);
            let (done, wait) = oneshot::channel();
            state.waiting.insert(seed.id(), vec![done]);
            waits.push(wait);
            state.asked.push_back((peer.parse().unwrap(), seed));
        }
        state.ahead.push_back(seed(9));
        // This one has gone.
        drop(waits.remove(1));
        let order: Vec<_> = std::iter::from_fn(|| state.next()).collect();
        assert_eq!(order, [0, 3, 5, 2, 4, 9].map(seed));
        assert!(!state.waiting.contains_key(&seed(1).id()));
    }
}
