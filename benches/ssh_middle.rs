//! What recording costs: SSH in the middle against the same server without it, side by side.
//!
//! `cargo bench --bench ssh_middle -- [PART...] [KEY=NUMBER...]`; parts are `scp`, `echo` and `sessions`, without any all of
//! them. Numbers: `megabytes` (1024) of the file that is copied, `samples` (500) of a keystroke, `sessions` (500) at once. Rows go to
//! target/ssh_middle.json; the exit code is 1 if a figure is not what was asked for.

// What is measured is the real time that real processes take.
#![allow(clippy::disallowed_methods)]

#[path = "containers/figures.rs"]
mod figures;
#[path = "../tests/it/ssh_middle/lab.rs"]
mod lab;
#[path = "../tests/it/net.rs"]
mod net;
#[path = "ssh_middle/ssh.rs"]
mod ssh;

use std::collections::BTreeMap;
use std::process::ExitCode;

const PARTS: [&str; 3] = ["scp", "echo", "sessions"];

fn main() -> ExitCode {
    let mut numbers = BTreeMap::from([("megabytes", 1024), ("samples", 500), ("sessions", 500)]);
    let mut parts = Vec::new();
    // cargo adds options of its own.
    for word in std::env::args().skip(1).filter(|word| !word.starts_with("--")) {
        let number = word.split_once('=').and_then(|(key, number)| Some((numbers.get_mut(key)?, number.parse().ok()?)));
        if let Some((number, wanted)) = number {
            *number = wanted;
            continue;
        }
        match word.split_once('=') {
            None if PARTS.contains(&word.as_str()) => parts.push(word),
            // This program, as the clients of another one of it.
            Some(("clients", what)) => return ssh::clients(what),
            _ => {
                eprintln!("no part and no number: `{word}`; there are {PARTS:?} and {numbers:?}");
                return ExitCode::from(2);
            }
        }
    }
    let mut rows = figures::Rows::default();
    for part in PARTS.iter().filter(|part| parts.is_empty() || parts.iter().any(|wanted| wanted == *part)) {
        match *part {
            "scp" => ssh::scp(numbers["megabytes"], &mut rows),
            "echo" => ssh::echo(numbers["samples"], &mut rows),
            _ => ssh::sessions(numbers["sessions"], &mut rows),
        }
    }
    rows.report("ssh_middle")
}
