//! How far a run has come, on a terminal, and the interrupt that ends it early.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use miette::IntoDiagnostic;

use crate::bench::{Phase, Progress, Watch};
use crate::cli::status::count;
use crate::sys::signal::Signals;

/// Looks on for whoever sits at the terminal.
pub struct Onlooker {
    signals: Signals,
    bar: Option<ProgressBar>,
    asked_to_end: u32,
}

impl Onlooker {
    /// Takes the interrupt over, which would end the program without figures.
    pub fn new() -> miette::Result<Onlooker> {
        let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM]).into_diagnostic()?;
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{spinner} {wide_msg}")) {
            bar.set_style(style);
        }
        Ok(Onlooker { signals, bar, asked_to_end: 0 })
    }
}

impl Watch for Onlooker {
    fn look(&mut self, progress: &Progress) -> u32 {
        while self.signals.next().is_some() {
            self.asked_to_end += 1;
        }
        if let Some(bar) = &self.bar {
            bar.set_message(describe(progress));
            bar.tick();
        }
        self.asked_to_end
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(progress: &Progress) -> String {
    let what = match progress.phase {
        Phase::Learning => "asking for MACs",
        Phase::Sending => "sending",
        Phase::Waiting => "waiting for late answers",
        Phase::Receiving => "receiving",
    };
    let frames = count(progress.frames);
    let seconds = progress.elapsed.as_secs_f64();
    if progress.phase == Phase::Receiving {
        return format!("{what}: {frames} frames, {seconds:.1} s");
    }
    let goal = if progress.goal == u64::MAX { String::new() } else { format!(" of {}", count(progress.goal)) };
    format!("{what}: {frames}{goal} sent, {} answered, {seconds:.1} s", count(progress.answered))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn says_how_far_it_has_come() {
        let elapsed = Duration::from_millis(1540);
        let mut progress = Progress { phase: Phase::Sending, frames: 12_345, answered: 9, goal: 100_000, elapsed };
        assert_eq!(describe(&progress), "sending: 12,345 of 100,000 sent, 9 answered, 1.5 s");
        progress.goal = u64::MAX;
        assert_eq!(describe(&progress), "sending: 12,345 sent, 9 answered, 1.5 s");
        progress.phase = Phase::Receiving;
        assert_eq!(describe(&progress), "receiving: 12,345 frames, 1.5 s");
    }
}
