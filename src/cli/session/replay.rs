//! `honeyweave session replay`: what an attacker saw, as far as that only draws.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use miette::miette;

use super::super::{Target, remark, table};
use super::directory;
use super::typed::{Inputs, commands};
use crate::event::SessionId;
use crate::record::transcript::{CAST, Cast, Harmless, Moment, PlainText, What};
use crate::record::{belongings, escape, open_regular};
use crate::sys::clock;

/// What a replay leaves a terminal with: no color, and a line of its own.
pub const RESET: &str = "\u{1b}[0m\r\n";

/// How a transcript is replayed.
#[derive(clap::Args, Debug)]
pub struct Replay {
    /// A session, or a cast
    #[arg(value_name = "ID|FILE")]
    pub what: String,
    /// Of which honeynet
    #[command(flatten)]
    pub target: Target,
    /// So many times as fast as it was
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Never wait longer than this
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    pub max_idle: f64,
    /// Begin so many seconds after the beginning of each cast
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub from: f64,
    /// Print the text that the output leaves, at once
    #[arg(long, conflicts_with_all = ["speed", "max_idle", "from"])]
    pub text: bool,
    /// Print the commands that were typed, one a line, with their seconds
    #[arg(long, conflicts_with_all = ["speed", "max_idle", "from", "text"])]
    pub commands: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (0.01..=10_000.0).contains(factor));
    factor.ok_or_else(|| "a number between 0.01 and 10000".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=1e9).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds".to_owned())
}

/// A cast that is read.
pub type Open = Cast<BufReader<File>>;

/// Replays transcripts.
pub fn run(args: &Replay) -> miette::Result<ExitCode> {
    let session = args.what.parse::<SessionId>().ok().filter(|_| !Path::new(&args.what).exists());
    let paths = match session {
        Some(id) => {
            let paths = casts(&directory(&args.target)?, id)?;
            if paths.is_empty() {
                return Err(miette!("there is no transcript of session {id}"));
            }
            paths
        }
        None => vec![PathBuf::from(&args.what)],
    };
    let (mut is_first, mut inputs) = (true, Inputs::default());
    for path in paths {
        let mut cast = open(&path)?;
        let goes_on = if args.commands {
            let typed = commands(&mut cast, &path, &mut inputs)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Who names one knows which it is.
            let head = session.filter(|_| !typed.is_empty()).map_or_else(String::new, |_| {
                let gap = if std::mem::take(&mut is_first) { "" } else { "\n" };
                format!("{gap}{}\n", table::bold(&format!("commands in {}", escape(&name))))
            });
            table::put(&format!("{head}{typed}"))?
        } else if args.text {
            text(&mut cast, &path)?
        } else {
            replay(&mut cast, &path, args)?
        };
        if cast.skipped() > 0 {
            remark(&format!("({} lines of {} are no events)", cast.skipped(), escape(&path.to_string_lossy())));
        }
        if !goes_on {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The transcripts of a session, in their order.
pub fn casts(dir: &Path, id: SessionId) -> miette::Result<Vec<PathBuf>> {
    let (files, _) = belongings(dir, id).map_err(|error| super::unreadable(dir, &error))?;
    Ok(files.into_iter().filter(|file| file.name.ends_with(CAST)).map(|file| file.path).collect())
}

/// Opens a cast.
pub fn open(path: &Path) -> miette::Result<Open> {
    let name = || escape(&path.to_string_lossy()).into_owned();
    let file = open_regular(path).map_err(|error| miette!("cannot open {}: {error}", name()))?;
    Cast::open(BufReader::new(file)).map_err(|error| miette!("{}: {}", name(), escape(&error.to_string())))
}

/// What a cast tells next.
pub fn next_of(cast: &mut Open, path: &Path) -> miette::Result<Option<Moment>> {
    cast.next_moment().map_err(|error| miette!("cannot read {}: {error}", path.display()))
}

/// When what a cast tells is shown, in microseconds.
struct Pace {
    speed: f64,
    max_idle: i64,
    last: i64,
    due: i64,
}

impl Pace {
    /// As `args` has it, of a cast whose replay begins at `now`.
    fn new(args: &Replay, now: i64) -> Pace {
        Pace { speed: args.speed, max_idle: (args.max_idle * 1e6) as i64, last: (args.from * 1e6) as i64, due: now }
    }

    /// When that is shown which came at `at` in the cast. What was before the beginning is drawn at once, so that the
    /// screen is what it was.
    fn due(&mut self, at: i64) -> i64 {
        let waited = (at - self.last).clamp(0, self.max_idle);
        self.last = self.last.max(at);
        self.due += (waited as f64 / self.speed) as i64;
        self.due
    }
}

fn replay(cast: &mut Open, path: &Path, args: &Replay) -> miette::Result<bool> {
    let mut harmless = Harmless::default();
    let mut pace = Pace::new(args, clock::monotonic_micros());
    while let Some(moment) = next_of(cast, path)? {
        let What::Output(output) = moment.what else { continue };
        let left = pace.due(moment.at) - clock::monotonic_micros();
        std::thread::sleep(Duration::from_micros(left.max(0).unsigned_abs()));
        if !table::put(&harmless.push(&output))? {
            return Ok(false);
        }
    }
    table::put(RESET)
}

fn text(cast: &mut Open, path: &Path) -> miette::Result<bool> {
    let mut text = PlainText::default();
    while let Some(moment) = next_of(cast, path)? {
        if let What::Output(output) = moment.what
            && !table::put(&text.push(&output))?
        {
            return Ok(false);
        }
    }
    table::put(&text.finish())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        replay: Replay,
    }

    /// When what came at 0, 0.5, 3, 3.25 and 13 seconds is shown, in seconds since the replay began.
    fn shown(options: &str) -> Vec<f64> {
        const NOW: i64 = 7_000_000;
        let words = ["replay", "a.cast"].into_iter().chain(options.split_whitespace());
        let mut pace = Pace::new(&Line::try_parse_from(words).unwrap().replay, NOW);
        let at = [0, 500_000, 3_000_000, 3_250_000, 13_000_000];
        at.map(|at| (pace.due(at) - NOW) as f64 / 1e6).into()
    }

    #[test]
    fn a_cast_is_shown_when_the_options_say() {
        // Two seconds of silence are enough, unless somebody says otherwise.
        assert_eq!(shown(""), [0.0, 0.5, 2.5, 2.75, 4.75]);
        assert_eq!(shown("--max-idle 60"), [0.0, 0.5, 3.0, 3.25, 13.0]);
        assert_eq!(shown("--max-idle 0"), [0.0; 5]);
        // Silence is cut first, and then all of it is faster.
        assert_eq!(shown("--speed 2"), [0.0, 0.25, 1.25, 1.375, 2.375]);
        assert_eq!(shown("--speed 0.5 --max-idle 60"), [0.0, 1.0, 6.0, 6.5, 26.0]);
        // What was before is there at once, and what comes is waited for from there.
        assert_eq!(shown("--from 1 --max-idle 60"), [0.0, 0.0, 2.0, 2.25, 12.0]);
        assert_eq!(shown("--from 3.1"), [0.0, 0.0, 0.0, 0.15, 2.15]);
        assert_eq!(shown("--from 100"), [0.0; 5]);
    }

    #[test]
    fn what_is_no_speed_and_no_time_is_refused() {
        for options in ["--speed 0", "--speed -1", "--speed NaN", "--max-idle -1", "--from inf", "--from x"] {
            let words = ["replay", "a.cast"].into_iter().chain(options.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{options}");
        }
    }
}
