//! `honeyweave status`: how a running honeynet is doing.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Target, table};
use crate::control::request::{Request, Status};
use crate::event::EventId;
use crate::record::escape;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Print JSON: one object
    #[arg(long, conflicts_with = "metrics")]
    pub json: bool,
    /// Print the metrics as Prometheus reads them
    #[arg(long)]
    pub metrics: bool,
}

/// Prints the state of processes, nodes and counters.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let mut client = args.target.connect()?;
    if args.metrics {
        let text: String = client.ask(&Request::Metrics)?;
        table::put(&text.chars().filter(|c| *c == '\n' || crate::record::is_harmless(*c)).collect::<String>())?;
    } else if args.json {
        let status: Value = client.ask(&Request::Status)?;
        table::put(&table::safe_json(&format!("{status:#}\n")))?;
    } else {
        let status = client.status()?;
        table::put(&describe(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(status: &Status) -> String {
    let summary = &status.summary;
    let up = status.now.micros().saturating_sub(status.started.micros()).unsigned_abs();
    let mut text = String::new();
    let events: u64 = summary.events.iter().map(|(_, n)| n).sum();
    // Writing to a string does not fail.
    let _ = writeln!(text, "honeynet    {}, up {}, since {}", escape(&status.name), duration(up), status.started);
    let (threads, plural) = (status.threads, if status.threads == 1 { "" } else { "s" });
    let _ = writeln!(text, "supervisor  process {}, honeyweave {}", status.supervisor, escape(&status.version));
    let _ = writeln!(text, "data plane  {threads} thread{plural}");
    let open = status.sessions_open.zip(status.connections_open);
    let open = open.map(|(sessions, connections)| {
        let (connections, plural) = (count(connections), if connections == 1 { "" } else { "s" });
        format!("{} open, with {connections} TCP connection{plural}; ", count(sessions))
    });
    let _ = writeln!(
        text,
        "sessions    {}{} begun; {} went on after the first look, {} of them ended",
        open.unwrap_or_default(),
        count(summary.sessions_started),
        count(summary.sessions_returned),
        count(summary.sessions_ended)
    );
    let containers = summary.containers;
    let _ = writeln!(
        text,
        "containers  {}{} started, {} failed, {} stopped",
        if status.keeper_error.is_none() { now(status) } else { String::new() },
        count(containers.started),
        count(containers.failed),
        count(containers.stopped)
    );
    if status.counted_since > status.started {
        let since = status.counted_since;
        let _ =
            writeln!(text, "counted     since {since}, when the console was started again, but for what is there now");
    }
    if let Some(inside) = &status.inside {
        let limit = status
            .inside_limit
            .as_ref()
            .map_or(String::new(), |why| format!(" (programs and written files only: {why})"));
        let _ = writeln!(text, "inside      watched by {}", escape(&format!("{inside}{limit}")));
    }
    let of = |id: EventId| summary.events.iter().find(|(name, _)| name == id.as_str()).map_or(0, |(_, count)| *count);
    let (claimed, released) = (of(EventId::AddressClaimed), of(EventId::AddressReleased));
    if claimed > 0 {
        let _ = writeln!(text, "addresses   {} claimed, {} let go", count(claimed), count(released));
    }
    let (leased, lost) = (of(EventId::DhcpLeased), of(EventId::DhcpLost));
    if leased > 0 {
        let _ = writeln!(text, "leases      {} taken, {} lost", count(leased), count(lost));
    }
    let _ = writeln!(text, "events      {}, {} lost", count(events), count(summary.lost));
    let captures = &status.captures;
    let _ = writeln!(
        text,
        "captured    {} frames, {} dropped",
        count(captures.frames),
        count(captures.dropped + captures.ring_lost)
    );
    for (what, failing) in [
        ("the switch", &status.switch_error),
        ("containers", &status.keeper_error),
        ("watching what happens inside containers", &status.inside_error),
        ("the event log", &status.log.failing),
        ("the captures", &captures.failing),
        ("recordings of connections", &status.recordings_error),
    ] {
        if let Some(why) = failing {
            let _ = writeln!(text, "TROUBLE     {what}: {}", escape(why));
        }
    }
    let mut section = |name: &str, rows: &[Value]| {
        if !rows.is_empty() {
            let _ = write!(text, "\n{name}\n{}", table::render(rows));
        }
    };
    let sinks: Vec<Value> = status
        .sinks
        .iter()
        .map(|sink| {
            let retry =
                sink.retry.map_or(0, |at| at.micros().saturating_sub(status.now.micros()).max(0).unsigned_abs());
            let retry = (retry > 0).then(|| format!("in {}", duration(retry)));
            json!({
                "sink": sink.sink, "to": sink.to, "state": sink.state, "sent": sink.sent, "behind": sink.behind,
                "lost": sink.lost, "retry": retry, "error": sink.error,
            })
        })
        .collect();
    section("Sinks", &sinks);
    section("Nodes", &status.nodes);
    section("Devices", &status.devices);
    let attackers: Vec<Value> = summary
        .attackers
        .iter()
        .map(|a| json!({"address": a.ip, "mac": a.mac, "events": a.events, "last": a.last}))
        .collect();
    section("Busiest attackers", &attackers);
    let ports: Vec<Value> = summary
        .ports
        .iter()
        .map(|p| json!({"port": format!("{}/{}", p.port, p.proto.as_str()), "times": p.count}))
        .collect();
    section("Busiest ports", &ports);
    let running: Vec<Value> = summary
        .running
        .iter()
        .map(|c| json!({"address": c.ip, "node": c.node, "state": c.state, "since": c.since, "by": c.by}))
        .collect();
    section("Containers", &running);
    text
}

/// How many containers there are now.
fn now(status: &Status) -> String {
    let of = |state: &str| status.summary.running.iter().filter(|container| container.state == state).count();
    let (live, frozen, ready) = (of("live"), of("frozen"), status.spare_containers);
    let frozen_of_them = if frozen > 0 { format!(", {frozen} of them frozen") } else { String::new() };
    let spare = if ready > 0 { format!(", {ready} kept ready") } else { String::new() };
    format!("{} now{frozen_of_them}{spare}; ", live + frozen)
}

/// Microseconds as people say them.
pub fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0 if micros < 1000 => format!("{micros} us"),
        0 => format!("{:.1} ms", micros as f64 / 1e3),
        1..60 => format!("{:.1} s", micros as f64 / 1e6),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sink::SinkStatus;
    use crate::record::{Attacker, CaptureStats, ContainerState, LogStats, SummaryView, Utc};

    #[test]
    fn numbers_as_people_say_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        for (micros, text) in [
            (7, "7 us"),
            (1500, "1.5 ms"),
            (2_340_000, "2.3 s"),
            (61_000_000, "1 min 1 s"),
            (3_660_000_000, "1 h 1 min"),
            (90_000_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn trouble_is_said_and_nothing_reaches_the_terminal_raw() {
        let attacker = Attacker { ip: [10, 0, 0, 9].into(), mac: None, events: 12_000, last: Utc::default() };
        let container = |state: &str| ContainerState {
            node: None,
            ip: [10, 0, 0, 1].into(),
            state: state.into(),
            since: None,
            by: None,
        };
        let mut status = Status {
            name: "office".into(),
            dir: "/var/lib/honeyweave/office".into(),
            started: Utc::from_micros(0),
            now: Utc::from_micros(61_000_000),
            supervisor: 7,
            threads: 2,
            version: "0.1.0".into(),
            switch_error: Some("it said \u{1b}[2J".into()),
            inside: Some("fanotify".into()),
            inside_limit: Some("no\u{7}".into()),
            inside_error: Some("the kernel said no".into()),
            nodes: vec![json!({"node": "core\u{7}", "rx": 5})],
            devices: vec![json!({"device": "eth1", "node": "wan", "io": "packet (ring)"})],
            counted_since: Utc::from_micros(31_000_000),
            sessions_open: Some(1),
            connections_open: Some(3),
            spare_containers: 4,
            keeper_error: None,
            summary: SummaryView {
                running: ["live", "frozen", "starting"].map(container).into(),
                attackers: vec![attacker],
                events: vec![("tcp.probe".into(), 12_000)],
                sessions_started: 9000,
                sessions_returned: 7,
                sessions_ended: 5,
                ..SummaryView::default()
            },
            log: LogStats { failing: Some("No space left on device".into()), ..LogStats::default() },
            captures: CaptureStats::default(),
            recordings_error: Some("disk: it is nearly full".into()),
            sinks: vec![SinkStatus {
                sink: "siem".into(),
                to: "ecs tls://siem.example:6514".into(),
                state: "down".into(),
                behind: 12,
                error: Some("refused \u{1b}[2J".into()),
                retry: Some(Utc::from_micros(66_000_000)),
                ..SinkStatus::default()
            }],
        };
        let text = describe(&status);
        assert!(text.chars().all(|c| c == '\n' || crate::record::is_harmless(c)), "{text}");
        for part in [
            "office, up 1 min 1 s",
            "12,000, 0 lost",
            "sessions    1 open, with 3 TCP connections; 9,000 begun; 7 went on after the first look, 5 of them ended",
            "containers  2 now, 1 of them frozen, 4 kept ready; 0 started",
            "counted     since 1970-01-01T00:00:31.000000Z, when the console was started again",
            "TROUBLE     the switch: it said \\u{1b}[2J",
            "TROUBLE     watching what happens inside containers: the kernel said no",
            "TROUBLE     the event log: No space left on device",
            "TROUBLE     recordings of connections: disk: it is nearly full",
            "core\\u{7}",
            "packet (ring)",
            "10.0.0.9",
            "ecs tls://siem.example:6514",
            "in 5.0 s",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        // What nobody tells is no figure.
        (status.sessions_open, status.keeper_error) = (None, Some("the keeper does not answer".into()));
        status.counted_since = status.started;
        let text = describe(&status);
        for part in ["sessions    9,000 begun", "containers  0 started", "TROUBLE     containers: the keeper does not"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("counted "), "its first console has counted everything: {text}");
    }
}
