//! `honeyweave session replay`: what an attacker saw, as far as that only draws.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use miette::miette;

use super::super::{Target, remark, table};
use super::directory;
use crate::event::SessionId;
use crate::record::transcript::{CAST, Cast, Commands, Harmless, Moment, PlainText, What};
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
    let mut is_first = true;
    for path in paths {
        let mut cast = open(&path)?;
        let goes_on = if args.commands {
            let typed = commands(&mut cast, &path)?;
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

fn replay(cast: &mut Open, path: &Path, args: &Replay) -> miette::Result<bool> {
    let (from, idle) = ((args.from * 1e6) as i64, (args.max_idle * 1e6) as i64);
    let mut harmless = Harmless::default();
    let (mut last, mut due) = (from, clock::monotonic_micros());
    while let Some(moment) = next_of(cast, path)? {
        let What::Output(output) = moment.what else { continue };
        // What was before the beginning is drawn at once, so that the screen is what it was.
        let waited = (moment.at - last).clamp(0, idle);
        last = last.max(moment.at);
        due += (waited as f64 / args.speed) as i64;
        std::thread::sleep(Duration::from_micros((due - clock::monotonic_micros()).max(0).unsigned_abs()));
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

/// The commands in a cast, one a line.
pub fn commands(cast: &mut Open, path: &Path) -> miette::Result<String> {
    let mut text = String::new();
    if let Some(command) = &cast.header().command {
        text += &format!("{:>10.3}  {}\n", 0.0, escape(command));
    }
    let mut commands = Commands::default();
    while let Some(moment) = next_of(cast, path)? {
        if let What::Input(input) = moment.what {
            commands.push(moment.at, &input);
        }
    }
    let (typed, more) = commands.finish();
    text.extend(typed.iter().map(|typed| format!("{:>10.3}  {}\n", typed.at as f64 / 1e6, typed.command)));
    if more > 0 {
        text += &format!("({more} more)\n");
    }
    Ok(text)
}
