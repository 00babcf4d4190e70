//! Personalities made of nmap's database of operating systems, which is read from
//! the user's machine and never shipped.
//!
//! * `db` takes the text apart, `schema` names tests and attributes, `expr` compares values
//! * `observe`: from a fingerprint to what nmap would print; `build`: the way back
//! * `compare`: what nmap printed against the record of a name
//! * `isn`: sequence numbers; `options`: TCP options in letters; `crc`: data of RSTs
//! * `choose`: which of the values that fit a record fit no other; `derive`: what follows for everybody else
//!
//! nmap's documentation, "Remote OS Detection", describes all of it.

mod build;
mod choose;
mod compare;
mod crc;
mod db;
mod derive;
mod expr;
mod isn;
mod observe;
mod options;
mod schema;
#[cfg(test)]
mod tests;

pub use choose::{Choice, NoSuch, personality};
pub use compare::differences;
pub use db::{Complaint, Db, Record, Unusable};

/// The beginning of a text that somebody else wrote, for a message.
fn short(text: &str) -> String {
    let clean = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    clean.collect()
}
