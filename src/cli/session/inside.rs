//! What was seen inside a session's containers from outside.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::event::{EventId, Utc};
use crate::record::{Record, base64_decode, placed_path};

/// What is told of each kind.
const EACH: usize = 100_000;
/// Rows of a table.
const ROWS: usize = 200;
/// Characters of a program and its arguments in a row.
const WIDE: usize = 200;

/// What was seen, in the order of time.
#[derive(Default, Serialize)]
pub struct Inside {
    programs: Vec<Seen>,
    files: Vec<Seen>,
    network: Vec<Seen>,
    logins: Vec<Seen>,
    log: Vec<Seen>,
    /// How much is not told one by one.
    untold: u64,
    /// Where the program that process runs is among them.
    #[serde(skip)]
    running: HashMap<u64, usize>,
}

#[derive(Serialize)]
struct Seen {
    time: Utc,
    event: &'static str,
    #[serde(flatten)]
    what: Value,
    /// How a program has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Value>,
}

impl Inside {
    /// Adds what one record of the session says.
    pub fn add(&mut self, record: &Record) {
        if !record.event.is_inside() {
            return;
        }
        if record.event == EventId::ContainerUntold {
            self.untold = self.untold.saturating_add(record.count.unwrap_or(1));
            return;
        }
        let what = record.data.as_deref().and_then(base64_decode);
        let Some(what) = what.and_then(|data| serde_json::from_slice::<Value>(&data).ok()) else { return };
        let pid = what["pid"].as_u64();
        let all = match record.event {
            EventId::ContainerExit => {
                let at = pid.and_then(|pid| self.running.remove(&pid));
                if let Some(program) = at.and_then(|at| self.programs.get_mut(at)) {
                    program.exit = Some(what.get("code").cloned().unwrap_or_else(|| "killed".into()));
                }
                return;
            }
            EventId::ContainerExec => &mut self.programs,
            EventId::ContainerFile => &mut self.files,
            EventId::ContainerLogin => &mut self.logins,
            EventId::ContainerLog => &mut self.log,
            _ => &mut self.network,
        };
        if all.len() >= EACH {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        all.push(Seen { time: record.time, event: record.event.as_str(), what, exit: None });
        if record.event == EventId::ContainerExec
            && let Some(pid) = pid
        {
            self.running.insert(pid, self.programs.len() - 1);
        }
    }

    /// Things that no table tells.
    pub fn more(&self) -> u64 {
        let all = [&self.programs, &self.files, &self.network, &self.logins, &self.log];
        let surplus = all.map(|all| all.len().saturating_sub(ROWS) as u64);
        self.untold.saturating_add(surplus.iter().sum())
    }

    /// The tables, each with its name and the last rows of it.
    pub fn tables(&self) -> [(&'static str, Vec<Value>); 5] {
        let rows = |all: &[Seen], row: fn(&Seen) -> Value| {
            all.get(all.len().saturating_sub(ROWS)..).unwrap_or_default().iter().map(row).collect()
        };
        [
            ("programs inside", rows(&self.programs, program)),
            ("files inside", rows(&self.files, file)),
            ("connections and ports inside", rows(&self.network, network)),
            ("log-ins inside", rows(&self.logins, login)),
            ("log inside", rows(&self.log, line)),
        ]
    }
}

fn time(seen: &Seen) -> String {
    seen.time.to_string().chars().take(19).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn short(text: &str) -> String {
    if text.chars().count() > WIDE { text.chars().take(WIDE).chain(['…']).collect() } else { text.to_owned() }
}

fn program(seen: &Seen) -> Value {
    let what = &seen.what;
    let mut words: Vec<String> = Vec::new();
    for word in what["args"].as_array().into_iter().flatten().map(text) {
        let plain =
            !word.is_empty() && !word.contains([' ', '\'', '"', '$', ';', '|', '&', '<', '>', '(', ')', '*', '`']);
        words.push(if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) });
    }
    if what["args_cut"] == true {
        words.push("…".into());
    }
    json!({
        "time": time(seen),
        "uid": what["uid"],
        "parent": what["parent"],
        "pid": what["pid"],
        "exit": seen.exit,
        "path": short(&path(what)),
        "arguments": short(&words.join(" ")),
    })
}

/// With the directory that it is relative to, if that is known.
fn path(what: &Value) -> String {
    what.as_object().and_then(placed_path).unwrap_or_default()
}

fn file(seen: &Seen) -> Value {
    let what = &seen.what;
    let flags: Vec<&str> = what["flags"].as_array().into_iter().flatten().map(text).collect();
    let mut path = short(&path(what));
    if let Some(to) = what["to"].as_str() {
        path = format!("{path} -> {}", short(to));
    }
    let mode = what["mode"].as_str().map_or_else(|| flags.join(","), str::to_owned);
    json!({"time": time(seen), "uid": what["uid"], "pid": what["pid"], "program": what["name"], "did": what["did"], "how": mode, "path": path})
}

fn network(seen: &Seen) -> Value {
    let what = &seen.what;
    let did = if seen.event == "container.listen" { "listen" } else { "connect" };
    json!({"time": time(seen), "uid": what["uid"], "pid": what["pid"], "program": what["name"], "did": did, "ip": what["ip"], "port": what["port"]})
}

fn login(seen: &Seen) -> Value {
    let what = &seen.what;
    let accepted = if what["accepted"] == true { "accepted" } else { "refused" };
    json!({"time": time(seen), "program": what["program"], "user": short(text(&what["user"])), "was": short(text(&what["by"])), "from": what["from"], "port": what["port"], "method": what["method"], "attempt": accepted})
}

fn line(seen: &Seen) -> Value {
    let what = &seen.what;
    json!({"time": time(seen), "severity": what["severity"], "program": short(text(&what["tag"])), "pid": what["pid"], "text": short(text(&what["text"]))})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::base64_encode;

    #[test]
    fn a_program_is_told_with_its_end() {
        let mut inside = Inside::default();
        let mut add = |event, what: Value| {
            let mut record = Record::bare(0, Utc::from_micros(0), event);
            record.data = Some(base64_encode(what.to_string().as_bytes()));
            inside.add(&record);
        };
        let exec =
            |pid, word| json!({"path": "/bin/sh", "args": ["sh", "-c", word], "uid": 0, "pid": pid, "parent": 1});
        add(EventId::ContainerExec, exec(7, "a 'b'"));
        add(EventId::ContainerExec, exec(8, ""));
        add(EventId::ContainerExit, json!({"pid": 7, "code": 3}));
        add(EventId::ContainerExec, exec(7, "again"));
        add(EventId::ContainerExit, json!({"pid": 8, "killed": true}));
        add(EventId::ContainerFile, json!({"did": "rename", "path": "./a", "dir": "/tmp", "to": "b"}));
        add(EventId::ContainerListen, json!({"ip": "::", "port": 4444}));
        add(EventId::ContainerLogin, json!({"program": "dropbear", "user": "root", "accepted": false}));
        add(EventId::ContainerLog, json!({"tag": "cron", "text": "x"}));
        add(EventId::TcpOpen, json!({}));
        let [(_, programs), (_, files), (_, network), (_, logins), (_, log)] = inside.tables();
        let exits: Vec<&Value> = programs.iter().map(|row| &row["exit"]).collect();
        assert_eq!(exits, [&json!(3), &json!("killed"), &Value::Null]);
        assert_eq!(programs[0]["arguments"], "sh -c 'a '\\''b'\\'''");
        assert_eq!(programs[1]["arguments"], "sh -c ''");
        assert_eq!((&files[0]["path"], &network[0]["did"]), (&json!("/tmp/a -> b"), &json!("listen")));
        assert_eq!((&logins[0]["attempt"], &log[0]["text"]), (&json!("refused"), &json!("x")));
        assert_eq!(inside.more(), 0);
    }
}
