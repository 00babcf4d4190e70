//! What recording costs. Rows go to target/recording.json; the exit code is 1 if a figure is not what was asked for, or was not
//! measured.
//!
//! `cargo bench --bench recording -- [PART...]`; the parts are `capture`, `copy`, `export`, `programs` and `whole`. Without any, all of them, and the rows
//! of the benchmarks of SSH and TLS in the middle are there, too, as these have left them: measured with the sources as they are now, or they are
//! rows without a figure. Each row says when it was measured (`at`).

// What is measured is the real time that real work takes.
#![allow(clippy::disallowed_methods)]

mod capture;
#[path = "../ssh_middle/client.rs"]
mod client;
mod copy;
mod export;
#[path = "../containers/figures.rs"]
mod figures;
// The parts of the integration tests that make namespaces and bring honeynets up.
#[path = "../../tests/it/honeynet.rs"]
mod honeynet;
#[path = "../../tests/it/lab.rs"]
mod lab;
#[path = "../../tests/it/net.rs"]
mod net;
mod programs;
mod whole;

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use honeyweave::event::Utc;
use serde_json::{Value, json};

/// A figure.
#[derive(serde::Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure.
    pub measured: f64,
    /// In what.
    pub unit: &'static str,
    /// What was asked for, if anything was.
    pub asked: Option<f64>,
    /// What it shall be as good as, though nobody has asked for it.
    pub aim: Option<f64>,
    /// Whether `higher` or `lower` is better.
    pub better: &'static str,
    /// When it was measured.
    pub at: String,
}

impl Row {
    /// A figure of which nothing is asked.
    pub fn new(what: impl Into<String>, measured: f64, unit: &'static str, better: &'static str) -> Row {
        Row { what: what.into(), measured, unit, asked: None, aim: None, better, at: figures::now() }
    }

    /// It, if so much is asked.
    pub fn asked(self, asked: f64) -> Row {
        Row { asked: Some(asked), ..self }
    }

    /// It, if so much is aimed at.
    pub fn aim(self, aim: f64) -> Row {
        Row { aim: Some(aim), ..self }
    }
}

/// A part and what measures it.
type Part = (&'static str, fn() -> Vec<Row>);

// `capture` comes last, as it moves temporary directories into memory.
const PARTS: [Part; 5] = [
    ("programs", programs::measure),
    ("copy", copy::measure),
    ("whole", whole::measure),
    ("export", export::measure),
    ("capture", capture::measure),
];
/// Other benchmarks, whose rows belong here, too.
const OTHERS: [&str; 2] = ["ssh_middle", "tls_middle"];

fn main() -> ExitCode {
    // cargo adds options of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(word) = wanted.iter().find(|word| PARTS.iter().all(|(name, _)| name != word)) {
        eprintln!("there is no part {word}");
        return ExitCode::from(2);
    }
    let parts = PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| word == name));
    let mut rows: Vec<Value> =
        parts.flat_map(|(_, measure)| measure()).map(|row| serde_json::to_value(row).expect("a row is JSON")).collect();
    if wanted.is_empty() {
        rows.extend(OTHERS.iter().flat_map(|name| of_another(name)));
    }
    figures::report(&rows, "recording", !wanted.is_empty())
}

/// The rows that another benchmark has left, if these are of the program as it is now.
fn of_another(name: &str) -> Vec<Value> {
    let path = figures::target().join(format!("{name}.json"));
    rows_of(&path).unwrap_or_else(|why| {
        eprintln!("the rows of {name} are missing: {}: {why}; run `cargo bench --bench {name}`", path.display());
        vec![json!({
            "what": format!("{name}: {why}"), "measured": null, "unit": "", "asked": null, "aim": null, "better": "higher",
            "at": null,
        })]
    })
}

fn rows_of(path: &Path) -> Result<Vec<Value>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = ["src", "benches", "Cargo.lock"].map(|part| newest(&root.join(part))).into_iter().max();
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
    let newest = newest.map_or(String::new(), |newest| Utc::from(newest).to_string());
    // Times of one form have the order of their digits.
    if let Some(row) = rows.iter().find(|row| row["at"].as_str().is_none_or(|at| *at < *newest)) {
        return Err(format!("{} was measured before the sources were changed", row["what"]));
    }
    if rows.is_empty() { Err("there is none".into()) } else { Ok(rows) }
}

/// When whatever is at or below `path` was changed last.
fn newest(path: &Path) -> SystemTime {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    let own = std::fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    below.fold(own, SystemTime::max)
}
