//! Rows of what was measured, what was asked for, and what is aimed at.

// What one benchmark does without, another one needs.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use honeyweave::event::Utc;
use serde_json::{Value, json};

/// What was measured so far.
#[derive(Default)]
pub struct Rows(Vec<Value>);

/// That percentile of `times`: the smallest that so many are not above.
pub fn percentile(times: &[Duration], percent: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() as f64 * percent / 100.0).ceil() as usize;
    times.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// Where cargo puts what it makes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

/// Now, as rows say it.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Utc::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).to_string()
}

/// Whether the measured figure of `row` is what its member `wanted` says; nothing if that says nothing. What is no number
/// (a division by nothing, which JSON has no form for) is not what anybody wants.
pub fn met(row: &Value, wanted: &str) -> Option<bool> {
    let wanted = row[wanted].as_f64()?;
    let is_lower_better = row["better"] == "lower";
    Some(row["measured"].as_f64().is_some_and(
        |measured| {
            if is_lower_better { measured <= wanted } else { measured >= wanted }
        },
    ))
}

/// Whether a row makes the benchmark fail: it is not what was asked for, or was not measured. An aim that is missed does not.
pub fn failed(row: &Value) -> bool {
    met(row, "asked") == Some(false) || !row["measured"].is_number()
}

/// The rows that were written to `path` before, if there are any.
fn read(path: &Path) -> Vec<Value> {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Prints `rows` as a table, writes them to target/`name`.json, and says whether all are what was asked for. Where they are not
/// all rows that there are, since only parts were measured (`is_part`), others stay in that file: each row says when it was measured.
pub fn report(rows: &[Value], name: &str, is_part: bool) -> ExitCode {
    let path = target().join(format!("{name}.json"));
    let mut all = if is_part { read(&path) } else { Vec::new() };
    for row in rows {
        match all.iter_mut().find(|there| there["what"] == row["what"]) {
            Some(there) => there.clone_from(row),
            None => all.push(row.clone()),
        }
    }
    let text = serde_json::to_string_pretty(&all).expect("rows are JSON");
    let written = std::fs::create_dir_all(target()).and_then(|()| std::fs::write(&path, text + "\n"));
    if let Err(error) = written {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("\n{:72} {:>12} {:10} {:>18}  met", "", "measured", "", "asked");
    for row in rows {
        let sign = if row["better"] == "lower" { "<=" } else { ">=" };
        let (asked, aim) = (row["asked"].as_f64(), row["aim"].as_f64());
        let wanted = match (asked, aim) {
            (Some(asked), _) => format!("{sign} {asked}"),
            (None, Some(aim)) => format!("{sign} {aim} (aim)"),
            (None, None) => String::new(),
        };
        let met = match met(row, if asked.is_some() { "asked" } else { "aim" }) {
            _ if row["measured"].is_null() => "NOT MEASURED",
            None => "",
            Some(true) => "yes",
            Some(false) if asked.is_some() => "NO",
            Some(false) => "no",
        };
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let measured = row["measured"].as_f64().map_or("-".to_owned(), |measured| format!("{measured:.3}"));
        println!("{:72} {measured:>12} {:10} {wanted:>18}  {met}", text("what"), text("unit"));
    }
    println!("\n{}", path.display());
    if rows.iter().any(failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Rows {
    /// One figure; the better `lower` or higher.
    pub fn put(&mut self, what: String, measured: f64, unit: &str, asked: Option<f64>, lower: bool) {
        self.row(what, measured, unit, (asked, None), lower);
    }

    /// One figure of which nothing is asked, but that shall be as good as `aim`.
    pub fn aim(&mut self, what: String, measured: f64, unit: &str, aim: f64, lower: bool) {
        self.row(what, measured, unit, (None, Some(aim)), lower);
    }

    fn row(&mut self, what: String, measured: f64, unit: &str, (asked, aim): (Option<f64>, Option<f64>), lower: bool) {
        let measured = (measured * 1000.0).round() / 1000.0;
        eprintln!("{what}: {measured} {unit}");
        let better = if lower { "lower" } else { "higher" };
        self.0.push(json!({
            "what": what, "measured": measured, "unit": unit, "asked": asked, "aim": aim, "better": better, "at": now(),
        }));
    }

    /// Median and 99th percentile of `times` in ms, of which the median was asked for.
    pub fn times(&mut self, what: &str, times: Vec<Duration>, asked: Option<f64>) {
        for (name, percent, asked) in [("median", 50.0, asked), ("p99", 99.0, None)] {
            let value = percentile(&times, percent).as_secs_f64() * 1e3;
            self.put(format!("{what}, {name} of {}", times.len()), value, "ms", asked, true);
        }
    }

    /// The same as [`report`].
    pub fn report(&self, name: &str, is_part: bool) -> ExitCode {
        report(&self.0, name, is_part)
    }
}
