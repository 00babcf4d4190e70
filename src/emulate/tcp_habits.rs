//! What a system's TCP does with what has no place in an open connection, and how long it waits for what.
//!
//! From each system's documentation and, where that is public, its source.

use serde::{Deserialize, Serialize};

/// How a silent peer is asked whether it is still there, after two hours, if the application wants that
/// (RFC 9293 §3.8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeepAlive {
    /// Seconds between two questions, 1 to 255.
    pub interval_secs: u8,
    /// Questions without an answer after which the connection is reset.
    pub probes: u8,
    /// Whether a question carries an octet (RFC 1122 §4.2.3.6).
    pub octet: bool,
}

/// What a system does in an open connection and at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TcpHabits {
    /// Whether a SYN in a connection, and a RST in its window but not where one is expected, are answered by an
    /// acknowledgment (RFC 5961). Otherwise a SYN in the window ends the connection, and so does any RST there (RFC 793).
    pub challenges: bool,
    /// Seconds for which a connection that the system has closed first is remembered (RFC 9293 §3.6.1), 1 to 255.
    pub time_wait_secs: u8,
    /// How it asks a silent peer.
    pub keep_alive: KeepAlive,
}

impl TcpHabits {
    /// Linux since 3.6: net.ipv4.tcp_keepalive_*, TCP_TIMEWAIT_LEN.
    pub const LINUX: TcpHabits = TcpHabits {
        challenges: true,
        time_wait_secs: 60,
        keep_alive: KeepAlive { interval_secs: 75, probes: 9, octet: false },
    };
    /// Windows since Vista: KeepAliveInterval, TcpTimedWaitDelay.
    pub const WINDOWS: TcpHabits = TcpHabits {
        challenges: true,
        time_wait_secs: 120,
        keep_alive: KeepAlive { interval_secs: 1, probes: 10, octet: true },
    };
    /// The BSDs: TCPTV_KEEPINTVL, TCPTV_KEEPCNT, twice TCPTV_MSL.
    pub const BSD: TcpHabits = TcpHabits {
        challenges: true,
        time_wait_secs: 60,
        keep_alive: KeepAlive { interval_secs: 75, probes: 8, octet: false },
    };
}
