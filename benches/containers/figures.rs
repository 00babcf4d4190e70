//! Rows of what was measured and what was asked for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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

impl Rows {
    /// One figure; the better `lower` or higher.
    pub fn put(&mut self, what: String, measured: f64, unit: &str, asked: Option<f64>, lower: bool) {
        let measured = (measured * 1000.0).round() / 1000.0;
        eprintln!("{what}: {measured} {unit}");
        let better = if lower { "lower" } else { "higher" };
        self.0.push(json!({ "what": what, "measured": measured, "unit": unit, "asked": asked, "better": better }));
    }

    /// Median and 99th percentile of `times` in ms, of which the median was asked for.
    pub fn times(&mut self, what: &str, times: Vec<Duration>, asked: Option<f64>) {
        for (name, percent, asked) in [("median", 50.0, asked), ("p99", 99.0, None)] {
            let value = percentile(&times, percent).as_secs_f64() * 1e3;
            self.put(format!("{what}, {name} of {}", times.len()), value, "ms", asked, true);
        }
    }

    /// Prints the table and writes it to target/`name`.json; fails if a figure is not what was asked for.
    pub fn report(&self, name: &str) -> ExitCode {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
        let path = target.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&self.0).expect("rows are JSON");
        std::fs::write(&path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("\n{:64} {:>12} {:10} {:>10}  met", "", "measured", "", "asked");
        let mut met_all = true;
        for row in &self.0 {
            let number = |key: &str| row[key].as_f64();
            let lower = row["better"] == "lower";
            let met = number("asked").zip(number("measured")).map(|(asked, measured)| match lower {
                true => measured <= asked,
                false => measured >= asked,
            });
            met_all &= met != Some(false);
            let sign = if lower { "<=" } else { ">=" };
            let asked = number("asked").map_or(String::new(), |asked| format!("{sign} {asked}"));
            let met = met.map_or("", |met| if met { "yes" } else { "NO" });
            let (what, unit) = (row["what"].as_str().unwrap_or(""), row["unit"].as_str().unwrap_or(""));
            println!("{what:64} {:>12} {unit:10} {asked:>10}  {met}", number("measured").unwrap_or(0.0));
        }
        println!("\n{}", path.display());
        if met_all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
