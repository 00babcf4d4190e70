//! What recording costs. Rows go to target/recording.json; the exit code is 1 if a figure is not what was asked for.
//!
//! `cargo bench --bench recording -- [PART...]`; the parts are `capture`, `copy`, `export` and `programs`. Without any, all of them, and the rows
//! of the benchmarks of SSH and TLS in the middle are there, too, as these have left them.

// What is measured is the real time that real work takes.
#![allow(clippy::disallowed_methods)]

mod capture;
mod copy;
mod export;
// The parts of the integration tests that make namespaces and bring honeynets up.
#[path = "../../tests/it/honeynet.rs"]
mod honeynet;
#[path = "../../tests/it/lab.rs"]
mod lab;
#[path = "../../tests/it/net.rs"]
mod net;
mod programs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

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
    /// Whether `higher` or `lower` is better.
    pub better: &'static str,
}

/// A part and what measures it.
type Part = (&'static str, fn() -> Vec<Row>);

// `capture` comes last, as it moves temporary directories into memory.
const PARTS: [Part; 4] = [
    ("programs", programs::measure),
    ("copy", copy::measure),
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
    let missed = |row: &Value| match (row["asked"].as_f64(), row["measured"].as_f64()) {
        (Some(asked), Some(measured)) if row["better"] == "higher" => measured < asked,
        (Some(asked), Some(measured)) => measured > asked,
        _ => false,
    };
    for row in &rows {
        let asked = row["asked"].as_f64().map_or(String::new(), |asked| format!("  (asked: {asked})"));
        let mark = if missed(row) { "  MISSED" } else { "" };
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let measured = row["measured"].as_f64().unwrap_or_default();
        println!("{:64} {measured:>12.2} {}{asked}{mark}", text("what"), text("unit"));
    }
    let path = target().join("recording.json");
    let written = std::fs::create_dir_all(target())
        .and_then(|()| std::fs::write(&path, serde_json::to_string_pretty(&rows).expect("rows are JSON") + "\n"));
    if let Err(error) = written {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if rows.iter().any(missed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Where cargo puts what it makes.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

/// The rows that another benchmark has left.
fn of_another(name: &str) -> Vec<Value> {
    let path = target().join(format!("{name}.json"));
    let read = std::fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.unwrap_or_else(|error| {
        eprintln!("SKIPPED: the rows of {name} are not among these, {}: {error}", path.display());
        Vec::new()
    })
}
