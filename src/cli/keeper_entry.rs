//! `honeyweave __keeper`: the entry point of the keeper process.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the keeper.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("the keeper process is not built yet"))
}
