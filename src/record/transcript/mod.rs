//! What was typed and shown in a terminal, with its times: asciicast, version 2
//! (<https://docs.asciinema.org/manual/asciicast/v2/>).
//!
//! Only the cast is stored. The text that it leaves and the commands that were typed are read from it, and so is what
//! a replay may show of it: everything in it is an attacker's.
//!
//! ```text
//! {"version":2,"width":80,"height":24,"timestamp":1769860800,"env":{"TERM":"xterm"}}
//! [0.250000,"o","$ "]
//! [1.500000,"i","i"]
//! [61.000000,"r","132x43"]
//! ```

mod commands;
mod harmless;
mod reader;
mod script;
mod text;
mod utf8;
mod writer;

pub use commands::{Commands, Typed};
pub use harmless::Harmless;
pub use reader::{Cast, CastError, CastHeader, Moment, What};
pub use text::PlainText;
pub use utf8::Utf8Pieces;
pub use writer::{Missing, Terminal, Transcript, TranscriptLimits, TranscriptStats};

/// What the name of a cast ends in.
pub const CAST: &str = ".cast";

#[cfg(test)]
mod tests;
