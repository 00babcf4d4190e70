//! What a tape tells, read again: line by line, in bounded memory. A line that is none, or of a kind that is not known,
//! is passed over.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shown::{credential_of, harmless, shown};
use crate::record::open_regular;
use crate::relay::tape::{ChannelKind, Credential, Direction, Entry, Text};

/// What the name of a tape ends in.
pub const TAPE: &str = ".ndjson";
/// Lines of secrets in one line of a tape.
const SECRETS: usize = 16;
/// Octets of a line.
const LINE: u64 = 1 << 20;
/// Octets of a tape that are read.
const MOST: u64 = 128 << 20;
/// Things of one kind that are told one by one.
const EACH: usize = 1000;
/// Things that are told one by one of all tapes of a session, and octets of text in them.
const THINGS: usize = 20_000;
const TEXT: usize = 16 << 20;

/// What a tape tells of its connection. Whatever is text in it is an attacker's, and nothing that a terminal obeys.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Connection {
    /// What is spoken in it.
    pub protocol: String,
    /// When it began.
    pub since: String,
    /// The attacker's port, and the host's; none if its first line is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// How long it lasted, or has lasted, in seconds.
    pub seconds: f64,
    /// What the client says that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// MD5 of its lists of algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hassh: Option<String>,
    /// As whom it was let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Why it is over, in a word; none if it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// What else there is to say about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many attempts to log in are on the tape: who asks what there is has not tried anything.
    pub tried: u64,
    /// The first of them, and those that let it in.
    pub attempts: Vec<Attempt>,
    /// Commands that were not typed into a shell.
    pub commands: Vec<Command>,
    /// Files that moved.
    pub files: Vec<Moved>,
    /// What was done to files by SFTP besides moving them.
    pub acts: Vec<Act>,
    /// Connections and ports beyond the host that were wanted.
    pub forwards: Vec<Forward>,
    /// Attempts, commands, files, acts and forwards that are not told one by one.
    pub more: u64,
    /// How often the recorder was restarted meanwhile; some of what came just before that may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub resumed: u64,
    /// Lines that were lost, or are none.
    pub lost_lines: u64,
    /// Octets that are not kept.
    pub lost: u64,
}

/// An attempt to log in.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Attempt {
    /// Seconds since the connection began.
    pub at: f64,
    /// As whom.
    pub user: String,
    /// How.
    pub method: &'static str,
    /// With what.
    pub credential: String,
    /// Whether that let the client in; none if nobody had asked for it, so that the answer says nothing of it.
    pub accepted: Option<bool>,
}

/// A command.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Command {
    /// Seconds since the connection began.
    pub at: f64,
    /// In which channel.
    pub channel: u32,
    /// It.
    pub command: String,
}

/// What ran in a channel.
#[derive(Clone, Default, Debug)]
pub struct Ran {
    /// The command, as [`Text`](crate::relay::tape::Text) has it; none of a shell.
    pub command: Option<String>,
    /// What it has read.
    pub read: Vec<Moved>,
}

/// A file that moved.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Moved {
    /// Seconds since the connection began.
    pub at: f64,
    /// `upload` or `download`.
    pub direction: String,
    /// Its name.
    pub path: String,
    /// Octets.
    pub size: u64,
    /// Of all of it.
    pub sha256: Option<String>,
    /// The file with its content, in the directory of the session.
    pub content: Option<String>,
    /// Why that is not all of it.
    pub cut: Option<String>,
}

/// Something that was done to a file besides moving it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Act {
    /// Seconds since the connection began.
    pub at: f64,
    /// In which channel.
    pub channel: u32,
    /// What, in the word of the tape: `rename`, `remove`, ...
    pub act: String,
    /// To which file.
    pub path: String,
    /// Its other name.
    pub to: Option<String>,
}

/// A connection, or a port, beyond the host.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Forward {
    /// Seconds since the connection began.
    pub at: f64,
    /// What was wanted.
    pub what: String,
    /// Whether that was granted.
    pub accepted: bool,
}

/// How much is still told one by one of the tapes of a session, all of which are one attacker's.
#[derive(Debug)]
pub struct Room {
    things: usize,
    text: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { things: THINGS, text: TEXT }
    }
}

impl Room {
    /// Whether a thing is told that has so many octets of text.
    fn takes(&mut self, text: usize) -> bool {
        let (Some(things), Some(text)) = (self.things.checked_sub(1), self.text.checked_sub(text)) else {
            return false;
        };
        (self.things, self.text) = (things, text);
        true
    }
}

/// What the tape at `path` tells.
///
/// # Errors
/// If it cannot be read.
pub fn connection(path: &Path) -> io::Result<Connection> {
    connection_within(path, &mut Room::default())
}

/// The same as far as there is `room`.
///
/// # Errors
/// If it cannot be read.
pub fn connection_within(path: &Path, room: &mut Room) -> io::Result<Connection> {
    let (mut told, mut moving) = (Connection::default(), HashMap::new());
    let mut lost = 0;
    each(BufReader::new(open_regular(path)?.take(MOST)), |line| match serde_json::from_slice::<Value>(line) {
        Ok(line) => told.add(line, &mut moving, room),
        Err(_) => lost += 1,
    })?;
    told.lost_lines = told.lost_lines.saturating_add(lost);
    Ok(told)
}

/// What a line of a tape tells of who goes on with it.
pub enum Told {
    /// Something happened.
    Entry(Entry),
    /// All is over.
    Total,
}

/// Shows what happened by the tape at `path`, each with its microseconds since the beginning.
///
/// # Errors
/// If it cannot be read.
pub fn entries(path: &Path, mut show: impl FnMut(u64, Told)) -> io::Result<()> {
    each(BufReader::new(open_regular(path)?.take(MOST)), |line| {
        let Ok(Value::Object(mut line)) = serde_json::from_slice(line) else { return };
        let at = line.remove("at").and_then(|at| at.as_f64()).unwrap_or(0.0);
        let micros = (at * 1e6).round() as u64;
        ["content", "content_octets", "cut", "missing"].iter().for_each(|name| drop(line.remove(*name)));
        if line.contains_key("total") {
            show(micros, Told::Total);
        } else if let Ok(entry) = Entry::deserialize(Value::Object(line)) {
            show(micros, Told::Entry(entry));
        }
    })
}

/// Commands, and what programs without a terminal have read, by their channel, as the tape at `path` has them.
///
/// # Errors
/// If it cannot be read.
pub fn ran(path: &Path) -> io::Result<HashMap<u32, Ran>> {
    let mut ran: HashMap<u32, Ran> = HashMap::new();
    let (mut reading, mut told) = (HashMap::new(), 0);
    each(BufReader::new(open_regular(path)?.take(MOST)), |line| {
        // Most lines are about something else.
        let is_about = line.windows(6).any(|part| part == b"\"file-" || part == b"\"exec\"");
        let Some(Value::Object(mut line)) = is_about.then(|| serde_json::from_slice(line).ok()).flatten() else {
            return;
        };
        let at = line.remove("at").and_then(|at| at.as_f64()).unwrap_or(0.0);
        let mut member = |name: &str| line.remove(name).and_then(|value| value.as_str().map(shown));
        let (content, cut) = (member("content"), member("cut"));
        ["content_octets", "missing"].iter().for_each(|name| drop(line.remove(*name)));
        match Entry::deserialize(Value::Object(line)) {
            Ok(Entry::Exec { channel, command }) if told < THINGS => {
                told += 1;
                ran.entry(channel)
                    .or_default()
                    .command
                    .get_or_insert_with(|| command.as_str().chars().map(harmless).collect());
            }
            Ok(Entry::FileBegin { channel, file, path, direction: Direction::Input }) if reading.len() < EACH => {
                reading.insert(file, (channel, shown(path.as_str())));
            }
            Ok(Entry::FileEnd { file, size, sha256, .. }) => {
                let Some((channel, path)) = reading.remove(&file).filter(|_| told < THINGS) else { return };
                told += 1;
                let (direction, sha256) = ("input".to_owned(), sha256.as_deref().map(shown));
                ran.entry(channel).or_default().read.push(Moved { at, direction, path, size, sha256, content, cut });
            }
            _ => {}
        }
    })?;
    Ok(ran)
}

/// What decrypts the connection of the tape at `path`, in lines as NSS writes them; nothing that is no such line.
///
/// # Errors
/// If it cannot be read.
pub fn secrets(path: &Path) -> io::Result<String> {
    let mut found = String::new();
    each(BufReader::new(open_regular(path)?.take(MOST)), |line| {
        let value = serde_json::from_slice::<Value>(line).unwrap_or_default();
        let lines = value["tls-secrets"]["lines"].as_str().unwrap_or_default().lines();
        for line in lines.filter(|line| is_secret(line)).take(SECRETS) {
            found.push_str(line);
            found.push('\n');
        }
    })?;
    Ok(found)
}

/// A label and two numbers in hexadecimal.
fn is_secret(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let [label, random, secret] = words[..] else { return false };
    let is_hex = |word: &str| (1..=256).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
    (1..=64).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && is_hex(random)
        && is_hex(secret)
}

/// Shows every line.
fn each(mut reader: impl BufRead, mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        show(&line);
    }
}

impl Connection {
    fn add(&mut self, mut line: Value, moving: &mut HashMap<u32, (String, String)>, room: &mut Room) {
        let Some(members) = line.as_object_mut() else { return };
        let at = members.remove("at").and_then(|at| at.as_f64()).unwrap_or(0.0);
        self.seconds = self.seconds.max(at);
        let mut member = |name: &str| members.remove(name).and_then(|value| value.as_str().map(shown));
        let (content, cut) = (member("content"), member("cut"));
        ["content_octets", "missing"].iter().for_each(|name| drop(members.remove(*name)));
        if let Some(Value::Object(begin)) = members.get("begin") {
            let text = |name: &str| begin.get(name).and_then(Value::as_str).map_or_else(String::new, shown);
            (self.protocol, self.since) = (text("protocol"), text("time"));
            let port = |name: &str| Some(text(name).parse::<SocketAddr>().ok()?.port());
            self.ports = port("attacker").zip(port("host"));
        } else if let Some(broken) = members.get("broken") {
            self.end = broken.get("reason").and_then(Value::as_str).map(shown);
        } else if let Some(end) = members.get("end") {
            // Tapes of a version before this one have a sentence in place of the word.
            let text = |name: &str| end.get(name).and_then(Value::as_str).map(shown);
            (self.end, self.detail) = (text("reason"), text("detail"));
        } else if members.contains_key("resumed") {
            self.resumed += 1;
        } else if let Some(total) = members.get("total") {
            self.lost = total.get("lost").and_then(Value::as_u64).unwrap_or(0);
        } else if let Some(lost) = members.get("lost") {
            self.lost_lines = self.lost_lines.saturating_add(lost.get("lines").and_then(Value::as_u64).unwrap_or(0));
        } else if let Ok(entry) = Entry::deserialize(line) {
            self.entry(at, entry, (content, cut), moving, room);
        }
    }

    fn entry(
        &mut self,
        at: f64,
        entry: Entry,
        (content, cut): (Option<String>, Option<String>),
        moving: &mut HashMap<u32, (String, String)>,
        room: &mut Room,
    ) {
        match entry {
            Entry::Hello { banner, hassh, .. } => {
                self.client = Some(shown(banner.as_str()));
                self.hassh = Some(shown(&hassh)).filter(|hassh| !hassh.is_empty());
            }
            Entry::Attempt { credential: Credential::None, accepted: false, .. } => {}
            Entry::Attempt { user, credential, accepted } => {
                let user = shown(user.as_str());
                self.tried += 1;
                let (method, credential) = credential_of(&credential);
                // The one that let it in is told whatever came before.
                let is_first = accepted && self.user.is_none();
                if accepted {
                    self.user = Some(user.clone());
                }
                let attempt = Attempt { at, user, method, credential, accepted: Some(accepted) };
                if is_first {
                    self.attempts.push(attempt);
                } else {
                    self.more += keep(&mut self.attempts, attempt, room);
                }
            }
            Entry::Unasked { user, credential } => {
                self.tried += 1;
                let (method, credential) = credential_of(&credential);
                let attempt = Attempt { at, user: shown(user.as_str()), method, credential, accepted: None };
                self.more += keep(&mut self.attempts, attempt, room);
            }
            Entry::Exec { channel, command } => self.command(at, channel, command.as_str(), room),
            Entry::Command { text } => self.command(at, 0, text.as_str(), room),
            Entry::Http { method, path, .. } => self.command(at, 0, &format!("{method} {path}"), room),
            Entry::FileBegin { file, path, direction, .. } if moving.len() < EACH => {
                let direction = serde_json::to_value(direction).ok();
                let direction = direction.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
                moving.insert(file, (shown(path.as_str()), direction));
            }
            Entry::FileEnd { file, size, sha256, .. } => {
                let (path, direction) = moving.remove(&file).unwrap_or_default();
                let sha256 = sha256.as_deref().map(shown);
                let moved = Moved { at, direction, path, size, sha256, content, cut };
                self.more += keep(&mut self.files, moved, room);
            }
            Entry::File { channel, act, path, to } => {
                let act = serde_json::to_value(act).ok();
                let act = act.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
                let (path, to) = (shown(path.as_str()), to.map(|to| shown(to.as_str())));
                self.more += keep(&mut self.acts, Act { at, channel, act, path, to }, room);
            }
            Entry::Opened { kind, .. } => self.forward(at, &kind, true, room),
            Entry::Refused { kind, .. } => self.forward(at, &kind, false, room),
            Entry::Listen { host, port, accepted } => {
                let what = format!("listen on {}:{port}", shown(host.as_str()));
                self.more += keep(&mut self.forwards, Forward { at, what, accepted }, room);
            }
            _ => {}
        }
    }

    fn command(&mut self, at: f64, channel: u32, command: &str, room: &mut Room) {
        self.more += keep(&mut self.commands, Command { at, channel, command: shown(command) }, room);
    }

    fn forward(&mut self, at: f64, kind: &ChannelKind, accepted: bool, room: &mut Room) {
        let text = |text: &Text| shown(text.as_str());
        let what = match kind {
            ChannelKind::Session | ChannelKind::Stream => return,
            ChannelKind::DirectTcpip { host, port, .. } => format!("to {}:{port}", text(host)),
            ChannelKind::DirectStreamlocal { path } => format!("to {}", text(path)),
            ChannelKind::ForwardedTcpip { host, port, from } => format!("{} at {}:{port}", text(from), text(host)),
            ChannelKind::Agent => "to the client's agent".to_owned(),
            ChannelKind::X11 => "to the client's display".to_owned(),
        };
        self.more += keep(&mut self.forwards, Forward { at, what, accepted }, room);
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Keeps `what` if there is room; returns how many are not kept.
fn keep<T: Thing>(kept: &mut Vec<T>, what: T, room: &mut Room) -> u64 {
    if kept.len() >= EACH || !room.takes(what.text()) {
        return 1;
    }
    kept.push(what);
    0
}

/// What is told one by one.
trait Thing {
    /// Octets of text in it.
    fn text(&self) -> usize;
}

impl Thing for Attempt {
    fn text(&self) -> usize {
        self.user.len() + self.credential.len()
    }
}

impl Thing for Command {
    fn text(&self) -> usize {
        self.command.len()
    }
}

impl Thing for Moved {
    fn text(&self) -> usize {
        let others = [&self.sha256, &self.content, &self.cut].into_iter().flatten();
        self.direction.len() + self.path.len() + others.map(String::len).sum::<usize>()
    }
}

impl Thing for Act {
    fn text(&self) -> usize {
        self.act.len() + self.path.len() + self.to.as_ref().map_or(0, String::len)
    }
}

impl Thing for Forward {
    fn text(&self) -> usize {
        self.what.len()
    }
}
