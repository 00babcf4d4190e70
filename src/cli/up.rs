//! `honeyweave up`: brings a topology up.

use std::process::ExitCode;

use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    /// Put the topology's uplink on this interface
    #[arg(long, value_name = "IFACE", env = "HONEYWEAVE_UPLINK")]
    pub uplink: Option<String>,
    /// Where its state lies [default: /var/lib/honeyweave/NAME]
    #[arg(long, value_name = "DIR", env = "HONEYWEAVE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Brings it up and waits for its end.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    Err(miette::miette!("`up` is not built yet"))
}
