//! One host, free of I/O and of clocks: what it is and how it answers.

mod arp;
mod fingerprint;
mod identity;
#[cfg(feature = "nmap-db")]
pub mod nmap;
mod personality;
pub mod probe;
pub mod reply;
mod table;
pub mod talk;
mod template;

pub use arp::ArpHabits;
pub use fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Fingerprint, IdPattern, IsnPattern, Opt, Quoted, QuotedChecksum,
    SeqNumber, Sequence, SynAnswer, TcpAnswer, UdpAnswer, write_options,
};
pub use identity::{Identity, Secret};
pub use personality::{Builtin, FlowLabel, Interned, IpIdClass, Personality, SynAckOptions};
pub use probe::{Probe, Scan, Speaker, Turn};
pub use table::{Announced, ClockTable, SlotIdx, Vacant};
pub use talk::{Naming, Says, TalkHabits};
pub use template::{Backend, Outward, ServiceId, Splicing, StartPolicy, TcpPort, Template, UdpPort};
