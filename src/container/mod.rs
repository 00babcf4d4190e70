//! The keeper: opens every device, drives containers and starts scripts, and
//! reads no byte that an attacker wrote.

mod config;
mod protocol;

pub use config::{ImageConfig, ImageUser, KeeperConfig};
pub use protocol::{FromKeeper, ToKeeper};
