//! `honeyweave __console`: the entry point of the console process.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the console.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("the console process is not built yet"))
}
