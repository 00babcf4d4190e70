//! The processes of a honeynet and what they say to each other.

mod config;
mod protocol;

pub use config::{CONSOLE_UID, ConsoleConfig, ConsoleEnds, KeeperEnds, SWITCH_UID, SwitchConfig, SwitchEnds};
pub use protocol::{Query, ToConsole, ToSupervisor, ToSwitch};
