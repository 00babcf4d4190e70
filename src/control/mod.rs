//! The processes of a honeynet and what they say to each other.

mod build;
mod config;
pub mod console;
mod devices;
mod ends;
mod middle;
pub mod place;
mod process;
mod protocol;
pub mod request;
pub mod supervisor;
pub mod switch;
mod waiting;
mod watch;
pub mod watching;

pub use build::{build_fabric, build_fabrics};
pub use config::{
    CONSOLE_UID, ConsoleConfig, ConsoleEnds, Inside, InsideFds, KeeperEnds, Rings, SWITCH_UID, SwitchConfig, SwitchEnds,
};
pub use ends::inherited_config;
pub use protocol::{FromSupervisor, Query, ToConsole, ToSupervisor, ToSwitch};
