//! What happened, told to disk: events as NDJSON, frames as pcapng, and the
//! figures that the console keeps of them.

mod ascii;
pub(crate) mod base64;
mod belongings;
pub mod bundle;
mod capture;
mod cause;
mod contacts;
mod details;
mod difference;
pub mod eve;
mod fetch;
mod file;
pub(crate) mod flow;
mod hits;
pub mod inside;
mod inside_words;
mod log;
pub mod mounts;
mod pcap;
pub mod privacy;
mod retention;
mod schema;
mod search;
mod session;
pub mod sink;
#[cfg(test)]
mod small_disk;
mod summary;
pub mod syslog;
mod tail;
pub mod tape;
mod top;
pub mod transcript;
mod unrecorded;

pub use crate::event::Utc;
pub use base64::{decode as base64_decode, encode as base64_encode};
pub use belongings::{Belonging, SESSIONS, belongings};
pub use capture::{CaptureLimits, CaptureSet, CaptureSource, CaptureStats, Deleted, Edit};
pub use cause::Causes;
pub use contacts::{Contact, Contacts};
pub use details::placed_path;
pub use difference::{By, Caused, Difference, InContainer, Window, difference};
pub use eve::Rule;
pub use file::{Appender, open_regular};
pub use hits::Hits;
pub use log::{EventLog, LogError, LogLimits, LogStats};
pub use pcap::{Direction, SNAPLEN};
pub use retention::{Retention, Trust};
pub use schema::{Answer, End, Proto, Record, VERSION, escape, event_schema, is_harmless, safe_json};
pub use search::{Filter, LogFile, by_time, log_files, search};
pub use session::{
    Alert, Counts, Found, Life, MOST_SESSIONS, Over, Port, Session, Wanted, Why, add_untold, session, sessions,
};
pub use summary::{Attacker, ContainerState, Containers, PortCount, Summary, SummaryView};
pub use tail::Tail;
pub use top::Top;
pub use unrecorded::Unrecorded;
