//! `honeyweave __switch`: the entry point of the switch process.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the switch.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("the switch process is not built yet"))
}
