//! `honeyweave events`: what happened.

use std::process::ExitCode;

use super::Target;

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do; listing if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to list
    #[command(flatten)]
    pub ls: Ls,
}

/// What to do with events.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List what happened
    Ls(Ls),
}

/// How events are listed.
#[derive(clap::Args, Debug)]
pub struct Ls {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Go on with what happens
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON, one event a line
    #[arg(long)]
    pub json: bool,
    /// Print at most this many past events
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
}

/// Lists and follows events.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`events` is not built yet"))
}
