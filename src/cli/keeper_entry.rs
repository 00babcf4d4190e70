//! `honeyweave __keeper`: the entry point of the keeper process.

use std::path::PathBuf;
use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr};

use crate::container::keeper::{self, Ends};
use crate::control::{self, KeeperEnds};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name of the honeynet, for lists of processes
    pub name: String,
}

/// Runs the keeper.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    super::log::start();
    let KeeperEnds { supervisor, switch, console } = KeeperEnds::inherited().into_diagnostic()?;
    let config = control::inherited_config().into_diagnostic()?;
    let ends = Ends { supervisor, switch, console };
    // The program that runs, even if its file was replaced since.
    let worker = PathBuf::from("/proc/self/exe");
    keeper::run(config, ends, worker).into_diagnostic().wrap_err("the keeper")?;
    Ok(ExitCode::SUCCESS)
}
