//! What processes say for people, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts writing what is logged; `HONEYWEAVE_LOG` says how much (`info` by default).
pub fn start() {
    let filter = EnvFilter::try_from_env("HONEYWEAVE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second call (in a test) keeps the first one's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colors)
        .with_target(false)
        .try_init();
}
