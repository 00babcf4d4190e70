//! What was seen inside a session's containers from outside.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::left_out::{How, More};
use crate::event::{EventId, Utc};
use crate::record::{By, Record, base64_decode, placed_path};

/// What is told of each kind.
const EACH: usize = 100_000;
/// Rows of a table.
const ROWS: usize = 200;
/// Characters of a program and its arguments in a row.
const WIDE: usize = 200;

/// What is said to the log is the word of whoever says it, who may be an intruder.
const LOGINS: &str = "what is said inside of log-ins (whoever is inside may say so, too: it proves nothing)";
const LOG: &str = "what else is said to the log inside (by whoever is there)";

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
    /// How much of that is in the log.
    #[serde(skip)]
    in_log: u64,
    /// Where the program that process runs is among them.
    #[serde(skip)]
    running: HashMap<u64, usize>,
}

#[derive(Serialize)]
struct Seen {
    time: Utc,
    event: &'static str,
    /// The container itself, if what did it descends from no connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    #[serde(flatten)]
    what: Value,
    /// How a program has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Value>,
}

/// Its name, what is in it, and how a row of that is made.
type Table<'a> = (&'static str, Vec<&'a Seen>, fn(&Seen) -> Value);

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
            self.in_log += 1;
            return;
        }
        // Of what somebody says to the log nobody knows that, nor where eBPF does not tell it.
        let may_be_own = !matches!(record.event, EventId::ContainerLogin | EventId::ContainerLog);
        let is_own = may_be_own && what["source"].is_null() && record.src.as_ref().is_none_or(|src| src.ip.is_none());
        let by = is_own.then_some(By::Itself);
        all.push(Seen { time: record.time, event: record.event.as_str(), by, what, exit: None });
        if record.event == EventId::ContainerExec
            && let Some(pid) = pid
        {
            self.running.insert(pid, self.programs.len() - 1);
        }
    }

    /// Things that no table tells.
    pub fn more(&self) -> Vec<More> {
        let surplus = |(name, all, _): Table<'_>| More(name, all.len().saturating_sub(ROWS) as u64, How::Json);
        let mut more: Vec<More> = self.all().into_iter().map(surplus).collect();
        more.push(More("of what happened inside", self.in_log, How::Log("container")));
        let lost = self.untold.saturating_sub(self.in_log);
        more.push(More(
            "of what happened inside, for which there was no room in the log",
            lost,
            How::Log("container.untold"),
        ));
        more
    }

    /// What the container did by itself, in the order of time.
    fn own(&self) -> Vec<&Seen> {
        let all = [&self.programs, &self.files, &self.network].into_iter().flatten();
        let mut own: Vec<&Seen> = all.filter(|seen| seen.by.is_some()).collect();
        own.sort_by_key(|seen| seen.time);
        own
    }

    /// The tables, each with its name and the last rows of it.
    pub fn tables(&self) -> [(&'static str, Vec<Value>); 6] {
        self.all().map(|(name, all, row)| {
            let last = all.get(all.len().saturating_sub(ROWS)..).unwrap_or_default();
            (name, last.iter().map(|seen| row(seen)).collect())
        })
    }

    /// What is in them, and how a row is made.
    fn all(&self) -> [Table<'_>; 6] {
        [
            ("programs inside", of_others(&self.programs).collect(), program),
            ("files inside", of_others(&self.files).collect(), file),
            ("connections and ports inside", of_others(&self.network).collect(), network),
            ("what the container did by itself", self.own(), own),
            (LOGINS, self.logins.iter().collect(), login),
            (LOG, self.log.iter().collect(), line),
        ]
    }
}

/// Those that somebody did who is connected to the container, or may have done.
fn of_others(all: &[Seen]) -> impl Iterator<Item = &Seen> {
    all.iter().filter(|seen| seen.by.is_none())
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
    let flags = flags.join(",");
    let how = [&flags, text(&what["kind"]), text(&what["device"]), text(&what["mode"])];
    let how: Vec<&str> = how.into_iter().filter(|part| !part.is_empty()).collect();
    json!({"time": time(seen), "uid": what["uid"], "pid": what["pid"], "program": what["name"], "did": what["did"], "how": how.join(" "), "path": path})
}

fn network(seen: &Seen) -> Value {
    let what = &seen.what;
    let did = seen.event.strip_prefix("container.");
    let protocol = [text(&what["family"]), text(&what["protocol"])].join(" ");
    json!({"time": time(seen), "uid": what["uid"], "pid": what["pid"], "program": what["name"], "did": did, "protocol": protocol.trim(), "ip": what["ip"], "port": what["port"]})
}

fn own(seen: &Seen) -> Value {
    let what = &seen.what;
    let (row, did, object) = match seen.event {
        "container.exec" => {
            let row = program(seen);
            let path = short(&path(what));
            let arguments = row["arguments"].clone();
            (row, "exec".to_owned(), format!("{path}: {}", text(&arguments)))
        }
        "container.file" => {
            let row = file(seen);
            let path = text(&row["path"]).to_owned();
            (row, text(&what["did"]).to_owned(), path)
        }
        _ => {
            let row = network(seen);
            let protocol = text(&row["protocol"]);
            let end = match what["port"].as_u64() {
                Some(port) => format!("{} port {port} {protocol}", text(&what["ip"])),
                None => protocol.to_owned(),
            };
            let did = text(&row["did"]).to_owned();
            (row, did, end)
        }
    };
    json!({"time": row["time"], "uid": row["uid"], "pid": row["pid"], "program": what["name"], "did": did, "what": object})
}

fn login(seen: &Seen) -> Value {
    let what = &seen.what;
    let accepted = if what["accepted"] == true { "accepted" } else { "refused" };
    json!({"time": time(seen), "program": what["program"], "user": short(text(&what["user"])), "was": short(text(&what["by"])), "from": what["from"], "port": what["port"], "method": what["method"], "attempt": accepted})
}

fn line(seen: &Seen) -> Value {
    let what = &seen.what;
    json!({"time": time(seen), "severity": what["severity"], "program": short(text(&what["tag"])), "pid": what["pid"], "text": short(text(&what["text"]).trim())})
}

#[cfg(test)]
mod tests {
    use super::super::left_out::sum;
    use super::*;
    use crate::record::{End, base64_encode};

    #[test]
    fn a_program_is_told_with_its_end() {
        let mut inside = Inside::default();
        let mut add = |event, what: Value| {
            let mut record = Record::bare(0, Utc::from_micros(0), event);
            record.data = Some(base64_encode(what.to_string().as_bytes()));
            record.src = Some(End { ip: "192.0.2.9".parse().ok(), ..End::default() }).filter(|_| what["own"].is_null());
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
        add(EventId::ContainerListen, json!({"ip": "::", "port": 4444, "protocol": "udp"}));
        add(EventId::ContainerRaw, json!({"family": "packet", "protocol": "all"}));
        let made = json!({"did": "mknod", "path": "/d", "kind": "block", "device": "8:0", "mode": "0660"});
        add(EventId::ContainerFile, made);
        add(EventId::ContainerFile, json!({"did": "open", "path": "/x", "flags": ["write", "create"], "mode": "0755"}));
        add(EventId::ContainerLogin, json!({"program": "dropbear", "user": "root", "accepted": false}));
        add(EventId::ContainerLog, json!({"tag": "cron", "text": "x"}));
        add(EventId::TcpOpen, json!({}));
        // What descends from no connection; where fanotify tells it, nobody knows whether it does.
        add(EventId::ContainerExec, json!({"path": "/sbin/x", "args": ["x", "-F"], "own": 1}));
        add(EventId::ContainerFile, json!({"did": "open", "path": "/run/x.pid", "own": 1}));
        add(EventId::ContainerListen, json!({"ip": "::", "port": 22, "protocol": "tcp", "own": 1}));
        add(EventId::ContainerRaw, json!({"family": "ipv4", "protocol": "icmp", "own": 1}));
        add(EventId::ContainerFile, json!({"did": "write", "path": "/c", "own": 1, "source": "fanotify"}));
        let [(_, programs), (_, files), (_, network), (_, own), (_, logins), (_, log)] = inside.tables();
        let own: Vec<&str> = own.iter().map(|row| row["what"].as_str().unwrap()).collect();
        assert_eq!(own, ["/sbin/x: x -F", "/run/x.pid", ":: port 22 tcp", "ipv4 icmp"]);
        assert_eq!((programs.len(), files.len(), network.len(), &files[3]["path"]), (3, 4, 2, &json!("/c")));
        assert_eq!([1, 2].map(|at: usize| &files[at]["how"]), ["block 8:0 0660", "write,create 0755"]);
        assert_eq!([0, 1].map(|at: usize| &network[at]["protocol"]), ["udp", "packet all"]);
        let exits: Vec<&Value> = programs.iter().map(|row| &row["exit"]).collect();
        assert_eq!(exits, [&json!(3), &json!("killed"), &Value::Null]);
        assert_eq!(programs[0]["arguments"], "sh -c 'a '\\''b'\\'''");
        assert_eq!(programs[1]["arguments"], "sh -c ''");
        assert_eq!((&files[0]["path"], &network[0]["did"]), (&json!("/tmp/a -> b"), &json!("listen")));
        assert_eq!((&logins[0]["attempt"], &log[0]["text"]), (&json!("refused"), &json!("x")));
        assert_eq!(sum(&inside.more()), 0);
    }
}
