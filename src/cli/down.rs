//! `honeyweave down`: ends a running honeynet.

use std::process::ExitCode;

use super::Target;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
}

/// Ends it and cleans up after it.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`down` is not built yet"))
}
