//! The keeper process: opens uplinks and TAPs, starts and ends containers, starts
//! scripts. One thread that never waits for liblxc: each call is a worker process
//! with a deadline, and many run at once.
//!
//! ```text
//! Lease ─▶ Queued ─▶ Starting ─▶ Live ⇄ frozen ─▶ Dying ─▶ Sweeping ─▶ Kept ─▶ Inspecting ─▶ Removing
//!   │        └──────────┴── failed ─────────────────────────┘            │
//!   ├─▶ one that is kept ready (`pool`): Live                            │
//!   ├─▶ files of the same host and attacker (`kept`): Queued ◀───────────┘
//!   └─▶ files that nobody had yet (`ahead`): Queued
//! ```

mod adopt;
mod ahead;
mod apparmor;
mod cgroup;
mod disk;
mod evidence;
mod forget;
#[cfg_attr(not(feature = "lxc"), allow(dead_code))]
pub(super) mod hide;
mod host;
pub(super) mod identity;
mod inside;
mod kept;
mod lease;
mod leases;
mod leftovers;
mod listings;
mod logs;
mod machine;
mod orders;
mod own_files;
mod pool;
mod pressure;
mod process;
mod rsa;
mod scripts;
mod settings;
mod ssh_key;
mod taps;
mod tries;
mod uplinks;
mod used;
mod waiting;
mod xdp;

pub use cgroup::Layout;
pub(super) use disk::remove as remove_dir;
pub use leftovers::{closed_to_containers, tag};
pub use machine::Machine;
pub use process::{Ends, run};
pub use scripts::SCRIPT_UID;
pub use ssh_key::SshKey;
pub use taps::open as open_tap;
