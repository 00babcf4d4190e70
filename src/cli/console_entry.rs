//! `honeyweave __console`: the entry point of the console process.

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr};

use crate::control::{self, CONSOLE_UID, ConsoleConfig, ConsoleEnds, console};
use crate::sys::privileges;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name of the honeynet, for lists of processes
    pub name: String,
}

/// Runs the console.
pub fn run(_args: Args) -> miette::Result<ExitCode> {
    super::log::start();
    let config: ConsoleConfig = control::inherited_config().into_diagnostic()?;
    let ends = ConsoleEnds::inherited(config.threads, &config.inside).into_diagnostic()?;
    privileges::drop_to(CONSOLE_UID, CONSOLE_UID)
        .into_diagnostic()
        .wrap_err("the console cannot give up its rights")?;
    #[cfg(feature = "web")]
    let serve: Option<console::ServeMetrics> = Some(crate::web::serve);
    #[cfg(not(feature = "web"))]
    let serve: Option<console::ServeMetrics> = None;
    console::run(config, ends, serve).into_diagnostic().wrap_err("the console")?;
    Ok(ExitCode::SUCCESS)
}
