//! Personalities by the names that nmap gives.
//!
//! nmap's database of reference fingerprints says what thousands of systems answer
//! to its OS detection. It is read at run time, from where nmap installed it, and
//! nothing of it is part of this crate; here is what can be done with its text:
//!
//! * [`Db`] reads it and finds names ([`db`](self), `search`),
//! * `expr` says which values an expression of it accepts,
//! * [`personality`] chooses, for a name, values that the host shall show
//!   (`choose`, `synth`, `show`; `isn` for sequence numbers, `options` for TCP's, `crc` for
//!   the data of RSTs), and derives how it behaves otherwise (`derive`),
//! * [`observe`] predicts what nmap would see, which [`Db::score`] compares; [`differences`] compares what it did see.
//!
//! Tests, attributes and how they are scored are those of nmap's documentation,
//! "Remote OS Detection" (<https://nmap.org/book/osdetect.html>); where nmap 7.93
//! does otherwise, `expr` says so.
//!
//! Nothing here reads files or clocks; chance comes from a seed.

mod choose;
mod compare;
mod crc;
mod db;
mod derive;
pub mod expr;
mod isn;
mod observe;
mod options;
mod schema;
mod search;
mod show;
mod synth;
#[cfg(test)]
mod tests;
mod usual;

pub use choose::{Choice, NoSuch, of_record, personality};
pub use compare::differences;
pub use db::{Complaint, Db, Record, Score, Unusable};
pub use observe::{Observation, observe};
