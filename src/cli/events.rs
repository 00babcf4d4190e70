//! `honeyweave events`: what happened.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use miette::miette;
use serde_json::Value;

use super::client::Client;
use super::session::{has_records, unreadable};
use super::when::When;
use super::{Target, remark, table};
use crate::control::request::{Answer, MAX_LAST, Request};
use crate::event::SessionId;
use crate::record::sink::details;
use crate::record::{self, Filter, Hits, Record, escape};
use crate::sys::clock;

const PAST: usize = 1000;
const PAST_BEFORE_FOLLOWING: usize = 10;
/// How far back a follower looks for what it missed while the console was started again.
const MISSED: usize = 10_000;
/// Octets that are printed at once.
const AT_ONCE: usize = 64 << 10;

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do; listing if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to list
    #[command(flatten)]
    pub ls: Ls,
}

/// What to do with events.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List what happened, that of a honeynet which ended included
    Ls(Ls),
}

/// How events are listed.
#[derive(clap::Args, Debug)]
pub struct Ls {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Go on with what happens
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON, one event a line (see `honeyweave schema --events`)
    #[arg(long)]
    pub json: bool,
    /// Print at most this many past events, the newest ones [default: 1000; 10 with --follow]
    #[arg(long, value_name = "N", visible_alias = "limit", allow_negative_numbers = true, value_parser = how_many)]
    pub last: Option<usize>,
    /// Only what this session did (16 hexadecimal digits)
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Only these events: an id such as `tcp.probe`, or what it begins with, such as `tcp`
    #[arg(long, value_name = "ID", value_parser = event)]
    pub event: Option<String>,
    /// Only what came from this address
    #[arg(long, value_name = "IP")]
    pub attacker: Option<IpAddr>,
    /// Only what this host was told, or did
    #[arg(long, value_name = "IP")]
    pub host: Option<IpAddr>,
    /// Only what happened then or later: `2026-01-31`, `2026-01-31T12:00` (UTC), or `2h` for two hours ago (s, m, h, d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only what had happened by then
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub until: Option<When>,
}

/// How many of something are to be told.
pub(super) fn how_many(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "a whole number from 0 on, how many of the newest are wanted")
}

fn event(text: &str) -> Result<String, String> {
    let ids = crate::event::EventId::ALL.iter().map(|id| id.as_str());
    let wanted = text.strip_suffix('.').unwrap_or(text);
    let fits = |id: &str| id.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if ids.clone().any(fits) {
        return Ok(wanted.to_owned());
    }
    let near = ids.clone().map(|id| (strsim::jaro_winkler(id, wanted), id)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    if let Some((_, id)) = near.filter(|(likeness, _)| *likeness > 0.8) {
        return Err(format!("there is no such event; did you mean {id}?"));
    }
    let mut families: Vec<&str> = ids.filter_map(|id| id.split('.').next()).collect();
    families.sort_unstable();
    families.dedup();
    Err(format!("there is no such event; they begin with {}", families.join(", ")))
}

/// Lists and follows events.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let ls = match args.command {
        Some(Command::Ls(ls)) => ls,
        None => args.ls,
    };
    let now = clock::realtime_micros();
    let filter = Filter {
        session: ls.session.map(|id| id.to_string()),
        event: ls.event.clone(),
        since: ls.since.map(|when| when.at(now)),
        until: ls.until.map(|when| when.at(now)),
        attacker: ls.attacker,
        host: ls.host,
    };
    if !ls.follow {
        return list(&ls, &filter);
    }
    let mut client = ls.target.connect()?;
    if let Some(id) = ls.session
        && is_unknown(&client.dir()?.join("events"), id)
    {
        remark(&format!("(no record names session {id} yet; `honeyweave session ls` lists those that there are)"));
    }
    let last = ls.last.unwrap_or(PAST_BEFORE_FOLLOWING);
    stream(client, &ls, filter, last)
}

/// What lies on the disk, which is the same while a honeynet runs and when it has ended.
fn list(ls: &Ls, filter: &Filter) -> miette::Result<ExitCode> {
    let dir = ls.target.directory()?.join("events");
    let last = ls.last.unwrap_or(PAST).min(MAX_LAST);
    let (found, has_more) = Hits::find(&dir, filter, last).map_err(|error| unreadable(&dir, &error))?;
    let none = found.is_empty() && !has_more;
    let mut text = String::new();
    for line in found.by_time() {
        text += &row(&line.map_err(|error| unreadable(&dir, &error))?, ls.json);
        if text.len() >= AT_ONCE && !table::put(&std::mem::take(&mut text))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    table::put(&text)?;
    match ls.session.filter(|_| none) {
        Some(id) if is_unknown(&dir, id) => {
            remark(&format!("(no record names session {id}; `honeyweave session ls` lists those that there are)"));
        }
        _ if none && !ls.json => {
            remark(if *filter == Filter::default() { "(nothing has happened yet)" } else { "(no event is like that)" });
        }
        _ if has_more && last > 0 && !ls.json => {
            let help = if last < MAX_LAST { "; --last N prints more" } else { "" };
            remark(&format!("(these are the newest {last}{help})"));
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether no record in the log in `dir` is that session's. Of what cannot be read nobody knows.
fn is_unknown(dir: &Path, id: SessionId) -> bool {
    has_records(dir, id).is_ok_and(|has_records| !has_records)
}

fn stream(mut client: Client, ls: &Ls, filter: Filter, mut last: usize) -> miette::Result<ExitCode> {
    let mut printed = 0;
    loop {
        let request = Request::Events { filter: filter.clone(), last, follow: true };
        let end = ask(&mut client, &request, ls, &mut printed)?;
        if end == End::Told {
            return Ok(ExitCode::SUCCESS);
        }
        // The console may have died and be followed by another: go on where it stopped.
        let target = Target { name: Some(client.name.clone()), state_dir: None };
        match target.connect() {
            Ok(again) => client = again,
            Err(_) => {
                remark(&format!("the honeynet `{}` went away", client.name));
                return Ok(ExitCode::SUCCESS);
            }
        }
        if printed > 0 {
            last = MISSED;
        }
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Told,
    WentAway,
}

/// Prints what the answer says, but for what was `printed` already.
fn ask(client: &mut Client, request: &Request, ls: &Ls, printed: &mut u64) -> miette::Result<End> {
    if client.send(request).is_err() {
        return Ok(End::WentAway);
    }
    // They come in the order of their times, which is not that of their numbers.
    let before = *printed;
    loop {
        match client.next()? {
            Some(Answer::Record(record)) => {
                let seq = record.get("seq").and_then(Value::as_u64).unwrap_or(u64::MAX);
                if seq <= before {
                    continue;
                }
                *printed = seq.max(*printed);
                if !table::put(&row(&record.to_string(), ls.json))? {
                    return Ok(End::Told);
                }
            }
            Some(Answer::Lost(n)) => {
                remark(&format!("({n} events happened faster than they were read; `events ls` has them)"))
            }
            Some(Answer::Ok(_)) => return Ok(End::Told),
            Some(Answer::Error(why)) => return Err(miette!("{}", escape(&why))),
            None => return Ok(End::WentAway),
        }
    }
}

/// One record, with its line feed.
fn row(line: &str, json: bool) -> String {
    if json {
        return format!("{}\n", table::safe_json(line));
    }
    let text = match serde_json::from_str::<Record>(line) {
        Ok(record) => describe(&record),
        // Of a later version: as it is.
        Err(_) => match serde_json::from_str::<Value>(line) {
            Ok(value) => escape(&value.to_string()).into_owned(),
            Err(_) => escape(line).into_owned(),
        },
    };
    format!("{text}\n")
}

/// A record on one line, for people.
pub fn describe(record: &Record) -> String {
    let mut time = record.time.to_string();
    time.truncate(23);
    // As wide as the longest name.
    let mut text = format!("{time}Z  {:<19}", record.event.as_str());
    let mut word = |piece: &str| {
        text.push(' ');
        text.push_str(piece);
    };
    match (&record.src, &record.dst) {
        (Some(src), Some(dst)) => word(&format!("{:<21} -> {:<21}", src, dst)),
        (Some(src), None) => word(&format!("{:<21}", src)),
        (None, Some(dst)) => word(&format!("{:<21}    {:<21}", "", dst)),
        (None, None) => {}
    }
    if let Some(proto) = record.proto {
        word(proto.as_str());
    }
    if let Some(answer) = record.answer {
        word(answer.as_str());
    }
    if let Some(os) = record.scanner_os {
        word(&format!("by {os}"));
    }
    if let Some(node) = &record.node {
        word(&format!("[{}]", escape(node)));
    }
    if let Some(count) = record.count {
        word(&format!("x{count}"));
    }
    if let Some(bytes) = record.bytes_in {
        word(&format!("in={bytes}"));
    }
    if let Some(bytes) = record.bytes_out {
        word(&format!("out={bytes}"));
    }
    if let Some(micros) = record.duration_us {
        word(&super::status::duration(micros));
    }
    // `reason` and `text` come escaped; from a file that someone else wrote they might not.
    if let Some(reason) = &record.reason {
        word(&harmless(reason));
    }
    let details = details(record);
    match (&record.text, &record.data) {
        _ if !details.is_empty() => details.iter().for_each(|(name, value)| word(&format!("{name}={}", shown(value)))),
        (Some(text), _) => word(&format!("\"{}\"", told(text))),
        (None, Some(data)) => word(&format!("({} octets)", record::base64_decode(data).map_or(0, |d| d.len()))),
        (None, None) => {}
    }
    if let Some(session) = record.session {
        word(&format!("session={session}"));
    }
    if let Some(cause) = record.cause {
        word(&format!("cause={cause}"));
    }
    text.trim_end().to_owned()
}

/// A detail as people read it: in quotes only where it would run into what follows.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text)
            if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "\"'=[]".contains(c)) =>
        {
            format!("\"{}\"", told(&text.replace('"', "\\\"")))
        }
        Value::String(text) => told(text),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

/// As much of `text` as there is room for in a line: `--json` has all of it.
fn told(text: &str) -> String {
    table::within(harmless(text), table::LAST)
}

fn harmless(text: &str) -> String {
    text.chars().map(|c| if record::is_harmless(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_is_said_is_longer_than_a_line_can_stand() {
        let long = "u".repeat(1000);
        let object = json!({"user": long, "method": "password", "accepted": false});
        let mut record: Record = serde_json::from_value(json!({
            "v": 1, "seq": 7, "time": "2026-01-31T12:00:00.123456Z", "event": "ssh.login", "text": long,
            "data": record::base64_encode(object.to_string().as_bytes()),
        }))
        .unwrap();
        for _ in 0..2 {
            let line = describe(&record);
            assert!(line.contains("uuu…") && line.chars().count() < 350, "{line}");
            record.data = None;
        }
    }

    #[test]
    fn a_count_that_is_none_is_refused_with_what_is_expected() {
        #[derive(clap::Parser, Debug)]
        struct Line {
            #[command(flatten)]
            ls: Ls,
        }
        for count in ["-1", "x", "1.5", ""] {
            let error = <Line as clap::Parser>::try_parse_from(["events", "--last", count]).unwrap_err();
            assert!(error.to_string().contains("a whole number from 0 on"), "{count}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert_eq!(<Line as clap::Parser>::try_parse_from(["events", "--last", "7"]).unwrap().ls.last, Some(7));
    }

    #[test]
    fn a_record_reads_as_one_line() {
        let line = concat!(
            r#"{"v":1,"seq":7,"time":"2026-01-31T12:00:00.123456Z","event":"tcp.data","session":"0000000000000abc","#,
            r#""node":"office","src":{"ip":"10.0.0.9","port":40000},"dst":{"ip":"10.0.0.1","port":22},"proto":"tcp","#,
            r#""text":"SSH-2.0\\r\\n\u001b","bytes_in":9}"#
        );
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!(
            describe(&record),
            "2026-01-31T12:00:00.123Z  tcp.data            10.0.0.9:40000        -> 10.0.0.1:22           tcp [office] \
             in=9 \"SSH-2.0\\r\\n?\" session=0000000000000abc"
        );
    }

    #[test]
    fn what_was_understood_reads_as_words() {
        let told = |event: &str, data: &str| {
            let line = format!(
                r#"{{"v":1,"seq":7,"time":"2026-01-31T12:00:00.123456Z","event":"{event}","data":"{}","text":"the same"}}"#,
                record::base64_encode(data.as_bytes())
            );
            describe(&serde_json::from_str(&line).unwrap()).split_off(46)
        };
        let login = r#"{"user":"root","method":"password","password":"let me \"in\"","accepted":true}"#;
        assert_eq!(told("ssh.login", login), r#"user=root method=password password="let me \"in\"" accepted=true"#);
        let exec = r#"{"path":"/bin/sh","args":["sh","-c","id; ls"],"uid":0,"name":""}"#;
        assert_eq!(told("container.exec", exec), r#"path=/bin/sh args=[sh -c "id; ls"] uid=0 name="""#);
        // What an attacker sends has no say in how it is read.
        assert_eq!(told("tcp.data", login), "\"the same\"");
        assert_eq!(told("ssh.login", &login[..20]), "\"the same\"", "what was cut is shown as it is");
        let hostile = told("shell.command", r#"{"command":"\u001b[2J\u202e session=0"}"#);
        assert!(hostile.chars().all(record::is_harmless), "{hostile}");
        assert!(hostile.ends_with(" session=0\""), "it stays within its quotes: {hostile}");
        let widest = crate::event::EventId::ALL.iter().map(|id| id.as_str().len()).max();
        assert_eq!(widest, Some(19), "the column of names is as wide as the longest");
    }

    #[test]
    fn arguments_are_checked() {
        assert_eq!(event("tcp."), Ok("tcp".into()));
        assert_eq!(event("tcp.probe"), Ok("tcp.probe".into()));
        assert!(event("tcp.prob").unwrap_err().contains("did you mean tcp.probe?"));
        assert_eq!("8F3A00C1D2E4B596".parse(), Ok(SessionId(0x8f3a_00c1_d2e4_b596)));
        assert!(["8f3a", "+f3a00c1d2e4b596", ""].iter().all(|text| text.parse::<SessionId>().is_err()));
    }
}
