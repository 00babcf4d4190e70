//! What programs ask a running honeynet: one JSON object on a line over its
//! control socket, answered by lines.
//!
//! ```text
//! {"request":"show","table":"fdb","limit":100}
//! {"ok":[{"node":"core","mac":"00:0c:29:aa:00:11",...}]}
//! {"request":"events","last":10,"follow":true,"event":"tcp"}
//! {"record":{"v":1,"seq":7,...}}
//! ```
//!
//! The last line of an answer is `ok` or `error`; before it, `events` answers
//! with any number of `record` lines, and with `lost` where the reader was too
//! slow to be told everything.

use serde::{Deserialize, Serialize};

use crate::container::Order;
use crate::record::sink::SinkStatus;
use crate::record::{CaptureStats, Filter, LogStats, SummaryView, Utc};

/// The longest line of a request, its line feed included.
pub const MAX_REQUEST: usize = 4096;
/// Past records that one request can ask for.
pub const MAX_LAST: usize = 1_000_000;
/// Rows that one request can ask for of each node.
pub const MAX_ROWS: u32 = 100_000;

/// A question or order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the honeynet is doing: [`Status`].
    Status,
    /// The hosts that someone has spoken to: an array of rows, cut as those of `show` are.
    Hosts {
        /// At most so many of each node.
        #[serde(default = "default_rows")]
        limit: u32,
    },
    /// An inner table: an array of rows; for each node that has more than were asked for, or may be, a last one
    /// `{"node": NAME, "cut_at": rows}`.
    Show {
        /// Which.
        table: Table,
        /// At most so many of each node.
        #[serde(default = "default_rows")]
        limit: u32,
    },
    /// An order for the keeper: an array of containers, empty unless they were asked for; of `snapshot` what was taken, of
    /// `diff` the changes, each as an object.
    Container {
        /// What to do, such as `{"ls":0}` or `{"freeze":7}`.
        order: Order,
    },
    /// Records of what happened.
    Events {
        /// Which.
        #[serde(flatten)]
        filter: Filter,
        /// At most so many past ones.
        #[serde(default)]
        last: usize,
        /// Go on with those to come.
        #[serde(default)]
        follow: bool,
    },
    /// The metrics, as Prometheus reads them: a string.
    Metrics,
    /// End the honeynet.
    Down,
}

fn default_rows() -> u32 {
    1000
}

/// The inner tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// MAC tables of switches
    Fdb,
    /// Routes of routers
    Fib,
    /// Neighbors of routers
    Neigh,
    /// TCP connections, half-open ones included
    Flows,
    /// Discarded frames by reason
    Drops,
    /// Links and what they do to frames
    Links,
}

/// A line of an answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The end: what was asked for.
    Ok(serde_json::Value),
    /// The end: why not.
    Error(String),
    /// One record; more may follow.
    Record(serde_json::Value),
    /// So many records were not told because this reader was too slow.
    Lost(u64),
}

/// How a honeynet is doing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it keeps what it writes.
    #[serde(default)]
    pub dir: std::path::PathBuf,
    /// When it was started.
    pub started: Utc,
    /// Now, on its machine.
    pub now: Utc,
    /// Process number of the supervisor.
    pub supervisor: u32,
    /// Threads of the data plane.
    pub threads: u16,
    /// Version of the program that runs it.
    pub version: String,
    /// Why the switch does not answer; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_error: Option<String>,
    /// By what it is watched what happens inside containers: `ebpf` or `fanotify`; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// Why that is less than could be; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_limit: Option<String>,
    /// Why nothing is told of what happens inside containers; absent if it is, or if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_error: Option<String>,
    /// What passed each node, in rows.
    pub nodes: Vec<serde_json::Value>,
    /// The devices at the edges, and by what means frames pass them, in rows.
    #[serde(default)]
    pub devices: Vec<serde_json::Value>,
    /// Since when is counted what the summary, the log and the captures count: when the honeynet was started, or its console
    /// was started again.
    #[serde(default)]
    pub counted_since: Utc,
    /// Sessions that went on after the first look and are open now; absent if the switch does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_open: Option<u64>,
    /// TCP connections that are open now; absent if the switch does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_open: Option<u64>,
    /// Containers that are kept ready for any host.
    #[serde(default)]
    pub spare_containers: usize,
    /// Why the keeper does not tell of containers; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper_error: Option<String>,
    /// What happened since then, and the containers there are now.
    pub summary: SummaryView,
    /// The event log.
    pub log: LogStats,
    /// The captures.
    pub captures: CaptureStats,
    /// Why less is recorded of connections than should be; absent if that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings_error: Option<String>,
    /// Who is sent what happened.
    #[serde(default)]
    pub sinks: Vec<SinkStatus>,
}
