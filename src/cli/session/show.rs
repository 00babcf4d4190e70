//! `honeyweave session show`: everything about one session.

use std::path::Path;
use std::process::ExitCode;

use miette::miette;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{evidence, status, table};
use super::left_out::{self, How, More};
use super::{State, connections, events, inside, is_up, lasted, ports, replay, state, tcp, typed, unreadable};
use crate::event::{SessionId, Utc};
use crate::record::transcript::CAST;
use crate::record::{self, Alert, Belonging, Life, Over, Rule, Session, Unrecorded, Why, escape};
use crate::sys::clock;

/// What is told of a session.
#[derive(Serialize)]
struct Told {
    /// Whether it goes on.
    state: State,
    #[serde(flatten)]
    session: Session,
    /// What lies in its directory.
    files: Vec<Belonging>,
    /// Entries of that directory that are not listed.
    other_entries: u64,
    /// What the tapes of its connections tell.
    connections: connections::Connections,
    /// Those of which events tell, and no tape.
    unrecorded: Unrecorded,
    /// Earlier ones of these.
    more_unrecorded: u64,
    /// Its TCP connections.
    tcp: tcp::Links,
    /// Tapes that are not read, as there are too many, or that cannot be.
    unread_tapes: u64,
    /// TCP connections before those that are told.
    more_tcp: u64,
    /// What was seen inside its containers.
    inside: inside::Inside,
    /// What was typed, by cast, in lines.
    #[serde(skip)]
    commands: Vec<(String, String)>,
}

/// Casts of which the commands are told.
const CASTS: usize = 20;
/// Octets of such a cast; of a longer one `replay --commands` tells them.
const LONGEST: u64 = 16 << 20;

/// Shows session `id` of the honeynet in `dir`.
pub fn run(dir: &Path, id: SessionId, json: bool) -> miette::Result<ExitCode> {
    let told = gather(dir, id, json)?;
    table::put(&if json { evidence::pretty(&told)? } else { tell(&told) })?;
    Ok(ExitCode::SUCCESS)
}

/// What there is to tell; without what was typed if that is for a program.
fn gather(dir: &Path, id: SessionId, json: bool) -> miette::Result<Told> {
    let log = events(dir);
    let now = Utc::from_micros(clock::realtime_micros());
    let (files, other_entries) = record::belongings(dir, id).map_err(|error| unreadable(dir, &error))?;
    let connections = connections::of(&files);
    let mut unrecorded = connections.beside(now);
    let (mut inside, mut tcp) = (inside::Inside::default(), tcp::Links::default());
    let session = record::session(&log, id, |_, record| {
        if record.session == Some(id) {
            inside.add(record);
            tcp.add(record);
            unrecorded.add(record);
        }
        Ok(())
    });
    let session = session.map_err(|error| unreadable(&log, &error))?;
    let mut session = session.ok_or_else(|| unknown(id))?;
    session.more += record::add_untold(dir, &mut session).map_err(|error| unreadable(dir, &error))?;
    unrecorded.finish();
    // Those that cannot be read are listed as files, and `replay` says why.
    let mut inputs = typed::Inputs::default();
    let commands = |file: &Belonging| {
        let told = typed::commands(&mut replay::open(&file.path).ok()?, &file.path, &mut inputs).ok()?;
        Some((file.name.clone(), told))
    };
    let commands = if json {
        vec![]
    } else {
        files
            .iter()
            .filter(|file| file.name.ends_with(CAST) && file.octets <= LONGEST)
            .take(CASTS)
            .filter_map(commands)
            .collect()
    };
    let (unread_tapes, more_tcp) = (connections.unread(), tcp.more());
    let state = state(&session, is_up(dir));
    let more_unrecorded = unrecorded.more();
    Ok(Told {
        state,
        session,
        files,
        other_entries,
        connections,
        unrecorded,
        more_unrecorded,
        tcp,
        unread_tapes,
        more_tcp,
        inside,
        commands,
    })
}

/// That the log does not know session `id`.
pub fn unknown(id: SessionId) -> miette::Report {
    miette!(
        help = "`honeyweave session ls` lists those of which there are records",
        "there is no record of session {id}"
    )
}

/// All of it for people.
fn tell(told: &Told) -> String {
    let session = &told.session;
    let mut text = facts(session, told.state);
    let mut part = |name: &str, body: String| {
        if !body.is_empty() {
            text += &format!("\n{}\n{body}", table::bold(name));
        }
    };
    let (ports, rest) = ports::told(&session.ports);
    part("ports", rows(ports.into_iter()) + &rest);
    if session.more_ports > 0 {
        part("more ports", format!("{} records\n", session.more_ports));
    }
    part("TCP connections", rows(told.tcp.rows(session, told.state)));
    part("events", rows(session.events.iter().map(|(id, count)| json!({"event": id.as_str(), "records": count}))));
    let verdict = |(what, count): (&String, &u64)| json!({"verdict": what, "count": count});
    part("what the container wanted of others", rows(session.verdicts.iter().map(verdict)));
    let alert = |alert: &Alert| {
        let Rule { sid, signature, category, severity, .. } = &alert.rule;
        json!({
            "since": alert.since, "count": alert.count, "severity": severity,
            "sid": sid, "signature": signature, "category": category,
        })
    };
    part("what sensors saw", rows(session.alerts.iter().map(alert)));
    part("containers", rows(session.containers.iter().map(life)));
    part("evidence", session.archives.iter().map(|name| format!("{}\n", escape(name))).collect());
    for (name, rows) in told.connections.tables(told.state) {
        part(name, if rows.is_empty() { String::new() } else { table::render_escaped(&rows) });
    }
    part("connections that are not recorded, by what events tell", rows(told.unrecorded.rows()));
    for (name, rows) in told.inside.tables() {
        part(name, if rows.is_empty() { String::new() } else { table::render_escaped(&rows) });
    }
    let file = |file: &Belonging| json!({"file": file.name, "octets": file.octets});
    part("files", rows(told.files.iter().map(file)));
    for (name, commands) in &told.commands {
        part(&format!("commands in {name}"), commands.clone());
    }
    part("what followed from it", session.caused.iter().map(|id| format!("{id}\n")).collect());
    let id = session.session;
    if text.contains('…') {
        text += &format!("\n(what ends with … is longer: `honeyweave session show {id} --json` has more of it)\n");
    }
    let mut more = vec![
        More("containers, archives, consequences and the like", session.more, How::Log("container")),
        More("connections that are not recorded", told.more_unrecorded, How::Log("ssh")),
        More("TCP connections of before", told.tcp.more(), How::Log("tcp")),
        More("files, or what is none or has a harmful name", told.other_entries, How::Files),
    ];
    more.extend(told.connections.more());
    more.extend(told.inside.more());
    let more = left_out::told(&more, id);
    if !more.is_empty() {
        text += &format!("\n{more}");
    }
    text
}

fn facts(session: &Session, state: State) -> String {
    let known = |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| escape(&value).into_owned());
    let mut attacker = known(session.attacker.map(|ip| ip.to_string()));
    attacker.extend(session.attacker_mac.map(|mac| format!(" {mac}")));
    attacker.extend(session.attacker_os.map(|os| format!(" ({os})")));
    let mut host = known(session.host.map(|ip| ip.to_string()));
    host.extend(session.node.iter().map(|node| format!(" [{}]", escape(node))));
    let ended = match session.over {
        Some(Over { since, why: Why::HoneynetEnded }) => format!("the honeynet ended at {since}"),
        Some(Over { since, why: Why::SwitchEnded }) => format!("the switch ended by {since}"),
        None if session.ended => "ended".to_owned(),
        None if state == State::Open => "goes on".to_owned(),
        None => "no end on record; its honeynet is not up".to_owned(),
    };
    [
        ("session", session.session.to_string()),
        ("attacker", attacker),
        ("host", host),
        ("since", session.since.to_string()),
        ("until", format!("{} ({}, {ended})", session.until, status::duration(lasted(session)))),
        ("cause", known(session.cause.map(|id| id.to_string()))),
        ("data", format!("{} octets in, {} out", status::count(session.bytes_in), status::count(session.bytes_out))),
    ]
    .iter()
    .map(|(name, value)| format!("{} {value}\n", table::bold(&format!("{name:9}"))))
    .collect()
}

fn life(life: &Life) -> Value {
    json!({
        "since": life.since,
        "host": life.host,
        "answered_after": life.started_us.map(status::duration),
        "until": life.until,
        "why": life.why,
    })
}

fn rows(rows: impl Iterator<Item = Value>) -> String {
    let rows: Vec<Value> = rows.collect();
    if rows.is_empty() { String::new() } else { table::render_bounded(&rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_how_much_they_are_not() {
        let (dir, id) = (tempfile::tempdir().unwrap(), SessionId(0xabc));
        let files = dir.path().join(format!("sessions/{id}"));
        for dir in [&dir.path().join("events"), &files] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let record = |number: u32| {
            format!(
                r#"{{"v":1,"seq":{number},"time":"2026-01-31T12:00:00.000000Z","session":"{id}","event":"tcp.open","src":{{"ip":"192.0.2.9","port":{}}},"dst":{{"ip":"10.0.0.1","port":22}},"proto":"tcp"}}"#,
                20_000 + number
            )
        };
        let log: Vec<String> = (1..=205).map(record).collect();
        std::fs::write(dir.path().join("events/events.ndjson"), log.join("\n") + "\n").unwrap();
        for number in 0..1003 {
            std::fs::write(files.join(format!("20260131T120000Z-ssh-{number:016x}.ndjson")), "{\"at\":0}\n").unwrap();
        }
        let told = serde_json::to_value(gather(dir.path(), id, true).unwrap()).unwrap();
        assert_eq!((told["tcp"].as_array().unwrap().len(), &told["more_tcp"]), (200, &json!(5)));
        assert_eq!((told["connections"].as_array().unwrap().len(), &told["unread_tapes"]), (1000, &json!(3)));
        let shown = tell(&gather(dir.path(), id, false).unwrap());
        for part in [
            format!("(5 more: TCP connections of before; `honeyweave events ls --json --session {id} --event tcp "),
            format!("(800 more: connections; `honeyweave session show {id} --json` has them)\n"),
            format!("(3 more: tapes of connections that were not read, or cannot be; see STATE/NAME/sessions/{id}, "),
        ] {
            assert!(shown.contains(&part), "{part} in {shown}");
        }
    }

    #[test]
    fn what_servers_say_of_log_ins_is_no_fact_and_no_text_is_too_wide() {
        let (dir, id) = (tempfile::tempdir().unwrap(), SessionId(0xabc));
        std::fs::create_dir_all(dir.path().join("events")).unwrap();
        let object = json!({"program": "sshd", "user": "u".repeat(3000), "accepted": true});
        let data = crate::record::base64_encode(object.to_string().as_bytes());
        let record = json!({
            "v": 1, "seq": 1, "time": "2026-01-31T12:00:00.000000Z", "session": id.to_string(), "event": "container.login",
            "dst": {"ip": "10.0.0.1"}, "data": data,
        });
        std::fs::write(dir.path().join("events/events.ndjson"), format!("{record}\n")).unwrap();
        let shown = tell(&gather(dir.path(), id, false).unwrap());
        let title = shown.lines().find(|line| line.contains("log-ins")).unwrap_or_else(|| panic!("{shown}"));
        assert!(title.contains("whoever is inside may say so, too"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 300), "{shown}");
        assert!(
            shown.contains(&format!("(what ends with … is longer: `honeyweave session show {id} --json` ")),
            "{shown}"
        );
    }
}
