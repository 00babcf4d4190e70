//! A DHCP client as a host's system has it (RFC 2131, RFC 2132): never a server, never a relay.
//!
//! * `client`: what each system's client writes, and in which order
//! * `message`: those words
//! * `reply`: what a server says, read and judged before anything is believed of it
//! * `machine`: the states of one host's lease
//!
//! When a frame is sent, from where, and how many hosts may have a lease, is the node's matter.

mod client;
#[cfg(test)]
mod hostile_tests;
mod machine;
#[cfg(test)]
mod machine_tests;
mod message;
mod reply;
#[cfg(test)]
pub(crate) mod testing;

pub use client::{Client, Habits, RawId};
pub use machine::{Act, Loss, Machine, Pace, State};
pub use message::{Message, Speaker};
pub use reply::{Kind, Lease, Refusal, Reply};

/// The port of servers.
pub const SERVER_PORT: u16 = crate::wire::DHCP_SERVER_PORT;
/// The port of clients.
pub const CLIENT_PORT: u16 = crate::wire::DHCP_CLIENT_PORT;
