//! How far a build has come: a spinner for a person, plain lines for a log.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Says how far a build has come, on standard error.
pub enum Progress {
    /// A line that changes, on a terminal.
    Spinner(ProgressBar),
    /// A line for each step.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// For whoever reads standard error.
    pub fn stderr() -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress::Spinner(bar)
    }

    /// A step of the build of `image` begins.
    pub fn step(&self, image: &str, what: &str) {
        match self {
            Progress::Spinner(bar) => {
                bar.set_prefix(image.to_owned());
                bar.set_message(what.to_owned());
            }
            // Nobody may be listening; a build does not fail for that.
            Progress::Lines => drop(writeln!(std::io::stderr(), "{image}: {what}")),
            Progress::Silent => {}
        }
    }

    /// A tool said something.
    pub fn detail(&self, line: &str) {
        if let Progress::Spinner(bar) = self {
            bar.set_message(line.chars().filter(|c| !c.is_control()).take(160).collect::<String>());
        }
    }

    /// The build of `image` is over.
    pub fn done(&self, image: &str, what: &str) {
        match self {
            Progress::Spinner(bar) => bar.suspend(|| drop(writeln!(std::io::stderr(), "{image}: {what}"))),
            other => other.step(image, what),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Progress::Spinner(bar) = self {
            bar.finish_and_clear();
        }
    }
}
