//! `honeyweave image`: the images that containers start from.

use std::process::ExitCode;

use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with images.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Build the images of a topology that are not built yet
    Build {
        /// The topology
        topology: PathBuf,
        /// Only this image
        image: Option<String>,
        /// Build anew what is there already
        #[arg(long)]
        force: bool,
    },
    /// List the images of this machine
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an image
    Rm {
        /// Its name
        image: String,
    },
}

/// Builds, lists and removes images.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`image` is not built yet"))
}
