//! The processes of a honeynet and what they say to each other.

mod build;
mod config;
pub mod console;
mod protocol;
pub mod request;

pub use build::{build_fabric, build_node};
pub use config::{CONSOLE_UID, ConsoleConfig, ConsoleEnds, KeeperEnds, SWITCH_UID, SwitchConfig, SwitchEnds};
pub use protocol::{Query, ToConsole, ToSupervisor, ToSwitch};
