//! The kernel's edge in small safe wrappers: with the container engine's
//! bindings the only place for `unsafe`. Nothing here knows about frames,
//! events or nodes.

pub mod bpf;
pub mod claims;
pub mod clock;
pub mod epoll;
pub mod ethtool;
pub mod eventfd;
pub mod fanotify;
pub mod fanout;
pub mod handed;
pub mod inside;
pub mod interface;
pub mod memory;
pub mod mounts;
pub mod netlink;
pub mod packet;
pub mod packet_ring;
pub mod pids;
pub mod prefetch;
pub mod privileges;
pub mod process;
pub mod ring;
pub mod sched;
pub mod seccomp;
pub mod seqpacket;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tap;
pub mod uring;
pub mod usage;
pub mod vnet;
pub mod xdp;
