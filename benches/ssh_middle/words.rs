//! What a benchmark of a relay in the middle is asked for, and what processes have used.

use std::collections::BTreeMap;
use std::process::ExitCode;

/// The parts that the command line names, all of them if it names none; it may set `numbers`, too. `clients=...` has this program
/// be the clients of another one of it.
pub fn parts(
    all: &[&'static str],
    numbers: &mut BTreeMap<&str, u64>,
    clients: fn(&str) -> ExitCode,
) -> Result<Vec<&'static str>, ExitCode> {
    let mut parts = Vec::new();
    // cargo adds options of its own.
    for word in std::env::args().skip(1).filter(|word| !word.starts_with("--")) {
        let number = word.split_once('=').and_then(|(key, number)| Some((numbers.get_mut(key)?, number.parse().ok()?)));
        if let Some((number, wanted)) = number {
            *number = wanted;
            continue;
        }
        match (word.split_once('='), all.iter().find(|part| **part == word)) {
            (None, Some(part)) => parts.push(*part),
            (Some(("clients", what)), _) => return Err(clients(what)),
            _ => {
                eprintln!("no part and no number: `{word}`; there are {all:?} and {numbers:?}");
                return Err(ExitCode::from(2));
            }
        }
    }
    Ok(if parts.is_empty() { all.to_vec() } else { parts })
}

/// Seconds of processors that a process and its children that have ended have used.
pub fn cpu_of(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain anything; utime, stime, cutime and cstime are fields 14 to 17.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(4);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
