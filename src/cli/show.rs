//! `honeyweave show`: the inner tables of a running honeynet.

use std::process::ExitCode;

use super::Target;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which table
    #[arg(value_enum)]
    pub table: Table,
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Only of this node
    #[arg(long)]
    pub node: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print at most this many rows of a node
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
}

/// The tables there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Table {
    /// MAC tables of switches
    Fdb,
    /// Routes of routers
    Fib,
    /// Neighbors of routers
    Neigh,
    /// TCP connections, half-open ones included
    Flows,
    /// Discarded frames by reason
    Drops,
    /// Links and what they do to frames
    Links,
}

/// Prints the table.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`show` is not built yet"))
}
