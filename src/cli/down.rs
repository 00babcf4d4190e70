//! `honeyweave down`: ends a running honeynet.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use miette::{IntoDiagnostic, miette};
use rustix::process::{Pid, Signal};

use super::Target;
use crate::control::place::{self, Live};
use crate::sys::clock;

/// How long it waits for the end, in microseconds: somewhat longer than the supervisor takes at most.
const PATIENCE: i64 = 15_000_000;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
}

/// Ends it and cleans up after it.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let name = args.target.running()?;
    let Some(live) = Live::find(&name).into_diagnostic()? else {
        return Err(miette!(help = "`honeyweave status` shows what runs", "no honeynet named `{name}` runs"));
    };
    // A console that hangs must not keep anybody from ending the honeynet.
    if let Err(error) = ask(&name) {
        tracing::debug!(%error, "the control socket does not answer");
        let pid = live.pid.and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.ok_or_else(|| miette!("`{name}` runs, but its process is unknown: {error}"))?;
        rustix::process::kill_process(pid, Signal::TERM).into_diagnostic()?;
    }
    let deadline = clock::monotonic_micros() + PATIENCE;
    while !live.has_ended().into_diagnostic()? {
        if clock::monotonic_micros() > deadline {
            return Err(miette!("`{name}` has not ended after {} s", PATIENCE / 1_000_000));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    super::print(&format!("ended {name}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn ask(name: &str) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(place::socket_path(name))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"{\"request\":\"down\"}\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.contains("\"ok\"") { Ok(()) } else { Err(std::io::Error::other(answer)) }
}
