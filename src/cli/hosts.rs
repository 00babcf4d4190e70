//! `honeyweave hosts ls`: the hosts that someone has spoken to.

use std::process::ExitCode;

use serde_json::Value;

use super::Target;
use super::show::print_rows;
use crate::control::request::Request;

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
        /// Print JSON: one array of rows
        #[arg(long)]
        json: bool,
        /// Print at most this many of each node
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
}

/// Lists hosts.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let Command::Ls { target, json, limit } = args.command;
    let rows: Vec<Value> = target.connect()?.ask(&Request::Hosts { limit })?;
    print_rows(&rows, json)
}
