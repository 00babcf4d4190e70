//! What was seen inside containers from outside ([`crate::sys::inside`]), as events.
//!
//! Whoever is in a container decides how much there is of it and what is in it. So each container has a budget, past which
//! it is counted; what names a file or a program is written out as all that attackers sent; and what is remembered is
//! bounded.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use super::details::placed;
use super::fetch::urls;
use super::inside_words::{node, permissions, raw, transport};
use super::tape::{fits, fitted};
use crate::container::{Lessee, id_inside};
use crate::event::{Event, EventId, MAX_DATA, Party, Said, SessionId};
use crate::relay::tape::Text;
use crate::sys::inside::{Happened, Kind};
use crate::wire::Instant;

/// Programs of a container that are told at once, and in a second after that; for everything else once more as many.
const AT_ONCE: u64 = 30_000;
const A_SECOND: u64 = 20;
/// Octets of a container that are told at once, and in a second after that: it has no more than a small part of the log, which
/// is everybody's.
const OCTETS: i64 = 32 << 20;
const OCTETS_A_SECOND: i64 = 1000;
/// What a record takes beside what it says.
const RECORD: i64 = 300;
const SECOND: i64 = 1_000_000;
/// Open files whose names are remembered.
const FILES: usize = 8192;
/// Programs that fetch something, and that are not over yet.
const FETCHES: usize = 1024;
/// Containers that something is remembered of.
const CONTAINERS: usize = 16_384;

const O_WRONLY: u64 = 0o1;
const O_RDWR: u64 = 0o2;
const O_CREAT: u64 = 0o100;
const O_TRUNC: u64 = 0o1000;
const O_APPEND: u64 = 0o2000;
/// `O_TMPFILE`, but for that it has to be a directory.
const O_TMPFILE: u64 = 0o20_000_000;

/// What may still be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: u64,
    at: i64,
}

impl Bucket {
    pub(super) fn new(now: i64) -> Bucket {
        Bucket { left: AT_ONCE, at: now }
    }

    /// Whether one more may be told.
    pub(super) fn take(&mut self, now: i64) -> bool {
        const EACH: i64 = SECOND / A_SECOND as i64;
        let due = (now - self.at).max(0) / EACH;
        self.left = self.left.saturating_add(due.unsigned_abs()).min(AT_ONCE);
        self.at += due * EACH;
        let may = self.left > 0;
        self.left -= u64::from(may);
        may
    }
}

/// Octets that may still be told.
#[derive(Clone, Copy, Debug)]
struct Octets {
    left: i64,
    at: i64,
}

impl Octets {
    /// Whether there are any.
    fn are_left(&mut self, now: i64) -> bool {
        const EACH: i64 = SECOND / OCTETS_A_SECOND;
        let due = (now - self.at).max(0) / EACH;
        self.left = self.left.saturating_add(due).min(OCTETS);
        self.at += due * EACH;
        self.left > 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    programs: Bucket,
    others: Bucket,
    octets: Octets,
    /// What was not told, whose it was, and since when.
    untold: Option<(u64, Lessee, i64)>,
}

/// Makes events.
#[derive(Debug, Default)]
pub struct Telling {
    budgets: HashMap<u64, Budget>,
    /// Names of files by container, process and descriptor, and their order.
    files: HashMap<(u64, u32, u32), Text>,
    order: VecDeque<(u64, u32, u32)>,
    /// What processes are fetching, by container and process.
    fetches: HashMap<(u64, u32), Fetch>,
}

/// What a program was told to fetch, and the first file that it has made since.
#[derive(Debug)]
struct Fetch {
    urls: Vec<Value>,
    to: Option<Value>,
}

impl Telling {
    /// The event of what happened in a container of `of`, unless it is of no interest or there is too much.
    pub fn tell(&mut self, happened: &Happened<'_>, of: &Lessee) -> Option<Said> {
        let id = id(happened)?;
        let fetched = self.fetched(happened);
        if !self.may(id, (happened.cgroup, happened.at), of) {
            return None;
        }
        let mut object = self.object(happened);
        let mut say = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        if id != EventId::ContainerExec {
            say("name", shown(happened.name));
        }
        if let Some(directory) = happened.directory() {
            say("dir", shown(&directory));
        }
        if let Some(fetch) = fetched {
            say("urls", fetch.urls.into());
            fetch.to.into_iter().for_each(|to| say("to", to));
        }
        say("uid", id_inside(happened.uid).into());
        for (key, number) in [("pid", happened.pid), ("parent", happened.parent)] {
            if number != 0 {
                say(key, number.into());
            }
        }
        if id == EventId::ContainerExec && !fits(&object) {
            object.insert("args_cut".into(), true.into());
        }
        if object.contains_key("args_cut") {
            object.insert("args_count".into(), happened.number.into());
        }
        let mut event = about(id, happened.at, of);
        if let Some(origin) = happened.origin {
            // Which session that connection is of, the console knows; of somebody else's it is none.
            if of.attacker != Some(origin.ip()) {
                event.session = SessionId::default();
            }
            event.src = Party { ip: origin.ip().into(), l4_port: origin.port(), ..Party::default() };
        }
        let data = fitted(object);
        self.spend(happened.cgroup, data.len());
        Some(Said { event, data })
    }

    /// So many octets were told of the container with `key`.
    pub(super) fn spend(&mut self, key: u64, octets: usize) {
        if let Some(budget) = self.budgets.get_mut(&key) {
            budget.octets.left -= RECORD + i64::try_from(octets).unwrap_or(0);
        }
    }

    /// Whether one more event of `id` is told, at `at` of the container with `key`; if not, it is counted.
    pub(super) fn may(&mut self, id: EventId, (key, at): (u64, i64), of: &Lessee) -> bool {
        if self.budgets.len() >= CONTAINERS && !self.budgets.contains_key(&key) {
            self.budgets.clear();
        }
        let (fresh, octets) = (Bucket::new(at), Octets { left: OCTETS, at });
        let fresh = Budget { programs: fresh, others: fresh, octets, untold: None };
        let budget = self.budgets.entry(key).or_insert(fresh);
        let bucket = if id == EventId::ContainerExec { &mut budget.programs } else { &mut budget.others };
        let may = budget.octets.are_left(at) && bucket.take(at);
        if !may {
            budget.untold.get_or_insert((0, *of, at)).0 += 1;
        }
        may
    }

    /// Events about what was not told, once a second for each container.
    pub fn untold(&mut self, now: i64) -> Vec<Said> {
        let mut told = Vec::new();
        for budget in self.budgets.values_mut() {
            if let Some((count, of, since)) = budget.untold
                && now - since >= SECOND
            {
                budget.untold = None;
                told.push(untold(count, &of, since));
            }
        }
        told
    }

    /// When there may be something of that kind to tell.
    pub fn has_untold(&self) -> bool {
        self.budgets.values().any(|budget| budget.untold.is_some())
    }

    /// The container with that cgroup is gone. What was not told of it is told before.
    pub fn forget(&mut self, cgroup: u64) {
        if self.budgets.get(&cgroup).is_some_and(|budget| budget.untold.is_none()) {
            self.budgets.remove(&cgroup);
        }
    }

    /// What there is to say about it in particular.
    fn object(&mut self, happened: &Happened<'_>) -> Map<String, Value> {
        let path = || {
            let text = shown(happened.path);
            if happened.is_cut { json!(format!("{}…", text.as_str().unwrap_or_default())) } else { text }
        };
        let rest = || shown(happened.rest.strip_suffix(&[0]).unwrap_or(happened.rest));
        let value = match happened.kind {
            Kind::Execute => {
                let (arguments, is_cut) = happened.arguments();
                let mut value = json!({"path": path(), "args": arguments.into_iter().map(shown).collect::<Vec<_>>()});
                if is_cut {
                    value["args_cut"] = true.into();
                }
                value
            }
            Kind::Exit => happened.code().map_or_else(|| json!({"killed": true}), |code| json!({"code": code})),
            Kind::Connect | Kind::Listen | Kind::Bind => {
                let end = happened.end();
                let protocol = transport(happened.protocol());
                json!({"ip": end.map(|end| end.ip()), "port": end.map(|end| end.port()), "protocol": protocol})
            }
            Kind::Raw => {
                let (family, protocol) = raw(happened.pair());
                json!({"family": family, "protocol": protocol})
            }
            Kind::Open | Kind::OpenHow | Kind::Create => {
                self.opened(happened);
                let flags = if happened.kind == Kind::Create { O_WRONLY | O_CREAT | O_TRUNC } else { happened.flags };
                let all = [
                    ("write", flags & (O_WRONLY | O_RDWR)),
                    ("create", flags & O_CREAT),
                    ("truncate", flags & O_TRUNC),
                    ("append", flags & O_APPEND),
                    ("tmpfile", flags & O_TMPFILE),
                ];
                let flags: Vec<&str> = all.into_iter().filter(|(_, flag)| *flag != 0).map(|(name, _)| name).collect();
                // Of a file that was there it is none of this call's.
                let mode = (happened.made != 0).then(|| permissions(happened.made));
                json!({"did": "open", "path": path(), "flags": flags, "mode": mode})
            }
            Kind::Directory => {
                let (asked, _) = happened.pair();
                json!({"did": "mkdir", "path": path(), "mode": permissions(asked & !happened.made)})
            }
            Kind::Node => {
                let (asked, device) = happened.pair();
                let (kind, device) = node(asked, device);
                json!({
                    "did": "mknod", "path": path(), "kind": kind, "device": device,
                    "mode": permissions(asked & !happened.made),
                })
            }
            Kind::Delete => json!({"did": "delete", "path": path()}),
            Kind::Rename => json!({"did": "rename", "path": path(), "to": rest()}),
            Kind::Link => json!({"did": "link", "path": rest(), "to": path()}),
            Kind::Symlink => json!({"did": "symlink", "path": rest(), "to": path()}),
            Kind::Truncate => json!({"did": "truncate", "path": path()}),
            Kind::Mode => {
                let path = if happened.path.is_empty() {
                    let key = (happened.cgroup, happened.process, happened.number);
                    self.files.get(&key).map_or(Value::Null, |name| name.as_str().into())
                } else {
                    path()
                };
                json!({"did": "executable", "path": path, "mode": permissions(happened.flags as u32)})
            }
        };
        let Value::Object(mut object) = value else { return Map::new() };
        // Which file a descriptor is may not be known.
        object.retain(|_, member| !member.is_null());
        object
    }

    /// Remembers what a program is to fetch, and whereto; that of one that is over.
    fn fetched(&mut self, happened: &Happened<'_>) -> Option<Fetch> {
        let key = (happened.cgroup, happened.process);
        match happened.kind {
            Kind::Execute => {
                let (arguments, _) = happened.arguments();
                let urls: Vec<Value> = urls(happened.path, &arguments).into_iter().map(|url| shown(&url)).collect();
                self.fetches.remove(&key);
                if self.fetches.len() >= FETCHES {
                    // Their ends were lost, or somebody has a thousand of them wait: none of another container's goes for that.
                    self.fetches.retain(|(cgroup, _), _| *cgroup != happened.cgroup);
                }
                if !urls.is_empty() && self.fetches.len() < FETCHES {
                    self.fetches.insert(key, Fetch { urls, to: None });
                }
                None
            }
            Kind::Exit => self.fetches.remove(&key),
            Kind::Open | Kind::OpenHow | Kind::Create => {
                let makes = happened.kind == Kind::Create || happened.flags & O_CREAT != 0;
                // What wget remembers of servers lies beside what it fetches.
                let is_own = happened.path.ends_with(b".wget-hsts");
                if makes
                    && !is_own
                    && let Some(fetch) = self.fetches.get_mut(&key)
                {
                    fetch.to.get_or_insert_with(|| shown(&whole(happened)));
                }
                None
            }
            _ => None,
        }
    }

    /// Remembers what a descriptor is, for what will be done with it.
    fn opened(&mut self, happened: &Happened<'_>) {
        let Ok(file) = u32::try_from(happened.result) else { return };
        let key = (happened.cgroup, happened.process, file);
        if self.files.insert(key, Text::new(whole(happened))).is_none() {
            self.order.push_back(key);
            if self.order.len() > FILES
                && let Some(oldest) = self.order.pop_front()
            {
                self.files.remove(&oldest);
            }
        }
    }
}

/// The path with the directory that it is relative to, if that is known. Whatever else is in it stays as it was given: where `..`
/// leads only whoever has walked there knows.
fn whole(happened: &Happened<'_>) -> Vec<u8> {
    placed(happened.directory().as_deref(), happened.path)
}

/// What tells of it; nothing if it is of no interest.
fn id(happened: &Happened<'_>) -> Option<EventId> {
    match happened.kind {
        Kind::Execute => Some(EventId::ContainerExec),
        Kind::Exit => Some(EventId::ContainerExit),
        Kind::Connect => Some(EventId::ContainerConnect),
        Kind::Listen | Kind::Bind => Some(EventId::ContainerListen),
        Kind::Raw => Some(EventId::ContainerRaw),
        Kind::Open | Kind::OpenHow | Kind::Create if is_a_sink(happened.path) => None,
        _ => Some(EventId::ContainerFile),
    }
}

/// The event that `count` things are not told one by one that happened in a container of `of`.
pub(super) fn untold(count: u64, of: &Lessee, since: i64) -> Said {
    let mut event = about(EventId::ContainerUntold, since, of);
    event.count = count;
    let why = format!(
        "more than {AT_ONCE} at once and {A_SECOND} a second, or {OCTETS} octets at once and {OCTETS_A_SECOND} a second"
    );
    Said { event, data: why.into_bytes() }
}

pub(super) fn shown(octets: &[u8]) -> Value {
    Text::new(octets).as_str().into()
}

/// Whether nothing is kept of what is written there: the devices that each container has, and what a program has open
/// already. A disk, or a memory, for which somebody has made a device is none, nor is a file by such a name that no container has.
pub(super) fn is_a_sink(path: &[u8]) -> bool {
    let exactly: [&[u8]; 12] = [
        b"/dev/null",
        b"/dev/zero",
        b"/dev/full",
        b"/dev/random",
        b"/dev/urandom",
        b"/dev/tty",
        b"/dev/ptmx",
        b"/dev/pts/ptmx",
        b"/dev/console",
        b"/dev/stdin",
        b"/dev/stdout",
        b"/dev/stderr",
    ];
    let is_numbered = |before: &[u8]| {
        let number = path.strip_prefix(before).unwrap_or_default();
        (1..=7).contains(&number.len()) && number.iter().all(u8::is_ascii_digit)
    };
    exactly.contains(&path) || is_numbered(b"/dev/pts/") || is_numbered(b"/dev/fd/")
}

pub(super) fn about(id: EventId, at: i64, of: &Lessee) -> Event {
    let mut event = Event::new(id, Instant::from_micros(at));
    event.node = of.node.0;
    event.session = of.session.unwrap_or_default();
    event.dst = Party { ip: of.host.into(), mac: of.mac, l4_port: 0 };
    event
}

/// What did not fit into the ring: `count` records, of whichever container.
pub fn lost(count: u64, at: i64) -> Said {
    let mut event = Event::new(EventId::Gap, Instant::from_micros(at));
    event.count = count;
    let mut data = b"inside: more happened in containers than was taken".to_vec();
    data.truncate(MAX_DATA);
    Said { event, data }
}

#[cfg(test)]
#[path = "inside_tests.rs"]
mod tests;
