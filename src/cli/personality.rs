//! `honeyweave personality`: which operating systems hosts may pass for.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::OsDb;
use super::table::render;
use crate::emulate::{Builtin, Fingerprint, IsnPattern, Opt, Personality, TcpAnswer};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Those that are built in, and how many nmap's database has
    Ls(Common),
    /// Names of nmap's database that are like these words
    #[cfg(feature = "nmap-db")]
    Search {
        /// Words of a name, such as `windows 10`
        #[arg(required = true)]
        words: Vec<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
        #[command(flatten)]
        common: Common,
    },
    /// What one answers to each of nmap's probes, and what of it cannot be reproduced
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args, Debug)]
struct Common {
    #[command(flatten)]
    os_db: OsDb,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was asked for.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    match args.command {
        Command::Ls(common) => ls(&common),
        #[cfg(feature = "nmap-db")]
        Command::Search { words, limit, common } => search(&words.join(" "), usize::from(limit), &common),
        Command::Show { name, common } => show(&name, &common),
    }
}

fn ls(common: &Common) -> miette::Result<ExitCode> {
    let rows: Vec<Value> = Builtin::ALL.iter().map(|builtin| summary(builtin.get())).collect();
    if common.json {
        super::print(&format!("{:#}\n", Value::from(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    super::print(&render(&rows))?;
    #[cfg(feature = "nmap-db")]
    match common.os_db.personalities().database() {
        Ok(db) => {
            let records = db.records().len();
            super::remark(&format!(
                "and those of nmap's database, {records} records: honeyweave personality search WORDS"
            ));
        }
        // That there is none is no mistake, unless a certain one was asked for.
        Err(why) => {
            super::remark(&why);
            if common.os_db.os_db.is_some() {
                return Ok(ExitCode::from(super::BAD_INPUT));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(personality: &Personality) -> Value {
    json!({
        "name": personality.name,
        "ttl": personality.ttl,
        "window": personality.syn_ack_window,
        "mss": personality.mss,
        "timestamps_hz": personality.ts_hz,
    })
}

#[cfg(feature = "nmap-db")]
fn search(words: &str, limit: usize, common: &Common) -> miette::Result<ExitCode> {
    let mut personalities = common.os_db.personalities();
    let db = personalities.database().map_err(|why| miette::miette!("{why}"))?;
    let found: Vec<&str> = db.search(words).into_iter().take(limit).map(|(_, name)| name).collect();
    if common.json {
        super::print(&format!("{:#}\n", json!(found)))?;
    } else {
        super::print(&found.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    }
    if found.is_empty() {
        super::remark(&format!("no name of nmap's database is like `{}`", crate::record::escape(words)));
        return Ok(ExitCode::from(super::FAILURE));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, common: &Common) -> miette::Result<ExitCode> {
    let mut personalities = common.os_db.personalities();
    let found = match personalities.find(name) {
        Ok(found) => found.get(),
        Err(unknown) => {
            let why = unknown.why.unwrap_or_else(|| "no personality has this name".to_owned());
            let report = miette::miette!(help = unknown.help, "`{}`: {why}", crate::record::escape(name));
            super::complain(&report);
            return Ok(ExitCode::from(super::BAD_INPUT));
        }
    };
    #[cfg(feature = "nmap-db")]
    let missing = match found.fingerprint.as_ref().and_then(|_| personalities.database().ok()) {
        Some(db) => crate::topology::personalities::choose(db, name).map_or(Vec::new(), |choice| choice.not_reproduced),
        None => Vec::new(),
    };
    #[cfg(not(feature = "nmap-db"))]
    let missing: Vec<String> = Vec::new();
    if common.json {
        let value = json!({ "personality": found, "not_reproduced": missing });
        super::print(&format!("{value:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = render(&[summary(found)]);
    match &found.fingerprint {
        Some(fingerprint) => text.push_str(&format!("\n{}", render(&answers(fingerprint)))),
        None => text.push_str("\nnmap's probes are answered as other packets are\n"),
    }
    for line in &missing {
        text.push_str(&format!("not reproduced: {line}\n"));
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A row for each test.
fn answers(fingerprint: &Fingerprint) -> Vec<Value> {
    let seq = &fingerprint.seq;
    let isn = match seq.isn {
        IsnPattern::Constant(isn) => format!("always {isn:#x}"),
        IsnPattern::Steps(steps) => format!("steps {steps:?}"),
        IsnPattern::Rates { gcd, per_second } => format!("a second {per_second:?}, multiples of {gcd}"),
    };
    let ids = format!("ID {:?}, {:?} (closed), {:?} (ICMP); clock {} Hz", seq.ti, seq.ci, seq.ii, seq.ts_hz);
    let mut rows = vec![json!({ "test": "SEQ", "answer": format!("ISN {isn}; {ids}") })];
    for (number, syn) in fingerprint.syn.iter().flat_map(|syns| syns.iter()).enumerate() {
        let answer = format!("window {:#x}, options {}", syn.window, options(&syn.options));
        rows.push(json!({ "test": format!("OPS {}", number + 1), "answer": answer }));
    }
    let named = ["T2", "T3", "T4"].into_iter().zip(&fingerprint.open);
    let closed = ["T5", "T6", "T7"].into_iter().zip(&fingerprint.closed);
    let first = [("T1", &fingerprint.t1), ("ECN", &fingerprint.ecn)];
    for (test, answer) in first.into_iter().chain(named).chain(closed) {
        rows.push(json!({ "test": test, "answer": answer.as_ref().map_or_else(silence, tcp) }));
    }
    let udp = fingerprint.udp.as_ref().map_or_else(silence, |udp| {
        format!("TTL {}, {} octets, quoting {:?} {:?}", udp.ttl, udp.total, udp.quoted_total, udp.quoted_checksum)
    });
    let echo = fingerprint
        .echo
        .as_ref()
        .map_or_else(silence, |echo| format!("TTL {}, DF {:?}, code {:?}", echo.ttl, echo.df, echo.code));
    rows.push(json!({ "test": "U1", "answer": udp }));
    rows.push(json!({ "test": "IE", "answer": echo }));
    rows
}

fn silence() -> String {
    "none".to_owned()
}

fn tcp(answer: &TcpAnswer) -> String {
    let df = if answer.df { ", DF" } else { "" };
    let TcpAnswer { ttl, window, seq, ack, flags, .. } = answer;
    let options = options(&answer.options);
    format!("flags {flags:#04x}, TTL {ttl}{df}, window {window:#x}, sequence {seq:?}, ACK {ack:?}, options {options}")
}

/// Options in nmap's letters.
fn options(list: &[Opt]) -> String {
    let letters = list.iter().map(|option| match option {
        Opt::Eol => "L".to_owned(),
        Opt::Nop => "N".to_owned(),
        Opt::Mss(mss) => format!("M{mss:X}"),
        Opt::Scale(shift) => format!("W{shift:X}"),
        Opt::Sack => "S".to_owned(),
        Opt::Timestamps { value, echo } => format!("T{}{}", u8::from(*value), u8::from(*echo)),
    });
    let text: String = letters.collect();
    if text.is_empty() { "none".to_owned() } else { text }
}
