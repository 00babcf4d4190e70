//! What switch, console and supervisor say to each other, one message a packet,
//! in postcard. What the keeper says to the others is in [`crate::container`]; the
//! supervisor tells the console [`crate::event::Said`], nothing else.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::node::{NodeIdx, Show};
use crate::relay::tape::Word;

/// The first number of a container's device in captures; those below are the indexes of uplinks' and taps' nodes.
pub const FIRST_TAP: u32 = 65_536;

/// What the console asks the switch for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// A table of the nodes that have it, at most `limit` rows each:
    /// `[{"node": NAME, "rows": [...]}, ...]` (the fabric's form).
    Show {
        /// Which table.
        what: Show,
        /// Rows a node.
        limit: u32,
    },
    /// Counters of nodes, drops and links, and what there is now of sessions and connections:
    /// `{"nodes": [...], "drops": [...], "links": [...], "standing": [...]}`.
    Status,
}

/// From the console to the switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToSwitch {
    /// The console has (re)started: announce every container's interface again
    /// with [`ToConsole::Interface`], and tell which connections there are with [`ToConsole::Open`].
    Hello,
    /// Answer with [`ToConsole::Answer`] of the same `id`.
    Query {
        /// The console's name for the question.
        id: u64,
        /// The question.
        what: Query,
    },
    /// With one descriptor: the connected socket to the proxy's target.
    ProxyOpen {
        /// The connection.
        conn: u64,
    },
    /// The target could not be reached.
    ProxyFailed {
        /// The connection.
        conn: u64,
        /// Why, for the event.
        why: String,
    },
}

/// From the switch to the console. The switch faces the attacker: the console
/// takes an index into the plan's proxies from it, never an address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToConsole {
    /// Before a container's TAP is attached: frames that carry `number` in the
    /// capture ring are those of the container of `host`. An uplink or a
    /// tap node is not announced: its number is the index of its node. Numbers of containers are
    /// greater than any index of a node (65,536 and up).
    Interface {
        /// The number given to `Fabric::attach`.
        number: u32,
        /// The node that the host belongs to.
        node: NodeIdx,
        /// Its address.
        host: IpAddr,
    },
    /// With one descriptor: a memfd that holds the answer in JSON.
    Answer {
        /// The question.
        id: u64,
    },
    /// Connect to a target and answer with [`ToSwitch::ProxyOpen`] or
    /// [`ToSwitch::ProxyFailed`].
    Proxy {
        /// The switch's name for the connection.
        conn: u64,
        /// Index into the plan's proxies.
        proxy: u16,
        /// The attacker.
        peer: SocketAddr,
        /// The host and port that it talks to.
        local: SocketAddr,
    },
    /// Something happened in a connection that the switch is in the middle of.
    Tape {
        /// The switch's name for the connection. No switch uses one that another has used.
        conn: u64,
        /// What.
        word: Word,
    },
    /// The answer to [`ToSwitch::Hello`]: the connections that the switch is in the middle of. Whatever has begun, and is
    /// not among them, has ended.
    Open {
        /// Their names.
        conns: Vec<u64>,
    },
}

/// From a process to the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// From the switch: frames flow, every uplink and every TAP of a tap node is attached.
    Ready,
    /// From the console.
    /// End everything: someone typed `honeyweave down`.
    Down,
    /// From the switch: every thread of the data plane has answered since the last [`FromSupervisor::Ping`].
    Alive,
}

/// From the supervisor to the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// To be answered with [`ToSupervisor::Alive`].
    Ping,
}
