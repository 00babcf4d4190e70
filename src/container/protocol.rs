//! What keeper and switch say to each other, one message a packet, in postcard.
//!
//! The switch faces the attacker, so the keeper takes nothing from it but
//! indexes into what it was told at its start: no path, no argument, no name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inspector::Taken;
use crate::event::{Said, SessionId, Utc};
use crate::node::{LeaseId, NodeIdx};
use crate::sys::xdp::Mode;
use crate::wire::Mac;

/// From the switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The switch has (re)started: send every open device, end every lease.
    Hello,
    /// Start a container for `host` of node `node`.
    Lease {
        /// The switch's name for it.
        lease: LeaseId,
        /// A node of kind hosts.
        node: NodeIdx,
        /// One of its addresses.
        host: IpAddr,
        /// Who brings it to life, and in which session, for what is written down about it.
        by: Option<(IpAddr, SessionId)>,
        /// The attacker that it is granted to, as [`crate::node::attacker_of`] has it, where the host's template says so.
        attacker: Option<IpAddr>,
    },
    /// Nobody has spoken to it for a while: freeze it if it has nothing to do.
    Freeze {
        /// Which.
        lease: LeaseId,
    },
    /// Somebody speaks to it again.
    Thaw {
        /// Which.
        lease: LeaseId,
    },
    /// In answer to [`FromKeeper::Follows`], before anything else: the devices that have come.
    Uses {
        /// Of uplinks: the node, the index of the interface, and whether frames come by AF_XDP.
        uplinks: Vec<(NodeIdx, u32, bool)>,
        /// Tap nodes.
        taps: Vec<NodeIdx>,
    },
    /// In answer to [`FromKeeper::Follows`], with one descriptor: this lease has a container, and that is its TAP.
    Holds {
        /// Which.
        lease: LeaseId,
    },
    /// Stop it.
    Release {
        /// Which.
        lease: LeaseId,
        /// Whether its files stay for who comes back.
        keep: bool,
    },
    /// Start script `script` for a connection.
    Script {
        /// The switch's name for the connection.
        conn: u64,
        /// Index into the plan's scripts.
        script: u16,
        /// The attacker.
        peer: SocketAddr,
        /// The host and port it talks to.
        local: SocketAddr,
    },
}

/// From the keeper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromKeeper {
    /// With the AF_PACKET sockets of an uplink node: one to send by, then bound, promiscuous ones to receive by, one
    /// for each shard of the data plane (with `xdp`, one for all). They take the place of what was sent before.
    Uplink {
        /// The node.
        node: NodeIdx,
        /// The index of its interface, for [`ToKeeper::Uses`].
        index: u32,
        /// MTU of the interface.
        mtu: u32,
        /// Where frames are taken by AF_XDP, if they are: then the memory of its sockets, those, and what keeps the
        /// program on the interface follow.
        xdp: Option<Mode>,
    },
    /// The uplink's interface went down, vanished, or was never there; `Uplink` follows when it is back.
    UplinkDown {
        /// The node.
        node: NodeIdx,
        /// Whether there is no such interface.
        gone: bool,
    },
    /// With one descriptor: the TAP of a tap node, opened by [`crate::sys::tap::open`] with `vnet_hdr`.
    Tap {
        /// The node.
        node: NodeIdx,
        /// MTU of the TAP.
        mtu: u32,
    },
    /// The TAP vanished; `Tap` follows when there is another.
    TapDown {
        /// The node.
        node: NodeIdx,
    },
    /// With one descriptor: the TAP of a lease's container, sent before the container starts.
    LeaseTap {
        /// Which lease.
        lease: LeaseId,
        /// MTU of the TAP.
        mtu: u32,
    },
    /// Another keeper died, and this one follows it: say what you have, with
    /// [`ToKeeper::Uses`], with [`ToKeeper::Holds`] for each lease whose TAP
    /// has come, and by asking once more for what was asked for in vain.
    Follows,
    /// The container's init runs.
    LeaseLive {
        /// Which lease.
        lease: LeaseId,
    },
    /// Its processes are frozen.
    LeaseFrozen {
        /// Which lease.
        lease: LeaseId,
    },
    /// It was not frozen: it has something to do.
    LeaseBusy {
        /// Which lease.
        lease: LeaseId,
    },
    /// It did not start, or it is gone.
    LeaseGone {
        /// Which lease.
        lease: LeaseId,
        /// Why, for the event.
        why: String,
    },
    /// With one descriptor: the socket that is the script's standard input and output.
    ScriptOpen {
        /// The connection.
        conn: u64,
    },
    /// It could not be started.
    ScriptFailed {
        /// The connection.
        conn: u64,
        /// Why, for the event.
        why: String,
    },
}

/// What somebody at this machine orders, by way of the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Tell of the containers with greater numbers than this, as many as go into an answer.
    Ls(u32),
    /// Freeze this one until somebody speaks to it.
    Freeze(u32),
    /// Have it go on.
    Thaw(u32),
    /// End it; its files stay for who comes back.
    Stop(u32),
    /// End it and remove its files.
    Destroy(u32),
    /// Take what was changed in it, while its processes rest, and tell the archive's name.
    Snapshot(u32),
    /// List what was changed in it.
    Diff(u32),
}

/// What the console wants of the keeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wanted {
    /// What somebody has ordered. All else is the console's own: nobody else is told whose a container is, or given a
    /// descriptor, by asking the console.
    Order(Order),
    /// Tell which of the containers with greater numbers than this are watched ([`crate::sys::inside`]), as many as go into
    /// an answer.
    Watched(u32),
    /// Open the file that a sensor writes, unless it is this one still.
    Sensor {
        /// The device that it is on.
        dev: u64,
        /// Its inode.
        ino: u64,
    },
    /// Tell which of the containers with greater numbers than this have a log, as many as go into an answer.
    Logs(u32),
    /// Give the socket that this one's programs log to.
    Log(u32),
    /// With one descriptor: keep that as this one's log, as who had it before has died.
    KeepLog(u32),
}

/// A container whose programs log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Logged {
    /// Its number.
    pub number: u32,
    /// Whose it is; nobody's if it is kept ready.
    pub of: Option<Lessee>,
    /// Whether the keeper has the log, to give it to others.
    pub has: bool,
}

/// A container that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watched {
    /// Its number.
    pub number: u32,
    /// The cgroup that tells its processes, or the mount that tells its files; it may have several of these.
    pub key: u64,
    /// Whose it is; nobody's if it is kept ready.
    pub of: Option<Lessee>,
}

/// Whose a container is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lessee {
    /// The host's node.
    pub node: NodeIdx,
    /// The host: the first of its addresses, and its MAC.
    pub host: IpAddr,
    /// See `host`.
    pub mac: Mac,
    /// The session that it was leased for.
    pub session: Option<SessionId>,
    /// Whose that is.
    pub attacker: Option<IpAddr>,
}

#[cfg(test)]
impl Lessee {
    /// One for tests: `session` is that of 192.0.2.9, or 0.
    pub fn of(node: u16, host: &str, session: u64) -> Lessee {
        let (session, attacker) = (session != 0).then(|| (SessionId(session), IpAddr::from([192, 0, 2, 9]))).unzip();
        let mac = Mac([2, 0, 0, 0, 0, 5]);
        Lessee { node: NodeIdx(node), host: host.parse().unwrap(), mac, session, attacker }
    }
}

/// From the console: to be answered with [`KeeperSays::Answer`] of the same `id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// The console's name for it.
    pub id: u64,
    /// What to do.
    pub what: Wanted,
}

/// To the console.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KeeperSays {
    /// Something happened.
    Said(Said),
    /// A container is watched, or is somebody else's from now on.
    Watches(Watched),
    /// The container with this cgroup or mount has no processes any more.
    Unwatches(u64),
    /// The programs of a container log, or it is somebody else's from now on.
    Logs(Logged),
    /// The container with this number has no processes any more.
    Unlogs(u32),
    /// What became of an order.
    Answer {
        /// Which order.
        id: u64,
        /// What was asked for, or a sentence that says why not.
        answer: Result<Answered, String>,
    },
}

/// What an order is answered with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answered {
    /// Containers, if they were asked for.
    Containers(Vec<ContainerRow>),
    /// Those that are watched.
    Watched(Vec<Watched>),
    /// What was taken.
    Taken(Taken),
    /// With one descriptor: memory with an inspector's [`super::inspector::Answer`], a list of changes.
    Changes,
    /// With one descriptor: the sensor's file, for reading.
    Sensor,
    /// Those that have a log.
    Logs(Vec<Logged>),
    /// With one descriptor: a container's log, for reading.
    Log,
    /// It is the one that the console has.
    Same,
}

/// A container, as it is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerRow {
    /// What tells it from others of the honeynet, ever.
    pub number: u32,
    /// `queued`, `starting`, `live`, `frozen`, `ready` (kept ready for any host), `stopped` (its files are kept), `made` (its
    /// files are there, and nobody had it yet), `ending`.
    pub state: String,
    /// The node of its host; none for one that is kept ready.
    pub node: Option<String>,
    /// The host.
    pub host: Option<IpAddr>,
    /// The attacker that it was granted to, where each has one of its own: an IPv4 address, or the network of an IPv6 /64.
    pub attacker: Option<IpAddr>,
    /// Name of its image.
    pub image: String,
    /// liblxc's name for it.
    pub name: String,
    /// Since when its host has it, or had it last.
    pub since: Option<Utc>,
    /// Who brought it to life for that.
    pub by: Option<IpAddr>,
    /// Its first process, if it runs.
    pub init: Option<i32>,
    /// Where its overlay lies: what differs from the image.
    pub upper: PathBuf,
    /// The files of its image.
    pub lower: PathBuf,
}
