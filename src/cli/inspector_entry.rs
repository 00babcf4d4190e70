//! `honeyweave __inspector`: the entry point of a process that takes a container's evidence.

use std::process::ExitCode;

use miette::IntoDiagnostic;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The container that it is about, for whoever looks at the list of processes
    pub name: Option<String>,
}

/// Takes the evidence of one container.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    crate::container::inspector::main().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
