//! `honeyweave hosts ls`: the hosts that someone has spoken to.

use std::process::ExitCode;

use super::Target;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with hosts.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List the hosts that someone has spoken to
    Ls {
        /// Which honeynet
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print at most this many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}

/// Lists hosts.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`hosts` is not built yet"))
}
