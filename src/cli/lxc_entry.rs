//! `honeyweave __lxc`: the entry point of a forked container worker.

use std::process::ExitCode;

use miette::IntoDiagnostic;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The container that it is about, for whoever looks at the list of processes
    pub name: Option<String>,
}

/// Runs one container call.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    crate::container::worker::main().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
