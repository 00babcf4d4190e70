//! `honeyweave check`: what is wrong with a topology.

use std::process::ExitCode;

use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks the topology and prints every mistake.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`check` is not built yet"))
}
