//! Why frames are discarded, and the counters of a node.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a frame was discarded: a value that is counted, never an error.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// Every reason, in the order of its code.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Shorter than its headers say, or headers that contradict themselves.
    Malformed = "malformed",
    /// An IPv4, TCP, UDP or ICMP checksum that is wrong.
    BadChecksum = "bad-checksum",
    /// An IP fragment, which hosts here do not reassemble.
    Fragment = "fragment",
    /// Longer than the port or link takes.
    TooBig = "too-big",
    /// An Ethertype or protocol that the node does not speak.
    Unsupported = "unsupported",
    /// Its destination MAC is another's.
    NotForUs = "not-for-us",
    /// No host of ours has that address.
    NoHost = "no-host",
    /// The host ignores such a packet, as its template says.
    Filtered = "filtered",
    /// TTL or hop limit used up.
    TtlExceeded = "ttl-exceeded",
    /// The FIB has no route.
    NoRoute = "no-route",
    /// The neighbor did not answer.
    NeighborFailed = "neighbor-failed",
    /// Too many packets wait for that neighbor, or too many neighbors are asked for.
    NeighborQueue = "neighbor-queue",
    /// The VLAN is not carried by that port.
    Vlan = "vlan",
    /// It would leave by the port that it came in by.
    SamePort = "same-port",
    /// The source address cannot be (group bit, all zero, or our own).
    BadSource = "bad-source",
    /// The uplink guard keeps that protocol inside.
    Guard = "guard",
    /// The uplink guard: more source MACs than the uplink may show.
    MacLimit = "mac-limit",
    /// The uplink guard: over the rate.
    RateLimit = "rate-limit",
    /// The container's outward policy.
    Policy = "policy",
    /// A queue was full.
    TailDrop = "tail-drop",
    /// A link lost it, as the topology asks.
    LinkLoss = "link-loss",
    /// A link whose other side is not there at the moment.
    LinkDown = "link-down",
    /// The device did not take it.
    DeviceError = "device-error",
    /// No buffer was free.
    NoBuffer = "no-buffer",
    /// A table of flows or sessions was full of others.
    TableFull = "table-full",
    /// A TCP segment that belongs to no connection and is not answered.
    NoFlow = "no-flow",
    /// It went around more often than any path is long.
    LoopLimit = "loop-limit",
    /// The node panicked on its batch.
    Panic = "panic",
    /// What a DHCP server said that no host can believe.
    Refused = "refused",
    /// What no container may say, whatever its policy, such as a router advertisement.
    Gate = "gate",
    /// A sensor that listens to a mirror wants to speak.
    Sensor = "sensor",
}

impl From<crate::wire::Flaw> for DropReason {
    fn from(flaw: crate::wire::Flaw) -> DropReason {
        match flaw {
            crate::wire::Flaw::Malformed => DropReason::Malformed,
            crate::wire::Flaw::BadChecksum => DropReason::BadChecksum,
            crate::wire::Flaw::Unsupported => DropReason::Unsupported,
        }
    }
}

/// What passed a node. Plain numbers: one thread writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub rx: u64,
    /// Frames sent.
    pub tx: u64,
    /// Frames discarded, by reason.
    pub drops: [u64; DropReason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { rx: 0, tx: 0, drops: [0; DropReason::ALL.len()] }
    }
}

impl Counters {
    /// Counts one discarded frame.
    #[inline]
    pub fn discard(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Frames discarded for `reason` so far.
    pub fn discarded(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// The reasons that occurred and how often.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|r| (*r, self.drops[*r as usize])).filter(|(_, n)| *n > 0)
    }
}
