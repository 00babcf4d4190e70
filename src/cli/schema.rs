//! `honeyweave schema`: the JSON Schema of topology files.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Prints the schema.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    super::print(&format!("{:#}\n", crate::topology::schema()))?;
    Ok(ExitCode::SUCCESS)
}
