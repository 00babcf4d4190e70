//! The keeper: opens every device, drives containers and starts scripts, and
//! reads no byte that an attacker wrote.

mod config;
pub mod image;
pub mod inspector;
pub mod keeper;
#[cfg(feature = "lxc")]
#[allow(unsafe_code)]
mod lxc;
mod protocol;
pub mod worker;

pub use config::{ImageConfig, ImageUser, KeeperConfig};
pub use protocol::{
    Answered, ContainerRow, FromKeeper, KeeperSays, Lessee, Logged, Order, Ordered, ToKeeper, Wanted, Watched,
};

/// Why a build without liblxc starts no container.
pub const NO_LXC: &str = "this honeyweave was built without liblxc (feature `lxc`), so no container can be started";

/// The first user id of containers: what root is inside is this one outside.
pub const ID_BASE: u32 = 1_000_000;
/// How many ids follow it.
pub const ID_COUNT: u32 = 65_536;
/// What the kernel shows in place of an id that the container has no number for.
const OVERFLOW_ID: u32 = 65_534;

/// A user or group id as it is inside.
pub fn id_inside(id: u32) -> u32 {
    id.checked_sub(ID_BASE).filter(|id| *id < ID_COUNT).unwrap_or(OVERFLOW_ID)
}

/// The version of the liblxc that is installed; `None` in a build without it.
pub fn lxc_version() -> Option<String> {
    #[cfg(feature = "lxc")]
    return Some(lxc::version());
    #[cfg(not(feature = "lxc"))]
    None
}
