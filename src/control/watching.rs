//! Beginning to watch what happens inside containers, which the supervisor does: no death of another process ends it.

use std::io;
use std::os::fd::OwnedFd;

use super::config::{Inside, InsideFds};
use crate::node::NodeConfig;
use crate::sys::fanotify;
use crate::sys::inside::{self, Attached, Handles};
use crate::topology::Plan;

/// By what it is watched what happens inside containers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Source {
    /// eBPF, or where that cannot be, fanotify.
    #[default]
    Best,
    /// The same, and all calls of the machine are looked at for those of 32 bits.
    All,
    /// fanotify, which tells less.
    Fanotify,
    /// Nothing.
    Off,
}

/// What is held, and what others are given of it.
pub enum Watching {
    /// Programs of the kernel's, for cgroups.
    Cgroups(Attached, Handles),
    /// A group of fanotify's, for mounts.
    Mounts(OwnedFd),
}

/// Begins to watch what happens inside containers, if there can be any. That goes on whichever process dies.
pub fn watch(plan: &Plan, source: Source) -> (Inside, Option<Watching>) {
    let backed = |node: &NodeConfig| match node {
        NodeConfig::Hosts(hosts) => hosts.templates.iter().any(|template| template.backend.is_some()),
        _ => false,
    };
    if !plan.nodes.iter().any(|node| backed(&node.config)) {
        return (Inside::Nothing, None);
    }
    let why = match source {
        Source::Best | Source::All => match inside::attach(inside::RING, source == Source::All) {
            Ok((attached, handles)) => return (Inside::Watched, Some(Watching::Cgroups(attached, handles))),
            Err(error) => error.to_string(),
        },
        Source::Fanotify => "eBPF is not wanted".to_owned(),
        Source::Off => return (Inside::Failed("that is not wanted".to_owned()), None),
    };
    match fanotify::create() {
        Ok(group) => {
            tracing::warn!(%why, "inside containers, programs and written files are watched by fanotify, and nothing else is");
            (Inside::Mounts(why), Some(Watching::Mounts(group)))
        }
        Err(error) => {
            tracing::warn!(why, %error, "what happens inside containers cannot be watched from outside: no event tells of it");
            (Inside::Failed(format!("{why}; fanotify: {error}")), None)
        }
    }
}

/// What the keeper is given, and what the console is.
pub type Given = (OwnedFd, InsideFds);

/// What has to be held, and what keeper and console are given.
///
/// # Errors
/// If there is no descriptor left.
pub fn share(watching: Option<Watching>) -> io::Result<(Option<Attached>, Option<Given>)> {
    Ok(match watching {
        None => (None, None),
        Some(Watching::Cgroups(attached, Handles { containers, ring, lost })) => {
            (Some(attached), Some((containers, InsideFds::Ring { ring, lost })))
        }
        // Who reads is not who names mounts.
        Some(Watching::Mounts(group)) => (None, Some((group.try_clone()?, InsideFds::Mounts(group)))),
    })
}
