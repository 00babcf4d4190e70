//! `honeyweave session replay`: what an attacker saw, as far as that only draws.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use miette::miette;
use serde_json::json;

use super::super::{FAILURE, Target, evidence, remark, table};
use super::drawing::{Drawing, Place};
use super::typed::{self, Inputs};
use super::{connections, directory, gaps};
use crate::event::SessionId;
use crate::record::transcript::{CAST, Cast, Moment, What};
use crate::record::{belongings, escape, open_regular};
use crate::sys::clock;

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
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, allow_negative_numbers = true, value_parser = speed)]
    pub speed: f64,
    /// Never wait longer than this
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, allow_negative_numbers = true, value_parser = seconds)]
    pub max_idle: f64,
    /// Begin so many seconds after the beginning of each cast
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, allow_negative_numbers = true, value_parser = seconds)]
    pub from: f64,
    /// Print the text that the output leaves, at once
    #[arg(long, conflicts_with_all = ["speed", "max_idle", "from"])]
    pub text: bool,
    /// Print the commands that were typed, one a line, with their seconds
    #[arg(long, conflicts_with_all = ["speed", "max_idle", "from", "text"])]
    pub commands: bool,
    /// Play it as on a terminal even if the output is none: otherwise that gets the text, at once
    #[arg(long, conflicts_with_all = ["text", "commands"])]
    pub terminal: bool,
    /// Print JSON: the transcripts, each with its commands
    // What conflicts with `commands` has clap forget that those are required, so it is named here, too.
    #[arg(long, requires = "commands", conflicts_with_all = ["speed", "max_idle", "from", "text", "terminal"])]
    pub json: bool,
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
    let (session, paths) = paths(args)?;
    if args.commands {
        return tell_commands(args, session, &paths);
    }
    let place = if args.text { Place::Text } else { Place::of_output(args.terminal) };
    let rest = |micros: i64| std::thread::sleep(Duration::from_micros(micros.max(0).unsigned_abs()));
    let from = (args.from * 1e6) as i64;
    let (mut failed, mut is_played, mut early) = (false, false, Vec::new());
    for path in &paths {
        let Some(mut cast) = open_of(path, &paths)? else {
            failed = true;
            continue;
        };
        if from > 0 {
            if let Some(end) = end_before(from, &mut cast, path)? {
                early.push((name(path), end));
                continue;
            }
            cast = open(path)?;
        }
        is_played = true;
        let goes_on = match place {
            Place::Text => text(&mut cast, path, from)?,
            Place::Screen { .. } => play(&mut cast, path, (place, args), (clock::monotonic_micros, rest), table::put)?,
        };
        tell_skipped(&cast, path);
        if !goes_on {
            break;
        }
    }
    tell_lost(args, session)?;
    if !is_played && !early.is_empty() {
        return Err(all_early(&early, args.from));
    }
    for (name, end) in early {
        remark(&format!("({name} is not played: it ends at {} s)", seconds_of(end)));
    }
    Ok(if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS })
}

/// The session that is meant, if one is, and the transcripts.
fn paths(args: &Replay) -> miette::Result<(Option<SessionId>, Vec<PathBuf>)> {
    let path = Path::new(&args.what);
    if path.symlink_metadata().is_ok() {
        return Ok((None, vec![path.to_owned()]));
    }
    if let Ok(id) = args.what.parse::<SessionId>() {
        let dir = directory(&args.target)?;
        let paths = casts(&dir, id)?;
        return if paths.is_empty() { Err(no_transcript(&dir, id)?) } else { Ok((Some(id), paths)) };
    }
    let what = escape(&args.what);
    Err(if args.what.contains('/') || args.what.ends_with(CAST) {
        miette!(help = "`honeyweave session replay ID` plays the transcripts of a session", "there is no file {what}")
    } else {
        miette!(
            help = "`honeyweave session ls` lists the sessions",
            "`{what}` is neither a file nor the number of a session, which is 16 hexadecimal digits"
        )
    })
}

/// Why there is nothing to play of session `id` of the honeynet in `dir`.
///
/// # Errors
/// If it is not known why.
pub fn no_transcript(dir: &Path, id: SessionId) -> miette::Result<miette::Report> {
    let log = super::events(dir);
    if !super::has_records(&log, id).map_err(|error| super::unreadable(&log, &error))? {
        return Ok(super::show::unknown(id));
    }
    let help = format!(
        "transcripts are of shells and commands, by SSH or Telnet with somebody in the middle; `honeyweave session show {id}` tells what \
         there is of it"
    );
    Ok(miette!(help = help, "there is no transcript of session {id}"))
}

fn name(path: &Path) -> String {
    escape(&path.file_name().unwrap_or_default().to_string_lossy()).into_owned()
}

fn seconds_of(micros: i64) -> f64 {
    (micros as f64 / 1e3).round() / 1e3
}

/// That all transcripts end before `from`, in seconds.
fn all_early(early: &[(String, i64)], from: f64) -> miette::Report {
    let help = "--from takes the seconds since the beginning of each transcript";
    let last = early.iter().max_by_key(|(_, end)| *end).map_or(0.0, |(_, end)| seconds_of(*end));
    match early {
        [(name, _)] => miette!(help = help, "{name} ends at {last} s: there is nothing from {from} s on"),
        all => {
            miette!(help = help, "all {} transcripts end before {from} s, the longest of them at {last} s", all.len())
        }
    }
}

/// When `cast` ends, in microseconds, if that is before `from`.
fn end_before(from: i64, cast: &mut Open, path: &Path) -> miette::Result<Option<i64>> {
    let mut end = 0;
    while end < from {
        match next_of(cast, path)? {
            Some(moment) => end = moment.at,
            None => return Ok(Some(end)),
        }
    }
    Ok(None)
}

fn tell_skipped(cast: &Open, path: &Path) {
    if cast.skipped() > 0 {
        remark(&format!("({} lines of {} are no events)", cast.skipped(), escape(&path.to_string_lossy())));
    }
}

/// Says how much of a session's connections is not recorded, transcripts that could not begin among them.
fn tell_lost(args: &Replay, session: Option<SessionId>) -> miette::Result<()> {
    let Some(id) = session else { return Ok(()) };
    let dir = directory(&args.target)?;
    let (files, _) = belongings(&dir, id).map_err(|error| super::unreadable(&dir, &error))?;
    let (lines, octets) = connections::of(&files).lost();
    if let Some(lost) = gaps::of_connection(lines, octets) {
        remark(&format!("({lost} of its connections; `honeyweave session show {id}` tells of which)"));
    }
    Ok(())
}

/// Prints what was typed, and in a session in which transcript: who names one knows.
fn tell_commands(args: &Replay, session: Option<SessionId>, paths: &[PathBuf]) -> miette::Result<ExitCode> {
    let are_named = session.is_some();
    let (mut all, mut is_empty, mut failed, mut inputs) = (Vec::new(), true, false, Inputs::default());
    for path in paths {
        let Some(mut cast) = open_of(path, paths)? else {
            failed = true;
            continue;
        };
        let name = name(path);
        if args.json {
            let told = typed::typed(&mut cast, path, &mut inputs)?;
            let commands = told.typed.iter().map(|typed| json!({"at": seconds_of(typed.at), "command": typed.command}));
            let read = told.read.iter().map(|(at, read)| {
                json!({"at": seconds_of(*at), "octets": read.size, "sha256": read.sha256, "cut": read.cut})
            });
            all.push(json!({
                "transcript": name,
                "commands": commands.collect::<Vec<_>>(),
                "no_text": told.no_text,
                "more": told.more,
                "gaps": told.gaps.iter().map(|(at, gap)| json!({"at": seconds_of(*at), "what": gap})).collect::<Vec<_>>(),
                "inputs": read.collect::<Vec<_>>(),
            }));
            tell_skipped(&cast, path);
            continue;
        }
        let text = typed::commands(&mut cast, path, &mut inputs)?;
        tell_skipped(&cast, path);
        if text.is_empty() {
            continue;
        }
        let gap = if std::mem::take(&mut is_empty) { "" } else { "\n" };
        let head =
            if are_named { format!("{gap}{}\n", table::bold(&format!("commands in {name}"))) } else { String::new() };
        if !table::put(&format!("{head}{text}"))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if args.json {
        table::put(&evidence::pretty(&all)?)?;
    } else if is_empty {
        remark("(nothing was typed)");
    }
    tell_lost(args, session)?;
    Ok(if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS })
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

/// Opens one of several casts, the others of which may be whole if it is not: then that is said only.
fn open_of(path: &Path, all: &[PathBuf]) -> miette::Result<Option<Open>> {
    match open(path) {
        Err(error) if all.len() > 1 => {
            remark(&format!("({error})"));
            Ok(None)
        }
        opened => opened.map(Some),
    }
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

/// Shows a cast to the end, or as long as `put` says that it is seen. What time it is and how it passes, in microseconds, is
/// the caller's.
fn play(
    cast: &mut Open,
    path: &Path,
    (place, args): (Place, &Replay),
    (now, sleep): (impl Fn() -> i64, impl Fn(i64)),
    put: impl Fn(&str) -> miette::Result<bool>,
) -> miette::Result<bool> {
    let mut drawing = Drawing::new(place);
    let mut pace = Pace::new(args, now());
    while let Some(moment) = next_of(cast, path)? {
        let drawn = match moment.what {
            What::Output(output) => drawing.push(&output),
            What::Marker(text) => drawing.note(&gaps::of_marker(&text)),
            _ => continue,
        };
        sleep(pace.due(moment.at) - now());
        if !put(&drawn)? {
            return Ok(false);
        }
    }
    put(place.reset())
}

fn text(cast: &mut Open, path: &Path, from: i64) -> miette::Result<bool> {
    let mut drawing = Drawing::new(Place::Text);
    while let Some(moment) = next_of(cast, path)? {
        let drawn = match moment.what {
            _ if moment.at < from => continue,
            What::Output(output) => drawing.push(&output),
            What::Marker(text) => drawing.note(&gaps::of_marker(&text)),
            _ => continue,
        };
        if !table::put(&drawn)? {
            return Ok(false);
        }
    }
    table::put(&drawing.finish())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

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

    /// When a file's lines are shown by a clock that stands still but for sleep, and for a tenth of a second that each takes.
    #[test]
    fn whoever_shows_it_waits_as_long_as_is_left() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = "{\"version\": 2, \"width\": 80, \"height\": 24}\n[0.5, \"o\", \"a\"]\n[0.7, \"i\", \"x\"]\n[0.75, \"o\", \"b\"]\n\
            [2.5, \"o\", \"c\"]\n[60, \"o\", \"d\"]\n";
        std::fs::write(file.path(), lines).unwrap();
        let shown = |options: &str, most: usize| {
            let args =
                Line::try_parse_from(["replay", "a"].into_iter().chain(options.split_whitespace())).unwrap().replay;
            let (time, shown) = (Cell::new(7_000_000), RefCell::new(Vec::new()));
            let sleep = |micros: i64| time.set(time.get() + micros.max(0));
            let put = |text: &str| {
                shown.borrow_mut().push((text.to_owned(), (time.get() - 7_000_000) / 1000));
                time.set(time.get() + 100_000);
                Ok(shown.borrow().len() < most)
            };
            let mut cast = open(file.path()).unwrap();
            let goes_on =
                play(&mut cast, file.path(), (Place::Screen { colors: true }, &args), (|| time.get(), sleep), put)
                    .unwrap();
            (shown.into_inner(), goes_on)
        };
        let all = |at: [i64; 5]| {
            let texts = ["a", "b", "c", "d", Place::Screen { colors: true }.reset()].map(str::to_owned);
            (texts.into_iter().zip(at).collect::<Vec<_>>(), true)
        };
        assert_eq!(shown("", 99), all([500, 750, 2500, 4500, 4600]));
        assert_eq!(shown("--max-idle 60", 99), all([500, 750, 2500, 60_000, 60_100]));
        assert_eq!(shown("--speed 2 --max-idle 60", 99), all([250, 375, 1250, 30_000, 30_100]));
        assert_eq!(shown("--speed 0.1 --max-idle 60", 99), all([5000, 7500, 25_000, 600_000, 600_100]));
        // As fast as it can be shown.
        assert_eq!(shown("--speed 10000", 99), all([0, 100, 200, 300, 400]));
        assert_eq!(shown("--from 1 --max-idle 60", 99), all([0, 100, 1500, 59_000, 59_100]));
        let (seen, goes_on) = shown("", 2);
        assert_eq!((seen.len(), goes_on), (2, false), "nobody looks any more");
    }

    #[test]
    fn json_is_of_commands_only() {
        for options in ["", "--text", "--terminal", "--speed 2", "--from 1", "--max-idle 1", "--text --commands"] {
            let words = ["replay", "a.cast", "--json"].into_iter().chain(options.split_whitespace());
            let error = Line::try_parse_from(words).err();
            assert_eq!(error.map(|error| error.exit_code()), Some(2), "{options}");
        }
        assert!(Line::try_parse_from(["replay", "a.cast", "--json", "--commands"]).is_ok());
    }

    #[test]
    fn what_is_no_speed_and_no_time_is_refused() {
        for options in ["--speed 0", "--speed -1", "--speed NaN", "--max-idle -1", "--from inf", "--from x"] {
            let words = ["replay", "a.cast"].into_iter().chain(options.split_whitespace());
            let error = Line::try_parse_from(words).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("a number "), "{options}: {error}");
        }
    }
}
