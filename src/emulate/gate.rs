//! How much a container may send by itself. What becomes of it is [`super::Outward`].

use serde::{Deserialize, Serialize};

/// New flows of a protocol: so many at once, and as many more in each period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowLimit {
    /// How many; 0 for none at all.
    pub burst: u32,
    /// Seconds, at least 1.
    pub period_secs: u32,
}

/// Bounds of what a container sends by itself. What it answers within connections that others opened is not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GateLimits {
    /// Connections to addresses outside the honeynet, where [`super::Outward::Limit`] is the policy.
    pub tcp: FlowLimit,
    /// Pairs of ends that datagrams pass between, there.
    pub udp: FlowLimit,
    /// ICMP and ICMPv6 messages, there.
    pub icmp: FlowLimit,
    /// Octets a second of all that it sends by itself, whatever the policy: at least 1.
    pub rate_bytes: u64,
}

impl Default for GateLimits {
    /// What a person at a shell needs and a worm finds slow; a gigabit port.
    fn default() -> GateLimits {
        let each_minute = |burst| FlowLimit { burst, period_secs: 60 };
        GateLimits { tcp: each_minute(10), udp: each_minute(20), icmp: each_minute(10), rate_bytes: 125_000_000 }
    }
}
