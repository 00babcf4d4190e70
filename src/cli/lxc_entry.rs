//! `honeyweave __lxc`: the entry point of a forked container worker.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What the worker is to do.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Runs one container call.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("the container worker is not built yet"))
}
