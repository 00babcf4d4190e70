//! Why nothing could be measured, and what to do.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BenchError {
    #[error("there is no interface `{0}` here")]
    NoInterface(String),
    #[error("`{0}` does not carry Ethernet frames")]
    NotEthernet(String),
    #[error("`{0}` is down or has no carrier: `ip link set {0} up`, and look at its other end")]
    Down(String),
    #[error("opening a packet socket on `{interface}` takes CAP_NET_RAW: start it with sudo")]
    Rights { interface: String },
    #[error("cannot open a packet socket on `{interface}`: {error}")]
    Open { interface: String, error: io::Error },
    #[error("`{interface}` failed while it was in use: {error}")]
    Device { interface: String, error: io::Error },
    #[error("{0} is no prefix of hosts that can be asked: it is {1}")]
    NoHosts(IpNet, &'static str),
    #[error("{prefix} has {has} addresses, {most} are possible{advice}")]
    TooMany { prefix: IpNet, has: u128, most: u64, advice: &'static str },
    #[error(
        "{prefix} is not on the link of `{interface}` ({addresses}): say which router leads there with --via, or --on-link if it is there nevertheless"
    )]
    NotOnLink { prefix: IpNet, interface: String, addresses: String },
    #[error("ARP does not cross a router: {0} cannot be asked by way of one")]
    ArpOnLink(IpNet),
    #[error(
        "`{interface}` has no {family} address to send from: name addresses that nobody else has with --source-prefix"
    )]
    NoSource { interface: String, family: &'static str },
    #[error(
        "a handshake from an address of this machine is reset by its own kernel: name addresses that nobody has with --source-prefix"
    )]
    OwnSource,
    #[error("several sources need a --source-prefix with addresses that nobody else has")]
    Sources,
    #[error("{prefix} has {has} addresses to send from, not {wanted}")]
    FewSources { prefix: IpNet, has: u64, wanted: u64 },
    #[error("{0} and {1} are not of the same IP version")]
    Family(IpNet, IpAddr),
    #[error("nothing is left of {0} without the addresses to send from")]
    OnlySources(IpNet),
    #[error("the router {0} does not answer when asked for its MAC")]
    SilentRouter(IpAddr),
    #[error("nobody in {0} answers when asked for a MAC: is it on this link, and is the honeynet up?")]
    Silent(IpNet),
    #[error("it was ended before anything was measured")]
    Interrupted,
    #[error("a frame of {size} octets does not fit: {least} to {most} do")]
    Size { size: usize, least: usize, most: usize },
    #[error("a request of {len} octets does not fit into one segment: at most {most} do")]
    Request { len: usize, most: usize },
}

impl BenchError {
    /// Whether something else has to be asked for: nothing has gone wrong yet.
    pub fn is_input(&self) -> bool {
        use BenchError::{Device, Interrupted, Open, Silent, SilentRouter};
        !matches!(self, Device { .. } | Open { .. } | Silent(_) | SilentRouter(_) | Interrupted)
    }
}
