//! `honeyweave status`: how a running honeynet is doing.

use std::process::ExitCode;

use super::Target;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the state of processes, nodes and counters.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`status` is not built yet"))
}
