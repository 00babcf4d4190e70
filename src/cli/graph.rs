//! `honeyweave graph`: draws a topology.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::topology;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    #[command(flatten)]
    os_db: super::OsDb,
    /// The language to draw in
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What a drawing is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// Mermaid, as GitHub and GitLab render it
    #[default]
    Mermaid,
    /// DOT, for Graphviz
    Dot,
    /// JSON
    Json,
}

/// Prints the drawing.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let plan = topology::open(&args.topology, &args.os_db.options())?.plan;
    let text = match args.format {
        Format::Mermaid => topology::mermaid(&plan),
        Format::Dot => topology::dot(&plan),
        Format::Json => format!("{:#}\n", topology::graph_json(&plan)),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
