//! `honeyweave doctor`: what this machine lacks and how to mend it.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks at the machine and prints what it lacks.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`doctor` is not built yet"))
}
