//! A traffic generator: asks every address of a prefix something and measures
//! the answers, so that people can size the machine that gives them.
//!
//! It is open-loop: probes leave by the schedule whether or not answers come, so
//! a slow machine cannot slow its own measurement down. One thread sends and
//! receives in turn over a [`Netdev`](crate::netdev::Netdev). A frame is a template with a few fields
//! changed; what an answer belongs to follows from its own
//! fields and not from a table: an echo reply carries the probe's number, the
//! acknowledgment number of a SYN/ACK or RST is made of it, an ARP reply names its
//! target, and a connection's source and port are computed from it. All that is
//! kept of a probe is the time at which it left, in a ring.
//!
//! Nothing is sent to a network that is not on the interface's own link unless
//! the user names the router: a prefix with a typing error in it does not end up
//! at the default gateway.

mod arp;
mod drive;
mod echo;
mod error;
mod frames;
mod handshake;
mod interface;
mod neighbors;
mod options;
mod pace;
mod receive;
mod report;
mod run;
mod station;
mod syn;
mod tally;
mod targets;
mod tcp;
mod template;
#[cfg(test)]
mod tests;

pub use drive::{Phase, Progress, Watch};
pub use error::BenchError;
pub use options::{FramesTo, Load, Probes, Question, Route};
pub use report::{
    Answers, FramesReport, Generator, Handshakes, Latency, ProbeReport, ReceiveReport, Sending, SynAnswers,
};
pub use run::{frames, probe, receive};
