//! What recording costs: SSH in the middle against the same server without it, side by side.
//!
//! `cargo bench --bench ssh_middle -- [PART...] [KEY=NUMBER...]`; parts are `scp`, `echo`, `sessions`, `guessers` and `memory`,
//! without any all of them. Numbers: `megabytes` (1024) of what is copied or moved, `samples` (500) of a keystroke, `sessions` (500) at once,
//! `guesses` (10,000) of each program that guesses passwords. Rows go to target/ssh_middle.json; the exit code is 1 if a figure is
//! not what was asked for.

// What is measured is the real time that real processes take.
#![allow(clippy::disallowed_methods)]

#[path = "ssh_middle/client.rs"]
mod client;
#[path = "containers/figures.rs"]
mod figures;
#[path = "../tests/it/ssh_middle/lab.rs"]
mod lab;
#[path = "../tests/it/net.rs"]
mod net;
#[path = "../tests/it/long_session/peers.rs"]
mod peers;
#[path = "ssh_middle/ssh.rs"]
mod ssh;
#[path = "ssh_middle/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::process::ExitCode;

const PARTS: [&str; 5] = ["memory", "scp", "echo", "sessions", "guessers"];

fn main() -> ExitCode {
    let mut numbers = BTreeMap::from([("megabytes", 1024), ("samples", 500), ("sessions", 500), ("guesses", 10_000)]);
    let parts = match words::parts(&PARTS, &mut numbers, ssh::clients) {
        Ok(parts) => parts,
        Err(code) => return code,
    };
    let mut rows = figures::Rows::default();
    let is_part = parts.len() < PARTS.len();
    for part in parts {
        match part {
            "scp" => ssh::scp(numbers["megabytes"], &mut rows),
            "echo" => ssh::echo(numbers["samples"], &mut rows),
            "memory" => ssh::memory(numbers["megabytes"], &mut rows),
            "guessers" => ssh::guessers(numbers["guesses"], &mut rows),
            _ => ssh::sessions(numbers["sessions"], &mut rows),
        }
    }
    rows.report("ssh_middle", is_part)
}
