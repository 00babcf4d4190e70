//! `honeyweave session`: what one attacker did on one host, as a whole.
//!
//! It reads what lies on the disk, so it tells of a honeynet that runs what it tells of one that has ended. Whatever an
//! attacker sent is shown with its controls written out.

mod connections;
mod diff;
mod drawing;
mod ends;
mod export;
mod follow;
mod gaps;
mod inside;
mod key;
mod late;
mod left_out;
mod password;
mod ports;
mod reasons;
mod replay;
mod show;
mod tcp;
mod typed;
mod verify;

use std::cmp::Reverse;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::miette;
use serde::Serialize;
use serde_json::{Value, json};

use super::events::how_many;
use super::when::When;
use super::{Target, show::print_rows};
use crate::control::place;
use crate::event::SessionId;
use crate::record::{self, Filter, MOST_SESSIONS, Port, Session, Wanted};
use crate::sys::clock;

const LAST: usize = 1000;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with sessions.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List sessions, the one that was heard of last at the end
    Ls(Ls),
    /// Tell everything that is known of one
    Show {
        /// Which session
        #[command(flatten)]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what it has changed in its containers: what was added, changed and deleted
    Diff(diff::Diff),
    /// Play what was shown to the attacker, as far as that only draws
    Replay(replay::Replay),
    /// Watch what is shown to the attacker
    Follow(follow::Follow),
    /// Write everything that is known of one into one signed file
    Export(export::Export),
    /// Check such a file; exit code 1 if anything is not as it says
    Verify(verify::Verify),
    /// Print the public key that others check such files with
    Key(key::OfKey),
}

/// How sessions are listed.
#[derive(clap::Args, Debug)]
pub struct Ls {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Print JSON: one array of sessions
    #[arg(long)]
    pub json: bool,
    /// Only those of this attacker
    #[arg(long, value_name = "IP")]
    pub attacker: Option<IpAddr>,
    /// Only those with this host
    #[arg(long, value_name = "IP")]
    pub host: Option<IpAddr>,
    /// Only those that were not over before: `2026-01-31`, `2026-01-31T12:00` (UTC), or `2h` for two hours ago (s, m, h, d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only those that had begun by then
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// List at most this many
    #[arg(long, value_name = "N", visible_alias = "limit", default_value_t = LAST, allow_negative_numbers = true, value_parser = how_many)]
    pub last: usize,
}

/// Which session.
#[derive(clap::Args, Debug)]
pub struct Which {
    /// Its number: 16 hexadecimal digits, as `session ls` and events tell it
    #[arg(value_name = "ID")]
    pub id: SessionId,
    /// Of which honeynet
    #[command(flatten)]
    pub target: Target,
}

/// Lists, shows, replays, exports and checks sessions.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    match args.command {
        Command::Ls(ls) => list(&ls),
        Command::Show { which, json } => {
            let dir = directory(&which.target)?;
            show::run(&dir, which.id, json)
        }
        Command::Diff(args) => diff::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Follow(args) => follow::run(&args),
        Command::Export(args) => export::export(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Key(args) => key::tell(&args),
    }
}

/// The directory of the honeynet that `target` means, whether it runs or has ended.
fn directory(target: &Target) -> miette::Result<PathBuf> {
    target.directory()
}

fn events(dir: &Path) -> PathBuf {
    dir.join("events")
}

/// Whether the log in `log` knows session `id`.
pub(super) fn has_records(log: &Path, id: SessionId) -> std::io::Result<bool> {
    let filter = Filter { session: Some(id.to_string()), ..Filter::default() };
    Ok(!record::search(log, &filter, 1)?.is_empty())
}

pub(super) fn unreadable(dir: &Path, error: &std::io::Error) -> miette::Report {
    let help = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "what was recorded is for root's eyes: use sudo",
        _ => {
            "it is a honeynet's, which makes it and writes to it as long as it runs: see that nothing else has its place"
        }
    };
    miette!(help = help, "cannot read {}: {error}", dir.display())
}

fn list(ls: &Ls) -> miette::Result<ExitCode> {
    let dir = directory(&ls.target)?;
    let log = events(&dir);
    let now = clock::realtime_micros();
    let (since, until) = (ls.since.map(|when| when.at(now)), ls.until.map(|when| when.at(now)));
    let wanted = Wanted { attacker: ls.attacker, host: ls.host, since, until };
    let found = record::sessions(&log, &wanted, ls.last).map_err(|error| unreadable(&log, &error))?;
    let is_up = is_up(&dir);
    let row = |session| {
        if ls.json {
            serde_json::to_value(Stated { state: state(session, is_up), session })
        } else {
            Ok(brief(session, is_up))
        }
    };
    let rows = found.sessions.iter().map(row).collect::<Result<Vec<Value>, _>>().map_err(|error| miette!("{error}"))?;
    let code = print_rows(&rows, ls.json)?;
    if found.left_out > 0 {
        let help = if ls.last < MOST_SESSIONS { "; --last N lists more" } else { "" };
        super::remark(&format!("({} sessions of longer ago are not listed{help})", found.left_out));
    }
    Ok(code)
}

/// Whether the honeynet in `dir` is up. Whoever cannot tell takes it for that.
fn is_up(dir: &Path) -> bool {
    place::is_lived_in(dir).unwrap_or(true)
}

/// Whether a session goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It goes on.
    Open,
    /// It is over, by the records.
    Over,
    /// It goes on no longer, as there is no honeynet any more, and no record tells of its end.
    Broken,
}

/// A session and whether it goes on.
#[derive(Serialize)]
struct Stated<'a> {
    state: State,
    #[serde(flatten)]
    session: &'a Session,
}

fn state(session: &Session, is_up: bool) -> State {
    match (session.ended, is_up) {
        (true, _) => State::Over,
        (false, true) => State::Open,
        (false, false) => State::Broken,
    }
}

/// A session in a row.
fn brief(session: &Session, is_up: bool) -> Value {
    const PORTS: usize = 5;
    // What was done most with comes first: a scan may have begun anywhere.
    let mut sorted: Vec<&Port> = session.ports.iter().collect();
    sorted.sort_by_key(|port| (port.answer != Some("open"), Reverse((port.connections, port.probes)), port.port));
    let mut ports: Vec<String> =
        sorted.iter().take(PORTS).map(|port| format!("{}/{}", port.port, port.proto.as_str())).collect();
    if session.ports.len() > PORTS || session.more_ports > 0 {
        ports.push("...".into());
    }
    let mut since = session.since.to_string();
    since.truncate(19);
    json!({
        "session": session.session.to_string(),
        "state": state(session, is_up),
        "since": since,
        "lasted": super::status::duration(lasted(session)),
        "attacker": session.attacker,
        "host": session.host,
        "node": session.node,
        "ports": ports,
        "in": session.bytes_in,
        "out": session.bytes_out,
        "records": session.events.total(),
        "containers": session.containers.len(),
    })
}

fn lasted(session: &Session) -> u64 {
    session.until.micros().saturating_sub(session.since.micros()).unsigned_abs()
}
