//! What recording costs. Rows go to target/recording.json; the exit code is 1 if a figure is not what was asked for.
//!
//! `cargo bench --bench recording -- [PART...]`; the part is `export`. Without any, all of them.

// What is measured is the real time that real work takes.
#![allow(clippy::disallowed_methods)]

mod export;

use std::path::Path;
use std::process::ExitCode;

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

const PARTS: [Part; 1] = [("export", export::measure)];

fn main() -> ExitCode {
    // cargo adds options of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(word) = wanted.iter().find(|word| PARTS.iter().all(|(name, _)| name != word)) {
        eprintln!("there is no part {word}");
        return ExitCode::from(2);
    }
    let parts = PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| word == name));
    let rows: Vec<Row> = parts.flat_map(|(_, measure)| measure()).collect();
    let missed = |row: &Row| match (row.asked, row.better) {
        (Some(asked), "higher") => row.measured < asked,
        (Some(asked), _) => row.measured > asked,
        (None, _) => false,
    };
    for row in &rows {
        let asked = row.asked.map_or(String::new(), |asked| format!("  (asked: {asked})"));
        let mark = if missed(row) { "  MISSED" } else { "" };
        println!("{:60} {:>12.1} {}{asked}{mark}", row.what, row.measured, row.unit);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/recording.json");
    let written = std::fs::create_dir_all(path.parent().expect("it has one"))
        .and_then(|()| std::fs::write(&path, serde_json::to_string_pretty(&rows).expect("rows are JSON") + "\n"));
    if let Err(error) = written {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if rows.iter().any(missed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
