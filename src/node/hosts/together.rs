//! What the replicas of a node share.

use std::sync::Arc;

use super::{Admission, Pace};
use crate::emulate::WallClock;

/// What the replicas of a node have in common, and with it those of others.
#[derive(Clone)]
pub struct Together {
    /// How many there are.
    pub replicas: u16,
    /// Containers of all of them.
    pub containers: Arc<Admission>,
    /// What the honeynet knows of how long services take.
    pub pace: Arc<Pace>,
    /// What time it is.
    pub wall: WallClock,
}

impl Default for Together {
    fn default() -> Together {
        Together { replicas: 1, containers: Arc::default(), pace: Arc::default(), wall: WallClock::default() }
    }
}
