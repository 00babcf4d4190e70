//! How much connections may buffer, all of them together.
//!
//! What is charged is what an attacker can make us keep: sockets with their
//! buffers, data that waits for an acknowledgment, data between a connection and
//! its relay. It is shared by a node and the relays of its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets in use, and how many may be.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` octets, nothing of which is in use.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), limit })
    }

    /// Takes `octets` if they are left.
    pub fn take(&self, octets: usize) -> bool {
        let fits = self.used().saturating_add(octets) <= self.limit;
        if fits {
            self.charge(octets);
        }
        fits
    }

    /// Takes `octets` even if they are not left: what cannot be refused any more.
    pub fn charge(&self, octets: usize) {
        // Nothing is published by this number: the order of what happens elsewhere does not matter.
        self.used.fetch_add(octets, Ordering::Relaxed);
    }

    /// Gives `octets` back.
    pub fn release(&self, octets: usize) {
        self.used.fetch_sub(octets, Ordering::Relaxed);
    }

    /// Octets in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `octets` more would be too many.
    pub fn lacks(&self, octets: usize) -> bool {
        self.used().saturating_add(octets) > self.limit
    }
}
