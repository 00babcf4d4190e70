//! `honeyweave graph`: draws a topology.

use std::process::ExitCode;

use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
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
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`graph` is not built yet"))
}
