//! `honeyweave __switch`: the entry point of the switch process.

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr};

use crate::control::{self, SwitchConfig, SwitchEnds, switch};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name of the honeynet, for lists of processes
    pub name: String,
}

/// Runs the switch.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    super::log::start();
    let config: SwitchConfig = control::inherited_config().into_diagnostic()?;
    let ends = SwitchEnds::inherited(config.threads).into_diagnostic()?;
    switch::run(config, ends).into_diagnostic().wrap_err("the switch")?;
    Ok(ExitCode::SUCCESS)
}
