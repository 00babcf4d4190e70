//! What the supervisor starts each process with: a configuration in a memfd and
//! descriptors at fixed numbers.
//!
//! Each process has one channel to each other one. The supervisor keeps both
//! ends of all channels but its own, and the rings, so that a process that died
//! is followed by one that continues where it stood. The channel to the
//! supervisor is also the life line: when it closes, the process ends.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::emulate::Secret;
use crate::sys::ring::RingFds;
use crate::sys::seqpacket::Channel;
use crate::topology::Plan;

/// User and group of the switch: no account of the system, and nothing of the system's belongs to it.
pub const SWITCH_UID: u32 = 61_980;
/// User and group of the console.
pub const CONSOLE_UID: u32 = 61_981;

/// What the switch is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SwitchConfig {
    /// The network.
    pub plan: Plan,
    /// The installation's secret.
    pub secret: Secret,
    /// Shards of the data plane, each with a thread of its own.
    pub threads: u16,
}

/// What the console is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConsoleConfig {
    /// The network; `plan.name` is the honeynet's name.
    pub plan: Plan,
    /// The honeynet's directory, `STATE_DIR/NAME`. Its subdirectories `events`
    /// and `captures` belong to the console.
    pub dir: PathBuf,
    /// When the honeynet was started, UTC, in microseconds since 1970.
    pub started_micros: i64,
    /// Shards of the data plane: each has rings of its own.
    pub threads: u16,
    /// Process number of the supervisor, for `status`.
    pub supervisor: u32,
    /// Whether what happens inside containers is watched.
    pub inside: Inside,
}

/// Whether what happens inside containers is watched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Inside {
    /// It is, and there is a ring of it.
    Watched,
    /// Programs and files are, by their mounts; why no more is.
    Mounts(String),
    /// There are no containers.
    Nothing,
    /// This machine cannot do that; why not.
    Failed(String),
}

/// What one thread of the data plane writes and the console reads.
#[derive(Debug)]
pub struct Rings {
    /// Events.
    pub events: RingFds,
    /// Frames.
    pub frames: RingFds,
}

/// Descriptors of the keeper.
#[derive(Debug)]
pub struct KeeperEnds {
    /// Life line; carries nothing.
    pub supervisor: Channel,
    /// Receives `ToKeeper`, sends `FromKeeper`.
    pub switch: Channel,
    /// Receives [`crate::container::Ordered`], sends [`crate::container::KeeperSays`].
    pub console: Channel,
    /// The TAPs of tap nodes, in the order of the plan.
    pub taps: Vec<OwnedFd>,
    /// By what containers are watched ([`crate::sys::inside::Handles::containers`] or [`crate::sys::fanotify::create`], as the
    /// configuration says), if any can be.
    pub inside: Option<OwnedFd>,
}

/// Descriptors of the switch.
#[derive(Debug)]
pub struct SwitchEnds {
    /// Life line; sends [`super::ToSupervisor::Ready`].
    pub supervisor: Channel,
    /// Sends `ToKeeper`, receives `FromKeeper`.
    pub keeper: Channel,
    /// Receives `ToSwitch`, sends `ToConsole`.
    pub console: Channel,
    /// Take events ([`crate::event::RingSink`]) and frames ([`crate::event::RingCapture`]), a pair for each shard.
    pub rings: Vec<Rings>,
}

/// Descriptors of the console.
#[derive(Debug)]
pub struct ConsoleEnds {
    /// Receives [`crate::event::Said`], sends [`super::ToSupervisor`]; its end is the console's.
    pub supervisor: Channel,
    /// Sends `ToSwitch`, receives `ToConsole`.
    pub switch: Channel,
    /// Sends [`crate::container::Ordered`], receives [`crate::container::KeeperSays`].
    pub keeper: Channel,
    /// Events and frames to read, a pair for each shard of the data plane.
    pub rings: Vec<Rings>,
    /// The control socket `/run/honeyweave/NAME.sock`, listening (`SOCK_STREAM`). The supervisor owns the path.
    pub control: OwnedFd,
    /// What happens inside containers, if that is watched.
    pub inside: Option<InsideFds>,
    /// The metrics endpoint, listening on TCP, if one was asked for.
    pub metrics: Option<OwnedFd>,
}

/// Where it is read what happens inside containers.
#[derive(Debug)]
pub enum InsideFds {
    /// Of [`crate::sys::inside::Reader`].
    Ring {
        /// The ring.
        ring: OwnedFd,
        /// How much did not fit into it.
        lost: OwnedFd,
    },
    /// Of [`crate::sys::fanotify::Reader`].
    Mounts(OwnedFd),
}
