//! `honeyweave schema`: the JSON Schemas of topology files and of event records.

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print the schema of event records instead
    #[arg(long)]
    pub events: bool,
}

/// Prints the schema.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let schema = if args.events { crate::record::event_schema() } else { crate::topology::schema() };
    super::print(&format!("{schema:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}
