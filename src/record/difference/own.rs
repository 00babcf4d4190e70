//! What a container has changed by itself, so that nobody who was there is told of it.
//!
//! Two things tell that. What had changed before the container answered first was its own start: nobody inside can set
//! when a file was changed last, and nobody was inside. And what the kernel tells of its programs ([`crate::sys::inside`])
//! says which of them descend from no connection. That counts only where all is told, and where nothing that does descend
//! from one has touched a file of that name, whatever directory it called it in.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::inspector::{Change, How};
use crate::event::{EventId, Utc};
use crate::record::schema::Record;
use crate::record::{base64_decode, placed_path};

/// How much earlier than it was the kernel may say that a file was changed: it looks at its clock at each tick, and a
/// tick takes 10 ms at most.
const TICK: i64 = 20_000;
/// Names that are remembered of one container.
const NAMES: usize = 100_000;

/// What has changed something of which nobody who was there is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The container's own start, before anybody could be in it.
    Start,
    /// Programs in it that descend from no connection: a server, a job, or what somebody has left for them to begin.
    Itself,
}

/// A change, and what has caused it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Caused {
    /// It.
    #[serde(flatten)]
    pub change: Change,
    /// The container itself; none where somebody who was there did it, or may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// What is known of a container's own doing.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// When it answered first.
    live: Option<Utc>,
    /// Paths that programs of its own wrote to, with the first time and the last.
    written: HashMap<String, (Utc, Utc)>,
    /// Names, without their directories, of what others have touched.
    touched: HashSet<String>,
    /// Not all is told.
    is_untold: bool,
    /// The kernel tells of its programs' files.
    is_watched: bool,
}

impl Own {
    /// Learns what a record about the container says.
    pub(super) fn learn(&mut self, record: &Record) {
        match record.event {
            EventId::ContainerLive => {
                self.live = Some(self.live.map_or(record.time, |live| live.min(record.time)));
            }
            EventId::ContainerUntold => self.is_untold = true,
            EventId::ContainerFile => self.file(record),
            _ => {}
        }
    }

    /// Learns that something is missing in the log.
    pub(super) fn gap(&mut self) {
        self.is_untold = true;
    }

    fn file(&mut self, record: &Record) {
        let object = record.data.as_deref().and_then(base64_decode);
        let Some(object) = object.and_then(|data| serde_json::from_slice::<Value>(&data).ok()) else {
            return self.gap();
        };
        // Of these nobody knows whose doing it is.
        if !object["source"].is_null() || self.written.len() + self.touched.len() >= NAMES {
            return self.gap();
        }
        self.is_watched = true;
        let is_own = record.src.as_ref().is_none_or(|src| src.ip.is_none());
        let path = object.as_object().and_then(placed_path);
        for path in path.as_deref().into_iter().chain(object["to"].as_str()) {
            // As `mkdir -p` calls a directory.
            let path = path.trim_end_matches('/');
            if is_own {
                // Most images have a link there.
                let other = path.strip_prefix("/var/run/").map(|rest| format!("/run/{rest}"));
                for path in other.into_iter().chain([path.to_owned()]) {
                    let (first, last) = self.written.entry(path).or_insert((record.time, record.time));
                    (*first, *last) = ((*first).min(record.time), (*last).max(record.time));
                }
            } else {
                self.touched.insert(name(path).to_owned());
            }
        }
    }

    /// What has caused a change between `since` and `until`.
    pub(super) fn cause(&self, change: &Change, since: Utc, until: Utc) -> Option<By> {
        if change.change == How::Deleted {
            return None;
        }
        let changed = change.entry.ctime.micros();
        if self.live.is_some_and(|live| changed < live.micros().saturating_sub(TICK)) {
            return Some(By::Start);
        }
        let path = change.path.to_string();
        let is_nobodys = !self.is_untold && !self.touched.contains(name(&path));
        // Within a tick only who is told of all that others touch knows. Of a start itself nothing is told.
        if self.live.is_some_and(|live| changed <= live.micros()) && self.is_watched && is_nobodys {
            return Some(By::Start);
        }
        let is_own = self.written.get(&path).is_some_and(|(first, last)| *first <= until && *last >= since);
        (is_own && is_nobodys).then_some(By::Itself)
    }
}

fn name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}
