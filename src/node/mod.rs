//! The trait that everything between two links implements, and its kinds.
//!
//! A new kind is one file here, one arm in the topology's kind registry, one
//! page in the docs and one test.

mod bridge;
mod config;
mod hosts;
mod hosts_config;
mod mirror;
mod router;
mod shard;
mod tap;
#[doc(hidden)]
pub mod testing;
mod uplink;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::{Counters, DropReason, Event, SessionId, Sink};
use crate::frame::{Batch, Frame, Pool, PortNo};
use crate::service::Service;
use crate::stack::{RelayEnd, Wake};
use crate::wire::Instant;

pub use bridge::Bridge;
pub use config::{
    AddrRange, BridgeConfig, BridgePort, ClaimConfig, DhcpConfig, Guarded, HostsConfig, Limits, LinkConfig, MacMode,
    MirrorConfig, NodeConfig, PortVlan, ResponseTime, Route, RouterConfig, RouterInterface, Segment, TapConfig, TapIo,
    UplinkConfig, UplinkIo,
};
pub use hosts::{Admission, Hosts, Pace, Together, attacker_of};
pub use hosts_config::{host_label, numbered_name};
pub use mirror::Mirror;
pub use router::Router;
pub use shard::{MAX_SHARDS, Shard};
pub use tap::Tap;
pub use uplink::{Meter, Uplink};

/// Index of a node in the plan and in the fabric.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NodeIdx(pub u16);

/// One use of one container by one host. Never reused within an installation's run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// What a node asks of the control side. The control side answers with [`Command`]s.
pub enum Request {
    /// A container for host `host` of node `node`.
    Lease {
        /// The asking node.
        node: NodeIdx,
        /// Its name for the lease.
        lease: LeaseId,
        /// The host that is to come to life.
        host: IpAddr,
        /// Who brings it to life, and in which session; nobody if it belongs to the system.
        by: Option<(IpAddr, SessionId)>,
        /// The attacker that it is granted to, as [`attacker_of`] has it; none if whoever comes shares it.
        attacker: Option<IpAddr>,
    },
    /// Nobody has spoken to the container for a while: freeze it if it has nothing to do.
    Freeze {
        /// Which.
        lease: LeaseId,
    },
    /// Somebody speaks to it again. Nobody has to wait for that: the kernel's part of it was never frozen.
    Thaw {
        /// Which.
        lease: LeaseId,
    },
    /// The lease is over: stop the container.
    Release {
        /// Which.
        lease: LeaseId,
        /// Whether its files stay for who comes back.
        keep: bool,
    },
    /// A node panicked and was made anew: it knows nothing of the leases that it
    /// has asked for so far, which are over.
    Rebuilt {
        /// Which.
        node: NodeIdx,
    },
    /// Connect `pipe` to a script or a proxy target, or be in the middle: then what dials beside it is
    /// connected to the host's container. A failure is told by resetting the pipe.
    Open {
        /// Of which node.
        node: NodeIdx,
        /// Which service; its kind is `Script`, `Proxy` or `Recorded`.
        service: Box<Service>,
        /// The attacker's session.
        session: SessionId,
        /// The attacker.
        peer: std::net::SocketAddr,
        /// The host and port that the attacker talks to.
        local: std::net::SocketAddr,
        /// The connection's bytes.
        pipe: RelayEnd,
    },
}

/// What the control side tells a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The TAP of a lease's container is attached to `port`.
    LeaseTap {
        /// Which lease.
        lease: LeaseId,
        /// The node's new port.
        port: PortNo,
    },
    /// The container's init runs; the node finds out by itself when a service answers.
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
    /// The container is gone or never came; its port is detached already.
    LeaseGone {
        /// Which lease.
        lease: LeaseId,
        /// Why, for the event.
        why: String,
    },
}

/// What `show` asks a node for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// MAC tables of switches.
    Fdb,
    /// Routes of routers.
    Fib,
    /// Neighbors of routers.
    Neigh,
    /// TCP connections and half-open ones.
    Flows,
    /// Hosts that someone has spoken to.
    Hosts,
}

/// What there is now, whoever asks and whenever: nobody has to have counted what began and ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Sessions whose beginning was told, and whose end was not.
    pub sessions: usize,
    /// TCP connections that are open.
    pub flows: usize,
}

/// The one way out of a node while it works.
pub struct Cx<'a> {
    /// The batch's clock: monotonic, the same for all frames of a batch.
    pub now: Instant,
    /// Buffers.
    pub pool: &'a mut Pool,
    /// The node's counters.
    pub counters: &'a mut Counters,
    /// Frames to send, by port.
    pub out: &'a mut [Batch],
    /// Which ports have something at their other side.
    pub linked: &'a [bool],
    /// Where events go.
    pub sink: &'a mut dyn Sink,
    /// Where requests to the control side go.
    pub requests: &'a mut Vec<Request>,
    /// A seeded random generator.
    pub rng: &'a mut Rng,
    /// Wakes the thread that runs the node; pipes need it.
    pub waker: &'a std::sync::Arc<dyn Wake>,
    /// The node's index.
    pub node: NodeIdx,
    /// Which of the node's replicas this is.
    pub shard: Shard,
    /// Frames for the replicas in other shards ([`Cx::hand_over`]).
    pub handed: &'a mut Vec<(u16, Frame)>,
}

impl Cx<'_> {
    /// Sends `frame` by `port`. A port that is linked to nothing discards it.
    #[inline]
    pub fn send(&mut self, port: PortNo, frame: Frame) {
        match self.out.get_mut(usize::from(port.0)) {
            Some(batch) if self.linked[usize::from(port.0)] => {
                self.counters.tx += frame.segments() as u64;
                batch.push(frame);
            }
            _ => self.discard(frame, DropReason::LinkDown),
        }
    }

    /// Whether `port` has something at its other side.
    #[inline]
    pub fn is_linked(&self, port: PortNo) -> bool {
        self.linked.get(usize::from(port.0)).copied().unwrap_or(false)
    }

    /// Gives the buffer back and counts why.
    #[inline]
    pub fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.counters.discard(reason);
        self.pool.put(frame);
    }

    /// Gives the buffer back of a frame that reached its destination.
    #[inline]
    pub fn consume(&mut self, frame: Frame) {
        self.pool.put(frame);
    }

    /// Says what happened; the node's index is filled in.
    #[inline]
    pub fn emit(&mut self, event: &mut Event, data: &[u8]) {
        event.node = self.node.0;
        self.sink.emit(event, data);
    }
}

/// The next whole second. Whoever looks after something once a second does so then, so that a processor that has nothing
/// else to do is woken once for all of them.
fn next_second(now: Instant) -> Instant {
    Instant::from_secs(now.total_micros().div_euclid(1_000_000) + 1)
}

/// Something with ports that takes frames and sends frames.
///
/// Time and randomness come with `cx`; a node owns no device, no descriptor and no clock.
pub trait Node: Send {
    /// Takes every frame of `rx` (its port is in `meta.port`), leaving it empty.
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>);

    /// Called when [`Node::next_deadline`] has come, and after a batch.
    fn tick(&mut self, _cx: &mut Cx<'_>) {}

    /// When it wants to be called although no frame came.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What the topology calls that port; `None` if it has no name of its own.
    fn port_name(&self, _port: PortNo) -> Option<&str> {
        None
    }

    /// Whether the frames that it sends are those that it was given, as they were: not if it answers in their buffers, or
    /// makes others of them.
    fn passes_on(&self) -> bool {
        false
    }

    /// Frames that it keeps between two calls.
    fn held(&self) -> usize {
        0
    }

    /// What there is of it now; `None` if it has none of that.
    fn standing(&self) -> Option<Standing> {
        None
    }

    /// The network ends: says what ends with it. Nothing that it sends leaves any more.
    fn end(&mut self, _cx: &mut Cx<'_>) {}

    /// Takes word from the control side.
    fn command(&mut self, _command: Command, _cx: &mut Cx<'_>) {}

    /// Describes its state as rows for people and programs; at most `limit` of them. `None` if it has none of that.
    fn show(&self, _what: Show, _now: Instant, _limit: usize) -> Option<Vec<serde_json::Value>> {
        None
    }
}

/// A small seeded generator (xorshift64*): statistical quality, not secrecy.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for one `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next 32 bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `[0, 1)`.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
