//! One host, free of I/O and of clocks: what it is and how it answers.

mod identity;
mod personality;
pub mod reply;
mod table;
mod template;

pub use identity::{Identity, Secret};
pub use personality::{Builtin, IpIdClass, Personality, SynAckOption};
pub use table::{Announced, ClockTable, SlotIdx, Vacant};
pub use template::{Backend, Outward, ServiceId, Splicing, StartPolicy, TcpPort, Template, UdpPort};
