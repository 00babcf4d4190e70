//! One host, free of I/O and of clocks: what it is and how it answers.

mod arp;
mod case;
pub mod dhcp;
mod fingerprint;
mod gate;
mod hardware;
mod identity;
mod interned;
#[cfg(feature = "nmap-db")]
pub mod nmap;
mod normalize;
mod own_syn;
mod personality;
pub mod probe;
mod probe_write;
pub mod reply;
mod rsa;
mod scanner;
mod table;
pub mod talk;
mod tcp_habits;
mod template;

pub use arp::ArpHabits;
pub use case::{Asker, Case, WallClock, Window};
pub use fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Fingerprint, IdPattern, IsnPattern, Opt, Quoted, QuotedChecksum,
    SeqNumber, Sequence, SynAnswer, TcpAnswer, UdpAnswer, write_options,
};
pub use gate::{FlowLimit, GateLimits};
pub use hardware::{ContainerLimits, Hardware};
pub use identity::{Identity, Secret};
pub use interned::Interned;
pub use normalize::Normalize;
pub use own_syn::OwnSyn;
pub use personality::{Builtin, FlowLabel, IpIdClass, Personality, SynAckOptions};
pub use probe::{Probe, Scan, Speaker, Turn};
pub use rsa::{RsaFound, RsaKey, RsaSeed};
pub use scanner::{OsFamily, SynTraits, os_of_syn};
pub use table::{Announced, ClockTable, SlotIdx, Vacant};
pub use talk::{Naming, Says, TalkHabits};
pub use tcp_habits::{KeepAlive, TcpHabits};
pub use template::{Backend, Grant, Outward, ServiceId, Splicing, StartPolicy, TcpPort, Template, UdpPort};
