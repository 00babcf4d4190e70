//! `honeyweave __keeper`: the entry point of the keeper process.

use std::path::PathBuf;
use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr};

use crate::container::KeeperConfig;
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
    let config: KeeperConfig = control::inherited_config().into_diagnostic()?;
    let inherited = KeeperEnds::inherited(config.taps().count()).into_diagnostic()?;
    let KeeperEnds { supervisor, switch, console, taps, inside } = inherited;
    let ends = Ends { supervisor, switch, console, taps, inside };
    // The program that runs, even if its file was replaced since.
    let worker = PathBuf::from("/proc/self/exe");
    keeper::run(config, ends, worker).into_diagnostic().wrap_err("the keeper")?;
    Ok(ExitCode::SUCCESS)
}
