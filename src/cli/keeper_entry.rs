//! `honeyweave __keeper`: the entry point of the keeper process.

use std::os::fd::AsFd;
use std::process::ExitCode;

use miette::IntoDiagnostic;

use crate::container::{FromKeeper, KeeperConfig, ToKeeper};
use crate::control::{self, KeeperEnds};
use crate::node::{NodeConfig, NodeIdx};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name of the honeynet, for lists of processes
    pub name: String,
}

/// Runs the keeper.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    super::log::start();
    let ends = KeeperEnds::inherited().into_diagnostic()?;
    let config: KeeperConfig = control::inherited_config().into_diagnostic()?;
    loop {
        let ready = crate::sys::eventfd::wait_readable(&[ends.supervisor.as_fd(), ends.switch.as_fd()], -1)
            .into_diagnostic()?;
        if ready & 1 != 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let Some((message, _)) = ends.switch.recv_msg::<ToKeeper>().into_diagnostic()? else {
            return Ok(ExitCode::SUCCESS);
        };
        if message != ToKeeper::Hello {
            continue;
        }
        for (i, (_, node)) in config.nodes.iter().enumerate() {
            let NodeConfig::Uplink(uplink) = node else { continue };
            let fd = crate::sys::packet::open(&uplink.interface).into_diagnostic()?;
            let mtu = crate::sys::interface::mtu(&uplink.interface).into_diagnostic()?;
            ends.switch
                .send_msg(&FromKeeper::Uplink { node: NodeIdx(i as u16), mtu }, &[fd.as_fd()])
                .into_diagnostic()?;
        }
    }
}
